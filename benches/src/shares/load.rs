//! What one participant of the bench `shares` does: sends shares at a pace, and notes how each was
//! answered and after which time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::Semaphore;
use tutti_proto::message::ToParticipant;
use tutti_proto::wire::FromWire;

use crate::net::link::Link;
use crate::net::player::{Kind, Player};
use crate::net::replica::Plan;

/// When a participant sends its next share.
#[derive(Clone)]
pub enum Pace {
    /// As soon as fewer than so many of its own, and of all participants', are unanswered.
    Answered {
        /// Of its own.
        each: usize,
        /// A permit for each of all participants'.
        all: Arc<Semaphore>,
    },
    /// Once every so often, whatever is unanswered.
    Every(Duration),
}

/// A participant's part of a load.
#[derive(Clone)]
pub struct Load {
    /// How often.
    pub pace: Pace,
    /// From when on.
    pub from: Instant,
    /// Until when; then it waits for the last answers.
    pub until: Instant,
}

/// What became of one participant's shares.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Acknowledged before the load's end.
    pub in_time: u64,
    /// Acknowledged in all.
    pub acknowledged: u64,
    /// Refused.
    pub rejected: u64,
    /// From handing each share to the connection to its acknowledgement, microseconds.
    pub latencies: Vec<u32>,
}

/// Carries out a load.
pub async fn load(
    link: &mut Link,
    player: &mut Player,
    plan: &Plan,
    load: &Load,
) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut sent: VecDeque<(u64, Instant)> = VecDeque::new();
    tokio::time::sleep_until(load.from.into()).await;
    let mut due = load.from;
    loop {
        let over = Instant::now().max(due) >= load.until;
        if over && sent.is_empty() {
            return Ok(loaded);
        }
        let ready = load.pace.ready(sent.len());
        tokio::select! {
            message = link.receive() => {
                let mut answered = loaded.note(&message?, &mut sent, load.until)?;
                while let Some(message) = link.received()? {
                    answered += loaded.note(&message, &mut sent, load.until)?;
                }
                load.pace.answered(answered);
            }
            shares = load.pace.turn(due, ready), if !over && ready > 0 => {
                let mut messages = Vec::with_capacity(shares);
                for _ in 0..shares {
                    messages.push(player.share(plan)?);
                    sent.push_back((player.shares(), Instant::now()));
                }
                link.send(&messages).await?;
                if let Pace::Every(every) = load.pace {
                    due += every;
                }
            }
        }
    }
}

impl Pace {
    /// Shares that are ready while so many are unanswered.
    fn ready(&self, unanswered: usize) -> usize {
        match self {
            Pace::Answered { each, .. } => each.saturating_sub(unanswered),
            Pace::Every(_) => 1,
        }
    }

    /// Waits until one may be sent; says how many of those that are ready may be.
    async fn turn(&self, due: Instant, ready: usize) -> usize {
        match self {
            Pace::Answered { all, .. } => {
                let Ok(first) = all.acquire().await else {
                    return 0;
                };
                first.forget();
                let more = all.forget_permits(ready - 1);
                1 + more
            }
            Pace::Every(_) => {
                tokio::time::sleep_until(due.into()).await;
                1
            }
        }
    }

    fn answered(&self, shares: usize) {
        if let Pace::Answered { all, .. } = self {
            all.add_permits(shares);
        }
    }
}

impl Loaded {
    /// Notes an answer; says to how many shares.
    fn note(
        &mut self,
        message: &[u8],
        sent: &mut VecDeque<(u64, Instant)>,
        until: Instant,
    ) -> Result<usize> {
        let now = Instant::now();
        match Kind::of_received(message) {
            Kind::ShareAck => {
                let ToParticipant::ShareAck(ack) = ToParticipant::decode(message)? else {
                    return Ok(0);
                };
                for seq in &ack.seqs {
                    let at = take(sent, *seq)?;
                    let took = now.duration_since(at).as_micros();
                    self.latencies.push(u32::try_from(took)?);
                    self.in_time += u64::from(now < until);
                    self.acknowledged += 1;
                }
                Ok(ack.seqs.len())
            }
            Kind::ShareReject => {
                let ToParticipant::ShareReject(reject) = ToParticipant::decode(message)? else {
                    return Ok(0);
                };
                take(sent, reject.seq)?;
                self.rejected += 1;
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

/// Answers come in the order of the shares, but for refusals, which need not wait for the disk.
fn take(sent: &mut VecDeque<(u64, Instant)>, seq: u64) -> Result<Instant> {
    let place = sent.iter().position(|(number, _)| *number == seq);
    let place = place.context("a share that is not unanswered was answered")?;
    let (_, at) = sent.remove(place).context("its place is empty")?;
    Ok(at)
}
