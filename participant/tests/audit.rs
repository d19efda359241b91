//! `audit`, `fetch-segments` and `serve-segments` as a stranger uses them: files, a program, no
//! configuration.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use serde_json::{Value, json};
use tempfile::TempDir;
use tutti_participant::segments::{FileName, keep, keep_checkpoint, list};
use tutti_proto::audit::find_header;
use tutti_proto::coordinator::Record;
use tutti_proto::deadline::Millis;
use tutti_proto::id::{Identity, LaneIndex, WindowSeq};
use tutti_proto::musig::{AggregateKey, AggregateNonce, Session, SigningSlot};
use tutti_proto::participant;
use tutti_proto::payout;
use tutti_proto::plan::Signer;
use tutti_proto::segment::{Checkpoint, Segment};
use tutti_tests::sim::{Archive, World, WorldOptions};

const BLOCK: u8 = 12;

/// A pool's files, and what the pool's records say of its block.
struct Files {
    dir: TempDir,
    archive: Archive,
    block: BlockHash,
    hash: [u8; 32],
    world: World,
}

fn round(world: &mut World) {
    let before = world.coordinator.ledger().seq();
    world.new_tip();
    world.run_until(Millis(1_000), "a round on the new tip", |world| {
        world.coordinator.ledger().seq() > before && world.all_hash_last_round()
    });
    world.settle();
}

fn files() -> Files {
    let mut world = World::new(WorldOptions {
        block_zero_bits: BLOCK,
        // A block pays 9,536 sat and fees: parts fall below dust limits.
        height: 150 * 19 + 10,
        ..WorldOptions::default()
    });
    for miner in 0..4 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(Millis(1_000), "the first round", World::all_hash_last_round);
    for miner in [
        0, 0, 0, 1, 0, 2, 0, 1, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ] {
        world.share(miner);
        world.settle();
    }
    round(&mut world);
    let found = world.miners[0].hash_until(BLOCK).expect("a job");
    world.tell_miner(0, participant::Input::ShareFound(found));
    world.settle();
    let mut candidates = world.records.iter().filter_map(|record| match record {
        Record::Candidate(found) => Some(found.hash),
        _ => None,
    });
    let hash = candidates.next_back().expect("a block");
    drop(candidates);
    for _ in 0..3 {
        round(&mut world);
        world.share(1);
        world.settle();
    }
    round(&mut world);
    let archive = Archive::of(&world).expect("segments");
    let dir = tempfile::tempdir().expect("a directory");
    for segment in &archive.segments {
        keep(dir.path(), segment).expect("kept");
    }
    Files {
        dir,
        archive,
        block: BlockHash::from_byte_array(hash),
        hash,
        world,
    }
}

impl Files {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn path_of(&self, window: u64) -> PathBuf {
        self.path_of_if_there(window).expect("its file")
    }

    fn path_of_if_there(&self, window: u64) -> Option<PathBuf> {
        let files = list(self.path()).expect("listed").into_iter();
        let of_window = |name: &FileName| matches!(name, FileName::Segment(WindowSeq(seq), _) if *seq == window);
        let mut of = files.filter(|(name, _)| of_window(name));
        Some(of.next()?.1)
    }

    fn booked(&self) -> &tutti_proto::window::Booking {
        let records = self.archive.segments.iter().map(|s| &s.end.record);
        let mut bookings = records.flat_map(|record| &record.bookings);
        bookings.find(|b| b.block == self.hash).expect("booked")
    }

    /// The payouts that the coordinator committed for the block's lane.
    fn payouts(&self) -> &[bitcoin::Transaction] {
        let booking = self.booked();
        let mut committed = self.world.records.iter().filter_map(|record| match record {
            Record::Committed(c) if c.round == booking.round => Some(c),
            _ => None,
        });
        &committed.next().expect("committed").lanes[usize::from(booking.lane.0)].1
    }

    fn with_checkpoint(&self) {
        let round = self.booked().round;
        let checkpoint = self.archive.signed_checkpoint(&self.world, &round);
        let checkpoint = checkpoint.expect("the round was signed");
        keep_checkpoint(self.path(), self.block, &checkpoint).expect("kept");
    }
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti-participant"));
    command.args(args);
    command
}

fn output(args: &[&str]) -> Output {
    program(args).output().expect("it runs")
}

