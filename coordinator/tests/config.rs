//! A wrong line of the configuration is named with its file, its key and what is allowed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use tutti_coordinator::config::Config;

const VALID: &str = r#"network = "regtest"
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
[node]
rpc_user = "u"
rpc_password = "hunter2"
"#;

const FILE: &str = "/etc/tutti/coordinator.toml";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new(FILE)).map_err(|error| error.to_string())
}

/// Sets lines before the first section, or a section after the last.
fn with(lines: &str) -> String {
    if lines.starts_with('[') {
        format!("{VALID}{lines}\n")
    } else {
        let key = lines.split('=').next().unwrap_or_default().trim();
        let others = VALID
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} ")));
        let others: Vec<&str> = others.collect();
        format!("{lines}\n{}\n", others.join("\n"))
    }
}

#[test]
fn the_documented_example_is_valid_and_its_comments_state_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/examples/coordinator.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // Every commented-out default, taken in, changes nothing.
    let uncommented: Vec<String> = text
        .lines()
        .filter(|line| !line.contains("rpc_user") && !line.contains("rpc_password"))
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.starts_with('[') || is_setting(key) => key.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let plain = Config::parse(&text, &path).unwrap();
    let explicit = Config::parse(&uncommented.join("\n"), &path).unwrap();
    assert_eq!(explicit.block_zero_bits, Some(20));
    assert_eq!(plain.block_zero_bits, None);
    assert_eq!(plain.data_dir, explicit.data_dir);
    assert_eq!(plain.listen, explicit.listen);
    assert_eq!(plain.tag, explicit.tag);
    assert_eq!(plain.operator_fee_ppm, explicit.operator_fee_ppm);
    assert_eq!(plain.bump_credit, explicit.bump_credit);
    assert_eq!(plain.bump_credit_after, explicit.bump_credit_after);
    assert_eq!((plain.bump_credit, plain.bump_credit_after), (20_000, 3));
    assert_eq!(plain.lanes, explicit.lanes);
    assert_eq!(plain.nonces_per_slot, explicit.nonces_per_slot);
    assert_eq!(plain.scoring, explicit.scoring);
    assert_eq!(plain.pplns_depth, explicit.pplns_depth);
    assert_eq!(plain.ntime_roll, explicit.ntime_roll);
    assert_eq!(plain.settings, explicit.settings);
    assert_eq!(plain.ledger_limits, explicit.ledger_limits);
    assert_eq!(plain.connections(), 10_000 + 10_000 + 64 + 256 + 1_000);
    assert_eq!(plain.feerate_max, explicit.feerate_max);
    assert_eq!(plain.log, explicit.log);
}

