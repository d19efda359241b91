//! How messages, records and blocks flow through a world: effects become deliveries, and deliveries
//! inputs. The observer sees all of them.

use std::sync::Arc;

use rand::Rng;
use tutti_proto::coordinator::{Action, Event, Input, Record};
use tutti_proto::deadline::Millis;
use tutti_proto::effect::Effects;
use tutti_proto::id::PeerId;
use tutti_proto::message::{ShareAck, ToCoordinator, ToParticipant};
use tutti_proto::participant;

use super::chain::Judgement;
use super::miner::{Miner, Mood};
use super::network::Delivery;
use super::world::{PowerLoss, World};

impl World {
    pub(super) fn deliver_next(&mut self) {
        if let Some((at, delivery)) = self.network.pop() {
            self.now = self.now.max(at);
            self.deliver(delivery);
        }
    }

    pub(super) fn at_peer(&self, peer: PeerId) -> Option<usize> {
        self.miners
            .iter()
            .position(|miner| miner.peer == Some(peer))
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Up(peer, message) => self.tell_coordinator(Input::Received { peer, message }),
            Delivery::Down(peer, message) => {
                if let Some(miner) = self.at_peer(peer) {
                    self.tell_miner(miner, participant::Input::Received(message));
                }
            }
            Delivery::ClosedAbove(peer) => self.tell_coordinator(Input::Disconnected { peer }),
            Delivery::ClosedBelow(peer) => {
                if let Some(miner) = self.at_peer(peer) {
                    self.miners[miner].peer = None;
                    self.tell_miner(miner, participant::Input::Disconnected);
                    self.reconnect_later(miner);
                }
            }
            Delivery::Reconnect(miner) => {
                if self.miners[miner].peer.is_none() {
                    self.connect(miner);
                }
            }
            Delivery::Template => self.template(),
        }
    }

    fn post(&mut self, delivery: Delivery) {
        let (peer, message) = match delivery {
            Delivery::Down(peer, message) => (peer, message),
            other => return self.network.send(self.now, &mut self.dice, other),
        };
        let Some(lies) = &mut self.lies else {
            return self.post_down(peer, message, true);
        };
        for said in lies(peer, message.clone()) {
            let is_true = said == message;
            self.post_down(peer, said, is_true);
        }
    }

    /// The observer hears only what is true: whoever acts on a lie is found.
    fn post_down(&mut self, peer: PeerId, message: ToParticipant, is_true: bool) {
        if is_true {
            let to = self.at_peer(peer);
            let to = to.map(|miner| self.miners[miner].identity());
            self.invariants.told(to, &message);
        }
        if !self.options.lives {
            self.told.push((peer, message.clone()));
        }
        let delivery = Delivery::Down(peer, message);
        self.network.send(self.now, &mut self.dice, delivery);
    }

    /// Feeds a miner's core and posts what it sends.
    pub fn tell_miner(&mut self, miner: usize, input: participant::Input) {
        let power_fails = self.miner_power == Some(miner);
        let reaction = self.miners[miner].handle(&mut self.dice, input, power_fails);
        let identity = self.miners[miner].identity();
        reaction
            .held
            .iter()
            .for_each(|held| self.invariants.held(held));
        if reaction.ordered {
            let Miner { held, orders, .. } = &self.miners[miner];
            self.invariants.ordered(&identity, held, orders);
        }
        if power_fails {
            self.miner_power = None;
            return self.kill_miner(miner);
        }
        let Some(peer) = self.miners[miner].peer else {
            return;
        };
        for message in reaction.sent {
            self.invariants.said(&identity, &message);
            if !self.options.lives {
                self.said.push((identity, message.clone()));
            }
            let message = self.in_a_liars_words(miner, message);
            self.post(Delivery::Up(peer, message));
        }
        if reaction.leaves {
            self.disconnect(miner);
        }
    }

    fn in_a_liars_words(&mut self, miner: usize, message: ToCoordinator) -> ToCoordinator {
        let miner = &self.miners[miner];
        if miner.mood != Mood::Liar {
            return message;
        }
        self.invariants.lies(miner.identity());
        if self.dice.random_bool(0.5) {
            return message;
        }
        let (number, challenge) = (miner.number, miner.challenge.as_ref());
        let dice = &mut self.dice;
        let lie = self
            .mutator
            .of_participant(dice, number, challenge, &message);
        self.miners_lies += u64::from(lie.is_some());
        lie.unwrap_or(message)
    }

    /// Feeds the coordinator's core and carries out its effects.
    pub fn tell_coordinator(&mut self, input: Input) {
        let power = self.coordinator_power.take();
        let is_due = |world: &Self| {
            let deadline = world.coordinator.next_deadline();
            deadline.is_some_and(|at| at <= world.now)
        };
        let was_due = is_due(self);
        let effects = self.coordinator.handle(self.now, &mut self.dice, input);
        match power {
            None => {
                self.carry_out(effects);
                // What this input made due at once comes after what it sent.
                if !self.options.batched && !was_due && is_due(self) {
                    self.tell_coordinator(Input::Wake);
                }
            }
            Some(when) => {
                // A process that lost power did what it did for nobody.
                if when == PowerLoss::AfterSave {
                    drop(self.save(effects));
                }
                self.reboot();
            }
        }
    }

    fn save(&mut self, effects: Effects<Record, Action>) -> Vec<Action> {
        let (records, invariants) = (&mut self.records, &mut self.invariants);
        let saved = effects.save(|new| {
            new.iter().for_each(|record| invariants.recorded(record));
            records.extend_from_slice(new);
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(actions) = saved;
        actions
    }

    fn carry_out(&mut self, effects: Effects<Record, Action>) {
        for action in self.save(effects) {
            match action {
                Action::Send { peer, message } => {
                    self.post(Delivery::Down(peer, Arc::unwrap_or_clone(message)))
                }
                Action::AcceptShare {
                    peer,
                    window,
                    seq,
                    identity,
                    z,
                } => {
                    let seqs = vec![seq];
                    let ack = ToParticipant::ShareAck(ShareAck { window, seqs });
                    self.post(Delivery::Down(peer, ack));
                    self.events.push(Event::ShareAccepted { identity, z });
                }
                Action::Broadcast { peers, message } => {
                    for peer in peers {
                        self.post(Delivery::Down(peer, (*message).clone()));
                    }
                }
                Action::Disconnect { peer, reject } => {
                    self.closed.push(peer);
                    self.post(Delivery::Down(peer, ToParticipant::Reject(reject)));
                    self.network.break_off(self.now, &mut self.dice, peer);
                }
                Action::SubmitBlock { hash, block } => self.submit(hash, block),
                Action::CreditDone { block, shard } => self.credits_done.push((block, shard)),
                Action::Tell(event) => self.events.push(*event),
            }
        }
    }

    fn submit(&mut self, hash: [u8; 32], block: Vec<u8>) {
        if self.options.real_chain {
            self.blocks.push(block);
            let refused = None;
            return self.tell_coordinator(Input::BlockVerdict { hash, refused });
        }
        let refused = match self.chain.submit(&block) {
            Judgement::Accepted(block) => {
                self.invariants.mined(&block.txdata[0]);
                if self.options.lives {
                    self.network
                        .at(self.now.after(Millis(5)), Delivery::Template);
                }
                None
            }
            Judgement::Inconclusive => Some("inconclusive".to_owned()),
            Judgement::Invalid(why) => {
                let words = format!("invariant 6: a block of ours is invalid: {why}");
                self.invariants.violations.push(words);
                Some(why.to_owned())
            }
        };
        if !self.options.lives {
            self.blocks.push(block);
        }
        self.tell_coordinator(Input::BlockVerdict { hash, refused });
    }
}
