//! The wallet's addresses and its file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;

use bdk_wallet::KeychainKind;
use bdk_wallet::template::Bip86;
use bitcoin::bip32::Xpriv;
use bitcoin::{Network, ScriptBuf};
use tutti_participant::keys::Seed;
use tutti_participant::wallet::{Wallet, WalletError};

fn open(directory: &Path, entropy: u8, network: Network) -> Result<Wallet, WalletError> {
    Wallet::open(directory, &Seed::from_entropy(&mut [entropy; 32]), network)
}

#[test]
fn no_address_is_given_out_twice_even_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut wallet = open(directory.path(), 1, Network::Regtest).expect("created");
    let first = wallet.current_payout_script().expect("a script");
    assert_eq!(wallet.current_payout_script().expect("a script"), first);
    let second = wallet.next_payout_script().expect("a script");
    drop(wallet);

    let mut wallet = open(directory.path(), 1, Network::Regtest).expect("loaded");
    assert_eq!(wallet.current_payout_script().expect("a script"), second);
    let third = wallet.next_payout_script().expect("a script");
    assert!(first != second && second != third && first != third);
    for script in [&first, &second, &third] {
        assert!(wallet.is_mine(script));
        assert!(script.is_p2tr());
        let address = wallet.address(script).expect("an address").to_string();
        assert!(address.starts_with("bcrt1p"), "{address}");
    }
    let change = wallet.next_change_script().expect("a script");
    assert!(wallet.is_mine(&change) && change != third);
    assert!(!wallet.is_mine(&ScriptBuf::from_bytes(vec![0x51, 2, 0x4e, 0x73])));
}

#[test]
fn the_addresses_are_bip86_of_the_seed() {
    let directory = tempfile::tempdir().expect("a directory");
    let seed = Seed::from_entropy(&mut [5; 32]);
    let mut wallet = Wallet::open(directory.path(), &seed, Network::Bitcoin).expect("created");
    let mnemonic = bip39::Mnemonic::from_str(&seed.words()).expect("valid words");
    let master = Xpriv::new_master(Network::Bitcoin, &mnemonic.to_seed("")).expect("a master key");
    let reference = bdk_wallet::Wallet::create(
        Bip86(master, KeychainKind::External),
        Bip86(master, KeychainKind::Internal),
    )
    .network(Network::Bitcoin)
    .create_wallet_no_persist()
    .expect("a wallet");
    for index in 0..3 {
        let script = wallet.next_payout_script().expect("a script");
        let expected = reference.peek_address(KeychainKind::External, index);
        assert_eq!(
            wallet.address(&script).expect("an address"),
            expected.address
        );
    }
    let change = wallet.next_change_script().expect("a script");
    let expected = reference.peek_address(KeychainKind::Internal, 0);
    assert_eq!(change, expected.script_pubkey());
}

#[test]
fn another_network_or_seed_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(open(directory.path(), 1, Network::Regtest).expect("created"));
    for network in [Network::Signet, Network::Bitcoin] {
        let error = open(directory.path(), 1, network).err().expect("refused");
        let WalletError::WrongNetwork { stored, wanted, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((stored, wanted), (Network::Regtest, network));
    }
    let error = open(directory.path(), 2, Network::Regtest)
        .err()
        .expect("refused");
    assert!(matches!(error, WalletError::OtherSeed { .. }), "{error}");
    open(directory.path(), 1, Network::Regtest).expect("still there");
}

#[test]
fn the_file_holds_nothing_private_and_is_the_owners_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut wallet = open(directory.path(), 1, Network::Regtest).expect("created");
    wallet.next_payout_script().expect("a script");
    drop(wallet);
    let mut with_descriptor = Vec::new();
    for entry in fs::read_dir(directory.path()).expect("the directory") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("the file");
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            !text.contains("prv"),
            "{} holds a private key",
            path.display()
        );
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        if text.contains("tpub") {
            with_descriptor.push(path);
        }
    }
    assert_eq!(with_descriptor, [directory.path().join("wallet.sqlite")]);
}

#[test]
fn a_file_that_is_no_wallet_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("wallet.sqlite");
    fs::write(
        &path,
        "not a database, but long enough to look like one".repeat(100),
    )
    .expect("written");
    let error = open(directory.path(), 1, Network::Regtest)
        .err()
        .expect("refused");
    assert!(
        error.to_string().contains(&path.display().to_string()),
        "{error}"
    );
}
