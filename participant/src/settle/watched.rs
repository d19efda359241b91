//! The transactions to look for: the coinbases and payouts of all held rounds.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::Txid;
use tutti_proto::id::Identity;
use tutti_proto::participant::{Held, HeldLane};

use super::book::Settlement;
use crate::store::RoundName;

/// A held round, without its transactions' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedRound {
    pub name: RoundName,
    /// Height of its block, if one is found.
    pub height: u32,
    pub lanes: Vec<WatchedLane>,
    /// What it pays us.
    pub own_sat: u64,
    /// Payees that it pays more.
    pub larger: u32,
}

/// A lane by its transactions' ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedLane {
    pub coinbase: Txid,
    pub payouts: Vec<Txid>,
}

impl WatchedRound {
    pub fn new(held: &Held, me: &Identity) -> Self {
        Self::of(held, Some(&me.to_string()))
    }

    /// Seen by a payee that may be nobody.
    pub fn of(held: &Held, me: Option<&str>) -> Self {
        let lane = |lane: &HeldLane| WatchedLane {
            coinbase: lane.coinbase.compute_txid(),
            payouts: lane.payouts.iter().map(|tx| tx.compute_txid()).collect(),
        };
        let own = held
            .payees
            .iter()
            .filter(|payee| me.is_some_and(|me| payee.identity.to_string() == me));
        let own_sat = own.map(|payee| payee.sat).sum();
        let larger = held.payees.iter().filter(|payee| payee.sat > own_sat);
        Self {
            name: RoundName::of(held),
            height: held.height,
            lanes: held.lanes.iter().map(lane).collect(),
            own_sat,
            larger: u32::try_from(larger.count()).unwrap_or(u32::MAX),
        }
    }
}

/// All held rounds, found by the transactions of their lanes.
#[derive(Debug, Default)]
pub struct Watched {
    rounds: BTreeMap<RoundName, WatchedRound>,
    coinbases: BTreeMap<Txid, (RoundName, usize)>,
    wanted: BTreeSet<Txid>,
}

impl Watched {
    pub fn add(&mut self, round: WatchedRound) {
        for (lane, transactions) in round.lanes.iter().enumerate() {
            self.coinbases
                .insert(transactions.coinbase, (round.name, lane));
            self.wanted.insert(transactions.coinbase);
            self.wanted.extend(&transactions.payouts);
        }
        self.rounds.insert(round.name, round);
    }

    pub fn remove(&mut self, name: &RoundName) {
        let Some(round) = self.rounds.remove(name) else {
            return;
        };
        for lane in round.lanes {
            self.coinbases.remove(&lane.coinbase);
            self.wanted.remove(&lane.coinbase);
            lane.payouts.iter().for_each(|txid| {
                self.wanted.remove(txid);
            });
        }
    }

    /// The round and lane of a coinbase.
    pub fn lane_of(&self, coinbase: &Txid) -> Option<(&WatchedRound, usize)> {
        let (name, lane) = self.coinbases.get(coinbase)?;
        Some((self.rounds.get(name)?, *lane))
    }

    /// Payees that a settlement pays more than us.
    pub fn larger_payees(&self, settlement: &Settlement) -> u32 {
        let round = self.lane_of(&settlement.coinbase_txid);
        round.map_or(0, |(round, _)| round.larger)
    }

    /// Coinbases and payouts.
    pub fn wanted(&self) -> &BTreeSet<Txid> {
        &self.wanted
    }

    pub fn rounds(&self) -> impl Iterator<Item = &WatchedRound> {
        self.rounds.values()
    }

    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }
}
