//! How large a message, and each list in it, may be. Lists whose limit belongs to a domain type
//! (payees, slots, nonces, slices, lanes) take it from there.

use crate::params::NONCES_LIMIT;
use crate::segment::SHARES_OF_PART;
use crate::window::MERGE;

/// Largest message to the coordinator, bytes: 8 slots of 1,024 nonces are 560 kB.
pub const MESSAGE_LIMIT_TO_COORDINATOR: usize = 1 << 20;
/// Largest message to a participant, bytes: a welcome of 100,000 payees is 15 MB, and its ledger some 10
/// bytes for each participant and span.
pub const MESSAGE_LIMIT_TO_PARTICIPANT: usize = 64 << 20;

/// Largest message of every other call than a session, bytes: a sample of [`POSITIONS_LIMIT`] positions is 2.2 kB.
pub const REQUEST_LIMIT: usize = 4 << 10;

/// Most signers of a round, and so culprits of an abort; aggregating as many keys takes 0.2 s.
pub const SIGNERS_LIMIT: usize = 10_000;
/// Longest merkle path, hashes: a block of 4 MB has fewer than 2^17 transactions.
pub const MERKLE_PATH_LIMIT: usize = 32;
/// Most shares that one message acknowledges.
pub const SHARE_SEQS_LIMIT: usize = 65_536;
/// Most identities in one tally or carry list: ten times the payees that a pool may have at once,
/// for those who have left but whose work still counts.
pub const ENTRIES_LIMIT: usize = 1_000_000;
/// Most spans of a ledger: a level holds fewer than `2 * MERGE`, and 64^11 exceeds 2^64 windows.
pub const SPANS_LIMIT: usize = 2 * MERGE * 11;
/// Most entries of all spans together: 10,000 participants with work in each of 255 spans are 2.6 million,
/// some 25 MB of a message and 200 MB of a ledger.
pub const SPAN_ENTRIES_LIMIT: usize = 1 << 23;
/// Most blocks booked in one window: a week of blocks, after a long absence of the node.
pub const BOOKINGS_LIMIT: usize = 1_024;
/// Most payouts of one block: as many as a slot has nonces for.
pub const SHARDS_LIMIT: usize = NONCES_LIMIT as usize;
/// Most payees of one payout: 10,000 vB hold some 320 of the smallest outputs.
pub const PAYOUT_PAYEES_LIMIT: usize = 1_024;
/// Most blocks that a ledger remembers: one for every fourth window of those in which it does, and more
/// than any chain but regtest's has in that time.
pub const BLOCKS_LIMIT: usize = 65_536;
/// Longest detail of a reject, bytes.
pub const DETAIL_LIMIT: usize = 512;
/// Longest script of a standard type, bytes: P2WSH and P2TR.
pub const SCRIPT_LIMIT: usize = 34;
/// Most parts of a segment.
pub const PARTS_LIMIT: usize = 65_536;
/// Most shares of one part: 1.3 MB.
pub const SHARES_OF_PART_LIMIT: usize = SHARES_OF_PART;
/// Most rounds whose terms one part or sample tells.
pub const TERMS_LIMIT: usize = 65_536;
/// Most outputs of a coinbase: one per shard, or direct payees.
pub const COINBASE_OUTPUTS_LIMIT: usize = 1_024;
/// Longest serialised payout, bytes: 10,000 vB.
pub const PAYOUT_BYTES_LIMIT: usize = 40_000;
/// Most positions of one sample.
pub const POSITIONS_LIMIT: usize = 64;
/// Longest path in a window's tree: as many as a number of shares has bits.
pub const PATH_LIMIT: usize = 64;
/// Largest piece of a file that one message carries, bytes.
pub const FILE_CHUNK_LIMIT: usize = 1 << 20;
/// Largest segment or checkpoint, bytes: what a message to a participant may have.
pub const FILE_LIMIT: usize = MESSAGE_LIMIT_TO_PARTICIPANT;
