//! Found blocks in the ledger: booked when the chain has them, unbooked when it has lost them.

use std::collections::{BTreeMap, BTreeSet};

use super::credit::{self, Credit, CreditError};
use super::{Ledger, LedgerError, carry_digest};
use crate::digest::Digest;
use crate::id::{Identity, LaneIndex, RoundId, WindowSeq};

/// Windows for which a block is remembered after it was last booked or unbooked: some three days of
/// rounds at the default refresh, and more than the hundred blocks after which none is lost any more.
pub const REMEMBERED: u64 = 16_384;

/// A block is booked within so many windows of its round's proposal: four hours of rounds at the
/// default refresh. Whoever was there longer knows every round that an honest record can book.
pub const BOOKING_WINDOWS: u64 = 1_024;

/// What a found block's own payout left owed or overpaid; or that the chain has lost the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// Hash of the found block, in the byte order in which it is hashed.
    pub block: [u8; 32],
    /// Round whose payout the block pays.
    pub round: RoundId,
    /// Lane of that round.
    pub lane: LaneIndex,
    /// The block left the best chain: what was booked is taken back.
    pub undone: bool,
    /// Change of each identity's carry, sat. Of a booking that is undone the exact negative.
    pub carry: BTreeMap<Identity, i64>,
    /// Hash of the [payouts](super::BlockPayouts) that it pays: by it a bump of one is credited later.
    pub payouts: [u8; 32],
    /// The block's header: that there is such a block, and whose coinbase it has. The record's digest
    /// need not name it, since `block` is its hash.
    pub header: [u8; 80],
}

/// A block that was booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookedBlock {
    /// Round whose payout it pays.
    pub round: RoundId,
    /// Lane of that round.
    pub lane: LaneIndex,
    /// Whether it counts now.
    pub booked: bool,
    /// Window in which it was last booked or unbooked.
    pub changed: WindowSeq,
    /// Hash of the changes of carry with which it was booked.
    pub carry: [u8; 32],
    /// Hash of the payouts with which it was booked.
    pub payouts: [u8; 32],
    /// Payouts of it of which a bump was credited.
    pub credited: BTreeSet<u16>,
}

impl BookedBlock {
    fn is_forgotten(&self, window: WindowSeq) -> bool {
        window.0.saturating_sub(self.changed.0) >= REMEMBERED
    }
}

impl Booking {
    /// The block before the booked one, as its header says.
    pub fn previous_block(&self) -> [u8; 32] {
        let mut previous = [0; 32];
        previous.copy_from_slice(&self.header[4..36]);
        previous
    }

    /// What takes this booking back; none if an amount has no negative.
    pub fn undo(&self) -> Option<Self> {
        Some(Self {
            undone: true,
            carry: negative(&self.carry)?,
            ..self.clone()
        })
    }
}

fn negative(carry: &BTreeMap<Identity, i64>) -> Option<BTreeMap<Identity, i64>> {
    let negative = |(who, sat): (&Identity, &i64)| Some((*who, sat.checked_neg()?));
    carry.iter().map(negative).collect()
}

/// Hash of changes of carry.
fn carry_hash(carry: &BTreeMap<Identity, i64>) -> [u8; 32] {
    carry_digest(Digest::new("tutti/carry"), carry).finish()
}

/// Blocks by hash.
pub(super) type Blocks = BTreeMap<[u8; 32], BookedBlock>;

/// Takes one booking of a window.
pub(super) fn book(
    blocks: &mut Blocks,
    booking: &Booking,
    window: WindowSeq,
) -> Result<(), LedgerError> {
    let known = blocks.get(&booking.block);
    let carry = if booking.undone {
        negative(&booking.carry).ok_or(LedgerError::Overflow)?
    } else {
        booking.carry.clone()
    };
    let carry = carry_hash(&carry);
    if known.is_some_and(|known| known.booked) != booking.undone {
        return Err(match booking.undone {
            true => LedgerError::NotBooked(window),
            false => LedgerError::BookedTwice(window),
        });
    }
    let same = |known: &BookedBlock| {
        let known = (known.round, known.lane, known.carry, known.payouts);
        known == (booking.round, booking.lane, carry, booking.payouts)
    };
    if !known.is_none_or(same) {
        return Err(LedgerError::OtherBooking(window));
    }
    let mut booked = blocks.values().filter(|block| block.booked);
    if !booking.undone && booked.any(|block| block.round == booking.round) {
        return Err(LedgerError::BookedTwice(window));
    }
    let credited = known.map(|known| known.credited.clone());
    let credited = credited.unwrap_or_default();
    let block = BookedBlock {
        round: booking.round,
        lane: booking.lane,
        booked: !booking.undone,
        changed: window,
        carry,
        payouts: booking.payouts,
        credited,
    };
    blocks.insert(booking.block, block);
    Ok(())
}

/// Forgets blocks that no honest record changes any more.
pub(super) fn forget(blocks: &mut Blocks, window: WindowSeq) {
    blocks.retain(|_, block| !block.is_forgotten(window));
}

/// Whether there is any to forget.
pub(super) fn is_any_forgotten(blocks: &Blocks, window: WindowSeq) -> bool {
    blocks.values().any(|block| block.is_forgotten(window))
}

