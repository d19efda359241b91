//! `tutti-participant fetch-segments` and `serve-segments`.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use bitcoin::BlockHash;
use serde_json::json;
use tutti_proto::id::WindowSeq;

use super::fetch::{self, Fetch, Fetched};
use crate::amount::grouped;

/// Serves files on until the process ends; says where, for a program on standard output.
pub fn serve(listen: SocketAddr, directory: PathBuf, json: bool) -> anyhow::Result<()> {
    let ready = |address: SocketAddr| match json {
        true => println!("{}", json!({ "listening": address.to_string() })),
        false => eprintln!("tutti-participant: serving on {address}"),
    };
    runtime()?.block_on(super::serve::serve(listen, directory, ready))
}

/// What to fetch.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["from", "block"])))]
pub struct FetchArgs {
    /// First window; without it, those that explain the block.
    #[arg(long, value_name = "A")]
    from: Option<u64>,
    /// Last window; without it, as far as there are any.
    #[arg(long, value_name = "B", requires = "from")]
    to: Option<u64>,
    /// The checkpoint from which this found block is explained; and, without --from, the windows up to the one that
    /// books it.
    #[arg(long, value_name = "HASH")]
    block: Option<BlockHash>,
    /// Who serves them, such as `http://pool.example:7766`.
    #[arg(long, value_name = "URL")]
    coordinator_url: String,
    /// Where to keep them.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Fetches files.
pub fn fetch(args: FetchArgs) -> anyhow::Result<Fetched> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from.max(1) > to
    {
        bail!(
            "there is no window from {from} to {to}: windows count from 1, and --to is no less than --from"
        );
    }
    let window = |window: u64| WindowSeq(window.max(1));
    let request = Fetch {
        url: args.coordinator_url,
        windows: args.from.map(|from| (window(from), args.to.map(WindowSeq))),
        block: args.block,
        out: args.out,
    };
    let tells = std::io::stderr().is_terminal();
    let fetched = runtime()?.block_on(fetch::fetch(&request, |window| {
        if tells {
            eprint!("\rwindow {window}");
        }
    }))?;
    if tells && fetched.last.is_some() {
        eprintln!();
    }
    Ok(fetched)
}

impl Fetched {
    /// For persons.
    pub fn text(&self) -> String {
        let last = self
            .last
            .map_or_else(String::new, |last| format!(", up to window {last}"));
        format!(
            "{} new files of {} bytes{last}; {} were here already\n",
            self.files,
            grouped(self.bytes),
            self.here
        )
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "files": self.files,
            "bytes": self.bytes,
            "here": self.here,
            "last_window": self.last.map(|last| last.0),
        })
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("cannot start")
}
