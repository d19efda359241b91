//! As many shares as go through: one thread plays all participants, with so many unanswered at any time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use prost::bytes::Bytes;

use super::load::{Loaded, Sent};
use super::turns::Turns;
use crate::net::link::Polled;
use crate::net::player::Player;
use crate::net::replica::Plan;

/// Connections that are looked at together.
const EVENTS: usize = 1_024;
/// Read at once.
const BUFFER: usize = 64 << 10;
/// Nothing that is waited for takes as long.
const WITHIN: Duration = Duration::from_secs(60);

/// A flood.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Unanswered shares of one participant at most.
    pub each: usize,
    /// Of all.
    pub all: usize,
    /// How long shares are sent.
    pub lasts: Duration,
}

/// One of them.
pub struct Flooder {
    link: Polled,
    player: Player,
    sent: VecDeque<Sent>,
}

impl Flooder {
    /// Of one that waits for no answer.
    pub fn new(link: Polled, player: Player) -> Self {
        let sent = VecDeque::new();
        Self { link, player, sent }
    }

    /// What it was made of.
    pub fn into_parts(self) -> (Polled, Player) {
        (self.link, self.player)
    }

    /// Sends so many shares together.
    fn send(&mut self, shares: usize, plan: &Plan) -> Result<()> {
        let messages = (0..shares).map(|_| self.player.share(plan));
        let messages: Vec<Bytes> = messages.collect::<Result<_>>()?;
        let (last, now) = (self.player.shares(), Instant::now());
        let numbers = last + 1 - shares as u64..=last;
        self.sent.extend(numbers.map(|number| (number, now)));
        self.link.send(&messages)
    }

    /// Reads what has come; says how many shares it answers.
    fn read(&mut self, buffer: &mut [u8], loaded: &mut Loaded, until: Instant) -> Result<usize> {
        self.link.read(buffer)?;
        let mut answered = 0;
        while let Some(message) = self.link.received()? {
            answered += loaded.note(&message, &mut self.sent, until)?;
        }
        // Of what we owe the other end, which may wait for it.
        self.link.send(&[])?;
        Ok(answered)
    }
}

impl Flood {
    /// Carries it out.
    pub fn run(&self, flooders: &mut [Flooder], plan: &Plan) -> Result<Loaded> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (number, flooder) in flooders.iter().enumerate() {
            epoll.add(
                &flooder.link,
                EpollEvent::new(EpollFlags::EPOLLIN, number as u64),
            )?;
        }
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let mut buffer = vec![0; BUFFER];
        let mut turns = Turns::of(0..flooders.len());
        let mut free = self.all;
        let mut loaded = Loaded::default();
        let until = Instant::now() + self.lasts;
        loop {
            while free > 0 && Instant::now() < until {
                let Some(number) = turns.draw() else {
                    break;
                };
                let flooder = &mut flooders[number];
                let shares = (self.each - flooder.sent.len()).min(free);
                flooder.send(shares, plan)?;
                free -= shares;
                if flooder.sent.len() < self.each {
                    turns.add(number);
                }
            }
            if free == self.all {
                return Ok(loaded);
            }
            let ready = epoll.wait(&mut events, EpollTimeout::try_from(WITHIN)?)?;
            ensure!(ready > 0, "no answer came within {WITHIN:?}");
            for event in &events[..ready] {
                let number = usize::try_from(event.data())?;
                let flooder = flooders.get_mut(number).context("no such connection")?;
                let may = flooder.sent.len() < self.each;
                free += flooder.read(&mut buffer, &mut loaded, until)?;
                if !may && flooder.sent.len() < self.each {
                    turns.add(number);
                }
            }
        }
    }
}
