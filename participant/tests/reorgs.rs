//! Reorganisations around found blocks: after any history the settlements are what the best chain
//! shows, as if it had been the only one.

mod support;

use std::collections::BTreeMap;

use bitcoin::Txid;
use proptest::prelude::*;
use support::chain::{Chain, follower, look, round};
use tutti_participant::chain::LEFT_BLOCKS_MAX;
use tutti_participant::settle::{Book, Change, Follower, Stage, Step, WatchedRound};

/// What the best chain shows of every lane: height of its block, and of its payout.
fn truth(chain: &Chain, rounds: &[WatchedRound]) -> BTreeMap<Txid, (u32, Option<u32>)> {
    let height_of = |txid: &Txid| {
        let mut blocks = chain.best.iter().map(|hash| &chain.known[hash]);
        let block = blocks.find(|block| block.txids.contains(txid));
        block.map(|block| block.block.height)
    };
    let lanes = rounds.iter().flat_map(|round| &round.lanes);
    lanes
        .filter_map(|lane| {
            let height = height_of(&lane.coinbase)?;
            Some((lane.coinbase, (height, height_of(&lane.payouts[0]))))
        })
        .collect()
}

fn shown(follower: &Follower) -> BTreeMap<Txid, (u32, Option<u32>)> {
    let found = follower.book().settlements().iter();
    found
        .map(|s| {
            let confirmed = s.payouts[0].confirmed.map(|block| block.height);
            (s.coinbase_txid, (s.block.height, confirmed))
        })
        .collect()
}

fn assert_true(follower: &Follower, chain: &Chain, rounds: &[WatchedRound]) {
    let truth = truth(chain, rounds);
    assert_eq!(shown(follower), truth);
    let tip = chain.best.len() as u32 - 1;
    let replaced = follower.book().replaced().iter();
    for settlement in replaced {
        assert!(!truth.contains_key(&settlement.coinbase_txid));
    }
    for settlement in follower.book().settlements() {
        let (height, paid) = truth[&settlement.coinbase_txid];
        let confirmations = tip + 1 - height;
        let expected = match paid {
            Some(paid) if tip + 1 - paid >= 100 => Stage::Final,
            Some(_) => Stage::Confirmed,
            None if confirmations >= 100 => Stage::Ripe,
            None if confirmations == 1 => Stage::Found,
            None => Stage::Maturing(confirmations),
        };
        assert_eq!(settlement.stage(tip), expected);
    }
}

/// A block at 10 and its payout at 110, in the tip.
fn paid_out(rounds: &[WatchedRound]) -> (Chain, Follower) {
    let lane = &rounds[0].lanes[0];
    let mut chain = Chain::up_to(9);
    chain.mine(b'a', &[lane.coinbase]);
    chain.mine_to(b'a', 109);
    chain.mine(b'a', &[lane.payouts[0]]);
    let mut follower = follower(rounds, Book::default());
    look(&mut follower, &chain);
    assert_eq!(
        follower.book().settlements()[0].stage(110),
        Stage::Confirmed
    );
    (chain, follower)
}

#[test]
fn every_depth_from_1_to_101_takes_back_what_the_new_branch_does_not_have() {
    for depth in 1..=101u32 {
        for found_again in [false, true] {
            let rounds = [round(1, 10)];
            let (mut chain, mut follower) = paid_out(&rounds);
            chain.cut(111 - depth);
            if depth == 101 && found_again {
                // The same coinbase in a rival block: one block on rival tips.
                chain.mine(b'b', &[rounds[0].lanes[0].coinbase]);
            }
            chain.mine_to(b'b', 111);
            look(&mut follower, &chain);
            assert_true(&follower, &chain, &rounds);
            let lost = depth == 101 && !found_again;
            assert_eq!(follower.book().replaced().len(), usize::from(lost));
            let due = follower.book().due(111);
            assert_eq!(due.len(), usize::from(!lost), "depth {depth}");

            // And the old branch wins after all.
            chain.cut(111 - depth);
            let blocks = 111 - depth..=110;
            for height in blocks {
                let lane = &rounds[0].lanes[0];
                match height {
                    10 => chain.mine(b'a', &[lane.coinbase]),
                    110 => chain.mine(b'a', &[lane.payouts[0]]),
                    _ => chain.mine(b'a', &[]),
                }
            }
            chain.mine_to(b'a', 113);
            look(&mut follower, &chain);
            assert_true(&follower, &chain, &rounds);
            assert!(follower.book().replaced().is_empty());
        }
    }
}

