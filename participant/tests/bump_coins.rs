//! Bumps paid by coins of the wallet that no payout of this pool made.

mod support;

use bitcoin::{OutPoint, Transaction};
use serde_json::{Value, json};
use support::coins::{address, balance, mined, sat, script, wallet};
use support::failing::between;
use support::settling::{REWARD, Scene, is_mined_in, mempool, send, submit};
use support::{Daemon, Round, some_identity, some_script, txid};
use tutti_participant::store::{self, Alone};
use tutti_regtest::node::{Node, NodeOptions};

fn spends(bumped: &Value) -> Vec<OutPoint> {
    let spends = bumped["spends"].as_array().expect("coins").iter();
    let outpoint = |spend: &Value| spend.as_str().expect("text").parse().expect("an outpoint");
    spends.map(outpoint).collect()
}

/// A block with these transactions only.
fn mine_only(node: &Node, transactions: &[&Value]) {
    let raw = |txid: &&Value| node.call::<Value>("getrawtransaction", &[(*txid).clone()]);
    let raw: Vec<Value> = transactions
        .iter()
        .map(|t| raw(t).expect("it is pooled"))
        .collect();
    let output = json!("raw(51024e73)");
    node.call::<Value>("generateblock", &[output, json!(raw)])
        .expect("a block");
}

#[test]
fn a_confirmed_coin_and_then_its_change_pay_what_an_output_near_dust_cannot() {
    let others = [(some_identity(2), some_script(2), 1_000_000)];
    let scene = Scene::new(NodeOptions::default(), &others, 400, "");
    let (home, node) = (&scene.home, &scene.node);
    let payout = txid(scene.payout());
    submit(node, scene.coinbase());
    let funded = script(&wallet(home, &["new-address"])["address"]);
    node.mine_to(1, &funded).expect("a block");
    node.mine(98).expect("blocks");
    send(node, scene.payout()).expect("ripe");
    // The coin has 99 confirmations, and no child may spend it yet.
    let bump = ["bump", &payout, "--feerate", "10"];
    let said = home.failure(&bump);
    assert!(said.contains("the own coins hold"), "{said}");
    node.mine_empty().expect("a block");
    let dry = home.json(&[&bump[..], &["--dry-run"]].concat());
    let own = OutPoint::new(scene.payout().compute_txid(), 0);
    let [first, coin] = spends(&dry)[..] else {
        panic!("{dry:#}");
    };
    assert_eq!(first, own);

    // The coin is spent by the wallet itself: it and its unconfirmed change pay for nothing.
    let to = address(&some_script(3));
    let sent = wallet(home, &["send", &to, "1btc", "--feerate", "3"]);
    assert_eq!(sent["spends"], json!([coin.to_string()]));
    let said = home.failure(&bump);
    assert!(said.contains("the own coins hold"), "{said}");
    mine_only(node, &[&sent["txid"]]);
    assert!(mempool(node).contains(&scene.payout().compute_txid()));
    let bumped = home.json(&bump);
    assert_eq!(bumped["accepted"], true, "{bumped:#}");
    let [first, change] = spends(&bumped)[..] else {
        panic!("{bumped:#}");
    };
    assert_eq!(first, own);
    assert_eq!(json!(change.txid), sent["txid"]);
    let block = node.mine(1).expect("a block")[0];
    assert!(is_mined_in(node, &block, scene.payout().compute_txid()));
    let child: Transaction = mined(node, &bumped["child_txid"]);
    let left = sat(&sent, "change") + 400 + 240 - sat(&bumped, "fee");
    assert_eq!(child.output[0].value.to_sat(), left);
    assert_eq!(balance(home), [("confirmed".to_owned(), left)]);
}

#[test]
fn a_bump_that_one_coin_paid_is_raised_again_with_that_coin() {
    let others = [(some_identity(2), some_script(2), 1_000_000)];
    let scene = Scene::new(NodeOptions::default(), &others, 400, "");
    let (home, node) = (&scene.home, &scene.node);
    submit(node, scene.coinbase());
    let funded = script(&wallet(home, &["new-address"])["address"]);
    node.mine_to(1, &funded).expect("a block");
    node.mine(99).expect("blocks");
    send(node, scene.payout()).expect("ripe");
    let first = scene.bump(&["--feerate", "10"]);
    assert_eq!(first["accepted"], true, "{first:#}");
    let coin = spends(&first)[1];
    // The wallet has nothing else, and the mempool has the coin as spent. By now the wallet has, too.
    assert_eq!(balance(home).len(), 1);
    for feerate in ["30", "60"] {
        let raised = scene.bump(&["--feerate", feerate, "--max-fee", "50000"]);
        assert_eq!(raised["accepted"], true, "{raised:#}");
        assert_eq!(spends(&raised)[1], coin);
        let child: bitcoin::Txid = raised["child_txid"]
            .as_str()
            .expect("text")
            .parse()
            .expect("a txid");
        let mut pooled = mempool(node);
        pooled.sort();
        let mut both = [scene.payout().compute_txid(), child];
        both.sort();
        assert_eq!(pooled, both);
    }
    // What is not more than it pays already is refused as ever.
    let payout = txid(scene.payout());
    let said = home.failure(&["bump", &payout, "--feerate", "50"]);
    assert!(!said.contains("the own coins hold"), "{said}");
}

