//! Credits for bumps: each part of the proof, and what happens when it lies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bitcoin::hashes::Hash;
use bitcoin::{MerkleBlock, Transaction, Txid};
use support::bump::{Bump, EASY, PART, coinbase, output, record};
use support::pool::Pool;
use tutti_proto::id::{Identity, WindowSeq};
use tutti_proto::payout::ANCHOR_SAT;
use tutti_proto::window::{Booking, Credit, CreditError, Ledger, LedgerError};

fn payees() -> Vec<Identity> {
    let pool = Pool::new("credits", 4);
    (0..4).map(|n| pool.identity(n)).collect()
}

/// Payee 2 paid 3,000 sat for it.
fn bump() -> Bump {
    Bump::new(&payees(), &[2], 3_000)
}

/// What a ledger says of a credit; a false one must not change it.
fn append(ledger: &mut Ledger, credit: &Credit) -> Result<(), CreditError> {
    let before = ledger.clone();
    let window = ledger.seq().next();
    let appended = ledger.append(&record(ledger, Vec::new(), vec![credit.clone()]));
    let checked = before.check_credit(credit);
    match appended {
        Ok(()) => assert_eq!(checked, Ok(())),
        Err(LedgerError::Credit { window: of, error }) => {
            assert_eq!((of, checked), (window, Err(error)));
            assert_eq!(*ledger, before);
            return Err(error);
        }
        Err(other) => panic!("{other}"),
    }
    Ok(())
}

/// What a child's fee costs nobody, sat.
const ANCHOR: u32 = ANCHOR_SAT as u32;

#[test]
fn a_bump_is_credited_to_the_payee_whose_output_it_spends_to_the_sat() {
    let who = payees();
    for (spends, fee, sat, to) in [
        (&[2][..], 3_000, 3_000 - ANCHOR, 2),
        (&[3, 1], ANCHOR_SAT + 1, 1, 1),
        (&[0], 20_000 + ANCHOR_SAT, 20_000, 0),
        (&[0], 20_001 + ANCHOR_SAT, 20_000, 0),
        (&[0, 1, 2, 3], 4 * PART + ANCHOR_SAT, 20_000, 0),
    ] {
        let bump = Bump::new(&who, spends, fee);
        let (mut ledger, credit) = (bump.ledger(), bump.credit().unwrap().unwrap());
        assert_eq!((credit.sat, credit.identity), (sat, who[to]));
        assert_eq!(append(&mut ledger, &credit), Ok(()));
        assert_eq!(*ledger.carries(), [(who[to], i64::from(sat))].into());
        assert_eq!(append(&mut ledger, &credit), Err(CreditError::Again));
    }
}

#[test]
fn a_payout_is_credited_once_ever_and_a_snapshot_knows_it() {
    let bump = bump();
    let (mut ledger, credit) = (bump.ledger(), bump.credit().unwrap().unwrap());
    let twice = record(&ledger, Vec::new(), vec![credit.clone(), credit.clone()]);
    let (window, error) = (WindowSeq(2), CreditError::Again);
    let refused = ledger.append(&twice);
    assert_eq!(refused, Err(LedgerError::Credit { window, error }));
    append(&mut ledger, &credit).unwrap();
    // Nor after the chain has lost the block and has it back.
    let undo = bump.booking().undo().unwrap();
    for (bookings, error) in [
        (vec![undo], CreditError::NotBooked),
        (vec![bump.booking()], CreditError::Again),
    ] {
        ledger
            .append(&record(&ledger, bookings, Vec::new()))
            .unwrap();
        assert_eq!(append(&mut ledger, &credit), Err(error));
    }
    let snapshot = ledger.snapshot();
    let again = Ledger::from_snapshot(snapshot.clone(), &ledger.head()).unwrap();
    assert_eq!(again, ledger);
    let mut forged = snapshot;
    forged.blocks.get_mut(&[6; 32]).unwrap().credited.clear();
    assert!(Ledger::from_snapshot(forged, &ledger.head()).is_err());
}

#[test]
fn a_credit_is_of_a_booked_block_and_of_the_payouts_it_was_booked_with() {
    let (bump, mut empty) = (bump(), Ledger::default());
    let credit = bump.credit().unwrap().unwrap();
    assert_eq!(append(&mut empty, &credit), Err(CreditError::NotBooked));
    let other = Booking {
        payouts: [1; 32],
        ..bump.booking()
    };
    empty
        .append(&record(&empty, vec![other], Vec::new()))
        .unwrap();
    assert_eq!(append(&mut empty, &credit), Err(CreditError::OtherPayouts));
}

