//! Found blocks to the sat: what is explained is what the payouts pay.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use tutti_proto::audit::{Auditor, BookingReport, Explanation, WhereFrom};
use tutti_proto::coordinator::{Committed, Record};
use tutti_proto::id::{Identity, WindowSeq};
use tutti_proto::work::Work;
use tutti_tests::sim::{Archive, World, WorldOptions};

use super::pool::{audit, direct_pool, options, pool, run, sharded_pool};

fn committed<'a>(world: &'a World, booking: &BookingReport) -> &'a Committed {
    let mut committed = world.records.iter().filter_map(|record| match record {
        Record::Committed(committed) if committed.round == booking.round => Some(committed),
        _ => None,
    });
    committed.next().unwrap()
}

/// Compares with the transactions that the coordinator committed, output by output.
fn is_what_is_paid(world: &World, archive: &Archive, booking: &BookingReport) {
    let explained = booking.explanation.as_deref().unwrap();
    let (coinbase, payouts) = committed(world, booking).lane(booking.lane).unwrap();
    assert_eq!(explained.coinbase, coinbase.compute_txid());
    let value: u64 = coinbase.output.iter().map(|out| out.value.to_sat()).sum();
    assert_eq!(explained.reward, value);
    let paying: Vec<&Transaction> = match explained.direct {
        true => vec![coinbase],
        false => payouts.iter().collect(),
    };
    let txids: Vec<_> = paying.iter().map(|tx| tx.compute_txid()).collect();
    assert_eq!(
        explained.payouts.iter().map(|p| p.txid).collect::<Vec<_>>(),
        txids
    );
    let mut outputs = 0;
    for line in explained.payees.iter().filter(|line| line.output.is_some()) {
        let (payout, output) = line.output.unwrap();
        assert_eq!(paying[payout].output[output].value.to_sat(), line.paid);
        outputs += 1;
    }
    let all: usize = paying.iter().map(|tx| tx.output.len()).sum();
    // The anchor of each payout; or the round's name and the witness commitment of a coinbase.
    let others = if explained.direct { 2 } else { paying.len() };
    assert_eq!(outputs + others, all);
    let costs = explained.payouts.iter().map(|p| p.fee + p.anchor);
    let parts = explained.payees.iter().map(|line| line.paid);
    assert_eq!(costs.chain(parts).sum::<u64>(), value);
    // As it is shown: from the coinbase's value down to what work is paid for.
    let costs: u64 = explained.payouts.iter().map(|p| p.fee + p.anchor).sum();
    let taken = (explained.operator_fee_paid + costs) as i64 + explained.carries;
    assert_eq!(value as i64 - taken + explained.left_owed, explained.rest);
    adds_up(explained, archive, booking);
}

fn adds_up(explained: &Explanation, archive: &Archive, booking: &BookingReport) {
    for line in &explained.payees {
        let owed = line.carry_before + line.fee as i64 + line.earned;
        assert_eq!(owed, line.paid as i64 + line.carry_after);
        let by_span: u128 = line.by_span.iter().map(|work| work.0).sum();
        if !explained.equal {
            assert_eq!(Work(by_span), line.weight);
        }
        // What weight earns is its part of the rest, to the sat.
        if line.output.is_some() && line.carry_after == 0 && explained.weight_paid.0 > 0 {
            let exact = explained.rest as u128 * line.weight.0 / explained.weight_paid.0;
            assert!(
                (exact..=exact + 1).contains(&(line.earned as u128)),
                "{line:?}"
            );
        }
    }
    let changes: BTreeMap<Identity, i64> = explained
        .payees
        .iter()
        .map(|line| (line.identity, line.carry_after - line.carry_before))
        .filter(|(_, change)| *change != 0)
        .collect();
    let records = archive.segments.iter().map(|segment| &segment.end.record);
    let mut booked = records.flat_map(|record| &record.bookings);
    let booked = booked
        .find(|b| b.block == booking.block && !b.undone)
        .unwrap();
    assert_eq!(changes, booked.carry);
}

