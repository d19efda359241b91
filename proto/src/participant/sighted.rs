//! What the ledger says of found blocks, held against our own node's chain: a booking moves carries, and
//! only the chain can say whether there is such a block. Nothing is signed or hashed that follows from a
//! booking which our node does not show.

use super::{Action, Event, Participant, State, Turn};
use crate::id::WindowSeq;

/// Blocks of ours that are remembered until they are booked.
const OWN_LIMIT: usize = 64;
/// Windows within which an honest coordinator books a block that our node has six blocks deep.
const BOOKED_WITHIN: u64 = 16;

/// What the ledger says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockClaim {
    /// Its hash, in the byte order in which it is hashed.
    pub block: [u8; 32],
    /// Whether it is booked, and so in the best chain.
    pub booked: bool,
    /// The window that said so.
    pub window: WindowSeq,
}

/// Claims that our node has not confirmed yet, and blocks of ours that nobody booked yet.
#[derive(Default)]
pub(super) struct Sighted {
    claims: Vec<BlockClaim>,
    /// And the window after which our node had them, once one closed.
    own: Vec<([u8; 32], Option<WindowSeq>)>,
}

impl Sighted {
    pub(super) fn is_complete(&self) -> bool {
        self.claims.is_empty()
    }

    /// Whether something was not seen for longer than the window that is just being closed.
    pub(super) fn is_behind(&self, last: WindowSeq) -> bool {
        self.claims.iter().any(|claim| claim.window < last)
    }
}

impl Participant {
    /// Whether our node shows what the ledger says of found blocks.
    pub(super) fn is_sighted(&self) -> bool {
        self.sighted.is_complete()
    }

    /// The ledger changed, or is another one: asks our node about the blocks that it books.
    pub(super) fn look_up(&mut self, turn: &mut Turn<'_>, claims: Vec<BlockClaim>) {
        if !self.settings.asks_node || claims.is_empty() {
            return;
        }
        let told: Vec<[u8; 32]> = claims.iter().map(|claim| claim.block).collect();
        self.sighted.claims.retain(|old| !told.contains(&old.block));
        self.sighted.claims.extend(claims);
        turn.out.act(Action::LookUp(self.sighted.claims.clone()));
    }

    /// Another ledger: what was said of blocks before counts no more.
    pub(super) fn forget_claims(&mut self) {
        self.sighted.claims.clear();
    }

    /// Our node has this block in its best chain, or has it not.
    pub(super) fn block_seen(&mut self, turn: &mut Turn<'_>, block: [u8; 32], in_chain: bool) {
        let claims = &mut self.sighted.claims;
        claims.retain(|claim| claim.block != block || claim.booked != in_chain);
        if self.sighted.is_complete() {
            self.release(turn);
            self.top_up_slots(turn);
        }
    }

    /// Tells which claims hold us up.
    pub(super) fn tell_unseen(&self, turn: &mut Turn<'_>) {
        for claim in &self.sighted.claims {
            turn.tell(Event::BlockUnseen(*claim));
        }
    }

    /// Our node has a block deep in its chain whose coinbase we hold: somebody owes it to the payees to book
    /// it.
    pub(super) fn own_block(&mut self, block: [u8; 32]) {
        let own = &mut self.sighted.own;
        if own.iter().all(|(known, _)| *known != block) && own.len() < OWN_LIMIT {
            own.push((block, None));
        }
    }

    /// A window closed: says which blocks of ours it should have booked by now.
    pub(super) fn miss_bookings(&mut self, turn: &mut Turn<'_>) {
        if let State::Joined(joined) = &self.state {
            // Of what the ledger has forgotten nothing follows any more.
            let ledger = &joined.ledger;
            self.sighted
                .claims
                .retain(|claim| ledger.block(&claim.block).is_some());
        }
        let (mut own, mut late) = (std::mem::take(&mut self.sighted.own), Vec::new());
        if let Some(joined) = self.joined() {
            let ledger = &joined.ledger;
            own.retain(|(block, _)| !ledger.block(block).is_some_and(|known| known.booked));
            let last = ledger.seq().0;
            for (block, since) in &mut own {
                let since = since.get_or_insert(ledger.seq());
                if last.saturating_sub(since.0) >= BOOKED_WITHIN {
                    late.push(*block);
                }
            }
            own.retain(|(block, _)| !late.contains(block));
        }
        self.sighted.own = own;
        late.into_iter()
            .for_each(|block| turn.tell(Event::BlockNotBooked(block)));
    }
}
