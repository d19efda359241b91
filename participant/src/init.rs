//! `init`: a new seed, shown once.

use std::path::PathBuf;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::keys::{Seed, SeedError};
use crate::status::{Board, Status};
use crate::store::{self, DataLock, StoreError};
use crate::wallet::{Wallet, WalletError};

/// Why there is no new seed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(transparent)]
    Seed(#[from] SeedError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// What `init` shows. The words are erased when it is dropped.
#[derive(Serialize)]
pub struct Initialised {
    pub identity: String,
    pub first_address: String,
    #[serde(serialize_with = "as_text")]
    pub words: Zeroizing<String>,
    #[serde(skip)]
    pub seed_file: PathBuf,
}

/// Creates the seed, the wallet and the status file. An existing seed is never touched.
pub fn init(config: &Config) -> Result<Initialised, InitError> {
    let directory = &config.data_dir;
    store::create_directory(directory)?;
    let seed_file = directory.join(store::SEED);
    if seed_file.exists() {
        return Err(SeedError::Exists { path: seed_file }.into());
    }
    let _lock = DataLock::take(directory)?;
    let seed = Seed::generate()?;
    seed.create_file(&seed_file)?;
    let mut wallet = Wallet::open(directory, &seed, config.network)?;
    let script = wallet.current_payout_script()?;
    let first_address = wallet
        .address(&script)
        .map_or_else(|| script.to_hex_string(), |address| address.to_string());
    let identity = seed.identity(config.network).identity().to_string();
    let status = Status::new(identity.clone(), first_address.clone());
    Board::new(directory, status).write()?;
    Ok(Initialised {
        identity,
        first_address,
        words: seed.words(),
        seed_file,
    })
}

impl Initialised {
    /// For persons, with the words in rows of six.
    pub fn advice(&self) -> Zeroizing<String> {
        // One allocation: growing it would leave copies of the words behind.
        let mut text = Zeroizing::new(String::with_capacity(2_048));
        text.push_str("The 24 words of this participant's seed:\n");
        for (place, word) in self.words.split_whitespace().enumerate() {
            text.push_str(if place.is_multiple_of(6) { "\n  " } else { " " });
            text.push_str(word);
        }
        text.push_str(&format!(
            "\n\nWrite them on paper, in this order, and keep the paper where nobody finds it: whoever has\n\
             the words has the money, and without them a lost disk is lost money. They are not shown\n\
             again; the daemon keeps them in {}.\n\nIdentity       {}\nFirst address  {}\n",
            self.seed_file.display(),
            self.identity,
            self.first_address,
        ));
        text
    }
}

fn as_text<S: serde::Serializer>(words: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(words)
}
