//! `restore-meta`: restores a meta snapshot into a meta store that a server can start on. Needs no server.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::output::{self, progress_bar, shell_word, show};
use super::{CtlError, say};
use crate::config::{self, EtcdArgs, MetaStoreSetting, MetaStoreType};
use tidemark_ledger::backup::restore::{self, Overwrite, Plan, Request};
use tidemark_ledger::epoch::{Clock as _, SystemClock};
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::storage::{RemoteTimeouts, StorageLocation};
use tidemark_ledger::storage_url;

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// Id of the snapshot to restore; list-meta-snapshots and manifest.json name them
    #[arg(long)]
    meta_snapshot_id: SnapshotId,
    /// Kind of meta store to restore into [default: as --sql-endpoint says]
    #[arg(long, value_name = "TYPE")]
    meta_store_type: Option<MetaStoreType>,
    /// File of the meta store: a path, or sqlite://PATH?mode=rwc
    #[arg(long, value_name = "ENDPOINT")]
    sql_endpoint: Option<String>,
    #[command(flatten)]
    etcd: EtcdArgs,
    /// Storage to read the snapshot from
    #[arg(long, alias = "storage-url", value_name = "URL")]
    backup_storage_url: String,
    /// Directory to read the snapshot from
    #[arg(
        long,
        alias = "storage-directory",
        value_name = "DIR",
        default_value = config::BACKUP_DIRECTORY
    )]
    backup_storage_directory: String,
    /// Storage that holds the data, without `hummock+`
    #[arg(long, value_name = "URL")]
    hummock_storage_url: String,
    /// Directory that holds the data
    #[arg(
        long,
        alias = "hummock-storage-dir",
        value_name = "DIR",
        default_value = config::DATA_DIRECTORY
    )]
    hummock_storage_directory: String,
    /// Show the plan and check it, but restore nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the plan as JSON, and nothing else
    #[arg(long)]
    json: bool,
    /// Report the check of the data files; `checksum` also reads them all
    #[arg(
        long,
        value_name = "size|checksum",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "size"
    )]
    validate_integrity: Option<Integrity>,
    /// Use the data location of --hummock-storage-* instead of the one in the snapshot
    #[arg(long)]
    overwrite_hummock_storage_endpoint: bool,
    /// Storage of the restored cluster's snapshots, instead of the one in the snapshot
    #[arg(long, value_name = "URL")]
    overwrite_backup_storage_url: Option<String>,
    /// Directory of the restored cluster's snapshots, instead of the one in the snapshot
    #[arg(long, value_name = "DIR")]
    overwrite_backup_storage_directory: Option<String>,
    /// First copy the data files to the location of --hummock-storage-*; can be run again after an
    /// interruption
    #[arg(long)]
    copy_data: bool,
    /// Timeout of one attempt to read from a store over the network
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    read_attempt_timeout_ms: Option<u64>,
    /// How often such a read is retried
    #[arg(long, value_name = "N")]
    read_retry_attempts: Option<u32>,
    #[command(flatten)]
    unsupported: Unsupported,
}

/// What is checked of each data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Integrity {
    #[value(alias = "true")]
    Size,
    Checksum,
}

/// RisingWave flags that this build does not support: parsed, so that they can be refused by name.
#[derive(Args)]
struct Unsupported {
    #[arg(long, hide = true)]
    sql_username: Option<String>,
    #[arg(long, hide = true)]
    sql_password: Option<String>,
    #[arg(long, hide = true)]
    sql_database: Option<String>,
    #[arg(long, hide = true)]
    sql_url_params: Option<String>,
}

impl Unsupported {
    /// Refuses the first of them that was given. An empty value is RisingWave's default and asks for nothing.
    fn refuse(&self) -> Result<(), CtlError> {
        let text = |value: &Option<String>| value.as_ref().is_some_and(|v| !v.is_empty());
        let flags = [
            ("--sql-username", text(&self.sql_username)),
            ("--sql-password", text(&self.sql_password)),
            ("--sql-database", text(&self.sql_database)),
            ("--sql-url-params", text(&self.sql_url_params)),
        ];
        match flags.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(CtlError::Unsupported { flag }),
            None => Ok(()),
        }
    }
}

