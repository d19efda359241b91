//! A full payee set: which output may make room for another.

use std::collections::BTreeSet;

use super::{Coordinator, LiveNumber};
use crate::id::{Identity, SerialId, WindowSeq};
use crate::roster::Roster;
use crate::window::Ledger;

/// Outputs among which one is looked for.
pub(super) struct Room {
    /// All but those whose owners are known to have worked: the ledger forgets nobody who has.
    unworked: BTreeSet<SerialId>,
    /// When none was found. Only a member that leaves changes that otherwise.
    none_at: Option<Moment>,
}

/// As long as it is the same, and nobody left, none is found where none was: window and changes of the payee
/// set, and the rounds whose shares may count.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Moment {
    window: WindowSeq,
    changes: usize,
    live: (LiveNumber, usize),
}

impl Room {
    pub(super) fn of(roster: &Roster, ledger: &Ledger) -> Self {
        let unworked = roster
            .iter()
            .filter(|(_, payee)| !ledger.has_work_of(&payee.identity));
        Self {
            unworked: unworked.map(|(serial_id, _)| serial_id).collect(),
            none_at: None,
        }
    }

    pub(super) fn added(&mut self, serial_id: SerialId) {
        self.unworked.insert(serial_id);
    }

    pub(super) fn removed(&mut self, serial_id: SerialId) {
        self.unworked.remove(&serial_id);
    }

    /// Its outputs may expire from now on.
    pub(super) fn member_left(&mut self) {
        self.none_at = None;
    }
}

impl Coordinator {
    /// An output of someone who is not here and whom nobody owes anything. Every refused newcomer asks for
    /// one, and all of the ledger's spans are looked through for each output: so this is done at most once
    /// for an output that is not to expire.
    pub(super) fn expirable(&mut self) -> Option<(SerialId, Identity)> {
        let moment = Moment {
            window: self.window.seq,
            changes: self.window.changes.all(),
            live: (self.next_live, self.live.len()),
        };
        if self.room.none_at == Some(moment) {
            return None;
        }
        let (mut found, mut worked) = (None, Vec::new());
        for serial_id in &self.room.unworked {
            let Some(payee) = self.roster.payee(*serial_id) else {
                continue;
            };
            let who = payee.identity;
            let stays = who == self.identity()
                || self.members.contains_key(&who)
                || self.window.has_work_of(&who)
                || self.ledger.carry(&who) != 0
                || self.may_work(&who);
            if stays {
                continue;
            }
            if self.ledger.has_forgotten(&who) {
                found = Some((*serial_id, who));
                break;
            }
            worked.push(*serial_id);
        }
        for serial_id in worked {
            self.room.unworked.remove(&serial_id);
        }
        if found.is_none() {
            self.room.none_at = Some(moment);
        }
        found
    }
}
