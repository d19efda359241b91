//! Windows audited as files: whole, missing, damaged, and fetched from whoever serves them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tutti_participant::segments::{FileName, keep, list};
use tutti_proto::segment::{Checkpoint, Segment};
use tutti_proto::wire::FromWire;

use crate::pool::{audit_json, audit_text, files, output, program};

#[test]
fn a_directory_is_audited_whole_and_says_what_was_not() {
    let files = files();
    let (said, holds) = audit_json(files.path(), &[]);
    assert!(holds && said["holds"] == true, "{said}");
    assert_eq!(said["windows"], files.archive.segments.len());
    assert_eq!(said["runs"][0]["state_since"], 1);
    assert_eq!(said["runs"][0]["rounds_unchecked"], 0);
    assert_eq!(said["blocks"][0]["carries_checked"], true);
    assert_eq!(said["blocks"][0]["block"], files.block.to_string());
    let unchecked = said["not_checked"].as_array().expect("a list");
    assert_eq!(unchecked.len(), 1, "{unchecked:?}");
    let text = audit_text(files.path(), &[]);
    assert!(
        text.contains("no difference found") && text.contains("no node is asked"),
        "{text}"
    );

    let (said, holds) = audit_json(files.path(), &["--from", "3", "--to", "4"]);
    assert!(holds);
    assert_eq!(said["windows"], 2);
    let said = said["not_checked"].to_string();
    assert!(
        said.contains("start from window 1 or add a checkpoint"),
        "{said}"
    );
    let (said, holds) = audit_json(files.path(), &["--window", "2"]);
    assert!(holds && said["windows"] == 1);
}

#[test]
fn a_window_that_is_missing_is_named_and_the_others_are_checked() {
    let files = files();
    fs::remove_file(files.path_of(3)).expect("removed");
    let (said, holds) = audit_json(files.path(), &[]);
    assert!(holds);
    assert_eq!(said["missing"], serde_json::json!([[3, 3]]));
    assert_eq!(said["runs"].as_array().expect("runs").len(), 2);
}

#[test]
fn damage_a_second_segment_and_a_lie_are_each_the_first_difference_and_the_exit_code_says_so() {
    let files = files();
    let busy = |segment: &Segment| segment.end.record.tally.len() > 1;
    let place = files.archive.segments.iter().position(busy);
    let place = place.expect("a window with work");
    let window = place as u64 + 1;
    assert!(place > 0);
    let path = files.path_of(window);
    let honest = fs::read(&path).expect("read");
    let mut damaged = honest.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&path, &damaged).expect("written");
    let (said, holds) = audit_json(files.path(), &[]);
    assert!(!holds && said["holds"] == false);
    let difference = said["difference"].as_str().expect("a difference");
    assert!(
        difference.contains("is not the file that its name says"),
        "{difference}"
    );
    fs::write(&path, &honest).expect("written");

    let mut lie = files.archive.segments[place].clone();
    let share = &mut lie.parts[0].shares[0];
    let other = 1 - share.owner.min(1);
    share.owner = other;
    keep(files.path(), &lie).expect("kept");
    let (said, holds) = audit_json(files.path(), &[]);
    let difference = said["difference"].as_str().expect("a difference");
    assert!(
        !holds && difference.contains(&format!("window {window} has two segments")),
        "{difference}"
    );
    fs::remove_file(&path).expect("removed");
    let text = audit_text(files.path(), &[]);
    assert!(
        text.contains("FIRST DIFFERENCE") && text.contains(&format!("share 0 of window {window}")),
        "{text}"
    );
    assert!(text.contains("not-your-slice"), "{text}");
    assert!(
        text.contains(&format!("windows 1 to {place}:")),
        "what was before it is said: {text}"
    );
}

#[test]
fn files_of_another_coordinator_or_none_are_an_error_in_one_sentence() {
    let files = files();
    let other = tutti_tests::sim::identity_key(9).identity().to_string();
    let path = files.path().to_str().expect("text").to_owned();
    let said = output(&["audit", &path, "--coordinator", &other]);
    let words = String::from_utf8(said.stderr).expect("text");
    assert!(
        !said.status.success() && words.contains("not of"),
        "{words}"
    );
    let own = files.archive.params.coordinator.to_string();
    assert!(
        output(&["audit", &path, "--coordinator", &own])
            .status
            .success()
    );
    let empty = tempfile::tempdir().expect("a directory");
    let said = output(&["audit", empty.path().to_str().expect("text")]);
    let words = String::from_utf8(said.stderr).expect("text");
    assert!(
        !said.status.success() && words.contains("no segment"),
        "{words}"
    );
}

