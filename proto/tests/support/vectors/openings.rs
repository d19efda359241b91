//! openings.json: the shares of a window opened at positions, and openings that show that a record is false.

use serde::{Deserialize, Serialize};
use tutti_proto::id::{LaneIndex, RoundId};
use tutti_proto::share::{Node, Opening, Openings, ShareRecord, ShareTree, Side, Step};
use tutti_proto::window::{Tally, WindowRecord};
use tutti_proto::work::Work;

use super::super::bump;
use super::super::pool::Pool;
use super::types::{WorkEntry, bytes, read_tally, tally};
use super::{Vector, refused};

#[derive(Serialize, Deserialize)]
pub struct File {
    /// Shares of a window, 147 bytes each, in the order of their acceptance.
    shares: Vec<String>,
    shares_root: String,
    tally: Vec<WorkEntry>,
    opened: Vec<Opened>,
    refused: Vec<Refused>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Opened {
    position: String,
    share: String,
    path: Vec<StepRow>,
    /// Of its identity.
    shares: u64,
    account_path: Vec<StepRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StepRow {
    /// Whether the sibling is on the left.
    left: bool,
    hash: String,
    work: String,
}

/// An opening of the same root, or of another, under this tally.
#[derive(Serialize, Deserialize)]
struct Refused {
    what: String,
    shares_root: String,
    tally: Vec<WorkEntry>,
    opening: Opened,
    refused: String,
}

fn steps(path: &[Step]) -> Vec<StepRow> {
    let row = |step: &Step| StepRow {
        left: step.side == Side::Left,
        hash: hex::encode(step.sibling.hash),
        work: step.sibling.work.to_string(),
    };
    path.iter().map(row).collect()
}

fn read_steps(rows: &[StepRow]) -> Vec<Step> {
    let step = |row: &StepRow| Step {
        side: if row.left { Side::Left } else { Side::Right },
        sibling: Node {
            hash: bytes(&row.hash),
            work: Work(row.work.parse().unwrap()),
        },
    };
    rows.iter().map(step).collect()
}

impl Opened {
    fn of(position: u128, opening: &Opening) -> Self {
        Self {
            position: position.to_string(),
            share: hex::encode(opening.share.to_bytes()),
            path: steps(&opening.path),
            shares: opening.shares,
            account_path: steps(&opening.account_path),
        }
    }

    fn check(&self, root: &str, tally: &[WorkEntry]) -> Result<(), String> {
        let opening = Opening {
            share: ShareRecord::from_bytes(&bytes(&self.share)).unwrap(),
            path: read_steps(&self.path),
            shares: self.shares,
            account_path: read_steps(&self.account_path),
        };
        let ledger = Default::default();
        let record = WindowRecord {
            shares_root: bytes(root),
            tally: read_tally(tally),
            ..bump::record(&ledger, Vec::new(), Vec::new())
        };
        let position = Work(self.position.parse().unwrap());
        let checked = opening.check(&record, position);
        checked.map_err(|error| refused::opening(&error))
    }
}

/// Two shares of the first identity, one of the second, five of the third.
fn shares(pool: &mut Pool) -> Vec<ShareRecord> {
    let round = RoundId(pool.rng.bytes32());
    let mut identities = [1, 2, 3].map(|n| pool.identity(n));
    identities.sort();
    [
        (2, 8),
        (1, 10),
        (2, 8),
        (0, 0),
        (2, 8),
        (2, 8),
        (0, 40),
        (2, 8),
    ]
    .map(|(place, z): (usize, u8)| {
        let mut header = [0; 80];
        header[..32].copy_from_slice(&pool.rng.bytes32());
        ShareRecord {
            identity: identities[place],
            round,
            lane: LaneIndex(1),
            z,
            header,
        }
    })
    .into()
}

/// The first position of everybody, the last of all, and those about the ends of single shares.
fn positions(tally: &Tally, shares: &[ShareRecord]) -> Vec<u128> {
    let mut all = Vec::new();
    let mut before = 0;
    for (who, work) in tally {
        let own = shares.iter().filter(|share| share.identity == *who);
        let mut at = before;
        for share in own {
            all.push(at);
            at += 1 << share.z;
        }
        before += work.0;
    }
    all.push(before - 1);
    all
}

/// How an opening, the root or the tally is falsified.
type Lie = fn(&mut Refused);

const LIES: &[(&str, Lie)] = &[
    ("the position after the share's last", |r| {
        r.opening.position = (r.opening.position.parse::<u128>().unwrap() + 256).to_string();
    }),
    ("the position before the share's first", |r| {
        r.opening.position = (r.opening.position.parse::<u128>().unwrap() - 1).to_string();
    }),
    ("another root", |r| r.shares_root = "01".repeat(32)),
    ("a sibling on the other side", |r| {
        r.opening.path[0].left ^= true
    }),
    ("a sibling with more work", |r| {
        r.opening.path[0].work = "257".into()
    }),
    ("a step too few", |r| {
        r.opening.path.pop();
    }),
    ("another number of shares", |r| r.opening.shares += 1),
    ("a sibling of its account with more work", |r| {
        let work = &mut r.opening.account_path[0].work;
        *work = (work.parse::<u128>().unwrap() + 1).to_string();
    }),
    ("a record that gives its owner more work", |r| more(r, true)),
    ("a record that gives somebody else more work", |r| {
        more(r, false)
    }),
    ("a record that gives its owner none", |r| {
        let owner = r.opening.share[..64].to_string();
        r.tally.retain(|entry| entry.identity != owner);
    }),
];

/// An expected hash more for the owner, or for whoever comes first beside it.
fn more(refused: &mut Refused, owner: bool) {
    let who = &refused.opening.share[..64];
    let mut entries = refused.tally.iter_mut();
    let entry = entries.find(|entry| (entry.identity == who) == owner);
    let entry = entry.unwrap();
    entry.work = (entry.work.parse::<u128>().unwrap() + 1).to_string();
}

impl Vector for File {
    fn generate() -> Self {
        let mut pool = Pool::new("tutti vectors: openings", 3);
        let shares = shares(&mut pool);
        let tree = ShareTree::of(&shares).unwrap();
        let all = Openings::of(&shares).unwrap();
        let work = tree.tally();
        let opened = positions(&work, &shares).into_iter();
        let opened: Vec<Opened> = opened
            .map(|position| Opened::of(position, &all.at(Work(position)).unwrap()))
            .collect();
        // The third share of whoever has five, who is the last of the tally.
        let owner = shares[0].identity;
        let third = opened
            .iter()
            .filter(|o| o.share.starts_with(&hex::encode(owner.as_bytes())));
        let third = third.clone().nth(2).unwrap();
        let root = hex::encode(tree.root());
        let refused = LIES.iter().map(|(what, lie)| {
            let mut refused = Refused {
                what: (*what).into(),
                shares_root: root.clone(),
                tally: tally(&work),
                opening: third.clone(),
                refused: String::new(),
            };
            lie(&mut refused);
            let Refused {
                shares_root,
                tally,
                opening,
                ..
            } = &refused;
            refused.refused = opening.check(shares_root, tally).expect_err(what);
            refused
        });
        Self {
            refused: refused.collect(),
            shares: shares
                .iter()
                .map(|share| hex::encode(share.to_bytes()))
                .collect(),
            shares_root: root,
            tally: tally(&work),
            opened,
        }
    }

    fn check(&self) {
        let share = |hex: &String| ShareRecord::from_bytes(&bytes(hex)).unwrap();
        let shares: Vec<ShareRecord> = self.shares.iter().map(share).collect();
        let tree = ShareTree::of(&shares).unwrap();
        assert_eq!(hex::encode(tree.root()), self.shares_root);
        assert_eq!(tree.tally(), read_tally(&self.tally));
        let all = Openings::of(&shares).unwrap();
        for opened in &self.opened {
            let position = opened.position.parse().unwrap();
            let made = all.at(Work(position)).unwrap();
            assert_eq!(Opened::of(position, &made), *opened);
            assert_eq!(opened.check(&self.shares_root, &self.tally), Ok(()));
        }
        for lie in &self.refused {
            let got = lie.opening.check(&lie.shares_root, &lie.tally);
            assert_eq!(got, Err(lie.refused.clone()), "{}", lie.what);
        }
    }
}
