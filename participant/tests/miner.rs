//! Hashing: the right hash, each header once, and nothing without a job.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

use bitcoin::block::{Header, Version};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Network, TxMerkleNode};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tutti_participant::miner::{
    CpuHasher, CpuSettings, FoundShare, Hasher, HeaderSearch, Kernel, KernelChoice, MiningJob,
    SearchSpace, SliceError, TimeRange, VersionSpace,
};
use tutti_proto::id::{JobId, LaneIndex};
use tutti_proto::lane::Slice;
use tutti_proto::participant::Order;

const DEADLINE: Duration = Duration::from_secs(30);

fn job(id: u64, zero_bits: u8) -> MiningJob {
    MiningJob {
        id,
        lane: 0,
        versions: VersionSpace::new(0x2000_0000, 0x0000_6000).expect("a version space"),
        prev_hash: BlockHash::hash(b"previous"),
        merkle_root: TxMerkleNode::hash(b"root"),
        bits: CompactTarget::from_consensus(0x207f_ffff),
        times: TimeRange::new(1_700_000_000, 1_700_000_600).expect("times"),
        zero_bits,
    }
}

fn header(job: &MiningJob, version: i32, time: u32, nonce: u32) -> Header {
    Header {
        version: Version::from_consensus(version),
        prev_blockhash: job.prev_hash,
        merkle_root: job.merkle_root,
        time,
        bits: job.bits,
        nonce,
    }
}

fn start(
    threads: u32,
    rate: Option<u64>,
    capacity: usize,
) -> (CpuHasher, mpsc::Receiver<FoundShare>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let settings = CpuSettings {
        threads: NonZeroU32::new(threads).expect("at least one thread"),
        rate_limit: rate.and_then(NonZeroU64::new),
        kernel: KernelChoice::Auto,
    };
    let kernel = Kernel::available()
        .pop()
        .expect("at least the portable one");
    let hasher = CpuHasher::start(settings, kernel, sender).expect("threads");
    (hasher, receiver)
}

async fn next(shares: &mut mpsc::Receiver<FoundShare>) -> FoundShare {
    tokio::time::timeout(DEADLINE, shares.recv())
        .await
        .expect("a share before the deadline")
        .expect("a running hasher")
}

fn wait_until_idle(hasher: &CpuHasher) {
    let deadline = Instant::now() + DEADLINE;
    while hasher.busy_threads() > 0 {
        assert!(Instant::now() < deadline, "threads did not stop");
        std::thread::yield_now();
    }
}

#[test]
fn the_genesis_block_is_found_near_its_nonce() {
    let genesis = genesis_block(Network::Bitcoin).header;
    let job = MiningJob {
        id: 1,
        lane: 0,
        versions: VersionSpace::new(1, 0).expect("a version space"),
        prev_hash: genesis.prev_blockhash,
        merkle_root: genesis.merkle_root,
        bits: genesis.bits,
        times: TimeRange::new(genesis.time, genesis.time).expect("times"),
        zero_bits: 32,
    };
    let mut space = SearchSpace::new(&job).with_nonces(genesis.nonce - 5_000, 10_000);
    let mut search = HeaderSearch::new(job, Kernel::PORTABLE);
    let mut found = Vec::new();
    while let Some(run) = space.take_run(300) {
        search.search(run, |share| found.push(share));
    }
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].nonce, genesis.nonce);
    assert_eq!(found[0].hash, genesis.block_hash());
    // 000000000019d668...: ten zero digits, then 1.
    assert_eq!(found[0].zero_bits, 43);
}

