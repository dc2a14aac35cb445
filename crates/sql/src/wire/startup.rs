//! Parses packets before the first message: requests for encryption, cancel requests, and startup packets.
//!
//! Such a packet has no type byte, only a length that includes itself, a code, and the contents.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes, BytesMut};

use super::message::violation;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Longest packet without its length field, as in PostgreSQL.
const STARTUP_BYTES_MAX: usize = 10_000;
const LENGTH_BYTES: usize = 4;
const CODE_BYTES: usize = 4;
const CANCEL_CODE: u32 = 80_877_102;
const SSL_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;
/// Valid lengths of the secret of a cancel request.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 4..=256;
/// Prefix of protocol options.
const PROTOCOL_OPTION: &str = "_pq_.";
/// Parameters that are no settings.
const NO_SETTINGS: [&str; 4] = ["user", "database", "options", "replication"];

/// A packet before the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    EncryptionRequest(Encryption),
    Cancel { pid: i32, secret: Bytes },
    Startup(Startup),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    Ssl,
    Gss,
}

/// The user's login: protocol version and parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    pub major: u16,
    pub minor: u16,
    pub parameters: BTreeMap<String, String>,
}

impl Startup {
    /// Names of the client's protocol options; none are supported.
    pub fn unknown_options(&self) -> Vec<String> {
        let names = self.parameters.keys();
        names.filter(|name| name.starts_with(PROTOCOL_OPTION)).cloned().collect()
    }

    /// The settings that the client asks for, in the order in which they apply: those of `options`, then those
    /// with a parameter of their own.
    pub fn settings(&self) -> Result<Vec<(String, String)>, SqlError> {
        let options = self.parameters.get("options").map_or("", String::as_str);
        let mut settings = settings_in(options)?;
        let others = self.parameters.iter().filter(|(name, _)| {
            !NO_SETTINGS.contains(&name.as_str()) && !name.starts_with(PROTOCOL_OPTION)
        });
        settings.extend(others.map(|(name, value)| (name.clone(), value.clone())));
        Ok(settings)
    }
}

/// Which requests for encryption a client has made: each may be made once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    pub ssl: bool,
    pub gss: bool,
}

/// Input that is not a startup packet. It gets no response: the peer may not be a PostgreSQL client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid length of startup packet")]
pub struct InvalidStartupPacket;

/// Takes the next packet from `buffer` once it is complete. The inner error is for the client.
pub fn next_packet(
    buffer: &mut BytesMut,
    asked: Asked,
) -> Result<Option<Result<Packet, SqlError>>, InvalidStartupPacket> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or_default();
    let length = length.checked_sub(LENGTH_BYTES).ok_or(InvalidStartupPacket)?;
    if !(CODE_BYTES..=STARTUP_BYTES_MAX).contains(&length) {
        return Err(InvalidStartupPacket);
    }
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    let mut packet = buffer.split_to(length).freeze();
    let code = packet.get_u32();
    Ok(Some(read(code, packet, asked)))
}

fn read(code: u32, rest: Bytes, asked: Asked) -> Result<Packet, SqlError> {
    match code {
        CANCEL_CODE => cancel(rest),
        SSL_CODE if !asked.ssl => encryption(Encryption::Ssl, &rest),
        GSS_CODE if !asked.gss => encryption(Encryption::Gss, &rest),
        _ => {
            let [a, b, c, d] = code.to_be_bytes();
            let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            startup(major, minor, &rest).map(Packet::Startup)
        }
    }
}

fn encryption(asked: Encryption, rest: &[u8]) -> Result<Packet, SqlError> {
    if rest.is_empty() {
        return Ok(Packet::EncryptionRequest(asked));
    }
    Err(violation("invalid length of startup packet"))
}

fn cancel(mut rest: Bytes) -> Result<Packet, SqlError> {
    let secret_bytes = rest.len().checked_sub(4);
    if !secret_bytes.is_some_and(|length| SECRET_BYTES.contains(&length)) {
        return Err(violation("invalid length of cancel request packet"));
    }
    Ok(Packet::Cancel { pid: rest.get_i32(), secret: rest })
}

fn startup(major: u16, minor: u16, rest: &[u8]) -> Result<Startup, SqlError> {
    if major != 3 {
        let message =
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2");
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    Ok(Startup { major, minor, parameters: parameters(rest)? })
}

/// Parses names and values, each terminated by a zero byte, and a final zero byte.
fn parameters(mut rest: &[u8]) -> Result<BTreeMap<String, String>, SqlError> {
    let unterminated =
        || violation("invalid startup packet layout: expected terminator as last byte");
    let mut parameters = BTreeMap::new();
    loop {
        let name = text(&mut rest)?.ok_or_else(unterminated)?;
        if name.is_empty() {
            break;
        }
        let value = text(&mut rest)?.ok_or_else(unterminated)?;
        parameters.insert(name, value);
    }
    if rest.is_empty() { Ok(parameters) } else { Err(unterminated()) }
}

/// Reads `-c name=value` and `--name=value`, which are separated by white space. A backslash makes the next
/// character part of a word.
fn settings_in(options: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words = words(options).into_iter();
    let mut settings = vec![];
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(long), _) => Some(long.to_owned()),
            (None, Some("")) => words.next(),
            (None, Some(joined)) => Some(joined.to_owned()),
            (None, None) => None,
        };
        let setting = setting.as_ref().and_then(|setting| setting.split_once('='));
        let (name, value) = setting.ok_or_else(|| unknown_option(&word))?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn unknown_option(word: &str) -> SqlError {
    let message = format!("invalid command-line argument for server process: {word}");
    SqlError::syntax(message).hint("Options are -c name=value and --name=value.")
}

