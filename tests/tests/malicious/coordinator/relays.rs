//! Lies about who is paid where: scripts, removals and expiries.

use tutti_proto::id::SerialId;
use tutti_proto::message::{
    OutputExpired, PlaceError, ToCoordinator, ToParticipant, TxAddOutput, TxRemoveOutput,
};
use tutti_proto::participant::{Event, Input, StateError};
use tutti_proto::roster::RosterError;
use tutti_proto::window::LedgerError;
use tutti_tests::sim::{World, WorldOptions, identity_key, script};

use crate::pool::{AUX, MINERS, Mark, goes_on, pool, pool_of, told, work};

fn serial_of(world: &World, miner: usize) -> SerialId {
    let identity = world.miners[miner].identity();
    world.coordinator.roster().active(&identity).unwrap().0
}

/// The same output, but paid to the operator.
fn to_the_operator(output: TxAddOutput) -> TxAddOutput {
    TxAddOutput {
        script: script(0),
        ..output
    }
}

/// The same in the coordinator's hand: a valid signature, but not the author's.
fn resigned(output: TxAddOutput) -> TxAddOutput {
    let coordinator = identity_key(0);
    let own = TxAddOutput::sign(
        &coordinator,
        &coordinator.identity(),
        output.serial_id,
        script(0),
        &AUX,
    );
    TxAddOutput {
        identity: output.identity,
        ..own
    }
}

fn everyone_leaves_over(world: &World, mark: &Mark, error: StateError) {
    for miner in 0..MINERS {
        mark.names(world, miner, &Event::BadState(error));
        assert_eq!(world.miners[miner].orders, [], "miner {miner} has left");
    }
    assert_eq!(mark.signed(world), []);
}

#[test]
fn swaps_a_newcomers_script_in_the_relay() {
    for forge in [to_the_operator, resigned] {
        let mut world = pool_of(WorldOptions::default(), MINERS - 1);
        let mark = Mark::of(&world);
        world.lies = Some(Box::new(move |_, message| {
            vec![match message {
                ToParticipant::TxAddOutput(output) => ToParticipant::TxAddOutput(forge(output)),
                message => message,
            }]
        }));
        world.connect(MINERS - 1);
        world.settle();
        let serial = serial_of(&world, MINERS - 1);
        let error = RosterError::BadSignature(serial).into();
        everyone_leaves_over(&world, &mark, error);
        goes_on(&mut world);
    }
}

#[test]
fn swaps_a_script_in_the_welcome() {
    for forge in [to_the_operator, resigned] {
        let mut world = pool_of(WorldOptions::default(), MINERS - 1);
        let mark = Mark::of(&world);
        let victim = world.miners[0].identity();
        let serial = serial_of(&world, 0);
        world.lies = Some(Box::new(move |_, message| {
            vec![match message {
                ToParticipant::Welcome(mut welcome) => {
                    let theirs = welcome.outputs.iter_mut();
                    for output in theirs.filter(|output| output.identity == victim) {
                        *output = forge(output.clone());
                    }
                    ToParticipant::Welcome(welcome)
                }
                message => message,
            }]
        }));
        world.connect(MINERS - 1);
        world.settle();
        let error = RosterError::BadSignature(serial).into();
        assert_eq!(
            mark.news(&world, MINERS - 1),
            [Event::BadState(error)],
            "it has registered nothing, announced nothing and signed nothing"
        );
        goes_on(&mut world);
    }
}

#[test]
fn gives_an_operators_output_a_participants_place() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let (coordinator, serial) = (identity_key(0), SerialId(5));
    let output = TxAddOutput::sign(
        &coordinator,
        &coordinator.identity(),
        serial,
        script(0),
        &AUX,
    );
    for miner in 0..MINERS {
        told(
            &mut world,
            miner,
            ToParticipant::TxAddOutput(output.clone()),
        );
    }
    everyone_leaves_over(&world, &mark, RosterError::WrongParity(serial).into());
    goes_on(&mut world);
}

