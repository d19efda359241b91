//! What happens in the open window, for whoever follows: told once it is durable, encoded once for all.
//!
//! A thread of its own packs and encodes, so that the owner of the rounds only hands over. Followers
//! read what it published at their own pace; how slow they are costs them alone.

mod live;
mod publisher;

use std::io;
use std::sync::mpsc::{self, Sender};

use bitcoin::Transaction;
use tokio::sync::watch;
use tutti_proto::coordinator::{Coordinator, Record};
use tutti_proto::id::RoundId;
use tutti_proto::segment::{OutputChange, WindowEnd};
use tutti_proto::share::ShareRecord;
use tutti_proto::terms::RoundTerms;

use crate::segments::{CheckpointSlot, Index, SegmentError, output_change, proof};
use crate::store::Reader;
pub use live::{Frame, Live, LiveWindow, Reading};
use publisher::Publisher;

/// A durable record, as far as followers care.
enum Told {
    Output(OutputChange),
    Share(ShareRecord),
    Terms(RoundId, Box<RoundTerms>),
    Payout(RoundId, Box<Transaction>),
    End(Box<WindowEnd>),
}

impl Told {
    fn of(record: &Record) -> Option<Self> {
        Some(match record {
            Record::Share { share, .. } => Self::Share(*share),
            Record::Terms(round, terms) => Self::Terms(*round, Box::new(terms.clone())),
            Record::WindowClosed(end) => Self::End(Box::new(end.clone())),
            Record::Committed(committed) => {
                Self::Payout(committed.round, Box::new(proof(committed)?))
            }
            other => Self::Output(output_change(other)?),
        })
    }
}

/// What followers read.
#[derive(Clone)]
pub struct Watched {
    /// The open window, and those that closed lately.
    pub live: watch::Receiver<Live>,
    /// The state that the last signed round was computed from; none while that is looked up.
    pub checkpoint: watch::Receiver<Option<CheckpointSlot>>,
}

/// The way to the publisher.
pub struct Feed(Sender<Vec<Told>>);

impl Feed {
    /// Starts the publisher, with the open window as the store has it. The log ends at `log_end`.
    pub fn start(
        coordinator: &Coordinator,
        reader: Reader,
        log_end: u64,
        (checkpoint, index): (
            watch::Sender<Option<CheckpointSlot>>,
            watch::Receiver<Index>,
        ),
    ) -> Result<(Self, Watched), FeedError> {
        let (sender, receiver) = mpsc::channel();
        let (publisher, live) = Publisher::new(coordinator, reader, (checkpoint, index));
        let checkpoint = publisher.checkpoints();
        let mut publisher = publisher;
        publisher.restore(log_end)?;
        std::thread::Builder::new()
            .name("feed".to_owned())
            .spawn(move || publisher.run(&receiver))?;
        Ok((Self(sender), Watched { live, checkpoint }))
    }

    /// These records are durable.
    pub fn tell(&self, records: &[Record]) {
        let told: Vec<Told> = records.iter().filter_map(Told::of).collect();
        if !told.is_empty() {
            // What takes microseconds for each share is never far behind what takes a flush.
            let _ = self.0.send(told);
        }
    }
}

/// Why there is no feed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
}
