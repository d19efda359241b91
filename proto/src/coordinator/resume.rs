//! Going on with the rounds of before: after a restart of ours, and after a session was lost.

use super::live::LiveRound;
use super::{Coordinator, Event, Turn};
use crate::deadline::{Deadline, Millis};
use crate::id::{Identity, PeerId};
use crate::message::Holds;
use crate::template::Template;

impl Coordinator {
    /// A participant that came back still holds these rounds, so it need not wait for the next one.
    pub(super) fn holds(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        holds: &Holds,
    ) {
        let member = self.members.get_mut(&identity);
        if let Some(member) = member.filter(|_| !holds.rounds.is_empty()) {
            member.pace.came_back(turn.now, &self.settings);
        }
        for round in &holds.rounds {
            if let Some(next) = &mut self.next_height
                && next.of.round == *round
            {
                next.shown.insert(peer);
            }
            let credited = self.live.iter_mut().filter(|live| live.credits);
            for live in credited.filter(|live| live.of.round == *round) {
                live.shown.insert(peer);
            }
        }
        self.resume(turn, identity);
    }

    /// Gives a participant the best round of the present tip that it holds, if it has no better job.
    fn resume(&mut self, turn: &mut Turn<'_>, identity: Identity) {
        let (Some(template), Some(member)) = (&self.template, self.members.get(&identity)) else {
            return;
        };
        let (peer, has) = (member.peer, member.hashes);
        let held = self.live.iter().enumerate().filter(|(_, live)| {
            live.credits
                && live.of.template.previous_block == template.previous_block
                && live.shown.contains(&peer)
                && !live.of.assignments.of(&identity).is_empty()
        });
        // A direct round is the last resort: a signed one is better, and of these the newest.
        let rank = |live: &LiveRound| (live.of.signers() > 0, live.number);
        let Some((place, best)) = held.max_by_key(|(_, live)| rank(live)) else {
            return;
        };
        if has >= Some(rank(best)) {
            return;
        }
        let job = self.live[place].of.job();
        if self.issue_jobs(turn, place, [identity]) > 0 {
            turn.tell(Event::Resumed { identity, job });
        }
    }

    /// The first template after a restart: where a signed round of its tip is there, it is hashed on,
    /// and refreshed when it would have been. Says whether one is.
    pub(super) fn carry_on(&mut self, turn: &mut Turn<'_>, template: &Template) -> bool {
        let signed = self.on_tip().filter(|live| live.of.makes_stale());
        let Some(time) = signed.map(|live| live.of.template.time).last() else {
            return false;
        };
        let age = u64::from(template.time.saturating_sub(time)).saturating_mul(1_000);
        self.last_round_at = Millis(turn.now.0.saturating_sub(age));
        let left = Millis(self.settings.refresh.0.saturating_sub(age));
        self.deadlines.arm(Deadline::Refresh, turn.now.after(left));
        if self.next_height.is_none() {
            // By then most are back to sign it.
            self.deadlines.arm(
                Deadline::NextHeight,
                turn.now.after(self.settings.signatures),
            );
        }
        let members: Vec<Identity> = self.members.keys().copied().collect();
        for identity in members {
            self.resume(turn, identity);
            let ready = self.members.get(&identity);
            if ready.is_some_and(|member| !member.slots.is_empty()) {
                self.gather(turn, &identity);
            }
        }
        true
    }
}
