//! Credits: what a fee bump cost its author, owed to it by the pool's later payouts. A credit comes
//! with its whole proof, so that whoever has the ledger can check it, and nobody need be believed.

mod proof;

use bitcoin::{Block, MerkleBlock, Transaction, Txid};

use super::BookedBlock;
use super::booking::Blocks;
use crate::amount::both;
use crate::coinbase::COINBASE_MATURITY;
use crate::digest::Digest;
use crate::id::Identity;
use crate::params::PoolParams;
use crate::plan::RoundInputs;
use proof::{anchor_of, stripped, tree};

/// Most bytes of a transaction, or of the merkle block, in a proof: several times the largest payout,
/// and more than any coinbase in use.
pub const PROOF_PART_LIMIT: usize = 65_536;
/// Most credits of one window: records stay far below a message's limit. What is left comes next.
pub const CREDITS_LIMIT: usize = 16;
/// A transaction of this size looks like an inner node of the merkle tree.
const NODE_SIZE: usize = 64;

/// Whom the payouts of a block pay, and on what terms bumps of them are credited. A booking names its
/// hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockPayouts {
    /// Height of the block.
    pub height: u32,
    /// Compact target of the round's template.
    pub bits: u32,
    /// Most that is credited for one payout, sat.
    pub bump_credit: u32,
    /// Blocks that must have passed a payout by.
    pub bump_credit_after: u16,
    /// Txid of the block's coinbase, in the byte order in which it is hashed.
    pub coinbase: [u8; 32],
    /// Hash of each shard's payees; none in a direct round.
    pub shards: Vec<[u8; 32]>,
}

/// What a bump cost, to be paid to its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The found block whose payout was bumped, in the byte order in which it is hashed.
    pub block: [u8; 32],
    /// Which of its payouts.
    pub shard: u16,
    /// Whose bump it was.
    pub identity: Identity,
    /// What is credited, sat.
    pub sat: u32,
    /// That all of it is so.
    pub proof: Box<CreditProof>,
}

/// The proof of a credit. Transactions are without witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditProof {
    /// What the booking names the hash of.
    pub payouts: BlockPayouts,
    /// Whom the payout pays, in the order of its outputs.
    pub payees: Vec<Identity>,
    /// The payout.
    pub payout: Transaction,
    /// The child that raised its fee.
    pub child: Transaction,
    /// Coinbase of the block that has both: its height.
    pub coinbase: Transaction,
    /// That block's header, and the tree that leads from its root to these three.
    pub block: MerkleBlock,
}

/// Why there is no such credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// The ledger does not have the block, or has it undone.
    #[error("its block is not booked")]
    NotBooked,
    /// One payout is credited once.
    #[error("its payout was credited before")]
    Again,
    /// Other payouts than the block was booked with.
    #[error("the payouts in its proof are not those that the block was booked with")]
    OtherPayouts,
    /// Other payees than the booking's.
    #[error("the payees in its proof are not those of shard {0}")]
    OtherPayees(u16),
    /// Not the transaction that spends the shard's output to its payees.
    #[error("the payout in its proof is not that of the block's coinbase and shard")]
    OtherPayout,
    /// A child of another version is no bump of ours.
    #[error("the child's version is not 3")]
    ChildVersion,
    /// Whoever sees its bytes could take a node of the tree for it.
    #[error("the child has {NODE_SIZE} bytes, as a node of the merkle tree has")]
    ChildSize,
    /// What else it spends nobody here can know the value of.
    #[error("the child spends something else than the payout")]
    SpendsOther,
    /// It does not spend the anchor.
    #[error("the child does not spend the payout's anchor")]
    NoAnchor,
    /// It spends nobody's output: there is nobody to credit.
    #[error("the child spends no payee's output")]
    NoPayee,
    /// It costs its author nothing, or the pool credits nothing.
    #[error(
        "there is nothing to credit: the child costs its author nothing, or the pool credits none"
    )]
    Nothing,
    /// Credited to somebody else.
    #[error("it credits another than the payee whose output the child spends")]
    OtherIdentity,
    /// Credited otherwise.
    #[error("it credits {}, from its proof follow {}", both(*claimed), both(*follows))]
    OtherAmount {
        /// What the credit says.
        claimed: u32,
        /// What the proof says.
        follows: u32,
    },
    /// The tree does not lead to the root, or not exactly to the three transactions.
    #[error("its merkle block does not prove coinbase, payout and child, and these only")]
    NotProven,
    /// The header has no proof of work, or too little.
    #[error("the header in its proof has too little work")]
    Work,
    /// The block's height cannot be told.
    #[error("the coinbase in its proof is none that starts with its height")]
    NoHeight,
    /// The payout was mined before that many blocks passed it by.
    #[error("its payout was mined at height {height}, credited is from {from} on")]
    TooEarly {
        /// Of the block that has the payout.
        height: u32,
        /// The first at which a bump is credited.
        from: u32,
    },
    /// A part of the proof is larger than a record may carry.
    #[error("a part of its proof has more than {PROOF_PART_LIMIT} bytes")]
    TooLarge,
}

/// Hash of the payees of one payout, in the order of its outputs.
pub fn payees_digest(payees: &[Identity]) -> [u8; 32] {
    identities(Digest::new("tutti/payees"), payees).finish()
}

