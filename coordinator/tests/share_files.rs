//! Shares in files beside sled: they come back in order, what was cut short is cut off, and what is damaged is named.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/files.rs"]
mod files;
#[path = "support/store.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod support;

use std::path::{Path, PathBuf};

use files::copy_files;
use support::{NETWORK, close, coordinator, once_free, open, output, replay, share, shares};
use tutti_coordinator::store::Store;
use tutti_proto::coordinator::Record;
use tutti_proto::id::WindowSeq;
use tutti_proto::share::ShareRecord;
use tutti_proto::window::Ledger;

const FIRST: WindowSeq = WindowSeq(1);

fn file(store: &Path) -> PathBuf {
    store.join("shares").join("1")
}

fn of(store: &Store, window: WindowSeq) -> Vec<ShareRecord> {
    store.shares(window).unwrap()
}

fn numbered(count: u8) -> Vec<ShareRecord> {
    (0..count).map(share).collect()
}

#[test]
fn shares_come_back_in_order_from_sled_and_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut ledger = Ledger::default();
    let of_window = shares(&ledger, 60);
    let payees = (2..).map(|n: u8| output(n, u64::from(n) * 2 + 1));
    // With and without anything else, and which of both comes first.
    let mut payees = payees.take(4);
    for (place, shares) in of_window.chunks(7).enumerate() {
        let mut records = shares.to_vec();
        if matches!(place, 0 | 3 | 4 | 8) {
            records.extend(payees.next());
        }
        store.save(&records).unwrap();
        let saved = u8::try_from(place * 7 + shares.len()).unwrap();
        assert_eq!(of(&store, FIRST), numbered(saved));
    }
    assert!(file(dir.path()).exists());
    assert_eq!(replay(&store).records, 60 + 4);
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(replay(&store).records, 60 + 4);
    // A window's first shares in sled, with the end of the one before.
    let mut records = vec![close(&mut ledger, 60)];
    records.extend_from_slice(&shares(&ledger, 3));
    store.save(&records).unwrap();
    store.save(&shares(&ledger, 9)[3..]).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(of(&store, FIRST), numbered(60));
    assert_eq!(of(&store, WindowSeq(2)), numbered(9));
    let with_shares = |before| store.reader().windows_with_shares(WindowSeq(before));
    assert_eq!(with_shares(3).unwrap(), [FIRST, WindowSeq(2)].into());
    assert_eq!(with_shares(2).unwrap(), [FIRST].into());
    store.reader().forget_shares(FIRST).unwrap();
    assert_eq!(with_shares(3).unwrap(), [WindowSeq(2)].into());
    assert!(!file(dir.path()).exists());
    assert_eq!(of(&store, FIRST), []);
    assert_eq!(of(&store, WindowSeq(2)), numbered(9));
}

/// What a killed coordinator left: its files, what it had noted before, and where in its file the shares of the
/// batches end.
struct Killed {
    files: tempfile::TempDir,
    /// The note before each batch.
    marks: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    ends: [usize; 3],
}

const BATCH: u8 = 2;

impl Killed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let all = shares(&Ledger::default(), 3 * BATCH);
        let (mut ends, mut marks) = ([0; 3], Vec::new());
        for (end, batch) in ends.iter_mut().zip(all.chunks(usize::from(BATCH))) {
            marks.push(std::fs::read(dir.path().join("mark")).unwrap());
            store.save(batch).unwrap();
            *end = std::fs::read(file(dir.path())).unwrap().len();
        }
        let files = tempfile::tempdir().unwrap();
        copy_files(dir.path(), files.path());
        Self {
            marks,
            bytes: std::fs::read(file(dir.path())).unwrap(),
            files,
            ends,
        }
    }

    /// The files with this content of the shares'; the last batch acknowledged or not.
    fn with(&self, bytes: &[u8], acknowledged: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        copy_files(self.files.path(), dir.path());
        std::fs::write(file(dir.path()), bytes).unwrap();
        if !acknowledged {
            std::fs::write(dir.path().join("mark"), &self.marks[2]).unwrap();
        }
        dir
    }
}

/// What a start says of it.
fn refused(dir: &Path) -> String {
    let store = match once_free(|| Store::open(dir, NETWORK)) {
        Err(error) => return error.to_string(),
        Ok(store) => store,
    };
    match store.replay(&coordinator(), |_, _| {}) {
        Err(error) => error.to_string(),
        Ok(replayed) => panic!("it was taken, with {} records", replayed.records),
    }
}

/// It has so many shares, and goes on after them.
fn goes_on(dir: &Path, count: u8) {
    let mut store = open(dir);
    assert_eq!(of(&store, FIRST), numbered(count));
    assert_eq!(replay(&store).records, u64::from(count));
    let more: Vec<Record> = shares(&Ledger::default(), count + 3);
    store.save(&more[usize::from(count)..]).unwrap();
    drop(store);
    assert_eq!(of(&open(dir), FIRST), numbered(count + 3));
}

#[test]
fn what_was_cut_short_before_it_was_acknowledged_is_cut_off_and_gone_on_from() {
    let killed = Killed::new();
    let [_, second, third] = killed.ends;
    for length in (second..third).step_by(7).chain([third - 1]) {
        let dir = killed.with(&killed.bytes[..length], false);
        goes_on(dir.path(), 2 * BATCH);
        // As a file system may leave what was to be written.
        let mut zeros = killed.bytes[..length].to_vec();
        zeros.resize(third, 0);
        let dir = killed.with(&zeros, false);
        goes_on(dir.path(), 2 * BATCH);
    }
    goes_on(killed.with(&killed.bytes, false).path(), 3 * BATCH);
}

