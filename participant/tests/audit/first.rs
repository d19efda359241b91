//! The first difference is that of what was asked for: no file that is not needed decides, and those that do
//! come in the order of their windows.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tutti_participant::segments::{FileName, keep, keep_checkpoint, list};
use tutti_proto::segment::{Checkpoint, Segment};

use crate::pool::{Files, audit_json, audit_text, files};

fn difference(said: &Value) -> &str {
    said["difference"].as_str().unwrap_or("none")
}

fn passed_over(said: &Value) -> String {
    said["passed_over"].to_string()
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}

fn checkpoint_file(files: &Files) -> PathBuf {
    let mut all = list(files.path()).expect("listed").into_iter();
    let found = all.find(|(name, _)| matches!(name, FileName::Checkpoint(..)));
    found.expect("a checkpoint").1
}

/// The first window with shares of two.
fn busy(files: &Files) -> u64 {
    let is_busy = |segment: &Segment| segment.end.record.tally.len() > 1;
    let place = files.archive.segments.iter().position(is_busy);
    place.expect("a window with work") as u64 + 1
}

/// A segment of this window that the shares are not those of.
fn lie(files: &Files, window: u64) -> Segment {
    let mut lie = files.archive.segments[window as usize - 1].clone();
    let share = &mut lie.parts[0].shares[0];
    share.owner = 1 - share.owner.min(1);
    lie
}

fn replace(files: &Files, window: u64, segment: &Segment) {
    fs::remove_file(files.path_of(window)).expect("removed");
    keep(files.path(), segment).expect("kept");
}

/// The checkpoint of the block, with another payout than was signed.
fn false_checkpoint(files: &Files) -> Checkpoint {
    let round = files.booked().round;
    let checkpoint = files.archive.signed_checkpoint(&files.world, &round);
    let mut checkpoint = checkpoint.expect("the round was signed");
    let signed = checkpoint.signed.as_mut().expect("signed");
    signed.payout.output[0].value += bitcoin::Amount::from_sat(1);
    checkpoint
}

#[test]
fn a_damaged_checkpoint_decides_no_audit_of_windows() {
    let files = files();
    files.with_checkpoint();
    damage(&checkpoint_file(&files));
    for args in [&["--window", "2"][..], &["--from", "2", "--to", "4"]] {
        let (said, holds) = audit_json(files.path(), args);
        assert!(holds && said["windows"].as_u64() > Some(0), "{said}");
        assert!(
            passed_over(&said).contains(".checkpoint is not the file"),
            "{said}"
        );
        let text = audit_text(files.path(), args);
        let passed = text.split("passed over").nth(1).expect("a note");
        assert!(passed.contains(".checkpoint is not the file"), "{text}");
        assert!(text.contains("no difference found"), "{text}");
    }
    // All that is there was asked for: it comes after the windows.
    let (said, holds) = audit_json(files.path(), &[]);
    assert!(
        !holds && difference(&said).contains(".checkpoint is not"),
        "{said}"
    );
    assert_eq!(said["windows"], files.archive.segments.len());
    // The window that was asked for is not there, whatever else is.
    fs::remove_file(files.path_of(2)).expect("removed");
    let path = files.path().to_str().expect("text");
    let said = crate::pool::output(&["audit", path, "--window", "2"]);
    let words = String::from_utf8(said.stderr).expect("text");
    assert!(
        !said.status.success() && words.contains("no segment of the windows asked for"),
        "{words}"
    );
}

#[test]
fn a_damaged_checkpoint_decides_about_its_own_block_and_only_where_it_is_needed() {
    let files = files();
    files.with_checkpoint();
    damage(&checkpoint_file(&files));
    let block = files.block.to_string();
    let (said, holds) = audit_json(files.path(), &["--block", &block]);
    assert!(holds, "the windows have all of it: {said}");
    assert_eq!(said["explained"][0]["block"], block);
    assert!(
        passed_over(&said).contains(".checkpoint is not the file"),
        "{said}"
    );
    for window in 1..=files.archive.segments.len() as u64 {
        fs::remove_file(files.path_of(window)).expect("removed");
    }
    let (said, holds) = audit_json(files.path(), &["--block", &block]);
    assert!(
        !holds && difference(&said).contains(".checkpoint is not"),
        "{said}"
    );
}