proptest! {
    #[test]
    fn every_hash_is_the_headers(
        prev in any::<[u8; 32]>(),
        root in any::<[u8; 32]>(),
        bits in any::<u32>(),
        time in any::<u32>(),
        nonce in 0_u32..u32::MAX - 4,
        rolled in any::<u32>(),
    ) {
        let version = 0x2000_0000 | (rolled & 0x1fff_e000).cast_signed();
        let job = MiningJob {
            id: 1,
            lane: 0,
            versions: VersionSpace::new(version, 0).expect("a version space"),
            prev_hash: BlockHash::from_byte_array(prev),
            merkle_root: TxMerkleNode::from_byte_array(root),
            bits: CompactTarget::from_consensus(bits),
            times: TimeRange::new(time, time).expect("times"),
            zero_bits: 0,
        };
        let run = SearchSpace::new(&job).with_nonces(nonce, 4).take_run(4).expect("a run");
        let mut shares = Vec::new();
        HeaderSearch::new(job.clone(), Kernel::PORTABLE).search(run, |share| shares.push(share));
        prop_assert_eq!(shares.len(), 4);
        for (share, expected) in shares.iter().zip(nonce..) {
            prop_assert_eq!(share.nonce, expected);
            let header = header(&job, share.version, share.time, share.nonce);
            prop_assert_eq!(header.block_hash(), share.hash);
        }
    }

    #[test]
    fn the_parts_of_a_slice_are_all_of_it_once(count in 1_u32..100) {
        let job = job(1, 0);
        let mut next = 0_u64;
        for index in 0..count {
            let mut space = SearchSpace::part(&job, index, count);
            let mut left = (1_u64 << 32) * u64::from(index + 1) / u64::from(count) - next;
            while left > 0 {
                let run = space.take_run(u32::MAX).expect("a run");
                prop_assert_eq!(u64::from(run.first_nonce), next);
                next += u64::from(run.count);
                left -= u64::from(run.count);
            }
            // The next row begins where the first one did.
            let row = space.take_run(1).expect("the next version");
            prop_assert_eq!(row.version, 0x2000_2000);
        }
        prop_assert_eq!(next, 1 << 32);
    }

    #[test]
    fn a_space_is_every_version_and_time_once(free in 0_u32..16, seconds in 0_u32..5) {
        // Four scattered rollable bits.
        let mask = [13, 17, 18, 28]
            .iter()
            .enumerate()
            .filter(|(i, _)| free >> i & 1 == 1)
            .fold(0_u32, |mask, (_, bit)| mask | 1 << bit);
        let job = MiningJob {
            versions: VersionSpace::new(0x2000_4000, mask).expect("a version space"),
            times: TimeRange::new(100, 100 + seconds).expect("times"),
            ..job(1, 0)
        };
        let all: Vec<_> = SearchSpace::new(&job).with_nonces(7, 3).collect();
        let distinct: BTreeSet<_> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), distinct.len());
        prop_assert_eq!(all.len() as u32, 3 * (1 << mask.count_ones()) * (seconds + 1));
        for (version, time, nonce) in all {
            prop_assert_eq!(version.cast_unsigned() & !mask, 0x2000_4000);
            prop_assert!((100..=100 + seconds).contains(&time) && (7..10).contains(&nonce));
        }
    }
}

#[test]
fn bits_that_bip320_does_not_free_are_refused() {
    assert_eq!(
        VersionSpace::new(0, 1 << 12),
        Err(SliceError::NotRollable { bits: 1 << 12 })
    );
    assert_eq!(
        VersionSpace::new(1 << 14, 3 << 13),
        Err(SliceError::FixedAndFree { bits: 1 << 14 })
    );
    assert_eq!(
        TimeRange::new(2, 1),
        Err(SliceError::NoTime { first: 2, last: 1 })
    );
}

#[tokio::test]
async fn nothing_is_hashed_before_a_job_and_only_its_shares_come_after() {
    let (mut hasher, mut shares) = start(2, None, 1_000);
    assert_eq!(hasher.hashes(), 0);
    assert!(shares.try_recv().is_err());
    let job = job(5, 10);
    hasher.set_jobs(vec![job.clone()]);
    for _ in 0..50 {
        let share = next(&mut shares).await;
        assert_eq!(share.job_id, 5);
        assert!(share.zero_bits >= 10);
        let header = header(&job, share.version, share.time, share.nonce);
        assert_eq!(header.block_hash(), share.hash);
        let shown = share.hash.to_string();
        assert!(shown.starts_with("00"), "{shown}");
    }
    assert!(hasher.hashes() > 0);
}

