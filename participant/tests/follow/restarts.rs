//! Honest ledgers, whatever breaks, is forgotten or is damaged on the way.

use std::path::Path;

use tempfile::TempDir;
use tonic::Status;
use tutti_participant::follow::{self, Report};
use tutti_proto::coordinator::Record;
use tutti_proto::id::WindowSeq;
use tutti_proto::participant::LedgerFault;
use tutti_proto::segment::{Checkpoint, CheckpointError, Segment, WindowPart};
use tutti_proto::window::Ledger;
use tutti_proto::wire::pb::followed::Followed;
use tutti_proto::wire::{FromWire, ToWire};
use tutti_tests::sim::{Archive, World};

use super::teller::{
    Check, Script, Told, broken, busy, message, part, pool, shallow_pool, windows,
};

#[tokio::test]
async fn an_honest_ledger_is_checked_over_a_stream_that_breaks_in_the_middle_of_a_window() {
    let (_, archive) = pool();
    let place = busy(&archive);
    let (segments, dir) = (&archive.segments, TempDir::new().expect("a directory"));
    let (window, whole) = (segments[place].end.record.seq.0, &segments[place].parts[0]);
    let mut first = windows(&segments[..place]);
    let shares = whole.shares[..3].to_vec();
    first.push(part(&WindowPart {
        shares,
        ..whole.clone()
    }));
    first.push(broken());
    let mut then = vec![part(&WindowPart {
        first_share: 3,
        shares: whole.shares[3..].to_vec(),
        ..whole.clone()
    })];
    then.push(message(Followed::End(segments[place].end.to_wire())));
    then.extend(windows(&segments[place + 1..]));
    let script = move |asked, _| match asked {
        0 => first.clone(),
        _ => then.clone(),
    };
    let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
    check.checks(&segments[..place]).await;
    let why = check.trouble().await;
    assert!(why.contains("the network"), "{why}");
    check.checks(&segments[place..]).await;
    assert_eq!(check.asked().await, (0, 0));
    assert_eq!(check.asked().await, (window, 3));
}

/// Lets a first process check these windows, from the pool's first on, so that its file is written.
async fn checked_before(archive: &Archive, dir: &Path, known: &[Segment]) {
    let mut told = windows(known);
    told.push(broken());
    let mut check = Check::start(archive, dir, 2, Box::new(move |_, _| told.clone())).await;
    check.checks(known).await;
    // By then the file is written.
    check.trouble().await;
}

/// The state after a window of this range, on which a round was signed.
fn signed_after(world: &World, archive: &Archive, windows: std::ops::Range<u64>) -> Checkpoint {
    let committed = world.records.iter().filter_map(|record| match record {
        Record::Committed(committed) => Some(committed.round),
        _ => None,
    });
    let committed: Vec<_> = committed.collect();
    let mut made = committed
        .iter()
        .filter_map(|round| archive.signed_checkpoint(world, round));
    let is_there = |made: &Checkpoint| windows.contains(&made.head.head.seq.0);
    made.find(is_there).expect("signed there")
}

fn after<'a>(archive: &'a Archive, checkpoint: &Checkpoint) -> &'a [Segment] {
    let place = usize::try_from(checkpoint.head.head.seq.0).expect("few");
    &archive.segments[place..]
}

fn told_from(checkpoint: &Checkpoint, later: &[Segment]) -> Told {
    let mut told = vec![message(Followed::Checkpoint(checkpoint.to_wire()))];
    told.extend(windows(later));
    told
}

fn gone() -> Told {
    vec![Err(Status::not_found("not kept"))]
}

#[tokio::test]
async fn a_restart_goes_on_from_what_was_checked_and_needs_no_window_to_say_so() {
    let (_, archive) = pool();
    let dir = TempDir::new().expect("a directory");
    let (known, later) = archive.segments.split_at(3);
    checked_before(&archive, dir.path(), known).await;
    let mut told = windows(later);
    told.push(broken());
    let mut check = Check::start(&archive, dir.path(), 2, Box::new(move |_, _| told.clone())).await;
    // What builds on this head can be signed before anything is told.
    assert_eq!(check.begins().await, known[2].end.head.head);
    check.checks(later).await;
    assert_eq!(check.asked().await, (4, 0));
}

