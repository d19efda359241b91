//! Shares: every check in order, then the open window; and blocks.

use super::changes::Changes;
use super::live::{Credit, GENERATIONS, LiveRound};
use super::member::{Member, REFUSED_LIMIT};
use super::{Action, Coordinator, Event, Found, Record, Turn};
use crate::header::assemble_block;
use crate::id::{Identity, PeerId, WindowSeq};
use crate::message::{Share, ShareAck, ShareReject, ToParticipant};
use crate::reject::{Reject, RejectCode};
use crate::share::{ShareRecord, ShareTree};
use crate::terms::{Judged, Refusal, Rolled};
use crate::window::{self, Booking, LedgerHead, WindowRecord};
use crate::work::meets_target;

/// The window that takes shares now.
pub(super) struct OpenWindow {
    pub(super) seq: WindowSeq,
    /// What is mined while it is open; none of the ledger's first.
    height: Option<u32>,
    shares: ShareTree,
    /// Changes of the payee set in it.
    pub(super) changes: Changes,
}

impl OpenWindow {
    pub(super) fn after(head: &LedgerHead, height: Option<u32>) -> Self {
        Self {
            seq: head.seq.next(),
            height,
            shares: ShareTree::default(),
            changes: Changes::default(),
        }
    }

    /// Adds a share; says its place. `None` if the sum of work would overflow.
    pub(super) fn add(&mut self, share: &ShareRecord) -> Option<u64> {
        self.shares.add(share).ok()
    }

    pub(super) fn has_work_of(&self, identity: &Identity) -> bool {
        self.shares.has_work_of(identity)
    }

