//! The store: what was saved is there after a crash, and what is damaged is named.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/files.rs"]
mod files;
#[path = "support/store.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;

use bitcoin::Network;
use files::copy_files;
use support::{
    NETWORK, close, coordinator, found, key, machine, once_free, open, output, replay, share,
    shares,
};
use tutti_coordinator::store::{FORMAT, Store, StoreError};
use tutti_proto::coordinator::{Committed, Record};
use tutti_proto::id::{RoundId, RoundSeq, SerialId, WindowSeq};
use tutti_proto::payout::SignedPayouts;
use tutti_proto::window::Ledger;

/// What whoever reads of damage is told not to do.
const NOT_A_COPY: &str = "do not go on from an older copy";

/// A life of the pool: payees come and go, two windows close, blocks are found, a third window is open.
fn fill(store: &mut Store) -> Ledger {
    fill_with(store, None)
}

/// The same, with the open window's shares in sled: a payout that nobody reads is saved with them.
fn fill_sled(store: &mut Store) -> Ledger {
    fill_with(
        store,
        Some(Record::Committed(Committed {
            round: RoundId([7; 32]),
            seq: RoundSeq(1),
            height: 7,
            coinbases: Vec::new(),
            payouts: SignedPayouts::default(),
        })),
    )
}

fn fill_with(store: &mut Store, beside_shares: Option<Record>) -> Ledger {
    let mut ledger = Ledger::default();
    store
        .save(&[output(1, 0), output(2, 1), output(3, 3)])
        .unwrap();
    store.save(&[Record::OutputExpired(SerialId(3))]).unwrap();
    let mut first = shares(&ledger, 3);
    first.push(close(&mut ledger, 3));
    store.save(&first).unwrap();
    store.save(&[close(&mut ledger, 0)]).unwrap();
    let committed = Committed {
        round: RoundId([8; 32]),
        seq: RoundSeq(2),
        height: 7,
        coinbases: Vec::new(),
        payouts: SignedPayouts::default(),
    };
    store
        .save(&[
            Record::Committed(committed),
            Record::Candidate(found(5)),
            Record::Candidate(found(6)),
        ])
        .unwrap();
    let verdict = Record::Verdict {
        hash: [5; 32],
        accepted: true,
    };
    store.save(&[verdict]).unwrap();
    let open = shares(&ledger, 5);
    for shares in [&open[..2], &open[2..]] {
        let mut records = shares.to_vec();
        records.extend(beside_shares.clone());
        store.save(&records).unwrap();
    }
    ledger
}

#[test]
fn a_restart_comes_back_to_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = fill(&mut open(dir.path()));
    let mut store = open(dir.path());
    let replayed = replay(&store);
    assert_eq!(replayed.records, 3 + 1 + 1 + 1 + 2 + 1 + 5);
    assert_eq!(replayed.last_round, RoundSeq(2));
    let open_candidates: Vec<[u8; 32]> = replayed
        .restored
        .open_candidates()
        .map(|found| found.hash)
        .collect();
    assert_eq!(open_candidates, [[6; 32]]);
    let (machine, records) = machine(replayed);
    assert_eq!(records, []);
    assert_eq!(machine.ledger().head(), ledger.head());
    assert_eq!(machine.roster().len(), 2);
    let committed = store
        .committed(RoundSeq(2), RoundId([8; 32]))
        .unwrap()
        .unwrap();
    assert_eq!(committed.round, RoundId([8; 32]));
    let other = store.committed(RoundSeq(2), RoundId([9; 32])).unwrap();
    assert!(other.is_none());
    // Goes on where it stopped.
    store.save(&[output(4, 5)]).unwrap();
    assert_eq!(replay(&store).records, 15);
}

#[test]
fn what_was_saved_is_there_when_the_process_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    fill(&mut store);
    // A copy of the files while the store is open is what a killed process leaves.
    let copy = tempfile::tempdir().unwrap();
    copy_files(dir.path(), copy.path());
    assert_eq!(replay(&open(copy.path())).records, 14);
}

/// Changes a stored value behind the store's back.
fn tamper(path: &Path, key: &[u8], change: impl Fn(Vec<u8>) -> Option<Vec<u8>>) {
    let db = once_free(|| sled::open(path)).unwrap();
    let tree = db.open_tree("records").unwrap();
    let value = tree.get(key).unwrap().expect("the key is there").to_vec();
    match change(value) {
        Some(value) => tree.insert(key, value).unwrap(),
        None => tree.remove(key).unwrap(),
    };
    db.flush().unwrap();
}

