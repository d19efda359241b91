//! equivocation.json: proofs of a coordinator's fraud as files, and files that prove nothing.

use serde::{Deserialize, Serialize};
use tutti_proto::digest::Digest;
use tutti_proto::equivocation::{Equivocation, NoProof, Statement, Subject};
use tutti_proto::id::{Attempt, RoundSeq, WindowSeq};

use super::super::pool::Pool;
use super::Vector;
use super::types::{bytes, identity};

#[derive(Serialize, Deserialize)]
pub struct File {
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    what: String,
    proof: Proof,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Proof {
    version: u32,
    coordinator: String,
    subject: About,
    statements: [Said; 2],
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum About {
    Head { window: u64 },
    Proposal { round: u64, attempt: u32 },
}

#[derive(Serialize, Deserialize)]
struct Said {
    hash: String,
    signature: String,
}

impl About {
    /// As SPEC.md lists the fields; of an attempt that is direct or is not.
    fn digest(&self, direct: bool, hash: &[u8; 32]) -> [u8; 32] {
        let digest = match self {
            Self::Head { window } => Digest::new("tutti/head").u64(*window),
            Self::Proposal { round, attempt } => Digest::new("tutti/proposal")
                .u64(*round)
                .u32(*attempt)
                .u8(u8::from(direct)),
        };
        digest.fixed(hash).finish()
    }
}

impl Proof {
    fn verify(&self) -> Result<(), String> {
        let statement = |said: &Said| Statement {
            hash: bytes(&said.hash),
            signature: bytes(&said.signature),
        };
        let coordinator = identity(&self.coordinator);
        let proof = Equivocation {
            coordinator,
            subject: match self.subject {
                About::Head { window } => Subject::Head(WindowSeq(window)),
                About::Proposal { round, attempt } => {
                    Subject::Proposal(RoundSeq(round), Attempt(attempt))
                }
            },
            statements: [0, 1].map(|place: usize| statement(&self.statements[place])),
        };
        let refused = |error| match error {
            NoProof::Same => "same".into(),
            NoProof::Unsigned(_) => "unsigned".into(),
            NoProof::OtherCoordinator(_) => panic!("it is asked for its own coordinator"),
        };
        proof.verify(&coordinator).map_err(refused)
    }
}

/// Who signs the second of two statements, about what, and whether as a direct one.
type Second = (usize, About, bool);

impl Case {
    fn new(pool: &Pool, what: &str, subject: About, second: Second, same: bool) -> Self {
        let (signer, about, direct) = second;
        let hashes = [[1; 32], if same { [1; 32] } else { [2; 32] }];
        let said = |signer: usize, about: About, direct: bool, hash: [u8; 32], aux: u8| Said {
            hash: hex::encode(hash),
            signature: hex::encode(
                pool.keys[signer].sign(&about.digest(direct, &hash), &[aux; 32]),
            ),
        };
        let proof = Proof {
            version: 1,
            coordinator: hex::encode(pool.params.coordinator.as_bytes()),
            subject,
            statements: [
                said(0, subject, false, hashes[0], 0),
                said(signer, about, direct, hashes[1], 1),
            ],
        };
        Self {
            what: what.into(),
            refused: proof.verify().err(),
            proof,
        }
    }
}

impl Vector for File {
    fn generate() -> Self {
        let pool = Pool::new("tutti vectors: equivocation", 1);
        let (head, other) = (About::Head { window: 7 }, About::Head { window: 8 });
        let (round, attempt) = (7, 2);
        let proposal = About::Proposal { round, attempt };
        let next = About::Proposal { round, attempt: 3 };
        let case = |what, subject, second, same| Case::new(&pool, what, subject, second, same);
        Self {
            cases: vec![
                case("two heads of one window", head, (0, head, false), false),
                case(
                    "two contents for one attempt",
                    proposal,
                    (0, proposal, false),
                    false,
                ),
                case("one head, signed twice", head, (0, head, false), true),
                case(
                    "one content, signed twice",
                    proposal,
                    (0, proposal, false),
                    true,
                ),
                case(
                    "the second head is signed by another",
                    head,
                    (1, head, false),
                    false,
                ),
                case(
                    "the second head is of another window",
                    head,
                    (0, other, false),
                    false,
                ),
                case(
                    "the second content is of another attempt",
                    proposal,
                    (0, next, false),
                    false,
                ),
                case(
                    "the second content is of a direct round",
                    proposal,
                    (0, proposal, true),
                    false,
                ),
                case(
                    "the second is a head, and no content",
                    proposal,
                    (0, head, false),
                    false,
                ),
            ],
        }
    }

    fn check(&self) {
        for case in &self.cases {
            assert_eq!(case.proof.version, 1);
            assert_eq!(case.proof.verify().err(), case.refused, "{}", case.what);
        }
    }
}
