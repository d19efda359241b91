//! `payouts import FILE`: takes one payout without its round. What only the round says stays unknown;
//! the height and what the payout costs come from its coinbase, which a PSBT carries or the node finds.

use std::path::Path;

use bitcoin::{Amount, OutPoint, Script, Transaction, Txid};
use serde::Serialize;

use super::import::{ImportError, Invalid, MAX_PAYOUTS, valid_payouts, verify_payout};
use super::single::{self, Single};
use crate::amount::{both, grouped};
use crate::bump;
use crate::chain::{Node, NodeError};
use crate::config::LocalConfig;
use crate::keys::Seed;
use crate::store::{self, Alone};
use crate::wallet::{PayTo, WalletFile};

/// Outputs that the node is asked for to know whether the payout is in the chain.
const ASKED_OUTPUTS: u32 = 8;

/// What was taken, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportedPayout {
    pub payout_txid: Txid,
    pub coinbase_txid: Txid,
    /// Of its block, if one was or is found.
    pub height: Option<u32>,
    /// Whether the signature was checked: it can be where the coinbase is known.
    pub verified: bool,
    /// All that it pays, sat.
    pub pays: u64,
    /// What the wallet here gets, if that can be said.
    pub own_sat: Option<u64>,
    pub fee: Option<u64>,
    /// The block of the node's best chain that has its coinbase unspent.
    pub found_in: Option<u32>,
    /// The block of the node's best chain that has the payout.
    pub confirmed_in: Option<u32>,
    /// Why the node was not asked.
    pub node: Option<String>,
    /// It was held before.
    pub known: bool,
    /// A daemon runs and sees it after its next start.
    pub restart: bool,
}

/// What the node knows.
#[derive(Default)]
struct Seen {
    coinbase: Option<Transaction>,
    found_in: Option<u32>,
    confirmed_in: Option<u32>,
}

/// Takes the payout of a file.
pub fn import_one(config: &LocalConfig, from: &Path) -> Result<ImportedPayout, ImportError> {
    let Single { payout, coinbase } = single::read(from)?;
    let spent = payout.input[0].previous_output; // Looked at when it was read.
    let (seen, node) = match ask(config, &payout, spent) {
        Ok(seen) => (seen, None),
        Err(why) => (Seen::default(), Some(why)),
    };
    let before = store::alone(&config.data_dir, spent.txid)?;
    let coinbase = coinbase
        .or(seen.coinbase)
        .or(before.and_then(|before| before.coinbase));
    if let Some(coinbase) = &coinbase {
        let wrong = |reason| ImportError::InvalidPayout {
            path: from.to_owned(),
            reason,
        };
        verify_payout(coinbase, &payout).map_err(wrong)?;
    }
    let fee = coinbase
        .as_ref()
        .and_then(|coinbase| bump::fee(coinbase, &payout));
    let (payout_txid, pays) = (payout.compute_txid(), paid(&payout));
    let directory = &config.data_dir;
    store::create_directory(directory)?;
    let alone = keep(config, from, payout, coinbase)?;
    Ok(ImportedPayout {
        payout_txid,
        coinbase_txid: spent.txid,
        height: alone.alone.height().or(seen.found_in),
        verified: alone.alone.coinbase.is_some(),
        pays,
        own_sat: alone.own_sat,
        fee: fee.map(Amount::to_sat),
        found_in: seen.found_in,
        confirmed_in: seen.confirmed_in,
        node,
        known: alone.known,
        restart: store::is_held(directory),
    })
}

/// What the file adds to what is held.
struct Kept {
    alone: Alone,
    known: bool,
    /// Of this payout.
    own_sat: Option<u64>,
}

fn keep(
    config: &LocalConfig,
    from: &Path,
    payout: Transaction,
    coinbase: Option<Transaction>,
) -> Result<Kept, ImportError> {
    let directory = &config.data_dir;
    let txid = payout.compute_txid();
    let spends = payout.input[0].previous_output.txid; // Looked at when it was read.
    let own_sat = own_part(config, std::slice::from_ref(&payout))?;
    let before = store::alone(directory, spends)?;
    let (before_coinbase, mut payouts) = match before {
        Some(before) => (before.coinbase, before.payouts),
        None => (None, Vec::new()),
    };
    let known = payouts.contains(&payout) || is_in_a_round(directory, spends, txid)?;
    // The same payout with another signature: one of the two is not valid. This one is, if it was verified;
    // else nobody can say which, and both are kept until its coinbase is known.
    if coinbase.is_some() {
        payouts.retain(|held| held.compute_txid() != txid);
    }
    if !payouts.contains(&payout) {
        payouts.push(payout.clone());
    }
    if let Some(coinbase) = &coinbase {
        payouts = valid_payouts(coinbase, &payouts);
        if !payouts.contains(&payout) {
            return Err(ImportError::InvalidPayout {
                path: from.to_owned(),
                reason: Invalid::SpentTwice,
            });
        }
    }
    if payouts.len() > MAX_PAYOUTS {
        return Err(ImportError::TooMany(spends));
    }
    let alone = Alone {
        coinbase_txid: spends,
        coinbase: coinbase.or(before_coinbase),
        own_sat: own_part(config, &payouts)?,
        payouts,
    };
    store::write_alone(directory, &alone)?;
    Ok(Kept {
        alone,
        known,
        own_sat,
    })
}

