//! Runs every file in `sqllogictest/` on every pair of stores, each file on a separate server.
//!
//! `SLT=ddl/` runs only files whose path contains that text; `UPDATE_SLT=1` rewrites the expectations of
//! failures (on the first pair of stores). In addition to sqllogictest's syntax, a file may use:
//!
//! - `SELECT … \gdesc`: names and types of the columns, as psql shows them, instead of rows;
//! - `COPY … FROM STDIN` with the data in the lines below it, ended by `\.`, as in a psql script
//!   (one that fails ends its session);
//! - `\notices`: the notices of the statement before.
//!
//! Newlines in a value are shown as `\n`, NULL as `NULL`, the empty text as `(empty)`. Every query is also
//! described through the extended protocol: both must name the same columns.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::fmt;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{SinkExt as _, future};
use sqllogictest::{AsyncDB, ColumnType, DBOutput, MakeConnection, Runner};
use tidemark::config::{FrontendSettings, MetaSettings, MetaStoreSetting, Settings, StoreSettings};
use tidemark::server::{self, Server};
use tidemark_engine::meta::settings::MaintenanceSettings;
use tidemark_sql::settings::{ConnectionSettings, Resources};
use tokio_postgres::error::DbError;
use tokio_postgres::types::{Kind as TypeKind, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

/// A file that takes longer is considered hung.
const FILE_TIMEOUT: Duration = Duration::from_secs(120);
/// Held while a server runs.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn every_file_passes_in_memory() {
    run_all(|_| Stores {
        meta: MetaStoreSetting::Memory,
        // Stores are shared by name within a process: each server needs a unique one.
        state: format!("memory://{}", uuid::Uuid::new_v4()),
        block_cache_bytes: 16 << 20,
    });
}

#[test]
fn every_file_passes_on_sqlite_and_files() {
    // Only one test rewrites the files.
    if std::env::var_os("UPDATE_SLT").is_some() {
        return;
    }
    run_all(|dir| Stores {
        meta: MetaStoreSetting::Sqlite { endpoint: dir.join("meta.db").display().to_string() },
        state: format!("fs://{}", dir.join("state").display()),
        block_cache_bytes: 0,
    });
}

struct Stores {
    meta: MetaStoreSetting,
    state: String,
    block_cache_bytes: usize,
}

fn run_all(stores: fn(&Path) -> Stores) {
    let files = files();
    assert!(!files.is_empty(), "no file matches");
    let runtime = tidemark::cli::runtime().unwrap();
    let mut failures = String::new();
    for file in &files {
        // The guard of a server's memory counts the pages of the whole process: one server at a time.
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let run = async { tokio::time::timeout(FILE_TIMEOUT, run_file(file, stores)).await };
        let failure = match runtime.block_on(run) {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure,
            Err(_) => format!("it took more than {FILE_TIMEOUT:?}"),
        };
        writeln!(failures, "\n==== {}\n{failure}", file.display()).unwrap();
    }
    assert!(failures.is_empty(), "{failures}");
}

/// The files to run in order.
fn files() -> Vec<PathBuf> {
    let wanted = std::env::var("SLT").unwrap_or_default();
    let mut folders = vec![PathBuf::from("sqllogictest")];
    let mut files = vec![];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "slt") {
                files.push(path);
            }
        }
    }
    files.retain(|file| file.to_string_lossy().contains(&wanted));
    files.sort();
    files
}

async fn run_file(file: &Path, stores: fn(&Path) -> Stores) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let server = start(stores(dir.path())).await;
    let addr = server.sql_addr().unwrap();
    let mut runner = Runner::new(move || connect(addr));
    runner.with_normalizer(String::clone);
    runner.with_column_validator(columns_match);
    let outcome = if std::env::var_os("UPDATE_SLT").is_some() {
        let validator = sqllogictest::default_validator;
        let update =
            runner.update_test_file(file, " ", validator, String::clone, columns_match).await;
        update.map_err(|error| error.to_string())
    } else {
        run_records(&mut runner, file).await
    };
    runner.shutdown_async().await;
    server.stop().await;
    outcome
}

