//! Records with a credit that is not right: one for each of section 9's checks of it.

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{MerkleBlock, Transaction};
use tutti_proto::payout::ANCHOR_SAT;
use tutti_proto::window::{Credit, WindowRecord};

use super::super::bump::{Bump, PART, coinbase, output};
use super::records::Lie;

/// How a right credit is falsified.
type Falsify = fn(&mut Credit);

/// In the order of the checks.
const LIES: &[(&str, Falsify)] = &[
    ("a credit of a block that is not booked", |c| {
        c.block = [1; 32]
    }),
    ("a credit by other payouts than were booked", |c| {
        c.proof.payouts.bump_credit += 1;
    }),
    ("a credit with payees in another order", |c| {
        c.proof.payees.swap(0, 1)
    }),
    ("a credit of a shard that there is not", |c| c.shard = 2),
    ("a credit of a payout with an output less", |c| {
        c.proof.payout.output.remove(0);
    }),
    ("a credit by a child of version 2", |c| {
        c.proof.child.version.0 = 2
    }),
    ("a credit by a child that spends another coin", |c| {
        let mut coin = Bump::wallet_coin();
        coin.witness.clear();
        c.proof.child.input.push(coin);
    }),
    ("a credit by a child without the anchor", |c| {
        c.proof.child.input.remove(0);
    }),
    ("a credit by a child of the anchor alone", |c| {
        c.proof.child.input.truncate(1);
    }),
    ("a credit by a child without a cost", |c| {
        c.proof.child.output = vec![output(PART + ANCHOR_SAT)];
    }),
    ("a credit to another payee", |c| {
        c.identity = c.proof.payees[0]
    }),
    ("a credit of a sat more", |c| c.sat += 1),
    ("a credit of a sat less", |c| c.sat -= 1),
    ("a credit by a child that is not in the block", |c| {
        c.proof.child.lock_time = bitcoin::absolute::LockTime::from_consensus(1);
    }),
    ("a credit by a header without its work", |c| {
        let header = &mut c.proof.block.header;
        while header.validate_pow(header.target()).is_ok() {
            header.nonce += 1;
        }
    }),
];

/// The block that confirms the bump, one block too early.
fn early(bump: &Bump, credit: &mut Credit) {
    let early = coinbase(bump.payouts.credited_from() - 1);
    let mut txdata = bump.confirmed().txdata;
    txdata[0] = early.clone();
    let block = bump.block_of(txdata);
    let three = [&early, &bump.payout, &bump.child].map(Transaction::compute_txid);
    let tree = MerkleBlock::from_block_with_predicate(&block, |txid| three.contains(txid));
    // As whoever reads it has it.
    credit.proof.block = deserialize(&serialize(&tree)).unwrap();
    credit.proof.coinbase = early;
    for input in &mut credit.proof.coinbase.input {
        input.witness.clear();
    }
}

/// Of a record that credits the bump, and comes after so many.
pub fn all(bump: &Bump, honest: &WindowRecord, after: usize) -> Vec<Lie> {
    let lie = |(what, lie): &(&'static str, Falsify)| {
        let mut record = honest.clone();
        lie(&mut record.credits[0]);
        (*what, after, record)
    };
    let mut lies: Vec<Lie> = LIES.iter().map(lie).collect();
    let mut record = honest.clone();
    early(bump, &mut record.credits[0]);
    lies.push(("a credit a block too early", after, record));
    let mut twice = honest.clone();
    twice.credits.push(twice.credits[0].clone());
    lies.push(("a credit twice in one record", after, twice));
    lies
}
