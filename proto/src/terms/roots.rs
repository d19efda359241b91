//! The merkle roots of a round's lanes, made when the first share of a lane is judged.
//!
//! A file may hold 65,536 terms of 256 lanes each, and none of them need be a round that anybody hashed:
//! nothing is made of terms before a share asks for it, and no coinbase is kept.

use std::sync::OnceLock;

use bitcoin::Transaction;
use bitcoin::hashes::Hash;

use super::RoundTerms;
use crate::header::merkle_root;
use crate::id::LaneIndex;

/// Lanes whose roots are made together.
const TOGETHER: u16 = 16;

type Root = [u8; 32];

/// Roots by lane, so many together.
#[derive(Clone, Debug)]
pub(super) struct Roots(Vec<OnceLock<Box<[Root]>>>);

impl Roots {
    /// None is made yet.
    pub(super) fn none(terms: &RoundTerms) -> Self {
        let groups = usize::from(terms.params.lanes.div_ceil(TOGETHER));
        Self(vec![OnceLock::new(); groups])
    }

    /// Of coinbases that are there already.
    pub(super) fn of(terms: &RoundTerms, coinbases: &[Transaction]) -> Self {
        let groups = coinbases.chunks(usize::from(TOGETHER)).map(|group| {
            let roots: Box<[Root]> = group.iter().map(|tx| root(terms, tx)).collect();
            OnceLock::from(roots)
        });
        Self(groups.collect())
    }

    /// The root of a lane; none of one that the pool does not have.
    pub(super) fn of_lane(&self, terms: &RoundTerms, lane: LaneIndex) -> Option<Root> {
        let group = self.0.get(usize::from(lane.0 / TOGETHER))?;
        let first = lane.0 - lane.0 % TOGETHER;
        let lanes = first..terms.params.lanes.min(first.saturating_add(TOGETHER));
        let make = |lane| root(terms, &terms.coinbase(LaneIndex(lane)));
        let roots = group.get_or_init(|| lanes.map(make).collect());
        roots.get(usize::from(lane.0 % TOGETHER)).copied()
    }

    #[cfg(test)]
    fn made(&self) -> usize {
        self.0.iter().filter(|group| group.get().is_some()).count()
    }
}

fn root(terms: &RoundTerms, coinbase: &Transaction) -> Root {
    let path = &terms.header.merkle_path;
    merkle_root(coinbase.compute_txid().to_byte_array(), path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitcoin::{Amount, Network, ScriptBuf};

    use super::*;
    use crate::feerate::FeeRate;
    use crate::id::{Attempt, Identity, RoundSeq, WindowSeq};
    use crate::lane::Assignments;
    use crate::params::PoolParams;
    use crate::plan::RoundInputs;
    use crate::terms::HeaderTerms;
    use crate::window::{LedgerHead, Scoring};

    fn terms(lanes: u16) -> RoundTerms {
        let secret = bitcoin::secp256k1::SecretKey::from_slice(&[7; 32]).unwrap();
        let secp = bitcoin::secp256k1::Secp256k1::signing_only();
        let params = PoolParams {
            network: Network::Regtest,
            coordinator: Identity::from(secret.x_only_public_key(&secp).0),
            tag: "/roots/".to_owned(),
            operator_fee_ppm: 0,
            lanes,
            nonces_per_slot: lanes,
            direct_payees: 32,
            scoring: Scoring::Pplns,
            pplns_depth: 8,
            ntime_roll: 600,
            block_zero_bits: None,
            bump_credit: 0,
            bump_credit_after: 1,
        };
        let assignments = Arc::new(Assignments::default());
        let (seq, hash) = (WindowSeq(1), [2; 32]);
        RoundTerms {
            params: Arc::new(params),
            inputs: RoundInputs {
                seq: RoundSeq(1),
                attempt: Attempt(0),
                height: 100,
                bits: 0x207f_ffff,
                reward: 5_000,
                witness_commitment: None,
                feerate: FeeRate::from_sat_per_kvb(1_000).unwrap(),
                roster: [1; 32],
                ledger: LedgerHead { seq, hash },
                assignments: assignments.digest(),
                signers: Vec::new(),
            },
            assignments,
            outputs: vec![(ScriptBuf::new(), Amount::from_sat(5_000))],
            header: HeaderTerms {
                version: 0x2000_0000,
                bits: 0x207f_ffff,
                previous_block: [3; 32],
                time_min: 0,
                time_max: 600,
                merkle_path: vec![[4; 32]],
            },
        }
    }

    #[test]
    fn roots_are_made_when_a_lane_is_asked_for_and_are_those_of_its_coinbase() {
        for lanes in [1, 16, 20, 256] {
            let terms = terms(lanes);
            let roots = Roots::none(&terms);
            assert_eq!(roots.made(), 0);
            let last = LaneIndex(lanes - 1);
            let expected = root(&terms, &terms.coinbase(last));
            assert_eq!(roots.of_lane(&terms, last), Some(expected));
            assert_eq!(roots.made(), 1);
            assert_eq!(roots.of_lane(&terms, LaneIndex(lanes)), None);
            let coinbases: Vec<_> = (0..lanes).map(|n| terms.coinbase(LaneIndex(n))).collect();
            let given = Roots::of(&terms, &coinbases);
            for lane in (0..lanes).map(LaneIndex) {
                let lazily = roots.of_lane(&terms, lane);
                assert!(lazily.is_some() && lazily == given.of_lane(&terms, lane));
            }
        }
    }
}
