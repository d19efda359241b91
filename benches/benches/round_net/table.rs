//! What is measured of each tip, and the table of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tutti_benches::net::crowd::Round;
use tutti_benches::net::echo::Sizes;
use tutti_benches::net::limit::Arithmetic;
use tutti_benches::net::player::Kind;
use tutti_benches::net::traffic::{Traffic, percentile};
use tutti_benches::{Measure, Printer};

use crate::{Case, ROUNDS_PER_TIP};

/// One round's times.
pub struct Sample {
    pub tip: Instant,
    pub round: Round,
    pub participants: u32,
}

impl Sample {
    /// Everything, this machine's share of signing for all included.
    fn in_all(&self) -> Duration {
        self.round.jobs.duration_since(self.tip)
    }

    /// To the round that was signed ahead.
    fn tip_to_ahead(&self) -> Option<Duration> {
        Some(self.round.ahead?.duration_since(self.tip))
    }

    fn tip_to_proposal(&self) -> Duration {
        self.round.proposed.duration_since(self.tip)
    }

    fn proposals(&self) -> Duration {
        let Round {
            proposed,
            proposed_to_all,
            ..
        } = self.round;
        proposed_to_all.duration_since(proposed)
    }

    /// One participant's own part: its check, which is made once for all, and its signing.
    fn participant(&self) -> Duration {
        self.round.plan.took + self.round.signing / self.participants
    }

    fn answers_to_jobs(&self) -> Duration {
        self.round.jobs.duration_since(self.round.answered)
    }

    /// With a machine for each participant, as answers that are held back simulate.
    fn proposal_to_jobs(&self) -> Duration {
        self.proposals() + self.participant() + self.answers_to_jobs()
    }

    fn tip_to_jobs(&self) -> Duration {
        self.tip_to_proposal() + self.proposal_to_jobs()
    }
}

pub struct Limits {
    pub node: Duration,
    pub echo: Duration,
    pub arithmetic: Arithmetic,
}

impl Limits {
    /// From the proposal on: the network, a participant, the coordinator.
    fn after_proposal(&self) -> Duration {
        let Arithmetic {
            planning,
            signing,
            combining,
        } = self.arithmetic;
        self.echo + planning + signing + combining
    }

    /// Before it: the node, and the coordinator's plan.
    fn before_proposal(&self) -> Duration {
        self.node + self.arithmetic.planning
    }
}

/// Bytes of all participants at all tips.
pub struct Messages {
    pub traffic: Traffic,
    /// Tips times participants.
    pub times: u64,
}

impl Messages {
    fn received(&self, kind: Kind) -> f64 {
        let bytes = self.traffic.received.get(&kind).copied().unwrap_or(0);
        bytes as f64 / self.times as f64
    }

    fn sent(&self, kind: Kind) -> f64 {
        let bytes = self.traffic.sent.get(&kind).copied().unwrap_or(0);
        bytes as f64 / self.times as f64
    }

    pub fn sizes(&self) -> Sizes {
        let proposal = self.received(Kind::WindowClosed) + self.received(Kind::Proposal);
        let answer = self.sent(Kind::TxComplete) + self.sent(Kind::TxSignatures);
        let commit = self.received(Kind::Commit) + self.received(Kind::Job);
        let of_one = |bytes: f64| (bytes / ROUNDS_PER_TIP as f64) as usize;
        Sizes {
            proposal: of_one(proposal),
            answer: of_one(answer),
            commit: of_one(commit),
        }
    }
}

pub struct Table<'a> {
    pub printer: &'a mut Printer,
    pub case: Case,
    pub payouts: usize,
    pub silent: u64,
}

