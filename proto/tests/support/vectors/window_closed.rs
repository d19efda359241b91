//! window_closed.json: a closed window as it is told to whoever has the payee set.

use bitcoin::consensus::encode::serialize;
use prost::Message;
use serde::{Deserialize, Serialize};
use tutti_proto::id::Identity;
use tutti_proto::message::{SignedHead, WindowClosed};
use tutti_proto::roster::Roster;
use tutti_proto::window::{Ledger, Tally, WindowRecord};
use tutti_proto::wire::{FromWire, ToWire, pb};
use tutti_proto::work::Work;

use super::super::bump::Bump;
use super::super::pool::Pool;
use super::types::{Output, Window, identity};
use super::{Vector, refused};

#[derive(Serialize, Deserialize)]
pub struct File {
    coordinator: String,
    /// The payee set, in an order in which it can be added.
    outputs: Vec<Output>,
    /// Whom a place may mean: 0 is the first.
    identities: Vec<String>,
    told: Vec<Told>,
    refused: Vec<Refused>,
}

/// What the bytes say to whoever has the payee set.
#[derive(Serialize, Deserialize)]
struct Told {
    what: String,
    message: String,
    /// Whether these are the bytes that the coordinator's encoder makes of it.
    encoded: bool,
    record: Window,
    record_hash: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    what: String,
    message: String,
    refused: String,
}

fn roster(coordinator: &str, outputs: &[Output]) -> Roster {
    let mut roster = Roster::default();
    for output in outputs {
        let output = output.read();
        roster
            .restore_output(&identity(coordinator), output)
            .unwrap();
    }
    roster
}

/// The record, or why there is none.
fn read(
    message: &[u8],
    coordinator: &Identity,
    roster: &Roster,
) -> Result<(WindowClosed, WindowRecord), String> {
    let closed = WindowClosed::decode(message).map_err(|error| refused::message(&error))?;
    let signed = closed.head.verify(coordinator);
    signed.map_err(|_| "unsigned-head".to_owned())?;
    let record = closed.record(roster);
    let record = record.map_err(|error| refused::place(&error))?;
    Ok((closed, record))
}

/// Six payees, one with two outputs, the coordinator's among them; the last has no output.
fn pool() -> Pool {
    let mut pool = Pool::new("tutti vectors: window_closed", 5);
    pool.add_output(3, 35);
    let stranger = pool.identity(5);
    let (serial_id, _) = pool.roster.active(&stranger).unwrap();
    pool.roster.remove_output(stranger, serial_id).unwrap();
    pool
}

/// A first window with a booking.
fn record(pool: &mut Pool, tally: Tally) -> WindowRecord {
    (pool.ledger, pool.records) = Default::default();
    pool.close_window(&[], &[(1, 250), (2, -77)]);
    WindowRecord {
        tally,
        shares: 7,
        ..pool.records.remove(0)
    }
}

/// Which of the payee set, in ascending order.
fn tally(roster: &Roster, work: &[(usize, u128)]) -> Tally {
    let who = |place: usize| *roster.identities().nth(place).unwrap();
    let entries = work.iter().map(|(place, work)| (who(*place), Work(*work)));
    entries.collect()
}

fn head(pool: &Pool, record: &WindowRecord) -> SignedHead {
    let mut ledger = Ledger::default();
    ledger.append(record).unwrap();
    SignedHead::sign(&pool.keys[0], ledger.head(), &[0; 32])
}

impl Told {
    fn of(what: &str, message: Vec<u8>, pool: &Pool) -> Self {
        let (coordinator, roster) = (&pool.params.coordinator, &pool.roster);
        let (closed, record) = read(&message, coordinator, roster).unwrap();
        Self {
            what: what.into(),
            encoded: closed.encode() == message,
            message: hex::encode(message),
            record_hash: hex::encode(record.digest()),
            record: Window::of(&record),
        }
    }
}

/// With work of the payees at places 1 and 2, and of one who is none: by places, and without.
fn three(pool: &mut Pool) -> [WindowClosed; 2] {
    let roster = pool.roster.clone();
    let mut work = tally(&roster, &[(1, 8), (2, 9)]);
    work.insert(pool.identity(5), Work(4));
    let record = record(pool, work);
    let head = head(pool, &record);
    [&roster, &Roster::default()].map(|roster| WindowClosed::new(record.clone(), head, roster))
}

