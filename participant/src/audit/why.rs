//! "Why did I get this amount": a block's explanation, for programs and in sentences.

use std::fmt::Write;

use serde::Serialize;
use tutti_proto::audit::{Explanation, PayeeLine, WhereFrom};
use tutti_proto::id::Identity;

use super::hashes;
use super::outcome::Work;
use crate::amount::{both, grouped, signed};

/// Spans that are listed one by one; the others are summed.
const SPANS_SHOWN: usize = 12;

/// A block, to the sat.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    pub block: String,
    pub height: u32,
    pub round: u64,
    pub round_id: String,
    pub lane: u16,
    /// Windows after this one count for later blocks.
    pub last_window: u64,
    pub coinbase: String,
    pub direct: bool,
    pub reward: u64,
    pub operator_fee: u64,
    /// What of it this block pays; what it does not is owed to the operator.
    pub operator_fee_paid: u64,
    pub payout_fees: u64,
    pub anchors: u64,
    /// Carries of earlier blocks, of those who are paid, sat.
    pub carries: i64,
    /// What the block leaves owed to those who are paid, sat; negative: paid in advance.
    pub left_owed: i64,
    /// What is split by work among those who are paid, sat.
    pub rest: i64,
    pub weight: Work,
    pub weight_paid: Work,
    /// Nobody had worked: parts are equal.
    pub equal: bool,
    pub depth: Work,
    pub payees_all: usize,
    pub payees_paid: usize,
    pub paid_to_payees: u64,
    pub payouts: Vec<PayoutRow>,
    pub spans: Vec<SpanRow>,
    pub payees: Vec<PayeeRow>,
    #[serde(skip)]
    is_why: bool,
}

/// A payout.
#[derive(Clone, Debug, Serialize)]
pub struct PayoutRow {
    pub txid: String,
    pub value: u64,
    pub fee: u64,
    pub anchor: u64,
    pub paid: u64,
}

/// A window, or a sum of windows.
#[derive(Clone, Debug, Serialize)]
pub struct SpanRow {
    pub first: u64,
    pub last: u64,
    pub level: u8,
    pub total: Work,
    pub counted: Work,
    /// `checked`, `checked_and_merged`, or `signed`: from before the files, as the head says that the
    /// coordinator signed; who signed it too, the outcome's `states` say.
    pub from: &'static str,
}

/// A payee.
#[derive(Clone, Debug, Serialize)]
pub struct PayeeRow {
    pub identity: String,
    pub serial_id: u64,
    pub weight: Work,
    pub by_span: Vec<Work>,
    pub carry_before: i64,
    pub operator_fee: u64,
    pub earned: i64,
    pub paid: u64,
    pub payout: Option<String>,
    pub output: Option<usize>,
    pub carry_after: i64,
    pub dust_limit: u64,
}

impl Explained {
    pub(super) fn of(block: String, explained: &Explanation, why: Option<&Identity>) -> Self {
        let payee = |line: &PayeeLine| PayeeRow {
            identity: line.identity.to_string(),
            serial_id: line.serial_id.0,
            weight: Work(line.weight.0),
            by_span: line.by_span.iter().map(|work| Work(work.0)).collect(),
            carry_before: line.carry_before,
            operator_fee: line.fee,
            earned: line.earned,
            paid: line.paid,
            payout: line.output.and_then(|(payout, _)| {
                let payout = explained.payouts.get(payout)?;
                Some(payout.txid.to_string())
            }),
            output: line.output.map(|(_, output)| output),
            carry_after: line.carry_after,
            dust_limit: line.dust_limit,
        };
        let shown = |line: &&PayeeLine| why.is_none_or(|who| line.identity == *who);
        let payouts = explained.payouts.iter();
        let paid = explained.payees.iter().filter(|line| line.output.is_some());
        Self {
            block,
            height: explained.height,
            round: explained.seq.0,
            round_id: explained.round.to_string(),
            lane: explained.lane.0,
            last_window: explained.ledger.0,
            coinbase: explained.coinbase.to_string(),
            direct: explained.direct,
            reward: explained.reward,
            operator_fee: explained.operator_fee,
            operator_fee_paid: explained.operator_fee_paid,
            payout_fees: payouts.clone().map(|payout| payout.fee).sum(),
            anchors: payouts.clone().map(|payout| payout.anchor).sum(),
            carries: explained.carries,
            left_owed: explained.left_owed,
            rest: explained.rest,
            weight: Work(explained.weight.0),
            weight_paid: Work(explained.weight_paid.0),
            equal: explained.equal,
            depth: Work(explained.depth.0),
            payees_all: explained.payees.len(),
            payees_paid: paid.clone().count(),
            paid_to_payees: paid.map(|line| line.paid).sum(),
            payouts: payouts
                .map(|payout| PayoutRow {
                    txid: payout.txid.to_string(),
                    value: payout.value,
                    fee: payout.fee,
                    anchor: payout.anchor,
                    paid: payout.paid,
                })
                .collect(),
            spans: explained
                .spans
                .iter()
                .map(|span| SpanRow {
                    first: span.first.0,
                    last: span.last.0,
                    level: span.level,
                    total: Work(span.total.0),
                    counted: Work(span.counted.0),
                    from: match span.from {
                        WhereFrom::Checked => "checked",
                        WhereFrom::CheckedAndMerged => "checked_and_merged",
                        WhereFrom::Signed => "signed",
                    },
                })
                .collect(),
            payees: explained.payees.iter().filter(shown).map(payee).collect(),
            is_why: why.is_some(),
        }
    }

