//! The schema's calls, as the generated server has them but for the codec.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tutti_proto::wire::{
    MESSAGE_LIMIT_TO_COORDINATOR, MESSAGE_LIMIT_TO_PARTICIPANT, PoolInfo, ToWire, pb,
};

use super::codec::Encoded;
use super::ledger::Ledger;
use super::session::Sessions;

/// `tutti.v1.Pool` and `tutti.v1.Ledger`.
#[derive(Clone)]
pub(super) struct PoolService {
    pub(super) sessions: Arc<Sessions>,
    pub(super) info: watch::Receiver<PoolInfo>,
    pub(super) ledger: Arc<Ledger>,
}

impl NamedService for PoolService {
    const NAME: &'static str = pb::pool_server::SERVICE_NAME;
}

impl PoolService {
    /// A stream each way, whose answers need no codec.
    async fn session<B>(self, request: http::Request<B>) -> http::Response<Body>
    where
        B: tonic::codegen::Body + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let request = Request::from_http(request).map(|body| {
            let limit = Some(MESSAGE_LIMIT_TO_COORDINATOR);
            Streaming::new_request(Encoded::<pb::ToCoordinator>::default(), body, None, limit)
        });
        match self.sessions.open(request).await {
            Ok(answers) => answers.into_response(),
            Err(status) => status.into_http(),
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

impl<B> Service<http::Request<B>> for PoolService
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
    B::Data: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        match request.uri().path() {
            "/tutti.v1.Pool/Session" => Box::pin(async move { Ok(service.session(request).await) }),
            "/tutti.v1.Pool/Info" => Box::pin(async move {
                let mut call = grpc(Encoded::<pb::InfoRequest>::default());
                Ok(call.unary(service, request).await)
            }),
            "/tutti.v1.Ledger/Follow" => Box::pin(async move {
                let mut call = grpc(Encoded::<pb::FollowRequest>::default());
                Ok(call.server_streaming(service, request).await)
            }),
            "/tutti.v1.Ledger/Sample" => Box::pin(async move {
                let mut call = grpc(Encoded::<pb::SampleRequest>::default());
                Ok(call.unary(service, request).await)
            }),
            "/tutti.v1.Ledger/File" => Box::pin(async move {
                let mut call = grpc(Encoded::<pb::FileRequest>::default());
                Ok(call.server_streaming(service, request).await)
            }),
            _ => Box::pin(async { Ok(Status::unimplemented("no such call").into_http()) }),
        }
    }
}

fn grpc<C: tonic::codec::Codec<Encode = Bytes>>(codec: C) -> Grpc<C> {
    Grpc::new(codec)
        .max_decoding_message_size(MESSAGE_LIMIT_TO_COORDINATOR)
        .max_encoding_message_size(MESSAGE_LIMIT_TO_PARTICIPANT)
}
