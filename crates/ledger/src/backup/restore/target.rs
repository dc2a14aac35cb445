//! The target of a restore: the meta store, and what it holds.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::backup::BackupError;
use crate::epoch::Epoch;
use crate::keys;
use crate::meta_store::{MetaStore, Pair};
use crate::state::State;

/// Number of tables that are named; the others are only counted.
const TABLES_MAX: usize = 5;

#[derive(Clone, Debug, Serialize)]
pub struct Target {
    pub name: String,
    pub holds: Holdings,
}

/// The content of a store that should be empty.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Holdings {
    pub pairs: usize,
    pub cluster_id: Option<String>,
    pub tables: Vec<String>,
}

impl Target {
    pub(super) async fn of(store: &dyn MetaStore) -> Result<Self, BackupError> {
        let pairs = store.list("").await?;
        Ok(Self { name: store.name().to_owned(), holds: Holdings::of(&pairs) })
    }
}

impl Holdings {
    fn of(pairs: &[Pair]) -> Self {
        let cluster_id = pairs.iter().find(|pair| pair.key == keys::CLUSTER_ID);
        let cluster_id = cluster_id.and_then(|pair| serde_json::from_slice(&pair.value).ok());
        Self { pairs: pairs.len(), cluster_id, tables: tables_of(pairs) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs == 0
    }
}

/// The names of the tables; none if the content of the store is not a catalog.
fn tables_of(pairs: &[Pair]) -> Vec<String> {
    let Ok(catalog) = State::decode_catalog(pairs) else { return vec![] };
    let catalog = Arc::new(catalog).at(Epoch::LAST);
    let tables = catalog.relations().filter(|relation| relation.as_table().is_some());
    tables.map(|table| catalog.full_name(table)).collect()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holdings { pairs, cluster_id, tables } = &self.holds;
        if self.holds.is_empty() {
            return write!(f, "{} (empty)", self.name);
        }
        write!(f, "{} (not empty: {pairs} pairs", self.name)?;
        if let Some(id) = cluster_id {
            write!(f, " of cluster {id} with {} tables", tables.len())?;
        }
        if !tables.is_empty() {
            write!(f, ", {}", tables[..tables.len().min(TABLES_MAX)].join(", "))?;
        }
        f.write_str(")")
    }
}
