//! Crash points: a test names a step, and the process kills itself there as a power failure would.
//! On regtest only; nowhere else does the environment decide over a miner's life.

use bitcoin::Network;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Names the step.
pub const VARIABLE: &str = "TUTTI_CRASH_AT";

/// Where a crash can be asked for, in the order in which a round comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    ProposalReceived,
    /// The partial signatures are on their way.
    SignaturesSent,
    CommitReceived,
    /// The payouts are complete, and not yet on disk.
    BeforeStore,
    AfterStore,
    BeforeMine,
    /// The first job is with the hasher.
    AfterMine,
}

impl Step {
    const ALL: [(&'static str, Step); 7] = [
        ("proposal-received", Step::ProposalReceived),
        ("signatures-sent", Step::SignaturesSent),
        ("commit-received", Step::CommitReceived),
        ("before-store", Step::BeforeStore),
        ("after-store", Step::AfterStore),
        ("before-mine", Step::BeforeMine),
        ("after-mine", Step::AfterMine),
    ];
}

/// The step asked for, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashPoint(Option<Step>);

/// A step that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE} names no step: {0:?}; allowed are {known}", known = known())]
pub struct NoSuchStep(String);

fn known() -> String {
    Step::ALL.map(|(name, _)| name).join(", ")
}

impl CrashPoint {
    /// Reads the variable's value.
    pub fn new(network: Network, value: Option<&str>) -> Result<Self, NoSuchStep> {
        let Some(value) = value.filter(|_| network == Network::Regtest) else {
            return Ok(Self(None));
        };
        let known = Step::ALL.iter().find(|(name, _)| *name == value);
        known
            .map(|(_, step)| Self(Some(*step)))
            .ok_or_else(|| NoSuchStep(value.to_owned()))
    }

    pub fn is(self, step: Step) -> bool {
        self.0 == Some(step)
    }

    /// Dies here if this is the step.
    pub fn reached(self, step: Step) {
        if self.is(step) {
            // Cannot fail: a process may always signal itself.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regtest_listens_to_the_environment() {
        let on_regtest = CrashPoint::new(Network::Regtest, Some("after-store")).expect("a step");
        assert!(on_regtest.is(Step::AfterStore) && !on_regtest.is(Step::BeforeStore));
        let elsewhere = CrashPoint::new(Network::Bitcoin, Some("after-store"));
        assert_eq!(elsewhere, Ok(CrashPoint(None)));
        let error = CrashPoint::new(Network::Regtest, Some("never")).unwrap_err();
        assert!(
            error.to_string().contains("before-store, after-store"),
            "{error}"
        );
    }
}
