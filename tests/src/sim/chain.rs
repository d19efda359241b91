//! The virtual chain: a tip, templates on it, and the judgement of blocks by the rules that a coinbase
//! can break.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, Network};
use rand::RngCore;
use rand::rngs::StdRng;
use tutti_proto::feerate::FeeRate;
use tutti_proto::policy::subsidy;
use tutti_proto::template::Template;
use tutti_proto::work::{header_hash, meets_target};

/// Fees of every template's transactions, sat.
const FEES: u64 = 1_234;
/// Regtest's easiest target.
const BITS: u32 = 0x207f_ffff;

/// Blocks by hash, and the best chain of them.
pub struct Chain {
    heights: BTreeMap<[u8; 32], u32>,
    best: BTreeSet<[u8; 32]>,
    tip: [u8; 32],
}

/// What the chain says of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is the new tip.
    Accepted(Box<Block>),
    /// It is valid and not on the best branch.
    Inconclusive,
    /// It can never be one.
    Invalid(&'static str),
}

impl Chain {
    pub fn new(height: u32) -> Self {
        let tip = [0xaa; 32];
        Self {
            heights: BTreeMap::from([(tip, height)]),
            best: BTreeSet::from([tip]),
            tip,
        }
    }

    pub fn is_best(&self, hash: &[u8; 32]) -> bool {
        self.best.contains(hash)
    }

    fn push(&mut self, hash: [u8; 32], height: u32) {
        self.heights.insert(hash, height);
        self.best.insert(hash);
        self.tip = hash;
    }

    pub fn height(&self) -> u32 {
        self.heights.get(&self.tip).copied().unwrap_or(0)
    }

    pub fn tip(&self) -> [u8; 32] {
        self.tip
    }

    /// Somebody else's block.
    pub fn extend(&mut self, dice: &mut StdRng) {
        let mut hash = [0; 32];
        dice.fill_bytes(&mut hash);
        self.push(hash, self.height() + 1);
    }

    /// What getblocktemplate gives.
    pub fn template(&self) -> Template {
        let height = self.height() + 1;
        Template {
            height,
            previous_block: self.tip,
            version: 0x2000_0000,
            bits: BITS,
            time: 1_700_000_000 + height,
            time_min: 1_700_000_000,
            reward: subsidy(Network::Regtest, height) + FEES,
            witness_commitment: Some([7; 32]),
            merkle_path: Vec::new(),
            transactions: Vec::new(),
            weight: 0,
            feerate: FeeRate::FLOOR,
        }
    }

    /// What submitblock says.
    pub fn submit(&mut self, block: &[u8]) -> Judgement {
        let Ok(block) = deserialize::<Block>(block) else {
            return Judgement::Invalid("it cannot be decoded");
        };
        let header = bitcoin::consensus::serialize(&block.header);
        let Ok(header) = <[u8; 80]>::try_from(header) else {
            return Judgement::Invalid("its header is not 80 bytes long");
        };
        let hash = header_hash(&header);
        let Some(parent) = self
            .heights
            .get(&block.header.prev_blockhash.to_byte_array())
        else {
            return Judgement::Invalid("its previous block is unknown");
        };
        let height = parent + 1;
        let Some(coinbase) = block.txdata.first() else {
            return Judgement::Invalid("it has no coinbase");
        };
        let value: u64 = coinbase.output.iter().map(|out| out.value.to_sat()).sum();
        let committed = block.txdata[0]
            .output
            .iter()
            .any(|out| out.script_pubkey.is_op_return());
        let fees = if committed { FEES } else { 0 };
        if block.header.bits.to_consensus() != BITS || !meets_target(&hash, BITS) {
            return Judgement::Invalid("too little work");
        }
        if !block.check_merkle_root() {
            return Judgement::Invalid("its merkle root is another's");
        }
        if block.bip34_block_height().ok() != Some(u64::from(height)) {
            return Judgement::Invalid("its coinbase names another height");
        }
        if coinbase.lock_time.to_consensus_u32() != height - 1 {
            return Judgement::Invalid("its coinbase is locked to another height");
        }
        if value > subsidy(Network::Regtest, height) + fees {
            return Judgement::Invalid("its coinbase is worth more than subsidy and fees");
        }
        if block.header.prev_blockhash.to_byte_array() != self.tip {
            self.heights.insert(hash, height);
            return Judgement::Inconclusive;
        }
        self.push(hash, height);
        Judgement::Accepted(Box::new(block))
    }
}
