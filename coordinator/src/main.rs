//! The binary: the command line, and one sentence on stderr when something is wrong, for programs as JSON.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::anyhow;
use tutti_coordinator::cli::Cli;
use tutti_coordinator::faults::CONNECTIONS;
use tutti_daemon::cli;

fn main() -> ExitCode {
    let command: Cli = cli::parse();
    let json = command.is_for_programs();
    run(command).unwrap_or_else(|error| cli::failed("tutti-coordinator", json, &error))
}

/// Tasks after which a thread looks for those that the owner of the rounds woke: acknowledgements would
/// else wait while many shares come.
const LOOK_AFTER: u32 = 8;

fn run(command: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(CONNECTIONS)
        .global_queue_interval(LOOK_AFTER)
        .build()
        .map_err(|error| anyhow!("cannot start the runtime: {error}"))?;
    let outcome = runtime.block_on(command.execute());
    // Sessions that did not end in time end with the process.
    runtime.shutdown_background();
    Ok(outcome?)
}
