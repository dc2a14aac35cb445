//! Splits values and transactions into the sizes that etcd accepts.
//!
//! etcd accepts requests of 1.5 MiB and transactions of 128 operations. A value is stored as one byte for its
//! form, followed by
//!
//! | byte | rest |
//! |---|---|
//! | 0 | the value |
//! | 1 | the number of its parts, u32 LE; and their name, as text |
//!
//! The name of parts ends in `-` and the SHA-256 of their concatenation, in hex. The names of parts that were
//! written before December 2026 have no checksum.
//!
//! A transaction that is too large is first written as a *journal*: one byte, the format, 1; then for each
//! key its new content: the length of the key, u32 LE; the key; one byte, 0 for deleted, 1 for stored; and,
//! if stored, the length of the stored value, u32 LE, and the stored value.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::Operation;
use crate::storage::sha256_hex;

const INLINE: u8 = 0;
const IN_PARTS: u8 = 1;
const JOURNAL_FORMAT: u8 = 1;
const GONE: u8 = 0;
const STORED: u8 = 1;

/// Maximum bytes of a part, and of the operations of a transaction: well below the limit of etcd.
pub(super) const PART_BYTES: usize = 1 << 20;
/// Maximum number of changes in a transaction, which leaves room for the store's own operations.
pub(super) const OPERATIONS_MAX: usize = 100;

/// The large values of one transaction, or its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub name: String,
    pub count: u32,
}

/// The name of parts that hold these bytes together; `nonce` makes it unique.
pub(super) fn name_of_parts(nonce: &str, bytes: &[u8]) -> String {
    format!("{nonce}-{}", sha256_hex(bytes))
}

/// Whether parts of this name hold these bytes together.
pub(super) fn is_whole(name: &str, bytes: &[u8]) -> bool {
    name.split_once('-').is_none_or(|(_, checksum)| checksum == sha256_hex(bytes))
}

/// A key and the stored form of its new value; `None` if it is deleted.
pub(super) type Change = (String, Option<Bytes>);

/// The new value of each key after all operations. Idempotent: it can be applied in any order and repeatedly.
pub(super) fn outcome(operations: Vec<Operation>) -> BTreeMap<String, Option<Bytes>> {
    let changes = operations.into_iter().map(|operation| match operation {
        Operation::Put { key, value } => (key, Some(value)),
        Operation::Delete { key } => (key, None),
    });
    changes.collect()
}

pub(super) fn stored_inline(value: &[u8]) -> Bytes {
    [&[INLINE], value].concat().into()
}

pub(super) fn stored_in(parts: &Parts) -> Bytes {
    [&[IN_PARTS], &parts.count.to_le_bytes()[..], parts.name.as_bytes()].concat().into()
}

/// Decodes a stored value: the value itself, or its parts. `None` if its form is not known.
pub(super) fn read_stored(stored: &[u8]) -> Option<Result<Bytes, Parts>> {
    match stored.split_first()? {
        (&INLINE, value) => Some(Ok(Bytes::copy_from_slice(value))),
        (&IN_PARTS, rest) => Some(Err(read_parts(rest)?)),
        _ => None,
    }
}

fn read_parts(bytes: &[u8]) -> Option<Parts> {
    let (count, name) = bytes.split_first_chunk::<4>()?;
    let name = std::str::from_utf8(name).ok()?.to_owned();
    Some(Parts { name, count: u32::from_le_bytes(*count) })
}

/// Encodes the `pending` entry, which names the parts of a journal.
pub(super) fn pending(parts: &Parts) -> Bytes {
    [&parts.count.to_le_bytes()[..], parts.name.as_bytes()].concat().into()
}

pub(super) fn read_pending(stored: &[u8]) -> Option<Parts> {
    read_parts(stored)
}

