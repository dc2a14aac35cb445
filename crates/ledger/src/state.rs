//! All metadata as one immutable value, and the changes that lead from one value to the next. No I/O.
//!
//! A [`State`] has one encoding: the key-value pairs of the meta store (`docs/formats.md`). A [`Change`] is
//! what one commit did; the manager and every replica get to the next state by [`State::apply`].

pub mod seal;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::keys;
use crate::catalog::{Catalog, CatalogChange, Relation, Schema};
use crate::epoch::Epoch;
use crate::id::{ObjectId, SnapshotId, SstId};
use crate::lease::{Incarnation, Promised};
use crate::meta_store::{Operation, Pair};
use crate::params::Params;
use crate::version::{Version, VersionDelta};

/// Version of the encoding. A store with another number is not opened.
pub const FORMAT: u32 = 1;

/// All metadata of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub cluster_id: String,
    /// Rises by one with every change; guards the store against a second writer.
    pub revision: u64,
    pub catalog: Arc<Catalog>,
    pub params: Arc<Params>,
    pub version: Arc<Version>,
    pub next: NextIds,
    /// No epoch at or below this one may be used: another life of this cluster may have used it.
    pub epoch_floor: Epoch,
    /// Each restore begins a new life.
    pub incarnation: Incarnation,
    /// Pairs unknown to this build, kept as they are, so that a snapshot loses nothing.
    pub other: Arc<BTreeMap<String, Bytes>>,
}

/// The next id of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextIds {
    pub object: ObjectId,
    pub sst: SstId,
    pub snapshot: SnapshotId,
}

/// A loss of acknowledged commits that the operator has accepted: the pair `loss/<life>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedLoss {
    /// Unix time in milliseconds.
    pub accepted_ms: u64,
    /// Where the metadata ended; its epoch is the last one that is present.
    pub found: Promised,
    /// How far the metadata is known to have been durable.
    pub promised: Promised,
    /// The source of that knowledge.
    pub by: String,
}

/// What one commit did. Serialized for the frontends that follow the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub revision: u64,
    pub next: NextIds,
    /// Every change takes an epoch, so catalog and data share one history.
    pub delta: VersionDelta,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalog: Vec<CatalogChange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, String)>,
}

/// Why the pairs of a meta store or a snapshot could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the metadata has no \"{0}\"")]
    Missing(&'static str),
    #[error("the metadata is of format {found}, this build reads format {FORMAT}")]
    Format { found: String },
    #[error("the metadata is damaged: {what}")]
    Damaged { what: String },
    #[error("the metadata under \"{key}\" cannot be read")]
    Value {
        key: String,
        #[source]
        source: serde_json::Error,
    },
}

impl State {
    /// The newest epoch that may have been used; it and all before it must not be used again.
    pub fn newest_epoch(&self) -> Epoch {
        self.version.max_committed_epoch.max(self.epoch_floor)
    }

    /// The state of a new cluster, whose history begins at `epoch`.
    pub fn new(cluster_id: String, params: Params, epoch: Epoch) -> Self {
        Self {
            cluster_id,
            revision: 0,
            catalog: Arc::new(Catalog::default()),
            params: Arc::new(params),
            version: Arc::new(Version::empty(epoch)),
            next: NextIds { object: ObjectId(1), sst: SstId(1), snapshot: SnapshotId(1) },
            epoch_floor: Epoch::ZERO,
            incarnation: Incarnation::default(),
            other: Arc::default(),
        }
    }

    /// A change that only takes `epoch`; the manager fills in the rest.
    pub fn change_at(&self, epoch: Epoch) -> Change {
        Change {
            revision: self.revision + 1,
            next: self.next,
            delta: VersionDelta::empty(&self.version, epoch),
            catalog: vec![],
            params: vec![],
        }
    }

