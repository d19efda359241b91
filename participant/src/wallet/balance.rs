//! What the wallet has, by what can be done with it.

use std::collections::BTreeMap;

use bdk_wallet::LocalOutput;
use bdk_wallet::chain::ChainPosition;
use bitcoin::{Address, OutPoint, Transaction, TxOut};
use serde::Serialize;
use tutti_proto::coinbase::COINBASE_MATURITY;

use super::Wallet;
use super::paid::{Paid, own_outputs};
use super::sync::tip;
use crate::amount::{both, grouped};
use crate::chain::{Node, NodeError};

/// Payouts and their fee bumps: while one is unconfirmed, only a version-3 transaction may spend it.
pub(super) const TRUC: i32 = 3;

/// Amounts in sat; each coin is in exactly one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// The node's tip that it is about.
    pub height: u32,
    /// In the chain, and spendable.
    pub confirmed: u64,
    /// In the mempool: change of own payments, and payments by others.
    pub unconfirmed: u64,
    /// In the mempool: payouts, and what their fee bumps leave.
    pub unconfirmed_payouts: u64,
    /// In the chain: coinbases that pay directly, and are not 100 blocks deep.
    pub immature: u64,
    /// Signed payouts of found blocks, not in the mempool yet: most wait for their coinbase's maturity.
    pub maturing: u64,
    /// What becomes spendable or can be broadcast, by the tip's height from which on it is.
    pub ripe_at: BTreeMap<u32, u64>,
    pub total: u64,
}

impl Wallet {
    /// Of the wallet as it was synced, and of the payouts that the chain does not have yet.
    pub(super) fn balance(&self, paid: &[Paid]) -> Balance {
        let tip = tip(&self.wallet.latest_checkpoint());
        let mut balance = Balance {
            height: tip.height,
            ..Balance::default()
        };
        for coin in self.wallet.list_unspent() {
            let sat = coin.txout.value.to_sat();
            match self.state(&coin, tip.height) {
                CoinState::Confirmed => balance.confirmed += sat,
                CoinState::Unconfirmed => balance.unconfirmed += sat,
                CoinState::UnconfirmedPayout => balance.unconfirmed_payouts += sat,
                CoinState::Immature { ripe_at } => balance.immature(sat, ripe_at),
            }
        }
        // What the wallet knows is counted already, spent or not.
        let unknown = paid.iter().filter(|paid| {
            let txid = paid.transaction.compute_txid();
            !paid.confirmed && self.wallet.get_tx(txid).is_none()
        });
        for paid in unknown {
            let own = own_outputs(&paid.transaction, |script| self.is_mine(script));
            own.into_iter()
                .for_each(|(_, sat)| balance.maturing(sat, paid.ripe_at));
        }
        balance.summed()
    }

    /// Coins in the chain that can be spent, as of the last sync.
    pub fn confirmed_coins(&self) -> impl Iterator<Item = (OutPoint, TxOut)> {
        let tip = tip(&self.wallet.latest_checkpoint()).height;
        let coins = self.wallet.list_unspent();
        let confirmed = coins.filter(move |coin| self.state(coin, tip) == CoinState::Confirmed);
        confirmed.map(|coin| (coin.outpoint, coin.txout))
    }

    pub(super) fn state(&self, coin: &LocalOutput, tip: u32) -> CoinState {
        let transaction = self.wallet.get_tx(coin.outpoint.txid);
        let is = |what: fn(&Transaction) -> bool| {
            let transaction = transaction.as_ref();
            transaction.is_some_and(|tx| what(&tx.tx_node.tx))
        };
        match &coin.chain_position {
            ChainPosition::Unconfirmed { .. } if is(|tx| tx.version.0 == TRUC) => {
                CoinState::UnconfirmedPayout
            }
            ChainPosition::Unconfirmed { .. } => CoinState::Unconfirmed,
            ChainPosition::Confirmed { anchor, .. } => {
                let ripe_at = ripe_at(anchor.block_id.height);
                match is(Transaction::is_coinbase) && tip < ripe_at {
                    true => CoinState::Immature { ripe_at },
                    false => CoinState::Confirmed,
                }
            }
        }
    }
}

/// What can be done with a coin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CoinState {
    Confirmed,
    Unconfirmed,
    UnconfirmedPayout,
    Immature { ripe_at: u32 },
}

/// The tip at which a coinbase's outputs can be spent by the next block.
fn ripe_at(height: u32) -> u32 {
    height.saturating_add(COINBASE_MATURITY - 1)
}

impl Balance {
    /// What this pool paid to one address, as far as its blocks' rounds are held. Other payments to it
    /// are its wallet's business.
    pub(super) fn of_address(
        address: &Address,
        paid: &[Paid],
        node: &Node,
    ) -> Result<Self, NodeError> {
        let script = address.script_pubkey();
        let mut balance = Self {
            height: node.tip()?.block.height,
            ..Self::default()
        };
        for paid in paid {
            for (outpoint, sat) in own_outputs(&paid.transaction, |s| *s == *script) {
                match node.unspent_output(outpoint, true)? {
                    Some(coin) if coin.confirmations == 0 => balance.unconfirmed_payouts += sat,
                    Some(coin) if coin.coinbase && coin.confirmations < COINBASE_MATURITY => {
                        balance.immature(sat, paid.ripe_at);
                    }
                    Some(_) => balance.confirmed += sat,
                    None if paid.confirmed => {} // Spent since.
                    None => balance.maturing(sat, paid.ripe_at),
                }
            }
        }
        Ok(balance.summed())
    }

    fn immature(&mut self, sat: u64, ripe_at: u32) {
        self.immature += sat;
        *self.ripe_at.entry(ripe_at).or_default() += sat;
    }

    fn maturing(&mut self, sat: u64, ripe_at: u32) {
        self.maturing += sat;
        *self.ripe_at.entry(ripe_at).or_default() += sat;
    }

    fn summed(mut self) -> Self {
        self.total = self.confirmed
            + self.unconfirmed
            + self.unconfirmed_payouts
            + self.immature
            + self.maturing;
        self
    }

    /// For persons.
    pub fn table(&self) -> String {
        let rows = [
            ("confirmed", self.confirmed, "can be spent"),
            ("unconfirmed", self.unconfirmed, "in the mempool"),
            (
                "unconfirmed payouts",
                self.unconfirmed_payouts,
                "in the mempool; can be spent once in a block",
            ),
            (
                "immature",
                self.immature,
                "paid by coinbases; can be spent when 100 blocks deep",
            ),
            (
                "maturing",
                self.maturing,
                "signed payouts of found blocks, to be broadcast",
            ),
            ("total", self.total, ""),
        ];
        let mut text = format!("{:<21}{}\n", "block", grouped(self.height));
        for (name, sat, what) in rows {
            let line = format!("{name:<21}{:>42}  {what}", both(sat));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for (height, sat) in &self.ripe_at {
            let (height, amount) = (grouped(*height), both(*sat));
            text.push_str(&format!("ripe at block {height}: {amount}\n"));
        }
        text
    }
}
