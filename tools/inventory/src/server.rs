//! The two servers: connections to them, and what they answer to a statement.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::Fallible;

/// What a server answers to a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The oid of the first column's type, and the rows as text.
    Rows {
        type_oid: u32,
        rows: Vec<Vec<Option<String>>>,
    },
    Failed {
        sqlstate: String,
        message: String,
    },
}

/// SQLSTATEs with which Tidemark says that it does not have what was asked for.
const REFUSALS: [&str; 3] = ["42883", "0A000", "42704"];

impl Answer {
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Failed { sqlstate, .. } if REFUSALS.contains(&sqlstate.as_str()))
    }

    /// Whether a client would see no difference; of errors the code counts.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Failed { sqlstate: a, .. }, Self::Failed { sqlstate: b, .. }) => a == b,
            _ => self == other,
        }
    }

    /// The answer without its values, which another call would not give again.
    pub fn shape(self) -> Self {
        match self {
            Self::Rows { type_oid, .. } => Self::Rows { type_oid, rows: vec![] },
            failed => failed,
        }
    }

    /// The answer on one line.
    pub fn shown(&self) -> String {
        match self {
            Self::Failed { sqlstate, message } => format!("{sqlstate} {message}"),
            Self::Rows { type_oid, rows } => {
                let cell = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "NULL".into());
                let row = |row: &Vec<Option<String>>| {
                    row.iter().map(cell).collect::<Vec<_>>().join(" | ")
                };
                let rows: Vec<_> = rows.iter().map(row).collect();
                format!("{} (type {type_oid})", rows.join("; ")).replace('\n', "\\n")
            }
        }
    }
}

/// A connection that is made again when it is lost.
pub struct Connection {
    config: String,
    client: Client,
}

impl Connection {
    pub async fn open(config: &str) -> Fallible<Self> {
        Ok(Self { config: config.to_owned(), client: connect(config).await? })
    }

    pub async fn ask(&mut self, sql: &str) -> Answer {
        match self.try_ask(sql).await {
            Ok(answer) => answer,
            Err(error) => {
                let failed = failure(&error);
                if self.client.is_closed()
                    && let Ok(client) = connect(&self.config).await
                {
                    self.client = client;
                }
                failed
            }
        }
    }

    async fn try_ask(&self, sql: &str) -> Result<Answer, tokio_postgres::Error> {
        let statement = self.client.prepare(sql).await?;
        let type_oid = statement.columns().first().map_or(0, |column| column.type_().oid());
        let messages = self.client.simple_query(sql).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(Answer::Rows { type_oid, rows: rows.collect() })
    }

    /// The rows of a query that must succeed; NULL is an empty text.
    pub async fn rows(&mut self, sql: &str) -> Fallible<Vec<Vec<String>>> {
        match self.ask(sql).await {
            Answer::Rows { rows, .. } => {
                let texts =
                    |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default);
                Ok(rows.into_iter().map(|row| texts(row).collect()).collect())
            }
            failed => Err(failed.shown().into()),
        }
    }
}

async fn connect(config: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(config, NoTls).await?;
    tokio::spawn(connection);
    for setting in ["statement_timeout = '5s'", "timezone = 'UTC'", "datestyle = 'ISO, MDY'"] {
        client.batch_execute(&format!("SET {setting}")).await?;
    }
    Ok(client)
}

fn failure(error: &tokio_postgres::Error) -> Answer {
    match error.as_db_error() {
        Some(error) => Answer::Failed {
            sqlstate: error.code().code().to_owned(),
            message: error.message().replace('\n', " "),
        },
        None => Answer::Failed { sqlstate: "08006".to_owned(), message: error.to_string() },
    }
}

/// A Tidemark that keeps nothing, and stops when this is dropped.
pub struct Tidemark {
    _child: Child,
    pub config: String,
}

impl Tidemark {
    pub async fn start(program: &Path) -> Fallible<Self> {
        let directory = tempfile::tempdir()?;
        let ready = directory.path().join("ready");
        let child = Command::new(program)
            .args(["--in-memory", "--listen-addr", "127.0.0.1:0", "--meta-addr", "127.0.0.1:0"])
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let address = address(&ready).await?;
        let config = format!("host={} port={} user=root dbname=dev", address.0, address.1);
        Ok(Self { _child: child, config })
    }
}

/// Waits until the server has written its SQL address.
async fn address(ready: &Path) -> Fallible<(String, String)> {
    for _ in 0..600 {
        if let Ok(text) = std::fs::read_to_string(ready)
            && let Some((host, port)) = text.lines().next().and_then(|l| l.rsplit_once(':'))
        {
            return Ok((host.to_owned(), port.to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the server does not become ready".into())
}
