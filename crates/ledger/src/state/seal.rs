//! The checksum over every pair of the meta store, and the chain of checksums through its deltas. No I/O.
//!
//! | pair | holds |
//! |---|---|
//! | `version/seal` | `{"revision":…,"pairs":…,"sum":"…"}`, written with every transaction: the revision, the number of all other pairs, and the sum of their hashes |
//! | `version/delta/…` | in its last field `sha256`, the checksum of the previous link and of the rest of the record |
//! | `version/checkpoint` | in its last field `link`, the checksum in the delta that led to its version |
//!
//! The hash of a pair is the first 16 bytes, big-endian, of the SHA-256 of the length of its key (u32 LE),
//! its key and its value. The sum is that of these numbers modulo 2^128, in 32 hex digits. It does not depend
//! on the order of pairs, so the cost of a transaction is proportional to what it changes.
//!
//! **Invariant:** no byte of the metadata is used that the seal does not cover. A store that was last written
//! by a release before this one has no seal; it gets one with its first transaction.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{StateError, decode_value, json_pair, optional, put};
use crate::checkpoint::Checkpoint;
use crate::keys;
use crate::meta_store::{Operation, Pair, Precondition};
use crate::storage::checksum::{Unsealed, sealed};

/// The hashes of the pairs of a store, and their sum.
#[derive(Clone, Debug, Default)]
pub struct Seal {
    hashes: HashMap<String, u128>,
    sum: u128,
    /// The checksum of the newest delta; empty before the first that has one.
    link: String,
    /// The stored value of the seal, if there is one.
    kept: Option<Bytes>,
}

/// The effect of one transaction on the seal, to be applied once the transaction has committed.
#[derive(Debug)]
pub struct Step {
    hashes: HashMap<String, Option<u128>>,
    sum: u128,
    link: String,
    kept: Bytes,
}

/// The pair `version/seal`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sealed {
    revision: u64,
    pairs: u64,
    sum: String,
}

/// The pair `version/checkpoint`.
#[derive(Serialize, Deserialize)]
struct Linked {
    #[serde(flatten)]
    checkpoint: Checkpoint,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    link: String,
}

/// The end of the chain of checksums.
#[derive(Default)]
struct Chain {
    link: String,
    /// Whether any record is part of the chain.
    any: bool,
    /// Number of deltas at the end that are not part of it.
    loose: u64,
}

impl Seal {
    /// Verifies that `pairs` are exactly what was written.
    ///
    /// # Errors
    /// [`StateError::Damaged`], which says what is wrong.
    pub fn verify(pairs: &[Pair]) -> Result<Self, StateError> {
        check_order(pairs)?;
        let chain = Chain::through(pairs)?;
        let kept = pairs.iter().find(|pair| pair.key == keys::SEAL).map(|pair| pair.value.clone());
        let seal = Self { link: chain.link.clone(), kept, ..Self::of(pairs) };
        let revision = optional(pairs, keys::REVISION)?.unwrap_or_default();
        let kept: Option<Sealed> = optional(pairs, keys::SEAL)?;
        match kept {
            None if chain.any => Err(damaged("the checksum over all of it is gone")),
            None => Ok(seal),
            Some(kept) if kept == seal.sealed(revision) => Ok(seal),
            Some(kept) if chain.goes_on_loosely(kept.revision, revision) => {
                tracing::warn!(
                    "an older release has written to the meta store: what it holds cannot be verified \
                     before the next commit"
                );
                Ok(seal)
            }
            Some(_) => Err(damaged(
                "it does not match the checksum over all of it: a value was changed, lost or added",
            )),
        }
    }

    fn of(pairs: &[Pair]) -> Self {
        let counted = pairs.iter().filter(|pair| pair.key != keys::SEAL);
        let hashes: HashMap<_, _> =
            counted.map(|pair| (pair.key.clone(), hash(&pair.key, &pair.value))).collect();
        let sum = hashes.values().fold(0, |sum: u128, hash| sum.wrapping_add(*hash));
        Self { hashes, sum, link: String::new(), kept: None }
    }

    /// The precondition of a transaction: no other writer has changed a pair.
    pub fn precondition(&self) -> Precondition {
        let key = keys::SEAL.to_owned();
        match self.kept.clone() {
            Some(value) => Precondition::Equals { key, value },
            None => Precondition::Absent { key },
        }
    }

    /// The checksum of the newest delta.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Adds the checksums to the deltas of a transaction, and the new seal to its operations.
    pub fn seal(&self, operations: &mut Vec<Operation>, revision: u64) -> Step {
        let (sum, link) = (self.sum, self.link.clone());
        let mut step = Step { hashes: HashMap::new(), sum, link, kept: Bytes::new() };
        for operation in &mut *operations {
            if let Operation::Put { key, value } = operation
                && key.starts_with(keys::VERSION_DELTA_PREFIX)
            {
                *value = Bytes::from(sealed(&step.link, value));
                step.link = link_of(value);
            }
            self.count(operation, &mut step);
        }
        let pairs = self.pairs_after(&step);
        let sealed = Sealed { revision, pairs, sum: hex(step.sum) };
        let pair = json_pair(keys::SEAL.to_owned(), &sealed);
        step.kept = pair.value.clone();
        operations.push(put(pair));
        step
    }

