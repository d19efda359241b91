//! Fixed-length fields: never accepted when absent, one byte short or one byte long.

use tutti_proto::reject::RejectCode::Malformed;
use tutti_proto::wire::{ToWire, WireReason, pb};

use crate::malformed::{refusal, rng};
use crate::sample;

/// Spoils one field after the other.
macro_rules! lengths {
    ($good:expr, |$wire:ident| { $($name:literal $field:expr),* $(,)? }) => {{
        let good = $good;
        $({
            let error = |bytes: usize| {
                let mut message = good.to_wire();
                let $wire = &mut message;
                $field = vec![1; bytes].into();
                refusal(&good, message)
            };
            let WireReason::Length { want, .. } = error(0).reason else {
                panic!("{}: {}", $name, error(0));
            };
            for got in [0, want - 1, want + 1] {
                assert_eq!(error(got).path, $name);
                assert_eq!(error(got).reason, WireReason::Length { got, want });
                assert_eq!(error(got).code(), Malformed);
            }
        })*
    }};
}

pub fn bad_partial_of(aborted: &mut pb::TxAborted) -> &mut pb::BadPartial {
    match &mut aborted.blamed[1].evidence {
        Some(pb::blame::Evidence::BadPartial(bad)) => bad,
        other => panic!("{other:?}"),
    }
}

fn slot_of(aborted: &mut pb::TxAborted) -> &mut pb::AnnouncedSlot {
    bad_partial_of(aborted).slot.get_or_insert_default()
}

fn signatures_of(aborted: &mut pb::TxAborted) -> &mut pb::TxSignatures {
    bad_partial_of(aborted).signatures.get_or_insert_default()
}

pub fn refusal_of(aborted: &mut pb::TxAborted) -> &mut pb::TxAbort {
    match &mut aborted.blamed[2].evidence {
        Some(pb::blame::Evidence::Refused(abort)) => abort,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fixed_length_fields_of_another_length() {
    let rng = &mut rng();
    lengths!(sample::params(rng), |m| { "network" m.network, "coordinator" m.coordinator });
    lengths!(sample::challenge(rng), |m| { "nonce" m.nonce });
    lengths!(sample::join(rng), |m| {
        "identity" m.identity, "signature" m.signature, "head" *m.head.get_or_insert_default(),
    });
    lengths!(sample::tx_add_output(rng), |m| { "identity" m.identity, "signature" m.signature });
    lengths!(sample::tx_remove_output(rng), |m| { "identity" m.identity, "signature" m.signature });
    lengths!(sample::slots(rng), |m| {
        "slots[1].signature" m.slots[1].signature,
        "slots[1].slot.key" m.slots[1].slot.as_mut().unwrap().key,
        "slots[1].slot.nonces[1]" m.slots[1].slot.as_mut().unwrap().nonces[1],
    });
    lengths!(sample::holds(rng), |m| { "rounds[1]" m.rounds[1] });
    lengths!(sample::tx_complete(rng), |m| { "round" m.round });
    lengths!(sample::tx_signatures(rng), |m| {
        "round" m.round, "proposal" m.proposal, "partials[1]" m.partials[1], "signature" m.signature,
    });
    lengths!(sample::tx_abort(rng), |m| { "round" m.round, "signature" m.signature });
    lengths!(sample::tx_aborted(rng), |m| {
        "round" m.round, "blamed[1].identity" m.blamed[1].identity, "signature" m.signature,
        "blamed[1].bad_partial.slot.signature" slot_of(m).signature,
        "blamed[1].bad_partial.slot.slot.key" slot_of(m).slot.as_mut().unwrap().key,
        "blamed[1].bad_partial.slot.slot.nonces[0]" slot_of(m).slot.as_mut().unwrap().nonces[0],
        "blamed[1].bad_partial.signatures.round" signatures_of(m).round,
        "blamed[1].bad_partial.signatures.proposal" signatures_of(m).proposal,
        "blamed[1].bad_partial.signatures.partials[1]" signatures_of(m).partials[1],
        "blamed[1].bad_partial.signatures.signature" signatures_of(m).signature,
        "blamed[2].refused.round" refusal_of(m).round,
        "blamed[2].refused.signature" refusal_of(m).signature,
    });
    lengths!(sample::commit(rng), |m| { "round" m.round, "signatures[1]" m.signatures[1] });
    lengths!(sample::job(rng), |m| {
        "round" m.round,
        "header.previous_block" m.header.as_mut().unwrap().previous_block,
        "header.merkle_path[1]" m.header.as_mut().unwrap().merkle_path[1],
    });
    lengths!(sample::block_found(rng), |m| { "hash" m.hash, "round" m.round, "finder" m.finder });
    lengths!(sample::assignments(rng), |m| { "slices[1].owner" m.slices[1].owner });
    lengths!(sample::info(rng), |m| { "coordinator" m.coordinator, "network" m.network });
}

#[test]
fn fixed_length_fields_of_another_length_deep_inside() {
    let rng = &mut rng();
    lengths!(sample::proposal(rng), |m| { "signature" m.signature });
    lengths!(sample::proposal(rng).plan, |m| {
        "round" m.round, "coinbases[1]" m.coinbases[1], "nonces[1]" m.nonces[1],
    });
    lengths!(sample::proposal(rng).plan.inputs, |m| {
        "witness_commitment" *m.witness_commitment.get_or_insert_default(),
        "roster" m.roster, "assignments" m.assignments,
        "ledger.hash" m.ledger.as_mut().unwrap().hash,
        "signers[1].identity" m.signers[1].identity, "signers[1].key" m.signers[1].key,
    });
    lengths!(sample::window_closed(rng).record, |m| {
        "previous" m.previous, "shares_root" m.shares_root,
        "tally[1].identity" m.tally[1].identity, "tally[1].work" m.tally[1].work,
        "bookings[1].block" m.bookings[1].block, "bookings[1].round" m.bookings[1].round,
        "bookings[1].carry[1].identity" m.bookings[1].carry[1].identity,
        "bookings[1].payouts" m.bookings[1].payouts,
        "credits[1].block" m.credits[1].block, "credits[1].identity" m.credits[1].identity,
        "credits[1].proof.coinbase_txid" m.credits[1].proof.as_mut().unwrap().coinbase_txid,
        "credits[1].proof.shards[1]" m.credits[1].proof.as_mut().unwrap().shards[1],
        "credits[1].proof.payees[1]" m.credits[1].proof.as_mut().unwrap().payees[1],
    });
    lengths!(sample::welcome(rng), |m| {
        "outputs[1].identity" m.outputs[1].identity,
        "head.head.hash" m.head.as_mut().unwrap().head.as_mut().unwrap().hash,
        "head.signature" m.head.as_mut().unwrap().signature,
    });
    lengths!(sample::window_closed(rng), |m| {
        "head.signature" m.head.as_mut().unwrap().signature,
    });
    lengths!(sample::ledger(rng), |m| {
        "previous" m.previous, "record" m.record,
        "carry[1].identity" m.carry[1].identity,
    });
}
