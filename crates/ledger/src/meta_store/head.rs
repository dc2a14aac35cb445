//! The head: a file next to a store that records how far the store has come, without a sync.
//!
//! SQLite ends its journal at the first frame that does not match its checksum, and silently drops every
//! transaction after it: it cannot tell a damaged frame from one that was never finished. The head can: it is
//! written after each transaction is durable, so it never claims more than the store must have. After a power
//! cut it may claim less, or be missing.
//!
//! Two slots, at offsets 0 and 4096, are written alternately:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic `TIDEHEAD` |
//! | 16 | identifies the life of the cluster whose store it is |
//! | 8 | revision, u64 LE |
//! | 8 | epoch, u64 LE |
//! | 24 | the first 24 bytes of the SHA-256 of the 40 bytes before |

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::epoch::Epoch;
use crate::lease::Promised;

const MAGIC: &[u8; 8] = b"TIDEHEAD";
const SLOT_STRIDE: usize = 4096;
const SUMMED_BYTES: usize = 40;
const SLOT_BYTES: usize = 64;

/// How far the transactions of a store have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Distinguishes stores that were at one path, one after the other.
    pub life: [u8; 16],
    pub end: Promised,
}

/// The file that holds the head of a store.
#[derive(Debug)]
pub(super) struct HeadFile {
    path: PathBuf,
    /// Opened by the first write.
    file: Option<File>,
    /// Whether the second slot is written next.
    second: bool,
}

impl HeadFile {
    pub fn at(path: PathBuf) -> Self {
        Self { path, file: None, second: false }
    }

    /// The later head of the two slots; `None` if neither can be read.
    pub fn read(&self) -> Option<Head> {
        let mut bytes = vec![];
        let file = File::open(&self.path).ok()?;
        file.take((2 * SLOT_STRIDE) as u64).read_to_end(&mut bytes).ok()?;
        let slots = bytes.chunks(SLOT_STRIDE).filter_map(decode);
        slots.max_by_key(|head| head.end.revision)
    }

    pub fn write(&mut self, head: &Head) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let file = options.write(true).create(true).truncate(false).open(&self.path)?;
                file.set_len((2 * SLOT_STRIDE) as u64)?;
                self.file.insert(file)
            }
        };
        let at = if self.second { SLOT_STRIDE as u64 } else { 0 };
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&encode(head))?;
        self.second = !self.second;
        Ok(())
    }
}

fn encode(head: &Head) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..24].copy_from_slice(&head.life);
    bytes[24..32].copy_from_slice(&head.end.revision.to_le_bytes());
    bytes[32..SUMMED_BYTES].copy_from_slice(&head.end.epoch.as_u64().to_le_bytes());
    let checksum = Sha256::digest(&bytes[..SUMMED_BYTES]);
    bytes[SUMMED_BYTES..].copy_from_slice(&checksum[..SLOT_BYTES - SUMMED_BYTES]);
    bytes
}

fn decode(slot: &[u8]) -> Option<Head> {
    let (summed, rest) = slot.split_at_checked(SUMMED_BYTES)?;
    let checksum = Sha256::digest(summed);
    if !rest.starts_with(&checksum[..SLOT_BYTES - SUMMED_BYTES]) {
        return None;
    }
    let (life, numbers) = summed.strip_prefix(MAGIC)?.split_first_chunk::<16>()?;
    let (revision, epoch) = numbers.split_first_chunk::<8>()?;
    let epoch = Epoch::from_u64(u64::from_le_bytes(*epoch.first_chunk()?));
    Some(Head { life: *life, end: Promised { revision: u64::from_le_bytes(*revision), epoch } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(revision: u64) -> Head {
        let epoch = Epoch::from_unix_ms(1_700_000_000_000 + revision);
        Head { life: *b"a life of a test", end: Promised { revision, epoch } }
    }

    #[test]
    fn the_later_of_two_slots_counts_and_a_damaged_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db-head");
        assert_eq!(HeadFile::at(path.clone()).read(), None);
        let mut file = HeadFile::at(path.clone());
        for revision in 1..=5 {
            file.write(&head(revision)).unwrap();
            assert_eq!(file.read(), Some(head(revision)));
        }
        // A server that restarts writes the first slot first.
        let mut file = HeadFile::at(path.clone());
        file.write(&head(6)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in (0..SLOT_BYTES).chain(SLOT_STRIDE..SLOT_STRIDE + SLOT_BYTES) {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            let expected = if at < SLOT_BYTES { head(4) } else { head(6) };
            assert_eq!(file.read(), Some(expected), "byte {at}");
        }
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(file.read(), None);
    }

    #[test]
    fn format_1_reads_forever() {
        let written = crate::fixtures::read_or_update("head-v1.bin", || encode(&head(77)));
        assert_eq!(decode(&written), Some(head(77)));
    }
}
