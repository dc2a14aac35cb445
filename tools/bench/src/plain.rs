//! DataFusion by itself, on the very Parquet files that Tidemark serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use tidemark::config;
use tidemark_ledger::backup::SnapshotReader;
use tidemark_ledger::catalog::PUBLIC;
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::layout;
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::state::State;
use tidemark_ledger::storage::StorageLocation;

use crate::Fallible;
use crate::report::Machine;
use crate::results::Results;

/// A session with some tables.
pub struct Plain(SessionContext);

impl Plain {
    /// Opens the files that a snapshot of the store names for some tables.
    pub async fn open(
        store: &Path,
        machine: &Machine,
        snapshot: SnapshotId,
        tables: &[&str],
    ) -> Fallible<Self> {
        let context = context(machine)?;
        let folder = store.join(config::STATE_STORE_FOLDER);
        let state = read(&folder, snapshot).await?;
        for table in tables {
            let provider: Arc<dyn TableProvider> = match files_of(&state, table, &folder)? {
                Stored::Objects(files) => listing(&context, &files).await?,
                Stored::Inline(rows) => {
                    Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)
                }
            };
            context.register_table(*table, provider)?;
        }
        Ok(Self(context))
    }

    /// Runs a query and keeps its rows as Arrow holds them.
    pub async fn collect(&self, sql: &str) -> Fallible<Vec<RecordBatch>> {
        Ok(self.0.sql(sql).await?.collect().await?)
    }

    /// Runs a query and makes its rows comparable.
    pub async fn run(&self, sql: &str) -> Fallible<Results> {
        Results::of_batches(&self.collect(sql).await?)
    }
}

/// The same memory, the same parallelism and the same reading of literals as the server has.
fn context(machine: &Machine) -> Fallible<SessionContext> {
    let mut config = SessionConfig::new().with_target_partitions(machine.parallelism);
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    let runtime =
        RuntimeEnvBuilder::new().with_memory_limit(machine.memory_bytes, 1.0).build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

async fn read(folder: &Path, snapshot: SnapshotId) -> Fallible<State> {
    let url = format!("fs://{}", folder.display());
    let storage = StorageLocation::new(url, config::BACKUP_DIRECTORY).open()?;
    let path = layout::snapshot(config::BACKUP_DIRECTORY, snapshot);
    Ok(SnapshotReader::open(&storage, &path, None).await?.state().await?)
}

/// Where the rows of a table are.
enum Stored {
    Objects(Vec<PathBuf>),
    /// In the metadata, since they are few.
    Inline(RecordBatch),
}

fn files_of(state: &State, table: &str, folder: &Path) -> Fallible<Stored> {
    let epoch = state.version.max_committed_epoch;
    let catalog = state.catalog.at(epoch);
    let relation = catalog.relation(PUBLIC, table).ok_or("a table is not in the snapshot")?;
    let files = state.version.files_at(relation.id, epoch);
    if files.iter().any(|file| file.dead.is_some()) {
        return Err(format!("{table} has dead rows, which plain DataFusion would count").into());
    }
    if let [file] = files.as_slice()
        && let Some(rows) = file.sst.inline_rows(relation.id)
    {
        return Ok(Stored::Inline(named(&rows?, &file.sst)?));
    }
    if files.iter().any(|file| !file.sst.is_object()) {
        return Err(format!("{table} has inline rows besides others: compact it").into());
    }
    let path = |id| folder.join(layout::sst(config::DATA_DIRECTORY, id).as_ref());
    Ok(Stored::Objects(files.iter().map(|file| path(file.sst.id)).collect()))
}

/// Inline rows with the names of their columns.
fn named(rows: &RecordBatch, sst: &SstInfo) -> Fallible<RecordBatch> {
    let schema = rows.schema();
    let fields = schema.fields().iter().zip(sst.columns.iter());
    let fields = fields.map(|(field, column)| field.as_ref().clone().with_name(&column.name));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    Ok(RecordBatch::try_new(Arc::new(schema), rows.columns().to_vec())?)
}

async fn listing(context: &SessionContext, files: &[PathBuf]) -> Fallible<Arc<dyn TableProvider>> {
    let url = |file: &PathBuf| ListingTableUrl::parse(file.display().to_string());
    let urls = files.iter().map(url).collect::<Result<Vec<_>, _>>()?;
    let options =
        ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".data");
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(options)
        .infer_schema(&context.state())
        .await?;
    let statistics = context.runtime_env().cache_manager.get_file_statistic_cache();
    Ok(Arc::new(ListingTable::try_new(config)?.with_cache(statistics)))
}
