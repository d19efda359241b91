//! Pools under faults drawn from a seed: silence, lies, lost connections, partitions, crashes and
//! power losses at any moment. An observer judges every message; the seed is in every failure.

use tutti_tests::sim::{Plant, Trial};

const SEEDS: u64 = 500;

/// Half of the seeds, so that two tests keep two cores busy.
fn half(first: u64) {
    let (mut rounds, mut restarted, mut lies) = (0, 0, 0);
    for seed in (first..SEEDS).step_by(2) {
        let outcome = Trial::run(seed, None);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        rounds += outcome.rounds;
        restarted += outcome.attempts_restarted;
        lies += outcome.lies;
    }
    assert!(lies > SEEDS / 2, "only {lies} lies were told");
    assert!(rounds > 5 * SEEDS, "only {rounds} rounds were committed");
    assert!(restarted > SEEDS / 2, "only {restarted} attempts failed");
}

#[test]
fn whatever_fails_nobody_is_robbed_and_the_pool_comes_back() {
    half(0);
}

#[test]
fn whatever_fails_nobody_is_robbed_and_the_pool_comes_back_too() {
    half(1);
}

/// The observer is only worth something if it sees what is wrong.
#[test]
fn what_is_planted_is_found() {
    for (plant, invariant) in [
        (
            Plant::WrongAmount,
            "invariant 3: an amount is not the ledger's",
        ),
        (Plant::KeptKey, "invariant 2: a slot's key was kept"),
    ] {
        for seed in 0..5 {
            let found = Trial::run(seed, Some(plant)).violations;
            assert!(
                found.iter().any(|words| words == invariant),
                "{plant:?}, seed {seed}: {found:?}"
            );
        }
    }
}
