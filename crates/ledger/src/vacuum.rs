//! Vacuum: finds and deletes the objects of the data directory that nothing needs any more.
//!
//! This is the only code that deletes data. [`Holders`] has a field for everything that may name a file, and
//! all of them must be given, so that no caller can forget one.

use std::collections::VecDeque;
use std::fmt;

use futures::StreamExt as _;
use object_store::ObjectMeta;
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use super::version::Version;
use crate::epoch::{Epoch, Lifetime, rfc3339};
use crate::id::{ObjectId, SstId, VersionId};
use crate::layout;
use crate::sst_ids::Unfinished;
use crate::storage::{Leftover, Storage, StorageError, is_leftover};

/// How long another process may take to replace an object, to probe a store or to write a file.
const LEFTOVER_MS_MIN: u64 = 3_600_000;
/// Deletions in flight.
const DELETES_AT_ONCE: usize = 16;

/// Everything that may need a data file.
#[derive(Debug)]
pub struct Holders<'a> {
    /// The data directory of the files.
    pub data_directory: &'a str,
    /// The committed version, which includes files that died but can still be seen in the past.
    pub version: &'a Version,
    /// The version of the checkpoint that recovery starts from.
    pub checkpoint: VersionId,
    /// The snapshots of every backup location that was ever used and not forgotten, and deleted ones that a
    /// session still reads.
    pub snapshots: &'a [SnapshotFiles],
    /// The oldest version that is being read, and the name of its reader.
    pub reader: Option<(String, VersionId)>,
    /// Files that readers of older versions may still need.
    pub forgotten: &'a Forgotten,
    /// File ids of unfinished writes, of every worker. Collected before the objects were listed.
    pub unfinished: &'a [Unfinished],
    /// Objects written after this Unix time in milliseconds are kept.
    pub young_from_ms: u64,
}

/// The files a snapshot names.
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    /// The name of the snapshot in messages.
    pub name: String,
    /// Whether it is no longer listed, but a session still reads it.
    pub deleted: bool,
    pub files: std::sync::Arc<RoaringTreemap>,
}

/// Files that tables have no longer in newer versions, kept for readers of older versions.
#[derive(Clone, Debug, Default)]
pub struct Forgotten {
    /// Files forgotten before this version are not known here.
    pub known_from: VersionId,
    files: VecDeque<(VersionId, RoaringTreemap)>,
}

impl Forgotten {
    pub fn since(known_from: VersionId) -> Self {
        Self { known_from, files: VecDeque::new() }
    }

    /// Records that `version` is the first one in which a table no longer has `files`. Another table may have
    /// them for longer.
    pub fn record(&mut self, version: VersionId, files: RoaringTreemap) {
        if !files.is_empty() {
            self.files.push_back((version, files));
        }
    }

    /// Drops the files that no reader of `oldest` or a later version sees.
    pub fn prune(&mut self, oldest: VersionId) {
        while self.files.front().is_some_and(|(version, _)| *version <= oldest) {
            self.files.pop_front();
        }
    }

    /// Whether `version` may name the file.
    fn named_by(&self, version: VersionId, sst: SstId) -> bool {
        let mut later = self.files.iter().filter(|(forgotten, _)| *forgotten > version);
        version < self.known_from || later.any(|(_, files)| files.contains(sst.0))
    }
}

