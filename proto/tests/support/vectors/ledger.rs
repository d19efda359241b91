//! ledger.json: records, heads and weights; and a long ledger whose windows are merged.

use serde::{Deserialize, Serialize};
use tutti_proto::id::Identity;
use tutti_proto::window::{Booking, Ledger, Tally, WindowRecord};
use tutti_proto::work::Work;

use super::super::bump::Bump;
use super::super::pool::Pool;
use super::Vector;
use super::types::{
    BookedBlock, CarryEntry, Window, WorkEntry, carries, identity, read_carries, read_tally, tally,
};

#[derive(Serialize, Deserialize)]
pub struct File {
    empty_head: String,
    records: Vec<Step>,
    weights: Vec<Weights>,
    /// Weights of epoch scoring, after each record.
    epochs: Vec<Vec<WorkEntry>>,
    long: Long,
}

/// A record, its hash, and the state after it.
#[derive(Serialize, Deserialize)]
struct Step {
    record: Window,
    record_hash: String,
    head: String,
    carry: Vec<CarryEntry>,
}

/// Weights after the last record.
#[derive(Serialize, Deserialize)]
struct Weights {
    depth: String,
    weights: Vec<WorkEntry>,
}

/// Window n has height floor(n / 50), no shares, 32 zero bytes as root, no bookings, and the tally
/// {a: n mod 5, b: 3}, entries of zero left out.
#[derive(Serialize, Deserialize)]
struct Long {
    a: String,
    b: String,
    checkpoints: Vec<Checkpoint>,
    weights: Vec<Weights>,
    epoch: Vec<WorkEntry>,
    /// Booked in window 301, and in no other.
    booking: BookedBlock,
    /// After many more windows, of which no other books a block.
    later: Vec<Later>,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    windows: u64,
    head: String,
    /// Level and newest window of each span, oldest first.
    spans: Vec<(u8, u64)>,
}

/// Once a span of level 2 is made, and once the block is forgotten.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Later {
    windows: u64,
    head: String,
    /// How many spans of each level from 0.
    spans: Vec<usize>,
    /// How many blocks are remembered.
    blocks: usize,
}

fn weights(ledger: &Ledger, depth: u128) -> Weights {
    Weights {
        depth: depth.to_string(),
        weights: tally(&ledger.weights(Work(depth)).unwrap()),
    }
}

fn check_weights(ledger: &Ledger, expected: &[Weights]) {
    for Weights { depth, weights } in expected {
        let got = ledger.weights(Work(depth.parse().unwrap())).unwrap();
        assert_eq!(got, read_tally(weights), "depth {depth}");
    }
}

fn grow(ledger: &mut Ledger, a: Identity, b: Identity, bookings: Vec<Booking>) {
    let head = ledger.head();
    let n = head.seq.0 + 1;
    let mut tally = Tally::from([(a, Work(u128::from(n % 5))), (b, Work(3))]);
    tally.retain(|_, work| *work != Work::ZERO);
    let record = WindowRecord {
        seq: head.seq.next(),
        height: u32::try_from(n / 50).unwrap(),
        previous: head.hash,
        shares_root: [0; 32],
        shares: 0,
        tally,
        bookings,
        credits: Vec::new(),
    };
    ledger.append(&record).unwrap();
}

const CHECKPOINTS: [u64; 7] = [1, 127, 128, 129, 191, 192, 300];
const DEPTHS: [u128; 6] = [1, 100, 500, 1_000, 1_499, u128::MAX];

/// Before and after the first merge to level 2; before and after the block of window 301 is forgotten.
const LATER: [u64; 4] = [8_255, 8_256, 16_684, 16_685];

/// Goes on after the last of [`CHECKPOINTS`].
fn later(mut long: Ledger, a: Identity, b: Identity, booking: &Booking, to: &[u64]) -> Vec<Later> {
    let mut bookings = vec![booking.clone()];
    let mut after = |windows: &u64| {
        while long.seq().0 < *windows {
            grow(&mut long, a, b, std::mem::take(&mut bookings));
        }
        let snapshot = long.snapshot();
        let mut spans = Vec::new();
        for span in &snapshot.spans {
            let level = usize::from(span.level);
            spans.resize(spans.len().max(level + 1), 0);
            spans[level] += 1;
        }
        Later {
            windows: *windows,
            head: hex::encode(long.head().hash),
            spans,
            blocks: snapshot.blocks.len(),
        }
    };
    to.iter().map(&mut after).collect()
}

fn checkpoint(ledger: &Ledger) -> Checkpoint {
    let head = ledger.head();
    let spans = ledger.snapshot().spans;
    Checkpoint {
        windows: head.seq.0,
        head: hex::encode(head.hash),
        spans: spans.iter().map(|span| (span.level, span.last.0)).collect(),
    }
}