/// Splits changes into batches that each fit into a transaction.
pub(super) fn batches(changes: &[Change]) -> Vec<&[Change]> {
    let mut batches = vec![];
    let (mut begin, mut bytes) = (0, 0);
    for (at, (key, stored)) in changes.iter().enumerate() {
        let size = key.len() + stored.as_ref().map_or(0, Bytes::len);
        if at > begin && (at - begin == OPERATIONS_MAX || bytes + size > PART_BYTES) {
            batches.push(&changes[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += size;
    }
    if begin < changes.len() {
        batches.push(&changes[begin..]);
    }
    batches
}

pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    let mut journal = vec![JOURNAL_FORMAT];
    for (key, stored) in changes {
        put_counted(&mut journal, key.as_bytes());
        match stored {
            None => journal.push(GONE),
            Some(stored) => {
                journal.push(STORED);
                put_counted(&mut journal, stored);
            }
        }
    }
    journal
}

/// The changes of a journal, or why it cannot be read.
pub(super) fn decode(journal: &[u8]) -> Result<Vec<Change>, String> {
    let Some((&JOURNAL_FORMAT, mut rest)) = journal.split_first() else {
        return Err("the journal of a transaction is of an unknown format".to_owned());
    };
    let mut changes = vec![];
    while !rest.is_empty() {
        let change = take_change(&mut rest);
        changes.push(change.ok_or("the journal of a transaction is damaged")?);
    }
    Ok(changes)
}

fn take_change(rest: &mut &[u8]) -> Option<Change> {
    let key = std::str::from_utf8(take_counted(rest)?).ok()?.to_owned();
    let (kind, after) = rest.split_first()?;
    *rest = after;
    match *kind {
        GONE => Some((key, None)),
        STORED => Some((key, Some(Bytes::copy_from_slice(take_counted(rest)?)))),
        _ => None,
    }
}

fn put_counted(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("keys and stored values are below 2 MiB");
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(bytes);
}

fn take_counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (bytes, after) =
        after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Vec<Change> {
        let stored = stored_inline(b"value");
        let parts = Parts { name: "5f2c".to_owned(), count: 3 };
        vec![
            ("a/é".to_owned(), Some(stored)),
            ("b".to_owned(), None),
            ("c".to_owned(), Some(stored_in(&parts))),
        ]
    }

    #[test]
    fn journals_read_back_and_damage_is_told() {
        let journal = encode(&changes());
        assert_eq!(decode(&journal).unwrap(), changes());
        for end in 0..journal.len() {
            // A cut between two changes decodes to fewer changes: the parts of a journal are never cut.
            assert_ne!(decode(&journal[..end]).unwrap_or_default(), changes());
        }
        assert!(decode(&[9]).unwrap_err().contains("unknown format"));
    }

    /// Reads a journal as a leader does, from the `pending` entry, and the name and the bytes of the parts.
    fn read_back(pending: &[u8], name: &str, parts: &[&[u8]]) -> Option<Vec<Change>> {
        let found = read_pending(pending)?;
        let count = usize::try_from(found.count).unwrap();
        let bytes = parts.get(..count).filter(|_| found.name == name)?.concat();
        is_whole(&found.name, &bytes).then(|| decode(&bytes).ok()).flatten()
    }

    #[test]
    fn no_damaged_journal_is_carried_out() {
        let journal = encode(&changes());
        let name = name_of_parts("5f2c", &journal);
        let whole: Vec<&[u8]> = journal.chunks(12).collect();
        let named = pending(&Parts { name: name.clone(), count: 4 });
        assert_eq!(whole.len(), 4, "{}", journal.len());
        assert_eq!(read_back(&named, &name, &whole), Some(changes()));
        let mut damages = 0;
        for bit in 0..8 * journal.len() {
            let mut flipped = journal.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let parts: Vec<&[u8]> = flipped.chunks(12).collect();
            assert_eq!(read_back(&named, &name, &parts), None, "bit {bit}");
            damages += 1;
        }
        for bit in 0..8 * named.len() {
            let mut flipped = named.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_back(&flipped, &name, &whole), None, "bit {bit} of what names it");
            damages += 1;
        }
        for one in 0..whole.len() {
            let mut cut = whole.clone();
            cut[one] = &whole[one][1..];
            assert_eq!(read_back(&named, &name, &cut), None);
            let mut swapped = whole.clone();
            swapped.swap(one, (one + 1) % whole.len());
            assert_eq!(read_back(&named, &name, &swapped), None);
            damages += 2;
        }
        assert!(damages > 900, "{damages}");
        assert!(is_whole("5f2c", b"of a release that wrote no checksum"));
    }

    #[test]
    fn format_1_reads_forever() {
        let written = crate::fixtures::read_or_update("etcd-journal-v1.bin", || encode(&changes()));
        assert_eq!(decode(&written).unwrap(), changes());
        assert_eq!(read_stored(&stored_inline(b"v")).unwrap().unwrap(), "v");
        let parts = Parts { name: "5f2c".to_owned(), count: 3 };
        assert_eq!(read_stored(&stored_in(&parts)).unwrap().unwrap_err(), parts);
        assert_eq!(read_pending(&pending(&parts)).unwrap(), parts);
    }

    #[test]
    fn batches_fit_and_keep_every_change() {
        let large = Bytes::from(vec![7; PART_BYTES / 3]);
        let small = (0..250).map(|n| (format!("k{n}"), None));
        let all: Vec<Change> =
            small.chain((0..7).map(|n| (format!("l{n}"), Some(large.clone())))).collect();
        let batches = batches(&all);
        for batch in &batches {
            let bytes: usize = batch.iter().map(|(_, v)| v.as_ref().map_or(0, Bytes::len)).sum();
            assert!(batch.len() <= OPERATIONS_MAX && bytes <= PART_BYTES);
        }
        assert_eq!(batches.concat(), all);
    }
}
