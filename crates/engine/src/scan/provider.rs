//! A table at one epoch, as a table provider of DataFusion.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraint, Constraints, Result, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::parquet::arrow::RowNumber;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;
use datafusion_datasource::compute_all_files_statistics;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::adapter::ById;
use super::alive::{self, Alive};
use super::data_file::DataFiles;
use super::inline;
use super::key_filters::KeyFilters;
use super::sought::Sought;
use super::statistics::{self, StatisticsCache};
use tidemark_ledger::catalog::{self, Table};
use tidemark_ledger::sst::schema::table_schema;
use tidemark_ledger::storage::BlockStore;
use tidemark_ledger::version::LiveFile;

/// Name of the column with the file of a row, in a scan that returns row positions.
pub const FILE_COLUMN: &str = "\u{1}file";
/// Name of the column with the position of a row in its file.
pub const POSITION_COLUMN: &str = "\u{1}position";

/// The files of one table at one epoch. They are listed only when they are scanned.
pub trait Files: fmt::Debug + Send + Sync {
    fn all(&self) -> Vec<LiveFile>;

    /// Those that may hold one of `keys`, which must be sorted.
    fn with_keys(&self, keys: &[Bytes]) -> Vec<LiveFile>;
}

impl Files for Vec<LiveFile> {
    fn all(&self) -> Vec<LiveFile> {
        self.clone()
    }

    fn with_keys(&self, keys: &[Bytes]) -> Vec<LiveFile> {
        self.iter().filter(|file| file.sst.may_hold_any(keys)).cloned().collect()
    }
}

/// The rows of one table alive at one epoch.
#[derive(Debug)]
pub struct SstTable {
    table: Arc<Table>,
    files: Arc<dyn Files>,
    /// Consulted if several files may hold a key.
    key_filters: Option<Arc<KeyFilters>>,
    store_url: ObjectStoreUrl,
    blocks: Arc<BlockStore>,
    data_directory: String,
    statistics: Arc<StatisticsCache>,
    /// The table's name in messages.
    name: Option<Arc<str>>,
    /// Whether the columns [`FILE_COLUMN`] and [`POSITION_COLUMN`] follow those of the table.
    row_positions: bool,
    schema: SchemaRef,
    constraints: Constraints,
}

impl SstTable {
    /// `store_url` names the state store in the runtime of the session that will scan; `blocks` reads
    /// its files.
    pub fn new(
        table: Arc<Table>,
        files: impl Files + 'static,
        store_url: ObjectStoreUrl,
        blocks: &Arc<BlockStore>,
        data_directory: &str,
        statistics: Arc<StatisticsCache>,
    ) -> Self {
        let schema = table_schema(&table);
        let constraints = key_constraint(&table);
        let data_directory = data_directory.to_owned();
        Self {
            table,
            files: Arc::new(files),
            key_filters: None,
            store_url,
            blocks: Arc::clone(blocks),
            data_directory,
            statistics,
            name: None,
            row_positions: false,
            schema,
            constraints,
        }
    }

    /// The same rows; if a query names their keys, `filters` tell which files may have them.
    #[must_use]
    pub fn with_key_filters(self, filters: &Arc<KeyFilters>) -> Self {
        Self { key_filters: Some(Arc::clone(filters)), ..self }
    }

    /// The same rows; sets the table's name in messages.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The same rows, each with its row position: a file and a position in it.
    #[must_use]
    pub fn with_row_positions(mut self) -> Self {
        let mut fields = self.schema.fields().to_vec();
        fields.push(Arc::new(file_field()));
        fields.push(Arc::new(Field::new(POSITION_COLUMN, DataType::Int64, false)));
        self.schema = Arc::new(Schema::new(fields));
        self.row_positions = true;
        self
    }

