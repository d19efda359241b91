//! Following the shares: every one is checked as it is told, and every record against them, before the
//! amounts that follow from it are signed.
//!
//! A pure state machine. It starts from the empty ledger or from a checkpoint and takes parts and ends
//! in order; after a broken stream it says where to go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{Identity, RoundId, WindowSeq};
use crate::params::PoolName;
use crate::segment::{PackedShare, WindowEnd, WindowPart};
use crate::share::ShareTree;
use crate::terms::{CheckedTerms, Refusal, TermsError};
use crate::window::{Ledger, LedgerError, LedgerHead, Tally};
use crate::work::{Work, WorkOverflow};

/// Windows after its proposal in which a round may be used: one that was signed for the next height
/// waits as long as it takes to find a block. A coordinator forgets it before.
pub const ROUND_WINDOWS: u64 = 1_001;
/// Terms of one window.
pub(crate) const TERMS_LIMIT: usize = 65_536;

/// A round, whichever previous block it is hashed on, and the hashes that were seen of it.
struct Known {
    /// Proposed on this ledger.
    proposed: WindowSeq,
    /// Half of each header's hash, away from the zeros.
    seen: BTreeSet<[u8; 16]>,
}

/// What windows are appended to.
enum Chain {
    /// The whole state: what follows from it is computed.
    State(Ledger),
    /// The head alone: records must name it.
    Head(LedgerHead),
}

/// Checks what it is told.
pub struct Follower {
    pool: PoolName,
    chain: Chain,
    terms: Vec<Arc<CheckedTerms>>,
    shares: ShareTree,
    rounds: BTreeMap<RoundId, Known>,
    checked: u64,
}

/// What is wrong with what we were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// A part or an end of another window.
    #[error("window {got} came where {open} is open")]
    Window {
        /// The open one.
        open: WindowSeq,
        /// What came.
        got: WindowSeq,
    },
    /// Shares are missing, or come again.
    #[error("share {got} of window {window} came where {next} is next")]
    Gap {
        /// The window.
        window: WindowSeq,
        /// The next one.
        next: u64,
        /// What came.
        got: u64,
    },
    /// The terms of a round do not belong together.
    #[error("the terms of a round in window {window}: {error}")]
    Terms {
        /// The window.
        window: WindowSeq,
        /// Why.
        error: TermsError,
    },
    /// More rounds than a window may have.
    #[error("window {0} names more than {TERMS_LIMIT} rounds")]
    TooManyTerms(WindowSeq),
    /// A round that was proposed later, or that is over.
    #[error("a share of round {round:.16} is told in window {window}, before its time or after it")]
    OldRound {
        /// The window.
        window: WindowSeq,
        /// The round.
        round: RoundId,
    },
    /// A share names terms or an owner that are not there.
    #[error("share {share} of window {window} names a round or an owner that is not there")]
    Dangling {
        /// The window.
        window: WindowSeq,
        /// Its place.
        share: u64,
    },
    /// A share is none.
    #[error("share {share} of window {window}, said to be {owner:.16}'s: {refusal}")]
    Share {
        /// The window.
        window: WindowSeq,
        /// Its place.
        share: u64,
        /// Whose it is said to be.
        owner: Identity,
        /// Why it is none.
        refusal: Refusal,
    },
    /// A share was counted before.
    #[error("share {share} of window {window} was counted before")]
    Duplicate {
        /// The window.
        window: WindowSeq,
        /// Its place.
        share: u64,
    },
    /// The record counts other shares.
    #[error("the record of window {window} counts {told} shares, {seen} were told")]
    Count {
        /// The window.
        window: WindowSeq,
        /// What it says.
        told: u64,
        /// What was told.
        seen: u64,
    },
    /// The record gives somebody other work than its shares have.
    #[error("the record of window {window} gives {who:.16} {told} hashes, its shares have {work}")]
    Work {
        /// The window.
        window: WindowSeq,
        /// Who.
        who: Identity,
        /// What it says.
        told: Work,
        /// What the shares have.
        work: Work,
    },
    /// The record has another root.
    #[error("the record of window {0} commits to other shares than were told")]
    Root(WindowSeq),
    /// The record does not follow.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The head is not signed by the coordinator.
    #[error("the head after window {0} is not signed by the coordinator")]
    UnsignedHead(WindowSeq),
    /// A sum overflows.
    #[error("{0}")]
    Overflow(#[from] WorkOverflow),
}

