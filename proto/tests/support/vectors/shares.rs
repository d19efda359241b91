//! shares.json: headers of lanes, their hashes, the ledger's leaves and roots, slices and targets.

use serde::{Deserialize, Serialize};
use tutti_proto::header::{HeaderFields, coinbase_path, merkle_root};
use tutti_proto::id::{LaneIndex, RoundId};
use tutti_proto::lane::Slice;
use tutti_proto::params::PoolParams;
use tutti_proto::share::{ShareRecord, ShareTree};
use tutti_proto::work::{Work, header_hash, leading_zero_bits, meets_target};

use super::super::pool::Pool;
use super::Vector;
use super::types::{bytes, identity};

#[derive(Serialize, Deserialize)]
pub struct File {
    merkle_paths: Vec<MerklePath>,
    shares: Vec<ShareCase>,
    /// Root of the first n shares, for n from 0.
    roots: Vec<String>,
    slices: Vec<SliceCase>,
    targets: Vec<TargetCase>,
    depths: Vec<DepthCase>,
}

#[derive(Serialize, Deserialize)]
struct MerklePath {
    coinbase_txid: String,
    other_txids: Vec<String>,
    path: Vec<String>,
    root: String,
}

#[derive(Serialize, Deserialize)]
struct ShareCase {
    identity: String,
    round: String,
    lane: u16,
    z: u8,
    version: i32,
    previous_block: String,
    merkle_root: String,
    time: u32,
    bits: u32,
    nonce: u32,
    header: String,
    hash: String,
    leading_zero_bits: u8,
    meets_target: bool,
    leaf: String,
}

#[derive(Serialize, Deserialize)]
struct SliceCase {
    prefix: u16,
    prefix_len: u8,
    base_version: i32,
    first_version: i32,
    free_mask: u32,
    contained: Vec<i32>,
    not_contained: Vec<i32>,
}

#[derive(Serialize, Deserialize)]
struct TargetCase {
    bits: u32,
    work: String,
}

/// How much work PPLNS covers.
#[derive(Serialize, Deserialize)]
struct DepthCase {
    bits: u32,
    block_zero_bits: Option<u8>,
    pplns_depth: u32,
    block_work: String,
    depth: String,
}

impl DepthCase {
    fn new(bits: u32, block_zero_bits: Option<u8>, pplns_depth: u32) -> Self {
        let mut case = Self {
            bits,
            block_zero_bits,
            pplns_depth,
            block_work: String::new(),
            depth: String::new(),
        };
        (case.block_work, case.depth) = case.compute();
        case
    }

    fn compute(&self) -> (String, String) {
        let params = PoolParams {
            block_zero_bits: self.block_zero_bits,
            pplns_depth: self.pplns_depth,
            ..Pool::new("tutti vectors: depths", 0).params
        };
        let (work, depth) = (
            params.block_work(self.bits),
            params.scoring_depth(self.bits),
        );
        (work.to_string(), depth.to_string())
    }
}

/// The whole of a target, and what is cut off or beyond: the mantissa's sign, and work of 2^128 and more.
const TARGETS: [u32; 21] = [
    0x207f_ffff,
    0x1d00_ffff,
    0x1b04_04cb,
    0x1702_5819,
    0x0300_0001,
    0x0100_0000,
    // A mantissa above 0x7fffff: 0.
    0x1d80_0000,
    0x20ff_ffff,
    0x0380_0001,
    // 2, 3 and 256: work is cut to 2^128 - 1.
    0x0102_0000,
    0x0300_0003,
    0x0201_0000,
    // 2^128 - 2^112, 2^128, 2^129: about the work that needs no cut any more.
    0x1100_ffff,
    0x1101_0000,
    0x1102_0000,
    // The same target in two ways.
    0x1d00_7fff,
    0x1c7f_ff00,
    // Of 256 bits some are left, and none.
    0x2200_ffff,
    0x2300_ffff,
    0x4100_ffff,
    0xff7f_ffff,
];

impl ShareCase {
    fn header(&self) -> [u8; 80] {
        HeaderFields {
            version: self.version,
            previous_block: bytes(&self.previous_block),
            merkle_root: bytes(&self.merkle_root),
            time: self.time,
            bits: self.bits,
            nonce: self.nonce,
        }
        .serialize()
    }

    fn record(&self) -> ShareRecord {
        ShareRecord {
            identity: identity(&self.identity),
            round: RoundId(bytes(&self.round)),
            lane: LaneIndex(self.lane),
            z: self.z,
            header: self.header(),
        }
    }
}

/// Rolls the nonce until the header has z leading zero bits, as a miner does.
fn mine(pool: &mut Pool, n: usize, z: u8, bits: u32) -> ShareCase {
    let mut case = ShareCase {
        identity: hex::encode(pool.identity(1 + n % 3).as_bytes()),
        round: hex::encode(pool.rng.bytes32()),
        lane: n as u16,
        z,
        version: 0x2000_0000 | (n as i32) << 13,
        previous_block: hex::encode(pool.rng.bytes32()),
        merkle_root: hex::encode(pool.rng.bytes32()),
        time: 1_700_000_000 + n as u32,
        bits,
        nonce: 0,
        header: String::new(),
        hash: String::new(),
        leading_zero_bits: 0,
        meets_target: false,
        leaf: String::new(),
    };
    while leading_zero_bits(&header_hash(&case.header())) < z {
        case.nonce += 1;
    }
    let hash = header_hash(&case.header());
    case.header = hex::encode(case.header());
    case.hash = hex::encode(hash);
    case.leading_zero_bits = leading_zero_bits(&hash);
    case.meets_target = meets_target(&hash, bits);
    case.leaf = hex::encode(case.record().leaf());
    case
}

