//! Credits: what a fee bump cost its author, owed to it by the pool's later payouts. A credit comes
//! with its whole proof, so that whoever has the ledger can check it, and nobody need be believed.

use std::collections::BTreeMap;

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::script::{Instruction, read_scriptint};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, MerkleBlock, OutPoint, Target, Transaction, Txid,
    Witness,
};

use super::BookedBlock;
use super::booking::Blocks;
use crate::coinbase::COINBASE_MATURITY;
use crate::digest::Digest;
use crate::id::Identity;
use crate::params::PoolParams;
use crate::payout::{PAYOUT_VERSION, anchor};
use crate::plan::RoundInputs;

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
    /// It pays no fee, or no valid one, or the pool credits nothing.
    #[error("there is nothing to credit: the child pays no fee, or the pool credits none")]
    Nothing,
    /// Credited to somebody else.
    #[error("it credits another than the payee whose output the child spends")]
    OtherIdentity,
    /// Credited otherwise.
    #[error("it credits {claimed} sat, from its proof follow {follows} sat")]
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

impl BlockPayouts {
    fn output(&self, shard: u16) -> OutPoint {
        OutPoint::new(Txid::from_byte_array(self.coinbase), u32::from(shard))
    }
}

impl CreditProof {
    /// Hash of its one encoding.
    pub fn digest(&self) -> [u8; 32] {
        let digest = self.payouts.append_to(Digest::new("tutti/credit-proof"));
        identities(digest, &self.payees)
            .bytes(&serialize(&self.payout))
            .bytes(&serialize(&self.child))
            .bytes(&serialize(&self.coinbase))
            .bytes(&serialize(&self.block))
            .finish()
    }

    /// Who is credited how much for bumping this shard's payout, if the booking names these payouts and
    /// some block has these transactions.
    fn cost(&self, shard: u16) -> Result<(Identity, u32), CreditError> {
        self.check_sizes()?;
        self.check_payout(shard)?;
        self.check_child()
    }

    fn check_sizes(&self) -> Result<(), CreditError> {
        let parts = [
            self.payout.total_size(),
            self.child.total_size(),
            self.coinbase.total_size(),
            serialize(&self.block).len(),
        ];
        match parts.iter().all(|size| *size <= PROOF_PART_LIMIT) {
            true => Ok(()),
            false => Err(CreditError::TooLarge),
        }
    }

    fn check_payout(&self, shard: u16) -> Result<(), CreditError> {
        let named = self.payouts.shards.get(usize::from(shard));
        if named != Some(&payees_digest(&self.payees)) {
            return Err(CreditError::OtherPayees(shard));
        }
        let [input] = &self.payout.input[..] else {
            return Err(CreditError::OtherPayout);
        };
        let outputs = self.payees.len().saturating_add(1);
        let last = self.payout.output.last();
        if input.previous_output != self.payouts.output(shard)
            || self.payout.output.len() != outputs
            || last != Some(&anchor())
        {
            return Err(CreditError::OtherPayout);
        }
        Ok(())
    }

    /// Whose output the child spends, and what of its fee is credited.
    fn check_child(&self) -> Result<(Identity, u32), CreditError> {
        if self.child.version != PAYOUT_VERSION {
            return Err(CreditError::ChildVersion);
        }
        if self.child.base_size() == NODE_SIZE {
            return Err(CreditError::ChildSize);
        }
        let txid = self.payout.compute_txid();
        // By output: none is spent twice.
        let mut spent = BTreeMap::new();
        for input in &self.child.input {
            let OutPoint { txid: of, vout } = input.previous_output;
            let output = usize::try_from(vout).ok();
            let output = output.and_then(|vout| self.payout.output.get(vout));
            let output = output.filter(|_| of == txid);
            spent.insert(vout, output.ok_or(CreditError::SpendsOther)?.value);
        }
        if !spent.contains_key(&anchor_of(&self.payout, txid).vout) {
            return Err(CreditError::NoAnchor);
        }
        let first = spent.keys().next();
        let payee = first.and_then(|vout| usize::try_from(*vout).ok());
        let payee = payee.and_then(|vout| self.payees.get(vout));
        let identity = *payee.ok_or(CreditError::NoPayee)?;
        let spent = spent
            .into_values()
            .try_fold(Amount::ZERO, Amount::checked_add);
        let mut kept = self.child.output.iter().map(|output| output.value);
        let kept = kept.try_fold(Amount::ZERO, Amount::checked_add);
        let fee = spent
            .zip(kept)
            .and_then(|(all, kept)| all.checked_sub(kept));
        let fee = fee.ok_or(CreditError::Nothing)?.to_sat();
        let most = self.payouts.bump_credit;
        match u32::try_from(fee).map_or(most, |fee| fee.min(most)) {
            0 => Err(CreditError::Nothing),
            sat => Ok((identity, sat)),
        }
    }

