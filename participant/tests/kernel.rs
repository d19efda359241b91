//! Every kernel that this CPU has finds exactly the nonces that it should.

use bitcoin::Network;
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use proptest::prelude::*;
use tutti_participant::miner::kernel::{Kernel, KernelChoice, KernelError, Nonces, Steps, Work};
use tutti_participant::miner::{
    FoundShare, HeaderSearch, MiningJob, SearchSpace, TimeRange, VersionSpace,
};

const NAMES: [&str; 4] = ["portable", "sha-ni", "avx2", "avx512"];

/// What a kernel is given, by code that has nothing to do with it.
fn work(header: &[u8; 80]) -> Work {
    let mut engine = sha256::HashEngine::default();
    engine.input(&header[..64]);
    let midstate = engine.midstate().to_byte_array();
    let word = |bytes: &[u8], at: usize| {
        u32::from_be_bytes(bytes[4 * at..4 * at + 4].try_into().expect("4 bytes"))
    };
    Work::new(
        [0, 1, 2, 3, 4, 5, 6, 7].map(|at| word(&midstate, at)),
        [16, 17, 18].map(|at| word(header, at)),
    )
}

fn found(kernel: Kernel, header: &[u8; 80], nonces: Nonces, mask: u32) -> Vec<u32> {
    let mut found = Vec::new();
    kernel.search(&work(header), nonces, mask, &mut |nonce| found.push(nonce));
    found
}

/// The same by hashing each header in whole.
fn expected(header: &[u8; 80], nonces: Nonces, mask: u32) -> Vec<u32> {
    let mut header = *header;
    let hit = |nonce: &u32| {
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        let hash = sha256d::Hash::hash(&header).to_byte_array();
        u32::from_be_bytes(hash[28..].try_into().expect("4 bytes")) & mask == 0
    };
    (0..nonces.count)
        .map(|place| nonces.first.wrapping_add(place))
        .filter(hit)
        .collect()
}

fn any_header() -> impl Strategy<Value = [u8; 80]> {
    prop_oneof![
        4 => proptest::array::uniform32(any::<u8>())
            .prop_flat_map(|a| (Just(a), proptest::array::uniform32(any::<u8>()), any::<u128>()))
            .prop_map(|(a, b, c)| {
                let bytes = [&a[..], &b, &c.to_le_bytes()].concat();
                bytes.try_into().expect("80 bytes")
            }),
        1 => prop_oneof![Just([0; 80]), Just([0xff; 80]), Just([0x80; 80])],
    ]
}

/// Anywhere, and where the nonces end and begin again.
fn any_nonces() -> impl Strategy<Value = Nonces> {
    let first = prop_oneof![
        any::<u32>(),
        (0_u32..70).prop_map(|before| u32::MAX - before),
        0_u32..3,
    ];
    (first, 0_u32..150).prop_map(|(first, count)| Nonces { first, count })
}

