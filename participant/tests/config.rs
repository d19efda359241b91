//! The configuration file: defaults, and one clear sentence for each mistake.

use std::path::Path;

use bitcoin::Network;
use tutti_participant::chain::NodeAuth;
use tutti_participant::config::{Config, LogFormat, LogLevel};
use tutti_participant::miner::KernelChoice;
use tutti_participant::wallet::PayTo;
use tutti_proto::feerate::FeeRate;

const MINIMAL: &str = "network = \"regtest\"\ncoordinator = \"http://pool.example:7766\"\n";

/// The generator point: a key like any other.
const KEY: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("some/where/miner.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = parse(MINIMAL).expect("a configuration");
    assert_eq!(config.network, Network::Regtest);
    assert_eq!(config.data_dir, Path::new("some/where/miner-data"));
    assert_eq!(config.hasher.threads.get(), 1);
    assert_eq!(config.hasher.rate_limit, None);
    assert_eq!(config.hasher.kernel, KernelChoice::Auto);
    assert_eq!(config.suggested_hashrate, 5_000_000);
    assert_eq!(config.policy.operator_fee_ppm_max, 20_000);
    assert_eq!(config.policy.bump_credit_max, 20_000);
    assert_eq!(
        config.policy.feerate_max,
        FeeRate::from_sat_per_kvb(500_000).expect("a rate")
    );
    assert_eq!(
        (config.policy.signers_min, config.policy.must_be_signer),
        (2, false)
    );
    assert!(config.node.is_none() && config.coordinator_identity.is_none());
    assert_eq!(
        (config.log.format, config.log.level),
        (LogFormat::Text, LogLevel::Info)
    );
}

#[test]
fn the_example_is_valid_and_shows_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/examples/participant.toml");
    let text = std::fs::read_to_string(&path).expect("the example");
    Config::load(&path).expect("a configuration");
    // With every commented key in force, it is still one.
    let all: String = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| is_toml(rest))
                .unwrap_or(line)
        })
        .filter(|line| !line.starts_with("rpc_") || line.starts_with("rpc_url"))
        .map(|line| line.replace("64 hex digits", KEY) + "\n")
        .collect();
    let all = Config::parse(&path, &all)
        .map_err(|e| e.to_string())
        .expect("a configuration");
    assert_eq!(all.hasher.rate_limit.map(u64::from), Some(20_000));
    assert!(matches!(
        all.node.expect("a node").auth,
        NodeAuth::CookieFile(_)
    ));
}

fn is_toml(line: &str) -> bool {
    line == "[node]"
        || line
            .split_once(" = ")
            .is_some_and(|(key, _)| !key.contains(' '))
}

#[test]
fn a_limit_is_the_hashrate_to_begin_with() {
    let text = format!("{MINIMAL}threads = 4\n");
    assert_eq!(parse(&text).expect("valid").suggested_hashrate, 20_000_000);
    let text = format!("{text}hashrate_limit = 7\n");
    assert_eq!(parse(&text).expect("valid").suggested_hashrate, 7);
    let text = format!("{text}suggested_hashrate = 9\n");
    assert_eq!(parse(&text).expect("valid").suggested_hashrate, 9);
}

