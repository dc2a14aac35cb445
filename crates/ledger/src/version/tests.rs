//! Tests of the law of lifetimes, on versions made by hand.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::sample::{TABLE, sst};
use super::*;

fn epoch(n: u64) -> Epoch {
    Epoch::from_u64(n << 16)
}

fn stamp(sst: u64, positions: impl IntoIterator<Item = u32>) -> FileStamp {
    let positions = Arc::new(positions.into_iter().collect::<RoaringBitmap>());
    FileStamp { table_id: TABLE, sst_id: SstId(sst), positions }
}

fn step(version: &Version, at: u64, edit: impl FnOnce(&mut VersionDelta)) -> Version {
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
