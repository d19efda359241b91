//! What is on the coordinator's disk against the miners' own records, and what the next payout pays
//! against the split of those records.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bitcoin::Transaction;
use tutti_coordinator::segments::{Directory, Index, Name, shares_of};
use tutti_coordinator::store::Store;
use tutti_proto::id::{Identity, SerialId, WindowSeq};
use tutti_proto::participant::Held;
use tutti_proto::share::{ShareRecord, ShareTree};
use tutti_proto::split::{Account, SplitInput, split};
use tutti_proto::window::{Tally, WindowRecord};
use tutti_proto::work::{Work, header_hash};

use crate::miner::{Hash, Miner, Noted};

/// Counts of an audit that found nothing wrong.
#[derive(Debug, Default)]
pub struct Audited {
    pub windows: usize,
    /// The window of each share on the disk.
    pub shares: BTreeMap<Hash, WindowSeq>,
    pub acknowledged: usize,
    /// Durable when the coordinator was killed, and not acknowledged yet; stale when sent again.
    pub unacknowledged: usize,
    /// Shares of which this may be so: under way at a kill, and stale when sent again.
    pub may_be_unacknowledged: usize,
}

/// Whose share it is, and what that miner noted of it.
type Noteds<'a> = BTreeMap<Hash, (Identity, &'a Noted)>;

fn noteds(miners: &[Miner]) -> Noteds<'_> {
    let of = |miner: &Miner| miner.identity();
    let each = miners.iter().map(|miner| (of(miner), miner));
    each.flat_map(|(who, miner)| {
        let noted = miner.record.iter();
        noted.map(move |(hash, noted)| (*hash, (who, noted)))
    })
    .collect()
}

/// The segments' directory, and what is in it.
pub type Files = (Directory, Index);

/// A window's shares: in its segment, if it has one; else in the store.
fn kept(store: &Store, (directory, index): &Files, window: WindowSeq) -> Result<Vec<ShareRecord>> {
    let Some(id) = index.file(&Name::Window(window)) else {
        return Ok(store.shares(window)?);
    };
    let (_, shares) = shares_of(&directory.segment(window, &id)?)?;
    Ok(shares)
}

/// Every acknowledged share is there exactly once, in the window that was named. Nothing else is there
/// but what was under way when the coordinator was killed, and too old when it was sent again: what one
/// life of the coordinator was sent, and refused or left unanswered without a kill, does not count.
/// Every window's record is that of its shares.
pub fn shares((store, files): (&Store, &Files), miners: &[Miner]) -> Result<Audited> {
    let noteds = noteds(miners);
    ensure!(
        noteds.values().all(|(_, noted)| noted.is_answered()),
        "a share was not answered before its miner was quiet, or was both acknowledged and refused"
    );
    let windows = store.windows()?;
    let mut audited = Audited {
        windows: windows.len(),
        ..Audited::default()
    };
    let found = &mut audited.shares;
    let last = windows.last().context("no window was closed")?.record.seq;
    for seq in (1..=last.0 + 1).map(WindowSeq) {
        let shares = kept(store, files, seq)?;
        for share in &shares {
            let hash = header_hash(&share.header);
            ensure!(
                found.insert(hash, seq).is_none(),
                "a share of window {seq} was counted twice"
            );
            is_noted(share, seq, &noteds)?;
        }
        let closed = windows.iter().find(|window| window.record.seq == seq);
        closed.map_or(Ok(()), |window| is_of(&window.record, &shares))?;
    }
    let acknowledged = noteds
        .iter()
        .filter_map(|(hash, (_, noted))| Some((hash, noted.acknowledged?)));
    for (hash, window) in acknowledged {
        ensure!(
            found.get(hash) == Some(&window),
            "a share acknowledged in window {window} is in {:?}",
            found.get(hash)
        );
        audited.acknowledged += 1;
    }
    audited.unacknowledged = audited.shares.len() - audited.acknowledged;
    let untold = noteds
        .values()
        .filter(|(_, noted)| noted.may_count_untold());
    audited.may_be_unacknowledged = untold.count();
    Ok(audited)
}