    /// For persons.
    pub(super) fn text(&self) -> String {
        let mut text = self.head();
        match self.is_why {
            false => text += &self.payees_text(),
            true => match self.payees.first() {
                Some(payee) => text += &self.why(payee),
                None => {
                    text += "  this participant had no output in this round's payee set: it is not paid by this block\n"
                }
            },
        }
        text
    }

    fn head(&self) -> String {
        let mut text = format!(
            "block {}\n  height {}, round {} ({:.16}), lane {}, coinbase {}\n",
            self.block, self.height, self.round, self.round_id, self.lane, self.coinbase
        );
        let mut line = |sign: char, sat: String, words: &str| {
            let _ = writeln!(text, "{sign} {sat:>40}  {words}");
        };
        line(' ', both(self.reward), "value of the coinbase");
        let owed = match self.operator_fee_paid == self.operator_fee {
            true => "operator's fee".to_owned(),
            false => format!(
                "operator's fee: {} would be below the dust limit of its output, and are owed to it",
                both(self.operator_fee)
            ),
        };
        line('-', both(self.operator_fee_paid), &owed);
        if !self.direct {
            line('-', both(self.payout_fees), "fees of the payouts");
            line('-', both(self.anchors), "their anchors");
        }
        let words = "owed from earlier blocks to those who are paid (negative: they were overpaid)";
        line('-', signed(self.carries), words);
        if self.left_owed != 0 {
            let words =
                "left owed to them (negative: paid in advance, for those who could not be paid)";
            line('+', signed(self.left_owed), words);
        }
        let words = format!(
            "split {} among the {} of {} payees that are paid",
            match self.equal {
                true => "in equal parts, as nobody had worked,",
                false => "by work",
            },
            self.payees_paid,
            self.payees_all,
        );
        line('=', signed(self.rest), &words);
        for payout in &self.payouts {
            let _ = match self.direct {
                true => writeln!(
                    text,
                    "  the coinbase itself pays {} to payees",
                    both(payout.paid)
                ),
                false => writeln!(
                    text,
                    "  payout {}: {} = {} to payees + {} fee + {} anchor",
                    payout.txid,
                    both(payout.value),
                    both(payout.paid),
                    both(payout.fee),
                    both(payout.anchor)
                ),
            };
        }
        let sum = self.paid_to_payees + self.payout_fees + self.anchors;
        let _ = writeln!(
            text,
            "  together {}, to the sat the coinbase's value",
            both(sum)
        );
        text
    }

    fn payees_text(&self) -> String {
        let mut text = self.spans_text(None);
        let _ = writeln!(
            text,
            "  {:<16}  {:>20}  {:>9}  {:>12}  {:>12}  {:>36}  {:>12}  output",
            "payee", "work that counts", "part", "before, sat", "earned, sat", "paid", "owed, sat"
        );
        for payee in &self.payees {
            let _ = writeln!(
                text,
                "  {:.16}  {:>20}  {:>9}  {:>12}  {:>12}  {:>36}  {:>12}  {}",
                payee.identity,
                hashes(payee.weight),
                percent(payee.weight, self.weight),
                plain(payee.carry_before),
                plain(payee.earned.saturating_add_unsigned(payee.operator_fee)),
                both(payee.paid),
                plain(payee.carry_after),
                place(payee),
            );
        }
        text
    }

