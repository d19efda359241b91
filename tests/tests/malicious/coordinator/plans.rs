//! Proposals of rounds that nobody would sign who computes them.

use bitcoin::key::{Secp256k1, TapTweak, XOnlyPublicKey};
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{LaneIndex, PeerId, WindowSeq};
use tutti_proto::message::ToParticipant;
use tutti_proto::musig::AggregateKey;
use tutti_proto::participant::Event;
use tutti_proto::plan::{CheckedPlan, PlanError, ProposedPlan};
use tutti_proto::policy::{Policy, subsidy};
use tutti_proto::window::WindowRecord;
use tutti_proto::{payout, work::Work};
use tutti_tests::sim::{World, WorldOptions, script};

use crate::liar::{Replica, lie_in_proposals, proposal, txid};
use crate::pool::{MINERS, Mark, goes_on, pool, pool_of};

/// Tells a lie in every proposal of a new tip. Every miner names it by what `expected` knows, nobody
/// signs, and nothing is committed.
fn nobody_signs(
    world: &mut World,
    lie: impl FnMut(PeerId, &Replica, &ProposedPlan) -> ProposedPlan + 'static,
    expected: impl Fn(&PlanError) -> bool,
) {
    let mark = Mark::of(world);
    lie_in_proposals(world, lie);
    world.new_tip();
    world.settle();
    for miner in 0..MINERS {
        let refusals = mark.refusals(world, miner);
        let named = !refusals.is_empty() && refusals.iter().all(|error| expected(error));
        assert!(named, "miner {miner}: {refusals:?}");
    }
    assert_eq!(mark.signed(world), []);
    assert_eq!(mark.committed(world), []);
    goes_on(world);
}

/// The same proposal, but for the first lane's coinbase.
fn with_coinbase(
    replica: &Replica,
    plan: &ProposedPlan,
    change: impl Fn(&CheckedPlan, &mut Transaction),
) -> ProposedPlan {
    let computed = replica.compute(plan);
    let mut coinbase = computed.lanes()[0].coinbase.clone();
    change(&computed, &mut coinbase);
    let mut lie = plan.clone();
    assert_ne!(lie.coinbases[0], txid(&coinbase));
    lie.coinbases[0] = txid(&coinbase);
    lie
}

fn lies_about_the_coinbase(change: impl Fn(&CheckedPlan, &mut Transaction) + 'static) {
    nobody_signs(
        &mut pool(),
        move |_, replica, plan| with_coinbase(replica, plan, &change),
        |error| *error == PlanError::Coinbase(LaneIndex(0)),
    );
}

#[test]
fn adds_an_output_of_its_own_to_the_coinbase() {
    lies_about_the_coinbase(|_, coinbase| {
        let own = TxOut {
            value: Amount::from_sat(1_000),
            script_pubkey: script(0).as_script().to_owned(),
        };
        coinbase.output[0].value -= own.value;
        coinbase.output.push(own);
    });
}

#[test]
fn makes_the_coinbase_worth_less_than_the_reward_it_states() {
    lies_about_the_coinbase(|_, coinbase| coinbase.output[0].value -= Amount::ONE_SAT);
}

#[test]
fn pays_the_coinbase_to_a_key_of_its_own() {
    lies_about_the_coinbase(|_, coinbase| {
        coinbase.output[0].script_pubkey = script(0).as_script().to_owned();
    });
}

#[test]
fn hides_a_script_path_of_its_own_in_the_output_key() {
    lies_about_the_coinbase(|plan, coinbase| {
        let keys = plan.key().signers().to_vec();
        let spendable = payout::leaf_hash(&[0x51; 32]);
        let key = AggregateKey::new(keys, &spendable).unwrap();
        assert_eq!(
            key.internal(),
            plan.key().internal(),
            "the very same signers"
        );
        coinbase.output[0].script_pubkey = payout::output_script(&key.output_key());
    });
}

#[test]
fn leaves_the_transcript_out_of_the_output_key() {
    lies_about_the_coinbase(|plan, coinbase| {
        let internal = XOnlyPublicKey::from_slice(&plan.key().internal()).unwrap();
        let (tweaked, _) = internal.tap_tweak(&Secp256k1::verification_only(), None);
        coinbase.output[0].script_pubkey = ScriptBuf::new_p2tr_tweaked(tweaked);
    });
}

#[test]
fn leaves_a_lane_out() {
    nobody_signs(
        &mut pool(),
        |_, _, plan| {
            let mut lie = plan.clone();
            lie.coinbases.pop();
            lie
        },
        |error| *error == PlanError::Coinbase(LaneIndex(1)),
    );
}

