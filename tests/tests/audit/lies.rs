//! One lie each, and the difference that it makes.

use std::sync::Arc;

use bitcoin::{Amount, Network};
use tutti_proto::audit::{AuditError, Auditor, HeaderError, check_header, find_header};
use tutti_proto::follower::FollowError;
use tutti_proto::id::{Identity, LaneIndex, RoundId, WindowSeq};
use tutti_proto::message::TxRemoveOutput;
use tutti_proto::reject::RejectCode;
use tutti_proto::roster::RosterError;
use tutti_proto::segment::{ChangeError, CheckpointError, OutputChange, Segment, WindowPart};
use tutti_proto::terms::{CheckedTerms, Refusal, TermsError};
use tutti_proto::window::LedgerError;
use tutti_proto::work::{Work, header_hash};
use tutti_tests::sim::{Archive, identity_key};

use super::pool::{
    audit, direct_pool, direct_terms, hash_again, options, pool, run, sharded_pool, shares_of,
    sign_again,
};

fn honest() -> Archive {
    let (world, _) = pool(options());
    Archive::of(&world).unwrap()
}

fn difference(archive: &Archive) -> AuditError {
    match audit(archive) {
        Err(difference) => difference,
        Ok((totals, _)) => panic!("the lie was not found: {totals:?}"),
    }
}

/// The place of the first segment that has shares of at least two owners, and the part.
fn busy(archive: &mut Archive) -> (usize, &mut WindowPart) {
    let is_busy = |segment: &Segment| segment.end.record.tally.len() >= 2;
    let place = archive.segments.iter().position(is_busy).unwrap();
    (place, &mut archive.segments[place].parts[0])
}

fn booked(archive: &Archive) -> usize {
    let books = |segment: &Segment| !segment.end.record.bookings.is_empty();
    archive.segments.iter().position(books).unwrap()
}

fn window(place: usize) -> WindowSeq {
    WindowSeq(place as u64 + 1)
}

fn owner_of(archive: &Archive, place: usize, share: usize) -> Identity {
    let segment = &archive.segments[place];
    let packed = shares_of(segment)[share];
    let terms = segment.parts[0].terms[usize::from(packed.terms)].clone();
    terms.check(&archive.params.name()).unwrap().owners()[packed.owner as usize]
}

