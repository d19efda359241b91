//! payee_set.json: changes of the payee set, one after the other, and what each makes of it.

use serde::{Deserialize, Serialize};
use tutti_proto::id::SerialId;
use tutti_proto::message::{OutputExpired, TxAddOutput, TxRemoveOutput};
use tutti_proto::params::PoolName;
use tutti_proto::roster::Roster;
use tutti_proto::segment::{ChangeError, OutputChange};
use tutti_proto::window::Ledger;

use super::super::pool::Pool;
use super::types::{Output, Window, bytes, identity, script};
use super::{Vector, refused};

#[derive(Serialize, Deserialize)]
pub struct File {
    coordinator: String,
    /// From the empty ledger on.
    records: Vec<Window>,
    /// From the empty set on; one that is refused changes nothing.
    changes: Vec<Step>,
}

#[derive(Serialize, Deserialize)]
struct Step {
    what: String,
    /// How many of the records the ledger has.
    after: usize,
    change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// Of the set after it.
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Added(Output),
    Removed(Removal),
    Expired { serial_id: u64 },
}

#[derive(Serialize, Deserialize)]
struct Removal {
    identity: String,
    serial_id: u64,
    signature: String,
}

impl Change {
    fn of(change: &OutputChange) -> Self {
        match change {
            OutputChange::Added(output) => Self::Added(Output::of(output)),
            OutputChange::Removed(removal) => Self::Removed(Removal {
                identity: hex::encode(removal.identity.as_bytes()),
                serial_id: removal.serial_id.0,
                signature: hex::encode(removal.signature),
            }),
            OutputChange::Expired(OutputExpired { serial_id }) => Self::Expired {
                serial_id: serial_id.0,
            },
        }
    }

    fn read(&self) -> OutputChange {
        match self {
            Self::Added(output) => OutputChange::Added(output.read()),
            Self::Removed(removal) => OutputChange::Removed(TxRemoveOutput {
                identity: identity(&removal.identity),
                serial_id: SerialId(removal.serial_id),
                signature: bytes(&removal.signature),
            }),
            Self::Expired { serial_id } => OutputChange::Expired(OutputExpired {
                serial_id: SerialId(*serial_id),
            }),
        }
    }
}

/// Makes the change, if it may be made.
fn make(
    records: &[Window],
    pool: &PoolName,
    roster: &mut Roster,
    change: &OutputChange,
) -> Option<String> {
    let mut ledger = Ledger::default();
    for record in records {
        ledger.append(&record.read()).unwrap();
    }
    let before = roster.clone();
    let refused = change.apply(pool, &ledger, roster).err();
    if refused.is_some() {
        *roster = before;
    }
    refused.map(|error| match error {
        ChangeError::Roster(error) => refused::payee_set(&error),
        ChangeError::UnsignedRemoval(_) => "bad-signature".into(),
        ChangeError::Expired(_) => "change".into(),
    })
}

const AUX: [u8; 32] = [0; 32];

fn add(pool: &Pool, n: usize, serial_id: u64, program: u8) -> TxAddOutput {
    let script = script(&format!("5120{}", hex::encode([program; 32])));
    let coordinator = pool.params.coordinator;
    let serial_id = SerialId(serial_id);
    TxAddOutput::sign(&pool.keys[n], &coordinator, serial_id, script, &AUX)
}

fn added(pool: &Pool, n: usize, serial_id: u64, program: u8) -> OutputChange {
    OutputChange::Added(add(pool, n, serial_id, program))
}

fn removal(pool: &Pool, n: usize, serial_id: u64) -> TxRemoveOutput {
    let coordinator = pool.params.coordinator;
    TxRemoveOutput::sign(&pool.keys[n], &coordinator, SerialId(serial_id), &AUX)
}

fn removed(pool: &Pool, n: usize, serial_id: u64) -> OutputChange {
    OutputChange::Removed(removal(pool, n, serial_id))
}

fn expired(serial_id: u64) -> OutputChange {
    let serial_id = SerialId(serial_id);
    OutputChange::Expired(OutputExpired { serial_id })
}

