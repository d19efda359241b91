//! A fourth window of the archive: a direct round, proposed between two changes of the payee set, and a
//! signed one that is hashed on two blocks; a block of each is found.

use std::sync::Arc;

use bitcoin::ScriptBuf;
use tutti_proto::id::SerialId;
use tutti_proto::message::{TxAddOutput, TxRemoveOutput};
use tutti_proto::plan::DirectPlan;
use tutti_proto::script::PayoutScript;
use tutti_proto::segment::{OutputChange, PackedShare};
use tutti_proto::share::ShareTree;
use tutti_proto::terms::CheckedTerms;
use tutti_proto::window::{Booking, WindowRecord};

use super::archive::{Archive, Round, booking, mine, nonce_after, sign_round, terms};
use super::bump;

/// The first miner moves, in two steps: what it adds, and what it removes.
fn changes(archive: &Archive) -> [OutputChange; 2] {
    let (pool, aux) = (&archive.pool, [0; 32]);
    let coordinator = pool.params.coordinator;
    let script = ScriptBuf::from_bytes([&[0x00, 0x14][..], &[9; 20]].concat());
    let script = PayoutScript::parse(script).unwrap();
    let (new, old) = (SerialId(41), SerialId(11));
    let add = TxAddOutput::sign(&pool.keys[1], &coordinator, new, script, &aux);
    let remove = TxRemoveOutput::sign(&pool.keys[1], &coordinator, old, &aux);
    [OutputChange::Added(add), OutputChange::Removed(remove)]
}

/// The signed round under another previous block, and the block that is found on it, which is no share.
fn on_another(archive: &Archive, round: &Round) -> (Arc<CheckedTerms>, Booking) {
    let mut other = round.terms.terms().clone();
    other.header.previous_block[0] ^= 1;
    let other = Arc::new(other.check(&archive.pool.params.name()).unwrap());
    let (_, block) = mine(&archive.pool, &other, 2, 0, 12);
    let (plan, view) = (&round.plan, archive.pool.view());
    let changes = plan.carry_changes(&view);
    let booking = booking(&other, &block, changes, &plan.payees(&view));
    (other, booking)
}

/// Closes it.
pub fn close(archive: &mut Archive) {
    let round = sign_round(&mut archive.pool, &[0, 1, 2]);
    let (other, signed) = on_another(archive, &round);
    let [added, removed] = changes(archive);
    let added = archive.change(added);
    let inputs = archive.pool.propose(&[]).proposal.inputs;
    let plan = DirectPlan::compute(inputs, &archive.pool.view()).unwrap();
    let inputs = plan.inputs().clone();
    let direct = terms(&mut archive.pool, inputs, &plan.coinbases()[0]);
    let carry = plan.carry_changes(&archive.pool.view());
    let removed = archive.change(removed);
    let first = mine(&archive.pool, &direct, 1, 0, 8);
    let second = mine(&archive.pool, &round.terms, 2, 0, 8);
    let third = mine(&archive.pool, &direct, 1, nonce_after(&first), 12);
    let direct_booking = booking(&direct, &third.1, carry, &[]);
    let tree = ShareTree::of([&first, &second, &third].map(|(_, judged)| &judged.record)).unwrap();
    let bookings = vec![signed, direct_booking];
    let record = WindowRecord {
        shares: tree.shares(),
        shares_root: tree.root(),
        tally: tree.tally(),
        ..bump::record(&archive.pool.ledger, bookings, Vec::new())
    };
    let told = [direct, round.terms, other];
    let of_second = PackedShare {
        terms: 1,
        ..second.0
    };
    let shares = [first.0, of_second, third.0];
    archive.close(&told, vec![added, removed], &shares, record);
}
