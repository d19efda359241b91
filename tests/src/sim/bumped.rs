//! A miner's bump of a found block's payout, mined: the blocks that confirm it are made here, since the
//! virtual chain has no transactions.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness,
};
use tutti_proto::coordinator::{Found, Record};
use tutti_proto::id::Identity;
use tutti_proto::window::Credit;

use super::World;

fn transaction(version: i32, input: Vec<TxIn>, output: Vec<TxOut>) -> Transaction {
    Transaction {
        version: Version(version),
        lock_time: LockTime::ZERO,
        input,
        output,
    }
}

fn input(previous_output: OutPoint, script_sig: ScriptBuf) -> TxIn {
    TxIn {
        previous_output,
        script_sig,
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    }
}

fn mined(bits: u32, txdata: Vec<Transaction>) -> Option<Block> {
    let header = Header {
        version: BlockVersion::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_700_000_000,
        bits: CompactTarget::from_consensus(bits),
        nonce: 0,
    };
    let mut block = Block { header, txdata };
    block.header.merkle_root = block.compute_merkle_root()?;
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce = block.header.nonce.checked_add(1)?;
    }
    Some(block)
}

impl World {
    /// The credit for a child that spends anchor and this identity's output of a found block's payout,
    /// pays this fee, and is mined so many blocks after the first that could have the payout. None if the
    /// identity is not paid, or no block could be made.
    pub fn bump(&self, found: &Found, who: &Identity, fee: u64, passed: u32) -> Option<Credit> {
        let committed = self.records.iter().find_map(|record| match record {
            Record::Committed(of) if of.round == found.round => Some(of),
            _ => None,
        });
        let (_, payouts) = committed?.lane(found.lane)?;
        let mut shards = (0u16..).zip(&found.payees).zip(&payouts);
        let ((shard, payees), payout) = shards.find(|((_, payees), _)| payees.contains(who))?;
        let own = payees.iter().position(|payee| payee == who)?;
        let txid = payout.compute_txid();
        let mut spent = 0u64;
        let mut inputs = Vec::new();
        for vout in [payees.len(), own] {
            spent = spent.checked_add(payout.output.get(vout)?.value.to_sat())?;
            let coin = OutPoint::new(txid, u32::try_from(vout).ok()?);
            inputs.push(input(coin, ScriptBuf::new()));
        }
        let back = TxOut {
            value: Amount::from_sat(spent.checked_sub(fee)?),
            script_pubkey: payout.output.first()?.script_pubkey.clone(),
        };
        let child = transaction(3, inputs, vec![back]);
        let height = found.height.checked_add(100)?.checked_add(passed)?;
        let script = Builder::new().push_int(i64::from(height)).into_script();
        let coinbase = transaction(2, vec![input(OutPoint::null(), script)], Vec::new());
        let block = mined(found.payouts.bits, vec![coinbase, payout.clone(), child])?;
        Credit::in_block(found.hash, shard, &found.payouts, payees, &block).ok()?
    }
}
