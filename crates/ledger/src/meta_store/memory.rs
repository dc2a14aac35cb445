//! A meta store in memory, lost when its process ends: for tests and throw-away clusters.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{MetaStore, Operation, Pair, Precondition, StoreError, Txn};

/// Pairs in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pairs: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    fn pairs(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MetaStore for MemoryStore {
    fn name(&self) -> &str {
        "memory"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.pairs().get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Pair>, StoreError> {
        let pairs = self.pairs();
        let from = pairs.range(prefix.to_owned()..);
        let under = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(under.map(|(key, value)| Pair { key: key.clone(), value: value.clone() }).collect())
    }

    async fn commit(&self, txn: Txn) -> Result<(), StoreError> {
        let mut pairs = self.pairs();
        for precondition in &txn.preconditions {
            let (key, holds) = match precondition {
                Precondition::Equals { key, value } => (key, pairs.get(key) == Some(value)),
                Precondition::Absent { key } => (key, !pairs.contains_key(key)),
            };
            if !holds {
                return Err(StoreError::Precondition(key.clone()));
            }
        }
        for operation in txn.operations {
            match operation {
                Operation::Put { key, value } => pairs.insert(key, value),
                Operation::Delete { key } => pairs.remove(&key),
            };
        }
        Ok(())
    }

    async fn fill(&self, new: Vec<Pair>) -> Result<(), StoreError> {
        let mut pairs = self.pairs();
        if !pairs.is_empty() {
            return Err(StoreError::NotEmpty { store: self.name().to_owned() });
        }
        pairs.extend(new.into_iter().map(|pair| (pair.key, pair.value)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta_store::conformance;

    #[tokio::test]
    async fn memory_conforms() {
        conformance::conforms(&MemoryStore::new()).await;
    }
}
