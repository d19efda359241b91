//! What the wallet's commands answer, for programs and for persons.

use std::path::PathBuf;

use bitcoin::Txid;
use serde::Serialize;

use super::{Balance, Synced};
use crate::amount::{both, grouped};
use crate::bump::Feerate;

/// What a command answers: for programs by its fields, for persons by [`Answer::text`].
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Balance(Balance),
    Addresses(Vec<AddressRow>),
    Address(NewAddress),
    Sent(Sent),
    Descriptors(Descriptors),
    Rescanned(Rescanned),
}

/// An address that was given out.
#[derive(Debug, Serialize)]
pub struct AddressRow {
    pub address: String,
    pub index: u32,
    pub change: bool,
    /// All it ever received, as far as the wallet was synced, sat.
    pub received: u64,
    pub unspent: u64,
}

#[derive(Debug, Serialize)]
pub struct NewAddress {
    pub address: String,
}

/// Descriptors with their checksums, as `importdescriptors` and other wallets take them.
#[derive(Debug, Serialize)]
pub struct Descriptors {
    pub external: String,
    pub internal: String,
}

#[derive(Debug, Serialize)]
pub struct Rescanned {
    #[serde(flatten)]
    pub synced: Synced,
    pub balance: Balance,
}

/// A payment, made or only shown.
#[derive(Debug, Serialize)]
pub struct Sent {
    pub txid: Txid,
    pub to: String,
    /// What the receiver gets, sat.
    pub sat: u64,
    pub fee: u64,
    pub vsize: u64,
    pub feerate_sat_per_kvb: u64,
    pub change: u64,
    /// `txid:vout` of the coins spent.
    pub spends: Vec<String>,
    /// Immature and unconfirmed coins that are not touched, sat.
    pub left_out: u64,
    /// Whether the node's mempool has it.
    pub accepted: bool,
    /// Why not, in the node's words.
    pub reason: Option<String>,
    pub dry_run: bool,
    /// The unsigned transaction's file, where it is signed elsewhere.
    pub psbt: Option<PathBuf>,
}

impl Answer {
    /// Whether what was asked for was done.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Sent(sent) => sent.reason.is_none(),
            _ => true,
        }
    }

    /// For persons.
    pub fn text(&self) -> String {
        match self {
            Self::Balance(balance) => balance.table(),
            Self::Addresses(rows) => addresses(rows),
            Self::Address(new) => format!("{}\n", new.address),
            Self::Sent(sent) => sent.table(),
            Self::Descriptors(both) => {
                format!("payouts  {}\nchange   {}\n", both.external, both.internal)
            }
            Self::Rescanned(done) => done.text(),
        }
    }
}

fn addresses(rows: &[AddressRow]) -> String {
    let mut text = format!(
        "{:>6} {:<8} {:<64} {:>42} {:>42}\n",
        "index", "for", "address", "received", "unspent"
    );
    for row in rows {
        let kind = if row.change { "change" } else { "payouts" };
        let (received, unspent) = (both(row.received), both(row.unspent));
        let (index, address) = (row.index, &row.address);
        text.push_str(&format!(
            "{index:>6} {kind:<8} {address:<64} {received:>42} {unspent:>42}\n"
        ));
    }
    text
}

impl Rescanned {
    pub fn text(&self) -> String {
        let blocks = grouped(self.synced.blocks);
        let from = self.synced.from.map_or_else(
            || "no block".to_owned(),
            |from| format!("{blocks} blocks from {} on", grouped(from)),
        );
        let skipped = self.synced.skipped.map_or_else(String::new, |skipped| {
            format!("skipped {skipped}, which the node does not have: what was paid or spent there is not seen, but for what this wallet and its pool know of\n")
        });
        format!("looked at {from}\n{skipped}{}", self.balance.table())
    }
}

impl Sent {
    fn unsigned(&self) -> String {
        let Some(path) = self.psbt.as_ref().filter(|_| !self.dry_run) else {
            return "dry run: no file was written; it is to be signed elsewhere".to_owned();
        };
        format!(
            "unsigned, in {}: sign it with the wallet that has the keys and broadcast it there, or with \
             `bitcoin-cli finalizepsbt` and `sendrawtransaction`; until then its coins can be spent otherwise",
            path.display()
        )
    }

    fn table(&self) -> String {
        let rate = Feerate::from_sat_per_kvb(self.feerate_sat_per_kvb);
        let mut rows = vec![
            ("to", self.to.clone()),
            ("amount", both(self.sat)),
            (
                "fee",
                format!("{} for {} vB, {rate}", both(self.fee), grouped(self.vsize)),
            ),
            ("change", both(self.change)),
            ("txid", self.txid.to_string()),
        ];
        if self.left_out > 0 {
            let text = "immature or unconfirmed, to be spent later";
            rows.push(("untouched", format!("{}: {text}", both(self.left_out))));
        }
        let outcome = match (&self.reason, self.dry_run) {
            _ if self.psbt.is_some() => self.unsigned(),
            (None, false) => "the node took it".to_owned(),
            (None, true) => "dry run: nothing was sent, and the node would take it".to_owned(),
            (Some(reason), true) => {
                format!("dry run: nothing was sent, and the node would refuse it: {reason}")
            }
            (Some(reason), false) => format!("the node refused it: {reason}"),
        };
        rows.push(("outcome", outcome));
        let line = |(name, value): (&str, String)| format!("{name:<12}{value}\n");
        rows.into_iter().map(line).collect()
    }
}