fn flip(mut value: Vec<u8>) -> Option<Vec<u8>> {
    let last = value.len() - 1;
    value[last] ^= 0x40;
    Some(value)
}

fn log_key(number: u64) -> Vec<u8> {
    [b"L".as_slice(), &number.to_be_bytes()].concat()
}

fn share_key(window: u64, index: u64) -> Vec<u8> {
    [b"Z".as_slice(), &window.to_be_bytes(), &index.to_be_bytes()].concat()
}

fn replay_error(path: &Path) -> String {
    let Err(error) = open(path).replay(&coordinator(), |_, _| {}) else {
        panic!("the damage was not noticed");
    };
    error.to_string()
}

#[test]
fn a_windows_shares_come_back_in_order_however_many_were_saved_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut ledger = Ledger::default();
    let mut first = shares(&ledger, 100);
    first.push(close(&mut ledger, 100));
    first.extend(shares(&ledger, 49));
    store.save(&first).unwrap();
    let of = |window| store.shares(WindowSeq(window)).unwrap();
    assert_eq!(of(1), (0..100).map(share).collect::<Vec<_>>());
    assert_eq!(of(2), (0..49).map(share).collect::<Vec<_>>());
    assert_eq!(of(3), []);
    assert_eq!(replay(&store).records, 1 + 49);
    let windows = store.windows().unwrap();
    assert_eq!(windows.len(), 1);
    assert_eq!(windows[0].record.shares, 100);
}

/// sled copies a leaf with all that is in it, as a file of its own where that is large.
#[test]
fn shares_are_not_copied_with_what_is_large() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    for space in *b"ACJNRTX" {
        let db = once_free(|| sled::open(dir.path())).unwrap();
        let tree = db.open_tree("records").unwrap();
        tree.insert([space, 0xff], vec![space; 200_000]).unwrap();
        db.flush().unwrap();
    }
    let files = || {
        let files = std::fs::read_dir(dir.path().join("blobs")).unwrap();
        let names = files.map(|file| file.unwrap().file_name());
        names.collect::<BTreeSet<_>>()
    };
    let mut store = open(dir.path());
    let mut shares = (0..).map(|index| Record::Share {
        window: WindowSeq(1),
        index,
        share: share(u8::try_from(index % 200).unwrap()),
    });
    let mut new = 0;
    for _ in 0..100 {
        let before = files();
        let batch: Vec<Record> = shares.by_ref().take(300).collect();
        store.save(&batch).unwrap();
        new += files().difference(&before).count();
    }
    assert!(new <= 3, "{new} copies of what is large");
}

#[test]
fn a_flipped_byte_is_named_with_its_record() {
    let cases = [
        (log_key(4), "record log/4 "),
        (share_key(3, 2), "record share/3/2 "),
    ];
    for (key, named) in cases {
        let dir = tempfile::tempdir().unwrap();
        fill_sled(&mut open(dir.path()));
        tamper(dir.path(), &key, flip);
        let error = replay_error(dir.path());
        assert!(
            error.contains(named)
                && error.contains("its checksum is wrong")
                && error.contains(NOT_A_COPY),
            "{error}"
        );
    }
}

#[test]
fn a_missing_record_is_named() {
    let lost = |key, missing| {
        format!("{key} is the first, and {missing} of the 5 shares of window 3 are missing")
    };
    let cases = [
        (
            log_key(4),
            "record log/4 ".to_owned(),
            "it is missing".to_owned(),
        ),
        (share_key(3, 0), lost("share/3/0", 2), NOT_A_COPY.to_owned()),
    ];
    for (key, named, why) in cases {
        let dir = tempfile::tempdir().unwrap();
        fill_sled(&mut open(dir.path()));
        tamper(dir.path(), &key, |_| None);
        let error = replay_error(dir.path());
        assert!(error.contains(&named) && error.contains(&why), "{error}");
    }
}