impl RestoreArgs {
    /// The meta store to restore into. One in memory is discarded when the command ends: a rehearsal.
    fn target(&self) -> Result<MetaStoreSetting, CtlError> {
        let endpoint = self.sql_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let etcd = self.etcd.given().map(|_| MetaStoreType::Etcd);
        match (self.meta_store_type.or(etcd), endpoint) {
            (Some(MetaStoreType::Mem), _) => Ok(MetaStoreSetting::Memory),
            (None, None) if self.dry_run => Ok(MetaStoreSetting::Memory),
            (None, None) => Err(CtlError::NoTarget),
            (Some(MetaStoreType::Etcd), None) => Ok(MetaStoreSetting::Etcd(self.etcd.settings()?)),
            (kind, endpoint) => {
                let kind = kind.unwrap_or(MetaStoreType::Sqlite);
                Ok(MetaStoreSetting::Sqlite { endpoint: config::sqlite_endpoint(kind, endpoint)? })
            }
        }
    }

    /// Sets the timeout and the retries of remote reads, if either flag was given.
    fn set_patience(&self) {
        if self.read_attempt_timeout_ms.is_none() && self.read_retry_attempts.is_none() {
            return;
        }
        let usual = RemoteTimeouts::default();
        let attempt = self.read_attempt_timeout_ms.map_or(usual.attempt, Duration::from_millis);
        let retries = self.read_retry_attempts.map_or(usual.retries, |n| n as usize);
        RemoteTimeouts { attempt, retries }.set();
    }

    fn request(&self) -> Request {
        let hummock_url = storage_url::without_hummock(&self.hummock_storage_url);
        Request {
            snapshot_id: self.meta_snapshot_id,
            backup: StorageLocation {
                url: self.backup_storage_url.clone(),
                directory: self.backup_storage_directory.clone(),
            },
            hummock: StorageLocation {
                url: hummock_url.to_owned(),
                directory: self.hummock_storage_directory.clone(),
            },
            validate_integrity: self.validate_integrity == Some(Integrity::Checksum),
            now_ms: SystemClock.now_ms(),
            overwrite: Overwrite {
                hummock: self.overwrite_hummock_storage_endpoint,
                backup_url: given(&self.overwrite_backup_storage_url),
                backup_directory: given(&self.overwrite_backup_storage_directory),
            },
            copy_data: self.copy_data,
            dry_run: self.dry_run,
        }
    }
}

/// Treats an empty value as none: it is RisingWave's default and asks for nothing.
fn given(value: &Option<String>) -> Option<String> {
    value.clone().filter(|value| !value.is_empty())
}

/// Plans, prints the plan, copies, verifies and applies. With `--dry-run` it copies and applies nothing.
pub(super) async fn run(args: RestoreArgs) -> Result<(), CtlError> {
    args.unsupported.refuse()?;
    args.set_patience();
    let target = args.target()?;
    let store = target.open().await?;
    let plan = restore::plan(args.request(), store.as_ref()).await?;
    match args.json {
        true => say(&serde_json::to_string_pretty(&plan.to_json())?)?,
        false => say(&plan.to_string())?,
    }
    let tell = |text: &str| if args.json { Ok(()) } else { say(text) };
    plan.check_target()?;
    if !args.dry_run {
        copy(&plan).await?;
    }
    verify(&plan, args.validate_integrity.is_some(), &tell).await?;
    if args.dry_run {
        tell("Complete dry run.")?;
        tell("command succeeded")?;
        return Ok(());
    }
    restore::apply(&plan, store.as_ref()).await?;
    tell("command succeeded")?;
    Ok(tell(&what_next(&target, &plan.request))?)
}

/// Copies the data files to where the restored cluster will look for them.
async fn copy(plan: &Plan) -> Result<(), CtlError> {
    let bar = progress_bar("copying data files");
    let copied = restore::copy(plan, &|done, total| show(&bar, done, total)).await;
    bar.finish_and_clear();
    Ok(copied?)
}

/// Checks that every referenced object exists. Reports the outcome only if `aloud` (`--validate-integrity`).
async fn verify(
    plan: &Plan,
    aloud: bool,
    tell: &impl Fn(&str) -> std::io::Result<()>,
) -> Result<(), CtlError> {
    if aloud {
        tell("Start integrity validation.")?;
    }
    let bar = progress_bar("checking data files");
    let result = restore::verify(plan, &|done, total| show(&bar, done, total)).await;
    bar.finish_and_clear();
    if aloud {
        let done = result.is_ok();
        tell(if done { "Succeed integrity validation." } else { "Fail integrity validation." })?;
    }
    Ok(result?)
}

