//! Compaction: which worker compacts which table, and the commit that carries over rows that died meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::MetaNode;
use super::command::{Committed, Compaction, DeadRows};
use super::manager::Manager;
use crate::compaction::{self, Compacted, Executor, Inputs, Limits, Moved, Reason, Task};
use tidemark_ledger::catalog::Relation;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::{ObjectId, SstId};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::sst::Target;
use tidemark_ledger::sst_ids::Staging;
use tidemark_ledger::state::State;
use tidemark_ledger::storage::Storage;
use tidemark_ledger::{metrics, params};

/// Pause before looking for work again.
pub const COMPACTION_PAUSE: Duration = Duration::from_secs(1);
/// Attempts to commit while deletes land meanwhile. Each attempt only looks up row positions again.
const COMMITS_MAX: usize = 1000;
/// Maximum rounds on a table that others compact at the same time.
const ROUNDS_MAX: usize = 4;
/// The name under which the meta role itself claims tables.
const THIS_SERVER: &str = "";

/// Totals of the compactions that were run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionReport {
    pub tasks: u64,
    pub files_in: u64,
    pub files_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// The newest state, as a compaction sees it: that of this process, or a replica.
pub trait Versions: Sync {
    fn state(&self) -> Arc<State>;

    /// Replaces the old files with the new ones. After [`ErrorKind::Conflict`] it may be retried on the
    /// newest `state`.
    fn commit(
        &self,
        compaction: Compaction,
    ) -> impl Future<Output = Result<Committed, MetaError>> + Send;
}

impl Versions for Manager {
    fn state(&self) -> Arc<State> {
        Manager::state(self)
    }

    async fn commit(&self, compaction: Compaction) -> Result<Committed, MetaError> {
        self.compact(compaction).await
    }
}

/// Runs one task. Returns `None` if it could not be committed, because the table or an input is gone.
pub async fn run_task(
    versions: &impl Versions,
    executor: &Executor,
    storage: &Storage,
    ids: &Staging,
    task: &Task,
) -> Result<Option<CompactionReport>, MetaError> {
    // Everything is read from this one state, taken now: the task may have waited, and rows die meanwhile.
    let state = versions.state();
    let catalog = state.catalog.at(Epoch::LAST);
    let Some(table) = catalog.relation_by_id(task.table_id).and_then(|r| r.as_table()) else {
        return Ok(None);
    };
    let Some(inputs) = Inputs::of(task, &state.version) else { return Ok(None) };
    let target = Target {
        storage,
        data_directory: state.params.value(params::DATA_DIRECTORY),
        ids,
        sst_bytes_target: state.params.sst_bytes_target(),
        inline: task.reason == Reason::Manual,
    };
    let ran = executor.run(&inputs, &Arc::new(table.clone()), &target).await;
    let compacted = ran.map_err(|e| MetaError::storage(&e)).inspect_err(|_| {
        metrics::COMPACTIONS.with_label_values(&[metrics::FAILED]).inc();
    })?;
    if !commit(versions, &inputs, &compacted).await? {
        metrics::COMPACTIONS.with_label_values(&["lost"]).inc();
        return Ok(None);
    }
    info!(
        table = %task.table_id, reason = %task.reason, inputs = inputs.files.len(),
        outputs = compacted.born.len(), "compaction"
    );
    let report = CompactionReport {
        tasks: 1,
        files_in: inputs.files.len() as u64,
        files_out: compacted.born.len() as u64,
        bytes_in: inputs.files.iter().map(|file| file.sst.size_bytes).sum(),
        bytes_out: compacted.born.iter().map(|sst| sst.size_bytes).sum(),
    };
    metrics::COMPACTIONS.with_label_values(&[metrics::OK]).inc();
    metrics::COMPACTED_BYTES.with_label_values(&["read"]).inc_by(report.bytes_in);
    metrics::COMPACTED_BYTES.with_label_values(&["written"]).inc_by(report.bytes_out);
    Ok(Some(report))
}

