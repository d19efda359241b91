//! All participants at once: a task each on a few threads, and what they report.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc as sync;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use prost::bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tutti_proto::id::RoundId;

use super::link::Link;
use super::player::{Heard, Kind, Player};
use super::replica::{Plan, Replica};
use super::traffic::Traffic;

/// Nothing that is waited for takes as long on any machine.
const WITHIN: Duration = Duration::from_secs(120);
/// Handshakes at once: enough to keep both sides busy.
const CONNECTING: usize = 64;

/// What a participant is told to do.
#[derive(Clone, Copy, Debug)]
enum Command {
    /// Make slots for the next rounds.
    Prepare,
    /// Send a share of the last job.
    Share,
    /// Answer no proposal, or answer again.
    BeSilent(bool),
    /// Say how many bytes came and went.
    Count,
}

/// What participants tell.
enum Report {
    Registered,
    Proposed(Instant),
    Planned(Arc<Plan>),
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

/// When things happened in one round.
pub struct Round {
    /// The plan that was committed.
    pub plan: Arc<Plan>,
    /// The first participant got the first proposal.
    pub proposed: Instant,
    /// The last participant got it.
    pub proposed_to_all: Instant,
    /// The last signer handed its signatures to the network.
    pub signed: Instant,
    /// Time that making the signatures took, summed over all signers and attempts.
    pub signing: Duration,
    /// The last participant got its job.
    pub jobs: Instant,
}

/// The participants. The first keeps the replicated state for all.
pub struct Crowd {
    address: String,
    runtime: Runtime,
    commands: Vec<mpsc::UnboundedSender<Command>>,
    reports: sync::Receiver<Report>,
    report: sync::Sender<Report>,
    plans: watch::Receiver<Option<Arc<Plan>>>,
    publish: Option<watch::Sender<Option<Arc<Plan>>>>,
    joined: u64,
}

impl Crowd {
    /// Nobody yet; they will connect to `host:port`.
    pub fn new(address: &str) -> Result<Crowd> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let (report, reports) = sync::channel();
        let (publish, plans) = watch::channel(None);
        Ok(Crowd {
            address: address.to_owned(),
            runtime,
            commands: Vec::new(),
            reports,
            report,
            plans,
            publish: Some(publish),
            joined: 0,
        })
    }

    /// Participants that are connected.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Lets participants join and waits until all of them are registered payees.
    pub fn join(&mut self, count: usize, signs: bool) -> Result<()> {
        for chunk in (0..count).collect::<Vec<_>>().chunks(CONNECTING) {
            for _ in chunk {
                self.start(signs)?;
            }
            self.wait_for(chunk.len(), |report| matches!(report, Report::Registered))?;
        }
        Ok(())
    }

    fn start(&mut self, signs: bool) -> Result<()> {
        let (command, commands) = mpsc::unbounded_channel();
        let task = Task {
            number: self.commands.len(),
            player: Player::new(self.joined, signs)?,
            replica: self
                .publish
                .take()
                .map(|publish| keep(publish, self.report.clone())),
            plans: self.plans.clone(),
            report: self.report.clone(),
            traffic: Traffic::default(),
        };
        self.joined += 1;
        self.commands.push(command);
        let (address, report) = (self.address.clone(), self.report.clone());
        self.runtime.spawn(async move {
            let number = task.number;
            if let Err(error) = task.run(&address, commands).await {
                // Whoever waited for it is gone.
                let error = error.context(format!("participant {number}"));
                let _ = report.send(Report::Failed(error));
            }
        });
        Ok(())
    }

    /// Lets all participants from this one on leave.
    pub fn leave(&mut self, first: usize) {
        self.commands.truncate(first);
    }

    /// Waits for the round of this height until all have its job.
    pub fn follow(&mut self, height: u32) -> Result<Round> {
        let expected = self.commands.len();
        let (mut proposed, mut proposed_to_all, mut signed) = (None, None, None);
        let mut plan: Option<Arc<Plan>> = None;
        let mut served = BTreeSet::new();
        let mut signing = Duration::ZERO;
        loop {
            match self.next()? {
                Report::Proposed(at) => {
                    proposed = proposed.min(Some(at)).or(Some(at));
                    proposed_to_all = proposed_to_all.max(Some(at));
                }
                Report::Planned(new) if new.height() == height => {
                    plan = Some(new);
                    served.clear();
                }
                Report::Signed { at, took } => {
                    signed = signed.max(Some(at));
                    signing += took;
                }
                Report::Job { player, round, at } => {
                    let Some(plan) = plan.as_ref().filter(|plan| plan.round() == round) else {
                        continue;
                    };
                    served.insert(player);
                    if served.len() == expected {
                        return Ok(Round {
                            plan: plan.clone(),
                            proposed: proposed.context("a job without a proposal")?,
                            proposed_to_all: proposed_to_all.context("as above")?,
                            signed: signed.context("a job that nobody signed")?,
                            signing,
                            jobs: at,
                        });
                    }
                }
                Report::Failed(error) => return Err(error),
                _ => {}
            }
        }
    }

