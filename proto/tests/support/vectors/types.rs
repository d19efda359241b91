//! JSON forms of the protocol's structures: bytes as hex in the order in which they are hashed,
//! 128-bit integers as decimal strings.

use std::collections::BTreeMap;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::p2p::Magic;
use bitcoin::{Network, ScriptBuf};
use serde::{Deserialize, Serialize};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Attempt, Identity, LaneIndex, RoundId, RoundSeq, SerialId, WindowSeq};
use tutti_proto::lane::{Assigned, Assignments, Slice};
use tutti_proto::message::TxAddOutput;
use tutti_proto::musig::SlotKey;
use tutti_proto::params::PoolParams;
use tutti_proto::plan::{RoundInputs, Signer};
use tutti_proto::script::PayoutScript;
use tutti_proto::window::{
    BlockPayouts, Booking, Credit, CreditProof, LedgerHead, Scoring, Tally, WindowRecord,
};
use tutti_proto::work::Work;

pub fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

pub fn identity(hex: &str) -> Identity {
    Identity::parse(&bytes(hex)).unwrap()
}

pub fn slot_key(hex: &str) -> SlotKey {
    SlotKey::parse(&bytes(hex)).unwrap()
}

pub fn script(hex: &str) -> PayoutScript {
    PayoutScript::parse(ScriptBuf::from_hex(hex).unwrap()).unwrap()
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Params {
    pub network: String,
    pub coordinator: String,
    pub tag: String,
    pub operator_fee_ppm: u32,
    pub lanes: u16,
    pub nonces_per_slot: u16,
    pub direct_payees: u16,
    pub scoring: u32,
    pub pplns_depth: u32,
    pub ntime_roll: u32,
    pub block_zero_bits: Option<u8>,
    pub bump_credit: u32,
    pub bump_credit_after: u16,
}

impl Params {
    pub fn of(params: &PoolParams) -> Self {
        Self {
            network: hex::encode(params.network.magic().to_bytes()),
            coordinator: hex::encode(params.coordinator.as_bytes()),
            tag: params.tag.clone(),
            operator_fee_ppm: params.operator_fee_ppm,
            lanes: params.lanes,
            nonces_per_slot: params.nonces_per_slot,
            direct_payees: params.direct_payees,
            scoring: params.scoring.code(),
            pplns_depth: params.pplns_depth,
            ntime_roll: params.ntime_roll,
            block_zero_bits: params.block_zero_bits,
            bump_credit: params.bump_credit,
            bump_credit_after: params.bump_credit_after,
        }
    }

    pub fn read(&self) -> PoolParams {
        let params = PoolParams {
            network: Network::from_magic(Magic::from_bytes(bytes(&self.network))).unwrap(),
            coordinator: identity(&self.coordinator),
            tag: self.tag.clone(),
            operator_fee_ppm: self.operator_fee_ppm,
            lanes: self.lanes,
            nonces_per_slot: self.nonces_per_slot,
            direct_payees: self.direct_payees,
            scoring: Scoring::from_code(self.scoring).unwrap(),
            pplns_depth: self.pplns_depth,
            ntime_roll: self.ntime_roll,
            block_zero_bits: self.block_zero_bits,
            bump_credit: self.bump_credit,
            bump_credit_after: self.bump_credit_after,
        };
        params.check().unwrap();
        params
    }
}

#[derive(Serialize, Deserialize)]
pub struct Output {
    pub identity: String,
    pub serial_id: u64,
    pub script: String,
    pub signature: String,
}

impl Output {
    pub fn of(output: &TxAddOutput) -> Self {
        Self {
            identity: hex::encode(output.identity.as_bytes()),
            serial_id: output.serial_id.0,
            script: output.script.as_script().to_hex_string(),
            signature: hex::encode(output.signature),
        }
    }

    pub fn read(&self) -> TxAddOutput {
        TxAddOutput {
            identity: identity(&self.identity),
            serial_id: SerialId(self.serial_id),
            script: script(&self.script),
            signature: bytes(&self.signature),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct WorkEntry {
    pub identity: String,
    pub work: String,
}

pub fn tally(tally: &Tally) -> Vec<WorkEntry> {
    tally
        .iter()
        .map(|(who, work)| WorkEntry {
            identity: hex::encode(who.as_bytes()),
            work: work.to_string(),
        })
        .collect()
}

pub fn read_tally(entries: &[WorkEntry]) -> Tally {
    entries
        .iter()
        .map(|entry| (identity(&entry.identity), Work(entry.work.parse().unwrap())))
        .collect()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct CarryEntry {
    pub identity: String,
    pub sat: i64,
}

pub fn carries(carry: &BTreeMap<Identity, i64>) -> Vec<CarryEntry> {
    carry
        .iter()
        .map(|(who, sat)| CarryEntry {
            identity: hex::encode(who.as_bytes()),
            sat: *sat,
        })
        .collect()
}

pub fn read_carries(entries: &[CarryEntry]) -> BTreeMap<Identity, i64> {
    entries
        .iter()
        .map(|entry| (identity(&entry.identity), entry.sat))
        .collect()
}

#[derive(Serialize, Deserialize)]
pub struct BookedBlock {
    pub block: String,
    pub round: String,
    pub lane: u16,
    pub undone: bool,
    pub carry: Vec<CarryEntry>,
    pub payouts: String,
}

impl BookedBlock {
    pub fn of(booking: &Booking) -> Self {
        Self {
            block: hex::encode(booking.block),
            round: hex::encode(booking.round.0),
            lane: booking.lane.0,
            undone: booking.undone,
            carry: carries(&booking.carry),
            payouts: hex::encode(booking.payouts),
        }
    }

    pub fn read(&self) -> Booking {
        Booking {
            block: bytes(&self.block),
            round: RoundId(bytes(&self.round)),
            lane: LaneIndex(self.lane),
            undone: self.undone,
            carry: read_carries(&self.carry),
            payouts: bytes(&self.payouts),
            // No hash names it but the block's.
            header: [0; 80],
        }
    }
}

/// A credit, and the parts of its proof in the order of their digest.
#[derive(Serialize, Deserialize)]
pub struct CreditedBump {
    pub block: String,
    pub shard: u16,
    pub identity: String,
    pub sat: u32,
    pub height: u32,
    pub bits: u32,
    pub bump_credit: u32,
    pub bump_credit_after: u16,
    pub coinbase_txid: String,
    pub shards: Vec<String>,
    pub payees: Vec<String>,
    pub payout: String,
    pub child: String,
    pub coinbase: String,
    pub merkle_block: String,
}

impl CreditedBump {
    fn of(credit: &Credit) -> Self {
        let (proof, payouts) = (&credit.proof, &credit.proof.payouts);
        let identity = |who: &Identity| hex::encode(who.as_bytes());
        Self {
            block: hex::encode(credit.block),
            shard: credit.shard,
            identity: identity(&credit.identity),
            sat: credit.sat,
            height: payouts.height,
            bits: payouts.bits,
            bump_credit: payouts.bump_credit,
            bump_credit_after: payouts.bump_credit_after,
            coinbase_txid: hex::encode(payouts.coinbase),
            shards: payouts.shards.iter().map(hex::encode).collect(),
            payees: proof.payees.iter().map(identity).collect(),
            payout: serialize_hex(&proof.payout),
            child: serialize_hex(&proof.child),
            coinbase: serialize_hex(&proof.coinbase),
            merkle_block: serialize_hex(&proof.block),
        }
    }

    fn read(&self) -> Credit {
        Credit {
            block: bytes(&self.block),
            shard: self.shard,
            identity: identity(&self.identity),
            sat: self.sat,
            proof: Box::new(CreditProof {
                payouts: BlockPayouts {
                    height: self.height,
                    bits: self.bits,
                    bump_credit: self.bump_credit,
                    bump_credit_after: self.bump_credit_after,
                    coinbase: bytes(&self.coinbase_txid),
                    shards: self.shards.iter().map(|shard| bytes(shard)).collect(),
                },
                payees: self.payees.iter().map(|payee| identity(payee)).collect(),
                payout: deserialize_hex(&self.payout).unwrap(),
                child: deserialize_hex(&self.child).unwrap(),
                coinbase: deserialize_hex(&self.coinbase).unwrap(),
                block: deserialize_hex(&self.merkle_block).unwrap(),
            }),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub struct Window {
    pub seq: u64,
    pub previous: String,
    pub shares_root: String,
    pub shares: u64,
    pub height: u32,
    pub tally: Vec<WorkEntry>,
    pub bookings: Vec<BookedBlock>,
    pub credits: Vec<CreditedBump>,
}

impl Window {
    pub fn of(record: &WindowRecord) -> Self {
        Self {
            seq: record.seq.0,
            previous: hex::encode(record.previous),
            shares_root: hex::encode(record.shares_root),
            shares: record.shares,
            height: record.height,
            tally: tally(&record.tally),
            bookings: record.bookings.iter().map(BookedBlock::of).collect(),
            credits: record.credits.iter().map(CreditedBump::of).collect(),
        }
    }

    pub fn read(&self) -> WindowRecord {
        WindowRecord {
            seq: WindowSeq(self.seq),
            height: self.height,
            previous: bytes(&self.previous),
            shares_root: bytes(&self.shares_root),
            shares: self.shares,
            tally: read_tally(&self.tally),
            bookings: self.bookings.iter().map(BookedBlock::read).collect(),
            credits: self.credits.iter().map(CreditedBump::read).collect(),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub struct OwnedSlice {
    pub lane: u16,
    pub prefix: u16,
    pub prefix_len: u8,
    pub owner: String,
    pub z: u8,
}

pub fn slices(assignments: &Assignments) -> Vec<OwnedSlice> {
    assignments
        .iter()
        .map(|Assigned { slice, owner, z }| OwnedSlice {
            lane: slice.lane.0,
            prefix: slice.prefix,
            prefix_len: slice.prefix_len,
            owner: hex::encode(owner.as_bytes()),
            z,
        })
        .collect()
}

pub fn read_slices(slices: &[OwnedSlice], lanes: u16) -> Assignments {
    Assignments::parse(assigned(slices), lanes).unwrap()
}

/// Slices that may be no assignments.
pub fn assigned(slices: &[OwnedSlice]) -> Vec<Assigned> {
    slices
        .iter()
        .map(|slice| {
            let OwnedSlice {
                lane,
                prefix,
                prefix_len,
                ..
            } = *slice;
            let lane = LaneIndex(lane);
            Assigned {
                slice: Slice {
                    lane,
                    prefix,
                    prefix_len,
                },
                owner: identity(&slice.owner),
                z: slice.z,
            }
        })
        .collect()
}

#[derive(Clone, Serialize, Deserialize)]
pub struct RoundSigner {
    pub identity: String,
    pub key: String,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Inputs {
    pub seq: u64,
    pub attempt: u32,
    pub height: u32,
    pub bits: u32,
    pub reward: u64,
    pub witness_commitment: Option<String>,
    pub feerate_sat_per_kvb: u64,
    pub roster: String,
    pub ledger_seq: u64,
    pub ledger_hash: String,
    pub assignments: String,
    pub signers: Vec<RoundSigner>,
}

impl Inputs {
    pub fn of(inputs: &RoundInputs) -> Self {
        Self {
            seq: inputs.seq.0,
            attempt: inputs.attempt.0,
            height: inputs.height,
            bits: inputs.bits,
            reward: inputs.reward,
            witness_commitment: inputs.witness_commitment.map(hex::encode),
            feerate_sat_per_kvb: inputs.feerate.sat_per_kvb(),
            roster: hex::encode(inputs.roster),
            ledger_seq: inputs.ledger.seq.0,
            ledger_hash: hex::encode(inputs.ledger.hash),
            assignments: hex::encode(inputs.assignments),
            signers: inputs
                .signers
                .iter()
                .map(|signer| RoundSigner {
                    identity: hex::encode(signer.identity.as_bytes()),
                    key: hex::encode(signer.key.serialize()),
                })
                .collect(),
        }
    }

    pub fn read(&self) -> RoundInputs {
        RoundInputs {
            seq: RoundSeq(self.seq),
            attempt: Attempt(self.attempt),
            height: self.height,
            bits: self.bits,
            reward: self.reward,
            witness_commitment: self.witness_commitment.as_deref().map(bytes),
            feerate: FeeRate::from_sat_per_kvb(self.feerate_sat_per_kvb).unwrap(),
            roster: bytes(&self.roster),
            ledger: LedgerHead {
                seq: WindowSeq(self.ledger_seq),
                hash: bytes(&self.ledger_hash),
            },
            assignments: bytes(&self.assignments),
            signers: self
                .signers
                .iter()
                .map(|signer| Signer {
                    identity: identity(&signer.identity),
                    key: slot_key(&signer.key),
                })
                .collect(),
        }
    }
}
