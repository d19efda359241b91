//! The replicated state while joined: payee set, ledger, assignments. Each change is checked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::event::StateError;
use super::signing::{Agreed, Pending};
use super::{BlockClaim, Event, Participant, State, Turn};
use crate::digest::Digest;
use crate::id::{Identity, RoundId, SerialId, WindowSeq};
use crate::lane::Assignments;
use crate::message::{
    Job, OutputExpired, ToCoordinator, TxAddOutput, TxRemoveOutput, Welcome, WindowClosed,
};
use crate::musig::{SigningSlot, SlotKey};
use crate::params::PoolParams;
use crate::plan::{Checked, PlanView};
use crate::roster::Roster;
use crate::script::PayoutScript;
use crate::window::{
    BOOKING_WINDOWS, BlockPayouts, BookedBlock, Booking, Ledger, LedgerError, WindowRecord,
};
use crate::work::Work;

/// Numbers of outputs that are signed while a window is open begin with its own, so many bits further up, and each is
/// above the last by at most twice so much.
const WINDOW_BITS: u32 = 36;
const STEP_MAX: u64 = 1 << 31;
/// Whatever number a window is said to have, there is room above it.
const FIRST_MAX: u64 = 1 << 63;
/// A round closes two windows, and a change of script takes a moment.
const MISSED_AFTER: u64 = 4;
/// After so many windows in a row a new script is taken for good.
const TAKEN_AFTER: u64 = 8;
/// Direct rounds of one window: each is a file on our disk.
const DIRECT_LIMIT: usize = 16;
/// Attempts of a round: of each we remember what its block would be booked with. Four times as many as an
/// honest coordinator makes.
pub(super) const ATTEMPTS_LIMIT: u32 = 64;

/// Change of each identity's carry, sat.
type Carries = BTreeMap<Identity, i64>;

/// Our outputs, as far as this process signed or missed any.
#[derive(Default)]
pub(super) struct OwnOutputs {
    /// Highest number that we signed: the coordinator may have kept it back.
    signed: Option<SerialId>,
    /// Highest number of ours that we were told of: none comes below it again.
    shown: Option<SerialId>,
    /// The last window that was judged by.
    judged: WindowSeq,
    /// Windows at whose end our work was paid to another output than we ask for, and those since.
    missed: u64,
    taken: u64,
    /// What was told of them last.
    told: u64,
}

impl OwnOutputs {
    /// Says after how many windows it is time to tell, now and then, that our work is not paid where we ask.
    fn judge(&mut self, window: WindowSeq, is_paid: bool) -> Option<u64> {
        if std::mem::replace(&mut self.judged, window) == window {
            return None;
        }
        if is_paid {
            self.taken = self.taken.saturating_add(1);
            if self.taken >= TAKEN_AFTER {
                (self.missed, self.told) = (0, 0);
            }
            return None;
        }
        self.taken = 0;
        self.missed = self.missed.saturating_add(1);
        let due = self.told.saturating_mul(2).max(MISSED_AFTER);
        (self.missed >= due).then(|| {
            self.told = self.missed;
            self.missed
        })
    }
}

/// What a block of a round is booked with, as hashes.
pub(super) struct Settles {
    carry: [u8; 32],
    /// Lane by lane.
    payouts: Vec<[u8; 32]>,
}

impl Settles {
    /// Of a round that we computed.
    pub(super) fn of(checked: &Checked, view: &PlanView<'_>) -> Self {
        let (carry, payouts) = match checked {
            Checked::ToSign(plan) => {
                let txids = plan.lanes().iter().map(|lane| lane.txid);
                let shards = plan.payees(view);
                let payouts = BlockPayouts::of_lanes(view.params, plan.inputs(), txids, &shards);
                (plan.carry_changes(view), payouts)
            }
            Checked::Direct(plan) => {
                let txids = plan.txids().into_iter();
                let payouts = BlockPayouts::of_lanes(view.params, plan.inputs(), txids, &[]);
                (plan.carry_changes(view), payouts)
            }
        };
        let carry = digest(&carry);
        Self { carry, payouts }
    }

