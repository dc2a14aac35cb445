//! A raw protocol client: sends what no driver would send, and reads the server's responses.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::Server;

/// Time limit for any response.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message from the server: its type and its body.
pub type Answer = (u8, Vec<u8>);

/// A connection without a driver.
pub struct Wire {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    pub async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.sql).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: vec![] }
    }

    /// Connects and logs in.
    pub async fn log_in(server: &Server) -> Self {
        let mut wire = Self::connect(server).await;
        wire.send(&login()).await;
        assert_eq!(wire.until_ready().await.last().unwrap().0, b'Z');
        wire
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads the next message; `None` if the server closed the connection.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(header) = self.received.first_chunk::<5>() {
                let [kind, length @ ..] = *header;
                let end = 1 + usize::try_from(i32::from_be_bytes(length)).unwrap();
                if self.received.len() >= end {
                    let body = self.received[5..end].to_vec();
                    self.received.drain(..end);
                    return Some((kind, body));
                }
            }
            let read = self.stream.read_buf(&mut self.received);
            let read = tokio::time::timeout(PATIENCE, read).await.expect("the server is silent");
            if !read.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }

    /// Reads a single byte: the response to a request for encryption.
    pub async fn byte(&mut self) -> u8 {
        self.stream.read_u8().await.unwrap()
    }

    /// Reads all messages up to `ReadyForQuery` or the end of the connection.
    pub async fn until_ready(&mut self) -> Vec<Answer> {
        let mut answers = vec![];
        while let Some(answer) = self.answer().await {
            let ready = answer.0 == b'Z';
            answers.push(answer);
            if ready {
                break;
            }
        }
        answers
    }

    /// Reads all messages up to the end of the connection.
    pub async fn until_end(&mut self) -> Vec<Answer> {
        let mut answers = vec![];
        while let Some(answer) = self.answer().await {
            answers.push(answer);
        }
        answers
    }

    /// Sends these bytes, and summarises the server's responses up to `ReadyForQuery` or the end: message
    /// types, errors with code and message, and `end` if it closed the connection.
    pub async fn say(&mut self, bytes: &[u8]) -> String {
        self.send(bytes).await;
        let answers = self.until_ready().await;
        let ended = answers.last().is_none_or(|(kind, _)| *kind != b'Z');
        let said = answers.iter().map(shown).chain(ended.then(|| "end".to_owned()));
        said.collect::<Vec<_>>().join(" ")
    }
}

fn shown(answer: &Answer) -> String {
    match answer {
        (b'E', body) => format!("[{}]", error_of(body)),
        (kind, _) => char::from(*kind).to_string(),
    }
}

/// Severity, code and message of an error.
pub fn error_of(body: &[u8]) -> String {
    let field = |wanted: u8| {
        let mut fields = body.split(|byte| *byte == 0);
        let found = fields.find(|field| field.first() == Some(&wanted));
        String::from_utf8_lossy(&found.expect("a field is missing")[1..]).into_owned()
    };
    format!("{} {}: {}", field(b'S'), field(b'C'), field(b'M'))
}

/// Builds a message with this body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// Builds a message with an arbitrary length field.
pub fn claiming(kind: u8, length: i32, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

pub fn query(text: &str) -> Vec<u8> {
    message(b'Q', &text_of(text))
}

pub fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', &[text_of(name), text_of(text), vec![0, 0]].concat())
}

/// Builds a `Bind` without values.
pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', &[text_of(portal), text_of(statement), vec![0; 6]].concat())
}

pub fn execute(portal: &str) -> Vec<u8> {
    message(b'E', &[text_of(portal), vec![0; 4]].concat())
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Builds a packet without a type: a code and its contents.
pub fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

pub const PROTOCOL_3: u32 = 3 << 16;
pub const SSL_REQUEST: u32 = 80_877_103;
pub const GSS_REQUEST: u32 = 80_877_104;
pub const CANCEL_REQUEST: u32 = 80_877_102;

pub fn startup(code: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let texts = parameters.iter().flat_map(|(name, value)| [text_of(name), text_of(value)]);
    packet(code, &[texts.collect::<Vec<_>>().concat(), vec![0]].concat())
}

pub fn login() -> Vec<u8> {
    startup(PROTOCOL_3, &[("user", "root"), ("database", "dev")])
}

fn text_of(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}
