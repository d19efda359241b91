//! Booking blocks that are not there, going back behind what was signed, and answers that count nowhere.

use tutti_proto::coordinator::Record;
use tutti_proto::deadline::Millis;
use tutti_proto::equivocation::Subject;
use tutti_proto::id::{RoundSeq, WindowSeq};
use tutti_proto::message::{ShareReject, SignedHead, ToParticipant, Welcome};
use tutti_proto::participant::{BlockClaim, Event, Input};
use tutti_proto::plan::PlanError;
use tutti_proto::reject::RejectCode;
use tutti_proto::window::{Ledger, LedgerHead};
use tutti_tests::sim::{World, WorldOptions, identity_key};

use super::amounts::lie_in_windows;
use super::carries::pool_that_found_a_block;
use crate::liar::proposal;
use crate::pool::{AUX, MINERS, Mark, SECOND, goes_on, last_proposal, pool, pool_of, told, work};

/// Within the time to sign.
const MOMENT: Millis = Millis(200);
/// The one that has a node.
const NODE: usize = MINERS - 1;

fn with_a_node() -> WorldOptions {
    WorldOptions {
        nodes: 1,
        direct_payees: 0,
        ..WorldOptions::default()
    }
}

fn run_for(world: &mut World, time: Millis) {
    let end = world.now.after(time);
    while world.next_at().is_some_and(|at| at <= end) {
        world.step();
    }
}

fn seen(world: &mut World, block: [u8; 32], in_chain: bool) {
    world.tell_miner(NODE, Input::BlockSeen { block, in_chain });
}

/// Closes the window that books the block; says what the node is asked.
fn booked(world: &mut World) -> BlockClaim {
    let window = world.coordinator.ledger().seq().next();
    world.new_tip();
    run_for(world, MOMENT);
    let claims = &world.miners[NODE].claims;
    let &[claim] = &claims[..] else {
        panic!("one block is booked: {claims:?}");
    };
    assert!(claim.booked && claim.window == window);
    claim
}

#[test]
fn books_a_block_that_our_node_has_not() {
    let mut world = pool_that_found_a_block(with_a_node());
    let mark = Mark::of(&world);
    let claim = booked(&mut world);
    let signed = |world: &World| !mark.signed_by(world, NODE).is_empty();
    assert!(!signed(&world), "the others wait for its signature");
    // Neither another block nor the news that it is not there changes that.
    seen(&mut world, [9; 32], true);
    seen(&mut world, claim.block, false);
    run_for(&mut world, MOMENT);
    assert!(!signed(&world));
    world.tell_miner(NODE, Input::CheckIsLate);
    world.settle();
    mark.names(&world, NODE, &Event::BlockUnseen(claim));
    let refused = mark.refusals(&world, NODE);
    let late = |error: &&&PlanError| matches!(error, PlanError::Unchecked(_));
    assert_eq!(refused.iter().filter(late).count(), refused.len());
    assert!(!refused.is_empty() && !signed(&world));
    let new = |window: &WindowSeq| *window > claim.window;
    assert!(
        world.miners[NODE]
            .held
            .iter()
            .all(|held| !new(&held.window.next())),
        "nothing that follows from it is held, so nothing is hashed"
    );
    // While the others go on, it is not asked: it announces no slots.
    world.new_tip();
    world.settle();
    assert!(!signed(&world));
    seen(&mut world, claim.block, true);
    goes_on(&mut world);
    assert!(signed(&world));
}

#[test]
fn a_block_that_our_node_has_holds_nobody_up() {
    let mut world = pool_that_found_a_block(with_a_node());
    let mark = Mark::of(&world);
    let claim = booked(&mut world);
    seen(&mut world, claim.block, true);
    world.run_until(SECOND, "everyone hashes", World::all_hash_last_round);
    assert_eq!(mark.refusals(&world, NODE), Vec::<&PlanError>::new());
    goes_on(&mut world);
}

#[test]
fn takes_back_a_block_that_our_node_has() {
    let mut world = pool_that_found_a_block(with_a_node());
    let claim = booked(&mut world);
    seen(&mut world, claim.block, true);
    world.settle();
    let undo = world.records.iter().find_map(|record| match record {
        Record::WindowClosed(closed) => closed.record.bookings.first()?.undo(),
        _ => None,
    });
    let undo = undo.unwrap();
    lie_in_windows(&mut world, move |record| {
        record.bookings = vec![undo.clone()];
    });
    let mark = Mark::of(&world);
    world.new_tip();
    run_for(&mut world, MOMENT);
    let claims = &world.miners[NODE].claims;
    assert!(matches!(claims[..], [BlockClaim { booked: false, .. }]));
    seen(&mut world, claim.block, true);
    world.settle();
    assert_eq!(mark.signed_by(&world, NODE), [].into());
}

#[test]
fn a_newcomer_asks_its_node_about_every_block_of_the_ledger() {
    let mut world = pool_that_found_a_block(with_a_node());
    let claim = booked(&mut world);
    seen(&mut world, claim.block, true);
    world.settle();
    world.disconnect(NODE);
    world.miners[NODE].claims.clear();
    world.connect(NODE);
    world.settle();
    assert_eq!(world.miners[NODE].claims, [claim]);
    let mark = Mark::of(&world);
    world.new_tip();
    run_for(&mut world, MOMENT);
    assert_eq!(mark.signed_by(&world, NODE), [].into());
    seen(&mut world, claim.block, true);
    goes_on(&mut world);
}