#[tokio::test]
async fn a_window_that_the_pool_has_forgotten_is_said_to_be_unchecked_and_the_check_starts_after_it()
 {
    let (world, archive) = shallow_pool();
    let dir = TempDir::new().expect("a directory");
    let known = &archive.segments[..3];
    checked_before(&archive, dir.path(), known).await;
    let checkpoint = signed_after(&world, &archive, 6..100);
    let last = checkpoint.head.head.seq.0;
    assert!(counts_from(&checkpoint) > 4);
    let later = after(&archive, &checkpoint);
    assert!(!later.is_empty());
    let told = told_from(&checkpoint, later);
    let script = move |window, _| match window {
        0 => told.clone(),
        _ => gone(),
    };
    let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
    // It was there before, went away, and comes back when those windows are closed.
    for (open, closed) in [(2, &known[1..]), (last + 1, &[])] {
        check.follower.left();
        check
            .follower
            .joined(WindowSeq(open), world.coordinator.params());
        for segment in closed {
            check.follower.closed(&segment.end.record);
        }
    }
    check.follower.proposed(bits(&checkpoint));
    assert_eq!(check.begins().await, known[2].end.head.head);
    let why = check.trouble().await;
    assert!(why.contains("does not have window 4 any more"), "{why}");
    assert_eq!(check.skipped().await, (4, last));
    assert_eq!(check.begins().await, checkpoint.head.head);
    check.checks(later).await;
    assert_eq!(check.asked().await, (4, 0));
    assert_eq!(check.asked().await, (0, 0));
}

fn bits(checkpoint: &Checkpoint) -> u32 {
    let signed = checkpoint.signed.as_ref().expect("signed");
    signed.terms.inputs.bits
}

/// The first window whose work counts in the round that was signed on this state.
fn counts_from(checkpoint: &Checkpoint) -> u64 {
    let terms = &checkpoint.signed.as_ref().expect("signed").terms;
    let ledger = Ledger::from_snapshot(checkpoint.ledger.clone(), &checkpoint.head.head);
    let ledger = ledger.expect("its ledger");
    let counts_from = terms.params.counts_from(&ledger, terms.inputs.bits);
    counts_from.expect("a sum").0
}

/// Lets a check that has checked three windows ask for the fourth, of which the pool says after some parts
/// that it does not keep it, until it has been told so twice; says why it does not go on. The state that a
/// lying pool's puppets signed after that window is there for whoever asks.
async fn not_told(
    (world, archive): (World, Archive),
    open: Option<u64>,
    proposed: Option<u32>,
    said: &str,
) {
    let dir = TempDir::new().expect("a directory");
    checked_before(&archive, dir.path(), &archive.segments[..3]).await;
    let checkpoint = signed_after(&world, &archive, 6..100);
    let told = told_from(&checkpoint, after(&archive, &checkpoint));
    let first = archive.segments[3].parts.iter().map(part);
    let told_first: Told = first.chain(gone()).collect();
    let script = move |window, shares| match (window, shares) {
        (0, _) => told.clone(),
        (_, 0) => told_first.clone(),
        _ => gone(),
    };
    let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
    let params = world.coordinator.params();
    check.follower.joined(WindowSeq(1_000), params);
    if let Some(bits) = proposed {
        check.follower.proposed(bits);
    }
    check.follower.left();
    if let Some(open) = open {
        check.follower.joined(WindowSeq(open), params);
        for segment in &archive.segments[3..] {
            check.follower.closed(&segment.end.record);
        }
    }
    check.begins().await;
    let (mut refused, mut asked) = (0, Vec::new());
    while refused < 2 {
        // Anything but trouble would be a state that is signed on.
        refused += usize::from(check.trouble().await.contains(said));
        asked.push(check.asked().await.0);
    }
    let anew = asked.contains(&0);
    assert_eq!(anew, open.is_none(), "{asked:?}");
}

