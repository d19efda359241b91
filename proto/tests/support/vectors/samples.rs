//! samples.json: answers to whoever asks for a few shares of a window: `SampleReply`, and what is refused of it.

use prost::Message;
use serde::{Deserialize, Serialize};
use tutti_proto::id::WindowSeq;
use tutti_proto::params::PoolName;
use tutti_proto::sample::{Sample, SampleError, SampledShare};
use tutti_proto::share::{Openings, ShareRecord, ShareTree};
use tutti_proto::terms::{CheckedTerms, Rolled, RoundTerms};
use tutti_proto::window::WindowRecord;
use tutti_proto::wire::{FromWire, ToWire, pb};
use tutti_proto::work::Work;

use super::super::archive::Archive;
use super::super::bump;
use super::patch::Patch;
use super::types::{WorkEntry, bytes, identity, read_tally, tally};
use super::{Vector, refused};

#[derive(Serialize, Deserialize)]
pub struct File {
    network: String,
    coordinator: String,
    /// Of window 2 of segments.json.
    reply: String,
    cases: Vec<Case>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Case {
    what: String,
    /// What the record says, as far as it matters.
    window: u64,
    shares_root: String,
    tally: Vec<WorkEntry>,
    positions: Vec<String>,
    changes: Patch,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

fn refusal(error: &SampleError) -> String {
    match error {
        SampleError::Count { .. } => "count".into(),
        SampleError::Terms(_) => "terms".into(),
        SampleError::Dangling(_) => "dangling".into(),
        SampleError::OldRound(_) => "old-round".into(),
        SampleError::Duplicate(_) => "duplicate".into(),
        SampleError::Share { refusal, .. } => refusal.code.token().into(),
        SampleError::Opening { error, .. } => refused::opening(error),
    }
}

impl Case {
    fn check(&self, pool: &PoolName, reply: &[u8]) -> Option<String> {
        let record = WindowRecord {
            seq: WindowSeq(self.window),
            shares_root: bytes(&self.shares_root),
            tally: read_tally(&self.tally),
            ..bump::record(&Default::default(), Vec::new(), Vec::new())
        };
        let position = |text: &String| Work(text.parse().unwrap());
        let positions: Vec<Work> = self.positions.iter().map(position).collect();
        let sample = match Sample::decode(&self.changes.apply(reply)) {
            Ok(sample) => sample,
            Err(error) => return Some(refused::message(&error)),
        };
        let checked = sample.check(pool, &record, &positions);
        checked.err().map(|error| refusal(&error))
    }
}

/// Shares of one round, as they are told and as they are recorded.
struct Shares {
    terms: RoundTerms,
    all: Vec<(Rolled, ShareRecord)>,
}

impl Shares {
    fn of(archive: &Archive) -> Self {
        let part = &archive.segments[1].parts[0];
        let terms: CheckedTerms = part.terms[0]
            .clone()
            .check(&archive.pool.params.name())
            .unwrap();
        let share = |share: &tutti_proto::segment::PackedShare| {
            let owner = terms.owners()[usize::try_from(share.owner).unwrap()];
            let judged = terms.judge(&owner, &share.rolled).unwrap();
            (share.rolled, judged.record)
        };
        Self {
            all: part.shares.iter().map(share).collect(),
            terms: terms.terms().clone(),
        }
    }

    fn records(&self) -> Vec<ShareRecord> {
        self.all.iter().map(|(_, record)| *record).collect()
    }

    fn reply(&self, positions: &[u128]) -> Sample {
        let openings = Openings::of(&self.records()).unwrap();
        let share = |position: &u128| {
            let opened = openings.at(Work(*position)).unwrap();
            let mut told = self.all.iter();
            let (rolled, _) = told.find(|(_, record)| *record == opened.share).unwrap();
            SampledShare {
                terms: 0,
                identity: opened.share.identity,
                rolled: *rolled,
                path: opened.path,
                shares: opened.shares,
                account_path: opened.account_path,
            }
        };
        Sample {
            terms: vec![self.terms.clone()],
            shares: positions.iter().map(share).collect(),
        }
    }

    fn case(&self, what: &str, positions: &[u128]) -> Case {
        let tree = ShareTree::of(&self.records()).unwrap();
        Case {
            what: what.into(),
            window: 2,
            shares_root: hex::encode(tree.root()),
            tally: tally(&tree.tally()),
            positions: positions.iter().map(u128::to_string).collect(),
            changes: Patch::between(&[], &[]),
            refused: None,
        }
    }
}

/// How the answer is spoiled.
type Spoil = fn(&mut pb::SampleReply);

const SPOILED: &[(&str, Spoil)] = &[
    ("an opening too few", |r| {
        r.openings.pop();
    }),
    ("two openings in another order", |r| r.openings.swap(0, 1)),
    ("an opening of terms that are not there", |r| {
        r.openings[1].terms = 1
    }),
    ("an opening of the last terms that there can be", |r| {
        r.openings[1].terms = 64
    }),
    ("an opening of terms beyond", |r| r.openings[1].terms = 65),
    ("terms with outputs worth a sat less", |r| {
        r.terms[0].outputs[0].sat -= 1
    }),
    ("another nonce", |r| r.openings[0].nonce += 1),
    ("a share a second too late", |r| {
        r.openings[0].time = r.terms[0].header.as_ref().unwrap().time_max + 1;
    }),
    ("another's share", |r| {
        r.openings[0].identity = r.openings[2].identity.clone();
    }),
    ("another number of shares", |r| r.openings[0].shares += 1),
    ("a step with work of 15 bytes", |r| {
        r.openings[0].path[0].work = vec![0; 15].into();
    }),
    ("a path of 65 steps", |r| {
        let step = r.openings[0].path[0].clone();
        r.openings[0].path = vec![step; 65];
    }),
    ("an identity that is no key", |r| {
        r.openings[0].identity = vec![0xff; 32].into();
    }),
];

fn cases(shares: &Shares, reply: &Sample) -> Vec<Case> {
    let file = reply.encode();
    let honest = shares.case("as it is answered", &POSITIONS);
    let mut cases = vec![honest.clone()];
    for (what, spoil) in SPOILED {
        let mut message = reply.to_wire();
        spoil(&mut message);
        let mut case = honest.clone();
        case.what = (*what).into();
        case.changes = Patch::between(&file, &message.encode_to_vec());
        cases.push(case);
    }
    for (what, window) in [
        ("in the round's own window", 1),
        ("in the 1,001st window after it", 1_002),
        ("in the 1,002nd window after it", 1_003),
    ] {
        let mut case = honest.clone();
        (case.what, case.window) = (what.into(), window);
        cases.push(case);
    }
    let mut other = honest.clone();
    other.what = "a record of another root".into();
    other.shares_root = "01".repeat(32);
    cases.push(other);
    // A window that counts its first share twice.
    let twice = Shares {
        terms: shares.terms.clone(),
        all: vec![shares.all[0], shares.all[0]],
    };
    let positions = [0, 256];
    let mut case = twice.case("a header that stands in two places", &positions);
    case.changes = Patch::between(&file, &twice.reply(&positions).encode());
    cases.push(case);
    cases
}

/// Of both who worked, and one position twice.
const POSITIONS: [u128; 4] = [0, 300, 600, 600];

impl Vector for File {
    fn generate() -> Self {
        let archive = Archive::new();
        let pool = archive.pool.params.name();
        let shares = Shares::of(&archive);
        let reply = shares.reply(&POSITIONS);
        let bytes = reply.encode();
        let mut cases = cases(&shares, &reply);
        for case in &mut cases {
            case.refused = case.check(&pool, &bytes);
        }
        Self {
            network: hex::encode(pool.network.magic().to_bytes()),
            coordinator: hex::encode(pool.coordinator.as_bytes()),
            reply: hex::encode(bytes),
            cases,
        }
    }

    fn check(&self) {
        let magic = bitcoin::p2p::Magic::from_bytes(bytes(&self.network));
        let pool = PoolName {
            network: bitcoin::Network::from_magic(magic).unwrap(),
            coordinator: identity(&self.coordinator),
        };
        let reply = hex::decode(&self.reply).unwrap();
        assert_eq!(Sample::decode(&reply).unwrap().encode(), reply);
        for case in &self.cases {
            assert_eq!(case.check(&pool, &reply), case.refused, "{}", case.what);
        }
    }
}