/// Whether a held round has it: then the round counts.
fn is_in_a_round(directory: &Path, coinbase: Txid, payout: Txid) -> Result<bool, ImportError> {
    let held = store::held_rounds(directory, |_| true)?;
    let mut lanes = held.rounds.iter().flat_map(|held| &held.lanes);
    Ok(lanes.any(|lane| {
        let mut payouts = lane.payouts.iter();
        lane.coinbase.compute_txid() == coinbase
            && payouts.any(|held| held.compute_txid() == payout)
    }))
}

fn ask(config: &LocalConfig, payout: &Transaction, spent: OutPoint) -> Result<Seen, String> {
    let node = config.node.as_ref();
    let node = node.ok_or_else(|| "the configuration has no [node] section".to_owned())?;
    let node = Node::connect(node).map_err(|error| error.to_string())?;
    look(&node, payout, spent).map_err(|error| error.to_string())
}

fn look(node: &Node, payout: &Transaction, spent: OutPoint) -> Result<Seen, NodeError> {
    let mut seen = Seen::default();
    if let Some(block) = node.block_of_unspent(spent)? {
        seen.found_in = Some(block.height);
        seen.coinbase = node.transaction_in(spent.txid, block.hash)?;
        return Ok(seen);
    }
    let txid = payout.compute_txid();
    for vout in (0..ASKED_OUTPUTS).take(payout.output.len()) {
        if let Some(block) = node.block_of_unspent(OutPoint::new(txid, vout))? {
            seen.confirmed_in = Some(block.height);
            break;
        }
    }
    Ok(seen)
}

/// What payouts pay to scripts of ours; none where no wallet can say. A wallet knows the scripts it
/// gave out and the next few, so nothing for us is not the same as unknown scripts.
fn own_part(config: &LocalConfig, payouts: &[Transaction]) -> Result<Option<u64>, ImportError> {
    let sum = |is_mine: &dyn Fn(&Script) -> bool| {
        let outputs = payouts.iter().flat_map(|payout| &payout.output);
        let own = outputs.filter(|output| is_mine(&output.script_pubkey));
        own.map(|output| output.value.to_sat()).sum::<u64>()
    };
    let directory = &config.data_dir;
    let file = match &config.pay_to {
        PayTo::Address(address) => {
            let script = address.script_pubkey();
            return Ok(Some(sum(&|other| *other == *script)));
        }
        PayTo::Xpub(xpub) => {
            store::create_directory(directory)?;
            WalletFile::watched(directory, xpub, config.network)
        }
        PayTo::OwnKeys => {
            let path = directory.join(store::SEED);
            if !path.exists() {
                return Ok(None);
            }
            let account = Seed::load(&path)?.wallet_account(config.network);
            WalletFile::own(directory, &account, config.network)
        }
    };
    let wallet = file.open()?;
    let own = sum(&|script| wallet.is_mine(script));
    Ok((own > 0).then_some(own))
}

fn paid(payout: &Transaction) -> u64 {
    payout
        .output
        .iter()
        .map(|output| output.value.to_sat())
        .sum()
}

impl ImportedPayout {
    /// For persons.
    pub fn text(&self) -> String {
        let known = |amount: Option<u64>| amount.map_or_else(|| "unknown".to_owned(), both);
        let height = self.height.map_or_else(|| "unknown".to_owned(), grouped);
        let block = match (self.confirmed_in, self.found_in, &self.node) {
            (Some(height), _, _) => format!("block {} of the node has the payout", grouped(height)),
            (_, Some(height), _) => format!("found: block {} of the node", grouped(height)),
            (None, None, None) => "not in the node's chain, as far as it can say".to_owned(),
            (None, None, Some(why)) => format!("unknown: the node was not asked ({why})"),
        };
        let signature = match self.verified {
            true => "valid",
            false => "unknown until its coinbase is: nodes judge it",
        };
        let rows = [
            ("payout", self.payout_txid.to_string()),
            ("spends", self.coinbase_txid.to_string()),
            ("height", height),
            ("block", block),
            ("signature", signature.to_owned()),
            ("pays", both(self.pays)),
            ("we get", known(self.own_sat)),
            ("fee", known(self.fee)),
        ];
        let line = |(name, value): (&str, String)| format!("{name:<12}{value}\n");
        let mut text: String = rows.into_iter().map(line).collect();
        text.push_str(match (self.known, self.restart) {
            (true, _) => "it was held already\n",
            (false, true) => "restart the daemon, which looks for its block from then on\n",
            (false, false) => {
                "`tutti-participant watch` broadcasts it when it is ripe; `run` does too\n"
            }
        });
        text
    }
}