/// A lie about a right credit, and why it is refused.
type Lie = (&'static str, fn(&mut Credit), CreditError);

const CLAIMS: &[Lie] = &[
    (
        "a sat more",
        |c| c.sat += 1,
        CreditError::OtherAmount {
            claimed: 3_001 - ANCHOR,
            follows: 3_000 - ANCHOR,
        },
    ),
    (
        "a sat less",
        |c| c.sat -= 1,
        CreditError::OtherAmount {
            claimed: 2_999 - ANCHOR,
            follows: 3_000 - ANCHOR,
        },
    ),
    (
        "to somebody else",
        |c| c.identity = c.proof.payees[1],
        CreditError::OtherIdentity,
    ),
    (
        "of another block",
        |c| c.block = [1; 32],
        CreditError::NotBooked,
    ),
    (
        "of another payout",
        |c| c.shard = 0,
        CreditError::OtherPayees(0),
    ),
    (
        "of a payout that there is not",
        |c| c.shard = 2,
        CreditError::OtherPayees(2),
    ),
    (
        "the pool credits more",
        |c| c.proof.payouts.bump_credit += 1,
        CreditError::OtherPayouts,
    ),
    (
        "the pool credits sooner",
        |c| c.proof.payouts.bump_credit_after -= 1,
        CreditError::OtherPayouts,
    ),
    (
        "its block is lower",
        |c| c.proof.payouts.height -= 1,
        CreditError::OtherPayouts,
    ),
    (
        "its block is easier",
        |c| c.proof.payouts.bits += 1,
        CreditError::OtherPayouts,
    ),
    (
        "its coinbase is another",
        |c| c.proof.payouts.coinbase[0] ^= 1,
        CreditError::OtherPayouts,
    ),
    (
        "its payees are others",
        |c| c.proof.payouts.shards[1] = [2; 32],
        CreditError::OtherPayouts,
    ),
    (
        "payees in another order",
        |c| c.proof.payees.swap(1, 2),
        CreditError::OtherPayees(1),
    ),
    (
        "a payee left out",
        |c| c.proof.payees.truncate(3),
        CreditError::OtherPayees(1),
    ),
    (
        "a transaction that is in no block",
        |c| c.proof.child.output[0].script_pubkey = Default::default(),
        CreditError::NotProven,
    ),
    (
        "a higher coinbase",
        |c| c.proof.coinbase = coinbase(1_000),
        CreditError::NotProven,
    ),
    (
        "another root",
        |c| c.proof.block.header.merkle_root = bitcoin::TxMerkleNode::all_zeros(),
        CreditError::NotProven,
    ),
    (
        "no work",
        |c| {
            while c
                .proof
                .block
                .header
                .validate_pow(c.proof.block.header.target())
                .is_ok()
            {
                c.proof.block.header.nonce += 1
            }
        },
        CreditError::Work,
    ),
];

#[test]
fn every_claim_is_checked_and_refused_by_its_name() {
    let bump = bump();
    let honest = bump.credit().unwrap().unwrap();
    for (name, lie, error) in CLAIMS {
        let mut credit = honest.clone();
        lie(&mut credit);
        let (mut ledger, refused) = (bump.ledger(), Err(*error));
        assert_eq!(append(&mut ledger, &credit), refused, "{name}");
        assert_ne!(credit, honest, "{name}");
    }
    assert_eq!(append(&mut bump.ledger(), &honest), Ok(()));
}

/// What was mined is no bump that is credited, and why.
type Mined = (&'static str, fn(&mut Bump), CreditError);

const MINED: &[Mined] = &[
    (
        "a child of version 2",
        |b| b.child.version.0 = 2,
        CreditError::ChildVersion,
    ),
    (
        "a child that spends a wallet coin too",
        |b| b.child.input.push(Bump::wallet_coin()),
        CreditError::SpendsOther,
    ),
    (
        "a child that spends the anchor only",
        |b| {
            b.child_spends(&[b.anchor()]);
            b.child.output = vec![output(100)]
        },
        CreditError::NoPayee,
    ),
    (
        "a child without a fee",
        |b| b.child.output = vec![output(PART + ANCHOR_SAT)],
        CreditError::Nothing,
    ),
    (
        "a child whose fee is the anchor",
        |b| b.child.output = vec![output(PART)],
        CreditError::Nothing,
    ),
    (
        "a child that makes money",
        |b| b.child.output = vec![output(PART + ANCHOR_SAT + 1)],
        CreditError::Nothing,
    ),
    (
        "outputs beyond all money",
        |b| b.child.output = vec![output(u64::MAX), output(1)],
        CreditError::Nothing,
    ),
    (
        "a pool that credits nothing",
        |b| b.payouts.bump_credit = 0,
        CreditError::Nothing,
    ),
    (
        "one block too early",
        |b| b.coinbase = coinbase(402),
        CreditError::TooEarly {
            height: 402,
            from: 403,
        },
    ),
    (
        "in the first block that may have it",
        |b| b.coinbase = coinbase(400),
        CreditError::TooEarly {
            height: 400,
            from: 403,
        },
    ),
    (
        "a coinbase without a height",
        |b| b.coinbase.input[0].script_sig = Default::default(),
        CreditError::NoHeight,
    ),
    (
        "a coinbase that spends",
        |b| b.coinbase.input[0].previous_output.vout = 0,
        CreditError::NoHeight,
    ),
    (
        "another payee's shard",
        |b| b.payouts.shards.swap(0, 1),
        CreditError::OtherPayees(1),
    ),
    (
        "a coinbase beyond what a record may carry",
        |b| b.coinbase.output = vec![output(0); 2_000],
        CreditError::TooLarge,
    ),
    (
        "a block five times as easy",
        |b| {
            b.payouts.bits = 0x2019_9998;
            b.bits = EASY
        },
        CreditError::Work,
    ),
];

#[test]
fn what_is_no_bump_in_time_is_not_credited_and_says_why() {
    for (name, lie, error) in MINED {
        let mut bump = bump();
        lie(&mut bump);
        assert_eq!(bump.credit().err(), Some(*error), "{name}");
    }
    let mut bump = bump();
    bump.payouts.bits = 0x2020_0000;
    assert!(bump.credit().unwrap().is_some(), "four times as easy");
}

#[test]
fn a_payout_that_nobody_bumped_has_no_credit_and_another_block_neither() {
    let mut bump = bump();
    bump.child.input.remove(0);
    assert_eq!(bump.credit(), Ok(None), "the anchor is not spent");
    bump.payout.input[0].previous_output.txid = Txid::all_zeros();
    assert_eq!(bump.credit(), Err(CreditError::OtherPayout));
}

/// A proof that is a lie where its finder would not make it.
fn forged(bump: &Bump, forge: impl Fn(&mut Credit)) -> Result<(), CreditError> {
    let mut credit = bump.credit().unwrap().unwrap();
    forge(&mut credit);
    append(&mut bump.ledger(), &credit)
}

#[test]
fn a_payout_with_other_outputs_or_inputs_is_none() {
    let bump = bump();
    let lies: [fn(&mut Transaction); 5] = [
        |payout| drop(payout.output.remove(0)),
        |payout| payout.output.insert(0, output(1)),
        |payout| payout.output.swap(3, 4),
        |payout| payout.input[0].previous_output.vout = 0,
        |payout| payout.input.push(Bump::wallet_coin()),
    ];
    for (n, lie) in lies.iter().enumerate() {
        let refused = forged(&bump, |credit| lie(&mut credit.proof.payout));
        assert_eq!(refused, Err(CreditError::OtherPayout), "{n}");
    }
}

#[test]
fn a_child_of_sixty_four_bytes_could_be_a_node_of_the_tree() {
    let mut bump = Bump::new(&payees(), &[2], 3_000);
    // One input, and an output of a 4-byte script.
    bump.child_spends(&[bump.anchor()]);
    bump.child.output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x51; 4]);
    assert_eq!(bump.child.base_size(), 64);
    assert_eq!(bump.credit(), Err(CreditError::ChildSize));
}

