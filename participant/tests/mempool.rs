//! What is in a busy node's mempool, on a real node.

mod support;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use support::coins::{balance, only, script};
use support::settling::{Attacker, mempool, node_section, send};
use support::{DEAD, Home, some_script};
use tutti_regtest::node::{ANYONE_CAN_SPEND_HEX, Node, NodeOptions};

/// More than are asked for at once, twice.
const OTHERS: u64 = 230;
const COIN: u64 = 10_000;
const FEE: u64 = 1_000;

fn spend(coin: OutPoint, outputs: Vec<TxOut>) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        }],
        output: outputs,
    }
}

fn output(sat: u64, script_pubkey: ScriptBuf) -> TxOut {
    let value = Amount::from_sat(sat);
    TxOut {
        value,
        script_pubkey,
    }
}

#[test]
fn a_payment_is_seen_among_many_of_others() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    let home = Home::new(DEAD, &node_section(&node));
    let made = home.init();
    let own = script(&made["first_address"]);
    node.mine(101).expect("blocks");
    let (coin, value) = Attacker::new(&node).coin();
    let anyones = ScriptBuf::from_hex(ANYONE_CAN_SPEND_HEX).expect("a script");
    let mut coins: Vec<TxOut> = (0..=OTHERS)
        .map(|_| output(COIN, anyones.clone()))
        .collect();
    let left = value.to_sat() - COIN * (OTHERS + 1) - 20_000;
    coins.push(output(left, anyones));
    let coins = send(&node, &spend(coin, coins)).expect("taken");
    node.mine(1).expect("a block");

    let others = some_script(3);
    for number in 0..=OTHERS {
        let to = match number {
            OTHERS => own.clone(),
            _ => others.clone(),
        };
        let coin = OutPoint::new(coins, u32::try_from(number).expect("few"));
        send(&node, &spend(coin, vec![output(COIN - FEE, to)])).expect("taken");
    }
    assert_eq!(mempool(&node).len() as u64, OTHERS + 1);
    assert_eq!(balance(&home), only("unconfirmed", COIN - FEE));
    node.mine(1).expect("a block");
    assert_eq!(balance(&home), only("confirmed", COIN - FEE));
}
