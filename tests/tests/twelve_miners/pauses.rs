//! How long the spared hashed on a block that was the tip no more.

use anyhow::{Context, Result, bail};

use crate::{Scene, millis};

impl Scene {
    /// The longest pause of a spared miner at any tip from this one on. Blocks that come by the hundred
    /// are no case of real life, so this is a figure of its own.
    pub fn longest_pause(&self, first: usize) -> Result<i64> {
        let mut longest = 0;
        for name in &self.spared {
            longest = self
                .watch
                .pauses(name, first)?
                .into_iter()
                .fold(longest, i64::max);
        }
        Ok(longest)
    }

    /// All pauses of the spared at these tips, shortest first.
    pub fn print_pauses(&self, first: usize, last: usize) -> Result<Vec<i64>> {
        let mut by_tip = vec![Vec::new(); last - first];
        for name in &self.spared {
            let pauses = self.watch.pauses(name, first)?;
            for (tip, pause) in by_tip.iter_mut().zip(pauses) {
                tip.push(pause);
            }
        }
        for (tip, pauses) in self.watch.tips[first..last].iter().zip(&by_tip) {
            let longest = pauses.iter().max().context("somebody is spared")?;
            let from = match self.asked.get(&tip.hash) {
                Some(asked) => format!("{} ms after we asked for it", millis(&(tip.at - asked))),
                None => "found by the pool".to_owned(),
            };
            eprintln!(
                "tip before {}: longest pause {} ms; template {from}",
                tip.height,
                millis(longest)
            );
        }
        let mut all = by_tip.concat();
        all.sort_unstable();
        if all.is_empty() {
            bail!("nothing was measured");
        }
        Ok(all)
    }
}
