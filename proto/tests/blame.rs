//! Blame: whoever is framed is cleared by what is shown, whoever is guilty is convicted by it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;

use support::pool::{Attempted, Pool, to_sign};
use tutti_proto::id::{Identity, RoundId};
use tutti_proto::message::{
    AbortReason, AnnouncedSlot, Blame, Evidence, FalseBlame, TxAbort, TxAborted, TxSignatures,
};
use tutti_proto::musig::{AggregateNonce, PartialSignature, SigningSlot};
use tutti_proto::plan::CheckedPlan;

const AUX: [u8; 32] = [9; 32];

/// What every signer of an attempt signed, and the attempt as any other participant computes it.
struct Attempt {
    pool: Pool,
    plan: CheckedPlan,
    slots: BTreeMap<Identity, AnnouncedSlot>,
    signed: BTreeMap<Identity, TxSignatures>,
}

/// Coordinator and miners 1 to 3 sign; miner 4 does not.
fn attempt() -> Attempt {
    let mut pool = pool();
    let attempted = pool.propose(&[0, 1, 2, 3]);
    signed(pool, attempted)
}

fn pool() -> Pool {
    let mut pool = Pool::new("blame", 4);
    pool.close_window(&[(1, 10_000), (2, 30_000), (3, 20_000)], &[]);
    pool
}

fn number(pool: &Pool, identity: &Identity) -> usize {
    (0..pool.keys.len())
        .find(|n| pool.identity(*n) == *identity)
        .unwrap()
}

fn signed(pool: Pool, attempted: Attempted) -> Attempt {
    let coordinator = pool.params.coordinator;
    let mut slots = BTreeMap::new();
    for (identity, _, public) in attempted.slots.values() {
        let key = &pool.keys[number(&pool, identity)];
        slots.insert(
            *identity,
            AnnouncedSlot::sign(key, &coordinator, public.clone(), &AUX),
        );
    }
    let identities: Vec<Identity> = attempted.slots.values().map(|(who, ..)| *who).collect();
    let (plan, partials) = attempted.sign(&pool);
    let mut signed = BTreeMap::new();
    for (identity, partials) in identities.into_iter().zip(partials) {
        let key = &pool.keys[number(&pool, &identity)];
        signed.insert(
            identity,
            TxSignatures::sign(key, plan.round(), partials, &AUX),
        );
    }
    Attempt {
        pool,
        plan,
        slots,
        signed,
    }
}

impl Attempt {
    fn slot(&self, n: usize) -> AnnouncedSlot {
        self.slots[&self.pool.identity(n)].clone()
    }

    fn signatures(&self, n: usize) -> TxSignatures {
        self.signed[&self.pool.identity(n)].clone()
    }

    /// Partial signatures as miner `n` signs them with its identity, whatever they are.
    fn sent(&self, n: usize, partials: Vec<PartialSignature>) -> TxSignatures {
        TxSignatures::sign(&self.pool.keys[n], self.plan.round(), partials, &AUX)
    }

    fn blame(
        &self,
        n: usize,
        slot: AnnouncedSlot,
        signatures: TxSignatures,
    ) -> Result<(), FalseBlame> {
        self.check(n, Some(Evidence::BadPartial { slot, signatures }))
    }

    fn check(&self, n: usize, evidence: Option<Evidence>) -> Result<(), FalseBlame> {
        let identity = self.pool.identity(n);
        Blame { identity, evidence }.check(&self.pool.params.coordinator, &self.plan)
    }
}

fn spoiled(partial: &PartialSignature) -> PartialSignature {
    let mut bytes = partial.serialize();
    bytes[31] ^= 1;
    PartialSignature::parse(&bytes).unwrap()
}

#[test]
fn an_honest_signer_is_cleared_by_its_own_partial_signatures() {
    let attempt = attempt();
    for n in 0..=3 {
        let cleared = attempt.blame(n, attempt.slot(n), attempt.signatures(n));
        assert_eq!(cleared, Err(FalseBlame::ValidPartials));
    }
}

