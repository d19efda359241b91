//! Bumps of final payouts: credited by the next window whose ledger has their block.

use super::{Action, Coordinator, Event, Record, Turn};
use crate::window::{Booking, CREDITS_LIMIT, Credit, CreditError, WindowRecord};

/// Takes out what a closed window credited.
pub(super) fn forget_credited(credits: &mut Vec<Credit>, record: &WindowRecord) {
    let is_done = |credit: &Credit| record.credits.iter().any(|done| is_same(done, credit));
    credits.retain(|credit| !is_done(credit));
}

fn is_same(one: &Credit, other: &Credit) -> bool {
    (one.block, one.shard) == (other.block, other.shard)
}

impl Coordinator {
    /// Takes a credit, once: whoever gives it may not know whether it is on disk.
    pub(super) fn credit(&mut self, turn: &mut Turn<'_>, credit: Credit) {
        let (block, shard) = (credit.block, credit.shard);
        if !self.credits.iter().any(|known| is_same(known, &credit)) {
            match self.ledger.check_credit(&credit) {
                Err(CreditError::Again) => {}
                Err(error) if !self.waits_for_booking(&credit, error) => {
                    turn.tell(Event::CreditRefused {
                        block,
                        shard,
                        error,
                    });
                }
                Ok(()) | Err(_) => {
                    let credit = Box::new(credit);
                    turn.out.persist(Record::Credit(credit.clone()));
                    self.credits.push((*credit).clone());
                    turn.tell(Event::CreditTaken(credit));
                }
            }
        }
        turn.out.act(Action::CreditDone { block, shard });
    }

    /// A block that the chain has, and that a window is yet to book.
    fn waits_for_booking(&self, credit: &Credit, error: CreditError) -> bool {
        let mut blocks = self.blocks.iter();
        error == CreditError::NotBooked
            && blocks.any(|block| block.found.hash == credit.block && block.in_chain)
    }

    /// What the next window credits, beside these bookings.
    pub(super) fn due_credits(&self, bookings: &[Booking]) -> Vec<Credit> {
        let changes = |credit: &Credit| bookings.iter().any(|b| b.block == credit.block);
        let due = self.credits.iter().filter(|credit| !changes(credit));
        let due = due.filter(|credit| self.ledger.check_credit(credit).is_ok());
        due.take(CREDITS_LIMIT).cloned().collect()
    }

    /// Notes what a closed window credited, and gives up what none can credit any more.
    pub(super) fn note_credited(&mut self, turn: &mut Turn<'_>, record: &WindowRecord) {
        for credit in &record.credits {
            let (window, credit) = (record.seq, Box::new(credit.clone()));
            turn.tell(Event::Credited { window, credit });
        }
        forget_credited(&mut self.credits, record);
        for credit in std::mem::take(&mut self.credits) {
            match self.ledger.check_credit(&credit) {
                Err(error) if !self.waits_for_booking(&credit, error) => {
                    turn.tell(Event::CreditRefused {
                        block: credit.block,
                        shard: credit.shard,
                        error,
                    });
                }
                Ok(()) | Err(_) => self.credits.push(credit),
            }
        }
    }
}
