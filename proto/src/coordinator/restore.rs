//! Starting from what was on disk: the records, in the order in which they were persisted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::blocks::{JudgedBlock, note_booked, note_fate};
use super::changes::Changes;
use super::credits::forget_credited;
use super::live::{Ahead, Credit, Given, LiveRound};
use super::room::Room;
use super::shares::OpenWindow;
use super::{Coordinator, Fate, Found, LiveNumber, LiveRecord, Record, Settings};
use crate::deadline::{Deadlines, Millis};
use crate::header::assemble_block;
use crate::id::{Identity, SerialId, WindowSeq};
use crate::identity::IdentityKey;
use crate::message::{SignedHead, TxAddOutput, TxRemoveOutput};
use crate::params::PoolParams;
use crate::roster::{Roster, RosterError};
use crate::script::PayoutScript;
use crate::segment::WindowEnd;
use crate::share::ShareRecord;
use crate::window::{self, Ledger, LedgerError};
use crate::work::header_hash;

/// The state that records add up to.
#[derive(Default)]
pub struct Restored {
    roster: Roster,
    ledger: Ledger,
    open: Vec<ShareRecord>,
    /// Changes of the payee set in the open window.
    changes: Changes,
    /// What was mined when the open window was opened.
    height: Option<u32>,
    candidates: BTreeMap<[u8; 32], Found>,
    blocks: Vec<JudgedBlock>,
    credits: Vec<window::Credit>,
    live: Vec<LiveRound>,
    next_live: LiveNumber,
    ahead: Option<Arc<LiveRecord>>,
    submitted: BTreeSet<[u8; 32]>,
}