    fn are_of(&self, booking: &Booking) -> bool {
        let payouts = self.payouts.get(usize::from(booking.lane.0));
        self.carry == digest(&booking.carry) && payouts == Some(&booking.payouts)
    }
}

/// All that a session holds.
pub(super) struct Joined {
    pub(super) params: PoolParams,
    pub(super) roster: Roster,
    pub(super) ledger: Ledger,
    pub(super) assignments: Assignments,
    /// Secret slots, announced and unused.
    pub(super) slots: BTreeMap<SlotKey, SigningSlot>,
    pub(super) pending: Option<Pending>,
    /// What we agree to once its ledger is checked, oldest first.
    pub(super) waiting: Vec<Agreed>,
    /// The newest job, if it is of a round that waits.
    pub(super) waiting_job: Option<Job>,
    /// Rounds that we refused lately: a job on one is no news.
    pub(super) refused: VecDeque<RoundId>,
    /// The last window before we joined.
    since: WindowSeq,
    /// What a block of each round that we agreed to is booked with, by the window it follows.
    settles: BTreeMap<WindowSeq, Vec<(RoundId, Settles)>>,
    /// Direct rounds that follow the ledger's last window.
    direct: (WindowSeq, usize),
}

impl Joined {
    /// The state that a welcome brings, with the ledger whose head the join named if it brings none.
    pub(super) fn new(
        params: PoolParams,
        welcome: Welcome,
        kept: Option<Ledger>,
    ) -> Result<Self, StateError> {
        let mut roster = Roster::default();
        for output in welcome.outputs {
            roster.restore_output(&params.coordinator, output)?;
        }
        let head = welcome.head.head;
        let ledger = match welcome.ledger {
            Some(snapshot) => {
                // It is large, and another one comes.
                drop(kept);
                Ledger::from_snapshot(snapshot, &head)?
            }
            None => kept
                .filter(|ledger| ledger.head() == head)
                .ok_or(StateError::NoLedger(head.seq))?,
        };
        Ok(Self {
            params,
            roster,
            ledger,
            assignments: Assignments::default(),
            slots: BTreeMap::new(),
            pending: None,
            waiting: Vec::new(),
            waiting_job: None,
            refused: VecDeque::new(),
            since: head.seq,
            settles: BTreeMap::new(),
            direct: Default::default(),
        })
    }

