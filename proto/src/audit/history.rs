//! States of the ledger and of the payee set, for as long as a round may be told that was proposed on
//! one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::AuditError;
use crate::follower::ROUND_WINDOWS;
use crate::id::{RoundId, WindowSeq};
use crate::params::PoolName;
use crate::plan::RoundInputs;
use crate::roster::{PROPOSED_CHANGES, Roster};
use crate::segment::{ChangeError, OutputChange};
use crate::window::{BOOKING_WINDOWS, Ledger, LedgerHead};

/// Of older states every so many keep the payee set itself; those between are made of changes.
const KEEP_ROSTER: u64 = 64;
/// Windows for which a state is asked for: shares of a round may be told so long, and its block booked.
const ASKED_FOR: u64 = if ROUND_WINDOWS > BOOKING_WINDOWS {
    ROUND_WINDOWS
} else {
    BOOKING_WINDOWS
};
/// Of so many newest states each keeps it: most rounds are told soon.
const NEWEST: u64 = 4;

/// After one window.
struct State {
    ledger: Ledger,
    roster: Option<Arc<Roster>>,
    /// Changes in the window after, as far as it is known.
    changes: Option<Vec<OutputChange>>,
    /// From a checkpoint: its payee set may be of any moment of the window after.
    pinned: bool,
    /// So many of those changes are in the set already.
    skipped: usize,
    /// Of the sets after so many of the others, as far as rounds were looked for: each is hashed once.
    digests: Vec<[u8; 32]>,
}

/// The states that are known.
pub(super) struct History {
    states: BTreeMap<WindowSeq, State>,
    /// The payee set of the round that was looked at last.
    prepared: Option<(WindowSeq, [u8; 32], Roster)>,
    /// After which window one was looked for in vain, and the last one that there was.
    last: Option<(WindowSeq, [u8; 32])>,
    /// First window whose changes were followed, or of whose shares a checkpoint's state is made.
    since: Option<WindowSeq>,
}

/// What a run of windows starts with.
pub(super) enum Start {
    State(Ledger),
    Head,
}

/// What was looked for, if it is not from before the files.
pub(super) enum Sought<T> {
    Found(T),
    Before,
}

impl Default for History {
    fn default() -> Self {
        let mut history = Self {
            states: BTreeMap::new(),
            prepared: None,
            last: None,
            since: None,
        };
        history.insert(Ledger::default(), Arc::default(), false);
        history
    }
}

impl History {
    fn insert(&mut self, ledger: Ledger, roster: Arc<Roster>, pinned: bool) {
        let state = State {
            roster: Some(roster),
            changes: None,
            pinned,
            skipped: 0,
            digests: Vec::new(),
            ledger,
        };
        self.states.insert(state.ledger.seq(), state);
    }

    /// Knows the state at the end of a window, exactly.
    pub(super) fn with(ledger: Ledger, roster: Roster) -> Self {
        let mut history = Self::default();
        history.insert(ledger, Arc::new(roster), false);
        history
    }

    /// Takes the state of a checkpoint.
    pub(super) fn pin(&mut self, ledger: Ledger, roster: Roster) -> Result<(), AuditError> {
        if let Some(known) = self.states.get(&ledger.seq()) {
            let (claimed, follows) = (ledger.head(), known.ledger.head());
            if claimed != follows {
                return Err(AuditError::OtherHead { claimed, follows });
            }
            return Ok(());
        }
        self.insert(ledger, Arc::new(roster), true);
        Ok(())
    }

    /// The state after a window, if it is known; one with another head is a difference.
    pub(super) fn start(&self, head: &LedgerHead) -> Result<Start, AuditError> {
        let Some(known) = self.states.get(&head.seq) else {
            return Ok(Start::Head);
        };
        let (claimed, follows) = (*head, known.ledger.head());
        match claimed == follows {
            true => Ok(Start::State(known.ledger.clone())),
            false => Err(AuditError::OtherHead { claimed, follows }),
        }
    }

    /// First window from which on every share was checked, and the states' spans are their sums.
    pub(super) fn replayed_since(&self) -> Option<WindowSeq> {
        self.since
    }

    /// The state that was met is that of the windows from this one on.
    pub(super) fn is_of_windows_since(&mut self, first: WindowSeq) {
        self.since.get_or_insert(first);
    }

    /// Whether there is a state after this window, or after a later one.
    pub(super) fn has_state_from(&self, window: WindowSeq) -> bool {
        self.states.range(window..).next().is_some()
    }