/// Masks that a few of the nonces pass, and those that all and none do.
fn any_mask() -> impl Strategy<Value = u32> {
    let few = proptest::collection::vec(0_u32..32, 1..6)
        .prop_map(|bits| bits.into_iter().fold(0, |mask, bit| mask | 1 << bit));
    prop_oneof![8 => few, 1 => Just(0), 1 => Just(u32::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn all_kernels_find_what_hashing_in_whole_does(
        header in any_header(),
        nonces in any_nonces(),
        mask in any_mask(),
    ) {
        let expected = expected(&header, nonces, mask);
        for kernel in Kernel::available() {
            prop_assert_eq!(&found(kernel, &header, nonces, mask), &expected, "{}", kernel);
        }
    }

    /// More nonces than any vector has lanes, so that every lane takes part with every bit.
    #[test]
    fn each_bit_of_each_lane_counts(header in any_header(), first in any::<u32>(), bit in 0_u32..32) {
        let nonces = Nonces { first, count: 64 };
        let expected = expected(&header, nonces, 1 << bit);
        for kernel in Kernel::available() {
            prop_assert_eq!(&found(kernel, &header, nonces, 1 << bit), &expected, "{}", kernel);
        }
    }
}

fn genesis() -> [u8; 80] {
    let bytes = serialize(&genesis_block(Network::Bitcoin).header);
    bytes.try_into().expect("80 bytes")
}

#[test]
fn the_genesis_block_is_found_in_every_lane_and_at_every_edge() {
    let header = genesis();
    let nonce = genesis_block(Network::Bitcoin).header.nonce;
    for kernel in Kernel::available() {
        for before in 0..40 {
            let first = nonce - before;
            let run = |count| found(kernel, &header, Nonces { first, count }, u32::MAX);
            assert!(run(before).is_empty(), "{kernel}: not asked for");
            assert_eq!(run(before + 1), [nonce], "{kernel}: the last one");
            assert_eq!(run(before + 20), [nonce], "{kernel}: not the last one");
        }
    }
}

/// The job of one header, at its time and version.
fn job(header: &Header, zero_bits: u8) -> MiningJob {
    MiningJob {
        id: 1,
        lane: 0,
        versions: VersionSpace::new(header.version.to_consensus(), 0).expect("a version space"),
        prev_hash: header.prev_blockhash,
        merkle_root: header.merkle_root,
        bits: header.bits,
        times: TimeRange::new(header.time, header.time).expect("times"),
        zero_bits,
    }
}

fn shares(kernel: Kernel, job: MiningJob, first: u32, count: u32) -> Vec<FoundShare> {
    let mut space = SearchSpace::new(&job).with_nonces(first, count);
    let mut search = HeaderSearch::new(job, kernel);
    let mut shares = Vec::new();
    while let Some(run) = space.take_run(1_000) {
        search.search(run, |share| shares.push(share));
    }
    shares
}

#[test]
fn a_share_target_is_met_exactly_or_not_at_all() {
    let genesis: Header = deserialize(&genesis()).expect("a header");
    for kernel in Kernel::available() {
        // 43 zero bits: eleven more than a kernel looks at.
        for (zero_bits, expected) in [
            (0, 3),
            (31, 1),
            (32, 1),
            (33, 1),
            (43, 1),
            (44, 0),
            (255, 0),
        ] {
            let shares = shares(kernel, job(&genesis, zero_bits), genesis.nonce - 1, 3);
            assert_eq!(shares.len(), expected, "{kernel}, {zero_bits} bits");
        }
        // Whatever has more than enough bits is a share too, with its own number of them.
        let all = shares(kernel, job(&genesis, 0), 0, 20_000);
        assert_eq!(all.len(), 20_000);
        for zero_bits in 1..=16 {
            let found = shares(kernel, job(&genesis, zero_bits), 0, 20_000);
            let expected = all
                .iter()
                .filter(|share| share.zero_bits >= zero_bits.into());
            assert!(found.iter().eq(expected), "{kernel}, {zero_bits} bits");
        }
    }
}

#[test]
fn a_kernel_is_taken_by_its_name_or_refused_by_it() {
    for name in NAMES {
        let choice: KernelChoice = name.parse().expect("a known name");
        let available = Kernel::available().into_iter().find(|k| k.name() == name);
        match (available, choice.kernel()) {
            (Some(kernel), chosen) => assert_eq!(chosen, Ok(kernel)),
            (None, Err(error @ KernelError::Lacking { .. })) => {
                let text = error.to_string();
                assert!(text.contains(name) && text.contains("portable"), "{text}");
            }
            (None, other) => panic!("{name} is not there, but {other:?}"),
        }
    }
    let error = "sse9".parse::<KernelChoice>().expect_err("no such kernel");
    let text = "there is no kernel \"sse9\": auto, portable, sha-ni, avx2, avx512 are allowed";
    assert_eq!(error.to_string(), text);
}

#[test]
fn left_to_itself_it_takes_a_kernel_that_there_is() {
    let kernel = KernelChoice::Auto.kernel().expect("a kernel");
    assert!(Kernel::available().contains(&kernel));
}

/// The arithmetic of the bench's limit.
#[test]
fn a_hash_has_as_many_steps_as_its_rounds() {
    let steps = Steps::of_a_hash();
    // Rounds 4 to 63, and 1 to 60; the last four without `a`.
    assert_eq!(
        (steps.ch, steps.maj, steps.big),
        (60 + 60, 60 + 56, 4 * 60 - 4)
    );
}