#[test]
fn an_honest_signer_is_cleared_of_what_another_signed() {
    let attempt = attempt();
    let cases = [
        (
            "another's partial signatures",
            attempt.slot(1),
            attempt.signatures(2),
        ),
        ("another's slot", attempt.slot(2), attempt.signatures(1)),
        (
            "another's slot and partial signatures",
            attempt.slot(2),
            attempt.signatures(2),
        ),
    ];
    for (what, slot, signatures) in cases {
        assert_eq!(
            attempt.blame(1, slot, signatures),
            Err(FalseBlame::NotItsOwn),
            "{what}"
        );
    }
    // The coordinator signs in its own name, which is not the blamed one's.
    let forged = attempt.sent(0, attempt.signatures(2).partials);
    assert_eq!(
        attempt.blame(1, attempt.slot(1), forged),
        Err(FalseBlame::NotItsOwn)
    );
    let (key, coordinator) = (&attempt.pool.keys[0], attempt.pool.params.coordinator);
    let mut slot = attempt.slot(1).slot;
    slot.nonces.swap(0, 1);
    let forged = AnnouncedSlot::sign(key, &coordinator, slot, &AUX);
    assert_eq!(
        attempt.blame(1, forged, attempt.signatures(1)),
        Err(FalseBlame::NotItsOwn)
    );
}

#[test]
fn an_honest_signer_is_cleared_of_what_was_changed_after_it_signed() {
    let attempt = attempt();
    let mut signatures = attempt.signatures(1);
    signatures.partials[0] = spoiled(&signatures.partials[0]);
    assert_eq!(
        attempt.blame(1, attempt.slot(1), signatures),
        Err(FalseBlame::NotItsOwn)
    );
    let mut signatures = attempt.signatures(1);
    signatures.partials.pop();
    assert_eq!(
        attempt.blame(1, attempt.slot(1), signatures),
        Err(FalseBlame::NotItsOwn)
    );
    let mut slot = attempt.slot(1);
    slot.slot.nonces.swap(0, 1);
    assert_eq!(
        attempt.blame(1, slot, attempt.signatures(1)),
        Err(FalseBlame::NotItsOwn)
    );
}

#[test]
fn an_honest_signer_is_cleared_of_a_slot_that_was_not_asked_for() {
    let mut attempt = attempt();
    let (_, other) = SigningSlot::generate(&mut attempt.pool.rng, 3);
    let (key, coordinator) = (&attempt.pool.keys[1], attempt.pool.params.coordinator);
    let slot = AnnouncedSlot::sign(key, &coordinator, other, &AUX);
    assert_eq!(
        attempt.blame(1, slot, attempt.signatures(1)),
        Err(FalseBlame::NotItsOwn)
    );
    // The right slot, as it was announced to another pool.
    let elsewhere = attempt.pool.identity(4);
    let slot = AnnouncedSlot::sign(key, &elsewhere, attempt.slot(1).slot, &AUX);
    assert_eq!(
        attempt.blame(1, slot, attempt.signatures(1)),
        Err(FalseBlame::NotItsOwn)
    );
}

#[test]
fn an_honest_signer_is_cleared_of_what_it_signed_for_another_round() {
    let mut pool = pool();
    let first = pool.propose(&[0, 1, 2, 3]);
    let mut earlier = signed(pool, first);
    let second = earlier.pool.propose(&[0, 1, 2, 3]);
    let (slot, signatures, round) = (earlier.slot(1), earlier.signatures(1), earlier.plan.round());
    let attempt = signed(earlier.pool, second);
    assert_ne!(attempt.plan.round(), round);
    assert_eq!(
        attempt.blame(1, slot, signatures.clone()),
        Err(FalseBlame::NotItsOwn)
    );
    assert_eq!(
        attempt.blame(1, attempt.slot(1), signatures),
        Err(FalseBlame::NotItsOwn)
    );
}

