//! What gRPC on loopback alone takes for a round: a process that broadcasts as many bytes as a
//! proposal has, waits for as many from everyone as signatures have, and broadcasts as many as
//! commit and job have. Nothing is computed and nothing but one byte string is encoded.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc as sync;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use prost::Message;
use prost::bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tutti_proto::wire::pb::pool_server::{Pool, PoolServer};
use tutti_proto::wire::pb::{self, to_coordinator, to_participant};
use tutti_proto::wire::{MESSAGE_LIMIT_TO_COORDINATOR, MESSAGE_LIMIT_TO_PARTICIPANT};

use super::link::Link;
use super::traffic::percentile;

/// The argument that makes this program the server.
const SERVER: &str = "--echo-server";
const WITHIN: Duration = Duration::from_secs(60);

/// Message sizes of a round, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// First broadcast.
    pub proposal: usize,
    /// Everyone's answer.
    pub answer: usize,
    /// Second broadcast.
    pub commit: usize,
}

/// If this process is to be the server: serves until it is killed. To be called first in `main`.
pub fn serve_if_asked() -> Result<bool> {
    let mut arguments = std::env::args().skip_while(|argument| argument != SERVER);
    if arguments.next().is_none() {
        return Ok(false);
    }
    let mut number = || -> Result<usize> {
        let argument = arguments
            .next()
            .context("the echo server needs three sizes")?;
        Ok(argument.parse()?)
    };
    let (streams, proposal, commit) = (number()?, number()?, number()?);
    tokio::runtime::Runtime::new()?.block_on(serve(streams, proposal, commit))?;
    Ok(true)
}

async fn serve(streams: usize, proposal: usize, commit: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let (events, received) = mpsc::channel(1_024);
    tokio::spawn(own(received, streams, to_all(proposal), to_all(commit)));
    let service = PoolServer::new(Echo(events))
        .max_decoding_message_size(MESSAGE_LIMIT_TO_COORDINATOR)
        .max_encoding_message_size(MESSAGE_LIMIT_TO_PARTICIPANT);
    // Nagle's delay would be all that is measured.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .serve_with_incoming(service, incoming)
        .await?;
    Ok(())
}

/// A message of about this size that is one byte string.
fn to_all(size: usize) -> pb::ToParticipant {
    let commit = pb::Commit {
        round: vec![7; size].into(),
        ..Default::default()
    };
    pb::ToParticipant {
        message: Some(to_participant::Message::Commit(commit)),
    }
}

fn from_one(size: usize) -> Bytes {
    let complete = pb::TxComplete {
        round: vec![7; size].into(),
    };
    let message = Some(to_coordinator::Message::TxComplete(complete));
    pb::ToCoordinator { message }.encode_to_vec().into()
}

type Outgoing = mpsc::Sender<Result<pb::ToParticipant, Status>>;

enum Event {
    Opened(Outgoing),
    /// Someone asks for a round.
    Start,
    Answer,
}

async fn own(
    mut events: mpsc::Receiver<Event>,
    streams: usize,
    proposal: pb::ToParticipant,
    commit: pb::ToParticipant,
) {
    let (mut peers, mut answers, mut asked) = (Vec::with_capacity(streams), 0, false);
    while let Some(event) = events.recv().await {
        match event {
            Event::Opened(peer) => peers.push(peer),
            Event::Start => asked = true,
            Event::Answer => answers += 1,
        }
        // A stream is open at the other end before it is here.
        let message = if asked && peers.len() == streams {
            asked = false;
            &proposal
        } else if answers == streams {
            answers = 0;
            &commit
        } else {
            continue;
        };
        for peer in &peers {
            // Whoever is gone ends the measurement by its silence.
            let _ = peer.try_send(Ok(message.clone()));
        }
    }
}

struct Echo(mpsc::Sender<Event>);

#[tonic::async_trait]
impl Pool for Echo {
    type SessionStream = ReceiverStream<Result<pb::ToParticipant, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::ToCoordinator>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outgoing, queue) = mpsc::channel(8);
        let events = self.0.clone();
        let ended = |_| Status::unavailable("the owner ended");
        events.send(Event::Opened(outgoing)).await.map_err(ended)?;
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                let start = match message.message {
                    Some(to_coordinator::Message::TxComplete(complete)) => {
                        complete.round.is_empty()
                    }
                    _ => false,
                };
                let event = if start { Event::Start } else { Event::Answer };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(queue)))
    }

    async fn info(&self, _: Request<pb::InfoRequest>) -> Result<Response<pb::InfoReply>, Status> {
        Err(Status::unimplemented("an echo has no info"))
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Median time from the first byte of the first broadcast at anyone to the second at everyone.
pub fn round_trip(streams: usize, sizes: Sizes, rounds: usize) -> Result<Duration> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(SERVER)
        .args([streams, sizes.proposal, sizes.commit].map(|number| number.to_string()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the echo server")?;
    let stdout = child.stdout.take().context("a piped stdout is there")?;
    let _process = Process(child);
    let mut address = String::new();
    BufReader::new(stdout).read_line(&mut address)?;
    let address = address.trim();

    let runtime = tokio::runtime::Runtime::new()?;
    let (report, reports) = sync::channel();
    let (starter, starts) = mpsc::channel(1);
    let mut starts = Some(starts);
    for _ in 0..streams {
        let link = runtime.block_on(Link::open(address))?;
        // The first asks for the rounds.
        runtime.spawn(answer(link, sizes.answer, report.clone(), starts.take()));
    }
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        starter.blocking_send(())?;
        let mut moments = Vec::with_capacity(2 * streams);
        while moments.len() < 2 * streams {
            moments.push(reports.recv_timeout(WITHIN)?);
        }
        let (first, last) = (moments.iter().min(), moments.iter().max());
        let (first, last) = first.zip(last).context("no streams")?;
        times.push(last.duration_since(*first));
    }
    Ok(percentile(times.into_iter(), 0.5))
}

/// One stream's side: answers each first broadcast, and reports when each message came.
async fn answer(
    mut link: Link,
    size: usize,
    report: sync::Sender<Instant>,
    mut starts: Option<mpsc::Receiver<()>>,
) -> Result<()> {
    let (start, answer) = (from_one(0), from_one(size));
    loop {
        if let Some(starts) = &mut starts {
            starts.recv().await.context("measured")?;
            link.send(std::slice::from_ref(&start)).await?;
        }
        link.receive().await?;
        report.send(Instant::now())?;
        link.send(std::slice::from_ref(&answer)).await?;
        link.receive().await?;
        report.send(Instant::now())?;
    }
}