#[test]
fn differences_come_in_the_order_of_their_windows() {
    let files = files();
    let (first, last) = (busy(&files), files.archive.segments.len() as u64);
    assert!(first > 1 && first < last);
    replace(&files, first, &lie(&files, first));
    // A second one for the last window, and a checkpoint that lies about a state between them.
    let mut second = files.archive.segments[last as usize - 1].clone();
    second.end.head.signature[0] ^= 1;
    keep(files.path(), &second).expect("kept");
    let checkpoint = false_checkpoint(&files);
    let after = checkpoint.head.head.seq.0;
    assert!((first..last).contains(&after), "{first} {after} {last}");
    keep_checkpoint(files.path(), files.block, &checkpoint).expect("kept");

    let (said, _) = audit_json(files.path(), &[]);
    let share = format!("share 0 of window {first}");
    assert!(difference(&said).contains(&share), "{said}");
    replace(
        &files,
        first,
        &files.archive.segments[first as usize - 1].clone(),
    );
    let (said, _) = audit_json(files.path(), &[]);
    let lied = format!("the checkpoint after window {after}:");
    assert!(difference(&said).contains(&lied), "{said}");
    assert_eq!(said["windows"], after, "it was looked at up to there");
    fs::remove_file(checkpoint_file(&files)).expect("removed");
    let (said, _) = audit_json(files.path(), &[]);
    let two = format!("window {last} has two segments");
    assert!(difference(&said).contains(&two), "{said}");
    assert_eq!(said["windows"], last - 1);
    // Who asks for the windows before is told of it, and no more.
    let to = (last - 1).to_string();
    let (said, holds) = audit_json(files.path(), &["--to", &to]);
    assert!(holds, "{said}");
    assert!(
        passed_over(&said).contains(&format!("window {last} has two files")),
        "{said}"
    );
}

#[test]
fn a_damaged_file_beside_a_windows_own_is_passed_over() {
    let files = files();
    let window = busy(&files);
    let name = keep(files.path(), &lie(&files, window)).expect("kept");
    let path = files.path().join(format!("{window:010}-{name}.segment"));
    damage(&path);
    for args in [&["--window", &window.to_string()][..], &[]] {
        let (said, holds) = audit_json(files.path(), args);
        assert!(holds, "{said}");
        assert!(passed_over(&said).contains(&name.to_string()), "{said}");
    }
    let text = audit_text(files.path(), &[]);
    assert!(
        text.contains(&format!("{} is not the file", path.display())),
        "{text}"
    );
}

#[test]
fn what_a_checkpoint_says_of_later_windows_decides_nothing_about_earlier_ones() {
    let files = files();
    let checkpoint = false_checkpoint(&files);
    let after = checkpoint.head.head.seq.0;
    keep_checkpoint(files.path(), files.block, &checkpoint).expect("kept");
    assert!(after > 2);
    let to = (after - 1).to_string();
    let (said, holds) = audit_json(files.path(), &["--to", &to]);
    assert!(holds, "{said}");
    assert!(
        passed_over(&said).contains("the checkpoint after window"),
        "{said}"
    );
    // The state that the first window builds on is needed.
    let from = (after + 1).to_string();
    let (said, holds) = audit_json(files.path(), &["--window", &from]);
    assert!(
        !holds && difference(&said).contains("the checkpoint after window"),
        "{said}"
    );
}

#[test]
fn windows_after_a_blocks_booking_decide_nothing_about_it() {
    let files = files();
    let last = files.archive.segments.len() as u64;
    let books = |segment: &Segment| !segment.end.record.bookings.is_empty();
    let booked = files
        .archive
        .segments
        .iter()
        .position(books)
        .expect("booked") as u64
        + 1;
    assert!(booked < last);
    damage(&files.path_of(last));
    let block = files.block.to_string();
    let (said, holds) = audit_json(files.path(), &["--block", &block]);
    assert!(holds, "{said}");
    assert!(
        passed_over(&said).contains(&format!("no window from {last} on")),
        "{said}"
    );
    // Those that it is paid for do.
    damage(&files.path_of(booked));
    let (said, holds) = audit_json(files.path(), &["--block", &block]);
    assert!(
        !holds && difference(&said).contains(&format!("{booked:010}-")),
        "{said}"
    );
}

#[test]
fn a_file_that_is_nothing_of_ours_decides_only_where_all_was_asked_for() {
    let files = files();
    let notes = files.path().join("notes.txt");
    fs::write(&notes, b"no segment").expect("written");
    let (path, notes) = (files.path().to_str(), notes.to_str().expect("text"));
    let path = path.expect("text");
    let said = crate::pool::output(&["--json", "audit", path, notes, "--window", "2"]);
    let json: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert!(
        said.status.success() && passed_over(&json).contains(notes),
        "{json}"
    );
    let said = crate::pool::output(&["--json", "audit", notes, path]);
    let json: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert!(
        !said.status.success() && difference(&json).contains(notes),
        "{json}"
    );
    assert_eq!(json["windows"], files.archive.segments.len());
}
