//! Stamps: the rows of one file that died while the file was alive.

use std::sync::{Arc, OnceLock};

use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::epoch::Epoch;

/// Rows of one file that died at one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    pub epoch: Epoch,
    #[serde(with = "crate::sst::stamps")]
    pub positions: Arc<RoaringBitmap>,
}

/// The stamps of a file, in order of epoch. No two overlap in their positions. Small when empty, since most
/// files have none.
#[derive(Clone, Debug, Default)]
pub struct Stamps(Option<Box<Set>>);

/// The stamps of a file that has some.
#[derive(Clone, Debug, Default)]
struct Set {
    list: Vec<Stamp>,
    /// The union of all positions, which the newest epochs see. Computed on first use.
    joined: OnceLock<Arc<RoaringBitmap>>,
}

impl PartialEq for Stamps {
    fn eq(&self, other: &Self) -> bool {
        self.list() == other.list()
    }
}

impl Serialize for Stamps {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.list().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Stamps {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let list = Vec::<Stamp>::deserialize(from)?;
        let has_some = !list.is_empty();
        Ok(Self(has_some.then(|| Box::new(Set { list, joined: OnceLock::new() }))))
    }
}

impl Stamps {
    fn list(&self) -> &[Stamp] {
        self.0.as_ref().map_or(&[], |set| &set.list)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Stamp> {
        self.list().iter()
    }

    /// Adds a stamp, which must be the newest.
    pub fn push(&mut self, stamp: Stamp) {
        let set = self.0.get_or_insert_default();
        if let Some(mut joined) = set.joined.take() {
            *Arc::make_mut(&mut joined) |= &*stamp.positions;
            set.joined = OnceLock::from(joined);
        }
        set.list.push(stamp);
    }

    /// Positions dead at `epoch`; `None` if there are none.
    pub fn dead_at(&self, epoch: Epoch) -> Option<Arc<RoaringBitmap>> {
        let set = self.0.as_ref()?;
        let due = set.list.partition_point(|stamp| stamp.epoch <= epoch);
        match &set.list[..due] {
            [] => None,
            [only] => Some(Arc::clone(&only.positions)),
            all if due == set.list.len() => {
                Some(Arc::clone(set.joined.get_or_init(|| Arc::new(join(all)))))
            }
            several => Some(Arc::new(join(several))),
        }
    }

    /// Positions that died after `epoch`.
    pub fn died_since(&self, epoch: Epoch) -> RoaringBitmap {
        let list = self.list();
        join(&list[list.partition_point(|stamp| stamp.epoch <= epoch)..])
    }

    /// Number of dead rows.
    pub fn rows(&self) -> u64 {
        self.iter().map(|stamp| stamp.positions.len()).sum()
    }

    /// Whether one of these rows is in a stamp.
    pub fn meet(&self, positions: &RoaringBitmap) -> bool {
        self.iter().any(|stamp| !stamp.positions.is_disjoint(positions))
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
            // The union of all positions grows with each stamp.
            let dead = stamps.dead_at(Epoch::from_u64(9)).unwrap();
            assert_eq!((dead.len(), dead.contains(position)), (at, true));
        }
        let dead = |at| stamps.dead_at(Epoch::from_u64(at)).map(|dead| dead.len());
        assert_eq!([0, 1, 2, 3].map(dead), [None, Some(1), Some(2), Some(3)]);
        assert_eq!(stamps.died_since(Epoch::from_u64(1)).iter().collect::<Vec<_>>(), [5, 7]);
        assert!(stamps.meet(&[5].into_iter().collect()) && !stamps.meet(&RoaringBitmap::new()));
    }
}
