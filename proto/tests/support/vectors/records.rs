//! records.json: a chain of records, each with what it is refused for if it says something else; and a
//! record beside the shares that it counts.

use serde::{Deserialize, Serialize};
use tutti_proto::follower::check_record;
use tutti_proto::id::{LaneIndex, RoundId};
use tutti_proto::share::{ShareRecord, ShareTree};
use tutti_proto::window::{Booking, Ledger, WindowRecord};
use tutti_proto::work::Work;

use super::super::bump::Bump;
use super::super::pool::Pool;
use super::credited::Credited;
use super::types::{Window, bytes};
use super::{Vector, false_credits, refused};

#[derive(Serialize, Deserialize)]
pub struct File {
    /// From the empty ledger on.
    records: Vec<Step>,
    /// Records that cannot be appended.
    refused: Vec<Refused>,
    /// Shares of a window, 147 bytes each, in the order of their acceptance.
    shares: Vec<String>,
    /// The record that counts them.
    counted: Hashed,
    /// Records of that window that count others.
    miscounted: Vec<Miscounted>,
}

#[derive(Serialize, Deserialize)]
struct Step {
    record: Window,
    record_hash: String,
    state: String,
    head: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    what: String,
    /// How many of the records come before it.
    after: usize,
    #[serde(flatten)]
    hashed: Hashed,
    refused: String,
}

#[derive(Serialize, Deserialize)]
struct Miscounted {
    what: String,
    #[serde(flatten)]
    hashed: Hashed,
    refused: String,
}

/// A record, and its hash: whatever it says, it has one.
#[derive(Serialize, Deserialize)]
struct Hashed {
    record: Window,
    record_hash: String,
}

impl Hashed {
    fn of(record: &WindowRecord) -> Self {
        Self {
            record: Window::of(record),
            record_hash: hex::encode(record.digest()),
        }
    }

    fn read(&self) -> WindowRecord {
        let record = self.record.read();
        assert_eq!(hex::encode(record.digest()), self.record_hash);
        record
    }
}

impl Step {
    fn of(record: &WindowRecord, ledger: &Ledger) -> Self {
        Self {
            record: Window::of(record),
            record_hash: hex::encode(record.digest()),
            state: hex::encode(ledger.state()),
            head: hex::encode(ledger.head().hash),
        }
    }
}

/// The ledger after so many records.
pub fn ledger_after(records: &[WindowRecord]) -> Ledger {
    let mut ledger = Ledger::default();
    for record in records {
        ledger.append(record).unwrap();
    }
    ledger
}

/// How the ledger refuses it.
fn refusal(records: &[WindowRecord], record: &WindowRecord) -> String {
    let error = ledger_after(records).append(record).unwrap_err();
    refused::ledger(&error)
}

/// Work; a block is booked; another, whose payout is bumped; the first is lost; the bump is credited.
fn chain() -> (Pool, Bump) {
    let mut pool = Pool::new("tutti vectors: records", 3);
    let payees = [1, 2].map(|n| pool.identity(n));
    let bump = Bump::new(&payees, &[1], 3_000);
    pool.close_window(&[(1, 100), (2, 300)], &[]);
    pool.close_window(&[(1, 5)], &[(1, 250), (2, -77)]);
    let found = pool.records[1].bookings[0].clone();
    pool.close(&[], vec![bump.booking()], Vec::new());
    pool.close(&[(2, 9)], vec![found.undo().unwrap()], Vec::new());
    let credit = bump.credit().unwrap();
    pool.close(&[(3, 1 << 70)], Vec::new(), credit.into_iter().collect());
    (pool, bump)
}

