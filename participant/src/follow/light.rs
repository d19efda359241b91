//! A few shares of each window, at positions that nobody could know before it closed.
//!
//! A coordinator that books false work can hide it by not answering where it stands. So positions are
//! drawn once and asked for again unchanged; what was not answered is asked for again later; and who
//! leaves too many windows unanswered is left.

use std::collections::VecDeque;
use std::time::Duration;

use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tutti_proto::follower::FollowError;
use tutti_proto::params::PoolName;
use tutti_proto::participant::LedgerFault;
use tutti_proto::sample::Sample;
use tutti_proto::window::{WindowRecord, total};
use tutti_proto::wire::{FromWire, pb, positions_to_wire};
use tutti_proto::work::{Work, WorkOverflow};

use super::{Report, Reports, Unheard};
use crate::client::{self, Backoff};

/// How often one window is asked for before it is not answered.
pub const TRIES: u32 = 5;
/// A call that takes longer, connecting included, was not answered: a coordinator reads a million shares
/// of a window before its first sample.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Of so many windows without an answer the coordinator is left.
pub const UNANSWERED_LIMIT: usize = 3;
/// A window that is not answered counts for so many windows: longer than any honest trouble, and too long
/// for a lie now and then.
const COUNTS_FOR: u64 = 1_000;
/// First and longest time away.
const AWAY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// A window that closed in the session.
pub(super) struct Closed {
    pub(super) record: WindowRecord,
    /// Windows before it that found no room to wait.
    pub(super) left_out: usize,
}

/// What is asked about one window.
struct Question {
    record: WindowRecord,
    positions: Vec<Work>,
}

/// What an answer shows: that its shares are good, or what is false.
type Answer = Result<(), LedgerFault>;

/// Why sampling ends.
enum Ended {
    False,
    Unheard,
}

impl From<Unheard> for Ended {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

/// Samples the windows of one pool.
pub(super) struct Sampler {
    address: String,
    pool: PoolName,
    samples: usize,
    within: Duration,
    reports: Reports,
    /// Windows that were not answered, oldest first, at most [`UNANSWERED_LIMIT`].
    owed: VecDeque<Question>,
    /// Windows since we last left that could not be asked for in time.
    left_out: usize,
    away: Backoff,
}

impl Question {
    /// Draws the positions; none are needed where there is no work.
    fn draw(record: WindowRecord, samples: usize) -> Result<Self, WorkOverflow> {
        let total = total(&record.tally)?;
        let at = |_| Work(rand::rng().random_range(0..total.0));
        let positions = match total {
            Work(0) => Vec::new(),
            _ => (0..samples).map(at).collect(),
        };
        Ok(Self { record, positions })
    }

    fn window(&self) -> u64 {
        self.record.seq.0
    }
}

impl Sampler {
    pub(super) fn new(
        address: String,
        pool: PoolName,
        (samples, within): (usize, Duration),
        reports: Reports,
    ) -> Self {
        Self {
            address,
            pool,
            samples,
            within,
            reports,
            owed: VecDeque::new(),
            left_out: 0,
            away: Backoff::new(AWAY.0, AWAY.1),
        }
    }

    /// Samples closed windows for as long as anybody listens and they are true.
    pub(super) async fn run(mut self, mut windows: mpsc::Receiver<Closed>) {
        while let Some(closed) = windows.recv().await {
            self.left_out = self.left_out.saturating_add(closed.left_out);
            if self.window(closed.record).await.is_err() {
                return;
            }
        }
    }

    async fn window(&mut self, record: WindowRecord) -> Result<(), Ended> {
        let window = record.seq.0;
        let counts = |owed: &Question| owed.window().saturating_add(COUNTS_FOR) > window;
        self.owed.retain(counts);
        let question = match Question::draw(record, self.samples) {
            Ok(question) => question,
            Err(overflow) => {
                let fault = FollowError::from(overflow).into();
                return self.answered(window, 0, Err(fault)).await;
            }
        };
        match self.ask(&question).await {
            Ok(answer) => {
                let samples = question.positions.len();
                self.answered(window, samples, answer).await?;
                self.ask_again().await?;
            }
            Err(why) => {
                let unanswered = Report::Unanswered { window, why };
                self.reports.send(unanswered).await?;
                // Beyond the limit we leave each time, and ask no more than that.
                if self.owed.len() < UNANSWERED_LIMIT {
                    self.owed.push_back(question);
                }
            }
        }
        self.leave_if_silent().await
    }

    /// Somebody answers now: what is owed is asked for again, each once.
    async fn ask_again(&mut self) -> Result<(), Ended> {
        for _ in 0..self.owed.len() {
            let Some(question) = self.owed.pop_front() else {
                break;
            };
            match self.look(&question).await {
                Ok(answer) => {
                    let (window, samples) = (question.window(), question.positions.len());
                    self.answered(window, samples, answer).await?;
                }
                Err(_) => self.owed.push_back(question),
            }
        }
        Ok(())
    }

    async fn leave_if_silent(&mut self) -> Result<(), Ended> {
        let windows = self.owed.len().saturating_add(self.left_out);
        if windows == 0 {
            self.away = Backoff::new(AWAY.0, AWAY.1);
        }
        if windows < UNANSWERED_LIMIT {
            return Ok(());
        }
        self.left_out = 0;
        let pause = self.away.next(rand::random());
        let silent = Report::Silent { windows, pause };
        Ok(self.reports.send(silent).await?)
    }

    async fn answered(&self, window: u64, samples: usize, answer: Answer) -> Result<(), Ended> {
        match answer {
            Ok(()) => {
                let sampled = Report::Sampled { window, samples };
                Ok(self.reports.send(sampled).await?)
            }
            Err(fault) => {
                self.reports.send(Report::False(fault)).await?;
                Err(Ended::False)
            }
        }
    }

    /// Asks for one window until it is answered, or often enough: then why it is not.
    async fn ask(&self, question: &Question) -> Result<Answer, String> {
        let mut backoff = Backoff::default();
        let mut tries = 1;
        loop {
            match self.look(question).await {
                Err(_) if tries < TRIES => {}
                looked => return looked,
            }
            tries += 1;
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    /// Asks once.
    async fn look(&self, question: &Question) -> Result<Answer, String> {
        if question.positions.is_empty() {
            return Ok(Ok(()));
        }
        let sample = timeout(self.within, self.call(question)).await;
        let sample = sample.map_err(|_| format!("no answer in {:?}", self.within))??;
        let checked = sample.check(&self.pool, &question.record, &question.positions);
        Ok(checked.map_err(LedgerFault::from))
    }

    async fn call(&self, question: &Question) -> Result<Sample, String> {
        let request = pb::SampleRequest {
            window: question.window(),
            positions: positions_to_wire(&question.positions),
        };
        let mut client = super::connect(&self.address).await?;
        let reply = client.sample(request).await;
        let reply = reply.map_err(|status| client::ended(&status))?.into_inner();
        Sample::from_wire(reply).map_err(|error| format!("a malformed sample: {error}"))
    }
}
