//! The requests that a program can send to a server, and what the model learns from each.

use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;

use super::check::{judge, judge_text};
use super::meta_store::{FaultyMeta, Shared};
use super::world::{
    DATA_DIR, Fact, Happened, Holds, Model, ROWS, Server, Snapshot, World, create_table, has_table,
    relation,
};
use crate::compaction;
use crate::meta::MetaNode;
use crate::meta::command::{
    BackupOptions, CatalogCommand, Committed, Compaction, DeadRows, RelationKind, TableWrite, Write,
};
use tidemark_ledger::backup::ManifestEntry;
use tidemark_ledger::backup::restore::{self, Overwrite};
use tidemark_ledger::backup::verify::{self, Check, Level, Subset, Verdict, Verified, Whole};
use tidemark_ledger::epoch::Clock as _;
use tidemark_ledger::id::{ObjectId, SnapshotId, SstId};
use tidemark_ledger::meta_error::{MetaError, chain};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::sst_ids::{SstIds as _, Staging};
use tidemark_ledger::storage::{Checksum, StorageLocation};
use tidemark_ledger::{layout, params};

/// Limit for a commit, in virtual ms: it waits for the lease and for the meta store, each with a
/// timeout, and a few times.
const COMMIT_MS_MAX: u64 = 180_000;
/// Limit for a job, in virtual ms: many calls, each of which may take the full timeout of a store's client.
const JOB_MS_MAX: u64 = 3_600_000;
/// Real time after which a request counts as hanging.
const HANGS: Duration = Duration::from_secs(120);

/// A request to a server.
#[derive(Clone, Debug)]
pub enum Ask {
    Insert {
        files: u32,
    },
    Delete {
        rows: Vec<(SstId, u32)>,
    },
    /// Replaces this file, or the one that has replaced it, with another.
    Compact {
        from: SstId,
    },
    CreateTable {
        name: String,
    },
    DropTable {
        name: String,
    },
    Backup {
        copy_data: bool,
    },
    DeleteSnapshots {
        ids: Vec<SnapshotId>,
    },
    Alter {
        name: &'static str,
        value: String,
    },
    Vacuum,
    Verify,
    Flush,
}

/// The outcome of a request.
#[derive(Debug)]
pub enum Told {
    Write {
        fact: Fact,
        outcome: Result<Committed, MetaError>,
    },
    Compact {
        from: SstId,
        to: SstId,
        outcome: Result<Committed, MetaError>,
    },
    Catalog {
        name: String,
        /// Whether the table exists if the command succeeded.
        made: bool,
        outcome: Result<Committed, MetaError>,
    },
    /// A statement that failed before it asked for a commit.
    Nothing(Option<MetaError>),
    Backup {
        directory: String,
        before: Box<Holds>,
        outcome: Result<ManifestEntry, MetaError>,
    },
    DeleteSnapshots {
        directory: String,
        ids: Vec<SnapshotId>,
        outcome: Result<(), MetaError>,
    },
    Alter {
        name: &'static str,
        value: String,
        outcome: Result<Committed, MetaError>,
    },
    Vacuum(Result<usize, MetaError>),
    Verify(Result<Vec<Verified>, MetaError>),
    Flush(Result<Committed, MetaError>),
}

impl Told {
    pub fn error(&self) -> Option<&MetaError> {
        match self {
            Self::Write { outcome, .. }
            | Self::Compact { outcome, .. }
            | Self::Catalog { outcome, .. }
            | Self::Alter { outcome, .. }
            | Self::Flush(outcome) => outcome.as_ref().err(),
            Self::Nothing(error) => error.as_ref(),
            Self::Backup { outcome, .. } => outcome.as_ref().err(),
            Self::DeleteSnapshots { outcome, .. } => outcome.as_ref().err(),
            Self::Vacuum(outcome) => outcome.as_ref().err(),
            Self::Verify(outcome) => outcome.as_ref().err(),
        }
    }
}

