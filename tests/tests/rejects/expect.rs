//! What a refusal is: the code at its sender, and nothing else.

use tutti_proto::id::{PeerId, RoundId};
use tutti_proto::message::{ToCoordinator, ToParticipant};
use tutti_proto::reject::RejectCode;
use tutti_proto::roster::Roster;
use tutti_proto::window::LedgerHead;
use tutti_tests::sim::World;

use crate::messages::{STRANGER, add};

/// What must be the same after a refusal as before it.
#[derive(Debug, PartialEq)]
pub struct Unchanged {
    pub roster: Roster,
    pub head: LedgerHead,
    pub records: usize,
    pub joined: usize,
    pub committed: Option<(RoundId, usize)>,
}

pub fn state(world: &World) -> Unchanged {
    Unchanged {
        roster: world.coordinator.roster().clone(),
        head: world.coordinator.ledger().head(),
        records: world.records.len(),
        joined: world.coordinator.joined(),
        committed: world.coordinator.last_committed(),
    }
}

/// Refusals told since `from`.
pub fn refusals(world: &World, from: usize) -> Vec<(PeerId, RejectCode)> {
    let told = world.told[from..].iter();
    told.filter_map(|(peer, message)| match message {
        ToParticipant::Reject(reject) => Some((*peer, reject.code)),
        _ => None,
    })
    .collect()
}

pub fn name(message: &ToCoordinator) -> &'static str {
    match message {
        ToCoordinator::Join(_) => "join",
        ToCoordinator::TxAddOutput(_) => "tx_add_output",
        ToCoordinator::TxRemoveOutput(_) => "tx_remove_output",
        ToCoordinator::Slots(_) => "slots",
        ToCoordinator::TxComplete(_) => "tx_complete",
        ToCoordinator::Holds(_) => "holds",
        ToCoordinator::TxSignatures(_) => "tx_signatures",
        ToCoordinator::TxAbort(_) => "tx_abort",
        ToCoordinator::Share(_) => "share",
    }
}

/// Says it; the code is all that comes of it.
pub fn refused(world: &mut World, peer: PeerId, message: ToCoordinator, code: RejectCode) {
    let (before, from, closed) = (state(world), world.told.len(), world.closed.len());
    let what = name(&message);
    world.say(peer, message);
    assert_eq!(
        refusals(world, from),
        [(peer, code)],
        "{what} is to be {code}"
    );
    assert_eq!(
        world.told.len(),
        from + 1,
        "{what}, {code}: and nobody else hears of it"
    );
    assert_eq!(
        state(world),
        before,
        "{what}, {code}: nothing but the refusal"
    );
    assert_eq!(
        world.closed.len(),
        closed,
        "{what}, {code}: the session goes on"
    );
}

/// The same, for a refusal that ends the session of `peer`, which never joined.
pub fn turned_away(world: &mut World, peer: PeerId, message: ToCoordinator, code: RejectCode) {
    let (before, from) = (state(world), world.told.len());
    world.say(peer, message);
    assert_eq!(refusals(world, from), [(peer, code)]);
    assert_eq!(state(world), before, "{code}");
    assert_eq!(world.closed.last(), Some(&peer), "{code} closes");
    // What was still on its way from a closed session is not even answered.
    let from = world.told.len();
    world.say(peer, add(STRANGER, 4_001));
    assert_eq!(world.told.len(), from);
    assert_eq!(state(world), before, "{code}");
}
