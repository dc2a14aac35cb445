//! The etcd keys that this store uses, and requests on them.

use etcd_client::{Compare, CompareOp, DeleteOptions, KeyValue, TxnOp, TxnOpResponse, TxnResponse};

use super::journal::{self, Change, Parts};
use crate::meta_store::Precondition;

pub(super) const DATA: &str = "tidemark/data/";
pub(super) const PART: &str = "tidemark/part/";
pub(super) const PENDING: &str = "tidemark/pending";
pub(super) const LAST: &str = "tidemark/last";
pub(super) const LEADER: &str = "tidemark/leader";

pub(super) fn data_key(key: &str) -> String {
    format!("{DATA}{key}")
}

pub(super) fn part_key(name: &str, n: u32) -> String {
    format!("{PART}{name}/{n:08}")
}

/// The first key after all that begin with `prefix`, whose last byte must not be 255.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

pub(super) fn delete_parts(parts: &Parts) -> TxnOp {
    TxnOp::delete(format!("{PART}{}/", parts.name), Some(DeleteOptions::new().with_prefix()))
}

pub(super) fn operation_of((key, stored): &Change) -> TxnOp {
    match stored {
        Some(stored) => TxnOp::put(data_key(key), stored.as_ref(), None),
        None => TxnOp::delete(data_key(key), None),
    }
}

pub(super) fn compare_of(precondition: &Precondition) -> Compare {
    match precondition {
        Precondition::Equals { key, value } => {
            Compare::value(data_key(key), CompareOp::Equal, journal::stored_inline(value))
        }
        Precondition::Absent { key } => {
            Compare::create_revision(data_key(key), CompareOp::Equal, 0)
        }
    }
}

/// The pairs that each get of a transaction found.
pub(super) fn all_found(answer: &TxnResponse) -> Vec<Vec<KeyValue>> {
    let found = answer.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(get) => get.kvs().to_vec(),
        _ => vec![],
    });
    found.collect()
}

pub(super) fn found<const N: usize>(answer: &TxnResponse) -> [Vec<KeyValue>; N] {
    let mut all = all_found(answer).into_iter();
    std::array::from_fn(|_| all.next().unwrap_or_default())
}
