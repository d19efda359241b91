//! Records with a credit that is not right: one for each of section 9's checks of it.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction};
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
    ("a credit of a payout with two inputs", |c| {
        let again = c.proof.payout.input[0].clone();
        c.proof.payout.input.push(again);
    }),
    ("a credit of a payout of another output", |c| {
        c.proof.payout.input[0].previous_output.vout = 0;
    }),
    ("a credit of a payout with a sat more in the anchor", |c| {
        c.proof.payout.output.last_mut().unwrap().value += Amount::ONE_SAT;
    }),
    ("a credit by a child of version 2", |c| {
        c.proof.child.version.0 = 2
    }),
    ("a credit by a child that spends another coin", |c| {
        let mut coin = Bump::wallet_coin();
        coin.witness.clear();
        c.proof.child.input.push(coin);
    }),
    (
        "a credit by a child that spends an output beyond the payout's last",
        |c| {
            let mut beyond = c.proof.child.input[1].clone();
            beyond.previous_output.vout = 3;
            c.proof.child.input.push(beyond);
        },
    ),
    ("a credit by a child without the anchor", |c| {
        c.proof.child.input.remove(0);
    }),
    ("a credit by a child of the anchor alone", |c| {
        c.proof.child.input.truncate(1);
    }),
    ("a credit by a child without a cost", |c| {
        c.proof.child.output = vec![output(PART + ANCHOR_SAT)];
    }),
    ("a credit of nothing, by a child without a cost", |c| {
        c.proof.child.output = vec![output(PART)];
        c.sat = 0;
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

/// Gives the credit another block that has payout and child.
fn confirm(bump: &Bump, credit: &mut Credit, coinbase: &Transaction, txdata: Vec<Transaction>) {
    credit.proof.block = bump.tree_of(&bump.block_of(txdata), coinbase);
    credit.proof.coinbase = coinbase.clone();
    for input in &mut credit.proof.coinbase.input {
        input.witness.clear();
    }
}

/// One whose coinbase is this.
fn mined(bump: &Bump, credit: &mut Credit, coinbase: Transaction) {
    let mut txdata = bump.confirmed().txdata;
    txdata[0] = coinbase.clone();
    confirm(bump, credit, &coinbase, txdata);
}

/// The height in four bytes, of which two would do.
fn long_height(coinbase: &mut Transaction, height: u32) {
    let bytes = [&[4], &height.to_le_bytes()[..]].concat();
    coinbase.input[0].script_sig = ScriptBuf::from_bytes(bytes);
}

/// How a block that confirms the bump is none that is late enough.
fn false_blocks(bump: &Bump, honest: &Credit) -> Vec<(&'static str, Credit)> {
    let height = bump.payouts.credited_from();
    let mut lies = Vec::new();
    let mut lie = |what, make: &dyn Fn(&mut Credit)| {
        let mut credit = honest.clone();
        make(&mut credit);
        lies.push((what, credit));
    };
    lie("a credit a block too early", &|c| {
        mined(bump, c, coinbase(height - 1))
    });
    lie(
        "a credit by a coinbase that is the second transaction",
        &|c| {
            let mut txdata = bump.confirmed().txdata;
            let first = txdata[0].clone();
            txdata.swap(0, 1);
            confirm(bump, c, &first, txdata);
        },
    );
    lie("a credit by a coinbase that spends", &|c| {
        let mut spends = coinbase(height);
        spends.input[0].previous_output = OutPoint::new(bump.payout.compute_txid(), 0);
        mined(bump, c, spends);
    });
    lie("a credit by a coinbase with two inputs", &|c| {
        let mut two = coinbase(height);
        two.input.push(two.input[0].clone());
        mined(bump, c, two);
    });
    lie("a credit by a coinbase that says no height", &|c| {
        let mut silent = coinbase(height);
        silent.input[0].script_sig = ScriptBuf::new();
        mined(bump, c, silent);
    });
    lie(
        "a credit by a coinbase that says its height at length",
        &|c| {
            let mut long = coinbase(height);
            long_height(&mut long, height);
            mined(bump, c, long);
        },
    );
    lies
}

/// Of a record that credits the bump, and comes after so many.
pub fn all(bump: &Bump, honest: &WindowRecord, after: usize) -> Vec<Lie> {
    let lie = |(what, lie): &(&'static str, Falsify)| {
        let mut record = honest.clone();
        lie(&mut record.credits[0]);
        (*what, after, record)
    };
    let mut lies: Vec<Lie> = LIES.iter().map(lie).collect();
    for (what, credit) in false_blocks(bump, &honest.credits[0]) {
        let mut record = honest.clone();
        record.credits = vec![credit];
        lies.push((what, after, record));
    }
    let mut twice = honest.clone();
    twice.credits.push(twice.credits[0].clone());
    lies.push(("a credit twice in one record", after, twice));
    lies
}
