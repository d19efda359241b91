//! The thread that packs what happens into frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bitcoin::Transaction;
use tokio::sync::watch;
use tutti_proto::coordinator::Coordinator;
use tutti_proto::id::{RoundId, WindowSeq};
use tutti_proto::message::SignedHead;
use tutti_proto::params::PoolName;
use tutti_proto::roster::Roster;
use tutti_proto::segment::{OutputChange, WindowEnd, WindowPart};
use tutti_proto::share::ShareRecord;
use tutti_proto::terms::RoundTerms;
use tutti_proto::window::Ledger;

use super::live::{Frame, Live};
use super::{FeedError, Told};
use crate::news::News;
use crate::segments::{
    CheckpointSlot, CheckpointSource, Index, PackError, Packer, SegmentError, end_frame,
    output_change, part_frame, tip,
};
use crate::store::Reader;

/// Shares of one frame.
const SHARES_OF_FRAME: usize = 16_384;
/// Shortest time between two frames of shares of the open window.
const SPACING: Duration = Duration::from_millis(20);
/// And so much for each follower, whom a frame costs that much of a core.
const SPACING_OF_FOLLOWER: Duration = Duration::from_micros(200);
/// After so many frames of one window the spacing is twice as long, and so on.
const FRAMES_OF_WINDOW: usize = 1_024;
/// Rounds whose terms are at hand; those of others are in the store.
const ROUNDS: usize = 8;

pub(super) struct Publisher {
    pool: PoolName,
    reader: Reader,
    live: watch::Sender<Live>,
    checkpoint: watch::Sender<Option<CheckpointSlot>>,
    index: watch::Receiver<Index>,
    window: WindowSeq,
    packer: Packer,
    /// What is not published yet.
    part: WindowPart,
    shares: u64,
    broken: bool,
    published: Instant,
    rounds: VecDeque<(RoundId, RoundTerms)>,
    payouts: VecDeque<(RoundId, Transaction)>,
    ledger: Ledger,
    /// Of the last window that closed while we were there.
    head: Option<SignedHead>,
    roster: Roster,
    /// The payee set when the last window closed, and what changed since.
    at_closing: Arc<Roster>,
    changes: Vec<OutputChange>,
}

impl Publisher {
    pub(super) fn new(
        coordinator: &Coordinator,
        reader: Reader,
        (checkpoint, index): (
            watch::Sender<Option<CheckpointSlot>>,
            watch::Receiver<Index>,
        ),
    ) -> (Self, watch::Receiver<Live>) {
        let ledger = coordinator.ledger().clone();
        let window = ledger.seq().next();
        let (live, watched) = watch::channel(Live::new(window));
        let publisher = Self {
            pool: coordinator.params().name(),
            reader,
            live,
            checkpoint,
            index,
            window,
            packer: Packer::default(),
            part: WindowPart {
                window,
                ..WindowPart::default()
            },
            shares: 0,
            broken: false,
            published: Instant::now(),
            rounds: VecDeque::new(),
            payouts: VecDeque::new(),
            ledger,
            head: None,
            roster: coordinator.roster().clone(),
            at_closing: Arc::default(),
            changes: Vec::new(),
        };
        (publisher, watched)
    }

    pub(super) fn checkpoints(&self) -> watch::Receiver<Option<CheckpointSlot>> {
        self.checkpoint.subscribe()
    }

    /// The open window as the store has it.
    pub(super) fn restore(&mut self, log_end: u64) -> Result<(), FeedError> {
        let first = self.reader.after_closing(self.ledger.seq(), log_end)?;
        for number in first..log_end {
            if let Some(change) = output_change(&self.reader.log(number)?) {
                self.part.outputs.push(change);
            }
        }
        let mut shares = Vec::new();
        let reader = self.reader.clone();
        reader.shares(self.window, |share| shares.push(share))?;
        for share in shares {
            self.share(&share);
        }
        self.publish();
        Ok(())
    }

