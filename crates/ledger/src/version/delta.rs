//! Version deltas: the change from one version to the next, as data.

use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::{FileEntry, Replaced, Stamp, Version};
use crate::epoch::Epoch;
use crate::id::{ObjectId, SstId, VersionId};
use crate::sst::SstInfo;

/// What one commit did to the files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionDelta {
    pub prev_id: VersionId,
    pub id: VersionId,
    pub epoch: Epoch,
    /// New files. Each is born in the table it was written for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub born: Vec<Arc<SstInfo>>,
    /// The tables that lose a file. Another table that has it keeps it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub died: Vec<(ObjectId, SstId)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stamps: Vec<FileStamp>,
    /// The files that died because files born in the same table replace them. All other files that died are
    /// of tables that are emptied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Replaced>,
    /// Forget what died at or before this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe_epoch: Option<Epoch>,
}

/// Rows of one file that die in one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileStamp {
    pub table_id: ObjectId,
    pub sst_id: SstId,
    #[serde(with = "crate::sst::stamps")]
    pub positions: Arc<RoaringBitmap>,
}

impl VersionDelta {
    /// A delta that only moves `max_committed_epoch`.
    pub fn empty(prev: &Version, epoch: Epoch) -> Self {
        Self {
            prev_id: prev.id,
            id: VersionId(prev.id.0 + 1),
            epoch,
            born: vec![],
            died: vec![],
            stamps: vec![],
            replaced: vec![],
            safe_epoch: None,
        }
    }
}

impl Version {
    /// The version after `delta`.
    ///
    /// The delta must follow this version and name only files it has: the meta role makes it from this
    /// version, and recovery checks the chain before it replays it.
    #[must_use]
    pub fn apply(&self, delta: &VersionDelta) -> Self {
        assert_eq!(self.id, delta.prev_id, "a delta applies to the version it was made from");
        assert!(self.max_committed_epoch < delta.epoch, "epochs rise with every commit");
        let mut next = self.clone();
        next.id = delta.id;
        next.max_committed_epoch = delta.epoch;
        for sst in &delta.born {
            next.insert(FileEntry::born(Arc::clone(sst), delta.epoch));
        }
        for stamp in &delta.stamps {
            next.edit(stamp.table_id, stamp.sst_id, |file| {
                let positions = Arc::clone(&stamp.positions);
                file.stamps.push(Stamp { epoch: delta.epoch, positions });
            });
        }
        for (table, sst) in &delta.died {
            next.end(*table, *sst, delta.epoch);
        }
        match delta.safe_epoch {
            Some(safe_epoch) => next.retain_since(safe_epoch),
            None => next,
        }
    }

    fn edit(&mut self, table: ObjectId, sst: SstId, edit: impl FnOnce(&mut FileEntry)) {
        let file = self.tables.get_mut(&table).and_then(|files| files.open.get_mut(&sst));
        let file = file.expect("a delta names only open files of its version");
        edit(Arc::make_mut(file));
    }

    fn end(&mut self, table: ObjectId, sst: SstId, epoch: Epoch) {
        let files = self.tables.get_mut(&table);
        let files = files.expect("a delta names only tables of its version");
        let mut file = files.remove_open(sst).expect("a delta names only open files");
        let ended = Arc::make_mut(&mut file);
        ended.lifetime = ended.lifetime.ended_at(epoch);
        // Only past epochs read it from now on, and there may be many such files: drop the decoded rows.
        if let Some(rows) = &ended.sst.inline {
            let inline = Some(Box::new(rows.encoded()));
            ended.sst = Arc::new(SstInfo { inline, ..SstInfo::clone(&ended.sst) });
        }
        files.ended.insert((epoch, sst), file);
        self.deaths.insert((epoch, table, sst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::sample::{TABLE, sst};
    use crate::version::{Positions, Replaced};

    /// A delta with every field.
    fn full() -> VersionDelta {
        let epoch = Epoch::from_u64;
        let positions: RoaringBitmap = [3, 70_000].into_iter().collect();
        let left_out = Positions::from(&positions);
        let stamp = |id| FileStamp {
            table_id: TABLE,
            sst_id: SstId(id),
            positions: Arc::new(positions.clone()),
        };
        VersionDelta {
            prev_id: VersionId(4),
            id: VersionId(5),
            epoch: epoch(11_687_160_487_280_640),
            born: vec![sst(9, 100_000)],
            died: vec![(TABLE, SstId(7)), (TABLE, SstId(8))],
            stamps: vec![stamp(9)],
            replaced: [7, 8]
                .map(|id| Replaced { table_id: TABLE, sst_id: SstId(id), left_out })
                .into(),
            safe_epoch: Some(epoch(11_687_160_487_280_000)),
        }
    }

    #[test]
    fn deltas_of_every_release_are_read() {
        let text = |delta: &VersionDelta| serde_json::to_vec(delta).unwrap();
        let written = crate::fixtures::read_or_update("delta-v1-replaced.json", || text(&full()));
        assert_eq!(serde_json::from_slice::<VersionDelta>(&written).unwrap(), full());
        assert_eq!(written, text(&full()));
        // The form before replacements were recorded.
        let before = VersionDelta { replaced: vec![], ..full() };
        let written = crate::fixtures::read_or_update("delta-v1.json", || text(&before));
        assert_eq!(serde_json::from_slice::<VersionDelta>(&written).unwrap(), before);
    }
}
