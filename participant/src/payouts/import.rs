//! `payouts import DIRECTORY`: takes exported rounds into a data directory. Files come from anywhere, so each
//! payout is verified before it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey, schnorr};
use bitcoin::{Amount, Transaction, TxOut, Txid};
use serde::Serialize;
use serde::de::IgnoredAny;
use thiserror::Error;
use tutti_proto::params::LANES_LIMIT;
use tutti_proto::participant::{Held, HeldLane};
use tutti_proto::payout;

use super::export::{MANIFEST, Manifest};
use super::single::{self, NotAPayout, SingleError};
use crate::bump;
use crate::keys::SeedError;
use crate::store::{self, Alone, Durability, RoundName, StoreError};
use crate::wallet::WalletError;

/// More than any lane has shards: as many payouts of one coinbase are kept.
pub(super) const MAX_PAYOUTS: usize = 100;

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Rounds that were not held before.
    pub rounds: usize,
    /// Rounds that were.
    pub known: usize,
    /// A daemon runs and sees them after its next start.
    pub restart: bool,
    /// Whose they are, where the directory already holds somebody else's: that one it stays.
    pub of_another: Option<String>,
}

/// Why nothing was taken.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{0}; nothing was taken: once it is moved away, the others are, and its payouts can be taken one at a time with `payouts import FILE`, from the .psbt and .hex files beside it"
    )]
    Damaged(StoreError),
    #[error(
        "{} holds no exported rounds; name the directory that `payouts export` wrote, or the file of one payout", .0.display()
    )]
    Nothing(PathBuf),
    #[error(transparent)]
    Single(#[from] SingleError),
    #[error(transparent)]
    Seed(#[from] SeedError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error("{}: {reason}; get the file of the payout anew", path.display())]
    InvalidPayout { path: PathBuf, reason: Invalid },
    #[error(
        "more payouts of coinbase {0} are held than a coinbase has; remove its file from `alone` in the data directory, and import those that are right"
    )]
    TooMany(Txid),
    #[error("round {seq}, lane {lane}: {reason}; get the export anew")]
    Invalid {
        seq: u64,
        lane: usize,
        reason: Invalid,
    },
}

/// What is wrong with a payout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("the coinbase is not of the round's height")]
    Height,
    #[error("a payout does not spend its lane's coinbase")]
    Coinbase,
    #[error("a payout is not a version-3 transaction with one input")]
    Form,
    #[error("a payout pays more than its coinbase has")]
    Amount,
    #[error("a payout's signature is not valid")]
    Signature,
    #[error("a signed round's lane has not one payout for each output of the pool")]
    Incomplete,
    #[error("two payouts spend the same output of the coinbase")]
    SpentTwice,
    #[error("it has more payouts than a coinbase has")]
    TooMany,
    #[error("it has more lanes than a round has")]
    TooManyLanes,
    #[error("a payout is not one of a Tutti pool: {0}")]
    NotAPayout(NotAPayout),
}

/// Takes all rounds of an exported directory, or none if one of them is not valid.
pub fn import(data_dir: &Path, from: &Path) -> Result<Imported, ImportError> {
    let held = store::held_rounds(from, |_| true)?;
    let alone = store::all_alone(from)?;
    let misnamed = store::misnamed(from)?.into_iter();
    let damaged = misnamed.chain(held.damaged).chain(alone.damaged).next();
    if let Some(damaged) = damaged {
        return Err(ImportError::Damaged(damaged));
    }
    if held.rounds.is_empty() && alone.alone.is_empty() {
        return Err(ImportError::Nothing(from.to_owned()));
    }
    let manifest = store::read_json_in_part(&from.join(MANIFEST))?;
    held.rounds.iter().try_for_each(verify)?;
    alone
        .alone
        .iter()
        .try_for_each(|alone| verify_alone(from, alone))?;
    store::create_directory(data_dir)?;
    // What cannot be read any more is taken again.
    let before = store::held_rounds(data_dir, |_| true)?.rounds;
    let mut taken = Taken::of(before);
    let new = held.rounds.iter().filter_map(|round| taken.take(round));
    let new: Vec<Held> = new.collect();
    let mut all_alone = BTreeMap::<Txid, Alone>::new();
    let mut damaged = BTreeSet::new();
    let (mut rounds, mut known) = (new.len(), held.rounds.len() - new.len() - taken.split);
    for alone in alone.alone.into_iter().chain(taken.alone) {
        let before = match all_alone.remove(&alone.coinbase_txid) {
            Some(before) => Some(before),
            None => match store::alone(data_dir, alone.coinbase_txid) {
                // What cannot be read any more is taken again here, too.
                Err(StoreError::Damaged { .. }) => {
                    damaged.insert(alone.coinbase_txid);
                    None
                }
                before => before?,
            },
        };
        let counted = if before.is_some() {
            &mut known
        } else {
            &mut rounds
        };
        *counted += 1;
        let alone = match before {
            Some(before) => merged(before, &alone)?,
            None => alone,
        };
        all_alone.insert(alone.coinbase_txid, alone);
    }
    for round in &new {
        store::write_round(data_dir, round)?;
    }
    for coinbase in damaged {
        // It may hold more than what comes in its place.
        store::set_alone_aside(data_dir, coinbase)?;
    }
    for alone in all_alone.values() {
        store::write_alone(data_dir, alone)?;
    }
    Ok(Imported {
        rounds,
        known,
        of_another: own(data_dir, manifest)?,
        restart: store::is_held(data_dir),
    })
}

