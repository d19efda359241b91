//! checkpoints.json: the state after a window as a file, with a round that was signed on it, and what is
//! refused of it.

use prost::Message;
use serde::{Deserialize, Serialize};
use tutti_proto::audit::Auditor;
use tutti_proto::segment::{Checkpoint, FileId, Segment};
use tutti_proto::wire::{FromWire, ToWire, pb};

use super::super::archive::Archive;
use super::false_states::{self, Met};
use super::patch::Patch;
use super::{Vector, refused};

#[derive(Serialize, Deserialize)]
pub struct File {
    files: Vec<Published>,
    refused: Vec<Refused>,
    /// Bytes of window 2's file.
    window: String,
    /// States after window 2 that are met when its file is checked alone.
    met: Vec<MetCase>,
}

#[derive(Serialize, Deserialize)]
struct MetCase {
    what: String,
    /// Of the second file.
    checkpoint: Patch,
    /// Of window 2's.
    window: Patch,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// Checks the window's file alone, and then that the state after it is its sum.
fn meet(checkpoint: &[u8], window: &[u8]) -> Option<String> {
    let checkpoint = Checkpoint::decode(checkpoint).unwrap();
    let mut auditor = Auditor::new(checkpoint.pool);
    auditor.know(checkpoint).unwrap();
    let met = auditor.segment(&Segment::decode(window).unwrap());
    met.err().map(|error| refused::audit(&error))
}

impl MetCase {
    fn of(met: &Met, alone: &[u8], window: &[u8]) -> Self {
        let (state, file) = (met.checkpoint.encode(), met.segment.encode());
        Self {
            what: met.what.into(),
            checkpoint: Patch::between(alone, &state),
            window: Patch::between(window, &file),
            refused: meet(&state, &file),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Published {
    what: String,
    cid: String,
    bytes: String,
    /// What follows from it: window and head of the ledger, and digest of the payee set.
    window: u64,
    head: String,
    roster_digest: String,
    /// Whether a round was signed on it.
    signed: bool,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    what: String,
    /// Which of the files is changed, from 0.
    file: usize,
    changes: Patch,
    cid: String,
    refused: String,
}

/// Whether a follower starts from it, and if a round was signed on it.
fn start(bytes: &[u8]) -> Result<bool, String> {
    let checkpoint = Checkpoint::decode(bytes).map_err(|error| refused::message(&error))?;
    let started = Auditor::new(checkpoint.pool).start_from(checkpoint);
    started.map_err(|error| refused::audit(&error))
}

impl Published {
    fn of(what: &str, checkpoint: &Checkpoint) -> Self {
        let bytes = checkpoint.encode();
        let (ledger, roster) = checkpoint.clone().check().unwrap();
        Self {
            what: what.into(),
            cid: FileId::of(&bytes).to_string(),
            signed: start(&bytes).unwrap(),
            bytes: hex::encode(bytes),
            window: ledger.seq().0,
            head: hex::encode(ledger.head().hash),
            roster_digest: hex::encode(roster.digest()),
        }
    }
}

type Spoil = fn(&mut pb::Checkpoint);
type Lie = fn(&mut Checkpoint);

const SPOILED: &[(&str, Spoil)] = &[
    ("format 3", |c| c.format = 3),
    ("no pool", |c| c.pool = None),
    ("no ledger", |c| c.ledger = None),
    ("no head", |c| c.head = None),
    ("an output of no standard type", |c| {
        c.outputs[0].script = vec![0x51].into()
    }),
    ("workers that descend", |c| {
        let workers = &ledger(c).workers;
        ledger(c).workers = [&workers[32..], &workers[..32]].concat().into();
    }),
    ("workers of 63 bytes", |c| ledger(c).workers.truncate(63)),
    ("a worker who is in no span", |c| {
        let span = &mut ledger(c).spans[1];
        span.who.pop();
        span.work.pop();
    }),
    ("a span with a place beyond the workers", |c| {
        ledger(c).spans[1].who[1] = 1
    }),
    ("a span with more places than work", |c| {
        ledger(c).spans[1].work.pop();
    }),
    ("a span with high work that is all 0", |c| {
        ledger(c).spans[1].work_high = vec![0, 0]
    }),
    ("a span with less high work than places", |c| {
        ledger(c).spans[1].work_high = vec![1]
    }),
    ("a span of level 256", |c| ledger(c).spans[0].level = 256),
    ("a carry twice", |c| {
        let carry = &mut ledger(c).carry;
        carry.push(carry[0].clone());
    }),
    ("a carry of 0", |c| ledger(c).carry[0].sat = 0),
    ("a block twice", |c| {
        let blocks = &mut ledger(c).blocks;
        blocks.push(blocks[0].clone());
    }),
    ("a block's credited shards that descend", |c| {
        ledger(c).blocks[0].credited = vec![1, 0];
    }),
    ("a credited shard of 65,536", |c| {
        ledger(c).blocks[0].credited = vec![65_536]
    }),
    ("a payout with a byte after it", |c| {
        let payout = &mut c.signed.as_mut().unwrap().payout;
        *payout = [&payout[..], &[0]].concat().into();
    }),
    ("no payout", |c| c.signed.as_mut().unwrap().payout.clear()),
    ("a round without terms", |c| {
        c.signed.as_mut().unwrap().terms = None
    }),
];

fn ledger(checkpoint: &mut pb::Checkpoint) -> &mut pb::LedgerSnapshot {
    checkpoint.ledger.as_mut().unwrap()
}

const LIES: &[(&str, Lie)] = &[
    ("a signature of the head that is none", |c| {
        c.head.signature[0] ^= 1
    }),
    ("a head of another window", |c| c.head.head.seq.0 += 1),
    ("a carry with a sat more", |c| {
        *c.ledger.carry.values_mut().next().unwrap() += 1
    }),
    ("an expected hash more", |c| {
        c.ledger.spans[1].tally.values_mut().next().unwrap().0 += 1;
    }),
    ("another height", |c| c.ledger.spans[0].height += 1),
    ("a block that is not booked", |c| {
        c.ledger.blocks.values_mut().next().unwrap().booked = false;
    }),
    ("the hash of another record", |c| c.ledger.record[0] ^= 1),
    ("an output twice", |c| c.outputs.push(c.outputs[0].clone())),
    ("an output without its owner's signature", |c| {
        c.outputs[1].signature[0] ^= 1
    }),
    (
        "an output left out: its round was for another payee set",
        |c| {
            c.outputs.pop();
        },
    ),
    ("a round that was proposed on another ledger", |c| {
        c.signed.as_mut().unwrap().terms.inputs.ledger.hash[0] ^= 1;
    }),
    (
        "a round with other assignments than its transcript's",
        |c| {
            c.signed.as_mut().unwrap().terms.assignments = Default::default();
        },
    ),
    ("a payout of another output", |c| {
        c.signed.as_mut().unwrap().payout.input[0]
            .previous_output
            .vout = 1;
    }),
    ("a payout with a sat less to a payee", |c| {
        let output = &mut c.signed.as_mut().unwrap().payout.output[0];
        output.value -= bitcoin::Amount::ONE_SAT;
    }),
    ("a payout with two inputs", |c| {
        let input = &mut c.signed.as_mut().unwrap().payout.input;
        input.push(input[0].clone());
    }),
    ("a payout with a signature of 65 bytes", |c| {
        let input = &mut c.signed.as_mut().unwrap().payout.input[0];
        let long = [input.witness.nth(0).unwrap(), &[1]].concat();
        input.witness = bitcoin::Witness::from_slice(&[long]);
    }),
    ("a payout with something after its signature", |c| {
        let input = &mut c.signed.as_mut().unwrap().payout.input[0];
        input.witness.push([0x51]);
    }),
    ("a payout without its signature", |c| {
        c.signed.as_mut().unwrap().payout.input[0].witness.clear();
    }),
];

fn refusals(archive: &mut Archive) -> Vec<Refused> {
    let (honest, mut lies) = (&archive.checkpoint.clone(), Vec::new());
    for (what, spoil) in SPOILED {
        let mut message = honest.to_wire();
        spoil(&mut message);
        lies.push((what, message.encode_to_vec()));
    }
    for (what, lie) in LIES {
        let mut checkpoint = honest.clone();
        lie(&mut checkpoint);
        lies.push((what, checkpoint.encode()));
    }
    let rounds = false_states::rounds(archive);
    lies.extend(rounds.iter().map(|(what, round)| (what, round.encode())));
    let file = honest.encode();
    let refused = |(what, bytes): (&&str, Vec<u8>)| Refused {
        what: (*what).into(),
        file: 0,
        changes: Patch::between(&file, &bytes),
        cid: FileId::of(&bytes).to_string(),
        refused: start(&bytes).expect_err(what),
    };
    lies.into_iter().map(refused).collect()
}

impl Vector for File {
    fn generate() -> Self {
        let mut archive = Archive::new();
        let signed = archive.checkpoint.clone();
        let alone = Checkpoint {
            signed: None,
            ..signed.clone()
        };
        let what = [
            "after window 2 of segments.json, with a round that was signed on it",
            "the same without a round: the coordinator's word alone",
        ];
        Self {
            files: vec![
                Published::of(what[0], &signed),
                Published::of(what[1], &alone),
            ],
            met: {
                let (alone, window) = (alone.encode(), archive.segments[1].encode());
                let met = false_states::states(&archive);
                let met = met.iter().map(|met| MetCase::of(met, &alone, &window));
                met.collect()
            },
            window: hex::encode(archive.segments[1].encode()),
            refused: refusals(&mut archive),
        }
    }

    fn check(&self) {
        let files = self.files.iter().map(|file| hex::decode(&file.bytes));
        let files: Vec<Vec<u8>> = files.collect::<Result<_, _>>().unwrap();
        for (file, published) in files.iter().zip(&self.files) {
            assert_eq!(FileId::of(file).to_string(), published.cid);
            let checkpoint = Checkpoint::decode(file).unwrap();
            assert_eq!(checkpoint.encode(), *file, "{}", published.what);
            assert_eq!(start(file), Ok(published.signed), "{}", published.what);
            let (ledger, roster) = checkpoint.check().unwrap();
            assert_eq!(ledger.seq().0, published.window);
            assert_eq!(hex::encode(ledger.head().hash), published.head);
            assert_eq!(hex::encode(roster.digest()), published.roster_digest);
        }
        for lie in &self.refused {
            let changed = lie.changes.apply(&files[lie.file]);
            assert_eq!(FileId::of(&changed).to_string(), lie.cid, "{}", lie.what);
            assert_eq!(start(&changed), Err(lie.refused.clone()), "{}", lie.what);
        }
        let window = hex::decode(&self.window).unwrap();
        for met in &self.met {
            let (state, file) = (met.checkpoint.apply(&files[1]), met.window.apply(&window));
            assert_eq!(meet(&state, &file), met.refused, "{}", met.what);
        }
    }
}
