//! One follower: a task that hands it frame after frame, as fast as it reads.

use std::fs::File;
use std::io;
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tonic::Status;
use tutti_proto::id::WindowSeq;
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::wire::status;

use super::places::Place;
use crate::feed::{Reading, Watched};
use crate::segments::{Index, Library, Name, SegmentFrames, Unserved};

/// A follower that takes no frame for so long gives its place to others; it may come back and go on.
const READ_WITHIN: Duration = Duration::from_secs(120);

/// For the last word.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Follow {
    pub(super) watched: Watched,
    pub(super) index: watch::Receiver<Index>,
    pub(super) library: Library,
    pub(super) out: mpsc::Sender<Result<Bytes, Status>>,
    /// Changes when the daemon stops.
    pub(super) stop: watch::Receiver<bool>,
    pub(super) _place: Place,
}

/// How a stream ends.
enum End {
    /// The follower is gone.
    Gone,
    /// With a last word.
    Status(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        End::Status(status)
    }
}

fn stopping() -> End {
    End::Status(Status::unavailable("the coordinator is stopping"))
}

impl Follow {
    pub(super) async fn run(mut self, window: WindowSeq, known: u64) {
        if let Err(End::Status(status)) = self.follow(window, known).await {
            // Behind the last frame; whoever does not read it does not miss it.
            let _ = tokio::time::timeout(LAST_WORD_WITHIN, self.out.send(Err(status))).await;
        }
    }

    async fn follow(&mut self, window: WindowSeq, mut known: u64) -> Result<(), End> {
        let mut window = match window {
            WindowSeq(0) => {
                known = 0;
                self.checkpoint().await?
            }
            window => window,
        };
        loop {
            self.window(window, known).await?;
            (window, known) = (window.next(), 0);
        }
    }

    /// Sends what the last signed round was computed from; says the window after it.
    async fn checkpoint(&mut self) -> Result<WindowSeq, End> {
        let slots = &mut self.watched.checkpoint;
        let slot = tokio::select! {
            slot = slots.wait_for(Option::is_some) => slot,
            () = self.out.closed() => return Err(End::Gone),
            _ = self.stop.changed() => return Err(stopping()),
        };
        let slot = slot.map_err(|_| stopping())?.clone().flatten();
        let Some(source) = slot else {
            return Ok(WindowSeq(1));
        };
        let window = source.window().next();
        let frame = spawn_blocking(move || source.frame()).await;
        let frame = frame.ok().flatten();
        let frame = frame.ok_or_else(|| Status::internal("the checkpoint cannot be made"))?;
        self.send(frame).await?;
        Ok(window)
    }

    /// Sends a window to its end.
    async fn window(&mut self, window: WindowSeq, known: u64) -> Result<(), End> {
        let mut read = 0;
        loop {
            let reading = self.watched.live.borrow_and_update().read(window, read);
            match reading {
                Reading::Frames(frames, ended) => {
                    let none = frames.is_empty();
                    for frame in frames {
                        read += 1;
                        if let Some(news) = frame.news(known) {
                            self.send(news).await?;
                        }
                    }
                    if ended {
                        return Ok(());
                    }
                    if none {
                        self.changed().await?;
                    }
                }
                // So slow that its window is told from the file by now.
                Reading::Older if read > 0 => {
                    let detail =
                        "too slow: the window is closed and gone; go on from where you are";
                    let detail = detail.to_owned();
                    let code = RejectCode::RateLimited;
                    return Err(status(&Reject { code, detail }).into());
                }
                Reading::Older => return self.closed(window, known).await,
                Reading::Beyond => self.changed().await?,
            }
        }
    }

    async fn changed(&mut self) -> Result<(), End> {
        tokio::select! {
            changed = self.watched.live.changed() => changed.map_err(|_| stopping()),
            () = self.out.closed() => Err(End::Gone),
            _ = self.stop.changed() => Err(stopping()),
        }
    }

    /// Sends a window from its segment, once that is written.
    async fn closed(&mut self, window: WindowSeq, known: u64) -> Result<(), End> {
        let dealt_with = |index: &Index| index.dealt_with >= window;
        let name = Name::Window(window);
        let (file, is_lost) = {
            let index = tokio::select! {
                index = self.index.wait_for(dealt_with) => index.map_err(|_| stopping())?,
                () = self.out.closed() => return Err(End::Gone),
                _ = self.stop.changed() => return Err(stopping()),
            };
            (index.file(&name), index.is_lost(window))
        };
        // Of what was let go nothing counts any more; whoever follows must not take a loss for that.
        let gone = || Status::not_found(format!("window {window} is not kept here any more"));
        let lost = |why: &str| Status::data_loss(format!("the segment of window {window}: {why}"));
        let id = match file {
            None if is_lost => return Err(lost("none can be made of what is stored").into()),
            file => file.ok_or_else(gone)?,
        };
        let library = self.library.clone();
        let file = spawn_blocking(move || library.open(&name, &id)).await;
        let is_kept = || self.index.borrow().file(&name) == Some(id);
        let file = file.map_err(|_| stopping())?.map_err(|why| match why {
            Unserved::Gone(why) if is_kept() => lost(&why.to_string()),
            Unserved::Gone(_) => gone(),
            Unserved::Damaged => lost(&why.to_string()),
        })?;
        self.segment(window, file, known).await
    }

    async fn segment(&mut self, window: WindowSeq, file: File, known: u64) -> Result<(), End> {
        let unreadable = |why: &dyn std::fmt::Display| {
            Status::data_loss(format!(
                "the segment of window {window} is unreadable: {why}"
            ))
        };
        let mut frames = SegmentFrames::new(file, known);
        loop {
            let read = spawn_blocking(move || {
                let frame = frames.read();
                (frames, frame)
            });
            let (rest, frame) = read.await.map_err(|_| stopping())?;
            frames = rest;
            let frame: io::Result<Option<(Bytes, bool)>> = frame;
            let (frame, ended) = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => return Err(unreadable(&"it has no end").into()),
                Err(error) => return Err(unreadable(&error).into()),
            };
            self.send(frame).await?;
            if ended {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, frame: Bytes) -> Result<(), End> {
        let sent = tokio::select! {
            sent = tokio::time::timeout(READ_WITHIN, self.out.send(Ok(frame))) => sent,
            _ = self.stop.changed() => return Err(stopping()),
        };
        match sent {
            Ok(sent) => sent.map_err(|_| End::Gone),
            Err(_) => {
                let detail = format!("nothing was read for {} s", READ_WITHIN.as_secs());
                let code = RejectCode::RateLimited;
                Err(status(&Reject { code, detail }).into())
            }
        }
    }
}
