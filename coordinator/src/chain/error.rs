//! What can go wrong between the coordinator and its node, one clear sentence each.

use std::mem::discriminant;

use thiserror::Error;
use tutti_daemon::node::CallError;

use super::template::TemplateError;

/// bitcoind's RPC_MISC_ERROR, which is many things; its message tells apart a block that is pruned. One that is not
/// downloaded yet, or not found on disk, may come.
const MISC_ERROR: i32 = -1;
const PRUNED: &str = "pruned";

/// Why the node did not give what it was asked for.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(
        "the node at {url} gives no templates yet ({reason}); it does once it has peers and the whole chain: `bitcoin-cli getblockchaininfo` says how far it is, and `run` waits for it"
    )]
    NotReady { url: String, reason: String },
    #[error(
        "the look for the pool's own coins among all coins (scantxoutset) came to nothing: {0}; it is made again some blocks later, payouts whose own output pays are bumped meanwhile, and payees bump the others"
    )]
    Coins(#[source] Box<NodeError>),
    #[error("the node's template cannot be used: {0}")]
    Template(#[from] TemplateError),
}

impl NodeError {
    /// Whether the node answered, and only this call came to nothing: others may go well.
    pub fn is_of_one_call(&self) -> bool {
        match self {
            Self::Call(error) => error.is_of_one_call(),
            Self::Coins(_) => true,
            Self::NotReady { .. } | Self::Template(_) => false,
        }
    }

    /// Whether the node deleted the block that it was asked for, which it does not get again by itself.
    pub fn is_pruned(&self) -> bool {
        matches!(self, Self::Call(CallError::Rpc { code: MISC_ERROR, message, .. }) if message.contains(PRUNED))
    }

    /// Whether whoever was told of `other` knows this one.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Call(error), Self::Call(other)) => error.is_like(other),
            _ => discriminant(self) == discriminant(other),
        }
    }
}

/// What was said of failures that go on: the same one is said once.
#[derive(Debug, Default)]
pub struct Told(Option<NodeError>);

impl Told {
    /// Whether this is to be said.
    pub fn is_new(&self, error: &NodeError) -> bool {
        !self.0.as_ref().is_some_and(|told| told.is_like(error))
    }

    /// It was.
    pub fn note(&mut self, error: NodeError) {
        self.0 = Some(error);
    }

    /// It went well: the next failure is news.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}