fn audit_json(path: &Path, more: &[&str]) -> (Value, bool) {
    let path = path.to_str().expect("text");
    let output = output(&[&["--json", "audit", path][..], more].concat());
    let value = serde_json::from_slice(&output.stdout);
    let value = value.unwrap_or_else(|_| panic!("{output:?}"));
    (value, output.status.success())
}

fn audit_text(path: &Path, more: &[&str]) -> String {
    let path = path.to_str().expect("text");
    let output = output(&[&["audit", path][..], more].concat());
    String::from_utf8(output.stdout).expect("text")
}

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
fn a_found_block_is_explained_down_to_its_share_and_each_sat() {
    let files = files();
    let block = files.block.to_string();
    let (said, holds) = audit_json(files.path(), &["--block", &block]);
    assert!(holds, "{said}");
    assert_eq!(said["header_checked"], true);
    let header = said["found_by"]["header"].as_str().expect("a header");
    let header: [u8; 80] = hex::decode(header).expect("hex").try_into().expect("80");
    assert_eq!(tutti_proto::work::header_hash(&header), files.hash);
    let explained = &said["explained"][0];
    let payouts = files.payouts();
    let mut seen = 0;
    for payee in explained["payees"].as_array().expect("payees") {
        let Some(txid) = payee["payout"].as_str() else {
            assert_eq!(payee["paid"], 0);
            continue;
        };
        let mut of = payouts.iter();
        let tx = of
            .find(|tx| tx.compute_txid().to_string() == txid)
            .expect("its payout");
        let output = payee["output"].as_u64().expect("a number") as usize;
        assert_eq!(payee["paid"], tx.output[output].value.to_sat());
        seen += 1;
    }
    let paying: usize = payouts.iter().map(|tx| tx.output.len() - 1).sum();
    assert_eq!(seen, paying);
    let text = audit_text(files.path(), &["--block", &block]);
    assert!(text.contains("to the sat the coinbase's value"), "{text}");
    let amounts = text.lines().filter(|line| line.contains(" sat"));
    let of_table = |line: &&str| !line.contains("earned, sat");
    let mut amounts = amounts.filter(of_table).peekable();
    assert!(amounts.peek().is_some());
    // Every line but that of the words themselves.
    for line in amounts.filter(|line| line.contains(" sat ")) {
        assert!(line.contains(" BTC"), "{line}");
    }
}

#[test]
fn a_miner_reads_why_it_gets_its_amount() {
    let files = files();
    let (booking, payouts) = (files.booked(), files.payouts());
    for miner in 0..4 {
        let me: Identity = files.world.miners[miner].identity();
        let args = [
            "--block",
            &files.block.to_string(),
            "--identity",
            &me.to_string(),
        ];
        let (said, holds) = audit_json(files.path(), &args);
        assert!(holds);
        let payees = said["explained"][0]["payees"]
            .as_array()
            .expect("payees")
            .clone();
        assert_eq!(payees.len(), 1, "its lines only");
        assert_eq!(payees[0]["identity"], me.to_string());
        let carry = booking.carry.get(&me).copied().unwrap_or(0);
        assert_eq!(
            payees[0]["carry_after"], carry,
            "the first block: owed before is 0"
        );
        let text = audit_text(files.path(), &args);
        assert!(
            text.contains("hashes that count") && text.contains(&me.to_string()),
            "{text}"
        );
        let owed = text.lines().find(|line| line.contains("owed after window"));
        assert!(owed.expect("its carry").contains(" BTC"), "{text}");
        let amounts = payouts.iter().flat_map(|tx| &tx.output);
        if let Some(paid) = payees[0]["paid"].as_u64().filter(|paid| *paid > 0) {
            assert!(amounts.clone().any(|output| output.value.to_sat() == paid));
            assert!(text.contains("paid to you: output"), "{text}");
        } else {
            assert!(text.contains("not paid by this block"), "{text}");
        }
    }
    let stranger = tutti_tests::sim::identity_key(500).identity().to_string();
    let text = audit_text(files.path(), &["--identity", &stranger]);
    assert!(text.contains("0 hashes in 0 of these windows"), "{text}");
}

