//! Settlements as pure state, on a chain of the test's own.

mod support;

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use support::chain::{Chain, due, follower, judge, look, reread, round, stage};
use tutti_participant::chain::BroadcastOutcome;
use tutti_participant::settle::{Book, Change, Stage, Step};

#[test]
fn a_block_goes_from_found_to_final() {
    let round = round(1, 10);
    let (coinbase, payout) = (round.lanes[1].coinbase, round.lanes[1].payouts[0]);
    let mut chain = Chain::up_to(9);
    let mut follower = follower(std::slice::from_ref(&round), Book::default());
    assert_eq!(look(&mut follower, &chain), []);

    chain.mine(b'a', &[coinbase]);
    let changes = look(&mut follower, &chain);
    let [Change::Found(found)] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(
        (found.lane, found.block.height, found.own_sat),
        (1, 10, 600_000)
    );
    assert_eq!(stage(&follower), Stage::Found);

    chain.mine_to(b'a', 10 + 98);
    assert_eq!(look(&mut follower, &chain), []);
    assert_eq!(stage(&follower), Stage::Maturing(99));
    assert_eq!(due(&follower), [], "not before tip h+99");
    assert_eq!(
        follower.book().due(109).len(),
        1,
        "though the scan is behind"
    );

    chain.mine(b'a', &[]);
    look(&mut follower, &chain);
    assert_eq!(stage(&follower), Stage::Ripe);
    assert_eq!(
        due(&follower),
        [payout],
        "the found lane's payout and no other"
    );

    let refused = |reason: &str| BroadcastOutcome::Rejected {
        reason: reason.to_owned(),
    };
    let first = refused("mempool min fee not met, 1000 < 2141");
    let change = judge(&mut follower, &payout, &first);
    assert!(
        matches!(change, Some(Change::Refused { tip: 109, .. })),
        "{change:?}"
    );
    assert_eq!((stage(&follower), due(&follower).len()), (Stage::Ripe, 1));
    for again in ["1000 < 2141", "1000 < 2216"] {
        let again = refused(&format!("mempool min fee not met, {again}"));
        let change = judge(&mut follower, &payout, &again);
        assert_eq!(change, None, "the same refusal is told once");
    }
    let other = judge(&mut follower, &payout, &refused("mempool full"));
    assert!(matches!(other, Some(Change::Refused { .. })), "{other:?}");

    let change = judge(&mut follower, &payout, &BroadcastOutcome::Accepted);
    assert_eq!(
        change,
        Some(Change::Broadcast {
            txid: payout,
            tip: 109,
            by_us: true
        })
    );
    assert_eq!(
        judge(&mut follower, &payout, &BroadcastOutcome::AlreadyInMempool),
        None
    );
    assert_eq!(stage(&follower), Stage::Broadcast);
    assert_eq!(
        due(&follower).len(),
        1,
        "it may be dropped: handed over at each block"
    );

    chain.mine(b'a', &[Txid::hash(b"a coinbase"), payout]);
    let changes = look(&mut follower, &chain);
    assert!(matches!(changes[..], [Change::Confirmed { txid, .. }] if txid == payout));
    assert_eq!(
        (stage(&follower), due(&follower).len()),
        (Stage::Confirmed, 0)
    );

    chain.mine_to(b'a', 110 + 99);
    assert_eq!(
        look(&mut follower, &chain),
        [Change::Final { txid: payout }]
    );
}

#[test]
fn a_reorg_puts_block_and_payout_back() {
    let round = round(1, 10);
    let lane = &round.lanes[0];
    let mut chain = Chain::up_to(9);
    let mut follower = follower(std::slice::from_ref(&round), Book::default());
    chain.mine(b'a', &[lane.coinbase]);
    chain.mine_to(b'a', 109);
    chain.mine(b'a', &[lane.payouts[0]]);
    look(&mut follower, &chain);
    assert_eq!(stage(&follower), Stage::Confirmed);

    // Only the payout's block goes: it is due again.
    chain.cut(110);
    chain.mine_to(b'b', 111);
    let changes = look(&mut follower, &chain);
    assert!(
        matches!(changes[..], [Change::Unconfirmed { .. }]),
        "{changes:?}"
    );
    assert_eq!((stage(&follower), due(&follower).len()), (Stage::Ripe, 1));

    // The pool's block itself goes: not found at all.
    chain.cut(10);
    chain.mine_to(b'c', 112);
    let changes = look(&mut follower, &chain);
    assert!(matches!(changes[..], [Change::Lost(_)]), "{changes:?}");
    assert!(follower.book().settlements().is_empty() && due(&follower).is_empty());

    // And it comes back, at the same height on another branch.
    chain.cut(10);
    chain.mine(b'd', &[lane.coinbase]);
    chain.mine_to(b'd', 113);
    let changes = look(&mut follower, &chain);
    assert!(matches!(changes[..], [Change::Found(_)]), "{changes:?}");
    assert_eq!(stage(&follower), Stage::Ripe);
}

