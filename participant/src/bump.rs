//! The fee bump of a payout: a child that spends the payout's anchor and an output of the
//! bumper's own, so that no other coin is needed. The plan is pure: what the chain says comes in as
//! arguments; `command` asks the node and the wallet.
//!
//! Nodes judge parent and child together, as one package (TRUC, BIP431): the child pays what the
//! parent lacks. A child already in the mempool is replaced, whoever made it, if the new one pays
//! its fee, the relay of the new bytes, and a higher feerate.

mod command;
mod feerate;
mod plan;

pub use command::{Bump, BumpCommandError, Bumped, bump};
pub use feerate::{Feerate, FeerateError};
pub use plan::{BumpError, BumpPlan, BumpRequest, MAX_CHILD_VSIZE, OwnOutput, Replaced, plan_bump};
