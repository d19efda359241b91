//! One lie each, and the window and reason that the check names.

use bitcoin::Amount;
use tempfile::TempDir;
use tutti_proto::audit::{AuditError, HeaderError};
use tutti_proto::follower::FollowError;
use tutti_proto::id::WindowSeq;
use tutti_proto::message::SignedHead;
use tutti_proto::participant::LedgerFault;
use tutti_proto::segment::Segment;
use tutti_proto::share::ShareTree;
use tutti_proto::window::Ledger;
use tutti_proto::work::header_hash;
use tutti_tests::sim::{Archive, identity_key, script};

use super::teller::{Check, busy, is_booking, pool, windows};

/// What a lying coordinator does so that a false window looks true: it signs all heads from there on anew.
fn sign_again(archive: &mut Archive, from: usize) {
    let mut ledger = Ledger::default();
    for (place, segment) in archive.segments.iter_mut().enumerate() {
        let end = &mut segment.end;
        end.record.previous = ledger.head().hash;
        ledger.append(&end.record).expect("it follows");
        if place >= from {
            end.state = ledger.state();
            end.head = SignedHead::sign(&identity_key(0), ledger.head(), &[4; 32]);
        }
    }
}

/// Hashes the shares of a segment under the terms that it tells now.
fn hash_again(segment: &mut Segment) {
    let pool = segment.pool;
    let terms = segment.parts[0].terms.iter().cloned();
    let terms: Vec<_> = terms.map(|t| t.check(&pool).expect("terms")).collect();
    let mut tree = ShareTree::default();
    let mut seen = std::collections::BTreeSet::new();
    for share in segment.parts.iter_mut().flat_map(|part| &mut part.shares) {
        let terms = &terms[usize::from(share.terms)];
        let owner = terms.owners()[share.owner as usize];
        let judged = loop {
            match terms.judge(&owner, &share.rolled) {
                Ok(judged) if seen.insert(judged.hash) => break judged,
                _ => share.rolled.nonce += 1,
            }
        };
        tree.add(&judged.record).expect("a sum");
    }
    let record = &mut segment.end.record;
    record.shares_root = tree.root();
    record.shares = tree.shares();
    record.tally = tree.tally().clone();
}

/// Follows a pool whose archive was changed: the first window that is false, and why.
async fn lie(archive: Archive) -> (u64, LedgerFault) {
    let dir = TempDir::new().expect("a directory");
    let told = windows(&archive.segments);
    let script = move |_, _| told.clone();
    let mut check = Check::start(&archive, dir.path(), 2, Box::new(script)).await;
    check.fault().await
}

fn amounts(fault: LedgerFault) -> AuditError {
    match fault {
        LedgerFault::Amounts(error) => *error,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_share_without_work_and_one_that_is_told_twice() {
    let (_, mut archive) = pool();
    let place = busy(&archive);
    let segment = &mut archive.segments[place];
    let (name, part) = (segment.pool, &mut segment.parts[0]);
    let share = &mut part.shares[1];
    let terms = part.terms[usize::from(share.terms)].clone();
    let terms = terms.check(&name).expect("terms");
    let owner = terms.owners()[share.owner as usize];
    while terms.judge(&owner, &share.rolled).is_ok() {
        share.rolled.nonce += 1;
    }
    let (checked, fault) = lie(archive).await;
    assert_eq!(checked, place as u64);
    assert!(
        matches!(
            fault,
            LedgerFault::Followed(FollowError::Share { share: 1, .. })
        ),
        "{fault}"
    );

    let (_, mut archive) = pool();
    let part = &mut archive.segments[place].parts[0];
    part.shares[4] = part.shares[2];
    let window = WindowSeq(place as u64 + 1);
    let twice = FollowError::Duplicate { window, share: 4 };
    assert_eq!(
        lie(archive).await,
        (place as u64, LedgerFault::Followed(twice))
    );
}

#[tokio::test]
async fn a_booking_with_another_carry_and_one_of_a_block_that_is_none() {
    let (_, mut archive) = pool();
    let place = archive.segments.iter().position(is_booking).expect("one");
    let booking = &mut archive.segments[place].end.record.bookings[0];
    let friend = identity_key(999).identity();
    booking.carry.insert(friend, 5_000);
    let (window, block) = (WindowSeq(place as u64 + 1), booking.block);
    sign_again(&mut archive, place);
    let (checked, fault) = lie(archive).await;
    let expected = AuditError::Carry {
        window,
        block,
        who: friend,
        claimed: 5_000,
        follows: 0,
    };
    assert_eq!((checked, amounts(fault)), (place as u64, expected));

    let (_, mut archive) = pool();
    let booking = &mut archive.segments[place].end.record.bookings[0];
    // Any nonce makes a header, few make a block.
    booking.header[76..].copy_from_slice(&7u32.to_le_bytes());
    booking.block = header_hash(&booking.header);
    sign_again(&mut archive, place);
    match amounts(lie(archive).await.1) {
        AuditError::Header {
            window: at,
            error: HeaderError::ZeroBits { .. } | HeaderError::Target(_),
            ..
        } => assert_eq!(at, window),
        other => panic!("{other}"),
    }

    let (_, mut archive) = pool();
    let booking = &mut archive.segments[place].end.record.bookings[0];
    booking.block = [7; 32];
    sign_again(&mut archive, place);
    match amounts(lie(archive).await.1) {
        AuditError::Header {
            error: HeaderError::OtherHash(_),
            ..
        } => {}
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_coinbase_that_pays_somebody_else() {
    let (_, mut archive) = pool();
    let place = busy(&archive);
    let segment = &mut archive.segments[place];
    // All of it to an output of the coordinator's: a direct round needs nobody's signature.
    let terms = &mut segment.parts[0].terms[0];
    terms.inputs.signers.clear();
    let reward = Amount::from_sat(terms.inputs.reward);
    let friend = script(999).as_script().to_owned();
    let name = tutti_proto::coinbase::round_script(&terms.round());
    terms.outputs = vec![(friend, reward), (name, Amount::ZERO)];
    let round = terms.round();
    hash_again(segment);
    sign_again(&mut archive, place);
    let (checked, fault) = lie(archive).await;
    assert_eq!(checked, place as u64);
    match amounts(fault) {
        AuditError::Output { round: of, .. } => assert_eq!(of, round),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_round_on_a_ledger_that_is_not_ours() {
    let (_, mut archive) = pool();
    let place = busy(&archive);
    let segment = &mut archive.segments[place];
    let terms = &mut segment.parts[0].terms[0];
    terms.inputs.signers.clear();
    let ours = terms.inputs.ledger;
    terms.inputs.ledger.hash[0] ^= 1;
    let reward = Amount::from_sat(terms.inputs.reward);
    let friend = script(999).as_script().to_owned();
    let name = tutti_proto::coinbase::round_script(&terms.round());
    terms.outputs = vec![(friend, reward), (name, Amount::ZERO)];
    hash_again(segment);
    sign_again(&mut archive, place);
    match amounts(lie(archive).await.1) {
        AuditError::Ledger {
            claimed, follows, ..
        } => {
            assert_eq!(*follows, ours);
            assert_eq!(claimed.seq, ours.seq);
        }
        other => panic!("{other}"),
    }
}
