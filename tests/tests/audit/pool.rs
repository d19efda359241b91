//! Pools whose windows are audited, and a coordinator that lies in them.

use tutti_proto::audit::{AuditError, Auditor, Totals, WindowReport};
use tutti_proto::coordinator::{Fate, Input, Record, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::id::Identity;
use tutti_proto::message::{SignedHead, TxAddOutput};
use tutti_proto::segment::{PackedShare, Segment};
use tutti_proto::share::ShareTree;
use tutti_proto::terms::{CheckedTerms, RoundTerms};
use tutti_proto::window::Ledger;
use tutti_proto::work::Work;
use tutti_tests::sim::{Archive, Mood, World, WorldOptions, close_window, identity_key, script};

const SECOND: Millis = Millis(1_000);
/// Zero bits of a block.
pub const BLOCK: u8 = 12;

fn shares(world: &mut World, miner: usize, count: usize) {
    for _ in 0..count {
        world.share(miner);
        world.settle();
    }
}

pub fn options() -> WorldOptions {
    WorldOptions {
        block_zero_bits: BLOCK,
        // After nineteen halvings a block pays 9,536 sat and fees: parts fall below dust limits.
        height: 150 * 19 + 10,
        ..WorldOptions::default()
    }
}

/// Four miners of unequal work, a block that is booked, lost and back, and some rounds after it.
pub fn pool(options: WorldOptions) -> (World, [u8; 32]) {
    let mut world = World::new(options);
    for miner in 0..4 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    shares(&mut world, 0, 60);
    for miner in 1..4 {
        shares(&mut world, miner, miner);
    }
    world.next_round();
    shares(&mut world, 1, 9);
    let block = world.find_block(0).unwrap().hash;
    world.next_round();
    shares(&mut world, 2, 5);
    for fate in [Fate::Lost, Fate::Back] {
        world.tell_coordinator(Input::BlockFate { hash: block, fate });
        world.next_round();
        shares(&mut world, 3, 4);
    }
    world.next_round();
    world.next_round();
    (world, block)
}

/// A pool that can sign nothing: its coinbases pay the payees, and one of them is a block.
pub fn direct_pool() -> (World, [u8; 32]) {
    let mut world = World::new(WorldOptions {
        settings: Settings {
            direct_after: Millis(500),
            z_min: 3,
            z_max: 3,
            ..Settings::default()
        },
        ..options()
    });
    for miner in 0..4 {
        world.connect(miner);
    }
    for miner in &mut world.miners {
        miner.mood = Mood::SilentSigner;
    }
    world.new_tip();
    world.run_until(Millis(60_000), "a direct round", |world| {
        world.miners.iter().all(|miner| !miner.orders.is_empty())
    });
    for miner in 0..3 {
        shares(&mut world, miner, 3 * (miner + 1));
    }
    let block = world.find_block(3).unwrap().hash;
    for miner in &mut world.miners {
        miner.mood = Mood::Honest;
    }
    let before = world.coordinator.ledger().seq();
    world.run_until(Millis(600_000), "a signed round", |world| {
        let signed = world.coordinator.last_committed();
        world.coordinator.ledger().seq() > before && signed.is_some_and(|(_, signers)| signers > 1)
    });
    world.next_round();
    (world, block)
}

/// 300 payees, two payouts of each lane, and a block; the first window is a past that nobody saw.
pub fn sharded_pool() -> (World, [u8; 32]) {
    let mut world = World::new(options_of_shards());
    let coordinator = identity_key(0).identity();
    let payees = 1_000..1_300u16;
    let output = |number: u16| {
        let serial = tutti_proto::id::SerialId(2 * u64::from(number) + 1);
        let key = identity_key(number);
        let output = TxAddOutput::sign(&key, &coordinator, serial, script(number), &[3; 32]);
        Record::OutputAdded(output)
    };
    let mut records: Vec<Record> = payees.clone().map(output).collect();
    let work = |number: u16| (identity_key(number).identity(), Work(u128::from(number)));
    let end = close_window(
        &mut Ledger::default(),
        payees.map(work).collect(),
        Vec::new(),
    );
    records.push(Record::WindowClosed(end.unwrap()));
    world.restore(records);
    for miner in 0..4 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    shares(&mut world, 0, 5);
    let block = world.find_block(1).unwrap().hash;
    world.next_round();
    world.next_round();
    (world, block)
}

fn options_of_shards() -> WorldOptions {
    WorldOptions {
        block_zero_bits: BLOCK,
        pplns_depth: 1_000,
        height: 150,
        ..WorldOptions::default()
    }
}

/// Audits segments from the start.
pub fn audit(archive: &Archive) -> Result<(Totals, Vec<WindowReport>), AuditError> {
    run(
        Auditor::new(archive.params.name()).explaining(),
        &archive.segments,
    )
}

pub fn run(
    mut auditor: Auditor,
    segments: &[Segment],
) -> Result<(Totals, Vec<WindowReport>), AuditError> {
    let reports = segments.iter().map(|segment| auditor.segment(segment));
    let reports = reports.collect::<Result<_, _>>()?;
    Ok((auditor.totals().clone(), reports))
}

/// The shares of a segment, from all its parts.
pub fn shares_of(segment: &Segment) -> Vec<PackedShare> {
    let parts = segment.parts.iter();
    parts.flat_map(|part| part.shares.iter().copied()).collect()
}

/// What a lying coordinator does so that a false window looks true: its record counts what the shares
/// have now, and it and all later ones are a chain of heads that it signs.
pub fn sign_again(archive: &mut Archive, from: usize) {
    let mut ledger = Ledger::default();
    for (place, segment) in archive.segments.iter_mut().enumerate() {
        let end = &mut segment.end;
        end.record.previous = ledger.head().hash;
        ledger.append(&end.record).unwrap();
        if place >= from {
            end.state = ledger.state();
            end.head = SignedHead::sign(&identity_key(0), ledger.head(), &[4; 32]);
        }
    }
}

/// Hashes the shares of a segment again, under the terms that it tells now, and counts them anew.
pub fn hash_again(segment: &mut Segment) {
    let terms = segment.parts[0].terms.iter().cloned();
    let terms = terms.map(|terms| terms.check(&segment.pool).unwrap());
    let terms: Vec<CheckedTerms> = terms.collect();
    let mut tree = ShareTree::default();
    let mut seen = std::collections::BTreeSet::new();
    for share in segment.parts.iter_mut().flat_map(|part| &mut part.shares) {
        let terms = &terms[usize::from(share.terms)];
        let owner: Identity = terms.owners()[share.owner as usize];
        let judged = loop {
            let judged = terms.judge(&owner, &share.rolled);
            match judged {
                Ok(judged) if seen.insert(judged.hash) => break judged,
                _ => share.rolled.nonce += 1,
            }
        };
        tree.add(&judged.record).unwrap();
    }
    let record = &mut segment.end.record;
    record.shares_root = tree.root();
    record.shares = tree.shares();
    record.tally = tree.tally();
}

/// A round as direct as that one is signed: anybody can make its terms, nobody need sign them.
pub fn direct_terms(terms: &RoundTerms) -> RoundTerms {
    let mut direct = terms.clone();
    direct.inputs.signers.clear();
    let name = bitcoin::ScriptBuf::new();
    direct.outputs = vec![
        (
            script(1).as_script().to_owned(),
            bitcoin::Amount::from_sat(terms.inputs.reward),
        ),
        (name, bitcoin::Amount::ZERO),
    ];
    direct
}
