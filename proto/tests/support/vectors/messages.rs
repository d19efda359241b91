//! messages.json: what the identity signature of each message covers. The digests are built here
//! from SPEC.md's field lists, not by the crate's messages.

use serde::{Deserialize, Serialize};
use tutti_proto::digest::Digest;
use tutti_proto::id::{Identity, RoundId, SerialId, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{
    AbortReason, AnnouncedSlot, Blame, Challenge, Evidence, Join, Proposal, SignedHead, TxAbort,
    TxAborted, TxAddOutput, TxRemoveOutput, TxSignatures,
};
use tutti_proto::musig::{AggregateNonce, PartialSignature, PublicNonce, PublicSlot, SigningSlot};
use tutti_proto::params::{PROTOCOL_VERSION, PoolParams};
use tutti_proto::plan::ProposedPlan;
use tutti_proto::window::LedgerHead;

use super::super::pool::Pool;
use super::Vector;
use super::types::{Inputs, Params, bytes, script, slot_key};

/// Signed by the participant's key, but for the proposal, tx_aborted and the head: these the coordinator
/// signs.
#[derive(Serialize, Deserialize)]
pub struct File {
    params: Params,
    coordinator_secret: String,
    participant_secret: String,
    participant: String,
    /// BIP340's auxiliary randomness of every signature here.
    aux: String,
    join: JoinCase,
    tx_add_output: OutputCase,
    tx_remove_output: RemovalCase,
    slot: SlotCase,
    proposal: ProposalCase,
    tx_signatures: PartialsCase,
    tx_abort: RefusalCase,
    tx_aborted: AbortedCase,
    head: HeadCase,
    /// Of a round without signers.
    direct_proposal: ProposalCase,
}

#[derive(Serialize, Deserialize)]
struct Signed {
    digest: String,
    signature: String,
}

#[derive(Serialize, Deserialize)]
struct JoinCase {
    nonce: String,
    hashrate: u64,
    user_agent: String,
    #[serde(flatten)]
    signed: Signed,
}

#[derive(Serialize, Deserialize)]
struct OutputCase {
    serial_id: u64,
    script: String,
    #[serde(flatten)]
    signed: Signed,
}

#[derive(Serialize, Deserialize)]
struct RemovalCase {
    serial_id: u64,
    #[serde(flatten)]
    signed: Signed,
}

#[derive(Serialize, Deserialize)]
struct SlotCase {
    #[serde(flatten)]
    slot: SlotRow,
    #[serde(flatten)]
    signed: Signed,
}

#[derive(Serialize, Deserialize)]
pub struct SlotRow {
    pub key: String,
    pub nonces: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct ProposalCase {
    inputs: Inputs,
    round: String,
    nonces: Vec<String>,
    #[serde(flatten)]
    signed: Signed,
}

#[derive(Serialize, Deserialize)]
struct PartialsCase {
    round: String,
    /// The proposal's digest.
    proposal: String,
    partials: Vec<String>,
    #[serde(flatten)]
    signed: Signed,
}

#[derive(Serialize, Deserialize)]
struct RefusalCase {
    round: String,
    reason: u32,
    #[serde(flatten)]
    signed: Signed,
}

#[derive(Serialize, Deserialize)]
struct AbortedCase {
    round: String,
    reason: u32,
    blamed: Vec<BlameRow>,
    #[serde(flatten)]
    signed: Signed,
}

/// The head after a window.
#[derive(Serialize, Deserialize)]
struct HeadCase {
    window: u64,
    hash: String,
    #[serde(flatten)]
    signed: Signed,
}

/// The evidence is the slot and tx_signatures, or the tx_abort, of this file.
#[derive(Serialize, Deserialize)]
struct BlameRow {
    identity: String,
    evidence: Shown,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shown {
    Nothing,
    BadPartial,
    Refused,
}

impl SlotRow {
    pub fn of(slot: &PublicSlot) -> Self {
        Self {
            key: hex::encode(slot.key.serialize()),
            nonces: slot
                .nonces
                .iter()
                .map(|n| hex::encode(n.serialize()))
                .collect(),
        }
    }

    pub fn read(&self) -> PublicSlot {
        let nonce = |hex: &String| PublicNonce::parse(&bytes(hex)).unwrap();
        PublicSlot {
            key: slot_key(&self.key),
            nonces: self.nonces.iter().map(nonce).collect(),
        }
    }
}

fn key(secret: &str) -> IdentityKey {
    IdentityKey::from_bytes(&mut bytes(secret)).unwrap()
}

fn concat(digest: Digest, items: &[String]) -> Digest {
    let digest = digest.count(items.len());
    let append = |d: Digest, item: &String| d.fixed(&hex::decode(item).unwrap());
    items.iter().fold(digest, append)
}

impl File {
    /// Signs everything in order, as what is shown later is signed before: digests as SPEC.md lists
    /// their fields, signatures by the identity keys.
    fn sign(mut self) -> Self {
        let (participant, coordinator) =
            (key(&self.participant_secret), key(&self.coordinator_secret));
        let aux = bytes(&self.aux);
        for n in 0..self.digests().len() {
            let digest = self.digests()[n];
            let signer = if [PROPOSAL, TX_ABORTED, HEAD, DIRECT_PROPOSAL].contains(&n) {
                &coordinator
            } else {
                &participant
            };
            *self.signed()[n] = Signed {
                digest: hex::encode(digest),
                signature: hex::encode(signer.sign(&digest, &aux)),
            };
        }
        self
    }

    fn signed(&mut self) -> [&mut Signed; 10] {
        [
            &mut self.join.signed,
            &mut self.tx_add_output.signed,
            &mut self.tx_remove_output.signed,
            &mut self.slot.signed,
            &mut self.proposal.signed,
            &mut self.tx_signatures.signed,
            &mut self.tx_abort.signed,
            &mut self.tx_aborted.signed,
            &mut self.head.signed,
            &mut self.direct_proposal.signed,
        ]
    }

    fn digests(&self) -> [[u8; 32]; 10] {
        let coordinator: [u8; 32] = bytes(&self.params.coordinator);
        let participant: [u8; 32] = bytes(&self.participant);
        let join = Digest::new("tutti/join")
            .u32(PROTOCOL_VERSION)
            .fixed(&bytes::<32>(&self.join.nonce))
            .fixed(&self.params.read().digest())
            .fixed(&participant)
            .u64(self.join.hashrate)
            .bytes(self.join.user_agent.as_bytes());
        let both = |tag| Digest::new(tag).fixed(&coordinator).fixed(&participant);
        let add = both("tutti/tx_add_output")
            .u64(self.tx_add_output.serial_id)
            .bytes(&hex::decode(&self.tx_add_output.script).unwrap());
        let remove = both("tutti/tx_remove_output").u64(self.tx_remove_output.serial_id);
        let slot = both("tutti/slot").fixed(&bytes::<33>(&self.slot.slot.key));
        let slot = concat(slot, &self.slot.slot.nonces);
        let (proposal, direct) = (self.proposal.digest(0), self.direct_proposal.digest(1));
        let partials =
            Digest::new("tutti/tx_signatures").fixed(&bytes::<32>(&self.tx_signatures.round));
        let partials = partials.fixed(&bytes::<32>(&self.tx_signatures.proposal));
        let partials = concat(partials, &self.tx_signatures.partials);
        let abort = Digest::new("tutti/tx_abort")
            .fixed(&bytes::<32>(&self.tx_abort.round))
            .u32(self.tx_abort.reason);
        let aborted = self.aborted_digest();
        let head = Digest::new("tutti/head")
            .u64(self.head.window)
            .fixed(&bytes::<32>(&self.head.hash));
        [
            join, add, remove, slot, proposal, partials, abort, aborted, head, direct,
        ]
        .map(Digest::finish)
    }

    fn aborted_digest(&self) -> Digest {
        let case = &self.tx_aborted;
        let digest = Digest::new("tutti/tx_aborted")
            .fixed(&bytes::<32>(&case.round))
            .u32(case.reason)
            .count(case.blamed.len());
        let signature = |digest: Digest, signed: &Signed| {
            let signature = hex::decode(&signed.signature).unwrap();
            digest.fixed(&signature)
        };
        case.blamed.iter().fold(digest, |digest, row| {
            let digest = digest.fixed(&bytes::<32>(&row.identity));
            match row.evidence {
                Shown::Nothing => digest.u8(0),
                Shown::BadPartial => {
                    let digest = signature(digest.u8(1), &self.slot.signed);
                    signature(digest, &self.tx_signatures.signed)
                }
                Shown::Refused => signature(digest.u8(2), &self.tx_abort.signed),
            }
        })
    }
}

impl ProposalCase {
    fn digest(&self, direct: u8) -> Digest {
        let content = Digest::new("tutti/proposal-content");
        let content = content.fixed(&bytes::<32>(&self.round));
        let content = concat(content, &self.nonces).finish();
        let inputs = self.inputs.read();
        Digest::new("tutti/proposal")
            .u64(inputs.seq.0)
            .u32(inputs.attempt.0)
            .u8(direct)
            .fixed(&content)
    }

    fn verify(&self, params: &PoolParams) {
        let round = RoundId(bytes(&self.round));
        let inputs = self.inputs.read();
        assert_eq!(inputs.round_id(params), round);
        let nonce = |hex: &String| AggregateNonce::parse(&bytes(hex)).unwrap();
        let plan = ProposedPlan {
            round,
            inputs,
            coinbases: Vec::new(),
            nonces: self.nonces.iter().map(nonce).collect(),
        };
        let signature = bytes(&self.signed.signature);
        let proposal = Proposal { plan, signature };
        proposal.verify(&params.coordinator).unwrap();
    }
}

/// Places of the messages that the coordinator signs.
const PROPOSAL: usize = 4;
const TX_ABORTED: usize = 7;
const HEAD: usize = 8;
const DIRECT_PROPOSAL: usize = 9;

impl Vector for File {
    fn generate() -> Self {
        let mut pool = Pool::new("tutti vectors: messages", 2);
        pool.close_window(&[(1, 5_000), (2, 70_000)], &[]);
        let unsigned = || Signed {
            digest: String::new(),
            signature: String::new(),
        };
        let slot = SlotRow::of(&SigningSlot::generate(&mut pool.rng, 3).1);
        let attempted = pool.propose(&[0, 1, 2]);
        let proposal = attempted.proposal.clone();
        let round = hex::encode(proposal.round.0);
        let (plan, partials) = attempted.sign(&pool);
        // Three of a kind each; in one message they meet only here.
        let rows = [
            (2, Shown::Nothing),
            (1, Shown::BadPartial),
            (1, Shown::Refused),
        ];
        let blamed = rows.map(|(n, evidence)| BlameRow {
            identity: hex::encode(pool.identity(n).as_bytes()),
            evidence,
        });
        let file = Self {
            params: Params::of(&pool.params),
            coordinator_secret: hex::encode(pool.secrets[0]),
            participant_secret: hex::encode(pool.secrets[1]),
            participant: hex::encode(pool.identity(1).as_bytes()),
            aux: hex::encode(pool.rng.bytes32()),
            join: JoinCase {
                nonce: hex::encode(pool.rng.bytes32()),
                hashrate: 1_234_567,
                user_agent: "another-participant/0.1".into(),
                signed: unsigned(),
            },
            tx_add_output: OutputCase {
                serial_id: 77,
                script: format!("5120{}", hex::encode(pool.rng.bytes32())),
                signed: unsigned(),
            },
            tx_remove_output: RemovalCase {
                serial_id: 77,
                signed: unsigned(),
            },
            slot: SlotCase {
                slot,
                signed: unsigned(),
            },
            proposal: ProposalCase {
                inputs: Inputs::of(&proposal.inputs),
                round: round.clone(),
                nonces: proposal
                    .nonces
                    .iter()
                    .map(|n| hex::encode(n.serialize()))
                    .collect(),
                signed: unsigned(),
            },
            tx_abort: RefusalCase {
                round: round.clone(),
                reason: AbortReason::Policy.code(),
                signed: unsigned(),
            },
            tx_aborted: AbortedCase {
                round: round.clone(),
                reason: AbortReason::BadPartialSignature.code(),
                blamed: blamed.into(),
                signed: unsigned(),
            },
            head: HeadCase {
                window: pool.ledger.head().seq.0,
                hash: hex::encode(pool.ledger.head().hash),
                signed: unsigned(),
            },
            tx_signatures: PartialsCase {
                round,
                proposal: hex::encode(plan.proposal()),
                partials: partials[0]
                    .iter()
                    .map(|p| hex::encode(p.serialize()))
                    .collect(),
                signed: unsigned(),
            },
            direct_proposal: {
                let direct = pool.propose(&[]).proposal;
                ProposalCase {
                    inputs: Inputs::of(&direct.inputs),
                    round: hex::encode(direct.round.0),
                    nonces: Vec::new(),
                    signed: unsigned(),
                }
            },
        };
        file.sign()
    }

    fn check(&self) {
        let coordinator = super::types::identity(&self.params.coordinator);
        let participant = super::types::identity(&self.participant);
        assert_eq!(key(&self.coordinator_secret).identity(), coordinator);
        assert_eq!(key(&self.participant_secret).identity(), participant);
        self.verify_contributions(coordinator, participant);
        for proposal in [&self.proposal, &self.direct_proposal] {
            proposal.verify(&self.params.read());
        }
        let head = LedgerHead {
            seq: WindowSeq(self.head.window),
            hash: bytes(&self.head.hash),
        };
        let signature = bytes(&self.head.signed.signature);
        SignedHead { head, signature }.verify(&coordinator).unwrap();
    }
}

impl File {
    fn verify_contributions(&self, coordinator: Identity, identity: Identity) {
        let challenge = Challenge {
            version: PROTOCOL_VERSION,
            nonce: bytes(&self.join.nonce),
            params: self.params.read(),
        };
        let join = Join {
            identity,
            hashrate: self.join.hashrate,
            user_agent: self.join.user_agent.clone(),
            signature: bytes(&self.join.signed.signature),
            // Not covered.
            head: Some([0xab; 32]),
        };
        join.verify(&challenge).unwrap();
        let output = TxAddOutput {
            identity,
            serial_id: SerialId(self.tx_add_output.serial_id),
            script: script(&self.tx_add_output.script),
            signature: bytes(&self.tx_add_output.signed.signature),
        };
        output.verify(&coordinator).unwrap();
        let removal = TxRemoveOutput {
            identity,
            serial_id: SerialId(self.tx_remove_output.serial_id),
            signature: bytes(&self.tx_remove_output.signed.signature),
        };
        removal.verify(&coordinator).unwrap();
        let slot = AnnouncedSlot {
            slot: self.slot.slot.read(),
            signature: bytes(&self.slot.signed.signature),
        };
        slot.verify(&coordinator, &identity).unwrap();
        let partial = |hex: &String| PartialSignature::parse(&bytes(hex)).unwrap();
        let signatures = TxSignatures {
            round: RoundId(bytes(&self.tx_signatures.round)),
            proposal: bytes(&self.tx_signatures.proposal),
            partials: self.tx_signatures.partials.iter().map(partial).collect(),
            signature: bytes(&self.tx_signatures.signed.signature),
        };
        signatures.verify(&identity).unwrap();
        assert_eq!(self.tx_signatures.proposal, self.proposal.signed.digest);
        let refusal = TxAbort {
            round: RoundId(bytes(&self.tx_abort.round)),
            reason: AbortReason::from_code(self.tx_abort.reason).unwrap(),
            signature: bytes(&self.tx_abort.signed.signature),
        };
        refusal.verify(&identity).unwrap();
        let evidence = |shown| match shown {
            Shown::Nothing => None,
            Shown::BadPartial => Some(Evidence::BadPartial {
                slot: slot.clone(),
                signatures: signatures.clone(),
            }),
            Shown::Refused => Some(Evidence::Refused(refusal)),
        };
        let blame = |row: &BlameRow| Blame {
            identity: super::types::identity(&row.identity),
            evidence: evidence(row.evidence),
        };
        let aborted = TxAborted {
            round: RoundId(bytes(&self.tx_aborted.round)),
            reason: AbortReason::from_code(self.tx_aborted.reason).unwrap(),
            blamed: self.tx_aborted.blamed.iter().map(blame).collect(),
            signature: bytes(&self.tx_aborted.signed.signature),
        };
        aborted.verify(&coordinator).unwrap();
    }
}
