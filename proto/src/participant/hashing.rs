//! Jobs and shares: we hash only lanes whose complete payouts are on our disk.

use super::event::FoundShare;
use super::{Action, Event, Order, Participant, Record, Turn};
use crate::header::merkle_root;
use crate::id::{RoundId, RoundSeq};
use crate::lane::Assigned;
use crate::message::{Job, Share, ShareAck, ShareReject, ToCoordinator};
use crate::params::NTIME_ROLL_LIMIT;
use crate::work::Work;

/// Unanswered shares remembered; beyond it the oldest are given up.
const SENT_LIMIT: usize = 65_536;
/// Jobs remembered, for shares that the hasher finds late.
const JOBS_LIMIT: usize = 64;

/// Rounds whose lanes are remembered: the present one, the next height's, and what is just over.
pub(super) const LANES_LIMIT: usize = 64;

/// The lanes of a round that we hold.
pub(super) struct Lanes {
    pub(super) round: RoundId,
    pub(super) seq: RoundSeq,
    pub(super) txids: Vec<[u8; 32]>,
    /// Our slices.
    pub(super) assigned: Vec<Assigned>,
}

/// A share on its way.
pub(super) struct SentShare {
    pub(super) work: Work,
}

impl Participant {
    pub(super) fn job(&mut self, turn: &mut Turn<'_>, job: Job) {
        let Some(joined) = self.joined() else { return };
        let held = joined.lanes.iter().find(|lanes| lanes.round == job.round);
        let Some(lanes) = held else {
            if !joined.refused.contains(&job.round) {
                turn.tell(Event::UnsignedJob { round: job.round });
            }
            return;
        };
        let header = &job.header;
        let rolls = header.time_max.saturating_sub(header.time_min);
        let first = lanes.assigned.first();
        let Some(z) = first.map(|assigned| assigned.z) else {
            return; // It is for others.
        };
        if header.time_min > header.time_max || rolls > NTIME_ROLL_LIMIT {
            return turn.tell(Event::OutOfOrder);
        }
        let orders: Vec<Order> = lanes
            .assigned
            .iter()
            .filter_map(|Assigned { slice, z, .. }| {
                let txid = lanes.txids.get(usize::from(slice.lane.0))?;
                Some(Order {
                    job: job.id,
                    slice: *slice,
                    version: header.version,
                    previous_block: header.previous_block,
                    merkle_root: merkle_root(*txid, &header.merkle_path),
                    bits: header.bits,
                    time_min: header.time_min,
                    time_max: header.time_max,
                    z: *z,
                })
            })
            .collect();
        let event = Event::Hashing { seq: lanes.seq, z };
        if joined.jobs.len() >= JOBS_LIMIT {
            joined.jobs.pop_first();
        }
        joined.jobs.insert(job.id, z);
        turn.out.act(Action::Mine(orders));
        turn.tell(event);
    }

    pub(super) fn share_found(&mut self, turn: &mut Turn<'_>, found: FoundShare) {
        let seq = self.next_share;
        let Some(joined) = self.joined() else { return };
        let Some(z) = joined.jobs.get(&found.job) else {
            return;
        };
        if joined.sent.len() >= SENT_LIMIT {
            joined.sent.pop_first();
        }
        joined.sent.insert(
            seq,
            SentShare {
                work: Work::of_zero_bits(*z),
            },
        );
        self.next_share = seq.saturating_add(1);
        let FoundShare {
            job,
            lane,
            version,
            time,
            nonce,
        } = found;
        turn.send(ToCoordinator::Share(Share {
            seq,
            job,
            lane,
            version,
            time,
            nonce,
        }));
    }

    pub(super) fn share_ack(&mut self, turn: &mut Turn<'_>, ack: &ShareAck) {
        let Some(joined) = self.joined() else { return };
        // Any other window's record is here already or may never come: nothing would be checked.
        let (window, open) = (ack.window, joined.ledger.seq().next());
        if window != open {
            return self.leave(turn, Event::WrongWindow { window, open });
        }
        let answered: Vec<Work> = ack
            .seqs
            .iter()
            .filter_map(|seq| joined.sent.remove(seq))
            .map(|sent| sent.work)
            .collect();
        let shares = answered.len();
        let own = self.own_work.entry(ack.window).or_default();
        *own = answered
            .into_iter()
            .try_fold(*own, Work::checked_add)
            .unwrap_or(*own);
        turn.out.persist(Record::OwnWork {
            window: ack.window,
            work: *own,
        });
        turn.tell(Event::SharesAcknowledged {
            shares,
            window: ack.window,
        });
    }

    pub(super) fn share_reject(&mut self, turn: &mut Turn<'_>, reject: ShareReject) {
        if let Some(joined) = self.joined() {
            joined.sent.remove(&reject.seq);
        }
        turn.tell(Event::ShareRefused(reject));
    }
}
