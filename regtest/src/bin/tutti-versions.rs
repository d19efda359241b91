//! Runs the tests of settlement and policy against several releases of Bitcoin Core.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Parser;
use tutti_regtest::bitcoind::{Release, provide};

/// Test files that ask a node for its judgement.
struct Suite {
    crates: &'static [&'static str],
    files: &'static [&'static str],
    /// Only those whose name has this.
    only: Option<&'static str>,
}

const SUITES: [Suite; 2] = [
    Suite {
        crates: &["tutti-participant", "tutti-tests"],
        files: &[
            "backup",
            "bump_coins",
            "bump_policy",
            "coins",
            "consensus",
            "held_up",
            "import_one",
            "pay_to",
            "policy",
            "pruned",
            "settlement",
            "view",
        ],
        only: None,
    },
    Suite {
        crates: &["tutti-coordinator"],
        files: &["process"],
        only: Some("reorgs"),
    },
];
/// What the tests print of what they saw: `seen | version | what | how`.
const SEEN: &str = "seen | ";

/// Runs the tests of settlement and policy against Bitcoin Core 29.99 and 31.99, each built once from
/// its pinned source, and prints what each release did as the table of SPEC.md, section 23.
///
/// Takes minutes; not part of CI. Further releases: name a bitcoind with --also.
#[derive(Parser)]
#[command(name = "tutti-versions", version)]
struct Arguments {
    /// A bitcoind of another release, 28 or newer
    #[arg(long, value_name = "PATH")]
    also: Vec<std::path::PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What one release did.
struct Outcome {
    name: String,
    passed: bool,
    seen: BTreeMap<String, String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tutti-versions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all tests passed on all releases.
fn run(arguments: &Arguments) -> Result<bool> {
    let mut nodes = Vec::new();
    for release in Release::ALL {
        let found = provide(release)?;
        nodes.push((found.version.to_string(), found.path));
    }
    for path in &arguments.also {
        nodes.push((path.display().to_string(), path.clone()));
    }
    let mut outcomes = Vec::new();
    for (name, exe) in nodes {
        eprintln!("tutti-versions: Bitcoin Core {name} ({})", exe.display());
        outcomes.push(test(name, &exe)?);
    }
    if arguments.json {
        println!("{}", json(&outcomes));
    } else {
        print!("{}", table(&outcomes));
    }
    Ok(outcomes.iter().all(|outcome| outcome.passed))
}

fn test(name: String, exe: &std::path::Path) -> Result<Outcome> {
    let mut outcome = Outcome {
        name,
        passed: true,
        seen: BTreeMap::new(),
    };
    for suite in &SUITES {
        outcome.passed &= run_suite(suite, exe, &mut outcome.seen)?;
    }
    Ok(outcome)
}

/// Whether its tests passed; adds what they saw.
fn run_suite(
    suite: &Suite,
    exe: &std::path::Path,
    seen: &mut BTreeMap<String, String>,
) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["test", "--no-fail-fast"])
        .args(suite.crates.iter().flat_map(|name| ["-p", name]))
        .args(suite.files.iter().flat_map(|test| ["--test", test]))
        .args(["--", "--nocapture", "--test-threads=2"])
        .args(suite.only)
        .env("BITCOIND_EXE", exe)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("a piped stdout is there")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what the tests print")?;
        eprintln!("{line}");
        // Another test's words may stand before it in the same line.
        let Some((_, fact)) = line.split_once(SEEN) else {
            continue;
        };
        let mut parts = fact.splitn(3, " | ").skip(1);
        if let (Some(what), Some(how)) = (parts.next(), parts.next()) {
            seen.insert(what.to_owned(), how.to_owned());
        }
    }
    Ok(child.wait().context("cannot wait for cargo")?.success())
}

fn facts(outcomes: &[Outcome]) -> BTreeSet<&String> {
    outcomes
        .iter()
        .flat_map(|outcome| outcome.seen.keys())
        .collect()
}

fn table(outcomes: &[Outcome]) -> String {
    let row = |first: &str, cells: Vec<String>| format!("| {first} | {} |\n", cells.join(" | "));
    let each = |cell: &dyn Fn(&Outcome) -> String| outcomes.iter().map(cell).collect();
    let mut text = row("", each(&|outcome| format!("Core {}", outcome.name)));
    text += &row("---", each(&|_| "---".to_owned()));
    let verdict = |outcome: &Outcome| if outcome.passed { "pass" } else { "FAIL" }.to_owned();
    text += &row("all tests", each(&verdict));
    for fact in facts(outcomes) {
        let seen = |outcome: &Outcome| outcome.seen.get(fact).cloned().unwrap_or_default();
        text += &row(fact, each(&seen));
    }
    text
}

fn json(outcomes: &[Outcome]) -> serde_json::Value {
    let one = |outcome: &Outcome| {
        serde_json::json!({
            "core": outcome.name,
            "passed": outcome.passed,
            "seen": outcome.seen,
        })
    };
    outcomes.iter().map(one).collect()
}