#[tokio::test]
async fn a_window_that_closes_while_we_are_connected_is_never_left_out() {
    not_told(
        shallow_pool(),
        Some(4),
        None,
        "while this participant was connected",
    )
    .await;
}

#[tokio::test]
async fn a_window_whose_work_still_counts_is_never_left_out() {
    let (world, archive) = pool();
    let checkpoint = signed_after(&world, &archive, 6..100);
    assert!(counts_from(&checkpoint) <= 4);
    let proposed = Some(bits(&checkpoint));
    not_told((world, archive), None, proposed, "whose work still counts").await;
}

#[tokio::test]
async fn how_much_work_counts_is_not_the_word_of_the_state_to_start_from() {
    let (world, archive) = shallow_pool();
    let checkpoint = signed_after(&world, &archive, 6..100);
    // By its own target it would not count any more.
    assert!(counts_from(&checkpoint) > 4);
    let harder = bits(&checkpoint) - 0x0100_0000;
    not_told(
        (world, archive),
        None,
        Some(harder),
        "whose work still counts",
    )
    .await;
    not_told(
        shallow_pool(),
        None,
        None,
        "not known before its first proposal",
    )
    .await;
}

/// Kept, it would keep us out of an honest pool for good, and nobody who lies about such a state.
#[tokio::test]
async fn a_target_that_was_too_hard_is_forgotten_with_the_process() {
    let (world, archive) = shallow_pool();
    let dir = TempDir::new().expect("a directory");
    checked_before(&archive, dir.path(), &archive.segments[..3]).await;
    let checkpoint = signed_after(&world, &archive, 6..100);
    let last = checkpoint.head.head.seq.0;
    let told = told_from(&checkpoint, after(&archive, &checkpoint));
    for (bits, is_too_hard) in [
        (bits(&checkpoint) - 0x0100_0000, true),
        (bits(&checkpoint), false),
    ] {
        let told = told.clone();
        let script = move |window, _| match window {
            0 => told.clone(),
            _ => gone(),
        };
        let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
        let params = world.coordinator.params();
        check.follower.joined(WindowSeq(1_000), params);
        check.follower.proposed(bits);
        check.follower.left();
        check.begins().await;
        let why = check.trouble().await;
        assert!(why.contains("does not have window 4 any more"), "{why}");
        if is_too_hard {
            let why = check.trouble().await;
            assert!(why.contains("whose work still counts"), "{why}");
        } else {
            assert_eq!(check.skipped().await, (4, last));
        }
    }
}

#[tokio::test]
async fn no_check_starts_anew_from_a_state_that_is_older_than_its_own_or_from_none() {
    let (world, archive) = pool();
    let known = &archive.segments[..4];
    let old = signed_after(&world, &archive, 2..4);
    for (told, said) in [
        (
            told_from(&old, after(&archive, &old)),
            "newest signed state",
        ),
        (windows(&archive.segments), "no signed state"),
    ] {
        let dir = TempDir::new().expect("a directory");
        checked_before(&archive, dir.path(), known).await;
        let script = move |window, _| match window {
            0 => told.clone(),
            _ => gone(),
        };
        let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
        check.begins().await;
        check.trouble().await;
        let why = check.trouble().await;
        assert!(why.contains(said), "{why}");
        // What is not there now may be there later.
        for request in [(5, 0), (0, 0), (5, 0)] {
            assert_eq!(check.asked().await, request);
        }
    }
}

