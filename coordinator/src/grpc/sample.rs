//! Samples: one thread opens closed windows at the positions that are asked for, and remembers the
//! windows that are asked for most lately.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use prost::bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;
use tutti_proto::id::{RoundId, WindowSeq};
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::sample::{Sample, SampledShare};
use tutti_proto::share::Openings;
use tutti_proto::terms::RoundTerms;
use tutti_proto::wire::{ToWire, WireError, pb, positions_from_wire, status};
use tutti_proto::work::Work;

use super::places::Place;
use crate::segments::{Directory, Index, Library, Name, Unserved, rolled, shares_of, tip};

/// Requests that wait, of each kind; whoever comes then is told to come again.
const QUEUE_LIMIT: usize = 256;
/// Shares of all windows that are remembered, about 300 bytes each. A larger window is to be had as a
/// file only.
const SHARES_LIMIT: usize = 1 << 20;
/// Windows that are remembered.
const WINDOWS_LIMIT: usize = 4;

struct Asked {
    window: WindowSeq,
    positions: Vec<Work>,
    answer: oneshot::Sender<Result<Bytes, Status>>,
    _place: Place,
}

/// The way to the thread: of those from where somebody has joined, who sign nothing for long without an answer,
/// and of strangers.
pub(super) struct Sampler {
    residents: mpsc::Sender<Asked>,
    strangers: mpsc::Sender<Asked>,
}

/// Requests that wait.
struct Waiting<T> {
    residents: mpsc::Receiver<T>,
    strangers: mpsc::Receiver<T>,
}

impl<T> Waiting<T> {
    /// A stranger's only when no other waits; nothing once nobody can ask any more.
    async fn next(&mut self) -> Option<T> {
        tokio::select! {
            biased;
            Some(asked) = self.residents.recv() => Some(asked),
            Some(asked) = self.strangers.recv() => Some(asked),
            else => None,
        }
    }
}

impl Sampler {
    pub(super) fn start(
        directory: Directory,
        library: Library,
        index: watch::Receiver<Index>,
    ) -> Self {
        let (residents, of_residents) = mpsc::channel::<Asked>(QUEUE_LIMIT);
        let (strangers, of_strangers) = mpsc::channel::<Asked>(QUEUE_LIMIT);
        let mut waiting = Waiting {
            residents: of_residents,
            strangers: of_strangers,
        };
        let runtime = Handle::current();
        // A thread of its own for hashing; it ends with its senders.
        tokio::task::spawn_blocking(move || {
            let mut opened = Opened {
                directory,
                library,
                index,
                windows: Vec::new(),
            };
            while let Some(asked) = runtime.block_on(waiting.next()) {
                // A fault at one sample, which the log has, is none of the others'.
                let sample = || opened.sample(asked.window, &asked.positions);
                let answer = catch_unwind(AssertUnwindSafe(sample));
                let fault = |_| Err(Status::internal("this sample cannot be made"));
                let answer = answer.unwrap_or_else(fault);
                // Whoever asked may be gone.
                let _ = asked.answer.send(answer);
            }
        });
        Self {
            residents,
            strangers,
        }
    }

    pub(super) async fn sample(
        &self,
        request: pb::SampleRequest,
        place: Place,
    ) -> Result<Bytes, Status> {
        let malformed = |error: WireError| status(&Reject::from(error));
        let (answer, answered) = oneshot::channel();
        let queue = match place.is_strangers() {
            true => &self.strangers,
            false => &self.residents,
        };
        let asked = Asked {
            window: WindowSeq(request.window),
            positions: positions_from_wire(request.positions).map_err(malformed)?,
            answer,
            _place: place,
        };
        let full = |_| {
            let detail = format!("{QUEUE_LIMIT} samples wait; try again later");
            let code = RejectCode::RateLimited;
            status(&Reject { code, detail })
        };
        queue.try_send(asked).map_err(full)?;
        let stopping = |_| Status::unavailable("the coordinator is stopping");
        answered.await.map_err(stopping)?
    }
}

/// A window that can be opened anywhere.
struct Window {
    seq: WindowSeq,
    shares: usize,
    openings: Openings,
    terms: BTreeMap<(RoundId, [u8; 32]), RoundTerms>,
}

