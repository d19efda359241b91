//! The data directory: complete or not there, whatever happens in between.

mod support;

use std::collections::BTreeSet;
use std::fs;

use support::{Round, files, some_identity, some_script};
use tutti_participant::payouts::{import, payouts};
use tutti_participant::settle::{Ours, read_watched};
use tutti_participant::store::{self, DataLock, RoundName, Store, StoreError, held_rounds};
use tutti_proto::id::{RoundSeq, WindowSeq};
use tutti_proto::participant::{Held, HeldPayee, Record};
use tutti_proto::work::Work;

fn held(seq: u64, height: u32) -> Held {
    let payees = [
        (some_identity(1), some_script(1), 1_000_000),
        (some_identity(2), some_script(2), 0),
    ];
    Round {
        seq,
        height,
        lanes: 2,
        reward: 5_000_000_000,
        payees: &payees,
    }
    .held()
}

fn store(directory: &std::path::Path) -> Store {
    Store::open(directory).expect("a store")
}

#[test]
fn a_round_comes_back_as_it_was_held() {
    let dir = tempfile::tempdir().expect("a directory");
    let rounds = [held(9, 100), held(10, 101)];
    let records: Vec<_> = rounds.iter().cloned().map(Record::Held).collect();
    store(dir.path()).save(&records).expect("saved");
    let found = held_rounds(dir.path(), |_| true).expect("read");
    assert_eq!(found.rounds, rounds, "in the order of their numbers");
    assert!(found.damaged.is_empty());
}

#[test]
fn what_a_crash_left_half_written_is_neither_read_nor_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    store(dir.path())
        .save(&[Record::Held(held(1, 100))])
        .expect("saved");
    let rounds = dir.path().join("rounds");
    let whole = fs::read(rounds.join(&files(&rounds)[0])).expect("the file");
    let half = rounds.join(format!("2-{}.json.tmp", "22".repeat(32)));
    fs::write(&half, &whole[..whole.len() / 2]).expect("written");
    let others = ["alone", "segments"].map(|of| dir.path().join(of));
    for other in &others {
        fs::create_dir(other).expect("made");
        fs::write(other.join("half.tmp"), "half").expect("written");
    }
    assert_eq!(
        held_rounds(dir.path(), |_| true).expect("read").rounds,
        [held(1, 100)]
    );
    store(dir.path());
    assert!(!half.exists(), "opening the store cleans up");
    for other in &others {
        assert_eq!(files(other), Vec::<String>::new());
    }
    assert_eq!(files(&rounds).len(), 1);
}

#[test]
fn a_new_data_directory_and_its_parents_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("pools/first");
    store(&data);
    store(&data);
    for created in ["pools", "pools/first", "pools/first/rounds"] {
        let metadata = fs::metadata(dir.path().join(created)).expect(created);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700, "{created}");
    }
    fs::write(data.join("file"), "").expect("written");
    let error = store::create_directory(&data.join("file/rounds")).expect_err("no directory");
    for words in ["cannot create", "check the disk's space"] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_damaged_round_is_named_and_hides_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let records = [Record::Held(held(1, 100)), Record::Held(held(2, 100))];
    store(dir.path()).save(&records).expect("saved");
    let rounds = dir.path().join("rounds");
    let first = rounds.join(&files(&rounds)[0]);
    let text = fs::read_to_string(&first).expect("text");
    for damage in [
        text[..100].to_owned(),
        text.replace("\"version\": 1", "\"version\": 2"),
        text.replace("\"seq\": 1", "\"seq\": 3"),
    ] {
        fs::write(&first, damage).expect("written");
        let found = held_rounds(dir.path(), |_| true).expect("read");
        assert_eq!(found.rounds, [held(2, 100)]);
        let said = found.damaged[0].to_string();
        assert!(said.contains("is damaged"), "{said}");
    }
}