#[test]
fn removes_an_output_in_its_owners_name() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let coordinator = identity_key(0);
    let (identity, serial) = (world.miners[0].identity(), serial_of(&world, 0));
    let own = TxRemoveOutput::sign(&coordinator, &coordinator.identity(), serial, &AUX);
    let lie = TxRemoveOutput { identity, ..own };
    for miner in 0..MINERS {
        told(
            &mut world,
            miner,
            ToParticipant::TxRemoveOutput(lie.clone()),
        );
    }
    everyone_leaves_over(&world, &mark, StateError::UnsignedRemoval);
    goes_on(&mut world);
}

#[test]
fn removes_an_output_in_its_own_name() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let (key, serial) = (identity_key(0), serial_of(&world, 0));
    let lie = TxRemoveOutput::sign(&key, &key.identity(), serial, &AUX);
    for miner in 0..MINERS {
        told(
            &mut world,
            miner,
            ToParticipant::TxRemoveOutput(lie.clone()),
        );
    }
    everyone_leaves_over(&world, &mark, RosterError::NotYours(serial).into());
    goes_on(&mut world);
}

#[test]
fn expires_the_output_of_someone_whose_work_is_in_the_ledger() {
    let mut world = pool();
    work(&mut world, 0, 1);
    goes_on(&mut world);
    let mark = Mark::of(&world);
    let serial_id = serial_of(&world, 0);
    for miner in 0..MINERS {
        told(
            &mut world,
            miner,
            ToParticipant::OutputExpired(OutputExpired { serial_id }),
        );
    }
    everyone_leaves_over(&world, &mark, StateError::Expired(serial_id));
    goes_on(&mut world);
}

#[test]
fn expires_the_output_of_someone_whose_work_is_only_acknowledged() {
    let mut world = pool();
    work(&mut world, 0, 1);
    let mark = Mark::of(&world);
    let serial_id = serial_of(&world, 0);
    let window = world.coordinator.ledger().seq().next();
    // Only its owner knows of that work yet: the others find out when the window closes, as its places are those of
    // another payee set.
    for miner in 0..MINERS {
        told(
            &mut world,
            miner,
            ToParticipant::OutputExpired(OutputExpired { serial_id }),
        );
    }
    mark.names(&world, 0, &Event::BadState(StateError::Expired(serial_id)));
    assert_eq!(world.miners[0].orders, []);
    world.new_tip();
    world.settle();
    for miner in 1..MINERS {
        let news = mark.news(&world, miner);
        let finds_out = |event: &&Event| {
            let Event::BadState(error) = event else {
                return false;
            };
            let not_this_head = StateError::Ledger(LedgerError::NotThisHead(window));
            *error == not_this_head || *error == PlaceError::NoSuchPayee.into()
        };
        assert!(news.iter().any(|event| finds_out(&event)), "{news:?}");
    }
    assert_eq!(mark.signed(&world), []);
    goes_on(&mut world);
}

#[test]
fn expires_the_coordinators_own_output_to_hide_its_fee() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let serial_id = SerialId(0);
    for miner in 0..MINERS {
        told(
            &mut world,
            miner,
            ToParticipant::OutputExpired(OutputExpired { serial_id }),
        );
    }
    everyone_leaves_over(&world, &mark, StateError::Expired(serial_id));
    goes_on(&mut world);
}

#[test]
fn adds_an_output_again_that_its_owner_took_out() {
    let mut world = pool();
    let old = world
        .coordinator
        .roster()
        .active(&world.miners[0].identity());
    let (old, serial) = (old.unwrap().1.clone(), old.unwrap().0);
    world.tell_miner(0, Input::PayoutScript(script(77)));
    world.settle();
    assert_ne!(serial_of(&world, 0), serial, "it has moved");
    goes_on(&mut world);
    let mark = Mark::of(&world);
    // As the owner signed it, and in the owner's hand.
    for miner in 0..MINERS {
        told(&mut world, miner, ToParticipant::TxAddOutput(old.clone()));
    }
    everyone_leaves_over(&world, &mark, RosterError::NotAbove(serial).into());
    goes_on(&mut world);
}

