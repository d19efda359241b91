//! The transactions to look for: the coinbases and payouts of all held rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bitcoin::{Amount, OutPoint, Script, Transaction, TxOut, Txid};
use tutti_proto::id::Identity;
use tutti_proto::participant::{Held, HeldLane, HeldPayee};

use super::book::Settlement;
use crate::payouts::valid_payouts;
use crate::store::{self, Alone, RoundName, StoreError};

/// A held round, without its transactions' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedRound {
    pub name: RoundName,
    /// Height of its block, if one is found. None where only payouts were imported and their coinbase
    /// is not known.
    pub height: Option<u32>,
    pub lanes: Vec<WatchedLane>,
    /// What it pays us.
    pub own_sat: u64,
}

/// A lane by its transactions' ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedLane {
    pub coinbase: Txid,
    pub payouts: Vec<Txid>,
    /// What the payouts spend, where the coinbase is not known: says whether a block has it.
    pub asked: Vec<OutPoint>,
    /// Outputs of the coinbase, as far as they are known: one that is unspent says that a block has it.
    pub outputs: Vec<OutPoint>,
    /// Payouts that pay us for certain, which a bump may go by: valid ones that pay our scripts, or where the
    /// round is of our own reckoning, our amount. A file's word, which may be anybody's, is none.
    pub ours: BTreeSet<Txid>,
    /// Payees of each payout that bump it before us.
    pub before_us: BTreeMap<Txid, u32>,
    /// Those that pay our scripts, and that may not be valid: their coinbase is not known.
    pub unverified: BTreeSet<Txid>,
}

/// By what a round's file is ours.
pub enum Ours<'a> {
    /// Only by the payee that it names, who may be nobody: this machine does not know our scripts.
    Named(Option<&'a str>),
    /// By the scripts that its transactions pay, too.
    Pays {
        me: &'a str,
        is_mine: &'a dyn Fn(&Script) -> bool,
    },
}

impl Ours<'_> {
    fn me(&self) -> Option<&str> {
        match self {
            Self::Named(me) => *me,
            Self::Pays { me, .. } => Some(me),
        }
    }

    fn is_mine(&self, script: &Script) -> bool {
        matches!(self, Self::Pays { is_mine, .. } if is_mine(script))
    }

    /// Those that pay our scripts.
    fn paid_by(&self, payouts: &[Transaction]) -> Vec<Transaction> {
        let pays = |payout: &&Transaction| {
            let mut outputs = payout.output.iter();
            outputs.any(|output| self.is_mine(&output.script_pubkey))
        };
        payouts.iter().filter(pays).cloned().collect()
    }

    /// Those that pay our scripts and are valid.
    fn proven(&self, coinbase: &Transaction, payouts: &[Transaction]) -> BTreeSet<Txid> {
        txids(&valid_payouts(coinbase, &self.paid_by(payouts)))
    }
}

fn txids(payouts: &[Transaction]) -> BTreeSet<Txid> {
    payouts.iter().map(Transaction::compute_txid).collect()
}

/// Each once, in order: a file may list one many times.
fn once(payouts: &[Transaction]) -> Vec<Txid> {
    let mut seen = BTreeSet::new();
    let txids = payouts.iter().map(Transaction::compute_txid);
    txids.filter(|txid| seen.insert(*txid)).collect()
}

impl WatchedRound {
    /// One whose amounts this participant computed itself.
    pub fn new(held: &Held, me: &Identity) -> Self {
        let round = Self::of(held, &Ours::Named(Some(&me.to_string())));
        let own_sat = round.own_sat;
        // Of several payouts it is in one. A bump looks at the script.
        let pays = |payout: &&Transaction| {
            let mut outputs = payout.output.iter();
            own_sat > 0 && outputs.any(|output| output.value.to_sat() == own_sat)
        };
        let lanes = round.lanes.into_iter().zip(&held.lanes);
        let lanes = lanes.map(|(lane, held)| WatchedLane {
            ours: held
                .payouts
                .iter()
                .filter(pays)
                .map(Transaction::compute_txid)
                .collect(),
            ..lane
        });
        Self {
            lanes: lanes.collect(),
            ..round
        }
    }

    /// One from a file.
    pub fn of(held: &Held, ours: &Ours<'_>) -> Self {
        let is_me = |payee: &HeldPayee| {
            let me = ours.me();
            me.is_some_and(|me| payee.identity.to_string() == me)
        };
        let own_place = held.payees.iter().position(is_me);
        let is_own =
            |place, output: &TxOut| own_place == Some(place) || ours.is_mine(&output.script_pubkey);
        let lane = |lane: &HeldLane| WatchedLane {
            coinbase: lane.coinbase.compute_txid(),
            payouts: once(&lane.payouts),
            asked: Vec::new(),
            outputs: outputs_of(&lane.coinbase),
            ours: ours.proven(&lane.coinbase, &lane.payouts),
            before_us: before_us(&lane.payouts, is_own),
            unverified: BTreeSet::new(),
        };
        let own = held.payees.iter().filter(|payee| is_me(payee));
        let own_sat = own.map(|payee| payee.sat).sum();
        Self {
            name: RoundName::of(held),
            height: Some(held.height),
            lanes: held.lanes.iter().map(lane).collect(),
            own_sat,
        }
    }

