//! What happened in a window, in a form that lasts: parts while it is open, a segment once it is closed.
//!
//! A segment explains itself: it holds the terms of every round that its shares name, so that each
//! share can be judged, and the record and the head that they must add up to. The amounts of a round
//! follow from the windows before it, or from a [`Checkpoint`].

mod cid;

use std::sync::Arc;

use bitcoin::{Transaction, TxOut};

pub use cid::{BadFileId, FileId};

use crate::id::{LaneIndex, RoundId, WindowSeq};
use crate::message::{OutputExpired, SignedHead, TxAddOutput, TxRemoveOutput};
use crate::musig::AggregateKey;
use crate::params::PoolName;
use crate::payout;
use crate::roster::{Roster, RosterError};
use crate::terms::{CheckedTerms, Rolled, RoundTerms, TermsError};
use crate::window::{Booking, Ledger, LedgerError, LedgerSnapshot, WindowRecord};

/// Version of the files' format.
pub const FILE_FORMAT: u32 = 2;
/// Bytes of a share in a part.
pub const PACKED_SHARE_SIZE: usize = 20;
/// Shares of each part of a segment but the last.
pub const SHARES_OF_PART: usize = 65_536;

/// A share in a part. What it lacks of a [`ShareRecord`](crate::share::ShareRecord) its terms say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedShare {
    /// Place of its round's terms in the window's list.
    pub terms: u16,
    /// Place of its owner among those of the terms.
    pub owner: u32,
    /// What the miner chose.
    pub rolled: Rolled,
}

/// A change of the payee set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputChange {
    /// An output was added.
    Added(TxAddOutput),
    /// Its owner took an output out.
    Removed(TxRemoveOutput),
    /// An output made room for another.
    Expired(OutputExpired),
}

/// The next of what happened in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowPart {
    /// The window.
    pub window: WindowSeq,
    /// Terms that are appended to the window's list.
    pub terms: Vec<RoundTerms>,
    /// Changes of the payee set, in their order.
    pub outputs: Vec<OutputChange>,
    /// Place of the first share, from 0.
    pub first_share: u64,
    /// Shares in the order of their acceptance.
    pub shares: Vec<PackedShare>,
}

/// A window has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowEnd {
    /// Its record.
    pub record: WindowRecord,
    /// Hash of the ledger's state after it.
    pub state: [u8; 32],
    /// The head after it.
    pub head: SignedHead,
}

/// A closed window with all that its record claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whose it is.
    pub pool: PoolName,
    /// What happened in it.
    pub parts: Vec<WindowPart>,
    /// Its end.
    pub end: WindowEnd,
}

/// The ledger and the payee set at one moment: where a check of later windows may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose it is.
    pub pool: PoolName,
    /// The ledger's state.
    pub ledger: LedgerSnapshot,
    /// Its head.
    pub head: SignedHead,
    /// The payee set, in an order in which adding gives the same set.
    pub outputs: Vec<TxAddOutput>,
    /// A round whose transcript commits to the head.
    pub signed: Option<SignedRound>,
}

/// A round, and a payout as proof that all its signers signed its transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRound {
    /// Its terms.
    pub terms: RoundTerms,
    /// The payout of lane 0, shard 0.
    pub payout: Transaction,
}

/// Why no segment can be made of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// A share names terms that are not there, or more rounds than shares can name.
    #[error("a share names the terms of a round that are not there")]
    Dangling,
    /// The terms of a round are missing of which a block is booked.
    #[error("the terms of round {0:.16}, of which a block is booked, are not there")]
    NoTerms(RoundId),
}

