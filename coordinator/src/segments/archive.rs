//! The archivist: a thread that follows the store's log, writes what closed windows and found blocks
//! leave behind, and removes what nobody needs any more.
//!
//! It acts on what is in the log alone, so after a restart it goes on where the files end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tutti_proto::coordinator::{Fate, Found, Record};
use tutti_proto::id::{RoundId, WindowSeq};
use tutti_proto::params::PoolParams;
use tutti_proto::segment::{Checkpoint, FileId, OutputChange, WindowEnd};
use tutti_proto::terms::CheckedTerms;
use tutti_proto::window::Ledger;
use tutti_proto::wire::{FILE_LIMIT, FromWire, ToWire};

use super::assemble::assemble;
use super::checkpoint::{last_signed, output_change, state_of};
use super::retention::{Boundaries, Kept};
use super::{CheckpointSource, Directory, Index, KnownTerms, Name, SegmentError};
use crate::news::News;
use crate::priority::give_way;
use crate::store::{Reader, StoreError};

/// Between two tries, when the disk refuses.
const AGAIN: Duration = Duration::from_secs(5);
/// Windows for which terms and payouts of rounds are kept: a round is live for 1,000.
const ROUNDS_KEPT: u64 = 1_100;

/// Windows that the log keeps at least. What is computed from an older state is a live round's at most,
/// which is forgotten after 1,000, or pinned.
const LOG_KEPT: u64 = 2_048;
/// And so many more before it is cut again.
const LOG_CUT: u64 = 4_096;

/// How far the store is, once it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Number of the next record of the log.
    pub log_end: u64,
    /// The store is to keep the shares of this window and later ones: a restart needs them.
    pub shares_from: WindowSeq,
}

/// What the archivist starts from.
pub struct ArchiveSettings {
    /// Where the files are.
    pub directory: Directory,
    /// What is there.
    pub index: Index,
    /// The pool's parameters.
    pub params: PoolParams,
    /// The ledger at the log's end.
    pub ledger: Ledger,
    /// Found blocks that are not settled at the log's end, and whether the best chain has each.
    pub unsettled: Vec<(Found, bool)>,
    /// Found blocks whose verdict is not in the log.
    pub open: Vec<Found>,
    /// How many segments are kept; 0: all.
    pub keep_windows: u64,
    /// Gets the state that the last signed round was computed from.
    pub checkpoint: watch::Sender<Option<CheckpointSlot>>,
}

/// The newest state that a round's signers signed: none, if none ever was.
pub type CheckpointSlot = Option<Arc<CheckpointSource>>;

/// The way to the archivist.
#[derive(Clone)]
pub struct Archive(Sender<Told>);

enum Told {
    Durable(Durable),
    Terms(Arc<CheckedTerms>),
}

impl Archive {
    /// Starts the archivist; also says what it has written.
    pub fn start(
        settings: ArchiveSettings,
        reader: Reader,
        durable: Durable,
    ) -> io::Result<(Self, watch::Receiver<Index>)> {
        let (sender, receiver) = mpsc::channel();
        let (index, watched) = watch::channel(settings.index.clone());
        let archivist = Archivist::new(settings, reader, durable, index);
        std::thread::Builder::new()
            .name("archive".to_owned())
            .spawn(move || {
                give_way();
                archivist.run(&receiver);
            })?;
        Ok((Self(sender), watched))
    }

    /// The store is so far now.
    pub fn wake(&self, durable: Durable) {
        // Its end is told in the log.
        let _ = self.0.send(Told::Durable(durable));
    }

    /// Terms of a round that were computed and not read: nobody need check them again.
    pub fn know(&self, terms: Arc<CheckedTerms>) {
        let _ = self.0.send(Told::Terms(terms));
    }
}

/// A found block that is not settled.
struct Pinned {
    found: Found,
    /// The first window that explains it; none while that is not known.
    from: Option<WindowSeq>,
}

