//! Compares the cluster with the model. Reads, without faults, what a server would find if it started now.

use std::collections::BTreeSet;

use super::INJECTED;
use super::world::{BACKUP_DIRECTORIES, DATA_DIR, Happened, Model, World, has_table};
use tidemark_ledger::backup::listing::Listing;
use tidemark_ledger::backup::verify::{self, Subset};
use tidemark_ledger::backup::{Manifest, ManifestEntry, OpenLocation};
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::meta_error::{ErrorKind, MetaError, chain};
use tidemark_ledger::meta_store::MetaStore as _;
use tidemark_ledger::state::seal::{self, Seal};
use tidemark_ledger::state::{State, decode_value};
use tidemark_ledger::version::{Version, VersionDelta};
use tidemark_ledger::{checkpoint, keys};

/// Returns why an error is not acceptable.
pub fn judge(error: &MetaError) -> Result<(), String> {
    let of_store = matches!(error.kind, ErrorKind::Storage | ErrorKind::Unknown);
    if error.kind == ErrorKind::Internal {
        return Err(format!("an error of our own: {error}"));
    }
    judge_text(&error.message, of_store)
}

/// Like [`judge`], for the text of an error. `of_store` tells whether a store is to blame.
pub fn judge_text(text: &str, of_store: bool) -> Result<(), String> {
    let causes = [INJECTED, "no answer within", "already exists", "again and again"];
    let bad = text.is_empty()
        || text.contains("panicked")
        || of_store && !text.contains("memory")
        || of_store && !causes.iter().any(|cause| text.contains(cause));
    if bad { Err(format!("a bad error: {text:?}")) } else { Ok(()) }
}