fn told(pool: &mut Pool) -> Vec<Told> {
    let roster = pool.roster.clone();
    let mut made = Vec::new();
    let cases: [(&str, &[(usize, u128)]); 4] = [
        ("nobody has worked", &[]),
        (
            "the first, the third and the last of the payee set",
            &[(0, 1), (2, 300), (4, u128::from(u64::MAX))],
        ),
        (
            "all of them: nothing is skipped",
            &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)],
        ),
        ("work of 2^64 stands in the record", &[(1, 1 << 64), (3, 9)]),
    ];
    for (what, work) in cases {
        let record = record(pool, tally(&roster, work));
        let head = head(pool, &record);
        let closed = WindowClosed::new(record, head, &roster);
        made.push(Told::of(what, closed.encode(), pool));
    }
    let [closed, plain] = three(pool);
    let what = "work of an identity that is not of the payee set stands in the record";
    made.push(Told::of(what, closed.encode(), pool));
    let what = "the same, all of it in the record: places may be used, and need not";
    made.push(Told::of(what, plain.encode(), pool));
    let mut credited = closed.to_wire();
    proof(&mut credited);
    let what = "the same with a credit";
    made.push(Told::of(what, credited.encode_to_vec(), pool));
    let mut unpacked = Vec::new();
    let wire = closed.to_wire();
    for (key, values) in [
        (0x18, wire.skipped.iter().map(|n| u64::from(*n)).collect()),
        (0x20, wire.work.clone()),
    ] {
        for value in values {
            unpacked.push(key);
            // A number below 128 in two bytes.
            unpacked.extend([0x80 | u8::try_from(value).unwrap(), 0x00]);
        }
    }
    let rest = pb::WindowClosed {
        skipped: Vec::new(),
        work: Vec::new(),
        ..wire
    };
    unpacked.extend(rest.encode_to_vec());
    let what = "the same without it, lists first, not packed, their numbers longer than need be, as protobuf allows";
    made.push(Told::of(what, unpacked, pool));
    made
}

type Spoil = fn(&mut pb::WindowClosed);

/// What is changed in the message of a record with work of the payees at places 1 and 2, and of one who is none.
const SPOILED: &[(&str, Spoil)] = &[
    ("the second place is one beyond the last", |m| {
        m.skipped = vec![1, 3]
    }),
    ("the first place is far beyond the last", |m| {
        m.skipped = vec![u32::MAX, 0]
    }),
    ("more work than the payee set has identities", |m| {
        m.skipped = vec![0; 6];
        m.work = vec![1; 6];
    }),
    ("more places than work", |m| m.skipped.push(0)),
    ("more work than places", |m| m.work.push(1)),
    ("no record", |m| m.record = None),
    ("no head", |m| m.head = None),
    ("the record's tally names one twice", |m| {
        let tally = &mut m.record.as_mut().unwrap().tally;
        tally.push(tally[0].clone());
    }),
    ("work in the record's tally of 15 bytes", |m| {
        let tally = &mut m.record.as_mut().unwrap().tally;
        tally[0].work = vec![1; 15].into();
    }),
    ("an identity in the record's tally that is no key", |m| {
        let tally = &mut m.record.as_mut().unwrap().tally;
        tally[0].identity = vec![0xff; 32].into();
    }),
    ("a previous head of 31 bytes", |m| {
        m.record.as_mut().unwrap().previous = vec![1; 31].into();
    }),
    ("a shares root of 33 bytes", |m| {
        m.record.as_mut().unwrap().shares_root = vec![1; 33].into();
    }),
    ("the changes of a booking descend by identity", |m| {
        m.record.as_mut().unwrap().bookings[0].carry.reverse();
    }),
    ("a booking on lane 256", |m| {
        m.record.as_mut().unwrap().bookings[0].lane = 256
    }),
    ("a booking's header of 79 bytes", |m| {
        m.record.as_mut().unwrap().bookings[0].header = vec![0; 79].into();
    }),
    ("a credit whose payout has its witness", |m| {
        let payout = serialize(&bump(m).payout);
        proof(m).payout = payout.into();
    }),
    ("a credit whose child has a byte after it", |m| {
        let child = proof(m).child.to_vec();
        proof(m).child = [&child[..], &[0]].concat().into();
    }),
    (
        "a credit whose coinbase counts its inputs in three bytes",
        |m| {
            let coinbase = proof(m).coinbase.to_vec();
            proof(m).coinbase = [&coinbase[..4], &[0xfd, 1, 0], &coinbase[5..]]
                .concat()
                .into();
        },
    ),
    ("a credit whose merkle block has a byte after it", |m| {
        let block = proof(m).merkle_block.to_vec();
        proof(m).merkle_block = [&block[..], &[0]].concat().into();
    }),
    ("a credit of shard 65,536", |m| {
        proof(m);
        m.record.as_mut().unwrap().credits[0].shard = 65_536;
    }),
    ("a credit after 65,536 blocks", |m| {
        proof(m).bump_credit_after = 65_536;
    }),
    ("17 credits", |m| {
        m.record.as_mut().unwrap().credits = vec![Default::default(); 17];
    }),
    ("a head's signature of 63 bytes", |m| {
        m.head.as_mut().unwrap().signature = vec![1; 63].into();
    }),
];

