//! A round: slots, proposal, signatures, commit.

use prost::bytes::Bytes;

use super::error::{WireError, WireReason};
use super::field::{all, array, ascending, bytes, fixed, identity, list};
use super::field::{message, messages, round, slot_key};
use super::{FromWire, SIGNERS_LIMIT, ToWire, pb};
use crate::feerate::FeeRate;
use crate::id::{Attempt, RoundId, RoundSeq};
use crate::message::{AnnouncedSlot, Commit, HOLDS_LIMIT, Holds, Proposal, SLOTS_LIMIT, Slots};
use crate::message::{TxComplete, TxSignatures};
use crate::musig::{AggregateNonce, PartialSignature, PublicNonce, PublicSlot};
use crate::params::{LANES_LIMIT, NONCES_LIMIT};
use crate::plan::{ProposedPlan, RoundInputs, Signer};

/// One element per session, each of `N` bytes.
fn per_session<const N: usize, T, E: Into<WireReason>>(
    field: &str,
    items: Vec<Bytes>,
    parse: impl Fn(&[u8; N]) -> Result<T, E>,
) -> Result<Vec<T>, WireError> {
    list(field, items, usize::from(NONCES_LIMIT), |item| {
        parse(&array(&item)?).map_err(WireError::here)
    })
}

impl ToWire for PublicSlot {
    type Message = pb::PublicSlot;

    fn to_wire(&self) -> pb::PublicSlot {
        let nonce = |nonce: &PublicNonce| bytes(&nonce.serialize());
        pb::PublicSlot {
            key: bytes(&self.key.serialize()),
            nonces: self.nonces.iter().map(nonce).collect(),
        }
    }
}

impl FromWire for PublicSlot {
    fn from_wire(wire: pb::PublicSlot) -> Result<Self, WireError> {
        Ok(Self {
            key: slot_key("key", &wire.key)?,
            nonces: per_session("nonces", wire.nonces, PublicNonce::parse)?,
        })
    }
}

impl ToWire for AnnouncedSlot {
    type Message = pb::AnnouncedSlot;

    fn to_wire(&self) -> pb::AnnouncedSlot {
        pb::AnnouncedSlot {
            slot: Some(self.slot.to_wire()),
            signature: bytes(&self.signature),
        }
    }
}

impl FromWire for AnnouncedSlot {
    fn from_wire(wire: pb::AnnouncedSlot) -> Result<Self, WireError> {
        Ok(Self {
            signature: fixed("signature", &wire.signature)?,
            slot: message("slot", wire.slot)?,
        })
    }
}

impl ToWire for Slots {
    type Message = pb::Slots;

    fn to_wire(&self) -> pb::Slots {
        pb::Slots {
            slots: all(&self.slots),
        }
    }
}

impl FromWire for Slots {
    fn from_wire(wire: pb::Slots) -> Result<Self, WireError> {
        Ok(Self {
            slots: messages("slots", wire.slots, SLOTS_LIMIT)?,
        })
    }
}

impl ToWire for Signer {
    type Message = pb::Signer;

    fn to_wire(&self) -> pb::Signer {
        pb::Signer {
            identity: bytes(self.identity.as_bytes()),
            key: bytes(&self.key.serialize()),
        }
    }
}

impl FromWire for Signer {
    fn from_wire(wire: pb::Signer) -> Result<Self, WireError> {
        Ok(Self {
            identity: identity("identity", &wire.identity)?,
            key: slot_key("key", &wire.key)?,
        })
    }
}

impl ToWire for RoundInputs {
    type Message = pb::RoundInputs;

    fn to_wire(&self) -> pb::RoundInputs {
        pb::RoundInputs {
            seq: self.seq.0,
            attempt: self.attempt.0,
            height: self.height,
            bits: self.bits,
            reward: self.reward,
            witness_commitment: self.witness_commitment.as_ref().map(|hash| bytes(hash)),
            feerate: self.feerate.sat_per_kvb(),
            roster: bytes(&self.roster),
            ledger: Some(self.ledger.to_wire()),
            assignments: bytes(&self.assignments),
            signers: all(&self.signers),
        }
    }
}

