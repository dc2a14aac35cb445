//! Turns staged writes into a version delta; finds conflicts. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::recent_keys::RecentKeys;
use crate::meta::command::{Compaction, DeadRows, TableWrite, Write, WrittenKeys};
use tidemark_ledger::catalog::CatalogAt;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::error::HummockError;
use tidemark_ledger::id::{ObjectId, SstId};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::version::{FileStamp, Positions, Replaced, Version, VersionDelta};

/// Writes that share one epoch. Each is added whole or refused.
#[derive(Debug, Default)]
pub struct Group {
    born: BTreeMap<SstId, Arc<SstInfo>>,
    dead_rows: BTreeMap<(ObjectId, SstId), RoaringBitmap>,
    died: BTreeSet<(SstId, ObjectId)>,
    /// Keys that the writes of this group add to tables.
    keys: Vec<(ObjectId, WrittenKeys)>,
}

impl Group {
    /// Adds a write, unless it conflicts with what is committed or already in the group.
    pub fn add(
        &mut self,
        write: &Write,
        catalog: &CatalogAt,
        version: &Version,
        recent: &RecentKeys,
    ) -> Result<(), MetaError> {
        for table in &write.tables {
            self.check(table, catalog, version)?;
            if self.may_hold_new_keys(table, write.base_epoch, recent) {
                return Err(conflict("another session wrote keys of the same table"));
            }
        }
        for table in &write.tables {
            self.take(table, version);
        }
        Ok(())
    }

    /// Takes the keys that the group adds, by table.
    pub fn take_keys(&mut self) -> Vec<(ObjectId, WrittenKeys)> {
        std::mem::take(&mut self.keys)
    }

    /// Moves everything into `delta`.
    pub fn fill(self, delta: &mut VersionDelta) {
        delta.born = self.born.into_values().collect();
        delta.died = self.died.into_iter().map(|(sst, table)| (table, sst)).collect();
        let stamps = self.dead_rows.into_iter().map(|((table_id, sst_id), positions)| FileStamp {
            table_id,
            sst_id,
            positions: Arc::new(positions),
        });
        delta.stamps = stamps.collect();
    }

    fn check(
        &self,
        table: &TableWrite,
        catalog: &CatalogAt,
        version: &Version,
    ) -> Result<(), MetaError> {
        let definition = catalog.relation_by_id(table.table_id);
        if definition.is_none_or(|d| d.lifetime.born != table.definition_born) {
            return Err(conflict("the table was altered or dropped by another session"));
        }
        let is_known = |sst: &Arc<SstInfo>| {
            self.born.contains_key(&sst.id) || version.open_file(table.table_id, sst.id).is_some()
        };
        if table.born.iter().any(is_known) {
            return Err(done_already());
        }
        for dead in &table.dead_rows {
            let fresh = table.born.iter().any(|sst| sst.id == dead.sst_id);
            if !fresh && !self.all_alive(table.table_id, dead.sst_id, &dead.positions, version) {
                return Err(conflict("another session changed the same rows"));
            }
        }
        Ok(())
    }

    /// Whether a key of the write may have been added to the table after the write looked it up.
    fn may_hold_new_keys(&self, write: &TableWrite, base: Epoch, recent: &RecentKeys) -> bool {
        let mut in_group = self.keys.iter().filter(|(table, _)| *table == write.table_id);
        in_group.any(|(_, keys)| keys.meet(&write.keys))
            || recent.may_have_come(write.table_id, base, &write.keys)
    }

    fn all_alive(
        &self,
        table: ObjectId,
        sst: SstId,
        positions: &RoaringBitmap,
        version: &Version,
    ) -> bool {
        let Some(file) = version.open_file(table, sst) else { return false };
        let in_group = self.dead_rows.get(&(table, sst));
        !self.died.contains(&(sst, table))
            && !file.stamps.meet(positions)
            && in_group.is_none_or(|dead| dead.is_disjoint(positions))
    }

    fn take(&mut self, table: &TableWrite, version: &Version) {
        if table.truncate {
            let id = table.table_id;
            let alive = version.open_files(id);
            self.died.extend(alive.map(|file| (file.sst.id, id)));
            // What earlier writes of the group added is dropped too, and was never there.
            self.born.retain(|_, sst| sst.written_for != id);
            self.dead_rows.retain(|(table, _), _| *table != id);
        }
        if table.keys != WrittenKeys::None {
            self.keys.push((table.table_id, table.keys.clone()));
        }
        self.born.extend(table.born.iter().map(|sst| (sst.id, Arc::clone(sst))));
        for dead in &table.dead_rows {
            *self.dead_rows.entry((table.table_id, dead.sst_id)).or_default() |= &*dead.positions;
        }
    }
}

/// Refuses a compaction whose inputs are no longer as it read them.
pub fn check_compaction(compaction: &Compaction, version: &Version) -> Result<(), MetaError> {
    for input in &compaction.inputs {
        let file = version.open_file(compaction.table_id, *input);
        let Some(file) = file else { return Err(conflict("an input of the compaction is gone")) };
        if !file.stamps.died_since(compaction.base_epoch).is_empty() {
            return Err(conflict("rows of an input of the compaction died"));
        }
    }
    Ok(())
}

