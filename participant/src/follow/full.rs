//! Every share, and every amount that follows: the stream of them, from the state that the last round's
//! signers signed. Of rounds that were proposed before that state only the shares are checked.
//!
//! Where nobody tells the next window any more, the check starts anew from such a state, and says which
//! windows it could not check: but only if a pool that hides nothing may have forgotten it. Such a pool
//! keeps a window for as long as its work counts, and whoever was there when it closed has checked it.

use std::collections::BTreeSet;

use tokio::sync::watch;
use tonic::{Code, Status};
use tutti_proto::audit::{AuditError, Auditor};
use tutti_proto::params::PoolName;
use tutti_proto::participant::LedgerFault;
use tutti_proto::segment::{Checkpoint, CheckpointError, WindowEnd, WindowPart};
use tutti_proto::wire::pb::{self, followed};
use tutti_proto::wire::{FromWire, WireError};

use super::attended::Attended;
use super::checked::{CheckedFile, Found};
use super::window::OpenWindow;
use super::{Keep, Report, Reports, Start};
use crate::client::{self, Backoff};

/// Why a stream ended.
enum Ended {
    /// It is to be opened again.
    Broken(String),
    /// What it told is false.
    False(LedgerFault),
    /// Nobody listens any more.
    Unheard,
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Ended::Broken(format!("a malformed message: {error}"))
    }
}

impl From<AuditError> for Ended {
    fn from(fault: AuditError) -> Self {
        Ended::False(fault.into())
    }
}

impl From<CheckpointError> for Ended {
    fn from(fault: CheckpointError) -> Self {
        Ended::False(fault.into())
    }
}

struct Check {
    pool: PoolName,
    /// None before the first message.
    auditor: Option<Auditor>,
    /// The auditor's next window is not told any more: the next stream begins with a checkpoint.
    anew: bool,
    /// The present stream begins with a checkpoint, which has not come.
    is_anew: bool,
    window: OpenWindow,
    checked: CheckedFile,
    reports: Reports,
    sessions: watch::Receiver<Attended>,
}

/// Follows for as long as anybody listens and the ledger is true.
pub(super) async fn follow(
    address: String,
    pool: PoolName,
    (start, keep): (Start, Option<Keep>),
    (reports, sessions): (Reports, watch::Receiver<Attended>),
) {
    let mut check = Check {
        window: OpenWindow::new(pool, keep),
        checked: CheckedFile::new(start),
        pool,
        auditor: None,
        anew: false,
        is_anew: false,
        reports,
        sessions,
    };
    let mut backoff = Backoff::default();
    loop {
        let before = check.auditor.as_ref().map(Auditor::position);
        let ended = check.stream(&address).await;
        if check.auditor.as_ref().map(Auditor::position) != before {
            backoff = Backoff::default();
        }
        let why = match ended {
            Ended::Unheard => return,
            Ended::False(fault) => {
                // The driver leaves; there is nothing to go on with.
                let _ = check.reports.send(Report::False(fault)).await;
                return;
            }
            Ended::Broken(why) => why,
        };
        let retry = backoff.next(rand::random());
        let trouble = Report::Trouble { why, retry };
        if check.reports.send(trouble).await.is_err() {
            return;
        }
        tokio::time::sleep(retry).await;
    }
}

impl Check {
    /// One stream, from where the last one ended.
    async fn stream(&mut self, address: &str) -> Ended {
        if self.auditor.is_none()
            && let Err(ended) = self.read().await
        {
            return ended;
        }
        let mut client = match super::connect(address).await {
            Ok(client) => client,
            Err(why) => return Ended::Broken(why),
        };
        // Once only: what is not there now may be there when the next stream begins.
        let anew = std::mem::take(&mut self.anew);
        self.is_anew = anew;
        let from_checkpoint = pb::FollowRequest {
            window: 0,
            shares: 0,
        };
        let request = match &mut self.auditor {
            Some(auditor) if !anew => {
                auditor.resume();
                let (window, shares) = auditor.position();
                pb::FollowRequest {
                    window: window.0,
                    shares,
                }
            }
            _ => from_checkpoint,
        };
        self.window.resume();
        let mut stream = match client.follow(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return self.broken(&status),
        };
        let mut waits_for_checkpoint = anew;
        loop {
            let next = match stream.message().await {
                Ok(Some(next)) => next,
                Ok(None) => return Ended::Broken("the coordinator ended the stream".to_owned()),
                Err(status) => return self.broken(&status),
            };
            if let Err(ended) = self.next(next, waits_for_checkpoint).await {
                return ended;
            }
            waits_for_checkpoint = false;
        }
    }

    /// Goes on with what an earlier process has checked.
    async fn read(&mut self) -> Result<(), Ended> {
        match self.checked.read(self.pool).await {
            Ok(Found::Nothing) => Ok(()),
            Ok(Found::State(auditor)) => self.begin(*auditor).await,
            Ok(Found::Damaged(why)) => self.tell(Report::SetAside { why }).await,
            Err(why) => Err(Ended::Broken(why)),
        }
    }

    /// Whatever builds on the state to begin with can be signed already.
    async fn begin(&mut self, auditor: Auditor) -> Result<(), Ended> {
        let head = auditor.head();
        self.auditor = Some(auditor);
        self.is_anew = false;
        match head {
            Some(head) => self.tell(Report::Begins { head }).await,
            None => Ok(()),
        }
    }

