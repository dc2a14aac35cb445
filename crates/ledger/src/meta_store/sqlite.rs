//! A meta store in one SQLite file: the default.
//!
//! One table, `meta(key TEXT PRIMARY KEY, value BLOB NOT NULL)`, `application_id` "TIDE", `user_version` 1;
//! journal in WAL mode, synced at every commit. The file is locked as long as it is open, so no second
//! process can write to it. Next to it is its head (`head.rs`).
//!
//! Until the first write, the journal is left as it was found, even if the file is closed again: the part of
//! it that SQLite cannot read may still be needed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior};
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::debug;

use super::head::{Head, HeadFile};
use super::{MetaStore, Operation, Pair, Precondition, StoreError, Txn};
use crate::crash_point;
use crate::storage_url::mask;

/// "TIDE" in ASCII.
const APPLICATION_ID: i64 = 0x5449_4445;
const USER_VERSION: i64 = 1;
/// The journal is checkpointed into the file when it has grown to 16 MiB, and then overwritten. Each
/// checkpoint costs two syncs, and every commit waits for them.
const WAL_PAGES: u32 = 4 << 10;
/// A commit of more operations is run as blocking work.
const OPERATIONS_FEW: usize = 64;

/// Pairs in a SQLite file. Cheap to share behind an `Arc`; calls run one at a time.
#[derive(Debug)]
pub struct SqliteStore {
    name: String,
    database: Arc<Mutex<Database>>,
    /// `None` if the store is read-only.
    head: Option<Mutex<HeadFile>>,
}

impl SqliteStore {
    /// Opens the store at a path, or at `sqlite://path` with an optional `?mode=rwc|rw|ro`. Only mode `rwc`,
    /// the default, creates what is missing.
    pub async fn open(endpoint: &str) -> Result<Self, StoreError> {
        let store = Self::open_target(endpoint).await?;
        store.run(Database::prepare).await?;
        Ok(store)
    }

    /// Opens the store for a restore: nothing is created or changed before [`MetaStore::fill`] or
    /// [`MetaStore::commit`], but an existing file is locked.
    pub async fn open_target(endpoint: &str) -> Result<Self, StoreError> {
        let database = Database::at(endpoint)?;
        let name = database.name.clone();
        let head = (database.mode != Mode::Read).then(|| Mutex::new(database.head()));
        let store = Self { name, database: Arc::new(Mutex::new(database)), head };
        store.run(Database::inspect).await?;
        Ok(store)
    }

    /// Runs `work` so that it does not block other tasks.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        let work = move || {
            let mut database = database.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut database)
        };
        // A runtime of one thread has no other thread to run its tasks meanwhile.
        if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            return tokio::task::block_in_place(work);
        }
        let worked = tokio::task::spawn_blocking(work).await;
        worked.map_err(|e| io(&self.name, "finish the work", e))?
    }
}