    /// A window was followed: its changes, and the ledger after it.
    pub(super) fn append(
        &mut self,
        pool: &PoolName,
        ledger: Ledger,
        changes: Vec<OutputChange>,
    ) -> Result<(), AuditError> {
        let window = ledger.seq();
        let before = WindowSeq(window.0.saturating_sub(1));
        let Some(state) = self.states.get_mut(&before) else {
            return Ok(());
        };
        self.since.get_or_insert(window);
        let roster = state.roster.clone().unwrap_or_default();
        let skipped = match state.pinned {
            true => already_made(pool, &state.ledger, &roster, &changes)
                .map_err(|(change, error)| at(window, change, error))?,
            false => 0,
        };
        let after = apply(pool, state, &roster, &changes[skipped..])
            .map_err(|(change, error)| at(window, change + skipped, error))?;
        state.skipped = skipped;
        state.changes = Some(changes);
        let pinned = self.states.get(&window);
        if let Some(known) = pinned {
            let (claimed, follows) = (known.ledger.head(), ledger.head());
            if claimed != follows {
                return Err(AuditError::OtherHead { claimed, follows });
            }
        }
        self.insert(ledger, after, false);
        Ok(())
    }

    /// Makes ready the payee set of the moment at which a round was proposed, if it is known.
    pub(super) fn prepare(
        &mut self,
        pool: &PoolName,
        inputs: &RoundInputs,
    ) -> Result<(), AuditError> {
        let (seq, digest) = (inputs.ledger.seq, inputs.roster);
        let is_ready = |(at, of, _): &(WindowSeq, [u8; 32], Roster)| (*at, *of) == (seq, digest);
        if self.prepared.as_ref().is_some_and(is_ready) {
            return Ok(());
        }
        let Some(mut roster) = self.roster_after(pool, seq)? else {
            return Ok(());
        };
        let Some(state) = self.states.get_mut(&seq) else {
            return Ok(());
        };
        let changes = state.changes.iter().flatten().skip(state.skipped);
        // A round of before a checkpoint's moment is not there: it is not looked for among all changes.
        let limit = match state.pinned {
            true => PROPOSED_CHANGES,
            false => usize::MAX,
        };
        let mut changes = changes.enumerate().take(limit);
        for made in 0.. {
            if made == state.digests.len() {
                state.digests.push(roster.digest());
            }
            let of = state.digests.get(made);
            if of == Some(&digest) {
                break;
            }
            let Some((change, next)) = changes.next() else {
                self.last = of.map(|of| (seq, *of));
                return Ok(());
            };
            next.apply(pool, &state.ledger, &mut roster)
                .map_err(|error| at(seq.next(), change, error))?;
        }
        self.prepared = Some((seq, digest, roster));
        Ok(())
    }

    /// The payee set after a window.
    pub(super) fn roster_after(
        &self,
        pool: &PoolName,
        seq: WindowSeq,
    ) -> Result<Option<Roster>, AuditError> {
        if !self.states.contains_key(&seq) {
            return Ok(None);
        }
        let kept = self.states.range(..=seq).rev();
        let mut kept = kept.filter_map(|(at, state)| Some((*at, state.roster.clone()?)));
        let Some((from, roster)) = kept.next() else {
            return Ok(None);
        };
        let mut roster = Roster::clone(&roster);
        for (window, state) in self.states.range(from..seq) {
            let changes = state.changes.iter().flatten().skip(state.skipped);
            for (change, next) in changes.enumerate() {
                next.apply(pool, &state.ledger, &mut roster)
                    .map_err(|error| at(window.next(), change, error))?;
            }
        }
        Ok(Some(roster))
    }

    /// Whether there is a payee set from which that after a window can be made.
    fn has_roster(&self, seq: WindowSeq) -> bool {
        let mut states = self.states.range(..=seq);
        states.any(|(_, state)| state.roster.is_some())
    }

    /// The state that a round was proposed on. Its payee set must be prepared.
    pub(super) fn find(
        &self,
        window: WindowSeq,
        round: &RoundId,
        inputs: &RoundInputs,
    ) -> Result<Sought<(&Ledger, &Roster)>, AuditError> {
        let Some(state) = self.states.get(&inputs.ledger.seq) else {
            return Ok(Sought::Before);
        };
        let (round, ours) = (*round, state.ledger.head());
        if inputs.ledger != ours {
            return Err(AuditError::Ledger {
                window,
                round,
                claimed: Box::new(inputs.ledger),
                follows: Box::new(ours),
            });
        }
        let prepared = self.prepared.as_ref();
        let prepared =
            prepared.filter(|(at, digest, _)| (*at, *digest) == (inputs.ledger.seq, inputs.roster));
        match prepared {
            Some((_, _, roster)) => Ok(Sought::Found((&state.ledger, roster))),
            // Perhaps of a moment before the checkpoint's, or of a window that is not here, or of one
            // that is so old that its set cannot be made any more.
            None if state.pinned || state.changes.is_none() => Ok(Sought::Before),
            None if !self.has_roster(inputs.ledger.seq) => Ok(Sought::Before),
            None => Err(self.no_roster(window, round, inputs)),
        }
    }

