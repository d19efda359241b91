//! Slots are by far the dearest messages to check: two points on the curve for each nonce, and all signers
//! announce the next ones in the moment in which a round is committed, while its jobs are still on their
//! way. So a thread of their own checks them, which gives way to all others, and no session waits for it
//! with anything else.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;

use tokio::sync::{mpsc, oneshot};
use tutti_proto::message::{SLOTS_LIMIT, ToCoordinator};
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::wire::{FromWire, WireError, pb};

use crate::faults::SLOTS;
use crate::priority::give_way;

/// Messages of one session that wait for the thread; it reads no more of them before one is checked.
const WAITING_LIMIT: usize = 4;

type Checked = Result<ToCoordinator, WireError>;

struct Asked {
    slots: pb::ToCoordinator,
    answer: oneshot::Sender<Checked>,
}

/// The way to the thread, which ends with the last of them. What waits in it is bounded by the sessions
/// that have joined, a few messages of each.
#[derive(Clone)]
pub struct Points {
    asked: mpsc::UnboundedSender<Asked>,
    nonces_per_slot: u16,
}

impl Points {
    /// Starts it, for slots of so many nonces.
    pub fn start(nonces_per_slot: u16) -> io::Result<Self> {
        let (asked, questions) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name(SLOTS.to_owned())
            .spawn(move || {
                give_way();
                answer(questions);
            })?;
        Ok(Self {
            asked,
            nonces_per_slot,
        })
    }
}

fn answer(mut questions: mpsc::UnboundedReceiver<Asked>) {
    while let Some(Asked { slots, answer }) = questions.blocking_recv() {
        // Of a session that is gone nothing needs to be known.
        if answer.is_closed() {
            continue;
        }
        // A fault at one message, which the log has, is none of the others'.
        let checked = catch_unwind(AssertUnwindSafe(|| ToCoordinator::from_wire(slots)));
        if let Ok(checked) = checked {
            let _ = answer.send(checked);
        }
    }
}

/// What one session has asked, in the order in which it was.
pub(super) struct Checking {
    points: Points,
    waiting: VecDeque<oneshot::Receiver<Checked>>,
}

impl Checking {
    pub(super) fn by(points: Points) -> Self {
        Self {
            points,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_LIMIT
    }

    /// Has slots checked, of which there are no more than a participant may announce.
    pub(super) fn ask(&mut self, slots: pb::ToCoordinator) -> Result<(), Reject> {
        let need = usize::from(self.points.nonces_per_slot);
        let (count, nonces) = count(&slots);
        if count > SLOTS_LIMIT || nonces > SLOTS_LIMIT.saturating_mul(need) {
            let detail = format!("at most {SLOTS_LIMIT} unused slots, each with {need} nonces");
            let code = RejectCode::SlotQuota;
            return Err(Reject { code, detail });
        }
        let (answer, checked) = oneshot::channel();
        // The thread ends after all sessions have.
        let _ = self.points.asked.send(Asked { slots, answer });
        self.waiting.push_back(checked);
        Ok(())
    }

    /// The oldest that is not taken yet; never, if there is none.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<ToCoordinator, Reject>> {
        let Some(oldest) = self.waiting.front_mut() else {
            return Poll::Pending;
        };
        let checked = ready!(Pin::new(oldest).poll(context));
        self.waiting.pop_front();
        Poll::Ready(match checked {
            Ok(checked) => checked.map_err(Reject::from),
            Err(_) => Err(Reject {
                code: RejectCode::Malformed,
                detail: "these slots cannot be checked".into(),
            }),
        })
    }
}

/// Slots, and their nonces.
fn count(message: &pb::ToCoordinator) -> (usize, usize) {
    let Some(pb::to_coordinator::Message::Slots(slots)) = &message.message else {
        return (0, 0);
    };
    let slots = &slots.slots;
    let nonces = slots.iter().filter_map(|slot| slot.slot.as_ref());
    let nonces = nonces.map(|slot| slot.nonces.len());
    (slots.len(), nonces.fold(0, usize::saturating_add))
}

