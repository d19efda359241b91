//! Whom the ledger names. It forgets nobody, and its copy must stay such that whoever joins can take it: once it is
//! nearly too large, nobody new gets a place.

use std::collections::BTreeSet;

use crate::id::{Identity, WindowSeq};
use crate::window::Ledger;

/// Bytes of a ledger's copy: a name, and its work in one span.
const NAME: usize = 32;
const WORK: usize = 10;
/// Bytes of a copy beyond which nobody gets a place: a welcome has room for 64 MiB, the payee set is in it, too, and
/// those who have places go on working.
const COPY_LIMIT: usize = 48 << 20;
/// Windows after which it is worth the time to count all names anew.
const COUNTED_EVERY: u64 = 256;

/// How many the ledger names, or may.
pub(super) struct Named {
    /// Of the ledger when it was looked at last: no fewer than it named.
    names: usize,
    /// When they were counted; none: they are at most so many.
    counted: Option<WindowSeq>,
    /// Who may work since then and is none of them.
    newcomers: BTreeSet<Identity>,
}

impl Named {
    pub(super) fn new<'a>(ledger: &Ledger, may_work: impl Iterator<Item = &'a Identity>) -> Self {
        Self {
            names: ledger.entries(),
            counted: None,
            newcomers: without_work(ledger, may_work),
        }
    }

    /// Gives an identity a place, if there is one. Who is named needs no new name.
    pub(super) fn admit<'a>(
        &mut self,
        identity: Identity,
        ledger: &Ledger,
        may_work: impl Iterator<Item = &'a Identity>,
        limit: usize,
    ) -> bool {
        let is_named = self.newcomers.contains(&identity) || ledger.has_work_of(&identity);
        let due = self.counted.map(|at| at.0.saturating_add(COUNTED_EVERY));
        if !self.has_room(ledger, is_named, limit) && due.is_none_or(|due| ledger.seq().0 >= due) {
            self.names = ledger.names();
            self.counted = Some(ledger.seq());
            self.newcomers = without_work(ledger, may_work);
        }
        let has_room = self.has_room(ledger, is_named, limit);
        if has_room && !is_named {
            self.newcomers.insert(identity);
        }
        has_room
    }

    fn has_room(&self, ledger: &Ledger, is_named: bool, limit: usize) -> bool {
        let names = self.names.saturating_add(self.newcomers.len());
        (is_named || names < limit) && copy_size(names, ledger.entries()) <= COPY_LIMIT
    }
}

fn copy_size(names: usize, entries: usize) -> usize {
    let works = entries.saturating_mul(WORK);
    names.saturating_mul(NAME).saturating_add(works)
}

fn without_work<'a>(
    ledger: &Ledger,
    may_work: impl Iterator<Item = &'a Identity>,
) -> BTreeSet<Identity> {
    let newcomers = may_work.filter(|identity| !ledger.has_work_of(identity));
    newcomers.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityKey;
    use crate::window::WindowRecord;
    use crate::work::Work;

    fn who(n: u16) -> Identity {
        let mut secret = [1; 32];
        secret[..2].copy_from_slice(&n.to_be_bytes());
        IdentityKey::from_bytes(&mut secret).unwrap().identity()
    }

    /// The next window is closed, in which these have worked.
    fn close(ledger: &mut Ledger, workers: &[u16]) {
        let head = ledger.head();
        let record = WindowRecord {
            seq: head.seq.next(),
            previous: head.hash,
            shares_root: [0; 32],
            shares: 0,
            height: 1,
            tally: workers.iter().map(|n| (who(*n), Work(1))).collect(),
            bookings: Vec::new(),
            credits: Vec::new(),
        };
        ledger.append(&record).unwrap();
    }

    #[test]
    fn nobody_new_has_a_place_once_as_many_as_may_be_are_named_or_may_be() {
        let mut ledger = Ledger::default();
        // Two names, in three places.
        close(&mut ledger, &[1, 2]);
        close(&mut ledger, &[2]);
        let registered = [who(2), who(3)];
        let mut named = Named::new(&ledger, registered.iter());
        let mut admit = |n, ledger: &Ledger| named.admit(who(n), ledger, registered.iter(), 4);
        assert!(admit(4, &ledger), "1 to 3 are three");
        assert!(!admit(5, &ledger));
        for n in [1, 2, 3, 4] {
            assert!(admit(n, &ledger), "{n} is one of them");
        }
        // Counted anew, who has neither worked nor registered is none of them: not before its time.
        for _ in 0..COUNTED_EVERY {
            assert!(!admit(5, &ledger));
            close(&mut ledger, &[2]);
        }
        assert!(admit(5, &ledger));
        assert!(!admit(4, &ledger));
    }

    #[test]
    fn a_copy_leaves_room_in_a_welcome_for_those_who_have_places() {
        let payees = 20_000 * 150;
        let limit = 64 << 20;
        assert!(COPY_LIMIT + payees < limit * 5 / 6);
        assert!(copy_size(1_000_000, 0) < COPY_LIMIT);
        // 10,000 in each of the spans of three levels.
        assert!(copy_size(10_000, 10_000 * 3 * 127) < COPY_LIMIT);
        assert!(copy_size(0, 6 << 20) > COPY_LIMIT);
    }
}
