use std::mem;

use thiserror::Error;

use crate::id::Identity;
use crate::message::SignedHead;
use crate::roster::Roster;
use crate::window::WindowRecord;
use crate::work::Work;

/// The next record of the ledger; sent before the proposal that builds on it.
///
/// Everyone is told everyone's work once in a window, and has the payee set: so payees are named by their
/// places in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowClosed {
    /// The record, without the work that `payees` has.
    pub record: WindowRecord,
    /// Work of identities of the payee set, ascending by identity.
    pub payees: Vec<PayeeWork>,
    /// The head after it.
    pub head: SignedHead,
}

/// Work of an identity of the payee set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayeeWork {
    /// Identities of the set, in ascending order, between the one before and this one.
    pub skipped: u32,
    /// Expected hashes.
    pub work: u64,
}

/// The places are not ones of this payee set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PlaceError {
    /// The set ends before.
    #[error("a closed window has work of a payee beyond the last of the payee set")]
    NoSuchPayee,
    /// The record names the identity itself.
    #[error("a closed window has the work of {0} twice")]
    Twice(Identity),
}

impl WindowClosed {
    /// For whoever has this payee set.
    pub fn new(mut record: WindowRecord, head: SignedHead, roster: &Roster) -> Self {
        let tally = mem::take(&mut record.tally);
        let mut identities = roster.identities().peekable();
        let (mut payees, mut skipped) = (Vec::new(), 0);
        for (who, work) in tally {
            while identities.next_if(|payee| **payee < who).is_some() {
                skipped += 1;
            }
            let is_payee = identities.peek() == Some(&&who);
            match u64::try_from(work.0) {
                Ok(work) if is_payee => {
                    identities.next();
                    let skipped = mem::take(&mut skipped);
                    payees.push(PayeeWork { skipped, work });
                }
                _ => {
                    record.tally.insert(who, work);
                }
            }
        }
        Self {
            record,
            payees,
            head,
        }
    }

    /// The whole record, to whoever has the payee set that it was made for.
    pub fn record(&self, roster: &Roster) -> Result<WindowRecord, PlaceError> {
        let mut record = self.record.clone();
        let mut identities = roster.identities();
        for payee in &self.payees {
            let skipped = usize::try_from(payee.skipped).unwrap_or(usize::MAX);
            let who = identities.nth(skipped).ok_or(PlaceError::NoSuchPayee)?;
            let work = Work(u128::from(payee.work));
            if record.tally.insert(*who, work).is_some() {
                return Err(PlaceError::Twice(*who));
            }
        }
        Ok(record)
    }
}
