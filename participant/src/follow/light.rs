//! A few shares of each window, at positions that nobody could know before it closed.

use rand::Rng;
use tokio::sync::mpsc;
use tutti_proto::params::PoolName;
use tutti_proto::participant::LedgerFault;
use tutti_proto::sample::Sample;
use tutti_proto::window::{WindowRecord, total};
use tutti_proto::wire::{FromWire, pb, positions_to_wire};
use tutti_proto::work::Work;

use super::{Report, Reports};
use crate::client::{self, Backoff};

/// How often one window is asked for.
const TRIES: u32 = 4;

/// Samples closed windows for as long as anybody listens and they are true.
pub(super) async fn sample(
    address: String,
    pool: PoolName,
    samples: usize,
    mut windows: mpsc::Receiver<WindowRecord>,
    reports: Reports,
) {
    let mut backoff = Backoff::default();
    'windows: while let Some(record) = windows.recv().await {
        let window = record.seq.0;
        let mut tries = 0;
        let report = loop {
            tries += 1;
            match look(&address, &pool, &record, samples).await {
                Ok(Ok(samples)) => break Report::Sampled { window, samples },
                Ok(Err(fault)) => break Report::False(fault),
                Err(why) => {
                    let retry = backoff.next(rand::random());
                    let trouble = Report::Trouble { why, retry };
                    if reports.send(trouble).await.is_err() {
                        return;
                    }
                    if tries >= TRIES {
                        // The next window may be answered.
                        continue 'windows;
                    }
                    tokio::time::sleep(retry).await;
                }
            }
        };
        backoff = Backoff::default();
        let is_false = matches!(report, Report::False(_));
        if reports.send(report).await.is_err() || is_false {
            return;
        }
    }
}

/// Looks at one window: how many shares were good, or what is false; or why nobody answered.
async fn look(
    address: &str,
    pool: &PoolName,
    record: &WindowRecord,
    samples: usize,
) -> Result<Result<usize, LedgerFault>, String> {
    let total = match total(&record.tally) {
        Ok(Work(0)) => return Ok(Ok(0)),
        Ok(total) => total,
        Err(overflow) => {
            return Ok(Err(
                tutti_proto::follower::FollowError::from(overflow).into()
            ));
        }
    };
    let at = |_| Work(rand::rng().random_range(0..total.0));
    let positions: Vec<Work> = (0..samples).map(at).collect();
    let request = pb::SampleRequest {
        window: record.seq.0,
        positions: positions_to_wire(&positions),
    };
    let mut client = super::connect(address).await?;
    let reply = client.sample(request).await;
    let reply = reply.map_err(|status| client::ended(&status))?.into_inner();
    let sample = Sample::from_wire(reply);
    let sample = sample.map_err(|error| format!("a malformed sample: {error}"))?;
    let checked = sample.check(pool, record, &positions);
    Ok(checked.map(|()| positions.len()).map_err(LedgerFault::from))
}
