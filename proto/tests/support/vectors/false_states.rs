//! Checkpoints that somebody signed and that are false all the same: states that are not the sum of their
//! windows, and rounds that are not computed from their state.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, Transaction, TxOut};
use tutti_proto::message::SignedHead;
use tutti_proto::musig::Session;
use tutti_proto::payout;
use tutti_proto::plan::{CheckedPlan, DirectPlan};
use tutti_proto::segment::{Checkpoint, Segment, SignedRound};
use tutti_proto::window::{Ledger, LedgerHead, LedgerSnapshot, WindowRecord};
use tutti_proto::work::Work;

use super::super::archive::{Archive, signed_end, terms};
use super::super::pool::{Attempted, to_sign};

/// Of a round that is hashed: the unsigned payout of lane 0, shard 0.
fn unsigned(archive: &Archive, plan: &CheckedPlan) -> Transaction {
    let shard = &plan.split().shards[0];
    let outputs = shard.outputs.iter().map(|(serial_id, sat)| TxOut {
        script_pubkey: archive
            .pool
            .roster
            .payee(*serial_id)
            .unwrap()
            .script
            .as_script()
            .to_owned(),
        value: Amount::from_sat(*sat),
    });
    let coinbase = plan.lanes()[0].coinbase.compute_txid();
    payout::unsigned(OutPoint::new(coinbase, 0), outputs.collect())
}

/// All signers sign this payout of lane 0, shard 0, whatever it pays.
fn sign(attempted: Attempted, plan: &CheckedPlan, payout: Transaction) -> Transaction {
    let sighash = payout::sighash(&payout, &plan.lanes()[0].coinbase.output[0]);
    let session = Session::new(plan.key(), &attempted.proposal.nonces[0], &sighash);
    let slots = attempted.slots.into_values();
    let partials = slots.map(|(_, slot, _)| slot.sign(plan.key(), &[session]).unwrap().remove(0));
    let partials: Vec<_> = partials.collect();
    let signature = session
        .combine(plan.key(), &sighash, partials.iter())
        .unwrap();
    payout::signed(payout, &signature)
}

/// A round on the checkpoint's state of which the signers signed another payout.
fn other_payout(archive: &mut Archive, otherwise: fn(&mut Transaction)) -> Checkpoint {
    let attempted = archive.pool.propose(&[0, 1, 2]);
    let me = attempted.me(archive.pool.identity(1));
    let checked = attempted
        .proposal
        .check(&archive.pool.view(), &me.checker());
    let plan = to_sign(checked.unwrap());
    let mut payout = unsigned(archive, &plan);
    otherwise(&mut payout);
    let payout = sign(attempted, &plan, payout);
    let coinbase = plan.lanes()[0].coinbase.clone();
    let terms = terms(&mut archive.pool, plan.inputs().clone(), &coinbase);
    with_round(
        archive,
        SignedRound {
            terms: terms.terms().clone(),
            payout,
        },
    )
}

/// A direct round on the checkpoint's state, which nobody signed.
fn direct(archive: &mut Archive) -> Checkpoint {
    let inputs = archive.pool.propose(&[]).proposal.inputs;
    let plan = DirectPlan::compute(inputs, &archive.pool.view()).unwrap();
    let terms = terms(
        &mut archive.pool,
        plan.inputs().clone(),
        &plan.coinbases()[0],
    );
    let signed = archive.checkpoint.signed.clone().unwrap();
    let terms = terms.terms().clone();
    with_round(archive, SignedRound { terms, ..signed })
}

fn with_round(archive: &Archive, signed: SignedRound) -> Checkpoint {
    Checkpoint {
        signed: Some(signed),
        ..archive.checkpoint.clone()
    }
}

/// Rounds that a checkpoint cannot have. The archive is of the moment of its checkpoint after this.
pub fn rounds(archive: &mut Archive) -> Vec<(&'static str, Checkpoint)> {
    archive.pool.ledger = archive.ledgers[2].clone();
    vec![
        ("a direct round, with another's payout", direct(archive)),
        (
            "a payout with a sat moved, which all signers signed",
            other_payout(archive, |payout| {
                payout.output[0].value -= Amount::ONE_SAT;
                payout.output[1].value += Amount::ONE_SAT;
            }),
        ),
        (
            "a payout that waits for block 1, which all signers signed",
            other_payout(archive, |payout| {
                payout.lock_time = LockTime::from_consensus(1);
            }),
        ),
    ]
}

/// A state after the second window, the second window's file, and what is said of them.
pub struct Met {
    pub what: &'static str,
    pub checkpoint: Checkpoint,
    pub segment: Segment,
}

/// How the second window's record would have to be for a state.
type Otherwise = fn(&Archive, &mut WindowRecord);

const STATES: &[(&str, Otherwise)] = &[
    ("its state is the one", |_, _| {}),
    ("another height", |_, r| r.height += 1),
    ("an expected hash more", |_, r| {
        r.tally.values_mut().next().unwrap().0 += 1;
    }),
    ("one who worked is left out", |_, r| {
        r.tally.pop_first();
    }),
    ("work of one who did nothing", |archive, r| {
        r.tally.insert(archive.pool.identity(3), Work(1));
    }),
    ("one who did nothing, with work 0", |archive, r| {
        r.tally.insert(archive.pool.identity(3), Work::ZERO);
    }),
];

/// The coordinator signs the second window's record, and that the state after it is this one's.
fn met(archive: &Archive, what: &'static str, state: &Ledger) -> Met {
    let mut segment = archive.segments[1].clone();
    let record = segment.end.record.clone();
    let digest = record.digest();
    let head = LedgerHead::of(record.seq, &record.previous, &digest, &state.state());
    let ledger = LedgerSnapshot {
        seq: record.seq,
        previous: record.previous,
        record: digest,
        ..state.snapshot()
    };
    segment.end = signed_end(&archive.pool, record, state.state());
    let checkpoint = Checkpoint {
        ledger,
        head: SignedHead::sign(&archive.pool.keys[0], head, &[0; 32]),
        signed: None,
        ..archive.checkpoint.clone()
    };
    Met {
        what,
        checkpoint,
        segment,
    }
}

pub fn states(archive: &Archive) -> Vec<Met> {
    let (first, second) = (&archive.segments[0], &archive.segments[1]);
    let mut all = Vec::new();
    for (what, otherwise) in STATES {
        let mut record = second.end.record.clone();
        otherwise(archive, &mut record);
        let mut state = archive.ledgers[1].clone();
        state.append(&record).unwrap();
        all.push(met(archive, what, &state));
    }
    // What the first window says nobody has checked.
    let mut record = first.end.record.clone();
    record.tally.insert(archive.pool.identity(1), Work(100));
    let mut state = Ledger::default();
    state.append(&record).unwrap();
    let mut next = second.end.record.clone();
    next.previous = state.head().hash;
    state.append(&next).unwrap();
    all.push(met(
        archive,
        "other work in the window before, which was not checked",
        &state,
    ));
    let mut one = Ledger::default();
    let mut record = second.end.record.clone();
    (record.seq, record.previous) = (first.end.record.seq, one.head().hash);
    one.append(&record).unwrap();
    all.push(met(archive, "a span too few", &one));
    all
}
