//! What came out of an audit: for programs as it is, for persons as a table.

use std::collections::BTreeSet;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use serde::{Serialize, Serializer};
use tutti_proto::audit::{BookingReport, CreditReport, Explanation, Totals, WinningShare};
use tutti_proto::id::{Identity, WindowSeq};
use tutti_proto::params::PoolName;
use tutti_proto::segment::Checkpoint;

use super::AuditArgs;
use super::why::Explained;

/// A sum of work: in JSON as text, since programs read large numbers as inexact ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work(pub u128);

impl Serialize for Work {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// One run of windows without a gap.
#[derive(Clone, Debug, Serialize)]
pub struct RunRow {
    pub first: u64,
    pub last: u64,
    /// First window before which payee set and ledger were known.
    pub state_since: Option<u64>,
    pub shares: u64,
    pub work: Work,
    /// Times that a window tells a round whose amounts were computed and compared.
    pub rounds_checked: u64,
    pub rounds_unchecked: u64,
    pub bookings_checked: u64,
    pub bookings_unchecked: u64,
    /// Bumps that were credited, each checked by its proof.
    pub credits_checked: u64,
    pub credits_unchecked: u64,
}

/// A state to start from, and whose word it is.
#[derive(Clone, Debug, Serialize)]
pub struct StateRow {
    /// It is the state after this one.
    pub window: u64,
    /// Identities that signed a round on it. 0: none did, so that it is the coordinator's word alone, and
    /// so it is if the coordinator is the only one.
    pub signers: u64,
}

/// A booking or unbooking of a block.
#[derive(Clone, Debug, Serialize)]
pub struct BlockRow {
    pub window: u64,
    pub block: String,
    pub height: u32,
    pub round: u64,
    pub lane: u16,
    /// The chain has lost it.
    pub undone: bool,
    pub carries: usize,
    pub carries_checked: bool,
    pub header_among_shares: bool,
}

/// A bump that a window credits.
#[derive(Clone, Debug, Serialize)]
pub struct CreditRow {
    pub window: u64,
    pub block: String,
    pub payout_txid: String,
    pub identity: String,
    pub sat: u32,
}

/// A window in which the identity of the why-view worked.
#[derive(Clone, Debug, Serialize)]
pub struct WorkedRow {
    pub window: u64,
    pub work: Work,
    pub of: Work,
}

/// The share that made the block.
#[derive(Clone, Debug, Serialize)]
pub struct FoundBy {
    pub window: u64,
    pub share: u64,
    pub owner: String,
    pub lane: u16,
    pub header: String,
}

/// All that an audit says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    pub holds: bool,
    /// The first difference, where one was found.
    pub difference: Option<String>,
    pub coordinator: String,
    pub network: String,
    pub windows: u64,
    pub shares: u64,
    pub work: Work,
    pub seconds: f64,
    pub shares_per_second: u64,
    pub runs: Vec<RunRow>,
    /// Windows that lie between those that are there.
    pub missing: Vec<(u64, u64)>,
    pub checkpoints: u64,
    /// Checkpoints on which a round was signed: its payout was compared with what follows.
    pub signed_checkpoints: u64,
    /// The checkpoints' states.
    pub states: Vec<StateRow>,
    pub blocks: Vec<BlockRow>,
    pub credits: Vec<CreditRow>,
    pub found_by: Option<FoundBy>,
    pub header_checked: bool,
    pub explained: Vec<Explained>,
    pub identity: Option<String>,
    pub worked: Vec<WorkedRow>,
    /// The identity's carry after a window, sat.
    pub carry: Option<(u64, i64)>,
    pub not_checked: Vec<String>,
    /// Files with which something is wrong, and that what was asked for does not need.
    pub passed_over: Vec<String>,
    #[serde(skip)]
    pub(super) notes: Vec<String>,
}

impl StateRow {
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        let signed = checkpoint.signed.iter();
        let signers = signed.flat_map(|signed| &signed.terms.inputs.signers);
        let signers: BTreeSet<_> = signers.map(|signer| signer.identity).collect();
        Self {
            window: checkpoint.head.head.seq.0,
            signers: signers.len() as u64,
        }
    }

    /// What it is worth, if that is nobody's word but the coordinator's.
    fn note(&self) -> Option<String> {
        let window = self.window;
        match self.signers {
            0 => Some(format!(
                "the state after window {window}: its checkpoint has no round that was signed on it, so it is the coordinator's word alone"
            )),
            1 => Some(format!(
                "the state after window {window}: the round of its checkpoint has one signer, so it is the coordinator's word alone"
            )),
            _ => None,
        }
    }
}

impl BlockRow {
    pub(super) fn of(window: WindowSeq, booking: &BookingReport) -> Self {
        let inputs = &booking.terms.terms().inputs;
        Self {
            window: window.0,
            block: BlockHash::from_byte_array(booking.block).to_string(),
            height: inputs.height,
            round: inputs.seq.0,
            lane: booking.lane.0,
            undone: booking.undone,
            carries: booking.carries,
            carries_checked: booking.checked,
            header_among_shares: booking.among_shares,
        }
    }
}

impl CreditRow {
    pub(super) fn of(window: WindowSeq, credit: &CreditReport) -> Self {
        Self {
            window: window.0,
            block: BlockHash::from_byte_array(credit.block).to_string(),
            payout_txid: credit.payout.to_string(),
            identity: credit.identity.to_string(),
            sat: credit.sat,
        }
    }
}