    /// That there was no such payee set; the other one is known if this one was to be prepared.
    pub(super) fn no_roster(
        &self,
        window: WindowSeq,
        round: RoundId,
        inputs: &RoundInputs,
    ) -> AuditError {
        let last = self.last.filter(|(at, _)| *at == inputs.ledger.seq);
        AuditError::NoRoster {
            window,
            round,
            claimed: inputs.roster,
            follows: last.map(|(_, digest)| digest),
        }
    }

    /// Forgets what no round can name any more, and payee sets that are seldom asked for.
    pub(super) fn forget(&mut self, now: WindowSeq) {
        // The set of any state that is asked for is made from one at most so much older.
        let oldest = now.0.saturating_sub(ASKED_FOR + KEEP_ROSTER);
        self.states
            .retain(|seq, state| state.pinned || seq.0 >= oldest);
        let Some(seldom) = now.0.checked_sub(NEWEST) else {
            return;
        };
        if !seldom.is_multiple_of(KEEP_ROSTER) {
            // Where the changes are not known no set can be made of them.
            let before = self.states.get(&WindowSeq(seldom.saturating_sub(1)));
            let before = before.is_some_and(|state| state.changes.is_some());
            let state = self.states.get_mut(&WindowSeq(seldom));
            if let Some(state) = state.filter(|state| before && !state.pinned) {
                state.roster = None;
            }
        }
    }
}

fn at(window: WindowSeq, change: usize, error: ChangeError) -> AuditError {
    AuditError::Change {
        window,
        change,
        error,
    }
}

/// The set after changes; the same one if there are none.
fn apply(
    pool: &PoolName,
    state: &State,
    roster: &Arc<Roster>,
    changes: &[OutputChange],
) -> Result<Arc<Roster>, (usize, ChangeError)> {
    let mut roster = roster.clone();
    for (place, change) in changes.iter().enumerate() {
        change
            .apply(pool, &state.ledger, Arc::make_mut(&mut roster))
            .map_err(|error| (place, error))?;
    }
    Ok(roster)
}

