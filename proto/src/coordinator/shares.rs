//! Shares: every check in order, then the open window; and blocks.

use super::live::{GENERATIONS, LiveRound};
use super::{Action, Coordinator, Event, Found, Record, Turn};
use crate::header::assemble_block;
use crate::id::{Identity, PeerId, RoundSeq, WindowSeq};
use crate::message::{Share, ShareAck, ShareReject, ToParticipant};
use crate::reject::RejectCode;
use crate::share::{ShareRecord, ShareTree};
use crate::terms::{Judged, Refusal, Rolled};
use crate::window::{Booking, LedgerHead, WindowRecord};
use crate::work::meets_target;

/// The window that takes shares now.
pub(super) struct OpenWindow {
    pub(super) seq: WindowSeq,
    /// What is mined while it is open, if we were there when it was opened.
    height: Option<u32>,
    shares: ShareTree,
}

impl OpenWindow {
    pub(super) fn after(head: &LedgerHead, height: Option<u32>) -> Self {
        Self {
            seq: head.seq.next(),
            height,
            shares: ShareTree::default(),
        }
    }

    /// Adds a share; says its place. `None` if the sum of work would overflow.
    pub(super) fn add(&mut self, share: &ShareRecord) -> Option<u64> {
        self.shares.add(share).ok()
    }

    pub(super) fn has_work_of(&self, identity: &Identity) -> bool {
        self.shares.tally().contains_key(identity)
    }

    /// Its record; `height` is mined from now on.
    pub(super) fn record(
        &self,
        head: &LedgerHead,
        height: u32,
        bookings: Vec<Booking>,
    ) -> WindowRecord {
        WindowRecord {
            seq: self.seq,
            previous: head.hash,
            shares_root: self.shares.root(),
            shares: self.shares.shares(),
            height: self.height.unwrap_or(height),
            tally: self.shares.tally().clone(),
            bookings,
        }
    }
}

/// A share that passed every check but age.
struct Checked {
    record: ShareRecord,
    hash: [u8; 32],
    block: Option<Vec<u8>>,
    stale_by: u64,
    live: usize,
}

fn refusal(code: RejectCode, got: u64, want: u64) -> Refusal {
    Refusal { code, got, want }
}

impl Coordinator {
    pub(super) fn share(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        share: &Share,
    ) {
        let checked = match self.check_share(identity, share) {
            Ok(checked) => checked,
            Err(refusal) => return refuse(turn, peer, identity, share, refusal),
        };
        // Before anything else, so that a repeated share is a duplicate whatever becomes of this one.
        if checked.stale_by == 0 {
            self.live[checked.live].seen.insert(checked.hash);
        }
        if let Some(block) = checked.block {
            self.submit(turn, &checked.record, checked.hash, checked.live, block);
        }
        if checked.stale_by > 0 {
            let refusal = refusal(RejectCode::Stale, checked.stale_by, GENERATIONS as u64 - 1);
            return refuse(turn, peer, identity, share, refusal);
        }
        let Some(index) = self.window.add(&checked.record) else {
            return;
        };
        if let Some(member) = self.members.get_mut(&identity) {
            member.pace.count_share(checked.record.z);
        }
        let window = self.window.seq;
        turn.out.persist(Record::Share {
            window,
            index,
            share: checked.record,
        });
        turn.send(
            peer,
            ToParticipant::ShareAck(ShareAck {
                window,
                seqs: vec![share.seq],
            }),
        );
        turn.tell(Event::ShareAccepted {
            identity,
            z: checked.record.z,
        });
    }

    fn check_share(&self, identity: Identity, share: &Share) -> Result<Checked, Refusal> {
        let newest = self.live.last().map_or(0, |live| live.job.0);
        // Direct rounds of one number but of other templates share a job's number.
        let given = |live: &LiveRound| live.job == share.job && live.z.contains_key(&identity);
        let place = self.live.iter().rposition(given);
        let place = place.or_else(|| self.live.iter().rposition(|live| live.job == share.job));
        let place = place.ok_or(if share.job.0 > newest {
            refusal(RejectCode::UnknownJob, share.job.0, newest)
        } else {
            let remembered = self.live.len() as u64;
            refusal(RejectCode::Stale, remembered, GENERATIONS as u64 - 1)
        })?;
        let live = &self.live[place];
        let age = self.age(place);
        let stale_by = if age < GENERATIONS { 0 } else { age as u64 };
        // Beyond the generations that are credited, only a block counts.
        let z = live.z.get(&identity).copied();
        let z = z.or((stale_by > 0).then_some(0));
        let z = z.ok_or(refusal(RejectCode::UnknownJob, share.job.0, newest))?;
        let rolled = Rolled {
            lane: share.lane,
            version: share.version,
            time: share.time,
            nonce: share.nonce,
        };
        let Judged {
            record,
            hash,
            zeros,
        } = live.terms.judge_by(z, &identity, &rolled)?;
        if live.seen.contains(&hash) || self.submitted.contains(&hash) {
            return Err(refusal(RejectCode::Duplicate, 0, 0));
        }
        let template = &live.template;
        let is_block = meets_target(&hash, template.bits)
            && self.params.block_zero_bits.is_none_or(|bits| zeros >= bits);
        let block = is_block.then(|| {
            let coinbase = &live.terms.coinbases()[usize::from(share.lane.0)];
            assemble_block(&record.header, coinbase, &template.transactions)
        });
        Ok(Checked {
            record,
            hash,
            block,
            stale_by,
            live: place,
        })
    }

    fn submit(
        &mut self,
        turn: &mut Turn<'_>,
        share: &ShareRecord,
        hash: [u8; 32],
        live: usize,
        block: Vec<u8>,
    ) {
        let live = &self.live[live];
        let found = Found {
            hash,
            height: live.template.height,
            seq: RoundSeq(live.job.0 / 2),
            round: share.round,
            lane: share.lane,
            finder: share.identity,
            carry: live.carry.clone(),
        };
        self.submitted.insert(hash);
        self.candidates.insert(hash, found.clone());
        turn.out.persist(Record::Candidate(found.clone()));
        turn.tell(Event::CandidateFound(found));
        turn.out.act(Action::SubmitBlock { hash, block });
    }
}

fn refuse(
    turn: &mut Turn<'_>,
    peer: PeerId,
    identity: Identity,
    share: &Share,
    Refusal { code, got, want }: Refusal,
) {
    turn.send(
        peer,
        ToParticipant::ShareReject(ShareReject {
            seq: share.seq,
            code,
            got,
            want,
        }),
    );
    turn.tell(Event::ShareRefused { identity, code });
}