    pub(super) fn view(&self) -> PlanView<'_> {
        PlanView {
            params: &self.params,
            roster: &self.roster,
            ledger: &self.ledger,
            assignments: &self.assignments,
        }
    }

    /// Counts a direct round; says whether one more than an honest coordinator may need.
    pub(super) fn is_one_direct_round_too_many(&mut self) -> bool {
        let seq = self.ledger.seq();
        if self.direct.0 != seq {
            self.direct = (seq, 0);
        }
        self.direct.1 = self.direct.1.saturating_add(1);
        self.direct.1 > DIRECT_LIMIT
    }

    /// Remembers what a block of a round that follows a window is booked with.
    pub(super) fn remember(&mut self, seq: WindowSeq, round: RoundId, settles: Settles) {
        let known = self.settles.entry(seq).or_default();
        if known.iter().all(|(other, _)| *other != round) {
            known.push((round, settles));
        }
        let oldest = WindowSeq(seq.0.saturating_sub(BOOKING_WINDOWS));
        self.settles.retain(|window, _| *window >= oldest);
    }

    /// Whether a booking is what the found block's own payout gives. A round from before we joined
    /// can only be taken on the word of those who were there.
    fn is_true(&self, booking: &Booking, window: WindowSeq) -> bool {
        let mut known = self
            .settles
            .values()
            .flatten()
            .filter(|(round, _)| *round == booking.round);
        match known.next() {
            Some((_, settles)) => settles.are_of(booking),
            // One that was booked before is booked again as it was, or not appended.
            None if self.ledger.block(&booking.block).is_some() => true,
            None => window.0.saturating_sub(self.since.0) <= BOOKING_WINDOWS,
        }
    }

    /// What the ledger says of found blocks.
    pub(super) fn claims(&self) -> Vec<BlockClaim> {
        let claim = |(block, known): (&[u8; 32], &BookedBlock)| BlockClaim {
            block: *block,
            booked: known.booked,
            window: known.changed,
        };
        self.ledger.blocks().map(claim).collect()
    }

    /// Work of ours in windows that were closed while we were away, if the ledger does not show it.
    pub(super) fn missing_work(
        &self,
        me: &Identity,
        own: &BTreeMap<WindowSeq, Work>,
    ) -> Option<Event> {
        let recorded: Vec<(WindowSeq, Work)> = self.ledger.work_of(me).collect();
        let mut acknowledged: BTreeMap<usize, Work> = BTreeMap::new();
        for (window, work) in own.range(..=self.ledger.seq()) {
            let covers = |(last, _): &(WindowSeq, Work)| last >= window;
            let span = recorded.iter().position(covers);
            let sum = acknowledged
                .entry(span.unwrap_or(recorded.len()))
                .or_default();
            // Beyond 2^128 hashes nobody can have been acknowledged.
            *sum = Work(sum.0.saturating_add(work.0));
        }
        acknowledged.into_iter().find_map(|(span, acknowledged)| {
            let none = (self.ledger.seq(), Work::ZERO);
            let (window, recorded) = recorded.get(span).copied().unwrap_or(none);
            (recorded < acknowledged).then_some(Event::WorkMissing {
                window,
                acknowledged,
                recorded,
            })
        })
    }

    /// What a record says against what we know ourselves.
    fn dispute(&self, me: &Identity, own: Option<&Work>, record: &WindowRecord) -> Option<Event> {
        let recorded = record.tally.get(me).copied().unwrap_or_default();
        let acknowledged = own.copied().unwrap_or_default();
        if recorded < acknowledged {
            return Some(Event::WorkMissing {
                window: record.seq,
                acknowledged,
                recorded,
            });
        }
        // One round has one block at a time. That nothing else is unbooked than was booked, the ledger
        // itself sees to.
        let mut booked: BTreeSet<RoundId> = self.ledger.booked_rounds().collect();
        let wrong = record.bookings.iter().find(|booking| {
            if booking.undone {
                return !booked.remove(&booking.round);
            }
            !booked.insert(booking.round) || !self.is_true(booking, record.seq)
        });
        wrong.map(|booking| Event::WrongBooking {
            round: booking.round,
        })
    }
}

/// An odd number above those that we signed: what was kept back of them is below what comes now, also of what a process
/// before this one signed in earlier windows. And one that nobody else has.
fn next_serial_id(above: Option<SerialId>, open: WindowSeq, random: u64) -> Option<SerialId> {
    let first = open.0.saturating_mul(1 << WINDOW_BITS).min(FIRST_MAX);
    let above = above.map_or(first, |SerialId(above)| above.max(first)) | 1;
    let pairs = (u64::MAX - above) / 2;
    let step = random.checked_rem(pairs.min(STEP_MAX))?.checked_add(1)?;
    Some(SerialId(above.checked_add(step.checked_mul(2)?)?))
}

fn digest(carry: &Carries) -> [u8; 32] {
    let digest = Digest::new("tutti/carries").count(carry.len());
    carry
        .iter()
        .fold(digest, |d, (who, sat)| d.fixed(who.as_bytes()).i64(*sat))
        .finish()
}

impl Participant {
    pub(super) fn joined(&mut self) -> Option<&mut Joined> {
        match &mut self.state {
            State::Joined(joined) => Some(joined),
            _ => None,
        }
    }