#[tokio::test]
async fn no_header_is_hashed_twice_by_two_threads_or_after_a_reissue() {
    let (mut hasher, mut shares) = start(2, None, 100);
    let mut seen = BTreeSet::new();
    // The third job is the same work with another share target, after a stop.
    for (id, zero_bits, stop) in [(1, 8, false), (2, 6, true), (3, 7, false)] {
        if stop {
            hasher.set_jobs(Vec::new());
        }
        hasher.set_jobs(vec![job(id, zero_bits)]);
        let mut of_this_job = 0;
        while of_this_job < 2_000 {
            let share = next(&mut shares).await;
            assert!(
                seen.insert((share.version, share.time, share.nonce)),
                "{share:?} came twice"
            );
            of_this_job += u32::from(share.job_id == id);
        }
    }
    let halves: BTreeSet<_> = seen.iter().map(|(_, _, nonce)| nonce >> 31).collect();
    assert_eq!(halves.len(), 2, "both threads worked");
    // A search that went on is still at the version that was drawn when it began.
    let versions = seen
        .iter()
        .map(|(version, _, nonce)| (nonce >> 31, version));
    let versions: BTreeSet<_> = versions.collect();
    assert_eq!(versions.len(), 2, "a search began anew: {versions:?}");
}

/// Or a restart within a round would only find what is counted already; and so would a job that comes again
/// after another.
#[tokio::test]
async fn the_same_work_taken_up_anew_does_not_begin_where_it_began_before() {
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let (mut hasher, mut shares) = start(1, None, 1);
        for id in [1, 3] {
            hasher.set_jobs(vec![job(id, 0)]);
            let share = loop {
                let share = next(&mut shares).await;
                if share.job_id == id {
                    break share;
                }
            };
            let first = (share.version, share.time, share.nonce);
            assert!(seen.insert(first), "{first:?} came twice");
            let other = MiningJob {
                merkle_root: TxMerkleNode::hash(b"another root"),
                ..job(id + 1, 0)
            };
            hasher.set_jobs(vec![other]);
            while next(&mut shares).await.job_id != id + 1 {}
        }
    }
}

#[tokio::test]
async fn several_slices_are_hashed_in_turn() {
    let (mut hasher, mut shares) = start(2, None, 100);
    let lane = |lane: u16| MiningJob {
        lane,
        merkle_root: TxMerkleNode::hash(&[lane as u8]),
        ..job(9, 8)
    };
    hasher.set_jobs(vec![lane(0), lane(1), lane(2)]);
    let mut of_lane = [0_u32; 3];
    for _ in 0..3_000 {
        let share = next(&mut shares).await;
        let header = header(&lane(share.lane), share.version, share.time, share.nonce);
        assert_eq!(header.block_hash(), share.hash);
        of_lane[usize::from(share.lane)] += 1;
    }
    assert!(
        of_lane.iter().all(|n| (800..1_200).contains(n)),
        "{of_lane:?}"
    );
    // A lane that stays goes on; the others are not touched again.
    hasher.set_jobs(vec![MiningJob { id: 10, ..lane(1) }]);
    loop {
        let share = next(&mut shares).await;
        if share.job_id == 10 {
            assert_eq!(share.lane, 1);
            break;
        }
    }
}