impl World {
    /// Sends a request, and checks that the reply comes in time and that an error is acceptable.
    pub async fn ask(&self, node: &MetaNode, ask: &Ask) -> Result<Told, String> {
        let begun_ms = self.clock.now_ms();
        let asked = Box::pin(self.do_ask(node, ask));
        let told = tokio::time::timeout(HANGS, asked).await;
        let told = told.map_err(|_| format!("{ask:?} hangs"))?;
        let taken_ms = self.clock.now_ms() - begun_ms;
        let limit_ms = match ask {
            Ask::Backup { .. } | Ask::Vacuum | Ask::DeleteSnapshots { .. } | Ask::Verify => {
                JOB_MS_MAX
            }
            Ask::Alter { name, .. } if *name != params::TIME_TRAVEL_RETENTION_MS => JOB_MS_MAX,
            // Includes the time to write a staged file.
            _ => COMMIT_MS_MAX,
        };
        if taken_ms > limit_ms {
            return Err(format!("{ask:?} took {taken_ms} ms"));
        }
        self.chaos.note(match told.error() {
            None => format!("    {ask:?}: done"),
            Some(error) => format!("    {ask:?}: {:?}: {error}", error.kind),
        });
        told.error().map_or(Ok(()), judge)?;
        Ok(told)
    }

    async fn do_ask(&self, node: &MetaNode, ask: &Ask) -> Told {
        match ask {
            Ask::Insert { files } => self.insert(node, *files).await,
            Ask::Delete { rows } => {
                let mut write = TableWrite::to(&relation(node));
                let version = &node.manager.state().version;
                let dead = |(sst, row): &(SstId, u32)| DeadRows {
                    sst_id: self.model.moved.now(version, *sst),
                    positions: Arc::new(RoaringBitmap::from_iter([*row])),
                };
                write.dead_rows = rows.iter().map(dead).collect();
                commit(node, write, vec![], rows.clone()).await
            }
            Ask::Compact { from } => self.compact(node, *from).await,
            Ask::CreateTable { name } => {
                let (name, made) = (name.clone(), true);
                let outcome = create_table(node, &name).await;
                Told::Catalog { name, made, outcome }
            }
            Ask::DropTable { name } => {
                let (name, made) = (name.clone(), false);
                let drop = CatalogCommand::DropRelation {
                    kind: RelationKind::Table,
                    schema: "public".to_owned(),
                    name: name.clone(),
                    if_exists: false,
                    cascade: false,
                };
                let outcome = node.manager.change_catalog(drop).await;
                Told::Catalog { name, made, outcome }
            }
            Ask::Backup { copy_data } => {
                let directory = Self::current_backup_directory(node);
                let before = Box::new(self.model.holds());
                let options = BackupOptions { remarks: None, copy_data: *copy_data };
                Told::Backup { directory, before, outcome: node.backup(options).await }
            }
            Ask::DeleteSnapshots { ids } => {
                let (directory, ids) = (Self::current_backup_directory(node), ids.clone());
                let outcome = node.delete_snapshots(&ids).await;
                Told::DeleteSnapshots { directory, ids, outcome }
            }
            Ask::Alter { name, value } => {
                let outcome = node.alter_system(name, Some(value)).await;
                Told::Alter { name, value: value.clone(), outcome }
            }
            Ask::Vacuum => {
                Told::Vacuum(node.vacuum(Some(0), false).await.map(|plan| plan.garbage.len()))
            }
            Ask::Verify => {
                let check = Check { level: Level::Objects, subset: Subset::ALL };
                let request = verify::Request { ids: None, check, restart: false };
                Told::Verify(node.verify_snapshots(&request, &|_| {}).await)
            }
            Ask::Flush => Told::Flush(node.manager.flush().await),
        }
    }

    /// Stages files as a statement does, and commits them.
    async fn insert(&self, node: &MetaNode, files: u32) -> Told {
        let staging = node.sst_ids.staging();
        let mut write = TableWrite::to(&relation(node));
        for _ in 0..files {
            match staged(node, &staging, write.table_id).await {
                Ok(sst) => write.born.push(sst),
                Err(told) => return told,
            }
        }
        let born = write.born.iter().map(|sst| sst.id).collect();
        let told = commit(node, write, born, vec![]).await;
        drop(staging);
        told
    }

    /// Does what a compaction of one file does, except for copying its rows, which are not read.
    async fn compact(&self, node: &MetaNode, from: SstId) -> Told {
        let (state, table_id) = (node.manager.state(), relation(node).id);
        let from = self.model.moved.now(&state.version, from);
        let Some(file) = state.version.open_file(table_id, from) else {
            return Told::Nothing(None);
        };
        let staging = node.sst_ids.staging();
        let born = match staged(node, &staging, table_id).await {
            Ok(sst) => sst,
            Err(told) => return told,
        };
        let (to, base_epoch) = (born.id, state.version.max_committed_epoch);
        let dead = file.stamps.dead_at(base_epoch);
        let dead_rows = dead.map(|positions| DeadRows { sst_id: to, positions });
        let born = vec![born];
        let compaction = Compaction {
            table_id,
            inputs: vec![from],
            dead_rows: dead_rows.into_iter().collect(),
            base_epoch,
            moved: Arc::new(each_row_moved(&file.sst, &born)),
            born,
        };
        let outcome = node.manager.compact(compaction).await;
        Told::Compact { from, to, outcome }
    }

