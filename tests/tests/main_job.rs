//! The demo's path on the real node, with Bitcoin Core's consensus as the judge.

use tutti_regtest::demo::{DemoOptions, run};

#[test]
fn a_block_whose_payout_was_signed_before_it_was_mined_pays_everyone_with_the_coordinator_dead() {
    let report = run(&DemoOptions {
        miners: 5,
        keep: None,
    })
    .unwrap();
    let json = report.json();
    assert_eq!(json["demo"], "ok");
    assert_eq!(json["signers"], 6, "five miners and the coordinator");
    for shown in [
        "refused_at_h98",
        "accepted_at_h99",
        "coordinator_killed",
        "bumped",
    ] {
        assert_eq!(json[shown], true, "{shown}");
    }
    let payees = json["payees"].as_array().unwrap();
    assert_eq!(payees.len(), 6);
    let paid: u64 = payees
        .iter()
        .map(|payee| payee["paid_sat"].as_u64().unwrap())
        .sum();
    assert!(paid > 4_900_000_000, "{paid} sat of a 50 BTC subsidy");
    for payee in payees {
        assert_eq!(payee["expected_sat"], payee["paid_sat"]);
    }
}
