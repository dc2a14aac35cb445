//! Maintenance of the data directory: forgetting what is past retention, and vacuum.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::MetaNode;
use super::backup_error::backup_error;
use super::command::SnapshotKey;
use super::manager::Standing;
use super::misdated::{Dated, Now};
use super::workers::SILENCE_MS_MAX;
use tidemark_ledger::backup::{self, ManifestEntry, OpenLocation};
use tidemark_ledger::id::{SnapshotId, SstId, VersionId};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::sst_ids::Unfinished;
use tidemark_ledger::state::State;
use tidemark_ledger::storage::{self, StorageLocation};
use tidemark_ledger::vacuum::{self, Forgotten, Garbage, Holder, Holders, Plan, SnapshotFiles};
use tidemark_ledger::{ambient, layout, metrics, params};

/// Objects deleted between two checks that this server still has the data directory.
const DELETES_PER_CHECK: usize = 1000;
/// Number of snapshots that are read at a time.
const SNAPSHOTS_AT_ONCE: usize = 16;
/// How long a listing of snapshots waits for what has to be read from each of them.
const USAGE_WAIT_MAX: Duration = Duration::from_millis(100);

/// Names under which [`super::misdated`] tracks the listings of the data directory. The listing of a
/// backup location is tracked under the location's name.
const OBJECTS: &str = "objects";
const LEFTOVERS: &str = "leftovers";

/// A snapshot, and the ids of the files it names.
type SnapshotWithFiles = (ManifestEntry, Arc<RoaringTreemap>);

/// Bytes of data that only one snapshot needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotUsage {
    pub id: SnapshotId,
    /// Bytes of the files that nothing else names: what deleting the snapshot would free.
    pub exclusive_bytes: u64,
}