/// The files without the windows up to one, and with a checkpoint after it.
fn from_checkpoint(files: &Files, checkpoint: &Checkpoint) -> Value {
    let last = checkpoint.head.head.seq.0;
    for window in 1..=last {
        if let Some(path) = files.path_of_if_there(window) {
            fs::remove_file(path).expect("removed");
        }
    }
    keep_checkpoint(files.path(), files.block, checkpoint).expect("kept");
    let (said, holds) = audit_json(files.path(), &[]);
    assert!(holds, "{said}");
    assert_eq!(said["states"][0]["window"], last);
    said
}

/// The state that the block's round was proposed on, with another round on it: the coordinator's alone.
fn signed_alone(files: &Files) -> Checkpoint {
    let round = files.booked().round;
    let checkpoint = files.archive.signed_checkpoint(&files.world, &round);
    let mut checkpoint = checkpoint.expect("the round was signed");
    let signed = checkpoint.signed.as_mut().expect("signed");
    let (slot, public) = SigningSlot::generate(&mut rand::rng(), 1);
    signed.terms.inputs.signers = vec![Signer {
        identity: files.archive.params.coordinator,
        key: slot.key(),
    }];
    let leaf = payout::leaf_hash(&signed.terms.round().0);
    let key = AggregateKey::new(vec![slot.key()], &leaf).expect("a key");
    for (script, _) in &mut signed.terms.outputs {
        *script = payout::output_script(&key.output_key());
    }
    let terms = signed.terms.clone().check(&files.archive.params.name());
    let coinbase = terms
        .expect("terms")
        .coinbase(LaneIndex(0))
        .expect("a lane");
    signed.payout.input[0].previous_output.txid = coinbase.compute_txid();
    let sighash = payout::sighash(&signed.payout, &coinbase.output[0]);
    let nonce = AggregateNonce::sum(public.nonces.iter()).expect("a nonce");
    let session = Session::new(&key, &nonce, &sighash);
    let partials = slot.sign(&key, &[session]).expect("signed");
    let signature = session.combine(&key, &sighash, partials.iter());
    let witness = [signature.expect("a signature")];
    signed.payout.input[0].witness = bitcoin::Witness::from_slice(&witness);
    checkpoint
}

#[test]
fn a_state_that_only_the_coordinator_signed_is_said_to_be_its_word_alone() {
    let alone = "the coordinator's word alone";
    let files = files();
    let round = files.booked().round;
    let signed = files.archive.signed_checkpoint(&files.world, &round);
    let signed = signed.expect("the round was signed");
    let unsigned = Checkpoint {
        signed: None,
        ..signed.clone()
    };
    // The state of windows that are all there is computed.
    keep_checkpoint(files.path(), files.block, &unsigned).expect("kept");
    let (said, _) = audit_json(files.path(), &[]);
    assert!(!said["not_checked"].to_string().contains(alone), "{said}");
    let said = from_checkpoint(&files, &unsigned);
    assert_eq!(said["states"][0]["signers"], 0);
    let notes = said["not_checked"].to_string();
    assert!(
        notes.contains("no round that was signed") && notes.contains(alone),
        "{notes}"
    );
    let text = audit_text(files.path(), &[]);
    assert!(text.contains(alone), "{text}");

    let files = self::files();
    let said = from_checkpoint(&files, &signed);
    let signers = signed.signed.expect("signed").terms.inputs.signers.len();
    assert!(signers > 1);
    assert_eq!(said["states"][0]["signers"], signers);
    assert!(!said["not_checked"].to_string().contains(alone), "{said}");

    // A round that the coordinator signed without anybody else proves nothing more.
    let files = self::files();
    let said = from_checkpoint(&files, &signed_alone(&files));
    assert_eq!(said["states"][0]["signers"], 1);
    let notes = said["not_checked"].to_string();
    assert!(
        notes.contains("one signer") && notes.contains(alone),
        "{notes}"
    );
}

