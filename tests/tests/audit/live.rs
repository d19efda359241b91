//! Windows as they are told while they are open.

use tutti_proto::audit::{AuditError, Auditor};
use tutti_proto::follower::FollowError;
use tutti_proto::id::{RoundSeq, SerialId, WindowSeq};
use tutti_proto::message::OutputExpired;
use tutti_proto::roster::CHANGES_LIMIT;
use tutti_proto::segment::{OutputChange, Segment, WindowPart};
use tutti_tests::sim::Archive;

use super::pool::{audit, hash_again, options, pool, sign_again};

fn honest() -> Archive {
    let (world, _) = pool(options());
    Archive::of(&world).unwrap()
}

/// The first so many shares of a window, and with them its terms and changes; or the rest, with the
/// terms and changes again.
fn cut(segment: &Segment, at: usize) -> [WindowPart; 2] {
    let whole = &segment.parts[0];
    let at = at.min(whole.shares.len());
    let part = |first: usize, shares: &[_]| WindowPart {
        first_share: first as u64,
        shares: shares.to_vec(),
        ..whole.clone()
    };
    [part(0, &whole.shares[..at]), part(at, &whole.shares[at..])]
}

#[test]
fn streams_that_break_in_every_window_are_checked_like_files_and_no_change_is_made_twice() {
    let archive = honest();
    let (totals, _) = audit(&archive).unwrap();
    let mut auditor = Auditor::new(archive.params.name());
    for segment in &archive.segments {
        let window = segment.end.record.seq;
        assert_eq!(auditor.position(), (window, 0));
        let [first, rest] = cut(segment, 3);
        auditor.part(&first).unwrap();
        assert_eq!(auditor.position(), (window, first.shares.len() as u64));
        auditor.resume();
        assert!(auditor.terms().is_empty());
        auditor.part(&rest).unwrap();
        auditor.end(&segment.end).unwrap();
        assert_eq!(auditor.head(), Some(segment.end.head.head));
    }
    assert_eq!(*auditor.totals(), totals);
    assert!(totals.bookings_checked >= 3);
}

/// Nothing of a change is checked before its window's end: so many are held until then, and no more.
#[test]
fn a_window_with_more_changes_than_it_may_have_is_false_before_its_end() {
    let archive = honest();
    let changes = |count: usize| {
        let serial_id = SerialId(1);
        let change = OutputChange::Expired(OutputExpired { serial_id });
        WindowPart {
            window: WindowSeq(1),
            outputs: vec![change; count],
            ..WindowPart::default()
        }
    };
    let mut auditor = Auditor::new(archive.params.name());
    auditor.part(&changes(CHANGES_LIMIT)).unwrap();
    // Another stream tells them again.
    auditor.resume();
    for _ in 0..CHANGES_LIMIT / 1_024 {
        auditor.part(&changes(1_024)).unwrap();
    }
    let too_many = AuditError::TooManyChanges(WindowSeq(1));
    assert_eq!(auditor.part(&changes(1)), Err(too_many.clone()));
    let mut auditor = Auditor::new(archive.params.name());
    assert_eq!(auditor.part(&changes(CHANGES_LIMIT + 1)), Err(too_many));
}

#[test]
fn a_checked_state_is_gone_on_from_and_later_rounds_are_checked_to_the_sat() {
    let archive = honest();
    let mut whole = Auditor::new(archive.params.name());
    for (place, segment) in archive.segments.iter().enumerate() {
        whole.segment(segment).unwrap();
        let kept = whole.checkpoint(segment.end.head).unwrap().unwrap();
        let before = kept.head.head.seq;
        let (ledger, roster) = kept.check().unwrap();
        let mut auditor = Auditor::after(archive.params.name(), ledger, roster);
        let mut later = 0;
        for segment in &archive.segments[place + 1..] {
            auditor.segment(segment).unwrap();
            let rounds = segment.parts.iter().flat_map(|part| &part.terms);
            later += rounds
                .filter(|terms| terms.inputs.ledger.seq >= before)
                .count() as u64;
        }
        assert_eq!(auditor.totals().rounds_checked, later);
    }
    let other = archive.segments[0].end.head;
    assert_eq!(whole.checkpoint(other), Ok(None));
}

