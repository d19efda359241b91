//! `payouts import DIRECTORY` beside what is held already, of whatever the files say.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use bitcoin::absolute::LockTime;
use bitcoin::{Sequence, Transaction, Witness};
use support::{Round, files, some_identity, some_script};
use tempfile::TempDir;
use tutti_participant::payouts::{Imported, export, import, payouts};
use tutti_participant::settle::{Ours, Watched, WatchedRound, read_watched};
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

/// Of rounds, and of those that are held alone.
fn all_payouts(directory: &Path) -> Vec<Transaction> {
    let rounds = rounds_of(directory);
    let lanes = rounds.into_iter().flat_map(|round| round.lanes);
    let alone = store::all_alone(directory).expect("read").alone;
    let alone = alone.into_iter().flat_map(|alone| alone.payouts);
    lanes.flat_map(|lane| lane.payouts).chain(alone).collect()
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
fn a_second_name_for_a_coinbase_hides_nothing_and_refuses_nothing() {
    let round = held(4, 100);
    let renamed = |payouts: usize| {
        let mut round = round.clone();
        (round.seq, round.round) = (RoundSeq(5), RoundId([0xee; 32]));
        round.lanes[0].payouts.truncate(payouts);
        round.signers = 0;
        round
    };
    // What adds nothing is held already; what comes with it is taken.
    let home = exported(std::slice::from_ref(&round));
    let from = exported(&[held(6, 102), renamed(2)]);
    assert_eq!(taken(home.path(), &from), (1, 1));
    assert_eq!(rounds_of(home.path()), [round.clone(), held(6, 102)]);
    // A round without payouts, or with a part of them, does not keep the round out that has them.
    for payouts in [0, 1] {
        let home = exported(&[renamed(payouts)]);
        let from = exported(&[round.clone(), held(6, 102)]);
        assert_eq!(taken(home.path(), &from), (2, 0));
        assert!(rounds_of(home.path()).contains(&round));
    }
}

#[test]
fn a_round_with_few_payouts_is_completed_by_one_of_its_name_with_more() {
    let round = held(4, 100);
    let mut part = round.clone();
    part.lanes[0].payouts.truncate(1);
    part.signers = 0;
    let home = directory();
    assert_eq!(taken(home.path(), &exported(&[part])), (1, 0));
    let whole = exported(std::slice::from_ref(&round));
    assert_eq!(taken(home.path(), &whole), (1, 0));
    assert_eq!(rounds_of(home.path()), std::slice::from_ref(&round));
    assert_eq!(taken(home.path(), &whole), (0, 1));
}

#[test]
fn what_was_taken_of_one_name_can_be_exported_and_taken_again() {
    let round = held(4, 100);
    // Of the same name, with another block's coinbase, of which it has no payout.
    let mut same_height = round.clone();
    same_height.signers = 0;
    let input = &mut same_height.lanes[0].coinbase.input[0];
    input.sequence = Sequence(input.sequence.0 ^ 1);
    same_height.lanes[0].payouts.clear();
    let mut other_height = same_height.clone();
    other_height.height = 102;
    other_height.lanes = held(4, 102).lanes;
    for stranger in [same_height, other_height] {
        for order in [[&stranger, &round], [&round, &stranger]] {
            let home = directory();
            for file in order {
                taken(home.path(), &exported(std::slice::from_ref(file)));
            }
            let rows = payouts(home.path(), "", false, 0).expect("rows").rows;
            let copy = directory();
            export(home.path(), copy.path(), "", &rows).expect("exported");
            let elsewhere = directory();
            import(elsewhere.path(), copy.path()).expect("taken elsewhere");
            let stored = all_payouts(elsewhere.path());
            let mut genuine = round.lanes[0].payouts.iter();
            assert!(genuine.all(|payout| stored.contains(payout)));
        }
    }
}

#[test]
fn a_direct_round_whose_name_another_height_has_is_watched_shown_and_taken_elsewhere() {
    let direct = |height: u32| {
        let mut round = held(4, height);
        round.signers = 0;
        round.lanes[0].payouts.clear();
        round
    };
    let (forged, genuine) = (direct(102), direct(100));
    assert_eq!(RoundName::of(&forged), RoundName::of(&genuine));
    let coinbase = genuine.lanes[0].coinbase.compute_txid();
    let home = exported(&[forged]);
    let from = exported(std::slice::from_ref(&genuine));
    assert_eq!(taken(home.path(), &from), (1, 0));
    assert_eq!(taken(home.path(), &from), (0, 1));
    let copy = directory();
    let rows = payouts(home.path(), "", false, 0).expect("rows").rows;
    export(home.path(), copy.path(), "", &rows).expect("exported");
    let elsewhere = directory();
    import(elsewhere.path(), copy.path()).expect("taken elsewhere");
    for directory in [home.path(), elsewhere.path()] {
        let (watched, damaged) = read_watched(directory, &Ours::Named(None)).expect("read");
        assert!(damaged.is_empty());
        let of = watched.iter().find(|round| round.has(&coinbase));
        assert_eq!(of.and_then(|round| round.height), Some(100));
        let rows = payouts(directory, "", false, 0).expect("rows").rows;
        let row = rows
            .iter()
            .find(|row| row.coinbase_txid == coinbase.to_string());
        assert_eq!(row.map(|row| row.height), Some(Some(100)));
    }
    // Once the round itself is held, what came without it is not counted twice.
    std::fs::remove_dir_all(home.path().join("rounds")).expect("moved away");
    assert_eq!(taken(home.path(), &from), (1, 0));
    let rows = payouts(home.path(), "", false, 0).expect("rows").rows;
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_file_that_nothing_reads_for_its_name_is_named() {
    // Of a name with letters.
    let round = held(0xab, 100);
    let single = alone(&round, &[&round.lanes[0].payouts[0]]);
    for (from, folder) in [
        (exported(&[round.clone(), held(5, 101)]), "rounds"),
        (exported_alone(&single), "alone"),
    ] {
        let folder = from.path().join(folder);
        let name = files(&folder).into_iter().next().expect("a file");
        let upper = name.to_uppercase().replace(".JSON", ".json");
        for renamed in [format!("copy of {name}"), upper] {
            std::fs::rename(folder.join(&name), folder.join(&renamed)).expect("renamed");
            let said = refusal(directory().path(), &from);
            assert!(said.contains(&renamed), "{said}");
            // So it is where it is held.
            let shown = payouts(from.path(), "", false, 0).expect("rows");
            let (_, watched) = read_watched(from.path(), &Ours::Named(None)).expect("read");
            for damaged in [shown.damaged, watched] {
                let [damaged] = &damaged[..] else {
                    panic!("{damaged:?}");
                };
                assert!(damaged.to_string().contains(&renamed), "{damaged}");
            }
            let exported = export(from.path(), directory().path(), "", &shown.rows);
            let said = exported.expect_err("refused").to_string();
            assert!(said.contains(&renamed), "{said}");
            std::fs::rename(folder.join(&renamed), folder.join(&name)).expect("renamed");
        }
        import(directory().path(), from.path()).expect("taken");
    }
}

#[test]
fn a_signed_rounds_lane_has_a_payout_for_each_output_and_a_direct_ones_has_none() {
    let mut round = held(4, 100);
    let home = directory();
    for payouts in [1, 0] {
        round.lanes[0].payouts.truncate(payouts);
        let said = refusal(home.path(), &exported(std::slice::from_ref(&round)));
        assert!(said.contains("round 4, lane 0"), "{said}");
        assert!(said.contains("one payout for each output"), "{said}");
    }
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
fn a_coinbase_without_payouts_is_one_of_the_height_that_its_lock_time_says() {
    let round = held(4, 100);
    let coinbase_alone = |coinbase: &Transaction| {
        exported_alone(&Alone {
            coinbase_txid: coinbase.compute_txid(),
            coinbase: Some(coinbase.clone()),
            payouts: Vec::new(),
            own_sat: Some(5_000_000_000),
        })
    };
    let coinbase = &round.lanes[0].coinbase;
    let mut other_height = coinbase.clone();
    other_height.lock_time = LockTime::from_consensus(100);
    for wrong in [&round.lanes[0].payouts[0], &other_height] {
        let said = refusal(directory().path(), &coinbase_alone(wrong));
        assert!(said.contains("not of the round's height"), "{said}");
    }
    let home = directory();
    assert_eq!(taken(home.path(), &coinbase_alone(coinbase)), (1, 0));
    // So it is with a round's.
    let mut other = round.clone();
    other.height = 101;
    other.lanes[0].coinbase = other_height;
    other.lanes[0].payouts.clear();
    other.signers = 0;
    let said = refusal(home.path(), &exported(&[other]));
    assert!(said.contains("not of the round's height"), "{said}");
}

#[test]
fn a_round_of_more_lanes_than_a_pool_has_is_not_taken() {
    let mut round = held(4, 100);
    round.signers = 0;
    round.lanes[0].payouts.clear();
    round.lanes = vec![round.lanes[0].clone(); 257];
    let from = exported(std::slice::from_ref(&round));
    let said = refusal(directory().path(), &from);
    assert!(said.contains("more lanes"), "{said}");
}

#[test]
fn a_damaged_file_of_ones_own_is_set_aside_for_what_is_imported_in_its_place() {
    let round = held(4, 100);
    let single = alone(&round, &[&round.lanes[0].payouts[0]]);
    let home = exported_alone(&single);
    let folder = home.path().join("alone");
    let name = files(&folder).into_iter().next().expect("a file");
    std::fs::write(folder.join(&name), "{").expect("written");
    let from = exported_alone(&single);
    store::write_round(from.path(), &held(5, 101)).expect("written");
    assert_eq!(taken(home.path(), &from), (2, 0));
    assert_eq!(store::all_alone(home.path()).expect("read").alone, [single]);
    let kept = std::fs::read(folder.join(format!("{name}.damaged"))).expect("it is kept");
    assert_eq!(kept, b"{");
    import(directory().path(), home.path()).expect("it is in nobody's way");
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
    let (name, coinbase) = (unknown.name, unknown.lanes[0].coinbase);
    all.add(unknown);
    all.verified(&name, &txids(&[first, second]));
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

#[test]
fn where_the_list_of_payouts_is_damaged_nothing_is_taken() {
    let from = exported(&[held(4, 100)]);
    let manifest = from.path().join("payouts.json");
    std::fs::write(&manifest, "{").expect("written");
    let home = directory();
    let said = refusal(home.path(), &from);
    assert!(said.contains(manifest.to_str().expect("text")), "{said}");
    assert!(rounds_of(home.path()).is_empty());
    std::fs::remove_file(&manifest).expect("moved away");
    assert_eq!(taken(home.path(), &from), (1, 0));
}

#[test]
fn one_damaged_file_is_named_with_the_way_on() {
    let round = held(4, 100);
    let from = exported(std::slice::from_ref(&round));
    let single = alone(&held(5, 101), &[&held(5, 101).lanes[0].payouts[0]]);
    store::write_alone(from.path(), &single).expect("written");
    let file = from
        .path()
        .join("alone")
        .join(format!("{}.json", single.coinbase_txid));
    std::fs::write(&file, "{").expect("written");
    let home = directory();
    let to = directory();
    let rows = payouts(from.path(), "", false, 0).expect("rows").rows;
    let exported = export(from.path(), to.path(), "", &rows).expect_err("refused");
    for said in [refusal(home.path(), &from), exported.to_string()] {
        assert!(said.contains(file.to_str().expect("text")), "{said}");
        assert!(said.contains("`payouts import FILE`"), "{said}");
    }
    assert_eq!(rounds_of(home.path()), []);
    // As it says.
    std::fs::remove_file(&file).expect("moved away");
    assert_eq!(taken(home.path(), &from), (1, 0));
    export(from.path(), to.path(), "", &rows).expect("exported");
}

#[test]
fn what_is_no_file_or_larger_than_any_round_is_named_unread() {
    let (round, single) = (held(4, 100), held(5, 101));
    let from = exported(&[round, held(6, 102)]);
    let single = alone(&single, &[&single.lanes[0].payouts[0]]);
    store::write_alone(from.path(), &single).expect("written");
    let manifest = from.path().join("payouts.json");
    std::fs::write(&manifest, "{\"identity\": \"a\", \"payouts\": []}").expect("written");
    let (home, away) = (directory(), directory());
    let away = away.path().join("away");
    let first = |folder: &str| {
        let folder = from.path().join(folder);
        folder.join(&files(&folder)[0])
    };
    let zeros = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path);
    let pipe = |path: &Path| -> std::io::Result<()> {
        Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU)?)
    };
    // Sparse: it takes no place on the disk.
    let large = |path: &Path| std::fs::File::create(path)?.set_len(1 << 40);
    for (path, too_large) in [
        (first("rounds"), "bytes"),
        (first("alone"), "bytes"),
        // As many rounds as there are make it large: it is read as it comes.
        (manifest, "expected value"),
    ] {
        std::fs::rename(&path, &away).expect("moved");
        for (bad, why) in [
            (
                &zeros as &dyn Fn(&Path) -> std::io::Result<()>,
                "not a file",
            ),
            (&pipe, "not a file"),
            (&large, too_large),
        ] {
            bad(&path).expect("made");
            let said = refusal(home.path(), &from);
            let path_text = path.to_str().expect("text");
            assert!(said.contains(path_text) && said.contains(why), "{said}");
            assert_eq!(files(home.path()), [] as [&str; 0]);
            std::fs::remove_file(&path).expect("removed");
        }
        if path.ends_with("payouts.json") {
            std::fs::rename(&away, &path).expect("moved");
        }
    }
    // What is left is taken, as it is said.
    assert_eq!(taken(home.path(), &from), (1, 0));
}
