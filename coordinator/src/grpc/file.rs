//! One download: a file in pieces, read as they are taken.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tonic::Status;
use tutti_proto::segment::FileId;
use tutti_proto::wire::pb;

use super::places::Place;

/// Bytes of a piece: below what a message may carry, since each reader has a few of them in memory.
const PIECE: u64 = 256 << 10;
/// Whoever takes no piece for so long gives its place to others.
const READ_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Download {
    file: File,
    id: FileId,
    out: mpsc::Sender<Result<Bytes, Status>>,
    _place: Place,
}

impl Download {
    pub(super) fn new(
        file: File,
        id: FileId,
        out: mpsc::Sender<Result<Bytes, Status>>,
        place: Place,
    ) -> Self {
        Self {
            file,
            id,
            out,
            _place: place,
        }
    }

    pub(super) async fn run(self) {
        let Self { file, id, out, .. } = self;
        let length = match file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) => {
                // If nobody waits for it, nobody misses it.
                let _ = out.try_send(Err(Status::data_loss(error.to_string())));
                return;
            }
        };
        let (cid, mut file) = (id.to_string(), file);
        loop {
            let read = spawn_blocking(move || {
                let mut piece = Vec::new();
                let read = file.by_ref().take(PIECE).read_to_end(&mut piece);
                (file, read.map(|_| piece))
            });
            let Ok((rest, piece)) = read.await else {
                return;
            };
            file = rest;
            let chunk = match piece {
                Ok(piece) if piece.is_empty() => return,
                Ok(piece) => Ok(pb::FileChunk {
                    cid: cid.clone(),
                    length,
                    bytes: piece.into(),
                }
                .encode_to_vec()
                .into()),
                Err(error) => Err(Status::data_loss(error.to_string())),
            };
            let last = chunk.is_err();
            let sent = tokio::time::timeout(READ_WITHIN, out.send(chunk)).await;
            if last || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }
}
