//! What files claim beside what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};

use super::AuditError;
use crate::follower::FollowError;
use crate::id::{LaneIndex, RoundId, WindowSeq};
use crate::plan::{Amounts, PlanView, RoundInputs, unsigned_payouts};
use crate::segment::{Segment, SegmentError, WindowEnd};
use crate::terms::{CheckedTerms, RoundTerms};
use crate::window::{BlockPayouts, Booking, LedgerError, LedgerHead};

/// A round of which the state is known.
pub(super) struct Known<'a> {
    pub(super) view: PlanView<'a>,
    pub(super) inputs: &'a RoundInputs,
    pub(super) amounts: Amounts,
}

/// Checks that the coordinator signed a head, and that of this record.
pub(super) fn check_head(segment: &Segment) -> Result<(), FollowError> {
    let WindowEnd {
        record,
        state,
        head,
    } = &segment.end;
    let window = record.seq;
    head.verify(&segment.pool.coordinator)
        .map_err(|_| FollowError::UnsignedHead(window))?;
    let told = LedgerHead::of(window, &record.previous, &record.digest(), state);
    match told == head.head {
        true => Ok(()),
        false => Err(LedgerError::NotThisHead(window).into()),
    }
}

/// Checks that each of the terms is named by a share or a booking, before anything is made of them.
pub(super) fn check_named(segment: &Segment) -> Result<(), AuditError> {
    let record = &segment.end.record;
    let shares = segment.parts.iter().flat_map(|part| &part.shares);
    let named: BTreeSet<u16> = shares.map(|share| share.terms).collect();
    let terms = segment.parts.iter().flat_map(|part| &part.terms);
    let is_named = |place: usize| u16::try_from(place).is_ok_and(|place| named.contains(&place));
    let mut others = terms.enumerate().filter(|(place, _)| !is_named(*place));
    let mut booked: BTreeMap<RoundId, usize> = BTreeMap::new();
    for booking in &record.bookings {
        *booked.entry(booking.round).or_default() += 1;
    }
    // Each booking names one: two blocks of a round may have different previous blocks.
    let mut is_booked = |terms: &RoundTerms| {
        let left = booked.get_mut(&terms.round());
        left.filter(|left| **left > 0).map(|left| *left -= 1)
    };
    match others.find(|(_, terms)| is_booked(terms).is_none()) {
        None => Ok(()),
        Some((_, terms)) => Err(AuditError::NotNamed {
            window: record.seq,
            round: terms.round(),
        }),
    }
}

/// A window has one segment: whoever makes another has something to hide, or a fault.
pub(super) fn check_canonical(
    segment: &Segment,
    terms: &[Arc<CheckedTerms>],
) -> Result<(), AuditError> {
    let window = segment.end.record.seq;
    let parts = &segment.parts;
    let outputs = parts.iter().flat_map(|part| part.outputs.iter().cloned());
    let shares: Vec<_> = parts
        .iter()
        .flat_map(|part| &part.shares)
        .copied()
        .collect();
    let end = segment.end.clone();
    let made = Segment::new(segment.pool, terms, outputs.collect(), &shares, end);
    match made {
        Ok(made) if made == *segment => Ok(()),
        Err(SegmentError::NoTerms(round)) => Err(AuditError::NoTerms { window, round }),
        Err(SegmentError::Dangling) => Err(AuditError::Dangling(window)),
        Ok(_) => Err(AuditError::NotCanonical(window)),
    }
}

fn first_difference<T: PartialEq>(claimed: &[T], follows: &[T]) -> Option<usize> {
    let places = claimed.len().max(follows.len());
    (0..places).find(|place| claimed.get(*place) != follows.get(*place))
}

/// Compares the outputs of a round's coinbases with those that were told of it before.
pub(super) fn compare_told(
    window: WindowSeq,
    round: &RoundId,
    claimed: &[(ScriptBuf, Amount)],
    before: &[(ScriptBuf, Amount)],
) -> Result<(), AuditError> {
    match first_difference(claimed, before) {
        None => Ok(()),
        Some(output) => Err(AuditError::OutputsChanged {
            window,
            round: *round,
            output,
            claimed: claimed.get(output).cloned().map(Box::new),
            follows: before.get(output).cloned().map(Box::new),
        }),
    }
}

