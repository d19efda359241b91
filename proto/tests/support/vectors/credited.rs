//! A block both of whose payouts are bumped, at the edges of what is credited: lost after the first credit,
//! and found again with the second.

use bitcoin::OutPoint;
use bitcoin::hashes::Hash;
use tutti_proto::id::RoundId;
use tutti_proto::payout;
use tutti_proto::window::{Booking, Credit, WindowRecord, payees_digest};

use super::super::bump::{Bump, record};
use super::super::pool::Pool;
use super::records::{Lie, ledger_after};

const BLOCK: [u8; 32] = [10; 32];
/// The round's target, and one that is exactly four times as easy.
const BITS: u32 = 0x201f_ffff;
const EASIEST: u32 = 0x207f_fffc;

/// Of shard 1 the child spends the second payee's output, then the first's; of shard 0 it costs more than is
/// credited.
pub struct Credited {
    first: Bump,
    second: Bump,
}

fn of_shard(bump: &mut Bump, shard: u32, spends: &[u32]) {
    let parts = bump.payout.output[..bump.payees.len()].to_vec();
    let found = bitcoin::Txid::from_byte_array(bump.payouts.coinbase);
    let payout = payout::unsigned(OutPoint::new(found, shard), parts);
    bump.payout = payout::signed(payout, &[8; 64]);
    bump.child_spends(spends);
}

impl Credited {
    pub fn new(pool: &Pool) -> Self {
        let two = [1, 2].map(|n| pool.identity(n));
        let one = [pool.identity(3)];
        let mut first = Bump::new(&two, &[1, 0], 3_000);
        let mut second = Bump::new(&one, &[0], 30_000);
        first.payouts.shards = vec![payees_digest(&one), payees_digest(&two)];
        (first.payouts.bits, first.payouts.coinbase) = (BITS, [12; 32]);
        second.payouts = first.payouts.clone();
        (first.bits, second.bits) = (EASIEST, EASIEST);
        of_shard(&mut first, 1, &[2, 1, 0]);
        of_shard(&mut second, 0, &[1, 0]);
        Self { first, second }
    }

    fn booking(&self) -> Booking {
        Booking {
            block: BLOCK,
            round: RoundId([11; 32]),
            ..self.first.booking()
        }
    }

    fn credit(&self, shard: u16) -> Credit {
        let bump = if shard == 1 {
            &self.first
        } else {
            &self.second
        };
        let block = bump.confirmed();
        let credit = Credit::in_block(BLOCK, shard, &bump.payouts, &bump.payees, &block);
        credit.unwrap().unwrap()
    }

    /// It is booked; shard 1 is credited; it is lost; it is found again, and shard 0 is credited at once.
    pub fn close(&self, pool: &mut Pool) {
        pool.close(&[], vec![self.booking()], Vec::new());
        pool.close(&[], Vec::new(), vec![self.credit(1)]);
        pool.close(&[], vec![self.booking().undo().unwrap()], Vec::new());
        pool.close(&[(1, 3)], vec![self.booking()], vec![self.credit(0)]);
    }

    /// What cannot follow so many records, of which these are the last four.
    pub fn lies(&self, pool: &Pool, before: usize) -> Vec<Lie> {
        let with = |after: usize, credits: Vec<Credit>| -> WindowRecord {
            let ledger = ledger_after(&pool.records[..before + after]);
            record(&ledger, Vec::new(), credits)
        };
        let lie = |what, after: usize, shard: u16, falsify: fn(&mut Credit)| {
            let mut credit = self.credit(shard);
            falsify(&mut credit);
            (what, before + after, with(after, vec![credit]))
        };
        let mut lies = vec![
            lie("a credit again, a record later", 2, 1, |_| {}),
            lie("a credit of a block that is lost", 3, 0, |_| {}),
            lie(
                "a credit again, the block lost and found since",
                4,
                1,
                |_| {},
            ),
            lie(
                "a credit to the payee whose output the child spends first, which is not the lowest",
                1,
                1,
                |c| c.identity = c.proof.payees[1],
            ),
            lie(
                "a credit of all that the child cost, more than is credited",
                1,
                0,
                |c| c.sat = 30_000,
            ),
        ];
        let easier = Bump {
            bits: EASIEST + 1,
            ..Self::new(pool).first
        };
        let mut credit = self.credit(1);
        credit.proof.block = easier.tree();
        let what = "a credit by a header with a target more than four times as easy";
        lies.push((what, before + 1, with(1, vec![credit])));
        lies
    }
}