    /// Updates the model with an outcome.
    pub fn learn_told(&mut self, told: Told) -> Result<(), String> {
        let model = &mut self.model;
        match told {
            Told::Write { mut fact, outcome } => {
                for sst in &fact.born {
                    if !model.used.insert(*sst) {
                        return Err(format!("file id {sst} is used twice"));
                    }
                }
                if outcome.is_ok() {
                    let rows = fact.born.iter().flat_map(|sst| (0..ROWS).map(|row| (*sst, row)));
                    model.untouched.extend(rows);
                }
                model.untouched.retain(|row| !fact.dead.contains(row));
                fact.happened = Happened::by(&outcome);
                model.facts.push(fact);
                return self.committed(outcome.ok());
            }
            Told::Compact { from, to, outcome } => {
                if !model.used.insert(to) {
                    return Err(format!("file id {to} is used twice"));
                }
                model.moved.note(from, to);
                let (what, happened) =
                    (format!("a compaction of {from} into {to}"), Happened::by(&outcome));
                model.facts.push(Fact { what, born: vec![to], dead: vec![], happened });
                return self.committed(outcome.ok());
            }
            Told::Catalog { name, made, outcome } => {
                let known = model.tables.entry(name).or_insert(Happened::No);
                match Happened::by(&outcome) {
                    Happened::Yes if made => *known = Happened::Yes,
                    Happened::Yes => *known = Happened::No,
                    Happened::Maybe => *known = Happened::Maybe,
                    Happened::No => {}
                }
                return self.committed(outcome.ok());
            }
            Told::Backup { directory, before, outcome } => {
                match Happened::by(&outcome) {
                    Happened::Maybe => {
                        *model.maybe_taken.entry(directory.clone()).or_default() += 1;
                    }
                    Happened::Yes | Happened::No => {}
                }
                if let Ok(entry) = outcome {
                    let taken = Snapshot { listed: Happened::Yes, holds: Some(*before) };
                    let id = entry.info.id;
                    if model.snapshots.insert((directory, id), taken).is_some() {
                        return Err(format!("snapshot id {id} is used twice"));
                    }
                }
            }
            Told::DeleteSnapshots { directory, ids, outcome } => {
                for id in ids {
                    let Some(known) = model.snapshots.get_mut(&(directory.clone(), id)) else {
                        continue;
                    };
                    match Happened::by(&outcome) {
                        Happened::Yes => known.listed = Happened::No,
                        Happened::Maybe if known.listed == Happened::Yes => {
                            known.listed = Happened::Maybe;
                        }
                        Happened::Maybe | Happened::No => {}
                    }
                }
            }
            Told::Alter { name, value, outcome } => {
                let values = model.params.entry(name).or_default();
                match Happened::by(&outcome) {
                    Happened::Yes => *values = vec![value],
                    Happened::Maybe => values.push(value),
                    Happened::No => {}
                }
                return self.committed(outcome.ok());
            }
            Told::Flush(outcome) => return self.committed(outcome.ok()),
            Told::Verify(Ok(verified)) => {
                let mut damaged = verified.iter();
                let damaged = damaged.find(|v| v.verification.result == Verdict::Damaged);
                if let Some(Verified { snapshot_id, verification }) = damaged {
                    return Err(format!("snapshot {snapshot_id} is said to be {verification}"));
                }
            }
            Told::Vacuum(_) | Told::Verify(Err(_)) | Told::Nothing(_) => {}
        }
        Ok(())
    }

    fn committed(&mut self, committed: Option<Committed>) -> Result<(), String> {
        let Some(Committed { epoch, .. }) = committed else { return Ok(()) };
        self.model.newest = self.model.newest.max(epoch);
        Ok(())
    }

    /// Sends a request to a server that must not do anything any more, and checks that it fails.
    pub async fn ask_old(&mut self, old: &Server, ask: &Ask) -> Result<(), String> {
        let (node, meta) = old;
        if !Arc::ptr_eq(meta, &self.meta) {
            // The server is alone with its meta store until it checks the lease, which it does once a second.
            self.chaos.set(false);
            if node.manager.standing().await.is_ok() {
                return Err("a server of an earlier life has the data directory".to_owned());
            }
            self.chaos.set(true);
        }
        let told = self.ask(node, ask).await?;
        let looks = matches!(told, Told::Nothing(None) | Told::Verify(_));
        if told.error().is_none() && !looks {
            return Err(format!("a server that was deposed did {ask:?}"));
        }
        self.learn_told(told)
    }

