//! A falsified file beside the true one: where they differ.

use serde::{Deserialize, Serialize};

/// So many bytes must be alike for the files to be alike again: fewer are chance.
const ALIKE: usize = 8;

/// At this place of the true file these bytes are taken out, and those put in.
#[derive(Clone, Serialize, Deserialize)]
pub struct Change {
    at: usize,
    out: String,
    #[serde(rename = "in")]
    put: String,
}

/// In the order of the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patch(Vec<Change>);

/// How far the files go on before they are alike again.
fn unlike(old: &[u8], new: &[u8]) -> (usize, usize) {
    for both in 0..old.len() + new.len() {
        for out in 0..=both.min(old.len()) {
            let (a, b) = (&old[out..], new.get(both - out..).unwrap_or_default());
            let alike = a.len() >= ALIKE && b.len() >= ALIKE && a[..ALIKE] == b[..ALIKE];
            if alike || (!a.is_empty() && a == b) {
                return (out, both - out);
            }
        }
    }
    (old.len(), new.len())
}

impl Patch {
    pub fn between(old: &[u8], new: &[u8]) -> Self {
        let (mut at, mut to, mut changes) = (0, 0, Vec::new());
        while (at, to) != (old.len(), new.len()) {
            if old.get(at) == new.get(to) {
                (at, to) = (at + 1, to + 1);
                continue;
            }
            let (out, put) = unlike(&old[at..], &new[to..]);
            changes.push(Change {
                at,
                out: hex::encode(&old[at..at + out]),
                put: hex::encode(&new[to..to + put]),
            });
            (at, to) = (at + out, to + put);
        }
        let patch = Self(changes);
        assert_eq!(patch.apply(old), new);
        patch
    }

    pub fn apply(&self, file: &[u8]) -> Vec<u8> {
        let (mut changed, mut read) = (Vec::new(), 0);
        for change in &self.0 {
            changed.extend_from_slice(&file[read..change.at]);
            let out = hex::decode(&change.out).unwrap();
            assert_eq!(file[change.at..change.at + out.len()], out[..]);
            changed.extend(hex::decode(&change.put).unwrap());
            read = change.at + out.len();
        }
        changed.extend_from_slice(&file[read..]);
        changed
    }
}
