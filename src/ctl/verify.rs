//! `verify-meta-snapshot`: checks that snapshots are as they were written. Asks the server, or reads
//! the backup storage itself if one is named.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use super::meta::Cluster;
use super::output::{Table, progress_bar, show};
use super::{CtlError, report_progress, say};
use crate::config;
use tidemark_ledger::backup::verify::{
    self, Check, DataAt, Event, Level, Subset, Verdict, Verified,
};
use tidemark_ledger::backup::{BackupError, OpenLocation};
use tidemark_ledger::epoch::{Clock as _, SystemClock, rfc3339};
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::meta_error::{ErrorKind, chain};
use tidemark_ledger::storage::StorageLocation;

/// Pause between two lines of progress where there is no bar.
const LINE_PAUSE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// Ids of the snapshots
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<SnapshotId>,
    /// Every listed snapshot
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Check every snapshot again, also those that an interrupted run has checked
    #[arg(long, requires = "all")]
    restart: bool,
    /// How thoroughly to check: list, meta, objects or checksum
    #[arg(long, value_name = "LEVEL", default_value = "objects")]
    level: Level,
    /// Check one of several equal parts of the data files, like 1/7
    #[arg(long, value_name = "I/N", default_value = "all")]
    subset: Subset,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// Storage of the snapshots; with it no server is needed
    #[arg(long, value_name = "URL")]
    backup_storage_url: Option<String>,
    /// Directory of the snapshots there
    #[arg(long, value_name = "DIR", default_value = config::BACKUP_DIRECTORY)]
    backup_storage_directory: String,
    /// Storage that holds the data [default: the copies of the snapshot, or as the snapshot says]
    #[arg(long, value_name = "URL", requires = "backup_storage_url")]
    hummock_storage_url: Option<String>,
    /// Directory that holds the data
    #[arg(long, value_name = "DIR", default_value = config::DATA_DIRECTORY)]
    hummock_storage_directory: String,
}

impl VerifyArgs {
    fn request(&self) -> verify::Request {
        let ids = (!self.all).then(|| self.ids.clone());
        let check = Check { level: self.level, subset: self.subset };
        verify::Request { ids, check, restart: self.restart }
    }
}

pub(super) async fn run(args: VerifyArgs) -> Result<(), CtlError> {
    let verified = match &args.backup_storage_url {
        Some(url) => offline(&args, url).await?,
        None => online(&args).await?,
    };
    let text = match args.json {
        true => serde_json::to_string_pretty(&verified)?,
        false => table(&verified).to_string(),
    };
    say(&text)?;
    outcome(&verified)
}

async fn online(args: &VerifyArgs) -> Result<Vec<Verified>, CtlError> {
    let shown = Shown::default();
    let asked = match args.cluster.connect().await {
        Ok(client) => client.verify_snapshots(&args.request(), &|event| shown.show(event)).await,
        Err(CtlError::Rpc(error)) => Err(error),
        Err(error) => return Err(error),
    };
    let verified = shown.finish();
    asked.map(|()| verified).map_err(|error| match error {
        RpcError::Refused(refused)
            if matches!(refused.kind, ErrorKind::UndefinedSnapshot | ErrorKind::Damaged) =>
        {
            RpcError::Refused(refused).into()
        }
        error => CtlError::CouldNotVerify { reason: chain(&error), hint: error.hint() },
    })
}

/// Verifies in this process, as the server would.
async fn offline(args: &VerifyArgs, url: &str) -> Result<Vec<Verified>, CtlError> {
    let location = StorageLocation::new(url, &args.backup_storage_directory);
    let data = args.hummock_storage_url.as_deref();
    let data = data.map(|url| StorageLocation::new(url, &args.hummock_storage_directory));
    let now = || rfc3339(SystemClock.now_ms());
    let shown = Shown::default();
    let looked = async {
        let opened = OpenLocation::open_existing(&location)?;
        let data = data.as_ref().map_or(DataAt::Named, DataAt::Location);
        verify::verify(&opened, &args.request(), data, now, &|event| shown.show(event)).await
    };
    let looked = looked.await;
    shown.finish();
    looked.map_err(|error| match error {
        found @ (BackupError::UnknownSnapshots { .. } | BackupError::Damaged { .. }) => {
            found.into()
        }
        error => CtlError::CouldNotVerify { reason: chain(&error), hint: error.hint() },
    })
}

/// Progress of a verification: a bar if standard error is a terminal, else a line every few seconds.
struct Shown {
    bar: ProgressBar,
    state: Mutex<State>,
}

struct State {
    verified: Vec<Verified>,
    snapshots: u64,
    told_at: Instant,
}

impl Default for Shown {
    fn default() -> Self {
        let state = State { verified: vec![], snapshots: 0, told_at: Instant::now() };
        Self { bar: progress_bar("checking meta snapshots"), state: Mutex::new(state) }
    }
}

impl Shown {
    fn show(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begun { snapshots, resumed } => {
                state.snapshots = snapshots;
                if let Some(begun_at) = resumed {
                    self.line(&format!(
                        "going on with the verification begun at {begun_at}; --restart begins anew"
                    ));
                }
            }
            Event::Files { snapshot_id, done, total } => {
                self.bar
                    .set_message(format!("snapshot {snapshot_id}: {done} of {total} data files"));
                self.tell_now_and_then(&mut state);
            }
            Event::Verified(verified) => {
                state.verified.push(verified);
                self.tell_now_and_then(&mut state);
            }
        }
        show(&self.bar, state.verified.len() as u64, state.snapshots);
    }

    fn tell_now_and_then(&self, state: &mut State) {
        if self.bar.is_hidden() && state.told_at.elapsed() >= LINE_PAUSE {
            state.told_at = Instant::now();
            self.line(&format!("{} of {} meta snapshots", state.verified.len(), state.snapshots));
        }
    }

    /// Prints a line, above the bar if there is one.
    fn line(&self, line: &str) {
        self.bar.suspend(|| report_progress(line));
    }

    fn finish(&self) -> Vec<Verified> {
        self.bar.finish_and_clear();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.verified)
    }
}

fn table(verified: &[Verified]) -> Table {
    let mut table = Table::new(["id", "verified_at", "level", "coverage", "result"]);
    for Verified { snapshot_id, verification } in verified {
        table.push(vec![
            snapshot_id.to_string(),
            verification.verified_at.clone(),
            verification.level.name().to_owned(),
            verification.coverage.to_string(),
            verification.to_string(),
        ]);
    }
    table
}

/// Damage takes precedence over what could not be verified.
fn outcome(verified: &[Verified]) -> Result<(), CtlError> {
    let of = |verdict| verified.iter().filter(move |v| v.verification.result == verdict);
    let count = of(Verdict::Damaged).count();
    if count > 0 {
        return Err(CtlError::Damaged { count });
    }
    match of(Verdict::CouldNotVerify).next() {
        Some(first) => {
            let reason = first.verification.detail.clone().unwrap_or_default();
            Err(CtlError::CouldNotVerify { reason, hint: None })
        }
        None => Ok(()),
    }
}
