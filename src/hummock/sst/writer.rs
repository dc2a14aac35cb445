//! Writes one data file: Parquet, streamed to the state store, hashed on the way.

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::AsyncArrowWriter;
use datafusion::parquet::arrow::async_writer::AsyncFileWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sha2::{Digest as _, Sha256};

use super::schema::to_file_batch;
use super::{SstColumn, SstInfo};
use crate::catalog::Table;
use crate::hummock::HummockError;
use crate::hummock::write::Target;
use crate::id::{ObjectId, SstId};
use crate::layout;
use crate::storage;

/// Rows of a row group. Statistics prune by row group and, finer, by page.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// A data file being written. Dropped unfinished, it leaves no object behind.
pub struct SstWriter {
    id: SstId,
    table_id: ObjectId,
    columns: Vec<SstColumn>,
    schema: SchemaRef,
    parquet: AsyncArrowWriter<Hashing>,
}

impl SstWriter {
    pub async fn start(
        target: &Target<'_>,
        id: SstId,
        table_id: ObjectId,
        table: &Table,
        schema: SchemaRef,
    ) -> Result<Self, HummockError> {
        let path = layout::sst(target.data_directory, id);
        let object = Hashing::new(target.storage.writer(&path).await?);
        let parquet = AsyncArrowWriter::try_new(object, schema.clone(), Some(properties()))?;
        let columns = table
            .columns
            .iter()
            .map(|column| SstColumn { id: column.id, name: column.name.clone() })
            .collect();
        Ok(Self { id, table_id, columns, schema, parquet })
    }

    /// Adds rows of the table's schema.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), HummockError> {
        let batch = to_file_batch(batch, &self.schema)?;
        Ok(self.parquet.write(&batch).await?)
    }

    /// About how large the file is so far.
    pub fn bytes(&self) -> u64 {
        (self.parquet.bytes_written() + self.parquet.in_progress_size()) as u64
    }

    /// Makes the file durable.
    pub async fn finish(mut self) -> Result<SstInfo, HummockError> {
        let metadata = self.parquet.finish().await?;
        let groups = metadata.row_groups().iter();
        let row_group_rows =
            groups.map(|g| u32::try_from(g.num_rows()).unwrap_or(u32::MAX)).collect();
        let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
        let object = self.parquet.into_inner();
        let size_bytes = object.bytes;
        let sha256 = storage::hex(&object.hash.finalize());
        Ok(SstInfo {
            id: self.id,
            table_id: self.table_id,
            rows,
            size_bytes,
            row_group_rows,
            sha256,
            columns: self.columns,
        })
    }
}

fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    WriterProperties::builder()
        .set_created_by(concat!("tidemark ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
}

/// An object writer that hashes what it is given.
struct Hashing {
    object: Option<storage::Writer>,
    hash: Sha256,
    bytes: u64,
}

impl Hashing {
    fn new(object: storage::Writer) -> Self {
        Self { object: Some(object), hash: Sha256::new(), bytes: 0 }
    }
}

impl AsyncFileWriter for Hashing {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        async move {
            let object = self.object.as_mut();
            let object = object.ok_or_else(|| external("the file is complete already"))?;
            self.hash.update(&bytes);
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
