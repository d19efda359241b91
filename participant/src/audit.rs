//! `tutti-participant audit`: checks closed windows from their files alone, without configuration, node
//! or network, and explains found blocks.

mod block;
mod checkpoints;
mod outcome;
mod sources;
mod text;
mod why;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use thiserror::Error;
use tutti_proto::audit::{
    AuditError, Auditor, BookingReport, HeaderError, WindowReport, WinningShare,
};
use tutti_proto::id::{Identity, LaneIndex, WindowSeq};
use tutti_proto::params::PoolName;
use tutti_proto::segment::Segment;

use crate::segments::{FileError, Kept, read};

use checkpoints::{Broken, Whole};
pub use outcome::Outcome;
use outcome::{BlockRow, CreditRow, Work};
use sources::{Sources, WindowFile};

/// On a terminal, progress is told so often.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What to audit.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AuditArgs {
    /// Segments and checkpoints, or directories of them.
    #[arg(value_name = "PATH", default_value = ".")]
    pub paths: Vec<PathBuf>,
    /// Audit one window.
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "to", "block"])]
    pub window: Option<u64>,
    /// Audit from this window on.
    #[arg(long, value_name = "A")]
    pub from: Option<u64>,
    /// Audit up to this window.
    #[arg(long, value_name = "B")]
    pub to: Option<u64>,
    /// Explain this found block, to the sat.
    #[arg(long, value_name = "HASH")]
    pub block: Option<BlockHash>,
    /// The block's header, 80 bytes of hex: needed if the share that made it was not counted.
    #[arg(long, value_name = "HEX", requires = "block", value_parser = header)]
    pub header: Option<[u8; 80]>,
    /// The coordinator that the files must be of; without it, it says whose they are.
    #[arg(long, value_name = "IDENTITY", value_parser = identity)]
    pub coordinator: Option<Identity>,
    /// Show why this participant gets its amounts.
    #[arg(long, value_name = "IDENTITY", value_parser = identity)]
    pub identity: Option<Identity>,
}

impl AuditArgs {
    /// Whether less is asked for than all that was named.
    fn is_of_a_part(&self) -> bool {
        self.block.is_some() || self.is_of_windows()
    }

    /// Whether windows are asked for, and nothing that a checkpoint alone could say.
    fn is_of_windows(&self) -> bool {
        let windows = [self.window, self.from, self.to];
        self.block.is_none() && windows.iter().any(Option::is_some)
    }
}

fn identity(text: &str) -> Result<Identity, String> {
    crate::proof::identity(text)
        .ok_or_else(|| "not an identity: 64 hex digits of an x-only key".to_owned())
}

fn header(text: &str) -> Result<[u8; 80], String> {
    let bytes = hex::decode(text).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "not a header: 160 hex digits".to_owned())
}

/// The first thing that is not as it is said to be.
#[derive(Debug, Error)]
pub enum Difference {
    #[error("{0}")]
    File(#[from] FileError),
    #[error("window {window} has two segments: {} and {}", first.display(), second.display())]
    TwoSegments {
        window: WindowSeq,
        first: PathBuf,
        second: PathBuf,
    },
    #[error("{}: {error}", path.display())]
    Audit {
        path: PathBuf,
        error: Box<AuditError>,
    },
    #[error("block {block}: {error}")]
    Header {
        block: BlockHash,
        error: HeaderError,
    },
    #[error(
        "block {block} is booked on lane {claimed}, its header is share {} of window {} on lane {}",
        found.share, found.window, found.lane
    )]
    Lane {
        block: BlockHash,
        claimed: LaneIndex,
        found: Box<WinningShare>,
    },
}

/// One audit.
struct Audit<'a> {
    args: &'a AuditArgs,
    sources: Sources,
    checkpoints: Vec<Whole>,
    broken: Vec<Broken>,
    outcome: Outcome,
    /// The booking of the block that is to be explained, and its window.
    booked: Option<(WindowSeq, BookingReport)>,
    /// Of the run of windows that has the one after which the block's checkpoint is.
    met: Option<Auditor>,
    started: Instant,
    told: Instant,
}

