//! The fee bump of a payout, by command and by policy: the protocol's plan (`tutti_proto::bump`), this
//! participant's node, and the key of its wallet.

mod by_hand;
mod command;
mod fate;
mod funds;

pub use by_hand::{AboveLimit, FeeLimit};
pub use command::{Bump, BumpCommandError, Bumped, Bumper, Limits, Target, bump, bump_by_hand};
pub(crate) use command::{fee, held_payout};
pub use fate::NotBumpable;
pub use tutti_proto::bump::{
    BumpError, BumpPlan, BumpPolicy, BumpRequest, Coin, Feerate, FeerateError, MAX_CHILD_VSIZE,
    OwnOutput, Replaced, plan_bump,
};
