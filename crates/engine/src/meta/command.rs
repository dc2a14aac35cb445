//! The commands of the meta role, as data.

use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::compaction::Moved;
use tidemark_ledger::catalog::{Column, ColumnType, Relation, View};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::{ObjectId, SnapshotId, SstId, VersionId};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::sst_ids::Unfinished;

/// Options of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupOptions {
    /// A note that is kept with the snapshot.
    pub remarks: Option<String>,
    /// Copy the data files into the backup storage too.
    pub copy_data: bool,
}

/// Rows that are born and rows that die in one epoch. The files of the born rows are already staged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Write {
    /// The epoch that the writer read at.
    pub base_epoch: Epoch,
    pub tables: Vec<TableWrite>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableWrite {
    pub table_id: ObjectId,
    /// Birth of the table definition under which the rows were written.
    pub definition_born: Epoch,
    #[serde(default)]
    pub born: Vec<Arc<SstInfo>>,
    #[serde(default)]
    pub dead_rows: Vec<DeadRows>,
    /// Keys of the born rows, which the writer looked up as of `base_epoch`.
    #[serde(default)]
    pub keys: WrittenKeys,
    /// Every row alive at the commit dies first.
    #[serde(default)]
    pub truncate: bool,
}

impl TableWrite {
    /// An empty write to a table, under this definition of it.
    pub fn to(relation: &Relation) -> Self {
        Self {
            table_id: relation.id,
            definition_born: relation.lifetime.born,
            born: vec![],
            dead_rows: vec![],
            keys: WrittenKeys::None,
            truncate: false,
        }
    }
}

/// Keys of the rows that are born.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrittenKeys {
    /// The table has no key, or the rows have the keys of rows that die.
    #[default]
    None,
    /// A hash of each, sorted.
    Hashes(Vec<u64>),
    /// Too many to list; may be any key.
    Any,
}

impl WrittenKeys {
    /// Maximum number of hashes to list; more become [`Self::Any`].
    const HASHES_MAX: usize = 1 << 16;

    pub fn of(mut hashes: Vec<u64>) -> Self {
        if hashes.len() > Self::HASHES_MAX {
            return Self::Any;
        }
        hashes.sort_unstable();
        Self::Hashes(hashes)
    }

    /// Whether some key may be in both.
    pub fn meet(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => false,
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Hashes(a), Self::Hashes(b)) => {
                let (few, many) = if a.len() < b.len() { (a, b) } else { (b, a) };
                few.iter().any(|hash| many.binary_search(hash).is_ok())
            }
        }
    }

    /// The union of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, keys) | (keys, Self::None) => keys,
            (Self::Hashes(a), Self::Hashes(b)) => Self::of([a, b].concat()),
            _ => Self::Any,
        }
    }

    /// Cost of keeping them, in hashes; at least 1.
    pub fn size(&self) -> usize {
        match self {
            Self::None | Self::Any => 1,
            Self::Hashes(hashes) => hashes.len(),
        }
    }
}

/// Rows of one file that die. If the file is born in the same write, these rows were never alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadRows {
    pub sst_id: SstId,
    #[serde(with = "tidemark_ledger::sst::stamps")]
    pub positions: Arc<RoaringBitmap>,
}

/// Files of one table that replace others and hold the same rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compaction {
    pub table_id: ObjectId,
    pub inputs: Vec<SstId>,
    pub born: Vec<Arc<SstInfo>>,
    /// Rows of the born files that died in the inputs after these were read.
    pub dead_rows: Vec<DeadRows>,
    /// The newest epoch whose deaths are in `dead_rows` or were known when the inputs were read.
    pub base_epoch: Epoch,
    /// Where each input row went.
    #[serde(default)]
    pub moved: Arc<Moved>,
}

/// The role of a process in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Meta,
    Frontend,
    Compactor,
}

impl Role {
    /// RisingWave's name for this type of process.
    pub const fn worker_type(self) -> &'static str {
        match self {
            Self::Meta => "WORKER_TYPE_META",
            Self::Frontend => "WORKER_TYPE_FRONTEND",
            Self::Compactor => "WORKER_TYPE_COMPACTOR",
        }
    }
}

