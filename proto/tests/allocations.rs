//! What a round and a share do again and again asks the allocator for nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use allocation_counter::measure;
use support::archive::{mine, sign_round};
use support::pool::{Pool, to_sign};
use tutti_proto::lane::{Assignments, Worker};
use tutti_proto::musig::{PartialSignature, PartialSums};
use tutti_proto::plan::CheckedPlan;

const SIGNERS: [usize; 4] = [0, 1, 2, 3];
/// Of so few no other thread is asked for.
const LANES: [u16; 3] = [1, 2, 12];

fn pool(lanes: u16) -> Pool {
    let mut pool = Pool::new("allocations", 3);
    pool.params.lanes = lanes;
    pool.params.nonces_per_slot = lanes;
    let worker = Worker { rate: 1_000, z: 8 };
    let workers = (1..=3).map(|n| (pool.identity(n), worker));
    pool.assignments = Assignments::divide(&workers.collect(), lanes);
    pool.close_window(&[(1, 10_000), (2, 30_000)], &[]);
    pool
}

/// How often the allocator is asked.
fn count(of: impl FnOnce()) -> u64 {
    let mut of = Some(of);
    measure(|| of.take().unwrap()()).count_total
}

/// A round of so many lanes: its plan, and everybody's partial signatures.
fn signed(lanes: u16) -> (CheckedPlan, Vec<Vec<PartialSignature>>) {
    let mut pool = pool(lanes);
    pool.propose(&SIGNERS).sign(&pool)
}

#[test]
fn a_partial_signature_that_comes_asks_for_nothing() {
    for lanes in LANES {
        let (_, partials) = signed(lanes);
        let mut sums = PartialSums::of(&partials[0]);
        for of_signer in &partials[1..] {
            assert_eq!(count(|| sums.add(of_signer)), 0);
        }
    }
}

#[test]
fn completing_a_round_asks_for_as_much_whatever_the_number_of_lanes_and_signers() {
    let asked = LANES.map(|lanes| {
        let (plan, partials) = signed(lanes);
        let mut sums = PartialSums::of(&partials[0]);
        partials[1..]
            .iter()
            .for_each(|of_signer| sums.add(of_signer));
        let mut signatures = Vec::with_capacity(plan.sessions().len());
        let added = count(|| {
            let sessions = plan.sessions().iter().enumerate();
            signatures.extend(sessions.map(|(n, session)| sums.signature(n, session).unwrap()));
        });
        assert_eq!(added, 0, "the sums");
        count(|| drop(plan.complete(&signatures).unwrap()))
    });
    assert!(asked.iter().all(|n| *n == asked[0] && *n < 10), "{asked:?}");
}

#[test]
fn signing_asks_for_as_much_whatever_the_number_of_lanes() {
    let asked = LANES.map(|lanes| {
        let mut pool = pool(lanes);
        let attempted = pool.propose(&SIGNERS);
        let me = attempted.me(pool.identity(1));
        let checked = attempted.proposal.check(&pool.view(), &me.checker());
        let plan = to_sign(checked.unwrap());
        let mut slots = attempted.slots.into_values();
        let (_, slot, _) = slots.find(|slot| slot.0 == pool.identity(1)).unwrap();
        count(|| drop(plan.sign(slot).unwrap()))
    });
    assert!(asked.iter().all(|n| *n == asked[0] && *n < 10), "{asked:?}");
}

#[test]
fn judging_a_share_asks_for_nothing() {
    let mut pool = pool(2);
    let round = sign_round(&mut pool, &SIGNERS);
    let (share, judged) = mine(&pool, &round.terms, 1, 0, 0);
    let identity = pool.identity(1);
    let asked = count(|| {
        assert_eq!(round.terms.judge(&identity, &share.rolled), Ok(judged));
    });
    assert_eq!(asked, 0);
}
