//! Checks that everything is as it must be, at every epoch that is kept, in the cluster and in every
//! snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use super::files::Files;
use super::meta_store::Commit;
use super::model::{Model, Row, Told, rows_at};
use super::world::{BACKUP_DIRECTORIES, DATA_DIR, Snapshot, World};
use tidemark_ledger::backup::verify::{self, Whole};
use tidemark_ledger::backup::{Manifest, ManifestEntry, OpenLocation};
use tidemark_ledger::checkpoint::{self, Checkpoint};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::ObjectId;
use tidemark_ledger::meta_error::chain;
use tidemark_ledger::state::{State, decode_value};
use tidemark_ledger::version::{LiveFile, VersionDelta};
use tidemark_ledger::{keys, layout};

impl World {
    /// Compares everything with the model, without faults.
    pub async fn check(&mut self) -> Result<(), String> {
        let on = self.chaos.is_on();
        self.chaos.set(false);
        let checked = Box::pin(self.checked()).await;
        self.chaos.set(on);
        checked
    }

    /// Compares the listed snapshots with what was committed until now.
    pub async fn check_snapshots(&mut self) -> Result<(), String> {
        let on = self.chaos.is_on();
        self.chaos.set(false);
        let commits = self.meta.commits();
        let mut checked = Ok(());
        for directory in BACKUP_DIRECTORIES {
            let found = Box::pin(self.check_directory(directory, &commits)).await;
            checked = checked.and(found.map_err(|e| format!("in {directory}: {e}")));
        }
        self.chaos.set(on);
        checked
    }

    async fn checked(&mut self) -> Result<(), String> {
        let commits = self.meta.commits();
        self.check_told(&commits)?;
        let stored = self.stored().await?;
        let newest = commits.last().map_or(Epoch::ZERO, |commit| commit.epoch);
        if stored.version.max_committed_epoch < newest {
            let reached = stored.version.max_committed_epoch;
            return Err(format!("the meta store ends at {reached}, and {newest} was committed"));
        }
        self.check_state(&stored, &commits, "the meta store").await?;
        if let Some(server) = self.link.server()
            && server.node.manager.is_writable()
        {
            let published = server.node.manager.state();
            self.check_state(&published, &commits, "the server").await?;
        }
        for directory in BACKUP_DIRECTORIES {
            self.check_directory(directory, &commits)
                .await
                .map_err(|e| format!("in {directory}: {e}"))?;
        }
        self.chaos.event("all is as it must be");
        Ok(())
    }

