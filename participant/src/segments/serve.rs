//! Serving kept files on: `tutti.v1.Ledger`, of which a participant has the files only. Whoever asks
//! by CID need not trust us.

mod connection;
mod download;
mod listing;
mod places;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tutti_proto::id::WindowSeq;
use tutti_proto::wire::pb::file_request::File;
use tutti_proto::wire::pb::ledger_server::{Ledger, LedgerServer};
use tutti_proto::wire::{REQUEST_LIMIT, pb, status};

use connection::{Connection, Peer};
use download::Pieces;
use listing::{Listing, Wanted};
use places::{Limit, Places};

/// Calls that a connection may have open; what was answered, and is not read, is in memory until it is cut.
const STREAMS: u32 = 2;
const HEADERS_LIMIT: u32 = 16 << 10;
/// After the socket fails, as it does while the process has no file descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// What strangers may take of this machine.
#[derive(Clone, Copy, Debug)]
struct Limits {
    connections: Limit,
    /// Downloads at once: each has a few pieces of its file in memory.
    downloads: Limit,
    /// Whoever takes no piece for so long, or asks for nothing, gives its place to others.
    unread_within: Duration,
}

impl Limits {
    const USUAL: Self = Self {
        connections: Limit {
            total: 64,
            per_address: 8,
        },
        downloads: Limit {
            total: 32,
            per_address: 4,
        },
        unread_within: Duration::from_secs(60),
    };
}

/// The files of a directory.
struct Files {
    listing: Arc<Listing>,
    downloads: Arc<Places>,
    unread_within: Duration,
}

#[tonic::async_trait]
impl Ledger for Files {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<pb::Followed, Status>> + Send>>;
    type FileStream = Pieces;

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
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("a call without a connection"))?;
        let wanted = wanted(request.into_inner())?;
        let place = self.downloads.take(peer.address);
        let place = place.map_err(|reject| status(&reject))?;
        let listing = self.listing.clone();
        // Who goes away meanwhile keeps its place until the file is looked at.
        let opened = spawn_blocking(move || (listing.open(&wanted), place)).await;
        let (opened, place) = opened.map_err(|_| Status::unavailable("the server is stopping"))?;
        let pieces = download::start(opened?, (peer, place), self.unread_within);
        Ok(Response::new(pieces))
    }
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
    serve_by(listener, directory, Limits::USUAL).await
}

async fn serve_by(listener: TcpListener, directory: PathBuf, limits: Limits) -> anyhow::Result<()> {
    let files = Files {
        listing: Arc::new(Listing::new(directory)),
        downloads: Places::new("download", limits.downloads),
        unread_within: limits.unread_within,
    };
    let service = LedgerServer::new(files).max_decoding_message_size(REQUEST_LIMIT);
    let (out, incoming) = mpsc::channel(1);
    let accepts = accept(listener, limits, out);
    let serves = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADERS_LIMIT)
        .add_service(service)
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::select! {
        () = accepts => {}
        served = serves => served?,
    }
    Ok(())
}

/// Takes connections, so many at once; others are turned away.
async fn accept(listener: TcpListener, limits: Limits, out: mpsc::Sender<io::Result<Connection>>) {
    let places = Places::new("be connected", limits.connections);
    loop {
        match listener.accept().await {
            Err(_) => sleep(ACCEPT_AGAIN).await,
            Ok((stream, address)) => {
                let Ok(place) = places.take(address) else {
                    continue;
                };
                // Only latency depends on it.
                let _ = stream.set_nodelay(true);
                let connection = Connection::new(stream, address, limits.unread_within, place);
                if out.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
        }
    }
}
