//! All miners at once, and what the test waits for.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tutti_proto::id::WindowSeq;
use tutti_regtest::pool::Pool;

use crate::miner::{Miner, Moment};
use crate::plan::Kill;

const STEP: Duration = Duration::from_secs(30);
/// Shares of the last life before all stop.
const LAST_SHARES: u32 = 500;

pub struct Crowd {
    runtime: Runtime,
    tasks: Vec<JoinHandle<Miner>>,
    moments: Receiver<Moment>,
    address: watch::Sender<String>,
    load: watch::Sender<bool>,
    /// The newest window in which a share was acknowledged.
    last: WindowSeq,
}

impl Crowd {
    /// Miners that wait for an address.
    pub fn start(miners: u8, seed: u64) -> Result<Crowd> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let (tell, moments) = channel();
        let (address, load) = (watch::Sender::new(String::new()), watch::Sender::new(true));
        let mut tasks = Vec::new();
        for number in 0..miners {
            let miner = Miner::new(number, seed, tell.clone())?;
            tasks.push(runtime.spawn(miner.run(address.subscribe(), load.subscribe())));
        }
        Ok(Crowd {
            runtime,
            tasks,
            moments,
            address,
            load,
            last: WindowSeq(0),
        })
    }

    /// Lets the miners find the coordinator, and returns at the moment at which it is to be killed.
    pub fn until(&mut self, pool: &mut Pool, kill: Kill) -> Result<()> {
        if let Kill::After(time) = kill {
            let deadline = Instant::now() + time;
            if self.serve(pool, time).is_ok() {
                while self.next(deadline)?.is_some() {}
            }
            return Ok(());
        }
        self.serve(pool, STEP)?;
        let (count, of) = match kill {
            Kill::After(_) => return Ok(()),
            Kill::Sent(count) => (count, Moment::Sent),
            Kill::Acknowledged(count) => (count, Moment::Acknowledged(WindowSeq(0))),
            Kill::Proposed(count) => (count, Moment::Proposed),
            Kill::Signed(count) => (count, Moment::Signed),
            Kill::Committed(count) => (count, Moment::Committed),
        };
        self.count(count, |moment| {
            std::mem::discriminant(moment) == std::mem::discriminant(&of)
        })
    }

    fn serve(&mut self, pool: &mut Pool, within: Duration) -> Result<()> {
        let coordinator = pool.coordinator.as_mut().context("it runs")?;
        let listening = coordinator.wait_event("listening", within)?;
        let address = listening.text("address")?.to_owned();
        // What the miners said of the coordinator before.
        while self.next(Instant::now())?.is_some() {}
        self.address.send_replace(address);
        Ok(())
    }

    fn count(&mut self, count: u32, wanted: impl Fn(&Moment) -> bool) -> Result<()> {
        let deadline = Instant::now() + STEP;
        let mut seen = 0;
        while seen < count {
            let moment = self.next(deadline)?;
            let moment = moment.with_context(|| format!("{seen} of {count} within {STEP:?}"))?;
            seen += u32::from(wanted(&moment));
        }
        Ok(())
    }

    /// All that the miners tell passes here.
    fn next(&mut self, deadline: Instant) -> Result<Option<Moment>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.moments.recv_timeout(left) {
            Ok(Moment::Failed(why)) => bail!("{why}"),
            Ok(Moment::Acknowledged(window)) => {
                self.last = self.last.max(window);
                Ok(Some(Moment::Acknowledged(window)))
            }
            Ok(moment) => Ok(Some(moment)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("no miner is left"),
        }
    }

    /// Mines on for a while, lets everything under way be answered, and waits until every miner holds
    /// a round that pays for all of it. Then all stop; gives the miners and the last window.
    pub fn finish(mut self, pool: &mut Pool) -> Result<(Vec<Miner>, WindowSeq)> {
        self.serve(pool, STEP)?;
        self.count(LAST_SHARES, |moment| {
            matches!(moment, Moment::Acknowledged(_))
        })?;
        self.load.send_replace(false);
        self.all(|moment, _| match moment {
            Moment::Quiet(miner) => Some(miner),
            _ => None,
        })?;
        pool.node.mine(1)?;
        self.all(|moment, last| match moment {
            Moment::Holds(miner, window) if window >= last => Some(miner),
            _ => None,
        })?;
        let coordinator = pool.coordinator.as_mut().context("it runs")?;
        coordinator.terminate(STEP)?;
        drop(self.address);
        let joined = self.tasks.into_iter();
        let joined = joined.map(|task| self.runtime.block_on(task));
        let miners = joined.collect::<Result<Vec<Miner>, _>>()?;
        Ok((miners, self.last))
    }

    /// Waits until this was said of each miner.
    fn all(&mut self, who: impl Fn(Moment, WindowSeq) -> Option<u8>) -> Result<()> {
        let deadline = Instant::now() + STEP;
        let mut seen = BTreeSet::new();
        while seen.len() < self.tasks.len() {
            let moment = self.next(deadline)?;
            let moment = moment.with_context(|| format!("only {seen:?} within {STEP:?}"))?;
            seen.extend(who(moment, self.last));
        }
        Ok(())
    }
}