    /// That a block of enough work has the three transactions, and is late enough.
    fn check_block(&self) -> Result<(), CreditError> {
        let three = [&self.coinbase, &self.payout, &self.child].map(Transaction::compute_txid);
        let (mut matches, mut places) = (Vec::new(), Vec::new());
        let root = self.block.extract_matches(&mut matches, &mut places);
        // A child comes after its parent, so they have one order.
        if root.is_err() || matches != three || places.first() != Some(&0) {
            return Err(CreditError::NotProven);
        }
        if !self.has_work(&self.block.header) {
            return Err(CreditError::Work);
        }
        let height = self.height().ok_or(CreditError::NotProven)?;
        // Not at once: whoever mines blocks could bump a payout that nobody waited for, into its own
        // pocket.
        let from = self.payouts.credited_from();
        match height >= from {
            true => Ok(()),
            false => Err(CreditError::TooEarly { height, from }),
        }
    }

    /// Whether a header has the work that it claims, and claims enough.
    fn has_work(&self, header: &Header) -> bool {
        let target = header.target();
        let hash: BlockHash = header.block_hash();
        let bits = CompactTarget::from_consensus(self.payouts.bits);
        // Four times as easy, which is what one adjustment of the difficulty may do. To forge such a block
        // takes a quarter of a block's work, far more than a credit is worth.
        let easiest = twice(twice(Target::from_compact(bits)));
        target.is_met_by(hash) && target <= easiest
    }

    /// The height that the coinbase says (BIP34).
    fn height(&self) -> Option<u32> {
        let [input] = &self.coinbase.input[..] else {
            return None;
        };
        if !input.previous_output.is_null() {
            return None;
        }
        match input.script_sig.instructions_minimal().next()?.ok()? {
            // Heights up to 16 have opcodes of their own, and no payout.
            Instruction::PushBytes(height) => {
                u32::try_from(read_scriptint(height.as_bytes()).ok()?).ok()
            }
            Instruction::Op(_) => None,
        }
    }
}

/// The tree of these transactions, as whoever reads it has it: its flags fill their last byte.
fn tree(block: &Block, txids: &[Txid]) -> Option<MerkleBlock> {
    let tree = MerkleBlock::from_block_with_predicate(block, |txid| txids.contains(txid));
    deserialize(&serialize(&tree)).ok()
}

/// Twice as easy; the easiest there is, if that is beyond what a target holds.
fn twice(target: Target) -> Target {
    let mut bytes = target.to_be_bytes();
    if bytes[0] & 0x80 != 0 {
        return Target::from_be_bytes([0xff; 32]);
    }
    let mut carry = 0;
    for byte in bytes.iter_mut().rev() {
        let high = *byte >> 7;
        *byte = (*byte << 1) | carry;
        carry = high;
    }
    Target::from_be_bytes(bytes)
}

fn anchor_of(payout: &Transaction, txid: Txid) -> OutPoint {
    let last = payout.output.len().saturating_sub(1);
    OutPoint::new(txid, u32::try_from(last).unwrap_or(u32::MAX))
}

fn stripped(tx: &Transaction) -> Transaction {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.witness = Witness::new();
    }
    tx
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