/// Commits. Rows that died in the inputs meanwhile die in the outputs too. Returns whether it was
/// committed: it cannot be when an input is gone.
async fn commit(
    versions: &impl Versions,
    inputs: &Inputs,
    compacted: &Compacted,
) -> Result<bool, MetaError> {
    for _ in 0..COMMITS_MAX {
        let state = versions.state();
        let Some(dead_rows) = carried(inputs, &state, &compacted.moved) else {
            return Ok(false);
        };
        let compaction = Compaction {
            table_id: inputs.table_id,
            inputs: inputs.files.iter().map(|file| file.sst.id).collect(),
            born: compacted.born.clone(),
            dead_rows,
            base_epoch: state.version.max_committed_epoch,
            moved: Arc::clone(&compacted.moved),
        };
        match versions.commit(compaction).await {
            Ok(_) => return Ok(true),
            Err(error) if error.kind == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Runs a compaction in a separate task: a panic there must not end the compaction of all tables. Logs
/// errors; returns whether it was committed.
pub async fn run_apart(
    table: ObjectId,
    work: impl Future<Output = Result<bool, MetaError>> + Send + 'static,
) -> bool {
    match tidemark_ledger::ambient::spawn(work).await {
        Ok(Ok(committed)) => return committed,
        Ok(Err(error)) => warn!(%table, %error, "could not compact"),
        Err(error) => warn!(%table, %error, "a compaction failed"),
    }
    false
}

impl CompactionReport {
    pub fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.files_in += other.files_in;
        self.files_out += other.files_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

impl MetaNode {
    /// Compacts tables as they change. Never returns.
    pub async fn compact_forever(self: Arc<Self>) {
        loop {
            while let Some(task) = self.claim(THIS_SERVER) {
                let (node, table) = (Arc::clone(&self), task.table_id);
                let work = async move { Ok(node.compact(&task).await?.is_some()) };
                let committed = run_apart(table, work).await;
                self.release(THIS_SERVER, table, committed);
            }
            tokio::time::sleep(COMPACTION_PAUSE).await;
        }
    }

    /// The next table to compact, claimed for a worker that asks for work. The claim lasts until the
    /// table is released, the worker is given up, or it asks again: a worker has one table at a time,
    /// and may not have received the reply that named the last one.
    pub fn claim(&self, worker: &str) -> Option<Task> {
        let now_ms = self.manager.clock().monotonic_ms();
        let mut tables = self.claims.tables();
        // Taken before the state, which then includes these changes.
        tables.changed.extend(self.manager.take_changed());
        let state = self.manager.state();
        let limits = self.limits(&state);
        let lives = |by: &str| by == THIS_SERVER || self.workers.lives(by, now_ms);
        tables.claimed.retain(|_, by| by != worker && lives(by));
        let candidates: Vec<ObjectId> =
            tables.changed.iter().filter(|t| !tables.claimed.contains_key(t)).copied().collect();
        for table in candidates {
            if let Some(task) = compaction::pick(&state.version, table, &limits) {
                tables.claimed.insert(table, worker.to_owned());
                return Some(task);
            }
            tables.changed.remove(&table);
        }
        None
    }

    /// Releases a table. One whose compaction failed is not picked again before it changes.
    pub fn release(&self, worker: &str, table: ObjectId, compacted: bool) {
        let mut tables = self.claims.tables();
        if tables.claimed.get(&table).is_some_and(|by| by == worker) {
            tables.claimed.remove(&table);
            if !compacted {
                tables.changed.remove(&table);
            }
        }
    }

    /// Compacts tables as far as possible: one, by schema and name, or all.
    pub async fn compact_all(
        &self,
        table: Option<(&str, &str)>,
    ) -> Result<CompactionReport, MetaError> {
        let state = self.manager.state();
        let catalog = state.catalog.at(Epoch::LAST);
        let tables: Vec<Arc<Relation>> = match table {
            None => catalog.relations().filter(|r| r.as_table().is_some()).cloned().collect(),
            Some((schema, name)) => {
                let found = catalog.relation(schema, name).filter(|r| r.as_table().is_some());
                let found = found.ok_or_else(|| {
                    let message = format!("table \"{schema}.{name}\" does not exist");
                    MetaError::new(ErrorKind::UndefinedRelation, message)
                })?;
                vec![Arc::clone(found)]
            }
        };
        let mut report = CompactionReport::default();
        for table in tables {
            for _ in 0..ROUNDS_MAX {
                if !self.compact_once(table.id, &mut report).await? {
                    break;
                }
            }
        }
        Ok(report)
    }

    /// Runs all tasks of one table. Returns whether another compaction took the inputs of a task first,
    /// so that there may be more to do.
    async fn compact_once(
        &self,
        table: ObjectId,
        report: &mut CompactionReport,
    ) -> Result<bool, MetaError> {
        let state = self.manager.state();
        let mut overtaken = false;
        for task in compaction::pick_all(&state.version, table, &self.limits(&state)) {
            match self.compact(&task).await? {
                Some(done) => report.add(&done),
                None => overtaken = true,
            }
        }
        Ok(overtaken)
    }

    async fn compact(&self, task: &Task) -> Result<Option<CompactionReport>, MetaError> {
        let _turn = self.compacting.lock().await;
        let ids = self.sst_ids.staging();
        run_task(&self.manager, &self.executor, self.manager.state_store(), &ids, task).await
    }

    fn limits(&self, state: &State) -> Limits {
        Limits {
            sst_bytes_target: state.params.sst_bytes_target(),
            rows_max: self.settings.compaction_rows_max,
            files_max: 1024,
        }
    }
}

/// The output positions of rows that died in the inputs after these were read. `None` if an input is gone.
fn carried(inputs: &Inputs, state: &State, moved: &Moved) -> Option<Vec<DeadRows>> {
    let mut dead_rows = vec![];
    for input in &inputs.files {
        let file = state.version.open_file(inputs.table_id, input.sst.id)?;
        let died = file.stamps.died_since(inputs.base);
        for (sst_id, positions) in moved.output_positions(input.sst.id, &died) {
            dead_rows.push(DeadRows { sst_id, positions: Arc::new(positions) });
        }
    }
    Some(joined(dead_rows))
}

/// Merges the entries of each file into one.
fn joined(dead_rows: Vec<DeadRows>) -> Vec<DeadRows> {
    let mut by_file: HashMap<SstId, roaring::RoaringBitmap> = HashMap::new();
    for dead in dead_rows {
        *by_file.entry(dead.sst_id).or_default() |= &*dead.positions;
    }
    let rows = by_file.into_iter();
    rows.map(|(sst_id, positions)| DeadRows { sst_id, positions: Arc::new(positions) }).collect()
}