#[test]
fn of_two_pool_blocks_at_one_height_the_best_chains_is_settled() {
    // Two lanes of one round, found at the same height on rival tips.
    let rounds = [round(1, 10)];
    let lanes = &rounds[0].lanes;
    let mut chain = Chain::up_to(9);
    chain.mine(b'a', &[lanes[0].coinbase]);
    let mut follower = follower(&rounds, Book::default());
    look(&mut follower, &chain);
    chain.cut(10);
    chain.mine(b'b', &[lanes[1].coinbase]);
    chain.mine_to(b'b', 12);
    look(&mut follower, &chain);
    assert_true(&follower, &chain, &rounds);
    let [settlement] = follower.book().settlements() else {
        panic!("one of them is in the chain");
    };
    assert_eq!(settlement.lane, 1);
    assert_eq!(follower.book().replaced()[0].lane, 0);
    chain.mine_to(b'b', 109);
    look(&mut follower, &chain);
    let due: Vec<_> = follower
        .book()
        .due(109)
        .iter()
        .map(|due| due.txid)
        .collect();
    assert_eq!(due, lanes[1].payouts);
}

#[test]
fn what_was_booked_above_a_late_find_and_left_the_chain_meanwhile_is_undone() {
    for found_again in [false, true] {
        let rounds = [round(1, 10), round(2, 250), round(3, 300)];
        let [first, second, third] = [0, 1, 2].map(|n: usize| &rounds[n].lanes[0]);
        let mut chain = Chain::up_to(9);
        chain.mine(b'a', &[first.coinbase]);
        chain.mine_to(b'a', 249);
        chain.mine(b'a', &[second.coinbase]);
        chain.mine_to(b'a', 299);
        chain.mine(b'a', &[third.coinbase]);
        chain.mine_to(b'a', 360);
        chain.mine(b'a', &[second.payouts[0]]);
        chain.mine_to(b'a', 400);
        // The first round comes late, and puts the scan back.
        let mut before = follower(&rounds[1..], Book::default());
        look(&mut before, &chain);
        let mut late = follower(&rounds, support::chain::reread(before.book()));
        assert_eq!(late.scan(&chain), Ok(Step::More));
        assert_eq!(late.book().tip(), 10);
        // It ends there, and meanwhile the blocks from 270 on are replaced.
        let book = support::chain::reread(late.book());
        chain.cut(270);
        chain.mine_to(b'b', 299);
        if found_again {
            chain.mine(b'b', &[third.coinbase]);
        }
        chain.mine_to(b'b', 420);
        let mut after = follower(&rounds, book);
        look(&mut after, &chain);
        assert_true(&after, &chain, &rounds);
        let blocks = |after: &Follower| {
            let found = after.book().settlements().iter();
            let blocks = found.map(|s| s.block.hash == chain.best[s.block.height as usize]);
            blocks.collect::<Vec<_>>()
        };
        let expected = 2 + usize::from(found_again);
        assert_eq!(blocks(&after), vec![true; expected]);
        assert_eq!(after.book().booked_to(), None);
    }
}

#[test]
fn a_coinbase_that_is_in_another_block_now_is_booked_there() {
    let rounds = [round(1, 10)];
    let mut chain = Chain::up_to(9);
    chain.mine(b'a', &[rounds[0].lanes[0].coinbase]);
    let mut follower = follower(&rounds, Book::default());
    look(&mut follower, &chain);
    // As a book of an earlier version may be: scanned to below what it has.
    let mut book = serde_json::to_value(follower.book()).expect("written");
    book["scanned_to"] = serde_json::json!({"height": 9, "hash": chain.best[9]});
    let book: Book = serde_json::from_value(book).expect("read");
    chain.cut(10);
    chain.mine(b'b', &[rounds[0].lanes[0].coinbase]);
    chain.mine_to(b'b', 12);
    let mut follower = support::chain::follower(&rounds, book);
    look(&mut follower, &chain);
    assert_eq!(follower.book().settlements()[0].block.hash, chain.best[10]);
}

