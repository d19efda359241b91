//! Fetches templates: at once when woken, and every few seconds for the fees of the same tip.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tutti_proto::bump::{FeeEstimate, Feerate};
use tutti_proto::coordinator::Input;
use tutti_proto::deadline::Millis;
use tutti_proto::feerate::FeeRate;
use tutti_proto::template::Template;

use super::template::KnownTransactions;
use super::{Backoff, CALL_TIMEOUT, Node, NodeConfig, NodeError};
use crate::driver::{Inbox, Stopped};
use crate::news::News;

/// Blocks within which a payout's feerate should suffice: about a day, the time until it matures.
const FEE_TARGET: u16 = 144;
const NO_ESTIMATES: &str = "the node estimates no fees, as with -blocksonly";
/// The fee estimate moves slowly.
const FEERATE_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Source {
    config: NodeConfig,
    every: Duration,
    feerate_max: FeeRate,
    inbox: Inbox,
    woken: Receiver<()>,
    node: Option<Node>,
    feerate: FeeRate,
    /// When the node was last asked for it.
    feerate_asked: Option<Instant>,
    /// Whether it was said that the node gives none.
    feerate_unknown_told: bool,
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
            feerate: FeeRate::FLOOR,
            feerate_asked: None,
            feerate_unknown_told: false,
            previous_block: None,
            known: KnownTransactions::new(),
            away: false,
        }
    }

    /// Runs until the owner of the rounds is gone.
    pub(super) fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let wait = match self.look() {
                Ok(Ok(())) => {
                    backoff = Backoff::new();
                    self.every
                }
                Ok(Err(Stopped)) => return,
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

    /// Hands over one template.
    fn look(&mut self) -> Result<Result<(), Stopped>, NodeError> {
        let node = match self.node.take() {
            Some(node) => node,
            None => Node::connect(&self.config, CALL_TIMEOUT)?,
        };
        let raw = node.template()?;
        let mut is_there = true;
        if self.feerate_asked.is_none() {
            // Payouts of the first round go by it, too.
            is_there = self.ask_feerate(&node);
        }
        let template = raw.into_template(self.feerate, &mut self.known)?;
        self.back();
        let handed_over = self.hand_over(template);
        // Only now: bitcoind answers once it has digested its tip, and a new tip's template does not wait for that.
        let is_old = |asked: Instant| asked.elapsed() >= FEERATE_EVERY;
        if is_there && self.feerate_asked.is_some_and(is_old) {
            is_there = self.ask_feerate(&node);
        }
        self.node = is_there.then_some(node);
        Ok(handed_over)
    }

    /// Asks for the payouts' feerate; whatever comes of it, there is one. Says whether the connection is still good.
    fn ask_feerate(&mut self, node: &Node) -> bool {
        self.feerate_asked = Some(Instant::now());
        let estimate = node.estimate(FEE_TARGET);
        let why = match &estimate {
            Ok(FeeEstimate::Disabled) => Some(NO_ESTIMATES.to_owned()),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Ok(estimate) = &estimate {
            let asked = estimate.feerate().map_or(0, Feerate::sat_per_kvb);
            let bounded = asked.clamp(FeeRate::FLOOR.sat_per_kvb(), self.feerate_max.sat_per_kvb());
            self.feerate = FeeRate::from_sat_per_kvb(bounded).unwrap_or(FeeRate::FLOOR);
        }
        if let Some(why) = &why
            && !self.feerate_unknown_told
        {
            News::feerate_unknown(why, self.feerate).tell();
        }
        self.feerate_unknown_told = why.is_some();
        estimate.map_or_else(|error| error.is_of_one_call(), |_| true)
    }

    fn hand_over(&mut self, template: Template) -> Result<(), Stopped> {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash;
    use serde_json::json;

    use super::*;
    use crate::chain::scripted::{Answer, scripted};
    use crate::driver::Incoming;
    use crate::news::caught;

    fn template(number: u8) -> Answer {
        Answer::Is(json!({
            "version": 0x2000_0000,
            "previousblockhash": BlockHash::from_byte_array([number; 32]),
            "transactions": [],
            "coinbasevalue": 5_000_000_000u64,
            "curtime": 1_700_000_000u32,
            "mintime": 1_296_688_603u32,
            "bits": "207fffff",
            "height": 100 + u32::from(number),
        }))
    }

    fn estimate(btc_per_kvb: f64) -> Answer {
        Answer::Is(json!({"feerate": btc_per_kvb, "blocks": 144}))
    }

    /// The feerates, in sat/kvB, of so many templates, each with an estimate that is due; and what was said of these.
    fn feerates(count: u8, answer: fn(u8) -> Answer) -> (Vec<u64>, Vec<serde_json::Value>) {
        let mut tip = 0;
        let config = scripted(move |method, _| match method {
            "getblocktemplate" => {
                tip += 1;
                template(tip)
            }
            "estimatesmartfee" => answer(tip),
            other => panic!("{other}"),
        });
        let (inbox, mut mailbox) = Inbox::new();
        let most = FeeRate::from_sat_per_kvb(50_000).unwrap();
        let mut source = Source::new(config, Millis(1_000), most, inbox, channel().1);
        let mut given = Vec::new();
        let lines = caught(|| {
            for _ in 0..count {
                source.look().unwrap().unwrap();
                let Ok(Incoming::Input(Input::Template(template))) = mailbox.queue.try_recv()
                else {
                    panic!("no template");
                };
                given.push(template.feerate.sat_per_kvb());
                let asked = source.feerate_asked.unwrap();
                source.feerate_asked = asked.checked_sub(FEERATE_EVERY);
            }
        });
        let unknown = |line: &serde_json::Value| line["event"] == "feerate_unknown";
        (given, lines.into_iter().filter(unknown).collect())
    }

    #[test]
    fn no_failure_of_an_estimate_costs_a_template_or_the_last_estimate() {
        let (given, told) = feerates(7, |tip| match tip {
            1 => estimate(0.00005),
            3 => Answer::HangsUp,
            5 => estimate(0.00007),
            _ => Answer::Fails(-32603, "Internal bug detected"),
        });
        // The first is asked for before the first template, each other one after.
        assert_eq!(given, [5_000, 5_000, 5_000, 5_000, 5_000, 7_000, 7_000]);
        assert_eq!(told.len(), 2, "once each time that it begins: {told:?}");
        assert_eq!(told[0]["feerate_sat_per_kvb"], 5_000);
        let why = told[0]["why"].as_str().unwrap();
        assert!(why.contains("Internal bug detected"), "{why}");
    }

    #[test]
    fn without_any_estimate_payouts_pay_the_least_that_nodes_relay() {
        let (given, told) = feerates(4, |tip| match tip {
            1 => Answer::HangsUp,
            2 | 3 => Answer::Fails(-32603, "Fee estimation disabled"),
            _ => Answer::Is(json!({"errors": ["Insufficient data"], "blocks": 0})),
        });
        assert_eq!(given, [1_000; 4]);
        assert_eq!(told.len(), 1, "{told:?}");
    }
}