#[test]
fn two_blocks_are_settled_each_in_its_time() {
    let rounds = [round(1, 10), round(2, 12)];
    let mut chain = Chain::up_to(9);
    let mut follower = follower(&rounds, Book::default());
    chain.mine(b'a', &[rounds[0].lanes[0].coinbase]);
    chain.mine(b'a', &[]);
    chain.mine(b'a', &[rounds[1].lanes[1].coinbase]);
    chain.mine_to(b'a', 109);
    assert_eq!(look(&mut follower, &chain).len(), 2);
    assert_eq!(due(&follower), [rounds[0].lanes[0].payouts[0]]);
    chain.mine_to(b'a', 111);
    look(&mut follower, &chain);
    assert_eq!(
        due(&follower),
        [rounds[0].lanes[0].payouts[0], rounds[1].lanes[1].payouts[0]]
    );
    chain.mine(b'a', &[rounds[0].lanes[0].payouts[0]]);
    look(&mut follower, &chain);
    assert_eq!(due(&follower), [rounds[1].lanes[1].payouts[0]]);
    assert_eq!(follower.found_rounds().len(), 2);
}

#[test]
fn a_payout_that_an_earlier_version_listed_twice_is_confirmed_once_and_for_all() {
    let round = round(1, 10);
    let lane = &round.lanes[0];
    let mut chain = Chain::up_to(9);
    chain.mine(b'a', &[lane.coinbase]);
    chain.mine_to(b'a', 109);
    let mut before = follower(std::slice::from_ref(&round), Book::default());
    look(&mut before, &chain);
    let mut book = serde_json::to_value(before.book()).expect("written");
    let payouts = &mut book["found"][0]["payouts"];
    let payouts = payouts.as_array_mut().expect("payouts");
    payouts.push(payouts[0].clone());
    let book: Book = serde_json::from_value(book).expect("read");
    assert_eq!(book.due(109).len(), 2);
    let mut after = follower(std::slice::from_ref(&round), book);
    assert_eq!(due(&after), [lane.payouts[0]]);
    chain.mine(b'a', &[lane.payouts[0]]);
    look(&mut after, &chain);
    assert_eq!((stage(&after), due(&after).len()), (Stage::Confirmed, 0));
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let round = round(1, 10);
    let lane = &round.lanes[0];
    let mut chain = Chain::up_to(10);
    chain.cut(10);
    chain.mine(b'a', &[lane.coinbase]);
    let mut before = follower(std::slice::from_ref(&round), Book::default());
    look(&mut before, &chain);
    // Meanwhile it matures, is paid by somebody else, and more blocks come than one scan takes.
    chain.mine_to(b'a', 300);
    chain.mine(b'a', &[lane.payouts[0]]);
    chain.mine_to(b'a', 1_500);
    let mut after = follower(std::slice::from_ref(&round), reread(before.book()));
    let changes = look(&mut after, &chain);
    assert!(
        matches!(
            changes[..],
            [Change::Confirmed { .. }, Change::Final { .. }]
        ),
        "{changes:?}"
    );
    assert_eq!(after.book().tip(), 1_500);
}

#[test]
fn a_block_that_came_before_its_round_is_found_too() {
    let mut chain = Chain::up_to(9);
    let mut follower = follower(&[round(1, 10)], Book::default());
    let late = round(2, 10);
    chain.mine(b'a', &[late.lanes[1].coinbase]);
    assert_eq!(look(&mut follower, &chain), []);
    follower.watch(late);
    let changes = look(&mut follower, &chain);
    let [Change::Found(found)] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!((found.seq, found.lane), (2, 1));
    assert_eq!(look(&mut follower, &chain), [], "once");
}

