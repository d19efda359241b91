//! An attempt with any number of signers and lanes, and what each side has of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bitcoin::Network;
use bitcoin::hashes::{Hash, sha256};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Attempt as Try, Identity, RoundSeq, SerialId};
use tutti_proto::identity::IdentityKey;
use tutti_proto::lane::{Assignments, Worker};
use tutti_proto::message::TxAddOutput;
use tutti_proto::musig::{PartialSignature, PublicSlot, SigningSlot, SlotKey, nonce_sums};
use tutti_proto::params::PoolParams;
use tutti_proto::payout;
use tutti_proto::plan::{
    Checked, CheckedPlan, Checker, PlanView, ProposedPlan, RoundInputs, Signer,
};
use tutti_proto::policy::Policy;
use tutti_proto::roster::Roster;
use tutti_proto::script::PayoutScript;
use tutti_proto::window::{Ledger, Scoring};

/// Payees besides the operator: one payout has room for them.
const PAYEES: usize = 200;
const HEIGHT: u32 = 150;

/// The state that everyone has, the attempt, and the slots of its signers.
pub struct Attempt {
    params: PoolParams,
    roster: Roster,
    ledger: Ledger,
    assignments: Assignments,
    /// Slots in the order of their keys.
    pub slots: Vec<Arc<PublicSlot>>,
    /// Partial signatures of each signer, in that order.
    pub partials: Vec<Vec<PartialSignature>>,
    /// What is proposed.
    pub proposal: ProposedPlan,
    me: Identity,
    own: BTreeSet<SlotKey>,
    lanes: usize,
}

fn number(kind: u8, n: usize) -> [u8; 32] {
    let mut bytes = [kind; 9];
    bytes[1..].copy_from_slice(&n.to_le_bytes());
    sha256::Hash::hash(&bytes).to_byte_array()
}

fn identity_key(n: usize) -> Result<IdentityKey> {
    let key = IdentityKey::from_bytes(&mut number(b'i', n));
    key.ok().context("a hash that is no key")
}

/// The slot of one signer, the same each time.
fn slot(n: usize, lanes: usize) -> (SigningSlot, PublicSlot) {
    SigningSlot::generate(&mut StdRng::from_seed(number(b'n', n)), lanes)
}

fn params(coordinator: Identity, lanes: u16) -> PoolParams {
    PoolParams {
        network: Network::Regtest,
        coordinator,
        tag: "/tutti/".into(),
        operator_fee_ppm: 10_000,
        lanes,
        nonces_per_slot: lanes,
        direct_payees: 32,
        scoring: Scoring::Pplns,
        pplns_depth: 8,
        ntime_roll: 600,
        block_zero_bits: Some(64),
        bump_credit: 20_000,
        bump_credit_after: 3,
    }
}

impl Attempt {
    /// With so many signers, the coordinator among them, all of whom sign.
    pub fn new(signers: usize, lanes: u16) -> Result<Self> {
        let keys: Vec<IdentityKey> = (0..signers).map(identity_key).collect::<Result<_>>()?;
        let params = params(keys[0].identity(), lanes);
        let mut roster = Roster::default();
        for (n, key) in keys.iter().enumerate().take(PAYEES + 1) {
            let serial = SerialId(if n == 0 { 0 } else { 2 * n as u64 + 1 });
            let script = PayoutScript::parse(payout::output_script(&number(b's', n)))?;
            let output = TxAddOutput::sign(key, &params.coordinator, serial, script, &[3; 32]);
            roster.add_output(&params.coordinator, output)?;
        }
        let worker = Worker { rate: 1_000, z: 8 };
        let workers = keys.iter().skip(1).map(|key| (key.identity(), worker));
        let workers: BTreeMap<Identity, Worker> = workers.collect();
        let mut slots: Vec<_> = (0..signers)
            .map(|n| (keys[n].identity(), slot(n, usize::from(lanes))))
            .collect();
        slots.sort_by_key(|(_, (_, public))| public.key);
        let ledger = Ledger::default();
        let assignments = Assignments::divide(&workers, lanes);
        let signer = |(identity, (_, public)): &(Identity, (SigningSlot, PublicSlot))| Signer {
            identity: *identity,
            key: public.key,
        };
        let inputs = RoundInputs {
            seq: RoundSeq(ledger.seq().0),
            attempt: Try(0),
            height: HEIGHT,
            bits: 0x207f_ffff,
            reward: 5_000_012_345,
            witness_commitment: Some([5; 32]),
            feerate: FeeRate::FLOOR,
            roster: roster.digest(),
            ledger: ledger.head(),
            assignments: assignments.digest(),
            signers: slots.iter().map(signer).collect(),
        };
        let slots = slots.into_iter().map(|(_, slot)| slot);
        let (secret, slots): (Vec<SigningSlot>, Vec<Arc<PublicSlot>>) = slots
            .map(|(secret, public)| (secret, Arc::new(public)))
            .unzip();
        let mut attempt = Self {
            params,
            roster,
            ledger,
            assignments,
            slots,
            partials: Vec::new(),
            proposal: ProposedPlan {
                round: tutti_proto::id::RoundId([0; 32]),
                inputs,
                coinbases: Vec::new(),
                nonces: Vec::new(),
            },
            me: keys[1].identity(),
            own: BTreeSet::from([slot(1, 1).1.key]),
            lanes: usize::from(lanes),
        };
        attempt.proposal.nonces = nonce_sums(&attempt.slots, attempt.lanes)?;
        let plan = attempt.plan()?;
        attempt.proposal.round = plan.round();
        attempt.proposal.coinbases = plan.lanes().iter().map(|lane| lane.txid).collect();
        let signed = secret.into_iter().map(|slot| plan.sign(slot));
        attempt.partials = signed.collect::<Result<_, _>>()?;
        Ok(attempt)
    }

    fn view(&self) -> PlanView<'_> {
        PlanView {
            params: &self.params,
            roster: &self.roster,
            ledger: &self.ledger,
            assignments: &self.assignments,
        }
    }

    /// What the coordinator computes before it proposes, once the nonces are summed.
    pub fn plan(&self) -> Result<CheckedPlan> {
        let nonces = |_| Ok(self.proposal.nonces.clone());
        let plan = CheckedPlan::compute(self.proposal.inputs.clone(), nonces, &self.view());
        Ok(plan?)
    }

    /// The participant's own slot: it was announced before.
    pub fn own_slot(&self) -> (SigningSlot, PublicSlot) {
        slot(1, self.lanes)
    }

    /// What the participant does with a proposal.
    pub fn check(&self, proposal: &ProposedPlan) -> Result<CheckedPlan> {
        let me = Checker {
            identity: &self.me,
            slots: &self.own,
            last: None,
            policy: &Policy::default(),
        };
        match proposal.check(&self.view(), &me)? {
            Checked::ToSign(plan) => Ok(plan),
            Checked::Direct(_) => bail!("a round with signers is not a direct one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_a_round_that_a_participant_signs() {
        let attempt = Attempt::new(3, 2).expect("an attempt");
        let plan = attempt.check(&attempt.proposal).expect("an honest plan");
        assert_eq!(plan.round(), attempt.proposal.round);
    }
}