#[test]
fn a_share_that_is_given_to_another() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    let other = part
        .shares
        .iter()
        .map(|share| share.owner)
        .find(|owner| *owner != part.shares[0].owner);
    part.shares[0].owner = other.unwrap();
    let version = part.shares[0].rolled.version;
    let lane = part.shares[0].rolled.lane;
    let owner = owner_of(&archive, place, 0);
    let refusal = Refusal {
        code: RejectCode::NotYourSlice,
        got: u64::from(version as u32),
        want: u64::from(lane.0),
    };
    let expected = FollowError::Share {
        window: window(place),
        share: 0,
        owner,
        refusal,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_share_without_its_work() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    let owner = owner_of(&archive, place, 1);
    let segment = &mut archive.segments[place];
    let part = &mut segment.parts[0];
    let terms = part.terms[usize::from(part.shares[1].terms)].clone();
    let terms = terms.check(&segment.pool).unwrap();
    let refusal = loop {
        part.shares[1].rolled.nonce ^= 0x8000_0000;
        part.shares[1].rolled.nonce += 1;
        if let Err(refusal) = terms.judge(&owner, &part.shares[1].rolled) {
            break refusal;
        }
    };
    assert_eq!((refusal.code, refusal.want), (RejectCode::LowDifficulty, 3));
    let expected = FollowError::Share {
        window: window(place),
        share: 1,
        owner,
        refusal,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_share_that_is_told_twice() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    part.shares[5] = part.shares[2];
    let expected = FollowError::Duplicate {
        window: window(place),
        share: 5,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_share_that_is_told_again_in_a_later_window() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    let (share, terms) = {
        let part = &archive.segments[place].parts[0];
        (
            part.shares[0],
            part.terms[usize::from(part.shares[0].terms)].clone(),
        )
    };
    let later = &mut archive.segments[place + 1].parts[0];
    let mut share = share;
    share.terms = later.terms.len() as u16;
    later.terms.push(terms);
    let at = later.shares.len() as u64;
    later.shares.push(share);
    let expected = FollowError::Duplicate {
        window: window(place + 1),
        share: at,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_share_that_is_left_out() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    part.shares.pop();
    let seen = part.shares.len() as u64;
    let expected = FollowError::Count {
        window: window(place),
        told: seen + 1,
        seen,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn work_that_is_moved_in_the_record() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    let tally = &mut archive.segments[place].end.record.tally;
    let (who, work) = tally
        .iter()
        .next()
        .map(|(who, work)| (*who, *work))
        .unwrap();
    let told = Work(work.0 + 8);
    tally.insert(who, told);
    sign_again(&mut archive, place);
    let expected = FollowError::Work {
        window: window(place),
        who,
        told,
        work,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_root_of_other_shares() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    archive.segments[place].end.record.shares_root[0] ^= 1;
    sign_again(&mut archive, place);
    assert_eq!(
        difference(&archive),
        AuditError::from(FollowError::Root(window(place)))
    );
}

#[test]
fn a_head_that_the_coordinator_did_not_sign() {
    let mut archive = honest();
    archive.segments[2].end.head.signature[9] ^= 1;
    let expected = FollowError::UnsignedHead(WindowSeq(3));
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_head_of_another_state() {
    let mut archive = honest();
    let other = archive.segments[3].end.head.head;
    archive.segments[2].end.head = tutti_proto::message::SignedHead::sign(
        &identity_key(0),
        tutti_proto::window::LedgerHead {
            seq: WindowSeq(3),
            ..other
        },
        &[5; 32],
    );
    let expected = FollowError::Ledger(LedgerError::NotThisHead(WindowSeq(3)));
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_window_of_another_chain() {
    let mut archive = honest();
    let (other, _) = pool(tutti_tests::sim::WorldOptions {
        seed: 77,
        ..options()
    });
    let other = Archive::of(&other).unwrap();
    archive.segments[4] = other.segments[4].clone();
    match difference(&archive) {
        AuditError::Follow(error) => {
            let forked = FollowError::Ledger(LedgerError::Forked(WindowSeq(5)));
            assert_eq!(*error, forked);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_z_that_was_changed_after_the_fact() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    let terms = &mut part.terms[0];
    let mut slices: Vec<_> = terms.assignments.iter().collect();
    let owner = slices[0].owner;
    for slice in slices.iter_mut().filter(|slice| slice.owner == owner) {
        slice.z += 1;
    }
    let changed = tutti_proto::lane::Assignments::parse(slices, archive.params.lanes).unwrap();
    archive.segments[place].parts[0].terms[0].assignments = Arc::new(changed);
    let expected = FollowError::Terms {
        window: window(place),
        error: TermsError::Assignments,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_carry_that_is_changed_in_the_file_and_one_that_the_coordinator_signed() {
    let mut archive = honest();
    let place = booked(&archive);
    let booking = &mut archive.segments[place].end.record.bookings[0];
    let block = booking.block;
    let (who, follows) = booking
        .carry
        .iter()
        .next()
        .map(|(who, sat)| (*who, *sat))
        .unwrap();
    booking.carry.insert(who, follows + 1);
    let forged = FollowError::Ledger(LedgerError::NotThisHead(window(place)));
    assert_eq!(difference(&archive), AuditError::from(forged));
    // Its undoing is the exact negative of what was booked.
    for segment in &mut archive.segments[place + 1..] {
        for booking in &mut segment.end.record.bookings {
            let sign = if booking.undone { -1 } else { 1 };
            booking.carry.insert(who, sign * (follows + 1));
        }
    }
    sign_again(&mut archive, place);
    let claimed = follows + 1;
    let expected = AuditError::Carry {
        window: window(place),
        block,
        who,
        claimed,
        follows,
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn a_carry_for_somebody_whom_the_block_owes_nothing() {
    let mut archive = honest();
    let place = booked(&archive);
    let friend = identity_key(999).identity();
    for segment in &mut archive.segments[place..] {
        for booking in &mut segment.end.record.bookings {
            let sign = if booking.undone { -1 } else { 1 };
            booking.carry.insert(friend, sign * 5_000);
        }
    }
    let block = archive.segments[place].end.record.bookings[0].block;
    sign_again(&mut archive, place);
    let expected = AuditError::Carry {
        window: window(place),
        block,
        who: friend,
        claimed: 5_000,
        follows: 0,
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn payouts_of_a_booked_block_that_do_not_follow() {
    let mut archive = honest();
    let place = booked(&archive);
    let (claimed, mut follows) = ([7; 32], [0; 32]);
    for segment in &mut archive.segments[place..] {
        for booking in &mut segment.end.record.bookings {
            follows = std::mem::replace(&mut booking.payouts, claimed);
        }
    }
    let block = archive.segments[place].end.record.bookings[0].block;
    sign_again(&mut archive, place);
    let expected = AuditError::Payees {
        window: window(place),
        block,
        claimed,
        follows,
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn a_block_that_is_booked_of_another_round() {
    let mut archive = honest();
    let place = booked(&archive);
    let booking = &archive.segments[place].end.record.bookings[0];
    let (block, follows) = (booking.block, booking.round);
    let before = archive.segments[place].end.record.seq;
    let other = archive
        .terms
        .iter()
        .find(|terms| terms.round() != follows && terms.terms().inputs.ledger.seq < before)
        .unwrap();
    let (claimed, terms) = (other.round(), other.terms().clone());
    let segment = &mut archive.segments[place];
    segment.end.record.bookings[0].round = claimed;
    let told = |terms: &tutti_proto::terms::RoundTerms| terms.round();
    let kept = &mut segment.parts[0].terms;
    if !kept.iter().any(|terms| told(terms) == claimed) {
        kept.push(terms);
    }
    let named: Vec<u16> = segment.parts[0]
        .shares
        .iter()
        .map(|share| share.terms)
        .collect();
    let mut number = 0u16;
    segment.parts[0].terms.retain(|terms| {
        let keep = named.contains(&number) || terms.round() == claimed;
        number += 1;
        keep
    });
    let last = archive.segments.len();
    archive.segments.truncate(last.min(place + 1));
    sign_again(&mut archive, place);
    let expected = AuditError::BookedElsewhere {
        window: window(place),
        block,
        claimed,
        follows,
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn a_booking_without_the_terms_that_explain_it() {
    let mut archive = honest();
    let place = booked(&archive);
    archive.segments[place].end.record.bookings[0].round = RoundId([9; 32]);
    archive.segments.truncate(place + 1);
    sign_again(&mut archive, place);
    let round = RoundId([9; 32]);
    assert_eq!(
        difference(&archive),
        AuditError::NoTerms {
            window: window(place),
            round
        }
    );
}

/// A coordinator that hashes false coinbases: their outputs are worth the reward, and not what follows.
fn false_coinbases(
    archive: &mut Archive,
    direct: bool,
    change: impl Fn(&mut [(bitcoin::ScriptBuf, Amount)]),
) -> (usize, RoundId) {
    let has = |segment: &Segment| {
        let mut terms = segment.parts[0].terms.iter();
        terms.any(|terms| terms.inputs.is_direct() == direct && terms.outputs.len() >= 2)
    };
    let place = archive.segments.iter().position(has).unwrap();
    let segment = &mut archive.segments[place];
    let terms = segment.parts[0].terms.iter_mut();
    let mut terms = terms.filter(|terms| terms.inputs.is_direct() == direct);
    let terms = terms.next().unwrap();
    change(&mut terms.outputs);
    let round = terms.round();
    hash_again(segment);
    segment.end.record.bookings.clear();
    archive.segments.truncate(place + 1);
    (place, round)
}

#[test]
fn a_sat_that_is_moved_between_two_payees() {
    let (world, _) = direct_pool();
    let mut archive = Archive::of(&world).unwrap();
    let (place, round) = false_coinbases(&mut archive, true, |outputs| {
        outputs[0].1 += Amount::from_sat(1);
        outputs[1].1 -= Amount::from_sat(1);
    });
    sign_again(&mut archive, place);
    match difference(&archive) {
        AuditError::Output {
            window: at,
            round: of,
            output: 0,
            claimed,
            follows,
        } => {
            assert_eq!((at, of), (window(place), round));
            let (claimed, follows) = (claimed.unwrap(), follows.unwrap());
            assert_eq!(claimed.0, follows.0);
            assert_eq!(claimed.1.to_sat(), follows.1.to_sat() + 1);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_payee_whose_script_is_replaced() {
    let (world, _) = direct_pool();
    let mut archive = Archive::of(&world).unwrap();
    let thief = tutti_tests::sim::script(999).as_script().to_owned();
    let (place, round) = false_coinbases(&mut archive, true, |outputs| {
        outputs[1].0 = thief.clone();
    });
    sign_again(&mut archive, place);
    match difference(&archive) {
        AuditError::Output {
            window: at,
            round: of,
            output: 1,
            claimed,
            follows,
        } => {
            assert_eq!((at, of), (window(place), round));
            let (claimed, follows) = (claimed.unwrap(), follows.unwrap());
            assert_eq!(claimed.0, thief);
            assert_ne!(follows.0, thief);
            assert_eq!(claimed.1, follows.1);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_coinbase_that_pays_a_script_that_is_not_the_signers() {
    let mut archive = honest();
    let thief = tutti_tests::sim::script(999).as_script().to_owned();
    let (place, part) = busy(&mut archive);
    part.terms[0].outputs[0].0 = thief;
    let expected = FollowError::Terms {
        window: window(place),
        error: TermsError::Output(0),
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_coinbase_that_is_worth_more_than_the_round_says() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    let reward = part.terms[0].inputs.reward;
    part.terms[0].outputs[0].1 += Amount::from_sat(1);
    let error = TermsError::Reward {
        sum: reward + 1,
        reward,
    };
    let expected = FollowError::Terms {
        window: window(place),
        error,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_sat_that_is_moved_between_two_shards() {
    let (world, _) = sharded_pool();
    let mut archive = Archive::of(&world).unwrap();
    let (place, round) = false_coinbases(&mut archive, false, |outputs| {
        outputs[0].1 -= Amount::from_sat(1);
        outputs[1].1 += Amount::from_sat(1);
    });
    sign_again(&mut archive, place);
    let mut auditor = Auditor::new(archive.params.name());
    auditor
        .know(archive.checkpoint(WindowSeq(1)).unwrap())
        .unwrap();
    match run(auditor, &archive.segments[1..]) {
        Err(AuditError::Output {
            window: at,
            round: of,
            output: 0,
            claimed,
            follows,
        }) => {
            assert_eq!((at, of), (window(place), round));
            assert_eq!(claimed.unwrap().1.to_sat() + 1, follows.unwrap().1.to_sat());
        }
        other => panic!("{other:?}"),
    }
}

/// The first added output of a participant, and in which segment.
fn added(archive: &Archive) -> (usize, usize) {
    let coordinator = archive.params.coordinator;
    let mut all = archive.segments.iter().enumerate();
    let found = all.find_map(|(place, segment)| {
        let mut changes = segment.parts[0].outputs.iter();
        let change = changes.position(|change| {
            matches!(change, OutputChange::Added(output) if output.identity != coordinator)
        });
        change.map(|change| (place, change))
    });
    found.unwrap()
}

#[test]
fn a_payee_whose_output_is_changed_without_its_signature() {
    let mut archive = honest();
    let (place, change) = added(&archive);
    let OutputChange::Added(output) = &mut archive.segments[place].parts[0].outputs[change] else {
        unreachable!()
    };
    output.script = tutti_tests::sim::script(999);
    let serial = output.serial_id;
    let expected = AuditError::Change {
        window: window(place),
        change,
        error: ChangeError::Roster(RosterError::BadSignature(serial)),
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn a_payee_that_is_removed_without_its_signature_or_said_to_have_expired() {
    let mut archive = honest();
    let (place, change) = added(&archive);
    let OutputChange::Added(output) = archive.segments[place].parts[0].outputs[change].clone()
    else {
        unreachable!()
    };
    let serial = output.serial_id;
    let thief = identity_key(999);
    let mut removal = TxRemoveOutput::sign(&thief, &archive.params.coordinator, serial, &[1; 32]);
    removal.identity = output.identity;
    let later = archive.segments.len() - 1;
    archive.segments[later].parts[0]
        .outputs
        .push(OutputChange::Removed(removal));
    let change = archive.segments[later].parts[0].outputs.len() - 1;
    let error = ChangeError::UnsignedRemoval(serial);
    let expected = AuditError::Change {
        window: window(later),
        change,
        error,
    };
    assert_eq!(difference(&archive), expected);
    // Whoever has work in the ledger does not expire.
    let expired = tutti_proto::message::OutputExpired { serial_id: serial };
    archive.segments[later].parts[0].outputs[change] = OutputChange::Expired(expired);
    let error = ChangeError::Expired(serial);
    let expected = AuditError::Change {
        window: window(later),
        change,
        error,
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn a_payee_that_is_kept_from_the_files() {
    let mut archive = honest();
    let (place, change) = added(&archive);
    archive.segments[place].parts[0].outputs.remove(change);
    match difference(&archive) {
        AuditError::NoRoster { window: at, .. } => assert!(at > window(place)),
        other => panic!("{other}"),
    }
}

#[test]
fn a_segment_with_more_than_the_window_has() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    let stranger = archive.terms.last().unwrap().terms().clone();
    // One that it has, again, and one of its own future.
    let early = archive.segments[place].parts[0].terms[0].clone();
    archive.segments[place].parts[0].terms.push(early);
    assert_eq!(
        difference(&archive),
        AuditError::NotCanonical(window(place))
    );
    archive.segments[place].parts[0].terms.pop();
    archive.segments[place].parts[0].terms.push(stranger);
    assert_eq!(
        difference(&archive),
        AuditError::NotCanonical(window(place))
    );
}

#[test]
fn a_segment_under_another_pools_name() {
    let mut archive = honest();
    archive.segments[2].pool.network = bitcoin::Network::Signet;
    assert_eq!(difference(&archive), AuditError::Params(WindowSeq(3)));
}

#[test]
fn a_checkpoint_of_another_state_payee_set_or_payout() {
    let (world, _) = pool(options());
    let archive = Archive::of(&world).unwrap();
    let know = |checkpoint| Auditor::new(archive.params.name()).know(checkpoint);
    let honest = archive.checkpoint(WindowSeq(5)).unwrap();
    let refused = |error| {
        Err(AuditError::Checkpoint {
            window: WindowSeq(5),
            error,
        })
    };

    let mut state = honest.clone();
    state.ledger.carry.insert(identity_key(999).identity(), 1);
    let expected = CheckpointError::Ledger(LedgerError::NotThisHead(WindowSeq(5)));
    assert_eq!(know(state), refused(expected));

    let mut unsigned = honest.clone();
    unsigned.head.signature[0] ^= 1;
    assert_eq!(know(unsigned), refused(CheckpointError::UnsignedHead));

    let signed = archive.terms.iter().rev();
    let mut signed = signed.filter_map(|terms| archive.signed_checkpoint(&world, &terms.round()));
    let signed = signed.next().unwrap();
    let at = signed.head.head.seq;
    let round = signed.signed.as_ref().unwrap().terms.round();
    let mut moved = signed.clone();
    let outputs = &mut moved.signed.as_mut().unwrap().payout.output;
    outputs[0].value += Amount::from_sat(1);
    outputs[1].value -= Amount::from_sat(1);
    let error = CheckpointError::Unsigned;
    assert_eq!(
        know(moved),
        Err(AuditError::Checkpoint { window: at, error })
    );
    let mut short = signed;
    short.outputs.pop();
    assert_eq!(know(short), Err(AuditError::NoRoster { window: at, round }));
}

#[test]
fn a_second_history() {
    let archive = honest();
    let (other, _) = pool(tutti_tests::sim::WorldOptions {
        seed: 77,
        ..options()
    });
    let other = Archive::of(&other).unwrap();
    let mut auditor = Auditor::new(archive.params.name());
    auditor
        .know(other.checkpoint(WindowSeq(4)).unwrap())
        .unwrap();
    let follows = other.segments[3].end.head.head;
    let claimed = archive.segments[3].end.head.head;
    let found = run(auditor, &archive.segments).unwrap_err();
    let expected = AuditError::OtherHead {
        claimed: follows,
        follows: claimed,
    };
    assert_eq!(found, expected);
}

#[test]
fn a_header_of_another_block_or_lane() {
    let (world, block) = pool(options());
    let archive = Archive::of(&world).unwrap();
    let mut shares = archive.segments.iter();
    let won = shares
        .find_map(|segment| find_header(segment, &block).unwrap())
        .unwrap();
    let terms = archive
        .terms
        .iter()
        .find(|terms| terms.round() == won.round)
        .unwrap();
    assert_eq!(check_header(&won.header, &block, terms, won.lane), Ok(()));
    let other = LaneIndex(1 - won.lane.0);
    let wrong = HeaderError::OtherCoinbase(other);
    assert_eq!(check_header(&won.header, &block, terms, other), Err(wrong));
    let elsewhere = archive
        .terms
        .iter()
        .find(|terms| terms.round() != won.round)
        .unwrap();
    let wrong = HeaderError::OtherParent;
    assert_eq!(
        check_header(&won.header, &block, elsewhere, won.lane),
        Err(wrong)
    );
    let wrong = HeaderError::OtherHash(block);
    assert_eq!(
        check_header(&won.header, &[1; 32], terms, won.lane),
        Err(wrong)
    );
}

#[test]
fn a_header_or_terms_with_another_target_than_the_rounds_transcript() {
    let (world, block) = pool(options());
    let archive = Archive::of(&world).unwrap();
    let mut shares = archive.segments.iter();
    let won = shares.find_map(|segment| find_header(segment, &block).unwrap());
    let won = won.unwrap();
    let is_its = |terms: &&Arc<CheckedTerms>| terms.round() == won.round;
    let terms = archive.terms.iter().find(is_its).unwrap();
    let bits = terms.terms().inputs.bits;
    // Fourfold is what one change of the target may be, and is too much all the same.
    for claimed in [bits - 1, bits - 0x0100_0000, 0x1d00_ffff, 0x1d03_fffc] {
        let mut header = won.header;
        header[72..76].copy_from_slice(&claimed.to_le_bytes());
        let hash = header_hash(&header);
        let wrong = HeaderError::OtherTarget {
            claimed,
            terms: bits,
        };
        assert_eq!(check_header(&header, &hash, terms, won.lane), Err(wrong));
    }
    // Nor do terms with another one than their transcript belong together, on whichever chain.
    for network in [Network::Bitcoin, Network::Signet, Network::Regtest] {
        for (bits, told) in [(0x1d00_ffff, 0x1d03_fffc), (0x1d03_fffc, 0x1d00_ffff)] {
            let mut other = direct_terms(terms.terms());
            let mut params = tutti_proto::params::PoolParams::clone(&other.params);
            params.network = network;
            let pool = params.name();
            other.params = Arc::new(params);
            (other.inputs.bits, other.header.bits) = (bits, bits);
            let name = tutti_proto::coinbase::round_script(&other.round());
            other.outputs.last_mut().unwrap().0 = name;
            assert!(other.clone().check(&pool).is_ok());
            other.header.bits = told;
            let wrong = TermsError::Bits { told, bits };
            assert_eq!(other.check(&pool).err(), Some(wrong));
        }
    }
}
