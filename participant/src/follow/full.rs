//! Every share: the stream of them, from the state that the last round's signers signed.

use tutti_proto::follower::{FollowError, Follower};
use tutti_proto::params::PoolName;
use tutti_proto::participant::LedgerFault;
use tutti_proto::segment::{Checkpoint, CheckpointError, WindowEnd, WindowPart};
use tutti_proto::window::Ledger;
use tutti_proto::wire::pb::{self, followed};
use tutti_proto::wire::{FromWire, WireError};

use super::window::OpenWindow;
use super::{Keep, Report, Reports};
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

impl From<FollowError> for Ended {
    fn from(fault: FollowError) -> Self {
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
    follower: Option<Follower>,
    window: OpenWindow,
    reports: Reports,
}

/// Follows for as long as anybody listens and the ledger is true.
pub(super) async fn follow(address: String, pool: PoolName, keep: Option<Keep>, reports: Reports) {
    let mut check = Check {
        window: OpenWindow::new(pool, keep),
        pool,
        follower: None,
        reports,
    };
    let mut backoff = Backoff::default();
    loop {
        let before = check.follower.as_ref().map(Follower::position);
        let ended = check.stream(&address).await;
        if check.follower.as_ref().map(Follower::position) != before {
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
        let mut client = match super::connect(address).await {
            Ok(client) => client,
            Err(why) => return Ended::Broken(why),
        };
        let request = match &mut self.follower {
            None => pb::FollowRequest {
                window: 0,
                shares: 0,
            },
            Some(follower) => {
                follower.resume();
                let (window, shares) = follower.position();
                pb::FollowRequest {
                    window: window.0,
                    shares,
                }
            }
        };
        self.window.resume();
        let mut stream = match client.follow(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Ended::Broken(client::ended(&status)),
        };
        loop {
            let next = match stream.message().await {
                Ok(Some(next)) => next,
                Ok(None) => return Ended::Broken("the coordinator ended the stream".to_owned()),
                Err(status) => return Ended::Broken(client::ended(&status)),
            };
            if let Err(ended) = self.next(next).await {
                return ended;
            }
        }
    }

    async fn next(&mut self, next: pb::Followed) -> Result<(), Ended> {
        match next.followed {
            Some(followed::Followed::Checkpoint(wire)) => {
                self.start_from(Checkpoint::from_wire(wire)?)
            }
            Some(followed::Followed::Part(wire)) => {
                let part = WindowPart::from_wire(wire)?;
                let known = self.follower().terms().len();
                self.follower().part(&part)?;
                if let Some(follower) = &self.follower {
                    self.window.part(part, &follower.terms()[known..]);
                }
                Ok(())
            }
            Some(followed::Followed::End(wire)) => self.end(WindowEnd::from_wire(wire)?).await,
            None => Err(Ended::Broken("an empty message".to_owned())),
        }
    }

    /// Without a checkpoint the first window is the pool's first.
    fn follower(&mut self) -> &mut Follower {
        let pool = self.pool;
        let start = || Follower::new(pool, Ledger::default());
        self.follower.get_or_insert_with(start)
    }

    fn start_from(&mut self, checkpoint: Checkpoint) -> Result<(), Ended> {
        if self.follower.is_some() || checkpoint.pool != self.pool {
            return Err(Ended::Broken(
                "a checkpoint that was not asked for, or of another pool".to_owned(),
            ));
        }
        if checkpoint.signed.is_none() {
            // The coordinator's word alone is what we do not take.
            return Err(CheckpointError::Unsigned.into());
        }
        let (ledger, _) = checkpoint.check()?;
        self.follower = Some(Follower::new(self.pool, ledger));
        Ok(())
    }

    async fn end(&mut self, end: WindowEnd) -> Result<(), Ended> {
        let shares = self.follower().position().1;
        let head = self.follower().end(&end)?;
        let checked = Report::Checked { head, shares };
        self.tell(checked).await?;
        // Not before: a round waits for the check, nobody for the file.
        match self.window.end(end).await {
            Ok(None) => Ok(()),
            Ok(Some(file)) => {
                let window = head.seq.0;
                self.tell(Report::Kept { window, file }).await
            }
            Err(why) => {
                let retry = std::time::Duration::ZERO;
                self.tell(Report::Trouble { why, retry }).await
            }
        }
    }

    async fn tell(&self, report: Report) -> Result<(), Ended> {
        let told = self.reports.send(report).await;
        told.map_err(|_| Ended::Unheard)
    }
}