    fn count(&self, operation: &Operation, step: &mut Step) {
        let (key, new) = match operation {
            Operation::Put { key, value } => (key, Some(hash(key, value))),
            Operation::Delete { key } => (key, None),
        };
        let before = step.hashes.get(key).copied().unwrap_or(self.hashes.get(key).copied());
        let change = new.unwrap_or_default().wrapping_sub(before.unwrap_or_default());
        step.sum = step.sum.wrapping_add(change);
        step.hashes.insert(key.clone(), new);
    }

    fn pairs_after(&self, step: &Step) -> u64 {
        let mut pairs = self.hashes.len();
        for (key, hash) in &step.hashes {
            match (self.hashes.contains_key(key), hash.is_some()) {
                (false, true) => pairs += 1,
                (true, false) => pairs -= 1,
                _ => {}
            }
        }
        pairs as u64
    }

    /// Applies the step of a transaction that has committed.
    pub fn advance(&mut self, step: Step) {
        for (key, hash) in step.hashes {
            match hash {
                Some(hash) => self.hashes.insert(key, hash),
                None => self.hashes.remove(&key),
            };
        }
        (self.sum, self.link, self.kept) = (step.sum, step.link, Some(step.kept));
    }

    fn sealed(&self, revision: u64) -> Sealed {
        Sealed { revision, pairs: self.hashes.len() as u64, sum: hex(self.sum) }
    }
}

/// Adds the seal to the pairs that a store is filled with. Returns them in order of key.
pub fn seal_pairs(mut pairs: Vec<Pair>) -> Result<(Vec<Pair>, Seal), StateError> {
    let revision = optional(&pairs, keys::REVISION)?.unwrap_or_default();
    let mut seal = Seal::of(&pairs);
    let pair = json_pair(keys::SEAL.to_owned(), &seal.sealed(revision));
    seal.kept = Some(pair.value.clone());
    pairs.push(pair);
    pairs.sort();
    Ok((pairs, seal))
}

/// The pair that names a checkpoint. `link` is the checksum in the delta that led to its version.
pub fn checkpoint_pair(checkpoint: Checkpoint, link: String) -> Pair {
    json_pair(keys::VERSION_CHECKPOINT.to_owned(), &Linked { checkpoint, link })
}

impl Chain {
    fn through(pairs: &[Pair]) -> Result<Self, StateError> {
        let mut chain = Self::default();
        if let Some(Linked { link, .. }) = optional(pairs, keys::VERSION_CHECKPOINT)? {
            chain = Self { any: !link.is_empty(), link, loose: 0 };
        }
        for pair in pairs.iter().filter(|pair| pair.key.starts_with(keys::VERSION_DELTA_PREFIX)) {
            chain.follow(pair)?;
        }
        Ok(chain)
    }

    fn follow(&mut self, pair: &Pair) -> Result<(), StateError> {
        match Unsealed::of(&pair.value) {
            Some(record) if record.matches(&self.link) => {
                *self = Self { link: link_of(&pair.value), any: true, loose: 0 };
                Ok(())
            }
            Some(_) => Err(damaged(format!(
                "\"{}\" does not match its checksum, or what was before it is not",
                pair.key
            ))),
            None => {
                (self.link, self.loose) = (String::new(), self.loose + 1);
                Ok(())
            }
        }
    }

    /// Whether a release that knows no seal has written since revision `sealed`: each of its changes has a
    /// delta without a checksum.
    fn goes_on_loosely(&self, sealed: u64, revision: u64) -> bool {
        self.loose > 0 && sealed < revision && self.loose <= revision - sealed
    }
}

/// A store lists its keys in order, each once; one that does not is damaged.
fn check_order(pairs: &[Pair]) -> Result<(), StateError> {
    match pairs.windows(2).find(|two| two[0].key >= two[1].key) {
        None => Ok(()),
        Some(two) => Err(damaged(format!("\"{}\" is out of order", two[1].key))),
    }
}

/// The checksum at the end of a sealed record; empty if it has none.
fn link_of(value: &[u8]) -> String {
    Unsealed::of(value).map(|record| record.checksum()).unwrap_or_default()
}

fn hash(key: &str, value: &[u8]) -> u128 {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes();
    let digest = Sha256::new().chain_update(length).chain_update(key).chain_update(value);
    let first = digest.finalize().first_chunk().copied();
    u128::from_be_bytes(first.expect("a SHA-256 has 32 bytes"))
}

fn hex(sum: u128) -> String {
    format!("{sum:032x}")
}

fn damaged(what: impl Into<String>) -> StateError {
    StateError::Damaged { what: what.into() }
}

