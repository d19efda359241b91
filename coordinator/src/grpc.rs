//! The gRPC server: bytes into inputs, and messages onto a bounded queue for each session.

mod answers;
mod codec;
mod connection;
mod file;
mod follow;
mod ledger;
mod outbound;
mod places;
mod points;
mod sample;
mod service;
mod session;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tutti_proto::wire::{MESSAGE_LIMIT_TO_COORDINATOR, PoolInfo};

use crate::driver::Inbox;
use connection::accept;
pub use connection::{Hangup, raise_descriptor_limit};
use ledger::Ledger;
pub use ledger::{LedgerLimits, LedgerSide};
pub use outbound::{Outbound, QueueFull};
use places::Residents;
pub use points::Points;
use service::PoolService;
use session::Sessions;

/// A peer that says nothing is asked, and gone after both if it does not answer. Asking ten thousand takes a
/// hundredth of a core; and where one of both sides is overloaded, the answer waits behind all that was
/// sent before it: cut off, each would come back for a snapshot, which is more load.
const PING_AFTER: Duration = Duration::from_secs(10);
const PING_WITHIN: Duration = Duration::from_secs(15);
/// Sessions and calls that one connection may have open.
const STREAMS_LIMIT: u32 = 8;
/// Holds the largest message to the coordinator, so that it needs no second round trip.
const WINDOW: u32 = MESSAGE_LIMIT_TO_COORDINATOR as u32;
const HEADERS_LIMIT: u32 = 16 << 10;

/// Binds the address on which participants connect.
pub async fn bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves so many connections at once until `stop` changes and every connection has ended.
pub async fn serve(
    (listener, connections): (TcpListener, usize),
    inbox: Inbox,
    info: watch::Receiver<PoolInfo>,
    ledger: LedgerSide,
    points: Points,
    mut stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let residents = Arc::new(Residents::default());
    let service = PoolService {
        sessions: Arc::new(Sessions::new(inbox, residents.clone(), points)),
        info,
        ledger: Arc::new(Ledger::new(ledger, residents, stop.clone())),
    };
    Server::builder()
        .http2_keepalive_interval(Some(PING_AFTER))
        .http2_keepalive_timeout(Some(PING_WITHIN))
        .max_concurrent_streams(STREAMS_LIMIT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(HEADERS_LIMIT)
        .serve_with_incoming_shutdown(service, accept(listener, connections), async move {
            // The sender is gone: stop as well.
            let _ = stop.changed().await;
        })
        .await
}
