//! The last resort: for those who have no committed round of the present tip to hash on, the coinbase
//! pays the payees itself. Nobody signs, so nobody can stop it.

use std::sync::Arc;

use super::{Committed, Coordinator, Event, LiveRecord, Record, RoundKind, Turn};
use crate::deadline::Deadline;
use crate::id::{Attempt, RoundSeq};
use crate::message::{Proposal, ToParticipant};
use crate::payout::SignedPayouts;
use crate::plan::{DirectPlan, PlanError, ProposedPlan};

impl Coordinator {
    /// Makes a direct round of the present template, for those who have no job on this tip.
    pub(super) fn direct_round(&mut self, turn: &mut Turn<'_>) {
        self.deadlines.disarm(Deadline::Direct);
        let Some(template) = self.template.clone() else {
            return;
        };
        let idle = self.idle();
        if self.params.direct_payees == 0 || idle.is_empty() {
            return;
        }
        self.close_changed_window(turn);
        let seq = RoundSeq(self.ledger.seq().0);
        let inputs = self.inputs(seq, Attempt(0), &template, Vec::new());
        let planned = DirectPlan::compute(inputs, &self.view());
        let checked = planned.and_then(|plan| {
            let room = |coinbase| template.check_room(coinbase);
            plan.coinbases().iter().try_for_each(room)?;
            Ok::<_, PlanError>(plan)
        });
        let plan = match checked {
            Ok(plan) => plan,
            Err(error) => return turn.tell(Event::Unplannable { seq, error }),
        };
        let proposal = ProposedPlan {
            round: plan.round(),
            inputs: plan.inputs().clone(),
            coinbases: plan.txids(),
            nonces: Vec::new(),
        };
        let aux = turn.aux();
        let proposal = Proposal::sign(&self.key, proposal, &aux);
        self.broadcast(turn, ToParticipant::Proposal(proposal));
        self.members
            .values_mut()
            .for_each(|member| member.expect_answers());
        let coinbases = plan.coinbases().to_vec();
        turn.out.persist(Record::Committed(Committed {
            round: plan.round(),
            seq,
            height: template.height,
            coinbases: coinbases.clone(),
            payouts: SignedPayouts::default(),
        }));
        turn.tell(Event::Direct {
            seq,
            height: template.height,
            payees: plan.split().outputs.len(),
        });
        let of = LiveRecord {
            kind: RoundKind::Present,
            round: plan.round(),
            inputs: plan.inputs().clone(),
            coinbases,
            template,
            assignments: self.assignments.clone(),
            carry: plan.carry_changes(&self.view()),
            payees: Vec::new(),
            params: Arc::new(self.params.clone()),
        };
        let shown = self.members.values().map(|member| member.peer).collect();
        self.go_live(turn, Arc::new(of), shown, idle);
    }
}