type Told = (&'static str, usize, OutputChange);

/// Who may add what; the last added is the one that is paid.
fn additions(pool: &Pool) -> Vec<Told> {
    let mut unsigned = add(pool, 1, 0, 1);
    unsigned.signature[0] ^= 1;
    let mut forged = add(pool, 1, 13, 1);
    forged.identity = pool.identity(2);
    vec![
        ("the coordinator's first", 0, added(pool, 0, 0, 1)),
        ("a participant's", 0, added(pool, 1, 21, 1)),
        (
            "without a signature; of the other side's parity, and taken, too",
            0,
            OutputChange::Added(unsigned),
        ),
        ("another's signature", 0, OutputChange::Added(forged)),
        (
            "a participant's of even number, which is taken, too",
            0,
            added(pool, 2, 0, 1),
        ),
        ("the coordinator's of odd number", 0, added(pool, 0, 33, 1)),
        ("a number that is taken", 0, added(pool, 2, 21, 2)),
        (
            "a participant's second, of a lower number: it may have been removed before",
            0,
            added(pool, 1, 11, 2),
        ),
        (
            "its second, of a higher number: the one that is paid",
            0,
            added(pool, 1, 31, 2),
        ),
        (
            "its third, of a number that is taken, too",
            0,
            added(pool, 1, 21, 3),
        ),
        ("its third", 0, added(pool, 1, 41, 3)),
        (
            "another's, to a script that is there",
            0,
            added(pool, 2, 23, 1),
        ),
        ("the coordinator's second", 0, added(pool, 0, 2, 4)),
        ("the highest number", 0, added(pool, 3, u64::MAX, 5)),
    ]
}

fn removals(pool: &Pool) -> Vec<Told> {
    let mut unsigned = removal(pool, 1, 31);
    unsigned.signature[63] ^= 1;
    vec![
        (
            "a removal without a signature",
            0,
            OutputChange::Removed(unsigned),
        ),
        (
            "a removal by one who has another output",
            0,
            removed(pool, 2, 21),
        ),
        ("a removal by one who has none", 0, removed(pool, 4, 21)),
        (
            "a removal of a number that is not there",
            0,
            removed(pool, 1, 51),
        ),
        ("the paid output of two", 0, removed(pool, 1, 31)),
        ("the only output", 0, removed(pool, 2, 23)),
        ("the one that is not paid any more", 0, removed(pool, 1, 21)),
        ("the same again", 0, removed(pool, 1, 21)),
        (
            "the same as before its owner took it out",
            0,
            added(pool, 1, 21, 1),
        ),
        ("another, to the same script", 0, added(pool, 1, 33, 1)),
        (
            "the coordinator removes one of its own, the paid one",
            0,
            removed(pool, 0, 2),
        ),
    ]
}

/// Miner 1 has worked in the first window only, which names miner 5, too; miner 2 is owed, miner 3 was overpaid, until the last.
fn expiries(pool: &Pool) -> Vec<Told> {
    vec![
        ("an output that is not there expires", 0, expired(99)),
        ("the coordinator's expires", 3, expired(0)),
        ("of one who worked two windows ago", 3, expired(31)),
        ("of one to whom something is owed", 3, expired(23)),
        ("of one who was overpaid", 3, expired(u64::MAX)),
        ("nothing is owed any more", 4, expired(23)),
        ("nor overpaid", 4, expired(u64::MAX)),
        (
            "the first of two, of one who has not worked yet: the other stays",
            0,
            expired(31),
        ),
        ("the other", 0, expired(33)),
        (
            "one whom a window names, with work 0",
            0,
            added(pool, 5, 35, 6),
        ),
        ("of one whom a window names, with work 0", 3, expired(35)),
        ("before that window", 0, expired(35)),
    ]
}

impl Vector for File {
    fn generate() -> Self {
        let mut pool = Pool::new("tutti vectors: payee set", 5);
        pool.close_window(&[(1, 1), (5, 0)], &[]);
        pool.close_window(&[(4, 5)], &[(2, 40), (3, -30)]);
        pool.close_window(&[], &[]);
        let lost = pool.records[1].bookings[0].undo().unwrap();
        pool.close(&[], vec![lost], Vec::new());
        let records: Vec<Window> = pool.records.iter().map(Window::of).collect();
        let told = [additions(&pool), removals(&pool), expiries(&pool)].concat();
        let (name, mut roster) = (pool.params.name(), Roster::default());
        let step = |(what, after, change): &Told| Step {
            what: (*what).into(),
            after: *after,
            change: Change::of(change),
            refused: make(&records[..*after], &name, &mut roster, change),
            digest: hex::encode(roster.digest()),
        };
        Self {
            coordinator: hex::encode(name.coordinator.as_bytes()),
            changes: told.iter().map(step).collect(),
            records,
        }
    }

    fn check(&self) {
        let pool = PoolName {
            network: bitcoin::Network::Regtest,
            coordinator: identity(&self.coordinator),
        };
        let mut roster = Roster::default();
        for step in &self.changes {
            let records = &self.records[..step.after];
            let refused = make(records, &pool, &mut roster, &step.change.read());
            assert_eq!(refused, step.refused, "{}", step.what);
            assert_eq!(hex::encode(roster.digest()), step.digest, "{}", step.what);
        }
    }
}