fn is_setting(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

#[test]
fn relative_paths_are_beside_the_file() {
    let config = parse(VALID).unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/tutti/coordinator-data"));
    assert_eq!(config.node.url, "http://127.0.0.1:18443");
    let config = parse(&with(r#"data_dir = "/srv/pool""#)).unwrap();
    assert_eq!(config.data_dir, Path::new("/srv/pool"));
}

#[test]
fn a_wrong_line_is_named_with_what_is_allowed() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str])] = &[
        (r#"network = "mainnet""#, &["line 1, network: unknown variant `mainnet`", "`bitcoin`, `testnet4`, `signet`, `regtest`"]),
        ("lanes = 0", &["line 1, lanes: ", "`0`, expected a whole number from 1 to 256"]),
        ("lanes = 257", &["line 1, lanes: ", "a whole number from 1 to 256"]),
        ("lanes = -1", &["line 1, lanes: ", "`-1`, expected a whole number from 1 to 256"]),
        (r#"lanes = "two""#, &["line 1, lanes: ", "a whole number from 1 to 256"]),
        ("lanes = 2.5", &["line 1, lanes: ", "a whole number from 1 to 256"]),
        ("lanes = ", &["line 1, lanes: "]),
        ("lanes = 4\nnonces_per_slot = 3", &[": nonces_per_slot is 3, allowed is 4 (lanes) to 1024"]),
        ("operator_fee_ppm = 1000001", &["line 1, operator_fee_ppm: ", "from 0 to 1000000"]),
        ("bump_credit = 1000001", &["line 1, bump_credit: ", "from 0 to 1000000"]),
        ("bump_credit_after = 0", &["line 1, bump_credit_after: ", "from 1 to 1000"]),
        (r#"scoring = "pps""#, &["line 1, scoring: ", "`pplns` or `epoch`"]),
        ("pplns_depth = 0", &["line 1, pplns_depth: ", "from 1 to 1000"]),
        ("ntime_roll_s = 7201", &["line 1, ntime_roll_s: ", "from 0 to 7200"]),
        (r#"listen = "localhost""#, &["line 1, listen: ", r#"write it as "127.0.0.1:7766""#]),
        (r#"tag = """#, &[": tag is \"\", allowed are 1 to 32 printable ASCII characters"]),
        ("tag = \"caf\u{e9}\"", &[": tag is ", "printable ASCII"]),
        (r#"payout_address = "nobody""#, &[": payout_address is \"nobody\"", "not a Bitcoin address"]),
        (r#"payout_address = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa""#, &[": payout_address ", "another network", "regtest"]),
        ("lane = 2", &["line 1, lane: unknown field `lane`, expected one of", "`lanes`"]),
        ("[rounds]\nsignatures_ms = 99", &["line 7, rounds.signatures_ms: ", "from 100 to 60000"]),
        ("[rounds]\nregroup_ms = 0", &["line 7, rounds.regroup_ms: ", "from 1 to 60000"]),
        ("[rounds]\nrefresh = 99", &["line 7, rounds.refresh: unknown field", "`refresh_ms`"]),
        ("[shares]\nz_min = 97", &["line 7, shares.z_min: ", "from 0 to 96"]),
        ("[shares]\nz_min = 20\nz_max = 19", &[": shares.z_min is 20, allowed is 0 to 19 (shares.z_max)"]),
        ("[payout]\nfeerate_max_sat_per_vb = 0", &["line 7, payout.feerate_max_sat_per_vb: ", "from 1 to 1000"]),
        ("[regtest]\nblock_zero_bits = 65", &["line 7, regtest.block_zero_bits: ", "from 1 to 64"]),
        ("[log]\nformat = \"xml\"", &["line 7, log.format: unknown variant `xml`", "`text` or `json`"]),
        ("[log]\nlevel = 3", &["line 7, log.level: "]),
        ("[nodes]", &["line 6", "unknown field `nodes`"]),
    ];
    for (lines, expected) in cases {
        let Err(error) = parse(&with(lines)) else {
            panic!("{lines:?} was accepted");
        };
        assert!(error.starts_with(FILE), "{lines:?}: {error}");
        assert!(!error.contains('\n'), "{lines:?}: {error}");
        for part in *expected {
            assert!(error.contains(part), "{lines:?}: {error:?} lacks {part:?}");
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    let address = r#"payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080""#;
    let network = r#"network = "regtest""#;
    let login = "[node]\nrpc_user = \"u\"\nrpc_password = \"p\"";
    #[rustfmt::skip]
    let cases = [
        (format!("{address}\n{login}"), "missing field `network`"),
        (format!("{network}\n{login}"), "missing field `payout_address`"),
        (format!("{network}\n{address}"), "missing field `node`"),
        (format!("{network}\n{address}\n[node]"), "node must say how to log in: cookie_file alone, or rpc_user and rpc_password"),
        (format!("{network}\n{address}\n[node]\nrpc_user = \"u\""), "cookie_file alone, or rpc_user and rpc_password"),
        (format!("{network}\n{address}\n{login}\ncookie_file = \"c\""), "cookie_file alone, or rpc_user and rpc_password"),
        (format!("{network}\n{address}\n{login}\nrpc_url = \"https://x\""), "node.rpc_url must have the form \"http://host:port\""),
    ];
    for (text, expected) in cases {
        let error = parse(&text).err().unwrap_or_default();
        assert!(
            error.starts_with(FILE) && error.contains(expected),
            "{text:?}: {error:?}"
        );
    }
}

#[test]
fn block_zero_bits_are_for_regtest_only() {
    let text = r#"network = "bitcoin"
payout_address = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
[node]
cookie_file = ".cookie"
[regtest]
block_zero_bits = 20
"#;
    let error = parse(text).err().unwrap_or_default();
    assert!(
        error.contains("regtest.block_zero_bits is allowed with network = \"regtest\" only"),
        "{error}"
    );
}

#[test]
fn no_error_repeats_a_password() {
    for password in [
        "424242",
        "[\"424242\"]",
        "\"424242",
        "424242.5",
        "{ a = \"424242\" }",
    ] {
        let text = VALID.replace("\"hunter2\"", password);
        let error = parse(&text).err().unwrap_or_default();
        assert!(error.contains("node.rpc_password"), "{password}: {error:?}");
        assert!(!error.contains("424242"), "{password}: {error}");
    }
}

#[test]
fn a_refresh_at_which_no_bump_can_be_credited_is_refused_where_blocks_take_their_time() {
    let mainnet = |text: &str| {
        let valid = text.replace("regtest", "bitcoin").replace(
            "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        );
        parse(&valid).map(|_| ())
    };
    let short = with("[rounds]\nrefresh_ms = 14868");
    let error = mainnet(&short).unwrap_err();
    for part in [
        FILE,
        "rounds.refresh_ms",
        "is 14868",
        "14869 or more",
        "bump_credit = 0",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(mainnet(&with("[rounds]\nrefresh_ms = 14869")), Ok(()));
    assert_eq!(mainnet(&format!("bump_credit = 0\n{short}")), Ok(()));
    // Where more blocks are to pass by, the default is too short.
    assert_eq!(mainnet(&with("bump_credit_after = 209")), Ok(()));
    let error = mainnet(&with("bump_credit_after = 210")).unwrap_err();
    assert!(error.contains("is 30000"), "{error}");
    // Regtest's blocks come when somebody wants one.
    assert!(parse(&short).is_ok());
}
