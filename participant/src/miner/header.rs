//! The search for headers whose double SHA-256 is a share.
//!
//! A kernel tells which nonces have a hash that begins with enough zeros, and every one that it tells
//! of is hashed again, in whole and by other code, before it is a share.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use sha2::compress256;
use sha2::digest::consts::U64;
use sha2::digest::generic_array::GenericArray;

use super::kernel::{Kernel, Nonces, Work};
use super::{FoundShare, MiningJob, Run};

type Block = GenericArray<u8, U64>;

/// SHA-256's initial state (FIPS 180-4, 5.3.3).
const INITIAL_STATE: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A header is 80 bytes: one block of 64, and 16 in the second.
const HEADER_BITS: u64 = 640;
const DIGEST_BITS: u64 = 256;

/// Searches the headers of one job.
pub struct HeaderSearch {
    job: MiningJob,
    kernel: Kernel,
    /// The first block: version, previous hash, and all but the last 4 bytes of the merkle root.
    first: Block,
    /// The second block: the merkle root's last 4 bytes, time, bits, nonce, padding.
    second: Block,
    /// The state after the first block, and the version it is for.
    midstate: Option<(i32, [u32; 8])>,
}

impl HeaderSearch {
    pub fn new(job: MiningJob, kernel: Kernel) -> Self {
        let mut first = Block::default();
        first[4..36].copy_from_slice(job.prev_hash.as_byte_array());
        first[36..64].copy_from_slice(&job.merkle_root.as_byte_array()[..28]);
        let mut second = padded(16, HEADER_BITS);
        second[..4].copy_from_slice(&job.merkle_root.as_byte_array()[28..]);
        second[8..12].copy_from_slice(&job.bits.to_consensus().to_le_bytes());
        Self {
            job,
            kernel,
            first,
            second,
            midstate: None,
        }
    }

    pub fn job(&self) -> &MiningJob {
        &self.job
    }

    /// Takes the id and the share target of a re-issued job; the headers stay the same.
    pub(super) fn reissue(&mut self, job: MiningJob) {
        self.job = job;
    }

    /// Hashes every header of `run` and tells of those that are shares.
    pub fn search(&mut self, run: Run, mut found: impl FnMut(FoundShare)) {
        let midstate = self.midstate(run.version);
        self.second[4..8].copy_from_slice(&run.time.to_le_bytes());
        let tail = [0, 4, 8].map(|at| word(&self.second[at..]));
        let nonces = Nonces {
            first: run.first_nonce,
            count: run.count,
        };
        let mask = mask(self.job.zero_bits);
        let (kernel, work) = (self.kernel, Work::new(midstate, tail));
        kernel.search(&work, nonces, mask, &mut |nonce| {
            if let Some(share) = self.share(midstate, run, nonce) {
                found(share);
            }
        });
    }

    /// The share, if the header of this nonce is one.
    fn share(&self, midstate: [u32; 8], run: Run, nonce: u32) -> Option<FoundShare> {
        let mut second = self.second;
        second[12..16].copy_from_slice(&nonce.to_le_bytes());
        let mut inner = midstate;
        compress256(&mut inner, &[second]);
        let mut digest = padded(32, DIGEST_BITS);
        for (bytes, word) in digest.chunks_exact_mut(4).zip(inner) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        let mut state = INITIAL_STATE;
        compress256(&mut state, &[digest]);
        let zero_bits = leading_zero_bits(&state);
        (zero_bits >= u16::from(self.job.zero_bits)).then(|| FoundShare {
            job_id: self.job.id,
            lane: self.job.lane,
            version: run.version,
            time: run.time,
            nonce,
            hash: block_hash(&state),
            zero_bits,
        })
    }

    fn midstate(&mut self, version: i32) -> [u32; 8] {
        match self.midstate {
            Some((for_version, state)) if for_version == version => state,
            _ => {
                self.first[..4].copy_from_slice(&version.to_le_bytes());
                let mut state = INITIAL_STATE;
                compress256(&mut state, &[self.first]);
                self.midstate = Some((version, state));
                state
            }
        }
    }
}

/// The last block of a message: `length` bytes still to be filled in, then SHA-256's padding.
fn padded(length: usize, message_bits: u64) -> Block {
    let mut block = Block::default();
    block[length] = 0x80;
    block[56..].copy_from_slice(&message_bits.to_be_bytes());
    block
}

/// SHA-256's word of the first four bytes.
fn word(bytes: &[u8]) -> u32 {
    bytes[..4]
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The bits of a hash's last word that are 0 if so many bits at its displayed front are; all of the
/// word's where more are asked for.
fn mask(zero_bits: u8) -> u32 {
    let others = 32_u32.saturating_sub(zero_bits.into());
    u32::MAX.checked_shl(others).unwrap_or(0).swap_bytes()
}

/// Zero bits at the front of the hash as it is displayed: its last byte comes first.
fn leading_zero_bits(state: &[u32; 8]) -> u16 {
    let mut bits = 0;
    for word in state.iter().rev() {
        let zeros = word.swap_bytes().leading_zeros() as u16;
        bits += zeros;
        if zeros < 32 {
            break;
        }
    }
    bits
}

fn block_hash(state: &[u32; 8]) -> BlockHash {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    BlockHash::from_byte_array(bytes)
}
