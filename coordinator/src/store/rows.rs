//! The protobuf messages of what the wire has no type for, and what they are read into.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Transaction, TxOut};
use prost::Message;
use tutti_proto::coordinator::{Committed, Fate, Found};
use tutti_proto::id::{Identity, LaneIndex, RoundId, RoundSeq};
use tutti_proto::payout::SignedPayouts;
use tutti_proto::window::{BlockPayouts, payees_digest};

use super::RecordError;

#[derive(Clone, PartialEq, Message)]
pub(super) struct OutputExpiredRow {
    #[prost(uint64, tag = "1")]
    pub(super) serial_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WindowOpenedRow {
    #[prost(uint32, tag = "1")]
    pub(super) height: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CommittedRow {
    #[prost(bytes = "vec", tag = "1")]
    round: Vec<u8>,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(uint32, tag = "3")]
    height: u32,
    #[prost(message, repeated, tag = "4")]
    lanes: Vec<LaneRow>,
    #[prost(message, repeated, tag = "5")]
    shards: Vec<ShardRow>,
    /// Lane by lane, within a lane shard by shard; 64 bytes each.
    #[prost(bytes = "vec", tag = "6")]
    signatures: Vec<u8>,
}

/// What the payouts of a shard have in common.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ShardRow {
    /// As in a transaction.
    #[prost(bytes = "vec", tag = "1")]
    outputs: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LaneRow {
    #[prost(bytes = "vec", tag = "1")]
    coinbase: Vec<u8>,
    /// Written by format 5, which had no shards.
    #[prost(bytes = "vec", repeated, tag = "2")]
    payouts: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CandidateRow {
    #[prost(bytes = "vec", tag = "1")]
    hash: Vec<u8>,
    #[prost(uint32, tag = "2")]
    height: u32,
    #[prost(bytes = "vec", tag = "3")]
    round: Vec<u8>,
    #[prost(uint32, tag = "4")]
    lane: u32,
    #[prost(bytes = "vec", tag = "5")]
    finder: Vec<u8>,
    #[prost(message, repeated, tag = "6")]
    carry: Vec<CarryRow>,
    #[prost(uint64, tag = "7")]
    seq: u64,
    #[prost(bytes = "vec", tag = "8")]
    header: Vec<u8>,
    #[prost(uint32, tag = "9")]
    bits: u32,
    #[prost(uint32, tag = "10")]
    bump_credit: u32,
    #[prost(uint32, tag = "11")]
    bump_credit_after: u32,
    #[prost(bytes = "vec", tag = "12")]
    coinbase: Vec<u8>,
    #[prost(message, repeated, tag = "13")]
    payees: Vec<PayeesRow>,
}

/// Whom a payout pays: identities, one after the other.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PayeesRow {
    #[prost(bytes = "vec", tag = "1")]
    identities: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CarryRow {
    #[prost(bytes = "vec", tag = "1")]
    identity: Vec<u8>,
    #[prost(sint64, tag = "2")]
    sat: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VerdictRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) hash: Vec<u8>,
    #[prost(bool, tag = "2")]
    pub(super) accepted: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BlockFateRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) hash: Vec<u8>,
    /// 1: lost, 2: back, 3: settled.
    #[prost(uint32, tag = "2")]
    pub(super) fate: u32,
}

pub(super) const FATES: [Fate; 3] = [Fate::Lost, Fate::Back, Fate::Settled];

pub(super) fn row<M: Message + Default>(content: &[u8]) -> Result<M, RecordError> {
    M::decode(content).map_err(|error| RecordError::Protobuf(error.to_string()))
}

pub(super) fn array<const N: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], RecordError> {
    bytes.try_into().map_err(|_| RecordError::Field(field))
}

pub(super) fn identity(field: &'static str, bytes: &[u8]) -> Result<Identity, RecordError> {
    Identity::parse(&array(field, bytes)?).map_err(|_| RecordError::Field(field))
}

pub(super) fn transaction(bytes: &[u8]) -> Result<Transaction, RecordError> {
    deserialize(bytes).map_err(|_| RecordError::Field("transaction"))
}