/// The windows that were asked for most lately, the last one last.
struct Opened {
    directory: Directory,
    library: Library,
    index: watch::Receiver<Index>,
    windows: Vec<Window>,
}

impl Opened {
    fn sample(&mut self, window: WindowSeq, positions: &[Work]) -> Result<Bytes, Status> {
        let place = self.windows.iter().position(|known| known.seq == window);
        let known = match place {
            Some(place) => self.windows.remove(place),
            None => self.open(window)?,
        };
        let sample = known.sample(positions);
        self.windows.push(known);
        self.forget();
        Ok(sample?.encode().into())
    }

    fn forget(&mut self) {
        let shares = |windows: &[Window]| windows.iter().map(|window| window.shares).sum::<usize>();
        while self.windows.len() > WINDOWS_LIMIT
            || self.windows.len() > 1 && shares(&self.windows) > SHARES_LIMIT
        {
            self.windows.remove(0);
        }
    }

    fn open(&self, window: WindowSeq) -> Result<Window, Status> {
        let id = self.index.borrow().file(&Name::Window(window));
        let gone = || Status::not_found(format!("window {window} has no segment here"));
        let id = id.ok_or_else(gone)?;
        let whole = self.library.open(&Name::Window(window), &id);
        whole.map_err(|why| match why {
            Unserved::Gone(_) => gone(),
            Unserved::Damaged => Status::data_loss(why.to_string()),
        })?;
        let segment = self.directory.segment(window, &id);
        let segment = segment.map_err(|error| Status::data_loss(error.to_string()))?;
        let shares: usize = segment.parts.iter().map(|part| part.shares.len()).sum();
        if shares > SHARES_LIMIT {
            let detail = format!(
                "window {window} has {shares} shares, a sample is of at most {SHARES_LIMIT}; take its segment"
            );
            let code = RejectCode::Oversized;
            return Err(status(&Reject { code, detail }));
        }
        let damaged = |why: &dyn std::fmt::Display| Status::data_loss(why.to_string());
        let (terms, records) = shares_of(&segment).map_err(|error| damaged(&error))?;
        let terms = terms.into_iter().map(|terms| {
            let of = terms.terms().clone();
            ((terms.round(), of.header.previous_block), of)
        });
        Ok(Window {
            seq: window,
            shares,
            openings: Openings::of(&records).map_err(|error| damaged(&error))?,
            terms: terms.collect(),
        })
    }
}

impl Window {
    fn sample(&self, positions: &[Work]) -> Result<Sample, Status> {
        let mut sample = Sample {
            terms: Vec::new(),
            shares: Vec::new(),
        };
        let mut places: BTreeMap<(RoundId, [u8; 32]), usize> = BTreeMap::new();
        for position in positions {
            let beyond = || {
                let window = self.seq;
                Status::out_of_range(format!("window {window} has no work at {position}"))
            };
            let opening = self.openings.at(*position).ok_or_else(beyond)?;
            let key = (opening.share.round, tip(&opening.share.header));
            let unknown = || Status::internal("a share without terms");
            let terms = self.terms.get(&key).ok_or_else(unknown)?;
            let place = *places.entry(key).or_insert_with(|| {
                sample.terms.push(terms.clone());
                sample.terms.len() - 1
            });
            sample.shares.push(SampledShare {
                terms: place,
                identity: opening.share.identity,
                rolled: rolled(&opening.share),
                path: opening.path,
                shares: opening.shares,
                account_path: opening.account_path,
            });
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn strangers_wait_for_those_from_where_somebody_has_joined() {
        let (residents, of_residents) = mpsc::channel(2);
        let (strangers, of_strangers) = mpsc::channel(2);
        let mut waiting = Waiting {
            residents: of_residents,
            strangers: of_strangers,
        };
        for number in [1, 2] {
            strangers.send(number).await.unwrap();
        }
        residents.send(3).await.unwrap();
        drop((residents, strangers));
        let mut order = Vec::new();
        while let Some(number) = waiting.next().await {
            order.push(number);
        }
        assert_eq!(order, [3, 1, 2]);
    }
}
