//! The schema's calls, as the generated server has them but for the codec.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use h2::server::SendResponse;
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tutti_proto::wire::{
    MESSAGE_LIMIT_TO_COORDINATOR, MESSAGE_LIMIT_TO_PARTICIPANT, PoolInfo, REQUEST_LIMIT, ToWire, pb,
};

use super::body;
use super::codec::Encoded;
use super::connection::UNREAD_WITHIN;
use super::http2::Call;
use super::ledger::{Ledger, LedgerSide};
use super::places::Residents;
use super::points::Points;
use super::session::Sessions;
use crate::driver::Inbox;

/// `tutti.v1.Pool` and `tutti.v1.Ledger`.
#[derive(Clone)]
pub(super) struct PoolService {
    sessions: Arc<Sessions>,
    info: watch::Receiver<PoolInfo>,
    ledger: Arc<Ledger>,
}

impl PoolService {
    /// Answers until `stop` changes. Within the runtime.
    pub(super) fn new(
        inbox: Inbox,
        info: watch::Receiver<PoolInfo>,
        ledger: LedgerSide,
        points: Points,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let residents = Arc::<Residents>::default();
        Self {
            sessions: Arc::new(Sessions::new(inbox, residents.clone(), points)),
            info,
            ledger: Arc::new(Ledger::new(ledger, residents, stop)),
        }
    }

    /// A call, to be answered.
    pub(super) fn call(
        &self,
        request: http::Request<body::Request>,
        respond: SendResponse<Bytes>,
    ) -> Call {
        let service = self.clone();
        match request.uri().path() {
            "/tutti.v1.Pool/Session" => Box::pin(service.session(request, respond)),
            _ => Box::pin(body::answer(service.answer(request), respond)),
        }
    }

    /// A stream each way, whose answers need no codec.
    async fn session(self, request: http::Request<body::Request>, respond: SendResponse<Bytes>) {
        let request = Request::from_http(request).map(|body| {
            let limit = Some(MESSAGE_LIMIT_TO_COORDINATOR);
            Streaming::new_request(Encoded::<pb::ToCoordinator>::default(), body, None, limit)
        });
        match self.sessions.open(request).await {
            Ok((session, answers)) => {
                let mut session = pin!(session);
                let mut answers = Some(body::send(answers.into_response(), respond));
                let (mut reads, mut unread) = (true, None);
                // One part of its connection's task: what wakes one of both wakes it.
                poll_fn(move |context| {
                    reads = reads && session.as_mut().poll(context).is_pending();
                    if let Some(sending) = &mut answers
                        && Pin::new(sending).poll(context).is_ready()
                    {
                        answers = None;
                    }
                    if reads {
                        return Poll::Pending;
                    }
                    if answers.is_none() {
                        return Poll::Ready(());
                    }
                    // What is left is for one who has ended, and may never read it.
                    let unread = unread.get_or_insert_with(|| Box::pin(sleep(UNREAD_WITHIN)));
                    unread.as_mut().poll(context)
                })
                .await
            }
            Err(status) => body::send(status.into_http::<Body>(), respond).await,
        }
    }

    async fn answer(self, request: http::Request<body::Request>) -> http::Response<Body> {
        match request.uri().path() {
            "/tutti.v1.Pool/Info" => {
                grpc(Encoded::<pb::InfoRequest>::default())
                    .unary(self, request)
                    .await
            }
            "/tutti.v1.Ledger/Follow" => {
                grpc(Encoded::<pb::FollowRequest>::default())
                    .server_streaming(self, request)
                    .await
            }
            "/tutti.v1.Ledger/Sample" => {
                grpc(Encoded::<pb::SampleRequest>::default())
                    .unary(self, request)
                    .await
            }
            "/tutti.v1.Ledger/File" => {
                grpc(Encoded::<pb::FileRequest>::default())
                    .server_streaming(self, request)
                    .await
            }
            _ => Status::unimplemented("no such call").into_http(),
        }
    }
}

impl UnaryService<pb::InfoRequest> for PoolService {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, _: Request<pb::InfoRequest>) -> Self::Future {
        let info = self.info.borrow().to_wire().encode_to_vec();
        Box::pin(async move { Ok(Response::new(info.into())) })
    }
}

impl ServerStreamingService<pb::FollowRequest> for PoolService {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<pb::FollowRequest>) -> Self::Future {
        let ledger = self.ledger.clone();
        Box::pin(async move { ledger.follow(request).map(Response::new) })
    }
}

impl ServerStreamingService<pb::FileRequest> for PoolService {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<pb::FileRequest>) -> Self::Future {
        let ledger = self.ledger.clone();
        Box::pin(async move { ledger.file(request).await.map(Response::new) })
    }
}

impl UnaryService<pb::SampleRequest> for PoolService {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<pb::SampleRequest>) -> Self::Future {
        let ledger = self.ledger.clone();
        Box::pin(async move { ledger.sample(request).await.map(Response::new) })
    }
}

fn grpc<C: tonic::codec::Codec<Encode = Bytes>>(codec: C) -> Grpc<C> {
    Grpc::new(codec)
        .max_decoding_message_size(REQUEST_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT_TO_PARTICIPANT)
}
