//! The terms of a round: all that its shares are judged by, in a form that a stranger can check.
//!
//! The transcript in `inputs` names the round and commits to the assignments, so to slices and z; the
//! coinbases follow from inputs and outputs, and name the round themselves: a signed one in its output
//! key, a direct one in an output of its own. A header whose merkle root such a coinbase leads to is
//! work for this round of this pool, and for nothing else.

mod roots;

use std::sync::Arc;

use bitcoin::{Amount, ScriptBuf, Transaction};

use crate::amount::both;
use crate::coinbase::{self, CoinbaseName};
use crate::header::HeaderFields;
use crate::id::{Identity, LaneIndex, RoundId};
use crate::lane::{Assigned, Assignments, VERSION_MASK};
use crate::musig::{AggregateKey, MusigError};
use crate::params::{NTIME_ROLL_LIMIT, PoolName, PoolParams};
use crate::payout;
use crate::plan::RoundInputs;
use crate::reject::RejectCode;
use crate::share::ShareRecord;
use crate::template::Template;
use crate::work::{header_hash, leading_zero_bits};

use roots::Roots;

/// What a header has besides the lane's coinbase and what a miner may roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTerms {
    /// Header version; only BIP320's bits may be rolled.
    pub version: i32,
    /// Compact target.
    pub bits: u32,
    /// Previous block, in the byte order in which it is hashed.
    pub previous_block: [u8; 32],
    /// Earliest header time, seconds.
    pub time_min: u32,
    /// Latest header time, seconds.
    pub time_max: u32,
    /// Merkle path from the coinbase to the root.
    pub merkle_path: Vec<[u8; 32]>,
}

/// The terms of a round, as one party tells them to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundTerms {
    /// The pool's parameters when it was proposed: the transcript commits to them.
    pub params: Arc<PoolParams>,
    /// What the round is computed from.
    pub inputs: RoundInputs,
    /// Who hashes what, and the z of its shares.
    pub assignments: Arc<Assignments>,
    /// Outputs of every lane's coinbase, before the witness commitment.
    pub outputs: Vec<(ScriptBuf, Amount)>,
    /// The header's other fields.
    pub header: HeaderTerms,
}

/// Terms that belong together: what they say of a share is so for everyone.
#[derive(Clone, Debug)]
pub struct CheckedTerms {
    terms: RoundTerms,
    round: RoundId,
    roots: Roots,
    owners: Vec<Identity>,
}

/// Why terms do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// They are another pool's.
    #[error("they are another pool's")]
    OtherPool,
    /// The transcript commits to other assignments.
    #[error("the assignments are not those of the round's transcript")]
    Assignments,
    /// A slice on a lane that the pool does not have.
    #[error("a slice is on lane {0}, which the pool does not have")]
    Lane(LaneIndex),
    /// The signers' keys do not aggregate, or are not in order.
    #[error("the signers: {0}")]
    Signers(MusigError),
    /// An output of the coinbase is not the signers', or does not name the round.
    #[error("output {0} of the coinbases is not this round's")]
    Output(usize),
    /// The outputs are not worth the reward.
    #[error("the outputs of the coinbases are worth {}, the reward is {}", both(*sum), both(*reward))]
    Reward {
        /// Their sum, sat.
        sum: u64,
        /// The reward, sat.
        reward: u64,
    },
    /// The header has another target than the one that decided whose work is paid.
    #[error("the header's bits are {told:#010x}, the transcript's {bits:#010x}")]
    Bits {
        /// The header's.
        told: u32,
        /// The transcript's.
        bits: u32,
    },
    /// The times of the header are no range, or one that is too wide.
    #[error("header times from {min} to {max}: not a range of at most {NTIME_ROLL_LIMIT} s")]
    Times {
        /// Earliest, seconds.
        min: u32,
        /// Latest, seconds.
        max: u32,
    },
}

/// What a miner chose in the header of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// Lane.
    pub lane: LaneIndex,
    /// Header version.
    pub version: i32,
    /// Header time, seconds.
    pub time: u32,
    /// Header nonce.
    pub nonce: u32,
}

/// Why a header is no share of a round, with the numbers that explain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {got}, where {want} is asked")]
pub struct Refusal {
    /// Why.
    pub code: RejectCode,
    /// What the share has, in the code's unit.
    pub got: u64,
    /// What it would need, in the code's unit.
    pub want: u64,
}