#[test]
fn a_chain_that_is_far_off_is_not_walked_back_and_is_settled_all_the_same() {
    let rounds = [round(1, 10), round(2, 300)];
    let [first, second] = [0, 1].map(|n: usize| &rounds[n].lanes[0]);
    let most = u32::try_from(LEFT_BLOCKS_MAX).expect("small");
    for (depth, is_walked) in [(most, true), (most + 1, false)] {
        let mut chain = Chain::up_to(9);
        chain.mine(b'a', &[first.coinbase]);
        chain.mine_to(b'a', 299);
        chain.mine(b'a', &[second.coinbase]);
        chain.mine_to(b'a', 299 + depth);
        let mut follower = follower(&rounds, Book::default());
        look(&mut follower, &chain);
        assert_true(&follower, &chain, &rounds);
        // The second block and all after it are replaced.
        chain.cut(300);
        chain.mine_to(b'b', 300 + depth);
        chain.headers.set(0);
        let Ok(_) = follower.scan(&chain);
        let asked = chain.headers.get();
        assert_eq!(asked, LEFT_BLOCKS_MAX + 1, "{depth}");
        let lost = 1 + usize::from(!is_walked);
        let changes = follower.take_changes();
        let told = changes
            .iter()
            .filter(|change| matches!(change, Change::Lost(_)));
        assert_eq!(told.count(), lost);
        look(&mut follower, &chain);
        assert_true(&follower, &chain, &rounds);
        assert_eq!(follower.book().settlements().len(), 1);
        assert_eq!(follower.book().tip(), 300 + depth);
    }
}

/// What happens to a chain.
#[derive(Clone, Debug)]
enum Turn {
    /// This many blocks without anything of ours.
    Mine(u32),
    /// A block with a lane's coinbase, if this branch does not have it yet.
    Find { round: usize, lane: usize },
    /// A block with every payout that consensus allows in it.
    PayOut,
    /// The last blocks are replaced by an empty branch that is one longer.
    Reorg(u32),
    /// The daemon looks; otherwise it is away.
    Look,
    /// It restarts from its disk.
    Restart,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        3 => (1u32..120).prop_map(Turn::Mine),
        3 => (0usize..3, 0usize..2).prop_map(|(round, lane)| Turn::Find { round, lane }),
        2 => Just(Turn::PayOut),
        2 => (1u32..=101).prop_map(Turn::Reorg),
        3 => Just(Turn::Look),
        1 => Just(Turn::Restart),
    ];
    proptest::collection::vec(turn, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_history_ends_as_its_last_chain(turns in turns()) {
        let rounds: Vec<_> = (1..=3).map(|seq| round(seq, 150)).collect();
        let mut chain = Chain::up_to(149);
        let mut follower = follower(&rounds, Book::default());
        let mut branch = 0u8;
        look(&mut follower, &chain);
        for turn in turns {
            match turn {
                Turn::Mine(blocks) => (0..blocks).for_each(|_| chain.mine(branch, &[])),
                Turn::Find { round, lane } => {
                    let coinbase = rounds[round].lanes[lane].coinbase;
                    if !truth(&chain, &rounds).contains_key(&coinbase) {
                        chain.mine(branch, &[coinbase]);
                    }
                }
                Turn::PayOut => {
                    let next = chain.best.len() as u32;
                    let found = truth(&chain, &rounds);
                    let lanes = rounds.iter().flat_map(|round| &round.lanes);
                    let ripe = lanes.filter(|lane| {
                        let seen = found.get(&lane.coinbase);
                        seen.is_some_and(|(height, paid)| paid.is_none() && next >= height + 100)
                    });
                    let payouts: Vec<Txid> = ripe.map(|lane| lane.payouts[0]).collect();
                    chain.mine(branch, &payouts);
                }
                Turn::Reorg(depth) => {
                    let tip = chain.best.len() as u32 - 1;
                    let keep = tip.saturating_sub(depth).max(140);
                    branch += 1;
                    chain.cut(keep + 1);
                    chain.mine_to(branch, tip + 1);
                }
                Turn::Look => {
                    look(&mut follower, &chain);
                    assert_true(&follower, &chain, &rounds);
                }
                Turn::Restart => {
                    let book = support::chain::reread(follower.book());
                    follower = support::chain::follower(&rounds, book);
                }
            }
        }
        look(&mut follower, &chain);
        assert_true(&follower, &chain, &rounds);
    }
}
