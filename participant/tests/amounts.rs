//! Amounts that a person reads are in sat with separators and in bitcoins, wherever they stand; programs
//! read plain integers.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, Txid};
use tutti_participant::bump::{BumpError, Bumped, Feerate};
use tutti_participant::chain::BlockRef;
use tutti_participant::news::News;
use tutti_participant::settle::{BumpNews, Change, Settlement};
use tutti_proto::bump::BumpCause;

const BOTH: &str = "1 234 567 sat = 0.01234567 BTC";

fn bumped() -> Bumped {
    Bumped {
        payout_txid: Txid::all_zeros().to_string(),
        payout_fee: 1_234_567,
        payout_vsize: 1_000,
        payout_feerate_sat_per_kvb: 1_234_567,
        child_txid: Txid::all_zeros().to_string(),
        fee: 1_234_567,
        vsize: 153,
        child_feerate_sat_per_kvb: 5_000,
        change: 1_234_567,
        spends: Vec::new(),
        target_sat_per_kvb: 5_000,
        package_feerate_sat_per_kvb: 5_000,
        replaces: None,
        credit: 1_234_567,
        credit_from_height: 9,
        accepted: true,
        reason: None,
        dry_run: false,
    }
}

#[test]
fn the_table_of_a_bump() {
    let table = bumped().table();
    for row in ["payout", "child", "comes back", "credited"] {
        let mut lines = table.lines().filter(|line| line.starts_with(row));
        assert!(
            lines.next().expect("a row").contains(BOTH),
            "{row}: {table}"
        );
    }
    let together = "2 469 134 sat = 0.02469134 BTC";
    assert!(table.contains(together), "{table}");
}

#[test]
fn lines_of_the_log() {
    let found = Change::Found(Settlement {
        round: String::new(),
        seq: 1,
        lane: 0,
        coinbase_txid: Txid::all_zeros(),
        block: BlockRef {
            height: 9,
            hash: BlockHash::all_zeros(),
        },
        own_sat: 1_234_567,
        payouts: Vec::new(),
    });
    let bump = BumpNews::Bumped {
        cause: BumpCause::BelowMempoolMinimum {
            mempool_min: Feerate::from_sat_per_kvb(5_000),
        },
        bumped: bumped(),
    };
    for (news, field) in [(News::from(&found), "own_sat"), (News::from(&bump), "fee")] {
        assert!(news.text.contains(BOTH), "{}", news.text);
        assert_eq!(news.fields[field], 1_234_567);
    }
}

#[test]
fn why_a_bump_is_not_made() {
    let amount = Amount::from_sat(1_234_567);
    for error in [
        BumpError::NotEnough {
            have: amount,
            need: amount,
            fee: amount,
            dust: amount,
            most: Feerate::from_sat_per_kvb(5_000),
        },
        BumpError::AboveCap {
            fee: amount,
            most: amount,
        },
    ] {
        let said = error.to_string();
        let amounts = said.matches(" sat").count() - said.matches(" sat/vB").count();
        assert_eq!(said.matches(BOTH).count(), amounts, "{said}");
        assert!(amounts >= 2, "{said}");
    }
}