    /// Windows that count, newest first; with one payee's work, where it is asked for.
    fn spans_text(&self, payee: Option<&PayeeRow>) -> String {
        if self.equal || self.spans.is_empty() {
            return String::new();
        }
        let oldest = self.spans.last().map_or(0, |span| span.first);
        let mut text = format!(
            "  work that counts: from window {} back to {oldest}, up to {} hashes\n",
            self.last_window,
            hashes(self.depth)
        );
        let by_span = payee.map(|payee| &payee.by_span[..]).unwrap_or_default();
        let mut others = (0usize, 0u128, 0u128);
        for (place, span) in self.spans.iter().enumerate() {
            let own = by_span.get(place).map_or(0, |work| work.0);
            let last = place + 1 == self.spans.len();
            if place >= SPANS_SHOWN && !last {
                others.0 += 1;
                others.1 = others.1.saturating_add(span.counted.0);
                others.2 = others.2.saturating_add(own);
                continue;
            }
            if last && others.0 > 0 {
                let own = match payee {
                    Some(_) => format!(", {} of them yours", grouped(others.2)),
                    None => String::new(),
                };
                let _ = writeln!(
                    text,
                    "    and {} more: {} hashes{own}",
                    others.0,
                    grouped(others.1)
                );
            }
            text += &span.text(payee.map(|_| own));
        }
        if self.spans.iter().any(|span| span.from == "signed") {
            text += "    (before the files: not recomputed here from shares, but the ledger's state, which the head commits to)\n";
        }
        text
    }

    fn why(&self, payee: &PayeeRow) -> String {
        let mut text = format!("you are {}\n", payee.identity);
        if self.equal {
            text += "  nobody had worked when this round was proposed: parts are equal\n";
        } else {
            text += &self.spans_text(Some(payee));
            let _ = writeln!(
                text,
                "  you did {} of the {} hashes that count: {}",
                hashes(payee.weight),
                hashes(self.weight),
                percent(payee.weight, self.weight)
            );
        }
        let by_weight = payee.output.is_some() && self.weight_paid.0 > 0 && self.rest > 0;
        let earned = match by_weight {
            true => format!(
                "  {:>40}  your part: {} x {} / {}, rounded to whole sats (largest remainder)\n",
                signed(payee.earned),
                both(self.rest.unsigned_abs()),
                hashes(payee.weight),
                hashes(self.weight_paid)
            ),
            false => format!(
                "  {:>40}  your part of what is split\n",
                signed(payee.earned)
            ),
        };
        text += &earned;
        if payee.operator_fee > 0 {
            let _ = writeln!(text, "+ {:>40}  operator's fee", both(payee.operator_fee));
        }
        let _ = writeln!(
            text,
            "+ {:>40}  owed to you from earlier blocks (negative: you were overpaid)",
            signed(payee.carry_before)
        );
        let _ = writeln!(
            text,
            "- {:>40}  left owed to you after this block (negative: paid in advance)",
            signed(payee.carry_after)
        );
        let _ = match (&payee.payout, payee.output) {
            (Some(txid), Some(output)) => writeln!(
                text,
                "= {:>40}  paid to you: output {output} of {} {txid}",
                both(payee.paid),
                if self.direct { "coinbase" } else { "payout" }
            ),
            _ => writeln!(
                text,
                "= {:>40}  not paid by this block: an output needs {} at least, and a place in a payout",
                both(payee.paid),
                both(payee.dust_limit)
            ),
        };
        text
    }
}

impl SpanRow {
    fn text(&self, own: Option<u128>) -> String {
        let windows = match self.first == self.last {
            true => format!("window {}", self.first),
            false => format!("windows {} to {}", self.first, self.last),
        };
        let mut text = format!("    {windows}: {} hashes", hashes(self.total));
        if self.counted != self.total {
            let _ = write!(text, ", of which {} count (pro rata)", hashes(self.counted));
        }
        if let Some(own) = own {
            let _ = write!(text, ", {} of them yours", grouped(own));
        }
        text += match self.from {
            "checked" => "",
            "checked_and_merged" => ", summed by the ledger's schedule",
            _ => ", from before the files",
        };
        text.push('\n');
        text
    }
}

fn place(payee: &PayeeRow) -> String {
    match (&payee.payout, payee.output) {
        (Some(txid), Some(output)) => format!("{txid:.16}:{output}"),
        _ => "none: below its dust limit, or no room".to_owned(),
    }
}

fn plain(sat: i64) -> String {
    let sign = if sat < 0 { "-" } else { "" };
    format!("{sign}{}", grouped(sat.unsigned_abs()))
}

fn percent(part: Work, whole: Work) -> String {
    match whole.0 {
        0 => "-".to_owned(),
        whole => format!("{:.4} %", part.0 as f64 * 100.0 / whole as f64),
    }
}
