//! The checks of a credit's proof, in their order: payout, child, block.

use std::collections::BTreeMap;

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::script::{Instruction, read_scriptint};
use bitcoin::{
    Amount, Block, BlockHash, MerkleBlock, OutPoint, Target, Transaction, Txid, Witness,
};

use super::{
    BlockPayouts, CreditError, CreditProof, NODE_SIZE, PROOF_PART_LIMIT, identities, payees_digest,
};
use crate::digest::Digest;
use crate::id::Identity;
use crate::payout::{PAYOUT_VERSION, anchor};
use crate::work;

impl BlockPayouts {
    pub(super) fn output(&self, shard: u16) -> OutPoint {
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
    pub(super) fn cost(&self, shard: u16) -> Result<(Identity, u32), CreditError> {
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

    /// Whose output the child spends, and what of its cost is credited.
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
        // The anchor is nobody's: it is no cost to whoever spends it.
        let anchor = spent.remove(&anchor_of(&self.payout, txid).vout);
        anchor.ok_or(CreditError::NoAnchor)?;
        let first = spent.keys().next();
        let payee = first.and_then(|vout| usize::try_from(*vout).ok());
        let payee = payee.and_then(|vout| self.payees.get(vout));
        let identity = *payee.ok_or(CreditError::NoPayee)?;
        let spent = spent
            .into_values()
            .try_fold(Amount::ZERO, Amount::checked_add);
        let mut kept = self.child.output.iter().map(|output| output.value);
        let kept = kept.try_fold(Amount::ZERO, Amount::checked_add);
        let cost = spent
            .zip(kept)
            .and_then(|(all, kept)| all.checked_sub(kept));
        let cost = cost.ok_or(CreditError::Nothing)?.to_sat();
        let most = self.payouts.bump_credit;
        match u32::try_from(cost).map_or(most, |cost| cost.min(most)) {
            0 => Err(CreditError::Nothing),
            sat => Ok((identity, sat)),
        }
    }

    /// That a block of enough work has the three transactions, and is late enough.
    pub(super) fn check_block(&self) -> Result<(), CreditError> {
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
        let height = self.height().ok_or(CreditError::NoHeight)?;
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
        let target = work::target(header.bits.to_consensus());
        let hash: BlockHash = header.block_hash();
        // Four times as easy, which is what one adjustment of the difficulty may do. To forge such a block
        // takes a quarter of a block's work, far more than a credit is worth.
        let easiest = twice(twice(work::target(self.payouts.bits)));
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
pub(super) fn tree(block: &Block, txids: &[Txid]) -> Option<MerkleBlock> {
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

pub(super) fn anchor_of(payout: &Transaction, txid: Txid) -> OutPoint {
    let last = payout.output.len().saturating_sub(1);
    OutPoint::new(txid, u32::try_from(last).unwrap_or(u32::MAX))
}

pub(super) fn stripped(tx: &Transaction) -> Transaction {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.witness = Witness::new();
    }
    tx
}