/// Computes which rows of its inputs a compaction leaves out, from its record of where each row went.
/// The cost is proportional to the rows of the inputs.
pub fn replaced(compaction: &Compaction) -> Result<Vec<Replaced>, MetaError> {
    let unsound = |e: HummockError| MetaError::new(ErrorKind::Internal, e.to_string());
    let dead = compaction.dead_rows.iter().map(|dead| (dead.sst_id, &*dead.positions));
    let left_out = compaction.moved.left_out(&compaction.born, dead).map_err(unsound)?;
    let replaced = left_out.iter().map(|(sst_id, positions)| Replaced {
        table_id: compaction.table_id,
        sst_id: *sst_id,
        left_out: Positions::from(positions),
    });
    Ok(replaced.collect())
}

/// Fills the delta: the inputs die as the outputs are born.
pub fn fill_compaction(compaction: Compaction, replaced: Vec<Replaced>, delta: &mut VersionDelta) {
    delta.replaced = replaced;
    let table_id = compaction.table_id;
    delta.died = compaction.inputs.into_iter().map(|sst| (table_id, sst)).collect();
    delta.born = compaction.born;
    let dead = compaction.dead_rows.into_iter();
    let stamps =
        dead.map(|DeadRows { sst_id, positions }| FileStamp { table_id, sst_id, positions });
    delta.stamps = stamps.collect();
}

/// The reply to a request that arrived twice. Its sender got the first reply, or is gone.
pub fn done_already() -> MetaError {
    conflict("the files of this write were committed already")
}

