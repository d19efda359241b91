//! The seed and its file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bip39::{Language, Mnemonic};
use bitcoin::Network;
use bitcoin::bip32::Xpriv;
use bitcoin::secp256k1::Secp256k1;
use rand::TryRngCore;
use rand::rand_core::OsError;
use rand::rngs::OsRng;
use thiserror::Error;
use tutti_daemon::durable;
use tutti_proto::identity::IdentityKey;
use zeroize::{Zeroize, Zeroizing};

use super::{AccountKey, IDENTITY_PURPOSE, WALLET_PURPOSE, account_path};

/// 24 words: 256 bits of entropy, as much as the keys made from it can use.
pub const SEED_WORDS: usize = 24;

/// Longer than any 24 words of the English list (8 letters each) with their separators.
const MAX_FILE_BYTES: u64 = 1_024;

/// Only the owner may read or write.
const FILE_MODE: u32 = 0o600;

/// A participant's only long-lived secret. Not `Clone`, not `Debug`, overwritten when dropped.
pub struct Seed {
    entropy: Zeroizing<[u8; 32]>,
}

/// Why a seed could not be made, read or stored. No variant carries a word of the seed.
#[derive(Debug, Error)]
pub enum SeedError {
    #[error(
        "the operating system gave no randomness for a new seed ({0}), and no other source is safe; nothing was created, run `tutti-participant init` again when the machine has started up fully"
    )]
    Randomness(#[from] OsError),
    #[error("the seed has {found} words instead of {SEED_WORDS}; enter all of them, in order")]
    WordCount { found: usize },
    #[error(
        "word {position} of the seed is not in the BIP39 English list; compare it with your backup"
    )]
    UnknownWord { position: usize },
    #[error(
        "the seed's words do not fit their checksum: one is wrong or two are swapped; compare them with your backup"
    )]
    Checksum,
    #[error(
        "{} already exists and a seed is never overwritten; choose another data directory; or, if it and what it was paid really are not needed, move the whole data directory away, with wallet.sqlite",
        path.display()
    )]
    Exists { path: PathBuf },
    #[error(
        "there is no seed at {}; create one with `tutti-participant init`, or correct the data directory",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error(
        "the seed file {0} can be read by others (mode {mode:04o}), so it is not used; run: chmod 600 '{0}'",
        path.display()
    )]
    ReadableByOthers { path: PathBuf, mode: u32 },
    #[error("{} holds no seed: expected one line of {SEED_WORDS} words", path.display())]
    NotASeedFile { path: PathBuf },
    #[error("cannot {action} the seed file {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl Seed {
    /// A new seed of the operating system's randomness, drawn into the place where it stays.
    pub fn generate() -> Result<Self, SeedError> {
        let mut entropy = Zeroizing::new([0; 32]);
        OsRng.try_fill_bytes(entropy.as_mut_slice())?;
        Ok(Self { entropy })
    }

    /// The seed of this entropy; the caller's copy is erased.
    pub fn from_entropy(entropy: &mut [u8; 32]) -> Self {
        let seed = Self {
            entropy: Zeroizing::new(*entropy),
        };
        entropy.zeroize();
        seed
    }

    /// Reads the 24 words of a backup; upper case and any white space are tolerated.
    pub fn from_words(words: &str) -> Result<Self, SeedError> {
        let words = Zeroizing::new(words.to_lowercase());
        let found = words.split_whitespace().count();
        if found != SEED_WORDS {
            return Err(SeedError::WordCount { found });
        }
        let mnemonic =
            Mnemonic::parse_in_normalized(Language::English, &words).map_err(|e| match e {
                bip39::Error::UnknownWord(index) => SeedError::UnknownWord {
                    position: index.saturating_add(1),
                },
                _ => SeedError::Checksum,
            })?;
        let (mut array, _) = mnemonic.to_entropy_array();
        let mut entropy = Zeroizing::new([0; 32]);
        entropy.copy_from_slice(&array[..32]);
        array.zeroize();
        Ok(Self { entropy })
    }

    /// The 24 words, to be written down by the operator. Never log them.
    pub fn words(&self) -> Zeroizing<String> {
        Zeroizing::new(self.mnemonic().to_string())
    }

    /// Writes the words to a new file that only its owner can read; durable when this returns.
    pub fn create_file(&self, path: &Path) -> Result<(), SeedError> {
        let failed = |action| {
            move |source: io::Error| SeedError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => SeedError::Exists {
                    path: path.to_owned(),
                },
                _ => failed("create")(source),
            })?;
        let mut line = self.words();
        line.push('\n');
        let written = file
            .write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| durable::sync_entry(path));
        written.map_err(|source| {
            // A half-written seed would refuse the next attempt and is of no use to anyone.
            let _ = std::fs::remove_file(path);
            failed("write")(source)
        })
    }

    /// Reads the file that [`Seed::create_file`] wrote.
    pub fn load(path: &Path) -> Result<Self, SeedError> {
        let failed = |source| SeedError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SeedError::Missing {
                path: path.to_owned(),
            },
            _ => failed(source),
        })?;
        // Asked of the open file, so that it cannot be exchanged in between.
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SeedError::ReadableByOthers {
                path: path.to_owned(),
                mode,
            });
        }
        let not_a_seed = || SeedError::NotASeedFile {
            path: path.to_owned(),
        };
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err(not_a_seed());
        }
        // One allocation for the whole file: growing it would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
        file.take(MAX_FILE_BYTES)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let words = std::str::from_utf8(&bytes).map_err(|_| not_a_seed())?;
        Self::from_words(words)
    }

    /// The key that authenticates this participant on `network`.
    pub fn identity(&self, network: Network) -> IdentityKey {
        let secp = Secp256k1::signing_only();
        let path = account_path(IDENTITY_PURPOSE, network);
        let mut master = self.master(network);
        let mut key = master
            .derive_priv(&secp, &path)
            .expect("a hardened child of a fresh master exists, but for one seed in 2^127");
        let mut bytes = Zeroizing::new(key.private_key.secret_bytes());
        erase(&mut master);
        erase(&mut key);
        IdentityKey::from_bytes(&mut bytes).expect("a derived key is a valid secret key")
    }

    /// The wallet's account on `network`.
    pub fn wallet_account(&self, network: Network) -> AccountKey {
        let secp = Secp256k1::new();
        let path = account_path(WALLET_PURPOSE, network);
        let mut master = self.master(network);
        let account = master
            .derive_priv(&secp, &path)
            .expect("a hardened child of a fresh master exists, but for one seed in 2^127");
        let fingerprint = master.fingerprint(&secp);
        erase(&mut master);
        AccountKey::new(secp, account, fingerprint)
    }

    fn mnemonic(&self) -> Mnemonic {
        Mnemonic::from_entropy_in(Language::English, self.entropy.as_slice())
            .expect("32 bytes are one of BIP39's lengths")
    }

    fn master(&self, network: Network) -> Xpriv {
        let bytes = Zeroizing::new(self.mnemonic().to_seed_normalized(""));
        Xpriv::new_master(network, bytes.as_slice())
            .expect("a master key exists for all but one seed in 2^127")
    }
}

/// Overwrites the secret half of an extended key.
pub(super) fn erase(key: &mut Xpriv) {
    key.private_key.non_secure_erase();
    key.chain_code = [0; 32].into();
}