/// Appends the blocks to a digest.
pub(super) fn blocks_digest(digest: Digest, blocks: &Blocks) -> Digest {
    blocks
        .iter()
        .fold(digest.count(blocks.len()), |d, (hash, block)| {
            let d = d
                .fixed(hash)
                .fixed(&block.round.0)
                .u16(block.lane.0)
                .u8(u8::from(block.booked))
                .u64(block.changed.0)
                .fixed(&block.carry)
                .fixed(&block.payouts)
                .count(block.credited.len());
            block.credited.iter().fold(d, |d, shard| d.u16(*shard))
        })
}

impl Ledger {
    /// A block that was booked lately.
    pub fn block(&self, hash: &[u8; 32]) -> Option<&BookedBlock> {
        self.blocks.get(hash)
    }

    /// The blocks that were booked or unbooked lately.
    pub fn blocks(&self) -> impl Iterator<Item = (&[u8; 32], &BookedBlock)> {
        self.blocks.iter()
    }

    /// Whether the next window may book a credit.
    pub fn check_credit(&self, credit: &Credit) -> Result<(), CreditError> {
        credit::check(&self.blocks, credit)
    }

    /// Rounds of which a block counts.
    pub fn booked_rounds(&self) -> impl Iterator<Item = RoundId> {
        let booked = self.blocks.values().filter(|block| block.booked);
        booked.map(|block| block.round)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{grow, who};
    use super::super::{Tally, WindowRecord};
    use super::*;

    fn booking(block: u8, round: u8) -> Booking {
        Booking {
            block: [block; 32],
            round: RoundId([round; 32]),
            lane: LaneIndex(0),
            undone: false,
            carry: [(who(1), 500), (who(2), -200)].into(),
            payouts: [round; 32],
            header: [block; 80],
        }
    }

    fn close(ledger: &mut Ledger, bookings: &[Booking]) -> Result<(), LedgerError> {
        let head = ledger.head();
        ledger.append(&WindowRecord {
            seq: head.seq.next(),
            height: 1,
            previous: head.hash,
            shares_root: [0; 32],
            shares: 0,
            tally: Tally::new(),
            bookings: bookings.to_vec(),
            credits: Vec::new(),
        })
    }

    fn carries(ledger: &Ledger) -> [i64; 2] {
        [ledger.carry(&who(1)), ledger.carry(&who(2))]
    }

    #[test]
    fn a_block_is_booked_unbooked_and_booked_again_and_counts_once() {
        let (mut ledger, booking) = (Ledger::default(), booking(1, 1));
        let undo = booking.undo().unwrap();
        assert!(close(&mut ledger, std::slice::from_ref(&undo)).is_err());
        for _ in 0..3 {
            close(&mut ledger, std::slice::from_ref(&booking)).unwrap();
            assert_eq!(carries(&ledger), [500, -200]);
            let window = ledger.seq().next();
            assert_eq!(
                close(&mut ledger, std::slice::from_ref(&booking)),
                Err(LedgerError::BookedTwice(window))
            );
            close(&mut ledger, std::slice::from_ref(&undo)).unwrap();
            assert_eq!(carries(&ledger), [0, 0]);
            let window = ledger.seq().next();
            assert_eq!(
                close(&mut ledger, std::slice::from_ref(&undo)),
                Err(LedgerError::NotBooked(window))
            );
        }
    }

    #[test]
    fn only_the_exact_negative_undoes_a_booking_and_only_the_same_is_booked_again() {
        let (mut ledger, first) = (Ledger::default(), booking(1, 1));
        close(&mut ledger, std::slice::from_ref(&first)).unwrap();
        let undo = first.undo().unwrap();
        let wrong = |undo: &Booking| {
            let mut other = [const { None }; 5].map(|_: Option<Booking>| undo.clone());
            *other[0].carry.get_mut(&who(1)).unwrap() += 1;
            other[1].carry.remove(&who(2));
            other[2].round = RoundId([9; 32]);
            other[3].lane = LaneIndex(1);
            other[4].payouts = [9; 32];
            other
        };
        let before = ledger.clone();
        for lie in wrong(&undo) {
            let window = ledger.seq().next();
            assert_eq!(
                close(&mut ledger, &[lie]),
                Err(LedgerError::OtherBooking(window))
            );
        }
        assert_eq!(ledger, before);
        close(&mut ledger, &[undo]).unwrap();
        for lie in wrong(&first) {
            let window = ledger.seq().next();
            assert_eq!(
                close(&mut ledger, &[lie]),
                Err(LedgerError::OtherBooking(window))
            );
        }
    }

    #[test]
    fn one_round_has_one_block_at_a_time() {
        let mut ledger = Ledger::default();
        let (first, second) = (booking(1, 1), booking(2, 1));
        close(&mut ledger, std::slice::from_ref(&first)).unwrap();
        let window = ledger.seq().next();
        assert_eq!(
            close(&mut ledger, std::slice::from_ref(&second)),
            Err(LedgerError::BookedTwice(window))
        );
        close(&mut ledger, &[first.undo().unwrap(), second]).unwrap();
        assert_eq!(carries(&ledger), [500, -200]);
        assert_eq!(ledger.booked_rounds().count(), 1);
    }

    #[test]
    fn a_block_is_forgotten_after_its_time() {
        let mut ledger = Ledger::default();
        close(&mut ledger, &[booking(1, 1)]).unwrap();
        for _ in 1..REMEMBERED {
            grow(&mut ledger, &[]);
        }
        assert!(ledger.block(&[1; 32]).is_some());
        grow(&mut ledger, &[]);
        assert!(ledger.block(&[1; 32]).is_none());
        assert_eq!(carries(&ledger), [500, -200], "what it left owed is not");
    }
}
