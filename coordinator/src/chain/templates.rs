//! Fetches templates: at once when woken, and every few seconds for the fees of the same tip.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tutti_proto::coordinator::Input;
use tutti_proto::deadline::Millis;
use tutti_proto::feerate::FeeRate;
use tutti_proto::template::Template;

use super::node::{Node, NodeConfig};
use super::template::KnownTransactions;
use super::{Backoff, CALL_TIMEOUT, NodeError};
use crate::driver::Inbox;
use crate::news::News;

/// The fee estimate moves slowly.
const FEERATE_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Source {
    config: NodeConfig,
    every: Duration,
    feerate_max: FeeRate,
    inbox: Inbox,
    woken: Receiver<()>,
    node: Option<Node>,
    feerate: Option<(FeeRate, Instant)>,
    previous_block: Option<[u8; 32]>,
    known: KnownTransactions,
    away: bool,
}

impl Source {
    pub(super) fn new(
        config: NodeConfig,
        refresh: Millis,
        feerate_max: FeeRate,
        inbox: Inbox,
        woken: Receiver<()>,
    ) -> Self {
        // A template is at most a third of the refresh time old when a round is made of it.
        let every = Duration::from_millis((refresh.0 / 3).clamp(250, 10_000));
        Self {
            config,
            every,
            feerate_max,
            inbox,
            woken,
            node: None,
            feerate: None,
            previous_block: None,
            known: KnownTransactions::new(),
            away: false,
        }
    }

    /// Runs until the owner of the rounds is gone.
    pub(super) fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let wait = match self.fetch() {
                Ok(template) => {
                    backoff = Backoff::new();
                    self.back();
                    if self.hand_over(template).is_err() {
                        return;
                    }
                    self.every
                }
                Err(error) => {
                    let wait = backoff.next();
                    self.gone(&error, wait);
                    wait
                }
            };
            match self.woken.recv_timeout(wait) {
                // One fetch answers all who woke us.
                Ok(()) => while self.woken.try_recv().is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn fetch(&mut self) -> Result<Template, NodeError> {
        let node = match self.node.take() {
            Some(node) => node,
            None => Node::connect(&self.config, CALL_TIMEOUT)?,
        };
        let raw = node.template()?;
        let feerate = self.feerate(&node)?;
        self.node = Some(node);
        Ok(raw.into_template(feerate, &mut self.known)?)
    }

    fn feerate(&mut self, node: &Node) -> Result<FeeRate, NodeError> {
        if let Some((feerate, at)) = self.feerate.filter(|(_, at)| at.elapsed() < FEERATE_EVERY) {
            self.feerate = Some((feerate, at));
            return Ok(feerate);
        }
        let estimate = node.estimate_feerate()?.unwrap_or_default();
        let bounded = estimate.clamp(FeeRate::FLOOR.sat_per_kvb(), self.feerate_max.sat_per_kvb());
        let feerate = FeeRate::from_sat_per_kvb(bounded).unwrap_or(FeeRate::FLOOR);
        self.feerate = Some((feerate, Instant::now()));
        Ok(feerate)
    }

    fn hand_over(&mut self, template: Template) -> Result<(), crate::driver::Stopped> {
        let new_tip =
            self.previous_block.replace(template.previous_block) != Some(template.previous_block);
        News::template(&template, new_tip).tell();
        self.inbox.give(Input::Template(Arc::new(template)))
    }

    fn gone(&mut self, error: &NodeError, retry: Duration) {
        if !self.away {
            News::node_away(error, retry).tell();
        }
        self.away = true;
        self.node = None;
    }

    fn back(&mut self) {
        if self.away {
            News::node_back().tell();
        }
        self.away = false;
    }
}