    /// The schema of a scan that yields all columns of the table, then the row position if `row_positions`.
    fn source(&self, row_positions: bool) -> Result<TableSchema> {
        let mut builder = TableSchema::builder(table_schema(&self.table));
        if row_positions {
            let position =
                Field::new(POSITION_COLUMN, DataType::Int64, false).with_extension_type(RowNumber);
            builder = builder
                .with_table_partition_cols(vec![Arc::new(file_field())])
                .with_virtual_columns(vec![Arc::new(position)]);
        }
        Ok(builder.build())
    }

    /// [`Self::plan_scan`], boxed (`docs/hacking.md`, "Futures that are proven once").
    fn planned<'a>(
        &'a self,
        state: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        filters: &'a [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        self.plan_scan(state, projection, filters, limit).boxed()
    }

    async fn plan_scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if filters.is_empty() && projection.is_some_and(Vec::is_empty) {
            return self.count_scan();
        }
        let files = self.files_for(state, filters).await?;
        let (objects, small): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.sst.is_object());
        let (dirty, clean): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|file| file.dead.is_some());
        let mut scans = vec![];
        if !small.is_empty() {
            let (wanted, backfill) = (Some(self.wanted(projection)), self.backfill()?);
            scans.push(inline::scan(&small, &self.schema, self.row_positions, wanted, &backfill)?);
        }
        if !clean.is_empty() {
            let wanted = Some(self.wanted(projection));
            scans.push(self.scan_files(state, &clean, self.row_positions, wanted, limit).await?);
        }
        if !dirty.is_empty() {
            scans.push(self.scan_dirty(state, &dirty, projection).await?);
        }
        match scans.len() {
            0 => {
                let wanted = self.wanted(projection);
                Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&wanted)?))))
            }
            1 => Ok(scans.remove(0)),
            _ => UnionExec::try_new(scans),
        }
    }

    async fn scan_files(
        &self,
        state: &dyn Session,
        files: &[LiveFile],
        row_positions: bool,
        projection: Option<Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table_schema = self.source(row_positions)?;
        let data_files = self.data_files(state);
        let seen_as = statistics::seen_as(&self.table);
        let mut partitioned = Vec::with_capacity(files.len());
        for file in files {
            let mut entry = partitioned_file(&data_files, file);
            if row_positions {
                entry = entry.with_partition_values(vec![ScalarValue::from(file.sst.id.0)]);
            }
            if state.config().collect_statistics() {
                let opened = data_files.open(file);
                let known = statistics::of_file(&self.statistics, &opened, &self.table, &seen_as);
                let known = known.await?;
                // Statistics of all rows are only approximate once some are dead.
                let known = match &file.dead {
                    Some(_) => Arc::new(Statistics::clone(&known).to_inexact()),
                    None => known,
                };
                entry = entry.with_statistics(known);
            }
            partitioned.push(entry);
        }
        let groups = FileGroup::new(partitioned).split_files(state.config().target_partitions());
        let stored = Arc::clone(table_schema.schema_without_virtual_columns());
        let (groups, known) = compute_all_files_statistics(groups, stored, true, row_positions)?;
        let statistics = over_all_columns(known, table_schema.table_schema());
        let options = state.default_table_options().parquet;
        let source = ParquetSource::new(table_schema)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(data_files));
        let config = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection)?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(ById { backfill: self.backfill()? })))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// A scan of files with dead rows: the filter drops those that the access plan does not skip.
    async fn scan_dirty(
        &self,
        state: &dyn Session,
        files: &[LiveFile],
        projection: Option<&Vec<usize>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let width = self.table.columns.len();
        let (file_index, position_index) = (width, width + 1);
        let wanted = self.wanted(projection);
        // The filter's two columns go last, unless the query itself wants them.
        let mut read = wanted.clone();
        for index in [file_index, position_index] {
            if !read.contains(&index) {
                read.push(index);
            }
        }
        let index_of = |index| read.iter().position(|i| *i == index).expect("it was just added");
        let (file_at, position_at) = (index_of(file_index), index_of(position_index));
        let scan = self.scan_files(state, files, true, Some(read), None).await?;
        let predicate = Alive::new(
            Arc::new(Column::new(FILE_COLUMN, file_at)),
            Arc::new(Column::new(POSITION_COLUMN, position_at)),
            files,
        );
        let filter = FilterExecBuilder::new(Arc::new(predicate), scan)
            .apply_projection(Some((0..wanted.len()).collect()))?
            .with_default_selectivity(100)
            .build()?;
        Ok(Arc::new(filter))
    }

    /// The files that may hold rows that match `filters`, as far as keys tell.
    async fn files_for(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<LiveFile>> {
        let Some(sought) = Sought::by(filters, &self.table, &table_schema(&self.table), state)?
        else {
            return Ok(self.files.all());
        };
        let files = self.files.with_keys(&sought.keys);
        let objects = files.iter().filter(|file| file.sst.is_object()).count();
        let Some(filters) = self.key_filters.as_ref().filter(|_| objects > 1) else {
            return Ok(files);
        };
        filters.holding(&self.data_files(state), files, &sought.values).await
    }

    /// The number of live rows as rows without columns: it is known without reading any.
    fn count_scan(&self) -> Result<Arc<dyn ExecutionPlan>> {
        let none = Arc::new(Schema::empty());
        let rows: u64 = self.files.all().iter().map(LiveFile::live_rows).sum();
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&none), vec![], &options)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], none, None)?)
    }

    /// Indices of the wanted columns, in order.
    fn wanted(&self, projection: Option<&Vec<usize>>) -> Vec<usize> {
        projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect())
    }

    fn data_files(&self, state: &dyn Session) -> DataFiles {
        let blocks = Arc::clone(&self.blocks);
        let files = DataFiles::new(blocks, state.runtime_env(), &self.data_directory);
        files.of_table(self.name.clone())
    }

    fn backfill(&self) -> Result<HashMap<tidemark_ledger::id::ColumnId, ScalarValue>> {
        let filled = self.table.columns.iter().filter_map(|column| {
            let text = column.backfill.as_ref()?;
            // The column may have been widened since.
            let value =
                catalog::backfill::decode(text).map_err(datafusion::error::DataFusionError::from);
            let value = value
                .and_then(|value| ScalarValue::try_from_array(&value, 0))
                .and_then(|value| value.cast_to(&column.column_type.arrow_type()));
            Some(value.map(|value| (column.id, value)))
        });
        filled.collect()
    }
}

