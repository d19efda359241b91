//! The systemd units: what they start is a command of ours, and what systemd makes of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use tutti_coordinator::cli::Cli;
use tutti_coordinator::config::Config;

const UNITS: [&str; 2] = ["tutti-coordinator.service", "tutti-participant.service"];
/// Files of the store and of closed windows, the log, the node.
const FILES: usize = 1_000;

fn contrib(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("contrib").join(name)
}

fn unit(name: &str) -> String {
    fs::read_to_string(contrib("systemd").join(name)).unwrap()
}

fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let mut values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next().unwrap_or_else(|| panic!("no {key}"))
}

#[test]
fn the_coordinators_unit_starts_it_with_room_for_all_connections_that_it_takes() {
    let unit = unit(UNITS[0]);
    Cli::try_parse_from(value(&unit, "ExecStart").split(' ')).unwrap();
    let path = contrib("examples/coordinator.toml");
    let config = Config::parse(&fs::read_to_string(&path).unwrap(), &path).unwrap();
    let descriptors: usize = value(&unit, "LimitNOFILE").parse().unwrap();
    assert!(descriptors >= config.connections() + FILES, "{descriptors}");
}

/// Where there is no systemd there is nothing to ask.
#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    let dir = tempfile::tempdir().unwrap();
    for name in UNITS {
        let unit = unit(name);
        let program = value(&unit, "ExecStart").split(' ').next().unwrap();
        let unit = unit.replace(program, env!("CARGO_BIN_EXE_tutti-coordinator"));
        let path = dir.path().join(name);
        fs::write(&path, unit).unwrap();
        let verified = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&path)
            .output();
        let Ok(verified) = verified else {
            return;
        };
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        let against: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(against.is_empty(), "{against:#?}");
    }
}