#[test]
fn states_a_reward_below_the_subsidy() {
    let mut world = pool();
    let least = |height| subsidy(bitcoin::Network::Regtest, height);
    nobody_signs(
        &mut world,
        move |_, replica, plan| {
            // The rest of the lie would follow from it to the end, but nobody gets that far.
            let mut lie = plan.clone();
            lie.inputs.reward = least(lie.inputs.height) - 1;
            lie.round = lie.inputs.round_id(&replica.params);
            lie
        },
        move |error| {
            matches!(*error, PlanError::RewardBelowSubsidy { reward, subsidy, height }
                if reward + 1 == subsidy && subsidy == least(height))
        },
    );
}

#[test]
fn names_a_round_that_follows_from_another_ledger() {
    nobody_signs(
        &mut pool(),
        |_, replica, plan| {
            let mut operators = replica.clone();
            pay_the_operator(&mut operators);
            // Inputs as everyone has them, coinbases as the operator would like them.
            let lie = operators.plan(plan);
            ProposedPlan {
                inputs: plan.inputs.clone(),
                ..lie
            }
        },
        |error| matches!(error, PlanError::Transcript { .. }),
    );
}

/// A window in which the operator did all the work.
fn pay_the_operator(replica: &mut Replica) {
    let head = replica.ledger.head();
    let record = WindowRecord {
        seq: WindowSeq(head.seq.0 + 1),
        height: 1,
        previous: head.hash,
        shares_root: [0; 32],
        shares: 1,
        tally: [(replica.params.coordinator, Work(1 << 60))].into(),
        bookings: Vec::new(),
        credits: Vec::new(),
    };
    replica.ledger.append(&record).unwrap();
}

#[test]
fn forks_the_ledger() {
    nobody_signs(
        &mut pool(),
        |_, replica, plan| {
            let mut operators = replica.clone();
            pay_the_operator(&mut operators);
            operators.plan(plan)
        },
        |error| {
            matches!(error, PlanError::Ledger { ours, theirs }
                if theirs.seq.0 == ours.seq.0 + 1 && theirs.hash != ours.hash)
        },
    );
}

#[test]
fn proposes_for_a_payee_set_that_only_it_has() {
    nobody_signs(
        &mut pool(),
        |_, replica, plan| {
            let mut operators = replica.clone();
            let (serial_id, payee) = operators.roster.iter().last().unwrap();
            let identity = payee.identity;
            operators.roster.remove_output(identity, serial_id).unwrap();
            operators.plan(plan)
        },
        |error| *error == PlanError::Roster,
    );
}

#[test]
fn splits_by_a_higher_operator_fee_than_it_told() {
    nobody_signs(
        &mut pool(),
        |_, replica, plan| {
            let mut greedy = replica.clone();
            greedy.params.operator_fee_ppm += 1;
            greedy.plan(plan)
        },
        |error| matches!(error, PlanError::Transcript { .. }),
    );
}

#[test]
fn asks_for_a_higher_operator_fee_than_policy_allows() {
    let mut world = pool();
    world.disconnect(0);
    let mark = Mark::of(&world);
    world.lies = Some(Box::new(|_, message| {
        vec![match message {
            ToParticipant::Challenge(mut challenge) => {
                challenge.params.operator_fee_ppm = 20_001;
                ToParticipant::Challenge(challenge)
            }
            message => message,
        }]
    }));
    world.connect(0);
    world.settle();
    let (fee, limit) = (20_001, Policy::default().operator_fee_ppm_max);
    assert_eq!(
        mark.news(&world, 0),
        [Event::OperatorFeeTooHigh { fee, limit }],
        "and it has not even joined"
    );
    assert_eq!(world.miners[0].orders, []);
    goes_on(&mut world);
}

#[test]
fn asks_for_more_credit_for_bumps_than_policy_allows() {
    let mut world = pool();
    world.disconnect(0);
    let mark = Mark::of(&world);
    world.lies = Some(Box::new(|_, message| {
        vec![match message {
            ToParticipant::Challenge(mut challenge) => {
                challenge.params.bump_credit = 20_001;
                ToParticipant::Challenge(challenge)
            }
            message => message,
        }]
    }));
    world.connect(0);
    world.settle();
    let (credit, limit) = (20_001, Policy::default().bump_credit_max);
    assert_eq!(
        mark.news(&world, 0),
        [Event::BumpCreditTooHigh { credit, limit }],
        "and it has not even joined"
    );
    assert_eq!(world.miners[0].orders, []);
    goes_on(&mut world);
}