#[async_trait]
impl TableProvider for SstTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // The scan gets the filters later, as physical expressions, and prunes by them without any guarantee.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.planned(state, projection, filters, limit).await
    }
}

fn partitioned_file(files: &DataFiles, file: &LiveFile) -> PartitionedFile {
    let entry = files.partitioned(file);
    match &file.dead {
        Some(dead) => entry.with_extension(alive::access_plan(&file.sst, dead)),
        None => entry,
    }
}

/// Statistics of the stored columns; those of the columns that the reader adds are unknown.
fn over_all_columns(known: Statistics, schema: &Schema) -> Statistics {
    let mut all = Statistics::new_unknown(schema);
    all.num_rows = known.num_rows;
    all.total_byte_size = known.total_byte_size;
    for (slot, column) in all.column_statistics.iter_mut().zip(known.column_statistics) {
        *slot = column;
    }
    all
}

fn file_field() -> Field {
    Field::new(FILE_COLUMN, DataType::UInt64, false)
}

fn key_constraint(table: &Table) -> Constraints {
    if table.primary_key.is_empty() {
        return Constraints::default();
    }
    let index_of = |id| table.columns.iter().position(|column| column.id == id);
    let key = table.primary_key.iter().filter_map(|id| index_of(*id)).collect();
    Constraints::new_unverified(vec![Constraint::PrimaryKey(key)])
}