/// Who has never worked has no output that may not expire: after that any number follows.
#[test]
fn lets_an_output_expire_to_bring_back_the_one_before() {
    let mut world = pool();
    let me = world.miners[0].identity();
    let active = |world: &World| world.coordinator.roster().active(&me).unwrap().1.clone();
    let old = active(&world);
    world.tell_miner(0, Input::PayoutScript(script(77)));
    world.settle();
    let serial_id = active(&world).serial_id;
    assert_ne!(serial_id, old.serial_id, "it has moved");
    let mark = Mark::of(&world);
    let expired = OutputExpired { serial_id };
    told(&mut world, 0, ToParticipant::OutputExpired(expired));
    assert_eq!(mark.news(&world, 0), []);
    told(&mut world, 0, ToParticipant::TxAddOutput(old.clone()));
    let error = StateError::BroughtBack(old.serial_id);
    mark.names(&world, 0, &Event::BadState(error));
    assert_eq!(world.miners[0].orders, [], "it has left");
    goes_on(&mut world);
}

#[test]
fn a_miner_whose_script_is_not_taken_says_so_again_and_again() {
    let mut world = pool();
    let (key, coordinator) = (identity_key(1), identity_key(0).identity());
    assert_eq!(key.identity(), world.miners[0].identity());
    // An output of its own that no other can follow, and that it does not ask for.
    let last = SerialId(u64::MAX);
    let output = TxAddOutput::sign(&key, &coordinator, last, script(77), &AUX);
    let peer = world.miners[0].peer.unwrap();
    let mark = Mark::of(&world);
    world.say(peer, ToCoordinator::TxAddOutput(output));
    assert_eq!(serial_of(&world, 0), last);
    let mut told = Vec::new();
    for _ in 0..8 {
        goes_on(&mut world);
        // A new session each time: what it waits for is not forgotten with one.
        world.disconnect(0);
        world.connect(0);
        world.settle();
        let news = mark.news(&world, 0);
        let windows = news.iter().filter_map(|event| match event {
            Event::OutputNotTaken { windows } => Some(*windows),
            _ => None,
        });
        told = windows.collect();
    }
    assert!(told.starts_with(&[4, 8]), "{told:?}");
    assert!((1..MINERS).all(|miner| {
        let news = mark.news(&world, miner);
        !news
            .iter()
            .any(|event| matches!(event, Event::OutputNotTaken { .. }))
    }));
}

/// It makes a miner sign the removal of what it is paid to, by a welcome in which it is paid to another.
#[test]
fn takes_out_the_output_that_is_paid_with_its_owners_own_signature() {
    let mut world = pool();
    let (key, coordinator) = (identity_key(1), identity_key(0).identity());
    let mark = Mark::of(&world);
    let serial = serial_of(&world, 0);
    let removal = TxRemoveOutput::sign(&key, &coordinator, serial, &AUX);
    for miner in 0..MINERS {
        let removal = ToParticipant::TxRemoveOutput(removal.clone());
        told(&mut world, miner, removal);
    }
    everyone_leaves_over(&world, &mark, RosterError::Active(serial).into());
    goes_on(&mut world);
}

/// What is kept back of them is below what its owner signs next, and so is refused once that is relayed.
#[test]
fn a_miner_signs_each_output_above_all_that_it_signed_before() {
    let mut world = pool();
    let me = world.miners[0].identity();
    let from = world.said.len();
    // None is relayed before the next is signed.
    for number in 70..76 {
        world.tell_miner(0, Input::PayoutScript(script(number)));
    }
    world.settle();
    let said = world.said[from..].iter().filter(|(who, _)| *who == me);
    let signed = said.filter_map(|(_, said)| match said {
        ToCoordinator::TxAddOutput(output) => Some((output.serial_id, &output.script)),
        _ => None,
    });
    let signed: Vec<_> = signed.collect();
    assert!(signed.len() >= 6, "{signed:?}");
    assert!(
        signed.is_sorted_by(|one, next| one.0 < next.0),
        "{signed:?}"
    );
    goes_on(&mut world);
    let active = world.coordinator.roster().active(&me).unwrap();
    assert_eq!(active.1.script, script(75));
}
