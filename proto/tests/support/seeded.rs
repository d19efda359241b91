//! Randomness that a second implementation can repeat: SHA-256 in counter mode.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use rand::{CryptoRng, RngCore};

/// Block i of the stream is SHA256(seed || i), i as eight little-endian bytes. For vectors and tests.
pub struct Seeded {
    seed: Vec<u8>,
    block: u64,
    rest: Vec<u8>,
}

impl Seeded {
    pub fn new(seed: &str) -> Self {
        Self {
            seed: seed.as_bytes().to_vec(),
            block: 0,
            rest: Vec::new(),
        }
    }

    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.fill_bytes(&mut bytes);
        bytes
    }
}

impl RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for byte in dest {
            if self.rest.is_empty() {
                let mut engine = sha256::Hash::engine();
                engine.input(&self.seed);
                engine.input(&self.block.to_le_bytes());
                self.rest = sha256::Hash::from_engine(engine).to_byte_array().to_vec();
                self.rest.reverse();
                self.block += 1;
            }
            *byte = self.rest.pop().unwrap();
        }
    }
}

impl CryptoRng for Seeded {}
