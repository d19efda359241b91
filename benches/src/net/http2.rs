//! As much of HTTP/2 (RFC 9113) as one gRPC call over a connection of its own needs. The generator
//! shares the cores with what it measures: a client that can do more takes as much of them as the
//! coordinator.

use anyhow::{Context, Result, bail, ensure};
use prost::bytes::{Buf, BufMut, BytesMut};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// The only stream that we open.
const STREAM: u32 = 1;
/// What each side has before it says otherwise, bytes.
const DEFAULT_WINDOW: i64 = 65_535;
const DEFAULT_FRAME: usize = 16_384;
/// What the coordinator may send before we say that we have read it, bytes: of one participant nobody
/// waits for another's reading.
const OUR_WINDOW: u32 = 64 << 20;
/// After so much of it we say so.
const SAID_AFTER: u32 = OUR_WINDOW / 2;

/// Kinds of frames.
mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
}

/// Of a DATA or HEADERS frame.
const END_STREAM: u8 = 0x1;
/// Of a SETTINGS or PING frame.
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

const SETTING_PUSH: u16 = 2;
const SETTING_WINDOW: u16 = 4;
const SETTING_FRAME: u16 = 5;

/// The client's side of a connection: bytes in, bytes out.
pub(super) struct Connection {
    /// What is to be written.
    pub(super) outgoing: BytesMut,
    /// What of the call's answer was read.
    pub(super) body: BytesMut,
    /// What we may send on the connection, and on the stream.
    windows: [i64; 2],
    /// The part of the stream's window that a stream begins with.
    initial: i64,
    frame_limit: usize,
    /// Read since we said so.
    read: u32,
}

impl Connection {
    /// Opens a connection with one streaming call on it.
    pub(super) fn new(authority: &str, path: &str) -> Result<Self> {
        let mut outgoing = BytesMut::from(PREFACE);
        let mut settings = Vec::new();
        for (setting, value) in [(SETTING_PUSH, 0), (SETTING_WINDOW, OUR_WINDOW)] {
            settings.put_u16(setting);
            settings.put_u32(value);
        }
        put_frame(&mut outgoing, kind::SETTINGS, 0, 0, &settings);
        put_window_update(&mut outgoing, 0, OUR_WINDOW - DEFAULT_WINDOW as u32);
        let headers = request_headers(authority, path)?;
        put_frame(&mut outgoing, kind::HEADERS, END_HEADERS, STREAM, &headers);
        Ok(Self {
            outgoing,
            body: BytesMut::new(),
            windows: [DEFAULT_WINDOW; 2],
            initial: DEFAULT_WINDOW,
            frame_limit: DEFAULT_FRAME,
            read: 0,
        })
    }

    /// Bytes of the call that may be sent now.
    pub(super) fn room(&self) -> usize {
        let least = self.windows[0].min(self.windows[1]);
        usize::try_from(least).unwrap_or_default()
    }

    /// Adds bytes of the call, as many as there is room for.
    pub(super) fn send(&mut self, bytes: &mut impl Buf) {
        while bytes.has_remaining() && self.room() > 0 {
            let part = bytes.remaining().min(self.room()).min(self.frame_limit);
            put_head(&mut self.outgoing, part, kind::DATA, 0, STREAM);
            self.outgoing.put(bytes.take(part));
            for window in &mut self.windows {
                *window -= part as i64;
            }
        }
    }