/// Runs all records of a file, even after a failure.
async fn run_records<M>(runner: &mut Runner<Session, M>, file: &Path) -> Result<(), String>
where
    M: MakeConnection<Conn = Session>,
{
    let records = sqllogictest::parse_file(file).map_err(|error| error.to_string())?;
    let mut failures = String::new();
    for record in records {
        if let Err(failure) = runner.run_async(record).await {
            writeln!(failures, "{failure}").unwrap();
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

async fn start(stores: Stores) -> Server {
    let any = "127.0.0.1:0".to_owned();
    let meta = MetaSettings {
        listen_addr: any.clone(),
        advertise_addr: None,
        stores: StoreSettings {
            meta_store: stores.meta,
            state_store: format!("hummock+{}", stores.state),
            data_directory: "hummock_001".to_owned(),
            backup_storage_url: stores.state,
            backup_storage_directory: "backup".to_owned(),
            allow_unfenced: false,
            accept_loss_after: None,
        },
        maintenance: MaintenanceSettings::default(),
    };
    let frontend = FrontendSettings {
        listen_addr: any,
        advertise_addr: None,
        connections: ConnectionSettings::default(),
        resources: Resources {
            memory_bytes: 256 << 20,
            parallelism: 2,
            meta_cache_bytes: 16 << 20,
            block_cache_bytes: Some(stores.block_cache_bytes),
            file_cache: None,
        },
    };
    let settings = Settings { meta: Some(meta), frontend: Some(frontend), ..Settings::default() };
    server::start(settings).await.unwrap()
}

/// A connection of a test file.
struct Session {
    addr: SocketAddr,
    client: Option<Client>,
    connection: tokio::task::JoinHandle<()>,
    /// Notices of the previous statement.
    notices: Arc<Mutex<Vec<String>>>,
}

async fn connect(addr: SocketAddr) -> Result<Session, Failure> {
    let mut config = Config::new();
    config.host(addr.ip().to_string()).port(addr.port()).user("root").dbname("dev");
    let (client, mut connection) = config.connect(NoTls).await?;
    let notices = Arc::new(Mutex::new(vec![]));
    let heard = Arc::clone(&notices);
    let connection = tokio::spawn(async move {
        while let Some(Ok(message)) = future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message {
                let line = format!("{}: {}", notice.severity(), notice.message());
                heard.lock().unwrap().push(line);
            }
        }
    });
    Ok(Session { addr, client: Some(client), connection, notices })
}

#[async_trait]
impl AsyncDB for Session {
    type Error = Failure;
    type ColumnType = Shown;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Shown>, Failure> {
        if sql == r"\notices" {
            let notices = std::mem::take(&mut *self.notices.lock().unwrap());
            let rows = notices.into_iter().map(|notice| vec![notice]).collect();
            return Ok(DBOutput::Rows { types: vec![Shown::Text], rows });
        }
        self.notices.lock().unwrap().clear();
        let client = self.client.as_ref().ok_or_else(|| Failure::of("the session is closed"))?;
        if let Some(query) = sql.strip_suffix(r"\gdesc") {
            return describe(client, query).await;
        }
        match sql.strip_suffix("\n\\.").and_then(|copy| copy.split_once('\n')) {
            Some((copy, data)) => {
                let outcome = copy_in(client, copy, data).await;
                if outcome.is_err() {
                    // The driver sends Sync twice after a failed COPY, and gets out of step.
                    *self = connect(self.addr).await?;
                }
                outcome
            }
            None => query(client, sql).await,
        }
    }

    async fn shutdown(&mut self) {
        self.client = None;
        (&mut self.connection).await.unwrap();
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn error_sql_state(error: &Failure) -> Option<String> {
        error.sqlstate.clone()
    }
}

async fn query(client: &Client, sql: &str) -> Result<DBOutput<Shown>, Failure> {
    let (mut names, mut rows, mut count, mut statements) = (None, vec![], 0, 0);
    for message in client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                names = Some(columns.iter().map(|c| c.name().to_owned()).collect::<Vec<_>>());
                rows.clear();
            }
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|column| shown(row.get(column))).collect());
            }
            SimpleQueryMessage::CommandComplete(affected) => {
                (count, statements) = (affected, statements + 1);
            }
            _ => return Err(Failure::of("an unknown message came")),
        }
    }
    let Some(names) = names else { return Ok(DBOutput::StatementComplete(count)) };
    let mut types = vec![Shown::Any; names.len()];
    if statements == 1 {
        let prepared = client.prepare(sql).await?;
        let described: Vec<&str> = prepared.columns().iter().map(|c| c.name()).collect();
        if described != names {
            let both = format!("{names:?} by the simple protocol, {described:?} by the extended");
            return Err(Failure::of(format!("the columns are {both}")));
        }
        types = prepared.columns().iter().map(|column| Shown::of(column.type_())).collect();
    }
    Ok(DBOutput::Rows { types, rows })
}

