//! Frames of the protocol: the valid messages of a client and their length limits.
//!
//! A frame is a type byte, a length that includes itself, and a body. A violation ends the connection, as the
//! start of the next message is then unknown. A body is never read past its end, and a body for which there
//! is no memory is skipped as it arrives.

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::intake::Intake;

pub const BIND: u8 = b'B';
pub const CLOSE: u8 = b'C';
pub const COPY_DATA: u8 = b'd';
pub const COPY_DONE: u8 = b'c';
pub const COPY_FAIL: u8 = b'f';
pub const DESCRIBE: u8 = b'D';
pub const EXECUTE: u8 = b'E';
pub const FLUSH: u8 = b'H';
pub const FUNCTION_CALL: u8 = b'F';
pub const PARSE: u8 = b'P';
pub const QUERY: u8 = b'Q';
pub const SYNC: u8 = b'S';
pub const TERMINATE: u8 = b'X';

/// Longest body of messages that contain at most a name, as in PostgreSQL.
const SMALL_BYTES_MAX: usize = 10_000;
/// Longest body of messages that contain data, as in PostgreSQL.
const LARGE_BYTES_MAX: usize = 0x3fff_fffe;
/// Longest query text. A longer one is an error (54000), after which the connection continues.
pub const STATEMENT_BYTES_MAX: usize = 256 << 20;
/// Type byte and length.
const HEADER_BYTES: usize = 5;
/// Size of the length field, which is included in the length.
const LENGTH_BYTES: usize = 4;

/// A whole message, or a part of a `CopyData`, which is passed on in parts as it arrives.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub body: Bytes,
    /// Reserved memory of a long body, released with the frame.
    _room: Option<OwnedSemaphorePermit>,
}

impl Frame {
    pub fn new(kind: u8, body: Bytes) -> Self {
        Self { kind, body, _room: None }
    }
}

/// Input from a client.
#[derive(Debug)]
pub enum Received {
    Frame(Frame),
    /// A message whose body was skipped.
    Skipped {
        kind: u8,
        reason: SkipReason,
    },
}

/// Why a body was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Longer than the limit for query texts.
    TooLong { length: usize },
    /// The memory for messages is used up by other connections.
    NoRoom { length: usize },
}

/// Input that is not a valid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("invalid frontend message type {0}")]
    Kind(u8),
    #[error("invalid message length")]
    Length,
}

/// A frame whose header was read.
#[derive(Debug)]
enum Begun {
    Kept { kind: u8, length: usize, room: Option<OwnedSemaphorePermit> },
    Copied { left: usize },
    Skipped { kind: u8, reason: SkipReason, left: usize },
}

/// Cuts the input from a client into frames.
#[derive(Debug)]
pub struct Framer {
    pub buffer: BytesMut,
    begun: Option<Begun>,
    intake: Intake,
}

impl Framer {
    pub fn new(intake: Intake) -> Self {
        Self { buffer: BytesMut::new(), begun: None, intake }
    }

    /// Returns the next frame, or `None` if more input is needed.
    pub fn next_frame(&mut self) -> Result<Option<Received>, Violation> {
        if self.begun.is_none() {
            let Some((kind, length)) = header(&self.buffer)? else { return Ok(None) };
            self.buffer.advance(HEADER_BYTES);
            self.begun = Some(self.begin(kind, length));
        }
        Ok(self.go_on())
    }

    fn begin(&self, kind: u8, length: usize) -> Begun {
        let skipped = |reason| Begun::Skipped { kind, reason, left: length };
        match kind {
            COPY_DATA => Begun::Copied { left: length },
            QUERY | PARSE if length > STATEMENT_BYTES_MAX => {
                skipped(SkipReason::TooLong { length })
            }
            _ => match self.intake.reserve(length) {
                Ok(room) => Begun::Kept { kind, length, room },
                Err(_) => skipped(SkipReason::NoRoom { length }),
            },
        }
    }

    fn go_on(&mut self) -> Option<Received> {
        let received = match self.begun.as_mut()? {
            Begun::Kept { kind, length, room } => {
                let body = (self.buffer.len() >= *length).then(|| self.buffer.split_to(*length))?;
                Received::Frame(Frame { kind: *kind, body: body.freeze(), _room: room.take() })
            }
            Begun::Copied { left } => {
                let piece = self.buffer.split_to(self.buffer.len().min(*left));
                *left -= piece.len();
                let (ended, nothing) = (*left == 0, piece.is_empty());
                if ended {
                    self.begun = None;
                }
                return (ended || !nothing)
                    .then(|| Received::Frame(Frame::new(COPY_DATA, piece.freeze())));
            }
            Begun::Skipped { kind, reason, left } => {
                let skipped = self.buffer.len().min(*left);
                self.buffer.advance(skipped);
                *left -= skipped;
                (*left == 0).then_some(Received::Skipped { kind: *kind, reason: *reason })?
            }
        };
        self.begun = None;
        Some(received)
    }
}

