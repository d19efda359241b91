//! Proof of a coordinator's fraud as a file: SPEC.md, "Equivocation". Whoever gets one can check it
//! with this program or any other, without a network.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tutti_proto::equivocation::{Equivocation, NoProof, Statement, Subject};
use tutti_proto::id::{Attempt, Identity, RoundSeq, WindowSeq};

use crate::store::{Durability, StoreError, write_json};

/// The file's version; a later one is not guessed at.
const VERSION: u32 = 1;
/// A proof is some 700 bytes; nothing larger is read.
const FILE_LIMIT: u64 = 65_536;
const PREFIX: &str = "equivocation-";

/// A proof as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofFile {
    version: u32,
    coordinator: String,
    subject: SubjectFile,
    statements: [StatementFile; 2],
}

/// What both statements are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum SubjectFile {
    Head { window: u64 },
    Proposal { round: u64, attempt: u32 },
}

/// One of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatementFile {
    pub(crate) hash: String,
    pub(crate) signature: String,
}

/// Why a file proves nothing.
#[derive(Debug, Error)]
pub enum ProofError {
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} is no proof of equivocation: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{} proves nothing: {source}", path.display())]
    Proves { path: PathBuf, source: NoProof },
}

/// A proof that holds, for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub proven: bool,
    #[serde(skip)]
    subject: String,
    #[serde(flatten)]
    proof: ProofFile,
}

impl Verified {
    /// For persons.
    pub fn text(&self) -> String {
        let [first, second] = &self.proof.statements;
        format!(
            "proven: coordinator {} signed two different things as {}\n  {}\n  {}\n\
             both signatures are valid (BIP340); do not mine for this coordinator\n",
            self.proof.coordinator, self.subject, first.hash, second.hash
        )
    }
}

impl StatementFile {
    pub(crate) fn of(statement: &Statement) -> Self {
        Self {
            hash: hex::encode(statement.hash),
            signature: hex::encode(statement.signature),
        }
    }

    pub(crate) fn read(&self) -> Option<Statement> {
        Some(Statement {
            hash: bytes(&self.hash)?,
            signature: bytes(&self.signature)?,
        })
    }
}

impl From<&Equivocation> for ProofFile {
    fn from(proof: &Equivocation) -> Self {
        Self {
            version: VERSION,
            coordinator: proof.coordinator.to_string(),
            subject: match proof.subject {
                Subject::Head(window) => SubjectFile::Head { window: window.0 },
                Subject::Proposal(round, attempt) => SubjectFile::Proposal {
                    round: round.0,
                    attempt: attempt.0,
                },
            },
            statements: [0, 1].map(|place| StatementFile::of(&proof.statements[place])),
        }
    }
}

impl ProofFile {
    fn read(&self) -> Result<Equivocation, String> {
        if self.version != VERSION {
            return Err(format!("its version {} is not {VERSION}", self.version));
        }
        let [first, second] = &self.statements;
        let statement = |statement: &StatementFile| {
            let read = statement.read();
            read.ok_or("a hash is not 32, or a signature not 64, bytes of hex".to_owned())
        };
        Ok(Equivocation {
            coordinator: identity(&self.coordinator).ok_or("its coordinator is no identity")?,
            subject: match self.subject {
                SubjectFile::Head { window } => Subject::Head(WindowSeq(window)),
                SubjectFile::Proposal { round, attempt } => {
                    Subject::Proposal(RoundSeq(round), Attempt(attempt))
                }
            },
            statements: [statement(first)?, statement(second)?],
        })
    }
}

pub(crate) fn identity(text: &str) -> Option<Identity> {
    Identity::parse(&bytes(text)?).ok()
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex::decode(text).ok()?.try_into().ok()
}

/// Writes a proof into the data directory.
pub fn keep(directory: &Path, proof: &Equivocation) -> Result<PathBuf, StoreError> {
    let about = match proof.subject {
        Subject::Head(window) => format!("head-{window}"),
        Subject::Proposal(round, attempt) => format!("proposal-{round}-{attempt}"),
    };
    let name = format!("{PREFIX}{:.16}-{about}.json", proof.coordinator.to_string());
    let path = directory.join(name);
    write_json(&path, &ProofFile::from(proof), Durability::Durable)?;
    Ok(path)
}

/// The proofs of a data directory that hold: whoever they are about is not joined.
pub fn kept(directory: &Path) -> Result<Vec<Equivocation>, StoreError> {
    let failed = |source| StoreError::Io {
        action: "read",
        path: directory.to_owned(),
        source,
    };
    let mut proofs = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let is_proof = |name: &str| name.starts_with(PREFIX) && name.ends_with(".json");
        if name.to_str().is_some_and(is_proof) {
            proofs.extend(load(&entry.path()).ok());
        }
    }
    Ok(proofs)
}

fn load(path: &Path) -> Result<Equivocation, ProofError> {
    let path = || path.to_owned();
    let unreadable = |reason: String| ProofError::Unreadable {
        path: path(),
        reason,
    };
    let size = fs::metadata(path()).map_err(|error| unreadable(error.to_string()))?;
    if size.len() > FILE_LIMIT {
        return Err(unreadable(format!("it has {} bytes", size.len())));
    }
    let text = fs::read(path()).map_err(|error| unreadable(error.to_string()))?;
    let malformed = |reason| ProofError::Malformed {
        path: path(),
        reason,
    };
    let file: ProofFile =
        serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    let proof = file.read().map_err(malformed)?;
    match proof.verify(&proof.coordinator) {
        Ok(()) => Ok(proof),
        Err(source) => Err(ProofError::Proves {
            path: path(),
            source,
        }),
    }
}

/// Checks a file from anywhere.
pub fn verify(path: &Path, coordinator: Option<&Identity>) -> Result<Verified, ProofError> {
    let proof = load(path)?;
    if let Some(coordinator) = coordinator {
        proof
            .verify(coordinator)
            .map_err(|source| ProofError::Proves {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(Verified {
        proven: true,
        subject: proof.subject.to_string(),
        proof: ProofFile::from(&proof),
    })
}