#[tokio::test]
async fn a_stream_that_begins_anew_and_breaks_before_its_state_says_nothing_of_the_own_window() {
    let (_, archive) = pool();
    for status in [Status::not_found("not kept"), Status::data_loss("lost")] {
        let dir = TempDir::new().expect("a directory");
        checked_before(&archive, dir.path(), &archive.segments[..4]).await;
        let script = move |_, _| vec![Err(status.clone())];
        let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
        check.begins().await;
        for request in [(5, 0), (0, 0), (5, 0), (0, 0)] {
            assert_eq!(check.asked().await, request);
            let why = check.trouble().await;
            assert_eq!(why.contains("starts anew"), request.0 == 5, "{why}");
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_named_and_set_aside_and_the_check_starts_anew() {
    let (world, archive) = pool();
    let checkpoint = signed_after(&world, &archive, 2..5);
    let later = after(&archive, &checkpoint);
    let whole = {
        let dir = TempDir::new().expect("a directory");
        checked_before(&archive, dir.path(), &archive.segments[..3]).await;
        std::fs::read(dir.path().join(follow::CHECKED)).expect("a file")
    };
    let mut payees = Checkpoint::decode(&whole[32..]).expect("a checkpoint");
    payees.outputs.pop().expect("a payee");
    let mut other_payees = whole[..32].to_vec();
    other_payees.extend(payees.encode());
    let mut flipped = whole.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    let cut_off = whole[..20].to_vec();
    let without_seal = whole[32..].to_vec();
    for damaged in [other_payees, flipped, cut_off, without_seal] {
        let dir = TempDir::new().expect("a directory");
        let file = dir.path().join(follow::CHECKED);
        std::fs::write(&file, &damaged).expect("written");
        let told = told_from(&checkpoint, later);
        let script = Box::new(move |_, _| told.clone());
        let mut check = Check::start(&archive, dir.path(), 2, script).await;
        let why = match check.report().await {
            Report::SetAside { why } => why,
            other => panic!("{other:?}"),
        };
        assert!(why.contains(file.to_str().expect("text")), "{why}");
        let aside = dir.path().join("checked.checkpoint.damaged");
        assert!(why.contains(aside.to_str().expect("text")), "{why}");
        assert_eq!(std::fs::read(aside).expect("kept"), damaged);
        assert_eq!(check.begins().await, checkpoint.head.head);
        check.checks(later).await;
        assert_eq!(check.asked().await, (0, 0));
    }
}

#[tokio::test]
async fn a_checkpoint_is_the_word_of_enough_signers_or_none() {
    let (world, archive) = pool();
    let checkpoint = signed_after(&world, &archive, 2..5);
    let signed = checkpoint.signed.clone().expect("signed");
    let signers = signed.terms.inputs.signers.len();
    let place = usize::try_from(checkpoint.head.head.seq.0).expect("few");
    let later = archive.segments[place..].to_vec();
    let script = |checkpoint: &Checkpoint| -> Script {
        let mut told = vec![message(Followed::Checkpoint(checkpoint.to_wire()))];
        told.extend(windows(&later));
        Box::new(move |_, _| told.clone())
    };
    let enough = u16::try_from(signers).expect("few");
    for (min, takes) in [(enough, true), (enough + 1, false)] {
        let dir = TempDir::new().expect("a directory");
        let mut check = Check::start(&archive, dir.path(), min, script(&checkpoint)).await;
        match takes {
            true => {
                // A newcomer need not wait for a window to close.
                assert_eq!(check.begins().await, checkpoint.head.head);
                check.checks(&later).await;
            }
            false => {
                let why = check.trouble().await;
                assert!(why.contains("policy.signers_min asks"), "{why}");
            }
        }
    }
    let dir = TempDir::new().expect("a directory");
    let mut others = checkpoint.clone();
    let of_round = &mut others.signed.as_mut().expect("signed").terms.inputs.signers;
    of_round.retain(|signer| signer.identity != archive.params.coordinator);
    assert_eq!(of_round.len(), signers - 1);
    let mut check = Check::start(&archive, dir.path(), 2, script(&others)).await;
    assert_eq!(check.fault().await, (0, LedgerFault::NotCoordinators));

    let dir = TempDir::new().expect("a directory");
    let unsigned = Checkpoint {
        signed: None,
        ..checkpoint
    };
    let mut check = Check::start(&archive, dir.path(), 2, script(&unsigned)).await;
    let fault = LedgerFault::Checkpoint(CheckpointError::Unsigned);
    assert_eq!(check.fault().await, (0, fault));
}
