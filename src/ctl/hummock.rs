//! Commands on the data directory of a running cluster: compact it, collect garbage, explain and repair
//! an object, list and forget backup locations.

use clap::Args;

use super::meta::Cluster;
use super::output::{self, Table};
use super::{CtlError, say};
use tidemark_ledger::id::SstId;
use tidemark_ledger::layout;
use tidemark_ledger::storage::StorageLocation;
use tidemark_ledger::vacuum::Plan;

/// Maximum number of objects printed without `--json`; the others are counted.
const SHOWN_MAX: usize = 20;

#[derive(Args)]
pub(super) struct CompactArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// The table, with its schema unless that is public [default: every table]
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct FullGcArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// Minimum age of an object to delete [default: the server's --min-sst-retention-time-sec]
    #[arg(short = 's', long, value_name = "SECONDS")]
    sst_retention_time_sec: Option<u32>,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Print every object as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// Name of the object in the data directory, like 17.data
    #[arg(value_name = "NAME")]
    name: String,
    /// Print the holders as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// The data file: its number, or its name in the data directory, like 17.data
    #[arg(value_name = "ID", value_parser = parse_sst)]
    id: SstId,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct LocationsArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// Print the locations as JSON, credentials masked
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ForgetLocationArgs {
    #[command(flatten)]
    cluster: Cluster,
    /// URL of the backup storage
    #[arg(long, value_name = "URL")]
    backup_storage_url: String,
    /// Directory of the meta snapshots there
    #[arg(long, value_name = "DIR", default_value = crate::config::BACKUP_DIRECTORY)]
    backup_storage_directory: String,
}

pub(super) async fn compact(args: CompactArgs) -> Result<(), CtlError> {
    let table = args.table.map(|name| match name.split_once('.') {
        Some((schema, table)) => (schema.to_owned(), table.to_owned()),
        None => (tidemark_ledger::catalog::PUBLIC.to_owned(), name),
    });
    let report = args.cluster.connect().await?.compact(table).await?;
    let text = if args.json {
        serde_json::to_string_pretty(&report)?
    } else {
        let (from, to) = (output::size(report.bytes_in), output::size(report.bytes_out));
        format!(
            "compaction succeeded: {} files with {from} became {} files with {to}",
            report.files_in, report.files_out
        )
    };
    Ok(say(&text)?)
}

pub(super) async fn full_gc(args: FullGcArgs) -> Result<(), CtlError> {
    let retention_ms = args.sst_retention_time_sec.map(|seconds| u64::from(seconds) * 1000);
    let plan = args.cluster.connect().await?.vacuum(retention_ms, args.dry_run).await?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&plan)?,
        false => plan_text(&plan, args.dry_run),
    };
    Ok(say(&text)?)
}

fn plan_text(plan: &Plan, dry_run: bool) -> String {
    let mut table = Table::new(["object", "bytes"]);
    for object in plan.garbage.iter().take(SHOWN_MAX) {
        table.push(vec![object.path.clone(), object.size_bytes.to_string()]);
    }
    let more = plan.garbage.len().saturating_sub(SHOWN_MAX);
    let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
    let listed = if plan.garbage.is_empty() { String::new() } else { format!("{table}\n{more}") };
    let verb = if dry_run { "would be deleted" } else { "deleted" };
    format!(
        "{listed}full gc succeeded: {} objects with {} {verb}, {} objects with {} are needed",
        plan.garbage.len(),
        output::size(plan.garbage_bytes()),
        plan.kept,
        output::size(plan.kept_bytes),
    )
}

pub(super) async fn explain(args: ExplainArgs) -> Result<(), CtlError> {
    let holders = args.cluster.connect().await?.explain_object(args.name.clone()).await?;
    let text = if args.json {
        serde_json::to_string_pretty(&holders)?
    } else if holders.is_empty() {
        format!("nothing holds {}: the next vacuum deletes it", args.name)
    } else {
        let lines = holders.iter().map(|holder| format!("\n  {holder}"));
        format!("{} is held by{}", args.name, lines.collect::<String>())
    };
    Ok(say(&text)?)
}

fn parse_sst(text: &str) -> Result<SstId, String> {
    let id = text.parse().ok().map(SstId);
    id.or_else(|| layout::parse_sst(&layout::directory(text))).ok_or_else(|| {
        "expected the number of a data file, or its name in the data directory".to_owned()
    })
}

pub(super) async fn repair(args: RepairArgs) -> Result<(), CtlError> {
    let repaired = args.cluster.connect().await?.repair_object(args.id).await?;
    let text = match (args.json, &repaired.copy) {
        (true, _) => serde_json::to_string_pretty(&repaired)?,
        (false, Some(copy)) => format!("repair succeeded: {} is as {copy} again", repaired.object),
        (false, None) => format!("nothing to repair: {} is as it was written", repaired.object),
    };
    Ok(say(&text)?)
}

pub(super) async fn locations(args: LocationsArgs) -> Result<(), CtlError> {
    let locations = args.cluster.connect().await?.backup_locations().await?;
    let shown: Vec<String> = locations.iter().map(ToString::to_string).collect();
    let text = if args.json { serde_json::to_string_pretty(&shown)? } else { shown.join("\n") };
    Ok(say(&text)?)
}

pub(super) async fn forget_location(args: ForgetLocationArgs) -> Result<(), CtlError> {
    let location = StorageLocation::new(args.backup_storage_url, args.backup_storage_directory);
    args.cluster.connect().await?.forget_backup_location(&location).await?;
    Ok(say(&format!("forget backup location succeeded: {location}"))?)
}
