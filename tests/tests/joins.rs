//! What whoever joins is told: the state of the moment, made once for all who come before it changes.

use std::convert::Infallible;
use std::sync::Arc;

use tutti_proto::coordinator::{self, Action};
use tutti_proto::deadline::Millis;
use tutti_proto::effect::Effects;
use tutti_proto::id::PeerId;
use tutti_proto::message::{
    Challenge, Join, SignedHead, ToCoordinator, ToParticipant, TxAddOutput, Welcome,
};
use tutti_proto::params::PROTOCOL_VERSION;
use tutti_proto::participant::{self, Input, Memory, Participant, Settings};
use tutti_proto::policy::Policy;
use tutti_proto::window::{Ledger, LedgerSnapshot};
use tutti_tests::sim::{World, WorldOptions, identity_key, script};

const AUX: [u8; 32] = [7; 32];

/// What one who comes and joins is sent.
fn join(world: &mut World, number: u16) -> Vec<Arc<ToParticipant>> {
    join_with(world, number, None)
}

/// The same for one who names the ledger that it holds.
fn join_with(world: &mut World, number: u16, head: Option<[u8; 32]>) -> Vec<Arc<ToParticipant>> {
    let peer = PeerId(10_000 + u64::from(number));
    let said = sent(world, coordinator::Input::Connected { peer });
    let Some(ToParticipant::Challenge(challenge)) = said.first().map(|message| &**message) else {
        panic!("no challenge: {said:?}");
    };
    let challenge: &Challenge = challenge;
    let join = Join::sign(&identity_key(number), challenge, 1_000, "test", &AUX);
    let message = ToCoordinator::Join(Join { head, ..join });
    sent(world, coordinator::Input::Received { peer, message })
}

fn sent(world: &mut World, input: coordinator::Input) -> Vec<Arc<ToParticipant>> {
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

fn whole_ledger(world: &World) -> Option<LedgerSnapshot> {
    Some(world.coordinator.ledger().snapshot())
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
    assert_eq!(welcome(&first).ledger, whole_ledger(&world));

    // A window more, and other assignments.
    let window = world.coordinator.ledger().seq();
    world.next_round();
    assert!(world.coordinator.ledger().seq() > window);
    let second = join(&mut world, 102);
    assert_eq!(same(&first, &second), [false, false]);
    assert_eq!(welcome(&second).ledger, whole_ledger(&world));

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
    sent(&mut world, coordinator::Input::Received { peer, message });
    let third = join(&mut world, 103);
    assert_eq!(same(&second, &third), [false, false]);
    assert!(!welcome(&second).outputs.contains(&output));
    assert!(welcome(&third).outputs.contains(&output));
    assert_eq!(same(&third, &join(&mut world, 104)), [true, true]);
}

#[test]
fn who_names_the_ledgers_head_is_told_all_but_the_ledger_by_one_message_and_nobody_else_is() {
    let mut world = World::new(WorldOptions::default());
    world.connect(0);
    world.new_tip();
    world.run_until(Millis(1_000), "a round", World::all_hash_last_round);
    world.settle();

    let old = world.coordinator.ledger().head().hash;
    let whole = join(&mut world, 100);
    let brief = join_with(&mut world, 101, Some(old));
    let (told, all) = (welcome(&brief), welcome(&whole));
    assert_eq!(told.ledger, None);
    assert_eq!((&told.outputs, told.head), (&all.outputs, all.head));
    assert!(
        same(&whole, &brief)[1],
        "the assignments are the same message"
    );
    // Each of the two is made once, however they alternate.
    assert_eq!(same(&whole, &join(&mut world, 102)), [true, true]);
    let again = join_with(&mut world, 103, Some(old));
    assert_eq!(same(&brief, &again), [true, true]);

    // A head that was, and one that never was.
    world.next_round();
    for head in [old, [7; 32]] {
        let other = join_with(&mut world, 104, Some(head));
        assert_eq!(welcome(&other).ledger, whole_ledger(&world));
        assert_eq!(same(&other, &join(&mut world, 105)), [true, true]);
    }
    let new = world.coordinator.ledger().head().hash;
    let brief = join_with(&mut world, 106, Some(new));
    assert_eq!(welcome(&brief).ledger, None);
    assert_eq!(welcome(&brief).head.head.hash, new);
}

/// What a participant sends when it gets these.
fn said(miner: &mut Participant, inputs: Vec<participant::Input>) -> Vec<ToCoordinator> {
    let mut effects = Effects::default();
    for input in inputs {
        effects.append(miner.handle(&mut rand::rng(), input));
    }
    let Ok(actions) = effects.save(|_: &[participant::Record]| Ok::<(), Infallible>(()));
    let said = actions.into_iter().filter_map(|action| match action {
        participant::Action::Send(message) => Some(message),
        _ => None,
    });
    said.collect()
}

/// Another cannot have it, and is not to know where we were.
#[test]
fn a_ledger_is_named_to_its_own_coordinator_only() {
    let world = World::new(WorldOptions::default());
    let mut miner = Participant::new(
        identity_key(1),
        Settings {
            network: world.coordinator.params().network,
            coordinator: None,
            policy: Policy::default(),
            script: script(1),
            hashrate: 1,
            user_agent: "sim/1".into(),
            slots_ahead: 1,
            follows: false,
            asks_node: false,
        },
        Memory::default(),
    );
    let ledger = Ledger::default();
    let mut named = |coordinator: u16, welcomed: bool| {
        let key = identity_key(coordinator);
        let mut params = world.coordinator.params().clone();
        params.coordinator = key.identity();
        let challenge = ToParticipant::Challenge(Challenge {
            version: PROTOCOL_VERSION,
            nonce: [1; 32],
            params,
        });
        let connected = [Input::Connected, Input::Received(challenge)];
        let [ToCoordinator::Join(join)] = &said(&mut miner, connected.into())[..] else {
            panic!("it did not join");
        };
        if welcomed {
            let welcome = ToParticipant::Welcome(Welcome {
                outputs: Vec::new(),
                ledger: Some(ledger.snapshot()),
                head: SignedHead::sign(&key, ledger.head(), &AUX),
            });
            said(&mut miner, vec![Input::Received(welcome)]);
        }
        said(&mut miner, vec![Input::Disconnected]);
        join.head
    };
    let head = Some(ledger.head().hash);
    assert_eq!(named(200, true), None, "it holds none");
    assert_eq!(named(200, false), head);
    assert_eq!(named(200, false), head, "nobody answered that");
    assert_eq!(named(201, false), None);
    assert_eq!(named(200, true), None, "the other had it forgotten");
    assert_eq!(named(200, false), head);
}
