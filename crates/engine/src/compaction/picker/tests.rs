//! Tests of the picker, on versions made by hand.

use roaring::RoaringBitmap;

use super::*;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::SstId;
use tidemark_ledger::sst::{KeyRange, SstInfo};
use tidemark_ledger::version::sample::{OTHER, lent, sst};
use tidemark_ledger::version::{FileStamp, VersionDelta};

const TABLE: ObjectId = ObjectId(7);
const LIMITS: Limits = Limits { sst_bytes_target: 256 << 20, rows_max: 1_000_000, files_max: 64 };

fn file(id: u64, edit: impl FnOnce(&mut SstInfo)) -> Arc<SstInfo> {
    let mut info = SstInfo::clone(&sst(id, 100));
    edit(&mut info);
    Arc::new(info)
}

fn version(born: Vec<Arc<SstInfo>>, dead: &[(u64, u32)]) -> Version {
    let epoch = |n: u64| Epoch::from_u64(n << 16);
    let empty = Version::empty(epoch(1));
    let mut delta = VersionDelta::empty(&empty, epoch(2));
    delta.born = born;
    let version = empty.apply(&delta);
    let mut delta = VersionDelta::empty(&version, epoch(3));
    let stamp = |(id, rows): &(u64, u32)| FileStamp {
        table_id: TABLE,
        sst_id: SstId(*id),
        positions: Arc::new((0..*rows).collect::<RoaringBitmap>()),
    };
    delta.stamps = dead.iter().map(stamp).collect();
    version.apply(&delta)
}

fn picked(version: &Version) -> Option<(Reason, Vec<u64>)> {
    let task = pick(version, TABLE, &LIMITS)?;
    Some((task.reason, task.inputs.iter().map(|sst| sst.0).collect()))
}

#[test]
fn a_few_files_are_left_alone() {
    let few = version((1..8).map(|id| file(id, |_| {})).collect(), &[(1, 19)]);
    assert_eq!(picked(&few), None);
    assert!(pick_all(&few, TABLE, &LIMITS).len() == 1);
    let one = version(vec![file(1, |_| {})], &[]);
    assert!(pick_all(&one, TABLE, &LIMITS).is_empty());
}

#[test]
fn files_with_many_dead_rows_are_rewritten() {
    let files = vec![file(1, |_| {}), file(2, |_| {}), file(3, |_| {})];
    assert_eq!(picked(&version(files, &[(1, 20), (3, 100)])), Some((Reason::Dead, vec![1, 3])));
}

#[test]
fn rows_that_are_dead_in_one_table_count_in_no_other() {
    let mut version = version(vec![file(1, |_| {}), file(2, |_| {})], &[(1, 20)]);
    version.insert(lent(&file(1, |_| {}), version.max_committed_epoch));
    assert_eq!(picked(&version), Some((Reason::Dead, vec![1])));
    assert_eq!(pick(&version, OTHER, &LIMITS), None);
    let mut delta = VersionDelta::empty(&version, Epoch::from_u64(4 << 16));
    let positions = Arc::new((50..70).collect::<RoaringBitmap>());
    delta.stamps = vec![FileStamp { table_id: OTHER, sst_id: SstId(1), positions }];
    let task = pick(&version.apply(&delta), OTHER, &LIMITS).unwrap();
    assert_eq!((task.table_id, task.inputs), (OTHER, vec![SstId(1)]));
}

#[test]
fn many_files_of_one_size_are_merged() {
    let sized =
        |id: u64| file(id, |info| info.size_bytes = if id == 5 { 90 << 20 } else { 2 << 20 });
    let ids = (1..=9).filter(|id| *id != 5).collect();
    assert_eq!(picked(&version((1..10).map(sized).collect(), &[])), Some((Reason::Small, ids)));
}

#[test]
fn large_files_over_one_another_are_merged() {
    let over = |id: u64| {
        file(id, |info| {
            info.size_bytes = 250 << 20;
            let from = if id <= 5 { 0 } else { 100 };
            info.keys = KeyRange::of(&[from], &[from + 50]);
        })
    };
    let version = version((1..10).map(over).collect(), &[]);
    assert_eq!(picked(&version), Some((Reason::Overlap, vec![1, 2, 3, 4, 5])));
}

#[test]
fn a_task_takes_no_more_than_it_may() {
    let wide = |id: u64| file(id, |info| info.rows = 400_000);
    let version = version((1..10).map(wide).collect(), &[]);
    let tasks = pick_all(&version, TABLE, &LIMITS);
    let inputs: Vec<_> = tasks.iter().map(|task| task.inputs.len()).collect();
    assert_eq!(inputs, [2, 2, 2, 2, 1]);
}
