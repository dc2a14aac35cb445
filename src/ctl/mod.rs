//! `risectl`: commands of an operator. `meta.rs` talks to a running server; `restore.rs` needs none.

mod drill;
mod hummock;
mod meta;
pub mod output;
mod restore;
mod selftest;
mod verify;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli;
use crate::config::ConfigError;
use tidemark_ledger::backup::BackupError;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::meta_store::StoreError;

/// Exit code when a check could not be made.
const COULD_NOT_VERIFY: u8 = 2;

/// The arguments of `risectl`.
#[derive(Args)]
#[command(infer_subcommands = true)]
pub struct CtlArgs {
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Subcommand)]
enum CtlCommand {
    /// Commands for Hummock, the versioned store
    Hummock(HummockArgs),
    /// Commands for Meta
    Meta(MetaArgs),
    /// Probe what a storage supports, as a server does when it starts
    Selftest(selftest::SelftestArgs),
}

#[derive(Args)]
#[command(infer_subcommands = true)]
struct HummockArgs {
    #[command(subcommand)]
    command: HummockCommand,
}

#[derive(Subcommand)]
enum HummockCommand {
    /// Compact tables now, as far as possible
    TriggerManualCompaction(hummock::CompactArgs),
    /// Forget what is past retention and delete the objects nothing needs
    TriggerFullGc(hummock::FullGcArgs),
    /// Print what holds an object of the data directory, since when, and when it may be deleted
    ExplainObject(hummock::ExplainArgs),
    /// Replace a damaged or missing data file with the copy that a backup has
    RepairObject(hummock::RepairArgs),
}

#[derive(Args)]
#[command(infer_subcommands = true)]
struct MetaArgs {
    #[command(subcommand)]
    command: MetaCommand,
}

