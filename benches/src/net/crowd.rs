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
use super::task::{Command, Lent, Report, Task, ToSign};
use super::traffic::Traffic;
use crate::shares::flood::Flood;
use crate::shares::load::{Load, Loaded};

/// Nothing that is waited for takes as long on any machine.
const WITHIN: Duration = Duration::from_secs(400);
/// Handshakes at once: enough to keep both sides busy. Each is told to all who are there, and the
/// coordinator gives each 10 s to join: with 10,000 there, more at once take longer than that.
const CONNECTING: usize = 32;

/// When things happened in one round.
pub struct Round {
    /// The plan that was committed.
    pub plan: Arc<Plan>,
    /// The last participant got its job of the round that was signed ahead, if one was.
    pub ahead: Option<Instant>,
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
    plans: watch::Sender<Option<ToSign>>,
    /// The round that was signed ahead for the next tip.
    ahead: Option<RoundId>,
    joined: u64,
}

/// What is known of the two rounds of a tip.
struct Following {
    height: u32,
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
    jobs: Option<Instant>,
    /// The same of the round that was signed ahead for this tip.
    ahead: Option<RoundId>,
    moved: usize,
    ahead_jobs: Option<Instant>,
    /// The round that is signed ahead for the next tip, and who has its signatures.
    next: Option<RoundId>,
    ready: usize,
}

