//! All participants at once: a task each on a few threads, what they report, and the replicated
//! state that they share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc as sync;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use prost::bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tutti_proto::id::RoundId;

use super::player::Player;
use super::replica::{Plan, Replica};
use super::task::{Command, Report, Task};
use super::traffic::Traffic;

/// Nothing that is waited for takes as long on any machine.
const WITHIN: Duration = Duration::from_secs(120);
/// Handshakes at once: enough to keep both sides busy.
const CONNECTING: usize = 64;

/// When things happened in one round.
pub struct Round {
    /// The plan that was committed.
    pub plan: Arc<Plan>,
    /// The first participant got the first proposal.
    pub proposed: Instant,
    /// The last participant got the last proposal.
    pub proposed_to_all: Instant,
    /// All answers that were held back were sent; or, if none was, the last one.
    pub answered: Instant,
    /// Time that making the answers took, summed over all participants and attempts.
    pub signing: Duration,
    /// The last participant got its job.
    pub jobs: Instant,
}

/// The participants. The first one's messages keep the replicated state for all.
pub struct Crowd {
    address: String,
    runtime: Runtime,
    commands: Vec<mpsc::UnboundedSender<Command>>,
    reports: sync::Receiver<Report>,
    report: sync::Sender<Report>,
    replica: Replica,
    plans: watch::Sender<Option<Arc<Plan>>>,
    joined: u64,
}

/// What is known of the round that is followed.
#[derive(Default)]
struct Following {
    proposal: Option<Bytes>,
    plan: Option<Arc<Plan>>,
    proposals: usize,
    proposed: Option<Instant>,
    proposed_to_all: Option<Instant>,
    answers: usize,
    answered: Option<Instant>,
    signing: Duration,
    /// Who has a job of the plan, and when the last of them got it.
    served: BTreeSet<usize>,
    last_job: Option<Instant>,
}

impl Crowd {
    /// Nobody yet; they will connect to `host:port`.
    pub fn new(address: &str) -> Result<Crowd> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let (report, reports) = sync::channel();
        let (plans, _) = watch::channel(None);
        Ok(Crowd {
            address: address.to_owned(),
            runtime,
            commands: Vec::new(),
            reports,
            report,
            replica: Replica::default(),
            plans,
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
            held: None,
            plans: self.plans.subscribe(),
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
    ///
    /// With `hold`, what is the participants' own is kept apart: the proposal is checked once all
    /// have it, and their answers are sent once all have signed. Then neither side computes while
    /// the other is measured, as if each participant had a machine of its own.
    pub fn follow(&mut self, height: u32, hold: bool) -> Result<Round> {
        let all = self.commands.len();
        let mut round = Following::default();
        while round.served.len() < all {
            match self.next()? {
                Next::Proposal(proposal) => {
                    round.proposal = Some(proposal);
                    round.served.clear();
                }
                Next::Report(report) => round.note(report),
            }
            if !hold || round.proposals.is_multiple_of(all) {
                self.check(&mut round, height, hold)?;
            }
            if hold && round.answers == all {
                round.answers = 0;
                round.answered = Some(Instant::now());
                self.command_all(0, Command::Release)?;
            }
        }
        let jobs = round.last_job.context("a round without participants")?;
        Ok(Round {
            plan: round.plan.context("a job without a plan")?,
            proposed: round.proposed.context("a job without a proposal")?,
            proposed_to_all: round.proposed_to_all.context("a job without a proposal")?,
            answered: round.answered.context("a job that nobody signed")?,
            signing: round.signing,
            jobs,
        })
    }

    /// Checks the proposal that waits, and lets everybody sign it.
    fn check(&mut self, round: &mut Following, height: u32, hold: bool) -> Result<()> {
        let Some(proposal) = round.proposal.take() else {
            return Ok(());
        };
        let plan = self.replica.check(proposal)?;
        // The deadline runs while answers are held back.
        let late = "the answers were held back for longer than signers have";
        ensure!(!hold || plan.attempt() == 0, late);
        ensure!(
            plan.height() == height,
            "a round for height {} instead of {height}",
            plan.height()
        );
        round.plan = Some(plan.clone());
        self.plans.send_replace(Some(plan));
        Ok(())
    }

    /// From now on, whether answers are held back in [`Crowd::follow`].
    pub fn hold(&mut self, hold: bool) -> Result<()> {
        self.command_all(0, Command::Hold(hold))?;
        let count = self.commands.len();
        self.wait_for(count, |report| matches!(report, Report::Done))
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
        let mut left = self.commands.len();
        while left > 0 {
            if let Next::Report(Report::Counted(traffic)) = self.next()? {
                sum.add(&traffic);
                left -= 1;
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
            if let Next::Report(report) = self.next()? {
                seen += usize::from(wanted(&report));
            }
        }
        Ok(())
    }

    /// The next thing that happens. The replicated state follows whoever is waited for.
    fn next(&mut self) -> Result<Next> {
        loop {
            let report = self.reports.recv_timeout(WITHIN);
            let silence = |_| anyhow!("no participant reported anything within {WITHIN:?}");
            match report.map_err(silence)? {
                Report::Replica(message) => {
                    if let Some(proposal) = self.replica.hear(message)? {
                        return Ok(Next::Proposal(proposal));
                    }
                }
                Report::Failed(error) => return Err(error),
                report => return Ok(Next::Report(report)),
            }
        }
    }
}

enum Next {
    Proposal(Bytes),
    Report(Report),
}

impl Following {
    fn is_of(&self, round: RoundId) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.round() == round)
    }

    fn note(&mut self, report: Report) {
        match report {
            Report::Proposed(at) => {
                self.proposals += 1;
                self.proposed = self.proposed.min(Some(at)).or(Some(at));
                self.proposed_to_all = self.proposed_to_all.max(Some(at));
            }
            Report::Signed { at, took } => {
                self.answers += 1;
                self.answered = self.answered.max(Some(at));
                self.signing += took;
            }
            Report::Job { player, round, at } if self.is_of(round) => {
                self.served.insert(player);
                self.last_job = self.last_job.max(Some(at));
            }
            _ => {}
        }
    }
}
