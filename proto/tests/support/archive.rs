//! Three closed windows as files, and checkpoints after them: payees come; a round is hashed and its block
//! found; the block is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, Transaction};
use tutti_proto::id::{Identity, SerialId};
use tutti_proto::message::{OutputExpired, SignedHead, TxRemoveOutput};
use tutti_proto::plan::{CheckedPlan, RoundInputs};
use tutti_proto::roster::Roster;
use tutti_proto::script::PayoutScript;
use tutti_proto::segment::{
    Checkpoint, OutputChange, PackedShare, Segment, SignedRound, WindowEnd,
};
use tutti_proto::share::ShareTree;
use tutti_proto::terms::{CheckedTerms, HeaderTerms, Judged, Rolled, RoundTerms};
use tutti_proto::window::{BlockPayouts, Booking, Ledger, LedgerHead, WindowRecord};
use tutti_proto::work::meets_target;

use super::bump;
use super::pool::{Pool, combine};

/// Of the blocks that are mined: one whose subsidy is small.
const HEIGHT: u32 = 1_500;

pub struct Archive {
    pub pool: Pool,
    pub segments: Vec<Segment>,
    /// Before the first, and after each.
    pub ledgers: Vec<Ledger>,
    /// After the second: with the round that was signed on it.
    pub checkpoint: Checkpoint,
}

/// A round that was signed, with the payout of lane 0, shard 0.
pub struct Round {
    pub plan: CheckedPlan,
    pub terms: Arc<CheckedTerms>,
    pub payout: Transaction,
}

pub fn sign_round(pool: &mut Pool, signers: &[usize]) -> Round {
    let (plan, partials) = pool.propose(signers).sign(pool);
    let signatures = combine(&plan, &partials);
    let coinbase = &plan.lanes()[0].coinbase;
    let payouts = plan.complete(&signatures).unwrap();
    let payout = payouts.of_lane(0, coinbase).remove(0);
    Round {
        terms: terms(pool, plan.inputs().clone(), coinbase),
        plan,
        payout,
    }
}

/// The terms under which a round is hashed, on a block of its own.
pub fn terms(pool: &mut Pool, inputs: RoundInputs, coinbase: &Transaction) -> Arc<CheckedTerms> {
    let mut outputs = coinbase.output.clone();
    outputs.pop();
    let terms = RoundTerms {
        params: Arc::new(pool.params.clone()),
        assignments: Arc::new(pool.assignments.clone()),
        outputs: outputs
            .into_iter()
            .map(|output| (output.script_pubkey, output.value))
            .collect(),
        header: HeaderTerms {
            version: 0x2000_0000,
            bits: inputs.bits,
            previous_block: pool.rng.bytes32(),
            time_min: 1_700_000_000,
            time_max: 1_700_000_600,
            merkle_path: vec![pool.rng.bytes32()],
        },
        inputs,
    };
    Arc::new(terms.check(&pool.params.name()).unwrap())
}

/// The first share of this miner from a nonce on with so many zero bits.
pub fn mine(
    pool: &Pool,
    terms: &CheckedTerms,
    n: usize,
    nonce: u32,
    zeros: u8,
) -> (PackedShare, Judged) {
    let who = pool.identity(n);
    let slice = terms.terms().assignments.of(&who)[0].slice;
    let header = &terms.terms().header;
    let mut rolled = Rolled {
        lane: slice.lane,
        version: slice.first_version(header.version),
        time: header.time_min,
        nonce,
    };
    let judged = loop {
        match terms.judge(&who, &rolled) {
            Ok(judged) if judged.zeros >= zeros && meets_target(&judged.hash, header.bits) => {
                break judged;
            }
            _ => rolled.nonce += 1,
        }
    };
    let owner = terms.owners().iter().position(|owner| *owner == who);
    let share = PackedShare {
        terms: 0,
        owner: owner.unwrap().try_into().unwrap(),
        rolled,
    };
    (share, judged)
}

/// Makes a record the end of its window, as the coordinator does who says that it follows.
pub fn end(pool: &Pool, before: &Ledger, record: WindowRecord, state: [u8; 32]) -> WindowEnd {
    let mut after = before.clone();
    let state = after.append(&record).map_or(state, |()| after.state());
    signed_end(pool, record, state)
}

/// The coordinator's signature under whatever it says.
pub fn signed_end(pool: &Pool, record: WindowRecord, state: [u8; 32]) -> WindowEnd {
    let head = LedgerHead::of(record.seq, &record.previous, &record.digest(), &state);
    WindowEnd {
        head: SignedHead::sign(&pool.keys[0], head, &[0; 32]),
        record,
        state,
    }
}

impl Archive {
    pub fn close(
        &mut self,
        terms: &[Arc<CheckedTerms>],
        outputs: Vec<OutputChange>,
        shares: &[PackedShare],
        record: WindowRecord,
    ) {
        let record = WindowRecord {
            height: self.pool.height,
            ..record
        };
        self.pool.ledger.append(&record).unwrap();
        let before = self.ledgers.last().unwrap();
        let end = end(&self.pool, before, record, [0; 32]);
        let name = self.pool.params.name();
        let segment = Segment::new(name, terms, outputs, shares, end).unwrap();
        self.segments.push(segment);
        self.ledgers.push(self.pool.ledger.clone());
    }

