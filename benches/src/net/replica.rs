//! The replicated state, kept once for all participants, and the check of each proposal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use prost::bytes::Bytes;
use tutti_proto::id::{Attempt, Identity, RoundId, RoundSeq};
use tutti_proto::lane::{Assignments, Slice};
use tutti_proto::message::ToParticipant;
use tutti_proto::musig::SlotKey;
use tutti_proto::params::PoolParams;
use tutti_proto::plan::{Checked, CheckedPlan, Checker, PlanView};
use tutti_proto::policy::Policy;
use tutti_proto::roster::Roster;
use tutti_proto::window::Ledger;
use tutti_proto::wire::FromWire;

use super::player::Kind;

/// A proposal that was checked, for everybody to sign.
pub struct Plan {
    /// The proposal as it came.
    pub raw: Bytes,
    /// The plan.
    pub checked: CheckedPlan,
    /// Which slot each signer is to use.
    pub keys: BTreeMap<Identity, SlotKey>,
    /// A slice of each participant that has one.
    pub slices: BTreeMap<Identity, Slice>,
    /// How long it took.
    pub took: Duration,
}

impl Plan {
    /// The round.
    pub fn round(&self) -> RoundId {
        self.checked.round()
    }

    /// Height of the block to be found.
    pub fn height(&self) -> u32 {
        self.checked.inputs().height
    }

    /// Which try of the round it is.
    pub fn attempt(&self) -> u32 {
        self.checked.inputs().attempt.0
    }

    /// Signers, the coordinator included.
    pub fn signers(&self) -> usize {
        self.keys.len()
    }

    /// Payouts: lanes times shards.
    pub fn payouts(&self) -> usize {
        self.checked.sessions().len()
    }

    /// Outputs of all payouts of a lane.
    pub fn payees(&self) -> usize {
        let shards = self.checked.split().shards.iter();
        shards.map(|shard| shard.outputs.len()).sum()
    }

    /// Whether this message is the proposal that was checked: all participants get the same bytes.
    pub fn is_of(&self, message: &Bytes) -> bool {
        *message == self.raw
    }
}

/// The state of one session, which all share.
#[derive(Default)]
pub struct Replica {
    me: Option<Identity>,
    params: Option<PoolParams>,
    roster: Roster,
    ledger: Option<Ledger>,
    assignments: Assignments,
    last: Option<(RoundSeq, Attempt)>,
}

impl Replica {
    /// Whose session it is.
    pub fn is_of(&mut self, participant: Identity) {
        self.me = Some(participant);
    }

    /// Takes one message of the session; gives it back if it is a proposal, to be checked.
    pub fn hear(&mut self, message: Bytes) -> Result<Option<Bytes>> {
        if Kind::of_received(&message) == Kind::Proposal {
            return Ok(Some(message));
        }
        match ToParticipant::decode(&message)? {
            ToParticipant::Challenge(challenge) => self.params = Some(challenge.params),
            ToParticipant::Welcome(welcome) => {
                let coordinator = self.params()?.coordinator;
                for output in welcome.outputs {
                    self.roster.add_output(&coordinator, output)?;
                }
                let snapshot = welcome.ledger.context("a welcome without a ledger")?;
                self.ledger = Some(Ledger::from_snapshot(snapshot, &welcome.head.head)?);
            }
            ToParticipant::TxAddOutput(output) => {
                let coordinator = self.params()?.coordinator;
                self.roster.add_output(&coordinator, output)?;
            }
            ToParticipant::TxRemoveOutput(removal) => {
                self.roster
                    .remove_output(removal.identity, removal.serial_id)?;
            }
            ToParticipant::OutputExpired(expired) => {
                let payee = self.roster.payee(expired.serial_id);
                let identity = payee.context("an unknown output expired")?.identity;
                self.roster.remove_output(identity, expired.serial_id)?;
            }
            ToParticipant::WindowClosed(closed) => {
                let ledger = self.ledger.as_mut().context("a window before the ledger")?;
                ledger.append(&closed.record(&self.roster)?)?;
            }
            ToParticipant::Assignments(set) => self.assignments = set.assignments,
            _ => {}
        }
        Ok(None)
    }

    fn params(&self) -> Result<&PoolParams> {
        self.params.as_ref().context("the challenge comes first")
    }

    /// All that a participant checks; but whether a slot is its own, each sees when it signs. None: a direct
    /// round, of which there is nothing to sign.
    pub fn check(&mut self, raw: Bytes) -> Result<Option<Arc<Plan>>> {
        let began = Instant::now();
        let ToParticipant::Proposal(proposal) = ToParticipant::decode(&raw)? else {
            bail!("not a proposal");
        };
        let params = self.params()?;
        proposal.verify(&params.coordinator)?;
        let view = PlanView {
            params,
            roster: &self.roster,
            ledger: self.ledger.as_ref().context("no ledger yet")?,
            assignments: &self.assignments,
        };
        let me = self.me.context("nobody keeps the replicated state")?;
        let slots: BTreeSet<SlotKey> = proposal.plan.own_key(&me).into_iter().collect();
        let me = Checker {
            identity: &me,
            slots: &slots,
            last: self.last,
            policy: &Policy::default(),
        };
        let Checked::ToSign(checked) = proposal.plan.check(&view, &me)? else {
            return Ok(None);
        };
        let inputs = checked.inputs();
        self.last = Some((inputs.seq, inputs.attempt));
        let signers = inputs.signers.iter();
        let keys = signers
            .map(|signer| (signer.identity, signer.key))
            .collect();
        let slices = self.assignments.iter().map(|a| (a.owner, a.slice));
        Ok(Some(Arc::new(Plan {
            raw,
            keys,
            slices: slices.collect(),
            took: began.elapsed(),
            checked,
        })))
    }
}
