//! Heads of the ledger as the coordinator signed them: the evidence, should it ever sign others.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tutti_proto::equivocation::Statements;
use tutti_proto::id::WindowSeq;
use tutti_proto::message::SignedHead;
use tutti_proto::window::LedgerHead;

use super::{Durability, StoreError, read_lazy, write_json};
use crate::news::{DaemonEvent, News};
use crate::proof::{StatementFile, identity};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadsFile {
    coordinator: String,
    heads: Vec<HeadFile>,
}

#[derive(Serialize, Deserialize)]
struct HeadFile {
    window: u64,
    #[serde(flatten)]
    statement: StatementFile,
}

/// Reads them.
pub(super) fn load(path: &Path) -> Result<Statements, StoreError> {
    let mut statements = Statements::default();
    let Some(file) = read_lazy::<HeadsFile>(path)? else {
        if path.exists() {
            News::from(DaemonEvent::HeadsLost { path }).emit();
        }
        return Ok(statements);
    };
    let damaged = |reason: &str| StoreError::Damaged {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let coordinator = identity(&file.coordinator).ok_or_else(|| damaged("no identity"))?;
    for entry in &file.heads {
        let statement = entry.statement.read();
        let statement = statement.ok_or_else(|| damaged("a head or signature is not hex"))?;
        let head = SignedHead {
            head: LedgerHead {
                seq: WindowSeq(entry.window),
                hash: statement.hash,
            },
            signature: statement.signature,
        };
        statements
            .note_head(&coordinator, &head)
            .map_err(|_| damaged("a window has two heads"))?;
    }
    Ok(statements)
}

/// Writes them. They need not survive a power failure: a round must not wait for the disk because
/// of evidence that the next window renews.
pub(super) fn store(path: &Path, statements: &Statements) -> Result<(), StoreError> {
    let Some(coordinator) = statements.coordinator() else {
        return Ok(());
    };
    let entry = |(window, statement): (&WindowSeq, _)| HeadFile {
        window: window.0,
        statement: StatementFile::of(statement),
    };
    let file = HeadsFile {
        coordinator: coordinator.to_string(),
        heads: statements.heads().map(entry).collect(),
    };
    write_json(path, &file, Durability::Lazy)
}