impl MetaNode {
    /// Forgets and vacuums periodically. Never returns.
    pub async fn vacuum_forever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.settings.vacuum_interval_ms)).await;
            let node = Arc::clone(&self);
            match tokio::spawn(async move { node.vacuum(None, false).await }).await {
                Ok(Ok(plan)) if plan.garbage.is_empty() => {}
                Ok(Ok(plan)) => {
                    info!(objects = plan.garbage.len(), bytes = plan.garbage_bytes(), "vacuum");
                }
                Ok(Err(error)) => warn!(%error, "could not vacuum"),
                Err(error) => warn!(%error, "a vacuum failed"),
            }
        }
    }

    /// Forgets what is past retention and deletes what nothing needs, unless it is a dry run.
    /// `retention_ms` is the minimum age of what is deleted; `None` stands for the setting.
    pub async fn vacuum(
        &self,
        retention_ms: Option<u64>,
        dry_run: bool,
    ) -> Result<Plan, MetaError> {
        // No backup runs meanwhile: nothing else holds what it reads.
        let _job = self.job.lock().await;
        let retention_ms = retention_ms.unwrap_or(self.settings.min_sst_retention_ms);
        if !dry_run {
            self.manager.forget(self.manager.retained_since()).await?;
        }
        let unfinished = self.unfinished();
        let state = self.manager.state();
        let directory = layout::directory(state.params.value(params::DATA_DIRECTORY));
        let objects = self.manager.state_store().list(&directory).await;
        let mut objects = objects.map_err(|e| MetaError::storage(&e))?;
        let leftovers = self.manager.state_store().leftovers(&directory).boxed().await;
        let mut leftovers = leftovers.map_err(|e| MetaError::storage(&e))?;
        self.date(OBJECTS, &mut objects);
        self.date(LEFTOVERS, &mut leftovers);
        let held = self.held(unfinished, retention_ms).await?;
        let mut plan = vacuum::plan(&objects, &held.holders(), retention_ms);
        plan.garbage.extend(vacuum::plan_leftovers(&leftovers, &held.holders(), retention_ms));
        let backups = self.leftovers_of_backups(&held, retention_ms).boxed().await;
        if dry_run {
            plan.garbage
                .extend(backups.iter().flat_map(|(location, found)| named(location, found)));
            return Ok(plan);
        }
        let deleted = self.delete(&plan.garbage).await;
        plan.garbage.extend(self.delete_from_backups(&backups).await);
        let outcome = if deleted.is_ok() { metrics::OK } else { metrics::FAILED };
        metrics::VACUUMS.with_label_values(&[outcome]).inc();
        deleted?;
        metrics::VACUUM_DELETED_OBJECTS.inc_by(plan.garbage.len() as u64);
        metrics::VACUUM_DELETED_BYTES.inc_by(plan.garbage_bytes());
        Ok(plan)
    }

    /// Corrects dates in the future, set by a clock that was ahead: such an entry counts as being as
    /// old as the time for which it has been seen.
    fn date<T: Dated>(&self, listing: &str, things: &mut [T]) {
        let mut misdated = self.misdated.lock().unwrap_or_else(PoisonError::into_inner);
        misdated.date(listing, things, self.now());
    }

    /// Corrects the date of one entry, as [`MetaNode::date`] would.
    fn dated<T: Dated>(&self, listing: &str, mut thing: T) -> T {
        let misdated = self.misdated.lock().unwrap_or_else(PoisonError::into_inner);
        misdated.date_one(listing, &mut thing, self.now());
        thing
    }

    fn now(&self) -> Now {
        Now {
            wall_ms: self.manager.timeline().earliest_now_ms(),
            monotonic_ms: self.manager.clock().monotonic_ms(),
        }
    }

    /// Unfinished files in backup locations that no process writes any more. A location that cannot be
    /// read is skipped.
    async fn leftovers_of_backups(
        &self,
        held: &Held,
        retention_ms: u64,
    ) -> Vec<(OpenLocation, Vec<Garbage>)> {
        let mut found = vec![];
        for location in self.locations().await.unwrap_or_default() {
            let Ok(opened) = OpenLocation::open_existing(&location) else { continue };
            let directory = layout::directory(&opened.directory);
            let mut leftovers = match opened.storage.leftovers(&directory).boxed().await {
                Ok(leftovers) => leftovers,
                Err(error) => {
                    warn!(
                        %error, location = %opened,
                        "could not look for what a killed backup left"
                    );
                    continue;
                }
            };
            self.date(&opened.to_string(), &mut leftovers);
            let garbage = vacuum::plan_leftovers(&leftovers, &held.holders(), retention_ms);
            found.push((opened, garbage));
        }
        found
    }

    /// Deletes the leftovers of backups; returns those that were deleted.
    async fn delete_from_backups(
        &self,
        leftovers: &[(OpenLocation, Vec<Garbage>)],
    ) -> Vec<Garbage> {
        let mut deleted = vec![];
        for (location, garbage) in leftovers {
            match vacuum::delete(&location.storage, garbage).await {
                Ok(()) => deleted.extend(named(location, garbage)),
                Err(error) => {
                    warn!(%error, %location, "could not delete what a killed backup left");
                }
            }
        }
        deleted
    }

    /// Deletes garbage, as long as this server has the data directory.
    async fn delete(&self, garbage: &[Garbage]) -> Result<(), MetaError> {
        for some in garbage.chunks(DELETES_PER_CHECK) {
            self.manager.standing().await?;
            let deleted = vacuum::delete(self.manager.state_store(), some).await;
            deleted.map_err(|e| MetaError::storage(&e))?;
        }
        Ok(())
    }

    /// What holds an object of the data directory, given by its name there or its whole path.
    pub async fn explain_object(&self, name: &str) -> Result<Vec<Holder>, MetaError> {
        let _job = self.job.lock().await;
        let state = self.manager.state();
        let directory = state.params.value(params::DATA_DIRECTORY);
        let name = name.trim_start_matches('/');
        let inside = name.strip_prefix(directory).map_or(name, |rest| rest.trim_start_matches('/'));
        let path = layout::directory(&format!("{directory}/{inside}"));
        let unfinished = self.unfinished();
        if storage::is_leftover(inside.rsplit('/').next().unwrap_or(inside)) {
            return self.explain_leftover(inside, unfinished).boxed().await;
        }
        let object = self.manager.state_store().head(&path).await;
        let object = object.map_err(|error| {
            MetaError { kind: ErrorKind::UndefinedRelation, ..MetaError::storage(&error) }
                .hint("Give the name of an object in the data directory, like 17.data.")
        })?;
        let retention_ms = self.settings.min_sst_retention_ms;
        let held = self.held(unfinished, retention_ms).await?;
        vacuum::explain(&self.dated(OBJECTS, object), &held.holders(), retention_ms).ok_or_else(
            || {
                let message =
                    format!("{path} is no data file and no checkpoint: vacuum leaves it alone");
                MetaError::new(ErrorKind::InvalidParameter, message)
            },
        )
    }

    /// What holds a file that is still being written, or whose process was killed while writing it.
    async fn explain_leftover(
        &self,
        name: &str,
        unfinished: Vec<Unfinished>,
    ) -> Result<Vec<Holder>, MetaError> {
        let directory = self.manager.state().params.value(params::DATA_DIRECTORY).to_owned();
        let directory = layout::directory(&directory);
        let listed = self.manager.state_store().leftovers(&directory).boxed().await;
        let listed = listed.map_err(|e| MetaError::storage(&e))?;
        let path = format!("{directory}/{name}");
        let leftover = listed.into_iter().find(|leftover| leftover.path() == path);
        let leftover = leftover.ok_or_else(|| {
            MetaError::new(ErrorKind::UndefinedRelation, format!("{path} does not exist"))
                .hint("It may be finished by now: look for the name without # and what follows.")
        })?;
        let retention_ms = self.settings.min_sst_retention_ms;
        let held = self.held(unfinished, retention_ms).await?;
        let leftover = self.dated(LEFTOVERS, leftover);
        Ok(held.holders().of_leftover(&leftover, retention_ms))
    }

    /// The bytes that deleting each of the snapshots in the current backup location would free. Empty as long as
    /// the files of some snapshot are unknown: they are read once after a server begins to lead.
    pub async fn snapshot_usage(self: &Arc<Self>) -> Result<Vec<SnapshotUsage>, MetaError> {
        let current = self.manager.state().params.backup_location();
        let (mut own, mut others) = (vec![], vec![]);
        for location in self.locations().await? {
            let (_, listed) = self.listed_in(&location).await?;
            let entries = listed.snapshot_metadata.iter().cloned();
            if location == current { &mut own } else { &mut others }.extend(entries);
        }
        let known = || self.known_files(own.iter().chain(&others));
        let mut named = known();
        if named.is_none() {
            let node = Arc::clone(self);
            let read = ambient::spawn(async move { node.read_snapshots().await });
            // It continues where this does not wait for it.
            drop(storage::within(USAGE_WAIT_MAX, read).await);
            named = known();
        }
        let Some(named) = named else { return Ok(vec![]) };
        let state = self.manager.state();
        let mut once: RoaringTreemap =
            state.version.all_files().map(|file| file.sst.id.0).collect();
        let mut twice = once.clone();
        for files in &named {
            twice |= &once & &**files;
            once |= &**files;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = |files: RoaringTreemap| {
            files.iter().filter_map(|sst| known.sizes.get(&SstId(sst))).sum()
        };
        let usage = own.iter().zip(&named).map(|(entry, files)| SnapshotUsage {
            id: entry.info.id,
            exclusive_bytes: bytes(&**files - &twice),
        });
        Ok(usage.collect())
    }

    /// The files of each of these snapshots; `None` if those of one are unknown.
    fn known_files<'a>(
        &self,
        entries: impl Iterator<Item = &'a ManifestEntry>,
    ) -> Option<Vec<Arc<RoaringTreemap>>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        entries.map(|entry| known.files.get(&key_of(entry)).cloned()).collect()
    }

    /// Reads which files the snapshots name. Does nothing if a reading is in progress.
    pub(super) async fn read_snapshots(&self) {
        let Ok(_reading) = self.reading_snapshots.try_lock() else { return };
        let read = async {
            for location in self.locations().await? {
                self.files_of_location(&location).await?;
            }
            Ok::<_, MetaError>(())
        };
        if let Err(error) = read.await {
            warn!(%error, "could not read which files the meta snapshots name");
        }
    }

    /// Every backup location whose snapshots hold files of this cluster, including the current one.
    pub fn locations(&self) -> BoxFuture<'_, Result<BTreeSet<StorageLocation>, MetaError>> {
        async move {
            let known = self.manager.backup_locations().await?;
            let mut locations: BTreeSet<_> =
                known.into_iter().map(|known| known.location).collect();
            locations.insert(self.manager.state().params.backup_location());
            Ok(locations)
        }
        .boxed()
    }

    /// Number of snapshots in a location that name missing data files. Those of a forgotten location may.
    pub(super) async fn broken_snapshots(
        &self,
        location: &StorageLocation,
    ) -> Result<usize, MetaError> {
        let snapshots = self.files_of_location(location).await?;
        if snapshots.is_empty() {
            return Ok(0);
        }
        let state = self.manager.state();
        let directory = layout::directory(state.params.value(params::DATA_DIRECTORY));
        let objects = self.manager.state_store().list(&directory).await;
        let objects = objects.map_err(|e| MetaError::storage(&e))?;
        let ids = objects.iter().filter_map(|object| layout::parse_sst(&object.location));
        let there: RoaringTreemap = ids.map(|id| id.0).collect();
        Ok(snapshots.iter().filter(|(_, files)| !files.is_subset(&there)).count())
    }

    /// Files that this process and the workers may have in flight.
    fn unfinished(&self) -> Vec<Unfinished> {
        let next = self.manager.state().next.sst;
        let now_ms = self.manager.clock().monotonic_ms();
        let mut unfinished = self.workers.unfinished(now_ms);
        if self.may_be_unheard_of(now_ms) {
            unfinished.push(Unfinished::from(SstId(0)));
        }
        unfinished.push(self.sst_ids.unfinished(next));
        unfinished
    }

    /// Collects everything that may need a file.
    fn held(
        &self,
        unfinished: Vec<Unfinished>,
        retention_ms: u64,
    ) -> BoxFuture<'_, Result<Held, MetaError>> {
        async move {
            let standing = self.manager.standing().await?;
            // From here on, no earlier leader can list a snapshot there.
            self.hold_current().await?;
            let now_ms = self.manager.clock().monotonic_ms();
            let mut snapshots = vec![];
            let current = self.manager.state().params.backup_location();
            let locations = self.locations().await?;
            let mut listed = BTreeSet::new();
            for location in &locations {
                self.fence(location).await?;
                for (entry, files) in self.files_of_location(location).await? {
                    let id = entry.info.id;
                    listed.insert(key_of(&entry));
                    let name = if *location == current {
                        id.to_string()
                    } else {
                        format!("{id} in {location}")
                    };
                    snapshots.push(SnapshotFiles { name, deleted: false, files });
                }
            }
            snapshots.extend(self.deleted_and_read(now_ms));
            self.known.lock().unwrap_or_else(PoisonError::into_inner).keep(&listed);
            // The state is read after the snapshots: what one of them lost meanwhile, the version still had.
            let state = self.manager.state();
            let reader = match self.may_be_unheard_of(now_ms) {
                true => Some(("a worker that may not have reported yet".to_owned(), VersionId(0))),
                false => self.workers.oldest_reader(now_ms),
            };
            let oldest = reader.as_ref().map_or(state.version.id, |(_, version)| *version);
            Ok(Held {
                forgotten: self.manager.forgotten(oldest),
                state,
                standing,
                snapshots,
                reader,
                unfinished,
                young_from_ms: self
                    .manager
                    .timeline()
                    .earliest_now_ms()
                    .saturating_sub(retention_ms),
            })
        }
        .boxed()
    }

    /// Whether there may be workers of an earlier leader that have not reported to this one yet.
    fn may_be_unheard_of(&self, now_ms: u64) -> bool {
        self.settings.workers_outside && now_ms < self.started_ms.saturating_add(SILENCE_MS_MAX)
    }

    /// Snapshots that were deleted while a session reads them, as long as it does.
    fn deleted_and_read(&self, now_ms: u64) -> Vec<SnapshotFiles> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.deleted.retain(|snapshot| self.workers.reads(snapshot, now_ms));
        let read = known.deleted.iter().filter_map(|snapshot| {
            let files = Arc::clone(known.files.get(snapshot)?);
            let name = snapshot.id.to_string();
            Some(SnapshotFiles { name, deleted: true, files })
        });
        read.collect()
    }

    /// Called before snapshots are deleted: those that a session reads hold their files until it ends.
    pub(super) async fn keep_for_readers(
        &self,
        location: &OpenLocation,
        entries: &[ManifestEntry],
    ) -> Result<(), MetaError> {
        let now_ms = self.manager.clock().monotonic_ms();
        for entry in entries {
            let key = key_of(entry);
            if self.workers.reads(&key, now_ms) {
                self.files_of(location, entry).await?;
                self.known.lock().unwrap_or_else(PoisonError::into_inner).deleted.insert(key);
            }
        }
        Ok(())
    }

    /// Whether this snapshot was deleted while a session reads it; such a session may continue.
    pub(super) fn is_kept_for_readers(&self, snapshot: &SnapshotKey) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).deleted.contains(snapshot)
    }

    fn files_of_location<'a>(
        &'a self,
        location: &'a StorageLocation,
    ) -> BoxFuture<'a, Result<Vec<SnapshotWithFiles>, MetaError>> {
        async move {
            let unreadable = |error: MetaError| {
                error.hint(format!(
                    "Snapshots in {location} hold data files. Make it readable, or give its snapshots up: move \
                     the backups away from there if it is the current place, then risectl meta \
                     forget-backup-location."
                ))
            };
            let (opened, listed) = self.listed_in(location).await.map_err(unreadable)?;
            let opened = &opened;
            let reads = listed.snapshot_metadata.iter().cloned().map(|entry| {
                async move {
                    let files = self.files_of(opened, &entry).await?;
                    Ok((entry, files))
                }
                .boxed()
            });
            let found = stream::iter(reads).buffered(SNAPSHOTS_AT_ONCE).try_collect().await;
            found.map_err(unreadable)
        }
        .boxed()
    }

    /// The ids of the files that a snapshot names. Reads each snapshot once.
    async fn files_of(
        &self,
        location: &OpenLocation,
        entry: &ManifestEntry,
    ) -> Result<Arc<RoaringTreemap>, MetaError> {
        let key = key_of(entry);
        if let Some(known) =
            self.known.lock().unwrap_or_else(PoisonError::into_inner).files.get(&key)
        {
            return Ok(Arc::clone(known));
        }
        let named = backup::files_of(location, entry).await.map_err(|e| backup_error(&e))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let files = Arc::new(named.iter().map(|(sst, _)| sst.0).collect::<RoaringTreemap>());
        known.sizes.extend(named);
        known.files.insert(key, Arc::clone(&files));
        Ok(files)
    }
}

