//! One participant's task: moves its messages, and reports what happens. What takes a participant time
//! to compute is done on other threads: those that move messages are all participants', and whoever's
//! connection waits for them does not answer the coordinator's pings.

use std::sync::Arc;
use std::sync::mpsc as sync;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use prost::bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tutti_proto::id::RoundId;

use super::link::Link;
use super::player::{Heard, Kind, Player};
use super::replica::Plan;
use super::traffic::Traffic;
use crate::shares::flood::Flooder;
use crate::shares::load::{Load, Loaded, load};

/// What a participant is told to do.
#[derive(Clone)]
pub(super) enum Command {
    /// Make slots for the next rounds.
    Prepare,
    /// Send a share of the last job.
    Share,
    /// Answer no proposal, or answer again.
    BeSilent(bool),
    /// Send what was held back.
    Release,
    /// Say how many bytes came and went.
    Count,
    /// Send shares for a while.
    Load(Load),
    /// Lend its session to a thread.
    Lend(sync::Sender<Lent>),
}

/// A participant that another thread plays for a while.
pub(super) struct Lent {
    pub(super) flooder: Flooder,
    pub(super) plan: Arc<Plan>,
    pub(super) back: oneshot::Sender<Flooder>,
}

/// What participants tell.
pub(super) enum Report {
    /// A message to the one that keeps the replicated state.
    Replica(Bytes),
    Registered,
    Proposed {
        height: u32,
        at: Instant,
    },
    Signed {
        height: u32,
        at: Instant,
        /// How long it took to make the answer.
        took: Duration,
    },
    Job {
        player: usize,
        round: RoundId,
        at: Instant,
    },
    Committed(RoundId),
    Acknowledged,
    Done,
    Counted(Traffic),
    Loaded(Loaded),
    Failed(anyhow::Error),
}

/// A plan to be signed.
#[derive(Clone)]
pub(super) struct ToSign {
    pub(super) plan: Arc<Plan>,
    /// Whether the answer waits for [`Command::Release`].
    pub(super) hold: bool,
}

pub(super) struct Task {
    pub(super) number: usize,
    /// None while it computes.
    pub(super) player: Option<Player>,
    pub(super) held: Vec<Bytes>,
    pub(super) plans: watch::Receiver<Option<ToSign>>,
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
                message = link.receive() => self.hear(&mut link, message?).await?,
                changed = self.plans.changed() => {
                    changed.context("the replicated state is gone")?;
                    self.sign(&mut link).await?;
                }
                command = commands.recv() => match command {
                    Some(Command::Load(order)) => {
                        let last = self.plans.borrow().clone().context("no plan yet")?;
                        let done = load(&mut link, self.player()?, &last.plan, &order).await?;
                        self.tell(Report::Loaded(done));
                    }
                    Some(Command::Lend(to)) => link = self.lend(link, &to).await?,
                    Some(command) => self.obey(&mut link, command).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn player(&mut self) -> Result<&mut Player> {
        self.player.as_mut().context("the participant computes")
    }

    /// Lets the participant compute, on one of the threads that are for it.
    async fn compute<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Player) -> R + Send + 'static,
    ) -> Result<R> {
        let mut player = self.player.take().context("the participant computes")?;
        let computed = tokio::task::spawn_blocking(move || {
            let result = work(&mut player);
            (player, result)
        });
        let (player, result) = computed.await?;
        self.player = Some(player);
        Ok(result)
    }

    async fn hear(&mut self, link: &mut Link, message: Bytes) -> Result<()> {
        let at = Instant::now();
        let kind = Kind::of_received(&message);
        self.traffic.note_received(kind, message.len());
        match self.player()?.hear(&message)? {
            Heard::Nothing => {}
            Heard::Answer(answer) => self.send(link, answer).await?,
            Heard::Welcomed => {
                let answer = self.compute(Player::register).await??;
                self.send(link, answer).await?;
            }
            Heard::Registered => self.tell(Report::Registered),
            Heard::Proposed(height) => self.tell(Report::Proposed { height, at }),
            Heard::Committed(round) => {
                let slots = self.player()?.top_up();
                self.send(link, slots).await?;
                self.tell(Report::Committed(round));
            }
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

    async fn sign(&mut self, link: &mut Link) -> Result<()> {
        let Some(ToSign { plan, hold }) = self.plans.borrow_and_update().clone() else {
            return Ok(());
        };
        if !self.player()?.waits_for(&plan) {
            return Ok(());
        }
        let to_sign = plan.clone();
        let sign = move |player: &mut Player| {
            let began = Instant::now();
            player
                .sign(&to_sign)
                .map(|answer| (answer, began.elapsed()))
        };
        let (answer, took) = self.compute(sign).await??;
        if answer.is_empty() {
            return Ok(());
        }
        if hold {
            self.held.extend(answer);
        } else {
            self.send(link, answer).await?;
        }
        let (height, at) = (plan.height(), Instant::now());
        self.tell(Report::Signed { height, at, took });
        Ok(())
    }

    async fn lend(&mut self, link: Link, to: &sync::Sender<Lent>) -> Result<Link> {
        let player = self.player.take().context("the participant computes")?;
        let plan = self.plans.borrow().clone().context("no plan yet")?.plan;
        let (back, returned) = oneshot::channel();
        let flooder = Flooder::new(link.polled()?, player);
        let lent = Lent {
            flooder,
            plan,
            back,
        };
        to.send(lent).ok().context("nobody plays it")?;
        let (link, player) = returned.await.context("it did not come back")?.into_parts();
        self.player = Some(player);
        self.tell(Report::Done);
        link.into_link()
    }

    async fn obey(&mut self, link: &mut Link, command: Command) -> Result<()> {
        match command {
            Command::Prepare => self.compute(Player::prepare).await??,
            Command::BeSilent(silent) => self.player()?.be_silent(silent),
            Command::Release => {
                let held = std::mem::take(&mut self.held);
                return self.send(link, held).await;
            }
            Command::Share => {
                let last = self.plans.borrow().clone().context("no plan yet")?;
                let share = self.player()?.share(&last.plan)?;
                return self.send(link, vec![share]).await;
            }
            Command::Count => {
                self.tell(Report::Counted(self.traffic.clone()));
                return Ok(());
            }
            Command::Load(_) | Command::Lend(_) => bail!("a load is not obeyed but run"),
        }
        self.tell(Report::Done);
        Ok(())
    }

    async fn send(&mut self, link: &mut Link, messages: Vec<Bytes>) -> Result<()> {
        for message in &messages {
            self.traffic
                .note_sent(Kind::of_sent(message), message.len());
        }
        link.send(&messages).await
    }

    fn tell(&self, report: Report) {
        // The crowd is being dropped: nobody waits for it.
        let _ = self.report.send(report);
    }
}
