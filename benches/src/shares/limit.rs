//! What no share intake can do without: the hash of each header, and its bytes on the disk.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tutti_proto::share::SHARE_RECORD_SIZE;
use tutti_proto::work::header_hash;

/// Time to hash the headers of so many shares, and to append as many bytes as the ledger keeps of
/// them to a file of this directory with so many flushes.
pub fn hash_and_append(directory: &Path, shares: u64, flushes: u64) -> Result<Duration> {
    let path = directory.join("limit");
    let mut file = File::create(&path)?;
    let mut header = [7u8; 80];
    let mut batch = Vec::new();
    let began = Instant::now();
    for flush in 0..flushes {
        let (from, to) = (shares * flush / flushes, shares * (flush + 1) / flushes);
        batch.clear();
        for share in from..to {
            header[72..].copy_from_slice(&share.to_le_bytes());
            black_box(header_hash(black_box(&header)));
            batch.extend_from_slice(&header);
            batch.extend_from_slice(&[0; SHARE_RECORD_SIZE - 80]);
        }
        file.write_all(&batch)?;
        file.sync_data()?;
    }
    let took = began.elapsed();
    std::fs::remove_file(path)?;
    Ok(took)
}