    fn broken(&mut self, status: &Status) -> Ended {
        Ended::Broken(match &self.auditor {
            // Of a stream that began anew it says nothing about our own window.
            Some(auditor)
                if !self.is_anew && matches!(status.code(), Code::NotFound | Code::DataLoss) =>
            {
                let window = auditor.position().0;
                if self.sessions.borrow().has(window) {
                    return Ended::Broken(format!(
                        "the pool does not tell window {window}, which is open or closed while this participant was \
                         connected ({status}): an honest one keeps it while it counts, unless it is lost; ask the \
                         operator, and restart this participant to start anew once it no longer counts"
                    ));
                }
                self.anew = true;
                format!(
                    "the pool does not have window {window} any more, with which the check goes on; it starts anew \
                     from what the pool's signers signed"
                )
            }
            _ => client::ended(status),
        })
    }

    async fn next(&mut self, next: pb::Followed, waits_for_checkpoint: bool) -> Result<(), Ended> {
        match next.followed {
            Some(followed::Followed::Checkpoint(wire)) => {
                let checkpoint = Checkpoint::from_wire(wire)?;
                self.start_from(checkpoint, waits_for_checkpoint).await
            }
            _ if waits_for_checkpoint => Err(Ended::Broken(
                "the pool has no signed state to start anew from".to_owned(),
            )),
            Some(followed::Followed::Part(wire)) => {
                let part = WindowPart::from_wire(wire)?;
                let auditor = self.auditor();
                let known = auditor.terms().len();
                auditor.part(&part)?;
                if let Some(auditor) = &self.auditor {
                    let new = auditor.terms().get(known..).unwrap_or_default();
                    self.window.part(part, new);
                }
                Ok(())
            }
            Some(followed::Followed::End(wire)) => self.end(WindowEnd::from_wire(wire)?).await,
            None => Err(Ended::Broken("an empty message".to_owned())),
        }
    }

    /// Without a checkpoint the first window is the pool's first.
    fn auditor(&mut self) -> &mut Auditor {
        let pool = self.pool;
        self.auditor.get_or_insert_with(|| Auditor::new(pool))
    }

    async fn start_from(&mut self, checkpoint: Checkpoint, anew: bool) -> Result<(), Ended> {
        if self.auditor.is_some() && !anew || checkpoint.pool != self.pool {
            return Err(Ended::Broken(
                "a checkpoint that was not asked for, or of another pool".to_owned(),
            ));
        }
        let last = checkpoint.head.head.seq;
        let next = self.auditor.as_ref().map(|auditor| auditor.position().0);
        if let Some(next) = next.filter(|next| last < *next) {
            return Err(Ended::Broken(format!(
                "the pool's newest signed state is that after window {last}, window {next} would be next here"
            )));
        }
        let Some(signed) = &checkpoint.signed else {
            // The coordinator's word alone is what we do not take.
            return Err(CheckpointError::Unsigned.into());
        };
        let signers = signed.terms.inputs.signers.iter();
        let signers: BTreeSet<_> = signers.map(|signer| signer.identity).collect();
        let min = self.checked.start.signers_min;
        if signers.len() < usize::from(min) {
            // An honest pool may have signed so; the next round may do.
            return Err(Ended::Broken(format!(
                "the last round that the pool signed has {} signers, policy.signers_min asks for {min}",
                signers.len()
            )));
        }
        if !signers.contains(&self.pool.coordinator) {
            return Err(Ended::False(LedgerFault::NotCoordinators));
        }
        let mut auditor = Auditor::new(self.pool);
        auditor.start_from(checkpoint)?;
        if let Some(first) = next {
            let ledger = auditor.ledger();
            let counts_from = ledger.and_then(|ledger| self.sessions.borrow().counts_from(ledger));
            let Some(counts_from) = counts_from else {
                return Err(Ended::Broken(
                    "how much work counts in the pool is not known before its first proposal"
                        .to_owned(),
                ));
            };
            if counts_from <= first {
                return Err(Ended::Broken(format!(
                    "the pool does not tell window {first}, whose work still counts: an honest one does, unless it \
                     is lost; ask the operator"
                )));
            }
            self.window.restart();
            let (first, last) = (first.0, last.0);
            self.tell(Report::Skipped { first, last }).await?;
        }
        self.begin(auditor).await
    }

    async fn end(&mut self, end: WindowEnd) -> Result<(), Ended> {
        self.tell(Report::Told(end.head)).await?;
        let auditor = self.auditor();
        let shares = auditor.position().1;
        auditor.end(&end)?;
        let head = end.head.head;
        let signed = end.head;
        let checked = Report::Checked { head, shares };
        self.tell(checked).await?;
        // Not before: a round waits for the check, nobody for the file.
        match self.window.end(end).await {
            Ok(None) => {}
            Ok(Some(file)) => {
                let window = head.seq.0;
                self.tell(Report::Kept { window, file }).await?;
            }
            Err(why) => self.trouble(why).await?,
        }
        let Some(auditor) = &self.auditor else {
            return Ok(());
        };
        match self.checked.write(auditor, signed).await {
            Ok(()) => Ok(()),
            Err(why) => self.trouble(why).await,
        }
    }

    /// Tells what hinders, though the check goes on.
    async fn trouble(&self, why: String) -> Result<(), Ended> {
        let retry = std::time::Duration::ZERO;
        self.tell(Report::Trouble { why, retry }).await
    }

    async fn tell(&self, report: Report) -> Result<(), Ended> {
        let told = self.reports.send(report).await;
        told.map_err(|_| Ended::Unheard)
    }
}
