//! Starts that fail, each as a real process: one clear sentence and a non-zero exit code; and one that must not.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{DEAD, Daemon, Home};

/// What it ends with: in the log, which is for programs here, or after it where it does not come as far.
fn one_sentence(said: &str) -> String {
    let lines = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let failed: Vec<_> = lines.filter(|line| line["event"] == "failed").collect();
    if let [failed] = &failed[..] {
        return failed["why"].as_str().expect("text").to_owned();
    }
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{said}");
    lines[0].to_owned()
}

#[test]
fn without_a_configuration() {
    let home = Home::new(DEAD, "");
    fs::remove_file(home.config()).expect("removed");
    let said = one_sentence(&home.failure(&["run"]));
    assert!(
        said.contains("participant.toml") && said.contains("--config FILE"),
        "{said}"
    );
}

#[test]
fn with_a_wrong_line() {
    let home = Home::new(DEAD, "treads = 2");
    let said = one_sentence(&home.failure(&["run"]));
    assert!(
        said.contains("line 4, treads: unknown field `treads`"),
        "{said}"
    );
    assert!(said.contains("`threads`"), "{said}");
}

#[test]
fn without_a_seed() {
    let home = Home::new(DEAD, "");
    let said = one_sentence(&home.failure(&["run"]));
    assert!(said.contains("tutti-participant init"), "{said}");
}

#[test]
fn with_a_directory_in_use() {
    let home = Home::new(DEAD, "");
    home.init();
    let mut first = Daemon::start(&home);
    first.wait("disconnected");
    let said = one_sentence(&home.failure(&["run"]));
    assert!(
        said.contains(&format!("in use by process {}", first.pid())),
        "{said}"
    );
    assert_eq!(home.json(&["status"])["running"], true);
    // It has no node, and says so as soon as it says anything.
    let deadline = Instant::now() + Duration::from_secs(30);
    while home.json(&["status"])["node"]["state"] != "none" {
        assert!(Instant::now() < deadline, "{}", home.json(&["status"]));
    }
    first.stop();
    assert_eq!(home.json(&["status"])["running"], false);
}

#[test]
fn with_a_node_that_is_not_there() {
    let home = Home::new(
        DEAD,
        "[node]\nrpc_url = \"http://127.0.0.1:1\"\nrpc_user = \"u\"\nrpc_password = \"p\"\n",
    );
    home.init();
    let said = one_sentence(&home.failure(&["run"]));
    assert!(
        said.contains("cannot reach a node at http://127.0.0.1:1"),
        "{said}"
    );
}

#[test]
fn with_a_cookie_that_is_not_there() {
    let home = Home::new(
        DEAD,
        "[node]\nrpc_url = \"http://127.0.0.1:1\"\ncookie_file = \"no/.cookie\"\n",
    );
    home.init();
    let said = one_sentence(&home.failure(&["run"]));
    assert!(
        said.contains("cannot read the node's cookie file") && said.contains("no/.cookie"),
        "{said}"
    );
}

/// As a file system leaves files whose data was not on the disk when the power failed.
#[test]
fn with_files_that_a_power_failure_emptied() {
    let home = Home::new(DEAD, "");
    let identity = home.init()["identity"].clone();
    for name in ["status.json", "heads.json"] {
        fs::write(home.data().join(name), "").expect("emptied");
    }
    assert_eq!(home.json(&["payouts"])["payouts"], serde_json::json!([]));
    let mut daemon = Daemon::start(&home);
    daemon.wait("heads_lost");
    assert_eq!(daemon.wait("identity")["identity"], identity);
    daemon.wait("disconnected");
    let (status, ..) = daemon.stop();
    assert!(status.success());
    assert_eq!(home.json(&["status"])["identity"], identity);
}

/// A node that answers each call with the next of these bodies.
fn node(answers: Vec<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a call");
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut byte = [0; 1];
                stream.read_exact(&mut byte).expect("a request");
                request.push(byte[0]);
            }
            let id = String::from_utf8_lossy(&request);
            let id = id.rsplit_once("\"id\":").map_or("0", |(_, rest)| rest);
            let id: String = id.chars().take_while(|c| !",}".contains(*c)).collect();
            let body = answer.replace("ID", &id);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream
                .write_all((head + &body).as_bytes())
                .expect("an answer");
        }
    });
    url
}

fn said_with(url: &str) -> String {
    let section =
        format!("[node]\nrpc_url = \"{url}\"\nrpc_user = \"u\"\nrpc_password = \"sesame\"\n");
    let home = Home::new(DEAD, &section);
    home.init();
    let said = one_sentence(&home.failure(&["run"]));
    assert!(!said.contains("sesame"), "{said}");
    said
}

const CHAIN: &str = r#"{"id":ID,"error":null,"result":{"chain":"CHAIN","blocks":0,"bestblockhash":"0000000000000000000000000000000000000000000000000000000000000000","time":0,"mediantime":0,"initialblockdownload":true}}"#;
const OLD: &str = r#"{"id":ID,"error":null,"result":{"version":270000}}"#;

#[test]
fn with_a_node_of_another_network() {
    let main: &'static str = CHAIN.replace("CHAIN", "main").leak();
    let said = said_with(&node(vec![main]));
    assert!(
        said.contains("is on bitcoin, but the config says network = \"regtest\""),
        "{said}"
    );
}

#[test]
fn with_a_node_that_is_too_old() {
    let regtest: &'static str = CHAIN.replace("CHAIN", "regtest").leak();
    let said = said_with(&node(vec![regtest, OLD]));
    assert!(
        said.contains("version 270000") && said.contains("upgrade"),
        "{said}"
    );
}

#[test]
fn with_a_wrong_password() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a call");
        let mut part = [0; 1_024];
        let _ = stream.read(&mut part).expect("a request");
        let refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(refusal).expect("an answer");
    });
    let said = said_with(&url);
    assert!(
        said.contains("refused the password of user \"u\""),
        "{said}"
    );
}

#[test]
fn with_a_crash_point_that_does_not_exist() {
    let home = Home::new(DEAD, "");
    home.init();
    let output = home
        .command(&["run"])
        .env("TUTTI_CRASH_AT", "never")
        .output()
        .expect("a process");
    let said = one_sentence(&String::from_utf8(output.stderr).expect("text"));
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("before-store"), "{said}");
}