/// The rounds that are held, and the payouts of each coinbase. A file may give a coinbase a second name, or
/// have few of its payouts: it is in nobody's way.
struct Taken {
    rounds: BTreeMap<RoundName, Held>,
    payouts: BTreeMap<Txid, BTreeSet<Txid>>,
    /// What came under the name of a round of another height, and of how many rounds.
    alone: Vec<Alone>,
    split: usize,
}

impl Taken {
    fn of(rounds: Vec<Held>) -> Self {
        let mut taken = Self {
            rounds: BTreeMap::new(),
            payouts: BTreeMap::new(),
            alone: Vec::new(),
            split: 0,
        };
        rounds.into_iter().for_each(|round| taken.add(round));
        taken
    }

    fn add(&mut self, round: Held) {
        for lane in &round.lanes {
            let payouts = self.payouts.entry(lane.coinbase.compute_txid());
            let txids = lane.payouts.iter().map(Transaction::compute_txid);
            payouts.or_default().extend(txids);
        }
        self.rounds.insert(RoundName::of(&round), round);
    }

    /// The round as it is to be stored, if it has a coinbase or a payout that is not held.
    fn take(&mut self, round: &Held) -> Option<Held> {
        let is_new = |lane: &HeldLane| {
            let held = self.payouts.get(&lane.coinbase.compute_txid());
            let mut payouts = lane.payouts.iter();
            held.is_none_or(|held| payouts.any(|tx| !held.contains(&tx.compute_txid())))
        };
        if !round.lanes.iter().any(is_new) {
            return None;
        }
        let stored = match self.rounds.get(&RoundName::of(round)) {
            // One of them is not what it says; each payout shows by itself that it is valid, and each coinbase
            // whether a block has it.
            Some(before) if before.height != round.height => None,
            // Nor are both what they say where they have more lanes than a round.
            Some(before) => Some(completed(before.clone(), round)).filter(has_few_lanes),
            None => Some(round.clone()),
        };
        let Some(stored) = stored else {
            self.alone.extend(round.lanes.iter().map(alone_of));
            self.split += 1;
            return None;
        };
        self.add(stored.clone());
        Some(stored)
    }
}

fn alone_of(lane: &HeldLane) -> Alone {
    Alone {
        coinbase_txid: lane.coinbase.compute_txid(),
        coinbase: Some(lane.coinbase.clone()),
        payouts: lane.payouts.clone(),
        own_sat: None,
    }
}

/// A round with what another file of the same round has beyond it. What is stored can be exported and taken
/// again: of a signed round all lanes are complete, and where a file's are not, it does not pass as signed.
fn completed(mut before: Held, more: &Held) -> Held {
    for lane in &more.lanes {
        let txid = lane.coinbase.compute_txid();
        let mut lanes = before.lanes.iter_mut();
        match lanes.find(|held| held.coinbase.compute_txid() == txid) {
            Some(held) => {
                let both = [held.payouts.as_slice(), lane.payouts.as_slice()].concat();
                held.payouts = valid_payouts(&held.coinbase, &both);
            }
            None => before.lanes.push(lane.clone()),
        }
    }
    let all_complete = before.lanes.iter().all(is_complete);
    before.signers = match all_complete {
        true => before.signers.max(more.signers),
        false => 0,
    };
    before
}

