//! The full check of a window's shares, as a participant makes it that follows them.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result};
use tutti_proto::follower::Follower;
use tutti_proto::segment::{Segment, WindowPart};
use tutti_proto::window::Ledger;
use tutti_tests::sim::Archive;

use crate::median;

/// How many it has.
pub fn shares(segment: &Segment) -> usize {
    segment.parts.iter().map(|part| part.shares.len()).sum()
}

/// Time to check the shares of the last window that has so many.
pub fn follow(archive: &Archive, count: usize) -> Result<Duration> {
    let full = archive.segments.iter().rposition(|s| shares(s) >= count);
    let full = full.context("no window is full")?;
    let start = || {
        let mut follower = Follower::new(archive.params.name(), Ledger::default());
        for segment in &archive.segments[..full] {
            // A light past: its shares are not what is measured.
            for part in &segment.parts {
                follower.part(part).expect("an honest window");
            }
            follower.end(&segment.end).expect("an honest window");
        }
        let told = WindowPart {
            shares: Vec::new(),
            ..archive.segments[full].parts[0].clone()
        };
        follower.part(&told).expect("honest terms");
        follower
    };
    let stream: Vec<WindowPart> = archive.segments[full]
        .parts
        .iter()
        .map(|part| WindowPart {
            terms: Vec::new(),
            outputs: Vec::new(),
            ..part.clone()
        })
        .collect();
    Ok(median(start, |mut follower| {
        for part in &stream {
            follower.part(part).expect("honest shares");
        }
        black_box(follower.checked());
    }))
}
