//! Where the pool pays to, and the scripts that a daemon registers for it.

use std::path::Path;

use bitcoin::{Address, Network, Script, ScriptBuf};

use super::{AccountXpub, Wallet, WalletError, WalletFile};
use crate::keys::Seed;

/// Whose addresses the pool pays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PayTo {
    /// Those of the seed.
    #[default]
    OwnKeys,
    /// Those of an account whose keys are elsewhere.
    Xpub(AccountXpub),
    /// One for all payouts.
    Address(Address),
}

impl PayTo {
    /// Whether payouts can be spent here.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::OwnKeys)
    }
}

/// The payout scripts of a participant. Holds nothing open and nothing private.
#[derive(Clone, Debug)]
pub enum PayoutScripts {
    Wallet(WalletFile),
    Fixed(Address),
}

impl PayoutScripts {
    pub fn new(pay_to: &PayTo, directory: &Path, seed: &Seed, network: Network) -> Self {
        match pay_to {
            PayTo::OwnKeys => {
                let account = seed.wallet_account(network);
                Self::Wallet(WalletFile::own(directory, &account, network))
            }
            PayTo::Xpub(xpub) => Self::Wallet(WalletFile::watched(directory, xpub, network)),
            PayTo::Address(address) => Self::Fixed(address.clone()),
        }
    }

    /// The script to register at the start. `before` is the address of the run before: as long as
    /// nothing paid it, it stays, whatever addresses were given out for other purposes since.
    pub fn current(&self, before: Option<&str>) -> Result<ScriptBuf, WalletError> {
        let file = match self {
            Self::Fixed(address) => return Ok(address.script_pubkey()),
            Self::Wallet(file) => file,
        };
        let mut wallet = file.open()?;
        let before = before.and_then(|text| text.parse::<Address<_>>().ok());
        let before = before.and_then(|address| address.require_network(file.network).ok());
        let before = before.map(|address| address.script_pubkey());
        match before.filter(|script| wallet.is_mine(script) && !wallet.is_used(script)) {
            Some(script) => Ok(script),
            None => wallet.unused_payout_script(),
        }
    }

    /// A script never registered before; none where there is only one.
    pub fn next(&self) -> Result<Option<ScriptBuf>, WalletError> {
        match self {
            Self::Fixed(_) => Ok(None),
            Self::Wallet(file) => file.open()?.next_payout_script().map(Some),
        }
    }

    /// Those that were given out, and the next few.
    pub fn owned(&self) -> Result<OwnedScripts, WalletError> {
        Ok(match self {
            Self::Fixed(address) => OwnedScripts::Fixed(address.script_pubkey()),
            Self::Wallet(file) => OwnedScripts::Wallet(Box::new(file.open()?)),
        })
    }
}

/// The scripts that are ours, to be held against what transactions pay.
pub enum OwnedScripts {
    Wallet(Box<Wallet>),
    Fixed(ScriptBuf),
}

impl OwnedScripts {
    pub fn is_mine(&self, script: &Script) -> bool {
        match self {
            Self::Wallet(wallet) => wallet.is_mine(script),
            Self::Fixed(own) => own.as_script() == script,
        }
    }
}