    /// Restores a listed snapshot into an empty store, which becomes the meta store.
    ///
    /// Returns whether it was restored.
    pub async fn restore(&mut self, directory: &str, id: SnapshotId) -> Result<bool, String> {
        let target = Shared::new(self.fenced);
        let client = FaultyMeta::lead(&target, &self.chaos);
        let request = restore::Request {
            snapshot_id: id,
            backup: StorageLocation::new(self.params.value(params::BACKUP_STORAGE_URL), directory),
            hummock: self.params.data_location(),
            validate_integrity: id.0.is_multiple_of(2),
            now_ms: self.clock.now_ms(),
            overwrite: Overwrite::default(),
            copy_data: false,
            dry_run: false,
        };
        let restored = async {
            let plan = restore::plan(request, &*client).await?;
            plan.check_target()?;
            restore::copy(&plan, &|_, _| {}).await?;
            restore::verify(&plan, &|_, _| {}).await?;
            restore::apply(&plan, &*client).await
        };
        let restored = tokio::time::timeout(HANGS, Box::pin(restored)).await;
        let restored = restored.map_err(|_| format!("a restore of {id} hangs"))?;
        if let Err(error) = restored {
            let text = chain(&error);
            self.chaos.note(format!("    restore of {id}: {text}"));
            judge_text(&text, true)?;
            return Ok(false);
        }
        self.chaos.set(false);
        let location = self.open_directory(directory)?;
        let manifest =
            tidemark_ledger::backup::Manifest::read(&location).await.map_err(|e| chain(&e))?;
        let entry = manifest.entry(id).ok_or("the restored snapshot is not listed")?;
        let Whole { state, .. } =
            verify::read_whole(&location, entry).await.map_err(|e| chain(&e))?;
        let Model { facts, moved, tables, untouched, params, .. } = &mut self.model;
        for fact in facts {
            fact.happened = Happened::found(fact.found_in(&state.version, moved)?);
        }
        for (name, there) in tables {
            *there = Happened::found(has_table(&state, name));
        }
        untouched.retain(|(sst, _)| state.version.has_file(moved.now(&state.version, *sst)));
        for (name, values) in params {
            *values = vec![state.params.value(name).to_owned()];
        }
        let before = std::mem::replace(&mut self.meta, target);
        self.before = self.node.take().map(|node| (node, before));
        self.chaos.note(format!("    snapshot {id} in {directory} is restored"));
        Ok(true)
    }
}

/// Where each row of a file goes if all are copied in order, dead ones included.
fn each_row_moved(from: &Arc<SstInfo>, born: &[Arc<SstInfo>]) -> compaction::Moved {
    let mut moved = compaction::Moved::new(std::iter::once(from));
    for position in 0..i64::from(ROWS) {
        moved.push(from.id, position).expect("the file has that row");
    }
    moved.close(born);
    moved
}

/// Stages a file. On failure, returns the outcome of the whole request.
async fn staged(
    node: &MetaNode,
    staging: &Staging,
    table_id: ObjectId,
) -> Result<Arc<SstInfo>, Told> {
    // An error of the id reservation is not judged here.
    let id = staging.next().await.map_err(|_| Told::Nothing(None))?;
    let content = format!("the rows of file {id}, which nobody reads as such");
    let path = layout::sst(DATA_DIR, id);
    let put = node.manager.state_store().put_new(&path, content.clone().into()).await;
    put.map_err(|error| Told::Nothing(Some(MetaError::storage(&error))))?;
    Ok(Arc::new(SstInfo {
        id,
        written_for: table_id,
        rows: u64::from(ROWS),
        size_bytes: content.len() as u64,
        row_group_rows: vec![ROWS],
        sha256: Checksum::of(content.as_bytes()),
        block_sums: None,
        columns: Arc::default(),
        keys: None,
        inline: None,
    }))
}

async fn commit(
    node: &MetaNode,
    table: TableWrite,
    born: Vec<SstId>,
    dead: Vec<(SstId, u32)>,
) -> Told {
    let what = match born.is_empty() {
        true => format!("a delete of {dead:?}"),
        false => format!("an insert of {born:?}"),
    };
    let base_epoch = node.manager.state().version.max_committed_epoch;
    let outcome = node.manager.write(Write { base_epoch, tables: vec![table] }, vec![]).await;
    Told::Write { fact: Fact { what, born, dead, happened: Happened::No }, outcome }
}