    /// Takes what was read from the socket, as far as it is whole frames.
    pub(super) fn receive(&mut self, input: &mut BytesMut) -> Result<()> {
        while let Some((head, _)) = input.split_first_chunk::<FRAME_HEADER>() {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            ensure!(length <= DEFAULT_FRAME, "a frame of {length} bytes");
            let whole = FRAME_HEADER + length;
            if input.len() < whole {
                input.reserve(whole - input.len());
                return Ok(());
            }
            let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
            self.frame(kind, flags, stream, &input[FRAME_HEADER..whole])?;
            input.advance(whole);
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        match kind {
            kind::DATA => {
                ensure!(flags & PADDED == 0, "a padded frame");
                self.body.extend_from_slice(payload);
                self.note_read(u32::try_from(payload.len())?);
                ensure!(flags & END_STREAM == 0, "the session ended");
            }
            // The answer's, of which we need nothing; or the last, with the reason.
            kind::HEADERS => ensure!(
                flags & END_STREAM == 0,
                "the session ended; the coordinator's log says why"
            ),
            kind::RST_STREAM => bail!("the session was reset: {payload:?}"),
            kind::GOAWAY => bail!("the connection ends: {payload:?}"),
            kind::SETTINGS if flags & ACK == 0 => self.settings(payload)?,
            kind::PING if flags & ACK == 0 => {
                put_frame(&mut self.outgoing, kind::PING, ACK, 0, payload);
            }
            kind::WINDOW_UPDATE => {
                let more = payload.try_into().context("a window of four bytes")?;
                let more = u32::from_be_bytes(more) & 0x7fff_ffff;
                self.windows[usize::from(stream != 0)] += i64::from(more);
            }
            _ => {}
        }
        Ok(())
    }

    fn note_read(&mut self, bytes: u32) {
        self.read += bytes;
        if self.read >= SAID_AFTER {
            for stream in [0, STREAM] {
                put_window_update(&mut self.outgoing, stream, self.read);
            }
            self.read = 0;
        }
    }

    fn settings(&mut self, mut payload: &[u8]) -> Result<()> {
        while payload.has_remaining() {
            let setting = payload.try_get_u16()?;
            let value = payload.try_get_u32()?;
            match setting {
                SETTING_WINDOW => {
                    self.windows[1] += i64::from(value) - self.initial;
                    self.initial = i64::from(value);
                }
                SETTING_FRAME => self.frame_limit = usize::try_from(value)?,
                _ => {}
            }
        }
        put_frame(&mut self.outgoing, kind::SETTINGS, ACK, 0, &[]);
        Ok(())
    }
}

/// By HPACK's static table (RFC 7541, appendix A), and nothing that it would have to remember.
fn request_headers(authority: &str, path: &str) -> Result<Vec<u8>> {
    const POST: u8 = 0x83;
    const HTTP: u8 = 0x86;
    const AUTHORITY: [u8; 1] = [1];
    const PATH: [u8; 1] = [4];
    const CONTENT_TYPE: [u8; 2] = [15, 31 - 15];
    const NAMED: [u8; 1] = [0];
    let mut block = vec![POST, HTTP];
    let mut put = |name: &[u8], values: &[&str]| -> Result<()> {
        block.extend_from_slice(name);
        for value in values {
            let length = u8::try_from(value.len()).ok().filter(|len| *len < 127);
            block.push(length.context("a header is too long")?);
            block.extend_from_slice(value.as_bytes());
        }
        Ok(())
    };
    put(&AUTHORITY, &[authority])?;
    put(&PATH, &[path])?;
    put(&CONTENT_TYPE, &["application/grpc"])?;
    put(&NAMED, &["te", "trailers"])?;
    Ok(block)
}

fn put_head(out: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    out.put_uint(length as u64, 3);
    out.put_slice(&[kind, flags]);
    out.put_u32(stream);
}

fn put_frame(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_head(out, payload.len(), kind, flags, stream);
    out.put_slice(payload);
}

fn put_window_update(out: &mut BytesMut, stream: u32, more: u32) {
    put_frame(out, kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let mut connection = Connection::new("host:1", "/a/B").unwrap();
        connection.outgoing.clear();
        connection
    }

    #[test]
    fn what_exceeds_the_window_waits_for_it() {
        let mut connection = connection();
        let mut bytes = &[7; 100_000][..];
        connection.send(&mut bytes);
        let sent = 65_535;
        assert_eq!(bytes.len(), 100_000 - sent);
        assert_eq!(connection.outgoing.len(), sent + 4 * FRAME_HEADER);
        let mut input = BytesMut::new();
        put_window_update(&mut input, 0, 1 << 20);
        put_frame(&mut input, kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 9]);
        let mut last = input.split_off(input.len() - 1);
        connection.receive(&mut input).unwrap();
        assert_eq!(connection.room(), 0, "the second frame is not whole");
        input.unsplit(last.split());
        connection.receive(&mut input).unwrap();
        assert_eq!(connection.room(), 10);
    }

    #[test]
    fn the_end_of_the_call_is_an_error() {
        let mut input = BytesMut::new();
        put_frame(&mut input, kind::HEADERS, END_HEADERS, STREAM, b"any");
        put_frame(&mut input, kind::DATA, 0, STREAM, b"said");
        put_frame(&mut input, kind::PING, 0, 0, &[1; 8]);
        let mut connection = connection();
        connection.receive(&mut input).unwrap();
        assert_eq!(&connection.body[..], b"said");
        assert_eq!(connection.outgoing.len(), FRAME_HEADER + 8, "an answer");
        put_frame(&mut input, kind::HEADERS, END_STREAM, STREAM, b"any");
        assert!(connection.receive(&mut input).is_err());
    }
}