#[test]
fn a_blocks_checkpoint_explains_it_with_the_booking_and_without() {
    let files = files();
    files.with_checkpoint();
    let block = files.block.to_string();
    let (all, holds) = audit_json(files.path(), &["--block", &block]);
    assert!(holds, "{all}");
    assert_eq!(all["signed_checkpoints"], 1);
    assert_eq!(all["header_checked"], true);
    // The checkpoint makes no window that is there one to be believed.
    assert_eq!(all["windows"], files.archive.segments.len());
    assert_eq!(spans_from(&all), ["checked"]);
    let mut shares = files.archive.segments.iter();
    let found = shares.find_map(|s| find_header(s, &files.hash).expect("terms"));
    let header = hex::encode(found.expect("a share").header);
    for window in 1..=files.archive.segments.len() {
        fs::remove_file(files.path_of(window as u64)).expect("removed");
    }
    let args = ["--block", &block, "--header", &header];
    let (alone, holds) = audit_json(files.path(), &args);
    assert!(holds, "{alone}");
    assert_eq!(alone["header_checked"], true);
    assert_eq!(spans_from(&alone), ["signed"]);
    let (mut all, mut alone) = (all["explained"][0].clone(), alone["explained"][0].clone());
    for explained in [&mut all, &mut alone] {
        for span in explained["spans"].as_array_mut().expect("spans") {
            span["from"] = Value::Null;
        }
    }
    assert_eq!(all, alone);
    let other = format!("{}{}", &header[..158], "ff");
    let (said, holds) = audit_json(files.path(), &["--block", &block, "--header", &other]);
    let difference = said["difference"].as_str().expect("a difference");
    assert!(!holds && difference.contains("hashes to"), "{difference}");
}

/// From what the explained block's windows are known, each answer once.
fn spans_from(said: &Value) -> Vec<String> {
    let spans = said["explained"][0]["spans"].as_array().expect("spans");
    let mut from: Vec<String> = spans
        .iter()
        .map(|span| span["from"].as_str().expect("text").to_owned())
        .collect();
    from.dedup();
    assert!(!from.is_empty());
    from
}

#[test]
fn a_false_share_in_a_window_that_counts_is_found_beside_the_blocks_checkpoint() {
    let files = files();
    files.with_checkpoint();
    let block = files.block.to_string();
    let segments = &files.archive.segments;
    let busy = |segment: &Segment| segment.end.record.tally.len() > 1;
    let place = segments.iter().position(busy).expect("a window with work");
    let window = place as u64 + 1;
    assert!(window <= of_checkpoint(&files), "before the checkpoint");
    let mut lie = segments[place].clone();
    let share = &mut lie.parts[0].shares[0];
    share.owner = 1 - share.owner.min(1);
    fs::remove_file(files.path_of(window)).expect("removed");
    keep(files.path(), &lie).expect("kept");
    let (said, holds) = audit_json(files.path(), &["--block", &block]);
    let difference = said["difference"].as_str().expect("a difference");
    assert!(
        !holds && difference.contains(&format!("share 0 of window {window}")),
        "{difference}"
    );
}

/// The window after which the state of the block's checkpoint is.
fn of_checkpoint(files: &Files) -> u64 {
    let round = files.booked().round;
    let mut terms = files.archive.terms.iter();
    let terms = terms.find(|terms| terms.round() == round).expect("terms");
    terms.terms().inputs.ledger.seq.0
}

#[test]
fn windows_that_count_are_checked_without_those_before_them() {
    let files = files();
    files.with_checkpoint();
    let block = files.block.to_string();
    // Nobody worked in it: as if the pool had pruned it.
    assert_eq!(files.archive.segments[0].end.record.shares, 0);
    fs::remove_file(files.path_of(1)).expect("removed");
    let (said, holds) = audit_json(files.path(), &["--block", &block]);
    assert!(holds, "{said}");
    assert_eq!(spans_from(&said), ["checked"]);
    let text = audit_text(files.path(), &["--block", &block]);
    assert!(!text.contains("before the files: not recomputed"), "{text}");
    // Who asks for less gets less, and is told so.
    let after = (of_checkpoint(&files) + 1).to_string();
    let (said, holds) = audit_json(files.path(), &["--block", &block, "--from", &after]);
    assert!(holds, "{said}");
    assert_eq!(spans_from(&said), ["signed"]);
    // Nor does it take the windows after the checkpoint.
    for window in of_checkpoint(&files) + 1..=files.archive.segments.len() as u64 {
        fs::remove_file(files.path_of(window)).expect("removed");
    }
    let (said, holds) = audit_json(files.path(), &["--block", &block]);
    assert!(holds, "{said}");
    assert_eq!(spans_from(&said), ["checked"]);
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