struct Archivist {
    directory: Directory,
    index: watch::Sender<Index>,
    params: PoolParams,
    known: KnownTerms,
    reader: Reader,
    ledger: Ledger,
    bits: Option<u32>,
    keep_windows: u64,
    checkpoint: watch::Sender<Option<CheckpointSlot>>,
    durable: Durable,
    /// The window after which the log begins.
    base: WindowSeq,
    /// The next record of the log.
    next: u64,
    /// Changes of the payee set since the last closing.
    changes: Vec<OutputChange>,
    candidates: BTreeMap<[u8; 32], Found>,
    pinned: BTreeMap<[u8; 32], Pinned>,
    /// Blocks of which a checkpoint is to be written.
    unexplained: Vec<Found>,
    boundaries: Boundaries,
    /// What was so when we forgot last.
    forgotten: Option<(WindowSeq, WindowSeq, usize)>,
}

impl Archivist {
    fn new(
        settings: ArchiveSettings,
        reader: Reader,
        durable: Durable,
        index: watch::Sender<Index>,
    ) -> Self {
        let unsettled = settings.unsettled.iter();
        let in_chain = unsettled.filter(|(_, in_chain)| *in_chain);
        let unexplained = in_chain.map(|(found, _)| found.clone()).collect();
        let pin = |(found, _): (Found, bool)| (found.hash, Pinned { found, from: None });
        let open = settings.open.into_iter();
        let boundaries = Boundaries::after(settings.ledger.seq());
        Self {
            directory: settings.directory,
            index,
            known: KnownTerms::new(settings.params.name()),
            params: settings.params,
            reader,
            ledger: settings.ledger,
            bits: None,
            keep_windows: settings.keep_windows,
            checkpoint: settings.checkpoint,
            durable,
            base: WindowSeq(0),
            next: 0,
            changes: Vec::new(),
            candidates: open.map(|found| (found.hash, found)).collect(),
            pinned: settings.unsettled.into_iter().map(pin).collect(),
            unexplained,
            boundaries,
            forgotten: None,
        }
    }