impl Outcome {
    pub(super) fn pool(&mut self, pool: &PoolName) {
        self.coordinator = pool.coordinator.to_string();
        self.network = pool.network.to_string();
    }

    pub(super) fn run(&mut self, totals: &Totals) {
        let Some((first, last)) = totals.windows else {
            return;
        };
        self.windows += (last.0 - first.0).saturating_add(1);
        self.shares = self.shares.saturating_add(totals.shares);
        self.work.0 = self.work.0.saturating_add(totals.work.0);
        self.runs.push(RunRow {
            first: first.0,
            last: last.0,
            state_since: totals.state_since.map(|window| window.0),
            shares: totals.shares,
            work: Work(totals.work.0),
            rounds_checked: totals.rounds_checked,
            rounds_unchecked: totals.rounds_unchecked,
            bookings_checked: totals.bookings_checked,
            bookings_unchecked: totals.bookings_unchecked,
            credits_checked: totals.credits_checked,
            credits_unchecked: totals.credits_unchecked,
        });
    }

    pub(super) fn missing(&mut self, first: WindowSeq, next: WindowSeq) {
        self.missing.push((first.0, next.0.saturating_sub(1)));
    }

    pub(super) fn identity_worked(
        &mut self,
        window: WindowSeq,
        work: tutti_proto::work::Work,
        of: tutti_proto::work::Work,
    ) {
        if work.0 > 0 {
            self.worked.push(WorkedRow {
                window: window.0,
                work: Work(work.0),
                of: Work(of.0),
            });
        }
    }

    pub(super) fn identity_carry(&mut self, window: WindowSeq, sat: i64) {
        self.carry = Some((window.0, sat));
    }

    pub(super) fn found_by(&mut self, found: &WinningShare) {
        self.found_by = Some(FoundBy {
            window: found.window.0,
            share: found.share,
            owner: found.owner.to_string(),
            lane: found.lane.0,
            header: hex::encode(found.header),
        });
    }

    pub(super) fn explain(
        &mut self,
        block: BlockHash,
        explanation: Explanation,
        why: Option<&Identity>,
    ) {
        // A block that was lost and came back pays what it paid.
        let block = block.to_string();
        self.explained.retain(|other| other.block != block);
        self.explained.push(Explained::of(block, &explanation, why));
    }

    /// Told once, however often it is met.
    pub(super) fn pass_over(&mut self, what: String) {
        if !self.passed_over.contains(&what) {
            self.passed_over.push(what);
        }
    }

    pub(super) fn took(&mut self, took: Duration) {
        self.seconds = took.as_secs_f64();
        let rate = self.shares as f64 / self.seconds.max(1e-6);
        self.shares_per_second = rate as u64;
    }

    /// Says what was not checked, and why.
    pub(super) fn name_unchecked(&mut self, args: &AuditArgs) {
        self.identity = args.identity.map(|who| who.to_string());
        let mut notes = std::mem::take(&mut self.notes);
        for (first, last) in &self.missing {
            notes.push(match first == last {
                true => format!("window {first} is not among the files: what builds on it stands for itself"),
                false => format!("windows {first} to {last} are not among the files: what builds on them stands for itself"),
            });
        }
        // A state that was computed from the first window on needs nobody's word.
        let is_computed = |state: &&StateRow| {
            let mut runs = self.runs.iter();
            runs.any(|run| run.first == 1 && run.last >= state.window)
        };
        let taken = self.states.iter().filter(|state| !is_computed(state));
        notes.extend(taken.filter_map(StateRow::note));
        for run in &self.runs {
            if run.first > 1 {
                notes.push(format!(
                    "shares before window {}: one that was counted there and again later is not found",
                    run.first
                ));
            }
            match run.state_since {
                None => notes.push(format!(
                    "payee set, carries and amounts of windows {} to {}: their state is not known; start from window 1 or add a checkpoint",
                    run.first, run.last
                )),
                Some(since) if since > run.first => notes.push(format!(
                    "payee set, carries and amounts of windows {} to {}: the state is known from window {since} on",
                    run.first, since - 1
                )),
                Some(_) => {}
            }
            if run.state_since.is_some() && run.rounds_unchecked > 0 {
                notes.push(format!(
                    "amounts of rounds told {} times in windows {} to {}: they were proposed on a state from before the files",
                    run.rounds_unchecked, run.first, run.last
                ));
            }
            if run.bookings_unchecked > 0 {
                notes.push(format!(
                    "carries of {} bookings in windows {} to {}: the state that their rounds were proposed on is not known",
                    run.bookings_unchecked, run.first, run.last
                ));
            }
            if run.credits_unchecked > 0 {
                notes.push(format!(
                    "{} credits for bumps in windows {} to {}: the state before them is not known",
                    run.credits_unchecked, run.first, run.last
                ));
            }
        }
        let is_apart = |block: &&BlockRow| !block.undone && !block.header_among_shares;
        let apart = self.blocks.iter().filter(is_apart).count();
        if apart > 0 && !self.header_checked {
            notes.push(format!(
                "headers of {apart} booked blocks: they are not among the shares (give one with --block and --header)"
            ));
        }
        notes.push(
            "previous blocks, heights, targets, fees and whether a found block is in the best chain: no node is asked"
                .to_owned(),
        );
        self.not_checked = notes;
    }
}