    /// The state after `change`.
    #[must_use]
    pub fn apply(&self, change: &Change) -> Self {
        let epoch = change.delta.epoch;
        let mut catalog = Arc::clone(&self.catalog);
        for step in &change.catalog {
            catalog = Arc::new(catalog.apply(step, epoch));
        }
        if let Some(safe_epoch) = change.delta.safe_epoch {
            catalog = Arc::new(catalog.retain_since(safe_epoch));
        }
        let mut params = Arc::clone(&self.params);
        for (name, value) in &change.params {
            Arc::make_mut(&mut params).set(name, value);
        }
        Self {
            cluster_id: self.cluster_id.clone(),
            revision: change.revision,
            catalog,
            params,
            version: Arc::new(self.version.apply(&change.delta)),
            next: change.next,
            epoch_floor: self.epoch_floor,
            incarnation: self.incarnation.clone(),
            other: Arc::clone(&self.other),
        }
    }

    /// Where the metadata ends: its revision and its newest committed epoch.
    pub fn end(&self) -> Promised {
        Promised { revision: self.revision, epoch: self.version.max_committed_epoch }
    }

    /// Identifies this life of this cluster, in the head of a meta store: the first 16 bytes of a SHA-256.
    pub fn life(&self) -> [u8; 16] {
        let Incarnation { number, id } = &self.incarnation;
        let digest = Sha256::digest(format!("{}/{number}/{id}", self.cluster_id));
        digest.first_chunk().copied().expect("a SHA-256 has 32 bytes")
    }

    /// The accepted losses, oldest first.
    pub fn accepted_losses(&self) -> Vec<AcceptedLoss> {
        let under = self.other.range(keys::LOSS_PREFIX.to_owned()..);
        let losses = under.take_while(|(key, _)| key.starts_with(keys::LOSS_PREFIX));
        losses.filter_map(|(_, value)| serde_json::from_slice(value).ok()).collect()
    }

    /// Encodes everything but the version, as pairs in order of key.
    pub fn encode_without_version(&self) -> Vec<Pair> {
        let mut pairs = vec![
            json_pair(keys::FORMAT.to_owned(), &FORMAT),
            json_pair(keys::CLUSTER_ID.to_owned(), &self.cluster_id),
            json_pair(keys::REVISION.to_owned(), &self.revision),
            json_pair(keys::NEXT_IDS.to_owned(), &self.next),
            json_pair(keys::EPOCH_FLOOR.to_owned(), &self.epoch_floor),
        ];
        if !self.incarnation.is_first() {
            pairs.push(json_pair(keys::INCARNATION.to_owned(), &self.incarnation));
        }
        pairs.extend(self.catalog.all_schemas().map(|s| schema_pair(s)));
        pairs.extend(self.catalog.all_relations().map(|r| relation_pair(r)));
        let params = self.params.iter();
        pairs.extend(params.map(|(name, value)| json_pair(keys::param(name), &value)));
        let other = self.other.iter();
        pairs.extend(other.map(|(key, value)| Pair { key: key.clone(), value: value.clone() }));
        pairs.sort();
        pairs
    }

    /// Decodes a state from `pairs` and `version`.
    pub fn decode(pairs: &[Pair], version: Version) -> Result<Self, StateError> {
        let format: serde_json::Value = required(pairs, keys::FORMAT)?;
        if format != serde_json::json!(FORMAT) {
            return Err(StateError::Format { found: format.to_string() });
        }
        Ok(Self {
            cluster_id: required(pairs, keys::CLUSTER_ID)?,
            revision: required(pairs, keys::REVISION)?,
            catalog: Arc::new(decode_catalog(pairs)?),
            params: Arc::new(decode_params(pairs)?),
            version: Arc::new(version),
            next: required(pairs, keys::NEXT_IDS)?,
            epoch_floor: required(pairs, keys::EPOCH_FLOOR)?,
            incarnation: optional(pairs, keys::INCARNATION)?.unwrap_or_default(),
            other: Arc::new(other_pairs(pairs)),
        })
    }

    /// Decodes the catalog in `pairs`.
    pub fn decode_catalog(pairs: &[Pair]) -> Result<Catalog, StateError> {
        decode_catalog(pairs)
    }
}

