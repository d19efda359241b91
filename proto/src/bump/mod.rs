//! The fee bump of a payout: a child that spends the payout's anchor and coins of the bumper's own,
//! first of all the bumper's output of that very payout. The plan is pure, and so is the policy of
//! when to make one; a daemon asks its node and signs.
//!
//! Nodes judge parent and child together, as one package (TRUC, BIP431): the child pays what the
//! parent lacks. A child already in the mempool is replaced, whoever made it, if the new one pays
//! its fee, the relay of the new bytes, and a higher feerate (sibling eviction).

mod feerate;
mod plan;
mod policy;

pub use feerate::{Feerate, FeerateError};
pub use plan::{
    BumpError, BumpPlan, BumpRequest, Coin, MAX_CHILD_VSIZE, OwnOutput, Replaced, plan_bump,
};
pub use policy::{BumpCause, BumpPolicy, Decision, FeeEstimate, Pending, Seen, decide};
