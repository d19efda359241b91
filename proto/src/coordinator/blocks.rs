//! Found blocks after the node judged them: booked while the best chain has them, unbooked while it
//! does not, until so much is built on them that neither happens any more.

use std::collections::BTreeSet;

use super::live::LIVE_WINDOWS;
use super::{Coordinator, Event, Fate, Found, Record, Turn};
use crate::id::RoundId;
use crate::message::{BlockFound, ToParticipant};
use crate::window::{Booking, WindowRecord};

/// Most bookings of one window: what one record may hold.
const BOOKINGS_LIMIT: usize = 1_024;

/// A found block that the node judged.
#[derive(Clone, Debug)]
pub(super) struct JudgedBlock {
    pub(super) found: Found,
    /// Whether the best chain has it.
    pub(super) in_chain: bool,
    /// Whether the ledger has it booked.
    pub(super) booked: bool,
    /// Nothing becomes of it any more, but what became of it is not booked yet.
    pub(super) settled: bool,
}

impl JudgedBlock {
    pub(super) fn new(found: Found, in_chain: bool) -> Self {
        Self {
            found,
            in_chain,
            booked: false,
            settled: false,
        }
    }

    fn booking(&self) -> Booking {
        Booking {
            block: self.found.hash,
            round: self.found.round,
            lane: self.found.lane,
            undone: false,
            carry: self.found.carry.clone(),
            payouts: self.found.payouts.digest(),
            header: self.found.header,
        }
    }
}

/// Notes what a closed window booked and unbooked.
pub(super) fn note_booked(blocks: &mut [JudgedBlock], record: &WindowRecord) {
    for booking in &record.bookings {
        let mut of = blocks.iter_mut();
        if let Some(block) = of.find(|block| block.found.hash == booking.block) {
            block.booked = !booking.undone;
        }
    }
}

/// Notes what became of a block; says whether that is news.
pub(super) fn note_fate(blocks: &mut Vec<JudgedBlock>, hash: &[u8; 32], fate: Fate) -> bool {
    let Some(place) = blocks.iter().position(|block| block.found.hash == *hash) else {
        return false;
    };
    let block = &mut blocks[place];
    let in_chain = match fate {
        Fate::Settled => {
            blocks.remove(place);
            return true;
        }
        Fate::Lost => false,
        Fate::Back => true,
    };
    std::mem::replace(&mut block.in_chain, in_chain) != in_chain
}

impl Coordinator {
    pub(super) fn block_verdict(
        &mut self,
        turn: &mut Turn<'_>,
        hash: [u8; 32],
        refused: Option<String>,
    ) {
        let Some(found) = self.candidates.remove(&hash) else {
            return;
        };
        let accepted = refused.is_none();
        turn.out.persist(Record::Verdict { hash, accepted });
        // Also one that was refused: the chain may yet turn to its branch.
        self.blocks.push(JudgedBlock::new(found.clone(), accepted));
        match refused {
            Some(why) => turn.tell(Event::BlockRefused { hash, why }),
            None => {
                self.announce(turn, &found);
                turn.tell(Event::BlockAccepted(found.clone()));
                self.tell_unless_bookable(turn, found);
            }
        }
    }

    /// Whether its round's proposal is not so old that participants dispute its booking.
    fn is_bookable(&self, found: &Found) -> bool {
        let again = self.ledger.block(&found.hash).is_some();
        let next = self.ledger.seq().next().0;
        again || next.saturating_sub(found.seq.0) <= LIVE_WINDOWS
    }

    /// Carries that it paid stay owed, and are paid again.
    fn tell_unless_bookable(&self, turn: &mut Turn<'_>, found: Found) {
        if !self.is_bookable(&found) {
            turn.tell(Event::BlockNotBooked(found));
        }
    }

    pub(super) fn block_fate(&mut self, turn: &mut Turn<'_>, hash: [u8; 32], fate: Fate) {
        let due = fate == Fate::Settled && self.all_due().iter().any(|b| b.block == hash);
        let known = self
            .blocks
            .iter_mut()
            .find(|block| block.found.hash == hash);
        let Some(known) = known else {
            return;
        };
        if due {
            // Its last change is to be booked first; until then a restart follows it again.
            known.settled = true;
            return;
        }
        let found = known.found.clone();
        if note_fate(&mut self.blocks, &hash, fate) {
            turn.out.persist(Record::BlockFate { hash, fate });
            if fate == Fate::Back {
                self.announce(turn, &found);
                self.tell_unless_bookable(turn, found.clone());
            }
            turn.tell(Event::BlockFate { found, fate });
        }
    }

    fn announce(&self, turn: &mut Turn<'_>, found: &Found) {
        let Found {
            height,
            hash,
            round,
            lane,
            finder,
            ..
        } = *found;
        let block = BlockFound {
            height,
            hash,
            round,
            lane,
            finder,
        };
        self.broadcast(turn, ToParticipant::BlockFound(block));
    }

    /// What the next window books: first what the chain has lost, so that another block of the same
    /// round may take its place, then what it has.
    pub(super) fn due_bookings(&self) -> Vec<Booking> {
        let mut due = self.all_due();
        due.truncate(BOOKINGS_LIMIT);
        due
    }

    fn all_due(&self) -> Vec<Booking> {
        let lost = self.blocks.iter().filter(|b| b.booked && !b.in_chain);
        // One that the ledger has forgotten stays as it is.
        let lost = lost.filter(|b| self.ledger.block(&b.found.hash).is_some());
        let mut due: Vec<Booking> = lost.filter_map(|b| b.booking().undo()).collect();
        let mut rounds: BTreeSet<RoundId> = self.ledger.booked_rounds().collect();
        for undone in &due {
            rounds.remove(&undone.round);
        }
        for block in self.blocks.iter().filter(|b| b.in_chain && !b.booked) {
            if self.is_bookable(&block.found) && rounds.insert(block.found.round) {
                due.push(block.booking());
            }
        }
        due
    }

    pub(super) fn note_booked(&mut self, record: &WindowRecord) {
        note_booked(&mut self.blocks, record);
    }

    /// Forgets blocks that were settled before what became of them was booked, once it is.
    pub(super) fn forget_settled(&mut self, turn: &mut Turn<'_>) {
        let due = self.all_due();
        let is_due = |hash: &[u8; 32]| due.iter().any(|booking| booking.block == *hash);
        let settled = self.blocks.iter().filter(|block| block.settled);
        let settled = settled.map(|block| block.found.hash);
        let settled: Vec<_> = settled.filter(|hash| !is_due(hash)).collect();
        for hash in settled {
            self.block_fate(turn, hash, Fate::Settled);
        }
    }
}
