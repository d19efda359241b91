//! A closed window's segment, from the store; and its shares, from the segment.

use std::sync::Arc;

use tutti_proto::follower::{FollowError, check_record};
use tutti_proto::id::{RoundId, WindowSeq};
use tutti_proto::params::PoolName;
use tutti_proto::segment::{OutputChange, PackedShare, Segment, WindowEnd};
use tutti_proto::share::{ShareRecord, ShareTree};
use tutti_proto::terms::CheckedTerms;

use super::{KnownTerms, PackError, Packer, SegmentError, tip};
use crate::store::Reader;

/// Builds a window's segment and checks it as whoever reads it will.
pub(super) fn assemble(
    reader: &Reader,
    known: &mut KnownTerms,
    pool: &PoolName,
    outputs: Vec<OutputChange>,
    end: WindowEnd,
) -> Result<Segment, SegmentError> {
    let window = end.record.seq;
    let mut packed = Packed {
        reader,
        known,
        window,
        packer: Packer::default(),
        terms: Vec::new(),
        shares: Vec::new(),
    };
    let mut failed = None;
    reader.shares(window, |share| {
        if failed.is_none() {
            failed = packed.share(&share).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    for booking in &end.record.bookings {
        let previous = booking.previous_block();
        if !packed.packer.knows(&booking.round, previous) {
            packed.tell(&booking.round, previous)?;
        }
    }
    let Packed {
        terms,
        shares,
        known,
        ..
    } = packed;
    let segment = Segment::new(*pool, &terms, outputs, &shares, end)?;
    let (_, shares) = judged(&segment, known)?;
    let tree = ShareTree::of(&shares).map_err(FollowError::Overflow)?;
    check_record(&tree, &segment.end.record)?;
    Ok(segment)
}

/// The shares of a segment, each judged by its terms; and these.
pub fn shares_of(segment: &Segment) -> Result<Judged, SegmentError> {
    judged(segment, &mut KnownTerms::new(segment.pool))
}

/// Terms, and the shares that they allow.
type Judged = (Vec<Arc<CheckedTerms>>, Vec<ShareRecord>);

fn judged(segment: &Segment, known: &mut KnownTerms) -> Result<Judged, SegmentError> {
    let window = segment.end.record.seq;
    let (mut terms, mut shares) = (Vec::new(), Vec::new());
    for part in &segment.parts {
        for of_round in &part.terms {
            let round = of_round.round();
            let checked = known.check(of_round);
            terms.push(checked.map_err(|source| SegmentError::Terms { round, source })?);
        }
        for packed in &part.shares {
            let share = shares.len() as u64;
            let dangling = FollowError::Dangling { window, share };
            let terms = terms.get(usize::from(packed.terms)).ok_or(dangling)?;
            let place = usize::try_from(packed.owner).ok();
            let owner = place.and_then(|place| terms.owners().get(place));
            let owner = *owner.ok_or(dangling)?;
            let judged = terms.judge(&owner, &packed.rolled);
            let judged = judged.map_err(|refusal| FollowError::Share {
                window,
                share,
                owner,
                refusal,
            })?;
            shares.push(judged.record);
        }
    }
    Ok((terms, shares))
}

/// A window's shares, and the terms that they name.
struct Packed<'a> {
    reader: &'a Reader,
    known: &'a mut KnownTerms,
    window: WindowSeq,
    packer: Packer,
    terms: Vec<Arc<CheckedTerms>>,
    shares: Vec<PackedShare>,
}

impl Packed<'_> {
    fn share(&mut self, share: &ShareRecord) -> Result<(), SegmentError> {
        let mut packed = self.packer.pack(share);
        if packed == Err(PackError::NoTerms) {
            self.tell(&share.round, tip(&share.header))?;
            packed = self.packer.pack(share);
        }
        self.shares.push(packed.map_err(|why| self.unpacked(why))?);
        Ok(())
    }

    fn unpacked(&self, source: PackError) -> SegmentError {
        SegmentError::Pack {
            window: self.window,
            share: self.shares.len() as u64,
            source,
        }
    }

    fn tell(&mut self, round: &RoundId, tip: [u8; 32]) -> Result<(), SegmentError> {
        let round = *round;
        let terms = self.reader.terms(self.window, &round, Some(tip))?;
        let terms = terms.ok_or(SegmentError::NoTerms(round))?;
        let told = self.packer.tell(round, &terms);
        told.map_err(|why| self.unpacked(why))?;
        let checked = self.known.check(&terms);
        let checked = checked.map_err(|source| SegmentError::Terms { round, source })?;
        self.terms.push(checked);
        Ok(())
    }
}