#[test]
fn each_mistake_is_named_with_file_key_and_what_is_allowed() {
    let node = "[node]\nrpc_url = \"http://127.0.0.1:1\"\n";
    let table = [
        (
            "thread = 1",
            "line 3",
            "unknown field `thread`, expected one of `network`",
        ),
        (
            "threads = 0",
            "line 3, threads: ",
            "`0`, expected a whole number from 1 to 4096",
        ),
        ("threads = 5000", "line 3, threads: ", "from 1 to 4096"),
        (
            "threads = \"two\"",
            "line 3, threads: ",
            "string \"two\", expected a whole number",
        ),
        (
            "hashrate_limit = -5",
            "line 3, hashrate_limit: ",
            "`-5`, expected a whole number, at least 1",
        ),
        (
            "suggested_hashrate = 0",
            "line 3, suggested_hashrate: ",
            "at least 1",
        ),
        (
            "coordinator_identity = \"xy\"",
            ": coordinator_identity is \"xy\"",
            "64 hex digits",
        ),
        (
            "[miner]\nkernel = \"sse9\"",
            ": miner.kernel is \"sse9\"",
            "auto, portable, sha-ni, avx2, avx512 are allowed",
        ),
        (
            "[policy]\noperator_fee_ppm_max = 1000001",
            "line 4, policy.operator_fee_ppm_max: ",
            "from 0 to 1000000",
        ),
        (
            "[policy]\nbump_credit_max = 1000001",
            "line 4, policy.bump_credit_max: ",
            "`1000001`, expected a whole number from 0 to 1000000",
        ),
        (
            "[policy]\nfeerate_max_sat_per_vb = 0",
            "line 4, policy.feerate_max_sat_per_vb: ",
            "`0`, expected a whole number from 1 to 1000",
        ),
        (
            "[policy]\nsigners_min = 0",
            "line 4, policy.signers_min: ",
            "from 1 to 65535",
        ),
        (
            "[policy]\nmust_be_signer = 1",
            "line 4, policy.must_be_signer: ",
            "expected a boolean",
        ),
        (
            "[log]\nformat = \"xml\"",
            "line 4, log.format: ",
            "expected `text` or `json`",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "line 4, log.level: ",
            "expected one of `error`, `warn`",
        ),
        (
            node,
            ": node must say how to log in",
            "cookie_file alone, or rpc_user and rpc_password",
        ),
        (
            "[node]\nrpc_url = \"tcp://x\"\ncookie_file = \"c\"",
            ": node.rpc_url must have the form",
            "http://host:port",
        ),
        ("threads = = 1", "line 3", ""),
    ];
    for (wrong, place, allowed) in table {
        let error = parse(&format!("{MINIMAL}{wrong}\n")).err().expect(wrong);
        assert!(error.starts_with("some/where/miner.toml"), "{error}");
        assert!(error.contains(place), "{error}: no {place}");
        assert!(error.contains(allowed), "{error}: no {allowed}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn network_and_coordinator_are_needed_and_checked() {
    let error = |text: &str| parse(text).err().expect("refused");
    assert!(error("network = \"regtest\"").contains(": coordinator is missing"));
    let network = error("network = \"main\"\ncoordinator = \"http://h:1\"");
    assert!(
        network.contains("line 1, network: unknown variant `main`"),
        "{network}"
    );
    assert!(
        network.contains("`bitcoin`, `testnet4`, `signet`, `regtest`"),
        "{network}"
    );
    for url in [
        "pool:7766",
        "https://pool:7766",
        "http://pool",
        "http://pool:0",
        "http://:x",
        "",
    ] {
        let error = error(&format!("network = \"regtest\"\ncoordinator = \"{url}\""));
        assert!(
            error.contains(": coordinator is ") && error.contains("http://host:port"),
            "{error}"
        );
    }
}

#[test]
fn a_password_is_not_repeated() {
    let text = format!(
        "{MINIMAL}[node]\nrpc_url = \"http://h:1\"\nrpc_user = \"u\"\nrpc_password = 987654\n"
    );
    let error = parse(&text).err().expect("refused");
    assert!(
        error.contains("line 6, node.rpc_password: ") && !error.contains("987654"),
        "{error}"
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = format!(
        "{MINIMAL}data_dir = \"d\"\n[node]\nrpc_url = \"http://h:1\"\ncookie_file = \"c\"\n"
    );
    let config = parse(&text).expect("valid");
    assert_eq!(config.data_dir, Path::new("some/where/d"));
    let Some(NodeAuth::CookieFile(path)) = config.node.map(|node| node.auth) else {
        panic!("no cookie file");
    };
    assert_eq!(path, Path::new("some/where/c"));
}

#[test]
fn where_payouts_go_is_checked() {
    let tpub = "tpubDC8msFGeGuwnKG9Upg7DM2b4DaRqg3CUZa5g8v2SRQ6K4NSkxUgd7HsL2XVWbVm39yBA4LAxysQAm397zwQSQoQgewGiYZqrA9DsP4zbQ1M";
    let section = |key: &str, value: &str| {
        let text = format!("{MINIMAL}[wallet]\n{key} = \"{value}\"\n");
        parse(&text).map(|config| config.pay_to)
    };
    assert_eq!(parse(MINIMAL).expect("valid").pay_to, PayTo::OwnKeys);
    for text in [tpub.to_owned(), format!("[9a6a2580/86'/1'/0']{tpub}")] {
        let Ok(PayTo::Xpub(xpub)) = section("xpub", &text) else {
            panic!("{text}");
        };
        assert_eq!(xpub.to_string(), text);
    }
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    assert!(matches!(section("address", address), Ok(PayTo::Address(_))));
    let refused = |key: &str, value: &str, expected: &str| {
        let said = section(key, value).expect_err(value);
        assert!(said.contains(expected) && said.contains(key), "{said}");
        said
    };
    let private = tpub.replace("tpub", "tprv");
    let said = refused("xpub", &private, "a private key stands there");
    assert!(!said.contains("tprv"), "{said}");
    refused("xpub", &format!("{tpub}/0/*"), "without a path after it");
    refused("xpub", "tpubD6NzVbkrYhZ4", "give an account's xpub");
    refused(
        "address",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "an address of regtest",
    );
    refused("address", "bcrt1pfeesnyr2tx", "is not P2PKH");
    refused("address", "me", "it is no address");
    let both = format!("{MINIMAL}[wallet]\nxpub = \"{tpub}\"\naddress = \"{address}\"\n");
    let said = parse(&both).err().expect("refused");
    assert!(said.contains("not both"), "{said}");
}