    /// Makes the slots of the next rounds.
    pub fn prepare(&mut self) -> Result<()> {
        self.command_all(0, Command::Prepare)?;
        let count = self.commands.len();
        self.wait_for(count, |report| matches!(report, Report::Done))
    }

    /// Lets everyone from this one on find a share, and waits until all are acknowledged.
    pub fn share(&mut self, first: usize) -> Result<()> {
        self.command_all(first, Command::Share)?;
        let count = self.commands.len() - first;
        self.wait_for(count, |report| matches!(report, Report::Acknowledged))
    }

    /// Makes one participant silent, or lets it speak again.
    pub fn be_silent(&mut self, player: usize, silent: bool) -> Result<()> {
        let command = self.commands.get(player).context("no such participant")?;
        command.send(Command::BeSilent(silent))?;
        self.wait_for(1, |report| matches!(report, Report::Done))
    }

    /// Message bytes of all participants since they joined.
    pub fn traffic(&mut self) -> Result<Traffic> {
        self.command_all(0, Command::Count)?;
        let mut sum = Traffic::default();
        for _ in 0..self.commands.len() {
            loop {
                match self.next()? {
                    Report::Counted(traffic) => break sum.add(&traffic),
                    Report::Failed(error) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(sum)
    }

    fn command_all(&self, first: usize, command: Command) -> Result<()> {
        let all = self.commands.iter().skip(first);
        for sender in all {
            sender.send(command).context("a participant is gone")?;
        }
        Ok(())
    }

    fn wait_for(&mut self, count: usize, wanted: impl Fn(&Report) -> bool) -> Result<()> {
        let mut seen = 0;
        while seen < count {
            match self.next()? {
                Report::Failed(error) => return Err(error),
                report => seen += usize::from(wanted(&report)),
            }
        }
        Ok(())
    }

    fn next(&self) -> Result<Report> {
        let report = self.reports.recv_timeout(WITHIN);
        report.map_err(|_| anyhow!("no participant reported anything within {WITHIN:?}"))
    }
}

/// The thread that keeps the replicated state: it must not wait behind those who sign.
fn keep(
    publish: watch::Sender<Option<Arc<Plan>>>,
    report: sync::Sender<Report>,
) -> sync::Sender<Bytes> {
    let (sender, messages) = sync::channel::<Bytes>();
    std::thread::spawn(move || {
        let mut replica = Replica::default();
        while let Ok(message) = messages.recv() {
            match replica.hear(message) {
                Ok(None) => {}
                Ok(Some(plan)) => {
                    // Before anybody can sign it, so that it is reported before any job.
                    let _ = report.send(Report::Planned(plan.clone()));
                    publish.send_replace(Some(plan));
                }
                Err(error) => {
                    let error = error.context("the replicated state");
                    let _ = report.send(Report::Failed(error));
                    return;
                }
            }
        }
    });
    sender
}

struct Task {
    number: usize,
    player: Player,
    /// The first participant's messages go there too.
    replica: Option<sync::Sender<Bytes>>,
    plans: watch::Receiver<Option<Arc<Plan>>>,
    report: sync::Sender<Report>,
    traffic: Traffic,
}

impl Task {
    async fn run(
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
        if let Some(replica) = &self.replica {
            // If it is gone, it has said why.
            let _ = replica.send(message);
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
        if !answer.is_empty() {
            self.send(link, answer).await?;
            let at = Instant::now();
            self.tell(Report::Signed { at, took });
        }
        Ok(())
    }

    async fn obey(&mut self, link: &Link, command: Command) -> Result<()> {
        match command {
            Command::Prepare => self.player.prepare()?,
            Command::BeSilent(silent) => self.player.be_silent(silent),
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