/// Audits; an error is that there is nothing to audit.
pub fn audit(args: &AuditArgs) -> anyhow::Result<Outcome> {
    let now = Instant::now();
    let mut audit = Audit {
        args,
        sources: Sources::default(),
        checkpoints: Vec::new(),
        broken: Vec::new(),
        outcome: Outcome::default(),
        booked: None,
        met: None,
        started: now,
        told: now,
    };
    match audit.run()? {
        Ok(()) => audit.outcome.holds = true,
        // The disk failed, and not the pool.
        Err(Difference::File(error @ FileError::Unreadable { .. })) => {
            bail!("{error}; nothing was found out: audit again once it can be read")
        }
        Err(difference) => audit.outcome.difference = Some(difference.to_string()),
    }
    if std::io::stderr().is_terminal() && audit.told != audit.started {
        eprintln!();
    }
    audit.outcome.took(audit.started.elapsed());
    audit.outcome.name_unchecked(args);
    Ok(audit.outcome)
}

impl Audit<'_> {
    fn run(&mut self) -> anyhow::Result<Result<(), Difference>> {
        self.sources = Sources::collect(&self.args.paths)?;
        if self.sources.is_empty() {
            bail!("there is no segment and no checkpoint in what was named");
        }
        self.read_checkpoints();
        self.choose();
        let pool = match self.pool() {
            Some(Ok(pool)) => pool,
            Some(Err(difference)) => return Ok(Err(difference)),
            None => match self.any_unknown() {
                Some(difference) => return Ok(Err(difference)),
                None => bail!("no segment of the windows asked for is among the files"),
            },
        };
        if let Some(wanted) = self.args.coordinator.filter(|c| *c != pool.coordinator) {
            bail!(
                "the files are of coordinator {}, not of {wanted}",
                pool.coordinator
            );
        }
        self.outcome.pool(&pool);
        self.check_checkpoints(&pool);
        let found = self.windows(&pool).and_then(|()| self.explain(&pool));
        if let (Ok(()), Some(block)) = (&found, self.args.block.filter(|it| !self.has(it))) {
            bail!(
                "block {block} is in none of these files: no window that was looked at books it, and no checkpoint is named after it; fetch them with `tutti-participant fetch-segments --block {block}`"
            );
        }
        self.pass_over_broken();
        Ok(found)
    }

    /// Whether anything is said of a block.
    fn has(&self, block: &BlockHash) -> bool {
        let hash = block.to_string();
        let mut rows = self.outcome.blocks.iter();
        rows.any(|row| row.block == hash) || self.checkpoint_of(block).is_some()
    }

    /// Leaves the windows that were asked for.
    fn choose(&mut self) {
        let AuditArgs {
            window, from, to, ..
        } = *self.args;
        // A block's own checkpoint is no reason to leave out the windows before it: their shares are
        // what it is paid for.
        let from = window.or(from).unwrap_or(0);
        let to = window.or(to).unwrap_or(u64::MAX);
        for two in self.sources.choose(|seq| (from..=to).contains(&seq.0)) {
            self.outcome.pass_over(two);
        }
    }

    /// The pool of the first file that can be read. Of none: what is wrong with the first.
    fn pool(&mut self) -> Option<Result<PoolName, Difference>> {
        let mut first = None;
        for window in self.sources.windows() {
            match self.sources.read(window) {
                Ok(Some(file)) => return Some(Ok(file.segment.pool)),
                // One of them says it.
                Err(Difference::TwoSegments { first, .. }) => match read(&first) {
                    Ok(Kept::Segment(segment)) => return Some(Ok(segment.pool)),
                    _ => continue,
                },
                Ok(None) => {}
                Err(difference) => first = first.or(Some(difference)),
            }
        }
        if first.is_some() || self.args.is_of_windows() {
            return first.map(Err);
        }
        if let Some(whole) = self.checkpoints.first() {
            return Some(Ok(whole.checkpoint.pool));
        }
        let broken = match self.args.block {
            Some(block) => self.broken_of(&block),
            None => self.broken_before(None),
        };
        broken.err().map(Err)
    }

    fn auditor(&self, pool: &PoolName) -> Result<Auditor, Difference> {
        let mut auditor = Auditor::new(*pool);
        if self.args.block.is_some() || self.args.identity.is_some() {
            auditor = auditor.explaining();
        }
        for whole in &self.checkpoints {
            let known = auditor.know(whole.checkpoint.clone());
            known.map_err(|error| Difference::Audit {
                path: whole.path.clone(),
                error: Box::new(error),
            })?;
        }
        Ok(auditor)
    }

    /// All windows, run by run: where some are missing, a new run begins. What is wrong is met in their
    /// order.
    fn windows(&mut self, pool: &PoolName) -> Result<(), Difference> {
        let mut auditor = self.auditor(pool)?;
        let mut last: Option<WindowSeq> = None;
        let windows: Vec<WindowSeq> = self.sources.windows().collect();
        for window in windows {
            if let Some(last) = last.filter(|last| last.next() != window) {
                self.end_run(auditor);
                self.outcome.missing(last.next(), window);
                auditor = self.auditor(pool)?;
            }
            last = Some(window);
            let before = self.broken_before(Some(window));
            if let Err(difference) = before.and_then(|()| self.window(window, &mut auditor)) {
                self.end_run(auditor);
                if !self.is_after_booking(window) {
                    return Err(difference);
                }
                // The block that was asked for is explained by what is before.
                self.outcome.pass_over(format!(
                    "{difference} (no window from {window} on was needed or looked at)"
                ));
                return Ok(());
            }
            self.progress(&auditor);
        }
        self.end_run(auditor);
        self.broken_before(None)
    }

    fn window(&mut self, window: WindowSeq, auditor: &mut Auditor) -> Result<(), Difference> {
        let Some(file) = self.sources.read(window)? else {
            return Ok(());
        };
        let WindowFile {
            path,
            segment,
            others,
        } = file;
        for other in others {
            self.outcome.pass_over(other.to_string());
        }
        let report = auditor.segment(&segment);
        let report = report.map_err(|error| Difference::Audit {
            path,
            error: Box::new(error),
        })?;
        self.note(&segment, report);
        Ok(())
    }

    fn note(&mut self, segment: &Segment, report: WindowReport) {
        let window = report.window;
        if let Some(who) = &self.args.identity {
            let work = segment
                .end
                .record
                .tally
                .get(who)
                .copied()
                .unwrap_or_default();
            self.outcome.identity_worked(window, work, report.work);
        }
        let credits = report.credits.iter();
        let rows = credits.map(|credit| CreditRow::of(window, credit));
        self.outcome.credits.extend(rows);
        for mut booking in report.bookings {
            let block = BlockHash::from_byte_array(booking.block);
            self.outcome.blocks.push(BlockRow::of(window, &booking));
            if booking.undone {
                continue;
            }
            let explanation = booking.explanation.take();
            let is_wanted = self.args.block.is_none_or(|wanted| wanted == block);
            if let Some(explanation) = explanation.filter(|_| is_wanted) {
                let why = self.args.identity.as_ref();
                self.outcome.explain(block, *explanation, why);
            }
            if self.args.block == Some(block) {
                self.booked = Some((window, booking));
            }
        }
    }

    fn end_run(&mut self, auditor: Auditor) {
        self.outcome.run(auditor.totals());
        if let (Some(who), Some(ledger)) = (&self.args.identity, auditor.ledger()) {
            self.outcome.identity_carry(ledger.seq(), ledger.carry(who));
        }
        let of_block = self.args.block.and_then(|block| self.checkpoint_of(&block));
        let window = of_block.map(|whole| whole.checkpoint.head.head.seq);
        let windows = auditor.totals().windows;
        let has = |(first, last)| window.is_some_and(|window| (first..=last).contains(&window));
        if windows.is_some_and(has) {
            self.met = Some(auditor);
        }
    }

    fn progress(&mut self, auditor: &Auditor) {
        if self.told.elapsed() < PROGRESS_EVERY || !std::io::stderr().is_terminal() {
            return;
        }
        self.told = Instant::now();
        let totals = auditor.totals();
        let window = totals.windows.map_or(0, |(_, last)| last.0);
        let last = self.sources.windows().next_back();
        eprint!(
            "\rwindow {window} of {}, {} shares",
            last.map_or(0, |last| last.0),
            crate::amount::grouped(self.outcome.shares.saturating_add(totals.shares)),
        );
    }
}

/// Prints nothing of its own: for callers that want the words.
pub fn text(outcome: &Outcome) -> String {
    text::table(outcome)
}

/// A sum of work for persons.
fn hashes(work: Work) -> String {
    crate::amount::grouped(work.0)
}
