//! Serving kept files on: `tutti.v1.Ledger`, of which a participant has the files only. Whoever asks
//! by CID need not trust us.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::FileId;
use tutti_proto::wire::pb;
use tutti_proto::wire::pb::file_request::File;
use tutti_proto::wire::pb::ledger_server::{Ledger, LedgerServer};

use super::{FileName, list, read_bytes};

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Downloads of one connection at a time: each holds one file in memory.
const DOWNLOADS: usize = 4;

/// The files of a directory, as they are when they are asked for.
struct Files(PathBuf);

type Chunks = Pin<Box<dyn Stream<Item = Result<pb::FileChunk, Status>> + Send>>;

#[tonic::async_trait]
impl Ledger for Files {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<pb::Followed, Status>> + Send>>;
    type FileStream = Chunks;

    async fn follow(
        &self,
        _: Request<pb::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented(
            "only files are served here; follow the coordinator",
        ))
    }

    async fn sample(
        &self,
        _: Request<pb::SampleRequest>,
    ) -> Result<Response<pb::SampleReply>, Status> {
        Err(Status::unimplemented(
            "only files are served here; a segment has all shares",
        ))
    }

    async fn file(
        &self,
        request: Request<pb::FileRequest>,
    ) -> Result<Response<Self::FileStream>, Status> {
        let wanted = wanted(request.into_inner())?;
        let directory = self.0.clone();
        let found = spawn_blocking(move || find(&directory, &wanted)).await;
        let (cid, bytes) = found.map_err(|error| Status::internal(error.to_string()))??;
        let (cid, length) = (cid.to_string(), bytes.len() as u64);
        // Slices of one buffer, made as they are taken.
        let whole = pb::FileChunk {
            cid,
            length,
            bytes: bytes.into(),
        };
        let places = (0..whole.bytes.len()).step_by(PIECE);
        let chunks = places.map(move |at| {
            let end = whole.bytes.len().min(at.saturating_add(PIECE));
            Ok(pb::FileChunk {
                cid: whole.cid.clone(),
                length,
                bytes: whole.bytes.slice(at..end),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

/// What is asked for.
enum Wanted {
    Window(WindowSeq),
    Cid(FileId),
    Block(BlockHash),
}

fn wanted(request: pb::FileRequest) -> Result<Wanted, Status> {
    let malformed = |what: &str| Status::invalid_argument(format!("malformed: {what}"));
    match request.file {
        None => Err(malformed("no file is named")),
        Some(File::Window(window)) => Ok(Wanted::Window(WindowSeq(window))),
        Some(File::Cid(cid)) => {
            let cid = cid.parse();
            cid.map(Wanted::Cid)
                .map_err(|_| malformed("cid is no CID of a file"))
        }
        Some(File::Block(hash)) => {
            let hash = <[u8; 32]>::try_from(hash.as_ref());
            let hash = hash.map_err(|_| malformed("block is no hash"))?;
            Ok(Wanted::Block(BlockHash::from_byte_array(hash)))
        }
    }
}

/// Finds a file and reads it; a damaged one is not handed on.
fn find(directory: &Path, wanted: &Wanted) -> Result<(FileId, Vec<u8>), Status> {
    let files = list(directory).map_err(|error| Status::internal(error.to_string()))?;
    let is_wanted = |name: &FileName| match (wanted, name) {
        (Wanted::Window(wanted), FileName::Segment(window, _)) => wanted == window,
        (Wanted::Block(wanted), FileName::Checkpoint(block, _)) => wanted == block,
        (Wanted::Cid(wanted), name) => *wanted == name.cid(),
        _ => false,
    };
    let mut damaged = None;
    for (name, path) in files.into_iter().filter(|(name, _)| is_wanted(name)) {
        match read_bytes(&path) {
            Ok(bytes) if FileId::of(&bytes) == name.cid() => return Ok((name.cid(), bytes)),
            Ok(_) => damaged = Some(Status::data_loss(format!("{name} is damaged"))),
            Err(error) => damaged = Some(Status::data_loss(error.to_string())),
        }
    }
    Err(damaged.unwrap_or_else(|| Status::not_found("no such file is kept here")))
}

/// Serves a directory's files until the process ends. `ready` is told the address that is listened on.
pub async fn serve(
    listen: SocketAddr,
    directory: PathBuf,
    ready: impl FnOnce(SocketAddr),
) -> anyhow::Result<()> {
    anyhow::ensure!(
        directory.is_dir(),
        "{} is no directory",
        directory.display()
    );
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on {listen}: {error}"))?;
    ready(listener.local_addr()?);
    tonic::transport::Server::builder()
        .concurrency_limit_per_connection(DOWNLOADS)
        .add_service(LedgerServer::new(Files(directory)))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}