    /// Makes the wallet's script our active output, and takes the older ones out. The active one
    /// goes only once its successor is relayed, so that our work is paid to some output of ours at
    /// any moment, whatever the coordinator refuses.
    pub(super) fn register_output(&mut self, turn: &mut Turn<'_>) {
        let me = self.identity();
        let (script, shown) = (self.settings.script.clone(), self.outputs.shown);
        let Some(joined) = self.joined() else { return };
        let coordinator = joined.params.coordinator;
        let active = joined.roster.active(&me);
        let is_current = active.is_some_and(|(_, payee)| payee.script == script);
        let active = active.map(|(serial_id, _)| serial_id);
        let mine = joined
            .roster
            .iter()
            .filter(|(_, payee)| payee.identity == me);
        let mut older: Vec<SerialId> = mine.map(|(serial_id, _)| serial_id).collect();
        let highest = older.iter().max().copied();
        let shown = highest.max(shown);
        older.retain(|serial_id| active != Some(*serial_id));
        let open = joined.ledger.seq().next();
        for serial_id in older {
            self.remove_output(turn, &coordinator, serial_id);
        }
        self.outputs.shown = shown;
        if is_current {
            return;
        }
        let above = shown.max(self.outputs.signed);
        // Never, unless we chose the highest of all.
        let Some(serial_id) = next_serial_id(above, open, turn.rng.next_u64()) else {
            return;
        };
        self.outputs.signed = Some(serial_id);
        let aux = turn.aux();
        let output = TxAddOutput::sign(&self.key, &coordinator, serial_id, script, &aux);
        turn.send(ToCoordinator::TxAddOutput(output));
    }

    /// Tells that our work goes on being paid to an output that we have given up.
    pub(super) fn miss_output(&mut self, turn: &mut Turn<'_>) {
        let (me, script) = (self.identity(), self.settings.script.clone());
        let Some(joined) = self.joined() else { return };
        let active = joined.roster.active(&me);
        let is_paid = active.is_none_or(|(_, payee)| payee.script == script);
        let window = joined.ledger.seq();
        if let Some(windows) = self.outputs.judge(window, is_paid) {
            turn.tell(Event::OutputNotTaken { windows });
        }
    }

    fn remove_output(&self, turn: &mut Turn<'_>, coordinator: &Identity, serial_id: SerialId) {
        let aux = turn.aux();
        let removal = TxRemoveOutput::sign(&self.key, coordinator, serial_id, &aux);
        turn.send(ToCoordinator::TxRemoveOutput(removal));
    }

    pub(super) fn payout_script(&mut self, turn: &mut Turn<'_>, script: PayoutScript) {
        self.settings.script = script;
        self.register_output(turn);
    }

    pub(super) fn output_added(&mut self, turn: &mut Turn<'_>, output: TxAddOutput) {
        let ours = output.identity == self.identity();
        let (serial_id, shown) = (output.serial_id, self.outputs.shown);
        let Some(joined) = self.joined() else { return };
        let coordinator = joined.params.coordinator;
        match joined.roster.add_output(&coordinator, output) {
            Err(error) => self.leave(turn, Event::BadState(error.into())),
            Ok(()) if ours && Some(serial_id) <= shown => {
                let error = StateError::BroughtBack(serial_id);
                self.leave(turn, Event::BadState(error));
            }
            Ok(()) if ours => self.register_output(turn),
            Ok(()) => {}
        }
    }

    pub(super) fn output_removed(&mut self, turn: &mut Turn<'_>, removal: &TxRemoveOutput) {
        let Some(joined) = self.joined() else { return };
        let result = removal
            .verify(&joined.params.coordinator)
            .map_err(|_| StateError::UnsignedRemoval)
            .and_then(|()| {
                Ok(joined
                    .roster
                    .take_out(removal.identity, removal.serial_id)?)
            });
        if let Err(error) = result {
            self.leave(turn, Event::BadState(error));
        }
    }

    pub(super) fn output_expired(&mut self, turn: &mut Turn<'_>, expired: OutputExpired) {
        let (me, serial_id) = (self.identity(), expired.serial_id);
        let has_work = !self.own_work.is_empty();
        let Some(joined) = self.joined() else { return };
        let owner = joined.roster.payee(serial_id).map(|payee| payee.identity);
        let forgotten = |who: &Identity| {
            let ours = *who == me && has_work;
            !ours && *who != joined.params.coordinator && joined.ledger.has_forgotten(who)
        };
        let removed = owner
            .filter(forgotten)
            .is_some_and(|who| joined.roster.remove_output(who, serial_id).is_ok());
        match (removed, owner) {
            (false, _) => self.leave(turn, Event::BadState(StateError::Expired(serial_id))),
            (true, Some(who)) if who == me => self.register_output(turn),
            (true, _) => {}
        }
    }

