//! Identity and store: made together at the first start, whenever that is cut short, and never one without the
//! other after it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tutti_regtest::daemon::Daemon;

use crate::preload;
use crate::support::{
    GOOD, WITHIN, by_password, config, coordinator, fails, fake_node, run_fails, start,
};

/// More changes of files than a first start makes.
const CHANGES_MAX: u32 = 1_000;
const STOP_WITHIN: Duration = Duration::from_secs(10);

fn key(data: &Path) -> Option<String> {
    fs::read_to_string(data.join("identity.key")).ok()
}

/// A pool that ran once and was stopped: its configuration and data directory.
fn pool(dir: &Path) -> (PathBuf, PathBuf) {
    let path = config(dir, &by_password(&fake_node(GOOD)), "");
    let mut daemon = start(dir, &path);
    daemon.wait_event("listening", WITHIN).unwrap();
    daemon.terminate(STOP_WITHIN).unwrap();
    (path, dir.join("coordinator-data"))
}

#[test]
fn a_first_start_that_is_killed_at_any_change_of_a_file_is_made_good_by_the_next() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let library = preload::build("process/killed.c", &root);
    let node = by_password(&fake_node(GOOD));
    let (mut without, mut with) = (0, 0);
    for at in 0..CHANGES_MAX {
        let dir = root.join(at.to_string());
        fs::create_dir(&dir).unwrap();
        let path = config(&dir, &node, "");
        let data = dir.join("coordinator-data");
        let mut command = coordinator();
        command.arg("run").arg("--config").arg(&path);
        command.env("LD_PRELOAD", &library);
        command.env("KILLED_IN", &data);
        command.env("KILLED_AT", at.to_string());
        let mut killed = Daemon::spawn("killed", command, &dir.join("killed"), None).unwrap();
        if killed.wait_event("listening", WITHIN).is_ok() {
            killed.kill().unwrap();
            println!("killed {without} times without an identity, {with} times with one");
            assert!(without > 10 && with > 0, "{without} without, {with} with");
            return;
        }
        let before = key(&data);
        *(if before.is_some() {
            &mut with
        } else {
            &mut without
        }) += 1;
        let mut daemon = start(&dir, &path);
        let listens = daemon.wait_event("listening", WITHIN);
        let said = || fs::read_to_string(dir.join("log")).unwrap_or_default();
        assert!(listens.is_ok(), "after a kill at change {at}: {}", said());
        daemon.kill().unwrap();
        assert!(before.is_none() || key(&data) == before, "change {at}");
    }
    panic!("it does not listen after {CHANGES_MAX} changes");
}

#[test]
fn an_identity_without_its_store_begins_no_second_history() {
    let dir = tempfile::tempdir().unwrap();
    let (path, data) = pool(dir.path());
    let alone = tempfile::tempdir().unwrap();
    fs::rename(&data, alone.path().join("was")).unwrap();
    fs::create_dir(&data).unwrap();
    fs::copy(
        alone.path().join("was/identity.key"),
        data.join("identity.key"),
    )
    .unwrap();
    let check = ["check", "--config", path.to_str().unwrap()];
    for with in ["nothing", "an empty store", "nothing again"] {
        match with {
            "an empty store" => fs::create_dir(data.join("store")).unwrap(),
            _ => assert!(!data.join("store").exists(), "a refusal makes none"),
        }
        for words in [run_fails(&path), fails(&check)] {
            for part in [
                "identity.key, but no store",
                "equivocates",
                "another data_dir",
            ] {
                assert!(words.contains(part), "{with}: {words}");
            }
        }
        let _ = fs::remove_dir(data.join("store"));
    }
    // With all that belongs to it, it goes on.
    fs::remove_dir_all(&data).unwrap();
    fs::rename(alone.path().join("was"), &data).unwrap();
    start(dir.path(), &path)
        .wait_event("listening", WITHIN)
        .unwrap();
}

#[test]
fn a_store_without_its_identity_gets_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (path, data) = pool(dir.path());
    fs::remove_file(data.join("identity.key")).unwrap();
    let words = run_fails(&path);
    assert!(words.contains("identity.key is missing"), "{words}");
    assert!(words.contains("restore it from a copy"), "{words}");
    assert_eq!(key(&data), None);
}
