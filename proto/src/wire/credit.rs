//! Credits for bumps, and their proofs.

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{MerkleBlock, Transaction};
use prost::bytes::Bytes;

use super::error::{WireError, WireReason, Within};
use super::field::{array, at_most, bytes, fixed, identity, list, message, parse_identity};
use super::{FromWire, PAYOUT_PAYEES_LIMIT, SHARDS_LIMIT, ToWire, pb};
use crate::window::{BlockPayouts, Credit, CreditProof, PROOF_PART_LIMIT};

impl ToWire for Credit {
    type Message = pb::Credit;

    fn to_wire(&self) -> pb::Credit {
        pb::Credit {
            block: bytes(&self.block),
            shard: u32::from(self.shard),
            identity: bytes(self.identity.as_bytes()),
            sat: self.sat,
            proof: Some(self.proof.to_wire()),
        }
    }
}

impl FromWire for Credit {
    fn from_wire(wire: pb::Credit) -> Result<Self, WireError> {
        Ok(Self {
            block: fixed("block", &wire.block)?,
            shard: at_most("shard", wire.shard, u32::from(u16::MAX))?,
            identity: identity("identity", &wire.identity)?,
            sat: wire.sat,
            proof: Box::new(message("proof", wire.proof)?),
        })
    }
}

impl ToWire for CreditProof {
    type Message = pb::CreditProof;

    fn to_wire(&self) -> pb::CreditProof {
        let payouts = &self.payouts;
        let payees = self.payees.iter().map(|who| bytes(who.as_bytes()));
        pb::CreditProof {
            height: payouts.height,
            bits: payouts.bits,
            bump_credit: payouts.bump_credit,
            bump_credit_after: u32::from(payouts.bump_credit_after),
            coinbase_txid: bytes(&payouts.coinbase),
            shards: payouts.shards.iter().map(|shard| bytes(shard)).collect(),
            payees: payees.collect(),
            payout: serialize(&self.payout).into(),
            child: serialize(&self.child).into(),
            coinbase: serialize(&self.coinbase).into(),
            merkle_block: serialize(&self.block).into(),
        }
    }
}

impl FromWire for CreditProof {
    fn from_wire(wire: pb::CreditProof) -> Result<Self, WireError> {
        let after = wire.bump_credit_after;
        let hash = |hash: Bytes| array(&hash);
        let payee = |payee: Bytes| parse_identity(&payee);
        Ok(Self {
            payouts: BlockPayouts {
                height: wire.height,
                bits: wire.bits,
                bump_credit: wire.bump_credit,
                bump_credit_after: at_most("bump_credit_after", after, u32::from(u16::MAX))?,
                coinbase: fixed("coinbase_txid", &wire.coinbase_txid)?,
                shards: list("shards", wire.shards, SHARDS_LIMIT, hash)?,
            },
            payees: list("payees", wire.payees, PAYOUT_PAYEES_LIMIT, payee)?,
            payout: transaction("payout", &wire.payout)?,
            child: transaction("child", &wire.child)?,
            coinbase: transaction("coinbase", &wire.coinbase)?,
            block: merkle_block(&wire.merkle_block).within("merkle_block")?,
        })
    }
}

fn within_limit(part: &[u8]) -> Result<(), WireError> {
    let (got, limit) = (part.len(), PROOF_PART_LIMIT);
    match got > limit {
        true => Err(WireError::here(WireReason::TooLong { got, limit })),
        false => Ok(()),
    }
}

/// A transaction without witness: it has this one encoding. One without inputs has none that all
/// programs read alike.
fn transaction(field: &str, part: &[u8]) -> Result<Transaction, WireError> {
    within_limit(part).within(field)?;
    let parsed = deserialize::<Transaction>(part).ok();
    let plain = |tx: &Transaction| tx.input.iter().all(|input| input.witness.is_empty());
    let parsed = parsed.filter(|tx| !tx.input.is_empty() && plain(tx) && serialize(tx) == part);
    parsed.ok_or_else(|| WireError::here(WireReason::Undecodable).under(field))
}

fn merkle_block(part: &[u8]) -> Result<MerkleBlock, WireError> {
    within_limit(part)?;
    let parsed = deserialize::<MerkleBlock>(part).ok();
    let parsed = parsed.filter(|block| serialize(block) == part);
    parsed.ok_or_else(|| WireError::here(WireReason::Undecodable))
}
