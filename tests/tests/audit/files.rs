//! One lie each of payees, of files and of what goes with them, and the difference that it makes.

use std::sync::Arc;

use bitcoin::{Amount, Network};
use tutti_proto::audit::{AuditError, Auditor, HeaderError, check_header, find_header};
use tutti_proto::id::{LaneIndex, WindowSeq};
use tutti_proto::message::{SignedHead, TxRemoveOutput};
use tutti_proto::roster::RosterError;
use tutti_proto::segment::{ChangeError, CheckpointError, OutputChange, Segment};
use tutti_proto::terms::{CheckedTerms, TermsError};
use tutti_proto::window::{Ledger, LedgerError, LedgerHead, SpanError};
use tutti_proto::work::{Work, header_hash};
use tutti_tests::sim::{Archive, identity_key};

use super::lies::{busy, difference, honest, window};
use super::pool::{direct_terms, options, pool, run};

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
        AuditError::NoRoster {
            window: at,
            round,
            claimed,
            follows,
        } => {
            assert!(at > window(place));
            let mut terms = archive.terms.iter();
            let its = terms.find(|terms| terms.round() == round).unwrap();
            assert_eq!(claimed, its.terms().inputs.roster);
            assert!(follows.is_some_and(|follows| follows != claimed));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_segment_with_more_than_the_window_has() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    let stranger = archive.terms.last().unwrap().terms().clone();
    let round = stranger.round();
    // One that it has, again, and one of its own future.
    let early = archive.segments[place].parts[0].terms[0].clone();
    let told_twice = early.round();
    archive.segments[place].parts[0].terms.push(early);
    assert_eq!(
        difference(&archive),
        AuditError::NotNamed {
            window: window(place),
            round: told_twice
        }
    );
    archive.segments[place].parts[0].terms.pop();
    archive.segments[place].parts[0].terms.push(stranger);
    assert_eq!(
        difference(&archive),
        AuditError::NotNamed {
            window: window(place),
            round
        }
    );
}

#[test]
fn a_segment_in_another_order_than_its_window_has() {
    let mut archive = honest();
    let is_told_two = |segment: &Segment| segment.parts[0].terms.len() > 1;
    let place = archive.segments.iter().position(is_told_two).unwrap();
    let part = &mut archive.segments[place].parts[0];
    part.terms.swap(0, 1);
    for share in &mut part.shares {
        share.terms = match share.terms {
            0 => 1,
            1 => 0,
            other => other,
        };
    }
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
    let inputs = &short.signed.as_ref().unwrap().terms.inputs;
    let (claimed, (_, shortened)) = (inputs.roster, short.clone().check().unwrap());
    let follows = Some(shortened.digest());
    let found = know(short).unwrap_err();
    let words = found.to_string();
    let expected = AuditError::NoRoster {
        window: at,
        round,
        claimed,
        follows,
    };
    assert_eq!(found, expected);
    for hash in [claimed, shortened.digest()] {
        assert!(words.contains(&hex::encode(hash)), "{words}");
    }
}

#[test]
fn a_checkpoint_whose_state_gives_a_friend_work_in_windows_that_are_there() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    let last = WindowSeq(place as u64 + 2);
    // The coordinator signs the chain of its records, and after one of them a state that is another's.
    let friend = identity_key(999).identity();
    let mut other = Ledger::default();
    for segment in &archive.segments[..=place + 1] {
        let mut record = segment.end.record.clone();
        record.previous = other.head().hash;
        if record.seq == window(place) {
            record.tally.insert(friend, Work(1_000));
        }
        other.append(&record).unwrap();
    }
    let end = &mut archive.segments[place + 1].end;
    end.state = other.state();
    let record = end.record.digest();
    let head = LedgerHead::of(last, &end.record.previous, &record, &end.state);
    end.head = SignedHead::sign(&identity_key(0), head, &[4; 32]);
    let mut checkpoint = archive.checkpoint(last).unwrap();
    checkpoint.head = archive.segments[place + 1].end.head;
    checkpoint.ledger.spans = other.snapshot().spans;
    let mut auditor = Auditor::new(archive.params.name());
    auditor.know(checkpoint).unwrap();
    let found = run(auditor, &archive.segments[place..=place + 1]).unwrap_err();
    let expected = AuditError::Spans {
        window: last,
        error: SpanError::Work {
            first: window(place),
            last: window(place),
            who: friend,
            claimed: Work(1_000),
            follows: Work(0),
        },
    };
    assert_eq!(found, expected);
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