#[derive(Subcommand)]
enum MetaCommand {
    /// Back up meta by taking a meta snapshot
    BackupMeta(meta::BackupArgs),
    /// List the meta snapshots
    ListMetaSnapshots(meta::ListArgs),
    /// Check that meta snapshots, and the data files they name, are as they were written
    VerifyMetaSnapshot(verify::VerifyArgs),
    /// Delete meta snapshots
    DeleteMetaSnapshots(meta::DeleteArgs),
    /// List every backup location whose snapshots hold data files
    ListBackupLocations(hummock::LocationsArgs),
    /// Give up the snapshots of a backup location: what only they hold may be deleted
    ForgetBackupLocation(hummock::ForgetLocationArgs),
    /// Rehearse a restore in a scratch store, with queries, and report how long each step took
    Drill(drill::DrillArgs),
    /// Restore meta by recovering from a meta snapshot; the server must be stopped
    RestoreMeta(Box<restore::RestoreArgs>),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{flag} is not supported by this build yet")]
    Unsupported { flag: &'static str },
    #[error("--meta-store-type does not say which meta store to restore into")]
    NoTarget,
    #[error("the restored cluster does not answer")]
    Drill(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{location} does not do {missing} of the things that are needed")]
    Incapable { location: String, missing: usize },
    #[error("{count} of the meta snapshots are damaged")]
    Damaged { count: usize },
    /// Nothing is known to be damaged, and nothing to be intact.
    #[error("could not verify: {reason}")]
    CouldNotVerify { reason: String, hint: Option<String> },
    #[error("could not print the result")]
    Print(#[from] io::Error),
    #[error("could not write the result as JSON")]
    Json(#[from] serde_json::Error),
}

impl CtlError {
    /// What the user can do about it, if anything.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Rpc(error) => error.hint(),
            Self::Backup(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Store(StoreError::InUse { .. }) => {
                Some("stop the server that uses it, then run the command again".to_owned())
            }
            Self::Unsupported { .. } => Some("run the command without it".to_owned()),
            Self::NoTarget => Some(
                "give --meta-store-type sqlite --sql-endpoint PATH, or --dry-run to look only"
                    .to_owned(),
            ),
            Self::Damaged { .. } => Some(
                "bring the files back from a copy, or take a new snapshot while the cluster is well"
                    .to_owned(),
            ),
            Self::Incapable { .. } => Some(
                "a server does not start on it: use a store that honours conditional writes".to_owned(),
            ),
            Self::CouldNotVerify { hint, .. } => hint.clone(),
            Self::Store(error) => error.hint(),
            Self::Drill(_) | Self::Print(_) | Self::Json(_) => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::CouldNotVerify { .. } => ExitCode::from(COULD_NOT_VERIFY),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Runs a command and returns its exit code. `program` is the name the user called it by.
pub fn main(program: &str, args: CtlArgs) -> ExitCode {
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(program, &error, None),
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::fail(program, &error, error.hint());
            error.exit_code()
        }
    }
}

async fn run(args: CtlArgs) -> Result<(), CtlError> {
    let args = match args.command {
        CtlCommand::Hummock(args) => return run_hummock(args.command).await,
        CtlCommand::Meta(args) => args,
        CtlCommand::Selftest(args) => return selftest::run(args).await,
    };
    match args.command {
        MetaCommand::BackupMeta(args) => meta::backup(args).await,
        MetaCommand::ListMetaSnapshots(args) => meta::list(args).await,
        MetaCommand::VerifyMetaSnapshot(args) => verify::run(args).await,
        MetaCommand::DeleteMetaSnapshots(args) => meta::delete(args).await,
        MetaCommand::ListBackupLocations(args) => hummock::locations(args).await,
        MetaCommand::ForgetBackupLocation(args) => hummock::forget_location(args).await,
        MetaCommand::Drill(args) => drill::run(args).await,
        MetaCommand::RestoreMeta(args) => restore::run(*args).await,
    }
}

async fn run_hummock(command: HummockCommand) -> Result<(), CtlError> {
    match command {
        HummockCommand::TriggerManualCompaction(args) => hummock::compact(args).await,
        HummockCommand::TriggerFullGc(args) => hummock::full_gc(args).await,
        HummockCommand::ExplainObject(args) => hummock::explain(args).await,
        HummockCommand::RepairObject(args) => hummock::repair(args).await,
    }
}

/// Prints a result as whole lines and flushes, so that a reader of the pipe does not wait.
fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Reports progress on standard error. Ignores errors: a closed stderr is no reason to stop the job.
fn report_progress(line: &str) {
    writeln!(io::stderr().lock(), "{line}").ok();
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        ctl: CtlArgs,
    }

    fn parse(line: &str) -> Result<MetaCommand, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())?;
        match cli.ctl.command {
            CtlCommand::Meta(args) => Ok(args.command),
            CtlCommand::Hummock(_) | CtlCommand::Selftest(_) => {
                Err("a command of hummock".to_owned())
            }
        }
    }

    #[test]
    fn subcommands_may_be_shortened() {
        let backup = parse("risectl m backup --remarks nightly");
        assert!(matches!(backup, Ok(MetaCommand::BackupMeta(_))));
        assert!(matches!(parse("risectl meta list-m"), Ok(MetaCommand::ListMetaSnapshots(_))));
        assert!(parse("risectl meta frobnicate").is_err());
    }

    #[test]
    fn snapshots_to_delete_are_named_in_either_way() {
        for line in ["delete-meta-snapshots 3 4", "delete-meta-snapshots --snapshot-ids 3,4"] {
            let Ok(MetaCommand::DeleteMetaSnapshots(args)) = parse(&format!("risectl meta {line}"))
            else {
                panic!("{line} is not understood");
            };
            assert_eq!(args.ids(), [3, 4].map(tidemark_ledger::id::SnapshotId));
        }
        assert!(parse("risectl meta delete-meta-snapshots").is_err());
        assert!(parse("risectl meta delete-meta-snapshots abc").is_err());
    }

    #[test]
    fn older_names_of_the_restore_flags_are_understood() {
        let line = "risectl meta restore-meta --meta-snapshot-id 7 --storage-url fs:///b \
                    --storage-directory bk --hummock-storage-url fs:///h --hummock-storage-dir d";
        assert!(matches!(parse(line), Ok(MetaCommand::RestoreMeta(_))));
        let missing = parse("risectl meta restore-meta --meta-snapshot-id 7").err().unwrap();
        assert!(missing.contains("--backup-storage-url"), "{missing}");
    }
}