/// Its amounts are a file's word, and are added up at every start.
#[test]
fn a_round_that_pays_more_than_there_is_is_damaged_and_stops_no_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let me = some_identity(1).to_string();
    let mut forged = held(1, 100);
    forged.signers = 0;
    let payee = forged.payees[0];
    for amounts in [[u64::MAX, u64::MAX], [2_100_000_000_000_000, 1]] {
        forged.payees = amounts.map(|sat| HeldPayee { sat, ..payee }).to_vec();
        store::write_round(dir.path(), &forged).expect("written");
        store::write_round(dir.path(), &held(2, 100)).expect("written");
        let ours = Ours::Named(Some(&me));
        let (watched, damaged) = read_watched(dir.path(), &ours).expect("read");
        assert_eq!(watched.len(), 1);
        assert_eq!(watched[0].own_sat, 1_000_000);
        let said = damaged[0].to_string();
        assert!(said.contains("more than there are bitcoins"), "{said}");
        let rows = payouts(dir.path(), &me, false, 0).expect("rows");
        assert_eq!((rows.rows.len(), rows.damaged.len()), (2, 1));
        // It is not taken from anybody either.
        let home = tempfile::tempdir().expect("a directory");
        let error = import(home.path(), dir.path()).expect_err("damaged");
        assert!(error.to_string().contains("nothing was taken"), "{error}");
    }
}

#[test]
fn acknowledged_work_survives_and_belongs_to_one_pool() {
    let dir = tempfile::tempdir().expect("a directory");
    let work = |window, work| Record::OwnWork {
        window: WindowSeq(window),
        work: Work(work),
    };
    let mut first = store(dir.path());
    assert_eq!(first.joined(&some_identity(1)), None);
    first
        .save(&[work(1, 5), work(1, u128::MAX), work(2, 7)])
        .expect("saved");
    let mut again = store(dir.path());
    let windows: Vec<_> = again
        .own_work()
        .windows()
        .iter()
        .map(|(w, n)| (w.0, n.0))
        .collect();
    assert_eq!(windows, [(1, u128::MAX), (2, 7)]);
    assert_eq!(again.joined(&some_identity(1)), None);
    assert_eq!(again.joined(&some_identity(2)), Some(some_identity(1)));
    assert!(again.own_work().windows().is_empty());
}

#[test]
fn only_rounds_that_nobody_can_find_any_more_are_forgotten() {
    let dir = tempfile::tempdir().expect("a directory");
    let rounds = [held(1, 100), held(2, 100), held(3, 100), held(4, 101)];
    let records: Vec<_> = rounds.iter().cloned().map(Record::Held).collect();
    let mut store = store(dir.path());
    store.save(&records).expect("saved");
    let names = || {
        rounds
            .iter()
            .map(|held| (RoundName::of(held), Some(held.height)))
    };
    let found = BTreeSet::from([rounds[0].round]);
    let prune = |height| store::prune(dir.path(), names(), height, &found).expect("pruned");
    assert_eq!(prune(300), []);
    // Nobody knows when one of unknown height is too old.
    let unknown = [(RoundName::of(&rounds[2]), None)].into_iter();
    let forgotten = store::prune(dir.path(), unknown, 10_000, &found);
    assert_eq!(forgotten.expect("pruned"), []);
    assert_eq!(
        prune(301),
        [1, 2].map(|place| RoundName::of(&rounds[place]))
    );
    let left: Vec<_> = store::held_names(dir.path())
        .expect("names")
        .iter()
        .map(|n| n.seq)
        .collect();
    assert_eq!(left, [RoundSeq(1), RoundSeq(4)]);
}

#[test]
fn a_round_whose_file_was_moved_away_counts_as_forgotten() {
    let dir = tempfile::tempdir().expect("a directory");
    let rounds = [held(1, 100), held(2, 100)];
    let records: Vec<_> = rounds.iter().cloned().map(Record::Held).collect();
    store(dir.path()).save(&records).expect("saved");
    let path = dir.path().join("rounds");
    fs::remove_file(path.join(&files(&path)[0])).expect("moved away");
    let names = rounds.map(|held| RoundName::of(&held));
    let all = names.into_iter().map(|name| (name, Some(100)));
    let forgotten = store::prune(dir.path(), all, 301, &BTreeSet::new());
    assert_eq!(forgotten.expect("pruned"), names);
    assert_eq!(files(&path), Vec::<String>::new());
}

#[test]
fn a_directory_in_use_names_its_user() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(!store::is_held(dir.path()));
    let lock = DataLock::take(dir.path()).expect("free");
    assert!(store::is_held(dir.path()));
    let error = DataLock::take(dir.path()).err().expect("in use");
    let pid = format!("process {}", std::process::id());
    assert!(
        matches!(&error, StoreError::InUse { holder, .. } if *holder == pid),
        "{error}"
    );
    drop(lock);
    assert!(!store::is_held(dir.path()));
    DataLock::take(dir.path()).expect("free again");
}
