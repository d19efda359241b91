//! Templates: the empty block of the next height, signed ahead, and room for a coinbase.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, Network, Transaction};
use support::pool::{Pool, combine};
use tutti_proto::feerate::FeeRate;
use tutti_proto::header::{HeaderFields, assemble_block, merkle_root};
use tutti_proto::plan::{CheckedPlan, PlanError, ProposedPlan, RoundInputs};
use tutti_proto::template::Template;

/// A full template of this height.
fn template(height: u32) -> Template {
    Template {
        height,
        previous_block: [1; 32],
        version: 0x2000_0000,
        bits: 0x207f_ffff,
        time: 1_700_000_000,
        time_min: 1_600_000_000,
        reward: 5_000_012_345,
        witness_commitment: Some([2; 32]),
        merkle_path: vec![[3; 32]],
        transactions: vec![Arc::from([4; 100])],
        weight: 400,
        feerate: FeeRate::FLOOR,
    }
}

/// The plan of the next height, as its signers compute it while this height is mined.
fn planned(height: u32) -> (Pool, Template, CheckedPlan, ProposedPlan) {
    let mut pool = Pool::new("next height", 3);
    pool.close_window(&[(1, 10_000), (2, 30_000)], &[]);
    let next = template(height).next_height(pool.params.network);
    let attempted = pool.propose(&[0, 1, 2, 3]);
    let inputs = RoundInputs {
        height: next.height,
        bits: next.bits,
        reward: next.reward,
        witness_commitment: next.witness_commitment,
        feerate: next.feerate,
        ..attempted.proposal.inputs.clone()
    };
    let proposal = pool.seal(inputs, attempted.proposal.nonces.clone());
    let attempted = support::pool::Attempted {
        proposal: proposal.clone(),
        ..attempted
    };
    let (plan, partials) = attempted.sign(&pool);
    let payouts = plan.complete(&combine(&plan, &partials)).unwrap();
    let lanes = usize::from(pool.params.lanes);
    assert_eq!(payouts.signatures().len(), lanes);
    (pool, next, plan, proposal)
}

#[test]
fn the_next_heights_coinbase_pays_the_subsidy_only_and_commits_to_no_witness() {
    for (height, subsidy) in [
        (120, 5_000_000_000),
        (148, 5_000_000_000),
        (149, 2_500_000_000),
        (150, 2_500_000_000),
        (299, 1_250_000_000),
    ] {
        let (_, next, plan, _) = planned(height);
        assert_eq!((next.height, next.reward), (height + 1, subsidy));
        for lane in plan.lanes() {
            let [output] = &lane.coinbase.output[..] else {
                panic!("no output but the payouts'")
            };
            assert_eq!(output.value.to_sat(), subsidy);
            assert!(lane.coinbase.input[0].witness.is_empty());
            assert_eq!(lane.coinbase.lock_time.to_consensus_u32(), height);
        }
        let shard = &plan.split().shards[0];
        let paid: u64 = shard.outputs.iter().map(|(_, sat)| sat).sum();
        assert_eq!(paid + shard.fee + 240, subsidy);
        let fee = subsidy / 100;
        let operator = plan.split().shards[0].outputs[0];
        assert_eq!((operator.0.0, operator.1), (0, fee));
    }
}

/// The halving counts for the height that is signed, not for the one that is mined.
#[test]
fn across_the_halving_a_sat_below_the_next_heights_subsidy_is_refused() {
    for (height, subsidy) in [(148, 5_000_000_000), (149, 2_500_000_000)] {
        let (pool, _, _, proposal) = planned(height);
        let mut inputs = proposal.inputs.clone();
        inputs.reward = subsidy - 1;
        let error = CheckedPlan::compute(inputs, |_| Ok(proposal.nonces.clone()), &pool.view());
        let expected = PlanError::RewardBelowSubsidy {
            reward: subsidy - 1,
            subsidy,
            height: height + 1,
        };
        assert_eq!(error.unwrap_err(), expected);
    }
}