#[test]
fn what_is_missing_at_the_end_is_named() {
    let cases = [
        (vec![log_key(8)], "log/8 is the first, and 0 of the 5"),
        (
            vec![share_key(3, 2)],
            "share/3/2 is the first, and 3 of the 5",
        ),
        (
            vec![log_key(8), share_key(3, 2), share_key(3, 0)],
            "log/8 is the first, and 5 of the 5",
        ),
    ];
    for (keys, named) in cases {
        let dir = tempfile::tempdir().unwrap();
        fill_sled(&mut open(dir.path()));
        for key in keys {
            tamper(dir.path(), &key, |_| None);
        }
        let Err(error) = once_free(|| Store::open(dir.path(), NETWORK)) else {
            panic!("what was acknowledged is gone");
        };
        let error = error.to_string();
        assert!(
            error.contains(named) && error.contains(" shares of window 3 are missing"),
            "{error}"
        );
        assert!(error.contains(NOT_A_COPY), "{error}");
    }
}

#[test]
fn a_store_without_its_mark_is_believed_and_one_with_a_damaged_mark_is_not() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()));
    let mark = dir.path().join("mark");
    std::fs::remove_file(&mark).unwrap();
    assert_eq!(replay(&open(dir.path())).records, 14);
    let noted = std::fs::read(&mark).unwrap();
    let spoilt = vec![0; noted.len()];
    std::fs::write(&mark, &spoilt).unwrap();
    let Err(error) = once_free(|| Store::open(dir.path(), NETWORK)) else {
        panic!("a damaged mark says nothing");
    };
    assert!(
        error.to_string().contains("the file mark of the store in "),
        "{error}"
    );
    assert_eq!(std::fs::read(&mark).unwrap(), spoilt);
}

#[test]
fn a_store_that_was_never_ours_is_made_again_and_one_that_was_is_not() {
    let dir = tempfile::tempdir().unwrap();
    // We were killed once as we made it.
    let fresh = tempfile::tempdir().unwrap();
    drop(open(fresh.path()));
    let virgin = tempfile::tempdir().unwrap();
    drop(sled::open(virgin.path()).unwrap());
    std::fs::copy(virgin.path().join("db"), dir.path().join("db")).unwrap();
    let Err(error @ StoreError::Kept { .. }) = once_free(|| Store::open(dir.path(), NETWORK))
    else {
        panic!("a store of which nothing is left was begun anew");
    };
    let error = error.to_string();
    assert!(
        error.contains("was not empty, but nothing of this pool can be found in it"),
        "{error}"
    );
    // The same of one whose mark says that it was ours.
    std::fs::copy(fresh.path().join("mark"), dir.path().join("mark")).unwrap();
    assert!(once_free(|| Store::open(dir.path(), NETWORK)).is_err());
    std::fs::remove_file(dir.path().join("db")).unwrap();
    assert!(once_free(|| Store::open(dir.path(), NETWORK)).is_err());
}

#[test]
fn a_damaged_payout_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()));
    let key = [b"C".as_slice(), &2u64.to_be_bytes(), &[8; 32]].concat();
    tamper(dir.path(), &key, flip);
    let error = open(dir.path())
        .committed(RoundSeq(2), RoundId([8; 32]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("record committed/2/0808080808080808 "),
        "{error}"
    );
}

#[test]
fn records_that_contradict_each_other_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.save(&[output(2, 1), output(3, 1)]).unwrap();
    let Err(error) = store.replay(&coordinator(), |_, _| {}) else {
        panic!("two outputs of one number were accepted");
    };
    let error = error.to_string();
    assert!(
        error.contains("record log/1 ") && error.contains("serial_id 1 is taken"),
        "{error}"
    );
}

#[test]
fn a_store_of_another_identity_chain_or_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()));
    let other = open(dir.path()).replay(&key(9).identity(), |_, _| {});
    let Err(error) = other else {
        panic!("another identity's records were accepted");
    };
    assert!(
        error.to_string().contains("was identity.key replaced?"),
        "{error}"
    );
    let Err(error) = once_free(|| Store::open(dir.path(), Network::Signet)) else {
        panic!("another chain's store was opened");
    };
    assert!(
        error.to_string().contains("is not of network signet"),
        "{error}"
    );
    let ours = "this version of tutti-coordinator";
    for (format, what) in [
        (
            4,
            format!(
                "which {ours}, of format {FORMAT}, cannot read or convert; go on with the older version that wrote it"
            ),
        ),
        (
            FORMAT + 1,
            format!(
                "which is later than {FORMAT}, the one that {ours} reads; go on with the later version that wrote it"
            ),
        ),
    ] {
        tamper(dir.path(), b"Mformat", |_| {
            Some(format.to_be_bytes().to_vec())
        });
        let Err(error) = once_free(|| Store::open(dir.path(), NETWORK)) else {
            panic!("format {format} was opened");
        };
        let at = dir.path().display();
        let said = format!("the store in {at} has format {format}, {what}");
        assert_eq!(error.to_string(), said);
    }
}

