//! The coordinator as a real process, and nodes that are not what they should be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tutti_regtest::daemon::Daemon;

pub const WITHIN: Duration = Duration::from_secs(60);
pub const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// What a node answers that is as it should be.
pub const GOOD: &[(&str, &str)] = &[
    ("getnetworkinfo", r#"{"version": 280000}"#),
    ("getblockchaininfo", r#"{"chain": "regtest"}"#),
];

pub fn coordinator() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti-coordinator"));
    command.env_remove("RUST_LOG");
    command
}

/// Writes a configuration in `dir`; `node` are the lines of its section, `more` goes first.
pub fn config(dir: &Path, node: &str, more: &str) -> PathBuf {
    let path = dir.join("coordinator.toml");
    let listen = match more.contains("listen =") {
        true => "",
        false => "listen = \"127.0.0.1:0\"",
    };
    let limits = match node.contains("[limits]") {
        true => "",
        false => "[limits]\nshares_burst = 100000\n",
    };
    // One z for all, below that of a block: whatever pace a slow machine shows.
    let text = format!(
        "network = \"regtest\"\npayout_address = \"{ADDRESS}\"\n{listen}\n{more}\n[node]\n{node}\n\
         [rounds]\nregroup_ms = 50\n{limits}[shares]\nz_min = 1\nz_max = 10\n[log]\nformat = \"json\"\nlevel = \"debug\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

pub fn by_password(url: &str) -> String {
    format!("rpc_url = \"{url}\"\nrpc_user = \"u\"\nrpc_password = \"hunter2\"")
}

pub fn by_cookie(url: &str, cookie: &Path) -> String {
    format!(
        "rpc_url = \"{url}\"\ncookie_file = \"{}\"",
        cookie.display()
    )
}

/// Starts the daemon.
pub fn start(dir: &Path, config: &Path) -> Daemon {
    let mut command = coordinator();
    command.arg("run").arg("--config").arg(config);
    Daemon::spawn("coordinator", command, &dir.join("log"), None).unwrap()
}

/// Runs a command that is to fail at once, and gives its last words.
pub fn fails(args: &[&str]) -> String {
    let mut child = coordinator()
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut stderr = child.stderr.take().unwrap();
    // A start that should fail and does not must not hang the test.
    let guard = std::thread::spawn(move || {
        let mut words = String::new();
        stderr.read_to_string(&mut words).unwrap();
        words
    });
    let deadline = Instant::now() + WITHIN;
    while !guard.is_finished() {
        if Instant::now() > deadline {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        std::thread::yield_now();
    }
    let words = guard.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{words}");
    words
}

/// The same of a run, whose last line of log has them.
pub fn run_fails(config: &Path) -> String {
    let said = fails(&["run", "--config", config.to_str().unwrap()]);
    match said.lines().last().map(serde_json::from_str::<Value>) {
        Some(Ok(line)) if line["event"] == "failed" => {
            format!("tutti-coordinator: {}", line["why"].as_str().unwrap())
        }
        _ => said,
    }
}

/// What a program prints.
pub fn output(args: &[&str]) -> Output {
    coordinator().args(args).output().unwrap()
}

/// A node that answers every call from a table, with an error where there is an `rpc_error`; what is not in it
/// is refused with 401.
pub fn fake_node(answers: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Whoever goes away is no concern of ours.
            std::thread::spawn(move || answer(stream, answers));
        }
    });
    url
}

fn answer(stream: std::net::TcpStream, answers: &[(&str, &str)]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let call: Value = serde_json::from_slice(&body)?;
        let known = answers.iter().find(|(method, _)| call["method"] == *method);
        let Some((_, result)) = known else {
            return stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        };
        let mut result: Value = serde_json::from_str(result)?;
        let error = result.get_mut("rpc_error").map(Value::take);
        let result = error.is_none().then_some(result);
        let reply = json!({"result": result, "error": error, "id": call["id"]}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", reply.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(reply.as_bytes())?;
    }
}
