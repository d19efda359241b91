//! `watch`: settlement without mining, for a second machine that holds exported payouts. It needs the
//! rounds and a node; neither the seed nor the coordinator.

use tokio::sync::mpsc;
use tutti_daemon::stop::StopSignal;

use crate::chain::Node;
use crate::config::LocalConfig;
use crate::driver::RunError;
use crate::news::{DaemonEvent, News};
use crate::settle::{self, Ours, Report, Settler};
use crate::store::{self, DataLock};

/// Why the watch did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the configuration has no [node] section, and what is watched is its chain; add one")]
    NoNode,
    #[error(
        "no round is held in {}; get payouts there with `tutti-participant payouts import`",
        .0.display()
    )]
    NothingHeld(std::path::PathBuf),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs until a signal or a failure.
pub fn watch(config: LocalConfig) -> Result<(), WatchError> {
    let directory = &config.data_dir;
    let node = config.node.as_ref().ok_or(WatchError::NoNode)?;
    let me = store::owner(directory).map_err(RunError::from)?;
    // What is ours it is told, and nothing is spent by it: bumps are `run`'s.
    let ours = Ours::Named(me.as_deref());
    let (rounds, damaged) = settle::read_watched(directory, &ours).map_err(RunError::from)?;
    for error in damaged {
        let why = &error.to_string();
        News::from(DaemonEvent::RoundUnreadable { why }).emit();
    }
    if rounds.is_empty() {
        return Err(WatchError::NothingHeld(directory.clone()));
    }
    let _lock = DataLock::take(directory).map_err(RunError::from)?;
    match Node::connect(node) {
        Err(error) if !error.is_warming_up() => return Err(RunError::from(error).into()),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::System("start the runtime", error))?;
    runtime.block_on(async {
        let mut stop =
            StopSignal::install().map_err(|e| RunError::System("wait for signals", e))?;
        let (reporter, mut reports) = mpsc::unbounded_channel();
        News::from(DaemonEvent::Watching {
            rounds: rounds.len(),
        })
        .emit();
        let settler = Settler::start(directory, node.clone(), None, rounds, reporter)
            .map_err(RunError::from)?;
        let outcome = loop {
            tokio::select! {
                () = stop.wait() => break Ok(()),
                report = reports.recv() => match report {
                    Some(Report::Failed(error)) => break Err(RunError::from(error).into()),
                    Some(_) => {}
                    None => break Ok(()),
                },
            }
        };
        settler.stop();
        if outcome.is_ok() {
            News::from(DaemonEvent::Stopped).emit();
        }
        outcome
    })
}