#[test]
fn a_store_of_the_format_before_share_files_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = fill_sled(&mut open(dir.path()));
    std::fs::remove_dir(dir.path().join("shares")).unwrap();
    let before = |_| Some(5u32.to_be_bytes().to_vec());
    tamper(dir.path(), b"Mformat", before);
    // Refused for another reason, it stays as it is.
    assert!(once_free(|| Store::open(dir.path(), Network::Signet)).is_err());
    tamper(dir.path(), b"Mformat", |format| {
        assert_eq!(format, 5u32.to_be_bytes());
        Some(format)
    });
    let mut store = open(dir.path());
    assert_eq!(replay(&store).records, 14);
    store.save(&shares(&ledger, 8)[5..]).unwrap();
    assert_eq!(replay(&store).records, 14 + 3);
    drop(store);
    assert_eq!(replay(&open(dir.path())).records, 14 + 3);
    tamper(dir.path(), b"Mformat", |format| {
        assert_eq!(format, FORMAT.to_be_bytes());
        Some(format)
    });
}

#[test]
fn two_rounds_of_one_number_keep_their_payouts() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let committed = |round| Committed {
        round: RoundId([round; 32]),
        seq: RoundSeq(2),
        height: u32::from(round),
        coinbases: Vec::new(),
        payouts: SignedPayouts::default(),
    };
    let records = [8, 9].map(|round| Record::Committed(committed(round)));
    store.save(&records).unwrap();
    for round in [8, 9] {
        let kept = store.committed(RoundSeq(2), RoundId([round; 32])).unwrap();
        assert_eq!(kept, Some(committed(round)));
    }
}

#[test]
fn a_reader_forgets_shares_and_rounds_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut ledger = Ledger::default();
    let committed = |seq: u64, round| {
        Record::Committed(Committed {
            round: RoundId([round; 32]),
            seq: RoundSeq(seq),
            height: 1,
            coinbases: Vec::new(),
            payouts: SignedPayouts::default(),
        })
    };
    for window in 1..4u64 {
        let mut records = shares(&ledger, 3);
        records.push(close(&mut ledger, 3));
        records.push(committed(window, u8::try_from(window).unwrap()));
        store.save(&records).unwrap();
    }
    let reader = store.reader();
    let all = [1, 2, 3].map(WindowSeq);
    let found = reader.windows_with_shares(WindowSeq(4)).unwrap();
    assert_eq!(found, all.into());
    reader.forget_shares(WindowSeq(2)).unwrap();
    let left = reader.windows_with_shares(WindowSeq(3)).unwrap();
    assert_eq!(left, [WindowSeq(1)].into());
    assert_eq!(store.shares(WindowSeq(3)).unwrap().len(), 3);
    // Round 1 has an unsettled block.
    let keep = std::collections::BTreeSet::from([RoundId([1; 32])]);
    reader.forget_rounds(WindowSeq(3), &keep).unwrap();
    let kept = |seq: u64| {
        let round = RoundId([u8::try_from(seq).unwrap(); 32]);
        store.committed(RoundSeq(seq), round).unwrap().is_some()
    };
    assert_eq!([1, 2, 3].map(kept), [true, false, true]);
    let end = store.log_end();
    assert_eq!(reader.after_closing(WindowSeq(2), end).unwrap(), 2);
    assert_eq!(reader.after_closing(WindowSeq(0), end).unwrap(), 0);
    assert_eq!(replay(&store).records, 3);
}

/// Of a start that failed for damage: it is the only one of the files before sled took from them.
#[test]
fn the_copy_of_a_start_that_failed_outlives_one_of_another_format_or_chain() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()));
    let copy = dir.path().join("before-start");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("db"), "as it was").unwrap();
    let refused = |network| {
        let Err(error) = once_free(|| Store::open(dir.path(), network)) else {
            panic!("the store was opened");
        };
        let kept = format!("before this start are in {}", copy.display());
        assert!(error.to_string().ends_with(&kept), "{error}");
        assert_eq!(std::fs::read(copy.join("db")).unwrap(), b"as it was");
    };
    refused(Network::Signet);
    tamper(dir.path(), b"Mformat", |_| {
        Some((FORMAT + 1).to_be_bytes().to_vec())
    });
    refused(NETWORK);
}
