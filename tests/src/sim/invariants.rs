//! SPEC.md's invariants, judged by an observer who sees every message and every record, and believes
//! nobody: amounts come from the model, signatures are verified by another library.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, Secp256k1, VerifyOnly, XOnlyPublicKey, schnorr};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{TapSighashType, Transaction, TxOut};
use tutti_proto::coordinator::Record;
use tutti_proto::id::{Identity, LaneIndex, RoundId, WindowSeq};
use tutti_proto::lane::{Assigned, Assignments};
use tutti_proto::message::{ToCoordinator, ToParticipant};
use tutti_proto::params::PoolParams;
use tutti_proto::participant::{Held, Order};
use tutti_proto::plan::RoundInputs;
use tutti_proto::share::ShareRecord;

use super::followed::Followed;
use super::model::{Expected, Model, Terms};

/// The observer.
pub struct Invariants {
    /// What was found broken, in words that start with the invariant's number.
    pub violations: Vec<String>,
    params: PoolParams,
    model: Model,
    followed: Followed,
    secp: Secp256k1<VerifyOnly>,
    rounds: BTreeMap<RoundId, Round>,
    /// All assignments ever told, by digest.
    assignments: BTreeMap<[u8; 32], Assignments>,
    announced: BTreeSet<[u8; 33]>,
    /// The round that each slot signed.
    signed: BTreeMap<[u8; 33], RoundId>,
    /// Direct rounds are stored before anyone is told of them.
    unseen: BTreeMap<RoundId, Lanes>,
    /// Headers that were credited.
    credited: BTreeSet<[u8; 80]>,
    /// The z of each identity's shares in each round.
    z: BTreeMap<(Identity, RoundId), u8>,
    /// The block that counts of each round of which one does.
    booked: BTreeMap<RoundId, [u8; 32]>,
    recorded: BTreeSet<(Identity, WindowSeq, Rolled)>,
    /// What each miner sent last under each of its numbers.
    sent: BTreeMap<(Identity, u64), Rolled>,
    /// Who has lied: an acknowledgement told to them says nothing of what they sent.
    liars: BTreeSet<Identity>,
}

/// What a miner rolls of a header, and the lane.
type Rolled = (u16, i32, u32, u32);

/// Lane by lane: coinbase, and the signed payouts of its shards; none in a direct round.
type Lanes = Vec<(Transaction, Vec<Transaction>)>;

/// A round as it was proposed, and as it was first held.
struct Round {
    inputs: RoundInputs,
    /// Lane coinbases' txids, in the byte order in which they are hashed.
    txids: Vec<[u8; 32]>,
    expected: Option<Expected>,
    lanes: Option<Lanes>,
}

impl Invariants {
    pub fn new(params: PoolParams) -> Self {
        Self {
            violations: Vec::new(),
            followed: Followed::new(params.name()),
            params,
            model: Model::default(),
            secp: Secp256k1::verification_only(),
            rounds: BTreeMap::new(),
            assignments: BTreeMap::new(),
            announced: BTreeSet::new(),
            signed: BTreeMap::new(),
            unseen: BTreeMap::new(),
            credited: BTreeSet::new(),
            z: BTreeMap::new(),
            booked: BTreeMap::new(),
            recorded: BTreeSet::new(),
            sent: BTreeMap::new(),
            liars: BTreeSet::new(),
        }
    }

