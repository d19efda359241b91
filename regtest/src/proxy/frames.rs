//! Where HTTP/2 frames begin and end in a stream of bytes (RFC 9113, sections 3.4 and 4.1), so that a
//! cut can be put into the middle of a message and be shown to be there.

/// What a client says before its first frame, in bytes.
const PREFACE: usize = 24;
const HEADER: usize = 9;
const DATA: u8 = 0;

/// A frame of which only a part has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Whether it is a DATA frame: a part of a message.
    pub data: bool,
    /// Bytes of its payload.
    pub length: usize,
    /// How many of them have passed.
    pub passed: usize,
}

/// The place in the stream.
pub(super) struct Frames {
    /// Bytes of the preface that have not passed.
    preface: usize,
    header: Vec<u8>,
    /// The frame whose header has passed and whose payload has not.
    open: Option<Torn>,
}

impl Frames {
    /// The beginning of a stream; a client's begins with the preface.
    pub fn new(of_client: bool) -> Self {
        Self {
            preface: if of_client { PREFACE } else { 0 },
            header: Vec::with_capacity(HEADER),
            open: None,
        }
    }

    /// Follows these bytes. With `tear`, stops as soon as so many bytes of the payload of a longer DATA
    /// frame that begins here have passed, and says after how many of these bytes that is.
    pub fn follow(&mut self, bytes: &[u8], tear: Option<usize>) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.len() - at;
            if self.preface > 0 {
                let skipped = self.preface.min(left);
                self.preface -= skipped;
                at += skipped;
            } else if let Some(open) = &mut self.open {
                let stop = tear.filter(|stop| open.data && *stop < open.length);
                let stop = stop.filter(|stop| *stop >= open.passed);
                let end = stop.unwrap_or(open.length);
                let moved = (end - open.passed).min(left);
                open.passed += moved;
                at += moved;
                if stop == Some(open.passed) {
                    return Some(at);
                }
                if open.passed == open.length {
                    self.open = None;
                }
            } else {
                self.header.push(bytes[at]);
                at += 1;
                self.open_frame();
                // A frame to be torn right after its header.
                if tear == Some(0) && self.open.is_some_and(|open| open.data) {
                    return Some(at);
                }
            }
        }
        None
    }

    fn open_frame(&mut self) {
        if let [high, middle, low, kind, ..] = self.header[..]
            && self.header.len() == HEADER
        {
            let length = u32::from_be_bytes([0, high, middle, low]);
            self.header.clear();
            self.open = Some(Torn {
                data: kind == DATA,
                length: length as usize,
                passed: 0,
            })
            .filter(|frame| frame.length > 0);
        }
    }

    /// The frame that is in the middle; also one whose header is.
    pub fn torn(&self) -> Option<Torn> {
        let header = (!self.header.is_empty()).then_some(Torn {
            data: false,
            length: 0,
            passed: 0,
        });
        self.open.or(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The preface, SETTINGS without a payload, DATA of 5 and of 300 bytes, PING.
    fn stream() -> Vec<u8> {
        let mut bytes = vec![b'p'; PREFACE];
        for (kind, length) in [(4u8, 0usize), (DATA, 5), (DATA, 300), (6, 8)] {
            bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
            bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 1]);
            bytes.extend(std::iter::repeat_n(0xab, length));
        }
        bytes
    }

    /// Feeds the stream in pieces of one size; gives the place of the tear.
    fn tear(piece: usize, payload: usize) -> (Option<usize>, Option<Torn>) {
        let mut frames = Frames::new(true);
        for (number, bytes) in stream().chunks(piece).enumerate() {
            if let Some(end) = frames.follow(bytes, Some(payload)) {
                return (Some(number * piece + end), frames.torn());
            }
        }
        (None, frames.torn())
    }

    #[test]
    fn a_tear_is_at_the_same_byte_however_the_stream_is_read() {
        let first = PREFACE + HEADER + HEADER;
        let second = first + 5 + HEADER;
        for piece in 1..=stream().len() {
            for (payload, at, length) in [
                (0, first, 5),
                (4, first + 4, 5),
                (5, second + 5, 300),
                (299, second + 299, 300),
            ] {
                let torn = Torn {
                    data: true,
                    length,
                    passed: payload,
                };
                assert_eq!(
                    tear(piece, payload),
                    (Some(at), Some(torn)),
                    "{piece} {payload}"
                );
            }
            assert_eq!(tear(piece, 300), (None, None), "no DATA frame is longer");
        }
    }

    #[test]
    fn the_place_in_the_stream_is_known_without_a_tear() {
        let all = stream();
        let mut frames = Frames::new(true);
        assert_eq!(frames.follow(&all[..all.len() - 1], None), None);
        let ping = Torn {
            data: false,
            length: 8,
            passed: 7,
        };
        assert_eq!(frames.torn(), Some(ping));
        frames.follow(&all[all.len() - 1..], None);
        assert_eq!(frames.torn(), None);
    }

    #[test]
    fn a_frame_that_has_begun_when_the_tear_is_asked_for_is_torn_if_the_place_is_ahead() {
        let all = stream();
        let second = PREFACE + HEADER + HEADER + 5 + HEADER;
        let mut frames = Frames::new(true);
        frames.follow(&all[..second + 100], None);
        assert_eq!(frames.follow(&all[second + 100..], Some(99)), None);
        let mut frames = Frames::new(true);
        frames.follow(&all[..second + 100], None);
        assert_eq!(frames.follow(&all[second + 100..], Some(120)), Some(20));
    }
}
