//! Rows that are too few for an object of their own: they lie in the metadata, until compaction.
//!
//! The bytes are a zstd frame (level 1) of an Arrow IPC stream of one batch, whose columns are those
//! of the file, in order, without names; strings and bytes are in their plain forms (`Utf8`, `Binary`).

use std::cell::RefCell;
use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zstd::bulk::Compressor;

/// A batch that takes more rows or bytes than these is written as an object.
pub const INLINE_ROWS_MAX: usize = 256;
pub const INLINE_BYTES_MAX: usize = 16 << 10;
/// What all inline rows of a version may take, dead ones included, before batches of any size are
/// written as objects.
pub const INLINE_BYTES_TOTAL: u64 = 64 << 20;
/// With so many inline batches, or so many bytes of them, a table is due for compaction.
pub const INLINE_FILES_PER_TABLE: usize = 256;
pub const INLINE_BYTES_PER_TABLE: u64 = 1 << 20;

const ZSTD_LEVEL: i32 = 1;
/// What a frame may say it holds: many times what is ever written.
const RAW_BYTES_MAX: usize = 64 << 20;

thread_local! {
    /// A compressor takes longer to make than to use on a few rows.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// The encoded rows, decoded at most once.
#[derive(Clone, Debug)]
pub struct InlineRows {
    bytes: Bytes,
    decoded: Arc<OnceLock<RecordBatch>>,
}

impl PartialEq for InlineRows {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl InlineRows {
    /// Encodes the rows of `batch`.
    pub fn encode(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let columns = batch.columns().iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        let nameless = |column: &ArrayRef| Field::new("", column.data_type().clone(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(nameless).collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
        writer.write(&batch)?;
        let raw = writer.into_inner()?;
        let bytes = COMPRESSOR.with_borrow_mut(|known| match known {
            Some(compressor) => compressor.compress(&raw),
            None => known.insert(Compressor::new(ZSTD_LEVEL)?).compress(&raw),
        })?;
        Ok(Self { bytes: bytes.into(), decoded: Arc::new(OnceLock::from(batch)) })
    }

    /// The rows, in the order of the file's columns.
    pub fn rows(&self) -> Result<RecordBatch, ArrowError> {
        if let Some(known) = self.decoded.get() {
            return Ok(known.clone());
        }
        let size = zstd::zstd_safe::get_frame_content_size(&self.bytes).ok().flatten();
        let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(RAW_BYTES_MAX);
        let raw = zstd::bulk::decompress(&self.bytes, size.min(RAW_BYTES_MAX))?;
        let mut batches = StreamReader::try_new(Cursor::new(raw), None)?;
        let only = batches.next().unwrap_or_else(|| {
            Err(ArrowError::IpcError("inline rows without a batch".to_owned()))
        })?;
        Ok(self.decoded.get_or_init(|| only).clone())
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// The column without the buffers that a view into a larger one drags along.
fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Utf8View => cast(column, &DataType::Utf8),
        DataType::BinaryView => cast(column, &DataType::Binary),
        _ => Ok(Arc::clone(column)),
    }
}

impl Serialize for InlineRows {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD_NO_PAD.encode(&self.bytes))
    }
}

impl<'de> Deserialize<'de> for InlineRows {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(de::Error::custom)?;
        Ok(Self { bytes: bytes.into(), decoded: Arc::default() })
    }
}