/// How many of a window's first changes a checkpoint's set has already: all up to the last that cannot
/// be made any more. What is skipped must be somebody's doing all the same.
fn already_made(
    pool: &PoolName,
    ledger: &Ledger,
    roster: &Roster,
    changes: &[OutputChange],
) -> Result<usize, (usize, ChangeError)> {
    for (place, change) in changes.iter().enumerate() {
        let is_signed = match change {
            OutputChange::Added(output) => output.verify(&pool.coordinator).is_ok(),
            OutputChange::Removed(removal) => removal.verify(&pool.coordinator).is_ok(),
            OutputChange::Expired(_) => true,
        };
        if !is_signed {
            // Whatever else it is: applied to anything it says what is wrong.
            let mut any = roster.clone();
            if let Err(error) = change.apply(pool, ledger, &mut any) {
                return Err((place, error));
            }
        }
    }
    let (mut tried, mut is_changed) = (roster.clone(), false);
    let fits = |from: &usize| {
        // The set is large, and most changes that were made cannot be made again, which changes nothing.
        if std::mem::take(&mut is_changed) {
            tried = roster.clone();
        }
        let mut rest = changes[*from..].iter();
        rest.all(|change| {
            let made = change.apply(pool, ledger, &mut tried).is_ok();
            is_changed |= made;
            made
        })
    };
    Ok((0..=changes.len()).find(fits).unwrap_or(changes.len()))
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash, sha256};

    use super::*;
    use crate::feerate::FeeRate;
    use crate::id::{Attempt, Identity, RoundSeq, SerialId};
    use crate::identity::IdentityKey;
    use crate::message::TxAddOutput;
    use crate::payout::output_script;
    use crate::roster::{HASHED, PROPOSED_CHANGES};
    use crate::script::PayoutScript;
    use crate::window::WindowRecord;

    const PAYEES: u16 = 2_000;
    const CHANGES: u16 = 1_000;

    fn key(number: u16) -> IdentityKey {
        let mut bytes = sha256::Hash::hash(&number.to_le_bytes()).to_byte_array();
        IdentityKey::from_bytes(&mut bytes).unwrap()
    }

    fn coordinator() -> Identity {
        key(0).identity()
    }

    fn pool() -> PoolName {
        PoolName {
            network: bitcoin::Network::Regtest,
            coordinator: coordinator(),
        }
    }

    fn output(number: u16) -> TxAddOutput {
        let script = PayoutScript::parse(output_script(&[7; 32])).unwrap();
        let serial_id = SerialId(2 * u64::from(number) + 1);
        TxAddOutput::sign(&key(number), &coordinator(), serial_id, script, &[1; 32])
    }

    fn closed(ledger: &Ledger) -> Ledger {
        let mut after = ledger.clone();
        let head = ledger.head();
        let record = WindowRecord {
            seq: head.seq.next(),
            previous: head.hash,
            shares_root: [0; 32],
            shares: 0,
            height: 1,
            tally: Default::default(),
            bookings: Vec::new(),
            credits: Vec::new(),
        };
        after.append(&record).unwrap();
        after
    }

    fn round_on(ledger: &Ledger, roster: &Roster) -> RoundInputs {
        RoundInputs {
            seq: RoundSeq(ledger.seq().0),
            attempt: Attempt(0),
            height: 1,
            bits: 0,
            reward: 0,
            witness_commitment: None,
            feerate: FeeRate::CEILING,
            roster: roster.digest(),
            ledger: ledger.head(),
            assignments: [0; 32],
            signers: Vec::new(),
        }
    }

    fn hashed(work: impl FnOnce()) -> usize {
        HASHED.with(|hashed| hashed.set(0));
        work();
        HASHED.with(|hashed| hashed.get())
    }

    /// A set, the changes of the window after it, and the sets after so many of them as a round is
    /// proposed on at most.
    fn window() -> (Ledger, Vec<Roster>, Vec<OutputChange>) {
        let ledger = closed(&Ledger::default());
        let mut roster = Roster::default();
        for number in 1..=PAYEES {
            roster.add_output(&coordinator(), output(number)).unwrap();
        }
        let changes: Vec<_> = (PAYEES + 1..=PAYEES + CHANGES)
            .map(|number| OutputChange::Added(output(number)))
            .collect();
        let mut sets = vec![roster.clone()];
        for change in &changes[..PROPOSED_CHANGES] {
            change.apply(&pool(), &ledger, &mut roster).unwrap();
            sets.push(roster.clone());
        }
        (ledger, sets, changes)
    }

    /// What an honest coordinator proposes on is found among the first sets, and each is hashed once,
    /// however many changes and rounds there are.
    #[test]
    fn rounds_of_a_window_with_many_changes_cost_a_hash_of_each_of_its_first_sets() {
        let (ledger, sets, changes) = window();
        let mut history = History::with(ledger.clone(), sets[0].clone());
        history.append(&pool(), closed(&ledger), changes).unwrap();
        let rounds: Vec<_> = sets.iter().map(|set| round_on(&ledger, set)).collect();
        let hashed = hashed(|| {
            for inputs in rounds.iter().rev() {
                history.prepare(&pool(), inputs).unwrap();
                let found = history.find(WindowSeq(9), &RoundId([0; 32]), inputs);
                assert!(matches!(found, Ok(Sought::Found(_))));
            }
        });
        assert!(hashed <= PROPOSED_CHANGES + 1, "{hashed} sets were hashed");
    }

    /// A checkpoint's set may be of any moment of the window after: what came before it is not known, and
    /// a round of then is looked for in vain.
    #[test]
    fn a_round_of_before_a_checkpoint_is_not_looked_for_among_all_changes() {
        let (ledger, sets, changes) = window();
        let mut history = History::default();
        let half = PROPOSED_CHANGES / 2;
        history.pin(ledger.clone(), sets[half].clone()).unwrap();
        history.append(&pool(), closed(&ledger), changes).unwrap();
        let rounds: Vec<_> = sets.iter().map(|set| round_on(&ledger, set)).collect();
        let hashed = hashed(|| {
            for (changes, inputs) in rounds.iter().enumerate() {
                history.prepare(&pool(), inputs).unwrap();
                let found = history.find(WindowSeq(9), &RoundId([0; 32]), inputs);
                match changes >= half {
                    true => assert!(matches!(found, Ok(Sought::Found(_)))),
                    false => assert!(matches!(found, Ok(Sought::Before))),
                }
            }
        });
        assert!(hashed <= PROPOSED_CHANGES + 1, "{hashed} sets were hashed");
    }
}
