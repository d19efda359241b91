//! The participant's own wallet: payout addresses, its coins in the chain, and the keys that spend them.
//!
//! The database holds public descriptors, how many addresses were given out, and what the chain has for
//! them. The private half stays in an [`AccountKey`] in memory: the wallet library is opened watch-only.
//! Daemon and commands share the file: see [`WalletFile`].

mod account;
mod answer;
mod balance;
mod birthday;
mod command;
mod error;
mod lock;
mod paid;
mod pay;
mod scripts;
mod sign;
mod spend;
mod sync;
mod unseen;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bdk_wallet::rusqlite::Connection;
use bdk_wallet::{KeychainKind, PersistedWallet};
use bitcoin::{Address, Network, Script, ScriptBuf};

use crate::keys::{AccountKey, Seed};
use lock::WalletLock;

pub use account::{AccountXpub, XpubError};
pub use answer::Answer;
pub use balance::Balance;
pub use birthday::{BeginError, Birthday, BirthdayError};
pub use command::{WalletArgs, WalletCommandError, after_restore, check_birthday, execute};
pub use error::{SignError, WalletError};
pub use scripts::{OwnedScripts, PayTo, PayoutScripts};
pub use spend::{Spend, SpendError};
pub use sync::{SyncError, Synced, blocks_behind, rescan, sync};

/// The own wallet's file in the data directory.
const FILE_NAME: &str = "wallet.sqlite";

/// Its addresses are nobody else's business.
const FILE_MODE: u32 = 0o600;

/// Where a wallet is stored, and of which public keys it is made. Cheap to keep; the wallet itself is
/// opened for each use and closed again, so that no process works on what another has changed.
#[derive(Clone, Debug)]
pub struct WalletFile {
    directory: PathBuf,
    name: String,
    xpub: AccountXpub,
    network: Network,
}

/// An open wallet. Nobody else has it open meanwhile.
pub struct Wallet {
    wallet: PersistedWallet<Connection>,
    database: Connection,
    path: PathBuf,
    keys: Option<AccountKey>,
    _lock: WalletLock,
}

impl WalletFile {
    /// The wallet of the participant's own keys.
    pub fn own(directory: &Path, account: &AccountKey, network: Network) -> Self {
        Self {
            directory: directory.to_owned(),
            name: FILE_NAME.to_owned(),
            xpub: AccountXpub::of(account, network),
            network,
        }
    }

