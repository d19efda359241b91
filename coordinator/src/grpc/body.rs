//! Requests and responses as streams of HTTP/2.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body, Frame};
use prost::bytes::{Buf, Bytes};
use tonic::codegen::http::Response;

/// What a peer sends with its call.
pub(super) struct Request(pub(super) RecvStream);

impl Body for Request {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let data = ready!(self.0.poll_data(context));
        Poll::Ready(match data {
            Some(Ok(data)) => {
                // It is taken as soon as it is here: who takes it bounds what waits.
                self.0.flow_control().release_capacity(data.len())?;
                Some(Ok(Frame::data(data)))
            }
            Some(Err(error)) => Some(Err(error)),
            // A call has no trailers.
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Makes a response and sends it, unless the peer wants it no more.
pub(super) async fn answer<B>(
    response: impl Future<Output = Response<B>>,
    mut respond: SendResponse<Bytes>,
) where
    B: Body<Data = Bytes> + Unpin,
{
    let mut response = pin!(response);
    let response = poll_fn(|context| match respond.poll_reset(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => response.as_mut().poll(context).map(Some),
    });
    if let Some(response) = response.await {
        send(response, respond).await;
    }
}

/// Sends a response, to its end or until the peer wants no more of it.
pub(super) fn send<B>(response: Response<B>, mut respond: SendResponse<Bytes>) -> Sending<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, body) = response.into_parts();
    let ended = body.is_end_stream();
    let stream = respond.send_response(Response::from_parts(head, ()), ended);
    Sending {
        body,
        stream: stream.ok().filter(|_| !ended),
        next: None,
    }
}

/// A response on its way.
pub(super) struct Sending<B> {
    body: B,
    /// None: it is sent, or nobody waits for it.
    stream: Option<SendStream<Bytes>>,
    /// What the peer leaves no room for yet.
    next: Option<Bytes>,
}

impl<B: Body<Data = Bytes> + Unpin> Future for Sending<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(());
        };
        if stream.poll_reset(context).is_ready() {
            return Poll::Ready(());
        }
        loop {
            if let Some(data) = this.next.take() {
                while stream.capacity() == 0 {
                    match stream.poll_capacity(context) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => {
                            this.next = Some(data);
                            return Poll::Pending;
                        }
                    }
                }
                // It waits in the stream if there is less room than it needs.
                if stream.send_data(data, false).is_err() {
                    return Poll::Ready(());
                }
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                None => {
                    // If it fails, the connection has.
                    let _ = stream.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
            };
            match frame.into_data() {
                Ok(data) if data.has_remaining() => {
                    stream.reserve_capacity(1);
                    this.next = Some(data);
                }
                Ok(_) => {}
                Err(frame) => {
                    stream.reserve_capacity(0);
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = stream.send_trailers(trailers);
                    }
                    return Poll::Ready(());
                }
            }
        }
    }
}
