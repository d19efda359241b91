//! The participant's own wallet: payout addresses, and the key for fee bumps.
//!
//! The database holds public descriptors and how many addresses were given out. The private half
//! stays in an [`AccountKey`] in memory: the wallet library is opened watch-only.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bdk_wallet::rusqlite::{self, Connection};
use bdk_wallet::template::Bip86Public;
use bdk_wallet::{
    CreateWithPersistError, KeychainKind, LoadError, LoadMismatch, LoadWithPersistError,
    PersistedWallet,
};
use bitcoin::bip32::Xpub;
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::taproot::Signature;
use bitcoin::{
    Address, Network, Psbt, Script, ScriptBuf, TapSighashType, Transaction, TxOut, Witness,
};
use thiserror::Error;

use crate::bump::BumpPlan;
use crate::keys::{AccountKey, Seed};

/// The wallet's file in the data directory.
const FILE_NAME: &str = "wallet.sqlite";

/// Its addresses are nobody else's business.
const FILE_MODE: u32 = 0o600;

/// The wallet, its database, and the key that signs for it.
pub struct Wallet {
    wallet: PersistedWallet<Connection>,
    database: Connection,
    path: PathBuf,
    account: AccountKey,
}

/// Why the wallet was not opened or an address not given out.
#[derive(Debug, Error)]
pub enum WalletError {
    #[error(
        "the wallet {} was made for {stored}, but this participant is set to {wanted}; use another data directory for each network",
        path.display()
    )]
    WrongNetwork {
        path: PathBuf,
        stored: Network,
        wanted: Network,
    },
    #[error(
        "the wallet {} was made from another seed; put back the seed it belongs to, or use another data directory",
        path.display()
    )]
    OtherSeed { path: PathBuf },
    #[error(
        "the wallet {} is damaged ({reason}); move it away and start again: its addresses come back from the seed",
        path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot create the wallet {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot {action} the wallet {}: {source}", path.display())]
    Database {
        action: &'static str,
        path: PathBuf,
        source: rusqlite::Error,
    },
}

/// Why a transaction was not signed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignError {
    #[error("input {input} spends an output that is not this wallet's")]
    NotOurs { input: usize },
    #[error("the value and script that input {input} spends are unknown")]
    MissingOutput { input: usize },
    #[error("the transaction cannot be signed: {reason}")]
    Unsignable { reason: String },
    #[error("the signed child has {found} vB instead of the planned {planned}")]
    UnexpectedSize { planned: u64, found: u64 },
}

