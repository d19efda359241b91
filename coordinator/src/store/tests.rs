//! What sled no longer finds after the store was opened.

use std::path::Path;

use tutti_proto::id::{LaneIndex, RoundId, WindowSeq};
use tutti_proto::identity::IdentityKey;

use super::*;

fn key(byte: u8) -> IdentityKey {
    IdentityKey::from_bytes(&mut [byte; 32]).expect("a key")
}

fn share(index: u8) -> Record {
    Record::Share {
        window: WindowSeq(1),
        index: u64::from(index),
        share: ShareRecord {
            identity: key(2).identity(),
            round: RoundId([8; 32]),
            lane: LaneIndex(0),
            z: 10,
            header: [index; 80],
        },
    }
}

/// A store whose open window has three records of two shares each, in sled.
fn filled(path: &Path) -> Store {
    let mut store = Store::open(path, bitcoin::Network::Regtest).expect("a store");
    for first in [0, 2, 4] {
        let records = [share(first), share(first + 1)];
        store.insert(&records).expect("saved");
        records.iter().for_each(|record| store.at.take(record));
    }
    store
}

#[test]
fn shares_that_a_scan_leaves_out_are_named_wherever_they_stand() {
    for (index, lost) in [(0, 2), (2, 2), (4, 2)] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = filled(dir.path());
        let whole = store.replay(&key(1).identity(), |_, _| {}).expect("whole");
        assert_eq!(whole.records, 6);
        let key_of = Key::Share(WindowSeq(1), index);
        store.tree.remove(key_of.to_bytes()).expect("removed");
        let Err(error) = store.replay(&key(1).identity(), |_, _| {}) else {
            panic!("{lost} shares from {index} on are gone, without a word");
        };
        let error = error.to_string();
        let named = format!("share/1/{index} is the first, and {lost} of the 6 shares of window 1");
        assert!(error.contains(&named), "{error}");
    }
}
