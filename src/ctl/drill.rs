//! `drill`: rehearses a restore from beginning to end. Restores into a scratch cluster in a temporary
//! folder and starts it on the data files where they are; writes nothing outside that folder.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::output::{Table, progress_bar, show};
use super::{CtlError, say};
use crate::config;
use crate::server::Rehearsal;
use tidemark_ledger::backup::BackupError;
use tidemark_ledger::backup::restore::{self, Overwrite, Plan, Request};
use tidemark_ledger::epoch::{Clock as _, SystemClock};
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::meta_store::{MetaStore, SqliteStore};
use tidemark_ledger::storage::{Storage, StorageLocation};

#[derive(Args)]
pub(super) struct DrillArgs {
    /// Id of the snapshot
    #[arg(value_name = "ID")]
    id: SnapshotId,
    /// Storage to read the snapshot from
    #[arg(long, value_name = "URL")]
    backup_storage_url: String,
    /// Directory to read the snapshot from
    #[arg(long, value_name = "DIR", default_value = config::BACKUP_DIRECTORY)]
    backup_storage_directory: String,
    /// Storage that holds the data
    #[arg(long, value_name = "URL")]
    hummock_storage_url: String,
    /// Directory that holds the data; for copies it is `data` in the backup directory
    #[arg(long, value_name = "DIR", default_value = config::DATA_DIRECTORY)]
    hummock_storage_directory: String,
    /// Also read every data file and compare its checksum
    #[arg(long)]
    checksum: bool,
    /// A query to run on the restored cluster; may be given several times
    #[arg(long, value_name = "QUERY")]
    sql: Vec<String>,
}

impl DrillArgs {
    fn request(&self) -> Request {
        Request {
            snapshot_id: self.id,
            backup: StorageLocation::new(&self.backup_storage_url, &self.backup_storage_directory),
            hummock: StorageLocation::new(
                &self.hummock_storage_url,
                &self.hummock_storage_directory,
            ),
            validate_integrity: self.checksum,
            now_ms: SystemClock.now_ms(),
            overwrite: Overwrite { hummock: true, ..Overwrite::default() },
            copy_data: false,
            dry_run: false,
        }
    }
}

/// Reports how long each step took.
struct Steps {
    begun: Instant,
    last: Instant,
}

impl Steps {
    fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now }
    }

    fn done(&mut self, what: &str) -> Result<(), CtlError> {
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        Ok(say(&format!("{what:<32} {seconds:>9.3} s"))?)
    }
}

pub(super) async fn run(args: DrillArgs) -> Result<(), CtlError> {
    let mut steps = Steps::begin();
    let folder = tempfile::tempdir()?;
    let store = scratch_store(folder.path()).await?;
    let plan = restore::plan(args.request(), store.as_ref()).await?;
    steps.done("read and check the snapshot")?;
    verify(&plan).await?;
    steps.done(if args.checksum { "read the data files" } else { "look at the data files" })?;
    let data = plan.request.hummock.open_existing().map_err(BackupError::from)?;
    let plan = plan.rehearsed_in(&scratch_url(&folder)?);
    restore::apply(&plan, store.as_ref()).await?;
    steps.done("restore into a scratch store")?;
    let server = start(store, &plan, data).await?;
    steps.done("start on it")?;
    let outcome = ask_all(&server, &args.sql, &mut steps).await;
    server.stop().await;
    outcome?;
    let seconds = steps.begun.elapsed().as_secs_f64();
    Ok(say(&format!("drill succeeded: snapshot {} was restored in {seconds:.3} s", args.id))?)
}

async fn scratch_store(folder: &Path) -> Result<Arc<dyn MetaStore>, CtlError> {
    let file = folder.join("meta.db").display().to_string();
    Ok(Arc::new(SqliteStore::open_target(&file).await?))
}

fn scratch_url(folder: &TempDir) -> Result<String, CtlError> {
    let root = folder.path().join("state_store");
    std::fs::create_dir(&root)?;
    Ok(format!("fs://{}", root.display()))
}

async fn verify(plan: &Plan) -> Result<(), CtlError> {
    let bar = progress_bar("checking data files");
    let found = restore::verify(plan, &|done, total| show(&bar, done, total)).await;
    bar.finish_and_clear();
    Ok(found?)
}

async fn start(
    store: Arc<dyn MetaStore>,
    plan: &Plan,
    data: Storage,
) -> Result<Rehearsal, CtlError> {
    let started = Rehearsal::start(store, &plan.request.hummock, data.read_only()).await;
    started.map_err(|error| CtlError::Drill(Box::new(error)))
}

/// Runs the queries, each in its own read-only transaction.
async fn ask_all(
    server: &Rehearsal,
    queries: &[String],
    steps: &mut Steps,
) -> Result<(), CtlError> {
    if queries.is_empty() {
        return Ok(());
    }
    let (ip, port) = (server.sql_addr().ip(), server.sql_addr().port());
    let config = format!("host={ip} port={port} user=root dbname=dev");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    for query in queries {
        let table = ask(&client, query).await?;
        steps.done(query)?;
        say(&table.to_string())?;
    }
    connection.abort();
    Ok(())
}

async fn ask(client: &Client, query: &str) -> Result<Table, CtlError> {
    client.batch_execute("BEGIN READ ONLY").await.map_err(failed)?;
    let messages = client.simple_query(query).await.map_err(failed)?;
    client.batch_execute("ROLLBACK").await.map_err(failed)?;
    let mut table = Table::default();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                table = Table::new(columns.iter().map(|column| column.name().to_owned()));
            }
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|n| row.get(n).unwrap_or_default().to_owned());
                table.push(cells.collect());
            }
            _ => {}
        }
    }
    Ok(table)
}

/// Prefers the server's message to that of the client library.
fn failed(error: tokio_postgres::Error) -> CtlError {
    match error.as_db_error() {
        Some(said) => CtlError::Drill(said.message().into()),
        None => CtlError::Drill(Box::new(error)),
    }
}
