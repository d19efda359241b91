//! The plan of a round whose payouts are signed before anybody hashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};

use super::accounts::{carry_changes, payees};
use super::amounts::RoundAmounts;
use super::{CompleteError, PlanError, PlanView, RoundInputs};
use crate::coinbase::{self, CoinbaseName};
use crate::cores;
use crate::id::{Identity, LaneIndex, RoundId, SerialId};
use crate::message::proposal_digest;
use crate::musig::{
    AggregateKey, AggregateNonce, MusigError, PartialSignature, PublicSlot, Session, SigningSlot,
};
use crate::params::NONCES_LIMIT;
use crate::payout::{self, ShardHashes, SignedPayouts};
use crate::split::Split;
use crate::window::Tally;

/// Lanes for which another thread is worth starting.
const LANES_OF_THREAD: usize = 16;

/// A lane's coinbase, and what is signed of its payouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanePlan {
    /// The coinbase.
    pub coinbase: Transaction,
    /// Its txid, in the byte order in which it is hashed.
    pub txid: [u8; 32],
    /// Signature hash of each payout, one per shard.
    pub sighashes: Vec<[u8; 32]>,
}

/// What all lanes of a round have in common.
#[derive(Clone, Debug)]
struct Shards {
    /// Outputs of every coinbase, one per shard, before the witness commitment.
    coinbase: Vec<(ScriptBuf, Amount)>,
    /// Outputs of each shard's payout.
    payouts: Arc<Vec<Vec<TxOut>>>,
    hashes: Vec<ShardHashes>,
}

/// A plan that its holder computed itself. The only thing that can be signed.
#[derive(Clone, Debug)]
pub struct CheckedPlan {
    round: RoundId,
    proposal: [u8; 32],
    inputs: Arc<RoundInputs>,
    split: Split,
    weights: Tally,
    key: Arc<AggregateKey>,
    shards: Arc<Shards>,
    lanes: Vec<LanePlan>,
    sessions: Vec<Session>,
}

impl Shards {
    fn new(view: &PlanView<'_>, split: &Split, key: &AggregateKey) -> Self {
        let script = payout::output_script(&key.output_key());
        let mut coinbase = Vec::with_capacity(split.shards.len());
        let mut payouts = Vec::with_capacity(split.shards.len());
        let mut hashes = Vec::with_capacity(split.shards.len());
        for shard in &split.shards {
            let value = Amount::from_sat(shard.value);
            let output = |(serial_id, sat): &(SerialId, u64)| {
                let payee = view.roster.payee(*serial_id)?;
                Some(TxOut {
                    value: Amount::from_sat(*sat),
                    script_pubkey: payee.script.as_script().to_owned(),
                })
            };
            let payees = shard.outputs.iter().filter_map(output);
            let outputs: Vec<TxOut> = payees.chain([payout::anchor()]).collect();
            let prevout = TxOut {
                value,
                script_pubkey: script.clone(),
            };
            hashes.push(ShardHashes::of(&prevout, &outputs));
            payouts.push(outputs);
            coinbase.push((script.clone(), value));
        }
        Self {
            coinbase,
            payouts: Arc::new(payouts),
            hashes,
        }
    }

    /// One lane of a round.
    fn lane(&self, inputs: &RoundInputs, tag: &str, lane: LaneIndex) -> LanePlan {
        let name = CoinbaseName {
            height: inputs.height,
            tag,
            round: inputs.seq,
            lane,
        };
        let coinbase = coinbase::build(name, &self.coinbase, inputs.witness_commitment.as_ref());
        let txid = coinbase.compute_txid();
        let hashes = (0u32..).zip(&self.hashes);
        let sighashes = hashes.map(|(vout, hashes)| hashes.sighash(&OutPoint { txid, vout }));
        LanePlan {
            sighashes: sighashes.collect(),
            txid: txid.to_byte_array(),
            coinbase,
        }
    }

    /// A lane's payouts, not yet signed.
    fn unsigned_of(&self, lane: &LanePlan) -> impl Iterator<Item = Transaction> {
        let txid = Txid::from_byte_array(lane.txid);
        let shards = (0u32..).zip(self.payouts.iter());
        shards
            .map(move |(vout, outputs)| payout::spending(OutPoint { txid, vout }, outputs.clone()))
    }
}

/// The unsigned payouts of one lane of a round whose amounts are known.
pub(crate) fn unsigned_payouts(
    inputs: &RoundInputs,
    view: &PlanView<'_>,
    split: &Split,
    lane: LaneIndex,
) -> Result<Vec<Transaction>, MusigError> {
    let round = inputs.round_id(view.params);
    let keys = inputs.signers.iter().map(|signer| signer.key).collect();
    let key = AggregateKey::new(keys, &payout::leaf_hash(&round.0))?;
    let shards = Shards::new(view, split, &key);
    let lane = shards.lane(inputs, &view.params.tag, lane);
    Ok(shards.unsigned_of(&lane).collect())
}

