//! Prepares the bitcoind that the demo and the tests use, and prints its path.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use tutti_regtest::bitcoind::{BitcoindExe, Release, locate, provide};

/// Find a bitcoind, or build one once, and print its path.
///
/// Looked for in this order: BITCOIND_EXE, the PATH (28 or newer), the cache, a build from the
/// source pinned in contrib/bitcoind. Progress goes to stderr.
///
/// Environment: BITCOIND_EXE names a bitcoind to use instead; TUTTI_CACHE_DIR is where a built one
/// is kept (else $XDG_CACHE_HOME/tutti, else ~/.cache/tutti); TUTTI_NO_INSTALL=1 forbids
/// installing missing Debian packages.
#[derive(Parser)]
#[command(name = "tutti-bitcoind", version, verbatim_doc_comment)]
struct Arguments {
    /// Print a JSON object with path, version and origin
    #[arg(long)]
    json: bool,
    /// Provide this release (29 or 31) and nothing else: from the cache, or built
    #[arg(long, value_parser = parse_release)]
    release: Option<Release>,
}

fn parse_release(text: &str) -> Result<Release, String> {
    let named = Release::ALL.into_iter().find(|known| known.name() == text);
    named.ok_or_else(|| "29 and 31 can be built".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.release.map_or_else(locate, provide) {
        Ok(found) => {
            println!("{}", describe(&found, arguments.json));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tutti-bitcoind: {error}");
            ExitCode::FAILURE
        }
    }
}

fn describe(found: &BitcoindExe, as_json: bool) -> String {
    if !as_json {
        return found.path.display().to_string();
    }
    json!({
        "path": found.path,
        "version": found.version.to_string(),
        "origin": found.origin,
        "cli": found.cli(),
    })
    .to_string()
}