/// A bump of a payout to whom the record's booking changes the carry of.
fn bump(message: &pb::WindowClosed) -> Bump {
    let changes = &message.record.as_ref().unwrap().bookings[0].carry;
    let payee = |entry: &pb::CarryEntry| {
        let bytes = <[u8; 32]>::try_from(&entry.identity[..]).unwrap();
        Identity::parse(&bytes).unwrap()
    };
    let payees: Vec<Identity> = changes.iter().map(payee).collect();
    Bump::new(&payees, &[0], 3_000)
}

/// The proof of the record's credit, which is put there if there is none: of that bump.
fn proof(message: &mut pb::WindowClosed) -> &mut pb::CreditProof {
    let bump = bump(message);
    let credits = &mut message.record.as_mut().unwrap().credits;
    if credits.is_empty() {
        credits.push(bump.credit().unwrap().unwrap().to_wire());
    }
    credits[0].proof.as_mut().unwrap()
}

fn refused(pool: &mut Pool) -> Vec<Refused> {
    let (coordinator, roster) = (pool.params.coordinator, pool.roster.clone());
    let [closed, plain] = three(pool);
    let mut lies: Vec<(&str, Vec<u8>)> = Vec::new();
    for (what, spoil) in SPOILED {
        let mut message = closed.to_wire();
        spoil(&mut message);
        lies.push((what, message.encode_to_vec()));
    }
    let mut twice = plain.to_wire();
    (twice.skipped, twice.work) = (vec![2], vec![9]);
    let what = "the record's tally names the payee of a place";
    lies.push((what, twice.encode_to_vec()));
    let mut unsigned = closed.to_wire();
    (unsigned.skipped, unsigned.work) = (vec![5], vec![9]);
    let head = unsigned.head.as_mut().unwrap();
    head.head.as_mut().unwrap().seq += 1;
    let what = "the signature of another window's head; and a place beyond the last";
    lies.push((what, unsigned.encode_to_vec()));
    let mut cut = closed.encode();
    cut.pop();
    lies.push(("the last byte is missing", cut));
    let lie = |(what, message): (&str, Vec<u8>)| Refused {
        what: what.into(),
        refused: read(&message, &coordinator, &roster).unwrap_err(),
        message: hex::encode(message),
    };
    lies.into_iter().map(lie).collect()
}

impl Vector for File {
    fn generate() -> Self {
        let mut pool = pool();
        let outputs = pool.roster.in_order_of_adding();
        let outputs = outputs.into_iter().map(|(_, output)| Output::of(output));
        let identities = pool.roster.identities();
        Self {
            coordinator: hex::encode(pool.params.coordinator.as_bytes()),
            outputs: outputs.collect(),
            identities: identities.map(|who| hex::encode(who.as_bytes())).collect(),
            told: told(&mut pool),
            refused: refused(&mut pool),
        }
    }

    fn check(&self) {
        let roster = roster(&self.coordinator, &self.outputs);
        let coordinator = identity(&self.coordinator);
        let identities = roster.identities();
        let identities: Vec<_> = identities.map(|who| hex::encode(who.as_bytes())).collect();
        assert_eq!(identities, self.identities);
        for told in &self.told {
            let message = hex::decode(&told.message).unwrap();
            let (closed, record) = read(&message, &coordinator, &roster).unwrap();
            assert_eq!(record, told.record.read(), "{}", told.what);
            assert_eq!(hex::encode(record.digest()), told.record_hash);
            let head = closed.head;
            let mut ledger = Ledger::default();
            if ledger.append(&record).is_ok() {
                assert_eq!(head.head, ledger.head(), "{}", told.what);
            } else {
                assert!(!record.credits.is_empty(), "{}", told.what);
            }
            assert_eq!(closed.encode() == message, told.encoded, "{}", told.what);
        }
        for lie in &self.refused {
            let message = hex::decode(&lie.message).unwrap();
            let got = read(&message, &coordinator, &roster).map(|(_, record)| record);
            assert_eq!(got, Err(lie.refused.clone()), "{}", lie.what);
        }
    }
}
