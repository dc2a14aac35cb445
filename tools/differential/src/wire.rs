//! A session with a server: simple queries over the wire, with rows as text and the types of their columns.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{ErrorFields, Message};
use postgres_protocol::message::frontend;

/// The server ends a statement long before this; a session that is silent for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// As the servers are told when a session begins.
const PREAMBLE: &str = "SET statement_timeout = 15000";

/// One value in text form; `None` is NULL.
pub type Cell = Option<String>;
pub type Row = Vec<Cell>;

/// The name and the type of a result column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
}

/// What a server answered to one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Rows {
        columns: Vec<Column>,
        rows: Vec<Row>,
    },
    Done {
        tag: String,
    },
    Error {
        code: String,
        message: String,
    },
    /// The session ended, or was silent for too long.
    Lost {
        reason: String,
    },
}

impl Answer {
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error { .. } | Self::Lost { .. })
    }

    pub fn rows(&self) -> Option<&[Row]> {
        match self {
            Self::Rows { rows, .. } => Some(rows),
            _ => None,
        }
    }
}

/// Where a server listens, and as whom to log in.
#[derive(Clone, Debug)]
pub struct Address {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub database: String,
}

/// A session that reconnects by itself after it was lost.
pub struct Session {
    address: Address,
    link: Option<Link>,
    /// Statements that a new session runs first, such as `SET search_path`.
    settings: Vec<String>,
}

struct Link {
    stream: TcpStream,
    received: BytesMut,
}

impl Session {
    pub fn open(address: &Address) -> io::Result<Self> {
        let settings = vec![PREAMBLE.to_owned()];
        let mut session = Self { address: address.clone(), link: None, settings };
        session.link()?;
        Ok(session)
    }

    /// Runs a setting now and in every later session.
    pub fn set(&mut self, statement: &str) -> Answer {
        self.settings.push(statement.to_owned());
        self.run(statement)
    }

    /// Runs one statement, or several as one; the last answer counts, or the first error.
    pub fn run(&mut self, sql: &str) -> Answer {
        let answered = self.link().and_then(|link| link.run(sql));
        answered.unwrap_or_else(|error| {
            self.link = None;
            Answer::Lost { reason: error.to_string() }
        })
    }

    fn link(&mut self) -> io::Result<&mut Link> {
        if self.link.is_none() {
            let mut link = Link::open(&self.address)?;
            for setting in &self.settings {
                link.run(setting)?;
            }
            self.link = Some(link);
        }
        self.link.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Link {
    fn open(address: &Address) -> io::Result<Self> {
        let stream = TcpStream::connect((address.host.as_str(), address.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let mut link = Self { stream, received: BytesMut::new() };
        let parameters = [("user", address.user.as_str()), ("database", &address.database)];
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message)?;
        link.stream.write_all(&message)?;
        loop {
            match link.receive()? {
                Message::ReadyForQuery(_) => return Ok(link),
                Message::ErrorResponse(body) => return Err(refused(body.fields())),
                _ => {}
            }
        }
    }

    fn run(&mut self, sql: &str) -> io::Result<Answer> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message)?;
        self.stream.write_all(&message)?;
        let (mut last, mut error) = (Answer::Done { tag: String::new() }, None);
        let mut columns = vec![];
        let mut rows = vec![];
        loop {
            match self.receive()? {
                Message::RowDescription(body) => {
                    let described = body.fields().map(|field| {
                        let (name, type_oid) = (field.name().to_owned(), field.type_oid());
                        Ok(Column { name, type_oid })
                    });
                    columns = described.collect()?;
                }
                Message::DataRow(body) => {
                    let cell = |range: Option<std::ops::Range<usize>>| {
                        let bytes = range.and_then(|range| body.buffer().get(range));
                        Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
                    };
                    rows.push(body.ranges().map(cell).collect()?);
                }
                Message::CommandComplete(_) if !columns.is_empty() => {
                    let (columns, rows) = (std::mem::take(&mut columns), std::mem::take(&mut rows));
                    last = Answer::Rows { columns, rows };
                }
                Message::CommandComplete(body) => {
                    last = Answer::Done { tag: body.tag()?.to_owned() }
                }
                Message::ErrorResponse(body) => error = Some(read_error(body.fields())?),
                Message::ReadyForQuery(_) => return Ok(error.unwrap_or(last)),
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = Message::parse(&mut self.received)? {
                return Ok(message);
            }
            let mut chunk = [0; 16 * 1024];
            let length = self.stream.read(&mut chunk)?;
            if length == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the session ended"));
            }
            self.received.extend_from_slice(&chunk[..length]);
        }
    }
}

fn read_error(mut fields: ErrorFields<'_>) -> io::Result<Answer> {
    let (mut code, mut message) = (String::new(), String::new());
    while let Some(field) = fields.next()? {
        let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = text(),
            b'M' => message = text(),
            _ => {}
        }
    }
    Ok(Answer::Error { code, message })
}

fn refused(fields: ErrorFields<'_>) -> io::Error {
    match read_error(fields) {
        Ok(Answer::Error { code, message }) => io::Error::other(format!("{code}: {message}")),
        Ok(_) => io::Error::other("the login was refused"),
        Err(error) => error,
    }
}
