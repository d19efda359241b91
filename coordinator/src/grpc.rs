//! The gRPC server: bytes into inputs, and messages onto a bounded queue for each session.

mod answers;
mod body;
mod codec;
mod connection;
mod file;
mod follow;
mod http2;
mod ledger;
mod outbound;
mod parts;
mod places;
mod points;
mod sample;
mod service;
mod session;

use std::io;
use std::pin::pin;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tutti_proto::wire::PoolInfo;

use crate::driver::Inbox;
use connection::accept;
pub use connection::{Hangup, raise_descriptor_limit};
pub use ledger::{LedgerLimits, LedgerSide};
pub use outbound::{Outbound, QueueFull};
pub use points::Points;
use service::PoolService;

/// Binds the address on which participants connect.
pub async fn bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves so many connections at once until `stop` changes and every connection has ended.
pub async fn serve(
    listener: (TcpListener, usize),
    inbox: Inbox,
    info: watch::Receiver<PoolInfo>,
    ledger: LedgerSide,
    points: Points,
    stop: watch::Receiver<bool>,
) {
    let service = PoolService::new(inbox, info, ledger, points, stop.clone());
    serve_by(service, listener, stop).await;
}

async fn serve_by(
    service: PoolService,
    (listener, connections): (TcpListener, usize),
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections));
    let mut served = JoinSet::new();
    let stopping = stop.clone();
    {
        let next = || accept(&listener, &places, connections);
        let mut accepts = pin!(next());
        loop {
            tokio::select! {
                connection = &mut accepts => {
                    served.spawn(http2::serve(connection, service.clone(), stopping.clone()));
                    accepts.set(next());
                }
                Some(_) = served.join_next() => {}
                // The sender is gone: stop as well.
                _ = stop.changed() => break,
            }
        }
    }
    drop(listener);
    while served.join_next().await.is_some() {}
}
