//! From a proposal off the wire to the only thing that can be signed.
//!
//! This file is the security review's one page. [`CheckedPlan::compute`] builds every coinbase,
//! every payout and every amount from state that its caller holds itself; [`ProposedPlan::check`]
//! compares the result with what was proposed and with the participant's policy. Amounts are never
//! taken from a peer, and no slot signs anything but a `CheckedPlan`.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Transaction, TxOut};

use crate::coinbase::{self, CoinbaseName};
use crate::digest::Digest;
use crate::feerate::FeeRate;
use crate::id::{Attempt, Identity, LaneIndex, RoundId, RoundSeq, SerialId};
use crate::lane::Assignments;
use crate::musig::{
    AggregateKey, AggregateNonce, MusigError, PartialSignature, Session, SigningSlot, SlotKey,
};
use crate::params::{NONCES_LIMIT, PROTOCOL_VERSION, PoolParams};
use crate::payout;
use crate::policy::{Policy, subsidy};
use crate::roster::Roster;
use crate::split::{Account, Split, SplitError, SplitInput, split};
use crate::window::{Ledger, LedgerHead, Tally};
use crate::work::WorkOverflow;

/// One signer of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Whose slot it is.
    pub identity: Identity,
    /// The slot's key.
    pub key: SlotKey,
}

/// What all coinbases and payouts of an attempt follow from; its hash is the round's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundInputs {
    /// Round.
    pub seq: RoundSeq,
    /// Attempt.
    pub attempt: Attempt,
    /// Height of the block to be found.
    pub height: u32,
    /// Its compact target.
    pub bits: u32,
    /// Value of the coinbase: subsidy and fees, sat.
    pub reward: u64,
    /// BIP141 commitment of the template, if it has one.
    pub witness_commitment: Option<[u8; 32]>,
    /// Feerate of the payouts.
    pub feerate: FeeRate,
    /// Hash of the payee set.
    pub roster: [u8; 32],
    /// Head of the ledger.
    pub ledger: LedgerHead,
    /// Hash of the assignments.
    pub assignments: [u8; 32],
    /// Signers, in the order of their keys (BIP327 KeySort).
    pub signers: Vec<Signer>,
}

/// The replicated state that a plan is computed from.
#[derive(Clone, Copy, Debug)]
pub struct PlanView<'a> {
    /// The pool's parameters.
    pub params: &'a PoolParams,
    /// The payee set.
    pub roster: &'a Roster,
    /// The ledger.
    pub ledger: &'a Ledger,
    /// Who hashes what.
    pub assignments: &'a Assignments,
}

/// A plan as a peer proposes it: parsed, not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedPlan {
    /// What the coordinator says the transcript hashes to.
    pub round: RoundId,
    /// What the plan is to be computed from.
    pub inputs: RoundInputs,
    /// `tx_add_input`: the coinbase txids that the coordinator computed, one per lane.
    pub coinbases: Vec<[u8; 32]>,
    /// Aggregate nonces, lane by lane, within a lane shard by shard.
    pub nonces: Vec<AggregateNonce>,
}

/// A lane's coinbase and its payouts, not yet signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanePlan {
    /// The coinbase.
    pub coinbase: Transaction,
    /// Its txid, in the byte order in which it is hashed.
    pub txid: [u8; 32],
    /// One payout per shard.
    pub payouts: Vec<Transaction>,
    /// Signature hash of each payout.
    pub sighashes: Vec<[u8; 32]>,
}

/// A plan that its holder computed itself. The only thing that can be signed.
#[derive(Clone, Debug)]
pub struct CheckedPlan {
    round: RoundId,
    inputs: RoundInputs,
    split: Split,
    weights: Tally,
    key: AggregateKey,
    lanes: Vec<LanePlan>,
    sessions: Vec<Session>,
}