#[test]
fn a_tree_proves_these_three_and_only_these() {
    let bump = bump();
    let block = bump.confirmed();
    let three: Vec<Txid> = [&bump.coinbase, &bump.payout, &bump.child]
        .map(Transaction::compute_txid)
        .into();
    let other = bump.others[0].compute_txid();
    let proves = |of: Vec<Txid>| {
        let tree = MerkleBlock::from_block_with_predicate(&block, |txid| of.contains(txid));
        forged(&bump, |credit| credit.proof.block = tree.clone())
    };
    assert_eq!(proves(three.clone()), Ok(()));
    assert_eq!(proves(three[1..].to_vec()), Err(CreditError::NotProven));
    assert_eq!(proves(three[..2].to_vec()), Err(CreditError::NotProven));
    let four = [three.clone(), vec![other]].concat();
    assert_eq!(proves(four), Err(CreditError::NotProven));
    assert_eq!(proves(Vec::new()), Err(CreditError::NotProven));
    // A coinbase that is not the first transaction says no height.
    let mut late = bump.confirmed();
    late.txdata.swap(0, 1);
    let late = bump.block_of(late.txdata);
    let tree = MerkleBlock::from_block_with_predicate(&late, |txid| three.contains(txid));
    let refused = forged(&bump, |credit| credit.proof.block = tree.clone());
    assert_eq!(refused, Err(CreditError::NotProven));
}

#[test]
fn a_record_names_every_part_of_its_credits() {
    let bump = bump();
    let ledger = bump.ledger();
    let honest = bump.credit().unwrap().unwrap();
    let digest = |credit: &Credit| record(&ledger, Vec::new(), vec![credit.clone()]).digest();
    for (name, lie, _) in CLAIMS {
        let mut credit = honest.clone();
        lie(&mut credit);
        assert_ne!(digest(&credit), digest(&honest), "{name}");
    }
    assert_ne!(
        digest(&honest),
        record(&ledger, Vec::new(), Vec::new()).digest()
    );
}
