//! The byte format of a meta snapshot, `<id>.snapshot`.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic `TIDEMARK` |
//! | 4 | format version, u32 little-endian: 1 |
//! | 8 | snapshot id, u64 little-endian |
//! | 12 | zero |
//! | … | the sections, one after another, each a separate zstd frame |
//! | n | the footer, JSON: `{"sections":[…],"info":{…}}` |
//! | 4 | n, u32 little-endian |
//! | 32 | SHA-256 of the first 32 bytes followed by the footer |
//! | 8 | magic `TIDEMEND` |
//!
//! A section holds the pairs of the meta store whose key begins with its name and a `/`, in order of key,
//! each as key length (u32 little-endian), key, value length (u32 little-endian), value. Only the section
//! `version` holds the lines of [`crate::version::encoding`] instead. For each section the footer has
//! the offset, the stored and the raw length, the number of entries, and the SHA-256 of the stored bytes. So
//! every byte of the file is covered, and a reader that wants one section reads only the footer and that
//! section.
//!
//! The test reads `tests/fixtures/snapshot-v1.snapshot`; `UPDATE_FIXTURES=1` rewrites it.

mod reader;
mod writer;

pub use reader::SnapshotReader;
pub use writer::{WrittenSnapshot, write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::info::{FORMAT, SnapshotDetail};
use crate::id::SnapshotId;

const MAGIC: &[u8; 8] = b"TIDEMARK";
const END_MAGIC: &[u8; 8] = b"TIDEMEND";
const HEADER_BYTES: usize = 32;
/// Footer length, checksum and end magic.
const TAIL_BYTES: usize = 4 + 32 + 8;
/// The section that holds the version.
const VERSION_SECTION: &str = "version";

#[derive(Debug, Serialize, Deserialize)]
struct Footer {
    sections: Vec<Section>,
    #[serde(rename = "info")]
    detail: SnapshotDetail,
}

/// The position, the sizes and the checksum of a section.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Section {
    name: String,
    offset: u64,
    stored_bytes: u64,
    raw_bytes: u64,
    entries: u64,
    /// SHA-256 of the stored bytes, in hex.
    sha256: String,
}

fn header(id: SnapshotId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..20].copy_from_slice(&id.0.to_le_bytes());
    header
}

/// The checksum that covers what no section's checksum covers.
fn frame_sha256(header: &[u8], footer: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(header).chain_update(footer).finalize().into()
}

/// The section a key belongs to.
fn section_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(name, _)| name)
}

#[cfg(test)]
mod tests;
