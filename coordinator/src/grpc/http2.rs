//! A connection: HTTP/2 and the calls on it, as one task. Thousands of sessions say a word each now and then, and
//! each task that such a word wakes costs a look at much that nobody looked at for long.

use std::array;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::server::{self, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use prost::bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tonic::codegen::http;
use tutti_proto::wire::MESSAGE_LIMIT_TO_COORDINATOR;

use super::Hangup;
use super::body::Request;
use super::connection::Connection;
use super::parts::{PARTS, Parts};
use super::service::PoolService;

/// The clock of a connection. After two ticks without a word the peer is asked, and after three more it is gone.
/// Asking ten thousand takes a hundredth of a core; and where one of both sides is overloaded, the answer waits
/// behind all that was sent before it: cut off, each would come back for a snapshot, which is more load.
const TICK: Duration = Duration::from_secs(5);
const ASKED_AFTER: u32 = 2;
const GONE_AFTER: u32 = 5;
/// A peer that has not begun to speak HTTP/2 is gone after as long.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(15);
/// Sessions and calls that one connection may have open.
const STREAMS_LIMIT: usize = 8;
/// Holds the largest message to the coordinator but for a few bytes, so that it needs no second round trip.
const WINDOW: u32 = MESSAGE_LIMIT_TO_COORDINATOR as u32;
const HEADERS_LIMIT: u32 = 16 << 10;

/// Parts of the task. The connection comes last: a peer that says much leaves nothing of the task's budget, and what
/// calls have to say goes out with what they say it on.
const CLOCK: usize = 0;
const STOP: usize = 1;
const CALLS: usize = 2;
const CONNECTION: usize = CALLS + STREAMS_LIMIT;
const _: () = assert!(CONNECTION < PARTS);

/// A call until it is answered.
pub(super) type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves a connection until both are done with it, or it fails.
pub(super) async fn serve(
    connection: Connection,
    service: PoolService,
    mut stop: watch::Receiver<bool>,
) {
    let hangup = connection.hangup();
    let streams = u32::try_from(STREAMS_LIMIT).unwrap_or(u32::MAX);
    let handshake = server::Builder::new()
        .max_concurrent_streams(streams)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(HEADERS_LIMIT)
        .handshake(connection);
    let Ok(Ok(mut http2)) = timeout(HANDSHAKE_WITHIN, handshake).await else {
        return; // It speaks no HTTP/2.
    };
    // There always is one: it is asked for once.
    let Some(pings) = http2.ping_pong() else {
        return;
    };
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let parts = Arc::<Parts>::default();
    let served = Served {
        http2: Some(http2),
        pings,
        clock,
        silences: 0,
        // If its sender is gone, we stop as well.
        stop: Some(Box::pin(async move { drop(stop.changed().await) })),
        calls: [const { None }; STREAMS_LIMIT],
        hangup,
        service,
    };
    Task {
        wakers: array::from_fn(|part| parts.add(part)),
        parts,
        served,
    }
    .await;
}

struct Task {
    parts: Arc<Parts>,
    wakers: Wakers,
    served: Served,
}

/// What wakes each part.
type Wakers = [Waker; CONNECTION + 1];

struct Served {
    /// None: it is closed.
    http2: Option<server::Connection<Connection, Bytes>>,
    pings: PingPong,
    clock: Interval,
    /// Ticks of the clock since the peer was heard.
    silences: u32,
    /// None: we stop.
    stop: Option<Call>,
    calls: [Option<Call>; STREAMS_LIMIT],
    hangup: Hangup,
    service: PoolService,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self {
            parts,
            wakers,
            served,
        } = &mut *self;
        parts.poll(context, |part| {
            let mut context = Context::from_waker(&wakers[part]);
            match part {
                CONNECTION => served.go_on(&mut context, wakers),
                CLOCK => served.listen(&mut context),
                STOP => served.stop(&mut context, wakers),
                call => served.answer(call - CALLS, &mut context),
            }
            match served.is_done() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
    }
}

impl Served {
    /// Whether the connection is closed, and what was read of it was taken.
    fn is_done(&self) -> bool {
        self.http2.is_none() && self.calls.iter().all(Option::is_none)
    }

    /// Reads, writes, and begins calls.
    fn go_on(&mut self, context: &mut Context<'_>, wakers: &Wakers) {
        while let Some(http2) = &mut self.http2 {
            match http2.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.begin(request, respond, wakers);
                }
                // What was read before is still taken.
                Poll::Ready(_) => self.http2 = None,
                Poll::Pending => return,
            }
        }
    }

    fn begin(
        &mut self,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        wakers: &Wakers,
    ) {
        let Some(free) = self.calls.iter().position(Option::is_none) else {
            // Some were given up just now, and have not seen it yet. Whoever is refused so may try again.
            return respond.send_reset(Reason::REFUSED_STREAM);
        };
        let mut request = request.map(Request);
        request.extensions_mut().insert(self.hangup.clone());
        self.calls[free] = Some(self.service.call(request, respond));
        wakers[CALLS + free].wake_by_ref();
    }

    fn answer(&mut self, call: usize, context: &mut Context<'_>) {
        if let Some(answering) = &mut self.calls[call] {
            let poll = || answering.as_mut().poll(context);
            // A fault at one call, which the log has, is none of the others'.
            if !matches!(catch_unwind(AssertUnwindSafe(poll)), Ok(Poll::Pending)) {
                self.calls[call] = None;
            }
        }
    }

    /// Asks a peer that says nothing, and gives it up in the end.
    fn listen(&mut self, context: &mut Context<'_>) {
        while self.clock.poll_tick(context).is_ready() {
            if self.hangup.was_heard() {
                self.silences = 0;
                continue;
            }
            self.silences += 1;
            if self.silences == ASKED_AFTER {
                // What answered the last one was heard; until it is taken no other is sent.
                let mut nobody = Context::from_waker(Waker::noop());
                let _ = self.pings.poll_pong(&mut nobody);
                let _ = self.pings.send_ping(Ping::opaque());
            } else if self.silences >= GONE_AFTER {
                self.hangup.now();
            }
        }
    }

    fn stop(&mut self, context: &mut Context<'_>, wakers: &Wakers) {
        if let Some(stop) = &mut self.stop
            && stop.as_mut().poll(context).is_ready()
        {
            self.stop = None;
            if let Some(http2) = &mut self.http2 {
                http2.graceful_shutdown();
                wakers[CONNECTION].wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests;
