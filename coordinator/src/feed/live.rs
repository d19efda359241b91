//! What was published and is still at hand: the open window, and those before it until their segments
//! are written.

use std::collections::VecDeque;

use prost::bytes::Bytes;
use tutti_proto::id::WindowSeq;

use crate::segments::trimmed;

/// Closed windows at hand, if their segments are not written: followers of older ones wait.
const CLOSED_LIMIT: usize = 16;
/// Frames that a follower takes at once.
const TAKEN: usize = 16;

/// A part or an end, as every follower is sent it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// `tutti.v1.Followed`.
    pub bytes: Bytes,
    /// Place of its first share.
    pub first: u64,
    /// Place after its last share.
    pub end: u64,
    /// Whether there is more in it than shares.
    pub more: bool,
}

impl Frame {
    /// What of it is news to somebody who knows so many shares of the window.
    pub fn news(self, known: u64) -> Option<Bytes> {
        let whole = self.first >= known || self.first == self.end;
        let some = self.end > known || self.more;
        match (whole, some) {
            (true, _) => Some(self.bytes),
            (false, true) => Some(trimmed(&self.bytes, known)),
            (false, false) => None,
        }
    }
}

/// A window's frames so far.
#[derive(Clone, Debug, Default)]
pub struct LiveWindow {
    /// Its number.
    pub seq: WindowSeq,
    /// In order.
    pub frames: Vec<Frame>,
    /// The last frame is its end.
    pub closed: bool,
    /// Something cannot be told: it is to be had from its segment, if at all.
    pub broken: bool,
}

/// Windows in order; the last is open.
#[derive(Clone, Debug, Default)]
pub struct Live(VecDeque<LiveWindow>);

/// What a follower finds.
#[derive(Clone, Debug)]
pub enum Reading {
    /// The next frames, as many as there are; and whether the window's end is among them.
    Frames(Vec<Frame>, bool),
    /// It closed before.
    Older,
    /// It is not open yet.
    Beyond,
}

impl Live {
    /// The open window alone.
    pub fn new(open: WindowSeq) -> Self {
        let seq = open;
        Self(VecDeque::from([LiveWindow {
            seq,
            ..LiveWindow::default()
        }]))
    }

    /// The open window.
    pub fn open(&self) -> WindowSeq {
        self.0.back().map_or(WindowSeq(0), |window| window.seq)
    }

    /// Frames of a window from a place on.
    pub fn read(&self, window: WindowSeq, from: usize) -> Reading {
        if window > self.open() {
            return Reading::Beyond;
        }
        let Some(found) = self.0.iter().find(|live| live.seq == window) else {
            return Reading::Older;
        };
        if found.broken {
            return match found.closed {
                true => Reading::Older,
                false => Reading::Frames(Vec::new(), false),
            };
        }
        let frames = found.frames.iter().skip(from).take(TAKEN);
        let frames: Vec<Frame> = frames.cloned().collect();
        let read = from.saturating_add(frames.len());
        Reading::Frames(frames, found.closed && read >= found.frames.len())
    }

    /// Appends to the open window.
    pub(super) fn push(&mut self, frame: Frame) {
        if let Some(open) = self.0.back_mut() {
            open.frames.push(frame);
        }
    }

    /// The open window cannot be told any more.
    pub(super) fn break_off(&mut self) {
        if let Some(open) = self.0.back_mut() {
            open.broken = true;
            open.frames.clear();
        }
    }

    /// The open window ends with this; the next one is open. Those whose segments are written go.
    pub(super) fn close(&mut self, end: Frame, written: WindowSeq) {
        let next = self.open().next();
        if let Some(open) = self.0.back_mut() {
            open.closed = true;
            if !open.broken {
                open.frames.push(end);
            }
        }
        self.0.push_back(LiveWindow {
            seq: next,
            ..LiveWindow::default()
        });
        // The one that has just closed stays for those who are in it.
        while self.0.len() > 2
            && self
                .0
                .front()
                .is_some_and(|window| window.seq <= written || self.0.len() > CLOSED_LIMIT)
        {
            self.0.pop_front();
        }
    }

    /// Frames of the open window.
    pub(super) fn frames(&self) -> usize {
        self.0.back().map_or(0, |open| open.frames.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u64, end: u64) -> Frame {
        Frame {
            bytes: Bytes::from(vec![u8::try_from(end).unwrap()]),
            first,
            end,
            more: false,
        }
    }

    fn read(live: &Live, window: u64, from: usize) -> Option<(usize, bool)> {
        match live.read(WindowSeq(window), from) {
            Reading::Frames(frames, ended) => Some((frames.len(), ended)),
            _ => None,
        }
    }

    #[test]
    fn a_closed_window_stays_until_it_is_read_elsewhere() {
        let mut live = Live::new(WindowSeq(5));
        live.push(frame(0, 3));
        assert_eq!(read(&live, 5, 0), Some((1, false)));
        assert_eq!(read(&live, 5, 1), Some((0, false)));
        assert!(matches!(live.read(WindowSeq(6), 0), Reading::Beyond));
        live.close(frame(3, 3), WindowSeq(4));
        assert_eq!(read(&live, 5, 1), Some((1, true)));
        live.close(frame(0, 0), WindowSeq(4));
        assert_eq!(read(&live, 5, 0), Some((2, true)), "it is not written");
        live.close(frame(0, 0), WindowSeq(6));
        assert!(matches!(live.read(WindowSeq(5), 0), Reading::Older));
        assert!(matches!(live.read(WindowSeq(6), 0), Reading::Older));
        assert_eq!(read(&live, 7, 0), Some((1, true)), "it has just closed");
        for _ in 0..100 {
            live.close(frame(0, 0), WindowSeq(0));
        }
        assert_eq!(live.0.len(), CLOSED_LIMIT, "however slow the disk is");
    }

    #[test]
    fn what_is_known_is_not_news() {
        assert!(frame(0, 3).news(3).is_none());
        assert!(frame(3, 5).news(3).is_some());
        assert!(frame(3, 3).news(9).is_some(), "an end");
        let terms = Frame {
            more: true,
            ..frame(0, 3)
        };
        assert!(terms.news(3).is_some());
    }
}
