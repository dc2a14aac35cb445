//! Opens data files: checks their bytes and caches their footers.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetMetaData, ParquetFileReaderFactory,
};
use datafusion::error::DataFusionError;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::{AsyncFileReader, MetadataFetch};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use object_store::ObjectMeta;

use tidemark_ledger::id::ObjectId;
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::storage::{BlockStore, Damage, DataObject, ReadError};
use tidemark_ledger::version::LiveFile;
use tidemark_ledger::{DamagedFile, layout};

/// Bytes fetched from the end of a file while the length of its footer is not known.
const FOOTER_GUESS_BYTES: usize = 64 << 10;

/// The data files of a table.
#[derive(Clone)]
pub struct DataFiles {
    blocks: Arc<BlockStore>,
    footers: Arc<FileMetadataCache>,
    data_directory: Arc<str>,
    /// The table's name, for messages.
    table: Option<Arc<str>>,
}

impl DataFiles {
    /// The files in the data directory. Their footers are cached in `runtime`.
    pub fn new(blocks: Arc<BlockStore>, runtime: &RuntimeEnv, data_directory: &str) -> Self {
        let footers = runtime.cache_manager.get_file_metadata_cache();
        Self { blocks, footers, data_directory: data_directory.into(), table: None }
    }

    #[must_use]
    pub fn of_table(self, name: Option<Arc<str>>) -> Self {
        Self { table: name, ..self }
    }

    pub fn open(&self, file: &LiveFile) -> DataFile {
        self.open_counted(file, None)
    }

    fn open_counted(&self, file: &LiveFile, metrics: Option<ParquetFileMetrics>) -> DataFile {
        let object = object_of(&self.data_directory, &file.sst);
        let (table_id, sst) = (file.table_id, Arc::clone(&file.sst));
        DataFile { files: self.clone(), table_id, sst, object, metrics }
    }

    /// A file as an entry of a scan.
    pub fn partitioned(&self, file: &LiveFile) -> PartitionedFile {
        let object = object_of(&self.data_directory, &file.sst);
        PartitionedFile::new_from_meta(object).with_extension(file.clone())
    }
}

impl fmt::Debug for DataFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFiles").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

/// A file's object, as caches identify it.
fn object_of(data_directory: &str, sst: &SstInfo) -> ObjectMeta {
    ObjectMeta {
        location: layout::sst(data_directory, sst.id),
        // A file never changes: one modification time for all keeps cached metadata valid.
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: sst.size_bytes,
        e_tag: None,
        version: None,
    }
}

/// One data file. Every byte it returns is as it was written.
pub struct DataFile {
    files: DataFiles,
    /// The table through which it is read.
    table_id: ObjectId,
    pub sst: Arc<SstInfo>,
    object: ObjectMeta,
    metrics: Option<ParquetFileMetrics>,
}

impl DataFile {
    pub async fn read(&self, ranges: &[Range<u64>]) -> ParquetResult<Vec<Bytes>> {
        let object = DataObject {
            path: &self.object.location,
            expected: self.sst.expected(),
            sums: self.sst.block_sums.as_ref(),
        };
        let read = self.files.blocks.read(object, ranges).await;
        read.map_err(|error| self.failed(error))
    }

    async fn read_one(&self, range: Range<u64>) -> ParquetResult<Bytes> {
        Ok(self.read(&[range]).await?.pop().unwrap_or_default())
    }

    fn failed(&self, error: ReadError) -> ParquetError {
        let (range, damage) = match error {
            ReadError::Damaged { range, damage } => (range, damage),
            // The server deletes no file that is needed: something else did.
            ReadError::Store(object_store::Error::NotFound { .. }) => {
                (0..self.object.size, Damage::Gone)
            }
            ReadError::Store(error) => return ParquetError::External(Box::new(error)),
        };
        ParquetError::External(Box::new(DamagedFile {
            sst: self.sst.id,
            table: self.table_id,
            name: self.files.table.clone(),
            object: Some(self.object.location.to_string()),
            range,
            damage,
        }))
    }

    /// The footer, including the page index unless `pages` is false.
    pub async fn footer(&self, pages: bool) -> ParquetResult<Arc<ParquetMetaData>> {
        if let Some(known) = self.known_footer()
            && (!pages || has_page_index(&known))
        {
            return Ok(known);
        }
        let policy = if pages { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
        let reader = ParquetMetaDataReader::new()
            .with_page_index_policy(policy)
            .with_prefetch_hint(Some(FOOTER_GUESS_BYTES));
        let footer = Arc::new(reader.load_and_finish(Fetch(self), self.object.size).await?);
        let kept = Arc::new(CachedParquetMetaData::new(Arc::clone(&footer)));
        let entry = CachedFileMetadataEntry::new(self.object.clone(), kept);
        self.files.footers.put(&self.object.location, entry);
        Ok(footer)
    }

    fn known_footer(&self) -> Option<Arc<ParquetMetaData>> {
        let kept = self.files.footers.get(&self.object.location)?;
        let footer = kept.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()?;
        kept.is_valid_for(&self.object).then(|| Arc::clone(footer.parquet_metadata()))
    }

    fn count(&self, bytes: u64) {
        if let Some(metrics) = &self.metrics {
            metrics.bytes_scanned.add(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
    }
}

fn has_page_index(footer: &ParquetMetaData) -> bool {
    footer.column_index().is_some() && footer.offset_index().is_some()
}

struct Fetch<'a>(&'a DataFile);

impl MetadataFetch for Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.0.read_one(range).boxed()
    }
}

impl AsyncFileReader for DataFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.count(range.end - range.start);
        self.read_one(range).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.count(ranges.iter().map(|range| range.end - range.start).sum());
        async move { self.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let skipped = |o: &ArrowReaderOptions| o.column_index_policy() == PageIndexPolicy::Skip;
        let pages = !options.is_some_and(skipped);
        async move { self.footer(pages).await }.boxed()
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if let Some(metrics) = &self.metrics {
            let ratio = &metrics.scan_efficiency_ratio;
            ratio.add_part(metrics.bytes_scanned.value());
            ratio.set_total(usize::try_from(self.object.size).unwrap_or(usize::MAX));
        }
    }
}

impl ParquetFileReaderFactory for DataFiles {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let Some(live) = file.extension::<LiveFile>() else {
            return Err(DataFusionError::Internal(
                "a scan of a file that nothing is known of".into(),
            ));
        };
        let name = file.object_meta.location.as_ref();
        let metrics = ParquetFileMetrics::new(partition_index, name, metrics);
        Ok(Box::new(self.open_counted(live, Some(metrics))))
    }
}