fn identities(digest: Digest, list: &[Identity]) -> Digest {
    let digest = digest.count(list.len());
    list.iter().fold(digest, |d, who| d.fixed(who.as_bytes()))
}

impl BlockPayouts {
    /// Those of a block of a round: its coinbase's txid, and the payees shard by shard.
    pub fn new(
        params: &PoolParams,
        inputs: &RoundInputs,
        coinbase: [u8; 32],
        payees: &[Vec<Identity>],
    ) -> Self {
        Self {
            height: inputs.height,
            bits: inputs.bits,
            bump_credit: params.bump_credit,
            bump_credit_after: params.bump_credit_after,
            coinbase,
            shards: payees.iter().map(|shard| payees_digest(shard)).collect(),
        }
    }

    /// The same of each lane's block: hashes only.
    pub fn of_lanes(
        params: &PoolParams,
        inputs: &RoundInputs,
        coinbases: impl Iterator<Item = [u8; 32]>,
        payees: &[Vec<Identity>],
    ) -> Vec<[u8; 32]> {
        let mut payouts = Self::new(params, inputs, [0; 32], payees);
        let lane = |coinbase| {
            payouts.coinbase = coinbase;
            payouts.digest()
        };
        coinbases.map(lane).collect()
    }

    /// What a booking names.
    pub fn digest(&self) -> [u8; 32] {
        self.append_to(Digest::new("tutti/payouts")).finish()
    }

    fn append_to(&self, digest: Digest) -> Digest {
        let digest = digest
            .u32(self.height)
            .u32(self.bits)
            .u32(self.bump_credit)
            .u16(self.bump_credit_after)
            .fixed(&self.coinbase)
            .count(self.shards.len());
        self.shards.iter().fold(digest, |d, shard| d.fixed(shard))
    }

    /// The first height at which a bump that is mined is credited.
    pub fn credited_from(&self) -> u32 {
        self.height
            .saturating_add(COINBASE_MATURITY)
            .saturating_add(u32::from(self.bump_credit_after))
    }
}

impl Credit {
    /// Of a payout in the block that confirmed it. None if no child raised its fee there.
    pub fn in_block(
        block: [u8; 32],
        shard: u16,
        payouts: &BlockPayouts,
        payees: &[Identity],
        confirmed: &Block,
    ) -> Result<Option<Self>, CreditError> {
        let spends = payouts.output(shard);
        let pays = |tx: &&Transaction| tx.input.iter().any(|i| i.previous_output == spends);
        let payout = confirmed.txdata.iter().find(pays);
        let payout = payout.ok_or(CreditError::OtherPayout)?;
        let anchor = anchor_of(payout, payout.compute_txid());
        let bumps = |tx: &&Transaction| tx.input.iter().any(|i| i.previous_output == anchor);
        let Some(child) = confirmed.txdata.iter().find(bumps) else {
            return Ok(None);
        };
        let coinbase = confirmed.coinbase().ok_or(CreditError::NotProven)?;
        let three = [coinbase, payout, child].map(Transaction::compute_txid);
        let proof = CreditProof {
            payouts: payouts.clone(),
            payees: payees.to_vec(),
            payout: stripped(payout),
            child: stripped(child),
            coinbase: stripped(coinbase),
            block: tree(confirmed, &three).ok_or(CreditError::NotProven)?,
        };
        let (identity, sat) = proof.cost(shard)?;
        proof.check_block()?;
        Ok(Some(Self {
            block,
            shard,
            identity,
            sat,
            proof: Box::new(proof),
        }))
    }

    /// Checks all of it against what the ledger knows of its block.
    fn check(&self, block: Option<&BookedBlock>) -> Result<(), CreditError> {
        let block = block.filter(|block| block.booked);
        let block = block.ok_or(CreditError::NotBooked)?;
        if block.credited.contains(&self.shard) {
            return Err(CreditError::Again);
        }
        if self.proof.payouts.digest() != block.payouts {
            return Err(CreditError::OtherPayouts);
        }
        let (identity, follows) = self.proof.cost(self.shard)?;
        if identity != self.identity {
            return Err(CreditError::OtherIdentity);
        }
        let claimed = self.sat;
        if claimed != follows {
            return Err(CreditError::OtherAmount { claimed, follows });
        }
        self.proof.check_block()
    }

    /// The payout that was bumped.
    pub fn payout(&self) -> Txid {
        self.proof.payout.compute_txid()
    }

    pub(super) fn append_to(&self, digest: Digest) -> Digest {
        digest
            .fixed(&self.block)
            .u16(self.shard)
            .fixed(self.identity.as_bytes())
            .u32(self.sat)
            .fixed(&self.proof.digest())
    }
}

/// Notes a credit, if it is right in every part.
pub(super) fn note(blocks: &mut Blocks, credit: &Credit) -> Result<(), CreditError> {
    let block = blocks.get_mut(&credit.block);
    credit.check(block.as_deref())?;
    block
        .ok_or(CreditError::NotBooked)?
        .credited
        .insert(credit.shard);
    Ok(())
}

/// Whether a credit may be noted.
pub(super) fn check(blocks: &Blocks, credit: &Credit) -> Result<(), CreditError> {
    credit.check(blocks.get(&credit.block))
}