/// A share that its round's terms allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The share.
    pub record: ShareRecord,
    /// Its header's hash.
    pub hash: [u8; 32],
    /// Leading zero bits of that.
    pub zeros: u8,
}

impl HeaderTerms {
    /// Those of a template, of which a miner may roll the time so many seconds.
    pub fn of(template: &Template, ntime_roll: u32) -> Self {
        Self {
            version: template.version,
            bits: template.bits,
            previous_block: template.previous_block,
            time_min: template.time_min.max(template.time),
            time_max: template.time.saturating_add(ntime_roll),
            merkle_path: template.merkle_path.clone(),
        }
    }
}

impl RoundTerms {
    /// The round's name.
    pub fn round(&self) -> RoundId {
        self.inputs.round_id(&self.params)
    }

    /// Checks all that can be checked without the ledger and the payee set.
    pub fn check(self, pool: &PoolName) -> Result<CheckedTerms, TermsError> {
        if self.params.name() != *pool {
            return Err(TermsError::OtherPool);
        }
        let (params, round) = (self.params.clone(), self.round());
        if self.assignments.digest() != self.inputs.assignments {
            return Err(TermsError::Assignments);
        }
        let lanes = self.assignments.iter().map(|assigned| assigned.slice.lane);
        if let Some(lane) = lanes.max().filter(|lane| lane.0 >= params.lanes) {
            return Err(TermsError::Lane(lane));
        }
        let limit = params
            .shards_max()
            .max(usize::from(params.direct_payees) + 1);
        if self.outputs.len() > limit {
            return Err(TermsError::Output(limit));
        }
        self.check_outputs(&round)?;
        if self.header.bits != self.inputs.bits {
            return Err(TermsError::Bits {
                told: self.header.bits,
                bits: self.inputs.bits,
            });
        }
        let (min, max) = (self.header.time_min, self.header.time_max);
        let span = max.checked_sub(min);
        if span.is_none_or(|span| span > NTIME_ROLL_LIMIT) {
            return Err(TermsError::Times { min, max });
        }
        Ok(CheckedTerms::new(self, round))
    }

    fn coinbase(&self, lane: LaneIndex) -> Transaction {
        let name = CoinbaseName {
            height: self.inputs.height,
            tag: &self.params.tag,
            round: self.inputs.seq,
            lane,
        };
        let commitment = self.inputs.witness_commitment.as_ref();
        coinbase::build(name, &self.outputs, commitment)
    }

    fn check_outputs(&self, round: &RoundId) -> Result<(), TermsError> {
        let wrong = match self.inputs.is_direct() {
            true => {
                let name = coinbase::round_script(round);
                let last = self.outputs.last();
                let named = last.is_some_and(|(script, sat)| *script == name && sat.to_sat() == 0);
                (!named).then_some(self.outputs.len().saturating_sub(1))
            }
            false => {
                let signers = self.inputs.signers.iter();
                let keys = signers.map(|signer| signer.key).collect();
                let key = AggregateKey::new(keys, &payout::leaf_hash(&round.0));
                let key = key.map_err(TermsError::Signers)?;
                let script = payout::output_script(&key.output_key());
                let wrong = self.outputs.iter().position(|(other, _)| *other != script);
                wrong.or(self.outputs.is_empty().then_some(0))
            }
        };
        if let Some(output) = wrong {
            return Err(TermsError::Output(output));
        }
        let values = self.outputs.iter().map(|(_, sat)| sat.to_sat());
        let sum = values.fold(0, u64::saturating_add);
        let reward = self.inputs.reward;
        match sum == reward {
            true => Ok(()),
            false => Err(TermsError::Reward { sum, reward }),
        }
    }
}

impl CheckedTerms {
    /// Of a round that its holder computed itself.
    pub(crate) fn computed(
        params: Arc<PoolParams>,
        round: RoundId,
        inputs: RoundInputs,
        assignments: Arc<Assignments>,
        coinbases: Vec<Transaction>,
        header: HeaderTerms,
    ) -> Self {
        let outputs = coinbases.first().map_or(&[][..], |lane| &lane.output[..]);
        let commitment = usize::from(inputs.witness_commitment.is_some());
        let own = outputs.len().saturating_sub(commitment);
        let outputs = outputs.iter().take(own);
        let outputs = outputs.map(|output| (output.script_pubkey.clone(), output.value));
        let terms = RoundTerms {
            params,
            inputs,
            assignments,
            outputs: outputs.collect(),
            header,
        };
        let roots = Roots::of(&terms, &coinbases);
        Self::with(terms, round, roots)
    }

