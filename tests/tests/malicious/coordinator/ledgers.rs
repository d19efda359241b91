//! Leaving out the ledger: whoever has not named it would go on from another one, or from none.

use tutti_proto::message::{SignedHead, ToCoordinator, ToParticipant, Welcome};
use tutti_proto::participant::{Event, StateError};
use tutti_proto::window::{Tally, WindowRecord};
use tutti_tests::sim::{World, identity_key};

use crate::pool::{AUX, Mark, goes_on, pool, work};

/// Every welcome is without the ledger, and of this head if one is given.
fn omits_the_ledger(world: &mut World, head: Option<SignedHead>) {
    world.lies = Some(Box::new(move |_, message| {
        vec![match message {
            ToParticipant::Welcome(welcome) => ToParticipant::Welcome(Welcome {
                ledger: None,
                head: head.unwrap_or(welcome.head),
                ..welcome
            }),
            message => message,
        }]
    }));
}

/// What the last join named.
fn last_named(world: &World) -> Option<[u8; 32]> {
    let joins = world.said.iter().rev();
    let mut joins = joins.filter_map(|(_, said)| match said {
        ToCoordinator::Join(join) => Some(join.head),
        _ => None,
    });
    joins.next().unwrap()
}

#[test]
fn omits_a_ledger_that_nobody_named() {
    let mut world = pool();
    let left: [fn(&mut World); 2] = [
        // It missed a window.
        |world| {
            world.disconnect(0);
            world.next_round();
        },
        // Its process is another.
        |world| {
            world.disconnect(0);
            world.miners[0].restart();
        },
    ];
    for leave in left {
        leave(&mut world);
        let mark = Mark::of(&world);
        omits_the_ledger(&mut world, None);
        world.connect(0);
        world.settle();
        let window = world.coordinator.ledger().seq();
        let omitted = Event::BadState(StateError::NoLedger(window));
        assert_eq!(mark.news(&world, 0), [omitted], "it has not even joined");
        assert!(world.miners[0].peer.is_none());
        assert_eq!(world.miners[0].orders, []);
        goes_on(&mut world);
    }
}

#[test]
fn omits_the_ledger_of_another_head_than_was_named() {
    let mut world = pool();
    work(&mut world, 0, 2);
    world.disconnect(0);
    let mark = Mark::of(&world);
    let held = world.coordinator.ledger().head().hash;
    let mut other = world.coordinator.ledger().clone();
    let window = other.seq().next();
    let record = WindowRecord {
        seq: window,
        previous: other.head().hash,
        shares_root: [0; 32],
        shares: 0,
        height: 1,
        tally: Tally::new(),
        bookings: Vec::new(),
        credits: Vec::new(),
    };
    other.append(&record).unwrap();
    let head = SignedHead::sign(&identity_key(0), other.head(), &AUX);
    omits_the_ledger(&mut world, Some(head));
    world.connect(0);
    world.settle();
    let omitted = Event::BadState(StateError::NoLedger(window));
    assert_eq!(last_named(&world), Some(held));
    assert_eq!(mark.news(&world, 0), [omitted]);
    assert!(world.miners[0].peer.is_none());
    assert_eq!(mark.signed_by(&world, 0), [].into());
}

/// What is asked of a welcome with a ledger is asked of one without it.
#[test]
fn omits_the_ledger_under_a_head_that_it_did_not_sign_or_signed_otherwise() {
    let mut world = pool();
    let told = world.coordinator.ledger().head();
    let mut unsigned = SignedHead::sign(&identity_key(0), told, &AUX);
    unsigned.signature[0] ^= 1;
    let mut other = told;
    other.hash[0] ^= 1;
    let other = SignedHead::sign(&identity_key(0), other, &AUX);
    for head in [unsigned, other] {
        world.disconnect(0);
        let mark = Mark::of(&world);
        omits_the_ledger(&mut world, Some(head));
        world.connect(0);
        world.settle();
        let news = mark.news(&world, 0);
        if head == unsigned {
            assert_eq!(news, [Event::UnsignedHead(told.seq)]);
            world.lies = None;
            world.connect(0);
            world.settle();
            assert_eq!(last_named(&world), None, "it left, and begins anew");
        } else {
            assert!(matches!(news, [Event::Equivocation(_)]), "{news:?}");
            assert!(world.miners[0].peer.is_none());
        }
        goes_on(&mut world);
    }
}