    /// A change of the payee set, made.
    pub fn change(&mut self, change: OutputChange) -> OutputChange {
        let pool = &mut self.pool;
        let name = pool.params.name();
        change.apply(&name, &pool.ledger, &mut pool.roster).unwrap();
        change
    }

    /// The third miner, who has done nothing, makes room; the second moves to another script.
    fn changes(&mut self) -> Vec<OutputChange> {
        let coordinator = self.pool.params.coordinator;
        let script = ScriptBuf::from_bytes([&[0x00, 0x14][..], &[7; 20]].concat());
        let script = PayoutScript::parse(script).unwrap();
        let key = &self.pool.keys[2];
        let aux = [0; 32];
        let (new, old) = (SerialId(25), SerialId(21));
        let add = tutti_proto::message::TxAddOutput::sign(key, &coordinator, new, script, &aux);
        let remove = TxRemoveOutput::sign(key, &coordinator, old, &aux);
        let serial_id = SerialId(31);
        [
            OutputChange::Expired(OutputExpired { serial_id }),
            OutputChange::Added(add),
            OutputChange::Removed(remove),
        ]
        .map(|change| self.change(change))
        .into()
    }

    pub fn new() -> Self {
        let mut pool = Pool::new("tutti vectors: segments", 3);
        (pool.height, pool.proposed_height, pool.reward) = (HEIGHT, HEIGHT, 5_000_000);
        // Less than an output may have: it is carried.
        pool.params.operator_fee_ppm = 50;
        let outputs = pool.roster.in_order_of_adding();
        let added = outputs.into_iter().map(|(_, output)| output.clone());
        let added = added.map(OutputChange::Added).collect();
        let ledgers = vec![pool.ledger.clone()];
        let placeholder = checkpoint(&pool, &pool.roster, None);
        let mut archive = Self {
            pool,
            segments: Vec::new(),
            ledgers,
            checkpoint: placeholder,
        };
        let first = bump::record(&archive.pool.ledger, Vec::new(), Vec::new());
        archive.close(&[], added, &[], first);
        let round = sign_round(&mut archive.pool, &[0, 1, 2]);
        let booking = archive.found(&round);
        let signed = sign_round(&mut archive.pool, &[0, 1, 2]);
        let signed = SignedRound {
            terms: signed.terms.terms().clone(),
            payout: signed.payout,
        };
        archive.checkpoint = checkpoint(&archive.pool, &archive.pool.roster, Some(signed));
        archive.pool.height += 1;
        let lost = vec![booking.undo().unwrap()];
        let third = bump::record(&archive.pool.ledger, lost, Vec::new());
        archive.close(&[round.terms], Vec::new(), &[], third);
        archive
    }

    /// The second window: four shares, the last a block.
    fn found(&mut self, round: &Round) -> Booking {
        let terms = &round.terms;
        let mut shares = Vec::new();
        for (n, zeros) in [(1, 8), (2, 8), (1, 8), (2, 12)] {
            let after = shares.last().map_or(0, nonce_after);
            shares.push(mine(&self.pool, terms, n, after, zeros));
        }
        let records: Vec<_> = shares.iter().map(|(_, judged)| judged.record).collect();
        let (packed, block) = (shares.iter().map(|(share, _)| *share), shares[3].1);
        let tree = ShareTree::of(&records).unwrap();
        let (plan, view) = (&round.plan, self.pool.view());
        let changes = plan.carry_changes(&view);
        let booking = booking(terms, &block, changes, &plan.payees(&view));
        let record = WindowRecord {
            shares: tree.shares(),
            shares_root: tree.root(),
            tally: tree.tally(),
            ..bump::record(&self.pool.ledger, vec![booking.clone()], Vec::new())
        };
        let packed: Vec<PackedShare> = packed.collect();
        let changes = self.changes();
        self.close(std::slice::from_ref(terms), changes, &packed, record);
        booking
    }
}

/// What books this block of a round.
pub fn booking(
    terms: &CheckedTerms,
    block: &Judged,
    carry: BTreeMap<Identity, i64>,
    payees: &[Vec<Identity>],
) -> Booking {
    let told = terms.terms();
    let coinbase = terms.coinbase(block.record.lane).unwrap();
    let txid = coinbase.compute_txid().to_byte_array();
    Booking {
        block: block.hash,
        round: terms.round(),
        lane: block.record.lane,
        undone: false,
        carry,
        payouts: BlockPayouts::new(&told.params, &told.inputs, txid, payees).digest(),
        header: block.record.header,
    }
}

pub fn nonce_after((share, _): &(PackedShare, Judged)) -> u32 {
    share.rolled.nonce + 1
}

fn checkpoint(pool: &Pool, roster: &Roster, signed: Option<SignedRound>) -> Checkpoint {
    let outputs = roster.in_order_of_adding().into_iter();
    Checkpoint {
        pool: pool.params.name(),
        ledger: pool.ledger.snapshot(),
        head: SignedHead::sign(&pool.keys[0], pool.ledger.head(), &[0; 32]),
        outputs: outputs.map(|(_, output)| output.clone()).collect(),
        signed,
    }
}
