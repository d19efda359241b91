//! Honest windows pass, whatever happened in them.

use std::collections::BTreeSet;

use tutti_proto::audit::Auditor;
use tutti_proto::deadline::Millis;
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::Segment;
use tutti_proto::wire::{FromWire, ToWire};
use tutti_tests::sim::{Archive, WorldOptions};

use super::pool::{audit, direct_pool, options, pool, run, sharded_pool};

#[test]
fn every_share_record_round_and_booking_of_an_honest_pool_is_checked_from_the_first_window_on() {
    let (world, block) = pool(options());
    let archive = Archive::of(&world).unwrap();
    let (totals, reports) = audit(&archive).unwrap();
    let windows = archive.segments.len() as u64;
    assert_eq!(totals.windows, Some((WindowSeq(1), WindowSeq(windows))));
    assert_eq!(totals.windows_with_state, windows);
    let shares: usize = archive
        .segments
        .iter()
        .map(|s| super::pool::shares_of(s).len())
        .sum();
    assert!(shares > 80);
    assert_eq!(totals.shares, shares as u64);
    assert_eq!(totals.work.0, 8 * shares as u128);
    assert_eq!((totals.rounds_unchecked, totals.bookings_unchecked), (0, 0));
    assert!(totals.rounds_checked >= 3);
    let bookings = reports.iter().flat_map(|report| &report.bookings);
    let bookings: Vec<_> = bookings.filter(|booking| booking.block == block).collect();
    let undone: Vec<bool> = bookings.iter().map(|booking| booking.undone).collect();
    assert_eq!(undone, [false, true, false]);
    assert!(
        bookings
            .iter()
            .all(|booking| booking.checked && booking.carries > 0)
    );
    assert!(bookings[0].among_shares);
}

#[test]
fn files_read_back_are_the_windows_they_were() {
    let (world, _) = pool(options());
    let mut archive = Archive::of(&world).unwrap();
    let read = |segment: &Segment| Segment::decode(&segment.encode()).unwrap();
    archive.segments = archive.segments.iter().map(read).collect();
    audit(&archive).unwrap();
}

#[test]
fn direct_rounds_are_computed_too() {
    let (world, block) = direct_pool();
    let archive = Archive::of(&world).unwrap();
    let is_direct = |round: &tutti_proto::terms::RoundTerms| round.inputs.is_direct();
    let parts = archive.segments.iter().flat_map(|segment| &segment.parts);
    assert!(parts.flat_map(|part| &part.terms).any(is_direct));
    let (totals, reports) = audit(&archive).unwrap();
    assert_eq!((totals.rounds_unchecked, totals.bookings_unchecked), (0, 0));
    let mut bookings = reports.iter().flat_map(|report| &report.bookings);
    assert!(bookings.any(|booking| booking.block == block && booking.checked));
}

#[test]
fn a_checkpoint_in_the_middle_gives_the_state_and_without_one_only_chains_and_shares_are_checked() {
    let (world, _) = pool(options());
    let archive = Archive::of(&world).unwrap();
    let last = archive.segments.len();
    for start in 1..last {
        let later = &archive.segments[start..];
        let before = WindowSeq(start as u64);
        let (totals, _) = run(Auditor::new(archive.params.name()), later).unwrap();
        assert_eq!(totals.windows_with_state, 0);
        assert_eq!((totals.rounds_checked, totals.bookings_checked), (0, 0));
        let mut auditor = Auditor::new(archive.params.name());
        let signed = auditor.know(archive.checkpoint(before).unwrap()).unwrap();
        assert!(!signed);
        let (totals, _) = run(auditor, later).unwrap();
        assert_eq!(totals.windows_with_state, (last - start) as u64);
        assert_eq!(totals.state_since, Some(before.next()));
        // A round that was proposed before the checkpoint stays unchecked, every later one does not.
        let proposed_later = |segment: &Segment| {
            let rounds = segment.parts.iter().flat_map(|part| &part.terms);
            rounds
                .filter(|terms| terms.inputs.ledger.seq >= before)
                .count()
        };
        let count: usize = later.iter().map(proposed_later).sum();
        assert_eq!(totals.rounds_checked, count as u64);
    }
}

#[test]
fn a_checkpoint_in_the_middle_of_a_run_begins_the_state_there() {
    let (world, _) = pool(options());
    let archive = Archive::of(&world).unwrap();
    let mut auditor = Auditor::new(archive.params.name());
    auditor
        .know(archive.checkpoint(WindowSeq(4)).unwrap())
        .unwrap();
    let (totals, _) = run(auditor, &archive.segments[1..]).unwrap();
    assert_eq!(totals.state_since, Some(WindowSeq(5)));
    assert_eq!(
        totals.windows,
        Some((WindowSeq(2), WindowSeq(archive.segments.len() as u64)))
    );
}

#[test]
fn the_checkpoint_of_every_signed_round_is_its_signers_word_whatever_came_in_before_the_proposal() {
    let (world, _) = pool(options());
    let archive = Archive::of(&world).unwrap();
    let mut tried = 0;
    for terms in &archive.terms {
        let Some(checkpoint) = archive.signed_checkpoint(&world, &terms.round()) else {
            continue;
        };
        let after = terms.terms().inputs.ledger.seq;
        let mut auditor = Auditor::new(archive.params.name());
        assert_eq!(auditor.know(checkpoint), Ok(true));
        let from = usize::try_from(after.0).unwrap();
        run(auditor, &archive.segments[from..]).unwrap();
        tried += 1;
    }
    assert!(tried >= 5, "{tried} rounds");
}

#[test]
fn shards_and_three_hundred_payees_are_checked_from_a_checkpoint() {
    let (world, block) = sharded_pool();
    let archive = Archive::of(&world).unwrap();
    let mut auditor = Auditor::new(archive.params.name()).explaining();
    auditor
        .know(archive.checkpoint(WindowSeq(1)).unwrap())
        .unwrap();
    let (totals, reports) = run(auditor, &archive.segments[1..]).unwrap();
    assert_eq!((totals.rounds_unchecked, totals.bookings_unchecked), (0, 0));
    let bookings: Vec<_> = reports.iter().flat_map(|report| &report.bookings).collect();
    assert_eq!(bookings[0].block, block);
    let explained = bookings[0].explanation.as_ref().unwrap();
    assert_eq!(explained.payouts.len(), 2);
}

#[test]
fn payees_that_come_go_and_move_are_followed() {
    let mut world = tutti_tests::sim::World::new(WorldOptions {
        miners: 6,
        ..options()
    });
    let mut seen = BTreeSet::new();
    for miner in 0..6 {
        world.connect(miner);
        world.new_tip();
        world.run_until(Millis(20_000), "a job", |world| {
            !world.miners[miner].orders.is_empty()
        });
        world.settle();
        world.share(miner);
        world.settle();
        world.next_round();
        seen.insert(world.coordinator.roster().digest());
    }
    let archive = Archive::of(&world).unwrap();
    assert!(seen.len() >= 6);
    let (totals, _) = audit(&archive).unwrap();
    assert_eq!(totals.rounds_unchecked, 0);
}
