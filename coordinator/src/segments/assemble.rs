//! A closed window's segment, from the store; and its shares, from the segment.

use tutti_proto::follower::{FollowError, check_record};
use tutti_proto::id::{RoundId, WindowSeq};
use tutti_proto::params::PoolParams;
use tutti_proto::segment::{OutputChange, Segment, WindowEnd, WindowPart};
use tutti_proto::share::{ShareRecord, ShareTree};
use tutti_proto::terms::{CheckedTerms, RoundTerms};

use super::{PackError, Packer, SegmentError, tip};
use crate::store::Reader;

/// Shares of one part: whoever reads slowly keeps one part in memory.
const SHARES_OF_PART: usize = 16_384;
/// Changes of the payee set in one part.
const OUTPUTS_OF_PART: usize = 4_096;

/// A segment that an auditor takes.
#[derive(Debug)]
pub struct Assembled {
    /// The segment.
    pub segment: Segment,
    /// Its shares.
    pub shares: u64,
}

/// Builds a window's segment and checks it as whoever reads it will.
pub fn assemble(
    reader: &Reader,
    params: &PoolParams,
    outputs: Vec<OutputChange>,
    end: WindowEnd,
) -> Result<Assembled, SegmentError> {
    let window = end.record.seq;
    let mut parts = Parts::new(reader, window, outputs);
    let mut failed = None;
    reader.shares(window, |share| {
        if failed.is_none() {
            failed = parts.share(&share).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    for booking in &end.record.bookings {
        parts.booked(&booking.round)?;
    }
    let segment = Segment {
        params: params.clone(),
        parts: parts.done(),
        end,
    };
    let (_, shares) = shares_of(&segment)?;
    let tree = ShareTree::of(&shares).map_err(FollowError::Overflow)?;
    check_record(&tree, &segment.end.record)?;
    Ok(Assembled {
        shares: tree.shares(),
        segment,
    })
}

/// The shares of a segment, each judged by its terms; and these.
pub fn shares_of(segment: &Segment) -> Result<(Vec<CheckedTerms>, Vec<ShareRecord>), SegmentError> {
    let window = segment.end.record.seq;
    let (mut terms, mut shares) = (Vec::new(), Vec::new());
    for part in &segment.parts {
        for of_round in &part.terms {
            let round = of_round.inputs.round_id(&segment.params);
            let checked = of_round.clone().check(&segment.params);
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

/// Parts that grow share by share.
struct Parts<'a> {
    reader: &'a Reader,
    window: WindowSeq,
    packer: Packer,
    done: Vec<WindowPart>,
    part: WindowPart,
    shares: u64,
}

impl<'a> Parts<'a> {
    fn new(reader: &'a Reader, window: WindowSeq, outputs: Vec<OutputChange>) -> Self {
        let part = |outputs: &[OutputChange]| WindowPart {
            window,
            outputs: outputs.to_vec(),
            ..WindowPart::default()
        };
        let mut done: Vec<WindowPart> = outputs.chunks(OUTPUTS_OF_PART).map(part).collect();
        Self {
            reader,
            window,
            packer: Packer::default(),
            part: done.pop().unwrap_or_else(|| part(&[])),
            done,
            shares: 0,
        }
    }

    fn share(&mut self, share: &ShareRecord) -> Result<(), SegmentError> {
        let mut packed = self.packer.pack(share);
        if packed == Err(PackError::NoTerms) {
            self.tell(&share.round, Some(tip(&share.header)))?;
            packed = self.packer.pack(share);
        }
        let (window, place) = (self.window, self.shares);
        let packed = packed.map_err(|source| SegmentError::Pack {
            window,
            share: place,
            source,
        })?;
        if self.part.shares.len() >= SHARES_OF_PART {
            self.end_part();
        }
        self.part.shares.push(packed);
        self.shares += 1;
        Ok(())
    }

    /// A block of this round was booked: the terms explain what it is.
    fn booked(&mut self, round: &RoundId) -> Result<(), SegmentError> {
        match self.packer.knows(round) {
            true => Ok(()),
            false => self.tell(round, None),
        }
    }

    fn tell(&mut self, round: &RoundId, tip: Option<[u8; 32]>) -> Result<(), SegmentError> {
        let terms: Option<RoundTerms> = self.reader.terms(self.window, round, tip)?;
        let terms = terms.ok_or(SegmentError::NoTerms(*round))?;
        let (window, share) = (self.window, self.shares);
        let told = self.packer.tell(*round, &terms);
        told.map_err(|source| SegmentError::Pack {
            window,
            share,
            source,
        })?;
        // The terms of a part stand before its shares.
        if !self.part.shares.is_empty() {
            self.end_part();
        }
        self.part.terms.push(terms);
        Ok(())
    }

    fn end_part(&mut self) {
        let next = WindowPart {
            window: self.window,
            first_share: self.shares,
            ..WindowPart::default()
        };
        self.done.push(std::mem::replace(&mut self.part, next));
    }

    fn done(mut self) -> Vec<WindowPart> {
        let last = &self.part;
        if !(last.terms.is_empty() && last.outputs.is_empty() && last.shares.is_empty()) {
            self.end_part();
        }
        self.done
    }
}
