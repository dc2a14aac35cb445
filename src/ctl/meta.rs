//! Meta snapshots of a running cluster: take one, list them, delete some.

use clap::Args;

use super::output::{self, Table};
use super::{CtlError, say};
use tidemark_engine::meta::command::BackupOptions;
use tidemark_engine::rpc::MetaClient;
use tidemark_ledger::backup::ManifestEntry;
use tidemark_ledger::backup::verify::Verification;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::SnapshotId;

/// How to reach the running cluster.
#[derive(Args)]
pub(super) struct Cluster {
    /// Address of the meta server
    #[arg(long, env = "RW_META_ADDR", value_name = "URL", default_value = "http://127.0.0.1:5690")]
    meta_addr: String,
}

#[derive(Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// A note to be kept with the snapshot
    #[arg(long)]
    remarks: Option<String>,
    /// Also copy the data files into the backup storage, those that are not there yet
    #[arg(long)]
    copy_data: bool,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// Print everything known of each snapshot as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// Ids of the snapshots
    #[arg(value_name = "ID", required_unless_present = "snapshot_ids")]
    ids: Vec<SnapshotId>,
    /// Ids of the snapshots, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    snapshot_ids: Vec<SnapshotId>,
}

impl DeleteArgs {
    /// The ids in the order given, without duplicates.
    pub(super) fn ids(&self) -> Vec<SnapshotId> {
        let mut ids: Vec<SnapshotId> = vec![];
        for id in self.ids.iter().chain(&self.snapshot_ids) {
            if !ids.contains(id) {
                ids.push(*id);
            }
        }
        ids
    }
}

impl Cluster {
    pub(super) async fn connect(&self) -> Result<MetaClient, CtlError> {
        Ok(MetaClient::connect(&self.meta_addr).await?)
    }
}

pub(super) async fn backup(args: BackupArgs) -> Result<(), CtlError> {
    let BackupArgs { cluster, remarks, copy_data } = args;
    let entry = cluster.connect().await?.backup(BackupOptions { remarks, copy_data }).await?;
    // Scripts read the id from the end of this line.
    say(&format!("backup job succeeded: job {}", entry.info.id))?;
    Ok(())
}

pub(super) async fn list(args: ListArgs) -> Result<(), CtlError> {
    let listed = args.cluster.connect().await?.list_snapshots().await?;
    let entries = &listed.snapshot_metadata;
    let text =
        if args.json { serde_json::to_string_pretty(entries)? } else { table(entries).to_string() };
    say(&text)?;
    Ok(())
}

pub(super) async fn delete(args: DeleteArgs) -> Result<(), CtlError> {
    let ids = args.ids();
    args.cluster.connect().await?.delete_snapshots(ids.clone()).await?;
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    say(&format!("delete meta snapshots succeeded: [{}]", ids.join(", ")))?;
    Ok(())
}

fn table(entries: &[ManifestEntry]) -> Table {
    let mut table = Table::new([
        "id",
        "created_at",
        "remarks",
        "size",
        "files",
        "data",
        "safe_epoch",
        "max_committed_epoch",
        "max_committed_epoch_ts",
        "copy_data",
        "verified_at",
        "verify_level",
        "verify_coverage",
        "verify_result",
    ]);
    for entry in entries {
        let info = &entry.info;
        let verified = |told: fn(&Verification) -> String| {
            entry.verification.as_ref().map(told).unwrap_or_default()
        };
        table.push(vec![
            info.id.to_string(),
            info.created_at.clone(),
            info.remarks.clone().unwrap_or_default(),
            output::size(entry.size_bytes),
            info.sst_count.to_string(),
            output::size(info.data_bytes),
            info.safe_epoch.to_string(),
            info.max_committed_epoch.to_string(),
            timestamp(info.max_committed_epoch),
            if info.copy_data { "t" } else { "f" }.to_owned(),
            verified(|v| v.verified_at.clone()),
            verified(|v| v.level.name().to_owned()),
            verified(|v| v.coverage.to_string()),
            verified(ToString::to_string),
        ]);
    }
    table
}

fn timestamp(epoch: Epoch) -> String {
    epoch.timestamp().map(|time| time.to_string()).unwrap_or_default()
}