    /// Runs until the owner of the rounds is gone.
    pub(super) fn run(mut self, told: &Receiver<Vec<Told>>) {
        loop {
            let batch = match self.due() {
                None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(within) => told.recv_timeout(within),
            };
            match batch {
                Ok(batch) => {
                    let batches = std::iter::once(batch).chain(told.try_iter());
                    batches.flatten().for_each(|told| self.take(told));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.due() == Some(Duration::ZERO) {
                self.publish();
            }
        }
    }

    /// When what waits is to be published; none if nothing does.
    fn due(&self) -> Option<Duration> {
        if self.part.shares.is_empty() && self.part.outputs.is_empty() {
            return None;
        }
        let followers = u32::try_from(self.live.receiver_count()).unwrap_or(u32::MAX);
        let frames = self.live.borrow().frames() / FRAMES_OF_WINDOW;
        let times = u32::try_from(frames).unwrap_or(u32::MAX).saturating_add(1);
        let spacing = SPACING.saturating_add(SPACING_OF_FOLLOWER.saturating_mul(followers));
        let spacing = spacing.saturating_mul(times);
        Some(spacing.saturating_sub(self.published.elapsed()))
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Share(share) => self.share(&share),
            Told::Output(change) => {
                // The owner made the change: it can be made.
                let _ = change.apply(&self.pool, &self.ledger, &mut self.roster);
                self.part.outputs.push(change.clone());
                self.changes.push(change);
            }
            Told::Payout(round, payout) => remember(&mut self.payouts, (round, *payout)),
            Told::Terms(round, terms) => {
                self.signed(round, &terms);
                remember(&mut self.rounds, (round, *terms));
            }
            Told::End(end) => self.end(&end),
        }
    }

    fn share(&mut self, share: &ShareRecord) {
        if self.broken {
            return;
        }
        if let Err(error) = self.try_share(share) {
            self.break_off(&error);
        }
    }

    fn break_off(&mut self, error: &SegmentError) {
        News::feed_broken(self.window, error).tell();
        self.broken = true;
        self.live.send_modify(Live::break_off);
    }

    fn try_share(&mut self, share: &ShareRecord) -> Result<(), SegmentError> {
        let mut packed = self.packer.pack(share);
        if packed == Err(PackError::NoTerms) {
            self.tell_terms(&share.round, tip(&share.header))?;
            packed = self.packer.pack(share);
        }
        let packed = packed.map_err(|source| self.unpacked(source))?;
        self.part.shares.push(packed);
        self.shares = self.shares.saturating_add(1);
        if self.part.shares.len() >= SHARES_OF_FRAME {
            self.publish();
        }
        Ok(())
    }

    fn unpacked(&self, source: PackError) -> SegmentError {
        let (window, share) = (self.window, self.shares);
        SegmentError::Pack {
            window,
            share,
            source,
        }
    }

    fn tell_terms(&mut self, round: &RoundId, tip: [u8; 32]) -> Result<(), SegmentError> {
        let mut rounds = self.rounds.iter();
        let wanted = |terms: &RoundTerms| tip == terms.header.previous_block;
        let known = rounds.find(|(other, terms)| other == round && wanted(terms));
        let terms = match known {
            Some((_, terms)) => Some(terms.clone()),
            None => self.reader.terms(self.window, round, Some(tip))?,
        };
        let terms = terms.ok_or(SegmentError::NoTerms(*round))?;
        let told = self.packer.tell(*round, &terms);
        told.map_err(|source| self.unpacked(source))?;
        // The terms of a part stand before its shares.
        if !self.part.shares.is_empty() {
            self.publish();
        }
        self.part.terms.push(terms);
        Ok(())
    }

    /// A signed round may be hashed: whoever comes now starts from what its signers signed.
    fn signed(&mut self, round: RoundId, terms: &RoundTerms) {
        let payout = self.payouts.iter().find(|(other, _)| *other == round);
        let current = terms.inputs.ledger == self.ledger.head();
        let (Some((_, payout)), true, Some(head)) = (payout, current, self.head) else {
            return;
        };
        let source = CheckpointSource::new(
            self.pool,
            (self.ledger.clone(), head),
            (self.at_closing.clone(), self.changes.clone()),
            terms.clone(),
            Some(payout.clone()),
        );
        self.checkpoint.send_replace(Some(Some(Arc::new(source))));
    }

    fn end(&mut self, end: &WindowEnd) {
        for booking in &end.record.bookings {
            let previous = booking.previous_block();
            if self.broken || self.packer.knows(&booking.round, previous) {
                continue;
            }
            let Err(error) = self.tell_terms(&booking.round, previous) else {
                continue;
            };
            if self.ledger.block(&booking.block).is_some() {
                // Whoever follows has compared it when it was booked first.
                News::feed_broken(self.window, &error).tell();
            } else {
                // Without them it looks like a block of no round, and us like liars.
                self.break_off(&error);
            }
        }
        self.publish();
        let frame = Frame {
            bytes: end_frame(end),
            first: self.shares,
            end: self.shares,
            more: true,
        };
        let written = self.index.borrow().dealt_with;
        self.live.send_modify(|live| live.close(frame, written));
        self.window = end.record.seq.next();
        self.packer = Packer::default();
        (self.shares, self.broken) = (0, false);
        self.part = WindowPart {
            window: self.window,
            ..WindowPart::default()
        };
        // From here on nobody waits.
        if self.ledger.append(&end.record).is_ok() {
            self.head = Some(end.head);
            self.at_closing = Arc::new(self.roster.clone());
            self.changes.clear();
        }
    }

    fn publish(&mut self) {
        self.published = Instant::now();
        let next = WindowPart {
            window: self.window,
            first_share: self.shares,
            ..WindowPart::default()
        };
        let part = std::mem::replace(&mut self.part, next);
        let more = !(part.terms.is_empty() && part.outputs.is_empty());
        if self.broken || !more && part.shares.is_empty() {
            return;
        }
        let frame = Frame {
            bytes: part_frame(&part),
            first: part.first_share,
            end: self.shares,
            more,
        };
        self.live.send_modify(|live| live.push(frame));
    }
}

fn remember<T>(list: &mut VecDeque<T>, what: T) {
    if list.len() >= ROUNDS {
        list.pop_front();
    }
    list.push_back(what);
}
