//! The demo's voice: what happens, when, in one line each, on stderr.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write, stderr};
use std::time::Instant;

use anyhow::Result;

use crate::daemon::Line;

/// What was told, counted on the way.
pub struct Story {
    started: Instant,
    colour: bool,
    live_line: bool,
    /// Miners by identity.
    pub names: BTreeMap<String, String>,
    /// Rounds committed.
    pub rounds: u64,
    /// Shares accepted, by miner.
    pub shares: BTreeMap<String, u64>,
    /// Where each miner's own wallet wants to be paid, over time.
    pub addresses: BTreeMap<String, BTreeSet<String>>,
    joined: usize,
}

impl Story {
    /// A story that starts now.
    pub fn new(started: Instant) -> Self {
        let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            started,
            colour,
            live_line: false,
            names: BTreeMap::new(),
            rounds: 0,
            shares: BTreeMap::new(),
            addresses: BTreeMap::new(),
            joined: 0,
        }
    }

    /// A heading.
    pub fn chapter(&mut self, title: &str) {
        self.end_live_line();
        if self.colour {
            eprintln!("\n\x1b[1;36m{title}\x1b[0m");
        } else {
            eprintln!("\n{title}");
        }
    }

    /// A line.
    pub fn say(&mut self, text: &str) {
        self.end_live_line();
        eprintln!("  {:>5.1} s  {text}", self.started.elapsed().as_secs_f64());
    }

    fn end_live_line(&mut self) {
        if std::mem::take(&mut self.live_line) {
            eprintln!();
        }
    }

    /// Redraws the share counters in place, where that can be seen.
    fn show_shares(&mut self) {
        if !self.colour {
            return;
        }
        let counts: Vec<String> = self
            .shares
            .iter()
            .map(|(identity, count)| format!("{} {count}", self.name(identity)))
            .collect();
        eprint!(
            "\r\x1b[2K  {:>5.1} s  shares: {}",
            self.started.elapsed().as_secs_f64(),
            counts.join(", ")
        );
        let _ = stderr().flush();
        self.live_line = true;
    }

    /// A miner's name, or the start of the identity.
    pub fn name(&self, identity: &str) -> String {
        match self.names.get(identity) {
            Some(name) => name.clone(),
            None => identity.chars().take(8).collect(),
        }
    }

    /// Retells a line of a daemon's log.
    pub fn hear(&mut self, line: &Line, miners: usize) -> Result<()> {
        if line.event() == "new_payout_address" {
            let addresses = self.addresses.entry(line.from.clone()).or_default();
            addresses.insert(line.text("address")?.to_owned());
        }
        if line.from != "coordinator" {
            return Ok(());
        }
        match line.event() {
            "joined" => {
                self.joined += 1;
                let name = self.name(line.text("identity")?);
                self.say(&format!("{name} joined ({} of {miners})", self.joined));
            }
            "committed" => self.committed(line)?,
            "attempt_failed" => {
                let (seq, reason) = (line.number("seq")?, &line.fields["reason"]);
                self.say(&format!(
                    "round {seq}: an attempt failed ({reason}); the next one starts at once"
                ));
            }
            "share_accepted" => {
                let identity = line.text("identity")?.to_owned();
                *self.shares.entry(identity).or_default() += 1;
                self.show_shares();
            }
            "candidate_found" => {
                let finder = self.name(line.text("finder")?);
                self.say(&format!(
                    "{finder} found a block at height {}",
                    line.number("height")?
                ));
            }
            "block_accepted" => {
                self.say(&format!("the node took it: {}", line.text("hash")?));
            }
            "block_refused" => self.say(&format!("the node refused the block: {}", line.fields)),
            _ => {}
        }
        Ok(())
    }

    fn committed(&mut self, line: &Line) -> Result<()> {
        self.rounds += 1;
        let signers = line.number("signers")?;
        let (seq, payouts, took) = (
            line.number("seq")?,
            line.number("payouts")?,
            line.number("took_ms")?,
        );
        let counts: Vec<String> = self
            .shares
            .iter()
            .map(|(identity, count)| format!("{} {count}", self.name(identity)))
            .collect();
        let shares = if counts.is_empty() {
            String::new()
        } else {
            format!("; shares so far: {}", counts.join(", "))
        };
        self.say(&format!(
            "round {seq} committed: {signers} signers, {payouts} payouts signed by all, {took} ms{shares}"
        ));
        Ok(())
    }
}
