//! Everything a participant signs with for longer than one round, from one BIP39 seed.
//!
//! | path                        | what                                                              |
//! |-----------------------------|-------------------------------------------------------------------|
//! | `m/1414878292'/coin'/0'`    | identity key, BIP340; the purpose is "TUTT" in ASCII (0x54555454) |
//! | `m/86'/coin'/0'/{0,1}/i`    | payout scripts (0) and change (1), BIP86                          |
//!
//! `coin'` is SLIP-44's: 0' on mainnet, 1' on every test network. A purpose of its own keeps the
//! identity key out of the range any wallet scans, and its hardened steps keep the wallet's public
//! descriptor from telling anything about it. There is no BIP39 passphrase.
//!
//! The one-time keys of rounds are *not* here: they come from fresh randomness and never from the
//! seed, so that nobody who finds the seed later can sign a second payout.
//!
//! What lives in these types is overwritten when dropped. The BIP32 steps inside the libraries may
//! leave copies on the stack, which no caller can reach; the process should not be dumped or swapped.

mod account;
mod seed;

pub use account::AccountKey;
pub use seed::{SEED_WORDS, Seed, SeedError};

use bitcoin::bip32::ChildNumber;
use bitcoin::{Network, NetworkKind};

/// BIP43 purpose of the identity key: "TUTT" as four ASCII bytes, big-endian.
pub const IDENTITY_PURPOSE: u32 = 0x5455_5454;

/// BIP86's purpose.
const WALLET_PURPOSE: u32 = 86;

/// `m/purpose'/coin'/0'`.
fn account_path(purpose: u32, network: Network) -> [ChildNumber; 3] {
    let coin = match NetworkKind::from(network) {
        NetworkKind::Main => 0,
        NetworkKind::Test => 1,
    };
    [purpose, coin, 0].map(|index| ChildNumber::Hardened { index })
}
