//! What a person's bump may cost, and which payouts it is for.

mod support;

use bitcoin::Witness;
use serde_json::{Value, json};
use support::settling::{Scene, is_mined_in, mempool, submit};
use support::{some_identity, some_script, txid};
use tutti_regtest::node::NodeOptions;

fn scene(more: &str) -> Scene {
    let others = [(some_identity(2), some_script(2), 1_000_000)];
    Scene::new(NodeOptions::default(), &others, 0, more)
}

/// What a bump says that is refused, dry or not, before anything is sent.
fn refusal(scene: &Scene, more: &[&str]) -> String {
    let payout = txid(scene.payout());
    let bump = [&["bump", &payout], more].concat();
    let said = scene.home.failure(&bump);
    let dry = scene.home.failure(&[&bump[..], &["--dry-run"]].concat());
    assert_eq!(said, dry);
    assert_eq!(mempool(&scene.node), []);
    said
}

#[test]
fn a_bump_by_hand_costs_no_more_than_is_configured_unless_it_is_asked_for() {
    let scene = scene("[bump]\nauto = false\nfeerate_max_sat_per_vb = 20\n");
    scene.find_and_ripen();
    let said = refusal(&scene, &["--feerate", "1000000"]);
    assert!(said.contains("bump.cost_max_sat"), "{said}");
    assert!(
        said.contains("20 000 sat") && said.contains("give --max-fee"),
        "{said}"
    );
    let said = refusal(&scene, &["--feerate", "30"]);
    assert!(said.contains("bump.feerate_max_sat_per_vb"), "{said}");
    assert!(said.contains("allows 20.000 sat/vB"), "{said}");
    let said = refusal(&scene, &["--feerate", "15", "--max-fee", "100"]);
    assert!(said.contains("--max-fee allows 100 sat"), "{said}");
    // Both limits of the configuration are exceeded.
    let asked = ["--feerate", "100", "--max-fee", "0.001btc"];
    let bumped = scene.bump(&asked);
    assert_eq!(bumped["accepted"], true, "{bumped:#}");
    assert!(bumped["fee"].as_u64().expect("a fee") > 20_000);
}

#[test]
fn only_a_ripe_payout_that_is_not_confirmed_is_bumped() {
    let scene = scene("");
    let (node, bump) = (&scene.node, ["--feerate", "10"]);
    let said = refusal(&scene, &bump);
    assert!(
        said.contains("its block is not in the node's chain"),
        "{said}"
    );
    // No daemon looks: what the node says counts, and no book.
    let height = submit(node, scene.coinbase());
    let ripe_at = height + 99;
    let said = refusal(&scene, &bump);
    assert!(
        said.contains(&format!("not ripe before block {ripe_at}")),
        "{said}"
    );
    node.mine(98).expect("blocks");
    refusal(&scene, &bump);
    node.mine(1).expect("a block");
    let dry = scene.bump(&["--feerate", "10", "--dry-run"]);
    let said = (&dry["accepted"], &dry["reason"], &dry["dry_run"]);
    assert_eq!(said, (&json!(false), &Value::Null, &json!(true)), "{dry:#}");
    let bumped = scene.bump(&bump);
    assert_eq!(bumped["accepted"], true, "{bumped:#}");
    // The child is judged by what the mempool has.
    let payout = txid(scene.payout());
    let dry = ["bump", &payout, "--feerate", "20", "--dry-run"];
    let dry = scene.home.output(&dry);
    assert!(dry.status.success(), "{dry:?}");
    let block = node.mine(1).expect("a block")[0];
    assert!(is_mined_in(node, &block, scene.payout().compute_txid()));
    let said = refusal(&scene, &bump);
    let confirmed = format!("confirmed already in block {}", ripe_at + 1);
    assert!(said.contains(&confirmed), "{said}");
}

#[test]
fn a_payout_of_which_nothing_is_left_is_not_called_lost() {
    let scene = Scene::new(NodeOptions::default(), &[], 0, "");
    scene.find_and_ripen();
    let bump = ["--feerate", "10"];
    // The child spends both outputs of the payout.
    let bumped = scene.bump(&bump);
    assert_eq!(bumped["accepted"], true, "{bumped:#}");
    scene.node.mine(1).expect("a block");
    let said = refusal(&scene, &bump);
    assert!(said.contains("spent already in the node's chain"), "{said}");
}

#[test]
fn a_dry_run_tells_what_the_node_would_refuse() {
    let mut scene = scene("");
    scene.held.lanes[0].payouts[0].input[0].witness = Witness::from_slice(&[[1; 64]]);
    Scene::hold(&scene.home, &scene.held);
    scene.find_and_ripen();
    let dry = scene.bump(&["--feerate", "10", "--dry-run"]);
    let reason = dry["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("payout: "), "{dry:#}");
    let payout = txid(scene.payout());
    let output = ["bump", &payout, "--feerate", "10", "--dry-run"];
    let output = scene.home.output(&output);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.contains("the node would refuse it"), "{table}");
}