    /// Checks the replies that writers got.
    fn check_told(&self, commits: &[Commit]) -> Result<(), String> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let epochs: BTreeMap<_, Epoch> =
            commits.iter().flat_map(|c| c.born.iter().map(move |sst| (*sst, c.epoch))).collect();
        for (marker, told) in &model.told[self.told_before..] {
            match (told, epochs.get(marker)) {
                (Told::Committed(epoch), Some(found)) if epoch == found => {}
                (Told::Committed(epoch), found) => {
                    return Err(format!(
                        "write {marker} was told that it is committed at {epoch}: it is at {found:?}"
                    ));
                }
                (Told::Refused, Some(epoch)) => {
                    return Err(format!("write {marker} was refused, and is committed at {epoch}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The state that a server would recover from the meta store.
    pub async fn stored(&self) -> Result<State, String> {
        let pairs = self.meta.pairs().await;
        let pointer = pairs.iter().find(|pair| pair.key == keys::VERSION_CHECKPOINT);
        let pointer = pointer.ok_or("there is no checkpoint")?;
        let checkpoint: Checkpoint = decode_value(pointer).map_err(|e| e.to_string())?;
        let storage = self.open_directory(DATA_DIR)?.storage;
        let read = checkpoint::read(&storage, &checkpoint).await;
        let mut version = read.map_err(|e| chain(&e))?;
        for pair in pairs.iter().filter(|pair| pair.key.starts_with(keys::VERSION_DELTA_PREFIX)) {
            let delta: VersionDelta = decode_value(pair).map_err(|e| e.to_string())?;
            if delta.prev_id != version.id {
                return Err(format!("delta {} follows another version", delta.id));
            }
            version = version.apply(&delta);
        }
        version.check().map_err(|e| e.to_string())?;
        State::decode(&pairs, version).map_err(|e| e.to_string())
    }

    async fn check_state(
        &mut self,
        state: &State,
        commits: &[Commit],
        whose: &str,
    ) -> Result<(), String> {
        let ids: Vec<ObjectId> = {
            let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            check_catalog(&model, state).map_err(|e| format!("{whose}: {e}"))?;
            model.tables.values().map(|table| table.id).collect()
        };
        for table in ids {
            let history = {
                let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
                model.history(table, commits)
            };
            let compared = compare(state, table, &history, &mut self.files).await;
            self.compared += compared.map_err(|e| format!("{whose}: table {table}: {e}"))?;
        }
        Ok(())
    }

    async fn check_directory(&mut self, directory: &str, commits: &[Commit]) -> Result<(), String> {
        let location = self.open_directory(directory)?;
        let manifest = Manifest::find(&location).await.map_err(|e| chain(&e))?;
        let entries = manifest.map(|manifest| manifest.snapshot_metadata).unwrap_or_default();
        let listed: BTreeSet<_> = entries.iter().map(|entry| entry.info.id).collect();
        let gone =
            self.must_be_listed.iter().find(|(at, id)| at == directory && !listed.contains(id));
        if let Some((_, id)) = gone {
            return Err(format!("snapshot {id} is not listed any more"));
        }
        for entry in &entries {
            let key = (directory.to_owned(), entry.info.id);
            if !self.snapshots.contains_key(&key) {
                let snapshot = self.checked_snapshot(&location, entry, commits).await;
                let snapshot = snapshot.map_err(|e| format!("snapshot {}: {e}", entry.info.id))?;
                self.snapshots.insert(key.clone(), snapshot);
                self.chaos.count("done: snapshots compared");
            }
            let snapshot = &self.snapshots[&key];
            for sst in snapshot.files.clone() {
                let there = self.files.rows(&sst, DATA_DIR).await;
                there.map_err(|e| format!("snapshot {}: {e}", entry.info.id))?;
                if entry.info.copy_data && sst.is_object() {
                    let copies = location.copies(&entry.info.life);
                    let copy = layout::sst(&copies.directory, sst.id);
                    let size = copies.storage.size(&copy).await.map_err(|e| chain(&e))?;
                    if size != sst.size_bytes {
                        return Err(format!("the copy of {} has {size} bytes", sst.id));
                    }
                }
            }
        }
        Ok(())
    }

    async fn checked_snapshot(
        &mut self,
        location: &OpenLocation,
        entry: &ManifestEntry,
        commits: &[Commit],
    ) -> Result<Snapshot, String> {
        let whole = verify::read_whole(location, entry).await.map_err(|e| chain(&e))?;
        let Whole { state, .. } = whole;
        self.check_state(&state, commits, "it").await?;
        let newest = state.version.max_committed_epoch;
        let commits = commits.iter().filter(|commit| commit.epoch <= newest).cloned().collect();
        let files = state.version.data_files().cloned().collect();
        Ok(Snapshot { files, commits })
    }
}

/// Checks that created tables exist, and dropped ones do not.
fn check_catalog(model: &Model, state: &State) -> Result<(), String> {
    let newest = state.version.max_committed_epoch;
    let catalog = state.catalog.at(newest);
    for table in model.tables.values() {
        let there = catalog.relation_by_id(table.id).is_some();
        let dropped = table.dropped.is_some_and(|epoch| epoch <= newest);
        if there && dropped {
            return Err(format!("table {} was dropped, and is there", table.name));
        }
        // The client that dropped it may not have got the reply.
        if !there && !dropped && !table.may_be_dropped && table.made <= newest {
            return Err(format!("table {} is not there", table.name));
        }
    }
    Ok(())
}

/// Compares a table at every epoch that is kept. Returns the number of epochs.
async fn compare(
    state: &State,
    table: ObjectId,
    history: &BTreeMap<Epoch, BTreeSet<Row>>,
    files: &mut Files,
) -> Result<u64, String> {
    let version = &state.version;
    let kept = version.safe_epoch..=version.max_committed_epoch;
    let ends = [version.safe_epoch, version.max_committed_epoch];
    let epochs: BTreeSet<Epoch> =
        history.keys().filter(|epoch| kept.contains(epoch)).copied().chain(ends).collect();
    let mut all = BTreeMap::new();
    for file in version.table_files(table) {
        all.insert(file.sst.id, files.rows(&file.sst, DATA_DIR).await?);
    }
    for epoch in &epochs {
        let files = version.files_at(table, *epoch);
        let mut rows: Vec<Row> = files.iter().flat_map(|f| alive(f, &all[&f.sst.id])).collect();
        if state.catalog.at(*epoch).relation_by_id(table).is_none() {
            match rows.is_empty() {
                true => continue,
                false => return Err(format!("at {epoch} it is not there, and has rows")),
            }
        }
        let must = rows_at(history, *epoch);
        rows.sort_unstable();
        if !rows.iter().eq(must) {
            return Err(difference(*epoch, &rows, must));
        }
    }
    Ok(epochs.len() as u64)
}

/// The live rows of a file.
fn alive(file: &LiveFile, rows: &[Row]) -> Vec<Row> {
    let is_alive = |at: usize| {
        let at = u32::try_from(at).expect("small");
        file.dead.as_ref().is_none_or(|dead| !dead.contains(at))
    };
    let alive = rows.iter().enumerate().filter(|(at, _)| is_alive(*at));
    alive.map(|(_, row)| *row).collect()
}

fn difference(epoch: Epoch, rows: &[Row], must: &BTreeSet<Row>) -> String {
    let are: BTreeSet<Row> = rows.iter().copied().collect();
    let missing: Vec<_> = must.difference(&are).collect();
    let extra: Vec<_> = are.difference(must).collect();
    let (count, distinct) = (rows.len(), are.len());
    format!(
        "at {epoch}, missing {missing:?}, too many {extra:?}, {count} rows, {distinct} of them different"
    )
}