    /// Payouts of which the round is not known.
    pub fn alone(alone: &Alone, ours: &Ours<'_>) -> Self {
        let coinbase = alone.coinbase.as_ref();
        let proven = coinbase.map(|coinbase| ours.proven(coinbase, &alone.payouts));
        Self {
            name: alone.name(),
            height: alone.height(),
            lanes: vec![WatchedLane {
                coinbase: alone.coinbase_txid,
                payouts: once(&alone.payouts),
                asked: match alone.coinbase {
                    Some(_) => Vec::new(),
                    None => alone.spent().collect(),
                },
                outputs: match &alone.coinbase {
                    Some(coinbase) => outputs_of(coinbase),
                    None => alone.spent().collect(),
                },
                ours: proven.unwrap_or_default(),
                before_us: before_us(&alone.payouts, |_, output| {
                    ours.is_mine(&output.script_pubkey)
                }),
                unverified: match alone.coinbase {
                    Some(_) => BTreeSet::new(),
                    None => txids(&ours.paid_by(&alone.payouts)),
                },
            }],
            own_sat: alone.own_sat.unwrap_or_default(),
        }
    }

    /// What says which block has a coinbase that is not known.
    pub fn asked(&self) -> impl Iterator<Item = OutPoint> {
        self.lanes
            .iter()
            .flat_map(|lane| lane.asked.iter().copied())
    }

    /// Whether it has this coinbase.
    pub fn has(&self, coinbase: &Txid) -> bool {
        self.lanes.iter().any(|lane| lane.coinbase == *coinbase)
    }
}

/// Payees of each payout that bump it before us: those with a larger part, and of those with an equal one who is
/// paid by an output before ours. `is_own` goes by an output's place among all that payees get.
fn before_us(
    payouts: &[Transaction],
    is_own: impl Fn(usize, &TxOut) -> bool,
) -> BTreeMap<Txid, u32> {
    let mut first = 0;
    let before = payouts.iter().map(|payout| {
        // The last output is the anchor.
        let outputs = payout.output.split_last().map_or(&[][..], |(_, paid)| paid);
        let mut places = (first..).zip(outputs);
        let own = places.position(|(place, output)| is_own(place, output));
        first += outputs.len();
        let before = own.map_or(outputs.len(), |own| {
            let part = outputs[own].value;
            let larger = outputs.iter().filter(|other| other.value > part);
            let equal = outputs[..own].iter().filter(|other| other.value == part);
            larger.count() + equal.count()
        });
        (
            payout.compute_txid(),
            u32::try_from(before).unwrap_or(u32::MAX),
        )
    });
    before.collect()
}

/// What may be spent of a coinbase.
fn outputs_of(coinbase: &Transaction) -> Vec<OutPoint> {
    let txid = coinbase.compute_txid();
    let outputs = (0..).zip(&coinbase.output);
    let paying = outputs.filter(|(_, output)| output.value > Amount::ZERO);
    paying.map(|(vout, _)| OutPoint::new(txid, vout)).collect()
}

/// What a data directory holds, and what of it cannot be read. Payouts that were imported alone count
/// where no held round has them.
pub fn read_watched(
    directory: &Path,
    ours: &Ours<'_>,
) -> Result<(Vec<WatchedRound>, Vec<StoreError>), StoreError> {
    let (mut rounds, mut damaged) = (Vec::new(), Vec::new());
    for name in store::held_names(directory)? {
        match store::held_round(directory, &name) {
            Ok(held) => rounds.push(WatchedRound::of(&held, ours)),
            Err(error) => damaged.push(error),
        }
    }
    let lanes = || rounds.iter().flat_map(|round| &round.lanes);
    let coinbases = lanes().map(|lane| lane.coinbase).collect();
    let payouts = lanes().flat_map(|lane| lane.payouts.clone()).collect();
    let all = store::all_alone(directory)?;
    damaged.extend(all.damaged);
    damaged.extend(store::misnamed(directory)?);
    let alone = all.alone.iter();
    let alone = alone.filter(|alone| alone.adds_to(&coinbases, &payouts));
    rounds.extend(alone.map(|alone| WatchedRound::alone(alone, ours)));
    Ok((rounds, damaged))
}

/// All held rounds, found by the transactions of their lanes.
#[derive(Debug, Default)]
pub struct Watched {
    rounds: BTreeMap<RoundName, WatchedRound>,
    /// The lanes that have a coinbase: more than one where files say so.
    coinbases: BTreeMap<Txid, BTreeSet<(RoundName, usize)>>,
    wanted: BTreeSet<Txid>,
}