#[test]
fn a_false_coinbase_of_a_round_that_only_the_broken_stream_told_is_found() {
    let mut archive = honest();
    // Moved between the outputs of the coinbase: its sum is the reward all the same.
    let is_used = |segment: &Segment| segment.end.record.shares > 0;
    let place = archive.segments.iter().position(is_used).unwrap();
    let segment = &mut archive.segments[place];
    let terms = &mut segment.parts[0].terms[0];
    let first = terms.outputs[0].clone();
    terms.outputs[0].1 -= bitcoin::Amount::from_sat(1_000);
    terms
        .outputs
        .push((first.0, bitcoin::Amount::from_sat(1_000)));
    let round = terms.round();
    hash_again(segment);
    sign_again(&mut archive, place);
    let mut auditor = Auditor::new(archive.params.name());
    for segment in &archive.segments[..place] {
        auditor.segment(segment).unwrap();
    }
    let segment = &archive.segments[place];
    let all = segment.parts[0].shares.len();
    let [first, mut rest] = cut(segment, all);
    auditor.part(&first).unwrap();
    auditor.resume();
    rest.terms.clear();
    auditor.part(&rest).unwrap();
    match auditor.end(&segment.end) {
        Err(AuditError::Output {
            round: of, output, ..
        }) => assert_eq!((of, output), (round, 0)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_round_has_one_coinbase_whichever_stream_tells_it() {
    let archive = honest();
    let is_used = |segment: &&Segment| segment.end.record.shares > 0;
    let segment = archive.segments.iter().find(is_used).unwrap();
    let mut auditor = Auditor::new(archive.params.name());
    for before in &archive.segments {
        if before.end.record.seq == segment.end.record.seq {
            break;
        }
        auditor.segment(before).unwrap();
    }
    let [first, mut rest] = cut(segment, 1);
    auditor.part(&first).unwrap();
    auditor.resume();
    let script = rest.terms[0].outputs[0].0.clone();
    let output = rest.terms[0].outputs.len();
    let added = (script, bitcoin::Amount::ZERO);
    rest.terms[0].outputs.push(added.clone());
    rest.shares.clear();
    let (window, round) = (segment.end.record.seq, rest.terms[0].round());
    assert_eq!(
        auditor.part(&rest),
        Err(AuditError::OutputsChanged {
            window,
            round,
            output,
            claimed: Some(Box::new(added)),
            follows: None,
        })
    );
}

#[test]
fn a_round_on_a_ledger_that_is_not_there_yet_and_one_with_another_number() {
    let archive = honest();
    let is_used = |segment: &Segment| segment.end.record.shares > 0;
    let place = archive.segments.iter().position(is_used).unwrap();
    let told = |change: &dyn Fn(&mut tutti_proto::plan::RoundInputs)| {
        let mut archive = honest();
        let segment = &mut archive.segments[place];
        let mut terms = super::pool::direct_terms(&segment.parts[0].terms[0]);
        change(&mut terms.inputs);
        let name = tutti_proto::coinbase::round_script(&terms.round());
        terms.outputs.last_mut().unwrap().0 = name;
        let round = terms.round();
        segment.parts[0].terms.push(terms);
        let mut auditor = Auditor::new(archive.params.name());
        for segment in &archive.segments[..place] {
            auditor.segment(segment).unwrap();
        }
        auditor.part(&archive.segments[place].parts[0]).unwrap();
        let end = &archive.segments[place].end;
        (end.record.seq, round, auditor.end(end).unwrap_err())
    };
    let (window, round, error) = told(&|inputs| inputs.ledger.seq = WindowSeq(1 << 40));
    assert_eq!(error, FollowError::OldRound { window, round }.into());
    let (window, round, error) = told(&|inputs| inputs.seq = RoundSeq(77));
    let follows = archive.segments[place].parts[0].terms[0].inputs.ledger.seq;
    let claimed = RoundSeq(77);
    assert_eq!(
        error,
        AuditError::RoundSeq {
            window,
            round,
            claimed,
            follows
        }
    );
}
