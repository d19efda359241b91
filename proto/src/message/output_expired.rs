use crate::id::SerialId;

/// The coordinator takes an output out of the payee set to make room: its identity has no work and
/// no carry in the ledger, which every participant checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputExpired {
    /// Which.
    pub serial_id: SerialId,
}