async fn describe(client: &Client, sql: &str) -> Result<DBOutput<Shown>, Failure> {
    let prepared = client.prepare(sql).await?;
    let row =
        |column: &tokio_postgres::Column| vec![column.name().to_owned(), sql_name(column.type_())];
    let rows = prepared.columns().iter().map(row).collect();
    Ok(DBOutput::Rows { types: vec![Shown::Text, Shown::Text], rows })
}

async fn copy_in(client: &Client, copy: &str, data: &str) -> Result<DBOutput<Shown>, Failure> {
    let mut sink = Box::pin(client.copy_in(copy).await?);
    let data = bytes::Bytes::from(format!("{data}\n"));
    sink.send(data).await?;
    Ok(DBOutput::StatementComplete(sink.as_mut().finish().await?))
}

fn shown(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.replace('\n', r"\n").replace('\t', r"\t"),
    }
}

/// The SQL name of a type.
fn sql_name(type_: &Type) -> String {
    if let TypeKind::Array(element) = type_.kind() {
        return format!("{}[]", sql_name(element));
    }
    let name = match type_.name() {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "varchar" => "character varying",
        "time" => "time without time zone",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        other => other,
    };
    name.to_owned()
}

/// The kind of a column, by the letter after `query`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Text,
    Integer,
    /// Floats and numeric.
    Real,
    Boolean,
    /// Dates, times, intervals.
    Date,
    Any,
}

impl ColumnType for Shown {
    fn from_char(letter: char) -> Option<Self> {
        Some(match letter {
            'T' => Self::Text,
            'I' => Self::Integer,
            'R' => Self::Real,
            'B' => Self::Boolean,
            'D' => Self::Date,
            '?' => Self::Any,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Self::Text => 'T',
            Self::Integer => 'I',
            Self::Real => 'R',
            Self::Boolean => 'B',
            Self::Date => 'D',
            Self::Any => '?',
        }
    }
}

impl Shown {
    fn of(type_: &Type) -> Self {
        match type_.name() {
            "text" | "varchar" | "name" | "char" => Self::Text,
            "int2" | "int4" | "int8" => Self::Integer,
            "float4" | "float8" | "numeric" => Self::Real,
            "bool" => Self::Boolean,
            "date" | "time" | "timestamp" | "timestamptz" | "interval" => Self::Date,
            _ => Self::Any,
        }
    }
}

/// The number of columns must match the letters; `?` matches any type.
#[expect(clippy::ptr_arg, reason = "the signature sqllogictest asks for")]
fn columns_match(actual: &Vec<Shown>, expected: &Vec<Shown>) -> bool {
    let is = |(actual, expected): (&Shown, &Shown)| {
        actual == expected || matches!((actual, expected), (_, Shown::Any) | (Shown::Any, _))
    };
    actual.len() == expected.len() && actual.iter().zip(expected).all(is)
}

/// An error as one line: `42P01: relation "t" does not exist | DETAIL: … | HINT: …`.
#[derive(Debug)]
struct Failure {
    sqlstate: Option<String>,
    text: String,
}

impl Failure {
    fn of(text: impl Into<String>) -> Self {
        Self { sqlstate: None, text: text.into() }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(error) => {
                Self { sqlstate: Some(error.code().code().to_owned()), text: error_line(error) }
            }
            None => Self::of(tidemark::cli::chain(&error)),
        }
    }
}

fn error_line(error: &DbError) -> String {
    let mut line = format!("{}: {}", error.code().code(), error.message());
    for (label, part) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(part) = part {
            write!(line, " | {label}: {part}").unwrap();
        }
    }
    line.replace('\n', r"\n")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