impl Table<'_> {
    pub fn figure(&mut self, figure: &str, value: f64, unit: &'static str, limit: Option<f64>) {
        let parameters = [
            ("signers", self.case.signers as u64),
            ("silent", self.silent),
            ("lanes", u64::from(self.case.lanes)),
            ("payouts", self.payouts as u64),
            ("payees", (self.case.signers + self.case.payees) as u64),
        ];
        self.printer.measure(&Measure {
            parameters: &parameters,
            figure,
            value,
            unit,
            limit,
        });
    }

    fn time(&mut self, figure: &str, time: Duration, limit: Option<Duration>) {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        self.figure(figure, micros(time), "us", limit.map(micros));
    }

    pub fn times(&mut self, samples: &[Sample], limits: &Limits) {
        let (before, after) = (limits.before_proposal(), limits.after_proposal());
        let rank = |time: fn(&Sample) -> Duration, part| percentile(samples.iter().map(time), part);
        let median = |time| rank(time, 0.5);
        let ahead = samples.iter().filter_map(Sample::tip_to_ahead);
        let ahead = percentile(ahead, 0.5);
        self.time("tip -> jobs signed ahead, median", ahead, Some(limits.node));
        let from_tip = median(Sample::tip_to_jobs);
        self.time("tip -> jobs, median", from_tip, Some(before + after));
        let worst = rank(Sample::tip_to_jobs, 0.99);
        self.time("tip -> jobs, 99th percentile", worst, None);
        let from_proposal = median(Sample::proposal_to_jobs);
        self.time("proposal -> jobs, median", from_proposal, Some(after));
        let worst = rank(Sample::proposal_to_jobs, 0.99);
        self.time("proposal -> jobs, 99th percentile", worst, None);
        let to_proposal = median(Sample::tip_to_proposal);
        self.time("  tip -> proposal", to_proposal, Some(before));
        self.time(
            "  proposal at one -> at all",
            median(Sample::proposals),
            None,
        );
        let check = median(|sample| sample.round.plan.took);
        self.time("  a participant's check", check, None);
        let signing = median(|sample| sample.participant() - sample.round.plan.took);
        self.time("  a participant's signing", signing, None);
        let rest = median(Sample::answers_to_jobs);
        self.time("  all answers -> jobs", rest, None);
    }

    pub fn at_once(&mut self, samples: &[Sample]) {
        let rank = |part| percentile(samples.iter().map(Sample::in_all), part);
        let (median, worst) = (rank(0.5), rank(0.99));
        self.time("all on this machine, median", median, None);
        self.time("all on this machine, 99th perc.", worst, None);
    }

    pub fn limits(&mut self, limits: &Limits) {
        self.time("limit: node alone", limits.node, None);
        self.time("limit: bare gRPC", limits.echo, None);
        let Arithmetic {
            planning,
            signing,
            combining,
        } = limits.arithmetic;
        self.time("limit: keys and sessions", planning, None);
        self.time("limit: a participant's signing", signing, None);
        self.time("limit: sums and verification", combining, None);
    }

    pub fn messages(&mut self, messages: &Messages) {
        let all = |bytes: &BTreeMap<Kind, u64>| {
            bytes.values().sum::<u64>() as f64 / messages.times as f64
        };
        let received = all(&messages.traffic.received);
        self.figure("to a participant per tip", received, "bytes", None);
        for kind in [Kind::Proposal, Kind::WindowClosed, Kind::Commit, Kind::Job] {
            let figure = format!("  {kind:?}");
            self.figure(&figure, messages.received(kind), "bytes", None);
        }
        let sent = all(&messages.traffic.sent);
        self.figure("from a participant per tip", sent, "bytes", None);
        for kind in [Kind::TxSignatures, Kind::Slots] {
            let figure = format!("  {kind:?}");
            self.figure(&figure, messages.sent(kind), "bytes", None);
        }
    }

    /// All rounds in which one signer was silent; those that it cost an attempt, and the others, for
    /// which it was backed off.
    pub fn silent(&mut self, samples: &[Sample]) {
        let (held_up, after): (Vec<&Sample>, Vec<&Sample>) =
            samples.iter().partition(|s| s.round.plan.attempt() > 0);
        let rank = |samples: &[&Sample], part| {
            percentile(samples.iter().map(|sample| sample.in_all()), part)
        };
        let all: Vec<&Sample> = samples.iter().collect();
        self.time("tip -> jobs, one silent, median", rank(&all, 0.5), None);
        self.time("tip -> jobs, one silent, 99th p.", rank(&all, 0.99), None);
        self.time("tip -> jobs, the silent round", rank(&held_up, 0.5), None);
        self.time("tip -> jobs after it, median", rank(&after, 0.5), None);
        self.time("tip -> jobs after it, 99th perc.", rank(&after, 0.99), None);
        self.figure("rounds held up", held_up.len() as f64, "count", None);
    }
}