/// A server of files, ended with the test.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(directory: &Path) -> Self {
        let directory = directory.to_str().expect("text");
        let serve = [
            "serve-segments",
            directory,
            "--listen",
            "127.0.0.1:0",
            "--json",
        ];
        let mut child = program(&serve)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("its words");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let address = said["listening"].as_str().expect("an address");
        let url = format!("http://{address}");
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn files_are_fetched_from_whoever_serves_them_and_only_whole() {
    let files = files();
    files.with_checkpoint();
    let server = Server::start(files.path());
    let out = tempfile::tempdir().expect("a directory");
    let to = out.path().join("kept");
    let to_text = to.to_str().expect("text");
    let block = files.block.to_string();
    let args = [
        "fetch-segments",
        "--from",
        "1",
        "--block",
        &block,
        "--coordinator-url",
        &server.url,
        "--out",
        to_text,
    ];
    let said = output(&[&args[..], &["--json"]].concat());
    assert!(said.status.success(), "{said:?}");
    let json: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let (fetched, here) = (&json["files"], &json["here"]);
    let all = list(files.path()).expect("listed").len();
    assert_eq!((fetched, here), (&json!(all), &json!(0)), "{json}");
    let names = |directory: &Path| -> Vec<FileName> {
        list(directory)
            .expect("listed")
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(names(&to), names(files.path()));
    let (said, holds) = audit_json(&to, &[]);
    assert!(holds, "{said}");
    // A block alone: what counts for it and the checkpoint, up to the window that books it.
    let few = tempfile::tempdir().expect("a directory");
    let url = [
        "--coordinator-url",
        &server.url,
        "--out",
        few.path().to_str().expect("text"),
    ];
    let said = output(&[&["fetch-segments", "--block", &block], &url[..]].concat());
    assert!(said.status.success(), "{said:?}");
    let (got, all) = (names(few.path()), names(files.path()));
    let windows = |names: &[FileName]| -> Vec<u64> {
        let window = |name: &FileName| match name {
            FileName::Segment(window, _) => Some(window.0),
            FileName::Checkpoint(..) => None,
        };
        names.iter().filter_map(window).collect()
    };
    let (some, every) = (windows(&got), windows(&all));
    assert!(
        some.len() > 1 && some.len() < every.len(),
        "{some:?} of {every:?}"
    );
    let is_checkpoint = |(name, _): &(FileName, _)| matches!(name, FileName::Checkpoint(..));
    let kept = list(few.path()).expect("listed");
    let (_, path) = kept.into_iter().find(is_checkpoint).expect("it came");
    let checkpoint = Checkpoint::decode(&fs::read(path).expect("readable")).expect("one");
    assert!(
        some[0] <= checkpoint.ledger.seq.0,
        "{some:?} begins with what counts"
    );
    let (said, holds) = audit_json(few.path(), &["--block", &block]);
    assert!(holds, "{said}");
    let again = output(&[&["fetch-segments", "--block", &block], &url[..]].concat());
    let words = String::from_utf8(again.stdout).expect("text");
    assert!(
        words.contains(&format!("; {} were here already", got.len() - 1)),
        "{words}"
    );
    assert_eq!(names(few.path()), got);
    // What is here is not fetched again; what is damaged is.
    let first = list(&to).expect("listed")[0].1.clone();
    fs::write(&first, b"damaged").expect("written");
    let said = output(
        &args[..3]
            .iter()
            .chain(&args[5..])
            .copied()
            .collect::<Vec<_>>(),
    );
    let words = String::from_utf8(said.stdout).expect("text");
    assert!(words.starts_with("1 new files"), "{words}");
    assert!(audit_json(&to, &[]).1);
    // The server has a damaged file: it hands on nothing under its name.
    fs::write(files.path_of(1), b"damaged").expect("written");
    let out = tempfile::tempdir().expect("a directory");
    let said = output(&[
        "fetch-segments",
        "--from",
        "1",
        "--to",
        "1",
        "--coordinator-url",
        &server.url,
        "--out",
        out.path().to_str().expect("text"),
    ]);
    let words = String::from_utf8(said.stderr).expect("text");
    assert!(
        !said.status.success() && words.contains("damaged"),
        "{words}"
    );
    assert_eq!(names(out.path()), []);
}

/// What a command that fails says, with nothing on standard output.
fn failure(args: &[&str]) -> String {
    let said = output(args);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stdout.is_empty(), "{said:?}");
    String::from_utf8(said.stderr).expect("text")
}

#[test]
fn what_cannot_be_read_is_no_difference() {
    let files = files();
    let good = files.path().to_str().expect("text");
    let window = files.path_of(1);
    let gone = files
        .path()
        .join("gone")
        .join(window.file_name().expect("a name"));
    let gone = gone.to_str().expect("text");
    for args in [
        &["audit", "nothere"][..],
        &["audit", good, "nothere"],
        &["audit", good, "nothere", "--window", "1"],
        &["audit", good, gone],
    ] {
        let said = failure(args);
        assert!(said.contains("cannot read "), "{said}");
        assert!(said.contains("that can be read"), "{said}");
    }
    // Among a directory's files, too: one that is a directory itself.
    fs::remove_file(&window).expect("removed");
    fs::create_dir(&window).expect("made");
    let said = failure(&["audit", good]);
    assert!(said.contains("cannot read "), "{said}");
    assert!(said.contains("nothing was found out"), "{said}");
}

#[test]
fn no_windows_and_windows_that_are_not_kept_are_told() {
    let files = files();
    let server = Server::start(files.path());
    let out = tempfile::tempdir().expect("a directory");
    let to = out.path().to_str().expect("text");
    let fetch = |range: &[&str]| {
        let from = ["--coordinator-url", &server.url, "--out", to];
        failure(&[&["fetch-segments"], range, &from[..]].concat())
    };
    for (first, last) in [("5", "2"), ("0", "0")] {
        let said = fetch(&["--from", first, "--to", last]);
        let words = format!("no window from {first} to {last}");
        assert!(said.contains(&words), "{said}");
    }
    let last = files.archive.segments.len();
    let said = fetch(&["--from", "3", "--to", "5000"]);
    for words in [
        format!("window {} is not kept at {}", last + 1, server.url),
        format!("windows 3 to {last} are here now, {} of them new", last - 2),
    ] {
        assert!(said.contains(&words), "{said}");
    }
    assert_eq!(list(out.path()).expect("listed").len(), last - 2);
    let said = fetch(&["--from", "4", "--to", "5000"]);
    assert!(said.contains("0 of them new"), "{said}");
}