/// Compares the outputs of a round's coinbases with those that follow from its state.
pub(super) fn compare_outputs(
    window: WindowSeq,
    round: &RoundId,
    known: &Known<'_>,
    terms: &RoundTerms,
) -> Result<(), AuditError> {
    let claimed = &terms.outputs;
    let follows: Vec<(ScriptBuf, Amount)> = match &known.amounts {
        // The terms' own check has compared the scripts with the signers' key.
        Amounts::Signed(amounts) => {
            let script = claimed.first().map(|(script, _)| script.clone());
            let script = script.unwrap_or_default();
            let shards = amounts.split.shards.iter();
            let output = |sat| (script.clone(), Amount::from_sat(sat));
            shards.map(|shard| output(shard.value)).collect()
        }
        Amounts::Direct(amounts) => amounts.outputs(round, &known.view),
    };
    match first_difference(claimed, &follows) {
        None => Ok(()),
        Some(output) => Err(AuditError::Output {
            window,
            round: *round,
            output,
            claimed: claimed.get(output).cloned().map(Box::new),
            follows: follows.get(output).cloned().map(Box::new),
        }),
    }
}

pub(super) fn compare_carry(
    window: WindowSeq,
    booking: &Booking,
    known: &Known<'_>,
) -> Result<(), AuditError> {
    let none = booking.carry.iter().find(|(_, sat)| **sat == 0);
    if let Some((who, _)) = none {
        let (block, who) = (booking.block, *who);
        return Err(AuditError::NoChange { window, block, who });
    }
    let changes = known.amounts.carry_changes(&known.view);
    let sign = if booking.undone { -1i128 } else { 1 };
    let everyone: BTreeSet<_> = booking.carry.keys().chain(changes.keys()).collect();
    for who in everyone {
        let claimed = booking.carry.get(who).copied().unwrap_or(0);
        let follows = changes.get(who).map_or(0, |sat| i128::from(*sat) * sign);
        if i128::from(claimed) != follows {
            return Err(AuditError::Carry {
                window,
                block: booking.block,
                who: *who,
                claimed,
                follows: i64::try_from(follows).unwrap_or(i64::MAX),
            });
        }
    }
    Ok(())
}

/// Compares what a booking says that its block pays with what follows: bumps are credited by it.
pub(super) fn compare_payouts(
    window: WindowSeq,
    booking: &Booking,
    known: &Known<'_>,
    coinbase: &Transaction,
) -> Result<(), AuditError> {
    let payees = known.amounts.payees(&known.view);
    let txid = coinbase.compute_txid().to_byte_array();
    let follows = BlockPayouts::new(known.view.params, known.inputs, txid, &payees);
    let (claimed, follows) = (booking.payouts, follows.digest());
    match claimed == follows {
        true => Ok(()),
        false => Err(AuditError::Payees {
            window,
            block: booking.block,
            claimed,
            follows,
        }),
    }
}

/// Compares the first payout of lane 0, as it was signed, with the one that follows.
pub(super) fn compare_payout(
    window: WindowSeq,
    round: &RoundId,
    known: &Known<'_>,
    payout: &Transaction,
) -> Result<(), AuditError> {
    let Amounts::Signed(amounts) = &known.amounts else {
        return Ok(());
    };
    let unsigned = unsigned_payouts(known.inputs, &known.view, &amounts.split, LaneIndex(0));
    let unsigned = unsigned.map_err(|error| AuditError::Plan {
        window,
        round: *round,
        error: Box::new(error.into()),
    })?;
    let computed = unsigned.first();
    let follows = computed.map_or(&[][..], |tx| &tx.output[..]);
    let pairs = |outputs: &[TxOut]| {
        let pair = |output: &TxOut| (output.script_pubkey.clone(), output.value);
        outputs.iter().map(pair).collect::<Vec<_>>()
    };
    let (claimed, follows) = (pairs(&payout.output), pairs(follows));
    match first_difference(&claimed, &follows) {
        // A txid is that of the transaction without its signatures.
        None if computed.map(Transaction::compute_txid) == Some(payout.compute_txid()) => Ok(()),
        None => Err(AuditError::PayoutForm {
            window,
            round: *round,
        }),
        Some(output) => Err(AuditError::Payout {
            window,
            round: *round,
            output,
            claimed: claimed.get(output).cloned().map(Box::new),
            follows: follows.get(output).cloned().map(Box::new),
        }),
    }
}
