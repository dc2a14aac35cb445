//! Tests of the law of lifetimes, on versions made by hand.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::sample::{OTHER, TABLE, lent, sst};
use super::*;
use crate::epoch::Lifetime;

pub(crate) fn epoch(n: u64) -> Epoch {
    Epoch::from_u64(n << 16)
}

fn stamp(sst: u64, positions: impl IntoIterator<Item = u32>) -> FileStamp {
    let positions = Arc::new(positions.into_iter().collect::<RoaringBitmap>());
    FileStamp { table_id: TABLE, sst_id: SstId(sst), positions }
}

pub(super) fn step(version: &Version, at: u64, edit: impl FnOnce(&mut VersionDelta)) -> Version {
    let mut delta = VersionDelta::empty(version, epoch(at));
    edit(&mut delta);
    let next = version.apply(&delta);
    next.check_delta(&delta).unwrap();
    next.check().unwrap();
    next
}

pub(crate) fn churned() -> Version {
    let version = Version::empty(epoch(1));
    let version = step(&version, 2, |d| d.born = vec![sst(1, 10)]);
    let version = step(&version, 3, |d| d.stamps = vec![stamp(1, [0, 1])]);
    let version = step(&version, 4, |d| {
        d.stamps = vec![stamp(1, [5])];
        d.born = vec![sst(2, 1)];
    });
    step(&version, 5, |d| d.died = vec![(TABLE, SstId(1))])
}

#[test]
fn rows_live_from_their_files_birth_to_their_stamp_or_their_files_death() {
    let version = churned();
    let rows = [1, 2, 3, 4, 5, 6].map(|at| version.rows_at(TABLE, epoch(at)));
    assert_eq!(rows, [0, 10, 8, 8, 1, 1]);
}

#[test]
fn forgetting_keeps_every_answer_from_the_safe_epoch_on() {
    let version = churned();
    let kept = version.retain_since(epoch(4));
    assert_eq!(kept.rows_at(TABLE, epoch(4)), 8);
    assert_eq!(kept.file_count(), 2);
    let kept = version.retain_since(epoch(5));
    assert_eq!(kept.rows_at(TABLE, epoch(5)), 1);
    assert_eq!(kept.file_count(), 1);
    assert_eq!(kept.safe_epoch, epoch(5));
}

#[test]
fn a_row_that_dies_twice_is_refused() {
    let version = churned();
    let mut delta = VersionDelta::empty(&version, epoch(6));
    delta.stamps = vec![stamp(2, [0]), stamp(2, [0])];
    let error = version.apply(&delta).check_delta(&delta).unwrap_err();
    assert!(error.to_string().contains("dies twice"), "{error}");
}

#[test]
fn a_delta_reads_back_as_it_was_written() {
    let version = churned();
    let mut delta = VersionDelta::empty(&version, epoch(6));
    delta.stamps = vec![stamp(2, [0])];
    delta.born = vec![sst(3, 4)];
    let text = serde_json::to_string(&delta).unwrap();
    assert_eq!(serde_json::from_str::<VersionDelta>(&text).unwrap(), delta);
}

/// A file of ten rows that two tables have: one from epoch 2 on, without rows 0 and 1 from epoch 3 on, and the
/// other from epoch 4 on, without row 9 from epoch 5 on.
pub(crate) fn shared() -> Version {
    let version = Version::empty(epoch(1));
    let version = step(&version, 2, |d| d.born = vec![sst(1, 10)]);
    let version = step(&version, 3, |d| d.stamps = vec![stamp(1, [0, 1])]);
    let mut version = step(&version, 4, |_| {});
    version.insert(lent(&sst(1, 10), epoch(4)));
    step(&version, 5, |d| d.stamps = vec![FileStamp { table_id: OTHER, ..stamp(1, [9]) }])
}

/// The same, after it died in the table that it was written for.
pub(crate) fn parted() -> Version {
    step(&shared(), 6, |d| d.died = vec![(TABLE, SstId(1))])
}

#[test]
fn each_table_sees_a_shared_file_by_its_own_lifetime_and_stamps() {
    let version = parted();
    let rows = |table| [1, 2, 3, 4, 5, 6].map(|at| version.rows_at(table, epoch(at)));
    assert_eq!(rows(TABLE), [0, 10, 8, 8, 8, 0]);
    assert_eq!(rows(OTHER), [0, 0, 0, 10, 9, 9]);
    let seen = |table| {
        let [file] = version.files_at(table, epoch(5)).try_into().unwrap();
        (file.table_id, file.dead.unwrap().iter().collect::<Vec<_>>())
    };
    assert_eq!(seen(TABLE), (TABLE, vec![0, 1]));
    assert_eq!(seen(OTHER), (OTHER, vec![9]));
}

