//! What a session is sent, as the frames of its response. What is small goes together; what is large goes as it
//! is, uncopied: a welcome or a proposal is the same bytes for thousands.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tonic::Status;
use tonic::codegen::http::{HeaderMap, HeaderValue, Response, header};
use tutti_proto::wire::MESSAGE_LIMIT_TO_PARTICIPANT;

use super::outbound::Answered;

/// Before each message: no compression, and its length.
const PREFIX: usize = 5;
/// Messages of up to so many bytes are copied together,
const COPIED: usize = 4 << 10;
/// up to so many at once.
const AT_ONCE: usize = 32 << 10;

/// The messages of one session, and its last word.
pub(super) struct Answers {
    queue: Answered,
    /// What goes before anything else: its prefix is on its way.
    large: Option<Bytes>,
    /// The last word, once it is known.
    last: Option<Status>,
    ended: bool,
}

impl Answers {
    pub(super) fn new(queue: Answered) -> Self {
        Self {
            queue,
            large: None,
            last: None,
            ended: false,
        }
    }

    /// The response that they are the body of.
    pub(super) fn into_response(self) -> Response<Self> {
        let mut response = Response::new(self);
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, grpc);
        response
    }

    /// Adds a message to those that go together; false: they go now.
    fn add(&mut self, together: &mut BytesMut, message: Bytes) -> bool {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        if message.len() > MESSAGE_LIMIT_TO_PARTICIPANT {
            let limit = MESSAGE_LIMIT_TO_PARTICIPANT;
            let said = format!("a message of {length} bytes is to be sent, the limit is {limit}");
            self.last = Some(Status::out_of_range(said));
            return false;
        }
        let is_small = message.len() <= COPIED;
        together.reserve(PREFIX + if is_small { message.len() } else { 0 });
        together.put_u8(0);
        together.put_u32(length);
        if is_small {
            together.put(message);
        } else {
            self.large = Some(message);
        }
        is_small && together.len() < AT_ONCE
    }
}

impl http_body::Body for Answers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(large) = self.large.take() {
            return Poll::Ready(Some(Ok(Frame::data(large))));
        }
        let mut together = BytesMut::new();
        while self.last.is_none() && !self.ended {
            let goes_on = match self.queue.poll_next(context) {
                Poll::Ready(Some(Ok(message))) => self.add(&mut together, message),
                Poll::Ready(last) => {
                    let status = last.and_then(Result::err);
                    self.last = Some(status.unwrap_or_else(|| Status::ok("")));
                    false
                }
                Poll::Pending if together.is_empty() => return Poll::Pending,
                Poll::Pending => false,
            };
            if !goes_on {
                break;
            }
        }
        if !together.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(together.freeze()))));
        }
        Poll::Ready(self.last.take().map(|status| {
            self.ended = true;
            let mut trailers = HeaderMap::new();
            if status.add_header(&mut trailers).is_err() {
                // Never: what a status says is percent-encoded.
                trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("2"));
            }
            Ok(Frame::trailers(trailers))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use http_body::Body as _;
    use tonic::Code;

    use super::*;
    use crate::grpc::Outbound;

    /// What is ready now; nothing at the end.
    fn next(answers: &mut Pin<&mut Answers>) -> Option<Frame<Bytes>> {
        let mut context = Context::from_waker(Waker::noop());
        match answers.as_mut().poll_frame(&mut context) {
            Poll::Ready(frame) => frame.map(|frame| frame.unwrap_or_else(|never| match never {})),
            Poll::Pending => panic!("nothing is ready"),
        }
    }

    fn prefixed(messages: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.put_u8(0);
            bytes.put_u32(message.len() as u32);
            bytes.extend_from_slice(message);
        }
        bytes
    }

    #[test]
    fn what_is_small_goes_together_what_is_large_uncopied_and_the_last_word_last() {
        let (sender, queue, _owner) = Outbound::new(None);
        let large = Bytes::from(vec![9; COPIED + 1]);
        for message in [Bytes::from_static(b"a"), Bytes::new(), large.clone()] {
            sender.send(message).unwrap();
        }
        sender.send(Bytes::from_static(b"b")).unwrap();
        sender.close(Status::aborted("gone"));
        let mut answers = pin!(Answers::new(queue));
        let mut first = prefixed(&[b"a", b""]);
        first.push(0);
        first.extend_from_slice(&(COPIED as u32 + 1).to_be_bytes());
        assert_eq!(next(&mut answers).unwrap().into_data().unwrap(), first);
        let second = next(&mut answers).unwrap().into_data().unwrap();
        assert_eq!(
            (second.as_ptr(), second.len()),
            (large.as_ptr(), large.len())
        );
        let third = next(&mut answers).unwrap().into_data().unwrap();
        assert_eq!(third, prefixed(&[b"b"]));
        let last = next(&mut answers).unwrap().into_trailers().unwrap();
        let last = Status::from_header_map(&last).unwrap();
        assert_eq!((last.code(), last.message()), (Code::Aborted, "gone"));
        assert!(answers.is_end_stream() && next(&mut answers).is_none());
    }

    #[test]
    fn what_nobody_would_take_ends_the_session_and_an_end_without_a_word_is_no_error() {
        let said = |message: Option<usize>| {
            let (sender, queue, _owner) = Outbound::new(None);
            if let Some(length) = message {
                sender.send(vec![0; length].into()).unwrap();
            }
            drop(sender);
            let mut answers = pin!(Answers::new(queue));
            let trailers = next(&mut answers).unwrap().into_trailers().unwrap();
            Status::from_header_map(&trailers).unwrap().code()
        };
        assert_eq!(
            said(Some(MESSAGE_LIMIT_TO_PARTICIPANT + 1)),
            Code::OutOfRange
        );
        assert_eq!(said(None), Code::Ok);
    }
}