fn first_booking(world: &World, block: [u8; 32]) -> (Archive, BookingReport) {
    let archive = Archive::of(world).unwrap();
    let (_, reports) = audit(&archive).unwrap();
    let mut bookings = reports.into_iter().flat_map(|report| report.bookings);
    let booking = bookings.find(|booking| booking.block == block).unwrap();
    (archive, booking)
}

#[test]
fn a_signed_block_with_carries_is_explained_to_the_sat() {
    let (world, block) = pool(options());
    let (archive, booking) = first_booking(&world, block);
    is_what_is_paid(&world, &archive, &booking);
    let explained = booking.explanation.unwrap();
    assert!(explained.payees.len() >= 5 && !explained.equal);
    assert!(
        explained
            .spans
            .iter()
            .all(|span| span.from == WhereFrom::Checked)
    );
    let below_dust = |line: &&tutti_proto::audit::PayeeLine| line.output.is_none();
    let below = explained.payees.iter().find(below_dust).unwrap();
    assert!(below.carry_after < below.dust_limit as i64);
}

#[test]
fn the_oldest_window_that_counts_is_counted_in_part() {
    // 2^8 hashes a block: one times that is less than the shares of the first window, and some of these
    // are blocks.
    let (world, _) = pool(WorldOptions {
        pplns_depth: 1,
        block_zero_bits: 8,
        ..options()
    });
    let segments = Archive::of(&world).unwrap().segments.into_iter();
    let mut bookings = segments.flat_map(|segment| segment.end.record.bookings);
    let block = bookings.find(|b| b.carry.len() > 1).unwrap().block;
    let (archive, booking) = first_booking(&world, block);
    is_what_is_paid(&world, &archive, &booking);
    let explained = booking.explanation.unwrap();
    assert_eq!(explained.depth, Work(256));
    let oldest = explained.spans.last().unwrap();
    assert!(oldest.counted < oldest.total);
    let counted: u128 = explained.spans.iter().map(|span| span.counted.0).sum();
    assert_eq!(counted, 256);
}

#[test]
fn a_direct_block_is_explained_to_the_sat() {
    let (world, block) = direct_pool();
    let (archive, booking) = first_booking(&world, block);
    let explained = booking.explanation.as_ref().unwrap();
    assert!(explained.direct);
    is_what_is_paid(&world, &archive, &booking);
}

#[test]
fn a_block_of_two_payouts_is_explained_to_the_sat() {
    let (world, block) = sharded_pool();
    let archive = Archive::of(&world).unwrap();
    let mut auditor = Auditor::new(archive.params.name()).explaining();
    auditor
        .know(archive.checkpoint(WindowSeq(1)).unwrap())
        .unwrap();
    let (_, reports) = run(auditor, &archive.segments[1..]).unwrap();
    let mut bookings = reports.into_iter().flat_map(|report| report.bookings);
    let booking = bookings.find(|booking| booking.block == block).unwrap();
    is_what_is_paid(&world, &archive, &booking);
    let explained = booking.explanation.unwrap();
    let past = explained
        .spans
        .iter()
        .find(|span| span.last == WindowSeq(1))
        .unwrap();
    assert_eq!(past.from, WhereFrom::Signed);
}

#[test]
fn a_checkpoint_alone_explains_the_block_of_its_round() {
    let (world, block) = pool(options());
    let (archive, booking) = first_booking(&world, block);
    let checkpoint = archive.signed_checkpoint(&world, &booking.round).unwrap();
    let mut auditor = Auditor::new(archive.params.name());
    auditor.know(checkpoint).unwrap();
    let alone = auditor
        .explain_lane(&booking.terms, booking.lane)
        .unwrap()
        .unwrap();
    let full = booking.explanation.unwrap();
    assert_eq!(alone.payees, full.payees);
    assert_eq!(alone.payouts, full.payouts);
    assert!(
        alone
            .spans
            .iter()
            .all(|span| span.from == WhereFrom::Signed)
    );
}
