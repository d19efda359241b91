//! Time as the state machines see it, and everything they ever wait for.

use std::collections::BTreeMap;

/// Milliseconds since some fixed moment of the shell's choosing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// This moment and a duration.
    pub fn after(self, duration: Millis) -> Millis {
        Millis(self.0.saturating_add(duration.0))
    }

    /// Time from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Millis) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

/// What the coordinator may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// A round of a new tip: at once, but after what the news of the tip sends.
    Tip,
    /// Partial signatures of the attempt.
    Signatures,
    /// Others that are lost to the attempt in the same moment.
    Lost,
    /// A round of the next height: at once, but after what a commit sends.
    NextHeight,
    /// The next round's signers: what can be computed before it, once the proposal is on its way.
    Expect,
    /// A committed round of the present tip, before a direct one has to do.
    Direct,
    /// More participants, before a round is made for those without a slice.
    Regroup,
    /// A better template of the same tip.
    Refresh,
    /// Time to judge the share rates.
    Pace,
}

/// The deadlines that are set.
#[derive(Clone, Debug, Default)]
pub struct Deadlines(BTreeMap<Deadline, Millis>);

impl Deadlines {
    /// Sets or moves a deadline.
    pub fn arm(&mut self, deadline: Deadline, at: Millis) {
        self.0.insert(deadline, at);
    }

    /// Sets a deadline unless it is set.
    pub fn arm_if_unset(&mut self, deadline: Deadline, at: Millis) {
        self.0.entry(deadline).or_insert(at);
    }

    /// Forgets a deadline.
    pub fn disarm(&mut self, deadline: Deadline) {
        self.0.remove(&deadline);
    }

    /// When to wake up.
    pub fn next(&self) -> Option<Millis> {
        self.0.values().min().copied()
    }

    /// Takes one deadline that has passed.
    pub fn pop_due(&mut self, now: Millis) -> Option<Deadline> {
        let due = self
            .0
            .iter()
            .find(|(_, at)| **at <= now)
            .map(|(deadline, _)| *deadline)?;
        self.0.remove(&due);
        Some(due)
    }
}