    /// The wallet of an account whose keys are elsewhere. Each has its own file, so that another xpub,
    /// or own keys again, find theirs as they left it.
    pub fn watched(directory: &Path, xpub: &AccountXpub, network: Network) -> Self {
        let descriptor = xpub.descriptor(KeychainKind::External);
        let checksum = descriptor.rsplit_once('#').map_or("", |(_, sum)| sum);
        Self {
            directory: directory.to_owned(),
            name: format!("wallet-{checksum}.sqlite"),
            xpub: xpub.clone(),
            network,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn network(&self) -> Network {
        self.network
    }

    pub fn xpub(&self) -> &AccountXpub {
        &self.xpub
    }

    /// Opens the wallet, or makes it where there is none. Waits for another process to close it.
    pub fn open(&self) -> Result<Wallet, WalletError> {
        self.open_with(None)
    }

    fn open_with(&self, keys: Option<AccountKey>) -> Result<Wallet, WalletError> {
        let path = self.path();
        let lock = WalletLock::take(&self.directory)?;
        let mut database = open_database(&path)?;
        let wallet = self.load_or_create(&mut database, &path)?;
        Ok(Wallet {
            wallet,
            database,
            path,
            keys,
            _lock: lock,
        })
    }

    fn load_or_create(
        &self,
        database: &mut Connection,
        path: &Path,
    ) -> Result<PersistedWallet<Connection>, WalletError> {
        let [external, internal] = self.descriptors();
        let loaded = bdk_wallet::Wallet::load()
            .descriptor(KeychainKind::External, Some(external.clone()))
            .descriptor(KeychainKind::Internal, Some(internal.clone()))
            .check_network(self.network)
            .load_wallet(database)
            .map_err(|error| WalletError::load(path, error))?;
        match loaded {
            Some(wallet) => Ok(wallet),
            None => bdk_wallet::Wallet::create(external, internal)
                .network(self.network)
                .create_wallet(database)
                .map_err(|error| WalletError::create(path, error)),
        }
    }

    /// For payouts, and for change.
    pub fn descriptors(&self) -> [String; 2] {
        [KeychainKind::External, KeychainKind::Internal]
            .map(|keychain| self.xpub.descriptor(keychain))
    }
}

impl Wallet {
    /// Opens the own wallet with its keys, or makes it where there is none.
    pub fn open(directory: &Path, seed: &Seed, network: Network) -> Result<Self, WalletError> {
        let account = seed.wallet_account(network);
        WalletFile::own(directory, &account, network).open_with(Some(account))
    }

    pub fn network(&self) -> Network {
        self.wallet.network()
    }

    /// A payout script that was never given out. On disk before it is returned, so that no restart
    /// gives it out again.
    pub fn next_payout_script(&mut self) -> Result<ScriptBuf, WalletError> {
        self.reveal(KeychainKind::External)
    }

    /// The payout script given out last; the first one where none was.
    pub fn current_payout_script(&mut self) -> Result<ScriptBuf, WalletError> {
        match self.wallet.derivation_index(KeychainKind::External) {
            Some(index) => Ok(self
                .wallet
                .peek_address(KeychainKind::External, index)
                .script_pubkey()),
            None => self.next_payout_script(),
        }
    }

    /// The payout script given out last, or a new one if the chain has paid that one.
    pub fn unused_payout_script(&mut self) -> Result<ScriptBuf, WalletError> {
        let current = self.current_payout_script()?;
        match self.is_used(&current) {
            true => self.next_payout_script(),
            false => Ok(current),
        }
    }

    /// A script for what a fee bump leaves over.
    pub fn next_change_script(&mut self) -> Result<ScriptBuf, WalletError> {
        self.reveal(KeychainKind::Internal)
    }

    /// The script that [`Wallet::next_change_script`] would give out next.
    pub fn peek_change_script(&self) -> ScriptBuf {
        let next = self.wallet.next_derivation_index(KeychainKind::Internal);
        let address = self.wallet.peek_address(KeychainKind::Internal, next);
        address.script_pubkey()
    }

    /// Whether the script is one that was given out, or one of the next few.
    pub fn is_mine(&self, script: &Script) -> bool {
        self.wallet.is_mine(script.to_owned())
    }

    /// Whether a transaction is known that pays the script.
    pub fn is_used(&self, script: &Script) -> bool {
        let place = self.wallet.derivation_of_spk(script.to_owned());
        place.is_some_and(|(keychain, index)| self.wallet.spk_index().is_used(keychain, index))
    }

    /// The script as an address of the wallet's network; `None` for scripts that have none.
    pub fn address(&self, script: &Script) -> Option<Address> {
        Address::from_script(script, self.network()).ok()
    }

    fn reveal(&mut self, keychain: KeychainKind) -> Result<ScriptBuf, WalletError> {
        let script = self.wallet.reveal_next_address(keychain).script_pubkey();
        // Where this fails, the index stays staged and is written with the next address.
        self.persist()?;
        Ok(script)
    }

    fn persist(&mut self) -> Result<(), WalletError> {
        self.wallet
            .persist(&mut self.database)
            .map_err(|source| WalletError::Database {
                action: "write",
                path: self.path.clone(),
                source,
            })?;
        Ok(())
    }
}

fn open_database(path: &Path) -> Result<Connection, WalletError> {
    // SQLite would create the file for everyone to read.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|source| WalletError::Create {
            path: path.to_owned(),
            source,
        })?;
    let failed = |source| WalletError::Database {
        action: "open",
        path: path.to_owned(),
        source,
    };
    let database = Connection::open(path).map_err(failed)?;
    // An address is announced once it is on disk: it must survive a power failure too.
    database
        .pragma_update(None, "synchronous", "FULL")
        .map_err(failed)?;
    Ok(database)
}
