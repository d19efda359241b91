//! Shares: every check in order, then the open window; and blocks.

use super::live::{GENERATIONS, LiveRound};
use super::{Action, Coordinator, Event, Found, Record, Turn};
use crate::header::{HeaderFields, assemble_block};
use crate::id::{Identity, PeerId, RoundSeq, WindowSeq};
use crate::lane::VERSION_MASK;
use crate::message::{Share, ShareAck, ShareReject, ToParticipant};
use crate::reject::RejectCode;
use crate::share::{self, ShareRecord};
use crate::window::{Booking, LedgerHead, Tally, WindowRecord};
use crate::work::{header_hash, leading_zero_bits, meets_target};

/// The window that takes shares now.
pub(super) struct OpenWindow {
    pub(super) seq: WindowSeq,
    /// What is mined while it is open, if we were there when it was opened.
    height: Option<u32>,
    leaves: Vec<[u8; 32]>,
    tally: Tally,
}

impl OpenWindow {
    pub(super) fn after(head: &LedgerHead, height: Option<u32>) -> Self {
        Self {
            seq: head.seq.next(),
            height,
            leaves: Vec::new(),
            tally: Tally::new(),
        }
    }

    /// Adds a share; says its place. `None` if the sum of work would overflow.
    pub(super) fn add(&mut self, share: &ShareRecord) -> Option<u64> {
        let sum = self.tally.get(&share.identity).copied().unwrap_or_default();
        let sum = sum.checked_add(share.work()).ok()?;
        let index = u64::try_from(self.leaves.len()).ok()?;
        self.tally.insert(share.identity, sum);
        self.leaves.push(share.leaf());
        Some(index)
    }

    pub(super) fn has_work_of(&self, identity: &Identity) -> bool {
        self.tally.contains_key(identity)
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
            shares_root: share::merkle_root(&self.leaves),
            shares: u64::try_from(self.leaves.len()).unwrap_or(u64::MAX),
            height: self.height.unwrap_or(height),
            tally: self.tally.clone(),
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

type Refusal = (RejectCode, u64, u64);

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
            let refusal = (RejectCode::Stale, checked.stale_by, GENERATIONS as u64 - 1);
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
            (RejectCode::UnknownJob, share.job.0, newest)
        } else {
            let remembered = self.live.len() as u64;
            (RejectCode::Stale, remembered, GENERATIONS as u64 - 1)
        })?;
        let live = &self.live[place];
        let age = self.age(place);
        let stale_by = if age < GENERATIONS { 0 } else { age as u64 };
        // Beyond the generations that are credited, only a block counts.
        let z = live.z.get(&identity).copied();
        let z = z.or((stale_by > 0).then_some(0));
        let z = z.ok_or((RejectCode::UnknownJob, share.job.0, newest))?;
        let header = self.header(live, &identity, share)?;
        let hash = header_hash(&header);
        let zeros = leading_zero_bits(&hash);
        if zeros < z {
            return Err((RejectCode::LowDifficulty, u64::from(zeros), u64::from(z)));
        }
        if live.seen.contains(&hash) || self.submitted.contains(&hash) {
            return Err((RejectCode::Duplicate, 0, 0));
        }
        let template = &live.template;
        let is_block = meets_target(&hash, template.bits)
            && self.params.block_zero_bits.is_none_or(|bits| zeros >= bits);
        let block = is_block.then(|| {
            let coinbase = &live.coinbases[usize::from(share.lane.0)];
            assemble_block(&header, coinbase, &template.transactions)
        });
        let record = ShareRecord {
            identity,
            round: live.round,
            lane: share.lane,
            z,
            header,
        };
        Ok(Checked {
            record,
            hash,
            block,
            stale_by,
            live: place,
        })
    }

    /// The header of a share, if its fields are this identity's to choose.
    fn header(
        &self,
        live: &LiveRound,
        identity: &Identity,
        share: &Share,
    ) -> Result<[u8; 80], Refusal> {
        let template = &live.template;
        let rolled = (share.version ^ template.version) as u32 & !VERSION_MASK;
        if rolled != 0 {
            let (rolled, mask) = (u64::from(rolled), u64::from(VERSION_MASK));
            return Err((RejectCode::VersionOutOfRange, rolled, mask));
        }
        let slices = live.assignments.of(identity);
        let ours = slices
            .iter()
            .any(|s| s.lane == share.lane && s.contains(share.version, template.version));
        let root = live.roots.get(usize::from(share.lane.0)).copied();
        let merkle_root = root.filter(|_| ours).ok_or((
            RejectCode::NotYourSlice,
            u64::from(share.version as u32),
            u64::from(share.lane.0),
        ))?;
        let time_min = template.time_min.max(template.time);
        let time_max = template.time.saturating_add(self.params.ntime_roll);
        if share.time < time_min || share.time > time_max {
            let bound = share.time.clamp(time_min, time_max);
            let (got, bound) = (u64::from(share.time), u64::from(bound));
            return Err((RejectCode::TimeOutOfRange, got, bound));
        }
        let fields = HeaderFields {
            version: share.version,
            previous_block: template.previous_block,
            merkle_root,
            time: share.time,
            bits: template.bits,
            nonce: share.nonce,
        };
        Ok(fields.serialize())
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
    (code, got, want): Refusal,
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