/// Returns the type and the body length. An unknown type is detected by its first byte.
fn header(buffer: &[u8]) -> Result<Option<(u8, usize)>, Violation> {
    let Some(kind) = buffer.first() else { return Ok(None) };
    let length_max = length_max(*kind).ok_or(Violation::Kind(*kind))?;
    let Some(length) = buffer[1..].first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*length)).ok();
    let length = length.and_then(|length| length.checked_sub(LENGTH_BYTES));
    let length = length.filter(|length| *length <= length_max).ok_or(Violation::Length)?;
    Ok(Some((*kind, length)))
}

/// Maximum body length of a message; `None` for an unknown type.
fn length_max(kind: u8) -> Option<usize> {
    match kind {
        BIND | COPY_DATA | FUNCTION_CALL | PARSE | QUERY => Some(LARGE_BYTES_MAX),
        CLOSE | COPY_DONE | COPY_FAIL | DESCRIBE | EXECUTE | FLUSH | SYNC | TERMINATE => {
            Some(SMALL_BYTES_MAX)
        }
        _ => None,
    }
}

/// Whether, after an error in response to it, messages are skipped up to the next `Sync`.
pub fn is_extended(kind: u8) -> bool {
    matches!(kind, BIND | CLOSE | DESCRIBE | EXECUTE | FLUSH | PARSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framer(bytes: &[u8]) -> Framer {
        let mut framer = Framer::new(Intake::new(1 << 20));
        framer.buffer.extend_from_slice(bytes);
        framer
    }

    fn message(kind: u8, length: i32, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn lengths_that_cannot_be_end_the_connection() {
        for length in [i32::MIN, -1, 0, 3, i32::MAX] {
            let cut = framer(&message(QUERY, length, b"")).next_frame();
            assert_eq!(cut.unwrap_err(), Violation::Length, "{length}");
        }
        let cut = framer(&message(SYNC, 10_005, b"")).next_frame();
        assert_eq!(cut.unwrap_err(), Violation::Length, "a long Sync");
        for kind in [0, b'p', b'Z', b'q', 0xff] {
            assert_eq!(framer(&[kind]).next_frame().unwrap_err(), Violation::Kind(kind));
        }
    }

    #[test]
    fn a_body_ends_where_its_length_says() {
        let bytes = [message(QUERY, 8, b"abc\0"), message(SYNC, 4, b"")].concat();
        let mut framer = framer(&[]);
        let mut kinds = vec![];
        for byte in bytes {
            framer.buffer.extend_from_slice(&[byte]);
            if let Some(Received::Frame(frame)) = framer.next_frame().unwrap() {
                kinds.push((frame.kind, frame.body.to_vec()));
            }
        }
        assert_eq!(kinds, [(QUERY, b"abc\0".to_vec()), (SYNC, vec![])]);
    }

    #[test]
    fn copied_bytes_are_handed_on_as_they_come() {
        let mut framer = framer(&message(COPY_DATA, 0x2000_0000, b"begin"));
        let Some(Received::Frame(piece)) = framer.next_frame().unwrap() else { panic!("no piece") };
        assert_eq!((piece.kind, &piece.body[..]), (COPY_DATA, &b"begin"[..]));
        assert!(framer.next_frame().unwrap().is_none());
        framer.buffer.extend_from_slice(b"more");
        assert!(framer.next_frame().unwrap().is_some());
    }

    #[test]
    fn what_there_is_no_room_for_is_skipped() {
        let length = 2 << 20;
        let mut framer = framer(&message(BIND, length + 4, &[]));
        for _ in 0..length / 1024 - 1 {
            framer.buffer.extend_from_slice(&[0; 1024]);
            assert!(framer.next_frame().unwrap().is_none());
            assert!(framer.buffer.is_empty(), "it is kept all the same");
        }
        framer.buffer.extend_from_slice(&[0; 1024]);
        framer.buffer.extend_from_slice(&message(SYNC, 4, b""));
        let skipped = framer.next_frame().unwrap();
        let reason = SkipReason::NoRoom { length: 2 << 20 };
        assert!(
            matches!(skipped, Some(Received::Skipped { kind: BIND, reason: r }) if r == reason)
        );
        assert!(matches!(framer.next_frame().unwrap(), Some(Received::Frame(f)) if f.kind == SYNC));
    }
}
