//! judged.json: headers under the terms of a round: the share, or the code and the two numbers of its refusal.

use serde::{Deserialize, Serialize};
use tutti_proto::id::LaneIndex;
use tutti_proto::params::PoolName;
use tutti_proto::segment::Segment;
use tutti_proto::terms::{CheckedTerms, Rolled, RoundTerms};
use tutti_proto::wire::{FromWire, ToWire};

use super::super::archive::{Archive, mine};
use super::Vector;
use super::types::identity;

#[derive(Serialize, Deserialize)]
pub struct File {
    /// Messages `RoundTerms`: those of window 2 of segments.json, and the same with a header version that is
    /// negative.
    terms: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    what: String,
    /// Which, from 0.
    terms: usize,
    identity: String,
    lane: u16,
    version: i32,
    time: u32,
    nonce: u32,
    #[serde(flatten)]
    judged: Judged,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Judged {
    Share {
        /// 147 bytes.
        record: String,
        hash: String,
    },
    Refused {
        refused: String,
        got: u64,
        want: u64,
    },
}

fn judge(terms: &CheckedTerms, case: &Case) -> Judged {
    let rolled = Rolled {
        lane: LaneIndex(case.lane),
        version: case.version,
        time: case.time,
        nonce: case.nonce,
    };
    match terms.judge(&identity(&case.identity), &rolled) {
        Ok(judged) => Judged::Share {
            record: hex::encode(judged.record.to_bytes()),
            hash: hex::encode(judged.hash),
        },
        Err(refusal) => Judged::Refused {
            refused: refusal.code.token().into(),
            got: refusal.got,
            want: refusal.want,
        },
    }
}

/// The terms of a round of their own pool.
fn read(terms: &str) -> CheckedTerms {
    let terms = RoundTerms::decode(&hex::decode(terms).unwrap()).unwrap();
    let pool: PoolName = terms.params.name();
    terms.check(&pool).unwrap()
}

/// How a right share is changed.
type Change = fn(&mut Rolled);

const CHANGES: &[(&str, Change)] = &[
    ("as it was found", |_| {}),
    ("bit 0 of the version", |r| r.version ^= 1),
    ("bit 31 of the version", |r| r.version ^= i32::MIN),
    (
        "bits 12 and 29 of the version, of which none may be rolled",
        |r| r.version ^= 0x2000_1000,
    ),
    ("bit 31 of the version, on a lane that there is not", |r| {
        r.version ^= i32::MIN;
        r.lane = LaneIndex(9);
    }),
    (
        "all rollable bits of the version, which is another's slice",
        |r| r.version ^= 0x1fff_e000,
    ),
    ("a lane that there is not", |r| r.lane = LaneIndex(2)),
    ("a lane that there is not, too late", |r| {
        r.lane = LaneIndex(2);
        r.time += 1_000;
    }),
    ("the last second", |r| r.time += 600),
    ("a second too late", |r| r.time += 601),
    ("a second too early", |r| r.time -= 1),
    ("the next nonce", |r| r.nonce += 1),
];

fn cases(archive: &Archive, place: usize, terms: &CheckedTerms) -> Vec<Case> {
    let (share, found) = mine(&archive.pool, terms, 2, 0, 8);
    let who = hex::encode(found.record.identity.as_bytes());
    let mut cases = Vec::new();
    let case = |what: &str, identity: &str, rolled: Rolled| {
        let mut case = Case {
            what: what.into(),
            terms: place,
            identity: identity.into(),
            lane: rolled.lane.0,
            version: rolled.version,
            time: rolled.time,
            nonce: rolled.nonce,
            judged: Judged::Share {
                record: String::new(),
                hash: String::new(),
            },
        };
        case.judged = judge(terms, &case);
        case
    };
    for (what, change) in CHANGES {
        let mut rolled = share.rolled;
        change(&mut rolled);
        cases.push(case(what, &who, rolled));
    }
    let stranger = hex::encode(archive.pool.identity(0).as_bytes());
    cases.push(case("of one who has no slice", &stranger, share.rolled));
    cases
}

impl Vector for File {
    fn generate() -> Self {
        let archive = Archive::new();
        let second: &Segment = &archive.segments[1];
        let first = second.parts[0].terms[0].clone();
        let mut negative = first.clone();
        negative.header.version = 0xe000_0004_u32 as i32;
        let terms = [first, negative].map(|terms| hex::encode(terms.encode()));
        let both = terms.iter().enumerate();
        let both = both.map(|(place, terms)| cases(&archive, place, &read(terms)));
        Self {
            cases: both.flatten().collect(),
            terms: terms.into(),
        }
    }

    fn check(&self) {
        for case in &self.cases {
            let terms = read(&self.terms[case.terms]);
            assert_eq!(judge(&terms, case), case.judged, "{}", case.what);
        }
    }
}
