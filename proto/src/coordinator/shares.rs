//! Shares: every check in order, then the open window; and blocks.

use super::live::{Credit, GENERATIONS, LiveRound};
use super::{Action, Coordinator, Event, Found, Record, Turn};
use crate::header::{HeaderFields, assemble_block};
use crate::id::{Identity, PeerId, WindowSeq};
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

/// Why a share is not taken.
enum NotTaken {
    Refused(Refusal),
    /// It was taken before, on the round at this place.
    Before {
        live: usize,
        hash: [u8; 32],
    },
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Coordinator {
    pub(super) fn share(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        share: &Share,
    ) {
        let rate = self.share_rates.entry(identity).or_default();
        let in_time = rate.take(turn.now, &self.settings);
        let checked = self.check_share(identity, share);
        // A block is a block, however many shares came before it.
        let is_block = checked
            .as_ref()
            .is_ok_and(|checked| checked.block.is_some());
        if let Err(wait) = in_time
            && !is_block
        {
            if let (Ok(checked), Some(member)) = (checked, self.members.get_mut(&identity)) {
                member.pace.count_share(checked.record.z);
            }
            let allowed = u64::from(self.settings.shares_per_second);
            let refusal = (RejectCode::RateLimited, wait, allowed);
            return refuse(turn, peer, identity, share, refusal);
        }
        let checked = match checked {
            Ok(checked) => checked,
            Err(NotTaken::Refused(refusal)) => {
                return refuse(turn, peer, identity, share, refusal);
            }
            Err(NotTaken::Before { live, hash }) => {
                return self.share_again(turn, peer, identity, share, (live, hash));
            }
        };
        let window = self.window.seq;
        // Before anything else, so that a repeated share is a duplicate whatever becomes of this one.
        if checked.stale_by == 0 {
            let told = Some(peer);
            let seen = &mut self.live[checked.live].seen;
            seen.insert(checked.hash, Credit { window, told });
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

    /// A share that was taken before. Of this session it is a mistake; of one before, what told that it
    /// was taken may be lost, and is told again where that can still be checked against a record to come.
    fn share_again(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        share: &Share,
        (live, hash): (usize, [u8; 32]),
    ) {
        let open = self.window.seq;
        let Some(credit) = self.live[live].seen.get_mut(&hash) else {
            return;
        };
        if credit.window != open || credit.told == Some(peer) {
            let refusal = (RejectCode::Duplicate, credit.window.0, open.0);
            return refuse(turn, peer, identity, share, refusal);
        }
        credit.told = Some(peer);
        turn.send(
            peer,
            ToParticipant::ShareAck(ShareAck {
                window: open,
                seqs: vec![share.seq],
            }),
        );
        turn.tell(Event::ShareAgain { identity });
    }

    fn check_share(&self, identity: Identity, share: &Share) -> Result<Checked, NotTaken> {
        let newest = self.live.last().map_or(0, |live| live.of.job().0);
        // Direct rounds of one number but of other templates share a job's number.
        let named = |live: &LiveRound| live.of.job() == share.job;
        let given = |live: &LiveRound| named(live) && live.z.contains_key(&identity);
        let place = self.live.iter().rposition(given);
        let place = place.or_else(|| self.live.iter().rposition(named));
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
            return Err((RejectCode::LowDifficulty, u64::from(zeros), u64::from(z)).into());
        }
        if live.seen.contains_key(&hash) {
            return Err(NotTaken::Before { live: place, hash });
        }
        if self.submitted.contains(&hash) {
            return Err((RejectCode::Duplicate, 0, self.window.seq.0).into());
        }
        let template = &live.of.template;
        let is_block = meets_target(&hash, template.bits)
            && self.params.block_zero_bits.is_none_or(|bits| zeros >= bits);
        let block = is_block.then(|| {
            let coinbase = &live.of.coinbases[usize::from(share.lane.0)];
            assemble_block(&header, coinbase, &template.transactions)
        });
        let record = ShareRecord {
            identity,
            round: live.of.round,
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
        let template = &live.of.template;
        let rolled = (share.version ^ template.version) as u32 & !VERSION_MASK;
        if rolled != 0 {
            let (rolled, mask) = (u64::from(rolled), u64::from(VERSION_MASK));
            return Err((RejectCode::VersionOutOfRange, rolled, mask));
        }
        let slices = live.of.assignments.of(identity);
        let ours = slices
            .iter()
            .any(|s| s.lane == share.lane && s.contains(share.version, template.version));
        let root = live.roots.get(usize::from(share.lane.0)).copied();
        let merkle_root = root.filter(|_| ours).ok_or((
            RejectCode::NotYourSlice,
            u64::from(share.version as u32),
            u64::from(share.lane.0),
        ))?;
        let (time_min, time_max) = live.of.times();
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
        let live = &self.live[live].of;
        let found = Found {
            hash,
            height: live.template.height,
            seq: live.seq,
            round: share.round,
            lane: share.lane,
            finder: share.identity,
            carry: live.carry.clone(),
            header: Some(share.header),
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
