//! `payouts import DIRECTORY` beside what is held already, of whatever the files say.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use bitcoin::{Transaction, Witness};
use support::{Round, files, some_identity, some_script};
use tempfile::TempDir;
use tutti_participant::payouts::{Imported, import};
use tutti_participant::settle::{Ours, Watched, WatchedRound};
use tutti_participant::store::{self, Alone, RoundName};
use tutti_proto::id::{RoundId, RoundSeq};
use tutti_proto::participant::Held;

fn held(seq: u64, height: u32) -> Held {
    // Two shards: 300 payees are too many for one payout.
    let payee = |n: u16| {
        let n = 1 + (n % 100) as u8;
        (some_identity(n), some_script(n), 10_000)
    };
    let payees: Vec<_> = (0..300).map(payee).collect();
    Round {
        seq,
        height,
        lanes: 1,
        reward: 5_000_000_000,
        payees: &payees,
    }
    .held()
}

/// A directory with these rounds.
fn exported(rounds: &[Held]) -> TempDir {
    let dir = directory();
    for round in rounds {
        store::write_round(dir.path(), round).expect("written");
    }
    dir
}

fn exported_alone(alone: &Alone) -> TempDir {
    let dir = directory();
    store::write_alone(dir.path(), alone).expect("written");
    dir
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn taken(to: &Path, from: &TempDir) -> (usize, usize) {
    let Imported { rounds, known, .. } = import(to, from.path()).expect("taken");
    (rounds, known)
}

fn refusal(to: &Path, from: &TempDir) -> String {
    import(to, from.path()).expect_err("refused").to_string()
}

fn rounds_of(directory: &Path) -> Vec<Held> {
    let held = store::held_rounds(directory, |_| true).expect("read");
    assert!(held.damaged.is_empty());
    held.rounds
}

/// The same payout with a signature of anybody's making.
fn forged(payout: &Transaction) -> Transaction {
    let mut payout = payout.clone();
    payout.input[0].witness = Witness::from_slice(&[[7; 64]]);
    payout
}

fn alone(round: &Held, payouts: &[&Transaction]) -> Alone {
    Alone {
        coinbase_txid: round.lanes[0].coinbase.compute_txid(),
        coinbase: None,
        payouts: payouts.iter().map(|payout| (*payout).clone()).collect(),
        own_sat: None,
    }
}

#[test]
fn payouts_of_one_coinbase_are_merged_and_once_it_is_known_only_valid_ones_stay() {
    let round = held(4, 100);
    let (coinbase, payouts) = (&round.lanes[0].coinbase, &round.lanes[0].payouts);
    let [first, second] = &payouts[..] else {
        panic!("two shards");
    };
    let bad = forged(first);
    let home = directory();
    let here = |home: &TempDir| {
        let txid = coinbase.compute_txid();
        store::alone(home.path(), txid)
            .expect("read")
            .expect("it is held")
    };
    // Nobody can tell which signature is valid, so that both are held.
    let unknown = exported_alone(&alone(&round, &[&bad]));
    assert_eq!(taken(home.path(), &unknown), (1, 0));
    let unknown = exported_alone(&alone(&round, &[first]));
    assert_eq!(taken(home.path(), &unknown), (0, 1));
    assert_eq!(here(&home).payouts, [bad.clone(), first.clone()]);
    // The coinbase says it, and the other shard comes with it.
    let known = exported_alone(&Alone {
        coinbase: Some(coinbase.clone()),
        own_sat: Some(5),
        ..alone(&round, &[second])
    });
    assert_eq!(taken(home.path(), &known), (0, 1));
    let expected = Alone {
        coinbase: Some(coinbase.clone()),
        own_sat: Some(5),
        ..alone(&round, &[first, second])
    };
    assert_eq!(here(&home), expected);
    // What is not valid comes in no more, and what is held already is held once.
    let again = exported_alone(&alone(&round, &[&bad, first]));
    assert_eq!(taken(home.path(), &again), (0, 1));
    assert_eq!(here(&home), expected);
    // What was said of it first stays.
    let other = exported_alone(&Alone {
        own_sat: Some(6),
        ..alone(&round, &[first])
    });
    assert_eq!(taken(home.path(), &other), (0, 1));
    assert_eq!(here(&home), expected);
}

#[test]
fn a_round_that_is_held_stays_as_it_is() {
    let round = held(4, 100);
    let home = exported(std::slice::from_ref(&round));
    let mut lies = round.clone();
    lies.payees[0].sat += 1;
    let mut other = held(5, 101);
    other.payees.clear();
    let from = exported(&[lies, other.clone()]);
    assert_eq!(taken(home.path(), &from), (1, 1));
    assert_eq!(rounds_of(home.path()), [round, other]);
}

#[test]
fn a_second_name_for_a_coinbase_that_is_held_is_refused_with_all_that_came_with_it() {
    let round = held(4, 100);
    let home = exported(std::slice::from_ref(&round));
    let renamed = |seq| Held {
        seq: RoundSeq(seq),
        round: RoundId([0xee; 32]),
        ..round.clone()
    };
    let from = exported(&[held(6, 102), renamed(5)]);
    let said = refusal(home.path(), &from);
    assert!(said.contains("round 5, lane 0"), "{said}");
    assert!(said.contains("held already, under another round"), "{said}");
    assert_eq!(rounds_of(home.path()), std::slice::from_ref(&round));
    // Two names that come together hide one another just so.
    let both = exported(&[round.clone(), renamed(5)]);
    let empty = directory();
    let said = refusal(empty.path(), &both);
    assert!(said.contains("held already, under another round"), "{said}");
    assert_eq!(rounds_of(empty.path()), []);
}

#[test]
fn a_signed_rounds_lane_has_payouts_and_a_direct_ones_has_none() {
    let mut round = held(4, 100);
    round.lanes[0].payouts.clear();
    let home = directory();
    let said = refusal(home.path(), &exported(std::slice::from_ref(&round)));
    assert!(said.contains("round 4, lane 0"), "{said}");
    assert!(
        said.contains("signed round's lane has no payouts"),
        "{said}"
    );
    assert_eq!(rounds_of(home.path()), []);
    round.signers = 0;
    let direct = exported(std::slice::from_ref(&round));
    assert_eq!(taken(home.path(), &direct), (1, 0));
    assert_eq!(rounds_of(home.path()), [round]);
}

#[test]
fn payouts_that_spend_the_same_or_are_none_are_not_taken() {
    let round = held(4, 100);
    let lane = &round.lanes[0];
    let (first, home) = (&lane.payouts[0], directory());
    let refused = |payouts: &[&Transaction], said: &str| {
        let mut lists = round.clone();
        lists.lanes[0].payouts = payouts.iter().map(|tx| (*tx).clone()).collect();
        let known = Alone {
            coinbase: Some(lane.coinbase.clone()),
            ..alone(&round, payouts)
        };
        for from in [exported(&[lists]), exported_alone(&known)] {
            let refusal = refusal(home.path(), &from);
            assert!(refusal.contains(said), "{refusal}");
        }
        assert_eq!(rounds_of(home.path()), []);
    };
    refused(&[first, first], "two payouts spend the same output");
    refused(&[first; 101], "more payouts than a coinbase has");
    // Nobody knows its coinbase, but this is no payout of any.
    let mut no_anchor = first.clone();
    no_anchor.output.pop();
    let from = exported_alone(&alone(&round, &[&no_anchor]));
    let said = refusal(home.path(), &from);
    assert!(said.contains("is not a pay-to-anchor output"), "{said}");
    let from = exported_alone(&alone(&round, &[&forged(first); 101]));
    let said = refusal(home.path(), &from);
    assert!(said.contains("more payouts than a coinbase has"), "{said}");
}

#[test]
fn a_payout_that_is_listed_many_times_is_watched_once_and_is_ours_once_it_is_valid() {
    let round = held(4, 100);
    let lane = &round.lanes[0];
    let [first, second] = &lane.payouts[..] else {
        panic!("two shards");
    };
    // Ours is the first output of the first shard; of the other one, nobody signed the payout that pays us.
    let own = first.output[0].script_pubkey.clone();
    let mut made_up = forged(second);
    made_up.output[0].script_pubkey = own.clone();
    let ours = Ours::Pays {
        me: "",
        is_mine: &|script| *script == *own,
    };
    let txids = |payouts: &[&Transaction]| -> BTreeSet<_> {
        payouts.iter().map(|payout| payout.compute_txid()).collect()
    };
    let listed = [first, first, &made_up, second, second];
    let mut lists = round.clone();
    lists.lanes[0].payouts = listed.map(Clone::clone).to_vec();
    let known = Alone {
        coinbase: Some(lane.coinbase.clone()),
        ..alone(&round, &listed)
    };
    let pays = |payout: &Transaction| payout.output.iter().any(|o| o.script_pubkey == own);
    let valid: Vec<&Transaction> = [first, second].into_iter().filter(|tx| pays(tx)).collect();
    let watched = [
        WatchedRound::of(&lists, &ours),
        WatchedRound::alone(&known, &ours),
    ];
    for watched in watched {
        let lane = &watched.lanes[0];
        assert_eq!(lane.payouts.len(), 3);
        assert_eq!(lane.ours, txids(&valid));
    }
    // Without the coinbase nothing is ours, until it is known.
    let unknown = WatchedRound::alone(&alone(&round, &listed), &ours);
    assert!(unknown.lanes[0].ours.is_empty());
    assert!(
        unknown.lanes[0]
            .unverified
            .contains(&made_up.compute_txid())
    );
    let mut all = Watched::default();
    let coinbase = unknown.lanes[0].coinbase;
    all.add(unknown);
    all.verified(&coinbase, &txids(&[first, second]));
    let (known, _) = all.lane_of(&coinbase).expect("it is watched");
    assert_eq!(known.lanes[0].ours, txids(&valid));
    assert!(!known.lanes[0].payouts.contains(&made_up.compute_txid()));
    assert!(!all.wanted().contains(&made_up.compute_txid()));
}

#[test]
fn what_is_pruned_is_the_file_of_that_name_and_no_other() {
    let round = held(4, 100);
    let coinbase = &round.lanes[0].coinbase;
    let single = Alone {
        coinbase: Some(coinbase.clone()),
        ..alone(&round, &[&round.lanes[0].payouts[0]])
    };
    // A round may be called as the payouts of a coinbase are.
    let namesake = Held {
        seq: single.name().seq,
        round: single.name().round,
        ..held(5, 100)
    };
    let home = exported(std::slice::from_ref(&namesake));
    store::write_alone(home.path(), &single).expect("written");
    let prune = |height| {
        let name = RoundName::of(&namesake);
        assert_eq!(name, single.name());
        let rounds = [(name, Some(100))].into_iter();
        store::prune(home.path(), rounds, height, &BTreeSet::new()).expect("pruned")
    };
    let left = || {
        let files = |name| files(&home.path().join(name)).len();
        (files("rounds"), files("alone"))
    };
    assert_eq!((prune(300), left()), (Vec::new(), (1, 1)));
    assert_eq!((prune(301), left()), (vec![single.name()], (0, 1)));
    assert_eq!((prune(301), left()), (vec![single.name()], (0, 0)));
}
