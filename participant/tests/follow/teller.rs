//! A coordinator that tells what a script says, and a check of it.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use tutti_participant::follow::{self, Follower, Keep, Mode, Report, Start};
use tutti_participant::segments::FileName;
use tutti_proto::deadline::Millis;
use tutti_proto::participant::{self, LedgerFault};
use tutti_proto::segment::{FileId, Segment, WindowPart};
use tutti_proto::window::LedgerHead;
use tutti_proto::wire::ToWire;
use tutti_proto::wire::pb::ledger_server::{self, LedgerServer};
use tutti_proto::wire::pb::{self, followed::Followed};
use tutti_tests::sim::{Archive, World, WorldOptions};

pub const BLOCK: u8 = 12;
pub const DEADLINE: Duration = Duration::from_secs(60);

pub type Told = Vec<Result<pb::Followed, Status>>;
pub type Script = Box<dyn Fn(u64, u64) -> Told + Send + Sync>;

/// A coordinator that tells what its script says for a window and a number of shares, and then nothing.
pub struct Teller {
    script: Script,
    asked: mpsc::UnboundedSender<(u64, u64)>,
}

pub type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ledger_server::Ledger for Teller {
    type FollowStream = Stream_<pb::Followed>;
    type FileStream = Stream_<pb::FileChunk>;

    async fn follow(
        &self,
        request: Request<pb::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let pb::FollowRequest { window, shares } = request.into_inner();
        let told = (self.script)(window, shares);
        self.asked.send((window, shares)).expect("the test listens");
        let stream = tokio_stream::iter(told).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn sample(
        &self,
        _: Request<pb::SampleRequest>,
    ) -> Result<Response<pb::SampleReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn file(
        &self,
        _: Request<pb::FileRequest>,
    ) -> Result<Response<Self::FileStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A check of what a script tells.
pub struct Check {
    pub follower: Follower,
    reports: mpsc::Receiver<(tutti_proto::params::PoolName, Report)>,
    asked: mpsc::UnboundedReceiver<(u64, u64)>,
}

impl Check {
    pub async fn start(archive: &Archive, dir: &Path, signers_min: u16, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let (tell, asked) = mpsc::unbounded_channel();
        let teller = Teller {
            script,
            asked: tell,
        };
        let server = tonic::transport::Server::builder()
            .add_service(LedgerServer::new(teller).max_encoding_message_size(64 << 20));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let (tell, reports) = follow::reports();
        let start = Start {
            file: dir.join(follow::CHECKED),
            spacing: Duration::ZERO,
            signers_min,
        };
        let keep = Keep {
            directory: dir.join("segments"),
            windows: 1_000,
        };
        let pool = archive.params.name();
        let follower = Follower::start(Mode::Full, &address, pool, (start, Some(keep)), tell);
        Self {
            follower: follower.expect("everything is checked"),
            reports,
            asked,
        }
    }

    /// The next report, but for heads as they are told.
    pub async fn report(&mut self) -> Report {
        loop {
            let report = tokio::time::timeout(DEADLINE, self.reports.recv()).await;
            match report.expect("in time").expect("a report").1 {
                Report::Told(_) => {}
                report => return report,
            }
        }
    }

    pub async fn asked(&mut self) -> (u64, u64) {
        let asked = tokio::time::timeout(DEADLINE, self.asked.recv()).await;
        asked.expect("in time").expect("a request")
    }

    /// These windows are checked, and kept under the names of their bytes.
    pub async fn checks(&mut self, segments: &[Segment]) {
        for segment in segments {
            let record = &segment.end.record;
            match self.report().await {
                Report::Checked { head, shares } => {
                    assert_eq!((head, shares), (segment.end.head.head, record.shares));
                }
                other => panic!("{other:?}"),
            }
            match self.report().await {
                Report::Kept { window, file } => {
                    let name = FileName::Segment(record.seq, FileId::of(&segment.encode()));
                    // The name or, of a kept file, its CID.
                    assert_eq!(window, record.seq.0);
                    assert!(name.to_string().contains(&file), "{file} is not {name}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn begins(&mut self) -> LedgerHead {
        match self.report().await {
            Report::Begins { head } => head,
            other => panic!("{other:?}"),
        }
    }

    pub async fn skipped(&mut self) -> (u64, u64) {
        match self.report().await {
            Report::Skipped { first, last } => (first, last),
            other => panic!("{other:?}"),
        }
    }

    pub async fn trouble(&mut self) -> String {
        match self.report().await {
            Report::Trouble { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    /// What is found false, after windows that were true.
    pub async fn fault(&mut self) -> (u64, LedgerFault) {
        let mut checked = 0;
        loop {
            match self.report().await {
                Report::Checked { .. } => checked += 1,
                Report::Kept { .. } | Report::Begins { .. } => {}
                Report::False(fault) => return (checked, fault),
                other => panic!("{other:?}"),
            }
        }
    }
}

pub fn round(world: &mut World) {
    let before = world.coordinator.ledger().seq();
    world.new_tip();
    world.run_until(Millis(1_000), "a round on the new tip", |world| {
        world.coordinator.ledger().seq() > before && world.all_hash_last_round()
    });
    world.settle();
}

/// A pool of four, which hash the first round.
fn started(options: WorldOptions) -> World {
    let mut world = World::new(WorldOptions {
        // A block pays 9,536 sat and fees: parts fall below dust limits.
        height: 150 * 19 + 10,
        ..options
    });
    for miner in 0..4 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(Millis(1_000), "the first round", World::all_hash_last_round);
    world
}

/// A pool of which the work since the last tip alone counts, and that has seen some more.
pub fn shallow_pool() -> (World, Archive) {
    let mut world = started(WorldOptions {
        block_zero_bits: 6,
        pplns_depth: 1,
        ..WorldOptions::default()
    });
    for _ in 0..6 {
        // 8 hashes each, and 64 count.
        for miner in [0, 1, 2, 3, 0, 1, 2, 3, 0] {
            world.share(miner);
            world.settle();
        }
        round(&mut world);
    }
    let archive = Archive::of(&world).expect("segments");
    (world, archive)
}

/// A pool that finds a block and books it.
pub fn pool() -> (World, Archive) {
    let mut world = started(WorldOptions {
        block_zero_bits: BLOCK,
        ..WorldOptions::default()
    });
    for miner in [0, 0, 0, 1, 0, 2, 0, 1, 3, 0, 0, 1] {
        world.share(miner);
        world.settle();
    }
    round(&mut world);
    let found = world.miners[0].hash_until(BLOCK).expect("a job");
    world.tell_miner(0, participant::Input::ShareFound(found));
    world.settle();
    for _ in 0..3 {
        round(&mut world);
        for _ in 0..5 {
            world.share(1);
            world.settle();
        }
    }
    round(&mut world);
    let archive = Archive::of(&world).expect("segments");
    assert!(archive.segments.iter().any(is_booking));
    (world, archive)
}

pub fn is_booking(segment: &Segment) -> bool {
    !segment.end.record.bookings.is_empty()
}

pub fn message(followed: Followed) -> Result<pb::Followed, Status> {
    Ok(pb::Followed {
        followed: Some(followed),
    })
}

pub fn part(part: &WindowPart) -> Result<pb::Followed, Status> {
    message(Followed::Part(part.to_wire()))
}

pub fn windows(segments: &[Segment]) -> Told {
    let mut told = Vec::new();
    for segment in segments {
        told.extend(segment.parts.iter().map(part));
        told.push(message(Followed::End(segment.end.to_wire())));
    }
    told
}

pub fn broken() -> Result<pb::Followed, Status> {
    Err(Status::unavailable("the network"))
}

pub fn busy(archive: &Archive) -> usize {
    let is_busy = |segment: &Segment| segment.end.record.shares >= 5;
    let place = archive.segments.iter().position(is_busy);
    place.expect("a window with shares")
}