/// What is held of a coinbase's payouts, and what a file adds to it. Once the coinbase is known, only what is
/// valid.
fn merged(mut before: Alone, more: &Alone) -> Result<Alone, ImportError> {
    let new = more
        .payouts
        .iter()
        .filter(|tx| !before.payouts.contains(tx));
    let new: Vec<Transaction> = new.cloned().collect();
    before.payouts.extend(new);
    before.coinbase = before.coinbase.or_else(|| more.coinbase.clone());
    if let Some(coinbase) = &before.coinbase {
        before.payouts = valid_payouts(coinbase, &before.payouts);
    }
    if before.payouts.len() > MAX_PAYOUTS {
        return Err(ImportError::TooMany(before.coinbase_txid));
    }
    before.own_sat = before.own_sat.or(more.own_sat);
    Ok(before)
}

/// Payouts that were imported alone where they were exported. While their coinbase is not known there may be
/// several for one output of it, of which at most one is valid.
fn verify_alone(from: &Path, alone: &Alone) -> Result<(), ImportError> {
    let coinbase = alone.coinbase.as_ref();
    // Where it has no payouts, nothing but its form says that a block may have it.
    let is_of_its = |coinbase| {
        alone
            .height()
            .is_some_and(|height| is_of_height(coinbase, height))
    };
    let has_height = !alone.payouts.is_empty() || coinbase.is_none_or(is_of_its);
    let payouts = || verify_payouts(coinbase, &alone.payouts);
    let verified = has_height.then_some(()).ok_or(Invalid::Height);
    verified
        .and_then(|()| payouts())
        .map_err(|reason| ImportError::InvalidPayout {
            path: from.to_owned(),
            reason,
        })
}

/// Payouts of one coinbase, as one file lists them.
fn verify_payouts(coinbase: Option<&Transaction>, payouts: &[Transaction]) -> Result<(), Invalid> {
    if payouts.len() > MAX_PAYOUTS {
        return Err(Invalid::TooMany);
    }
    let mut spent = BTreeSet::new();
    for payout in payouts {
        if let Some(coinbase) = coinbase {
            verify_payout(coinbase, payout)?;
            let mut inputs = payout.input.iter();
            if !inputs.all(|input| spent.insert(input.previous_output)) {
                return Err(Invalid::SpentTwice);
            }
        }
        single::check(payout).map_err(Invalid::NotAPayout)?;
    }
    Ok(())
}

/// Remembers whose payouts these are where no participant was made, and nobody else's were imported before.
/// Tells whose they are if somebody's were.
fn own(
    data_dir: &Path,
    manifest: Option<Manifest<IgnoredAny>>,
) -> Result<Option<String>, StoreError> {
    let Some(manifest) = manifest else {
        return Ok(None);
    };
    if data_dir.join(store::STATUS).exists() {
        return Ok(None);
    }
    let owner = data_dir.join(store::OWNER);
    let before: Option<String> = match store::read_json(&owner) {
        // It says nothing any more.
        Err(StoreError::Damaged { .. }) => None,
        before => before?,
    };
    match before {
        Some(before) if before == manifest.identity => Ok(None),
        Some(_) => Ok(Some(manifest.identity)),
        None => {
            store::write_json(&owner, &manifest.identity, Durability::Durable)?;
            Ok(None)
        }
    }
}

fn verify(held: &Held) -> Result<(), ImportError> {
    if !has_few_lanes(held) {
        return Err(ImportError::Invalid {
            seq: held.seq.0,
            lane: usize::from(LANES_LIMIT),
            reason: Invalid::TooManyLanes,
        });
    }
    for (number, lane) in held.lanes.iter().enumerate() {
        verify_lane(held, lane).map_err(|reason| ImportError::Invalid {
            seq: held.seq.0,
            lane: number,
            reason,
        })?;
    }
    Ok(())
}

fn has_few_lanes(held: &Held) -> bool {
    held.lanes.len() <= usize::from(LANES_LIMIT)
}

