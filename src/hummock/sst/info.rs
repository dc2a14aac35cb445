//! What the metadata says of a data file.

use serde::{Deserialize, Serialize};

use crate::id::{ColumnId, ObjectId, SstId};

/// A Parquet file of one table. Never changes after it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SstInfo {
    pub id: SstId,
    pub table_id: ObjectId,
    pub rows: u64,
    pub size_bytes: u64,
    /// Rows of each row group, in order: an access plan must know them before the file is opened.
    pub row_group_rows: Vec<u32>,
    /// SHA-256 of the whole object, in hex.
    pub sha256: String,
    /// The columns it holds, in file order.
    pub columns: Vec<SstColumn>,
}

/// A column of a data file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SstColumn {
    pub id: ColumnId,
    /// Its name inside the file: that of the column when the file was written.
    pub name: String,
}