/// Why an object is kept. Each table that has a file is a holder of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Holder {
    Version { table: ObjectId, lifetime: Lifetime, safe_epoch: Epoch },
    Checkpoint,
    Snapshot { name: String, deleted: bool },
    Reader { who: String, version: VersionId },
    UnfinishedWrite,
    Young { until_ms: u64 },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { table, lifetime: Lifetime { born, died: None }, .. } => {
                write!(f, "table {table} in the current version, since epoch {born}")
            }
            Self::Version { table, lifetime: Lifetime { born, died: Some(died) }, safe_epoch } => {
                write!(
                    f,
                    "table {table} in the history since epoch {born}: died at {died}, goes when the safe \
                     epoch, now {safe_epoch}, has reached that"
                )
            }
            Self::Checkpoint => f.write_str("recovery, which may begin with this checkpoint"),
            Self::Snapshot { name, deleted: false } => {
                write!(f, "meta snapshot {name}, until it is deleted")
            }
            Self::Snapshot { name, deleted: true } => {
                write!(f, "meta snapshot {name}, deleted, until the sessions that read it end")
            }
            Self::Reader { who, version } => {
                write!(f, "a session of {who} that reads version {version} or later, until it ends")
            }
            Self::UnfinishedWrite => f.write_str("a write that may not be finished yet"),
            Self::Young { until_ms } => {
                write!(f, "its age: objects may go only from {} on", rfc3339(*until_ms))
            }
        }
    }
}

/// An object that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    pub path: String,
    pub size_bytes: u64,
}

/// What a vacuum would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub garbage: Vec<Garbage>,
    pub kept: u64,
    pub kept_bytes: u64,
}

impl Plan {
    pub fn garbage_bytes(&self) -> u64 {
        self.garbage.iter().map(|object| object.size_bytes).sum()
    }
}

/// Decides which of `objects`, all of one data directory, nothing needs. `retention_ms` is the minimum age of
/// an object to delete.
pub fn plan(objects: &[ObjectMeta], holders: &Holders<'_>, retention_ms: u64) -> Plan {
    let named = holders.named_files();
    let mut plan = Plan::default();
    for object in objects {
        let Some(kind) = Kind::of(&object.location, holders.data_directory) else { continue };
        // The cheap check first; `explain` reports who exactly holds the object.
        let held = matches!(kind, Kind::Sst(sst) if named.contains(sst.0))
            || !holders.of(kind, object, retention_ms).is_empty();
        if held {
            plan.kept += 1;
            plan.kept_bytes += object.size;
        } else {
            let path = object.location.to_string();
            plan.garbage.push(Garbage { path, size_bytes: object.size });
        }
    }
    plan.garbage.sort_by(|a, b| a.path.cmp(&b.path));
    plan
}

/// Decides which of these files, which were unfinished when they were listed, no process writes any more.
/// Those in a backup directory are held by their age only, since no backup runs meanwhile.
pub fn plan_leftovers(
    leftovers: &[Leftover],
    holders: &Holders<'_>,
    retention_ms: u64,
) -> Vec<Garbage> {
    let is_left = |leftover: &&Leftover| holders.of_leftover(leftover, retention_ms).is_empty();
    let garbage = leftovers.iter().filter(is_left);
    garbage.map(|l| Garbage { path: l.path(), size_bytes: l.size_bytes }).collect()
}

/// The holders of an object; empty for garbage. `None` for an object that vacuum never deletes.
pub fn explain(
    object: &ObjectMeta,
    holders: &Holders<'_>,
    retention_ms: u64,
) -> Option<Vec<Holder>> {
    let kind = Kind::of(&object.location, holders.data_directory)?;
    Some(holders.of(kind, object, retention_ms))
}

