//! The plan of a round whose payouts are signed before anybody hashes.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};

use super::accounts::carry_changes;
use super::amounts::RoundAmounts;
use super::{CompleteError, PlanError, PlanView, RoundInputs};
use crate::coinbase::{self, CoinbaseName};
use crate::id::{Identity, LaneIndex, RoundId};
use crate::message::proposal_digest;
use crate::musig::{
    AggregateKey, AggregateNonce, MusigError, PartialSignature, PublicSlot, Session, SigningSlot,
};
use crate::params::NONCES_LIMIT;
use crate::payout;
use crate::split::Split;
use crate::window::Tally;

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
    proposal: [u8; 32],
    inputs: RoundInputs,
    split: Split,
    weights: Tally,
    key: AggregateKey,
    lanes: Vec<LanePlan>,
    sessions: Vec<Session>,
}

impl LanePlan {
    /// One lane of a round whose amounts are known.
    pub(crate) fn of(
        inputs: &RoundInputs,
        view: &PlanView<'_>,
        split: &Split,
        lane: LaneIndex,
    ) -> Result<Self, MusigError> {
        let round = inputs.round_id(view.params);
        let keys = inputs.signers.iter().map(|signer| signer.key).collect();
        let key = AggregateKey::new(keys, &payout::leaf_hash(&round.0))?;
        Ok(Self::new(inputs, view, split, &key, lane))
    }

    fn new(
        inputs: &RoundInputs,
        view: &PlanView<'_>,
        split: &Split,
        key: &AggregateKey,
        lane: LaneIndex,
    ) -> Self {
        let script = payout::output_script(&key.output_key());
        let values = split
            .shards
            .iter()
            .map(|shard| Amount::from_sat(shard.value));
        let outputs: Vec<(ScriptBuf, Amount)> = values.map(|sat| (script.clone(), sat)).collect();
        let name = CoinbaseName {
            height: inputs.height,
            tag: &view.params.tag,
            round: inputs.seq,
            lane,
        };
        let coinbase = coinbase::build(name, &outputs, inputs.witness_commitment.as_ref());
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
        let RoundAmounts { weights, split, .. } = RoundAmounts::signed(&inputs, view)?;
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
            proposal: proposal_digest(&inputs, &round, &nonces),
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
        carry_changes(&self.split.carry_after, view)
    }
}
