//! `tidemark demo`: backup, time travel and restore on real data, by a real client against a real server.
//!
//! `story.rs` holds the story. The server and `risectl` are child processes of the same program
//! (`process.rs`), so that the server can be stopped, and `risectl` runs as an operator would type it.
//! The data is TPC-H (`tpch.rs`). States that must be equal are compared as a `picture::Picture`.

mod output;
mod picture;
pub mod process;
mod session;
mod stores;
mod story;
pub mod tpch;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use tempfile::TempDir;

use self::output::Screen;
use self::process::ProcessError;
use self::stores::{DemoStoreArgs, Stores};
use self::story::Story;
use crate::cli;
use crate::config::ConfigError;
use tidemark_ledger::meta_store::StoreError;
use tidemark_ledger::storage::StorageError;

const SCALE_MIN: f64 = 0.001;
const SCALE_MAX: f64 = 100.0;

/// The arguments of `tidemark demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// How much data: 1 is the TPC-H scale factor of 8.7 million rows
    #[arg(long, default_value_t = 0.01, value_parser = parse_scale)]
    scale: f64,
    /// Folder of the stores, which must be empty or new [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    store_directory: Option<PathBuf>,
    #[command(flatten)]
    location: DemoStoreArgs,
    /// Leave the restored server up until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// Why the demo did not finish.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("could not run \"{statement}\"")]
    Sql {
        statement: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("could not connect to the server")]
    Connect(#[source] tokio_postgres::Error),
    #[error("\"{statement}\" returned no value")]
    NoValue { statement: String },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the store directory {} is not empty", path.display())]
    NotEmpty { path: PathBuf },
    #[error("the meta store {store} is not empty, and the demo loses it")]
    MetaStoreNotEmpty { store: String },
    #[error("the demo runs on the meta store types sqlite and etcd")]
    MetaStoreType,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("could not {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not print")]
    Print(#[from] io::Error),
    #[error("interrupted")]
    Interrupted,
}

/// Runs the demo; the exit code is its verdict.
pub fn main(args: DemoArgs) -> ExitCode {
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail("tidemark", &error, None),
    };
    let mut screen = Screen::new();
    let passed = runtime.block_on(run(&args, &mut screen)).unwrap_or_else(|error| {
        // If even this cannot be printed, the exit code still reports the failure.
        screen.verdict(false, &cli::chain(&error)).ok();
        false
    });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(args: &DemoArgs, screen: &mut Screen) -> Result<bool, DemoError> {
    let start = Instant::now();
    let scratch = scratch_folder()?;
    let store = match &args.store_directory {
        Some(path) => new_folder(path)?,
        None => scratch.path().join("store"),
    };
    let stores = Stores::new(args.location.clone(), store)?;
    stores.check_empty().await?;
    let story = Story::new(screen, args.scale, stores, scratch.path())?;
    let server = tokio::select! {
        told = story.tell() => told?,
        wanted = cli::interrupted() => {
            wanted?;
            return Err(DemoError::Interrupted);
        }
    };
    let elapsed = start.elapsed().as_secs_f64();
    if args.keep {
        screen.step("The restored server stays up until Ctrl-C")?;
        screen.command(&crate::ctl::output::psql_line(server.sql_addr))?;
        conclude(screen, elapsed)?;
        stay_up(server).await?;
    } else {
        server.stop().await?;
        conclude(screen, elapsed)?;
    }
    Ok(screen.all_good())
}

fn conclude(screen: &Screen, seconds: f64) -> io::Result<()> {
    screen.verdict(screen.all_good(), &format!("{}, in {seconds:.1} s", screen.tally()))
}

/// Waits until the user ends it, or the server ends on its own.
async fn stay_up(mut server: process::ServerProcess) -> Result<(), DemoError> {
    tokio::select! {
        wanted = cli::interrupted() => wanted?,
        ended = server.ended() => {
            ended.map_err(ProcessError::Watch)?;
            return Ok(());
        }
    }
    Ok(server.stop().await?)
}

/// Temporary folder for the child processes' files that are not part of the story; removed at the end.
fn scratch_folder() -> Result<TempDir, DemoError> {
    tempfile::Builder::new().prefix("tidemark-demo-").tempdir().map_err(|source| DemoError::File {
        action: "create a folder in",
        path: std::env::temp_dir(),
        source,
    })
}

/// Creates the store folder. Refuses one that is not empty: the demo deletes the meta store on purpose.
fn new_folder(path: &PathBuf) -> Result<PathBuf, DemoError> {
    let wrong = |source| DemoError::File { action: "use", path: path.clone(), source };
    std::fs::create_dir_all(path).map_err(wrong)?;
    match std::fs::read_dir(path).map_err(wrong)?.next() {
        Some(_) => Err(DemoError::NotEmpty { path: path.clone() }),
        None => std::path::absolute(path).map_err(wrong),
    }
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if (SCALE_MIN..=SCALE_MAX).contains(&scale) => Ok(scale),
        _ => Err(format!("expect a number from {SCALE_MIN} to {SCALE_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_anything_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        assert_eq!(new_folder(&path).unwrap(), path);
        std::fs::write(path.join("precious"), "").unwrap();
        assert!(matches!(new_folder(&path), Err(DemoError::NotEmpty { .. })));
    }

    #[test]
    fn scales_have_bounds() {
        assert_eq!(parse_scale("0.5"), Ok(0.5));
        assert!(parse_scale("0").is_err() && parse_scale("NaN").is_err());
    }
}