/// Why a checkpoint is not one to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The head is not signed by the coordinator.
    #[error("its head is not signed by the coordinator")]
    UnsignedHead,
    /// The ledger is not that of the head.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The payee set cannot be.
    #[error("its payee set: {0}")]
    Roster(#[from] RosterError),
    /// The round's terms do not belong together.
    #[error("the terms of its round: {0}")]
    Terms(#[from] TermsError),
    /// The round was proposed on another ledger.
    #[error("its round was signed on another ledger")]
    OtherLedger,
    /// The payout is not signed by the round's signers.
    #[error("its payout is not signed by the signers of its round")]
    Unsigned,
}

/// Why a change of the payee set cannot have been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The payee set does not take it.
    #[error("{0}")]
    Roster(#[from] RosterError),
    /// A removal is not signed by its identity.
    #[error("output {0} was removed without its owner's signature")]
    UnsignedRemoval(crate::id::SerialId),
    /// An output expired that is not there, or whose owner has work or carry in the ledger.
    #[error("output {0} expired, although its owner is in the ledger or nobody has it")]
    Expired(crate::id::SerialId),
}

impl PackedShare {
    /// The 20 bytes.
    pub fn to_bytes(&self) -> [u8; PACKED_SHARE_SIZE] {
        let mut bytes = [0; PACKED_SHARE_SIZE];
        bytes[..2].copy_from_slice(&self.terms.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.rolled.lane.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.owner.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.rolled.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.rolled.time.to_le_bytes());
        bytes[16..].copy_from_slice(&self.rolled.nonce.to_le_bytes());
        bytes
    }

    /// Reads them.
    pub fn from_bytes(bytes: &[u8; PACKED_SHARE_SIZE]) -> Self {
        let two = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            terms: two(0),
            owner: four(4),
            rolled: Rolled {
                lane: LaneIndex(two(2)),
                version: four(8) as i32,
                time: four(12),
                nonce: four(16),
            },
        }
    }
}

/// The place of the terms under which a booked block was found: its round's, and those that name the
/// block before it if there are such.
pub fn terms_of(booking: &Booking, terms: &[Arc<CheckedTerms>]) -> Option<usize> {
    let of_round = |terms: &Arc<CheckedTerms>| terms.round() == booking.round;
    let previous = booking.previous_block();
    let is = |terms: &Arc<CheckedTerms>| {
        of_round(terms) && terms.terms().header.previous_block == previous
    };
    let mut places = terms.iter();
    places
        .position(is)
        .or_else(|| terms.iter().position(of_round))
}

impl Segment {
    /// The one segment of a window: whoever has all that was told of it makes the same bytes, and so the
    /// same name. Terms come in the order in which shares name them first, then those that only a
    /// booking names; others are left out.
    pub fn new(
        pool: PoolName,
        terms: &[Arc<CheckedTerms>],
        outputs: Vec<OutputChange>,
        shares: &[PackedShare],
        end: WindowEnd,
    ) -> Result<Self, SegmentError> {
        let mut kept: Vec<usize> = Vec::new();
        let mut places: Vec<Option<u16>> = vec![None; terms.len()];
        let booked = end.record.bookings.iter().map(|booking| {
            let found = terms_of(booking, terms);
            found.ok_or(SegmentError::NoTerms(booking.round))
        });
        let named = shares.iter().map(|share| Ok(usize::from(share.terms)));
        for place in named.chain(booked) {
            let place = place?;
            let kept_at = places.get_mut(place).ok_or(SegmentError::Dangling)?;
            if kept_at.is_none() {
                let next = u16::try_from(kept.len()).map_err(|_| SegmentError::Dangling)?;
                *kept_at = Some(next);
                kept.push(place);
            }
        }
        let window = end.record.seq;
        let mut parts: Vec<WindowPart> = Vec::new();
        for (chunk, first) in shares
            .chunks(SHARES_OF_PART)
            .zip((0u64..).step_by(SHARES_OF_PART))
        {
            let renamed = |share: &PackedShare| {
                let terms = places.get(usize::from(share.terms)).copied().flatten();
                let terms = terms.ok_or(SegmentError::Dangling)?;
                Ok(PackedShare { terms, ..*share })
            };
            parts.push(WindowPart {
                window,
                first_share: first,
                shares: chunk.iter().map(renamed).collect::<Result<_, _>>()?,
                ..WindowPart::default()
            });
        }
        if parts.is_empty() {
            parts.push(WindowPart {
                window,
                ..WindowPart::default()
            });
        }
        if let Some(part) = parts.first_mut() {
            let kept = kept.iter().filter_map(|place| terms.get(*place));
            part.terms = kept.map(|terms| terms.terms().clone()).collect();
            part.outputs = outputs;
        }
        Ok(Self { pool, parts, end })
    }
}