impl Wallet {
    /// Opens the wallet in the data directory, or makes it where there is none.
    pub fn open(directory: &Path, seed: &Seed, network: Network) -> Result<Self, WalletError> {
        let path = directory.join(FILE_NAME);
        let account = seed.wallet_account(network);
        let mut database = open_database(&path)?;
        let loaded = load(&mut database, &account, network).map_err(|e| load_error(&path, e))?;
        let wallet = match loaded {
            Some(wallet) => wallet,
            None => create(&mut database, &account, network).map_err(|e| create_error(&path, e))?,
        };
        Ok(Self {
            wallet,
            database,
            path,
            account,
        })
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

    /// The script as an address of the wallet's network; `None` for scripts that have none.
    pub fn address(&self, script: &Script) -> Option<Address> {
        Address::from_script(script, self.network()).ok()
    }

    /// Signs a planned fee bump. The parent need not be in the chain or known to the wallet: the
    /// plan carries what the child spends.
    pub fn sign_bump(&self, plan: &BumpPlan) -> Result<Transaction, SignError> {
        let mut child = plan.psbt.unsigned_tx.clone();
        let inputs = BumpPlan::FIRST_OWN_INPUT..child.input.len();
        for input in inputs {
            child.input[input].witness = self.key_path_witness(&plan.psbt, input)?;
        }
        let found = child.weight().to_vbytes_ceil();
        if found != plan.vsize {
            return Err(SignError::UnexpectedSize {
                planned: plan.vsize,
                found,
            });
        }
        Ok(child)
    }

    /// The witness of one own P2TR input.
    fn key_path_witness(&self, psbt: &Psbt, input: usize) -> Result<Witness, SignError> {
        let spent: Vec<&TxOut> = psbt
            .inputs
            .iter()
            .enumerate()
            .map(|(input, i)| {
                i.witness_utxo
                    .as_ref()
                    .ok_or(SignError::MissingOutput { input })
            })
            .collect::<Result<_, _>>()?;
        let own = spent
            .get(input)
            .ok_or(SignError::MissingOutput { input })?
            .script_pubkey
            .clone();
        let (keychain, index) = self
            .wallet
            .derivation_of_spk(own)
            .ok_or(SignError::NotOurs { input })?;

        let unsignable = |reason: String| SignError::Unsignable { reason };
        let sighash_type = TapSighashType::Default;
        let sighash = SighashCache::new(&psbt.unsigned_tx)
            .taproot_key_spend_signature_hash(input, &Prevouts::All(&spent), sighash_type)
            .map_err(|e| unsignable(e.to_string()))?;
        let signature = self
            .account
            .sign_key_path(
                branch(keychain),
                index,
                Message::from(sighash),
                rand::random(),
            )
            .map_err(|e| unsignable(e.to_string()))?;
        Ok(Witness::p2tr_key_spend(&Signature {
            signature,
            sighash_type,
        }))
    }

    fn reveal(&mut self, keychain: KeychainKind) -> Result<ScriptBuf, WalletError> {
        let script = self.wallet.reveal_next_address(keychain).script_pubkey();
        // Where this fails, the index stays staged and is written with the next address.
        self.wallet
            .persist(&mut self.database)
            .map_err(|source| WalletError::Database {
                action: "write",
                path: self.path.clone(),
                source,
            })?;
        Ok(script)
    }
}

/// BIP86's last but one step.
fn branch(keychain: KeychainKind) -> u32 {
    match keychain {
        KeychainKind::External => 0,
        KeychainKind::Internal => 1,
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

fn descriptor(account: &AccountKey, keychain: KeychainKind) -> Bip86Public<Xpub> {
    Bip86Public(account.xpub(), account.master_fingerprint(), keychain)
}

fn load(
    database: &mut Connection,
    account: &AccountKey,
    network: Network,
) -> Result<Option<PersistedWallet<Connection>>, LoadWithPersistError<rusqlite::Error>> {
    let external = descriptor(account, KeychainKind::External);
    let internal = descriptor(account, KeychainKind::Internal);
    bdk_wallet::Wallet::load()
        .descriptor(KeychainKind::External, Some(external))
        .descriptor(KeychainKind::Internal, Some(internal))
        .check_network(network)
        .load_wallet(database)
}

fn create(
    database: &mut Connection,
    account: &AccountKey,
    network: Network,
) -> Result<PersistedWallet<Connection>, CreateWithPersistError<rusqlite::Error>> {
    let external = descriptor(account, KeychainKind::External);
    let internal = descriptor(account, KeychainKind::Internal);
    bdk_wallet::Wallet::create(external, internal)
        .network(network)
        .create_wallet(database)
}

fn load_error(path: &Path, error: LoadWithPersistError<rusqlite::Error>) -> WalletError {
    let path = path.to_owned();
    match error {
        LoadWithPersistError::Persist(source) => WalletError::Database {
            action: "read",
            path,
            source,
        },
        LoadWithPersistError::InvalidChangeSet(LoadError::Mismatch(mismatch)) => match mismatch {
            LoadMismatch::Network { loaded, expected } => WalletError::WrongNetwork {
                path,
                stored: loaded,
                wanted: expected,
            },
            LoadMismatch::Descriptor { .. } => WalletError::OtherSeed { path },
            LoadMismatch::Genesis { .. } => WalletError::Damaged {
                path,
                reason: mismatch.to_string(),
            },
        },
        LoadWithPersistError::InvalidChangeSet(error) => WalletError::Damaged {
            path,
            reason: error.to_string(),
        },
    }
}

fn create_error(path: &Path, error: CreateWithPersistError<rusqlite::Error>) -> WalletError {
    let path = path.to_owned();
    match error {
        CreateWithPersistError::Persist(source) => WalletError::Database {
            action: "write",
            path,
            source,
        },
        CreateWithPersistError::DataAlreadyExists(_) => WalletError::Damaged {
            path,
            reason: "it holds data but no descriptor".to_owned(),
        },
        CreateWithPersistError::Descriptor(error) => WalletError::Damaged {
            path,
            reason: error.to_string(),
        },
    }
}
