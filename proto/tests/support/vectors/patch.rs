//! A falsified file beside the true one: where it differs.

use serde::{Deserialize, Serialize};

/// At this place of the other file these bytes are taken out, and those put in.
#[derive(Serialize, Deserialize)]
pub struct Patch {
    at: usize,
    take_out: String,
    put_in: String,
}

impl Patch {
    pub fn between(old: &[u8], new: &[u8]) -> Self {
        let same = |pair: &(&u8, &u8)| pair.0 == pair.1;
        let at = old.iter().zip(new).take_while(same).count();
        let (old, new) = (&old[at..], &new[at..]);
        let end = old.iter().rev().zip(new.iter().rev());
        let end = end.take_while(same).count();
        Self {
            at,
            take_out: hex::encode(&old[..old.len() - end]),
            put_in: hex::encode(&new[..new.len() - end]),
        }
    }

    pub fn apply(&self, file: &[u8]) -> Vec<u8> {
        let out = hex::decode(&self.take_out).unwrap();
        let (before, rest) = file.split_at(self.at);
        let after = rest.strip_prefix(&out[..]).unwrap();
        [before, &hex::decode(&self.put_in).unwrap(), after].concat()
    }
}