/// What a process reports about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    pub role: Role,
    /// Its address, `host:port`; empty if it does not listen.
    pub addr: String,
    pub release: String,
    pub started_ms: u64,
    /// Cores it may use.
    pub parallelism: u32,
    pub memory_bytes: u64,
}

impl WorkerInfo {
    /// Start time of the process, in microseconds since 1970.
    pub fn started_micros(&self) -> i64 {
        i64::try_from(self.started_ms.saturating_mul(1000)).unwrap_or(i64::MAX)
    }
}

/// What a worker still needs. Sent repeatedly while the worker lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pins {
    pub worker: String,
    pub info: WorkerInfo,
    /// The oldest version that is being read there.
    pub version: VersionId,
    /// Snapshots that are being read there.
    pub snapshots: Vec<SnapshotKey>,
    /// Files that may be on their way to a commit.
    pub unfinished: Unfinished,
}

/// Identifies a snapshot. The checksum tells it from snapshots of the same id in other locations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotKey {
    pub id: SnapshotId,
    pub sha256: String,
}

/// A change of the catalog. The session has resolved all names to schema and name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogCommand {
    CreateSchema {
        name: String,
        if_not_exists: bool,
    },
    DropSchema {
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    CreateTable(CreateTable),
    DropRelation {
        kind: RelationKind,
        schema: String,
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    AlterTable {
        schema: String,
        name: String,
        if_exists: bool,
        step: AlterStep,
    },
    CreateView {
        schema: String,
        name: String,
        view: View,
        or_replace: bool,
    },
    /// All of them, in order and in one epoch, or none. Only for drops of relations and schemas: two
    /// definitions of one object cannot be born in one epoch.
    All(Vec<CatalogCommand>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateTable {
    pub schema: String,
    pub name: String,
    pub columns: Vec<NewColumn>,
    /// Names of the primary key's columns, in key order.
    pub primary_key: Vec<String>,
    pub if_not_exists: bool,
    /// Reserved beforehand if the table is created with rows.
    pub id: Option<ObjectId>,
    pub rows: Vec<Arc<SstInfo>>,
}

/// A column that has no id yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewColumn {
    pub name: String,
    pub column_type: ColumnType,
    pub not_null: bool,
    pub default: Option<String>,
    pub backfill: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    Table,
    View,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlterStep {
    AddColumn {
        column: NewColumn,
        if_not_exists: bool,
    },
    DropColumn {
        name: String,
        if_exists: bool,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    /// Changes the column to a type that holds every value of its old one.
    WidenColumn {
        name: String,
        to: ColumnType,
    },
    RenameTo {
        name: String,
    },
}

/// The result of a commit, or of a command that found nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    pub epoch: Epoch,
    /// A reader that has seen this revision sees the commit.
    pub revision: u64,
    /// What the user should know although the command succeeded, as NOTICEs.
    pub notices: Vec<String>,
}

impl NewColumn {
    /// Gives the column its id.
    pub fn with_id(self, id: tidemark_ledger::id::ColumnId) -> Column {
        Column {
            id,
            name: self.name,
            column_type: self.column_type,
            not_null: self.not_null,
            default: self.default,
            backfill: self.backfill,
        }
    }
}

impl RelationKind {
    /// Its name in messages.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_meet_where_one_is_among_both_and_too_many_are_any() {
        let of = |hashes: &[u64]| WrittenKeys::of(hashes.to_vec());
        assert!(of(&[9, 1, 5]).meet(&of(&[5])) && of(&[5]).meet(&of(&[9, 1, 5])));
        assert!(!of(&[9, 1, 5]).meet(&of(&[2, 10])) && !of(&[1]).meet(&WrittenKeys::None));
        assert_eq!(of(&[3, 1]).and(of(&[2])), of(&[1, 2, 3]));
        let many: Vec<u64> = (0..WrittenKeys::HASHES_MAX as u64).collect();
        assert_eq!(of(&many).and(of(&[7])), WrittenKeys::Any);
    }
}
