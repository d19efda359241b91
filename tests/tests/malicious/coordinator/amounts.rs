//! Paying somebody less than the work that was acknowledged, and more to somebody else.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tutti_proto::effect::Effects;
use tutti_proto::id::WindowSeq;
use tutti_proto::message::{Challenge, PayeeWork, PlaceError, SignedHead, ToParticipant, Welcome};
use tutti_proto::params::PROTOCOL_VERSION;
use tutti_proto::participant::{
    Action, Event, Input, Memory, Participant, Record, Settings, StateError,
};
use tutti_proto::policy::Policy;
use tutti_proto::window::{Ledger, LedgerError, WindowRecord};
use tutti_proto::work::Work;
use tutti_tests::sim::{World, WorldOptions, identity_key, script};

use crate::liar::{Replica, forged_ledger, proposal, window_closed};
use crate::pool::{AUX, MINERS, Mark, goes_on, pool, told, work};

/// One share of the simulation.
const SHARE: u128 = 8;

/// Replaces every closed window by a forged one, and proposes what follows from it.
pub fn lie_in_windows(world: &mut World, forge: impl Fn(&mut WindowRecord) + 'static) {
    let mut replica = Replica::of(world);
    world.lies = Some(Box::new(move |_, message| {
        let message = match message {
            ToParticipant::WindowClosed(closed) => {
                let mut record = closed.record(&replica.roster).unwrap();
                forge(&mut record);
                replica.closed(record)
            }
            ToParticipant::Proposal(told) => proposal(replica.plan(&told.plan)),
            message => message,
        };
        replica.follow(&message);
        vec![message]
    }));
}

#[test]
fn underpays_a_miner_by_a_tally_with_less_than_it_acknowledged() {
    for recorded in [0, SHARE] {
        let mut world = pool();
        work(&mut world, 0, 2);
        work(&mut world, 1, 2);
        let mark = Mark::of(&world);
        let victim = world.miners[0].identity();
        let window = world.coordinator.ledger().seq().next();
        lie_in_windows(&mut world, move |record| {
            record.tally.insert(victim, Work(recorded));
        });
        world.new_tip();
        world.settle();
        let missing = Event::WorkMissing {
            window,
            acknowledged: Work(2 * SHARE),
            recorded: Work(recorded),
        };
        mark.names(&world, 0, &missing);
        assert_eq!(mark.signed_by(&world, 0), [].into());
        assert_eq!(world.miners[0].orders, [], "it works for this pool no more");
        assert_eq!(mark.committed(&world), [], "its signature is missing");
        goes_on(&mut world);
    }
}

#[test]
fn underpays_a_miner_that_was_away_when_the_window_closed() {
    let mut world = pool();
    work(&mut world, 0, 2);
    let victim = world.miners[0].identity();
    let window = world.coordinator.ledger().seq().next();
    world.disconnect(0);
    world.new_tip();
    world.settle();
    let mark = Mark::of(&world);
    let forged = forged_ledger(&world, |record| {
        record.tally.remove(&victim);
    });
    world.lies = Some(Box::new(move |_, message| {
        vec![match message {
            ToParticipant::Welcome(welcome) => ToParticipant::Welcome(Welcome {
                ledger: Some(forged.snapshot()),
                head: SignedHead::sign(&identity_key(0), forged.head(), &AUX),
                ..welcome
            }),
            message => message,
        }]
    }));
    world.connect(0);
    world.settle();
    let missing = Event::WorkMissing {
        window,
        acknowledged: Work(2 * SHARE),
        recorded: Work::ZERO,
    };
    assert_eq!(mark.news(&world, 0), [missing], "it has not even joined");
    goes_on(&mut world);
}

/// A participant that joins a pool with this ledger, after so much work was acknowledged.
fn joins(ledger: &Ledger, own_work: BTreeMap<WindowSeq, Work>) -> Vec<Event> {
    let params = World::new(WorldOptions::default())
        .coordinator
        .params()
        .clone();
    let settings = Settings {
        network: params.network,
        coordinator: None,
        policy: Policy::default(),
        script: script(1),
        hashrate: 1,
        user_agent: "sim/1".into(),
        slots_ahead: 1,
        follows: false,
        asks_node: false,
    };
    let mut miner = Participant::new(
        identity_key(1),
        settings,
        Memory {
            own_work,
            ..Memory::default()
        },
    );
    let challenge = Challenge {
        version: PROTOCOL_VERSION,
        nonce: [1; 32],
        params,
    };
    let welcome = Welcome {
        outputs: Vec::new(),
        ledger: Some(ledger.snapshot()),
        head: SignedHead::sign(&identity_key(0), ledger.head(), &AUX),
    };
    let inputs = [
        Input::Connected,
        Input::Received(ToParticipant::Challenge(challenge)),
        Input::Received(ToParticipant::Welcome(welcome)),
    ];
    let mut dice = StdRng::seed_from_u64(1);
    let mut effects: Effects<Record, Action> = Effects::default();
    for input in inputs {
        effects.append(miner.handle(&mut dice, input));
    }
    let Ok(actions) = effects.save(|_| Ok::<(), std::convert::Infallible>(()));
    let told = actions.into_iter().filter_map(|action| match action {
        Action::Tell(event) => Some(event),
        _ => None,
    });
    told.collect()
}

