//! A wallet on a real node, by its commands.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Write;
use std::process::{Output, Stdio};

use bitcoin::{Address, ScriptBuf, Transaction, Txid};
use serde_json::Value;
use tutti_regtest::node::Node;

use super::Home;

pub const BTC: u64 = 100_000_000;

pub fn wallet(home: &Home, args: &[&str]) -> Value {
    home.json(&[&["wallet"], args].concat())
}

pub fn sat(value: &Value, key: &str) -> u64 {
    let amount = value[key].as_u64();
    amount.unwrap_or_else(|| panic!("no {key} in {value:#}"))
}

/// What is not zero of a balance, by name.
pub fn balance(home: &Home) -> Vec<(String, u64)> {
    let balance = wallet(home, &["balance"]);
    parts(&balance)
}

pub fn parts(balance: &Value) -> Vec<(String, u64)> {
    let names = [
        "confirmed",
        "unconfirmed",
        "unconfirmed_payouts",
        "immature",
        "maturing",
    ];
    let amounts = names.map(|name| (name.to_owned(), sat(balance, name)));
    let sum: u64 = amounts.iter().map(|(_, sat)| sat).sum();
    assert_eq!(sum, sat(balance, "total"), "{balance:#}");
    amounts.into_iter().filter(|(_, sat)| *sat > 0).collect()
}

pub fn only(name: &str, sat: u64) -> Vec<(String, u64)> {
    vec![(name.to_owned(), sat)]
}

pub fn address(script: &ScriptBuf) -> String {
    let address = Address::from_script(script, bitcoin::Network::Regtest);
    address.expect("an address").to_string()
}

pub fn script(address: &Value) -> ScriptBuf {
    let address: Address<_> = address.as_str().expect("text").parse().expect("valid");
    address.assume_checked().script_pubkey()
}

/// A transaction of the tip.
pub fn mined(node: &Node, txid: &Value) -> Transaction {
    let txid: Txid = txid.as_str().expect("text").parse().expect("a txid");
    let tip = node.tip().expect("a tip");
    let mut all = node.block(&tip).expect("a block").txdata.into_iter();
    let transaction = all.find(|tx| tx.compute_txid() == txid);
    transaction.expect("it is in the tip")
}

pub fn pays(transaction: &Transaction, script: &ScriptBuf) -> u64 {
    let outputs = transaction.output.iter();
    let to = outputs.filter(|output| output.script_pubkey == *script);
    to.map(|output| output.value.to_sat()).sum()
}

/// `init --restore` with these words on its standard input.
pub fn restore(home: &Home, words: &str, more: &[&str]) -> Output {
    let mut command = home.command(&[&["--json", "init", "--restore"], more].concat());
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a process");
    let mut stdin = child.stdin.take().expect("its stdin");
    stdin.write_all(words.as_bytes()).expect("written");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}