/// What is wrong, after how many records, and the record.
pub type Lie = (&'static str, usize, WindowRecord);

/// The record that follows so many, with nothing but one booking.
fn booking(pool: &Pool, after: usize, booking: Booking) -> WindowRecord {
    super::super::bump::record(
        &ledger_after(&pool.records[..after]),
        vec![booking],
        Vec::new(),
    )
}

fn false_links(pool: &Pool) -> Vec<Lie> {
    let third = || pool.records[2].clone();
    let mut lies = vec![
        ("the record before it is not there", 1, third()),
        ("the same record again", 3, third()),
        ("its previous is the head before", 2, third()),
        ("work that sums to 2^128", 2, third()),
    ];
    lies[2].2.previous = pool.records[1].previous;
    let tally = [(1, u128::MAX), (2, 1)].map(|(n, work)| (pool.identity(n), Work(work)));
    lies[3].2.tally = tally.into();
    lies
}

fn false_bookings(pool: &Pool) -> Vec<Lie> {
    let found = pool.records[1].bookings[0].clone();
    let undo = found.undo().unwrap();
    let rival = Booking {
        block: [8; 32],
        ..found.clone()
    };
    let mut both = booking(pool, 2, undo.clone());
    both.bookings.push(found.clone());
    let mut lies = vec![
        ("a block that is booked", 2, booking(pool, 2, found.clone())),
        (
            "another block of a round of which one is booked",
            2,
            booking(pool, 2, rival),
        ),
        ("a block twice in one record, lost and found", 2, both),
        (
            "a block lost that never was booked",
            1,
            booking(pool, 1, undo.clone()),
        ),
        (
            "a block lost that is lost",
            4,
            booking(pool, 4, undo.clone()),
        ),
    ];
    let who = pool.identity(1);
    let mut others = [const { None }; 5].map(|_: Option<Booking>| undo.clone());
    *others[0].carry.get_mut(&who).unwrap() += 1;
    others[1].carry.remove(&who);
    others[2].round = RoundId([9; 32]);
    others[3].lane = LaneIndex(1);
    others[4].payouts = [9; 32];
    let whats = [
        "a block lost with a sat more",
        "a block lost with one change left out",
        "a block lost of another round",
        "a block lost of another lane",
        "a block lost with other payouts",
    ];
    for (what, other) in whats.into_iter().zip(others) {
        lies.push((what, 2, booking(pool, 2, other)));
    }
    let mut again = found.clone();
    *again.carry.get_mut(&who).unwrap() -= 1;
    lies.push((
        "a block found again with a sat less",
        4,
        booking(pool, 4, again),
    ));
    let mut most = Booking {
        block: [8; 32],
        round: RoundId([8; 32]),
        ..found
    };
    most.carry = [(who, i64::MAX)].into();
    lies.push(("a carry of 2^63 or more", 2, booking(pool, 2, most.clone())));
    most.undone = true;
    most.carry = [(who, i64::MIN)].into();
    lies.push((
        "a change lost that has no opposite",
        2,
        booking(pool, 2, most),
    ));
    lies
}

fn shares(pool: &mut Pool) -> Vec<ShareRecord> {
    let round = RoundId(pool.rng.bytes32());
    let mut share = |n: usize, z: u8| {
        let mut header = [0; 80];
        header[..32].copy_from_slice(&pool.rng.bytes32());
        ShareRecord {
            identity: pool.identity(n),
            round,
            lane: LaneIndex(1),
            z,
            header,
        }
    };
    vec![share(1, 8), share(2, 10), share(1, 8), share(1, 8)]
}

fn count(pool: &Pool, shares: &[ShareRecord]) -> WindowRecord {
    let tree = ShareTree::of(shares).unwrap();
    WindowRecord {
        shares: tree.shares(),
        shares_root: tree.root(),
        tally: tree.tally(),
        ..super::super::bump::record(&pool.ledger, Vec::new(), Vec::new())
    }
}

fn miscounted(pool: &Pool, shares: &[ShareRecord]) -> Vec<(&'static str, WindowRecord)> {
    let honest = count(pool, shares);
    let (worker, idler) = (pool.identity(1), pool.identity(3));
    let mut lies: Vec<(&'static str, WindowRecord)> = [
        "a share fewer",
        "an expected hash more",
        "one who worked is left out",
        "one who did nothing, with work 0",
        "another root",
    ]
    .map(|what| (what, honest.clone()))
    .into();
    lies[0].1.shares -= 1;
    lies[1].1.tally.get_mut(&worker).unwrap().0 += 1;
    lies[2].1.tally.remove(&worker);
    lies[3].1.tally.insert(idler, Work::ZERO);
    lies[4].1.shares_root[0] ^= 1;
    let mut swapped = shares.to_vec();
    swapped.swap(0, 2);
    lies.push((
        "the root of the shares in another order",
        count(pool, &swapped),
    ));
    lies
}

fn miscount(shares: &[ShareRecord], record: &WindowRecord) -> String {
    let tree = ShareTree::of(shares).unwrap();
    refused::follower(&check_record(&tree, record).unwrap_err())
}

impl Vector for File {
    fn generate() -> Self {
        let (mut pool, bump) = chain();
        let first = pool.records.len();
        let both = Credited::new(&pool);
        both.close(&mut pool);
        let mut ledger = Ledger::default();
        let mut step = |record: &WindowRecord| {
            ledger.append(record).unwrap();
            Step::of(record, &ledger)
        };
        let records = pool.records.iter().map(&mut step).collect();
        let credited = first - 1;
        let mut lies = [false_links(&pool), false_bookings(&pool)].concat();
        lies.extend(false_credits::all(&bump, &pool.records[credited], credited));
        lies.extend(both.lies(&pool, first));
        let refused = lies.into_iter().map(|(what, after, record)| Refused {
            what: what.into(),
            after,
            refused: refusal(&pool.records[..after], &record),
            hashed: Hashed::of(&record),
        });
        let refused = refused.collect();
        let shares = shares(&mut pool);
        let miscounted = miscounted(&pool, &shares);
        let miscounted = miscounted.into_iter().map(|(what, record)| Miscounted {
            what: what.into(),
            refused: miscount(&shares, &record),
            hashed: Hashed::of(&record),
        });
        Self {
            records,
            refused,
            counted: Hashed::of(&count(&pool, &shares)),
            miscounted: miscounted.collect(),
            shares: shares
                .iter()
                .map(|share| hex::encode(share.to_bytes()))
                .collect(),
        }
    }

    fn check(&self) {
        let mut ledger = Ledger::default();
        let mut records = Vec::new();
        for step in &self.records {
            let record = step.record.read();
            ledger.append(&record).unwrap();
            assert_eq!(hex::encode(record.digest()), step.record_hash);
            assert_eq!(hex::encode(ledger.state()), step.state);
            assert_eq!(hex::encode(ledger.head().hash), step.head);
            records.push(record);
        }
        for lie in &self.refused {
            let got = refusal(&records[..lie.after], &lie.hashed.read());
            assert_eq!(got, lie.refused, "{}", lie.what);
        }
        let share = |hex: &String| ShareRecord::from_bytes(&bytes(hex)).unwrap();
        let shares: Vec<ShareRecord> = self.shares.iter().map(share).collect();
        let tree = ShareTree::of(&shares).unwrap();
        assert_eq!(check_record(&tree, &self.counted.read()), Ok(()));
        for lie in &self.miscounted {
            let got = miscount(&shares, &lie.hashed.read());
            assert_eq!(got, lie.refused, "{}", lie.what);
        }
    }
}