/// Why a plan cannot be computed, or is not accepted. Nothing has been signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The proposal is for another payee set than ours.
    #[error("the payee set differs from ours")]
    Roster,
    /// The proposal builds on another ledger.
    #[error("ledger head {theirs} differs from ours, {ours}", theirs = .theirs.seq, ours = .ours.seq)]
    Ledger {
        /// Our head.
        ours: LedgerHead,
        /// The proposal's.
        theirs: LedgerHead,
    },
    /// The proposal is for other assignments.
    #[error("the assignments differ from ours")]
    Assignments,
    /// Signers not sorted by key, one twice, or the coordinator not among them.
    #[error("the signer list is malformed: {0}")]
    Signers(&'static str),
    /// A key that we did not announce is said to be ours, or ours another's.
    #[error("the signer list misuses a signing slot of ours")]
    OurSlot,
    /// The coinbase is worth less than the subsidy alone.
    #[error("reward of {reward} sat is below the subsidy of {subsidy} sat at height {height}")]
    RewardBelowSubsidy {
        /// Proposed reward, sat.
        reward: u64,
        /// Subsidy, sat.
        subsidy: u64,
        /// Height.
        height: u32,
    },
    /// Height 0 has no pool block.
    #[error("height {0} is not one that can be mined")]
    Height(u32),
    /// The round, or the attempt, is not newer than the last one.
    #[error("round {seq} attempt {attempt} is not newer than the last one")]
    NotNewer {
        /// Proposed round.
        seq: RoundSeq,
        /// Proposed attempt.
        attempt: Attempt,
    },
    /// The transcript hashes to something else.
    #[error("the transcript hash differs from ours, {ours}")]
    Transcript {
        /// What we computed.
        ours: RoundId,
    },
    /// A coinbase differs from the one that follows from the transcript.
    #[error("coinbase of lane {0} differs from ours")]
    Coinbase(LaneIndex),
    /// Not one aggregate nonce per lane and shard.
    #[error("{got} aggregate nonces for {sessions} payouts")]
    Nonces {
        /// How many came.
        got: usize,
        /// How many payouts there are.
        sessions: usize,
    },
    /// The operator takes more than we accept.
    #[error("operator fee of {fee} ppm is above our limit of {limit} ppm")]
    OperatorFee {
        /// The pool's, ppm.
        fee: u32,
        /// Ours, ppm.
        limit: u32,
    },
    /// The payout pays more for its place in a block than we accept.
    #[error("feerate {rate} is above our limit of {limit}")]
    FeeRate {
        /// Proposed.
        rate: FeeRate,
        /// Ours.
        limit: FeeRate,
    },
    /// Too few signers for our taste.
    #[error("{signers} signers are fewer than our limit of {limit}")]
    TooFewSigners {
        /// Proposed.
        signers: usize,
        /// Ours.
        limit: u16,
    },
    /// We only hash in rounds that we sign.
    #[error("we are not a signer, and our policy demands it")]
    NotSigner,
    /// We have no output in the payee set, so our work would be paid to nobody.
    #[error("we have no output in the payee set")]
    NotPayee,
    /// The reward cannot be split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Keys or nonces that cannot be used.
    #[error(transparent)]
    Musig(#[from] MusigError),
    /// The ledger's work overflows.
    #[error(transparent)]
    Work(#[from] WorkOverflow),
}

/// Why a set of signatures does not complete a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompleteError {
    /// Not one signature per payout.
    #[error("{got} signatures for {payouts} payouts")]
    Count {
        /// How many came.
        got: usize,
        /// How many payouts there are.
        payouts: usize,
    },
    /// A signature is not valid for the payout that we computed.
    #[error("signature {0} is invalid")]
    BadSignature(usize),
}

impl RoundInputs {
    /// The transcript hash: the round's name, and the coinbases' taproot leaf.
    pub fn round_id(&self, params: &PoolParams) -> RoundId {
        let mut digest = Digest::new("tutti/round")
            .u32(PROTOCOL_VERSION)
            .fixed(&params.digest())
            .u64(self.seq.0)
            .u32(self.attempt.0)
            .u32(self.height)
            .u32(self.bits)
            .u64(self.reward)
            .option32(self.witness_commitment.as_ref())
            .u64(self.feerate.sat_per_kvb())
            .fixed(&self.roster)
            .u64(self.ledger.seq.0)
            .fixed(&self.ledger.hash)
            .fixed(&self.assignments)
            .count(self.signers.len());
        for signer in &self.signers {
            digest = digest
                .fixed(&signer.key.serialize())
                .fixed(signer.identity.as_bytes());
        }
        RoundId(digest.finish())
    }

    fn check_signers(&self, coordinator: &Identity) -> Result<(), PlanError> {
        if !self.signers.is_sorted_by(|a, b| a.key < b.key) {
            return Err(PlanError::Signers(
                "keys are not sorted, or one is there twice",
            ));
        }
        let identities: BTreeSet<_> = self.signers.iter().map(|signer| signer.identity).collect();
        if identities.len() != self.signers.len() {
            return Err(PlanError::Signers("an identity signs twice"));
        }
        if !identities.contains(coordinator) {
            return Err(PlanError::Signers("the coordinator is not among them"));
        }
        Ok(())
    }
}

/// Weight of each payee: its identity's work. While nobody has any: one for each participant that
/// signs; if none does, for each that is registered; if none is, for the coordinator.
fn accounts(inputs: &RoundInputs, view: &PlanView<'_>, weights: &Tally) -> Vec<Account> {
    let registered = |identity: &Identity| view.roster.active(identity).is_some();
    let worked = weights.keys().any(registered);
    let coordinator = view.params.coordinator;
    let signers = inputs.signers.iter().map(|signer| signer.identity);
    let participants = |who: &Identity| *who != coordinator && registered(who);
    let mut equal: BTreeSet<Identity> = signers.filter(participants).collect();
    if equal.is_empty() {
        let payees = view.roster.iter().map(|(_, payee)| payee.identity);
        equal = payees.filter(participants).collect();
    }
    if equal.is_empty() {
        equal.insert(coordinator);
    }
    view.roster
        .iter()
        .filter(|(serial_id, payee)| view.roster.is_active(*serial_id, payee))
        .map(|(serial_id, payee)| Account {
            serial_id,
            dust_limit: payee.script.dust_limit(),
            output_size: payee.script.output_size(),
            weight: if worked {
                weights.get(&payee.identity).map_or(0, |work| work.0)
            } else {
                u128::from(equal.contains(&payee.identity))
            },
            carry: view.ledger.carry(&payee.identity),
        })
        .collect()
}

impl LanePlan {
    fn new(
        inputs: &RoundInputs,
        view: &PlanView<'_>,
        split: &Split,
        key: &AggregateKey,
        lane: LaneIndex,
    ) -> Self {
        let script = payout::output_script(&key.output_key());
        let values: Vec<u64> = split.shards.iter().map(|shard| shard.value).collect();
        let name = CoinbaseName {
            height: inputs.height,
            tag: &view.params.tag,
            round: inputs.seq,
            lane,
        };
        let coinbase = coinbase::build(name, &script, &values, inputs.witness_commitment.as_ref());
        let txid = coinbase.compute_txid();
        let mut payouts = Vec::with_capacity(split.shards.len());
        let mut sighashes = Vec::with_capacity(split.shards.len());
        for (vout, shard) in (0u32..).zip(&split.shards) {
            let outputs = shard
                .outputs
                .iter()
                .filter_map(|(serial_id, sat)| {
                    let payee = view.roster.payee(*serial_id)?;
                    let script_pubkey = payee.script.as_script().to_owned();
                    Some(TxOut {
                        value: Amount::from_sat(*sat),
                        script_pubkey,
                    })
                })
                .collect();
            let payout = payout::unsigned(OutPoint { txid, vout }, outputs);
            let prevout = TxOut {
                value: Amount::from_sat(shard.value),
                script_pubkey: script.clone(),
            };
            sighashes.push(payout::sighash(&payout, &prevout));
            payouts.push(payout);
        }
        Self {
            coinbase,
            txid: txid.to_byte_array(),
            payouts,
            sighashes,
        }
    }
}

impl CheckedPlan {
    /// Computes everything from inputs and state. `nonces` gives the aggregate nonces of that many
    /// sessions, which are known only once the reward is split.
    pub fn compute(
        inputs: RoundInputs,
        nonces: impl FnOnce(usize) -> Result<Vec<AggregateNonce>, MusigError>,
        view: &PlanView<'_>,
    ) -> Result<CheckedPlan, PlanError> {
        if inputs.roster != view.roster.digest() {
            return Err(PlanError::Roster);
        }
        let ours = view.ledger.head();
        if inputs.ledger != ours {
            return Err(PlanError::Ledger {
                ours,
                theirs: inputs.ledger,
            });
        }
        if inputs.assignments != view.assignments.digest() {
            return Err(PlanError::Assignments);
        }
        if inputs.height == 0 {
            return Err(PlanError::Height(inputs.height));
        }
        let subsidy = subsidy(view.params.network, inputs.height);
        if inputs.reward < subsidy {
            let (reward, height) = (inputs.reward, inputs.height);
            return Err(PlanError::RewardBelowSubsidy {
                reward,
                subsidy,
                height,
            });
        }
        inputs.check_signers(&view.params.coordinator)?;

        let weights = view
            .ledger
            .weights(view.params.scoring_depth(inputs.bits))?;
        let accounts = accounts(&inputs, view, &weights);
        let split = split(&SplitInput {
            reward: inputs.reward,
            feerate: inputs.feerate,
            operator_fee_ppm: view.params.operator_fee_ppm,
            accounts: &accounts,
        })?;
        let round = inputs.round_id(view.params);
        let keys = inputs.signers.iter().map(|signer| signer.key).collect();
        let key = AggregateKey::new(keys, &payout::leaf_hash(&round.0))?;
        let lanes: Vec<LanePlan> = (0..view.params.lanes)
            .map(|lane| LanePlan::new(&inputs, view, &split, &key, LaneIndex(lane)))
            .collect();
        let sighashes: Vec<[u8; 32]> = lanes
            .iter()
            .flat_map(|lane| lane.sighashes.iter().copied())
            .collect();
        let nonces = nonces(sighashes.len())?;
        if nonces.len() != sighashes.len() || nonces.len() > usize::from(NONCES_LIMIT) {
            return Err(PlanError::Nonces {
                got: nonces.len(),
                sessions: sighashes.len(),
            });
        }
        let sessions = nonces
            .iter()
            .zip(&sighashes)
            .map(|(nonce, sighash)| Session::new(&key, nonce, sighash))
            .collect();
        Ok(CheckedPlan {
            round,
            inputs,
            split,
            weights,
            key,
            lanes,
            sessions,
        })
    }

    /// The round's name.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// What it was computed from.
    pub fn inputs(&self) -> &RoundInputs {
        &self.inputs
    }

    /// Who gets how much.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// The weights that the split was made from.
    pub fn weights(&self) -> &Tally {
        &self.weights
    }

    /// Coinbases and payouts.
    pub fn lanes(&self) -> &[LanePlan] {
        &self.lanes
    }

    /// The aggregate key.
    pub fn key(&self) -> &AggregateKey {
        &self.key
    }

    /// The sessions, lane by lane, within a lane shard by shard.
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// Signature hashes in the order of the sessions.
    pub fn sighashes(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.lanes.iter().flat_map(|lane| &lane.sighashes)
    }

    /// Signs all payouts with a slot, which is used up.
    pub fn sign(&self, slot: SigningSlot) -> Result<Vec<PartialSignature>, MusigError> {
        slot.sign(&self.key, &self.sessions)
    }

    /// Checks the final signatures and gives the complete payouts, lane by lane.
    pub fn complete(
        &self,
        signatures: &[[u8; 64]],
    ) -> Result<Vec<Vec<Transaction>>, CompleteError> {
        if signatures.len() != self.sessions.len() {
            return Err(CompleteError::Count {
                got: signatures.len(),
                payouts: self.sessions.len(),
            });
        }
        for (place, (sighash, signature)) in self.sighashes().zip(signatures).enumerate() {
            if !self.key.verify(sighash, signature) {
                return Err(CompleteError::BadSignature(place));
            }
        }
        let mut signatures = signatures.iter();
        let complete =
            |payout: &Transaction| signatures.next().map(|s| payout::signed(payout.clone(), s));
        let mut complete = complete;
        Ok(self
            .lanes
            .iter()
            .map(|lane| lane.payouts.iter().filter_map(&mut complete).collect())
            .collect())
    }

    /// How each identity's carry changes if a block of this round is booked, sat.
    pub fn carry_changes(&self, view: &PlanView<'_>) -> BTreeMap<Identity, i64> {
        let after: BTreeMap<SerialId, i64> = self.split.carry_after.iter().copied().collect();
        view.roster
            .iter()
            .filter(|(serial_id, payee)| view.roster.is_active(*serial_id, payee))
            .filter_map(|(serial_id, payee)| {
                let after = after.get(&serial_id).copied().unwrap_or(0);
                let change = after.checked_sub(view.ledger.carry(&payee.identity))?;
                (change != 0).then_some((payee.identity, change))
            })
            .collect()
    }
}

/// What a participant knows of itself when it checks a proposal.
#[derive(Clone, Copy, Debug)]
pub struct Checker<'a> {
    /// Its identity.
    pub identity: &'a Identity,
    /// Its announced, unused slots.
    pub slots: &'a BTreeSet<SlotKey>,
    /// The last round and attempt it saw.
    pub last: Option<(RoundSeq, Attempt)>,
    /// What it accepts.
    pub policy: &'a Policy,
}

