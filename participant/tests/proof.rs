//! Evidence against a coordinator: kept across restarts, written as a file, checked by anyone.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{DEAD, Home};
use tutti_participant::proof;
use tutti_participant::store::{Store, StoreError};
use tutti_proto::equivocation::{Equivocation, Statements, Subject};
use tutti_proto::id::WindowSeq;
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::SignedHead;
use tutti_proto::participant::Record;
use tutti_proto::window::LedgerHead;

fn key(n: u8) -> IdentityKey {
    IdentityKey::from_bytes(&mut [n; 32]).expect("a key")
}

fn head(seq: u64, hash: u8) -> SignedHead {
    let (seq, hash) = (WindowSeq(seq), [hash; 32]);
    SignedHead::sign(&key(1), LedgerHead { seq, hash }, &[3; 32])
}

fn record(head: SignedHead) -> Record {
    Record::Head {
        coordinator: key(1).identity(),
        head,
    }
}

fn equivocation() -> Equivocation {
    let mut statements = Statements::default();
    let coordinator = key(1).identity();
    assert_eq!(statements.note_head(&coordinator, &head(7, 1)), Ok(true));
    let proof = statements.note_head(&coordinator, &head(7, 2));
    *proof.expect_err("two heads")
}

fn proofs(directory: &Path) -> Vec<String> {
    let names = support::files(directory).into_iter();
    names.filter(|n| n.starts_with("equivocation-")).collect()
}

#[test]
fn what_a_coordinator_signed_is_known_after_a_restart_and_its_fraud_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(dir.path()).expect("a store");
    store
        .save(&[record(head(7, 1)), record(head(8, 1))])
        .expect("saved");
    let memory = Store::open(dir.path()).expect("again").memory();
    let mut memory = memory.expect("read");
    assert_eq!(memory.statements.heads().count(), 2);
    assert!(memory.convicted.is_empty());
    let proof = *memory
        .statements
        .note_head(&key(1).identity(), &head(8, 2))
        .expect_err("two heads");
    assert_eq!(proof.subject, Subject::Head(WindowSeq(8)));

    store.save(&[Record::Equivocation(proof)]).expect("saved");
    let memory = Store::open(dir.path()).expect("again").memory();
    let convicted = memory.expect("read").convicted;
    assert_eq!(convicted, [key(1).identity()].into());
    // A file that proves nothing keeps nobody away.
    let name = &proofs(dir.path())[0];
    let text = fs::read_to_string(dir.path().join(name)).expect("the proof");
    fs::write(dir.path().join(name), text.replacen('0', "1", 1)).expect("written");
    let memory = store.memory().expect("read");
    assert!(memory.convicted.is_empty());
}

#[test]
fn heads_that_are_damaged_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(dir.path()).expect("a store");
    store.save(&[record(head(7, 1))]).expect("saved");
    let path = dir.path().join("heads.json");
    let text = fs::read_to_string(&path).expect("heads");
    fs::write(&path, text.replace("\"hash\": \"01", "\"hash\": \"")).expect("written");
    let error = Store::open(dir.path()).err().expect("damaged");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("heads.json"), "{error}");
}

#[test]
fn anyone_checks_a_proof_without_configuration_or_network() {
    let home = Home::new(DEAD, "");
    let dir = tempfile::tempdir().expect("a directory");
    let path = proof::keep(dir.path(), &equivocation()).expect("written");
    let file = path.to_str().expect("text");
    let coordinator = key(1).identity().to_string();
    fs::remove_file(home.config()).expect("removed");

    let said = home.json(&["verify-proof", file]);
    assert_eq!(said["proven"], true);
    assert_eq!(said["coordinator"], coordinator);
    assert_eq!(said["subject"], json!({ "head": { "window": 7 } }));
    assert_eq!(said["statements"][1]["hash"], "02".repeat(32));
    let output = home.output(&["verify-proof", file, "--coordinator", &coordinator]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        text.contains("proven") && text.contains("window 7") && text.contains(&coordinator),
        "{text}"
    );
    let other = key(2).identity().to_string();
    let said = home.failure(&["verify-proof", file, "--coordinator", &other]);
    assert!(said.contains("not the one that was asked for"), "{said}");
}

#[test]
fn every_change_of_a_proof_is_noticed() {
    let home = Home::new(DEAD, "");
    let dir = tempfile::tempdir().expect("a directory");
    let path = proof::keep(dir.path(), &equivocation()).expect("written");
    let text = fs::read_to_string(&path).expect("the proof");
    let proof: Value = serde_json::from_str(&text).expect("JSON");
    let file = path.to_str().expect("text");
    let same = proof["statements"][0].clone();
    let changes: [(&str, Value, &str); 7] = [
        ("/version", json!(2), "version 2"),
        ("/subject/head/window", json!(8), "statement 1"),
        (
            "/subject",
            json!({ "proposal": { "round": 7, "attempt": 0 } }),
            "statement 1",
        ),
        ("/statements/1", same, "both statements are the same"),
        (
            "/statements/1/hash",
            json!("03".repeat(32)),
            "statement 2 is not",
        ),
        ("/statements/0/signature", json!("00"), "64, bytes of hex"),
        (
            "/coordinator",
            json!(key(2).identity().to_string()),
            "statement 1 is not",
        ),
    ];
    for (place, value, why) in changes {
        let mut changed = proof.clone();
        *changed.pointer_mut(place).expect("a field") = value;
        fs::write(&path, changed.to_string()).expect("written");
        let said = home.failure(&["verify-proof", file]);
        assert!(said.contains(why), "{place}: {said}");
    }
}
