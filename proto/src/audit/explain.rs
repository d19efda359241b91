//! Where every sat of a block goes, and why.

use std::collections::BTreeMap;

use bitcoin::Txid;
use bitcoin::hashes::Hash;

use super::AuditError;
use crate::id::{Identity, LaneIndex, RoundId, RoundSeq, SerialId, WindowSeq};
use crate::payout::ANCHOR_SAT;
use crate::plan::{Amounts, PlanError, PlanView, unsigned_payouts};
use crate::split::operator_fee;
use crate::terms::CheckedTerms;
use crate::work::Work;

/// Work is broken down by windows for so many pairs of payee and span; for more it would fill memory,
/// and nobody would read it.
const BREAKDOWN_LIMIT: usize = 1_000_000;

/// From what a span's sums are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhereFrom {
    /// One window, of which every share was checked.
    Checked,
    /// Windows, of which every share was checked, summed by the ledger's schedule.
    CheckedAndMerged,
    /// At least partly from before the files: as the ledger's signed state says.
    Signed,
}

/// A window or a sum of windows that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanLine {
    /// Oldest window in it.
    pub first: WindowSeq,
    /// Newest window in it.
    pub last: WindowSeq,
    /// How often it was merged.
    pub level: u8,
    /// All work in it.
    pub total: Work,
    /// How much of that counts.
    pub counted: Work,
    /// From what it is known.
    pub from: WhereFrom,
}

/// One payout of the block's coinbase, or the coinbase itself in a direct round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidPayout {
    /// Its txid.
    pub txid: Txid,
    /// Value of the coinbase's output that it spends, sat; of the coinbase itself in a direct round.
    pub value: u64,
    /// Its fee, sat.
    pub fee: u64,
    /// Its anchor, sat.
    pub anchor: u64,
    /// What it pays to payees, sat.
    pub paid: u64,
}

/// One payee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayeeLine {
    /// Its place in the payouts.
    pub serial_id: SerialId,
    /// Who.
    pub identity: Identity,
    /// Its work that counts; of equal parts, 1.
    pub weight: Work,
    /// That work by span, in the order of the explanation's; empty if there is too much of it.
    pub by_span: Vec<Work>,
    /// What earlier blocks left owed to it (negative: overpaid), sat.
    pub carry_before: i64,
    /// The operator's fee, sat.
    pub fee: u64,
    /// What its weight earned of the rest, sat.
    pub earned: i64,
    /// What it is paid, sat.
    pub paid: u64,
    /// In which payout, and which output of that.
    pub output: Option<(usize, usize)>,
    /// What the block leaves owed to it, sat.
    pub carry_after: i64,
    /// Smallest amount that gets an output, sat.
    pub dust_limit: u64,
}

/// A block of a round's lane, to the sat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The round.
    pub round: RoundId,
    /// Its number.
    pub seq: RoundSeq,
    /// Height of the block.
    pub height: u32,
    /// The lane.
    pub lane: LaneIndex,
    /// The window after which it was proposed: later work is for later blocks.
    pub ledger: WindowSeq,
    /// Txid of the lane's coinbase.
    pub coinbase: Txid,
    /// Its value, sat.
    pub reward: u64,
    /// The operator's fee, sat.
    pub operator_fee: u64,
    /// Whether the coinbase pays the payees itself.
    pub direct: bool,
    /// What pays them.
    pub payouts: Vec<PaidPayout>,
    /// What of the operator's fee this block pays, sat: none if its output would be below its dust limit.
    pub operator_fee_paid: u64,
    /// Carries of earlier blocks that those who are paid are owed, sat.
    pub carries: i64,
    /// What the block leaves owed to those who are paid, sat; negative: paid in advance.
    pub left_owed: i64,
    /// What is left for weight among those who are paid, sat.
    pub rest: i64,
    /// All weight.
    pub weight: Work,
    /// Weight of those who are paid.
    pub weight_paid: Work,
    /// Nobody had worked: parts are equal.
    pub equal: bool,
    /// How much work counts at most (PPLNS).
    pub depth: Work,
    /// What counts, newest first.
    pub spans: Vec<SpanLine>,
    /// Everyone who could be paid, in the order of the payouts.
    pub payees: Vec<PayeeLine>,
}

