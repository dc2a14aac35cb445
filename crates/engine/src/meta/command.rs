//! What the meta role can be asked to do, as data.

use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::compaction::Moved;
use tidemark_ledger::catalog::{Column, ColumnType, Relation, View};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::{ObjectId, SnapshotId, SstId, VersionId};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::sst_ids::Unfinished;

/// What a backup may be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupOptions {
    /// A note to be kept with the snapshot.
    pub remarks: Option<String>,
    /// Copy the data files into the backup storage too.
    pub copy_data: bool,
}

/// Rows to be born and to die, staged in the state store, to become visible in one epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Write {
    /// What the writer saw when it decided.
    pub base_epoch: Epoch,
    pub tables: Vec<TableWrite>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableWrite {
    pub table_id: ObjectId,
    /// Birth of the table's definition under which the rows were written.
    pub definition_born: Epoch,
    #[serde(default)]
    pub born: Vec<Arc<SstInfo>>,
    #[serde(default)]
    pub dead_rows: Vec<DeadRows>,
    /// The keys of the born rows that were looked for as of `base_epoch`.
    #[serde(default)]
    pub keys: WrittenKeys,
    /// Every row alive when this commits dies first.
    #[serde(default)]
    pub truncate: bool,
}

impl TableWrite {
    /// A write to a table under this definition of it, that does nothing yet.
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

/// Keys of rows that are born.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrittenKeys {
    /// The table has no key, or the rows have the keys of rows that die.
    #[default]
    None,
    /// A hash of each, sorted.
    Hashes(Vec<u64>),
    /// Too many to tell.
    Any,
}

impl WrittenKeys {
    /// So many are told apart.
    const HASHES_MAX: usize = 1 << 16;

    pub fn of(mut hashes: Vec<u64>) -> Self {
        if hashes.len() > Self::HASHES_MAX {
            return Self::Any;
        }
        hashes.sort_unstable();
        Self::Hashes(hashes)
    }

    /// Whether some key may be among both.
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

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, keys) | (keys, Self::None) => keys,
            (Self::Hashes(a), Self::Hashes(b)) => Self::of([a, b].concat()),
            _ => Self::Any,
        }
    }

    /// What it takes to keep them.
    pub fn size(&self) -> usize {
        match self {
            Self::None | Self::Any => 1,
            Self::Hashes(hashes) => hashes.len(),
        }
    }
}

/// Rows of one file that die. Of a file that is born in the same write, they were never alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadRows {
    pub sst_id: SstId,
    #[serde(with = "tidemark_ledger::sst::stamps")]
    pub positions: Arc<RoaringBitmap>,
}

/// Files of one table that take the place of others, with the same rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compaction {
    pub table_id: ObjectId,
    pub inputs: Vec<SstId>,
    pub born: Vec<Arc<SstInfo>>,
    /// Rows of the born files that died in the inputs after they were read.
    pub dead_rows: Vec<DeadRows>,
    /// The newest epoch whose deaths are in `dead_rows`, or were known when the inputs were read.
    pub base_epoch: Epoch,
    /// Where the rows went.
    #[serde(default)]
    pub moved: Arc<Moved>,
}

/// What a process does for the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Meta,
    Frontend,
    Compactor,
}

impl Role {
    /// The type of a process, as RisingWave names it.
    pub const fn worker_type(self) -> &'static str {
        match self {
            Self::Meta => "WORKER_TYPE_META",
            Self::Frontend => "WORKER_TYPE_FRONTEND",
            Self::Compactor => "WORKER_TYPE_COMPACTOR",
        }
    }
}

/// What a process says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    pub role: Role,
    /// Where it listens: `host:port`; empty where it does not.
    pub addr: String,
    pub release: String,
    pub started_ms: u64,
    /// Cores it may use.
    pub parallelism: u32,
    pub memory_bytes: u64,
}

impl WorkerInfo {
    /// The time at which the process was started, in microseconds since 1970.
    pub fn started_micros(&self) -> i64 {
        i64::try_from(self.started_ms.saturating_mul(1000)).unwrap_or(i64::MAX)
    }
}

/// What a worker still needs, told again and again while it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pins {
    pub worker: String,
    pub info: WorkerInfo,
    /// The oldest version somebody reads there.
    pub version: VersionId,
    /// Snapshots somebody reads there.
    pub snapshots: Vec<SnapshotKey>,
    /// Files that may be on their way to a commit.
    pub unfinished: Unfinished,
}

/// A snapshot, told apart from those of the same id in other places by its checksum.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotKey {
    pub id: SnapshotId,
    pub sha256: String,
}

/// A change of the catalog. Names are as resolved by the session: schema first.
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
    /// All of them, in order and in one epoch, or none. Only of relations and schemas to be dropped:
    /// two definitions of one object cannot be born in one epoch.
    All(Vec<CatalogCommand>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateTable {
    pub schema: String,
    pub name: String,
    pub columns: Vec<NewColumn>,
    /// Names of the key's columns, in key order.
    pub primary_key: Vec<String>,
    pub if_not_exists: bool,
    /// Reserved beforehand when the table is born with rows.
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
    /// The column takes a type that holds every value of its old one.
    WidenColumn {
        name: String,
        to: ColumnType,
    },
    RenameTo {
        name: String,
    },
}

/// A commit that happened, or found nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    pub epoch: Epoch,
    /// A reader that has seen this revision sees the commit.
    pub revision: u64,
    /// What the user should know all the same, as NOTICEs.
    pub notices: Vec<String>,
}

impl NewColumn {
    /// The column under the id it takes.
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
    /// What messages call it.
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
