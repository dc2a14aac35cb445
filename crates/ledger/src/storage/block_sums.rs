//! Checksums of the blocks of a data file, for verifying partial reads.
//!
//! An object is divided into blocks of [`BLOCK_BYTES`], the last of which may be shorter. Each has a CRC-32
//! (that of zlib and PNG). The checksums are concatenated, little-endian, and serialized as base64.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Size of a block: the unit of fetching, verifying and caching.
pub const BLOCK_BYTES: usize = 256 << 10;

const SUM_BYTES: usize = 4;

/// The checksums of all blocks of an object, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct BlockSums(Arc<[u8]>);

impl BlockSums {
    /// The checksums of an object that is in memory.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = BlockHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Whether these bytes are the `block`-th block, from 0.
    pub fn matches(&self, block: u64, bytes: &[u8]) -> bool {
        let start = usize::try_from(block).ok().and_then(|block| block.checked_mul(SUM_BYTES));
        let expected = start.and_then(|start| self.0.get(start..start + SUM_BYTES));
        expected == Some(&sum_of(bytes)[..])
    }
}

impl fmt::Debug for BlockSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockSums({} blocks)", self.0.len() / SUM_BYTES)
    }
}

fn sum_of(block: &[u8]) -> [u8; SUM_BYTES] {
    crc32fast::hash(block).to_le_bytes()
}

impl Serialize for BlockSums {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for BlockSums {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(de::Error::custom)?;
        match bytes.len() % SUM_BYTES {
            0 => Ok(Self(bytes.into())),
            _ => Err(de::Error::custom("checksums of blocks take four bytes each")),
        }
    }
}

/// Computes the block checksums of an object that is written or read from its beginning.
#[derive(Debug, Default)]
pub struct BlockHasher {
    sums: Vec<u8>,
    block: crc32fast::Hasher,
    /// Bytes of the current block seen so far.
    seen: usize,
}

impl BlockHasher {
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (of_block, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.seen));
            self.block.update(of_block);
            self.seen += of_block.len();
            if self.seen == BLOCK_BYTES {
                self.close_block();
            }
            bytes = rest;
        }
    }

    fn close_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        self.sums.extend_from_slice(&block.finalize().to_le_bytes());
        self.seen = 0;
    }

    pub fn finish(mut self) -> BlockSums {
        if self.seen > 0 {
            self.close_block();
        }
        BlockSums(self.sums.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| u8::try_from(at * at % 251).unwrap()).collect()
    }

    #[test]
    fn sums_do_not_depend_on_the_pieces_that_were_seen() {
        for bytes in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7] {
            let object = object(bytes);
            let sums = BlockSums::of(&object);
            for piece in [1000, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES] {
                let mut hasher = BlockHasher::default();
                object.chunks(piece).for_each(|piece| hasher.update(piece));
                assert_eq!(hasher.finish(), sums, "{bytes} in pieces of {piece}");
            }
            for (block, bytes) in (0..).zip(object.chunks(BLOCK_BYTES)) {
                assert!(sums.matches(block, bytes));
                assert!(!sums.matches(block, &bytes[1..]));
                assert!(!sums.matches(block + 1, bytes));
            }
        }
    }

    #[test]
    fn sums_are_written_as_base64_and_read_back() {
        let sums = BlockSums::of(b"123456789");
        let text = serde_json::to_string(&sums).unwrap();
        // The check value of CRC-32, 0xcbf43926.
        assert_eq!(text, format!("\"{}\"", STANDARD_NO_PAD.encode([0x26, 0x39, 0xf4, 0xcb])));
        assert_eq!(serde_json::from_str::<BlockSums>(&text).unwrap(), sums);
        for wrong in ["\"JjnT\"", "\"!\"", "7"] {
            assert!(serde_json::from_str::<BlockSums>(wrong).is_err(), "{wrong}");
        }
    }
}