#[async_trait]
impl MetaStore for SqliteStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let key = key.to_owned();
        self.run(move |database| database.get(&key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Pair>, StoreError> {
        let prefix = prefix.to_owned();
        self.run(move |database| database.list(&prefix)).await
    }

    /// Blocks the calling thread if the transaction is small: moving its other tasks to another thread, or
    /// the work to a blocking thread, costs more than a small commit does. Commits run one after another, so
    /// at most one thread is blocked.
    async fn commit(&self, txn: Txn) -> Result<(), StoreError> {
        if txn.operations.len() > OPERATIONS_FEW {
            return self.run(move |database| database.commit(&txn)).await;
        }
        self.database.lock().unwrap_or_else(PoisonError::into_inner).commit(&txn)
    }

    async fn fill(&self, pairs: Vec<Pair>) -> Result<(), StoreError> {
        self.run(move |database| database.fill(&pairs)).await
    }

    fn remember(&self, head: &Head) {
        let Some(file) = &self.head else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write(head) {
            debug!(%error, store = self.name, "the head of the store is not written");
        }
    }

    fn remembered(&self) -> Option<Head> {
        let file = self.head.as_ref()?;
        file.lock().unwrap_or_else(PoisonError::into_inner).read()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
    Create,
}

/// The file and the connection to it.
#[derive(Debug)]
struct Database {
    name: String,
    path: PathBuf,
    mode: Mode,
    /// `None` while there is no file.
    connection: Option<Connection>,
    /// Whether the table is known to exist and the journal is set up.
    prepared: bool,
}

impl Database {
    fn at(endpoint: &str) -> Result<Self, StoreError> {
        let (path, mode) = parse_endpoint(endpoint)
            .map_err(|reason| StoreError::Unreadable { store: mask(endpoint), reason })?;
        let name = format!("sqlite://{}", path.display());
        Ok(Self { name, path, mode, connection: None, prepared: false })
    }

    fn head(&self) -> HeadFile {
        let mut path = self.path.clone().into_os_string();
        path.push("-head");
        HeadFile::at(path.into())
    }

    /// Connects if there is a file.
    fn inspect(&mut self) -> Result<(), StoreError> {
        match self.path.try_exists() {
            Ok(true) => self.connect(),
            Ok(false) if self.mode == Mode::Create => Ok(()),
            Ok(false) => Err(self.unreadable("the file does not exist")),
            Err(error) => Err(io(&self.name, "look at the file", error)),
        }
    }

    /// Connects, locks the file and checks that it is a meta store. Does not change an existing file.
    fn connect(&mut self) -> Result<(), StoreError> {
        let access = match self.mode {
            Mode::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Mode::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Mode::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let begin = match self.mode {
            Mode::Read => "BEGIN",
            _ => "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE",
        };
        let failed = |error| failed(&self.name, "open the file", error);
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
        connection.busy_timeout(Duration::ZERO).map_err(failed)?;
        keep_journal(&connection, true).map_err(failed)?;
        connection.execute_batch(begin).map_err(failed)?;
        if let Some(reason) = why_not_ours(&connection).map_err(failed)? {
            return Err(self.unreadable(&reason));
        }
        if let Some(damage) = damage_in(&connection).map_err(failed)? {
            return Err(StoreError::Damaged { store: self.name.clone(), reason: damage });
        }
        connection.execute_batch("ROLLBACK").map_err(failed)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Creates the file and its table if they are missing.
    fn prepare(&mut self) -> Result<(), StoreError> {
        if self.prepared || self.mode == Mode::Read {
            return Ok(());
        }
        if self.connection.is_none() {
            let parent = self.path.parent().unwrap_or(Path::new(""));
            let made = std::fs::create_dir_all(parent);
            made.map_err(|e| io(&self.name, "make the directory", e))?;
            self.connect()?;
        }
        if let Some(connection) = &mut self.connection {
            let made = create_table(connection).and_then(|()| keep_journal(connection, false));
            made.map_err(|e| failed(&self.name, "make the table", e))?;
        }
        self.prepared = true;
        Ok(())
    }

    /// The connection, if there is a table to read.
    fn readable(&self) -> Result<Option<&Connection>, StoreError> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let readable = self.prepared
            || has_table(connection).map_err(|e| failed(&self.name, "read the schema", e))?;
        Ok(readable.then_some(connection))
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let Some(connection) = self.readable()? else { return Ok(None) };
        value_of(connection, key).map_err(|e| failed(&self.name, "read a key", e))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Pair>, StoreError> {
        let Some(connection) = self.readable()? else { return Ok(vec![]) };
        pairs_under(connection, prefix).map_err(|e| failed(&self.name, "list keys", e))
    }

    fn commit(&mut self, txn: &Txn) -> Result<(), StoreError> {
        self.prepare()?;
        let failed = |error| failed(&self.name, "commit", error);
        let Some(connection) = &self.connection else { return Ok(()) };
        let transaction = Transaction::begin(connection).map_err(failed)?;
        for precondition in &txn.preconditions {
            let (key, expected) = match precondition {
                Precondition::Equals { key, value } => (key, Some(value)),
                Precondition::Absent { key } => (key, None),
            };
            if value_of(connection, key).map_err(failed)?.as_ref() != expected {
                return Err(StoreError::Precondition(key.clone()));
            }
        }
        for operation in &txn.operations {
            match operation {
                Operation::Put { key, value } => put(connection, key, value),
                Operation::Delete { key } => delete(connection, key),
            }
            .map_err(failed)?;
        }
        let point = crash_point::begin("commit to", &self.name);
        transaction.commit().map_err(failed)?;
        point.end();
        Ok(())
    }

    fn fill(&mut self, pairs: &[Pair]) -> Result<(), StoreError> {
        self.refuse_nonempty()?;
        self.prepare()?;
        let failed = |error| failed(&self.name, "fill", error);
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        if !is_empty(&transaction).map_err(failed)? {
            return Err(StoreError::NotEmpty { store: self.name.clone() });
        }
        for pair in pairs {
            put(&transaction, &pair.key, &pair.value).map_err(failed)?;
        }
        let point = crash_point::begin("commit to", &self.name);
        transaction.commit().map_err(failed)?;
        point.end();
        Ok(())
    }

    /// Refuses a store with content, before anything is created: such a store must not even be touched.
    fn refuse_nonempty(&self) -> Result<(), StoreError> {
        let Some(connection) = self.readable()? else { return Ok(()) };
        match is_empty(connection).map_err(|e| failed(&self.name, "fill", e))? {
            true => Ok(()),
            false => Err(StoreError::NotEmpty { store: self.name.clone() }),
        }
    }

    fn unreadable(&self, reason: &str) -> StoreError {
        StoreError::Unreadable { store: self.name.clone(), reason: reason.to_owned() }
    }
}

/// A transaction that begins and ends with cached statements. Rolled back if it is dropped.
struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    fn begin(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(|_| ())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // After a commit, and after some failures, there is nothing left to roll back.
        if !self.0.is_autocommit() {
            self.0.execute_batch("ROLLBACK").ok();
        }
    }
}

/// The file and the mode that an endpoint names, or why it is invalid.
fn parse_endpoint(endpoint: &str) -> Result<(PathBuf, Mode), String> {
    let Some(rest) = endpoint.strip_prefix("sqlite://") else {
        if endpoint.contains("://") {
            return Err("this build keeps metadata in SQLite files, sqlite://path".to_owned());
        }
        return Ok((parse_path(endpoint)?, Mode::Create));
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, "mode=rwc"));
    let mode = match query {
        "mode=rwc" | "" => Mode::Create,
        "mode=rw" => Mode::Write,
        "mode=ro" => Mode::Read,
        other => return Err(format!("\"{other}\" is none of mode=rwc, mode=rw, mode=ro")),
    };
    Ok((parse_path(path)?, mode))
}

fn parse_path(path: &str) -> Result<PathBuf, String> {
    match path {
        "" => Err("the endpoint names no file".to_owned()),
        ":memory:" => Err("use the memory store instead".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

/// Why the file is not a meta store this build can read; `None` if it is one, or if it is empty.
fn why_not_ours(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0))?;
    let things: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    Ok(match application {
        APPLICATION_ID if version == USER_VERSION && things > 0 && !has_table(connection)? => {
            Some("it is damaged: it has no table \"meta\"".to_owned())
        }
        APPLICATION_ID if version == USER_VERSION => None,
        APPLICATION_ID if version > USER_VERSION => Some(format!(
            "it was written by a newer release (format {version}, this build reads format {USER_VERSION})"
        )),
        APPLICATION_ID => Some(format!("it is of unknown format {version}")),
        0 if things == 0 => None,
        _ => Some("it is a database of another application".to_owned()),
    })
}

/// Sets whether the journal is left as it is when the connection closes, instead of being checkpointed into
/// the file.
fn keep_journal(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(|_| ())
}

/// What is wrong with the structure of the file; `None` if it is sound.
fn damage_in(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'meta'";
    connection.query_row(query, [], |row| row.get::<_, i64>(0)).map(|count| count > 0)
}

fn create_table(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL;
         PRAGMA wal_autocheckpoint = {WAL_PAGES}"
    ))?;
    if has_table(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(&format!(
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {USER_VERSION}"
    ))?;
    let point = crash_point::begin("make the table of", &"SQLite");
    transaction.commit()?;
    point.end();
    Ok(())
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM meta)", [], |row| row.get(0))
}

fn value_of(connection: &Connection, key: &str) -> rusqlite::Result<Option<Bytes>> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    let value = statement.query_row([key], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    Ok(value.map(Bytes::from))
}

/// The pairs whose key begins with `prefix`. Keys compare by their bytes, in SQLite as in Rust, so they are
/// next to each other.
fn pairs_under(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<Pair>> {
    let query = "SELECT key, value FROM meta WHERE key >= ?1 ORDER BY key";
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query([prefix])?;
    let mut pairs = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !key.starts_with(prefix) {
            break;
        }
        pairs.push(Pair { key, value: row.get::<_, Vec<u8>>(1)?.into() });
    }
    Ok(pairs)
}

fn put(connection: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    let statement = "INSERT INTO meta (key, value) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.prepare_cached(statement)?.execute((key, value)).map(|_| ())
}

fn delete(connection: &Connection, key: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key]).map(|_| ())
}

fn failed(store: &str, action: &'static str, error: rusqlite::Error) -> StoreError {
    let store = store.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { store },
        Some(ErrorCode::NotADatabase) => {
            StoreError::Unreadable { store, reason: "it is not a SQLite database".to_owned() }
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { store, reason: error.to_string() }
        }
        None if is_of_values(&error) => StoreError::Damaged { store, reason: error.to_string() },
        _ => StoreError::Io { action, store, source: error.into() },
    }
}

/// Whether a value was read whose type is never written.
fn is_of_values(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, InvalidColumnType, Utf8Error};
    matches!(error, FromSqlConversionFailure(..) | InvalidColumnType(..) | Utf8Error(..))
}

fn io(
    store: &str,
    action: &'static str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Io { action, store: store.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests;
