//! What the core wants done.

use std::time::{Duration, Instant};

use tutti_proto::message::ToCoordinator;
use tutti_proto::participant::{Action, Event, Order};
use tutti_proto::settlement::ChainEnd;

use super::Driver;
use crate::crash::Step;
use crate::miner::{Hasher, MiningJob};
use crate::news::{DaemonEvent, News};

impl Driver {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Send(message) => self.send(&message),
            Action::Mine(orders) => self.mine(&orders),
            Action::Leave => self.end_session(),
            Action::LeaveForGood => {
                self.end_session();
                self.left = true;
            }
            Action::LookUp(claims) => {
                if let Some(settler) = &self.settler {
                    settler.look_up(claims);
                }
            }
            Action::Tell(event) => self.tell(&event),
        }
    }

    fn send(&mut self, message: &ToCoordinator) {
        let Some(session) = &self.session else { return };
        if session.send(message).is_err() {
            // The client says so too, as the end of the session.
            self.session = None;
        } else if matches!(message, ToCoordinator::TxSignatures(_))
            && self.crash.is(Step::SignaturesSent)
        {
            let deadline = Instant::now() + Duration::from_secs(1);
            while !session.is_flushed() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            // From the queue to the socket there is no event to wait for.
            std::thread::sleep(Duration::from_millis(50));
            self.crash.reached(Step::SignaturesSent);
        }
    }

    fn mine(&mut self, orders: &[Order]) {
        self.note_pool_tip(orders);
        let mut jobs = Vec::with_capacity(orders.len());
        for order in orders {
            match MiningJob::try_from(order) {
                Ok(job) => jobs.push(job),
                Err(error) => {
                    let why = &error.to_string();
                    News::from(DaemonEvent::BadOrder { why }).emit();
                }
            }
        }
        let Some(previous_block) = jobs.first().map(|job| job.prev_hash) else {
            self.board.now.hashing_round = None;
            self.hasher.set_jobs(jobs);
            return News::from(DaemonEvent::Idle).emit();
        };
        let slices = jobs.len();
        self.crash.reached(Step::BeforeMine);
        self.hasher.set_jobs(jobs);
        self.crash.reached(Step::AfterMine);
        News::from(DaemonEvent::Mining {
            previous_block,
            slices,
        })
        .emit();
    }

    /// What we are given to hash says which block the coordinator is on.
    fn note_pool_tip(&self, orders: &[Order]) {
        let (Some(settler), Some(order)) = (&self.settler, orders.first()) else {
            return;
        };
        // By the order alone: held rounds of another pool have the same numbers.
        if let Some(height) = order.height.checked_sub(1) {
            settler.pool_tip(ChainEnd {
                height,
                hash: order.previous_block,
            });
        }
    }

    fn tell(&mut self, event: &Event) {
        News::from(event).emit();
        let status = &mut self.board.now;
        match event {
            Event::Joined { coordinator, .. } => {
                if let Some(before) = &self.store.joined(coordinator) {
                    self.core.forget_own_work();
                    let now = coordinator;
                    News::from(DaemonEvent::OtherCoordinator { before, now }).emit();
                }
                self.follow_ledger();
                let status = &mut self.board.now;
                status.connected = true;
                status.coordinator = Some(coordinator.to_string());
            }
            Event::Hashing { seq, .. } => status.hashing_round = Some(seq.0),
            Event::SharesAcknowledged { shares, .. } => {
                let shares = u64::try_from(*shares).unwrap_or(u64::MAX);
                status.shares_acknowledged = status.shares_acknowledged.saturating_add(shares);
            }
            _ => {}
        }
    }
}