fn words(text: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let letter = if letter == '\\' { letters.next() } else { Some(letter) };
        word.get_or_insert_default().extend(letter);
    }
    words.extend(word);
    words
}

fn text(rest: &mut &[u8]) -> Result<Option<String>, SqlError> {
    let Some(end) = rest.iter().position(|byte| *byte == 0) else { return Ok(None) };
    let text = tidemark_pg::copy_text::utf8(&rest[..end])?.to_owned();
    *rest = &rest[end + 1..];
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, rest: &[u8]) -> BytesMut {
        let length = u32::try_from(LENGTH_BYTES + CODE_BYTES + rest.len()).unwrap();
        BytesMut::from(&[&length.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()[..])
    }

    fn said(code: u32, rest: &[u8]) -> String {
        let read = next_packet(&mut packet(code, rest), Asked::default()).unwrap().unwrap();
        let error = read.unwrap_err();
        format!("{}: {}", error.sqlstate, error.message)
    }

    #[test]
    fn a_startup_packet_has_a_sensible_length() {
        for length in [i32::MIN, -1, 0, 4, 7, 10_005, i32::MAX] {
            let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
            assert_eq!(
                next_packet(&mut buffer, Asked::default()),
                Err(InvalidStartupPacket),
                "{length}"
            );
        }
        let mut http = BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]);
        assert_eq!(next_packet(&mut http, Asked::default()), Err(InvalidStartupPacket));
    }

    #[test]
    fn options_are_read_as_postgres_reads_them() {
        let read = |options: &str| {
            let settings = settings_in(options).map_err(|e| e.message)?;
            Ok::<_, String>(settings.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>())
        };
        assert_eq!(read("").unwrap(), [""; 0]);
        let several = r"  -c a=1 --b-c=x=y -cd=one\ two\\  -c  e= ";
        assert_eq!(read(several).unwrap(), ["a=1", "b_c=x=y", r"d=one two\", "e="]);
        for wrong in ["a=1", "-c", "-c a", "--a", "-B 5", "-ca"] {
            let first = wrong.split(' ').next().unwrap();
            let expected = format!("invalid command-line argument for server process: {first}");
            assert_eq!(read(wrong), Err(expected));
        }
    }

    #[test]
    fn a_startup_packet_is_read_to_its_end() {
        let mut whole = packet(3 << 16, b"user\0root\0database\0dev\0\0");
        whole.extend_from_slice(b"Q");
        let read = next_packet(&mut whole, Asked::default()).unwrap().unwrap().unwrap();
        let Packet::Startup(startup) = read else { panic!("{read:?}") };
        assert_eq!((startup.major, startup.minor), (3, 0));
        assert_eq!(startup.parameters["user"], "root");
        assert_eq!(&whole[..], b"Q", "what is behind it is not touched");

        let layout = "08P01: invalid startup packet layout: expected terminator as last byte";
        for rest in [&b""[..], b"user\0root\0", b"user\0root", b"user\0\0\0x", b"\0\0"] {
            assert_eq!(said(3 << 16, rest), layout, "{rest:?}");
        }
    }

    #[test]
    fn encryption_is_asked_for_once() {
        let ssl = Packet::EncryptionRequest(Encryption::Ssl);
        let read = next_packet(&mut packet(SSL_CODE, b""), Asked::default());
        assert_eq!(read.unwrap().unwrap(), Ok(ssl));
        let again = Asked { ssl: true, gss: false };
        let error = next_packet(&mut packet(SSL_CODE, b""), again).unwrap().unwrap().unwrap_err();
        let message = "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2";
        assert_eq!(error.message, message);
        assert_eq!(
            said(2 << 16, b"\0"),
            message.replace("1234.5679", "2.0").replacen("", "0A000: ", 1)
        );
    }

    #[test]
    fn cancel_requests_bring_a_secret() {
        for rest in [&b""[..], b"\0\0\0\x01", b"\0\0\0\x01\0\0\0", &[0; 261]] {
            assert_eq!(said(CANCEL_CODE, rest), "08P01: invalid length of cancel request packet");
        }
        let read = next_packet(&mut packet(CANCEL_CODE, b"\0\0\0\x01abcd"), Asked::default());
        let secret = Bytes::from_static(b"abcd");
        assert_eq!(read.unwrap().unwrap(), Ok(Packet::Cancel { pid: 1, secret }));
    }
}