#[test]
fn what_was_acknowledged_and_is_cut_short_is_named() {
    let killed = Killed::new();
    let [_, second, third] = killed.ends;
    for length in [second, second + 1, second + 40, third - 1] {
        let error = refused(killed.with(&killed.bytes[..length], true).path());
        let named = "share/1/4 is the first, and 2 of the 6 shares of window 1 are missing";
        assert!(error.contains(named), "{length}: {error}");
    }
    let error = refused(killed.with(&[], true).path());
    assert!(
        error.contains("share/1/0 is the first, and 6 of the 6"),
        "{error}"
    );
}

#[test]
fn a_flipped_bit_is_named_wherever_it_is_and_never_taken_for_what_was_cut_short() {
    let killed = Killed::new();
    let [first, second, third] = killed.ends;
    for place in (0..second).step_by(11).chain([8, 9, 10, 11, first + 11]) {
        let mut rotten = killed.bytes.clone();
        rotten[place] ^= 0x10;
        for acknowledged in [false, true] {
            let error = refused(killed.with(&rotten, acknowledged).path());
            let key = if place < first {
                "share/1/0 "
            } else {
                "share/1/2 "
            };
            assert!(error.contains(key), "byte {place}: {error}");
            assert!(error.contains("do not go on from an older copy"), "{error}");
        }
    }
    for place in [second, second + 8, second + 11, second + 30, third - 1] {
        let mut rotten = killed.bytes.clone();
        rotten[place] ^= 0x10;
        let error = refused(killed.with(&rotten, true).path());
        assert!(
            error.contains("share/1/4 is the first, and 2 of the 6"),
            "{error}"
        );
    }
}

#[test]
fn a_record_that_is_gone_or_twice_is_named() {
    let killed = Killed::new();
    let [first, second, _] = killed.ends;
    let bytes = &killed.bytes;
    let gone = [&bytes[..first], &bytes[second..]].concat();
    let twice = [&bytes[..second], &bytes[first..]].concat();
    for (bytes, named) in [
        (gone, "share/1/2 is the first, and 2 of the 6"),
        (twice, "share/1/4 is the first"),
    ] {
        let error = refused(killed.with(&bytes, true).path());
        assert!(error.contains(named), "{error}");
    }
    // Of another window.
    let dir = killed.with(bytes, true);
    std::fs::rename(file(dir.path()), dir.path().join("shares/2")).unwrap();
    let error = refused(dir.path());
    assert!(
        error.contains("share/1/0 is the first, and 6 of the 6"),
        "{error}"
    );
}

#[test]
fn more_than_one_record_was_never_cut_short_whatever_the_note_says() {
    let killed = Killed::new();
    let [first, second, third] = killed.ends;
    let flipped = |places: &[usize]| {
        let mut rotten = killed.bytes.clone();
        places.iter().for_each(|place| rotten[*place] ^= 0x10);
        rotten
    };
    // Their contents; and the second's length, so that it reaches to the end of the third, and beyond.
    let mut longer = flipped(&[third - 1]);
    longer[first + 11] = 3;
    // More zeros than any record is long, as of a disk that lost its middle.
    let mut zeros = killed.bytes[..first].to_vec();
    zeros.resize(first + 300_000, 0);
    zeros.extend_from_slice(&killed.bytes[second..]);
    let cases = [flipped(&[second - 1, third - 1]), longer, zeros];
    for rotten in cases {
        let dir = killed.with(&rotten, true);
        std::fs::write(dir.path().join("mark"), &killed.marks[0]).unwrap();
        let error = refused(dir.path());
        assert!(error.contains("record share/1/2 "), "{error}");
        assert_eq!(std::fs::read(file(dir.path())).unwrap(), rotten);
    }
}

#[test]
fn nothing_is_cut_off_of_a_store_that_was_closed_or_before_what_is_there() {
    for closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let all = shares(&Ledger::default(), 6);
        store.save(&all[..4]).unwrap();
        let mut records = all[4..].to_vec();
        records.push(output(2, 1));
        store.save(&records).unwrap();
        let files = tempfile::tempdir().unwrap();
        if closed {
            drop(store);
        }
        copy_files(dir.path(), files.path());
        let mut rotten = std::fs::read(file(files.path())).unwrap();
        *rotten.last_mut().unwrap() ^= 0x10;
        std::fs::write(file(files.path()), &rotten).unwrap();
        let error = refused(files.path());
        let named = "record share/1/0 ";
        assert!(
            error.contains(named) && error.contains("its checksum is wrong"),
            "{error}"
        );
        assert_eq!(std::fs::read(file(files.path())).unwrap(), rotten);
    }
}

#[test]
fn shares_of_another_store_are_not_taken_by_a_new_one() {
    let killed = Killed::new();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("shares")).unwrap();
    std::fs::write(file(dir.path()), &killed.bytes).unwrap();
    let error = refused(dir.path());
    assert!(
        error.contains("nothing of this pool can be found in it"),
        "{error}"
    );
    std::fs::remove_file(file(dir.path())).unwrap();
    assert_eq!(replay(&open(dir.path())).records, 0);
}

#[test]
fn nothing_is_saved_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let all = shares(&Ledger::default(), 6);
    // In the place of a file that cannot be written.
    std::fs::create_dir(file(dir.path())).unwrap();
    assert!(store.save(&all[..2]).is_err());
    std::fs::remove_dir(file(dir.path())).unwrap();
    let error = store.save(&all[..2]).unwrap_err().to_string();
    assert!(error.contains("an earlier write failed"), "{error}");
    assert!(!file(dir.path()).exists());
}
