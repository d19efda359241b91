//! No seed, private key or nonce in any log, at any level: a pool whose daemons say all there is to say.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bitcoin::Network;
use bitcoin::bip32::{ChildNumber, DerivationPath, Xpriv};
use bitcoin::key::TapTweak;
use bitcoin::secp256k1::{All, Keypair, Secp256k1, SecretKey};
use serde_json::Value;
use tutti_regtest::binaries::Binaries;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_regtest::pool::{Miner, Pool, PoolOptions, miner_name, operator_address};

const STEP: Duration = Duration::from_secs(60);
/// Longer runs of hex are blocks and frames.
const LONGEST_RUN: usize = 4_096;
const SECRET_DIGITS: usize = 64;
/// More than a wallet of these tests gives out.
const ADDRESSES: u32 = 20;

/// Runs of hexadecimal digits long enough for a secret.
fn hex_runs(text: &str) -> BTreeSet<&str> {
    text.split(|digit: char| !digit.is_ascii_hexdigit())
        .filter(|run| (SECRET_DIGITS..=LONGEST_RUN).contains(&run.len()))
        .collect()
}

/// Every 32 bytes that stand in the text.
fn candidates(text: &str) -> BTreeSet<[u8; 32]> {
    let mut all = BTreeSet::new();
    for run in hex_runs(text) {
        let bytes = hex::decode(&run[..run.len() / 2 * 2]).unwrap_or_default();
        let windows = bytes
            .windows(32)
            .filter_map(|window| <[u8; 32]>::try_from(window).ok());
        all.extend(windows);
    }
    all
}

/// Public keys that a secret has: its own, and the output key of a wallet without scripts.
fn public_keys(secp: &Secp256k1<All>, secret: &[u8; 32]) -> Vec<[u8; 32]> {
    let Ok(secret) = SecretKey::from_slice(secret) else {
        return Vec::new();
    };
    let pair = Keypair::from_secret_key(secp, &secret);
    let tweaked = pair.tap_tweak(secp, None).to_keypair();
    [pair, tweaked]
        .map(|pair| pair.x_only_public_key().0.serialize())
        .to_vec()
}

/// Numbers in the text that are the secret of a number in it, or of a known key.
fn secrets(text: &str, known: &BTreeSet<[u8; 32]>) -> Vec<String> {
    let secp = Secp256k1::new();
    let all = candidates(text);
    let is_public = |key: &[u8; 32]| known.contains(key) || all.contains(key);
    let leaked = all
        .iter()
        .filter(|secret| public_keys(&secp, secret).iter().any(is_public));
    leaked.map(hex::encode).collect()
}

/// The secrets of a seed's wallet: as numbers, and as they are written.
struct Private {
    numbers: Vec<[u8; 32]>,
    texts: Vec<String>,
}

/// Of the master, the account, its branches and their first addresses, these also as they sign.
fn private(words: &str) -> Result<Private> {
    let secp = Secp256k1::new();
    let seed = bip39::Mnemonic::parse(words.trim())?.to_seed("");
    let master = Xpriv::new_master(Network::Regtest, &seed)?;
    let mut keys = vec![master];
    for path in ["m/86'/1'/0'", "m/86'/1'/0'/0", "m/86'/1'/0'/1"] {
        let path: DerivationPath = path.parse()?;
        keys.push(master.derive_priv(&secp, &path)?);
    }
    for branch in [keys[2], keys[3]] {
        for index in 0..ADDRESSES {
            let child = ChildNumber::from_normal_idx(index)?;
            keys.push(branch.derive_priv(&secp, &[child])?);
        }
    }
    let mut private = Private {
        numbers: vec![seed[..32].try_into()?, seed[32..].try_into()?],
        texts: Vec::new(),
    };
    for key in keys {
        let pair = Keypair::from_secret_key(&secp, &key.private_key);
        let tweaked = pair.tap_tweak(&secp, None).to_keypair().secret_key();
        for secret in [key.private_key, tweaked] {
            private.numbers.push(secret.secret_bytes());
            let wif = bitcoin::PrivateKey::new(secret, Network::Regtest).to_wif();
            private.texts.push(wif);
        }
        private.texts.push(key.to_string());
    }
    Ok(private)
}

/// What was said, taken apart once.
struct Said {
    lower: String,
    numbers: BTreeSet<[u8; 32]>,
    /// Letters and digits in a row, as long as a written key with a little around it.
    runs: BTreeSet<String>,
}

