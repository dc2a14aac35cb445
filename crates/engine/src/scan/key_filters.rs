//! Bloom filters of keys, kept in memory: tell whether a file may hold a key without reading it.
//!
//! The filters of a file are read once, however often its key range includes a key that its rows do not have.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray as _};
use datafusion::arrow::datatypes::{Decimal128Type, Int64Type};
use datafusion::common::Result;
use datafusion::parquet::basic::Type;
use datafusion::parquet::bloom_filter::Sbbf;
use datafusion::parquet::file::metadata::ColumnChunkMetaData;
use foyer::{Cache, CacheBuilder};

use super::data_file::{DataFile, DataFiles};
use tidemark_ledger::id::{ColumnId, SstId};
use tidemark_ledger::sst::KeyColumn;
use tidemark_ledger::version::LiveFile;

const BLOCK_BYTES: usize = 32;

/// The filters of the files that were used last, whichever table they were read for.
pub struct KeyFilters(Cache<SstId, Arc<FileFilters>>);

impl KeyFilters {
    /// Keeps up to this many bytes of filters; a row takes about one and a half.
    pub fn new(bytes: usize) -> Self {
        let weight = |_: &SstId, filters: &Arc<FileFilters>| filters.bytes();
        // One shard: the filters of a file may be a tenth of all, and would not fit into a part.
        Self(CacheBuilder::new(bytes).with_shards(1).with_weighter(weight).build())
    }
}

impl fmt::Debug for KeyFilters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFilters").field("bytes", &self.0.usage()).finish()
    }
}

/// The filters of one file: of each row group, those of the key columns that have one.
#[derive(Debug)]
struct FileFilters(Vec<HashMap<ColumnId, Filter>>);

#[derive(Debug)]
struct Filter {
    bits: Sbbf,
    stored: Stored,
}

/// How a column is stored, as far as its filter depends on that.
#[derive(Clone, Copy, Debug)]
enum Stored {
    Int32,
    Int64,
    Bytes,
    /// A big-endian number of this many bytes.
    Fixed(usize),
}

/// Keys in the form in which filters are queried: for each column, its values by row.
#[derive(Debug)]
pub struct SoughtKeys(Vec<(ColumnId, Vec<Option<Value>>)>);

#[derive(Debug)]
enum Value {
    Number(i128),
    Bytes(Vec<u8>),
}

impl SoughtKeys {
    /// The keys that these columns make up.
    pub fn new<'a>(columns: impl Iterator<Item = (ColumnId, &'a ArrayRef)>) -> Self {
        Self(columns.filter_map(|(id, column)| Some((id, values(column)?))).collect())
    }

    fn rows(&self) -> usize {
        self.0.first().map_or(0, |(_, values)| values.len())
    }
}

/// The values of a column, by row. `None` for types whose filters are not used.
fn values(column: &ArrayRef) -> Option<Vec<Option<Value>>> {
    let rows = 0..column.len();
    let by_row = |value: &dyn Fn(usize) -> Value| {
        rows.clone().map(|row| column.is_valid(row).then(|| value(row))).collect()
    };
    Some(match KeyColumn::of(column)? {
        KeyColumn::Integer(numbers) => {
            let numbers = numbers.as_primitive::<Int64Type>();
            by_row(&|row| Value::Number(i128::from(numbers.value(row))))
        }
        KeyColumn::Decimal(numbers) => {
            let numbers = numbers.as_primitive_opt::<Decimal128Type>()?;
            by_row(&|row| Value::Number(numbers.value(row)))
        }
        KeyColumn::Bytes(bytes) => {
            let bytes = bytes.as_binary_view();
            by_row(&|row| Value::Bytes(bytes.value(row).to_vec()))
        }
        KeyColumn::Boolean(_) | KeyColumn::Float(_) => return None,
    })
}

impl KeyFilters {
    /// Whether the file may hold one of `keys`. Reads its filters unless they are cached.
    async fn may_hold(&self, file: &DataFile, keys: &SoughtKeys) -> Result<bool> {
        if keys.0.is_empty() {
            return Ok(true);
        }
        let filters = match self.0.get(&file.sst.id) {
            Some(known) => Arc::clone(known.value()),
            None => {
                let columns: Vec<ColumnId> = keys.0.iter().map(|(id, _)| *id).collect();
                let read = Arc::new(FileFilters::read(file, &columns).await?);
                self.0.insert(file.sst.id, Arc::clone(&read));
                read
            }
        };
        Ok(filters.may_hold(keys))
    }

