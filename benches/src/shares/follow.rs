//! The full check of a window's shares, as a participant makes it that follows them.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result};
use tutti_proto::follower::{FollowError, Follower};
use tutti_proto::segment::{Segment, WindowPart};
use tutti_proto::window::Ledger;
use tutti_tests::sim::Archive;

use crate::median;

/// How many it has.
pub fn shares(segment: &Segment) -> usize {
    segment.parts.iter().map(|part| part.shares.len()).sum()
}

/// A window's shares on their way to one who knows all before them.
pub struct Stream {
    follower: Follower,
    parts: Vec<WindowPart>,
}

impl Stream {
    /// Of the last window that has so many.
    pub fn of(archive: &Archive, count: usize) -> Result<Self> {
        let full = archive.segments.iter().rposition(|s| shares(s) >= count);
        let full = full.context("no window is full")?;
        let mut follower = Follower::new(archive.params.name(), Ledger::default());
        for segment in &archive.segments[..full] {
            for part in &segment.parts {
                follower.part(part)?;
            }
            follower.end(&segment.end)?;
        }
        let told = WindowPart {
            shares: Vec::new(),
            ..archive.segments[full].parts[0].clone()
        };
        follower.part(&told)?;
        let stream = archive.segments[full].parts.iter();
        let stream = stream.map(|part| WindowPart {
            terms: Vec::new(),
            outputs: Vec::new(),
            ..part.clone()
        });
        Ok(Self {
            follower,
            parts: stream.collect(),
        })
    }

    /// Checks all of them.
    pub fn check(&mut self) -> Result<(), FollowError> {
        for part in &self.parts {
            self.follower.part(part)?;
        }
        black_box(self.follower.checked());
        Ok(())
    }
}

/// Time to check the shares of the last window that has so many.
pub fn follow(archive: &Archive, count: usize) -> Result<Duration> {
    Stream::of(archive, count)?;
    let start = || Stream::of(archive, count).expect("an honest past");
    Ok(median(start, |mut stream| {
        stream.check().expect("honest shares");
    }))
}