impl Said {
    fn new(text: &str) -> Self {
        let runs = text.split(|letter: char| !letter.is_ascii_alphanumeric());
        let runs = runs.filter(|run| (50..=200).contains(&run.len()));
        Self {
            lower: text.to_lowercase(),
            numbers: candidates(text),
            runs: runs.map(str::to_owned).collect(),
        }
    }

    /// What of a seed stands in it.
    fn of_seed(&self, words: &str) -> Result<Vec<String>> {
        let all: Vec<&str> = words.split_whitespace().collect();
        ensure!(all.len() >= 24);
        let threes = all.windows(3).map(|three| three.join(" "));
        let mut found: Vec<String> = threes.filter(|three| self.lower.contains(three)).collect();
        let private = private(words)?;
        let numbers = private.numbers.iter();
        let numbers = numbers.filter(|number| self.numbers.contains(*number));
        found.extend(numbers.map(hex::encode));
        let stands = |key: &String| self.runs.iter().any(|run| run.contains(key.as_str()));
        found.extend(private.texts.into_iter().filter(stands));
        let prefixes = ["xprv", "tprv"].into_iter();
        found.extend(
            prefixes
                .filter(|prefix| self.lower.contains(prefix))
                .map(str::to_owned),
        );
        Ok(found)
    }
}

/// All that the wallet's commands say, as a person sees it and for programs, with libraries that are told
/// to say everything.
fn wallet_commands(miner: &Miner, to: &str) -> Result<String> {
    let psbt = miner.data_dir().join("payment.psbt");
    let psbt = psbt.to_str().context("text")?;
    let commands: &[&[&str]] = &[
        &["wallet", "balance"],
        &["wallet", "addresses", "--change"],
        &["wallet", "new-address"],
        &["wallet", "descriptors"],
        &["wallet", "rescan"],
        &[
            "wallet",
            "send",
            to,
            "0.1btc",
            "--feerate",
            "2",
            "--dry-run",
        ],
        &["wallet", "send", to, "0.1btc", "--feerate", "2"],
        &["wallet", "sweep", to, "--feerate", "2", "--psbt", psbt],
        &["wallet", "sweep", to, "--feerate", "2"],
        // Refused: the change is gone.
        &["wallet", "send", to, "20000000btc", "--feerate", "2"],
    ];
    let mut text = String::new();
    for command in commands {
        let (said, done) = miner.said(command, &[("RUST_LOG", "trace")], "")?;
        let refused = command.contains(&"20000000btc");
        ensure!(done != refused, "{command:?}: {said}");
        text += &said;
        // Twice is refused, or pays again; what it says is the same kind of thing.
        let json = [&["--json"], *command].concat();
        text += &miner.said(&json, &[("RUST_LOG", "trace")], "")?.0;
    }
    Ok(text)
}

#[test]
fn a_planted_private_key_or_word_is_found() -> Result<()> {
    let words = [["abandon"; 23].join(" "), "art".to_owned()].join(" ");
    let of = |text: &str| Said::new(text).of_seed(&words);
    let private = private(&words)?;
    for number in private.numbers.iter().map(hex::encode) {
        ensure!(of(&format!("{{\"key\":\"00{number}\"}}"))?.contains(&number));
    }
    for key in private.texts {
        ensure!(of(&format!("key={key};"))?.contains(&key));
    }
    ensure!(!of("Abandon abandon ABANDON")?.is_empty());
    ensure!(of("abandon all hope")?.is_empty());
    Ok(())
}

#[test]
fn a_planted_secret_is_found() {
    let secp = Secp256k1::new();
    let secret = [0x42; 32];
    let keys = public_keys(&secp, &secret);
    let line = format!(
        "{{\"event\":\"x\",\"why\":\"00ff{}\"}}",
        hex::encode(secret)
    );
    for key in &keys {
        assert_eq!(secrets(&line, &BTreeSet::from([*key])).len(), 1);
        let both = format!("{line}\n{}", hex::encode(key));
        assert_eq!(secrets(&both, &BTreeSet::new()).len(), 1);
    }
    assert_eq!(secrets(&line, &BTreeSet::new()), Vec::<String>::new());
}

/// The seed in another data directory, and what was said on the way.
fn restored(miner: &Miner) -> Result<(Miner, String)> {
    let words = std::fs::read_to_string(miner.data_dir().join("seed.txt"))?;
    let twin = miner.twin(&format!("{}-again", miner.name))?;
    let trace = [("RUST_LOG", "trace")];
    let first = words.split_whitespace().next().context("words")?;
    let wrong = words.replacen(first, "zzzz", 1);
    let (refused, done) = twin.said(&["init", "--restore"], &trace, &wrong)?;
    ensure!(!done, "{refused}");
    let (said, done) = twin.said(&["init", "--restore"], &trace, &words)?;
    ensure!(done, "{said}");
    Ok((twin, refused + &said))
}

