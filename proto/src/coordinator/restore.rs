//! Starting from what was on disk: the records, in the order in which they were persisted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::blocks::{JudgedBlock, note_booked, note_fate};
use super::shares::OpenWindow;
use super::{Coordinator, Found, Record, Settings};
use crate::deadline::{Deadlines, Millis};
use crate::id::Identity;
use crate::id::SerialId;
use crate::identity::IdentityKey;
use crate::message::{SignedHead, TxAddOutput, TxRemoveOutput};
use crate::params::PoolParams;
use crate::roster::{Roster, RosterError};
use crate::script::PayoutScript;
use crate::segment::WindowEnd;
use crate::share::ShareRecord;
use crate::window::{Ledger, LedgerError};

/// The state that records add up to.
#[derive(Default)]
pub struct Restored {
    roster: Roster,
    ledger: Ledger,
    open: Vec<ShareRecord>,
    candidates: BTreeMap<[u8; 32], Found>,
    blocks: Vec<JudgedBlock>,
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
    /// Applies the next record.
    pub fn apply(&mut self, coordinator: &Identity, record: Record) -> Result<(), RestoreError> {
        match record {
            Record::OutputAdded(output) => self.roster.add_output(coordinator, output)?,
            Record::OutputRemoved(removal) => {
                self.roster
                    .remove_output(removal.identity, removal.serial_id)?;
            }
            Record::OutputExpired(serial_id) => {
                let identity = self.roster.payee(serial_id).map(|payee| payee.identity);
                let identity = identity.ok_or(RestoreError::NoSuchOutput(serial_id))?;
                self.roster.remove_output(identity, serial_id)?;
            }
            Record::WindowClosed(WindowEnd { record, .. }) => {
                self.ledger.append(&record)?;
                self.open.clear();
                note_booked(&mut self.blocks, &record);
            }
            Record::Share { window, share, .. } => {
                if window == self.ledger.seq().next() {
                    self.open.push(share);
                }
            }
            Record::Committed(_) | Record::Terms(..) => {}
            Record::Candidate(found) => {
                self.candidates.insert(found.hash, found);
            }
            Record::Verdict { hash, accepted } => {
                if let Some(found) = self.candidates.remove(&hash) {
                    self.blocks.push(JudgedBlock::new(found, accepted));
                }
            }
            Record::BlockFate { hash, fate } => {
                note_fate(&mut self.blocks, &hash, fate);
            }
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
            candidates,
            blocks,
        } = restored;
        let records = set_operator_output(&mut roster, &key, operator_script, aux);
        let head = SignedHead::sign(&key, ledger.head(), aux);
        let mut window = OpenWindow::after(&head.head, None);
        for share in &open {
            let _ = window.add(share); // It was added before.
        }
        let coordinator = Self {
            key,
            params,
            settings,
            roster,
            ledger,
            head,
            window,
            blocks,
            candidates,
            sessions: BTreeMap::new(),
            members: BTreeMap::new(),
            standings: BTreeMap::new(),
            announced: BTreeSet::new(),
            assignments: Arc::default(),
            template: None,
            signing: None,
            ended: VecDeque::new(),
            live: Vec::new(),
            next_height: None,
            submitted: BTreeSet::new(),
            last_round_at: Millis(0),
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
