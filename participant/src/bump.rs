//! The fee bump of a payout, by command and by policy: the protocol's plan (`tutti_proto::bump`), this
//! participant's node, and the key of its wallet.

mod command;
mod funds;

pub use command::{Bump, BumpCommandError, Bumped, Bumper, Limits, Target, bump};
pub(crate) use command::{fee, held_payout};
pub use tutti_proto::bump::{
    BumpError, BumpPlan, BumpPolicy, BumpRequest, Coin, Feerate, FeerateError, MAX_CHILD_VSIZE,
    OwnOutput, Replaced, plan_bump,
};