/// A coordinator that sums nonces wrongly gets no signature, and nobody to blame for it.
#[test]
fn an_honest_signer_is_cleared_of_a_wrong_aggregate_nonce_in_the_proposal() {
    let mut pool = pool();
    let mut attempted = pool.propose(&[0, 1, 2, 3]);
    let (_, stranger) = SigningSlot::generate(&mut pool.rng, 3);
    attempted.proposal.nonces[0] = AggregateNonce::sum(stranger.nonces.iter()).unwrap();
    attempted.proposal.nonces.swap(0, 1);
    let attempt = signed(pool, attempted);
    for (session, sighash) in attempt.plan.sessions().iter().zip(attempt.plan.sighashes()) {
        let partials: Vec<_> = attempt.signed.values().map(|s| s.partials[0]).collect();
        assert!(
            session
                .combine(attempt.plan.key(), sighash, partials.iter())
                .is_err()
        );
    }
    for n in 0..=3 {
        let cleared = attempt.blame(n, attempt.slot(n), attempt.signatures(n));
        assert_eq!(cleared, Err(FalseBlame::ValidPartials));
    }
}

#[test]
fn who_does_not_sign_the_round_cannot_be_blamed_for_it() {
    let attempt = attempt();
    assert_eq!(attempt.check(4, None), Err(FalseBlame::NotASigner));
    let refusal = TxAbort::sign(
        &attempt.pool.keys[4],
        attempt.plan.round(),
        AbortReason::Policy,
        &AUX,
    );
    let refused = attempt.check(4, Some(Evidence::Refused(refusal)));
    assert_eq!(refused, Err(FalseBlame::NotASigner));
    let shown = attempt.blame(4, attempt.slot(1), attempt.signatures(1));
    assert_eq!(shown, Err(FalseBlame::NotASigner));
}

#[test]
fn a_refusal_counts_for_its_author_and_its_round_only() {
    let attempt = attempt();
    let refusal = |n: usize, round| {
        let reason = AbortReason::PlanMismatch;
        TxAbort::sign(&attempt.pool.keys[n], round, reason, &AUX)
    };
    let round = attempt.plan.round();
    let check = |refusal| attempt.check(1, Some(Evidence::Refused(refusal)));
    assert_eq!(check(refusal(1, round)), Ok(()));
    assert_eq!(check(refusal(2, round)), Err(FalseBlame::NotItsOwn));
    assert_eq!(
        check(refusal(1, RoundId([7; 32]))),
        Err(FalseBlame::NotItsOwn)
    );
    let moved = TxAbort {
        round,
        ..refusal(1, RoundId([7; 32]))
    };
    assert_eq!(check(moved), Err(FalseBlame::NotItsOwn));
    let other_reason = TxAbort {
        reason: AbortReason::Policy,
        ..refusal(1, round)
    };
    assert_eq!(check(other_reason), Err(FalseBlame::NotItsOwn));
}

#[test]
fn silence_needs_no_evidence() {
    let attempt = attempt();
    assert_eq!(attempt.check(1, None), Ok(()));
}

#[test]
fn a_culprit_among_four_is_convicted_by_what_it_sent() {
    let attempt = attempt();
    let good = attempt.signatures(2).partials;
    let of_another = attempt.signatures(3).partials;
    let cases = [
        ("one bit of the first", vec![spoiled(&good[0]), good[1]]),
        ("one bit of the last", vec![good[0], spoiled(&good[1])]),
        ("two sessions swapped", vec![good[1], good[0]]),
        ("one twice", vec![good[0], good[0]]),
        ("one too few", vec![good[0]]),
        ("one too many", vec![good[0], good[1], good[1]]),
        ("none", Vec::new()),
        ("another's, replayed in its own name", of_another),
    ];
    for (what, partials) in cases {
        let sent = attempt.sent(2, partials);
        assert_eq!(attempt.blame(2, attempt.slot(2), sent), Ok(()), "{what}");
    }
}

