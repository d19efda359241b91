//! Pools under faults drawn from a seed: silence, lies, lost connections, partitions, crashes and
//! power losses at any moment. An observer judges every message; the seed is in every failure.

use tutti_tests::sim::{Plant, Trial};

const SEEDS: u64 = 500;

#[test]
fn whatever_fails_nobody_is_robbed_and_the_pool_comes_back() {
    let (mut rounds, mut restarted) = (0, 0);
    for seed in 0..SEEDS {
        let outcome = Trial::run(seed, None);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        rounds += outcome.rounds;
        restarted += outcome.attempts_restarted;
    }
    assert!(rounds > 10 * SEEDS, "only {rounds} rounds were committed");
    assert!(restarted > SEEDS, "only {restarted} attempts failed");
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
