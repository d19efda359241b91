//! A start that cannot succeed says why in one sentence and exits with 1.

use std::net::TcpListener;
use std::time::Duration;

use crate::support::{
    ADDRESS, GOOD, WITHIN, by_cookie, by_password, config, coordinator, fails, fake_node,
    run_fails, start,
};
use nix::sys::signal::Signal;
use tutti_coordinator::lock::DataDirLock;
use tutti_regtest::daemon::Daemon;

/// A signet whose blocks only its operators can make.
const SIGNED: &[(&str, &str)] = &[
    ("getnetworkinfo", r#"{"version": 280000}"#),
    ("getblockchaininfo", r#"{"chain": "signet"}"#),
    (
        "getblocktemplate",
        r#"{
            "version": 536870912, "transactions": [], "coinbasevalue": 5000000000, "curtime": 1700000000,
            "previousblockhash": "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
            "mintime": 1598918401, "bits": "1e0377ae", "height": 1, "signet_challenge": "5121"
        }"#,
    ),
];

/// A node that has not got the whole chain.
const BEHIND: &[(&str, &str)] = &[
    ("getnetworkinfo", r#"{"version": 280000}"#),
    ("getblockchaininfo", r#"{"chain": "regtest"}"#),
    (
        "getblocktemplate",
        r#"{"rpc_error": {"code": -10, "message": "node is downloading blocks"}}"#,
    ),
];

/// The one sentence of a failed start.
fn sentence(words: &str) -> &str {
    let lines: Vec<&str> = words.lines().collect();
    assert_eq!(lines.len(), 1, "{words}");
    assert!(!words.contains("hunter2"), "{words}");
    lines[0]
        .strip_prefix("tutti-coordinator: ")
        .expect("the program's name comes first")
}

#[track_caller]
fn assert_says(words: &str, parts: &[&str]) {
    let sentence = sentence(words);
    for part in parts {
        assert!(sentence.contains(part), "{sentence:?} lacks {part:?}");
    }
}

#[test]
fn a_config_file_that_is_not_there() {
    let words = fails(&["run", "--config", "/nowhere/c.toml"]);
    assert_says(&words, &["/nowhere/c.toml", "No such file", "--config"]);
    assert_eq!(words.matches("No such file").count(), 1, "{words}");
}

#[test]
fn a_wrong_config_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(
        dir.path(),
        &by_password("http://127.0.0.1:1"),
        "lanes = 300",
    );
    let expected = [
        "coordinator.toml, line 4, lanes: ",
        "a whole number from 1 to 256",
    ];
    assert_says(&run_fails(&path), &expected);
}

#[test]
fn an_unreachable_node() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there, and no test running beside this one may.
    let url = "http://127.0.0.1:1";
    let path = config(dir.path(), &by_password(url), "");
    let expected = ["cannot reach a node at", url, "refused", "server=1"];
    assert_says(&run_fails(&path), &expected);
}

#[test]
fn a_start_that_waits_for_a_silent_node_is_stopped_within_two_seconds() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let dir = tempfile::tempdir().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let mut daemon = start(dir.path(), &config(dir.path(), &by_password(&url), ""));
        let _asked = silent.accept().unwrap();
        daemon.signal(signal).unwrap();
        let status = daemon.wait_exit(Duration::from_secs(2)).unwrap();
        assert!(status.success(), "{status}");
        daemon.wait_event("stopped", WITHIN).unwrap();
    }
}

#[test]
fn a_cookie_file_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(
        dir.path(),
        &by_cookie("http://127.0.0.1:1", "no-cookie".as_ref()),
        "",
    );
    let expected = ["no-cookie", "No such file", "only while bitcoind runs"];
    assert_says(&run_fails(&path), &expected);
}

#[test]
fn a_bad_cookie_and_a_bad_password() {
    let dir = tempfile::tempdir().unwrap();
    let url = fake_node(&[]);
    let cookie = dir.path().join(".cookie");
    std::fs::write(&cookie, "__cookie__:hunter2").unwrap();
    let path = config(dir.path(), &by_cookie(&url, &cookie), "");
    let expected = [
        url.as_str(),
        "refused the cookie from",
        ".cookie",
        "another node",
    ];
    assert_says(&run_fails(&path), &expected);
    let path = config(dir.path(), &by_password(&url), "");
    assert_says(&run_fails(&path), &["refused the password of user \"u\""]);
}