pub(super) fn committed_row(committed: &Committed) -> CommittedRow {
    let lane = |coinbase: &Transaction| LaneRow {
        coinbase: serialize(coinbase),
        payouts: Vec::new(),
    };
    let shard = |outputs: &Vec<TxOut>| ShardRow {
        outputs: serialize(outputs),
    };
    CommittedRow {
        round: committed.round.0.to_vec(),
        seq: committed.seq.0,
        height: committed.height,
        lanes: committed.coinbases.iter().map(lane).collect(),
        shards: committed.payouts.shards().iter().map(shard).collect(),
        signatures: committed.payouts.signatures().concat(),
    }
}

pub(super) fn committed(row: CommittedRow) -> Result<Committed, RecordError> {
    let transactions = |all: &[Vec<u8>]| all.iter().map(|bytes| transaction(bytes)).collect();
    let coinbases = row.lanes.iter().map(|lane| transaction(&lane.coinbase));
    let coinbases = coinbases.collect::<Result<Vec<Transaction>, _>>()?;
    let before = row.lanes.iter().map(|lane| transactions(&lane.payouts));
    let before = before.collect::<Result<Vec<Vec<Transaction>>, _>>()?;
    let payouts = if before.iter().all(Vec::is_empty) {
        let outputs = |shard: &ShardRow| deserialize(&shard.outputs);
        let shards = row.shards.iter().map(outputs).collect::<Result<_, _>>();
        let shards = shards.map_err(|_| RecordError::Field("outputs"))?;
        let (signatures, rest) = row.signatures.as_chunks::<64>();
        let signatures = rest.is_empty().then(|| signatures.to_vec());
        signatures.and_then(|all| SignedPayouts::new(coinbases.len(), Arc::new(shards), all))
    } else {
        of_transactions(&coinbases, &before)
    };
    Ok(Committed {
        round: RoundId(array("round", &row.round)?),
        seq: RoundSeq(row.seq),
        height: row.height,
        payouts: payouts.ok_or(RecordError::Field("payouts"))?,
        coinbases,
    })
}

/// What whole payouts, as format 5 has them, have in common, and their signatures.
fn of_transactions(
    coinbases: &[Transaction],
    payouts: &[Vec<Transaction>],
) -> Option<SignedPayouts> {
    let outputs = |payout: &Transaction| payout.output.clone();
    let shards = payouts.first()?.iter().map(outputs).collect();
    let signature = |payout: &Transaction| payout.input.first()?.witness.nth(0)?.try_into().ok();
    let signatures = payouts.iter().flatten().map(signature);
    let all = SignedPayouts::new(
        coinbases.len(),
        Arc::new(shards),
        signatures.collect::<Option<_>>()?,
    )?;
    let mut lanes = coinbases.iter().zip(payouts).enumerate();
    let same = lanes.all(|(lane, (coinbase, payouts))| all.of_lane(lane, coinbase) == *payouts);
    same.then_some(all)
}

pub(super) fn candidate_row(found: &Found) -> CandidateRow {
    CandidateRow {
        hash: found.hash.to_vec(),
        height: found.height,
        round: found.round.0.to_vec(),
        lane: u32::from(found.lane.0),
        finder: found.finder.as_bytes().to_vec(),
        carry: carry_rows(&found.carry),
        seq: found.seq.0,
        header: found.header.to_vec(),
        bits: found.payouts.bits,
        bump_credit: found.payouts.bump_credit,
        bump_credit_after: u32::from(found.payouts.bump_credit_after),
        coinbase: found.payouts.coinbase.to_vec(),
        payees: payees_rows(&found.payees),
    }
}