/// Deletes the garbage of a plan.
pub async fn delete(storage: &Storage, garbage: &[Garbage]) -> Result<(), StorageError> {
    let deletions = garbage.iter().map(|object| {
        let (storage, path) = (storage.clone(), object.path.clone());
        async move {
            match is_leftover(path.rsplit('/').next().unwrap_or(&path)) {
                true => storage.delete_leftover(&path).await,
                false => storage.delete(&layout::directory(&path)).await,
            }
        }
    });
    // Collected, because a lazy iterator over borrowed objects could not move between threads.
    let deletions: Vec<_> = deletions.collect();
    let mut deletions = futures::stream::iter(deletions).buffer_unordered(DELETES_AT_ONCE);
    while let Some(deleted) = deletions.next().await {
        deleted?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Kind {
    Sst(SstId),
    Checkpoint(VersionId),
}

impl Kind {
    /// The kind of an object; `None` if vacuum never deletes it.
    fn of(path: &Path, data_directory: &str) -> Option<Self> {
        let sst = layout::parse_sst_in(data_directory, path);
        let checkpoint = || layout::parse_checkpoint(data_directory, path);
        sst.map(Self::Sst).or_else(|| checkpoint().map(Self::Checkpoint))
    }
}

impl Holders<'_> {
    /// All files that the version and the snapshots name.
    fn named_files(&self) -> RoaringTreemap {
        let mut named: RoaringTreemap =
            self.version.all_files().map(|file| file.sst.id.0).collect();
        for snapshot in self.snapshots {
            named |= &*snapshot.files;
        }
        named
    }

    fn of(&self, kind: Kind, object: &ObjectMeta, retention_ms: u64) -> Vec<Holder> {
        let mut holders = match kind {
            Kind::Sst(sst) => self.of_sst(sst),
            // A checkpoint newer than the one recovery starts from may be about to be adopted.
            Kind::Checkpoint(version) if version >= self.checkpoint => vec![Holder::Checkpoint],
            Kind::Checkpoint(_) => vec![],
        };
        let written_ms = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or_default();
        if written_ms > self.young_from_ms {
            holders.push(Holder::Young { until_ms: written_ms.saturating_add(retention_ms) });
        }
        holders
    }

    /// The holders of an unfinished file. One that another process may be writing is held longer by its age.
    pub fn of_leftover(&self, leftover: &Leftover, retention_ms: u64) -> Vec<Holder> {
        let kind = leftover.object().and_then(|object| Kind::of(&object, self.data_directory));
        let (mut holders, least_ms) = match kind {
            Some(Kind::Sst(sst)) if self.unfinished.iter().any(|write| write.holds(sst)) => {
                (vec![Holder::UnfinishedWrite], retention_ms)
            }
            Some(Kind::Checkpoint(version)) if version >= self.checkpoint => {
                (vec![Holder::Checkpoint], retention_ms)
            }
            Some(_) => (vec![], retention_ms),
            None => (vec![], retention_ms.max(LEFTOVER_MS_MIN)),
        };
        let more_ms = least_ms - retention_ms;
        if leftover.modified_ms > self.young_from_ms.saturating_sub(more_ms) {
            holders.push(Holder::Young { until_ms: leftover.modified_ms.saturating_add(least_ms) });
        }
        holders
    }

    fn of_sst(&self, sst: SstId) -> Vec<Holder> {
        let mut holders = vec![];
        for file in self.version.entries_of(sst) {
            let (table, lifetime) = (file.table_id, file.lifetime);
            holders.push(Holder::Version { table, lifetime, safe_epoch: self.version.safe_epoch });
        }
        let is_in_version = !holders.is_empty();
        for snapshot in self.snapshots.iter().filter(|s| s.files.contains(sst.0)) {
            let (name, deleted) = (snapshot.name.clone(), snapshot.deleted);
            holders.push(Holder::Snapshot { name, deleted });
        }
        if let Some((who, version)) = &self.reader
            && !is_in_version
            && self.forgotten.named_by(*version, sst)
        {
            holders.push(Holder::Reader { who: who.clone(), version: *version });
        }
        if !is_in_version && self.unfinished.iter().any(|unfinished| unfinished.holds(sst)) {
            holders.push(Holder::UnfinishedWrite);
        }
        holders
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::version::VersionDelta;
    use crate::version::sample::{OTHER, TABLE};
    use crate::version::tests::{churned, epoch, parted, shared};

    const DIR: &str = "data";

    fn object(path: &str, written_ms: i64) -> ObjectMeta {
        ObjectMeta {
            location: Path::from(path),
            last_modified: chrono::DateTime::from_timestamp_millis(written_ms).unwrap(),
            size: 10,
            e_tag: None,
            version: None,
        }
    }

    /// Files 1 and 2 are in the version, 3 is in a snapshot, 4 was forgotten by version 9, 7 is unfinished;
    /// the checkpoint is of version 4.
    fn planned(edit: impl FnOnce(&mut Holders<'_>)) -> Vec<String> {
        let version = churned();
        let files = Arc::new(RoaringTreemap::from_iter([3]));
        let snapshots = [SnapshotFiles { name: "1".to_owned(), deleted: false, files }];
        let mut forgotten = Forgotten::since(VersionId(5));
        forgotten.record(VersionId(9), RoaringTreemap::from_iter([4]));
        let mut holders = Holders {
            data_directory: DIR,
            version: &version,
            checkpoint: VersionId(4),
            snapshots: &snapshots,
            reader: None,
            forgotten: &forgotten,
            unfinished: &[Unfinished::from(SstId(7))],
            young_from_ms: 1000,
        };
        edit(&mut holders);
        let names = (1..=7).map(|id| format!("{DIR}/{id}.data"));
        let others = ["data/lease.json", "data/sub/4.data", "data/x.data", "data/checkpoint/x"];
        let checkpoints = ["data/checkpoint/3-ab.version", "data/checkpoint/4-ab.version"];
        let names = names.chain(others.iter().chain(&checkpoints).map(|name| (*name).to_owned()));
        let objects: Vec<_> = names.map(|name| object(&name, 900)).collect();
        let plan = plan(&objects, &holders, 0);
        plan.garbage.into_iter().map(|g| g.path.trim_start_matches("data/").to_owned()).collect()
    }

    #[test]
    fn what_something_holds_is_kept_and_all_else_goes() {
        let garbage = ["4.data", "5.data", "6.data", "checkpoint/3-ab.version"];
        let garbage = garbage.map(|name| name.strip_prefix("data/").unwrap_or(name).to_owned());
        let mut expected = garbage.to_vec();
        expected.sort();
        assert_eq!(planned(|_| {}), expected);
    }

    #[test]
    fn a_reader_holds_what_its_version_named() {
        let reader = |version| Some(("f".to_owned(), VersionId(version)));
        assert!(!planned(|h| h.reader = reader(8)).contains(&"4.data".to_owned()));
        assert!(planned(|h| h.reader = reader(9)).contains(&"4.data".to_owned()));
        // Files forgotten before version 5 are not known, so all data files are kept.
        assert_eq!(planned(|h| h.reader = reader(4)), ["checkpoint/3-ab.version"]);
    }

    #[test]
    fn young_objects_stay() {
        assert!(planned(|h| h.young_from_ms = 899).is_empty());
    }

    #[test]
    fn what_was_being_written_goes_once_no_process_writes_it() {
        let leftover = |name: &str| Leftover {
            directory: Path::from(DIR),
            name: name.to_owned(),
            size_bytes: 1,
            modified_ms: 1_000,
        };
        let names = ["3.data#12", "7.data#12", "lease.json#3", ".probe-ab"];
        let leftovers = names.map(leftover);
        let (version, forgotten) = (churned(), Forgotten::since(VersionId(0)));
        let left = |young_from_ms| {
            let holders = Holders {
                data_directory: DIR,
                version: &version,
                checkpoint: VersionId(4),
                snapshots: &[],
                reader: None,
                forgotten: &forgotten,
                unfinished: &[Unfinished::from(SstId(7))],
                young_from_ms,
            };
            let garbage = plan_leftovers(&leftovers, &holders, 0);
            garbage.into_iter().map(|g| g.path).collect::<Vec<_>>()
        };
        assert_eq!(left(999), [""; 0]);
        // Also if a file of that name was finished since.
        assert_eq!(left(1_000), ["data/3.data#12"]);
        let hour_later = 1_000 + LEFTOVER_MS_MIN;
        assert_eq!(left(hour_later), ["data/3.data#12", "data/lease.json#3", "data/.probe-ab"]);
    }

    fn holders<'a>(version: &'a Version, forgotten: &'a Forgotten) -> Holders<'a> {
        Holders {
            data_directory: DIR,
            version,
            checkpoint: VersionId(1),
            snapshots: &[],
            reader: None,
            forgotten,
            unfinished: &[],
            young_from_ms: 1000,
        }
    }

    #[test]
    fn a_file_goes_when_the_last_table_that_had_it_is_forgotten() {
        let file = object("data/1.data", 900);
        // Forgets what is over at the newest epoch, and remembers it for readers, as a server does.
        let mut forgotten = Forgotten::since(VersionId(0));
        let mut forget = |version: &Version| {
            let newest = version.max_committed_epoch;
            let mut delta = VersionDelta::empty(version, Epoch::from_u64(newest.as_u64() + 1));
            delta.safe_epoch = Some(newest);
            let files = version.over_by(newest).map(|(_, _, sst)| sst.0).collect();
            forgotten.record(delta.id, files);
            version.apply(&delta)
        };
        let tables = |version: &Version, forgotten: &Forgotten| {
            let holders = holders(version, forgotten);
            let found = explain(&file, &holders, 0).unwrap();
            assert_eq!(plan(std::slice::from_ref(&file), &holders, 0).kept == 1, !found.is_empty());
            let table = |holder: &Holder| match holder {
                Holder::Version { table, .. } => Some(*table),
                _ => None,
            };
            found.iter().map(table).collect::<Vec<_>>()
        };
        let none = Forgotten::since(VersionId(0));
        assert_eq!(tables(&shared(), &none), [Some(TABLE), Some(OTHER)]);
        assert_eq!(tables(&parted(), &none), [Some(TABLE), Some(OTHER)]);
        let later = forget(&parted());
        let mut delta = VersionDelta::empty(&later, epoch(7));
        delta.died = vec![(OTHER, SstId(1))];
        let last = later.apply(&delta);
        let over = forget(&last);
        assert_eq!(tables(&later, &forgotten), [Some(OTHER)]);
        assert_eq!(tables(&last, &forgotten), [Some(OTHER)]);
        assert_eq!(tables(&over, &forgotten), []);
        // A reader of the version before that may still need it.
        let reader = Some(("f".to_owned(), last.id));
        let of_reader = Holders { reader, ..holders(&over, &forgotten) };
        assert_eq!(explain(&file, &of_reader, 0).unwrap().len(), 1);
    }

    #[test]
    fn each_table_that_has_a_file_is_named() {
        let (version, forgotten) = (parted(), Forgotten::since(VersionId(0)));
        let holders = holders(&version, &forgotten);
        let found = explain(&object("data/1.data", 900), &holders, 100).unwrap();
        let lifetime = version.file_of(TABLE, SstId(1)).unwrap().lifetime;
        let (born, died) = (lifetime.born, lifetime.died.unwrap());
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        let [one, other] = &lines[..] else { panic!("{lines:?}") };
        let expected = format!("table 7 in the history since epoch {born}: died at {died}, ");
        assert!(one.starts_with(&expected), "{one}");
        assert_eq!(*other, format!("table 9 in the current version, since epoch {}", epoch(4)));
    }

    #[test]
    fn each_holder_is_named() {
        let version = churned();
        let forgotten = Forgotten::since(VersionId(0));
        let files = Arc::new(RoaringTreemap::from_iter([1]));
        let snapshots = [SnapshotFiles { name: "5".to_owned(), deleted: false, files }];
        let holders = Holders {
            data_directory: DIR,
            version: &version,
            checkpoint: VersionId(1),
            snapshots: &snapshots,
            reader: None,
            forgotten: &forgotten,
            unfinished: &[],
            young_from_ms: 0,
        };
        let found = explain(&object("data/1.data", 900), &holders, 100).unwrap();
        let kinds: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(kinds[0].contains("the history since epoch"), "{kinds:?}");
        assert!(kinds[1].contains("meta snapshot 5"), "{kinds:?}");
        assert!(kinds[2].contains("its age"), "{kinds:?}");
        assert_eq!(explain(&object("data/lease.json", 0), &holders, 0), None);
    }
}