/// Everything that holds files, at one moment.
struct Held {
    state: Arc<State>,
    standing: Standing,
    snapshots: Vec<SnapshotFiles>,
    reader: Option<(String, VersionId)>,
    forgotten: Forgotten,
    unfinished: Vec<Unfinished>,
    young_from_ms: u64,
}

impl Held {
    fn holders(&self) -> Holders<'_> {
        Holders {
            data_directory: self.state.params.value(params::DATA_DIRECTORY),
            version: &self.state.version,
            checkpoint: self.standing.checkpointed,
            snapshots: &self.snapshots,
            reader: self.reader.clone(),
            forgotten: &self.forgotten,
            unfinished: &self.unfinished,
            young_from_ms: self.young_from_ms,
        }
    }
}

/// Garbage of a backup location under its full name, as a plan lists it next to that of the data directory.
fn named(location: &OpenLocation, garbage: &[Garbage]) -> impl Iterator<Item = Garbage> {
    let root = location.storage.name_of(&Path::default());
    garbage.iter().map(move |found| Garbage {
        path: format!("{root}{}", found.path),
        size_bytes: found.size_bytes,
    })
}

fn key_of(entry: &ManifestEntry) -> SnapshotKey {
    SnapshotKey { id: entry.info.id, sha256: entry.sha256.clone() }
}
