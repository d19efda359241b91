//! What the next round needs and can be made before it: our own slot, and the sums of the nonces of
//! those who will most likely sign it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Coordinator, Turn};
use crate::deadline::Millis;
use crate::id::Attempt;
use crate::message::AnnouncedSlot;
use crate::musig::{NoncesAhead, SigningSlot};

/// From a proposal on: by then it is on its way, and the first answers are not there yet.
pub(super) const EXPECT_AFTER: Millis = Millis(20);

/// What is ready of the next proposal.
pub(super) struct Expected {
    pub(super) own: SigningSlot,
    pub(super) own_public: Arc<AnnouncedSlot>,
    pub(super) nonces: Option<NoncesAhead<AnnouncedSlot>>,
}

impl Coordinator {
    /// Prepares a round of those who would sign it now: each with its oldest slot, as it will be taken.
    pub(super) fn expect_signers(&mut self, turn: &mut Turn<'_>) {
        let Some(bits) = self.template.as_ref().map(|template| template.bits) else {
            return;
        };
        let Expected {
            own, own_public, ..
        } = self.take_expected(turn);
        let admitted = self.admitted(turn.now, bits, &BTreeSet::new(), Attempt(0));
        let members = admitted.iter().filter_map(|who| self.members.get(who));
        let slots = members.filter_map(|member| member.slots.front().cloned());
        let slots = slots.chain([own_public.clone()]).collect();
        // Every slot has as many nonces as the most payouts a round can have.
        let nonces = NoncesAhead::start(slots, self.payouts).ok();
        self.expected = Some(Expected {
            own,
            own_public,
            nonces,
        });
    }

    /// What is ready; if nothing is, a slot.
    pub(super) fn take_expected(&mut self, turn: &mut Turn<'_>) -> Expected {
        if let Some(expected) = self.expected.take() {
            return expected;
        }
        let sessions = usize::from(self.params.nonces_per_slot);
        let (own, public) = SigningSlot::generate(&mut *turn.rng, sessions);
        let (me, aux) = (self.identity(), turn.aux());
        let own_public = AnnouncedSlot::sign(&self.key, &me, public, &aux);
        Expected {
            own,
            own_public: Arc::new(own_public),
            nonces: None,
        }
    }
}
