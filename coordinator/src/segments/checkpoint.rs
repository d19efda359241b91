//! The state that a round was computed from: for those who start there, and to explain a found block.

use std::sync::{Arc, OnceLock};

use bitcoin::Transaction;
use prost::bytes::Bytes;
use tutti_proto::coordinator::{Committed, Record};
use tutti_proto::id::{LaneIndex, RoundId, WindowSeq};
use tutti_proto::message::{OutputExpired, SignedHead};
use tutti_proto::params::PoolName;
use tutti_proto::roster::Roster;
use tutti_proto::segment::{ChangeError, Checkpoint, OutputChange, SignedRound};
use tutti_proto::terms::RoundTerms;
use tutti_proto::window::Ledger;

use super::{SegmentError, checkpoint_frame};
use crate::store::Reader;

/// What a checkpoint is made of, when somebody asks for it.
pub struct CheckpointSource {
    /// The pool's parameters.
    pub pool: PoolName,
    /// The ledger that the round was proposed on.
    pub ledger: Ledger,
    /// Its head.
    pub head: SignedHead,
    /// The payee set at a time at or before the proposal.
    pub roster: Arc<Roster>,
    /// What changed in it since.
    pub changes: Vec<OutputChange>,
    /// The round.
    pub terms: RoundTerms,
    /// The payout of its lane 0, shard 0; none of a direct round.
    pub payout: Option<Transaction>,
    frame: OnceLock<Option<Bytes>>,
}

impl CheckpointSource {
    /// The state that the round's inputs name, as far as ledger and head are right.
    pub fn new(
        pool: PoolName,
        (ledger, head): (Ledger, SignedHead),
        (roster, changes): (Arc<Roster>, Vec<OutputChange>),
        terms: RoundTerms,
        payout: Option<Transaction>,
    ) -> Self {
        Self {
            pool,
            ledger,
            head,
            roster,
            changes,
            terms,
            payout,
            frame: OnceLock::new(),
        }
    }

    /// The last closed window.
    pub fn window(&self) -> WindowSeq {
        self.ledger.seq()
    }

    /// The checkpoint, with the payee set that the round was proposed on: at most 64 changes after the window.
    pub fn checkpoint(&self) -> Result<Checkpoint, SegmentError> {
        let mut roster = Roster::clone(&self.roster);
        let mut changes = self.changes.iter();
        while roster.digest() != self.terms.inputs.roster {
            let round = || self.terms.round();
            let change = changes
                .next()
                .ok_or_else(|| SegmentError::NoState(round()))?;
            apply(change, &self.pool, &mut roster)?;
        }
        let outputs = roster.in_order_of_adding().into_iter();
        let signed = self.payout.clone().map(|payout| SignedRound {
            terms: self.terms.clone(),
            payout,
        });
        Ok(Checkpoint {
            pool: self.pool,
            ledger: self.ledger.snapshot(),
            head: self.head,
            outputs: outputs.map(|(_, output)| output.clone()).collect(),
            signed,
        })
    }

    /// The checkpoint as followers are sent it: made once for all of them. None if it cannot be made.
    pub fn frame(&self) -> Option<Bytes> {
        let frame = || Some(checkpoint_frame(&self.checkpoint().ok()?));
        self.frame.get_or_init(frame).clone()
    }
}

/// The change of the payee set that a record is.
pub(crate) fn output_change(record: &Record) -> Option<OutputChange> {
    match record {
        Record::OutputAdded(output) => Some(OutputChange::Added(output.clone())),
        Record::OutputRemoved(removal) => Some(OutputChange::Removed(removal.clone())),
        Record::OutputExpired(serial_id) => Some(OutputChange::Expired(OutputExpired {
            serial_id: *serial_id,
        })),
        _ => None,
    }
}

/// The payout that proves what a round's signers signed.
pub(crate) fn proof(committed: &Committed) -> Option<Transaction> {
    let (_, payouts) = committed.lane(LaneIndex(0))?;
    payouts.into_iter().next()
}

/// Replays the log, up to `end`, to the state that a round was computed from.
pub fn state_of(
    reader: &Reader,
    end: u64,
    pool: &PoolName,
    terms: RoundTerms,
) -> Result<CheckpointSource, SegmentError> {
    let round = terms.round();
    let missing = || SegmentError::NoState(round);
    let (mut ledger, mut roster) = (Ledger::default(), Roster::default());
    let (mut head, mut first) = (None, 0);
    if let Some(base) = reader.base()? {
        let signed = base.state.head;
        (ledger, roster) = base.state.check()?;
        head = (signed.head == terms.inputs.ledger).then_some(signed);
        first = base.number;
    }
    let mut changes = Vec::new();
    for number in first..end {
        let record = reader.log(number)?;
        if let Some(change) = output_change(&record) {
            match head {
                None => apply(&change, pool, &mut roster)?,
                Some(_) => changes.push(change),
            }
        }
        if let Record::WindowClosed(closed) = record {
            if head.is_some() {
                break;
            }
            ledger.append(&closed.record)?;
            if ledger.head() == terms.inputs.ledger {
                head = Some(closed.head);
            }
        }
    }
    let payout = reader.committed(terms.inputs.seq, round)?;
    let payout = payout.as_ref().and_then(proof);
    Ok(CheckpointSource::new(
        *pool,
        (ledger, head.ok_or_else(missing)?),
        (Arc::new(roster), changes),
        terms,
        payout,
    ))
}

/// Repeats a change that was allowed when it was made.
fn apply(change: &OutputChange, pool: &PoolName, roster: &mut Roster) -> Result<(), ChangeError> {
    let (identity, serial_id) = match change {
        OutputChange::Added(output) => {
            return Ok(roster.restore_output(&pool.coordinator, output.clone())?);
        }
        OutputChange::Removed(removal) => (removal.identity, removal.serial_id),
        OutputChange::Expired(OutputExpired { serial_id }) => {
            let owner = roster.payee(*serial_id).map(|payee| payee.identity);
            (owner.ok_or(ChangeError::Expired(*serial_id))?, *serial_id)
        }
    };
    Ok(roster.remove_output(identity, serial_id)?)
}

/// The newest round that was signed, of those whose terms are kept.
pub fn last_signed(reader: &Reader) -> Result<Option<RoundTerms>, SegmentError> {
    for kept in reader.terms_backwards() {
        let (round, terms) = kept?;
        if is_signed(reader, round, &terms)? {
            return Ok(Some(terms));
        }
    }
    Ok(None)
}

fn is_signed(reader: &Reader, round: RoundId, terms: &RoundTerms) -> Result<bool, SegmentError> {
    if terms.inputs.is_direct() {
        return Ok(false);
    }
    let committed = reader.committed(terms.inputs.seq, round)?;
    Ok(committed.as_ref().and_then(proof).is_some())
}
