//! The online side of snapshots: takes, verifies and deletes them, and moves or forgets their location.

use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::MetaNode;
use super::backup_error::backup_error;
use super::backup_locations::open_new;
use super::command::{BackupOptions, Committed};
use tidemark_ledger::backup::verify::{self, DataAt, Verified};
use tidemark_ledger::backup::{self, ManifestEntry, NewSnapshot, OpenLocation};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::metrics;
use tidemark_ledger::params::{self, ParamError, ParamSpec, Params};
use tidemark_ledger::state::State;
use tidemark_ledger::storage::StorageLocation;

impl MetaNode {
    /// Gives up the snapshots of a backup location: what only they hold may be deleted.
    pub async fn forget_location(&self, location: StorageLocation) -> Result<(), MetaError> {
        let _job = self.job.lock().await;
        if location.is_same_location(&self.manager.state().params.backup_location()) {
            let message = format!("{location} is the current backup location");
            return Err(MetaError::new(ErrorKind::InvalidParameter, message)
                .hint("Move it with ALTER SYSTEM SET backup_storage_url or _directory first."));
        }
        let known = self.manager.standing().await?.backup_locations;
        if !known.iter().any(|known| known.location.is_same_location(&location)) {
            let message = format!("{location} is no backup location of this cluster");
            return Err(MetaError::new(ErrorKind::InvalidParameter, message)
                .hint("risectl meta list-backup-locations lists them."));
        }
        self.manager.forget_location(location.clone()).await?;
        self.backup_locations.release(&location);
        Ok(())
    }

    /// Takes a meta snapshot and returns its entry in the manifest.
    pub async fn backup(&self, options: BackupOptions) -> Result<ManifestEntry, MetaError> {
        let begun = Instant::now();
        let taken = self.take_snapshot(options).await;
        let outcome = if taken.is_ok() { metrics::OK } else { metrics::FAILED };
        metrics::BACKUP_SECONDS
            .with_label_values(&[outcome])
            .observe(begun.elapsed().as_secs_f64());
        taken
    }

    async fn take_snapshot(&self, options: BackupOptions) -> Result<ManifestEntry, MetaError> {
        let _job = self.job.lock().await;
        let current = self.manager.state().params.backup_location();
        self.hold(&current).await?;
        let (location, _) = self.listed_in(&current).await?;
        let state = self.manager.state();
        let least = backup::next_snapshot_id(&location, state.next.snapshot)
            .await
            .map_err(|e| backup_error(&e))?;
        let id = self.manager.reserve_snapshot(least).await?;
        // Commits an epoch of now, so that the snapshot does not end at the last write.
        let committed = self.manager.flush().await?;
        let state = self.manager.state();
        let snapshot = covered_history(&state, committed.epoch).await?;
        let created_at = tidemark_ledger::epoch::rfc3339(self.manager.clock().now_ms());
        let BackupOptions { remarks, copy_data } = options;
        let holder = self.backup_locations.holder.clone();
        let new = NewSnapshot { id, remarks, created_at, holder };
        let entry = if copy_data {
            let data = self.data_directory(&state);
            backup::create_snapshot_with_copies(&location, &snapshot, &new, &data).await
        } else {
            backup::create_snapshot(&location, &snapshot, &new).await
        };
        let entry = entry.map_err(|e| self.change_error(&e))?;
        self.note_newest(&current).await;
        info!(snapshot = %entry.id, bytes = entry.size_bytes, "backup");
        Ok(entry)
    }

    /// The location of the data files.
    fn data_directory(&self, state: &State) -> OpenLocation {
        let directory = state.params.value(params::DATA_DIRECTORY).to_owned();
        OpenLocation { storage: self.manager.state_store().clone(), directory }
    }

    /// Verifies snapshots of the current location and records the results there. Does not block other
    /// jobs: a snapshot that is deleted meanwhile counts as unknown.
    pub async fn verify_snapshots(
        &self,
        request: &verify::Request,
        report: verify::Report<'_>,
    ) -> Result<Vec<Verified>, MetaError> {
        let state = self.manager.state();
        let (location, listed) = self.listed_in(&state.params.backup_location()).await?;
        if listed.snapshot_metadata.is_empty() && request.ids.is_none() {
            return Ok(vec![]);
        }
        let data = state.params.data_location();
        let now = || tidemark_ledger::epoch::rfc3339(self.manager.clock().now_ms());
        let data = DataAt::LocationOrNamed(&data);
        let verified = verify::verify(&location, request, data, now, report).await;
        verified.map_err(|e| backup_error(&e))
    }

    /// Deletes all of `ids`, or none if one of them is unknown.
    pub async fn delete_snapshots(&self, ids: &[SnapshotId]) -> Result<(), MetaError> {
        let _job = self.job.lock().await;
        let current = self.manager.state().params.backup_location();
        self.hold(&current).await?;
        let _pinning = self.pinning.lock().await;
        let (location, listed) = self.listed_in(&current).await?;
        let entries = listed.snapshot_metadata.iter().filter(|entry| ids.contains(&entry.info.id));
        let entries: Vec<_> = entries.cloned().collect();
        self.keep_for_readers(&location, &entries).await?;
        self.manager.standing().await?;
        let deleted = backup::delete_snapshots(&location, ids, &self.backup_locations.holder).await;
        deleted.map_err(|e| self.change_error(&e))?;
        self.note_newest(&current).await;
        Ok(())
    }

