//! One participant's task: moves its messages, and reports what happens.

use std::sync::Arc;
use std::sync::mpsc as sync;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use prost::bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tutti_proto::id::RoundId;

use super::link::Link;
use super::player::{Heard, Kind, Player};
use super::replica::Plan;
use super::traffic::Traffic;

/// What a participant is told to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    /// Make slots for the next rounds.
    Prepare,
    /// Send a share of the last job.
    Share,
    /// Answer no proposal, or answer again.
    BeSilent(bool),
    /// Hold answers to proposals back, or send them at once.
    Hold(bool),
    /// Send what was held back.
    Release,
    /// Say how many bytes came and went.
    Count,
}

/// What participants tell.
pub(super) enum Report {
    /// A message to the one that keeps the replicated state.
    Replica(Bytes),
    Registered,
    Proposed(Instant),
    Signed {
        at: Instant,
        /// How long it took to make the answer.
        took: Duration,
    },
    Job {
        player: usize,
        round: RoundId,
        at: Instant,
    },
    Acknowledged,
    Done,
    Counted(Traffic),
    Failed(anyhow::Error),
}

pub(super) struct Task {
    pub(super) number: usize,
    pub(super) player: Player,
    /// Answers that are held back, if they are to be.
    pub(super) held: Option<Vec<Bytes>>,
    pub(super) plans: watch::Receiver<Option<Arc<Plan>>>,
    pub(super) report: sync::Sender<Report>,
    pub(super) traffic: Traffic,
}

impl Task {
    pub(super) async fn run(
        mut self,
        address: &str,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<()> {
        let mut link = Link::open(address).await?;
        loop {
            tokio::select! {
                message = link.receive() => self.hear(&link, message?).await?,
                changed = self.plans.changed() => {
                    changed.context("the replicated state is gone")?;
                    self.sign(&link).await?;
                }
                command = commands.recv() => match command {
                    Some(command) => self.obey(&link, command).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn hear(&mut self, link: &Link, message: Bytes) -> Result<()> {
        let at = Instant::now();
        let kind = Kind::of_received(&message);
        self.traffic.note_received(kind, message.len());
        match self.player.hear(&message)? {
            Heard::Nothing => {}
            Heard::Answer(answer) => self.send(link, answer).await?,
            Heard::Registered => self.tell(Report::Registered),
            Heard::Proposed => self.tell(Report::Proposed(at)),
            Heard::Acknowledged => self.tell(Report::Acknowledged),
            Heard::Job(job) => self.tell(Report::Job {
                player: self.number,
                round: job.round,
                at,
            }),
        }
        if self.number == 0 {
            self.tell(Report::Replica(message));
        }
        // The plan may have been there before the proposal was.
        self.sign(link).await
    }

    async fn sign(&mut self, link: &Link) -> Result<()> {
        let plan = self.plans.borrow_and_update().clone();
        let Some(plan) = plan else { return Ok(()) };
        let began = Instant::now();
        let answer = self.player.sign(&plan)?;
        let took = began.elapsed();
        if answer.is_empty() {
            return Ok(());
        }
        match &mut self.held {
            Some(held) => held.extend(answer),
            None => self.send(link, answer).await?,
        }
        let at = Instant::now();
        self.tell(Report::Signed { at, took });
        Ok(())
    }

    async fn obey(&mut self, link: &Link, command: Command) -> Result<()> {
        match command {
            Command::Prepare => self.player.prepare()?,
            Command::BeSilent(silent) => self.player.be_silent(silent),
            Command::Hold(hold) => self.held = hold.then(Vec::new),
            Command::Release => {
                let held = self.held.as_mut().map(std::mem::take).unwrap_or_default();
                return self.send(link, held).await;
            }
            Command::Share => {
                let plan = self.plans.borrow().clone().context("no plan yet")?;
                let share = self.player.share(&plan)?;
                return self.send(link, vec![share]).await;
            }
            Command::Count => {
                self.tell(Report::Counted(self.traffic.clone()));
                return Ok(());
            }
        }
        self.tell(Report::Done);
        Ok(())
    }

    async fn send(&mut self, link: &Link, messages: Vec<Bytes>) -> Result<()> {
        for message in messages {
            self.traffic
                .note_sent(Kind::of_sent(&message), message.len());
            link.send(message).await?;
        }
        Ok(())
    }

    fn tell(&self, report: Report) {
        // The crowd is being dropped: nobody waits for it.
        let _ = self.report.send(report);
    }
}
