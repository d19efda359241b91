//! Lies that nobody thought of: messages of the coordinator with a few places of their protobuf changed,
//! signed by it. (Those of miners are among the faults of `faults.rs`.)

use tutti_tests::sim::Trial;

#[test]
fn whatever_a_coordinator_says_nobody_is_robbed_and_once_it_is_honest_all_go_on() {
    let (mut rounds, mut lies) = (0, 0);
    for seed in 0..40 {
        let outcome = Trial::run_lied_to(seed);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        rounds += outcome.rounds;
        lies += outcome.lies;
    }
    assert!(lies > 400, "only {lies} lies were told");
    assert!(rounds > 400, "only {rounds} rounds were committed");
}