impl Watched {
    pub fn add(&mut self, mut round: WatchedRound) {
        // A file may call itself as another one does: neither hides the other.
        if let Some(before) = self.rounds.get(&round.name).cloned() {
            self.remove(&round.name);
            let has = |lane: &WatchedLane| {
                let mut lanes = round.lanes.iter();
                lanes.any(|new| new.coinbase == lane.coinbase && new.payouts == lane.payouts)
            };
            let old = before.lanes.into_iter().filter(|lane| !has(lane));
            let old: Vec<WatchedLane> = old.collect();
            round.lanes.extend(old);
        }
        for (lane, transactions) in round.lanes.iter().enumerate() {
            let lanes = self.coinbases.entry(transactions.coinbase).or_default();
            lanes.insert((round.name, lane));
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
            if let Some(lanes) = self.coinbases.get_mut(&lane.coinbase) {
                lanes.retain(|(of, _)| of != name);
            }
            // Other rounds may have it, too.
            let left = self.payouts_of(&lane.coinbase);
            let gone = lane.payouts.iter().filter(|txid| !left.contains(txid));
            for txid in gone {
                self.wanted.remove(txid);
            }
            if self.lanes_of(&lane.coinbase).next().is_none() {
                self.coinbases.remove(&lane.coinbase);
                self.wanted.remove(&lane.coinbase);
            }
        }
    }

    /// Asks no more for a coinbase.
    pub fn no_longer_unknown(&mut self, coinbase: &Txid) {
        for (name, lane) in self.coinbases.get(coinbase).into_iter().flatten() {
            let round = self.rounds.get_mut(name);
            let lane = round.and_then(|round| round.lanes.get_mut(*lane));
            lane.into_iter().for_each(|lane| lane.asked.clear());
        }
    }

    /// Of payouts that were imported alone only these are valid: the others are looked for no more, unless
    /// another file has them, and a bump may go by these.
    pub fn verified(&mut self, name: &RoundName, valid: &BTreeSet<Txid>) {
        let Some(round) = self.rounds.get_mut(name) else {
            return;
        };
        for lane in &mut round.lanes {
            lane.payouts.retain(|txid| valid.contains(txid));
            let unverified = std::mem::take(&mut lane.unverified);
            lane.ours.extend(unverified.intersection(valid));
        }
        let lanes = self.rounds.values().flat_map(|round| &round.lanes);
        self.wanted = lanes
            .flat_map(|lane| lane.payouts.iter().copied().chain([lane.coinbase]))
            .collect();
    }

    /// The round and lane of a coinbase: of several, one that has the most payouts.
    pub fn lane_of(&self, coinbase: &Txid) -> Option<(&WatchedRound, usize)> {
        let payouts = |(round, lane): &(&WatchedRound, usize)| round.lanes[*lane].payouts.len();
        self.lanes_of(coinbase).max_by_key(payouts)
    }

    fn lanes_of(&self, coinbase: &Txid) -> impl Iterator<Item = (&WatchedRound, usize)> {
        let lanes = self.coinbases.get(coinbase).into_iter().flatten();
        lanes.filter_map(|(name, lane)| {
            let round = self.rounds.get(name)?;
            round.lanes.get(*lane).is_some().then_some((round, *lane))
        })
    }

    /// All payouts of a coinbase, in a lane's order.
    pub fn payouts_of(&self, coinbase: &Txid) -> Vec<Txid> {
        let mut payouts = Vec::new();
        let best = self.lane_of(coinbase).into_iter();
        for (round, lane) in best.chain(self.lanes_of(coinbase)) {
            for txid in &round.lanes[lane].payouts {
                if !payouts.contains(txid) {
                    payouts.push(*txid);
                }
            }
        }
        payouts
    }

    /// The rounds that have a coinbase.
    pub fn names_of(&self, coinbase: &Txid) -> impl Iterator<Item = RoundName> {
        self.lanes_of(coinbase).map(|(round, _)| round.name)
    }

    pub fn round(&self, name: &RoundName) -> Option<&WatchedRound> {
        self.rounds.get(name)
    }

    /// Whether a payout of a settlement pays us for certain.
    pub fn is_ours(&self, settlement: &Settlement, payout: &Txid) -> bool {
        self.lanes_of(&settlement.coinbase_txid)
            .any(|(round, lane)| round.lanes[lane].ours.contains(payout))
    }

    /// Payees of a settlement's payout that bump it before us.
    pub fn payees_before_us(&self, settlement: &Settlement, payout: &Txid) -> u32 {
        let lanes = self.lanes_of(&settlement.coinbase_txid);
        let before = lanes.filter_map(|(round, lane)| round.lanes[lane].before_us.get(payout));
        before.min().copied().unwrap_or_default()
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
