//! `wallet`: the commands, on the data directory and the own node; beside a running daemon or without.

use std::io;
use std::path::{Path, PathBuf};

use bdk_wallet::KeychainKind;
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Network};
use clap::{Args, Subcommand};
use thiserror::Error;

use super::answer::{AddressRow, Answer, Descriptors, NewAddress, Rescanned};
use super::birthday::BeginError;
use super::paid::{PaidError, paid};
use super::sync::first_height;
use super::{
    Balance, Birthday, PayTo, SpendError, SyncError, Synced, Wallet, WalletError, WalletFile,
    rescan, sync,
};
use crate::amount::{self, grouped};
use crate::bump::Feerate;
use crate::chain::{Node, NodeConfig, NodeError};
use crate::config::LocalConfig;
use crate::keys::{Seed, SeedError};
use crate::store::{self, StoreError};

/// What is asked of the wallet.
#[derive(Subcommand)]
pub enum WalletArgs {
    /// What the wallet has: confirmed, unconfirmed, immature, and payouts not broadcast yet.
    Balance,
    /// The addresses given out, and what they received.
    Addresses {
        /// Change addresses too.
        #[arg(long)]
        change: bool,
    },
    /// Give out an address that was never given out.
    #[command(name = "new-address")]
    NewAddress,
    /// Pay an address.
    Send {
        /// Who is paid.
        address: Address<NetworkUnchecked>,
        /// How much: sat as in 150000, or bitcoins as in 0.0015btc.
        #[arg(value_parser = amount::parse, allow_negative_numbers = true)]
        amount: Amount,
        #[command(flatten)]
        how: SpendArgs,
    },
    /// Pay all that can be spent to one address.
    Sweep {
        /// Who is paid.
        address: Address<NetworkUnchecked>,
        #[command(flatten)]
        how: SpendArgs,
    },
    /// The public descriptors, which any wallet can watch.
    Descriptors,
    /// Look at old blocks again, as after a restore or for addresses used elsewhere.
    Rescan {
        /// The first block to look at: a height, or a date as in 2026-01-31. Without it, all since the
        /// wallet's birthday.
        #[arg(long, value_name = "HEIGHT|DATE")]
        from: Option<Birthday>,
    },
}

/// How a payment is made.
#[derive(Args, Clone)]
pub struct SpendArgs {
    /// What to pay a node, in sat/vB. Without it, what the node estimates.
    #[arg(long, value_name = "SAT_PER_VB", allow_negative_numbers = true)]
    pub(super) feerate: Option<Feerate>,
    /// The estimate for a confirmation within so many blocks.
    #[arg(long, value_name = "N", default_value_t = 6, conflicts_with = "feerate",
          value_parser = clap::value_parser!(u16).range(1..=1_008))]
    pub(super) target_blocks: u16,
    /// Show the transaction's costs and what the node says of it, and send nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Sign nothing and send nothing: write the transaction to this file, as a PSBT to be signed
    /// elsewhere. Where payouts go to an xpub it always is one: payment-TXID.psbt without this.
    #[arg(long, value_name = "FILE")]
    pub(super) psbt: Option<PathBuf>,
}