    fn new(terms: RoundTerms, round: RoundId) -> Self {
        let roots = Roots::none(&terms);
        Self::with(terms, round, roots)
    }

    fn with(terms: RoundTerms, round: RoundId, roots: Roots) -> Self {
        Self {
            round,
            roots,
            owners: terms.assignments.owners().collect(),
            terms,
        }
    }

    /// The terms as they are told.
    pub fn terms(&self) -> &RoundTerms {
        &self.terms
    }

    /// The round's name.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// The coinbase of a lane, if the pool has it.
    pub fn coinbase(&self, lane: LaneIndex) -> Option<Transaction> {
        (lane.0 < self.terms.params.lanes).then(|| self.terms.coinbase(lane))
    }

    /// The merkle root of a lane.
    pub(crate) fn root(&self, lane: LaneIndex) -> Option<[u8; 32]> {
        self.roots.of_lane(&self.terms, lane)
    }

    /// Whoever has a slice, ascending: shares name them by their place.
    pub fn owners(&self) -> &[Identity] {
        &self.owners
    }

    /// The header of a share, if its fields are this identity's to choose.
    pub fn header(&self, identity: &Identity, rolled: &Rolled) -> Result<[u8; 80], Refusal> {
        self.header_in(self.terms.assignments.of(identity), rolled)
    }

    /// The header of a share, if its fields may be chosen by who has these slices.
    fn header_in(&self, ours: &[Assigned], rolled: &Rolled) -> Result<[u8; 80], Refusal> {
        let terms = &self.terms.header;
        let others = (rolled.version ^ terms.version) as u32 & !VERSION_MASK;
        if others != 0 {
            return Err(Refusal {
                code: RejectCode::VersionOutOfRange,
                got: u64::from(others),
                want: u64::from(VERSION_MASK),
            });
        }
        let ours = ours
            .iter()
            .filter(|assigned| assigned.slice.lane == rolled.lane);
        let is_in = |assigned: &Assigned| assigned.slice.contains(rolled.version, terms.version);
        let root = ours.clone().any(is_in).then(|| self.root(rolled.lane));
        let merkle_root = root.flatten().ok_or_else(|| {
            let versions = ours.map(|assigned| assigned.slice.first_version(terms.version) as u32);
            Refusal {
                code: RejectCode::NotYourSlice,
                got: u64::from(rolled.version as u32),
                want: versions.min().map_or(0, u64::from),
            }
        })?;
        if rolled.time < terms.time_min || rolled.time > terms.time_max {
            let bound = rolled.time.clamp(terms.time_min, terms.time_max);
            return Err(Refusal {
                code: RejectCode::TimeOutOfRange,
                got: u64::from(rolled.time),
                want: u64::from(bound),
            });
        }
        let fields = HeaderFields {
            version: rolled.version,
            previous_block: terms.previous_block,
            merkle_root,
            time: rolled.time,
            bits: terms.bits,
            nonce: rolled.nonce,
        };
        Ok(fields.serialize())
    }

    /// Judges a share by the z that the round gave its owner.
    pub fn judge(&self, identity: &Identity, rolled: &Rolled) -> Result<Judged, Refusal> {
        let ours = self.terms.assignments.of(identity);
        let z = ours.first().map_or(0, |first| first.z);
        self.judge_by(z, ours, identity, rolled)
    }

    /// Judges a share of one with these slices by a z, which may be another: too late for a credit, only a
    /// block counts.
    pub(crate) fn judge_by(
        &self,
        z: u8,
        ours: &[Assigned],
        identity: &Identity,
        rolled: &Rolled,
    ) -> Result<Judged, Refusal> {
        let header = self.header_in(ours, rolled)?;
        let hash = header_hash(&header);
        let zeros = leading_zero_bits(&hash);
        if zeros < z {
            return Err(Refusal {
                code: RejectCode::LowDifficulty,
                got: u64::from(zeros),
                want: u64::from(z),
            });
        }
        let record = ShareRecord {
            identity: *identity,
            round: self.round,
            lane: rolled.lane,
            z,
            header,
        };
        Ok(Judged {
            record,
            hash,
            zeros,
        })
    }
}
