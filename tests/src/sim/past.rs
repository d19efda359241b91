//! Windows as a coordinator would have closed them, for ledgers of a past that nobody lived through.

use tutti_proto::coordinator::Record;
use tutti_proto::message::SignedHead;
use tutti_proto::segment::WindowEnd;
use tutti_proto::share::ShareTree;
use tutti_proto::window::{Booking, Ledger, LedgerError, Tally, WindowRecord};

use super::identity_key;

/// Closes the ledger's next window, with this work and these bookings. It has no shares: what made the
/// work is forgotten.
pub fn close_window(
    ledger: &mut Ledger,
    tally: Tally,
    bookings: Vec<Booking>,
) -> Result<WindowEnd, LedgerError> {
    let record = WindowRecord {
        seq: ledger.seq().next(),
        height: 1,
        previous: ledger.head().hash,
        shares_root: ShareTree::default().root(),
        shares: 0,
        tally,
        bookings,
        credits: Vec::new(),
    };
    ledger.append(&record)?;
    Ok(WindowEnd {
        record,
        state: ledger.state(),
        head: SignedHead::sign(&identity_key(0), ledger.head(), &[3; 32]),
    })
}

/// A ledger's first windows, in which nobody worked.
pub fn empty_windows(count: u64) -> Result<Vec<Record>, LedgerError> {
    let mut ledger = Ledger::default();
    let mut close = || close_window(&mut ledger, Tally::new(), Vec::new());
    (0..count)
        .map(|_| close().map(Record::WindowClosed))
        .collect()
}
