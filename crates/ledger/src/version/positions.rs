//! Sets of row positions in a delta: the rows of a replaced file that its replacements leave out.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::id::{ObjectId, SstId};

/// The rows of one file that the files replacing it in a table leave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    pub table_id: ObjectId,
    pub sst_id: SstId,
    pub left_out: Positions,
}

/// A set of row positions, represented by its size and a checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    pub count: u64,
    /// The wrapping sum of `mixed` of each position.
    pub checksum: u64,
}

impl Positions {
    /// Adds positions, none of which may be in the set.
    #[must_use]
    pub(super) fn and(self, positions: &RoaringBitmap) -> Self {
        let checksum = positions.iter().map(mixed).fold(self.checksum, u64::wrapping_add);
        Self { count: self.count + positions.len(), checksum }
    }
}

impl From<&RoaringBitmap> for Positions {
    fn from(positions: &RoaringBitmap) -> Self {
        Self::default().and(positions)
    }
}

/// The finalizer of SplitMix64, applied to the position plus one.
fn mixed(position: u32) -> u64 {
    let mut bits = (u64::from(position) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