impl Explanation {
    pub(super) fn of(
        view: &PlanView<'_>,
        terms: &CheckedTerms,
        lane: LaneIndex,
        amounts: &Amounts,
        replayed: Option<WindowSeq>,
    ) -> Result<Self, PlanError> {
        let inputs = &terms.terms().inputs;
        let depth = view.params.scoring_depth(inputs.bits);
        let counted = view.ledger.counted(view.params.scoring, depth)?;
        let from = |first: WindowSeq, level: u8| match replayed {
            Some(since) if first >= since && level == 0 => WhereFrom::Checked,
            Some(since) if first >= since => WhereFrom::CheckedAndMerged,
            _ => WhereFrom::Signed,
        };
        let spans: Vec<SpanLine> = counted
            .iter()
            .map(|counted| SpanLine {
                first: counted.first,
                last: counted.span.last,
                level: counted.span.level,
                total: counted.total,
                counted: counted.counted,
                from: from(counted.first, counted.span.level),
            })
            .collect();
        let coinbase = terms.coinbase(lane);
        let coinbase = coinbase.map_or(Txid::all_zeros(), |tx| tx.compute_txid());
        let (payouts, paid) = paid(view, terms, lane, amounts, coinbase)?;
        let registered = |who: &Identity| view.roster.active(who).is_some();
        let equal = !amounts.weights().keys().any(registered);
        let mut explained = Self {
            round: terms.round(),
            seq: inputs.seq,
            height: inputs.height,
            lane,
            ledger: inputs.ledger.seq,
            coinbase,
            reward: inputs.reward,
            operator_fee: operator_fee(inputs.reward, view.params.operator_fee_ppm),
            direct: inputs.is_direct(),
            payouts,
            operator_fee_paid: 0,
            carries: 0,
            left_owed: 0,
            rest: 0,
            weight: Work::ZERO,
            weight_paid: Work::ZERO,
            equal,
            depth,
            spans,
            payees: Vec::new(),
        };
        let after: BTreeMap<SerialId, i64> = amounts.carry_after().iter().copied().collect();
        let breakdown = amounts.accounts().len().saturating_mul(counted.len()) <= BREAKDOWN_LIMIT;
        for account in amounts.accounts() {
            let serial_id = account.serial_id;
            let Some(identity) = view.roster.payee(serial_id).map(|payee| payee.identity) else {
                continue;
            };
            let by_span = counted
                .iter()
                .filter(|_| breakdown && !equal)
                .map(|counted| {
                    let work = counted.span.tally.get(&identity).copied();
                    counted.part_of(work.unwrap_or_default())
                });
            let output = paid.get(&serial_id);
            explained.push(PayeeLine {
                serial_id,
                identity,
                weight: Work(account.weight),
                by_span: by_span.collect(),
                carry_before: account.carry,
                fee: match serial_id {
                    SerialId::OPERATOR => explained.operator_fee,
                    _ => 0,
                },
                earned: 0,
                paid: output.map_or(0, |(_, _, sat)| *sat),
                output: output.map(|(payout, output, _)| (*payout, *output)),
                carry_after: after.get(&serial_id).copied().unwrap_or(0),
                dust_limit: account.dust_limit,
            })?;
        }
        Ok(explained)
    }

    /// Adds a payee. What it earned is what it is paid and owed after, less what it had before: nothing
    /// else changes either.
    fn push(&mut self, mut line: PayeeLine) -> Result<(), PlanError> {
        let overflow = PlanError::Split(crate::split::SplitError::Overflow);
        let earned = line
            .carry_after
            .checked_add_unsigned(line.paid)
            .and_then(|sat| sat.checked_sub(line.carry_before))
            .and_then(|sat| sat.checked_sub_unsigned(line.fee));
        line.earned = earned.ok_or_else(|| overflow.clone())?;
        self.weight = self.weight.checked_add(line.weight)?;
        if line.output.is_some() {
            self.weight_paid = self.weight_paid.checked_add(line.weight)?;
            let add = |sum: i64, sat: i64| sum.checked_add(sat).ok_or(overflow.clone());
            self.operator_fee_paid = self.operator_fee_paid.saturating_add(line.fee);
            self.carries = add(self.carries, line.carry_before)?;
            self.left_owed = add(self.left_owed, line.carry_after)?;
            self.rest = add(self.rest, line.earned)?;
        }
        self.payees.push(line);
        Ok(())
    }

    /// Checks that all parts together are the coinbase's value, to the sat.
    pub(super) fn balanced(self, window: WindowSeq) -> Result<Self, AuditError> {
        let costs = self.payouts.iter();
        let costs = costs.map(|payout| payout.fee.saturating_add(payout.anchor));
        let payees = self.payees.iter().map(|payee| payee.paid);
        let sum = costs.chain(payees).fold(0, u64::saturating_add);
        match sum == self.reward {
            true => Ok(self),
            false => Err(AuditError::Unbalanced {
                window,
                round: self.round,
                sum,
                reward: self.reward,
            }),
        }
    }

    /// The lines of one identity: its active output's, as only that is paid.
    pub fn of_identity(&self, identity: &Identity) -> Option<&PayeeLine> {
        self.payees.iter().find(|line| line.identity == *identity)
    }
}

/// Payout, output, and sat.
type Paid = BTreeMap<SerialId, (usize, usize, u64)>;

/// What pays whom how much.
fn paid(
    view: &PlanView<'_>,
    terms: &CheckedTerms,
    lane: LaneIndex,
    amounts: &Amounts,
    coinbase: Txid,
) -> Result<(Vec<PaidPayout>, Paid), PlanError> {
    let mut paid = Paid::new();
    let mut payouts = Vec::new();
    let mut pay = |payout: usize, outputs: &[(SerialId, u64)]| {
        for (place, (serial_id, sat)) in outputs.iter().enumerate() {
            paid.insert(*serial_id, (payout, place, *sat));
        }
        outputs
            .iter()
            .fold(0, |sum: u64, (_, sat)| sum.saturating_add(*sat))
    };
    match amounts {
        Amounts::Signed(amounts) => {
            let split = &amounts.split;
            let unsigned = unsigned_payouts(&terms.terms().inputs, view, split, lane)?;
            for (place, (shard, tx)) in split.shards.iter().zip(&unsigned).enumerate() {
                payouts.push(PaidPayout {
                    txid: tx.compute_txid(),
                    value: shard.value,
                    fee: shard.fee,
                    anchor: ANCHOR_SAT,
                    paid: pay(place, &shard.outputs),
                });
            }
        }
        Amounts::Direct(amounts) => payouts.push(PaidPayout {
            txid: coinbase,
            value: terms.terms().inputs.reward,
            fee: 0,
            anchor: 0,
            paid: pay(0, &amounts.split.outputs),
        }),
    }
    Ok((payouts, paid))
}
