//! A held round as a file.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, Transaction};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Identity, RoundId, RoundSeq, SerialId, WindowSeq};
use tutti_proto::participant::{Held, HeldLane, HeldPayee};
use tutti_proto::work::Work;

/// The files' version; a later one is not guessed at.
const VERSION: u32 = 1;

/// A round by both of its names: also its file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoundName {
    pub seq: RoundSeq,
    pub round: RoundId,
}

impl RoundName {
    pub fn of(held: &Held) -> Self {
        Self {
            seq: held.seq,
            round: held.round,
        }
    }

    pub(super) fn file_name(&self) -> String {
        format!("{}-{}.json", self.seq, self.round)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (seq, round) = name.strip_suffix(".json")?.split_once('-')?;
        Some(Self {
            seq: RoundSeq(seq.parse().ok()?),
            round: RoundId(bytes(round).ok()?),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeldFile {
    version: u32,
    round: String,
    seq: u64,
    height: u32,
    feerate_sat_per_kvb: u64,
    window: u64,
    signers: usize,
    lanes: Vec<LaneFile>,
    payees: Vec<PayeeFile>,
    /// Not there in files of before bumps were credited.
    #[serde(default)]
    bump_credit: u32,
    #[serde(default)]
    bump_credit_after: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneFile {
    /// Raw transaction, hex.
    coinbase: String,
    /// Raw transactions, hex: what any node takes at maturity.
    payouts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PayeeFile {
    identity: String,
    /// Decimal: more than JSON's numbers hold everywhere.
    serial_id: String,
    work: String,
    sat: u64,
}

/// What in a round's file is not as it was written.
#[derive(Debug, Error)]
pub enum HeldFileError {
    #[error("version {0} is not {VERSION}")]
    Version(u32),
    #[error("{0} is not 32 bytes of hex")]
    Bytes(String),
    #[error("{0} is not an identity")]
    Identity(String),
    #[error("{0} is not a number")]
    Number(String),
    #[error("a transaction cannot be read: {0}")]
    Transaction(String),
    #[error("its payees get more than there are bitcoins")]
    TooMuch,
    #[error(transparent)]
    FeeRate(#[from] tutti_proto::feerate::FeeRateOutOfRange),
}

impl From<&Held> for HeldFile {
    fn from(held: &Held) -> Self {
        let lane = |lane: &HeldLane| LaneFile {
            coinbase: serialize_hex(&lane.coinbase),
            payouts: lane.payouts.iter().map(serialize_hex).collect(),
        };
        let payee = |payee: &HeldPayee| PayeeFile {
            identity: payee.identity.to_string(),
            serial_id: payee.serial_id.to_string(),
            work: payee.work.to_string(),
            sat: payee.sat,
        };
        Self {
            version: VERSION,
            round: held.round.to_string(),
            seq: held.seq.0,
            height: held.height,
            feerate_sat_per_kvb: held.feerate.sat_per_kvb(),
            window: held.window.0,
            signers: held.signers,
            lanes: held.lanes.iter().map(lane).collect(),
            payees: held.payees.iter().map(payee).collect(),
            bump_credit: held.bump_credit,
            bump_credit_after: held.bump_credit_after,
        }
    }
}

impl TryFrom<HeldFile> for Held {
    type Error = HeldFileError;

    fn try_from(file: HeldFile) -> Result<Self, HeldFileError> {
        if file.version != VERSION {
            return Err(HeldFileError::Version(file.version));
        }
        // Whoever adds up what a payee gets need not look again.
        let mut paid = file.payees.iter().map(|payee| payee.sat);
        let paid = paid.try_fold(0u64, |sum, sat| sum.checked_add(sat));
        if paid.is_none_or(|paid| paid > Amount::MAX_MONEY.to_sat()) {
            return Err(HeldFileError::TooMuch);
        }
        let lane = |lane: LaneFile| {
            Ok(HeldLane {
                coinbase: transaction(&lane.coinbase)?,
                payouts: lane
                    .payouts
                    .iter()
                    .map(|hex| transaction(hex))
                    .collect::<Result<_, HeldFileError>>()?,
            })
        };
        Ok(Self {
            round: RoundId(bytes(&file.round)?),
            seq: RoundSeq(file.seq),
            height: file.height,
            feerate: FeeRate::from_sat_per_kvb(file.feerate_sat_per_kvb)?,
            window: WindowSeq(file.window),
            signers: file.signers,
            lanes: file
                .lanes
                .into_iter()
                .map(lane)
                .collect::<Result<_, HeldFileError>>()?,
            payees: file
                .payees
                .into_iter()
                .map(payee)
                .collect::<Result<_, HeldFileError>>()?,
            bump_credit: file.bump_credit,
            bump_credit_after: file.bump_credit_after,
        })
    }
}

fn payee(file: PayeeFile) -> Result<HeldPayee, HeldFileError> {
    let number = |_| HeldFileError::Number(file.serial_id.clone());
    let work = |_| HeldFileError::Number(file.work.clone());
    Ok(HeldPayee {
        identity: Identity::parse(&bytes(&file.identity)?)
            .map_err(|_| HeldFileError::Identity(file.identity.clone()))?,
        serial_id: SerialId(file.serial_id.parse().map_err(number)?),
        work: Work(file.work.parse().map_err(work)?),
        sat: file.sat,
    })
}

fn bytes(text: &str) -> Result<[u8; 32], HeldFileError> {
    let decoded = hex::decode(text).ok();
    decoded
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| HeldFileError::Bytes(format!("{text:?}")))
}

fn transaction(text: &str) -> Result<Transaction, HeldFileError> {
    deserialize_hex(text).map_err(|error| HeldFileError::Transaction(error.to_string()))
}
