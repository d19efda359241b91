//! A found block explained: from its coinbase down to each share and each sat.

use std::fs;

use serde_json::Value;
use tutti_participant::segments::{keep, keep_checkpoint};
use tutti_proto::audit::find_header;
use tutti_proto::id::{Identity, LaneIndex};
use tutti_proto::musig::{AggregateKey, AggregateNonce, Session, SigningSlot};
use tutti_proto::payout;
use tutti_proto::plan::Signer;
use tutti_proto::segment::{Checkpoint, Segment};

use crate::pool::{Files, audit_json, audit_text, files, output};

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
fn a_block_that_is_in_no_file_is_not_said_to_hold() {
    let files = files();
    let other = "00".repeat(31) + "07";
    let path = files.path().to_str().expect("text");
    let said = output(&["audit", path, "--block", &other]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stdout.is_empty(), "{said:?}");
    let said = String::from_utf8(said.stderr).expect("text");
    for words in [
        format!("block {other} is in none of these files"),
        format!("fetch-segments --block {other}"),
    ] {
        assert!(said.contains(&words), "{said}");
    }
}