#[test]
fn an_order_becomes_the_versions_of_its_slice() {
    let slice = Slice {
        lane: LaneIndex(3),
        prefix: 0xa000,
        prefix_len: 3,
    };
    let order = Order {
        job: JobId(7),
        height: 1,
        slice,
        version: 0x3fff_ffff,
        previous_block: [1; 32],
        merkle_root: [2; 32],
        bits: 0x207f_ffff,
        time_min: 5,
        time_max: 5,
        z: 9,
    };
    let job = MiningJob::try_from(&order).expect("a job");
    assert_eq!((job.id, job.lane, job.zero_bits), (7, 3, 9));
    let headers: Vec<_> = SearchSpace::new(&job).with_nonces(0, 1).collect();
    assert_eq!(headers.len(), 1 << 13);
    assert!(
        headers
            .iter()
            .all(|(version, time, _)| { slice.contains(*version, order.version) && *time == 5 })
    );
}

#[tokio::test]
async fn a_stopped_hasher_returns_nothing() {
    let (mut hasher, mut shares) = start(2, None, 100_000);
    hasher.set_jobs(vec![job(1, 4)]);
    next(&mut shares).await;
    hasher.set_jobs(Vec::new());
    wait_until_idle(&hasher);
    let hashes = hasher.hashes();
    while shares.try_recv().is_ok() {}

    let other = MiningJob {
        merkle_root: TxMerkleNode::hash(b"another root"),
        ..job(2, 4)
    };
    hasher.set_jobs(vec![other.clone()]);
    let share = next(&mut shares).await;
    assert_eq!(share.job_id, 2);
    assert!(hasher.hashes() >= hashes);
    let header = header(&other, share.version, share.time, share.nonce);
    assert_eq!(header.block_hash(), share.hash);
}

#[tokio::test]
async fn a_limited_hasher_stops_within_its_pause() {
    // One hash a second: the thread is asleep when the job is taken away, and another one, at once
    // hashed, lets it fall asleep anew. Whoever sits out its pauses is not done before the deadline.
    let switches = 2 * DEADLINE.as_secs();
    let (mut hasher, mut shares) = start(1, Some(1), 10);
    let deadline = Instant::now() + DEADLINE;
    for id in 1..=switches {
        hasher.set_jobs(vec![job(id, 0)]);
        while next(&mut shares).await.job_id != id {}
        hasher.set_jobs(Vec::new());
        wait_until_idle(&hasher);
        assert!(
            Instant::now() < deadline,
            "it sat out its pauses: {id} of {switches}"
        );
    }
}

#[test]
fn dropping_ends_the_threads_even_when_nobody_takes_the_shares() {
    let (mut hasher, mut shares) = start(3, None, 1);
    hasher.set_jobs(vec![job(1, 0)]);
    shares.blocking_recv().expect("a share");
    drop(hasher);
    while shares.blocking_recv().is_some() {}
}

#[test]
fn closing_the_share_channel_ends_the_search() {
    let (mut hasher, shares) = start(2, None, 1);
    hasher.set_jobs(vec![job(1, 0)]);
    drop(shares);
    let deadline = Instant::now() + DEADLINE;
    while hasher.hashes() == 0 {
        assert!(Instant::now() < deadline, "the threads did not begin");
        std::thread::yield_now();
    }
    wait_until_idle(&hasher);
}

#[test]
fn every_switch_is_timed_until_the_last_thread_has_begun() {
    let (mut hasher, _shares) = start(3, None, 1_000);
    assert_eq!(
        hasher.last_switch(),
        Some(Duration::ZERO),
        "nothing to begin"
    );
    // Hashing, without a job, and waiting for its rate or for the clock, a thread notices.
    let jobs = [vec![job(1, 60)], vec![], vec![job(2, 60), job(3, 60)]];
    for jobs in jobs {
        let sent = Instant::now();
        hasher.set_jobs(jobs);
        let took = loop {
            if let Some(took) = hasher.last_switch() {
                break took;
            }
            assert!(sent.elapsed() < DEADLINE, "not all threads began");
            std::thread::yield_now();
        };
        assert!(took <= sent.elapsed());
    }
}