#[test]
fn subsidies_of_the_next_height_halve_on_every_network_at_its_interval() {
    let reward = |network, height| template(height).next_height(network).reward;
    assert_eq!(reward(Network::Bitcoin, 839_998), 625_000_000);
    assert_eq!(reward(Network::Bitcoin, 839_999), 312_500_000);
    assert_eq!(reward(Network::Signet, 209_999), 2_500_000_000);
    // The last sat, and nothing after it.
    assert_eq!(reward(Network::Regtest, 150 * 33 - 2), 1);
    assert_eq!(reward(Network::Regtest, 150 * 33 - 1), 0);
    assert_eq!(reward(Network::Regtest, 150 * 64), 0);
}

#[test]
fn once_its_previous_block_is_there_the_next_height_is_a_block_on_it() {
    let (_, next, plan, _) = planned(149);
    let tip = Template {
        previous_block: [9; 32],
        version: 0x2000_4000,
        bits: 0x2070_0000,
        time: 1_700_000_600,
        time_min: 1_700_000_001,
        ..template(150)
    };
    let on_tip = next.on_tip_of(&tip);
    let expected = Template {
        height: 150,
        reward: 2_500_000_000,
        witness_commitment: None,
        merkle_path: Vec::new(),
        transactions: Vec::new(),
        weight: 0,
        ..tip
    };
    assert_eq!(on_tip, expected);
    // The coinbase signed before its previous block was known is the whole block.
    let coinbase = &plan.lanes()[1].coinbase;
    let header = HeaderFields {
        version: on_tip.version,
        previous_block: on_tip.previous_block,
        merkle_root: merkle_root(plan.lanes()[1].txid, &on_tip.merkle_path),
        time: on_tip.time,
        bits: on_tip.bits,
        nonce: 7,
    };
    let block = assemble_block(&header.serialize(), coinbase, &on_tip.transactions);
    let block: Block = deserialize(&block).unwrap();
    assert_eq!(block.txdata, std::slice::from_ref(coinbase));
    assert!(block.check_merkle_root());
    assert!(block.check_witness_commitment(), "nothing in it needs one");
    assert_eq!(block.bip34_block_height(), Ok(150));
    assert_eq!(block.header.prev_blockhash.to_byte_array(), [9; 32]);
    assert_eq!(block.header.bits.to_consensus(), 0x2070_0000);
}

fn coinbase() -> Transaction {
    planned(120).2.lanes()[0].coinbase.clone()
}

#[test]
fn a_template_that_leaves_no_room_for_the_coinbase_is_refused_before_anybody_hashes_on_it() {
    let coinbase = coinbase();
    let mut full = template(121);
    let own = coinbase.weight().to_wu();
    // Header and transaction count take 4 times 80 and 9 bytes.
    full.weight = 4_000_000 - 4 * 89 - own;
    assert_eq!(full.check_room(&coinbase), Ok(()));
    full.weight += 1;
    let error = PlanError::BlockTooHeavy {
        weight: 4_000_001,
        limit: 4_000_000,
    };
    assert_eq!(full.check_room(&coinbase), Err(error));
    full.weight = u64::MAX;
    assert!(full.check_room(&coinbase).is_err());
}

/// The weight that is reckoned with is no less than the block's.
#[test]
fn a_blocks_weight_is_not_underestimated() {
    let coinbase = coinbase();
    let transactions: Vec<Arc<[u8]>> = (0..300u32)
        .map(|n| {
            let mut tx = coinbase.clone();
            tx.input[0].previous_output = bitcoin::OutPoint::new(bitcoin::Txid::all_zeros(), n);
            Arc::from(bitcoin::consensus::serialize(&tx))
        })
        .collect();
    let block = assemble_block(&[0; 80], &coinbase, &transactions);
    let block: Block = deserialize(&block).unwrap();
    let weight = block.weight().to_wu();
    let others = weight - coinbase.weight().to_wu() - 4 * (80 + 3);
    let room = |weight| {
        Template {
            weight,
            ..template(1)
        }
        .check_room(&coinbase)
    };
    assert_eq!(room(others), Ok(()));
    let free = 4_000_000 - weight;
    assert!(
        room(others + free + 1).is_err(),
        "a block above the limit passes for one below"
    );
}
