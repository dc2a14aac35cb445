//! Writes one data file: Parquet, streamed to the state store, hashed on the way.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest as _, Sha256};

use super::schema::{file_schema, to_file_batch};
use super::{KeyRange, Keys, SstColumn, SstInfo};
use crate::catalog::{ColumnType, Table};
use crate::error::HummockError;
use crate::id::{ObjectId, SstId};
use crate::layout;
use crate::sst_ids::SstIds;
use crate::storage::Storage;
use crate::storage::{self, BlockHasher};

/// Rows of a row group. Statistics prune by row group and, within it, by page.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Maximum rows of a page, as many as in one batch of a scan, and its approximate maximum bytes. Reading one
/// row decompresses a page of each column.
const PAGE_ROWS: usize = 8192;
const PAGE_BYTES: usize = 128 << 10;
/// Maximum bytes of a dictionary; beyond it, values are written plainly. Reading one row reads the dictionary
/// too.
const DICTIONARY_BYTES: usize = 64 << 10;
/// False positive rate of a row group's Bloom filter. A false positive costs a read of the file, about a
/// hundred times the cost of asking the filter.
const FALSE_HITS: f64 = 0.001;

/// Where data files are written, and how.
pub struct Target<'a> {
    pub storage: &'a Storage,
    pub data_directory: &'a str,
    pub ids: &'a dyn SstIds,
    /// Size in bytes at which a file is closed and the next one begun.
    pub sst_bytes_target: u64,
    /// Whether a few rows may be stored inline instead of in an object.
    pub inline: bool,
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("data_directory", &self.data_directory)
            .finish_non_exhaustive()
    }
}

/// A data file being written. Dropped unfinished, it leaves no object behind.
pub struct SstWriter {
    id: SstId,
    written_for: ObjectId,
    table: Arc<Table>,
    schema: SchemaRef,
    keys: SeenKeys,
    parquet: AsyncArrowWriter<Hashing>,
}

impl SstWriter {
    pub async fn start(
        target: &Target<'_>,
        id: SstId,
        written_for: ObjectId,
        table: &Arc<Table>,
    ) -> Result<Self, HummockError> {
        let path = layout::sst(target.data_directory, id);
        let schema = file_schema(table);
        let object = Hashing::new(target.storage.writer(&path).await?);
        let parquet = AsyncArrowWriter::try_new(object, schema.clone(), Some(properties(table)))?;
        let (table, keys) = (Arc::clone(table), SeenKeys::Nothing);
        Ok(Self { id, written_for, table, schema, keys, parquet })
    }

    /// Adds rows of the table's schema: at least one, in order of the primary key.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), HummockError> {
        self.keys.see(&self.table, batch);
        let batch = to_file_batch(batch, &self.schema)?;
        Ok(self.parquet.write(&batch).await?)
    }

    /// Approximate size of the file so far, in bytes.
    pub fn bytes(&self) -> u64 {
        (self.parquet.bytes_written() + self.parquet.in_progress_size()) as u64
    }

    /// Completes the file and makes it durable.
    pub async fn finish(mut self) -> Result<SstInfo, HummockError> {
        let metadata = self.parquet.finish().await?;
        let groups = metadata.row_groups().iter();
        let row_group_rows =
            groups.map(|g| u32::try_from(g.num_rows()).unwrap_or(u32::MAX)).collect();
        let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
        let object = self.parquet.into_inner();
        let size_bytes = object.bytes;
        let block_sums = Some(object.blocks.finish());
        Ok(SstInfo {
            id: self.id,
            written_for: self.written_for,
            rows,
            size_bytes,
            row_group_rows,
            sha256: <[u8; 32]>::from(object.hash.finalize()).into(),
            block_sums,
            columns: file_columns(&self.table),
            keys: self.keys.range(),
            inline: None,
        })
    }
}

/// The columns of a data file that is written with this definition of the table.
pub fn file_columns(table: &Table) -> Arc<[SstColumn]> {
    let columns = table.columns.iter();
    columns.map(|column| SstColumn { id: column.id, name: column.name.clone() }).collect()
}

/// The first and the last key of rows that are written in key order.
#[derive(Debug)]
enum SeenKeys {
    Nothing,
    /// Some keys have no byte form.
    Unknown,
    Range {
        first: Vec<u8>,
        last: Vec<u8>,
    },
}

impl SeenKeys {
    fn see(&mut self, table: &Table, batch: &RecordBatch) {
        let keys = Keys::of(table, batch);
        let ends = keys.and_then(|keys| Some((keys.row(0)?, keys.row(batch.num_rows() - 1)?)));
        *self = match (std::mem::replace(self, Self::Unknown), ends) {
            (Self::Nothing, Some((first, last))) => Self::Range { first, last },
            (Self::Range { first, .. }, Some((_, last))) => Self::Range { first, last },
            _ => Self::Unknown,
        };
    }

    fn range(self) -> Option<KeyRange> {
        match self {
            Self::Range { first, last } => KeyRange::of(&first, &last),
            Self::Nothing | Self::Unknown => None,
        }
    }
}

fn properties(table: &Table) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let mut properties = WriterProperties::builder();
    // A key that is looked up is in only a few of the files whose ranges contain it.
    for column in table.key_columns() {
        let path = ColumnPath::from(column.name.as_str());
        properties = properties
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), FALSE_HITS)
            // Keys are distinct: a dictionary of them would be read for every page, and save nothing.
            .set_column_dictionary_enabled(path, false);
    }
    // Parquet's minimum and maximum leave NaN out, which sorts above all numbers: pruning by them
    // would lose rows.
    let floats = table.columns.iter();
    let floats = floats.filter(|c| matches!(c.column_type, ColumnType::Real | ColumnType::Double));
    for column in floats {
        let path = ColumnPath::from(column.name.as_str());
        properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties
        .set_created_by(concat!("tidemark ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
}

/// An object writer that hashes the bytes that pass through it.
struct Hashing {
    object: Option<storage::Writer>,
    hash: Sha256,
    blocks: BlockHasher,
    bytes: u64,
}

impl Hashing {
    fn new(object: storage::Writer) -> Self {
        let (hash, blocks) = (Sha256::new(), BlockHasher::default());
        Self { object: Some(object), hash, blocks, bytes: 0 }
    }
}

impl AsyncFileWriter for Hashing {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        async move {
            let object = self.object.as_mut();
            let object = object.ok_or_else(|| external("the file is complete already"))?;
            self.hash.update(&bytes);
            self.blocks.update(&bytes);
            self.bytes += bytes.len() as u64;
            object.write(bytes).await.map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        async move {
            let object = self.object.take();
            let object = object.ok_or_else(|| external("the file is complete already"))?;
            object.finish().await.map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }
}

fn external(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}
