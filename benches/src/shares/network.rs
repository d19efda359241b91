//! What no share intake over connections can do without: beside hash and disk, a message to the kernel and
//! one out of it on each side. Plain TCP on loopback, one thread a side, no protocol on it.

use std::fs::File;
use std::hint::black_box;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tutti_proto::share::SHARE_RECORD_SIZE;
use tutti_proto::work::header_hash;

use super::turns::Turns;

/// Connections that are looked at together.
const EVENTS: usize = 1_024;
/// What waits for more to share a flush with waits no longer, ms.
const IDLE_MS: u16 = 1;
/// Nothing that is waited for takes as long.
const WITHIN: Duration = Duration::from_secs(60);

/// What goes through.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Connections, each with its own participant.
    pub connections: usize,
    /// Shares in all.
    pub shares: u64,
    /// Flushes in all.
    pub flushes: u64,
    /// Unanswered shares of all connections.
    pub unanswered: usize,
    /// Of a share on the connection, bytes.
    pub share_bytes: usize,
    /// Of its answer, bytes.
    pub answer_bytes: usize,
}

/// Time that it takes: sent, read, hashed, appended and flushed in a file of this directory, answered, and
/// the answer read.
pub fn send_hash_append_and_answer(directory: &Path, traffic: Traffic) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let path = directory.join("network-limit");
    let file = File::create(&path)?;
    let server = thread::spawn(move || serve(&listener, file, traffic));
    let streams: Vec<TcpStream> = (0..traffic.connections)
        .map(|_| TcpStream::connect(address))
        .collect::<Result<_, _>>()?;
    let took = play(Sockets::new(streams)?, traffic);
    let served = server.join().map_err(|_| anyhow!("the server panicked"))?;
    std::fs::remove_file(path)?;
    served?;
    took
}

/// Connections of one side, and what is ready on them.
struct Sockets {
    streams: Vec<TcpStream>,
    /// Bytes of each that are part of a message.
    parts: Vec<usize>,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
}

impl Sockets {
    fn new(streams: Vec<TcpStream>) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (number, stream) in streams.iter().enumerate() {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
            epoll.add(stream, event)?;
        }
        Ok(Self {
            parts: vec![0; streams.len()],
            streams,
            epoll,
            events: vec![EpollEvent::empty(); EVENTS],
            buffer: vec![0; 64 << 10],
        })
    }

    /// How many are ready; none if nothing came in time.
    fn wait(&mut self, timeout: EpollTimeout) -> Result<usize> {
        Ok(self.epoll.wait(&mut self.events, timeout)?)
    }

    /// The connection of such an event, and how many messages of a size are whole on it.
    fn read(&mut self, event: usize, size: usize) -> Result<(usize, usize)> {
        let number = usize::try_from(self.events[event].data())?;
        let read = match self.streams[number].read(&mut self.buffer) {
            Ok(0) => return Err(anyhow!("a connection ended")),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        let bytes = self.parts[number] + read;
        self.parts[number] = bytes % size;
        Ok((number, bytes / size))
    }

    /// Writes so many messages of a size together. They are few and small: there is room for them.
    fn write(&mut self, number: usize, messages: usize, size: usize) -> Result<()> {
        let bytes = vec![7; messages * size];
        self.streams[number].write_all(&bytes)?;
        Ok(())
    }
}

/// Gives its side of the connections, to be closed when the other side has read all.
fn serve(listener: &TcpListener, mut file: File, traffic: Traffic) -> Result<Sockets> {
    let accepted = (0..traffic.connections).map(|_| listener.accept());
    let streams = accepted.map(|accepted| accepted.map(|(stream, _)| stream));
    let mut sockets = Sockets::new(streams.collect::<Result<_, _>>()?)?;
    let of_flush = traffic.shares.div_ceil(traffic.flushes.max(1));
    let (mut header, mut batch) = ([7u8; 80], Vec::new());
    let (mut done, mut waiting) = (0, 0u64);
    let mut answers: Vec<(usize, usize)> = Vec::new();
    while done < traffic.shares {
        let timeout = if waiting == 0 {
            EpollTimeout::try_from(WITHIN)?
        } else {
            IDLE_MS.into()
        };
        let ready = sockets.wait(timeout)?;
        ensure!(ready > 0 || waiting > 0, "no share came within {WITHIN:?}");
        for event in 0..ready {
            let (number, shares) = sockets.read(event, traffic.share_bytes)?;
            for _ in 0..shares {
                header[72..].copy_from_slice(&(done + waiting).to_le_bytes());
                black_box(header_hash(black_box(&header)));
                batch.extend_from_slice(&header);
                batch.extend_from_slice(&[0; SHARE_RECORD_SIZE - 80]);
                waiting += 1;
            }
            answers.push((number, shares));
            if waiting >= of_flush || done + waiting == traffic.shares {
                answer(&mut sockets, &mut file, &mut batch, &mut answers, traffic)?;
                done += std::mem::take(&mut waiting);
            }
        }
        if ready == 0 {
            answer(&mut sockets, &mut file, &mut batch, &mut answers, traffic)?;
            done += std::mem::take(&mut waiting);
        }
    }
    Ok(sockets)
}

/// Makes what was hashed durable, and answers it.
fn answer(
    sockets: &mut Sockets,
    file: &mut File,
    batch: &mut Vec<u8>,
    answers: &mut Vec<(usize, usize)>,
    traffic: Traffic,
) -> Result<()> {
    file.write_all(batch)?;
    file.sync_data()?;
    batch.clear();
    for (number, shares) in answers.drain(..) {
        if shares > 0 {
            sockets.write(number, shares, traffic.answer_bytes)?;
        }
    }
    Ok(())
}

/// The participants: any of those who may sends next, and what one may send at once is one write.
fn play(mut sockets: Sockets, traffic: Traffic) -> Result<Duration> {
    let each = (traffic.unanswered / traffic.connections).max(1);
    let mut turns = Turns::of(0..traffic.connections);
    let mut unanswered = vec![0; traffic.connections];
    let (mut sent, mut answered) = (0, 0);
    let mut free = traffic.unanswered;
    let began = Instant::now();
    while answered < traffic.shares {
        while free > 0 && sent < traffic.shares {
            let Some(number) = turns.draw() else {
                break;
            };
            let left = usize::try_from(traffic.shares - sent)?;
            let now = (each - unanswered[number]).min(free).min(left);
            sockets.write(number, now, traffic.share_bytes)?;
            unanswered[number] += now;
            (sent, free) = (sent + now as u64, free - now);
            if unanswered[number] < each {
                turns.add(number);
            }
        }
        let ready = sockets.wait(EpollTimeout::try_from(WITHIN)?)?;
        ensure!(ready > 0, "no answer came within {WITHIN:?}");
        for event in 0..ready {
            let (number, answers) = sockets.read(event, traffic.answer_bytes)?;
            if answers > 0 && unanswered[number] == each {
                turns.add(number);
            }
            unanswered[number] -= answers;
            (answered, free) = (answered + answers as u64, free + answers);
        }
    }
    Ok(began.elapsed())
}
