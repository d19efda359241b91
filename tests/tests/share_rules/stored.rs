//! What is left of an accepted share.

use bitcoin::hashes::Hash;
use tutti_proto::coordinator::Record;
use tutti_proto::work::{header_hash, leading_zero_bits};

use crate::pool::{pool, refresh, shares};

/// Invariant 6: an accepted share can be checked by anyone, from what is stored.
#[test]
fn every_stored_share_hashes_to_its_zero_bits_on_a_committed_coinbase() {
    let mut world = pool();
    for turn in 0..12 {
        world.share(turn % 3);
        world.settle();
        if turn == 5 {
            refresh(&mut world);
        }
    }
    let stored = shares(&world);
    assert_eq!(stored.len(), 12);
    for share in stored {
        let header = share.header;
        assert!(leading_zero_bits(&header_hash(&header)) >= share.z);
        let round = world.records.iter().find_map(|record| match record {
            Record::Committed(round) if round.round == share.round => Some(round),
            _ => None,
        });
        let (coinbase, payouts) = round.unwrap().lane(share.lane).unwrap();
        // Simulated templates hold no transactions but the coinbase: its txid is the root.
        assert_eq!(header[36..68], coinbase.compute_txid().to_byte_array());
        assert!(!payouts.is_empty());
    }
}
