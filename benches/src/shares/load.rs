//! What one participant of the bench `shares` does in the load shape: sends shares at a pace, and notes how
//! each was answered and after which time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tutti_proto::message::ToParticipant;
use tutti_proto::wire::FromWire;

use crate::net::link::Link;
use crate::net::player::{Kind, Player};
use crate::net::replica::Plan;

/// A participant's part of a load.
#[derive(Clone, Copy)]
pub struct Load {
    /// How often it sends a share, whatever is unanswered.
    pub every: Duration,
    /// From when on.
    pub from: Instant,
    /// Until when; then it waits for the last answers.
    pub until: Instant,
}

/// An unanswered share's number, and when it was handed to the connection.
pub(super) type Sent = (u64, Instant);

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
    let mut sent: VecDeque<Sent> = VecDeque::new();
    let mut due = load.from;
    tokio::time::sleep_until(due.into()).await;
    loop {
        let over = Instant::now().max(due) >= load.until;
        if over && sent.is_empty() {
            return Ok(loaded);
        }
        tokio::select! {
            message = link.receive() => {
                loaded.note(&message?, &mut sent, load.until)?;
            }
            () = tokio::time::sleep_until(due.into()), if !over => {
                let share = player.share(plan)?;
                sent.push_back((player.shares(), Instant::now()));
                link.send(&[share]).await?;
                due += load.every;
            }
        }
    }
}

impl Loaded {
    /// Notes an answer; says to how many shares.
    pub(super) fn note(
        &mut self,
        message: &[u8],
        sent: &mut VecDeque<Sent>,
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
fn take(sent: &mut VecDeque<Sent>, seq: u64) -> Result<Instant> {
    let place = sent.iter().position(|(number, _)| *number == seq);
    let place = place.context("a share that is not unanswered was answered")?;
    let (_, at) = sent.remove(place).context("its place is empty")?;
    Ok(at)
}