#[test]
fn no_secret_of_anybody_stands_in_a_trace_of_all_daemons() -> Result<()> {
    let root = tempfile::tempdir()?;
    let node = Node::start(NodeOptions::default())?;
    let options = PoolOptions {
        block_zero_bits: 16,
        log_level: "trace",
        ..PoolOptions::default()
    };
    let mut pool = Pool::start(root.path(), node, Binaries::ready()?, &options, None)?;
    let mut miners = Vec::new();
    for number in 0..3 {
        let mut miner = pool.add_miner(&miner_name(number), 7_000)?;
        // Libraries too.
        pool.run_miner(&mut miner, &[("RUST_LOG", "trace")])?;
        miners.push(miner);
    }
    let coordinator = pool.coordinator.as_mut().context("it runs")?;
    let found = coordinator.wait_event("block_accepted", STEP)?;
    let height = u32::try_from(found.number("height")?)?;
    // Whoever joined last may hold nothing of the first block.
    for miner in &miners {
        let deadline = Instant::now() + STEP;
        let has_none = |found: &Value| found["payouts"].as_array().is_none_or(Vec::is_empty);
        while has_none(&miner.command(&["payouts", "--found"])?) {
            ensure!(Instant::now() < deadline, "{} has no payout", miner.name);
        }
    }
    // Coins for the wallets' commands, whatever the block pays to whom.
    for miner in &miners {
        let address: bitcoin::Address<_> = miner.first_address.parse()?;
        pool.node
            .mine_to(1, &address.assume_checked().script_pubkey())?;
    }
    pool.node.mine(99)?;
    for miner in &mut miners {
        miner.daemon()?.wait_event("payout_broadcast", STEP)?;
    }
    let tip = pool.node.height()?;
    ensure!(tip >= height + 99);
    let mut text = String::new();
    let mut known = BTreeSet::new();
    let to = operator_address().to_string();
    // Before any of these payouts is confirmed.
    for miner in &miners {
        let payouts = miner.command(&["payouts", "--found"])?;
        let payout = payouts["payouts"][0]["payout_txids"][0]
            .as_str()
            .context("a payout")?;
        // Signs with the wallet's key; refused or not is all the same here.
        let bump = ["bump", payout, "--feerate", "3", "--dry-run"];
        text += &miner.said(&bump, &[], "")?.0;
    }
    for miner in &mut miners {
        let twin = restored(miner)?;
        text += &twin.1;
        pool.node.mine(1)?;
        miner.daemon()?.wait_event("payout_confirmed", STEP)?;
        text += &wallet_commands(miner, &to)?;
        // The same seed on another machine, of which all is known by now.
        text += &twin
            .0
            .said(&["wallet", "rescan"], &[("RUST_LOG", "trace")], "")?
            .0;
        miner.daemon.take().context("it runs")?.terminate(STEP)?;
        text += &std::fs::read_to_string(root.path().join(format!("{}.log", miner.name)))?;
        let identity: [u8; 32] = hex::decode(&miner.identity)?
            .try_into()
            .ok()
            .context("32")?;
        known.insert(identity);
        let address: bitcoin::Address<_> = miner.first_address.parse()?;
        let script = address.assume_checked().script_pubkey();
        known.insert(script.as_bytes()[2..].try_into()?);
    }
    pool.coordinator
        .take()
        .context("it runs")?
        .terminate(STEP)?;
    let coordinator = std::fs::read_to_string(root.path().join("coordinator.log"))?;
    text += &coordinator;
    ensure!(text.contains("\"level\":\"trace\"") || text.contains("\"level\":\"TRACE\""));
    let leaked = secrets(&text, &known);
    ensure!(leaked.is_empty(), "{leaked:?}");
    let own = std::fs::read_to_string(root.path().join("coordinator").join("identity.key"))?;
    ensure!(!text.contains(own.trim()), "the coordinator's identity key");
    let said = Said::new(&text);
    for miner in &miners {
        let seed = std::fs::read_to_string(miner.data_dir().join("seed.txt"))?;
        let found = said.of_seed(&seed)?;
        ensure!(found.is_empty(), "{}: {found:?}", miner.name);
    }
    println!("looked at {} bytes of logs", text.len());
    Ok(())
}