/// Tells the operator what to type next.
fn what_next(target: &MetaStoreSetting, request: &Request) -> String {
    let start = match target {
        MetaStoreSetting::Sqlite { endpoint } => start_line(endpoint, &request.hummock),
        MetaStoreSetting::Etcd(settings) => {
            let endpoints = settings.endpoints.join(",");
            let endpoints = shell_word(&endpoints);
            let auth = if settings.user.is_some() { " --etcd-auth …" } else { "" };
            let data = data_flags(&request.hummock);
            format!("tidemark --meta-store-type etcd --etcd-endpoints {endpoints}{auth} {data}")
        }
        MetaStoreSetting::Memory => {
            return "nothing was kept: the memory meta store ends with this command".to_owned();
        }
    };
    let sql_addr: SocketAddr = config::LISTEN_ADDR.parse().expect("the default is an address");
    format!(
        "\nnow start the server on it, and connect:\n  {start}\n  {}",
        output::psql_line(sql_addr)
    )
}

/// The command that starts a server on the restored store.
fn start_line(endpoint: &str, hummock: &StorageLocation) -> String {
    let file = endpoint.strip_prefix("sqlite://").unwrap_or(endpoint);
    let file = file.split('?').next().unwrap_or(file);
    let folder = file.strip_suffix(config::META_STORE_FILE).map(|f| f.trim_end_matches('/'));
    if let Some(folder) = folder
        && hummock.url == format!("fs://{folder}/{}", config::STATE_STORE_FOLDER)
        && hummock.directory == config::DATA_DIRECTORY
    {
        return format!("tidemark --store-directory {}", shell_word(folder));
    }
    let (file, data) = (shell_word(file), data_flags(hummock));
    format!("tidemark --meta-store-type sqlite --sql-endpoint {file} {data}")
}

fn data_flags(hummock: &StorageLocation) -> String {
    format!(
        "--state-store {} --data-directory {}",
        shell_word(&format!("hummock+{}", storage_url::mask(&hummock.url))),
        shell_word(&hummock.directory)
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        restore: RestoreArgs,
    }

    fn args(more: &[&str]) -> RestoreArgs {
        let given = [
            "restore-meta",
            "--meta-snapshot-id",
            "1",
            "--backup-storage-url",
            "fs:///s/state_store",
            "--hummock-storage-url",
            "hummock+fs:///s/state_store",
        ];
        Cli::try_parse_from(given.iter().chain(more)).unwrap_or_else(|e| panic!("{e}")).restore
    }

    #[test]
    fn flags_that_cannot_be_honoured_are_refused_by_name() {
        let error = args(&["--sql-password", "x"]).unsupported.refuse().unwrap_err();
        assert!(error.to_string().contains("--sql-password"), "{error}");
        assert!(args(&["--sql-password", ""]).unsupported.refuse().is_ok());
    }

    #[test]
    fn data_files_are_read_only_where_that_is_asked_for() {
        let asked = |more: &[&str]| args(more).validate_integrity;
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&["--validate-integrity", "--dry-run"]), Some(Integrity::Size));
        assert_eq!(asked(&["--validate-integrity=true"]), Some(Integrity::Size));
        assert_eq!(asked(&["--validate-integrity=checksum"]), Some(Integrity::Checksum));
    }

    #[test]
    fn an_empty_overwrite_asks_nothing() {
        let request = args(&["--overwrite-backup-storage-url", ""]).request();
        assert_eq!(request.overwrite.backup_url, None);
    }

    #[test]
    fn only_a_dry_run_may_leave_the_target_open() {
        assert!(matches!(args(&[]).target(), Err(CtlError::NoTarget)));
        assert!(matches!(args(&["--dry-run"]).target(), Ok(MetaStoreSetting::Memory)));
        let etcd = args(&["--meta-store-type", "etcd"]).target().err().unwrap();
        assert!(etcd.to_string().contains("needs --etcd-endpoints"), "{etcd}");
        let etcd = args(&["--etcd-endpoints", "127.0.0.1:2379"]).target();
        assert!(matches!(etcd, Ok(MetaStoreSetting::Etcd(_))));
    }

    #[test]
    fn the_next_command_is_the_shortest_that_works() {
        let hummock = args(&[]).request().hummock;
        let line = start_line("sqlite:///s/meta_store/single_node.db?mode=rwc", &hummock);
        assert_eq!(line, "tidemark --store-directory /s");
        let line = start_line("/elsewhere/meta.db", &hummock);
        assert_eq!(
            line,
            "tidemark --meta-store-type sqlite --sql-endpoint /elsewhere/meta.db \
             --state-store hummock+fs:///s/state_store --data-directory hummock_001"
        );
    }
}