/// Why a command was not carried out.
#[derive(Debug, Error)]
pub enum WalletCommandError {
    #[error(
        "the configuration has no [node] section, and the wallet's coins are in a node's chain; add one"
    )]
    NoNode,
    #[error(
        "payouts go to {address}, which [wallet] in the configuration fixes: its addresses and coins are in the wallet that made it; `wallet balance` shows what this pool pays to it"
    )]
    FixedAddress { address: Address },
    #[error("{address} is not an address of {network}; ask the receiver for one of this network")]
    OtherNetwork { address: String, network: Network },
    #[error(
        "the node has no fee estimate for {0} blocks: it has seen too few transactions, or runs with -blocksonly; give --feerate instead"
    )]
    NoEstimate(u16),
    #[error("cannot write {}: {source}; name a file with --psbt that does not exist yet", path.display())]
    Psbt { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Spend(#[from] SpendError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error(transparent)]
    Paid(#[from] PaidError),
    #[error(transparent)]
    Seed(#[from] SeedError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Carries out a command.
pub fn execute(config: &LocalConfig, args: &WalletArgs) -> Result<Answer, WalletCommandError> {
    let directory = &config.data_dir;
    let scope = Scope {
        directory,
        network: config.network,
        node: config.node.as_ref(),
    };
    let file = match &config.pay_to {
        PayTo::OwnKeys => {
            let account = scope.seed()?.wallet_account(config.network);
            WalletFile::own(directory, &account, config.network)
        }
        PayTo::Xpub(xpub) => {
            store::create_directory(directory)?;
            WalletFile::watched(directory, xpub, config.network)
        }
        PayTo::Address(address) => return scope.of_address(address, args),
    };
    Ok(match args {
        WalletArgs::Balance => Answer::Balance(scope.balance(&file)?),
        WalletArgs::Addresses { change } => Answer::Addresses(scope.addresses(&file, *change)?),
        WalletArgs::NewAddress => {
            let mut wallet = file.open()?;
            let script = wallet.next_payout_script()?;
            let address = wallet.address(&script).map(|address| address.to_string());
            Answer::Address(NewAddress {
                address: address.unwrap_or_else(|| script.to_hex_string()),
            })
        }
        WalletArgs::Send {
            address,
            amount,
            how,
        } => Answer::Sent(scope.pay(config, &file, address, Some(*amount), how)?),
        WalletArgs::Sweep { address, how } => {
            Answer::Sent(scope.pay(config, &file, address, None, how)?)
        }
        WalletArgs::Descriptors => {
            let [external, internal] = file.descriptors();
            Answer::Descriptors(Descriptors { external, internal })
        }
        WalletArgs::Rescan { from } => Answer::Rescanned(scope.rescan(&file, *from)?),
    })
}

/// Refuses a birthday that no block of the node's chain has, before a seed is restored with it: its wallet would look
/// at nothing, and be as good as empty. A node that cannot be asked, or does not know the chain yet, refuses none.
pub fn check_birthday(config: &LocalConfig, birthday: Birthday) -> Result<(), BeginError> {
    let node = config.node.as_ref().map(Node::connect);
    let tip = node.and_then(|node| node.and_then(|node| node.tip()).ok());
    let tip = tip.filter(|tip| !tip.initial_block_download);
    tip.map_or(Ok(()), |tip| {
        birthday.must_be_reached(tip.block.height.max(tip.headers))
    })
}

/// Looks for the coins of a wallet that was just restored. None where there is nothing to look with, or
/// for.
pub fn after_restore(
    config: &LocalConfig,
    birthday: Birthday,
) -> Result<Option<Answer>, WalletCommandError> {
    if config.node.is_none() || matches!(config.pay_to, PayTo::Address(_)) {
        return Ok(None);
    }
    let from = Some(birthday);
    execute(config, &WalletArgs::Rescan { from }).map(Some)
}

/// Where the wallet's coins are looked for.
pub(super) struct Scope<'a> {
    pub(super) directory: &'a Path,
    pub(super) network: Network,
    node: Option<&'a NodeConfig>,
}

impl Scope<'_> {
    pub(super) fn seed(&self) -> Result<Seed, SeedError> {
        Seed::load(&self.directory.join(store::SEED))
    }

    pub(super) fn node(&self) -> Result<Node, WalletCommandError> {
        let config = self.node.ok_or(WalletCommandError::NoNode)?;
        Ok(Node::connect(config)?)
    }

    pub(super) fn sync(
        &self,
        file: &WalletFile,
        node: &Node,
    ) -> Result<Synced, WalletCommandError> {
        let birthday = Birthday::load(self.directory)?;
        Ok(sync(file, node, birthday, &mut say_progress)?)
    }

    fn balance(&self, file: &WalletFile) -> Result<Balance, WalletCommandError> {
        let node = self.node()?;
        self.sync(file, &node)?;
        let paid = paid(self.directory, &node)?;
        Ok(file.open()?.balance(&paid))
    }

    fn of_address(
        &self,
        address: &Address,
        args: &WalletArgs,
    ) -> Result<Answer, WalletCommandError> {
        let WalletArgs::Balance = args else {
            let address = address.clone();
            return Err(WalletCommandError::FixedAddress { address });
        };
        let node = self.node()?;
        let paid = paid(self.directory, &node)?;
        let balance = Balance::of_address(address, &paid, &node)?;
        Ok(Answer::Balance(balance))
    }

    fn addresses(
        &self,
        file: &WalletFile,
        change: bool,
    ) -> Result<Vec<AddressRow>, WalletCommandError> {
        // The list itself needs no node.
        if self.node.is_some() {
            self.sync(file, &self.node()?)?;
        }
        let wallet = file.open()?;
        let keychains = match change {
            true => &[KeychainKind::External, KeychainKind::Internal][..],
            false => &[KeychainKind::External],
        };
        let rows = keychains.iter().flat_map(|k| wallet.addresses(*k));
        Ok(rows.collect())
    }

    /// Looks for coins since a block, for an existing wallet or one just restored.
    fn rescan(
        &self,
        file: &WalletFile,
        from: Option<Birthday>,
    ) -> Result<Rescanned, WalletCommandError> {
        let node = self.node()?;
        let from = match from {
            Some(from) => from,
            None => {
                let birthday = Birthday::load(self.directory)?;
                Birthday::Height(first_height(file, &node, birthday)?)
            }
        };
        from.must_be_reached(node.tip()?.block.height)
            .map_err(SyncError::from)?;
        let of_pool = paid(self.directory, &node)?.into_iter();
        let of_pool = of_pool.map(|paid| paid.transaction).collect();
        let synced = rescan(file, &node, from, of_pool, &mut say_progress)?;
        // It may have taken long.
        let paid = paid(self.directory, &node)?;
        let balance = file.open()?.balance(&paid);
        Ok(Rescanned { synced, balance })
    }
}

impl Wallet {
    fn addresses(&self, keychain: KeychainKind) -> Vec<AddressRow> {
        let revealed = self.wallet.spk_index().revealed_keychain_spks(keychain);
        let outputs: Vec<_> = self.wallet.list_output().collect();
        let row = |(index, script): (u32, bitcoin::ScriptBuf)| {
            let own = outputs
                .iter()
                .filter(|output| (output.keychain, output.derivation_index) == (keychain, index));
            let sat = |output: &&bdk_wallet::LocalOutput| output.txout.value.to_sat();
            AddressRow {
                address: self
                    .address(&script)
                    .map_or_else(|| script.to_hex_string(), |address| address.to_string()),
                index,
                change: keychain == KeychainKind::Internal,
                received: own.clone().map(|output| sat(&output)).sum(),
                unspent: own
                    .filter(|output| !output.is_spent)
                    .map(|output| sat(&output))
                    .sum(),
            }
        };
        revealed.map(row).collect()
    }
}

/// A line on stderr now and then, where it takes long.
fn say_progress(height: u32, tip: u32) {
    const EVERY: u32 = 1_000;
    if height.is_multiple_of(EVERY) && tip.saturating_sub(height) >= EVERY {
        let (height, tip) = (grouped(height), grouped(tip));
        eprintln!("tutti-participant: looked at block {height} of {tip}");
    }
}