#[test]
fn never_books_a_block_of_the_pool() {
    let mut world = pool_of(with_a_node(), MINERS);
    let (mark, block) = (Mark::of(&world), [9; 32]);
    world.tell_miner(NODE, Input::OwnBlock(block));
    let told = |world: &World| {
        let news = mark.news(world, NODE).iter();
        let told = news.filter(|event| **event == Event::BlockNotBooked(block));
        told.count()
    };
    let from = world.coordinator.ledger().seq().0;
    while world.coordinator.ledger().seq().0 <= from + 16 {
        assert_eq!(told(&world), 0, "it may come");
        world.new_tip();
        world.settle();
    }
    world.new_tip();
    world.settle();
    assert_eq!(told(&world), 1, "said once");
}

#[test]
fn a_block_that_is_booked_is_not_missed() {
    let mut world = pool_that_found_a_block(with_a_node());
    let mark = Mark::of(&world);
    let claim = booked(&mut world);
    seen(&mut world, claim.block, true);
    world.tell_miner(NODE, Input::OwnBlock(claim.block));
    for _ in 0..18 {
        world.new_tip();
        world.settle();
    }
    let missed = |event: &Event| matches!(event, Event::BlockNotBooked(_));
    assert!(!mark.news(&world, NODE).iter().any(missed));
}

/// A welcome of the same ledger, as if so many windows had closed.
fn of_the_future(welcome: Welcome, ledger: &Ledger, seq: WindowSeq) -> Welcome {
    let mut snapshot = ledger.snapshot();
    snapshot.seq = seq;
    let head = LedgerHead::of(seq, &snapshot.previous, &snapshot.record, &ledger.state());
    Welcome {
        head: SignedHead::sign(&identity_key(0), head, &AUX),
        ledger: Some(snapshot),
        ..welcome
    }
}

#[test]
fn forgets_work_by_a_ledger_of_the_far_future() {
    for restarted in [false, true] {
        let mut world = pool();
        work(&mut world, 0, 2);
        let ledger = world.coordinator.ledger().clone();
        let far = WindowSeq(u64::MAX);
        world.disconnect(0);
        world.lies = Some(Box::new(move |_, message| {
            vec![match message {
                ToParticipant::Welcome(welcome) => {
                    ToParticipant::Welcome(of_the_future(welcome, &ledger, far))
                }
                message => message,
            }]
        }));
        world.connect(0);
        world.settle();
        let mark = Mark::of(&world);
        world.lies = None;
        world.disconnect(0);
        if restarted {
            world.miners[0].restart();
        }
        world.connect(0);
        world.settle();
        let got = world.coordinator.ledger().seq();
        mark.names(&world, 0, &Event::RolledBack { signed: far, got });
        assert!(world.miners[0].peer.is_none(), "it does not join");
        assert_eq!(mark.signed_by(&world, 0), [].into());
    }
}

#[test]
fn tells_followers_another_ledger_than_the_session() {
    let mut world = pool();
    let told = world.coordinator.ledger().head();
    let mut other = SignedHead::sign(&identity_key(0), told, &AUX);
    world.tell_miner(0, Input::HeadTold(other));
    let mark = Mark::of(&world);
    // A head that it did not sign proves nothing.
    other.head.hash[0] ^= 1;
    world.tell_miner(0, Input::HeadTold(other));
    assert_eq!(mark.news(&world, 0), []);
    let other = SignedHead::sign(&identity_key(0), other.head, &AUX);
    world.tell_miner(0, Input::HeadTold(other));
    let proofs = &world.miners[0].proofs;
    assert_eq!(proofs.len(), 1);
    assert_eq!(proofs[0].subject, Subject::Head(told.seq));
    assert_eq!(proofs[0].verify(&world.coordinator.identity()), Ok(()));
    goes_on(&mut world);
}

#[test]
fn says_that_a_share_counts_elsewhere_which_it_never_took() {
    let mut world = pool();
    let mark = Mark::of(&world);
    world.lies = Some(Box::new(move |_, message| {
        vec![match message {
            ToParticipant::ShareAck(ack) => ToParticipant::ShareReject(ShareReject {
                seq: ack.seqs[0],
                code: RejectCode::Duplicate,
                got: 1,
                want: 0,
            }),
            message => message,
        }]
    }));
    work(&mut world, 0, 1);
    let counted = |event: &Event| matches!(event, Event::ShareCounted { .. });
    let refused = |event: &Event| matches!(event, Event::ShareRefused(_));
    let news = mark.news(&world, 0);
    assert!(!news.iter().any(counted), "{news:?}");
    assert!(news.iter().any(refused), "its owner sees it");
    goes_on(&mut world);
}

#[test]
fn proposes_rounds_of_the_far_future_to_make_us_forget_what_it_proposed() {
    let mut world = pool();
    world.new_tip();
    world.run_until(SECOND, "it is proposed", |world| !world.told.is_empty());
    world.settle();
    let (seq, told_once) = (world.coordinator.ledger().seq(), last_proposal(&world));
    assert_eq!(told_once.plan.inputs.seq.0, seq.0, "of the present window");
    for far in 0..200 {
        let mut plan = told_once.plan.clone();
        plan.inputs.seq = RoundSeq(u64::MAX - far);
        told(&mut world, 0, proposal(plan));
        assert!(world.miners[0].peer.is_some(), "it is refused, no more");
    }
    let mut plan = told_once.plan.clone();
    plan.round.0[0] ^= 1;
    told(&mut world, 0, proposal(plan));
    let proofs = &world.miners[0].proofs;
    let inputs = &told_once.plan.inputs;
    let subject = Subject::Proposal(inputs.seq, inputs.attempt);
    assert_eq!(proofs.len(), 1);
    assert_eq!(proofs[0].subject, subject);
    goes_on(&mut world);
}
