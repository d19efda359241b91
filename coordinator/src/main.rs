//! The binary: the command line, and one sentence on stderr when something is wrong.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tutti_coordinator::cli::Cli;
use tutti_coordinator::faults::CONNECTIONS;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tutti-coordinator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Tasks after which a thread looks for those that the owner of the rounds woke: acknowledgements would
/// else wait while many shares come.
const LOOK_AFTER: u32 = 8;

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(CONNECTIONS)
        .global_queue_interval(LOOK_AFTER)
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(cli.execute());
    // Sessions that did not end in time end with the process.
    runtime.shutdown_background();
    Ok(outcome?)
}