#[test]
fn hides_missing_work_in_windows_that_are_merged() {
    let me = identity_key(1).identity();
    let ledger = |of: u64, less: u128| {
        let mut ledger = Ledger::default();
        for seq in 1..=130 {
            let own = if seq == of { 100 - less } else { 100 };
            let record = WindowRecord {
                seq: WindowSeq(seq),
                height: 1,
                previous: ledger.head().hash,
                shares_root: [0; 32],
                shares: 1,
                tally: [(me, Work(own))].into(),
                bookings: Vec::new(),
                credits: Vec::new(),
            };
            ledger.append(&record).unwrap();
        }
        ledger
    };
    let own_work = || (1..=131).map(|seq| (WindowSeq(seq), Work(100))).collect();
    let joined = joins(&ledger(0, 0), own_work());
    assert!(matches!(joined[..], [Event::Joined { .. }]), "{joined:?}");
    for (window, until, sum) in [(64, 64, 6_400), (65, 65, 100), (130, 130, 100)] {
        let missing = Event::WorkMissing {
            window: WindowSeq(until),
            acknowledged: Work(sum),
            recorded: Work(sum - 1),
        };
        assert_eq!(joins(&ledger(window, 1), own_work()), [missing]);
    }
}

#[test]
fn acknowledges_work_in_a_window_that_is_not_the_open_one() {
    for away in [-1i64, 1, 1_000_000] {
        let mut world = pool();
        let open = world.coordinator.ledger().seq().next();
        let window = WindowSeq(open.0.checked_add_signed(away).unwrap());
        let mark = Mark::of(&world);
        world.lies = Some(Box::new(move |_, message| {
            vec![match message {
                ToParticipant::ShareAck(mut ack) => {
                    ack.window = window;
                    ToParticipant::ShareAck(ack)
                }
                message => message,
            }]
        }));
        work(&mut world, 0, 1);
        assert_eq!(mark.news(&world, 0), [Event::WrongWindow { window, open }]);
        assert_eq!(world.miners[0].orders, [], "it works for this pool no more");
        goes_on(&mut world);
    }
}

#[test]
fn forks_the_ledger_under_the_next_window() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let window = world.coordinator.ledger().seq().next();
    let record = WindowRecord {
        seq: window,
        height: 1,
        previous: [0xee; 32],
        shares_root: [0; 32],
        shares: 0,
        tally: BTreeMap::new(),
        bookings: Vec::new(),
        credits: Vec::new(),
    };
    for miner in 0..MINERS {
        let closed = window_closed(
            world.coordinator.ledger(),
            world.coordinator.roster(),
            record.clone(),
        );
        told(&mut world, miner, ToParticipant::WindowClosed(closed));
        let forked = StateError::Ledger(LedgerError::Forked(window));
        mark.names(&world, miner, &Event::BadState(forked));
    }
    goes_on(&mut world);
}

#[test]
fn tells_work_of_payees_that_there_are_not_or_twice() {
    let mut world = pool();
    work(&mut world, 2, 1);
    let worker = world.miners[2].identity();
    for error in [PlaceError::NoSuchPayee, PlaceError::Twice(worker)] {
        let mark = Mark::of(&world);
        world.lies = Some(Box::new(move |_, mut message| {
            if let ToParticipant::WindowClosed(closed) = &mut message {
                match error {
                    PlaceError::NoSuchPayee => closed.payees.push(PayeeWork {
                        skipped: u32::MAX,
                        work: 1,
                    }),
                    PlaceError::Twice(who) => {
                        closed.record.tally.insert(who, Work(1));
                    }
                }
            }
            vec![message]
        }));
        world.new_tip();
        world.settle();
        for miner in 0..MINERS {
            mark.names(&world, miner, &Event::BadState(error.into()));
            assert_eq!(mark.signed_by(&world, miner), [].into());
        }
        goes_on(&mut world);
        work(&mut world, 2, 1);
    }
}

#[test]
fn tells_two_records_of_one_window_to_two_halves() {
    let mut world = pool();
    work(&mut world, 2, 1);
    let mark = Mark::of(&world);
    let half = [0, 1].map(|miner: usize| world.miners[miner].peer.unwrap());
    let operator = world.coordinator.identity();
    let mut lied = Replica::of(&world);
    world.lies = Some(Box::new(move |peer, message| {
        vec![match message {
            ToParticipant::WindowClosed(closed) if half.contains(&peer) => {
                let mut record = closed.record(&lied.roster).unwrap();
                record.tally.insert(operator, Work(1 << 40));
                lied.closed(record)
            }
            message => message,
        }]
    }));
    world.new_tip();
    world.settle();
    for miner in [0, 1] {
        let refusals = mark.refusals(&world, miner);
        let forked = |error: &&tutti_proto::plan::PlanError| {
            matches!(error, tutti_proto::plan::PlanError::Ledger { ours, theirs }
                if ours.seq == theirs.seq && ours.hash != theirs.hash)
        };
        assert!(
            !refusals.is_empty() && refusals.iter().all(forked),
            "{refusals:?}"
        );
        assert_eq!(mark.signed_by(&world, miner), [].into());
    }
    goes_on(&mut world);
}