    pub(super) fn window_closed(&mut self, turn: &mut Turn<'_>, closed: &WindowClosed) {
        let me = self.identity();
        let head = &closed.head;
        let Some(joined) = self.joined() else { return };
        let coordinator = joined.params.coordinator;
        // Of a window that cannot come next nothing is noted: what is kept could be flooded.
        let next = head.head.seq <= joined.ledger.seq().next();
        if next && !self.note_head(turn, &coordinator, head) {
            return;
        }
        let own = self.own_work.get(&closed.record.seq).copied();
        let Some(joined) = self.joined() else { return };
        let record = match closed.record(&joined.roster) {
            Ok(record) => record,
            Err(error) => return self.leave(turn, Event::BadState(error.into())),
        };
        let record = &record;
        if let Some(dispute) = joined.dispute(&me, own.as_ref(), record) {
            // Said once: the snapshot that we shall be given may contain it.
            self.own_work.remove(&record.seq);
            return self.leave(turn, dispute);
        }
        if let Err(error) = joined.ledger.append(record) {
            return self.leave(turn, Event::BadState(error.into()));
        }
        if joined.ledger.head() != head.head {
            let error = LedgerError::NotThisHead(record.seq);
            return self.leave(turn, Event::BadState(error.into()));
        }
        self.own_work.retain(|window, _| *window > record.seq);
        self.hashing.acknowledged.closed(record.seq);
        // What the last window had no room for.
        self.register_output(turn);
        self.miss_output(turn);
        let claim = |booking: &Booking| BlockClaim {
            block: booking.block,
            booked: !booking.undone,
            window: record.seq,
        };
        self.look_up(turn, record.bookings.iter().map(claim).collect());
        self.miss_bookings(turn);
        for credit in record.credits.iter().filter(|of| of.identity == me) {
            turn.tell(Event::Credited {
                payout: credit.payout(),
                block: credit.block,
                sat: credit.sat,
            });
        }
    }

    pub(super) fn assigned(&mut self, assignments: Assignments) {
        if let Some(joined) = self.joined() {
            joined.assignments = assignments;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_output_has_a_number_above_the_last_ones_and_above_those_of_windows_before() {
        let mut highest = None;
        for (window, random) in [(0, u64::MAX), (1, 0), (1, 1), (7, STEP_MAX), (7, u64::MAX)] {
            let next = next_serial_id(highest, WindowSeq(window), random).unwrap();
            assert!(next.is_participants() && Some(next) > highest, "{next}");
            // A process that does not know of it is above it in the next window.
            let later = next_serial_id(None, WindowSeq(window + 1), 0).unwrap();
            assert!(later > next, "{later}");
            highest = Some(next);
        }
        let top = |above, random| next_serial_id(Some(SerialId(above)), WindowSeq(1), random);
        for random in [0, 1, u64::MAX] {
            assert_eq!(top(u64::MAX - 2, random), Some(SerialId(u64::MAX)));
            assert_eq!(top(u64::MAX, random), None);
        }
        assert_eq!(top(u64::MAX - 4, 1), Some(SerialId(u64::MAX)));
        let last = next_serial_id(None, WindowSeq(u64::MAX), 0);
        assert_eq!(last, Some(SerialId(FIRST_MAX + 3)));
    }

    #[test]
    fn a_script_that_is_not_taken_is_told_of_now_and_then_until_it_is_for_good() {
        let mut outputs = OwnOutputs::default();
        let mut window = WindowSeq(0);
        let mut judge = |outputs: &mut OwnOutputs, is_paid| {
            window = window.next();
            let told = outputs.judge(window, is_paid);
            assert_eq!(outputs.judge(window, is_paid), None, "once a window");
            told
        };
        let told: Vec<_> = (0..16).filter_map(|_| judge(&mut outputs, false)).collect();
        assert_eq!(told, [4, 8, 16]);
        // Taken for a moment only.
        assert_eq!(judge(&mut outputs, true), None);
        let told: Vec<_> = (0..16).filter_map(|_| judge(&mut outputs, false)).collect();
        assert_eq!(told, [32]);
        assert!((0..TAKEN_AFTER).all(|_| judge(&mut outputs, true).is_none()));
        let told: Vec<_> = (0..4).filter_map(|_| judge(&mut outputs, false)).collect();
        assert_eq!(told, [4]);
    }
}
