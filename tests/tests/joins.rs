//! What whoever joins is told: the state of the moment, made once for all who come before it changes.

use std::convert::Infallible;
use std::sync::Arc;

use tutti_proto::coordinator::{Action, Input};
use tutti_proto::deadline::Millis;
use tutti_proto::id::PeerId;
use tutti_proto::message::{Challenge, Join, ToCoordinator, ToParticipant, TxAddOutput, Welcome};
use tutti_tests::sim::{World, WorldOptions, identity_key, script};

const AUX: [u8; 32] = [7; 32];

/// What one who comes and joins is sent.
fn join(world: &mut World, number: u16) -> Vec<Arc<ToParticipant>> {
    let peer = PeerId(10_000 + u64::from(number));
    let said = sent(world, Input::Connected { peer });
    let Some(ToParticipant::Challenge(challenge)) = said.first().map(|message| &**message) else {
        panic!("no challenge: {said:?}");
    };
    let challenge: &Challenge = challenge;
    let join = Join::sign(&identity_key(number), challenge, 1_000, "test", &AUX);
    let message = ToCoordinator::Join(join);
    sent(world, Input::Received { peer, message })
}

fn sent(world: &mut World, input: Input) -> Vec<Arc<ToParticipant>> {
    let (now, dice) = (world.now, &mut rand::rng());
    let effects = world.coordinator.handle(now, dice, input);
    let Ok(actions) = effects.save(|_| Ok::<(), Infallible>(()));
    let sent = actions.into_iter().filter_map(|action| match action {
        Action::Send { message, .. } => Some(message),
        _ => None,
    });
    sent.collect()
}

fn welcome(said: &[Arc<ToParticipant>]) -> &Welcome {
    match &*said[0] {
        ToParticipant::Welcome(welcome) => welcome,
        other => panic!("no welcome: {other:?}"),
    }
}

fn same(a: &[Arc<ToParticipant>], b: &[Arc<ToParticipant>]) -> [bool; 2] {
    assert_eq!((a.len(), b.len()), (2, 2));
    [Arc::ptr_eq(&a[0], &b[0]), Arc::ptr_eq(&a[1], &b[1])]
}

#[test]
fn all_who_join_before_anything_changes_are_told_the_same_message() {
    let mut world = World::new(WorldOptions::default());
    world.connect(0);
    world.new_tip();
    world.run_until(Millis(1_000), "a round", World::all_hash_last_round);
    world.settle();

    let first = join(&mut world, 100);
    assert_eq!(same(&first, &join(&mut world, 101)), [true, true]);
    assert_eq!(
        welcome(&first).ledger,
        world.coordinator.ledger().snapshot()
    );

    // A window more, and other assignments.
    let window = world.coordinator.ledger().seq();
    world.next_round();
    assert!(world.coordinator.ledger().seq() > window);
    let second = join(&mut world, 102);
    assert_eq!(same(&first, &second), [false, false]);
    assert_eq!(
        welcome(&second).ledger,
        world.coordinator.ledger().snapshot()
    );

    // An output more.
    let coordinator = world.coordinator.identity();
    let output = TxAddOutput::sign(
        &identity_key(100),
        &coordinator,
        tutti_proto::id::SerialId(77),
        script(100),
        &AUX,
    );
    let message = ToCoordinator::TxAddOutput(output.clone());
    let peer = PeerId(10_100);
    sent(&mut world, Input::Received { peer, message });
    let third = join(&mut world, 103);
    assert_eq!(same(&second, &third), [false, false]);
    assert!(!welcome(&second).outputs.contains(&output));
    assert!(welcome(&third).outputs.contains(&output));
    assert_eq!(same(&third, &join(&mut world, 104)), [true, true]);
}
