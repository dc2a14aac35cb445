//! The catalog: schemas, tables and views with their whole history, as one immutable value.
//!
//! Every definition has a [`Lifetime`](crate::epoch::Lifetime). An `ALTER` ends the current
//! definition of an object and adds the next one under the same id. The catalog at an epoch is the
//! definitions alive at it, so a dropped table, an old column name or an old view can be read at the epochs
//! of its lifetime.

pub mod backfill;
mod column_type;
mod relation;

pub use column_type::{ColumnType, NUMERIC_DEFAULT, NUMERIC_PRECISION_MAX, SQL_TYPE_KEY};
pub use relation::{Column, Relation, RelationBody, Schema, Table, View, ViewColumn};

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use crate::epoch::Epoch;
use crate::id::ObjectId;

/// The schema every database starts with.
pub const PUBLIC: &str = "public";

/// Schemas whose relations are views over the catalog itself; users cannot create in them.
pub const SYSTEM_SCHEMAS: [&str; 3] = [PG_CATALOG, "information_schema", RW_CATALOG];

/// The system schemas in which names without a schema are looked up.
pub const PG_CATALOG: &str = "pg_catalog";
pub const RW_CATALOG: &str = "rw_catalog";

/// All definitions that are not yet forgotten. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// History of each schema, oldest first.
    schemas: OrdMap<String, Vector<Arc<Schema>>>,
    /// History of each name in each schema, oldest first. At most one entry is open.
    names: OrdMap<(ObjectId, String), Vector<Arc<Relation>>>,
    /// History of each relation, oldest first. At most one entry is open.
    relations: OrdMap<ObjectId, Vector<Arc<Relation>>>,
}

/// One change of the catalog. Its epoch is that of the commit it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogChange {
    CreateSchema(Schema),
    DropSchema(ObjectId),
    /// Adds a definition. If the relation exists, the new definition replaces the current one.
    Define(Relation),
    DropRelation(ObjectId),
}

impl Catalog {
    /// The catalog after `change` at `epoch`. Does not validate the change.
    #[must_use]
    pub fn apply(&self, change: &CatalogChange, epoch: Epoch) -> Self {
        let mut next = self.clone();
        match change {
            CatalogChange::CreateSchema(schema) => next.insert_schema(schema.clone()),
            CatalogChange::DropSchema(id) => next.end_schema(*id, epoch),
            CatalogChange::Define(relation) => {
                next.end_relation(relation.id, epoch);
                next.insert_relation(Arc::new(relation.clone()));
            }
            CatalogChange::DropRelation(id) => next.end_relation(*id, epoch),
        }
        next
    }

    /// The catalog as it was at `epoch`.
    pub fn at(self: &Arc<Self>, epoch: Epoch) -> CatalogAt {
        CatalogAt { catalog: Arc::clone(self), epoch }
    }

    /// Every schema definition, alive or not.
    pub fn all_schemas(&self) -> impl Iterator<Item = &Arc<Schema>> {
        self.schemas.values().flatten()
    }

