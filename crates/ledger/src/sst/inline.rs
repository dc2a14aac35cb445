//! Inline rows: batches too small for an object, which are stored in the metadata until compaction.
//!
//! The bytes are a zstd frame of an Arrow IPC stream of one batch, whose columns are those
//! of the file, in order, without names; strings and bytes are in their plain forms (`Utf8`, `Binary`).

use std::cell::RefCell;
use std::io::{self, Cursor};
use std::sync::{Arc, OnceLock};
use std::thread::LocalKey;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zstd::bulk::{Compressor, Decompressor};

/// A batch with more rows or more encoded bytes than these is written as an object.
pub const INLINE_ROWS_MAX: usize = 256;
pub const INLINE_BYTES_MAX: usize = 16 << 10;
/// Maximum bytes of all inline rows of a version, dead ones included. Beyond it, batches of any size are
/// written as objects.
pub const INLINE_BYTES_TOTAL: u64 = 64 << 20;
/// With this number of inline batches, or of their bytes, a table is due for compaction.
pub const INLINE_FILES_PER_TABLE: usize = 256;
pub const INLINE_BYTES_PER_TABLE: u64 = 1 << 20;

const ZSTD_LEVEL: i32 = 1;
/// Rows of fewer bytes than this are compressed without entropy coding: building its tables takes longer than
/// all the rest, and saves only a few dozen bytes.
const FEW_BYTES: usize = 1 << 10;
const ZSTD_LEVEL_FEW: i32 = -1;
/// Maximum bytes of the rows before compression: every reader of the version keeps them in memory in that
/// form.
const INLINE_RAW_BYTES_MAX: usize = 256 << 10;
/// Maximum decompressed size that a frame may announce; many times what is ever written.
const RAW_BYTES_MAX: usize = 64 << 20;

thread_local! {
    /// Kept for each thread: creating one takes longer than using it on a few rows.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
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
    /// Encodes the rows of `batch`. `None` if they are too many or too large, encoded or not.
    pub fn encode(batch: &RecordBatch) -> Result<Option<Self>, ArrowError> {
        if batch.num_rows() > INLINE_ROWS_MAX {
            return Ok(None);
        }
        let columns = batch.columns().iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        let nameless = |column: &ArrayRef| Field::new("", column.data_type().clone(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(nameless).collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
        writer.write(&batch)?;
        let raw = writer.into_inner()?;
        if raw.len() > INLINE_RAW_BYTES_MAX {
            return Ok(None);
        }
        let level = if raw.len() < FEW_BYTES { ZSTD_LEVEL_FEW } else { ZSTD_LEVEL };
        let make = || Compressor::new(level);
        let bytes = with_kept(&COMPRESSOR, make, |compressor| {
            compressor.set_compression_level(level)?;
            compressor.compress(&raw)
        })?;
        if bytes.len() > INLINE_BYTES_MAX {
            return Ok(None);
        }
        Ok(Some(Self { bytes: bytes.into(), decoded: Arc::new(OnceLock::from(batch)) }))
    }

    /// Whether the decoded rows are in memory: they were decoded, or encoded, by this process.
    pub fn is_decoded(&self) -> bool {
        self.decoded.get().is_some()
    }

    /// The decoded rows, with their columns in the order of the file.
    pub fn rows(&self) -> Result<RecordBatch, ArrowError> {
        if let Some(known) = self.decoded.get() {
            return Ok(known.clone());
        }
        let size = zstd::zstd_safe::get_frame_content_size(&self.bytes).ok().flatten();
        let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(RAW_BYTES_MAX);
        let capacity = size.min(RAW_BYTES_MAX);
        let raw = with_kept(&DECOMPRESSOR, Decompressor::new, |decompressor| {
            decompressor.decompress(&self.bytes, capacity)
        })?;
        let only = only_batch(raw)?;
        Ok(self.decoded.get_or_init(|| only).clone())
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same rows without their decoded form, which takes several times as much memory even for a single
    /// row. They are decoded again when they are read.
    #[must_use]
    pub fn encoded(&self) -> Self {
        Self { bytes: self.bytes.clone(), decoded: Arc::default() }
    }
}

/// The batch of an IPC stream. The reader panics on some malformed streams; that is turned into an error.
fn only_batch(stream: Vec<u8>) -> Result<RecordBatch, ArrowError> {
    let read = move || {
        let mut batches = StreamReader::try_new(Cursor::new(stream), None)?;
        batches
            .next()
            .unwrap_or_else(|| Err(ArrowError::IpcError("inline rows without a batch".to_owned())))
    };
    std::panic::catch_unwind(read)
        .unwrap_or_else(|_| Err(ArrowError::IpcError("inline rows make no sense".to_owned())))
}

/// Runs `work` on the value that the thread keeps; creates the value on first use.
fn with_kept<T, R>(
    kept: &'static LocalKey<RefCell<Option<T>>>,
    make: impl FnOnce() -> io::Result<T>,
    work: impl FnOnce(&mut T) -> io::Result<R>,
) -> io::Result<R> {
    kept.with_borrow_mut(|known| match known {
        Some(known) => work(known),
        None => work(known.insert(make()?)),
    })
}

/// Converts a view array to a plain one, which does not keep the buffers of a larger array.
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

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray, StringViewArray};

    use super::*;

    fn batch(rows: i64, text: impl Fn(Vec<String>) -> ArrayRef) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let texts = text((0..rows).map(|row| format!("row {row}, as text")).collect());
        RecordBatch::try_from_iter([("k", numbers), ("v", texts)]).unwrap()
    }

    #[test]
    fn few_rows_and_many_are_read_back_as_they_were() {
        for rows in [1, 20, 256] {
            let given = batch(rows, |texts| Arc::new(StringViewArray::from_iter_values(texts)));
            let plain = batch(rows, |texts| Arc::new(StringArray::from_iter_values(texts)));
            let inline = InlineRows::encode(&given).unwrap().unwrap();
            for read in [inline.rows().unwrap(), inline.encoded().rows().unwrap()] {
                assert_eq!(read.columns(), plain.columns());
            }
        }
        let many = batch(257, |texts| Arc::new(StringArray::from_iter_values(texts)));
        assert!(InlineRows::encode(&many).unwrap().is_none());
    }
}