impl OutputChange {
    /// Makes the change, if its owner or the ledger allows it.
    pub fn apply(
        &self,
        pool: &PoolName,
        ledger: &Ledger,
        roster: &mut Roster,
    ) -> Result<(), ChangeError> {
        match self {
            Self::Added(output) => roster.add_output(&pool.coordinator, output.clone())?,
            Self::Removed(removal) => {
                removal
                    .verify(&pool.coordinator)
                    .map_err(|_| ChangeError::UnsignedRemoval(removal.serial_id))?;
                if removal.identity == pool.coordinator {
                    // With a restart, at which another takes its place.
                    roster.remove_output(removal.identity, removal.serial_id)?;
                } else {
                    roster.take_out(removal.identity, removal.serial_id)?;
                }
            }
            Self::Expired(OutputExpired { serial_id }) => {
                let owner = roster.payee(*serial_id).map(|payee| payee.identity);
                let owner =
                    owner.filter(|who| *who != pool.coordinator && ledger.has_forgotten(who));
                let owner = owner.ok_or(ChangeError::Expired(*serial_id))?;
                roster.remove_output(owner, *serial_id)?;
            }
        }
        Ok(())
    }
}

impl SignedRound {
    /// Checks that the signers of the round's transcript signed this payout of its lane 0: nobody else
    /// can, and they sign nothing but what they computed from the transcript.
    pub fn check(&self, pool: &PoolName) -> Result<(), CheckpointError> {
        let terms = self.terms.clone().check(pool)?;
        let signers = self.terms.inputs.signers.iter();
        let keys = signers.map(|signer| signer.key).collect();
        let key = AggregateKey::new(keys, &payout::leaf_hash(&terms.round().0));
        let key = key.map_err(|_| CheckpointError::Unsigned)?;
        let lane = terms.coinbase(LaneIndex(0));
        let lane = lane.ok_or(CheckpointError::Unsigned)?;
        let prevout: &TxOut = lane.output.first().ok_or(CheckpointError::Unsigned)?;
        let [input] = &self.payout.input[..] else {
            return Err(CheckpointError::Unsigned);
        };
        let spends =
            input.previous_output.txid == lane.compute_txid() && input.previous_output.vout == 0;
        // Something beside the signature would be another way to spend, or an annex, which it does not cover.
        let signature = input.witness.iter().next();
        let signature = signature.filter(|_| input.witness.len() == 1);
        let signature = signature.and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        let sighash = payout::sighash(&self.payout, prevout);
        match signature {
            Some(signature) if spends && key.verify(&sighash, &signature) => Ok(()),
            _ => Err(CheckpointError::Unsigned),
        }
    }
}

impl Checkpoint {
    /// Checks that the coordinator signed this state, and that the signers of its round did, if it has
    /// one.
    pub fn check(self) -> Result<(Ledger, Roster), CheckpointError> {
        let coordinator = self.pool.coordinator;
        self.head
            .verify(&coordinator)
            .map_err(|_| CheckpointError::UnsignedHead)?;
        if let Some(signed) = &self.signed {
            if signed.terms.inputs.ledger != self.head.head {
                return Err(CheckpointError::OtherLedger);
            }
            signed.check(&self.pool)?;
        }
        let mut roster = Roster::default();
        for output in self.outputs {
            roster.restore_output(&coordinator, output)?;
        }
        Ok((Ledger::from_snapshot(self.ledger, &self.head.head)?, roster))
    }
}