/// Whether a message is for the thread.
pub(super) fn is_slots(message: &pb::ToCoordinator) -> bool {
    use pb::to_coordinator::Message;
    matches!(message.message, Some(Message::Slots(_)))
}

#[cfg(test)]
mod tests {
    use tutti_proto::id::Identity;
    use tutti_proto::identity::IdentityKey;
    use tutti_proto::message::{AnnouncedSlot, Slots};
    use tutti_proto::musig::SigningSlot;
    use tutti_proto::wire::ToWire;

    use super::*;

    const NONCES: u16 = 3;

    fn slots(count: usize, nonces: u16) -> pb::ToCoordinator {
        let key = IdentityKey::from_bytes(&mut [7; 32]).unwrap();
        let coordinator: Identity = key.identity();
        let slots = (0..count).map(|_| {
            let (_, public) = SigningSlot::generate(&mut rand::rng(), usize::from(nonces));
            AnnouncedSlot::sign(&key, &coordinator, public, &[1; 32])
        });
        let slots = Slots {
            slots: slots.collect(),
        };
        ToCoordinator::Slots(slots).to_wire()
    }

    fn off_the_curve(mut message: pb::ToCoordinator) -> pb::ToCoordinator {
        if let Some(pb::to_coordinator::Message::Slots(slots)) = &mut message.message {
            let slot = slots.slots[0].slot.as_mut().unwrap();
            slot.nonces[0] = vec![5; slot.nonces[0].len()].into();
        }
        message
    }

    async fn next(checking: &mut Checking) -> Result<ToCoordinator, Reject> {
        std::future::poll_fn(|context| checking.poll_next(context)).await
    }

    fn announced(message: ToCoordinator) -> usize {
        match message {
            ToCoordinator::Slots(slots) => slots.slots.len(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_one_session_asks_is_answered_in_its_order() {
        let mut checking = Checking::by(Points::start(NONCES).unwrap());
        for count in 1..=WAITING_LIMIT {
            assert!(checking.has_room());
            checking.ask(slots(count, NONCES)).unwrap();
        }
        assert!(!checking.has_room());
        for count in 1..=WAITING_LIMIT {
            assert_eq!(announced(next(&mut checking).await.unwrap()), count);
        }
        assert!(checking.has_room());
        // With none there is nothing to wait for.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(checking.poll_next(&mut context).is_pending());
    }

    #[tokio::test]
    async fn a_nonce_that_is_no_point_is_refused_and_the_next_are_not() {
        let mut checking = Checking::by(Points::start(NONCES).unwrap());
        checking.ask(off_the_curve(slots(1, NONCES))).unwrap();
        checking.ask(slots(1, NONCES)).unwrap();
        let refused = next(&mut checking).await.unwrap_err();
        assert_eq!(refused.code, RejectCode::Malformed, "{}", refused.detail);
        assert_eq!(announced(next(&mut checking).await.unwrap()), 1);
    }

    #[tokio::test]
    async fn more_nonces_than_all_slots_have_are_not_checked_at_all() {
        let mut checking = Checking::by(Points::start(NONCES).unwrap());
        checking.ask(slots(SLOTS_LIMIT, NONCES)).unwrap();
        let more = slots(SLOTS_LIMIT, NONCES + 1);
        assert_eq!(checking.ask(more).unwrap_err().code, RejectCode::SlotQuota);
        let mut many = slots(1, NONCES);
        if let Some(pb::to_coordinator::Message::Slots(slots)) = &mut many.message {
            slots.slots = vec![pb::AnnouncedSlot::default(); SLOTS_LIMIT + 1];
        }
        assert_eq!(checking.ask(many).unwrap_err().code, RejectCode::SlotQuota);
        // One with fewer nonces than needed costs no more: the owner of the rounds says what is wrong.
        checking.ask(slots(1, NONCES + 1)).unwrap();
    }
}
