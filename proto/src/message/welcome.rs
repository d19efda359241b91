use crate::message::{SignedHead, TxAddOutput};
use crate::window::LedgerSnapshot;

/// The replicated state at the moment of the join; every later change is relayed in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The payee set, in an order in which adding gives the same set.
    pub outputs: Vec<TxAddOutput>,
    /// The ledger's state; none to whoever named its head.
    pub ledger: Option<LedgerSnapshot>,
    /// Its head.
    pub head: SignedHead,
}
