//! The checkpoints among the files, and those that hold nothing to go on from.

use std::path::PathBuf;

use bitcoin::BlockHash;
use tutti_proto::audit::Auditor;
use tutti_proto::id::WindowSeq;
use tutti_proto::params::PoolName;
use tutti_proto::segment::Checkpoint;

use super::outcome::StateRow;
use super::sources::CheckpointFile;
use super::{Audit, Difference};
use crate::segments::{Kept, read};

/// A checkpoint that holds.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) block: Option<BlockHash>,
    pub(super) path: PathBuf,
    pub(super) checkpoint: Checkpoint,
}

/// A file with which something is wrong. It is the audit's difference only where it is asked for or needed.
#[derive(Debug)]
pub(super) struct Broken {
    block: Option<BlockHash>,
    /// After this window; unknown, if it cannot be read.
    window: Option<WindowSeq>,
    difference: Difference,
}

impl Audit<'_> {
    /// Reads them all. Nothing that is wrong with one ends the audit here.
    pub(super) fn read_checkpoints(&mut self) {
        for CheckpointFile { block, path } in std::mem::take(&mut self.sources.checkpoints) {
            match read(&path) {
                Ok(Kept::Checkpoint(checkpoint)) => self.checkpoints.push(Whole {
                    block,
                    path,
                    checkpoint,
                }),
                Ok(Kept::Segment(_)) => {} // It was replaced meanwhile.
                Err(error) => self.broken.push(Broken {
                    block,
                    window: None,
                    difference: error.into(),
                }),
            }
        }
        for error in std::mem::take(&mut self.sources.unknown) {
            self.broken.push(Broken {
                block: None,
                window: None,
                difference: error.into(),
            });
        }
        // The order in which they are met.
        self.checkpoints
            .sort_by_key(|it| it.checkpoint.head.head.seq);
    }

    /// Leaves those that hold, each for itself and with those before it.
    pub(super) fn check_checkpoints(&mut self, pool: &PoolName) {
        let mut together = Auditor::new(*pool);
        for whole in std::mem::take(&mut self.checkpoints) {
            let know = |auditor: &mut Auditor| auditor.know(whole.checkpoint.clone());
            // One that is refused late has left its state behind.
            let known = know(&mut Auditor::new(*pool)).and_then(|_| know(&mut together));
            match known {
                Ok(signed) => {
                    self.outcome.checkpoints += 1;
                    self.outcome.signed_checkpoints += u64::from(signed);
                    self.outcome.states.push(StateRow::of(&whole.checkpoint));
                    self.checkpoints.push(whole);
                }
                Err(error) => self.broken.push(Broken {
                    block: whole.block,
                    window: Some(whole.checkpoint.head.head.seq),
                    difference: Difference::Audit {
                        path: whole.path,
                        error: Box::new(error),
                    },
                }),
            }
        }
        // What has no window comes after all that has.
        self.broken
            .sort_by_key(|broken| (broken.window.is_none(), broken.window));
    }

    /// Whether a state after this window belongs to what was asked for.
    fn is_asked_for(&self, window: Option<WindowSeq>) -> bool {
        if !self.args.is_of_a_part() {
            return true;
        }
        let mut windows = self.sources.windows();
        let (first, last) = (windows.next(), windows.next_back());
        let Some((window, first)) = window.zip(first) else {
            return false;
        };
        let last = last.unwrap_or(first);
        window.next() >= first && window <= last && !self.is_after_booking(window)
    }

    /// Whether the block that was asked for is explained without this window.
    pub(super) fn is_after_booking(&self, window: WindowSeq) -> bool {
        let booked = self.booked.as_ref();
        booked.is_some_and(|(booked, booking)| booking.checked && window > *booked)
    }

    /// The first broken one before a window; before none: all the rest.
    pub(super) fn broken_before(&mut self, window: Option<WindowSeq>) -> Result<(), Difference> {
        let is_before = |broken: &Broken| {
            window.is_none_or(|window| broken.window.is_some_and(|after| after < window))
        };
        let mut broken = self.broken.iter();
        let first = broken.position(|it| is_before(it) && self.is_asked_for(it.window));
        first.map_or(Ok(()), |place| Err(self.broken.remove(place).difference))
    }

    /// The one of this block, where no other of it holds.
    pub(super) fn broken_of(&mut self, block: &BlockHash) -> Result<(), Difference> {
        let mut broken = self.broken.iter();
        let place = broken.position(|it| it.block.as_ref() == Some(block));
        let place = place.filter(|_| self.checkpoint_of(block).is_none());
        place.map_or(Ok(()), |place| Err(self.broken.remove(place).difference))
    }

    /// A file that cannot be told to be none of what was asked for.
    pub(super) fn any_unknown(&mut self) -> Option<Difference> {
        let mut broken = self.broken.iter();
        let place = broken.position(|it| it.block.is_none() && it.window.is_none())?;
        Some(self.broken.remove(place).difference)
    }

    /// Says which were not asked for, and not needed.
    pub(super) fn pass_over_broken(&mut self) {
        for broken in std::mem::take(&mut self.broken) {
            if !self.is_asked_for(broken.window) {
                self.outcome.pass_over(broken.difference.to_string());
            }
        }
    }

    /// The checkpoint that is named after a block.
    pub(super) fn checkpoint_of(&self, block: &BlockHash) -> Option<&Whole> {
        let mut whole = self.checkpoints.iter();
        whole.find(|it| it.block.as_ref() == Some(block))
    }
}
