//! The seed and its file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::str::FromStr;

use bitcoin::Network;
use bitcoin::bip32::{DerivationPath, Xpriv};
use bitcoin::secp256k1::Secp256k1;
use tutti_participant::keys::{Seed, SeedError};
use tutti_proto::id::Identity;

/// BIP39's test vector for 32 zero bytes.
const ZERO_WORDS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon \
    abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
    abandon abandon abandon art";

#[test]
fn words_and_entropy_are_the_same_seed() {
    let seed = Seed::from_entropy(&mut [0; 32]);
    assert_eq!(
        seed.words().split(' ').collect::<Vec<_>>(),
        ZERO_WORDS.split_whitespace().collect::<Vec<_>>()
    );
    let read = Seed::from_words(&ZERO_WORDS.to_uppercase()).expect("valid words");
    assert_eq!(
        read.identity(Network::Regtest).identity(),
        seed.identity(Network::Regtest).identity()
    );
}

#[test]
fn the_identity_key_is_where_the_documentation_says() {
    let secp = Secp256k1::new();
    let mnemonic = bip39::Mnemonic::from_str(ZERO_WORDS).expect("valid words");
    let seed = Seed::from_entropy(&mut [0; 32]);
    for (network, path) in [
        (Network::Bitcoin, "m/1414878292'/0'/0'"),
        (Network::Regtest, "m/1414878292'/1'/0'"),
    ] {
        let path = DerivationPath::from_str(path).expect("a valid path");
        let key = Xpriv::new_master(network, &mnemonic.to_seed(""))
            .and_then(|master| master.derive_priv(&secp, &path))
            .expect("a derivable key");
        let expected = Identity::from(key.private_key.x_only_public_key(&secp).0);
        assert_eq!(seed.identity(network).identity(), expected);
    }
}

#[test]
fn the_file_is_private_and_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("seed");
    let seed = Seed::from_entropy(&mut [3; 32]);
    seed.create_file(&path).expect("created");
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let loaded = Seed::load(&path).expect("loaded");
    assert_eq!(*loaded.words(), *seed.words());
}

#[test]
fn each_new_seed_is_another_and_no_copy_of_given_entropy_stays() {
    let seed = || Seed::generate().expect("randomness");
    assert_ne!(*seed().words(), *seed().words());
    let mut entropy = [7; 32];
    Seed::from_entropy(&mut entropy);
    assert_eq!(entropy, [0; 32]);
}

#[test]
fn a_seed_is_never_overwritten() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("seed");
    Seed::from_entropy(&mut [3; 32])
        .create_file(&path)
        .expect("created");
    let before = fs::read(&path).expect("the file");
    let error = Seed::from_entropy(&mut [4; 32])
        .create_file(&path)
        .unwrap_err();
    assert!(matches!(error, SeedError::Exists { .. }), "{error}");
    assert_eq!(fs::read(&path).expect("the file"), before);
}

#[test]
fn a_file_others_can_read_is_refused_with_the_command_that_repairs_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("seed");
    Seed::from_entropy(&mut [3; 32])
        .create_file(&path)
        .expect("created");
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
        let error = Seed::load(&path).err().expect("refused");
        let command = format!("chmod 600 '{}'", path.display());
        assert!(error.to_string().ends_with(&command), "{error}");
    }
}

#[test]
fn bad_words_are_named_by_position_only() {
    let error = |words: &str| Seed::from_words(words).err().expect("refused");
    assert!(matches!(
        error("abandon art"),
        SeedError::WordCount { found: 2 }
    ));
    let unknown = error(&ZERO_WORDS.replacen("abandon", "bitcoins", 1));
    assert!(matches!(unknown, SeedError::UnknownWord { position: 1 }));
    assert!(!format!("{unknown} {unknown:?}").contains("bitcoins"));
    let swapped = error(&ZERO_WORDS.replace("art", "abandon"));
    assert!(matches!(swapped, SeedError::Checksum));
}

#[test]
fn a_missing_or_foreign_file_is_said_to_be_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("seed");
    assert!(matches!(Seed::load(&path), Err(SeedError::Missing { .. })));
    fs::write(&path, [0xff; 5_000]).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
    assert!(matches!(
        Seed::load(&path),
        Err(SeedError::NotASeedFile { .. })
    ));
}
