//! What a pool host may tune without anyone else having to agree.

use crate::deadline::Millis;
use crate::work::ZERO_BITS_LIMIT;

/// Local settings of a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long signers have for their partial signatures.
    pub signatures: Millis,
    /// A template of the same tip is refreshed after this time.
    pub refresh: Millis,
    /// Where no committed round of the present tip exists after this time, a direct one is hashed.
    pub direct_after: Millis,
    /// How long to gather newcomers before a round is made for them.
    pub regroup: Millis,
    /// Aim of variable difficulty: time between two shares of a participant.
    pub share_interval: Millis,
    /// Easiest share, leading zero bits.
    pub z_min: u8,
    /// Hardest share, leading zero bits.
    pub z_max: u8,
    /// Places for signers without work, as far as those with work leave them free.
    pub free_signers: usize,
    /// Most signers of a round besides the coordinator: those with the most work.
    pub signers_max: usize,
    /// Most registered outputs; beyond it those of absent identities without work make room.
    pub payees_max: usize,
    /// First back-off of a signer that failed; doubles with each failure.
    pub backoff: Millis,
    /// Longest back-off.
    pub backoff_max: Millis,
    /// Most participants connected at once.
    pub members_max: usize,
    /// Shares an identity may send at once, beyond `shares_per_second`.
    pub shares_burst: u32,
    /// Shares an identity may send each second in the long run.
    pub shares_per_second: u32,
    /// Control messages a participant may send at once; one more is allowed per `quota_refill`.
    pub quota: u32,
    /// Time in which one message of the quota comes back.
    pub quota_refill: Millis,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            signatures: Millis(2_000),
            refresh: Millis(30_000),
            direct_after: Millis(50),
            regroup: Millis(250),
            share_interval: Millis(10_000),
            z_min: 8,
            z_max: ZERO_BITS_LIMIT,
            free_signers: 16,
            signers_max: 1_000,
            payees_max: 20_000,
            backoff: Millis(5_000),
            backoff_max: Millis(600_000),
            members_max: 10_000,
            // Variable difficulty aims at one in 10 s. Until it has measured a participant whose
            // hashrate was suggested 5 to 8 bits too low, a round's worth of its shares passes.
            shares_burst: 600,
            shares_per_second: 20,
            quota: 64,
            quota_refill: Millis(50),
        }
    }
}