/// The checkpoint that the pairs of a store name.
pub fn checkpoint_of(pairs: &[Pair]) -> Result<Checkpoint, StateError> {
    let pointer = pairs.iter().find(|pair| pair.key == keys::VERSION_CHECKPOINT);
    decode_value(pointer.ok_or(StateError::Missing(keys::VERSION_CHECKPOINT))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> Pair {
        Pair { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()) }
    }

    fn delta(id: u64) -> Operation {
        put(pair(&keys::version_delta(crate::id::VersionId(id)), &format!("{{\"id\":{id}}}")))
    }

    /// A store after `changes` transactions, and its seal.
    fn store(changes: u64) -> (Vec<Pair>, Seal) {
        let begun = [(keys::REVISION, "0"), ("param/a", "\"1\""), ("meta/format", "1")];
        let mut pairs = begun.map(|(key, value)| pair(key, value)).to_vec();
        pairs.sort();
        pairs = seal_pairs(pairs).unwrap().0;
        let mut seal = Seal::verify(&pairs).unwrap();
        for n in 1..=changes {
            let revision = put(json_pair(keys::REVISION.to_owned(), &n));
            let param = put(pair(&format!("param/{}", n % 3), &format!("\"{n}\"")));
            let mut operations = vec![revision, delta(n), param];
            if n % 4 == 0 {
                operations.push(Operation::Delete { key: "param/a".to_owned() });
            }
            let step = seal.seal(&mut operations, n);
            seal.advance(step);
            pairs = done(pairs, operations);
        }
        (pairs, seal)
    }

    fn done(pairs: Vec<Pair>, operations: Vec<Operation>) -> Vec<Pair> {
        let mut map: std::collections::BTreeMap<_, _> =
            pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
        for operation in operations {
            match operation {
                Operation::Put { key, value } => map.insert(key, value),
                Operation::Delete { key } => map.remove(&key),
            };
        }
        map.into_iter().map(|(key, value)| Pair { key, value }).collect()
    }

    #[test]
    fn what_was_sealed_step_by_step_is_what_a_start_finds() {
        let (pairs, seal) = store(9);
        let found = Seal::verify(&pairs).unwrap();
        assert_eq!((found.sum, &found.link), (seal.sum, &seal.link));
        assert_eq!(found.hashes, seal.hashes);
        assert_eq!(found.link.len(), 64);
    }

    #[test]
    fn a_pair_that_is_missing_changed_or_swapped_is_noticed() {
        let (pairs, _) = store(9);
        for at in 0..pairs.len() {
            let mut missing = pairs.clone();
            missing.remove(at);
            Seal::verify(&missing).unwrap_err();
            for other in (0..pairs.len()).filter(|other| *other != at) {
                let mut swapped = pairs.clone();
                (swapped[at].value, swapped[other].value) =
                    (pairs[other].value.clone(), pairs[at].value.clone());
                assert!(swapped == pairs || Seal::verify(&swapped).is_err());
            }
            for bit in 0..8 * pairs[at].value.len() {
                let mut flipped = pairs.clone();
                let mut value = flipped[at].value.to_vec();
                value[bit / 8] ^= 1 << (bit % 8);
                flipped[at].value = value.into();
                Seal::verify(&flipped).unwrap_err();
            }
        }
        let mut more = pairs.clone();
        more.push(pair("zz", "1"));
        Seal::verify(&more).unwrap_err();
    }

    #[test]
    fn a_damaged_delta_is_named() {
        let (mut pairs, _) = store(9);
        let key = keys::version_delta(crate::id::VersionId(5));
        let record = pairs.iter_mut().find(|pair| pair.key == key).unwrap();
        record.value = Bytes::from(record.value.to_vec().to_ascii_uppercase());
        let error = Seal::verify(&pairs);
        let (mut lost, _) = store(9);
        lost.retain(|pair| pair.key != key);
        let after = keys::version_delta(crate::id::VersionId(6));
        assert!(error.is_err());
        let error = Seal::verify(&lost).unwrap_err().to_string();
        assert!(error.contains(&after), "{error}");
    }

    #[test]
    fn a_store_of_an_older_release_is_read_and_one_it_wrote_to_in_between_too() {
        let old = vec![pair("meta/format", "1"), pair(keys::REVISION, "7")];
        let mut seal = Seal::verify(&old).unwrap();
        let mut operations = vec![put(pair(keys::REVISION, "8")), delta(8)];
        let step = seal.seal(&mut operations, 8);
        seal.advance(step);
        let sealed = done(old, operations);
        Seal::verify(&sealed).unwrap();
        // An older release does not update the seal.
        let loose = done(sealed.clone(), vec![put(pair(keys::REVISION, "9")), delta(9)]);
        let mut seal = Seal::verify(&loose).unwrap();
        let mut operations = vec![put(pair(keys::REVISION, "10")), delta(10)];
        let step = seal.seal(&mut operations, 10);
        seal.advance(step);
        Seal::verify(&done(loose, operations)).unwrap();
        // That does not excuse damage.
        let lost: Vec<_> = sealed.iter().filter(|pair| pair.key != keys::SEAL).cloned().collect();
        Seal::verify(&lost).unwrap_err();
        Seal::verify(&done(sealed, vec![put(pair(keys::REVISION, "9"))])).unwrap_err();
    }
}
