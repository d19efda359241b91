//! The segments of a world's closed windows, made from what its coordinator persisted.

use std::collections::BTreeMap;
use std::sync::Arc;

use tutti_proto::coordinator::Record;
use tutti_proto::id::{Identity, LaneIndex, RoundId, WindowSeq};
use tutti_proto::message::OutputExpired;
use tutti_proto::params::PoolParams;
use tutti_proto::roster::Roster;
use tutti_proto::segment::{
    Checkpoint, OutputChange, PackedShare, Segment, SegmentError, SignedRound, WindowEnd,
};
use tutti_proto::share::ShareRecord;
use tutti_proto::terms::{CheckedTerms, Rolled, TermsError};
use tutti_proto::window::{Ledger, LedgerSnapshot};

use super::World;

/// Why the records of a world make no segments.
#[derive(Debug)]
pub enum ArchiveError {
    /// Terms that do not belong together.
    Terms(TermsError),
    /// A segment that cannot be.
    Segment(SegmentError),
    /// A share of a round or owner that nobody told.
    Share(Box<ShareRecord>),
    /// A window that does not follow, or an output that cannot be.
    State(String),
}

/// What happened since the last closed window.
#[derive(Default)]
struct Open {
    outputs: Vec<OutputChange>,
    shares: Vec<PackedShare>,
}

/// All windows of a world.
pub struct Archive {
    /// The pool's parameters.
    pub params: PoolParams,
    /// Their segments.
    pub segments: Vec<Segment>,
    /// All rounds that were ever live.
    pub terms: Vec<Arc<CheckedTerms>>,
    /// The ledger and the payee set after each window, and the changes after it at which a round was
    /// proposed.
    states: BTreeMap<WindowSeq, (LedgerSnapshot, Roster, WindowEnd)>,
    rosters: BTreeMap<[u8; 32], Roster>,
}

impl Archive {
    /// Makes the segments of a world's closed windows.
    pub fn of(world: &World) -> Result<Self, ArchiveError> {
        let params = world.coordinator.params().clone();
        let (mut ledger, mut roster) = (Ledger::default(), Roster::default());
        let mut archive = Self {
            params,
            segments: Vec::new(),
            terms: Vec::new(),
            states: BTreeMap::new(),
            rosters: BTreeMap::new(),
        };
        let mut open = Open::default();
        for record in &world.records {
            let change = match record {
                Record::OutputAdded(output) => Some(OutputChange::Added(output.clone())),
                Record::OutputRemoved(removal) => Some(OutputChange::Removed(removal.clone())),
                Record::OutputExpired(serial_id) => {
                    let serial_id = *serial_id;
                    Some(OutputChange::Expired(OutputExpired { serial_id }))
                }
                _ => None,
            };
            if let Some(change) = change {
                let made = change.apply(&archive.params.name(), &ledger, &mut roster);
                made.map_err(|error| ArchiveError::State(error.to_string()))?;
                archive.rosters.insert(roster.digest(), roster.clone());
                open.outputs.push(change);
            }
            match record {
                Record::Terms(_, terms) => {
                    let checked = terms.clone().check(&archive.params.name());
                    let checked = checked.map_err(ArchiveError::Terms)?;
                    archive.terms.push(Arc::new(checked));
                }
                Record::Share { share, .. } => open.shares.push(archive.pack(share)?),
                Record::WindowClosed(end) => {
                    let closed = std::mem::take(&mut open);
                    archive.close(closed, end)?;
                    let appended = ledger.append(&end.record);
                    appended.map_err(|error| ArchiveError::State(error.to_string()))?;
                    let state = (ledger.snapshot(), roster.clone(), end.clone());
                    archive.states.insert(ledger.seq(), state);
                }
                _ => {}
            }
        }
        Ok(archive)
    }

    fn close(&mut self, open: Open, end: &WindowEnd) -> Result<(), ArchiveError> {
        let Open { outputs, shares } = open;
        let segment = Segment::new(
            self.params.name(),
            &self.terms,
            outputs,
            &shares,
            end.clone(),
        );
        self.segments.push(segment.map_err(ArchiveError::Segment)?);
        Ok(())
    }

    fn pack(&self, share: &ShareRecord) -> Result<PackedShare, ArchiveError> {
        let word = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&share.header[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let rolled = Rolled {
            lane: share.lane,
            version: word(0) as i32,
            time: word(68),
            nonce: word(76),
        };
        let is_its = |terms: &Arc<CheckedTerms>| {
            let judged = terms.judge(&share.identity, &rolled);
            judged.is_ok_and(|judged| judged.record == *share)
        };
        let place = self.terms.iter().position(is_its);
        let place = place.and_then(|place| {
            let owner = self.place_of(place, &share.identity)?;
            Some((u16::try_from(place).ok()?, owner))
        });
        let nobody_told = || ArchiveError::Share(Box::new(*share));
        let (terms, owner) = place.ok_or_else(nobody_told)?;
        Ok(PackedShare {
            terms,
            owner,
            rolled,
        })
    }

    fn place_of(&self, terms: usize, who: &Identity) -> Option<u32> {
        let owners = self.terms.get(terms)?.owners();
        u32::try_from(owners.binary_search(who).ok()?).ok()
    }

    /// The state after a window, as a coordinator gives it to newcomers.
    pub fn checkpoint(&self, window: WindowSeq) -> Option<Checkpoint> {
        let (ledger, roster, end) = self.states.get(&window)?;
        let outputs = roster.in_order_of_adding().into_iter();
        Some(Checkpoint {
            pool: self.params.name(),
            ledger: ledger.clone(),
            head: end.head,
            outputs: outputs.map(|(_, output)| output.clone()).collect(),
            signed: None,
        })
    }

    /// The state that a round was proposed on, and the payout that its signers signed.
    pub fn signed_checkpoint(&self, world: &World, round: &RoundId) -> Option<Checkpoint> {
        let terms = self.terms.iter().find(|terms| terms.round() == *round)?;
        let inputs = &terms.terms().inputs;
        let mut checkpoint = self.checkpoint(inputs.ledger.seq)?;
        let roster = self.rosters.get(&inputs.roster)?;
        let outputs = roster.in_order_of_adding().into_iter();
        checkpoint.outputs = outputs.map(|(_, output)| output.clone()).collect();
        let payout = world.records.iter().find_map(|record| match record {
            Record::Committed(committed) if committed.round == *round => {
                let (_, payouts) = committed.lane(LaneIndex(0))?;
                payouts.into_iter().next()
            }
            _ => None,
        });
        checkpoint.signed = Some(SignedRound {
            terms: terms.terms().clone(),
            payout: payout?,
        });
        Some(checkpoint)
    }
}