#[test]
fn pays_a_higher_feerate_than_policy_allows() {
    let limit = FeeRate::from_sat_per_kvb(5_000).unwrap();
    let mut options = WorldOptions::default();
    options.policy.feerate_max = limit;
    nobody_signs(
        &mut pool_of(options, MINERS),
        |_, replica, plan| {
            let mut lie = plan.clone();
            lie.inputs.feerate = FeeRate::from_sat_per_kvb(5_001).unwrap();
            replica.plan(&lie)
        },
        move |error| {
            let rate = FeeRate::from_sat_per_kvb(5_001).unwrap();
            *error == PlanError::FeeRate { rate, limit }
        },
    );
}

#[test]
fn proposes_a_round_that_it_signs_alone() {
    nobody_signs(
        &mut pool(),
        |_, replica, plan| {
            let mut lie = plan.clone();
            lie.inputs
                .signers
                .retain(|signer| signer.identity == replica.params.coordinator);
            replica.plan(&lie)
        },
        |error| {
            let limit = Policy::default().signers_min;
            *error == PlanError::TooFewSigners { signers: 1, limit }
        },
    );
}

#[test]
fn leaves_itself_out_of_the_signers() {
    nobody_signs(
        &mut pool(),
        |_, replica, plan| {
            let mut lie = plan.clone();
            let others = |who| who != replica.params.coordinator;
            lie.inputs.signers.retain(|signer| others(signer.identity));
            lie.round = lie.inputs.round_id(&replica.params);
            lie
        },
        |error| matches!(error, PlanError::Signers(_)),
    );
}

#[test]
fn shows_fewer_nonces_than_payouts() {
    nobody_signs(
        &mut pool(),
        |_, _, plan| {
            let mut lie = plan.clone();
            lie.nonces.pop();
            lie
        },
        |error| {
            *error
                == PlanError::Nonces {
                    got: 1,
                    sessions: 2,
                }
        },
    );
}

#[test]
fn shows_two_plans_to_two_halves() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let half = [0, 1].map(|miner: usize| world.miners[miner].peer.unwrap());
    lie_in_proposals(&mut world, move |peer, replica, plan| {
        let mut lie = plan.clone();
        lie.inputs.reward += u64::from(half.contains(&peer));
        replica.plan(&lie)
    });
    world.new_tip();
    world.settle();
    let shown = |miner: usize| {
        let peer = world.miners[miner].peer.unwrap();
        let mut proposals = mark.proposals(&world).into_iter();
        proposals.find(|(to, _)| *to == peer).unwrap().1
    };
    let (one, other) = (shown(0), shown(2));
    for miner in 0..MINERS {
        // Both are right for whoever computes them: each half signs its own, which completes none.
        let round = [&one, &one, &other, &other][miner].plan.round;
        assert_eq!(mark.signed_by(&world, miner), [round].into());
        assert!(
            world.miners[miner]
                .held
                .iter()
                .all(|held| held.round != round)
        );
    }
    assert_eq!(mark.committed(&world), []);
    // Together they are the proof: two plans for one attempt, both signed by the coordinator.
    let coordinator = world.coordinator.identity();
    assert!(one.verify(&coordinator).is_ok() && other.verify(&coordinator).is_ok());
    let attempt = |p: &tutti_proto::message::Proposal| (p.plan.inputs.seq, p.plan.inputs.attempt);
    assert_eq!(attempt(&one), attempt(&other));
    assert_ne!(one.plan.round, other.plan.round);
    goes_on(&mut world);
}

#[test]
fn proposes_in_a_strangers_name() {
    let mut world = pool();
    let mark = Mark::of(&world);
    world.lies = Some(Box::new(|_, message| {
        vec![match message {
            ToParticipant::Proposal(told) => {
                let ToParticipant::Proposal(mut lie) = proposal(told.plan) else {
                    unreachable!("proposal gives a proposal")
                };
                lie.signature[63] ^= 1;
                ToParticipant::Proposal(lie)
            }
            message => message,
        }]
    }));
    world.new_tip();
    world.settle();
    for miner in 0..MINERS {
        mark.names(&world, miner, &Event::UnsignedProposal);
        assert_eq!(world.miners[miner].orders, [], "it has left");
    }
    assert_eq!(mark.signed(&world), []);
    goes_on(&mut world);
}