impl Vector for File {
    fn generate() -> Self {
        let mut pool = Pool::new("tutti vectors: ledger", 4);
        pool.close_window(&[(1, 100), (2, 300)], &[]);
        pool.close_window(&[], &[]);
        pool.height = 151;
        pool.close_window(&[(2, 100), (3, 1 << 40)], &[(1, 250), (2, -77)]);
        pool.close_window(&[(1, u128::MAX >> 2), (4, 7)], &[(1, -250), (3, 1)]);
        pool.close_window(&[(4, 1 << 20), (1, 3)], &[]);
        pool.height = 152;
        pool.close_window(&[], &[]);
        pool.height = 150;
        pool.close_window(&[(4, 9)], &[]);
        // The second block is lost, is back, and is lost again to another of its height.
        let found = pool.records[2].bookings[0].clone();
        pool.close(&[(2, 5)], vec![found.undo().unwrap()], Vec::new());
        pool.close(&[(2, 6)], vec![found.clone()], Vec::new());
        let other = Booking {
            block: pool.rng.bytes32(),
            carry: [(pool.identity(2), 40)].into(),
            ..found.clone()
        };
        let undo = found.undo().unwrap();
        pool.close(&[(2, 7)], vec![undo, other], Vec::new());
        // A block whose payout its second payee bumps, and two windows later the credit.
        let payees = [1, 2, 3].map(|n| pool.identity(n));
        let bump = Bump::new(&payees, &[1], 3_000);
        pool.close(&[(2, 8)], vec![bump.booking()], Vec::new());
        pool.close(&[(2, 9)], Vec::new(), Vec::new());
        let credit = bump.credit().unwrap();
        pool.close(&[(2, 10)], Vec::new(), credit.into_iter().collect());
        let mut ledger = Ledger::default();
        let empty_head = hex::encode(ledger.head().hash);
        let (mut records, mut epochs) = (Vec::new(), Vec::new());
        for record in &pool.records {
            ledger.append(record).unwrap();
            records.push(Step {
                record: Window::of(record),
                record_hash: hex::encode(record.digest()),
                head: hex::encode(ledger.head().hash),
                carry: carries(ledger.carries()),
            });
            epochs.push(tally(&ledger.epoch_weights().unwrap()));
        }
        let depths = [
            1,
            1_000,
            1 << 20,
            (1 << 20) + 3,
            1 << 21,
            u128::MAX >> 1,
            u128::MAX,
        ];
        let (a, b) = (pool.identity(1), pool.identity(2));
        let mut long = Ledger::default();
        let checkpoints = CHECKPOINTS.map(|windows| {
            while long.head().seq.0 < windows {
                grow(&mut long, a, b, Vec::new());
            }
            checkpoint(&long)
        });
        Self {
            empty_head,
            records,
            epochs,
            weights: depths
                .iter()
                .map(|depth| weights(&ledger, *depth))
                .collect(),
            long: Long {
                a: hex::encode(a.as_bytes()),
                b: hex::encode(b.as_bytes()),
                checkpoints: checkpoints.into(),
                weights: DEPTHS.iter().map(|depth| weights(&long, *depth)).collect(),
                epoch: tally(&long.epoch_weights().unwrap()),
                booking: BookedBlock::of(&found),
                later: later(long, a, b, &found, &LATER),
            },
        }
    }

    fn check(&self) {
        let mut ledger = Ledger::default();
        assert_eq!(hex::encode(ledger.head().hash), self.empty_head);
        assert_eq!(self.records.len(), self.epochs.len());
        for (step, epoch) in self.records.iter().zip(&self.epochs) {
            let record = step.record.read();
            assert_eq!(hex::encode(record.digest()), step.record_hash);
            ledger.append(&record).unwrap();
            assert_eq!(hex::encode(ledger.head().hash), step.head);
            assert_eq!(*ledger.carries(), read_carries(&step.carry));
            assert_eq!(ledger.epoch_weights().unwrap(), read_tally(epoch));
            let snapshot = ledger.snapshot();
            assert_eq!(
                Ledger::from_snapshot(snapshot, &ledger.head()).unwrap(),
                ledger
            );
        }
        check_weights(&ledger, &self.weights);
        let (a, b) = (identity(&self.long.a), identity(&self.long.b));
        let mut long = Ledger::default();
        for expected in &self.long.checkpoints {
            while long.head().seq.0 < expected.windows {
                grow(&mut long, a, b, Vec::new());
            }
            let got = checkpoint(&long);
            assert_eq!(
                got.head, expected.head,
                "after {} windows",
                expected.windows
            );
            assert_eq!(got.spans, expected.spans);
        }
        check_weights(&long, &self.long.weights);
        assert_eq!(long.epoch_weights().unwrap(), read_tally(&self.long.epoch));
        let windows: Vec<u64> = self.long.later.iter().map(|later| later.windows).collect();
        let booking = self.long.booking.read();
        let got = later(long, a, b, &booking, &windows);
        assert_eq!(got, self.long.later);
    }
}