    fn run(mut self, told: &Receiver<Told>) {
        if let Err(error) = self.begin() {
            News::archive_failed(&error).tell();
        }
        loop {
            let again = match self.catch_up() {
                Ok(()) => None,
                Err(error) => {
                    News::archive_failed(&error).tell();
                    Some(AGAIN)
                }
            };
            let first = match again {
                None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(again) => told.recv_timeout(again),
            };
            match first {
                Ok(first) => [first]
                    .into_iter()
                    .chain(told.try_iter())
                    .for_each(|told| self.hear(told)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Durable(durable) => self.durable = durable,
            Told::Terms(terms) => self.known.note(terms),
        }
    }

    /// Finds where the files end, and the state from which followers may start.
    fn begin(&mut self) -> Result<(), SegmentError> {
        self.base = self
            .reader
            .base()?
            .map_or(WindowSeq(0), |base| base.window());
        let last = self.index.borrow().dealt_with;
        self.next = self.reader.after_closing(last, self.durable.log_end)?;
        let signed = last_signed(&self.reader);
        if let Ok(Some(terms)) = &signed {
            self.bits = Some(terms.inputs.bits);
        }
        let state = signed.and_then(|signed| {
            let end = self.durable.log_end;
            let state = |terms| state_of(&self.reader, end, &self.params.name(), terms);
            signed.map(state).transpose()
        });
        // Without it followers start at the first window that there is.
        let slot = match state {
            Ok(state) => state.map(Arc::new),
            Err(error) => {
                News::archive_failed(&error).tell();
                None
            }
        };
        self.checkpoint.send_if_modified(|known| {
            let fresh = known.is_none();
            if fresh {
                *known = Some(slot);
            }
            fresh
        });
        Ok(())
    }

    fn catch_up(&mut self) -> Result<(), SegmentError> {
        while self.next < self.durable.log_end {
            let record = self.reader.log(self.next)?;
            self.take(record)?;
            self.next = self.next.saturating_add(1);
        }
        while let Some(found) = self.unexplained.last().cloned() {
            match self.explain(&found) {
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => News::block_unexplained(&found.hash, &error).tell(),
                Ok(()) => {}
            }
            self.unexplained.pop();
        }
        self.forget()
    }

    /// Takes the next record. On an error it is taken again.
    fn take(&mut self, record: Record) -> Result<(), SegmentError> {
        if let Some(change) = output_change(&record) {
            self.changes.push(change);
            return Ok(());
        }
        match record {
            Record::WindowClosed(end) => {
                self.close(&end)?;
                self.changes.clear();
                if end.record.seq == self.ledger.seq().next() {
                    self.ledger.append(&end.record)?;
                    let (seq, height) = (end.record.seq, end.record.height);
                    self.boundaries.closed(seq, height, self.counts_from());
                }
            }
            Record::Candidate(found) => drop(self.candidates.insert(found.hash, found)),
            Record::Verdict { hash, accepted } => {
                if let Some(found) = self.candidates.remove(&hash) {
                    if accepted {
                        self.unexplained.push(found.clone());
                    }
                    self.pinned.insert(hash, Pinned { found, from: None });
                }
            }
            Record::BlockFate { hash, fate } => match (fate, self.pinned.get(&hash)) {
                (Fate::Settled, _) => drop(self.pinned.remove(&hash)),
                (Fate::Back, Some(block)) => self.unexplained.push(block.found.clone()),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// Writes a window's segment, if it has none.
    fn close(&mut self, end: &WindowEnd) -> Result<(), SegmentError> {
        let window = end.record.seq;
        let name = Name::Window(window);
        if self.index.borrow().dealt_with >= window {
            return Ok(());
        }
        let began = Instant::now();
        let segment = assemble(
            &self.reader,
            &mut self.known,
            &self.params.name(),
            self.changes.clone(),
            end.clone(),
        );
        let segment = match segment {
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                // Its shares stay in the store, for whoever looks into it.
                self.index.send_modify(|index| index.refuse(window));
                News::segment_refused(window, &error).tell();
                return Ok(());
            }
            Ok(segment) => segment,
        };
        let terms = segment.parts.iter().flat_map(|part| &part.terms);
        self.bits = terms
            .map(|terms| terms.inputs.bits)
            .next_back()
            .or(self.bits);
        let bytes = segment.encode();
        let id = self.directory.write(name, &bytes)?;
        if bytes.len() > FILE_LIMIT {
            News::segment_oversized(window, bytes.len(), FILE_LIMIT).tell();
        }
        let of = (segment.end.record.shares, bytes.len());
        self.index.send_modify(|index| index.add(name, id));
        News::segment(window, &id, of, began.elapsed()).tell();
        Ok(())
    }

    /// Writes what explains a found block's amounts, if that is not there.
    fn explain(&mut self, found: &Found) -> Result<(), SegmentError> {
        let name = Name::Block(found.hash);
        let known = self.index.borrow().file(&name);
        let kept = known.and_then(|id| self.kept_checkpoint(&name, &id));
        let checkpoint = match kept {
            Some(checkpoint) => checkpoint,
            None => self.write_checkpoint(found)?,
        };
        let bits = checkpoint
            .signed
            .as_ref()
            .map(|signed| signed.terms.inputs.bits);
        let (ledger, _) = checkpoint.check()?;
        if let (Some(pinned), Some(bits)) = (self.pinned.get_mut(&found.hash), bits.or(self.bits)) {
            pinned.from = self.params.counts_from(&ledger, bits).ok();
        }
        Ok(())
    }

    /// What was written before; none if it is not that any more.
    fn kept_checkpoint(&self, name: &Name, id: &FileId) -> Option<Checkpoint> {
        let why = match self.directory.read(name, id) {
            Ok(bytes) if FileId::of(&bytes) == *id => match Checkpoint::decode(&bytes) {
                Ok(checkpoint) => return Some(checkpoint),
                Err(why) => why.to_string(),
            },
            Ok(_) => "its bytes are not those of its name".to_owned(),
            Err(why) => why.to_string(),
        };
        News::file_damaged(&self.directory.path(name, id), &why).tell();
        self.index.send_modify(|index| index.remove(name));
        None
    }

    fn write_checkpoint(&self, found: &Found) -> Result<Checkpoint, SegmentError> {
        let window = WindowSeq(found.seq.0.saturating_add(1));
        let terms = self.reader.terms(window, &found.round, None)?;
        let terms = terms.ok_or(SegmentError::NoTerms(found.round))?;
        let state = state_of(
            &self.reader,
            self.durable.log_end,
            &self.params.name(),
            terms,
        )?;
        let checkpoint = state.checkpoint()?;
        let name = Name::Block(found.hash);
        let id = self.directory.write(name, &checkpoint.encode())?;
        self.index.send_modify(|index| index.add(name, id));
        News::block_explained(&found.hash, &id).tell();
        Ok(checkpoint)
    }

    /// Removes what lasts elsewhere, and what the policy lets go.
    fn forget(&mut self) -> Result<(), SegmentError> {
        let dealt_with = self.index.borrow().dealt_with;
        let before = self.durable.shares_from.min(dealt_with.next());
        let now = (dealt_with, before, self.pinned.len());
        if self.forgotten == Some(now) {
            return Ok(());
        }
        for window in self.reader.windows_with_shares(before)? {
            let has_segment = self.index.borrow().file(&Name::Window(window)).is_some();
            if has_segment {
                self.reader.forget_shares(window)?;
            }
        }
        self.forget_rounds(dealt_with)?;
        self.prune()?;
        self.cut_log(dealt_with)?;
        self.forgotten = Some(now);
        Ok(())
    }

    /// Forgets what rounds had in the store that nobody asks for any more.
    fn forget_rounds(&self, dealt_with: WindowSeq) -> Result<(), SegmentError> {
        let rounds = WindowSeq(dealt_with.0.saturating_sub(ROUNDS_KEPT));
        if rounds.0 > 0 {
            let open = self.candidates.values().map(|found| found.round);
            let pinned = self.pinned.values().map(|block| block.found.round);
            let keep: BTreeSet<RoundId> = pinned.chain(open).collect();
            self.reader.forget_rounds(rounds, &keep)?;
        }
        Ok(())
    }

    /// Replaces the log's older part by what it adds up to, once it is long.
    fn cut_log(&mut self, dealt_with: WindowSeq) -> Result<(), SegmentError> {
        let pinned = self.pinned.values().map(|block| &block.found);
        let found = pinned.chain(self.candidates.values());
        let last = dealt_with.0.saturating_sub(LOG_KEPT);
        // A block's amounts follow from the window that its round's proposal closed.
        let last = found.map(|found| found.seq.0).fold(last, u64::min);
        if last < self.base.0.saturating_add(LOG_CUT) {
            return Ok(());
        }
        let began = Instant::now();
        let (pool, end) = (self.params.name(), self.durable.log_end);
        if let Some(base) = self.reader.state_after(WindowSeq(last), &pool, end)? {
            let cut = self.reader.begin_with(&base);
            self.base = base.window();
            match cut {
                Ok(()) => News::log_cut(self.base, began.elapsed()).tell(),
                // It stays so for long: not tried again before as many windows have closed.
                Err(why @ StoreError::Uncut { .. }) => News::archive_failed(&why.into()).tell(),
                Err(why) => return Err(why.into()),
            }
        }
        Ok(())
    }

    /// The first window that has a weight now.
    fn counts_from(&self) -> WindowSeq {
        // Of no round yet: nobody has worked.
        let Some(bits) = self.bits else {
            return self.ledger.seq().next();
        };
        let counts = self.params.counts_from(&self.ledger, bits);
        counts.unwrap_or(WindowSeq(0))
    }

    fn followed_from(&self) -> Option<WindowSeq> {
        let state = self.checkpoint.borrow();
        let state = state.as_ref()?.as_ref()?;
        Some(state.window().next())
    }

    fn prune(&mut self) -> Result<(), SegmentError> {
        if self.bits.is_none() {
            return Ok(());
        }
        let mut pins = self.pinned.values().map(|block| block.from);
        let explains_from = if self.candidates.is_empty() {
            pins.try_fold(None, |first: Option<WindowSeq>, from| {
                let from = from?;
                Some(Some(first.map_or(from, |first| first.min(from))))
            })
        } else {
            None
        };
        // What is not known yet may need any window.
        let Some(explains_from) = explains_from else {
            return Ok(());
        };
        let kept = Kept {
            last: self.ledger.seq(),
            policy: self.keep_windows,
            counts_from: self.counts_from(),
            live_from: self.boundaries.first(),
            explains_from,
            followed_from: self.followed_from(),
        };
        let Some(first) = kept.first() else {
            return Ok(());
        };
        self.index.send_if_modified(|index| {
            index.let_go(first);
            false
        });
        let index = self.index.borrow().before(first);
        for (window, id) in index {
            let name = Name::Window(window);
            // Whoever is reading it reads on.
            self.index.send_modify(|index| index.remove(&name));
            self.directory.remove(&name, &id)?;
            News::segment_pruned(window).tell();
        }
        Ok(())
    }
}