    fn check(&mut self, holds: bool, words: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(words());
        }
    }

    /// A past that is taken for granted: of its windows the tallies only.
    pub fn restored(&mut self, record: &Record) {
        self.model.restore(record);
        self.followed.restored(record);
    }

    /// Someone says other things than its core.
    pub fn lies(&mut self, identity: Identity) {
        self.liars.insert(identity);
    }

    /// Someone did so.
    pub fn has_lied(&self, identity: &Identity) -> bool {
        self.liars.contains(identity)
    }

    /// Something made durable by the coordinator.
    pub fn recorded(&mut self, record: &Record) {
        if let Err(words) = self.model.follow(record) {
            self.violations.push(format!("invariant 6: {words}"));
        }
        if let Err(words) = self.followed.recorded(record) {
            self.violations
                .push(format!("invariant 6: a follower: {words}"));
        }
        match record {
            Record::Share { share, window, .. } => {
                let key = (share.identity, *window, rolled(share));
                self.recorded.insert(key);
                self.credited(share);
            }
            Record::Committed(committed) => {
                let lanes = committed.lanes();
                let lanes: Lanes = lanes.map(|(it, payouts)| (it.clone(), payouts)).collect();
                if self.rounds.contains_key(&committed.round) {
                    self.committed(&committed.round, &lanes);
                } else {
                    self.unseen.insert(committed.round, lanes);
                }
            }
            Record::WindowClosed(window) => {
                for booking in &window.record.bookings {
                    let known = self.rounds.get(&booking.round);
                    let expected = known.and_then(|round| round.expected.as_ref());
                    let sign = if booking.undone { -1 } else { 1 };
                    let carry = booking.carry.iter().map(|(who, sat)| (*who, sign * sat));
                    let carry: BTreeMap<Identity, i64> = carry.collect();
                    let right = expected.is_some_and(|e| e.carry == carry);
                    // Booked if it was not, unbooked if it was; no two blocks of a round at a time.
                    let in_turn = if booking.undone {
                        self.booked.remove(&booking.round) == Some(booking.block)
                    } else {
                        self.booked.insert(booking.round, booking.block).is_none()
                    };
                    self.check(right && in_turn, || {
                        format!("invariant 4: a booking of {:?}", booking.round)
                    });
                }
            }
            _ => {}
        }
    }

    /// Invariant 6: a credited share is on a committed lane, in its owner's slice.
    fn credited(&mut self, share: &ShareRecord) {
        let fresh = self.credited.insert(share.header);
        self.check(fresh, || "invariant 6: a share was credited twice".into());
        let key = (share.identity, share.round);
        let z = *self.z.entry(key).or_insert(share.z);
        self.check(z == share.z, || {
            "invariant 6: two z within one round".into()
        });
        let lane = usize::from(share.lane.0);
        let right = self.rounds.get(&share.round).is_some_and(|round| {
            // Simulated templates hold no transactions but the coinbase.
            let on_lane = round
                .txids
                .get(lane)
                .is_some_and(|txid| share.header[36..68] == *txid);
            let assigned = self.assignments.get(&round.inputs.assignments);
            let version = u32::from_le_bytes(share.header[..4].try_into().unwrap_or_default());
            let theirs = |a: &Assignments| {
                a.z(&share.identity) == Some(share.z)
                    && owns(a, &share.identity, share.lane, version)
            };
            on_lane && assigned.is_some_and(theirs)
        });
        self.check(right, || {
            format!(
                "invariant 6: {:?} was credited for another's work",
                share.identity
            )
        });
    }

    /// Something said by the coordinator to a joined participant.
    pub fn told(&mut self, to: Option<Identity>, message: &ToParticipant) {
        match message {
            ToParticipant::Assignments(set) => {
                let digest = set.assignments.digest();
                self.assignments.insert(digest, set.assignments.clone());
            }
            ToParticipant::Proposal(proposal) => {
                let plan = &proposal.plan;
                if !self.rounds.contains_key(&plan.round) {
                    let round = Round {
                        expected: self.expected(&plan.inputs),
                        inputs: plan.inputs.clone(),
                        txids: plan.coinbases.clone(),
                        lanes: None,
                    };
                    self.rounds.insert(plan.round, round);
                    if let Some(lanes) = self.unseen.remove(&plan.round) {
                        self.committed(&plan.round, &lanes);
                    }
                }
            }
            ToParticipant::ShareAck(ack) => {
                let Some(identity) = to.filter(|to| !self.liars.contains(to)) else {
                    return;
                };
                // It may be told twice, if the first time was lost; it must be true each time.
                for seq in &ack.seqs {
                    let sent = self.sent.get(&(identity, *seq));
                    let on_disk = |of: &Rolled| {
                        let key = (identity, ack.window, *of);
                        self.recorded.contains(&key)
                    };
                    let kept = sent.is_some_and(on_disk);
                    self.check(kept, || {
                        format!("invariant 7: share {seq} was acknowledged and is not on disk")
                    });
                }
            }
            _ => {}
        }
    }

    fn expected(&self, inputs: &RoundInputs) -> Option<Expected> {
        let zero_bits = self.params.block_zero_bits.unwrap_or(0);
        let terms = Terms {
            scoring: self.params.scoring,
            depth: u128::from(self.params.pplns_depth) << zero_bits.max(1),
            operator_fee_ppm: self.params.operator_fee_ppm,
            shards_max: usize::from(self.params.nonces_per_slot / self.params.lanes),
            direct_payees: usize::from(self.params.direct_payees),
        };
        self.model.expected(inputs, &self.params.coordinator, terms)
    }

    /// Something said by a miner. Invariant 2: a key is announced once, and signs one round.
    pub fn said(&mut self, identity: &Identity, message: &ToCoordinator) {
        match message {
            ToCoordinator::Slots(slots) => {
                for slot in &slots.slots {
                    let fresh = self.announced.insert(slot.slot.key.serialize());
                    self.check(fresh, || "invariant 2: a slot's key was kept".into());
                }
            }
            ToCoordinator::Share(share) => {
                let rolled = (share.lane.0, share.version, share.time, share.nonce);
                self.sent.insert((*identity, share.seq), rolled);
            }
            ToCoordinator::TxSignatures(signatures) => {
                let Some(round) = self.rounds.get(&signatures.round) else {
                    return;
                };
                let mut signers = round.inputs.signers.iter();
                let Some(signer) = signers.find(|signer| signer.identity == *identity) else {
                    return;
                };
                let used = *self
                    .signed
                    .entry(signer.key.serialize())
                    .or_insert(signatures.round);
                self.check(used == signatures.round, || {
                    "invariant 2: a key signed two rounds".into()
                });
            }
            _ => {}
        }
    }

    /// A round on a participant's disk.
    pub fn held(&mut self, held: &Held) {
        let lanes = held.lanes.iter();
        let lanes = lanes
            .map(|lane| (lane.coinbase.clone(), lane.payouts.clone()))
            .collect();
        self.committed(&held.round, &lanes);
    }

    /// Invariants 3, 4, 5 and 8: complete payouts, of the right amounts, of every lane.
    fn committed(&mut self, id: &RoundId, lanes: &Lanes) {
        let Some(round) = self.rounds.get(id) else {
            return self
                .violations
                .push("invariant 1: a round that was never proposed".into());
        };
        let before = round.lanes.as_ref();
        if before == Some(lanes) {
            return;
        }
        let mut found = Vec::new();
        for (coinbase, payouts) in lanes {
            let amounts: BTreeMap<Vec<u8>, u64> = if round.inputs.signers.is_empty() {
                let paid = |out: &&TxOut| !out.script_pubkey.is_op_return();
                coinbase.output.iter().filter(paid).map(pair).collect()
            } else {
                let outputs = payouts.iter().flat_map(|payout| payout.output.split_last());
                outputs.flat_map(|(_, payees)| payees).map(pair).collect()
            };
            if round.expected.as_ref().map(|expected| &expected.amounts) != Some(&amounts) {
                found.push("invariant 3: an amount is not the ledger's".to_owned());
            }
            found.extend(self.complete(&round.inputs, coinbase, payouts));
        }
        if before.is_some() {
            found.push("invariant 3: two versions of one round".to_owned());
        }
        self.violations.append(&mut found);
        if let Some(round) = self.rounds.get_mut(id) {
            round.lanes = Some(lanes.clone());
        }
    }

    /// Whether these payouts spend this coinbase, to the sat, with valid signatures.
    fn complete(
        &self,
        inputs: &RoundInputs,
        coinbase: &Transaction,
        payouts: &[Transaction],
    ) -> Vec<String> {
        let mut found = Vec::new();
        let paid = |out: &&TxOut| !out.script_pubkey.is_op_return();
        let outputs: Vec<&TxOut> = coinbase.output.iter().filter(paid).collect();
        let value: u64 = outputs.iter().map(|out| out.value.to_sat()).sum();
        if value != inputs.reward {
            found.push("invariant 4: the coinbase is not worth the reward".to_owned());
        }
        if inputs.signers.is_empty() {
            return found;
        }
        if outputs.len() != payouts.len() {
            found.push("invariant 8: a payout is missing".to_owned());
        }
        for (out, payout) in outputs.into_iter().zip(payouts) {
            let spent: u64 = payout.output.iter().map(|out| out.value.to_sat()).sum();
            let fee = (payout.vsize() as u64 * inputs.feerate.sat_per_kvb()).div_ceil(1_000);
            if spent + fee != out.value.to_sat() {
                found.push("invariant 4: a payout loses or makes sat".to_owned());
            }
            if !self.is_signed(coinbase, out, payout) {
                found.push("invariant 8: a payout is not validly signed".to_owned());
            }
        }
        found
    }

    fn is_signed(&self, coinbase: &Transaction, spent: &TxOut, payout: &Transaction) -> bool {
        let valid = || {
            let input = payout.input.first()?;
            let known = coinbase.output.get(input.previous_output.vout as usize)? == spent;
            let key = XOnlyPublicKey::from_slice(spent.script_pubkey.as_bytes().get(2..)?).ok()?;
            let signature = schnorr::Signature::from_slice(input.witness.nth(0)?).ok()?;
            let sighash = SighashCache::new(payout)
                .taproot_key_spend_signature_hash(
                    0,
                    &Prevouts::All(&[spent]),
                    TapSighashType::Default,
                )
                .ok()?;
            let message = Message::from_digest(sighash.to_byte_array());
            let verified = self.secp.verify_schnorr(&signature, &message, &key).is_ok();
            let spends = input.previous_output.txid == coinbase.compute_txid();
            Some(known && verified && spends && input.witness.len() == 1)
        };
        valid().unwrap_or(false)
    }

    /// Invariant 1: what a miner hashes is on its disk, whole, and in its own slice.
    pub fn ordered(&mut self, identity: &Identity, on_disk: &[Held], orders: &[Order]) {
        for order in orders {
            let held = on_disk.iter().rev().find(|held| {
                let lane = held.lanes.get(usize::from(order.slice.lane.0));
                let txid = lane.map(|lane| lane.coinbase.compute_txid().to_byte_array());
                txid == Some(order.merkle_root)
            });
            let Some(round) = held.and_then(|held| self.rounds.get(&held.round)) else {
                let words = "invariant 1: a job without its payout on disk".to_owned();
                return self.violations.push(words);
            };
            let assigned = self.assignments.get(&round.inputs.assignments);
            let own = Assigned {
                slice: order.slice,
                owner: *identity,
                z: order.z,
            };
            let right = assigned.is_some_and(|a| a.iter().any(|assigned| assigned == own));
            self.check(right, || "invariant 6: a job in another's slice".into());
        }
    }

    /// A block that the chain took: its coinbase is a committed lane's.
    pub fn mined(&mut self, coinbase: &Transaction) {
        let txid = coinbase.compute_txid();
        let known = self.rounds.values().any(|round| {
            let lanes = round.lanes.iter().flatten();
            lanes
                .into_iter()
                .any(|(lane, _)| lane.compute_txid() == txid)
        });
        self.check(known, || {
            "invariant 1: a block on a lane that nobody holds".into()
        });
    }
}

fn rolled(share: &ShareRecord) -> Rolled {
    let field = |at: usize| {
        let bytes = share.header.get(at..at + 4).unwrap_or_default();
        u32::from_le_bytes(bytes.try_into().unwrap_or_default())
    };
    (share.lane.0, field(0) as i32, field(68), field(76))
}

fn pair(out: &TxOut) -> (Vec<u8>, u64) {
    (out.script_pubkey.to_bytes(), out.value.to_sat())
}

/// Whether a header version is this identity's on a lane: BIP320's 16 bits start with its prefix.
fn owns(assignments: &Assignments, who: &Identity, lane: LaneIndex, version: u32) -> bool {
    let rolled = (version >> 13) & 0xffff;
    assignments.iter().any(|Assigned { slice, owner, .. }| {
        let free = 16 - u32::from(slice.prefix_len);
        owner == *who && slice.lane == lane && rolled >> free == u32::from(slice.prefix) >> free
    })
}
