//! Shares as a window's parts have them: by the place of their terms and of their owner.

use std::collections::BTreeMap;

use thiserror::Error;
use tutti_proto::id::{Identity, RoundId};
use tutti_proto::segment::PackedShare;
use tutti_proto::share::ShareRecord;
use tutti_proto::terms::{Rolled, RoundTerms};

/// Why a share cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PackError {
    #[error("its round's terms are not known")]
    NoTerms,
    #[error("its round gave {0:.16} no slice")]
    NoOwner(Identity),
    #[error("the window has shares of more than 65,536 rounds")]
    TooManyRounds,
}

/// The previous block of a share's header, in the byte order in which it is hashed.
pub fn tip(header: &[u8; 80]) -> [u8; 32] {
    let mut tip = [0; 32];
    tip.copy_from_slice(&header[4..36]);
    tip
}

/// What the miner of a share chose.
pub fn rolled(share: &ShareRecord) -> Rolled {
    let header = &share.header;
    let four = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    Rolled {
        lane: share.lane,
        version: i32::from_le_bytes(four(0)),
        time: u32::from_le_bytes(four(68)),
        nonce: u32::from_le_bytes(four(76)),
    }
}

struct Told {
    place: u16,
    owners: Vec<Identity>,
}

/// Packs the shares of one window. Its terms are told in the order of their first use.
#[derive(Default)]
pub struct Packer {
    told: BTreeMap<(RoundId, [u8; 32]), Told>,
}

impl Packer {
    /// Whether this round's terms were told, under this previous block.
    pub fn knows(&self, round: &RoundId, previous: [u8; 32]) -> bool {
        self.told.contains_key(&(*round, previous))
    }

    /// Appends terms to the window's list.
    pub fn tell(&mut self, round: RoundId, terms: &RoundTerms) -> Result<(), PackError> {
        let place = u16::try_from(self.told.len()).map_err(|_| PackError::TooManyRounds)?;
        let owners = terms.assignments.owners().collect();
        let key = (round, terms.header.previous_block);
        self.told.insert(key, Told { place, owners });
        Ok(())
    }

    /// Packs a share whose terms were told.
    pub fn pack(&self, share: &ShareRecord) -> Result<PackedShare, PackError> {
        let told = self.told.get(&(share.round, tip(&share.header)));
        let told = told.ok_or(PackError::NoTerms)?;
        let owner = told.owners.binary_search(&share.identity).ok();
        let owner = owner.and_then(|owner| u32::try_from(owner).ok());
        Ok(PackedShare {
            terms: told.place,
            owner: owner.ok_or(PackError::NoOwner(share.identity))?,
            rolled: rolled(share),
        })
    }
}
