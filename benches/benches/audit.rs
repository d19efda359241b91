//! The check of shares by whoever follows them, and of closed windows by strangers.
//!
//! - `follow`: one share of the stream: proof of work, lane, slice, owner, duplicate, leaf, tally.
//! - `audit`: segments from the empty ledger on: shares, records, heads, amounts, canonical form.
//! - `decode and audit`: the same from the files' bytes.
//!
//! The limit is the hashing alone: the header's, the leaf's and one node's for each share.

use std::hint::black_box;

use anyhow::{Result, ensure};
use tutti_benches::past::{PastOptions, archive, hashing, past};
use tutti_benches::shares::follow::{follow, shares};
use tutti_benches::{Measure, Printer, median};
use tutti_proto::audit::Auditor;
use tutti_proto::segment::Segment;
use tutti_proto::wire::{FromWire, ToWire};
use tutti_tests::sim::Archive;

const SHARES: usize = 30_000;

fn main() -> Result<()> {
    let mut printer = Printer::new("audit");
    for (miners, lanes) in [(4, 1), (100, 4)] {
        let world = past(PastOptions {
            miners,
            lanes,
            closed: 2,
            shares: SHARES,
        })?;
        let archive = archive(&world)?;
        let parameters = [
            ("miners", u64::from(miners)),
            ("lanes", u64::from(lanes)),
            ("shares", SHARES as u64),
        ];
        let mut row = |figure: &str, value: f64, limit: f64, unit| {
            printer.measure(&Measure {
                parameters: &parameters,
                figure,
                value,
                unit,
                limit: Some(limit),
            });
        };
        let each = |time: std::time::Duration, shares: usize| time.as_secs_f64() / shares as f64;
        let hashing = each(hashing(SHARES), SHARES);
        let follow = each(follow(&archive, SHARES)?, SHARES);
        row("follow: a share", follow * 1e6, hashing * 1e6, "us");

        let all: usize = archive.segments.iter().map(shares).sum();
        ensure!(all >= 2 * SHARES, "{all} shares in segments");
        let audited = each(audit(&archive), all);
        row("audit: shares/s", 1.0 / audited, 1.0 / hashing, "1/s");
        let decoded = each(decode_and_audit(&archive), all);
        row(
            "decode and audit: shares/s",
            1.0 / decoded,
            1.0 / hashing,
            "1/s",
        );
    }
    Ok(())
}

fn audit(archive: &Archive) -> std::time::Duration {
    median(
        || Auditor::new(archive.params.name()),
        |mut auditor| {
            for segment in &archive.segments {
                auditor.segment(segment).expect("an honest window");
            }
            black_box(auditor.totals());
        },
    )
}

fn decode_and_audit(archive: &Archive) -> std::time::Duration {
    let files: Vec<Vec<u8>> = archive.segments.iter().map(ToWire::encode).collect();
    median(
        || Auditor::new(archive.params.name()),
        |mut auditor| {
            for file in &files {
                let segment = Segment::decode(file).expect("an honest file");
                auditor.segment(&segment).expect("an honest window");
            }
            black_box(auditor.totals());
        },
    )
}