#[test]
fn a_round_stored_right_before_a_crash_has_its_earlier_block_found_after_it() {
    let rounds = [round(1, 10), round(2, 10)];
    let lane = &rounds[1].lanes[1];
    let mut chain = Chain::up_to(9);
    let mut before = follower(&rounds[..1], Book::default());
    chain.mine(b'a', &[lane.coinbase]);
    assert_eq!(look(&mut before, &chain), []);
    before.watch(rounds[1].clone());

    // It is gone before it looked back. Soon after, or when others have paid already.
    let mut soon = follower(&rounds, reread(before.book()));
    let changes = look(&mut soon, &chain);
    assert!(matches!(changes[..], [Change::Found(_)]), "{changes:?}");
    chain.mine_to(b'a', 109);
    chain.mine(b'a', &[lane.payouts[0]]);
    let mut idle = follower(&rounds[..1], reread(before.book()));
    assert_eq!(look(&mut idle, &chain), []);
    let mut later = follower(&rounds, reread(idle.book()));
    let changes = look(&mut later, &chain);
    assert!(
        matches!(changes[..], [Change::Found(_), Change::Confirmed { .. }]),
        "{changes:?}"
    );
    assert_eq!(later.book().tip(), 110);
    let mut again = follower(&rounds, reread(later.book()));
    assert_eq!(look(&mut again, &chain), [], "once");
}

#[test]
fn a_first_scan_starts_below_the_oldest_round_and_not_at_genesis() {
    let mut chain = Chain::up_to(9);
    let round = round(1, 10);
    chain.mine(b'a', &[round.lanes[0].coinbase]);
    chain.mine_to(b'a', 50);
    let mut with = follower(std::slice::from_ref(&round), Book::default());
    assert_eq!(look(&mut with, &chain).len(), 1);
    let mut without = follower(&[], Book::default());
    assert_eq!(look(&mut without, &chain), []);
    assert_eq!(without.book().tip(), 50);
}

#[test]
fn a_round_of_long_ago_holds_up_no_find() {
    // Invented, by whoever wrote the file; and one that is ripe.
    let rounds = [round(1, 1), round(2, 2_800)];
    let mut chain = Chain::up_to(2_799);
    chain.mine(b'a', &[rounds[1].lanes[0].coinbase]);
    chain.mine_to(b'a', 3_000);
    let mut fresh = follower(&rounds, Book::default());
    assert_eq!(fresh.scan(&chain), Ok(Step::More));
    assert_eq!(fresh.book().due(3_000).len(), 1, "at the first look");
    look(&mut fresh, &chain);
    assert_eq!(fresh.book().tip(), 3_000);
}

#[test]
fn many_rounds_of_long_ago_are_looked_at_a_few_at_a_time_and_all_of_them() {
    let rounds: Vec<_> = (1..=250).map(|n| round(n, 10 + n as u32)).collect();
    let mut chain = Chain::up_to(10);
    // The first of them is found, and is paid.
    let lane = &rounds[0].lanes[1];
    chain.mine(b'a', &[lane.coinbase]);
    chain.mine_to(b'a', 119);
    chain.mine(b'a', &[lane.payouts[0]]);
    chain.mine_to(b'a', 400);
    let mut follower = follower(&rounds, Book::default());
    for _ in 0..2 {
        assert_eq!(follower.scan(&chain), Ok(Step::More));
        assert_eq!(follower.book().settlements().len(), 0, "the newest first");
    }
    look(&mut follower, &chain);
    assert_eq!(stage(&follower), Stage::Final);
}

#[test]
fn another_node_without_our_blocks_undoes_what_the_old_one_saw() {
    let round = round(1, 10);
    let mut chain = Chain::up_to(9);
    chain.mine(b'a', &[round.lanes[0].coinbase]);
    let mut follower = follower(std::slice::from_ref(&round), Book::default());
    look(&mut follower, &chain);
    let mut other = Chain::default();
    other.mine_to(b'z', 30);
    let changes = look(&mut follower, &other);
    assert!(matches!(changes[..], [Change::Lost(_)]), "{changes:?}");
    assert_eq!(follower.book().tip(), 30);
    look(&mut follower, &chain);
    assert_eq!(follower.book().settlements().len(), 1);
}