/// The records contradict each other: the data directory is damaged or was edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// An output cannot have been added.
    #[error("stored payee set: {0}")]
    Roster(#[from] RosterError),
    /// An output expired that was not there.
    #[error("stored payee set: output {0} expired but was never added")]
    NoSuchOutput(SerialId),
    /// A window does not follow.
    #[error("stored ledger: {0}")]
    Ledger(#[from] LedgerError),
}

impl Restored {
    /// The state after a window, in place of the records up to it. Found blocks are yet to be told, by
    /// [`Restored::blocks`].
    pub fn after(ledger: Ledger, roster: Roster) -> Self {
        Self {
            ledger,
            roster,
            ..Self::default()
        }
    }

    /// The ledger so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The payee set so far.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// What tells another state, of the same ledger, of the found blocks that are not settled, and of the
    /// credits that are due.
    pub fn blocks(&self) -> Vec<Record> {
        let judged = self.blocks.iter().flat_map(|block| {
            let (hash, accepted) = (block.found.hash, block.in_chain);
            let candidate = Record::Candidate(block.found.clone());
            let fate = Fate::Settled;
            let settled = block.settled.then_some(Record::BlockFate { hash, fate });
            [candidate, Record::Verdict { hash, accepted }]
                .into_iter()
                .chain(settled)
        });
        let open = self.candidates.values().cloned().map(Record::Candidate);
        let credits = self.credits.iter().cloned().map(Box::new);
        judged
            .chain(open)
            .chain(credits.map(Record::Credit))
            .collect()
    }

    /// Applies the next record.
    pub fn apply(&mut self, coordinator: &Identity, record: Record) -> Result<(), RestoreError> {
        match record {
            Record::OutputAdded(output) => {
                self.changes.note(Some(output.identity));
                self.roster.restore_output(coordinator, output)?;
            }
            Record::OutputRemoved(removal) => {
                self.changes.note(Some(removal.identity));
                self.roster
                    .remove_output(removal.identity, removal.serial_id)?;
            }
            Record::OutputExpired(serial_id) => {
                self.changes.note(None);
                let identity = self.roster.payee(serial_id).map(|payee| payee.identity);
                let identity = identity.ok_or(RestoreError::NoSuchOutput(serial_id))?;
                self.roster.remove_output(identity, serial_id)?;
            }
            Record::WindowClosed(WindowEnd { record, .. }) => {
                self.ledger.append(&record)?;
                self.open.clear();
                (self.changes, self.height) = Default::default();
                note_booked(&mut self.blocks, &record);
                forget_credited(&mut self.credits, &record);
            }
            Record::WindowOpened { height } => self.height = Some(height),
            Record::Share { window, share, .. } => {
                self.credit(window, &share);
                if window == self.ledger.seq().next() {
                    self.open.push(share);
                }
            }
            Record::Committed(_) | Record::Terms(..) => {}
            Record::Live { number, round } => {
                self.next_live = LiveNumber(number.0.saturating_add(1));
                self.live
                    .push(LiveRound::new(number, round, BTreeSet::new()));
            }
            Record::JobsIssued { number, z } => {
                let mut live = self.live.iter_mut();
                if let Some(live) = live.find(|live| live.number == number) {
                    for (who, z) in z {
                        let slices = live.of.assignments.of(&who);
                        let given = || Given::of(z, slices);
                        live.given.entry(who).or_insert_with(given);
                    }
                }
            }
            Record::LiveStale(number) => {
                let mut live = self.live.iter_mut();
                if let Some(live) = live.find(|live| live.number == number) {
                    live.make_stale();
                }
            }
            Record::LiveForgotten(number) => self.live.retain(|live| live.number != number),
            Record::KeptAhead(round) => self.ahead = round,
            Record::Candidate(found) => {
                self.submitted.insert(found.hash);
                self.candidates.insert(found.hash, found);
            }
            Record::Verdict { hash, accepted } => {
                if let Some(found) = self.candidates.remove(&hash) {
                    let booked = self.ledger.block(&hash).is_some_and(|known| known.booked);
                    self.blocks.push(JudgedBlock {
                        booked,
                        ..JudgedBlock::new(found, accepted)
                    });
                }
            }
            Record::BlockFate { hash, fate } => {
                note_fate(&mut self.blocks, &hash, fate);
            }
            Record::Credit(credit) => self.credits.push(*credit),
        }
        Ok(())
    }

    /// Blocks that are not settled, and whether the best chain had them: follow their fate.
    pub fn unsettled(&self) -> impl Iterator<Item = (&Found, bool)> {
        self.blocks.iter().map(|b| (&b.found, b.in_chain))
    }

    /// Blocks handed to the node whose verdict is not on disk: ask the node, then report it.
    pub fn open_candidates(&self) -> impl Iterator<Item = &Found> {
        self.candidates.values()
    }

    /// One of them, whole, where its round is still live: we may have died before it reached the node.
    pub fn open_block(&self, found: &Found) -> Option<Vec<u8>> {
        let header = found.header;
        let live = self.live.iter().rev().find(|live| {
            let template = &live.of.template;
            live.of.round == found.round && header[4..36] == template.previous_block
        })?;
        let coinbase = live.of.coinbases.get(usize::from(found.lane.0))?;
        let transactions = &live.of.template.transactions;
        Some(assemble_block(&header, coinbase, transactions))
    }

    /// Numbers up to this one are not given to rounds again.
    pub fn number_after(&mut self, last: LiveNumber) {
        let next = LiveNumber(last.0.saturating_add(1));
        self.next_live = self.next_live.max(next);
    }

    /// Live rounds.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// The first window that may hold shares of rounds whose shares still count; with those from it on,
    /// none counts twice.
    pub fn credits_from(&self) -> WindowSeq {
        let open = self.ledger.seq().next();
        let counting = self.live.iter().filter(|live| !live.given.is_empty());
        // A round's number is that of the window that its proposal closed.
        let first = counting.map(|live| live.of.seq().0.saturating_add(1)).min();
        first.map_or(open, |first| WindowSeq(first).min(open))
    }

    /// A closed window's shares cannot be read: what came in it is unknown, so no more shares count of
    /// the rounds that it may be of. Blocks do.
    /// Gives what says so of each that still counted, to be saved.
    pub fn distrust(&mut self, window: WindowSeq) -> Vec<Record> {
        let live = self.live.iter_mut();
        let counted = live.filter(|live| live.credits && live.of.seq().0 < window.0);
        let stale = counted.map(|live| {
            live.make_stale();
            Record::LiveStale(live.number)
        });
        stale.collect()
    }

    /// Remembers that a share was accepted, as long as its round's shares count.
    fn credit(&mut self, window: WindowSeq, share: &ShareRecord) {
        let mut live = self.live.iter_mut().rev();
        let of = live.find(|live| {
            let template = &live.of.template;
            live.of.round == share.round && share.header[4..36] == template.previous_block
        });
        if let Some(given) = of.and_then(|live| live.given.get_mut(&share.identity)) {
            let hash = header_hash(&share.header);
            given.seen.insert(hash, Credit { window, told: None });
        }
    }
}

impl Coordinator {
    /// A coordinator in the state of the records. `aux` is randomness for the signatures of its own
    /// output and of the ledger's head.
    pub fn new(
        key: IdentityKey,
        params: PoolParams,
        settings: Settings,
        operator_script: PayoutScript,
        restored: Restored,
        aux: &[u8; 32],
    ) -> (Self, Vec<Record>) {
        let Restored {
            mut roster,
            ledger,
            open,
            changes,
            height,
            candidates,
            blocks,
            credits,
            live,
            next_live,
            ahead,
            submitted,
        } = restored;
        let records = set_operator_output(&mut roster, &key, operator_script, aux);
        let head = SignedHead::sign(&key, ledger.head(), aux);
        let mut window = OpenWindow::after(&head.head, height);
        window.changes = changes;
        records.iter().for_each(|_| window.changes.note(None));
        for share in &open {
            let _ = window.add(share); // It was added before.
        }
        // Of the round proposed last, as far as it is known; none on lanes that there were before.
        let rounds = live.iter().map(|live| &live.of).chain(&ahead);
        let newest = rounds.max_by_key(|of| of.seq());
        let newest = newest.map(|of| of.assignments.clone());
        let assignments = newest.filter(|all| all.are_on(params.lanes));
        let assignments = assignments.unwrap_or_default();
        let payouts = usize::from(params.lanes);
        let coordinator = Self {
            key,
            params,
            settings,
            room: Room::of(&roster, &ledger),
            roster,
            ledger,
            head,
            window,
            blocks,
            credits,
            candidates,
            sessions: BTreeMap::new(),
            members: BTreeMap::new(),
            standings: BTreeMap::new(),
            share_rates: BTreeMap::new(),
            announced: BTreeSet::new(),
            assignments,
            template: None,
            signing: None,
            expected: None,
            payouts,
            ended: VecDeque::new(),
            live,
            next_live,
            next_height: ahead.map(|of| Ahead {
                of,
                shown: BTreeSet::new(),
            }),
            submitted,
            last_round_at: Millis(0),
            greeting: None,
            given_up: 0,
            deadlines: Deadlines::default(),
        };
        (coordinator, records)
    }
}

/// Makes the configured script the operator's output; says what must be stored.
fn set_operator_output(
    roster: &mut Roster,
    key: &IdentityKey,
    script: PayoutScript,
    aux: &[u8; 32],
) -> Vec<Record> {
    let operator = key.identity();
    let mut records = Vec::new();
    let stored = roster.payee(SerialId::OPERATOR);
    if stored.is_some_and(|payee| payee.script == script) {
        return records;
    }
    if roster.remove_output(operator, SerialId::OPERATOR).is_ok() {
        let removal = TxRemoveOutput::sign(key, &operator, SerialId::OPERATOR, aux);
        records.push(Record::OutputRemoved(removal));
    }
    let output = TxAddOutput::sign(key, &operator, SerialId::OPERATOR, script, aux);
    if roster.add_output(&operator, output.clone()).is_ok() {
        records.push(Record::OutputAdded(output));
    }
    records
}