pub(super) fn candidate(row: CandidateRow) -> Result<Found, RecordError> {
    let lane = u16::try_from(row.lane).map_err(|_| RecordError::Field("lane"))?;
    let after = u16::try_from(row.bump_credit_after);
    let payees = payees(&row.payees)?;
    Ok(Found {
        hash: array("hash", &row.hash)?,
        height: row.height,
        seq: RoundSeq(row.seq),
        round: RoundId(array("round", &row.round)?),
        lane: LaneIndex(lane),
        finder: identity("finder", &row.finder)?,
        carry: carries(&row.carry)?,
        header: array("header", &row.header)?,
        payouts: BlockPayouts {
            height: row.height,
            bits: row.bits,
            bump_credit: row.bump_credit,
            bump_credit_after: after.map_err(|_| RecordError::Field("bump_credit_after"))?,
            coinbase: array("coinbase", &row.coinbase)?,
            shards: payees.iter().map(|of| payees_digest(of)).collect(),
        },
        payees,
    })
}

pub(super) fn payees_rows(payees: &[Vec<Identity>]) -> Vec<PayeesRow> {
    let row = |shard: &Vec<Identity>| PayeesRow {
        identities: shard.iter().flat_map(|who| *who.as_bytes()).collect(),
    };
    payees.iter().map(row).collect()
}

pub(super) fn payees(rows: &[PayeesRow]) -> Result<Vec<Vec<Identity>>, RecordError> {
    let shard = |row: &PayeesRow| {
        let (payees, rest) = row.identities.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(RecordError::Field("payees"));
        }
        let payees = payees.iter().map(|who| identity("payees", who));
        payees.collect()
    };
    rows.iter().map(shard).collect()
}

pub(super) fn carry_rows(carry: &BTreeMap<Identity, i64>) -> Vec<CarryRow> {
    let row = |(who, sat): (&Identity, &i64)| CarryRow {
        identity: who.as_bytes().to_vec(),
        sat: *sat,
    };
    carry.iter().map(row).collect()
}

pub(super) fn carries(rows: &[CarryRow]) -> Result<BTreeMap<Identity, i64>, RecordError> {
    let carry = |row: &CarryRow| Ok((identity("carry", &row.identity)?, row.sat));
    rows.iter().map(carry).collect()
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, ScriptBuf};

    use super::*;

    fn two_lanes_of_two() -> Committed {
        let output = |sat| TxOut {
            value: Amount::from_sat(sat),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51; 34]),
        };
        let shards = vec![vec![output(1), output(240)], vec![output(2)]];
        let signatures = [1, 2, 3, 4].map(|byte| [byte; 64]).to_vec();
        let coinbase = |sat| Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![bitcoin::TxIn::default()],
            output: vec![output(sat)],
        };
        Committed {
            round: RoundId([8; 32]),
            seq: RoundSeq(3),
            height: 7,
            coinbases: vec![coinbase(5), coinbase(6)],
            payouts: SignedPayouts::new(2, shards.into(), signatures).unwrap(),
        }
    }

    #[test]
    fn whole_payouts_of_format_5_are_read_and_no_others() {
        let committed_before = two_lanes_of_two();
        let mut row = committed_row(&committed_before);
        (row.shards, row.signatures) = (Vec::new(), Vec::new());
        for (row, (_, payouts)) in row.lanes.iter_mut().zip(committed_before.lanes()) {
            row.payouts = payouts.iter().map(serialize).collect();
        }
        assert_eq!(committed(row.clone()), Ok(committed_before));
        for change in [
            |row: &mut CommittedRow| drop(row.lanes[1].payouts.pop()),
            |row: &mut CommittedRow| row.lanes[1].payouts.swap(0, 1),
            |row: &mut CommittedRow| row.lanes[0].coinbase = row.lanes[1].coinbase.clone(),
        ] {
            let mut other = row.clone();
            change(&mut other);
            assert_eq!(committed(other), Err(RecordError::Field("payouts")));
        }
    }

    #[test]
    fn signatures_that_are_not_one_for_each_payout_are_refused() {
        let row = committed_row(&two_lanes_of_two());
        for length in [0, 1, 64, 2 * 64, 3 * 64, 4 * 64 - 1] {
            let mut other = row.clone();
            other.signatures.truncate(length);
            assert_eq!(committed(other), Err(RecordError::Field("payouts")));
        }
        let mut other = row;
        other.shards.clear();
        assert_eq!(committed(other), Err(RecordError::Field("payouts")));
    }
}
