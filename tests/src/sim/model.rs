//! What must come out, computed from what was seen: a second, slow telling of ledger and split that
//! shares no arithmetic with the protocol's crate.

use std::collections::BTreeMap;

use tutti_proto::coordinator::Record;
use tutti_proto::id::{Identity, SerialId};
use tutti_proto::message::{TxAddOutput, TxRemoveOutput};
use tutti_proto::plan::RoundInputs;
use tutti_proto::segment::WindowEnd;
use tutti_proto::share::ShareRecord;
use tutti_proto::split::{Account, SplitInput};
use tutti_proto::window::{Scoring, WindowRecord};

#[allow(
    clippy::unwrap_used,
    reason = "shared with the tests of the crate it judges"
)]
#[path = "../../../proto/tests/support/reference_split.rs"]
mod reference_split;

/// Summed windows: how often merged, the newest's height, and each identity's work.
type Span = (u8, u32, BTreeMap<Identity, u128>);

/// Payees, windows, carries, as an observer of all accepted messages knows them.
#[derive(Clone, Default)]
pub struct Model {
    /// In the order in which they were added.
    outputs: Vec<TxAddOutput>,
    open: BTreeMap<Identity, u128>,
    spans: Vec<Span>,
    carry: BTreeMap<Identity, i64>,
}

/// What a round must pay to each script, and how a block of it changes the carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub amounts: BTreeMap<Vec<u8>, u64>,
    pub carry: BTreeMap<Identity, i64>,
}

