//! `tutti.v1.Ledger`: the ledger's public side.

use std::net::SocketAddr;
use std::sync::Arc;

use prost::bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};
use tutti_proto::id::WindowSeq;
use tutti_proto::wire::pb;

use super::Hangup;
use super::file::Download;
use super::follow::Follow;
use super::places::{Places, Residents};
use super::sample::Sampler;
use crate::feed::Watched;
use crate::segments::{Directory, Index, Library, Name, Unserved};

/// How many may read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerLimits {
    /// Followers.
    pub followers: usize,
    /// Of them, from one address.
    pub followers_per_address: usize,
    /// Downloads of files.
    pub downloads: usize,
    /// Of them, from one address.
    pub downloads_per_address: usize,
    /// Samples being made.
    pub samples: usize,
    /// Of them, from one address.
    pub samples_per_address: usize,
}

/// What the service reads.
pub struct LedgerSide {
    /// The open window.
    pub watched: Watched,
    /// What is in the directory.
    pub index: watch::Receiver<Index>,
    /// Closed windows.
    pub directory: Directory,
    /// How many may read.
    pub limits: LedgerLimits,
}

pub(super) struct Ledger {
    watched: Watched,
    index: watch::Receiver<Index>,
    library: Library,
    residents: Arc<Residents>,
    followers: Arc<Places>,
    downloads: Arc<Places>,
    samples: Arc<Places>,
    sampler: Sampler,
    stop: watch::Receiver<bool>,
}

pub(super) type Answers = ReceiverStream<Result<Bytes, Status>>;

impl Ledger {
    /// `stop` changes when the daemon stops.
    pub(super) fn new(
        side: LedgerSide,
        residents: Arc<Residents>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let LedgerSide {
            watched,
            index,
            directory,
            limits,
        } = side;
        let places = (limits.followers, limits.followers_per_address);
        let followers = Places::new("follow", places.0, places.1);
        let places = (limits.downloads, limits.downloads_per_address);
        let downloads = Places::new("download", places.0, places.1);
        let places = (limits.samples, limits.samples_per_address);
        let samples = Places::new("wait for a sample", places.0, places.1);
        let library = Library::new(directory.clone());
        Self {
            watched,
            sampler: Sampler::start(directory, library.clone(), index.clone()),
            index,
            library,
            residents,
            followers,
            downloads,
            samples,
            stop,
        }
    }

    pub(super) fn follow(&self, request: Request<pb::FollowRequest>) -> Result<Answers, Status> {
        let at = address(&request);
        let place = self.followers.take(at, self.residents.has(at))?;
        let pb::FollowRequest { window, shares } = request.into_inner();
        let open = self.watched.live.borrow().open();
        if WindowSeq(window) > open {
            let detail = format!("window {window} is not open yet, window {open} is");
            return Err(Status::out_of_range(detail));
        }
        // One message waits here, one with HTTP/2, and one with whoever reads ahead: no more.
        let (out, answers) = mpsc::channel(1);
        let follow = Follow {
            watched: self.watched.clone(),
            index: self.index.clone(),
            library: self.library.clone(),
            out,
            stop: self.stop.clone(),
            _place: place,
        };
        tokio::spawn(follow.run(WindowSeq(window), shares));
        Ok(ReceiverStream::new(answers))
    }

    pub(super) async fn file(&self, request: Request<pb::FileRequest>) -> Result<Answers, Status> {
        let at = address(&request);
        let place = self.downloads.take(at, self.residents.has(at))?;
        let (name, id) = self.wanted(request.into_inner())?;
        let library = self.library.clone();
        // Who goes away meanwhile keeps its place until the file is read.
        let opened = spawn_blocking(move || (library.open(&name, &id), place)).await;
        let (file, place) =
            opened.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
        let file = file.map_err(|why| match why {
            Unserved::Gone(why) => Status::not_found(why.to_string()),
            Unserved::Damaged => Status::data_loss(why.to_string()),
        })?;
        let (out, answers) = mpsc::channel(1);
        tokio::spawn(Download::new(file, id, out, place).run());
        Ok(ReceiverStream::new(answers))
    }

    fn wanted(
        &self,
        request: pb::FileRequest,
    ) -> Result<(Name, tutti_proto::segment::FileId), Status> {
        use pb::file_request::File;
        let malformed = |what: &str| Status::invalid_argument(format!("malformed: {what}"));
        let index = self.index.borrow();
        let (name, id) = match request.file {
            Some(File::Window(window)) => {
                let name = Name::Window(WindowSeq(window));
                (Some(name), index.file(&name))
            }
            Some(File::Cid(cid)) => {
                let id = cid.parse();
                let id = id.map_err(|_| malformed("cid is no CID of a file"))?;
                (index.name(&id), Some(id))
            }
            Some(File::Block(hash)) => {
                let hash = <[u8; 32]>::try_from(hash.as_ref());
                let name = Name::Block(hash.map_err(|_| malformed("block is no hash"))?);
                (Some(name), index.file(&name))
            }
            None => return Err(malformed("no file is named")),
        };
        let found = name.zip(id);
        found.ok_or_else(|| match (name, index.windows().next()) {
            (Some(Name::Window(window)), Some(first)) if window < first => Status::not_found(
                format!("it is not kept here any more: the first that is kept is {first}"),
            ),
            _ => Status::not_found("no such file is kept here"),
        })
    }

    pub(super) async fn sample(
        &self,
        request: Request<pb::SampleRequest>,
    ) -> Result<Bytes, Status> {
        let at = address(&request);
        let place = self.samples.take(at, self.residents.has(at))?;
        self.sampler.sample(request.into_inner(), place).await
    }
}

fn address<T>(request: &Request<T>) -> Option<SocketAddr> {
    request.extensions().get::<Hangup>().map(Hangup::address)
}