fn conflict(why: &str) -> MetaError {
    MetaError::new(
        ErrorKind::Conflict,
        "could not serialize access due to concurrent update".to_owned(),
    )
    .detail(why.to_owned())
    .hint("Run the statement again.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_ledger::catalog::{Catalog, CatalogChange, Relation, RelationBody, Table};
    use tidemark_ledger::epoch::Lifetime;
    use tidemark_ledger::id::{ColumnId, VersionId};
    use tidemark_ledger::storage::Checksum;
    use tidemark_ledger::version::sample::{OTHER, TABLE, lent};

    fn epoch(n: u64) -> Epoch {
        Epoch::from_u64(n << 16)
    }

    fn recent() -> RecentKeys {
        RecentKeys::since(epoch(1))
    }

    fn catalog() -> CatalogAt {
        let mut catalog = Catalog::default();
        for (id, name) in [(TABLE, "t"), (OTHER, "other")] {
            let table = Table { columns: vec![], primary_key: vec![], next_column_id: ColumnId(1) };
            let relation = Relation {
                id,
                schema_id: ObjectId(1),
                name: name.to_owned(),
                lifetime: Lifetime::since(epoch(1)),
                body: RelationBody::Table(table),
            };
            catalog = catalog.apply(&CatalogChange::Define(relation), epoch(1));
        }
        Arc::new(catalog).at(epoch(9))
    }

    fn sst(id: u64) -> Arc<SstInfo> {
        Arc::new(SstInfo {
            id: SstId(id),
            written_for: TABLE,
            rows: 10,
            size_bytes: 1,
            row_group_rows: vec![10],
            sha256: Checksum::default(),
            block_sums: None,
            columns: Arc::default(),
            keys: None,
            inline: None,
        })
    }

    fn version() -> Version {
        let empty = Version::empty(epoch(1));
        let mut delta = VersionDelta::empty(&empty, epoch(5));
        delta.born = vec![sst(1)];
        assert_eq!(delta.id, VersionId(2));
        empty.apply(&delta)
    }

    /// A version whose file is in the other table too.
    fn shared() -> Version {
        let mut version = version();
        version.insert(lent(&sst(1), epoch(5)));
        version
    }

    fn write(edit: impl FnOnce(&mut TableWrite)) -> Write {
        write_to(TABLE, edit)
    }

    fn write_to(table: ObjectId, edit: impl FnOnce(&mut TableWrite)) -> Write {
        let mut table = TableWrite::to(catalog().relation_by_id(table).unwrap());
        edit(&mut table);
        Write { base_epoch: epoch(5), tables: vec![table] }
    }

    fn kill(position: u32) -> Write {
        kill_in(TABLE, position)
    }

    fn kill_in(table: ObjectId, position: u32) -> Write {
        let positions = Arc::new(RoaringBitmap::from_iter([position]));
        write_to(table, |t| t.dead_rows = vec![DeadRows { sst_id: SstId(1), positions }])
    }

    #[test]
    fn two_writes_killing_one_row_conflict_and_others_share_the_epoch() {
        let (mut group, catalog, version) = (Group::default(), catalog(), version());
        group.add(&kill(3), &catalog, &version, &recent()).unwrap();
        group.add(&kill(4), &catalog, &version, &recent()).unwrap();
        let error = group.add(&kill(3), &catalog, &version, &recent()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        let mut delta = VersionDelta::empty(&version, epoch(6));
        group.fill(&mut delta);
        assert_eq!(delta.stamps[0].positions.len(), 2);
    }

    #[test]
    fn one_key_written_twice_conflicts_and_others_share_the_epoch() {
        let (mut group, catalog, version) = (Group::default(), catalog(), version());
        let keyed = |hash| write(|t| t.keys = WrittenKeys::Hashes(vec![hash]));
        let mut came = recent();
        came.record(TABLE, epoch(6), WrittenKeys::Hashes(vec![1]));
        assert!(group.add(&keyed(1), &catalog, &version, &came).is_err());
        group.add(&keyed(2), &catalog, &version, &came).unwrap();
        group.add(&keyed(3), &catalog, &version, &came).unwrap();
        assert!(group.add(&keyed(2), &catalog, &version, &came).is_err());
        assert_eq!(group.take_keys().len(), 2);
    }

    #[test]
    fn a_write_that_comes_twice_is_done_once() {
        let (mut group, catalog, version) = (Group::default(), catalog(), version());
        let born = |id| write(|t| t.born = vec![sst(id)]);
        assert!(group.add(&born(1), &catalog, &version, &recent()).is_err());
        group.add(&born(2), &catalog, &version, &recent()).unwrap();
        assert!(group.add(&born(2), &catalog, &version, &recent()).is_err());
    }

    #[test]
    fn rows_of_a_truncated_file_cannot_die_again() {
        let (mut group, catalog, version) = (Group::default(), catalog(), version());
        group.add(&write(|t| t.truncate = true), &catalog, &version, &recent()).unwrap();
        assert!(group.add(&kill(1), &catalog, &version, &recent()).is_err());
    }

    #[test]
    fn what_came_to_a_table_is_gone_with_a_truncate_after_it_in_one_group() {
        let (mut group, catalog, version) = (Group::default(), catalog(), version());
        let mut update = kill(3);
        update.tables[0].born = vec![sst(2)];
        group.add(&update, &catalog, &version, &recent()).unwrap();
        group.add(&write(|t| t.truncate = true), &catalog, &version, &recent()).unwrap();
        group.add(&write(|t| t.born = vec![sst(3)]), &catalog, &version, &recent()).unwrap();
        let mut delta = VersionDelta::empty(&version, epoch(6));
        group.fill(&mut delta);
        let next = version.apply(&delta);
        next.check_delta(&delta).unwrap();
        let files = next.files_at(TABLE, epoch(6));
        assert_eq!(files.iter().map(|file| file.sst.id).collect::<Vec<_>>(), [SstId(3)]);
    }

    #[test]
    fn writes_to_two_tables_that_have_one_file_do_not_conflict() {
        let (mut group, catalog, version) = (Group::default(), catalog(), shared());
        let mut add = |write: &Write| group.add(write, &catalog, &version, &recent());
        add(&kill_in(OTHER, 3)).unwrap();
        add(&kill_in(TABLE, 3)).unwrap();
        add(&write(|t| t.truncate = true)).unwrap();
        add(&kill_in(OTHER, 4)).unwrap();
        assert!(add(&kill_in(OTHER, 3)).is_err() && add(&kill_in(TABLE, 5)).is_err());
        let mut delta = VersionDelta::empty(&version, epoch(6));
        group.fill(&mut delta);
        version.check_deaths(&delta).unwrap();
        let next = version.apply(&delta);
        assert_eq!([TABLE, OTHER].map(|table| next.rows_at(table, epoch(6))), [0, 8]);
    }

    #[test]
    fn a_file_dies_in_each_table_that_is_truncated() {
        let (mut group, catalog, version) = (Group::default(), catalog(), shared());
        for table in [TABLE, OTHER] {
            let truncate = write_to(table, |t| t.truncate = true);
            group.add(&truncate, &catalog, &version, &recent()).unwrap();
        }
        let mut delta = VersionDelta::empty(&version, epoch(6));
        group.fill(&mut delta);
        assert_eq!(delta.died, [(TABLE, SstId(1)), (OTHER, SstId(1))]);
    }

    #[test]
    fn a_compaction_looks_at_the_rows_of_its_own_table() {
        let version = shared();
        let mut delta = VersionDelta::empty(&version, epoch(6));
        let positions = Arc::new(RoaringBitmap::from_iter([3]));
        delta.stamps = vec![FileStamp { table_id: OTHER, sst_id: SstId(1), positions }];
        let version = version.apply(&delta);
        let compaction = |table_id| Compaction {
            table_id,
            inputs: vec![SstId(1)],
            born: vec![],
            dead_rows: vec![],
            base_epoch: epoch(5),
            moved: Arc::default(),
        };
        check_compaction(&compaction(TABLE), &version).unwrap();
        let error = check_compaction(&compaction(OTHER), &version).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
    }

    #[test]
    fn a_definition_that_changed_conflicts() {
        let (mut group, catalog, version) = (Group::default(), catalog(), version());
        assert!(
            group
                .add(&write(|t| t.definition_born = epoch(2)), &catalog, &version, &recent())
                .is_err()
        );
    }
}