impl Model {
    /// Follows what the coordinator made durable. Says what is wrong with it.
    pub fn follow(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::OutputAdded(output) => self.outputs.push(output.clone()),
            Record::OutputRemoved(TxRemoveOutput { serial_id, .. })
            | Record::OutputExpired(serial_id) => {
                self.outputs.retain(|output| output.serial_id != *serial_id);
            }
            Record::Share { share, .. } => self.share(share)?,
            Record::WindowClosed(end) => self.close(&end.record)?,
            Record::Committed(_)
            | Record::Terms(..)
            | Record::Live { .. }
            | Record::JobsIssued { .. }
            | Record::LiveStale(_)
            | Record::LiveForgotten(_)
            | Record::KeptAhead(_)
            | Record::Candidate(_)
            | Record::Verdict { .. }
            | Record::BlockFate { .. }
            | Record::WindowOpened { .. }
            | Record::Credit(_) => {}
        }
        Ok(())
    }

    /// Takes a record of a past whose shares nobody saw.
    pub fn restore(&mut self, record: &Record) {
        if let Record::WindowClosed(WindowEnd { record: window, .. }) = record {
            let tally = window.tally.iter();
            self.open = tally.map(|(who, work)| (*who, work.0)).collect();
        }
        // Its own tally cannot differ from it.
        let _ = self.follow(record);
    }

    fn share(&mut self, share: &ShareRecord) -> Result<(), String> {
        // Bytes from the end of the hash, as it is shown to people.
        let hash = {
            use bitcoin::hashes::{Hash, sha256d};
            sha256d::Hash::hash(&share.header).to_byte_array()
        };
        let shown = u128::from_le_bytes(hash[16..].try_into().unwrap_or([0xff; 16]));
        if shown.leading_zeros() < u32::from(share.z) {
            return Err(format!(
                "a share has fewer than {} leading zero bits",
                share.z
            ));
        }
        *self.open.entry(share.identity).or_default() += 1u128 << share.z;
        Ok(())
    }

    fn close(&mut self, window: &WindowRecord) -> Result<(), String> {
        let mut tally = std::mem::take(&mut self.open);
        let recorded: BTreeMap<Identity, u128> = window
            .tally
            .iter()
            .map(|(who, work)| (*who, work.0))
            .collect();
        if recorded != tally {
            return Err(format!(
                "window {} has another tally than its shares",
                window.seq
            ));
        }
        tally.retain(|_, work| *work > 0);
        self.spans.push((0, window.height, tally));
        for level in 0.. {
            let of_level = |span: &Span| span.0 == level;
            if self.spans.iter().filter(|span| of_level(span)).count() < 128 {
                break;
            }
            let first = self.spans.iter().position(of_level).unwrap_or(0);
            let mut merged: Span = (level + 1, 0, BTreeMap::new());
            for (_, height, tally) in self.spans.drain(first..first + 64) {
                merged.1 = height;
                for (who, work) in tally {
                    *merged.2.entry(who).or_default() += work;
                }
            }
            self.spans.insert(first, merged);
        }
        for (who, sat) in window.bookings.iter().flat_map(|booking| &booking.carry) {
            *self.carry.entry(*who).or_default() += sat;
        }
        for credit in &window.credits {
            *self.carry.entry(credit.identity).or_default() += i64::from(credit.sat);
        }
        self.carry.retain(|_, sat| *sat != 0);
        Ok(())
    }

    fn epoch(&self) -> BTreeMap<Identity, u128> {
        let worked = |span: &&Span| !span.2.is_empty();
        let Some((_, newest, _)) = self.spans.iter().rfind(worked) else {
            return BTreeMap::new();
        };
        let of_epoch = self.spans.iter().filter(|(_, height, _)| height == newest);
        let mut weights: BTreeMap<Identity, u128> = BTreeMap::new();
        for (who, work) in of_epoch.flat_map(|(_, _, tally)| tally) {
            *weights.entry(*who).or_default() += work;
        }
        weights
    }

    fn weights(&self, mut depth: u128) -> BTreeMap<Identity, u128> {
        let mut weights: BTreeMap<Identity, u128> = BTreeMap::new();
        for (_, _, tally) in self.spans.iter().rev() {
            let sum: u128 = tally.values().sum();
            if sum == 0 {
                continue;
            }
            let counted = sum.min(depth);
            for (who, work) in tally {
                *weights.entry(*who).or_default() += work * counted / sum;
            }
            depth -= counted;
            if depth == 0 {
                break;
            }
        }
        weights.retain(|_, work| *work > 0);
        weights
    }

    /// The active output of each identity, in serial_id order.
    fn payees(&self) -> BTreeMap<SerialId, &TxAddOutput> {
        let newest: BTreeMap<Identity, &TxAddOutput> = self
            .outputs
            .iter()
            .map(|output| (output.identity, output))
            .collect();
        newest
            .into_values()
            .map(|output| (output.serial_id, output))
            .collect()
    }

    /// What a round that is proposed now must pay.
    pub fn expected(
        &self,
        inputs: &RoundInputs,
        coordinator: &Identity,
        terms: Terms,
    ) -> Option<Expected> {
        let payees = self.payees();
        let weights = match terms.scoring {
            Scoring::Pplns => self.weights(terms.depth),
            Scoring::Epoch => self.epoch(),
        };
        let registered = |who: &Identity| payees.values().any(|payee| payee.identity == *who);
        let worked = weights.keys().any(registered);
        let signs = |who: &Identity| inputs.signers.iter().any(|signer| signer.identity == *who);
        let others = |who: &Identity| who != coordinator && registered(who);
        let any_signs = payees
            .values()
            .any(|p| others(&p.identity) && signs(&p.identity));
        let any_other = payees.values().any(|p| others(&p.identity));
        let equal = |who: &Identity| match (any_signs, any_other) {
            (true, _) => others(who) && signs(who),
            (false, true) => others(who),
            (false, false) => who == coordinator,
        };
        let account = |(serial_id, payee): (&SerialId, &&TxAddOutput)| Account {
            serial_id: *serial_id,
            dust_limit: 330, // All scripts of the simulation are P2TR.
            output_size: 43,
            weight: match worked {
                true => weights.get(&payee.identity).copied().unwrap_or(0),
                false => u128::from(equal(&payee.identity)),
            },
            carry: self.carry.get(&payee.identity).copied().unwrap_or(0),
        };
        let accounts: Vec<Account> = payees.iter().map(account).collect();
        let (amounts, after) = if inputs.signers.is_empty() {
            let direct = reference_split::reference_direct(
                inputs.reward,
                terms.operator_fee_ppm,
                terms.direct_payees,
                &accounts,
            )?;
            (direct.outputs, direct.carry_after)
        } else {
            let split = reference_split::reference(&SplitInput {
                reward: inputs.reward,
                feerate: inputs.feerate,
                operator_fee_ppm: terms.operator_fee_ppm,
                shards_max: terms.shards_max,
                accounts: &accounts,
            })?;
            let outputs = split.shards.into_iter().flat_map(|(outputs, _)| outputs);
            (outputs.collect::<Vec<_>>(), split.carry_after)
        };
        let carry = accounts.iter().filter_map(|account| {
            let after = after.get(&account.serial_id.0).copied().unwrap_or(0);
            let who = payees.get(&account.serial_id)?.identity;
            (after != account.carry).then_some((who, after - account.carry))
        });
        let carry = carry.collect();
        let script = |(id, sat): (u64, u64)| {
            let payee = payees.get(&SerialId(id))?;
            Some((payee.script.as_script().to_bytes(), sat))
        };
        let amounts = amounts.into_iter().filter_map(script).collect();
        Some(Expected { carry, amounts })
    }
}

/// The pool's parameters as far as amounts depend on them.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub scoring: Scoring,
    pub depth: u128,
    pub operator_fee_ppm: u32,
    pub shards_max: usize,
    pub direct_payees: usize,
}