impl Follower {
    /// Follows from the window after the ledger's last.
    pub fn new(pool: PoolName, ledger: Ledger) -> Self {
        Self::on(pool, Chain::State(ledger))
    }

    /// Follows from the window after a head, of which the state is not known: shares, records and heads
    /// are checked, but not that state and carries follow.
    pub fn after(pool: PoolName, head: LedgerHead) -> Self {
        Self::on(pool, Chain::Head(head))
    }

    fn on(pool: PoolName, chain: Chain) -> Self {
        Self {
            pool,
            chain,
            terms: Vec::new(),
            shares: ShareTree::default(),
            rounds: BTreeMap::new(),
            checked: 0,
        }
    }

    /// The open window, and how many of its shares are checked: where to go on.
    pub fn position(&self) -> (WindowSeq, u64) {
        (self.head().seq.next(), self.shares.shares())
    }

    /// The last checked head.
    pub fn head(&self) -> LedgerHead {
        match &self.chain {
            Chain::State(ledger) => ledger.head(),
            Chain::Head(head) => *head,
        }
    }

    /// The ledger up to that head, if its state is known.
    pub fn ledger(&self) -> Option<&Ledger> {
        match &self.chain {
            Chain::State(ledger) => Some(ledger),
            Chain::Head(_) => None,
        }
    }

    /// Follows on with the state of the last checked head, which was not known so far. Says whether it
    /// is that head's.
    pub fn learn(&mut self, ledger: Ledger) -> bool {
        let is_heads = ledger.head() == self.head();
        if is_heads {
            self.chain = Chain::State(ledger);
        }
        is_heads
    }

    /// The round as whose share a header of this hash was counted, unless the round is over.
    pub fn counted_in(&self, hash: &[u8; 32]) -> Option<RoundId> {
        let mut rounds = self.rounds.iter();
        let counted = rounds.find(|(_, known)| known.seen.contains(&half(hash)));
        counted.map(|(round, _)| *round)
    }

    /// Terms of the open window, in the order in which shares name them.
    pub fn terms(&self) -> &[Arc<CheckedTerms>] {
        &self.terms
    }

    /// Shares checked so far.
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// A new stream begins: it tells the window's terms again.
    pub fn resume(&mut self) {
        self.terms.clear();
    }

    /// Takes more of the open window. On an error it is false, and nothing after it can be checked.
    pub fn part(&mut self, part: &WindowPart) -> Result<(), FollowError> {
        let (open, next) = self.position();
        if part.window != open {
            let got = part.window;
            return Err(FollowError::Window { open, got });
        }
        if !part.shares.is_empty() && part.first_share != next {
            let (window, got) = (open, part.first_share);
            return Err(FollowError::Gap { window, next, got });
        }
        for terms in &part.terms {
            let window = open;
            let checked = terms.clone().check(&self.pool);
            let checked = checked.map_err(|error| FollowError::Terms { window, error })?;
            self.note_round(&checked);
            if self.terms.len() >= TERMS_LIMIT {
                return Err(FollowError::TooManyTerms(window));
            }
            self.terms.push(Arc::new(checked));
        }
        for (place, share) in (next..).zip(&part.shares) {
            self.share(open, place, share)?;
        }
        Ok(())
    }

    /// Terms may be of any age: a booking may name a round that is long over.
    fn note_round(&mut self, terms: &CheckedTerms) {
        let proposed = terms.terms().inputs.ledger.seq;
        self.rounds.entry(terms.round()).or_insert_with(|| Known {
            proposed,
            seen: BTreeSet::new(),
        });
    }