impl ProposedPlan {
    /// Computes the plan from our own state and compares. `Ok` is consent to sign it.
    pub fn check(&self, view: &PlanView<'_>, me: &Checker<'_>) -> Result<CheckedPlan, PlanError> {
        let RoundInputs {
            seq,
            attempt,
            feerate,
            ..
        } = self.inputs;
        if me.last.is_some_and(|last| last >= (seq, attempt)) {
            return Err(PlanError::NotNewer { seq, attempt });
        }
        if view.params.operator_fee_ppm > me.policy.operator_fee_ppm_max {
            let (fee, limit) = (view.params.operator_fee_ppm, me.policy.operator_fee_ppm_max);
            return Err(PlanError::OperatorFee { fee, limit });
        }
        if feerate > me.policy.feerate_max {
            return Err(PlanError::FeeRate {
                rate: feerate,
                limit: me.policy.feerate_max,
            });
        }
        let signers = self.inputs.signers.len();
        if signers < usize::from(me.policy.signers_min) {
            return Err(PlanError::TooFewSigners {
                signers,
                limit: me.policy.signers_min,
            });
        }
        for signer in &self.inputs.signers {
            if (signer.identity == *me.identity) != me.slots.contains(&signer.key) {
                return Err(PlanError::OurSlot);
            }
        }
        if me.policy.must_be_signer && self.own_key(me.identity).is_none() {
            return Err(PlanError::NotSigner);
        }
        let plan = CheckedPlan::compute(self.inputs.clone(), |_| Ok(self.nonces.clone()), view)?;
        if plan.round != self.round {
            return Err(PlanError::Transcript { ours: plan.round });
        }
        let lanes = (0..view.params.lanes).map(LaneIndex);
        for (lane, ours) in lanes.zip(&plan.lanes) {
            if self.coinbases.get(usize::from(lane.0)) != Some(&ours.txid) {
                return Err(PlanError::Coinbase(lane));
            }
        }
        if self.coinbases.len() != plan.lanes.len() {
            return Err(PlanError::Coinbase(LaneIndex(view.params.lanes)));
        }
        Ok(plan)
    }

    /// The slot with which this identity is to sign.
    pub fn own_key(&self, identity: &Identity) -> Option<SlotKey> {
        self.inputs
            .signers
            .iter()
            .find(|signer| signer.identity == *identity)
            .map(|signer| signer.key)
    }
}