impl FromWire for RoundInputs {
    fn from_wire(wire: pb::RoundInputs) -> Result<Self, WireError> {
        let feerate = FeeRate::from_sat_per_kvb(wire.feerate)
            .map_err(|error| WireError::here(WireReason::FeeRate(error.0)).under("feerate"))?;
        let commitment = |hash: Bytes| fixed("witness_commitment", &hash);
        let signers: Vec<Signer> = messages("signers", wire.signers, SIGNERS_LIMIT)?;
        ascending("signers", &signers, |signer| signer.key)?;
        Ok(Self {
            seq: RoundSeq(wire.seq),
            attempt: Attempt(wire.attempt),
            height: wire.height,
            bits: wire.bits,
            reward: wire.reward,
            witness_commitment: wire.witness_commitment.map(commitment).transpose()?,
            feerate,
            roster: fixed("roster", &wire.roster)?,
            ledger: message("ledger", wire.ledger)?,
            assignments: fixed("assignments", &wire.assignments)?,
            signers,
        })
    }
}

impl ToWire for ProposedPlan {
    type Message = pb::ProposedPlan;

    fn to_wire(&self) -> pb::ProposedPlan {
        let nonce = |nonce: &AggregateNonce| bytes(&nonce.serialize());
        pb::ProposedPlan {
            round: bytes(&self.round.0),
            inputs: Some(self.inputs.to_wire()),
            coinbases: self.coinbases.iter().map(|txid| bytes(txid)).collect(),
            nonces: self.nonces.iter().map(nonce).collect(),
        }
    }
}

impl FromWire for ProposedPlan {
    fn from_wire(wire: pb::ProposedPlan) -> Result<Self, WireError> {
        let txid = |txid: Bytes| array(&txid);
        Ok(Self {
            round: round("round", &wire.round)?,
            inputs: message("inputs", wire.inputs)?,
            coinbases: list("coinbases", wire.coinbases, usize::from(LANES_LIMIT), txid)?,
            nonces: per_session("nonces", wire.nonces, AggregateNonce::parse)?,
        })
    }
}

impl ToWire for Proposal {
    type Message = pb::Proposal;

    fn to_wire(&self) -> pb::Proposal {
        pb::Proposal {
            plan: Some(self.plan.to_wire()),
            signature: bytes(&self.signature),
        }
    }
}

impl FromWire for Proposal {
    fn from_wire(wire: pb::Proposal) -> Result<Self, WireError> {
        Ok(Self {
            signature: fixed("signature", &wire.signature)?,
            plan: message("plan", wire.plan)?,
        })
    }
}

impl ToWire for Holds {
    type Message = pb::Holds;

    fn to_wire(&self) -> pb::Holds {
        pb::Holds {
            rounds: self.rounds.iter().map(|round| bytes(&round.0)).collect(),
        }
    }
}

impl FromWire for Holds {
    fn from_wire(wire: pb::Holds) -> Result<Self, WireError> {
        let round = |round: Bytes| array(&round).map(RoundId);
        Ok(Self {
            rounds: list("rounds", wire.rounds, HOLDS_LIMIT, round)?,
        })
    }
}

impl ToWire for TxComplete {
    type Message = pb::TxComplete;

    fn to_wire(&self) -> pb::TxComplete {
        pb::TxComplete {
            round: bytes(&self.round.0),
        }
    }
}

impl FromWire for TxComplete {
    fn from_wire(wire: pb::TxComplete) -> Result<Self, WireError> {
        Ok(Self {
            round: round("round", &wire.round)?,
        })
    }
}

impl ToWire for TxSignatures {
    type Message = pb::TxSignatures;

    fn to_wire(&self) -> pb::TxSignatures {
        let partial = |partial: &PartialSignature| bytes(&partial.serialize());
        pb::TxSignatures {
            round: bytes(&self.round.0),
            proposal: bytes(&self.proposal),
            partials: self.partials.iter().map(partial).collect(),
            signature: bytes(&self.signature),
        }
    }
}

impl FromWire for TxSignatures {
    fn from_wire(wire: pb::TxSignatures) -> Result<Self, WireError> {
        Ok(Self {
            round: round("round", &wire.round)?,
            proposal: fixed("proposal", &wire.proposal)?,
            partials: per_session("partials", wire.partials, PartialSignature::parse)?,
            signature: fixed("signature", &wire.signature)?,
        })
    }
}

impl ToWire for Commit {
    type Message = pb::Commit;

    fn to_wire(&self) -> pb::Commit {
        pb::Commit {
            round: bytes(&self.round.0),
            signatures: self.signatures.iter().map(|s| bytes(s)).collect(),
        }
    }
}

impl FromWire for Commit {
    fn from_wire(wire: pb::Commit) -> Result<Self, WireError> {
        let take = |signature: &[u8; 64]| Ok::<_, WireReason>(*signature);
        Ok(Self {
            round: round("round", &wire.round)?,
            signatures: per_session("signatures", wire.signatures, take)?,
        })
    }
}