    /// The files that may hold one of `keys`. Files without an object are always kept.
    pub async fn holding(
        &self,
        data_files: &DataFiles,
        files: Vec<LiveFile>,
        keys: &SoughtKeys,
    ) -> Result<Vec<LiveFile>> {
        let mut kept = Vec::with_capacity(files.len());
        for file in files {
            if !file.sst.is_object() || self.may_hold(&data_files.open(&file), keys).await? {
                kept.push(file);
            }
        }
        Ok(kept)
    }
}

impl FileFilters {
    async fn read(file: &DataFile, columns: &[ColumnId]) -> Result<Self> {
        let metadata = file.footer(true).await?;
        let leaves: Vec<(ColumnId, usize, Stored)> = columns
            .iter()
            .filter_map(|id| {
                let leaves = metadata.file_metadata().schema_descr().columns();
                let index = leaves.iter().position(|leaf| {
                    let info = leaf.self_type().get_basic_info();
                    info.has_id() && info.id() == id.0
                })?;
                let leaf = &leaves[index];
                let stored = match leaf.physical_type() {
                    Type::INT32 => Stored::Int32,
                    Type::INT64 => Stored::Int64,
                    Type::BYTE_ARRAY => Stored::Bytes,
                    Type::FIXED_LEN_BYTE_ARRAY => {
                        Stored::Fixed(usize::try_from(leaf.type_length()).ok()?)
                    }
                    _ => return None,
                };
                Some((*id, index, stored))
            })
            .collect();
        let mut filters = Vec::with_capacity(metadata.num_row_groups());
        for group in metadata.row_groups() {
            let mut of_group = HashMap::new();
            for (id, index, stored) in &leaves {
                let Some(range) = filter_range(group.column(*index)) else { continue };
                let bytes = file.read(&[range]).await?;
                let bits = Sbbf::from_bytes(&bytes.concat())?;
                of_group.insert(*id, Filter { bits, stored: *stored });
            }
            filters.push(of_group);
        }
        Ok(Self(filters))
    }

    fn may_hold(&self, keys: &SoughtKeys) -> bool {
        let in_group = |group: &HashMap<ColumnId, Filter>| {
            (0..keys.rows()).any(|row| {
                keys.0.iter().all(|(id, values)| match (group.get(id), &values[row]) {
                    (Some(filter), Some(value)) => filter.may_hold(value),
                    _ => true,
                })
            })
        };
        self.0.iter().any(in_group)
    }

    fn bytes(&self) -> usize {
        let filters = self.0.iter().flat_map(HashMap::values);
        filters.map(|filter| filter.bits.num_blocks() * BLOCK_BYTES + 64).sum::<usize>() + 64
    }
}

/// The byte range of a column chunk's filter.
fn filter_range(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = u64::try_from(chunk.bloom_filter_offset()?).ok()?;
    let length = u64::try_from(chunk.bloom_filter_length()?).ok()?;
    Some(start..start + length)
}

impl Filter {
    /// A value that the stored type cannot hold is not in the file: the column was widened since.
    fn may_hold(&self, value: &Value) -> bool {
        match (value, self.stored) {
            (Value::Number(number), Stored::Int32) => {
                i32::try_from(*number).is_ok_and(|number| self.bits.check(&number))
            }
            (Value::Number(number), Stored::Int64) => {
                i64::try_from(*number).is_ok_and(|number| self.bits.check(&number))
            }
            (Value::Number(number), Stored::Fixed(length)) if length <= size_of::<i128>() => {
                let bytes = number.to_be_bytes();
                let (cut, kept) = bytes.split_at(bytes.len() - length);
                let sign = if *number < 0 { u8::MAX } else { 0 };
                let fits = cut.iter().all(|byte| *byte == sign)
                    && kept.first().is_none_or(|first| first >> 7 == sign >> 7);
                fits && self.bits.check(kept)
            }
            (Value::Bytes(bytes), Stored::Bytes) => self.bits.check(bytes.as_slice()),
            _ => true,
        }
    }
}