    /// Changes a parameter; `None` resets it to its default.
    pub async fn alter_system(
        &self,
        name: &str,
        value: Option<&str>,
    ) -> Result<Committed, MetaError> {
        let spec = ParamSpec::find(name).map_err(|e| param_error(&e))?;
        let moves = [params::BACKUP_STORAGE_URL, params::BACKUP_STORAGE_DIRECTORY];
        let moves = moves.contains(&spec.name);
        // Only a move takes the job lock: other parameters need not wait for a long backup.
        let _job = if moves { Some(self.job.lock().await) } else { None };
        let params = Arc::clone(&self.manager.state().params);
        if !spec.mutable {
            return Err(param_error(&ParamError::Immutable(spec.name)));
        }
        let value = match value {
            Some(value) => spec.parse(value).map_err(|e| param_error(&e))?,
            None => default_value(spec, &params).map_err(|e| param_error(&e))?,
        };
        if moves && params.value(spec.name) == value {
            // Setting the same location again takes it back from another server that has taken it over.
            self.reclaim_manifest(&params.backup_location()).await?;
        }
        let notices = if moves && params.value(spec.name) != value {
            let mut moved = Params::clone(&params);
            moved.set(spec.name, &value);
            let location = moved.backup_location();
            let is_new = !self.locations().await?.contains(&location);
            let mut notices = self.check_move(&params, spec.name, &moved).await?;
            if is_new && let broken @ 1.. = self.broken_snapshots(&location).await? {
                notices.push(format!(
                    "{broken} meta snapshots in {location} name data files that are gone: they cannot \
                     be read or restored"
                ));
            }
            notices
        } else {
            vec![]
        };
        let committed = self.manager.set_param(spec.name.to_owned(), value).await?;
        Ok(Committed { notices, ..committed })
    }

    /// Probes a new backup location and takes over its manifest. Returns notices about the snapshots of
    /// the old location, which will be out of sight.
    async fn check_move(
        &self,
        params: &Params,
        name: &str,
        moved: &Params,
    ) -> Result<Vec<String>, MetaError> {
        let target = open_new(moved).await?;
        target.storage.probe(&target.directory).await.map_err(|e| {
            MetaError { kind: ErrorKind::InvalidParameter, ..MetaError::storage(&e) }
                .hint("The backup storage must be writable. Nothing was changed.")
        })?;
        self.reclaim_manifest(&moved.backup_location()).await?;
        // The old location may be broken: failing to count its snapshots must not keep the user there.
        let listed = self.list_snapshots().await;
        let hidden = listed.map_or(0, |listed| listed.snapshot_metadata.len());
        let masked = params.shown(params::BACKUP_STORAGE_URL);
        let directory = params.value(params::BACKUP_STORAGE_DIRECTORY);
        let plural = if hidden == 1 { "snapshot" } else { "snapshots" };
        Ok(match hidden {
            0 => vec![],
            n => vec![format!(
                "{n} meta {plural} in {masked}/{directory} will be out of sight until {name} is set back"
            )],
        })
    }
}

/// The history that a snapshot taken at `epoch` holds: since the retention time before it. Runs as a
/// blocking task, since there may be much to leave out.
async fn covered_history(state: &State, epoch: Epoch) -> Result<State, MetaError> {
    let since = epoch.minus_ms(state.params.retention_ms()).max(state.version.safe_epoch);
    let mut covered = state.clone();
    let cover = move || {
        covered.version = Arc::new(covered.version.retain_since(since));
        covered.catalog = Arc::new(covered.catalog.retain_since(since));
        covered
    };
    let covered = tidemark_ledger::ambient::blocking(cover).await;
    covered.map_err(|e| MetaError::new(ErrorKind::Internal, e.to_string()))
}

fn default_value(spec: &'static ParamSpec, params: &Params) -> Result<String, ParamError> {
    match (spec.default, spec.name) {
        (Some(value), _) => Ok(value.to_owned()),
        (None, params::BACKUP_STORAGE_URL) => {
            let state_store = params.value(params::STATE_STORE);
            Ok(tidemark_ledger::storage_url::without_hummock(state_store).to_owned())
        }
        (None, _) => Err(ParamError::NoDefault(spec.name)),
    }
}

fn param_error(error: &ParamError) -> MetaError {
    let kind = match error {
        ParamError::Unknown(_) => ErrorKind::UndefinedParameter,
        ParamError::Immutable(_) => ErrorKind::ImmutableParameter,
        ParamError::Empty(_)
        | ParamError::Unparsable { .. }
        | ParamError::OutOfRange { .. }
        | ParamError::RetentionTooShort
        | ParamError::NoDefault(_) => ErrorKind::InvalidParameter,
    };
    let meta = MetaError::new(kind, error.to_string());
    match error {
        ParamError::Unknown(_) => meta.hint("SHOW PARAMETERS lists them."),
        ParamError::Immutable(_) => meta.hint("It is decided when the cluster is made."),
        _ => meta,
    }
}
