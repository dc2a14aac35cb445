//! Parses messages from a client strictly: all fields are present, texts are UTF-8, and no bytes are left
//! over.

use bytes::{Buf as _, Bytes};
use pgwire::messages::extendedquery::{
    Bind, Close, Describe, Execute, Parse, TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::simplequery::Query;

use super::framing::{self, Frame};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

type Result<T> = std::result::Result<T, SqlError>;

/// A message that was parsed completely.
#[derive(Debug)]
pub enum Message {
    Query(Query),
    Parse(Parse),
    Bind(Bind),
    Describe(Describe),
    Execute(Execute),
    Close(Close),
    CopyData(Bytes),
    CopyDone,
    CopyFail(String),
    Flush,
    Sync,
    Terminate,
}

impl Message {
    /// Parses a frame. Fails with 08P01 if the body is malformed, and 0A000 for a function call.
    pub fn read(frame: Frame) -> Result<Self> {
        let mut body = Body(frame.body);
        let message = match frame.kind {
            framing::QUERY => Self::Query(Query::new(body.text()?)),
            framing::PARSE => Self::Parse(body.parse()?),
            framing::BIND => Self::Bind(body.bind()?),
            framing::DESCRIBE => {
                let target = body.target("DESCRIBE")?;
                Self::Describe(Describe::new(target, body.name()?))
            }
            framing::CLOSE => {
                let target = body.target("CLOSE")?;
                Self::Close(Close::new(target, body.name()?))
            }
            framing::EXECUTE => Self::Execute(Execute::new(body.name()?, body.i32()?)),
            framing::COPY_DATA => Self::CopyData(body.rest()),
            framing::COPY_DONE => Self::CopyDone,
            framing::COPY_FAIL => Self::CopyFail(body.text()?),
            framing::FLUSH => Self::Flush,
            framing::SYNC => Self::Sync,
            framing::TERMINATE => Self::Terminate,
            _ => return Err(SqlError::unsupported("calling functions by their oid")),
        };
        body.end()?;
        Ok(message)
    }
}

/// The unread part of a body.
struct Body(Bytes);

impl Body {
    fn parse(&mut self) -> Result<Parse> {
        let (name, text) = (self.name()?, self.text()?);
        let oids = self.many(Self::u32)?;
        Ok(Parse::new(name, text, oids))
    }

    fn bind(&mut self) -> Result<Bind> {
        let (portal, statement) = (self.name()?, self.name()?);
        let formats = self.formats()?;
        let values = self.many(Self::value)?;
        if formats.len() > 1 && formats.len() != values.len() {
            let (formats, values) = (formats.len(), values.len());
            let message =
                format!("bind message has {formats} parameter formats but {values} parameters");
            return Err(violation(message));
        }
        let result_formats = self.formats()?;
        Ok(Bind::new(portal, statement, formats, values, result_formats))
    }

    /// Reads text up to a zero byte.
    fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| violation("invalid string in message"))?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        Ok(tidemark_pg::copy_text::utf8(&text)?.to_owned())
    }

    /// Reads a name; `None` is the unnamed statement or portal.
    fn name(&mut self) -> Result<Option<String>> {
        Ok(Some(self.text()?).filter(|name| !name.is_empty()))
    }

    /// Reads the target kind of a `Describe` or `Close`.
    fn target(&mut self, message: &str) -> Result<u8> {
        let [target] = self.take()?;
        match target {
            TARGET_TYPE_BYTE_PORTAL | TARGET_TYPE_BYTE_STATEMENT => Ok(target),
            other => Err(violation(format!("invalid {message} message subtype {other}"))),
        }
    }

    fn formats(&mut self) -> Result<Vec<i16>> {
        let formats = self.many(|body| body.take().map(i16::from_be_bytes))?;
        match formats.iter().find(|format| !matches!(format, 0 | 1)) {
            None => Ok(formats),
            Some(format) => Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("unsupported format code: {format}"),
            )),
        }
    }

    /// Reads a bound value; `None` is null.
    fn value(&mut self) -> Result<Option<Bytes>> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
        Ok(Some(self.0.split_to(length.ok_or_else(too_short)?)))
    }

    /// Reads a count and that number of items. Memory is allocated as they are read.
    fn many<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = u16::from_be_bytes(self.take()?);
        (0..count).map(|_| item(self)).collect()
    }

    fn i32(&mut self) -> Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = *self.0.first_chunk::<N>().ok_or_else(too_short)?;
        self.0.advance(N);
        Ok(taken)
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(violation("invalid message format")) }
    }
}

/// The error for a message that violates the protocol (08P01).
pub fn violation(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, message)
}

fn too_short() -> SqlError {
    violation("insufficient data left in message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: u8, body: &'static [u8]) -> String {
        let error = Message::read(Frame::new(kind, Bytes::from_static(body))).unwrap_err();
        format!("{}: {}", error.sqlstate, error.message)
    }

    #[test]
    fn bodies_are_read_to_their_end_and_no_further() {
        for (kind, body) in [
            (framing::QUERY, &b"SELECT 1"[..]),
            (framing::PARSE, b"name\0SELECT 1"),
            (framing::COPY_FAIL, b"why"),
        ] {
            assert_eq!(refused(kind, body), "08P01: invalid string in message");
        }
        for (kind, body) in [
            (framing::PARSE, &b"\0SELECT 1\0\0\x01\0\0"[..]),
            (framing::PARSE, b"\0SELECT 1\0"),
            (framing::BIND, b"\0\0\0\0\0\x01\0\0\0\x09abc\0\0"),
            (framing::BIND, b"\0\0\0\0\0\x01\xff\xff\xff\xfeabc\0\0"),
            (framing::BIND, b"\0\0\xff\xff"),
            (framing::EXECUTE, b"\0\0\0"),
            (framing::DESCRIBE, b""),
        ] {
            assert_eq!(refused(kind, body), "08P01: insufficient data left in message");
        }
        for (kind, body) in [
            (framing::QUERY, &b"SELECT 1\0more"[..]),
            (framing::SYNC, b"x"),
            (framing::FLUSH, b"\0"),
            (framing::COPY_DONE, b"\0"),
            (framing::EXECUTE, b"\0\0\0\0\0\0"),
        ] {
            assert_eq!(refused(kind, body), "08P01: invalid message format");
        }
        assert_eq!(
            refused(framing::DESCRIBE, b"X\0"),
            "08P01: invalid DESCRIBE message subtype 88"
        );
        assert_eq!(
            refused(framing::BIND, b"\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0"),
            "08P01: bind message has 2 parameter formats but 1 parameters"
        );
        assert_eq!(
            refused(framing::BIND, b"\0\0\0\x01\0\x02\0\x01\xff\xff\xff\xff\0\0"),
            "22023: unsupported format code: 2"
        );
    }

    #[test]
    fn texts_that_are_no_utf8_are_refused() {
        let message = "22021: invalid byte sequence for encoding \"UTF8\": 0xff";
        assert_eq!(refused(framing::QUERY, b"SELECT '\xff'\0"), message);
        assert_eq!(refused(framing::PARSE, b"\0SELECT '\xff'\0\0\0"), message);
        assert_eq!(refused(framing::CLOSE, b"S\xff\0"), message);
    }
}