/// The amounts differ by a sat: partial signatures of that payout are not what was asked for.
#[test]
fn partial_signatures_of_another_plan_convict_whoever_says_they_are_of_this_one() {
    let mut pool = pool();
    let attempted = pool.propose(&[0, 1, 2, 3]);
    let mut inputs = attempted.proposal.inputs.clone();
    inputs.reward += 1;
    let other = pool.seal(inputs, attempted.proposal.nonces.clone());
    let me = attempted.me(pool.identity(2));
    let other = to_sign(other.check(&pool.view(), &me.checker()).unwrap());
    let honest = to_sign(
        attempted
            .proposal
            .check(&pool.view(), &me.checker())
            .unwrap(),
    );
    let coordinator = pool.params.coordinator;
    let mut slots = attempted.slots.into_values();
    let (_, secret, public) = slots.find(|(who, ..)| *who == me.identity).unwrap();
    let partials = other.sign(secret).unwrap();
    let signatures = TxSignatures::sign(&pool.keys[2], honest.round(), partials.clone(), &AUX);
    let slot = AnnouncedSlot::sign(&pool.keys[2], &coordinator, public, &AUX);
    let evidence = |signatures| {
        let slot = slot.clone();
        Some(Evidence::BadPartial { slot, signatures })
    };
    let identity = me.identity;
    let blame = Blame {
        identity,
        evidence: evidence(signatures),
    };
    assert_eq!(blame.check(&coordinator, &honest), Ok(()));
    // Said to be of that plan, they are valid.
    let signatures = TxSignatures::sign(&pool.keys[2], other.round(), partials, &AUX);
    let blame = Blame {
        identity,
        evidence: evidence(signatures),
    };
    assert_eq!(
        blame.check(&coordinator, &other),
        Err(FalseBlame::ValidPartials)
    );
}

/// A slot announced twice with other nonces is one's own fault, and shows it.
#[test]
fn whoever_announced_other_nonces_for_its_slot_is_convicted_by_either() {
    let attempt = attempt();
    let mut slot = attempt.slot(2).slot;
    slot.nonces.swap(0, 1);
    let (key, coordinator) = (&attempt.pool.keys[2], attempt.pool.params.coordinator);
    let other = AnnouncedSlot::sign(key, &coordinator, slot, &AUX);
    assert_eq!(attempt.blame(2, other, attempt.signatures(2)), Ok(()));
}

#[test]
fn the_coordinator_signs_whom_it_blames_and_with_what() {
    let attempt = attempt();
    let (key, coordinator) = (&attempt.pool.keys[0], attempt.pool.params.coordinator);
    let shown = Blame {
        identity: attempt.pool.identity(1),
        evidence: Some(Evidence::BadPartial {
            slot: attempt.slot(1),
            signatures: attempt.signatures(1),
        }),
    };
    let silent = Blame {
        identity: attempt.pool.identity(2),
        evidence: None,
    };
    let reason = AbortReason::BadPartialSignature;
    let blamed = vec![shown, silent];
    let aborted = TxAborted::sign(key, attempt.plan.round(), reason, blamed, &AUX);
    aborted.verify(&coordinator).unwrap();
    assert!(aborted.verify(&attempt.pool.identity(1)).is_err());
    let culprits: Vec<Identity> = aborted.culprits().collect();
    assert_eq!(
        culprits,
        [attempt.pool.identity(1), attempt.pool.identity(2)]
    );
    let changes: [fn(&mut TxAborted); 7] = [
        |a| a.round.0[0] ^= 1,
        |a| a.reason = AbortReason::Timeout,
        |a| drop(a.blamed.pop()),
        |a| a.blamed.swap(0, 1),
        |a| a.blamed[0].evidence = None,
        |a| a.blamed[1].evidence = a.blamed[0].evidence.clone(),
        |a| a.blamed[1].identity = a.blamed[0].identity,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut changed = aborted.clone();
        change(&mut changed);
        assert!(changed.verify(&coordinator).is_err(), "change {n}");
    }
}