impl Crowd {
    /// Nobody yet; they will connect to `host:port`.
    pub fn new(address: &str) -> Result<Crowd> {
        let cores = std::thread::available_parallelism()?.get();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .max_blocking_threads(cores)
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
            ahead: None,
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
        let player = Player::new(self.joined, signs)?;
        if self.commands.is_empty() {
            self.replica.is_of(player.identity());
        }
        let task = Task {
            number: self.commands.len(),
            player: Some(player),
            held: Vec::new(),
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

    /// Follows a new tip: until all have the job of the round of this height, and the signatures of
    /// the round that is signed ahead for the next.
    ///
    /// With `hold`, what is the participants' own is kept apart in the first: the proposal is
    /// checked once all have it, and their answers are sent once all have signed. Then neither side
    /// computes while the other is measured, as if each participant had a machine of its own.
    pub fn follow(&mut self, height: u32, hold: bool) -> Result<Round> {
        let all = self.commands.len();
        let mut round = Following::new(height, self.ahead.take());
        while round.served.len() < all || round.ready < all {
            match self.next()? {
                Next::Proposal(proposal) => round.proposal = Some(proposal),
                Next::Report(report) => round.note(report),
            }
            let is_first = round.next.is_none() && round.served.is_empty();
            if !(hold && is_first) || round.proposals.is_multiple_of(all) {
                self.check(&mut round, hold)?;
            }
            if hold && round.answers == all {
                round.answers = 0;
                round.answered = Some(Instant::now());
                self.command_all(0, Command::Release)?;
            }
        }
        self.ahead = round.next;
        round.finish(all)
    }

    /// Checks the proposal that waits, and lets everybody sign it.
    fn check(&mut self, round: &mut Following, hold: bool) -> Result<()> {
        let Some(proposal) = round.proposal.take() else {
            return Ok(());
        };
        let Some(plan) = self.replica.check(proposal)? else {
            return Ok(());
        };
        let is_first = plan.height() == round.height;
        if is_first {
            // The deadline runs while answers are held back.
            let late = "the answers were held back for longer than signers have";
            ensure!(!hold || plan.attempt() == 0, late);
            round.plan = Some(plan.clone());
        } else {
            ensure!(
                plan.height() == round.height + 1,
                "a round for height {} after one for {}",
                plan.height(),
                round.height
            );
            round.next = Some(plan.round());
            round.ready = 0;
        }
        let hold = hold && is_first;
        self.plans.send_replace(Some(ToSign { plan, hold }));
        Ok(())
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

    /// Lets everyone send shares, each with its load, and gives what became of them.
    pub fn load(&mut self, of: impl Fn(usize) -> Load) -> Result<Vec<Loaded>> {
        for (number, sender) in self.commands.iter().enumerate() {
            let sent = sender.send(Command::Load(of(number)));
            sent.ok().context("a participant is gone")?;
        }
        let mut all = Vec::new();
        while all.len() < self.commands.len() {
            if let Next::Report(Report::Loaded(loaded)) = self.next()? {
                all.push(loaded);
            }
        }
        Ok(all)
    }

    /// Lets everyone send as many shares as go through, and says what became of them.
    pub fn flood(&mut self, flood: Flood) -> Result<Loaded> {
        let (lend, lent) = sync::channel();
        self.command_all(0, Command::Lend(lend))?;
        let (mut flooders, mut rest) = (Vec::new(), Vec::new());
        for _ in &self.commands {
            let Lent {
                flooder,
                plan,
                back,
            } = lent.recv_timeout(WITHIN).context("a participant is gone")?;
            flooders.push(flooder);
            rest.push((plan, back));
        }
        let plan = rest.first().context("nobody is there")?.0.clone();
        let loaded = flood.run(&mut flooders, &plan)?;
        for (flooder, (_, back)) in flooders.into_iter().zip(rest) {
            back.send(flooder).ok().context("a participant is gone")?;
        }
        let count = self.commands.len();
        self.wait_for(count, |report| matches!(report, Report::Done))?;
        Ok(loaded)
    }

    /// Makes one participant silent, or lets it speak again.
    pub fn be_silent(&mut self, player: usize, silent: bool) -> Result<()> {
        let command = self.commands.get(player).context("no such participant")?;
        let sent = command.send(Command::BeSilent(silent));
        sent.ok().context("the participant is gone")?;
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
            let sent = sender.send(command.clone());
            sent.ok().context("a participant is gone")?;
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
    fn new(height: u32, ahead: Option<RoundId>) -> Self {
        Self {
            height,
            proposal: None,
            plan: None,
            proposals: 0,
            proposed: None,
            proposed_to_all: None,
            answers: 0,
            answered: None,
            signing: Duration::ZERO,
            served: BTreeSet::new(),
            jobs: None,
            ahead,
            moved: 0,
            ahead_jobs: None,
            next: None,
            ready: 0,
        }
    }

    fn note(&mut self, report: Report) {
        match report {
            Report::Proposed { height, at } if height == self.height => {
                self.proposals += 1;
                self.proposed = self.proposed.min(Some(at)).or(Some(at));
                self.proposed_to_all = self.proposed_to_all.max(Some(at));
            }
            Report::Signed { height, at, took } if height == self.height => {
                self.answers += 1;
                self.answered = self.answered.max(Some(at));
                self.signing += took;
            }
            Report::Job { player, round, at } => self.note_job(player, round, at),
            Report::Committed(round) if self.next == Some(round) => self.ready += 1,
            _ => {}
        }
    }

    fn note_job(&mut self, player: usize, round: RoundId, at: Instant) {
        if self.plan.as_ref().is_some_and(|plan| plan.round() == round) {
            self.served.insert(player);
            self.jobs = self.jobs.max(Some(at));
        } else if self.ahead == Some(round) {
            self.moved += 1;
            self.ahead_jobs = self.ahead_jobs.max(Some(at));
        }
    }

    fn finish(self, all: usize) -> Result<Round> {
        Ok(Round {
            plan: self.plan.context("a job without a plan")?,
            // Whoever joined since has none of it.
            ahead: self.ahead_jobs.filter(|_| self.moved == all),
            proposed: self.proposed.context("a job without a proposal")?,
            proposed_to_all: self.proposed_to_all.context("a job without a proposal")?,
            answered: self.answered.context("a job that nobody signed")?,
            signing: self.signing,
            jobs: self.jobs.context("a round without participants")?,
        })
    }
}
