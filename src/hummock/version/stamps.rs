//! The deaths of single rows of one file.

use std::sync::{Arc, OnceLock};

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::epoch::Epoch;

/// Rows of one file that died at one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    pub epoch: Epoch,
    #[serde(with = "crate::hummock::sst::stamps")]
    pub positions: Arc<RoaringBitmap>,
}

/// The stamps of a file, in order of epoch; the positions of two never overlap.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamps {
    list: Vec<Stamp>,
    /// All positions, joined when first asked for: what the newest epochs see.
    #[serde(skip)]
    joined: OnceLock<Arc<RoaringBitmap>>,
}

impl PartialEq for Stamps {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Stamps {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Stamp> {
        self.list.iter()
    }

    /// Adds the newest.
    pub fn push(&mut self, stamp: Stamp) {
        if let Some(mut joined) = self.joined.take() {
            *Arc::make_mut(&mut joined) |= &*stamp.positions;
            self.joined = OnceLock::from(joined);
        }
        self.list.push(stamp);
    }

    /// Positions dead at `epoch`. `None` where there are none.
    pub fn dead_at(&self, epoch: Epoch) -> Option<Arc<RoaringBitmap>> {
        let due = self.list.partition_point(|stamp| stamp.epoch <= epoch);
        match &self.list[..due] {
            [] => None,
            [only] => Some(Arc::clone(&only.positions)),
            all if due == self.list.len() => {
                Some(Arc::clone(self.joined.get_or_init(|| Arc::new(join(all)))))
            }
            several => Some(Arc::new(join(several))),
        }
    }

    /// Positions that died after `epoch`.
    pub fn died_since(&self, epoch: Epoch) -> RoaringBitmap {
        join(&self.list[self.list.partition_point(|stamp| stamp.epoch <= epoch)..])
    }

    /// How many rows died.
    pub fn rows(&self) -> u64 {
        self.list.iter().map(|stamp| stamp.positions.len()).sum()
    }

    /// Whether one of these rows is dead by some stamp.
    pub fn meet(&self, positions: &RoaringBitmap) -> bool {
        self.list.iter().any(|stamp| !stamp.positions.is_disjoint(positions))
    }
}

fn join(stamps: &[Stamp]) -> RoaringBitmap {
    let mut dead = RoaringBitmap::new();
    for stamp in stamps {
        dead |= &*stamp.positions;
    }
    dead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_sees_what_died_by_then() {
        let stamp = |at, positions: &[u32]| Stamp {
            epoch: Epoch::from_u64(at),
            positions: Arc::new(positions.iter().copied().collect()),
        };
        let mut stamps = Stamps::default();
        for (at, position) in [(1, 4), (2, 7), (3, 5)] {
            stamps.push(stamp(at, &[position]));
            // The join of all grows with each.
            let dead = stamps.dead_at(Epoch::from_u64(9)).unwrap();
            assert_eq!((dead.len(), dead.contains(position)), (at, true));
        }
        let dead = |at| stamps.dead_at(Epoch::from_u64(at)).map(|dead| dead.len());
        assert_eq!([0, 1, 2, 3].map(dead), [None, Some(1), Some(2), Some(3)]);
        assert_eq!(stamps.died_since(Epoch::from_u64(1)).iter().collect::<Vec<_>>(), [5, 7]);
        assert!(stamps.meet(&[5].into_iter().collect()) && !stamps.meet(&RoaringBitmap::new()));
    }
}
