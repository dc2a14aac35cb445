//! Tidemark as its users have it: over the wire, and through `risectl`.

use std::path::Path;
use std::time::{Duration, Instant};

use tidemark::config;
use tidemark::demo::process::{self, ServerProcess};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::results::Results;
use crate::{Fallible, meta_store};

/// A session, of the present or pinned to an epoch.
pub struct Served(Client);

impl Served {
    pub async fn open(server: &ServerProcess, epoch: Option<u64>) -> Fallible<Self> {
        let client = server.connect().await?;
        if let Some(epoch) = epoch {
            client.simple_query(&format!("SET QUERY_EPOCH = {epoch}")).await?;
        }
        Ok(Self(client))
    }

    /// Takes a snapshot; returns how long it took, and the newest epoch it answers.
    pub async fn back_up(&self) -> Fallible<(Duration, u64)> {
        let start = Instant::now();
        self.run("BACKUP").await?;
        let elapsed = start.elapsed();
        let newest = "SELECT max(max_committed_epoch) FROM rw_catalog.rw_meta_snapshot";
        let epoch = self.run(newest).await?;
        Ok((elapsed, epoch.first_cell().ok_or("the snapshot is not listed")?.parse()?))
    }

    /// Runs a query and takes in all its rows.
    pub async fn run(&self, sql: &str) -> Fallible<Results> {
        let messages = self.0.simple_query(sql).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let cells = |row: &tokio_postgres::SimpleQueryRow| {
            (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()
        };
        Ok(Results::new(rows.map(cells).collect()))
    }
}

/// How long a restore took; the start of the process is in it.
pub struct Restored {
    pub dry_run: Duration,
    pub real: Duration,
}

/// Loses the meta store of a stopped server and restores it from its only snapshot.
pub async fn restore(program: &Path, store: &Path) -> Fallible<Restored> {
    let file = meta_store(store);
    std::fs::remove_dir_all(file.parent().ok_or("the meta store has no folder")?)?;
    let storage = format!("fs://{}", store.join(config::STATE_STORE_FOLDER).display());
    let endpoint = file.display().to_string();
    let flags = [
        ("--meta-snapshot-id", "1"),
        ("--meta-store-type", "sqlite"),
        ("--sql-endpoint", &endpoint),
        ("--backup-storage-url", &storage),
        ("--hummock-storage-url", &storage),
    ];
    let flags = flags.into_iter().flat_map(|(flag, value)| [flag, value]);
    let args: Vec<String> =
        ["meta", "restore-meta"].into_iter().chain(flags).map(str::to_owned).collect();
    let rehearsal = [args.as_slice(), &["--dry-run".to_owned()]].concat();
    let dry_run = risectl(program, &rehearsal).await?;
    let real = risectl(program, &args).await?;
    Ok(Restored { dry_run, real })
}

async fn risectl(program: &Path, args: &[String]) -> Fallible<Duration> {
    let outcome = process::risectl(program, None, None, args).await?;
    match outcome.success {
        true => Ok(outcome.elapsed),
        false => Err(outcome.text.into()),
    }
}
