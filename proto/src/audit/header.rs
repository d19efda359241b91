//! The header of a found block: that it is the block's, and that its coinbase is a lane's.

use std::sync::Arc;

use crate::id::{Identity, LaneIndex, RoundId, WindowSeq};
use crate::segment::Segment;
use crate::terms::{CheckedTerms, TermsError};
use crate::work::{header_hash, leading_zero_bits, meets_target};

use bitcoin::hashes::Hash;

/// The share that made a block.
#[derive(Clone, Debug)]
pub struct WinningShare {
    /// The window that counts it.
    pub window: WindowSeq,
    /// Its place there, from 0.
    pub share: u64,
    /// Whose it is.
    pub owner: Identity,
    /// Its round.
    pub round: RoundId,
    /// Its lane.
    pub lane: LaneIndex,
    /// The header.
    pub header: [u8; 80],
}

/// Why a header is not that of a block of this lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It hashes to something else.
    #[error("the header hashes to {}, not to the block's hash", bitcoin::BlockHash::from_byte_array(*.0))]
    OtherHash([u8; 32]),
    /// It is built on another block than the terms say.
    #[error("the header is built on another block than the round's terms name")]
    OtherParent,
    /// Its merkle root does not lead from the lane's coinbase.
    #[error("the header's merkle root does not lead from the coinbase of lane {0}")]
    OtherCoinbase(LaneIndex),
    /// Its target is not that of the terms, which is that of the round's transcript.
    #[error("the header's target is {claimed:08x}, its round's terms have {terms:08x}")]
    OtherTarget {
        /// In the header.
        claimed: u32,
        /// In the terms.
        terms: u32,
    },
    /// It is no block of this pool's regtest.
    #[error("the header's hash has {zeros} leading zero bits, a block has {asked}")]
    ZeroBits {
        /// Of its hash.
        zeros: u8,
        /// What the pool's parameters ask for.
        asked: u8,
    },
    /// It is no block.
    #[error("the header does not meet its target {0:08x}")]
    Target(u32),
}

/// Checks that a header is the block's and leads from the coinbase of a lane of this round.
pub fn check_header(
    header: &[u8; 80],
    block: &[u8; 32],
    terms: &CheckedTerms,
    lane: LaneIndex,
) -> Result<(), HeaderError> {
    let hash = header_hash(header);
    if hash != *block {
        return Err(HeaderError::OtherHash(hash));
    }
    let told = &terms.terms().header;
    if header[4..36] != told.previous_block {
        return Err(HeaderError::OtherParent);
    }
    if terms.root(lane).is_none_or(|root| header[36..68] != root) {
        return Err(HeaderError::OtherCoinbase(lane));
    }
    let bits = u32::from_le_bytes([header[72], header[73], header[74], header[75]]);
    if bits != told.bits {
        let (claimed, terms) = (bits, told.bits);
        return Err(HeaderError::OtherTarget { claimed, terms });
    }
    if !meets_target(&hash, bits) {
        return Err(HeaderError::Target(bits));
    }
    let (zeros, asked) = (
        leading_zero_bits(&hash),
        terms.terms().params.block_zero_bits,
    );
    match asked {
        Some(asked) if zeros < asked => Err(HeaderError::ZeroBits { zeros, asked }),
        _ => Ok(()),
    }
}

/// The share of a segment whose header has this hash.
pub fn find_header(segment: &Segment, hash: &[u8; 32]) -> Result<Option<WinningShare>, TermsError> {
    let told = segment.parts.iter().flat_map(|part| &part.terms);
    let checked = told.map(|terms| terms.clone().check(&segment.pool).map(Arc::new));
    let terms: Vec<Arc<CheckedTerms>> = checked.collect::<Result<_, _>>()?;
    let shares = segment.parts.iter().flat_map(|part| &part.shares);
    for (place, share) in (0u64..).zip(shares) {
        let Some(terms) = terms.get(usize::from(share.terms)) else {
            continue;
        };
        let owner = usize::try_from(share.owner).ok();
        let owner = owner.and_then(|place| terms.owners().get(place).copied());
        let judged = owner.and_then(|owner| terms.judge(&owner, &share.rolled).ok());
        if let Some(judged) = judged.filter(|judged| judged.hash == *hash) {
            return Ok(Some(WinningShare {
                window: segment.end.record.seq,
                share: place,
                owner: judged.record.identity,
                round: judged.record.round,
                lane: judged.record.lane,
                header: judged.record.header,
            }));
        }
    }
    Ok(None)
}
