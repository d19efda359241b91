//! One download: a file in pieces, read as they are taken. Its place is left when HTTP/2 is done with it,
//! or when the connection is cut because nobody reads.

use std::fs::File;
use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::Status;
use tutti_proto::segment::FileId;
use tutti_proto::wire::pb;

use super::connection::{Busy, Peer};
use super::places::Place;

/// Bytes of a piece: each download has three of them in memory, and what HTTP/2 has buffered.
pub(super) const PIECE: u64 = 64 << 10;

type Piece = Result<pb::FileChunk, Status>;

/// What a reader takes.
pub(super) struct Pieces {
    next: mpsc::Receiver<Piece>,
    /// All of it was taken, which was not yet said.
    is_taken: bool,
    _held: Held,
}

/// What a download has until HTTP/2 is done with it.
pub(super) struct Held {
    _place: Place,
    _busy: Busy,
    _done: oneshot::Sender<()>,
}

impl Stream for Pieces {
    type Item = Piece;

    /// The end comes alone: who is told it together with a piece drops this before that piece is sent.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        let next = ready!(self.next.poll_recv(context));
        if next.is_none() && !self.is_taken {
            self.is_taken = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(next)
    }
}

/// Begins a download.
pub(super) fn start(
    (id, file, length): (FileId, File, u64),
    (peer, place): (Peer, Place),
    read_within: Duration,
) -> Pieces {
    // One piece waits here, and one with HTTP/2.
    let (out, next) = mpsc::channel(1);
    let (done, mut is_done) = oneshot::channel::<()>();
    let held = Held {
        _place: place,
        _busy: peer.busy(),
        _done: done,
    };
    tokio::spawn(async move {
        let all_sent = send(file, (id.to_string(), length), &out, read_within).await;
        drop(out);
        // The last pieces, too, are taken in time.
        if !all_sent || timeout(read_within, &mut is_done).await.is_err() {
            peer.cut();
        }
    });
    Pieces {
        next,
        is_taken: false,
        _held: held,
    }
}

/// Hands out the pieces; says whether each was taken in time.
async fn send(
    mut file: File,
    (cid, length): (String, u64),
    out: &mpsc::Sender<Piece>,
    read_within: Duration,
) -> bool {
    loop {
        let read = spawn_blocking(move || {
            let mut piece = Vec::new();
            let read = file.by_ref().take(PIECE).read_to_end(&mut piece);
            (file, read.map(|_| piece))
        });
        let Ok((rest, piece)) = read.await else {
            return true; // The process ends.
        };
        file = rest;
        let chunk = match piece {
            Ok(piece) if piece.is_empty() => return true,
            Ok(piece) => Ok(pb::FileChunk {
                cid: cid.clone(),
                length,
                bytes: piece.into(),
            }),
            Err(error) => Err(Status::data_loss(error.to_string())),
        };
        let last = chunk.is_err();
        match timeout(read_within, out.send(chunk)).await {
            Err(_) => return false,
            // Whoever gave it up misses nothing.
            Ok(Err(_)) => return true,
            Ok(Ok(())) if last => return true,
            Ok(Ok(())) => {}
        }
    }
}