impl World {
    /// The state that a server would recover from the meta store.
    pub async fn stored(&self) -> Result<State, String> {
        let pairs = self.meta.store.list("").await.map_err(|e| e.to_string())?;
        Seal::verify(&pairs).map_err(|e| e.to_string())?;
        let checkpoint = seal::checkpoint_of(&pairs).map_err(|e| e.to_string())?;
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

    /// Compares everything with the model. If no request is in flight, unknown outcomes become known.
    pub async fn check(&mut self) -> Result<(), String> {
        self.chaos.set(false);
        let stored = self.stored().await?;
        self.check_facts(&stored.version, "the meta store")?;
        if let Some(node) = &self.node
            && node.manager.is_writable()
        {
            let published = node.manager.state();
            self.check_facts(&published.version, "the server")?;
        }
        for (name, there) in &self.model.tables {
            match (has_table(&stored, name), there) {
                (false, Happened::Yes) => return Err(format!("table {name} is not there")),
                (true, Happened::No) => return Err(format!("table {name} is there")),
                _ => {}
            }
        }
        for (name, values) in &self.model.params {
            let value = stored.params.value(name);
            if !values.iter().any(|known| known == value) {
                return Err(format!("{name} is {value}, and not one of {values:?}"));
            }
        }
        let data = Listing::of(&self.open_directory(DATA_DIR)?).await.map_err(|e| chain(&e))?;
        verify::sizes(&stored.version, &data, Subset::ALL, &|_, _| {})
            .map_err(|e| format!("of the newest version {}", chain(&e)))?;
        for directory in BACKUP_DIRECTORIES {
            self.check_directory(directory, &data).await?;
        }
        if self.chaos.is_quiet() {
            self.learn(&stored);
        }
        Ok(())
    }

    fn check_facts(&self, version: &Version, source: &str) -> Result<(), String> {
        for fact in &self.model.facts {
            match (fact.found_in(version, &self.model.moved)?, fact.happened) {
                (false, Happened::Yes) => {
                    return Err(format!("{}, acknowledged, is not in {source}", fact.what));
                }
                (true, Happened::No) => {
                    return Err(format!("{}, refused, is in {source}", fact.what));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn check_directory(&mut self, directory: &str, data: &Listing) -> Result<(), String> {
        let location = self.open_directory(directory)?;
        let manifest = Manifest::find(&location).await.map_err(|e| chain(&e))?;
        let entries = manifest.map(|manifest| manifest.snapshot_metadata).unwrap_or_default();
        let listed: BTreeSet<SnapshotId> = entries.iter().map(|entry| entry.info.id).collect();
        for ((in_directory, id), snapshot) in &self.model.snapshots {
            let is_listed = listed.contains(id);
            match snapshot.listed {
                _ if in_directory != directory => {}
                Happened::Yes if !is_listed => {
                    return Err(format!("snapshot {id} in {directory} is not listed any more"));
                }
                Happened::No if is_listed => {
                    return Err(format!("snapshot {id} in {directory} is listed, and was deleted"));
                }
                _ => {}
            }
        }
        let unknown = listed.iter().filter(|id| !self.knows(directory, **id)).count();
        if unknown > self.model.maybe_taken.get(directory).copied().unwrap_or_default() {
            return Err(format!("{unknown} snapshots in {directory} are listed that nobody took"));
        }
        for entry in &entries {
            let checked = self.check_snapshot(&location, entry, data).await;
            checked.map_err(|e| format!("snapshot {} in {directory}: {e}", entry.info.id))?;
        }
        if self.chaos.is_quiet() {
            self.learn_listed(directory, &listed);
        }
        Ok(())
    }

    fn knows(&self, directory: &str, id: SnapshotId) -> bool {
        self.model.snapshots.contains_key(&(directory.to_owned(), id))
    }

    async fn check_snapshot(
        &self,
        location: &OpenLocation,
        entry: &ManifestEntry,
        data: &Listing,
    ) -> Result<(), String> {
        let whole = verify::read_whole(location, entry).await.map_err(|e| chain(&e))?;
        let version = &whole.state.version;
        verify::sizes(version, data, Subset::ALL, &|_, _| {}).map_err(|e| chain(&e))?;
        if entry.info.copy_data {
            let copies =
                Listing::of(&location.copies(&entry.info.life)).await.map_err(|e| chain(&e))?;
            let sizes = verify::sizes(version, &copies, Subset::ALL, &|_, _| {});
            sizes.map_err(|e| format!("of the copies {}", chain(&e)))?;
        }
        let key = (location.directory.clone(), entry.info.id);
        let known = self.model.snapshots.get(&key);
        let Some(holds) = known.and_then(|snapshot| snapshot.holds.as_ref()) else { return Ok(()) };
        for fact in holds.facts.iter().map(|fact| &self.model.facts[*fact]) {
            if !fact.found_in(version, &self.model.moved)? {
                return Err(format!("it lacks {}", fact.what));
            }
        }
        match holds.tables.iter().find(|name| !has_table(&whole.state, name)) {
            Some(name) => Err(format!("it lacks table {name}")),
            None => Ok(()),
        }
    }

    /// Records the outcomes that are found: only a new request can change them now.
    fn learn(&mut self, stored: &State) {
        let Model { facts, moved, tables, params, .. } = &mut self.model;
        for fact in facts.iter_mut().filter(|fact| fact.happened == Happened::Maybe) {
            let found = fact.found_in(&stored.version, moved) == Ok(true);
            fact.happened = Happened::found(found);
        }
        for (name, there) in tables {
            *there = Happened::found(has_table(stored, name));
        }
        for (name, values) in params {
            *values = vec![stored.params.value(name).to_owned()];
        }
    }

    fn learn_listed(&mut self, directory: &str, listed: &BTreeSet<SnapshotId>) {
        self.model.maybe_taken.remove(directory);
        for id in listed {
            let key = (directory.to_owned(), *id);
            let unknown = super::world::Snapshot { listed: Happened::Yes, holds: None };
            self.model.snapshots.entry(key).or_insert(unknown);
        }
        for ((in_directory, id), snapshot) in &mut self.model.snapshots {
            if in_directory == directory && snapshot.listed == Happened::Maybe {
                snapshot.listed = Happened::found(listed.contains(id));
            }
        }
    }
}
