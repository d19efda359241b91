//! What the node answers with an error: that call comes to nothing, is told once and made again at the next
//! look, and holds up nothing else.

use std::collections::BTreeMap;

use bitcoin::Txid;

use crate::chain::NodeError;
use crate::news::{DaemonEvent, News};

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// The node's tip, and the blocks up to it.
    Follow,
    /// Whether its view of the chain is sound.
    JudgeView,
    Broadcast(Txid),
    /// Whether it needs a bump.
    Bump(Txid),
    /// The child of a bump.
    Child(Txid),
    /// The coinbase of payouts that were imported alone.
    Coinbase(Txid),
}

/// What fails now, as it was told.
#[derive(Debug, Default)]
pub(super) struct Failing(BTreeMap<Purpose, NodeError>);

impl Failing {
    /// The answer, or nothing where only this call failed; an error of the connection stays one.
    pub(super) fn of_one_call<T>(
        &mut self,
        purpose: Purpose,
        answer: Result<T, NodeError>,
    ) -> Result<Option<T>, NodeError> {
        let error = match answer {
            Ok(answer) => {
                self.0.remove(&purpose);
                return Ok(Some(answer));
            }
            Err(error) if error.is_of_one_call() => error,
            Err(error) => return Err(error),
        };
        let is_told = |told: &NodeError| told.is_like(&error);
        if !self.0.get(&purpose).is_some_and(is_told) {
            tell(purpose, &error.to_string());
            self.0.insert(purpose, error);
        }
        Ok(None)
    }

    pub(super) fn contains(&self, purpose: Purpose) -> bool {
        self.0.contains_key(&purpose)
    }

    /// Forgets payouts that nothing is to be done about any more.
    pub(super) fn retain(&mut self, is_due: impl Fn(&Txid) -> bool) {
        self.0.retain(|purpose, _| match purpose {
            Purpose::Follow | Purpose::JudgeView | Purpose::Coinbase(_) => true,
            Purpose::Broadcast(txid) | Purpose::Bump(txid) | Purpose::Child(txid) => is_due(txid),
        });
    }
}

fn tell(purpose: Purpose, why: &str) {
    let event = match purpose {
        Purpose::Follow | Purpose::JudgeView | Purpose::Coinbase(_) => {
            DaemonEvent::NodeFails { why }
        }
        Purpose::Broadcast(txid) | Purpose::Bump(txid) | Purpose::Child(txid) => {
            DaemonEvent::PayoutWaiting { txid, why }
        }
    };
    News::from(event).emit();
}
