//! The fee bump: sizes, feerates, replacement, and every refusal.

mod fee;
mod payout;
mod refused;
mod signed;
