//! Shares of the first window, each unlike the others.

use tutti_proto::coordinator::Record;
use tutti_proto::id::{LaneIndex, RoundId, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::share::ShareRecord;

pub fn share(index: u64) -> Record {
    let mut header = [0; 80];
    header[..8].copy_from_slice(&index.to_be_bytes());
    // Not to be compressed, and not to be found twice.
    header[8..16].copy_from_slice(&index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Record::Share {
        window: WindowSeq(1),
        index,
        share: ShareRecord {
            identity: IdentityKey::from_bytes(&mut [2; 32]).unwrap().identity(),
            round: RoundId([8; 32]),
            lane: LaneIndex(0),
            z: 10,
            header,
        },
    }
}