fn verify_lane(held: &Held, lane: &HeldLane) -> Result<(), Invalid> {
    if !is_of_height(&lane.coinbase, held.height) {
        return Err(Invalid::Height);
    }
    verify_payouts(Some(&lane.coinbase), &lane.payouts)?;
    match held.signers == 0 || is_complete(lane) {
        true => Ok(()),
        false => Err(Invalid::Incomplete),
    }
}

/// Whether it is a coinbase that says this height in both places: by its lock time (BIP54) and in its input (BIP34).
fn is_of_height(coinbase: &Transaction, height: u32) -> bool {
    let named = Builder::new().push_int(height.into()).into_script();
    let mut inputs = coinbase.input.iter();
    coinbase.is_coinbase()
        && height.checked_sub(1) == Some(coinbase.lock_time.to_consensus_u32())
        && inputs.all(|input| input.script_sig.as_bytes().starts_with(named.as_bytes()))
}

/// Whether each of the pool's outputs has one payout: a part of the shards is not what was signed.
fn is_complete(lane: &HeldLane) -> bool {
    let inputs = lane.payouts.iter().flat_map(|payout| &payout.input);
    let spent: BTreeSet<u32> = inputs.map(|input| input.previous_output.vout).collect();
    let outputs = (0u32..).zip(&lane.coinbase.output);
    // The commitment to witnesses is worth nothing.
    let mut pool = outputs.filter(|(_, output)| output.value > Amount::ZERO);
    lane.payouts.len() == spent.len() && pool.all(|(vout, _)| spent.contains(&vout))
}

/// Those that are valid. Of several for one output of the coinbase only one can be mined: the first.
pub(crate) fn valid_payouts(coinbase: &Transaction, payouts: &[Transaction]) -> Vec<Transaction> {
    let mut spent = BTreeSet::new();
    let valid = payouts
        .iter()
        .filter(|payout| verify_payout(coinbase, payout).is_ok());
    let valid = valid.filter(|payout| payout.input.iter().all(|i| spent.insert(i.previous_output)));
    valid.cloned().collect()
}

/// Whether a payout spends this coinbase, as nodes will take it.
pub(crate) fn verify_payout(coinbase: &Transaction, payout: &Transaction) -> Result<(), Invalid> {
    let [input] = payout.input.as_slice() else {
        return Err(Invalid::Form);
    };
    if payout.version != payout::PAYOUT_VERSION {
        return Err(Invalid::Form);
    }
    let vout = usize::try_from(input.previous_output.vout).ok();
    let spent = vout.and_then(|vout| coinbase.output.get(vout));
    let spent = spent.ok_or(Invalid::Coinbase)?;
    if input.previous_output.txid != coinbase.compute_txid() {
        return Err(Invalid::Coinbase);
    }
    if bump::fee(coinbase, payout).is_none() {
        return Err(Invalid::Amount);
    }
    verify_signature(payout, spent).ok_or(Invalid::Signature)
}

fn verify_signature(transaction: &Transaction, spent: &TxOut) -> Option<()> {
    let mut witness = transaction.input.first()?.witness.iter();
    let signature = schnorr::Signature::from_slice(witness.next()?).ok()?;
    if witness.next().is_some() || !spent.script_pubkey.is_p2tr() {
        return None;
    }
    let key = XOnlyPublicKey::from_slice(spent.script_pubkey.as_bytes().get(2..)?).ok()?;
    let sighash = payout::sighash(transaction, spent);
    let sighash = bitcoin::TapSighash::from_byte_array(sighash);
    Secp256k1::verification_only()
        .verify_schnorr(&signature, &Message::from(sighash), &key)
        .ok()
}

impl Imported {
    /// For persons.
    pub fn text(&self) -> String {
        let next = if self.restart {
            "restart the daemon, which looks for their blocks from then on"
        } else {
            "`tutti-participant watch` broadcasts what is ripe; `run` does too"
        };
        let mut text = format!(
            "took {} rounds ({} were held already); {next}\n",
            self.rounds, self.known
        );
        if let Some(other) = &self.of_another {
            text.push_str(&format!(
                "they are {other}'s, and this directory holds another's: what is shown as ours stays that one's; import them into a directory of their own to see theirs\n"
            ));
        }
        text
    }
}