fn is_noted(share: &ShareRecord, window: WindowSeq, noteds: &Noteds<'_>) -> Result<()> {
    let noted = noteds.get(&header_hash(&share.header));
    let (who, noted) = noted.context("a share that no miner sent counts")?;
    ensure!(
        share.identity == *who && share.z == noted.z,
        "a share of {who} and z {} counts for {} with z {}",
        noted.z,
        share.identity,
        share.z
    );
    ensure!(
        noted.acknowledged.is_none_or(|named| named == window),
        "a share acknowledged in {:?} is in {window}",
        noted.acknowledged
    );
    ensure!(
        noted.acknowledged.is_some() || noted.may_count_untold(),
        "a share counts in {window} of which its miner was told otherwise, without a kill between: \
         {noted:?}"
    );
    Ok(())
}

fn is_of(window: &WindowRecord, shares: &[ShareRecord]) -> Result<()> {
    let mut tally = Tally::new();
    for share in shares {
        let sum = tally.entry(share.identity).or_default();
        *sum = sum.checked_add(share.work())?;
    }
    ensure!(
        window.shares == shares.len() as u64
            && window.shares_root == ShareTree::of(shares)?.root()
            && window.tally == tally,
        "window {}'s record is not that of its {} shares",
        window.seq,
        shares.len()
    );
    Ok(())
}

/// The work that the miners' own records show in the windows up to this one: what was acknowledged
/// to them, and what was under way at a kill and is on the coordinator's disk, by [`shares`].
fn own_weights(audited: &Audited, miners: &[Miner], last: WindowSeq) -> Result<Tally> {
    let mut weights = Tally::new();
    for miner in miners {
        let mut sum = Work::ZERO;
        for (hash, noted) in &miner.record {
            let on_disk = || audited.shares.get(hash).copied();
            let window = noted.acknowledged.or_else(on_disk);
            if window.is_some_and(|window| window <= last) {
                sum = sum.checked_add(Work::of_zero_bits(noted.z))?;
            }
        }
        weights.insert(miner.identity(), sum);
    }
    Ok(weights)
}

/// A held round pays, to the sat, the split of the miners' own records; so say its record, its
/// transactions, and the coordinator's disk.
pub fn payout(
    (store, audited): (&Store, &Audited),
    miners: &[Miner],
    held: &Held,
    (reward, fee_ppm): (u64, u32),
) -> Result<()> {
    let weights = own_weights(audited, miners, held.window)?;
    ensure!(
        weights.values().all(|work| *work > Work::ZERO),
        "a miner without work: {weights:?}"
    );
    let by_serial: BTreeMap<SerialId, Identity> = held
        .payees
        .iter()
        .map(|payee| (payee.serial_id, payee.identity))
        .collect();
    ensure!(
        by_serial.len() == miners.len() + 1,
        "the operator and all miners are paid"
    );
    let accounts: Vec<Account> = by_serial
        .iter()
        .map(|(serial_id, identity)| Account {
            serial_id: *serial_id,
            dust_limit: 330, // P2TR
            output_size: 43,
            weight: weights.get(identity).map_or(0, |work| work.0),
            carry: 0,
        })
        .collect();
    let expected = split(&SplitInput {
        reward,
        feerate: held.feerate,
        operator_fee_ppm: fee_ppm,
        shards_max: 1,
        accounts: &accounts,
    })?;
    let expected = expected.shards.into_iter().flat_map(|shard| shard.outputs);
    let expected: BTreeMap<SerialId, u64> = expected.collect();
    let recorded = held.payees.iter();
    let recorded: BTreeMap<SerialId, u64> = recorded.map(|p| (p.serial_id, p.sat)).collect();
    ensure!(
        recorded == expected,
        "the payout pays {recorded:?}, the miners' own records give {expected:?}"
    );
    let committed = store
        .committed(held.seq, held.round)?
        .context("it is committed")?;
    let kept: Vec<Transaction> = committed.lanes().flat_map(|(_, it)| it).collect();
    let payouts: Vec<&Transaction> = held.lanes.iter().flat_map(|lane| &lane.payouts).collect();
    ensure!(
        kept.iter().eq(payouts.iter().copied()) && !kept.is_empty(),
        "the coordinator keeps other payouts"
    );
    for payout in payouts {
        for miner in miners {
            let pays = |script: &&bitcoin::TxOut| script.script_pubkey == *miner.script.as_script();
            let paid = payout
                .output
                .iter()
                .find(pays)
                .context("a miner's output")?;
            let serial = by_serial.iter().find(|(_, who)| **who == miner.identity());
            let (serial, _) = serial.context("a miner's place")?;
            ensure!(
                Some(&paid.value.to_sat()) == expected.get(serial),
                "another amount"
            );
        }
    }
    Ok(())
}
