//! The virtual network: connections with latency, and all that can go wrong with them.
//!
//! A stream delivers in order and loses nothing, or it breaks. So a lost message is the first of
//! those that its connection will never deliver, and both ends notice later. Beyond what TCP does,
//! messages can be repeated and overtake each other, as if a faulty relay stood between.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rand::Rng;
use rand::rngs::StdRng;
use tutti_proto::deadline::Millis;
use tutti_proto::id::PeerId;
use tutti_proto::message::{ToCoordinator, ToParticipant};

/// How the network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weather {
    /// One way, milliseconds; drawn for each message.
    pub latency: RangeInclusive<u64>,
    /// Messages in a million that are lost, and their connection with them.
    pub lost_ppm: u32,
    /// Messages in a million that come twice.
    pub repeated_ppm: u32,
    /// Messages in a million that may overtake those before them.
    pub overtaking_ppm: u32,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            latency: 10..=10,
            lost_ppm: 0,
            repeated_ppm: 0,
            overtaking_ppm: 0,
        }
    }
}

/// Until both ends of a broken connection know, milliseconds: keepalives take their time.
const NOTICED: RangeInclusive<u64> = 0..=5_000;

/// What is on its way.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "made once, moved out once")]
pub enum Delivery {
    /// Miner to coordinator.
    Up(PeerId, ToCoordinator),
    /// Coordinator to miner.
    Down(PeerId, ToParticipant),
    /// The coordinator's end learns that the connection is gone.
    ClosedAbove(PeerId),
    /// The miner's end learns it.
    ClosedBelow(PeerId),
    /// A miner tries again to connect.
    Reconnect(usize),
    /// The node has a template on the tip of that moment.
    Template,
}

/// One connection.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    up_at: Millis,
    down_at: Millis,
    stalled_until: Millis,
    broken: bool,
}

/// Everything that is on its way, in the order in which it arrives.
pub struct Network {
    pub weather: Weather,
    queue: BTreeMap<(Millis, u64), Delivery>,
    sequence: u64,
    links: BTreeMap<PeerId, Link>,
}

impl Network {
    pub fn new(weather: Weather) -> Self {
        Self {
            weather,
            queue: BTreeMap::new(),
            sequence: 0,
            links: BTreeMap::new(),
        }
    }

    pub fn open(&mut self, peer: PeerId) {
        self.links.insert(peer, Link::default());
    }

    /// Nothing more is delivered on this connection.
    pub fn close(&mut self, peer: PeerId) {
        self.links.remove(&peer);
        self.queue.retain(|_, delivery| match delivery {
            Delivery::Up(on, _) | Delivery::Down(on, _) => *on != peer,
            _ => true,
        });
    }

    /// What was sent arrives, nothing else is, and both ends learn of it in a while.
    pub fn break_off(&mut self, now: Millis, dice: &mut StdRng, peer: PeerId) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| !link.broken) else {
            return;
        };
        link.broken = true;
        let above = now.after(Millis(dice.random_range(NOTICED)));
        let below = now.after(Millis(dice.random_range(NOTICED)));
        self.at(above, Delivery::ClosedAbove(peer));
        self.at(below, Delivery::ClosedBelow(peer));
    }

    /// A partition: what is sent on this connection arrives after it.
    pub fn stall(&mut self, peer: PeerId, until: Millis) {
        if let Some(link) = self.links.get_mut(&peer) {
            // What was stalled for longer is not freed by another partition.
            link.stalled_until = link.stalled_until.max(until);
        }
    }

    /// Whether all is well with this connection.
    pub fn is_sound(&self, peer: PeerId, now: Millis) -> bool {
        let link = self.links.get(&peer);
        link.is_some_and(|link| !link.broken && link.stalled_until <= now)
    }

    /// Sends a message.
    pub fn send(&mut self, now: Millis, dice: &mut StdRng, delivery: Delivery) {
        let (peer, up) = match &delivery {
            Delivery::Up(peer, _) => (*peer, true),
            Delivery::Down(peer, _) => (*peer, false),
            _ => return,
        };
        let happens =
            |dice: &mut StdRng, ppm: u32| ppm > 0 && dice.random_range(0..1_000_000) < ppm;
        let weather = self.weather.clone();
        if happens(dice, weather.lost_ppm) {
            self.break_off(now, dice, peer);
        }
        let Some(link) = self.links.get_mut(&peer).filter(|link| !link.broken) else {
            return;
        };
        let latency = Millis(dice.random_range(weather.latency));
        let soonest = now.max(link.stalled_until).after(latency);
        let last = if up {
            &mut link.up_at
        } else {
            &mut link.down_at
        };
        let at = if happens(dice, weather.overtaking_ppm) {
            soonest
        } else {
            soonest.max(*last)
        };
        *last = at.max(*last);
        if happens(dice, weather.repeated_ppm) {
            let again = at.after(Millis(dice.random_range(0..=200)));
            self.at(again, delivery.clone());
        }
        self.at(at, delivery);
    }

    /// Something that happens at a moment, whatever the network does.
    pub fn at(&mut self, at: Millis, delivery: Delivery) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), delivery);
    }

    pub fn next_at(&self) -> Option<Millis> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn pop(&mut self) -> Option<(Millis, Delivery)> {
        self.queue
            .pop_first()
            .map(|((at, _), delivery)| (at, delivery))
    }

    /// Forgets all connections and what is on them; other events stay.
    pub fn cut_all(&mut self) {
        self.links.clear();
        self.queue.retain(|_, delivery| {
            !matches!(
                delivery,
                Delivery::Up(..)
                    | Delivery::Down(..)
                    | Delivery::ClosedAbove(_)
                    | Delivery::ClosedBelow(_)
            )
        });
    }
}
