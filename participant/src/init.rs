//! `init`: a new seed, shown once; or the seed of a backup.

use std::io::Read;
use std::path::PathBuf;

use bitcoin::Address;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::keys::{Seed, SeedError};
use crate::status::{Board, Status};
use crate::store::{self, DataLock, StoreError};
use crate::wallet::{Birthday, PayoutScripts, WalletError};

/// Longer than any 24 words with what stands between them.
const MAX_WORDS_BYTES: u64 = 1_024;

/// Why there is no new seed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("cannot read the 24 words from standard input: {0}")]
    Words(std::io::Error),
    #[error(transparent)]
    Seed(#[from] SeedError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// Where the seed comes from.
pub enum Origin {
    New,
    /// A backup, and since when its wallet may have coins.
    Words {
        seed: Seed,
        birthday: Birthday,
    },
}

/// What `init` shows. The words are erased when it is dropped.
#[derive(Serialize)]
pub struct Initialised {
    pub identity: String,
    pub first_address: String,
    /// Of a new seed only: who restores one has them.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub words: Option<Zeroizing<String>>,
    #[serde(skip)]
    pub seed_file: PathBuf,
}

/// Reads the 24 words of a backup from standard input.
pub fn read_words() -> Result<Seed, InitError> {
    // One allocation: growing it would leave copies of the words behind.
    let mut words = Zeroizing::new(String::with_capacity(MAX_WORDS_BYTES as usize + 1));
    std::io::stdin()
        .lock()
        .take(MAX_WORDS_BYTES)
        .read_to_string(&mut words)
        .map_err(InitError::Words)?;
    Ok(Seed::from_words(&words)?)
}

/// Creates the seed, the wallet and the status file. An existing seed is never touched.
pub fn init(config: &Config, origin: Origin) -> Result<Initialised, InitError> {
    let directory = &config.data_dir;
    store::create_directory(directory)?;
    let seed_file = directory.join(store::SEED);
    if seed_file.exists() {
        return Err(SeedError::Exists { path: seed_file }.into());
    }
    let _lock = DataLock::take(directory)?;
    // Once more: another may have made it meanwhile, and what fails from here on is undone.
    if seed_file.exists() {
        return Err(SeedError::Exists { path: seed_file }.into());
    }
    let (seed, birthday, is_new) = match origin {
        Origin::New => (Seed::generate()?, Birthday::now(), true),
        Origin::Words { seed, birthday } => (seed, birthday, false),
    };
    let scripts = PayoutScripts::new(&config.pay_to, directory, &seed, config.network);
    let wallet = match &scripts {
        PayoutScripts::Wallet(file) if file.path().exists() => {
            // Another seed's has the last word before anything is written.
            file.open()?;
            None
        }
        PayoutScripts::Wallet(file) => Some(file.path()),
        PayoutScripts::Fixed(_) => None,
    };
    let before = Birthday::load(directory)?;
    let made = create(config, (seed, birthday), &scripts, is_new);
    if made.is_err() {
        // Words that nobody saw are of no use, and would keep the next attempt from its own. Whatever
        // cannot be undone here is named by that attempt.
        let new = wallet.as_ref().into_iter().chain([&seed_file]);
        new.for_each(|path| drop(std::fs::remove_file(path)));
        drop(before.store(directory));
    }
    made
}

/// Writes the birthday, the seed, the wallet and the status.
fn create(
    config: &Config,
    (seed, birthday): (Seed, Birthday),
    scripts: &PayoutScripts,
    is_new: bool,
) -> Result<Initialised, InitError> {
    let directory = &config.data_dir;
    let seed_file = directory.join(store::SEED);
    // Before the seed: a wallet without it looks at all blocks, and never at too few.
    birthday.store(directory)?;
    seed.create_file(&seed_file)?;
    let script = scripts.current(None)?;
    let first_address = Address::from_script(&script, config.network)
        .map_or_else(|_| script.to_hex_string(), |address| address.to_string());
    let identity = seed.identity(config.network).identity().to_string();
    let status = Status::new(identity.clone(), first_address.clone());
    store::own(directory, &identity)?;
    Board::new(directory, status).write()?;
    Ok(Initialised {
        identity,
        first_address,
        words: is_new.then(|| seed.words()),
        seed_file,
    })
}

impl Initialised {
    /// For persons, with the words in rows of six.
    pub fn advice(&self) -> Zeroizing<String> {
        // One allocation: growing it would leave copies of the words behind.
        let mut text = Zeroizing::new(String::with_capacity(2_048));
        let Some(words) = &self.words else {
            text.push_str(&format!(
                "The seed is restored, in {}.\n\nIdentity       {}\nFirst address  {}\n",
                self.seed_file.display(),
                self.identity,
                self.first_address,
            ));
            return text;
        };
        text.push_str("The 24 words of this participant's seed:\n");
        for (place, word) in words.split_whitespace().enumerate() {
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

fn as_text<S: serde::Serializer>(
    words: &Option<Zeroizing<String>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.serialize_str(words.as_ref().map_or("", |words| words.as_str()))
}