    /// Every relation definition, alive or not.
    pub fn all_relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.relations.values().flatten()
    }

    /// Adds a definition with its lifetime; for decoding.
    pub fn insert_schema(&mut self, schema: Schema) {
        self.schemas.entry(schema.name.clone()).or_default().push_back(Arc::new(schema));
    }

    /// Adds a definition with its lifetime; for decoding. Must be called in order of birth.
    pub fn insert_relation(&mut self, relation: Arc<Relation>) {
        let name = (relation.schema_id, relation.name.clone());
        self.names.entry(name).or_default().push_back(Arc::clone(&relation));
        self.relations.entry(relation.id).or_default().push_back(relation);
    }

    /// The catalog without the definitions that no epoch from `safe_epoch` on can see.
    #[must_use]
    pub fn retain_since(&self, safe_epoch: Epoch) -> Self {
        let mut kept = Self::default();
        for schema in self.all_schemas().filter(|s| !s.lifetime.over_by(safe_epoch)) {
            kept.insert_schema(Schema::clone(schema));
        }
        for relation in self.all_relations().filter(|r| !r.lifetime.over_by(safe_epoch)) {
            kept.insert_relation(Arc::clone(relation));
        }
        kept
    }

    fn end_schema(&mut self, id: ObjectId, epoch: Epoch) {
        let open = |schema: &&Arc<Schema>| schema.id == id && schema.lifetime.is_open();
        let Some(name) = self.all_schemas().find(open).map(|schema| schema.name.clone()) else {
            return;
        };
        if let Some(last) = self.schemas.get_mut(&name).and_then(Vector::back_mut) {
            Arc::make_mut(last).lifetime.died = Some(epoch);
        }
    }

    fn end_relation(&mut self, id: ObjectId, epoch: Epoch) {
        let Some(history) = self.relations.get_mut(&id) else { return };
        let Some(open) = history.last().filter(|last| last.lifetime.is_open()).cloned() else {
            return;
        };
        let mut ended = Relation::clone(&open);
        ended.lifetime.died = Some(epoch);
        let ended = Arc::new(ended);
        let last = history.len() - 1;
        history.set(last, Arc::clone(&ended));
        let name = (ended.schema_id, ended.name.clone());
        if let Some(named) = self.names.get_mut(&name)
            && let Some(position) = named.iter().rposition(|r| r.id == id)
        {
            named.set(position, ended);
        }
    }
}

/// The catalog as of one epoch: only the definitions alive at it.
#[derive(Clone, Debug)]
pub struct CatalogAt {
    catalog: Arc<Catalog>,
    epoch: Epoch,
}

impl CatalogAt {
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The catalog with `changes` applied at `epoch`, seen from the same epoch as before.
    #[must_use]
    pub fn after(&self, changes: &[CatalogChange], epoch: Epoch) -> Self {
        let apply = |catalog: Catalog, change| catalog.apply(change, epoch);
        let catalog = changes.iter().fold(Catalog::clone(&self.catalog), apply);
        Self { catalog: Arc::new(catalog), epoch: self.epoch }
    }

    /// The schemas, by name.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<Schema>> {
        self.catalog.all_schemas().filter(|s| s.lifetime.alive_at(self.epoch))
    }

    pub fn schema(&self, name: &str) -> Option<&Arc<Schema>> {
        let history = self.catalog.schemas.get(name)?;
        history.iter().rev().find(|s| s.lifetime.alive_at(self.epoch))
    }

    pub fn schema_by_id(&self, id: ObjectId) -> Option<&Arc<Schema>> {
        self.schemas().find(|s| s.id == id)
    }

    /// The name of a relation, qualified by the name of its schema.
    pub fn full_name(&self, relation: &Relation) -> String {
        let schema = self.schema_by_id(relation.schema_id);
        let schema = schema.map_or("?", |schema| schema.name.as_str());
        format!("{schema}.{}", relation.name)
    }

    /// The relation of this name in this schema.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Arc<Relation>> {
        let schema_id = self.schema(schema)?.id;
        let history = self.catalog.names.get(&(schema_id, name.to_owned()))?;
        history.iter().rev().find(|r| r.lifetime.alive_at(self.epoch))
    }

    pub fn relation_by_id(&self, id: ObjectId) -> Option<&Arc<Relation>> {
        let history = self.catalog.relations.get(&id)?;
        history.iter().rev().find(|r| r.lifetime.alive_at(self.epoch))
    }

    /// The relations of one schema, by name.
    pub fn relations_in(&self, schema_id: ObjectId) -> impl Iterator<Item = &Arc<Relation>> {
        let first = (schema_id, String::new());
        let end = (ObjectId(schema_id.0 + 1), String::new());
        self.catalog.names.range(first..end).filter_map(|(_, history)| {
            history.iter().rev().find(|r| r.lifetime.alive_at(self.epoch))
        })
    }

    /// All relations, by id.
    pub fn relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.catalog
            .relations
            .values()
            .filter_map(|history| history.iter().rev().find(|r| r.lifetime.alive_at(self.epoch)))
    }

    /// The views that directly read the relation `id`.
    pub fn dependents_of(&self, id: ObjectId) -> Vec<Arc<Relation>> {
        self.relations()
            .filter(|r| r.as_view().is_some_and(|view| view.depends_on.contains(&id)))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests;
