//! A coordinator that lies well: every lie is computed to the end, signed, and told to whom it likes.

use bitcoin::Transaction;
use bitcoin::hashes::Hash;
use tutti_proto::id::PeerId;
use tutti_proto::lane::Assignments;
use tutti_proto::message::{AssignmentsSet, Proposal, SignedHead, ToParticipant, WindowClosed};
use tutti_proto::params::PoolParams;
use tutti_proto::plan::{CheckedPlan, DirectPlan, PlanView, ProposedPlan, RoundInputs};
use tutti_proto::roster::Roster;
use tutti_proto::window::{Ledger, WindowRecord};
use tutti_tests::sim::{World, identity_key};

use crate::pool::{AUX, last_proposal};

/// The state that the miners hold, or are made to believe in.
#[derive(Clone)]
pub struct Replica {
    pub params: PoolParams,
    pub roster: Roster,
    pub ledger: Ledger,
    pub assignments: Assignments,
    closed: Option<WindowClosed>,
}

impl Replica {
    /// What all joined miners hold now.
    pub fn of(world: &World) -> Self {
        let sets = world.told.iter().rev();
        let mut sets = sets.filter_map(|(_, message)| match message {
            ToParticipant::Assignments(set) => Some(set.assignments.clone()),
            _ => None,
        });
        Self {
            params: world.coordinator.params().clone(),
            roster: world.coordinator.roster().clone(),
            ledger: world.coordinator.ledger().clone(),
            assignments: sets.next().unwrap_or_default(),
            closed: None,
        }
    }

    /// Follows what is told. That everyone is told the same, one after the other, changes nothing.
    pub fn follow(&mut self, message: &ToParticipant) {
        match message {
            ToParticipant::TxAddOutput(output) => {
                let _ = self
                    .roster
                    .add_output(&self.params.coordinator, output.clone());
            }
            ToParticipant::TxRemoveOutput(removal) => {
                let _ = self
                    .roster
                    .remove_output(removal.identity, removal.serial_id);
            }
            ToParticipant::WindowClosed(closed) => {
                let record = closed.record(&self.roster).unwrap();
                let _ = self.ledger.append(&record);
            }
            ToParticipant::Assignments(AssignmentsSet { assignments }) => {
                self.assignments = assignments.clone();
            }
            _ => {}
        }
    }

    /// A closed window in the coordinator's name, the same to everyone: with the head that it leads to,
    /// where it leads anywhere.
    pub fn closed(&mut self, record: WindowRecord) -> ToParticipant {
        let told = self.closed.take();
        let told = told.filter(|told| told.record(&self.roster) == Ok(record.clone()));
        let closed = told.unwrap_or_else(|| window_closed(&self.ledger, &self.roster, record));
        self.closed = Some(closed.clone());
        ToParticipant::WindowClosed(closed)
    }

    pub fn view(&self) -> PlanView<'_> {
        PlanView {
            params: &self.params,
            roster: &self.roster,
            ledger: &self.ledger,
            assignments: &self.assignments,
        }
    }

    /// These inputs, in this state.
    pub fn inputs(&self, inputs: &RoundInputs) -> RoundInputs {
        RoundInputs {
            roster: self.roster.digest(),
            ledger: self.ledger.head(),
            assignments: self.assignments.digest(),
            ..inputs.clone()
        }
    }

    /// What follows from a proposal's inputs and nonces in this state.
    pub fn compute(&self, plan: &ProposedPlan) -> CheckedPlan {
        let inputs = self.inputs(&plan.inputs);
        CheckedPlan::compute(inputs, |_| Ok(plan.nonces.clone()), &self.view()).unwrap()
    }

    /// The same proposal, right from end to end for whoever is in this state.
    pub fn plan(&self, plan: &ProposedPlan) -> ProposedPlan {
        let mut plan = plan.clone();
        plan.inputs.signers.sort_by_key(|signer| signer.key);
        let computed = self.compute(&plan);
        ProposedPlan {
            round: computed.round(),
            inputs: computed.inputs().clone(),
            coinbases: computed.lanes().iter().map(|lane| lane.txid).collect(),
            nonces: plan.nonces,
        }
    }

    /// A direct round of the last proposal's template.
    pub fn direct(&self, world: &World) -> DirectPlan {
        let mut inputs = self.inputs(&last_proposal(world).plan.inputs);
        inputs.signers.clear();
        DirectPlan::compute(inputs, &self.view()).unwrap()
    }
}

/// In the coordinator's name: the record, and the head that it leads to where it leads anywhere.
pub fn window_closed(ledger: &Ledger, roster: &Roster, record: WindowRecord) -> WindowClosed {
    let mut after = ledger.clone();
    let _ = after.append(&record);
    let head = SignedHead::sign(&identity_key(0), after.head(), &AUX);
    WindowClosed::new(record, head, roster)
}

/// In the coordinator's name.
pub fn proposal(plan: ProposedPlan) -> ToParticipant {
    ToParticipant::Proposal(Proposal::sign(&identity_key(0), plan, &AUX))
}

pub fn propose_direct(plan: &DirectPlan, coinbases: &[Transaction]) -> ToParticipant {
    proposal(ProposedPlan {
        round: plan.round(),
        inputs: plan.inputs().clone(),
        coinbases: coinbases.iter().map(txid).collect(),
        nonces: Vec::new(),
    })
}

pub fn txid(coinbase: &Transaction) -> [u8; 32] {
    coinbase.compute_txid().to_byte_array()
}

/// From now on, every proposal is replaced by what `lie` makes of it.
pub fn lie_in_proposals(
    world: &mut World,
    mut lie: impl FnMut(PeerId, &Replica, &ProposedPlan) -> ProposedPlan + 'static,
) {
    let mut replica = Replica::of(world);
    world.lies = Some(Box::new(move |peer, message| {
        replica.follow(&message);
        let ToParticipant::Proposal(told) = message else {
            return vec![message];
        };
        let plan = lie(peer, &replica, &told.plan);
        vec![if plan == told.plan {
            ToParticipant::Proposal(told)
        } else {
            proposal(plan)
        }]
    }));
}

/// The ledger of records that are not the true ones.
pub fn forged_ledger(world: &World, forge: impl Fn(&mut WindowRecord)) -> Ledger {
    use tutti_proto::coordinator::Record;
    let mut ledger = Ledger::default();
    for record in &world.records {
        if let Record::WindowClosed(end) = record {
            let mut record = end.record.clone();
            forge(&mut record);
            record.previous = ledger.head().hash;
            ledger.append(&record).unwrap();
        }
    }
    ledger
}
