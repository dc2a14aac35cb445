//! The metadata of a data file.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{InlineRows, KeyRange};
use crate::DamagedFile;
use crate::id::{ColumnId, ObjectId, SstId};
use crate::storage::{BlockSums, Checksum, Damage, Expected};

/// What is in a data file. Never changes after it is written. Which tables have the file, and when, is said by
/// the entries of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SstInfo {
    pub id: SstId,
    /// The table it was written for. Other tables may have it too, and this one may have lost it.
    #[serde(rename = "table_id")]
    pub written_for: ObjectId,
    pub rows: u64,
    pub size_bytes: u64,
    /// Number of rows of each row group, in order: an access plan needs them before the file is opened.
    pub row_group_rows: Vec<u32>,
    /// SHA-256 of the whole object, or of the inline bytes.
    pub sha256: Checksum,
    /// Checksums of its blocks, for verifying partial reads; `None` in files of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_sums: Option<BlockSums>,
    /// The columns, in file order. Files that were read together share the list.
    pub columns: Arc<[SstColumn]>,
    /// The range of its primary keys; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyRange>,
    /// The rows themselves, if they are too few for an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Box<InlineRows>>,
}

impl SstInfo {
    /// The key that all its rows share; `None` if they have several or it is not known.
    pub fn only_key(&self) -> Option<&[u8]> {
        self.keys.as_ref().filter(|range| range.min() == range.max()).map(KeyRange::min)
    }

    /// Whether the file may contain one of `keys`, which must be sorted.
    pub fn may_hold_any(&self, keys: &[Bytes]) -> bool {
        self.keys.as_ref().is_none_or(|range| {
            let first = keys.partition_point(|key| **key < *range.min());
            keys.get(first).is_some_and(|key| range.may_hold(key))
        })
    }

    /// The size and checksum that its object must have.
    pub fn expected(&self) -> Expected {
        Expected { size_bytes: self.size_bytes, sha256: self.sha256 }
    }

    /// The inline rows, if it has any. They are verified before they are decoded. `table` is the one through
    /// which they are read; an error names it.
    pub fn inline_rows(&self, table: ObjectId) -> Option<Result<RecordBatch, ArrowError>> {
        let inline = self.inline.as_ref()?;
        let is_proven = inline.is_decoded()
            || !self.sha256.is_known()
            || Checksum::of(inline.bytes()) == self.sha256;
        Some(if is_proven { inline.rows() } else { Err(self.damaged_inline(table)) })
    }

    fn damaged_inline(&self, table: ObjectId) -> ArrowError {
        ArrowError::ExternalError(Box::new(DamagedFile {
            sst: self.id,
            table,
            name: None,
            object: None,
            range: 0..self.size_bytes,
            damage: Damage::Checksum,
        }))
    }

    /// Whether the rows are in an object, and not inline.
    pub fn is_object(&self) -> bool {
        self.inline.is_none()
    }
}

/// A column of a data file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SstColumn {
    pub id: ColumnId,
    /// Its name inside the file: the name of the column when the file was written.
    pub name: String,
}