#[test]
fn a_node_on_another_network() {
    let dir = tempfile::tempdir().unwrap();
    let url = fake_node(&[
        ("getnetworkinfo", r#"{"version": 280000}"#),
        ("getblockchaininfo", r#"{"chain": "main"}"#),
    ]);
    let path = config(dir.path(), &by_password(&url), "");
    let expected = ["is on bitcoin", "network = \"regtest\"", "change one"];
    assert_says(&run_fails(&path), &expected);
}

#[test]
fn a_node_that_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let url = fake_node(&[
        ("getnetworkinfo", r#"{"version": 270200}"#),
        ("getblockchaininfo", r#"{"chain": "regtest"}"#),
    ]);
    let path = config(dir.path(), &by_password(&url), "");
    assert_says(
        &run_fails(&path),
        &["version 270200", "280000", "upgrade Bitcoin Core"],
    );
}

#[test]
fn a_signet_whose_blocks_must_be_signed() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), &by_password(&fake_node(SIGNED)), "");
    let text = std::fs::read_to_string(&path).unwrap();
    let address = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
    let text = text
        .replace("regtest", "signet")
        .replace(ADDRESS, address)
        .replace("[shares]\nz_min = 1\nz_max = 10\n", "");
    std::fs::write(&path, text).unwrap();
    let expected = ["BIP325", "testnet4, regtest", "-signetchallenge=51"];
    assert_says(&run_fails(&path), &expected);
    assert_says(
        &fails(&["check", "--config", path.to_str().unwrap()]),
        &expected,
    );
}

#[test]
fn a_node_without_templates_fails_the_check_and_is_waited_for_by_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), &by_password(&fake_node(BEHIND)), "");
    assert_says(
        &fails(&["check", "--config", path.to_str().unwrap()]),
        &[
            "no templates yet",
            "node is downloading blocks",
            "getblockchaininfo",
        ],
    );
    let mut daemon = start(dir.path(), &path);
    // Of two threads, either of which may be first.
    daemon.wait_and_keep("listening", WITHIN).unwrap();
    daemon.wait_event("node_away", WITHIN).unwrap();
    daemon.signal(Signal::SIGTERM).unwrap();
    assert!(daemon.wait_exit(WITHIN).unwrap().success());
}

#[test]
fn a_run_asked_for_json_logs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), &by_password(&fake_node(BEHIND)), "");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("format = \"json\""));
    std::fs::write(
        &path,
        text.replace("format = \"json\"", "format = \"text\""),
    )
    .unwrap();
    let mut command = coordinator();
    command.args(["run", "--json", "--config"]).arg(&path);
    let log = dir.path().join("log");
    let mut daemon = Daemon::spawn("coordinator", command, &log, None).unwrap();
    daemon.wait_event("node_away", WITHIN).unwrap();
    daemon.signal(Signal::SIGTERM).unwrap();
    assert!(daemon.wait_exit(WITHIN).unwrap().success());
    let said = std::fs::read_to_string(log).unwrap();
    let is_object = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.is_object())
    };
    assert!(
        said.lines().count() > 1 && said.lines().all(is_object),
        "{said}"
    );
}

#[test]
fn a_failure_asked_for_as_json_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), &by_password("http://127.0.0.1:1"), "");
    let words = fails(&["run", "--config", path.to_str().unwrap()]);
    let said: serde_json::Value = serde_json::from_str(&words).unwrap();
    assert_eq!(said["event"], "failed");
    assert_eq!(said["level"], "error");
    for command in ["run", "check"] {
        let words = fails(&[command, "--json", "--config", "/nowhere/c.toml"]);
        let said: serde_json::Value = serde_json::from_str(&words).unwrap();
        let error = said["error"].as_str().unwrap();
        assert!(error.contains("/nowhere/c.toml"), "{error}");
    }
}

#[test]
fn a_taken_port() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = format!("listen = \"{address}\"");
    let path = config(dir.path(), &by_password(&fake_node(GOOD)), &listen);
    assert_says(
        &run_fails(&path),
        &[
            "cannot listen on",
            &address,
            "in use",
            "another listen address",
        ],
    );
}

#[test]
fn a_data_directory_in_use_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), &by_password(&fake_node(GOOD)), "");
    let _held = DataDirLock::take(&dir.path().join("coordinator-data")).unwrap();
    let holder = format!("in use by process {}", std::process::id());
    assert_says(
        &run_fails(&path),
        &["coordinator-data", &holder, "another data_dir"],
    );
}

#[test]
fn check_finds_what_a_start_would_fail_at() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = format!("listen = \"{address}\"\n");
    let node = by_password(&fake_node(GOOD));
    let check = |path: &std::path::Path| fails(&["check", "--config", path.to_str().unwrap()]);
    let in_use = format!("cannot listen on {address}");
    let path = config(dir.path(), &node, &listen);
    assert_says(&check(&path), &[&in_use, "another listen address"]);
    drop(taken);
    let twice = format!("{node}\n[metrics]\n{listen}");
    assert_says(&check(&config(dir.path(), &twice, &listen)), &[&in_use]);
    assert!(!dir.path().join("coordinator-data").exists(), "left alone");
    std::fs::write(dir.path().join("coordinator-data"), "").unwrap();
    let path = config(dir.path(), &node, "");
    assert_says(&check(&path), &["cannot use the data directory"]);
}

#[test]
fn a_pool_that_is_not_there() {
    let words = fails(&["info", "--address", "http://127.0.0.1:1"]);
    assert_says(
        &words,
        &["cannot reach a pool at http://127.0.0.1:1", "refused"],
    );
    let words = fails(&["info", "--address", "127.0.0.1:1"]);
    assert_says(&words, &["write it as http://host:port"]);
}
