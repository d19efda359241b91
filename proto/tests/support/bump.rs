//! A found block whose payout a payee bumped, and the block that confirmed both: made whole, so that each
//! part of it can be falsified.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, MerkleBlock, OutPoint, ScriptBuf, Sequence,
    Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
};
use tutti_proto::id::{Identity, LaneIndex, RoundId};
use tutti_proto::payout;
use tutti_proto::window::{
    BlockPayouts, Booking, Credit, CreditError, Ledger, Tally, WindowRecord, payees_digest,
};

/// The easiest target of regtest: two tries.
pub const EASY: u32 = 0x207f_ffff;
/// Height of the found block.
pub const HEIGHT: u32 = 300;
/// What each payee is paid, sat.
pub const PART: u64 = 50_000;

pub struct Bump {
    pub payouts: BlockPayouts,
    pub payees: Vec<Identity>,
    pub payout: Transaction,
    pub child: Transaction,
    /// Coinbase of the block that confirms them.
    pub coinbase: Transaction,
    /// What else is in it.
    pub others: Vec<Transaction>,
    /// Its compact target.
    pub bits: u32,
}

fn input(previous_output: OutPoint) -> TxIn {
    TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[[7u8; 64]]),
    }
}

fn transaction(version: i32, input: Vec<TxIn>, output: Vec<TxOut>) -> Transaction {
    Transaction {
        version: Version(version),
        lock_time: LockTime::ZERO,
        input,
        output,
    }
}

pub fn output(sat: u64) -> TxOut {
    TxOut {
        value: Amount::from_sat(sat),
        script_pubkey: payout::output_script(&[3; 32]),
    }
}

/// A coinbase that says a height.
pub fn coinbase(height: u32) -> Transaction {
    let script_sig = Builder::new()
        .push_int(i64::from(height))
        .push_slice([0; 4]);
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig: script_sig.into_script(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[0u8; 32]]),
    };
    transaction(2, vec![input], vec![output(5_000_000_000)])
}

impl Bump {
    /// Of shard 1 of 2, in the first block in which it is credited; the child spends the outputs of these
    /// payees and pays a fee.
    pub fn new(payees: &[Identity], spends: &[u32], fee: u64) -> Self {
        let found = Txid::from_byte_array([9; 32]);
        let payouts = BlockPayouts {
            height: HEIGHT,
            bits: EASY,
            bump_credit: 20_000,
            bump_credit_after: 3,
            coinbase: found.to_byte_array(),
            shards: vec![[1; 32], payees_digest(payees)],
        };
        let parts = payees.iter().map(|_| output(PART)).collect();
        let payout = payout::unsigned(OutPoint::new(found, 1), parts);
        let payout = payout::signed(payout, &[8; 64]);
        let mut bump = Self {
            coinbase: coinbase(payouts.credited_from()),
            child: transaction(3, Vec::new(), vec![output(0)]),
            others: (1u32..6)
                .map(|n| {
                    transaction(
                        2,
                        vec![input(OutPoint::new(found, 100 + n))],
                        vec![output(n.into())],
                    )
                })
                .collect(),
            payouts,
            payees: payees.to_vec(),
            payout,
            bits: EASY,
        };
        let inputs = [&[bump.anchor()], spends].concat();
        bump.child_spends(&inputs);
        let spent = PART * spends.len() as u64 + payout::ANCHOR_SAT;
        bump.child.output = vec![output(spent - fee)];
        bump
    }

    pub fn anchor(&self) -> u32 {
        u32::try_from(self.payees.len()).unwrap()
    }

    /// Makes the child spend these outputs of the payout, and nothing else.
    pub fn child_spends(&mut self, vouts: &[u32]) {
        let txid = self.payout.compute_txid();
        let inputs = vouts.iter().map(|vout| input(OutPoint::new(txid, *vout)));
        self.child.input = inputs.collect();
    }

    /// A further coin that the child spends.
    pub fn wallet_coin() -> TxIn {
        input(OutPoint::new(Txid::from_byte_array([4; 32]), 0))
    }

    /// The block that confirms it.
    pub fn confirmed(&self) -> Block {
        let mut txdata = vec![self.coinbase.clone()];
        txdata.extend(self.others[..2].iter().cloned());
        txdata.push(self.payout.clone());
        txdata.push(self.others[2].clone());
        txdata.push(self.child.clone());
        txdata.extend(self.others[3..].iter().cloned());
        self.block_of(txdata)
    }

    /// A mined block of these transactions.
    pub fn block_of(&self, txdata: Vec<Transaction>) -> Block {
        let header = Header {
            version: BlockVersion::TWO,
            prev_blockhash: BlockHash::from_byte_array([5; 32]),
            merkle_root: TxMerkleNode::all_zeros(),
            time: 1_700_000_000,
            bits: CompactTarget::from_consensus(self.bits),
            nonce: 0,
        };
        let mut block = Block { header, txdata };
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        while block.header.validate_pow(block.header.target()).is_err() {
            block.header.nonce += 1;
        }
        block
    }

    /// The tree from its root to coinbase, payout and child, as whoever reads it has it.
    pub fn tree(&self) -> MerkleBlock {
        self.tree_of(&self.confirmed(), &self.coinbase)
    }

    /// The same of another block, which has payout and child too.
    pub fn tree_of(&self, block: &Block, coinbase: &Transaction) -> MerkleBlock {
        let three = [coinbase, &self.payout, &self.child].map(Transaction::compute_txid);
        let tree = MerkleBlock::from_block_with_predicate(block, |txid| three.contains(txid));
        deserialize(&serialize(&tree)).unwrap()
    }

    pub fn booking(&self) -> Booking {
        Booking {
            block: [6; 32],
            round: RoundId([7; 32]),
            lane: LaneIndex(0),
            undone: false,
            carry: Default::default(),
            payouts: self.payouts.digest(),
            header: [0; 80],
        }
    }

    /// As its finder gives it.
    pub fn credit(&self) -> Result<Option<Credit>, CreditError> {
        let block = self.confirmed();
        Credit::in_block([6; 32], 1, &self.payouts, &self.payees, &block)
    }

    /// A ledger that has its block.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        let record = record(&ledger, vec![self.booking()], Vec::new());
        ledger.append(&record).unwrap();
        ledger
    }
}

/// The next record of a ledger, with nothing but these.
pub fn record(ledger: &Ledger, bookings: Vec<Booking>, credits: Vec<Credit>) -> WindowRecord {
    let head = ledger.head();
    WindowRecord {
        seq: head.seq.next(),
        previous: head.hash,
        shares_root: [0; 32],
        shares: 0,
        height: 1,
        tally: Tally::new(),
        bookings,
        credits,
    }
}
