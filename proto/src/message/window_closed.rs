use crate::message::SignedHead;
use crate::window::WindowRecord;

/// The next record of the ledger; sent before the proposal that builds on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowClosed {
    /// The record.
    pub record: WindowRecord,
    /// The head after it.
    pub head: SignedHead,
}