impl Change {
    /// The operations of this change on the stored pairs, which turn `before` into `after`.
    pub fn operations(&self, before: &State, after: &State) -> Vec<Operation> {
        let mut operations = vec![
            put(json_pair(keys::REVISION.to_owned(), &after.revision)),
            put(json_pair(keys::version_delta(self.delta.id), &self.delta)),
        ];
        if before.next != after.next {
            operations.push(put(json_pair(keys::NEXT_IDS.to_owned(), &after.next)));
        }
        for (name, value) in &self.params {
            operations.push(put(json_pair(keys::param(name), value)));
        }
        if !self.catalog.is_empty() || self.delta.safe_epoch.is_some() {
            operations.extend(catalog_operations(before, after));
        }
        operations
    }
}

/// The difference of two catalogs as operations on their pairs.
fn catalog_operations(before: &State, after: &State) -> Vec<Operation> {
    let pairs_of = |state: &State| -> BTreeMap<String, Bytes> {
        let schemas = state.catalog.all_schemas().map(|s| schema_pair(s));
        let relations = state.catalog.all_relations().map(|r| relation_pair(r));
        schemas.chain(relations).map(|pair| (pair.key, pair.value)).collect()
    };
    let (old, new) = (pairs_of(before), pairs_of(after));
    let gone = old.keys().filter(|key| !new.contains_key(*key)).cloned();
    let mut operations: Vec<_> = gone.map(|key| Operation::Delete { key }).collect();
    let changed = new.into_iter().filter(|(key, value)| old.get(key) != Some(value));
    operations.extend(changed.map(|(key, value)| Operation::Put { key, value }));
    operations
}

fn decode_catalog(pairs: &[Pair]) -> Result<Catalog, StateError> {
    let mut catalog = Catalog::default();
    for pair in pairs.iter().filter(|p| p.key.starts_with(keys::SCHEMA_PREFIX)) {
        catalog.insert_schema(decode_value::<Schema>(pair)?);
    }
    let relations = pairs.iter().filter(|p| p.key.starts_with(keys::RELATION_PREFIX));
    let mut relations = relations.map(decode_value::<Relation>).collect::<Result<Vec<_>, _>>()?;
    relations.sort_by_key(|r| (r.lifetime.born, r.id));
    for relation in relations {
        catalog.insert_relation(Arc::new(relation));
    }
    Ok(catalog)
}

fn decode_params(pairs: &[Pair]) -> Result<Params, StateError> {
    let mut params = Params::default();
    for pair in pairs {
        if let Some(name) = pair.key.strip_prefix(keys::PARAM_PREFIX) {
            params.set(name, &decode_value::<String>(pair)?);
        }
    }
    Ok(params)
}

fn other_pairs(pairs: &[Pair]) -> BTreeMap<String, Bytes> {
    let known = ["meta/", "catalog/", "param/", keys::VERSION_PREFIX];
    pairs
        .iter()
        .filter(|pair| !known.iter().any(|prefix| pair.key.starts_with(prefix)))
        .map(|pair| (pair.key.clone(), pair.value.clone()))
        .collect()
}

fn schema_pair(schema: &Schema) -> Pair {
    json_pair(keys::schema(schema.id, schema.lifetime.born), schema)
}

fn relation_pair(relation: &Relation) -> Pair {
    json_pair(keys::relation(relation.id, relation.lifetime.born), relation)
}

fn required<T: DeserializeOwned>(pairs: &[Pair], key: &'static str) -> Result<T, StateError> {
    optional(pairs, key)?.ok_or(StateError::Missing(key))
}

fn optional<T: DeserializeOwned>(pairs: &[Pair], key: &str) -> Result<Option<T>, StateError> {
    pairs.iter().find(|p| p.key == key).map(decode_value).transpose()
}

/// Reads the JSON value of a pair.
pub fn decode_value<T: DeserializeOwned>(pair: &Pair) -> Result<T, StateError> {
    serde_json::from_slice(&pair.value)
        .map_err(|source| StateError::Value { key: pair.key.clone(), source })
}

/// A pair whose value is JSON.
pub fn json_pair<T: Serialize + ?Sized>(key: String, value: &T) -> Pair {
    let value = serde_json::to_vec(value).expect("plain data always has a JSON form");
    Pair { key, value: value.into() }
}

/// The operation that stores `pair`.
pub fn put(pair: Pair) -> Operation {
    Operation::Put { key: pair.key, value: pair.value }
}