impl CheckedPlan {
    /// Computes everything from inputs and state. `nonces` gives the aggregate nonces of that many
    /// sessions, which are known only once the reward is split.
    pub fn compute(
        inputs: RoundInputs,
        nonces: impl FnOnce(usize) -> Result<Vec<AggregateNonce>, MusigError>,
        view: &PlanView<'_>,
    ) -> Result<CheckedPlan, PlanError> {
        let RoundAmounts { weights, split, .. } = RoundAmounts::signed(&inputs, view)?;
        let round = inputs.round_id(view.params);
        let keys = inputs.signers.iter().map(|signer| signer.key).collect();
        let key = AggregateKey::new(keys, &payout::leaf_hash(&round.0))?;
        let shards = Shards::new(view, &split, &key);
        let payouts = shards.hashes.len();
        let count = usize::from(view.params.lanes).saturating_mul(payouts);
        let nonces = nonces(count)?;
        if nonces.len() != count || nonces.len() > usize::from(NONCES_LIMIT) {
            return Err(PlanError::Nonces {
                got: nonces.len(),
                sessions: count,
            });
        }
        let proposal = proposal_digest(&inputs, &round, &nonces);
        let (inputs, key, shards) = (Arc::new(inputs), Arc::new(key), Arc::new(shards));
        let of_lanes = nonces.chunks(payouts.max(1)).map(<[_]>::to_vec);
        let of_lanes = (0..view.params.lanes).map(LaneIndex).zip(of_lanes);
        let plan = {
            let (inputs, key, shards) = (inputs.clone(), key.clone(), shards.clone());
            let tag = view.params.tag.clone();
            move |(lane, nonces): (LaneIndex, Vec<AggregateNonce>)| {
                let lane = shards.lane(&inputs, &tag, lane);
                let each = nonces.iter().zip(&lane.sighashes);
                let sessions = each.map(|(nonce, sighash)| Session::new(&key, nonce, sighash));
                let sessions: Vec<Session> = sessions.collect();
                (lane, sessions)
            }
        };
        let planned = cores::each(of_lanes.collect(), LANES_OF_THREAD, plan);
        let (lanes, sessions): (Vec<LanePlan>, Vec<Vec<Session>>) = planned.into_iter().unzip();
        let sessions = sessions.concat();
        Ok(CheckedPlan {
            round,
            proposal,
            inputs,
            split,
            weights,
            key,
            shards,
            lanes,
            sessions,
        })
    }

    /// The round's name.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// Digest of the proposal: round and nonces.
    pub fn proposal(&self) -> [u8; 32] {
        self.proposal
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

    /// Coinbases and signature hashes.
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

    /// Whether these are what the holder of this slot had to send: one valid partial signature for
    /// each session. For blame only.
    pub fn partials_are_valid(&self, slot: &PublicSlot, partials: &[PartialSignature]) -> bool {
        let valid = |place| self.partial_is_valid(place, slot, partials);
        partials.len() == self.sessions.len() && (0..partials.len()).all(valid)
    }

    /// Whether the partial signature of one session is valid.
    pub fn partial_is_valid(
        &self,
        place: usize,
        slot: &PublicSlot,
        partials: &[PartialSignature],
    ) -> bool {
        let session = self.sessions.get(place).zip(partials.get(place));
        let valid = session.zip(slot.nonces.get(place));
        valid.is_some_and(|((session, partial), nonce)| {
            session.partial_is_valid(&self.key, partial, nonce, &slot.key)
        })
    }

    /// Signs all payouts with a slot, which is used up.
    pub fn sign(&self, slot: SigningSlot) -> Result<Vec<PartialSignature>, MusigError> {
        slot.sign(&self.key, &self.sessions)
    }

    /// Checks the final signatures, on all cores, and gives the complete payouts.
    pub fn complete(&self, signatures: &[[u8; 64]]) -> Result<SignedPayouts, CompleteError> {
        let count = CompleteError::Count {
            got: signatures.len(),
            payouts: self.sessions.len(),
        };
        if signatures.len() != self.sessions.len() {
            return Err(count);
        }
        let mut to_check = Vec::with_capacity(signatures.len());
        to_check.extend(self.sighashes().copied().zip(signatures.iter().copied()));
        let key = self.key.clone();
        let checked = cores::each(to_check, LANES_OF_THREAD, move |of| {
            let (sighash, signature) = of;
            key.verify(&sighash, &signature)
        });
        match checked.iter().position(|valid| !valid) {
            Some(place) => Err(CompleteError::BadSignature(place)),
            None => {
                let outputs = self.shards.payouts.clone();
                SignedPayouts::new(self.lanes.len(), outputs, signatures.to_vec()).ok_or(count)
            }
        }
    }

    /// The payouts of one of the lanes, not yet signed.
    pub fn unsigned(&self, lane: &LanePlan) -> Vec<Transaction> {
        self.shards.unsigned_of(lane).collect()
    }

    /// How each identity's carry changes if a block of this round is booked, sat.
    pub fn carry_changes(&self, view: &PlanView<'_>) -> BTreeMap<Identity, i64> {
        carry_changes(&self.split.carry_after, view)
    }

    /// Whom the payouts pay, shard by shard.
    pub fn payees(&self, view: &PlanView<'_>) -> Vec<Vec<Identity>> {
        payees(&self.split, view)
    }
}