fn slice_case(prefix: u16, prefix_len: u8) -> SliceCase {
    let slice = Slice {
        lane: LaneIndex(0),
        prefix,
        prefix_len,
    };
    let base = 0x2000_0000;
    let tried = [
        0u32,
        0x2000,
        0x1000_0000,
        0x1800_0000,
        0x0abc_e000,
        0x1fff_e000,
        1,
        0x4000_0000,
    ];
    let tried = tried.map(|bits| base ^ bits as i32);
    let (contained, not_contained) = tried.iter().partition(|v| slice.contains(**v, base));
    SliceCase {
        prefix,
        prefix_len,
        base_version: base,
        first_version: slice.first_version(base),
        free_mask: slice.free_mask(),
        contained,
        not_contained,
    }
}

fn roots(shares: &[ShareCase]) -> Vec<String> {
    let records: Vec<ShareRecord> = shares.iter().map(ShareCase::record).collect();
    let root = |n| hex::encode(ShareTree::of(&records[..n]).unwrap().root());
    (0..=records.len()).map(root).collect()
}

impl Vector for File {
    fn generate() -> Self {
        let mut pool = Pool::new("tutti vectors: shares", 3);
        let merkle_paths = [0, 1, 2, 3, 6].map(|others| {
            let others: Vec<[u8; 32]> = (0..others).map(|_| pool.rng.bytes32()).collect();
            let coinbase = pool.rng.bytes32();
            let path = coinbase_path(&others);
            MerklePath {
                coinbase_txid: hex::encode(coinbase),
                other_txids: others.iter().map(hex::encode).collect(),
                path: path.iter().map(hex::encode).collect(),
                root: hex::encode(merkle_root(coinbase, &path)),
            }
        });
        let rows = [
            (0, 0x207f_ffff),
            (4, 0x207f_ffff),
            (8, 0x1f00_ffff),
            (12, 0x1d00_ffff),
            (16, 0x1f00_ffff),
        ];
        let rows = rows.into_iter().enumerate();
        let shares: Vec<_> = rows
            .map(|(n, (z, bits))| mine(&mut pool, n, z, bits))
            .collect();
        let slices = [
            (0, 0),
            (0x8000, 1),
            (0x4000, 2),
            (0x55e0, 11),
            (0x55e7, 16),
            (0xffff, 16),
        ];
        Self {
            merkle_paths: merkle_paths.into(),
            roots: roots(&shares),
            shares,
            slices: slices.map(|(prefix, len)| slice_case(prefix, len)).into(),
            targets: TARGETS
                .map(|bits| TargetCase {
                    bits,
                    work: Work::of_target(bits).to_string(),
                })
                .into(),
            depths: vec![
                DepthCase::new(0x1702_5819, None, 8),
                DepthCase::new(0x207f_ffff, None, 1_000),
                // The zero bits ask for more than the target, and for less.
                DepthCase::new(0x207f_ffff, Some(12), 8),
                DepthCase::new(0x1d00_ffff, Some(12), 8),
                // 2^128 - 1 at most.
                DepthCase::new(0x1101_0000, None, 2),
                DepthCase::new(0x1d80_0000, None, 1),
            ],
        }
    }

    fn check(&self) {
        for case in &self.merkle_paths {
            let others: Vec<[u8; 32]> = case.other_txids.iter().map(|txid| bytes(txid)).collect();
            let path = coinbase_path(&others);
            assert_eq!(path.iter().map(hex::encode).collect::<Vec<_>>(), case.path);
            let root = merkle_root(bytes(&case.coinbase_txid), &path);
            assert_eq!(hex::encode(root), case.root);
        }
        for case in &self.shares {
            assert_eq!(hex::encode(case.header()), case.header);
            let hash = header_hash(&bytes(&case.header));
            assert_eq!(hex::encode(hash), case.hash);
            assert_eq!(leading_zero_bits(&hash), case.leading_zero_bits);
            assert!(case.leading_zero_bits >= case.z);
            assert_eq!(meets_target(&hash, case.bits), case.meets_target);
            assert_eq!(hex::encode(case.record().leaf()), case.leaf);
        }
        assert_eq!(roots(&self.shares), self.roots);
        for case in &self.slices {
            let slice = Slice {
                lane: LaneIndex(0),
                prefix: case.prefix,
                prefix_len: case.prefix_len,
            };
            let base = case.base_version;
            assert_eq!(slice.first_version(base), case.first_version);
            assert_eq!(slice.free_mask(), case.free_mask);
            assert!(case.contained.iter().all(|v| slice.contains(*v, base)));
            assert!(!case.not_contained.iter().any(|v| slice.contains(*v, base)));
        }
        for case in &self.targets {
            assert_eq!(Work::of_target(case.bits).to_string(), case.work);
        }
        for case in &self.depths {
            let expected = (case.block_work.clone(), case.depth.clone());
            assert_eq!(case.compute(), expected, "{:#x}", case.bits);
        }
    }
}
