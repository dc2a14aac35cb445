//! Reads the rows of data files, by other means than the product does. Decodes each file once.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{AsArray as _, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::model::Row;
use tidemark_ledger::id::SstId;
use tidemark_ledger::layout;
use tidemark_ledger::sst::SstInfo;

/// The columns of every table, apart from those that are added later.
pub const KEY: &str = "k";
pub const TAG: &str = "v";
pub const TEXT: &str = "t";

#[derive(Debug)]
struct Known {
    bytes: Bytes,
    rows: Arc<Vec<Row>>,
}

/// Data files as they were when first seen.
#[derive(Debug)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
    known: BTreeMap<SstId, Known>,
}

impl Files {
    pub fn of(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, known: BTreeMap::new() }
    }

    /// All rows of a file in this directory, by position.
    ///
    /// # Errors
    /// If the file is missing, cannot be read, or has changed.
    pub async fn rows(&mut self, sst: &SstInfo, directory: &str) -> Result<Arc<Vec<Row>>, String> {
        let bytes = match &sst.inline {
            Some(inline) => inline.bytes().clone(),
            None => {
                let path = layout::sst(directory, sst.id);
                let read = async { self.store.get(&path).await?.bytes().await };
                read.await.map_err(|e| format!("file {}: {e}", sst.id))?
            }
        };
        if let Some(known) = self.known.get(&sst.id) {
            if known.bytes != bytes {
                return Err(format!("file {} has changed", sst.id));
            }
            return Ok(Arc::clone(&known.rows));
        }
        let rows = decoded(sst, &bytes).map_err(|e| format!("file {}: {e}", sst.id))?;
        if u64::try_from(rows.len()) != Ok(sst.rows) {
            return Err(format!("file {} has {} rows, not {}", sst.id, rows.len(), sst.rows));
        }
        let rows = Arc::new(rows);
        self.known.insert(sst.id, Known { bytes, rows: Arc::clone(&rows) });
        Ok(rows)
    }
}

fn decoded(sst: &SstInfo, bytes: &Bytes) -> Result<Vec<Row>, String> {
    if let Some(inline) = &sst.inline {
        let batch = inline.encoded().rows().map_err(|e| e.to_string())?;
        let index_of = |name: &str| sst.columns.iter().position(|column| column.name == name);
        return rows_of(&batch, index_of);
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone());
    let reader = reader.and_then(|builder| builder.build()).map_err(|e| e.to_string())?;
    let mut rows = vec![];
    for batch in reader {
        let batch = batch.map_err(|e| e.to_string())?;
        let index_of = |name: &str| batch.schema().index_of(name).ok();
        rows.extend(rows_of(&batch, index_of)?);
    }
    Ok(rows)
}

/// The rows of a batch.
///
/// # Errors
/// If a row does not hold the text that belongs to it.
pub fn rows_of(
    batch: &RecordBatch,
    index: impl Fn(&str) -> Option<usize>,
) -> Result<Vec<Row>, String> {
    let column = |name: &str| {
        let at = index(name).ok_or_else(|| format!("no column {name}"))?;
        Ok::<_, String>(Arc::clone(batch.column(at)))
    };
    let keys = column(KEY)?;
    let keys = keys.as_primitive_opt::<Int32Type>().ok_or("keys of another type")?.clone();
    let tags = column(TAG)?;
    let tags = tags.as_primitive_opt::<Int64Type>().ok_or("tags of another type")?.clone();
    let texts = cast(&column(TEXT)?, &DataType::Utf8).map_err(|e| e.to_string())?;
    let texts = texts.as_string::<i32>();
    let mut rows = Vec::with_capacity(batch.num_rows());
    for at in 0..batch.num_rows() {
        let row = Row { key: keys.value(at), tag: tags.value(at) };
        if texts.value(at) != row.text() {
            return Err(format!("{row:?} holds the text {:?}", texts.value(at)));
        }
        rows.push(row);
    }
    Ok(rows)
}