#[test]
fn a_payout_that_was_imported_alone_pays_where_the_wallet_cannot_be_synced() {
    let others = [(some_identity(2), some_script(2), 1_000_000)];
    let scene = Scene::new(NodeOptions::default(), &others, 400, "");
    let (home, node) = (&scene.home, &scene.node);
    let own = scene.payout().output[0].script_pubkey.clone();
    let other = Round {
        seq: 5,
        height: scene.held.height + 1,
        lanes: 1,
        reward: REWARD,
        payees: &[(scene.me, own, 0)],
    }
    .held();
    let lane = &other.lanes[0];
    let alone = Alone {
        coinbase_txid: lane.coinbase.compute_txid(),
        coinbase: Some(lane.coinbase.clone()),
        payouts: lane.payouts.clone(),
        own_sat: None,
    };
    store::write_alone(&home.data(), &alone).expect("written");
    submit(node, scene.coinbase());
    submit(node, &lane.coinbase);
    node.mine(99).expect("blocks");
    let mut daemon = Daemon::start(home);
    for _ in 0..2 {
        daemon.wait("payout_broadcast");
    }
    mine_only(node, &[&json!(txid(&lane.payouts[0]))]);
    daemon.wait("payout_confirmed");
    daemon.stop();

    between(home, node, |method, _| {
        (method == "getblock").then_some((-1, "Block not available (pruned data)"))
    });
    let bumped = scene.bump(&["--feerate", "10"]);
    assert_eq!(bumped["accepted"], true, "{bumped:#}");
    let coin = OutPoint::new(lane.payouts[0].compute_txid(), 0);
    assert_eq!(spends(&bumped)[1], coin);
}

#[test]
fn the_daemon_bumps_nothing_by_a_files_word_for_whose_it_is() {
    let others = [(some_identity(2), some_script(2), 1_000_000)];
    let more = "[bump]\nafter_blocks = 1\n";
    let scene = Scene::new(NodeOptions::default(), &others, 400, more);
    let (home, node) = (&scene.home, &scene.node);
    let own = scene.payout().output[0].script_pubkey.clone();
    let held = |seq, height, script| {
        let payees = [
            (scene.me, script, 2_000_000),
            (some_identity(2), some_script(2), 0),
        ];
        let round = Round {
            seq,
            height,
            lanes: 1,
            reward: REWARD,
            payees: &payees,
        };
        round.held()
    };
    // Both say that we get two million; the first, which ripens earlier, pays them to somebody else.
    let height = scene.held.height;
    let (says, pays) = (held(5, height, some_script(9)), held(6, height + 1, own));
    for held in [&says, &pays] {
        assert_eq!(held.payees[0].identity, scene.me);
        Scene::hold(home, held);
        submit(node, &held.lanes[0].coinbase);
    }
    // So it says of the payout of another block, beside one that nobody signed and that pays us all of it.
    let foreign = held(7, height + 2, some_script(8));
    let lane = &foreign.lanes[0];
    let mut made_up = lane.payouts[0].clone();
    made_up.output[0] = pays.lanes[0].payouts[0].output[0].clone();
    made_up.output[0].value = bitcoin::Amount::ONE_BTC;
    let alone = Alone {
        coinbase_txid: lane.coinbase.compute_txid(),
        coinbase: None,
        payouts: vec![made_up.clone(), lane.payouts[0].clone()],
        own_sat: Some(REWARD),
    };
    store::write_alone(&home.data(), &alone).expect("written");
    submit(node, &lane.coinbase);
    // A coin that would pay.
    let funded = script(&wallet(home, &["new-address"])["address"]);
    node.mine_to(1, &funded).expect("a block");
    let mut daemon = Daemon::start(home);
    daemon.wait("pool_block_seen");
    node.mine(98).expect("blocks");
    for _ in 0..3 {
        daemon.wait("payout_broadcast");
    }
    // One payee gets more, and has two blocks before us.
    for _ in 0..4 {
        node.mine_empty().expect("a block");
    }
    let bumped = daemon.wait("payout_bumped");
    let foreign = foreign.lanes[0].payouts[0].compute_txid();
    let [says, pays] = [says, pays].map(|held| held.lanes[0].payouts[0].compute_txid());
    assert_eq!(bumped["payout_txid"], pays.to_string(), "{bumped:#}");
    let mut pooled = mempool(node);
    pooled.sort();
    let child = bumped["child_txid"].as_str().expect("text");
    let mut expected = [says, pays, foreign, child.parse().expect("a txid")];
    expected.sort();
    assert_eq!(pooled, expected);
    // What was made up is looked for no more, and does not count as ours.
    let left = store::alone(&home.data(), alone.coinbase_txid).expect("read");
    let left = left.expect("it is held");
    assert_eq!(
        (left.payouts, left.own_sat),
        (alone.payouts[1..].to_vec(), None)
    );
    node.mine(1).expect("a block");
    for _ in 0..3 {
        daemon.wait("payout_confirmed");
    }
    let rows = home.rows(&["--found"]);
    let states: Vec<_> = rows
        .as_array()
        .expect("rows")
        .iter()
        .map(|r| &r["state"])
        .collect();
    assert_eq!(states, ["confirmed"; 3], "{rows:#}");
}