    /// Its record; `height` is mined from now on.
    pub(super) fn record(
        &self,
        head: &LedgerHead,
        height: u32,
        bookings: Vec<Booking>,
        credits: Vec<window::Credit>,
    ) -> WindowRecord {
        WindowRecord {
            seq: self.seq,
            previous: head.hash,
            shares_root: self.shares.root(),
            shares: self.shares.shares(),
            height: self.height.unwrap_or(height),
            tally: self.shares.tally(),
            bookings,
            credits,
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
        let Some(member) = self.members.get_mut(&identity) else {
            return;
        };
        let in_time = member.share_rate.take(turn.now, &self.settings);
        let checked = self.check_share(identity, share);
        // A block is a block, however many shares came before it.
        let is_block = checked
            .as_ref()
            .is_ok_and(|checked| checked.block.is_some());
        if let Err(wait) = in_time
            && !is_block
        {
            let allowed = u64::from(self.settings.shares_per_second);
            let refusal = refusal(RejectCode::RateLimited, wait, allowed);
            if let Err(NotTaken::Refused(_)) = checked {
                return self.refuse_bad(turn, peer, identity, share, refusal);
            }
            // It comes again, and is measured, or found to be counted, when there is time for it.
            return refuse(turn, peer, identity, share, refusal);
        }
        let checked = match checked {
            Ok(checked) => checked,
            Err(NotTaken::Refused(refusal)) => {
                return self.refuse_bad(turn, peer, identity, share, refusal);
            }
            Err(NotTaken::Before { live, hash }) => {
                return self.share_again(turn, peer, identity, share, (live, hash));
            }
        };
        let window = self.window.seq;
        // Before anything else, so that a repeated share is a duplicate whatever becomes of this one.
        let given = &mut self.live[checked.live].given;
        if checked.stale_by == 0
            && let Some(given) = given.get_mut(&identity)
        {
            let told = Some(peer);
            given.seen.insert(checked.hash, Credit { window, told });
        }
        if let Some(block) = checked.block {
            self.submit(turn, &checked.record, checked.hash, checked.live, block);
        }
        if checked.stale_by > 0 {
            let refusal = refusal(RejectCode::Stale, checked.stale_by, GENERATIONS as u64 - 1);
            return self.refuse_bad(turn, peer, identity, share, refusal);
        }
        let Some(index) = self.window.add(&checked.record) else {
            return;
        };
        if let Some(member) = self.members.get_mut(&identity) {
            member.pace.count_share(turn.now, checked.record.z);
            member.share_accepted();
        }
        turn.out.persist(Record::Share {
            window,
            index,
            share: checked.record,
        });
        turn.out.act(Action::AcceptShare {
            peer,
            window,
            seq: share.seq,
            identity,
            z: checked.record.z,
        });
    }

    /// Refuses a share that no rate would make good; whoever goes on sending such does not listen.
    fn refuse_bad(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        share: &Share,
        refusal: Refusal,
    ) {
        refuse(turn, peer, identity, share, refusal);
        let member = self.members.get_mut(&identity);
        if member.is_some_and(Member::share_refused) {
            let code = RejectCode::RateLimited;
            let detail = format!("more than {REFUSED_LIMIT} bad shares in a row");
            self.close(turn, peer, Reject { code, detail });
        }
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
        let given = self.live[live].given.get_mut(&identity);
        let Some(credit) = given.and_then(|given| given.seen.get_mut(&hash)) else {
            return;
        };
        if credit.window != open || credit.told == Some(peer) {
            let refusal = refusal(RejectCode::Duplicate, credit.window.0, open.0);
            return self.refuse_bad(turn, peer, identity, share, refusal);
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
        let rounds = || self.live.iter().enumerate().rev();
        let given = rounds().find_map(|(place, live)| {
            let given = named(live).then(|| live.given.get(&identity)).flatten();
            given.map(|given| (place, Some(given)))
        });
        let not_given = || rounds().find(|(_, live)| named(live));
        let place = given.or_else(|| not_given().map(|(place, _)| (place, None)));
        let (place, given) = place.ok_or(if share.job.0 > newest {
            refusal(RejectCode::UnknownJob, share.job.0, newest)
        } else {
            let remembered = self.live.len() as u64;
            refusal(RejectCode::Stale, remembered, GENERATIONS as u64 - 1)
        })?;
        let live = &self.live[place];
        // Of a round that was given up for credit, whatever its age, only a block counts.
        let age = self.age(place);
        let stale_by = match live.credits && age < GENERATIONS {
            true => 0,
            false => age.max(GENERATIONS) as u64,
        };
        // Beyond the generations that are credited, only a block counts.
        let judged_by = given.map(|given| (given.z, &given.slices[..]));
        let by_none = || (0, live.of.assignments.of(&identity));
        let judged_by = judged_by.or_else(|| (stale_by > 0).then(by_none));
        let (z, slices) = judged_by.ok_or_else(|| {
            let mut given = rounds().filter(|(_, live)| live.given.contains_key(&identity));
            let newest = given.next().map_or(0, |(_, live)| live.of.job().0);
            refusal(RejectCode::UnknownJob, share.job.0, newest)
        })?;
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
        } = live.terms.judge_by(z, slices, &identity, &rolled)?;
        if given.is_some_and(|given| given.seen.contains_key(&hash)) {
            return Err(NotTaken::Before { live: place, hash });
        }
        if self.submitted.contains(&hash) {
            return Err(refusal(RejectCode::Duplicate, 0, self.window.seq.0).into());
        }
        let template = &live.of.template;
        let is_block = meets_target(&hash, template.bits)
            && self.params.block_zero_bits.is_none_or(|bits| zeros >= bits);
        let block = is_block.then(|| {
            let coinbase = &live.of.coinbases[usize::from(share.lane.0)];
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
        let live = &self.live[live].of;
        let found = Found {
            hash,
            height: live.template.height,
            seq: live.seq(),
            round: share.round,
            lane: share.lane,
            finder: share.identity,
            carry: live.carry.clone(),
            payouts: live.payouts(share.lane),
            payees: live.payees.clone(),
            header: share.header,
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