    fn share(
        &mut self,
        window: WindowSeq,
        share: u64,
        packed: &PackedShare,
    ) -> Result<(), FollowError> {
        let dangling = FollowError::Dangling { window, share };
        let terms = self.terms.get(usize::from(packed.terms)).ok_or(dangling)?;
        let owner = usize::try_from(packed.owner).ok();
        let owner = owner.and_then(|place| terms.owners().get(place).copied());
        let owner = owner.ok_or(dangling)?;
        let judged = terms.judge(&owner, &packed.rolled);
        let judged = judged.map_err(|refusal| FollowError::Share {
            window,
            share,
            owner,
            refusal,
        })?;
        let round = terms.round();
        let known = self.rounds.get_mut(&round).ok_or(dangling)?;
        let age = window.0.checked_sub(known.proposed.0);
        if age.is_none_or(|age| age == 0 || age > ROUND_WINDOWS) {
            return Err(FollowError::OldRound { window, round });
        }
        if !known.seen.insert(half(&judged.hash)) {
            return Err(FollowError::Duplicate { window, share });
        }
        self.shares.add(&judged.record)?;
        self.checked = self.checked.saturating_add(1);
        Ok(())
    }

    /// The window closes: says the head that is checked now.
    pub fn end(&mut self, end: &WindowEnd) -> Result<LedgerHead, FollowError> {
        let (window, _) = self.position();
        let record = &end.record;
        if record.seq != window {
            let (open, got) = (window, record.seq);
            return Err(FollowError::Window { open, got });
        }
        end.head
            .verify(&self.pool.coordinator)
            .map_err(|_| FollowError::UnsignedHead(window))?;
        check_record(&self.shares, record)?;
        let next = self.append(end)?;
        self.chain = next;
        self.terms.clear();
        self.shares = ShareTree::default();
        self.forget();
        Ok(end.head.head)
    }

    fn append(&self, end: &WindowEnd) -> Result<Chain, LedgerError> {
        let (record, head) = (&end.record, end.head.head);
        let (next, follows) = match &self.chain {
            Chain::State(ledger) => {
                let mut ledger = ledger.clone();
                ledger.append(record)?;
                let follows = ledger.head() == head && ledger.state() == end.state;
                (Chain::State(ledger), follows)
            }
            Chain::Head(previous) if record.previous != previous.hash => {
                return Err(LedgerError::Forked(record.seq));
            }
            Chain::Head(previous) => {
                let digest = record.digest();
                let told = LedgerHead::of(record.seq, &previous.hash, &digest, &end.state);
                (Chain::Head(head), told == head)
            }
        };
        match follows {
            true => Ok(next),
            false => Err(LedgerError::NotThisHead(record.seq)),
        }
    }

    /// Forgets rounds that are too old.
    fn forget(&mut self) {
        let now = self.head().seq.0;
        self.rounds
            .retain(|_, known| now.saturating_sub(known.proposed.0) <= ROUND_WINDOWS);
    }
}

/// The first half of a header's hash: its zeros are at the end. Two shares with one half would take as
/// many hashes to find as 128-bit security asks.
fn half(hash: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

/// Compares a record with the shares that were told.
pub fn check_record(
    shares: &ShareTree,
    record: &crate::window::WindowRecord,
) -> Result<(), FollowError> {
    let window = record.seq;
    if record.shares != shares.shares() {
        let (told, seen) = (record.shares, shares.shares());
        return Err(FollowError::Count { window, told, seen });
    }
    if let Some((who, told, work)) = first_difference(&record.tally, &shares.tally()) {
        return Err(FollowError::Work {
            window,
            who,
            told,
            work,
        });
    }
    match record.shares_root == shares.root() {
        true => Ok(()),
        false => Err(FollowError::Root(window)),
    }
}

/// The first identity to whom two tallies give different work, and what.
fn first_difference(told: &Tally, seen: &Tally) -> Option<(Identity, Work, Work)> {
    let everyone: BTreeSet<&Identity> = told.keys().chain(seen.keys()).collect();
    everyone.into_iter().find_map(|who| {
        let work = |tally: &Tally| tally.get(who).copied();
        let (told, seen) = (work(told), work(seen));
        let sums = (told.unwrap_or_default(), seen.unwrap_or_default());
        (told != seen).then_some((*who, sums.0, sums.1))
    })
}