#[test]
fn a_shared_file_is_one_file_with_two_entries() {
    let version = parted();
    assert_eq!((version.file_count(), version.data_files().count()), (2, 1));
    let lives: Vec<_> = version.entries_of(SstId(1)).map(|f| (f.table_id, f.lifetime)).collect();
    let died = Lifetime::since(epoch(2)).ended_at(epoch(6));
    assert_eq!(lives, [(TABLE, died), (OTHER, Lifetime::since(epoch(4)))]);
    assert!(version.open_file(TABLE, SstId(1)).is_none());
    assert!(version.file_of(TABLE, SstId(1)).is_some());
    // Files that are in one table come once too.
    let version = step(&version, 7, |d| d.born = vec![sst(2, 1)]);
    assert_eq!(version.data_files().map(|sst| sst.id.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_table_that_is_forgotten_to_have_had_a_file_takes_it_from_no_other() {
    let version = parted();
    let kept = version.retain_since(epoch(6));
    kept.check().unwrap();
    let tables: Vec<_> = kept.entries_of(SstId(1)).map(|file| file.table_id).collect();
    assert_eq!((tables, kept.data_files().count()), (vec![OTHER], 1));
    assert_eq!(kept.rows_at(OTHER, epoch(6)), 9);
    let kept = step(&kept, 7, |d| d.died = vec![(OTHER, SstId(1))]).retain_since(epoch(7));
    assert_eq!((kept.data_files().count(), kept.table_ids().count()), (0, 0));
    assert!(kept.lent.is_empty());
}

#[test]
fn files_of_one_table_are_replaced_by_what_is_alive_there() {
    let version = shared();
    let replacing = |left_out: &[u32]| {
        let mut delta = VersionDelta::empty(&version, epoch(6));
        delta.died = vec![(OTHER, SstId(1))];
        delta.born = vec![Arc::new(SstInfo { written_for: OTHER, ..SstInfo::clone(&sst(3, 9)) })];
        let left_out = Positions::from(&left_out.iter().copied().collect::<RoaringBitmap>());
        delta.replaced = vec![Replaced { table_id: OTHER, sst_id: SstId(1), left_out }];
        delta
    };
    // Rows 0 and 1 are dead in the other table only.
    let error = version.check_deaths(&replacing(&[0, 1])).unwrap_err();
    assert!(error.to_string().contains("left out"), "{error}");
    let delta = replacing(&[9]);
    version.check_deaths(&delta).unwrap();
    let next = version.apply(&delta);
    next.check().unwrap();
    assert!(next.open_file(TABLE, SstId(1)).is_some() && next.open_file(OTHER, SstId(3)).is_some());
    let rows = [TABLE, OTHER].map(|table| next.rows_at(table, epoch(6)));
    assert_eq!(rows, [8, 9]);
}

#[test]
fn rows_that_are_dead_in_another_table_do_not_count_as_replaced() {
    // A delta may stamp a file in one table as it is born in another: both have file 3 then.
    let mut version = shared();
    version.insert(lent(&sst(3, 10), epoch(5)));
    let mut delta = VersionDelta::empty(&version, epoch(6));
    delta.died = vec![(TABLE, SstId(1))];
    delta.born = vec![sst(3, 10)];
    delta.stamps = vec![FileStamp { table_id: OTHER, ..stamp(3, [0, 1]) }];
    let left_out = Positions::from(&[0, 1].into_iter().collect::<RoaringBitmap>());
    delta.replaced = vec![Replaced { table_id: TABLE, sst_id: SstId(1), left_out }];
    let error = version.check_deaths(&delta).unwrap_err();
    assert!(error.to_string().contains("take the place of 8 rows"), "{error}");
}

#[test]
fn an_id_that_means_two_files_is_refused() {
    let refusal = |file: FileEntry| {
        let mut version = shared();
        version.insert(file);
        version.check().unwrap_err().to_string()
    };
    let third = |sst: Arc<SstInfo>| FileEntry { table_id: ObjectId(11), ..lent(&sst, epoch(4)) };
    assert!(refusal(third(sst(1, 11))).contains("another file than that of this id"));
    let own = SstInfo { written_for: ObjectId(11), ..SstInfo::clone(&sst(1, 10)) };
    assert!(refusal(FileEntry::born(Arc::new(own), epoch(4))).contains("for another table too"));
    let again = FileEntry {
        lifetime: Lifetime::since(epoch(2)).ended_at(epoch(3)),
        ..FileEntry::born(sst(1, 10), epoch(2))
    };
    assert!(refusal(again).contains("is in the table twice"));
}
