//! A frontend below SQL: follows the metadata, stages files, commits them, and scans.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{
    ArrayRef, AsArray as _, Int32Array, Int64Array, RecordBatch, StringViewArray, new_null_array,
};
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::catalog::TableProvider as _;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::collect;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{Expr, SessionConfig, col, lit};
use futures::stream;
use roaring::RoaringBitmap;

use super::chaos::Chaos;
use super::files::{KEY, TAG, TEXT, rows_of};
use super::link::{Link, through};
use super::meta_store::Shared;
use super::model::{Effect, Model, Row, Told, rows_at};
use super::server::info;
use super::world::{DATA_DIR, JOURNAL};
use tidemark_engine::meta::MetaNode;
use tidemark_engine::meta::command::{DeadRows, Pins, Role, TableWrite, Write, WrittenKeys};
use tidemark_engine::scan::{FILE_COLUMN, KeyFilters, POSITION_COLUMN, SstTable, StatisticsCache};
use tidemark_engine::write;
use tidemark_ledger::ambient;
use tidemark_ledger::ambient::simulated::Process;
use tidemark_ledger::catalog::{PUBLIC, Relation, Table};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::{ObjectId, SstId, VersionId};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::sst::schema::table_schema;
use tidemark_ledger::sst::{SstInfo, Target};
use tidemark_ledger::sst_ids::{SstIdPool, Staging};
use tidemark_ledger::state::State;
use tidemark_ledger::storage::{BlockStore, Storage};

const STATE_STORE_URL: &str = "tidemark://simulated";
/// Upper bound of the keys of rows; it is low, so that writes meet.
const KEYS: u64 = 40;

/// What a write does to its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Any,
    /// Inserts rows, replacing those with the same keys.
    Insert,
    /// Updates or deletes rows.
    Kill,
}

/// Why a request failed, or what is wrong with its result.
#[derive(Debug)]
pub enum CheckError {
    /// A failure that is allowed.
    Fails(String),
    /// Something that must not happen.
    Wrong(String),
}

impl CheckError {
    fn fails(error: impl ToString) -> Self {
        Self::Fails(error.to_string())
    }

    /// The error to report, if any: an allowed failure is only logged.
    pub fn told(outcome: Result<(), Self>, chaos: &Chaos) -> Result<(), String> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Self::Fails(why)) => {
                chaos.note(&format!("fails: {why}"));
                Ok(())
            }
            Err(Self::Wrong(what)) => Err(what),
        }
    }
}

/// The metadata as a frontend knows it.
#[derive(Clone, Debug)]
struct Seen {
    node: Arc<MetaNode>,
    meta: Arc<Shared>,
    state: Arc<State>,
}

/// A row and its row position.
#[derive(Clone, Copy, Debug)]
struct Positioned {
    row: Row,
    sst: SstId,
    position: u32,
}

/// The client side of a worker, whatever its role.
#[derive(Debug)]
pub struct Follower {
    pub process: Arc<Process>,
    pub link: Arc<Link>,
    pub ids: Arc<SstIdPool>,
    role: Role,
    seen: Mutex<Option<Seen>>,
}

impl Follower {
    pub async fn start(
        process: &Arc<Process>,
        link: &Arc<Link>,
        role: Role,
    ) -> Result<Self, MetaError> {
        let reserving = Arc::clone(link);
        let ids = SstIdPool::start(move |count| {
            let link = Arc::clone(&reserving);
            Box::pin(async move {
                let ask =
                    |node: Arc<MetaNode>| async move { node.manager.reserve_ssts(count).await };
                link.call("reserve", ask).await
            })
        });
        let (process, link, ids) = (Arc::clone(process), Arc::clone(link), ids.await);
        let follower = Self { process, link, ids, role, seen: Mutex::default() };
        follower.sync().await?;
        Ok(follower)
    }

    pub fn name(&self) -> String {
        self.process.name.clone()
    }

    fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches what was committed meanwhile, or starts to follow another server.
    pub async fn sync(&self) -> Result<Arc<State>, MetaError> {
        let gone = || MetaError::new(ErrorKind::Storage, "cannot reach the meta role");
        let server = self.link.server().ok_or_else(gone)?;
        let known = self.seen().filter(|seen| Arc::ptr_eq(&seen.node, &server.node));
        let state = match known {
            Some(_) => server.node.manager.state(),
            None => {
                let name = self.name();
                let follow = move |node: Arc<MetaNode>| {
                    let name = name.clone();
                    async move { Ok(node.follow(&name).0) }
                };
                let state = self.link.call("follow", follow).await?;
                // Another meta role does not know the ids that the previous one handed out.
                self.ids.renew();
                state
            }
        };
        let seen = Seen { node: server.node, meta: server.meta, state: Arc::clone(&state) };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(state)
    }

    /// The metadata as it is known here, which may be outdated.
    pub fn state(&self) -> Option<Arc<State>> {
        self.seen().map(|seen| seen.state)
    }

    /// Reports what is in use.
    pub async fn report(&self, oldest: Option<VersionId>) -> Result<(), MetaError> {
        let state = self.sync().await?;
        let pins = Pins {
            worker: self.name(),
            info: info(self.role),
            version: oldest.unwrap_or(state.version.id).min(state.version.id),
            snapshots: vec![],
            unfinished: self.ids.unfinished(state.next.sst),
        };
        let report = |node: Arc<MetaNode>| {
            let pins = through(&pins);
            async move { node.report(pins).await }
        };
        if self.link.call("report", report).await? {
            self.ids.renew();
        }
        Ok(())
    }
}

/// A frontend that serves sessions.
pub struct Frontend {
    pub follower: Follower,
    chaos: Arc<Chaos>,
    storage: Storage,
    session: SessionState,
    url: ObjectStoreUrl,
    blocks: Arc<BlockStore>,
    statistics: Arc<StatisticsCache>,
    filters: Arc<KeyFilters>,
    model: Arc<Mutex<Model>>,
    /// The metadata that a long-running session reads.
    held: Mutex<Option<Seen>>,
}

impl std::fmt::Debug for Frontend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frontend")
    }
}

impl Frontend {
    pub async fn start(
        process: &Arc<Process>,
        link: &Arc<Link>,
        storage: &Storage,
        model: &Arc<Mutex<Model>>,
    ) -> Result<Self, MetaError> {
        let follower = Follower::start(process, link, Role::Frontend).await?;
        let url = ObjectStoreUrl::parse(STATE_STORE_URL).expect("it is one");
        let runtime = RuntimeEnvBuilder::new().build().expect("a runtime can be made");
        runtime.register_object_store(url.as_ref(), storage.object_store());
        let config = SessionConfig::new().with_target_partitions(1).with_collect_statistics(false);
        let builder = SessionStateBuilder::new().with_config(config);
        Ok(Self {
            follower,
            chaos: Arc::clone(&link.chaos),
            storage: storage.clone(),
            session: builder.with_runtime_env(Arc::new(runtime)).build(),
            url,
            blocks: Arc::new(BlockStore::without_cache(storage.object_store())),
            statistics: Arc::default(),
            filters: Arc::new(KeyFilters::new(1 << 20)),
            model: Arc::clone(model),
            held: Mutex::default(),
        })
    }

    pub async fn report(&self) -> Result<(), MetaError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.follower.report(held.map(|seen| seen.state.version.id)).await
    }

    /// Begins the reads of a long-running session, or ends them.
    pub fn hold(&self) {
        let seen = self.follower.seen();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = if held.is_some() { None } else { seen };
    }

    async fn see(&self) -> Result<Seen, CheckError> {
        if self.follower.seen().is_none() || !self.chaos.one_in(4) {
            self.follower.sync().await.map_err(CheckError::fails)?;
        }
        self.follower.seen().ok_or_else(|| CheckError::fails("nothing is known yet"))
    }

    /// Reads a table, now or in the past, and compares it with the model.
    pub async fn read(&self) -> Result<(), CheckError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seen = match held {
            Some(held) if self.chaos.one_in(2) => held,
            _ => self.see().await?,
        };
        let version = &seen.state.version;
        let (oldest, newest) = (version.safe_epoch, version.max_committed_epoch);
        let epochs: Vec<Epoch> = seen.meta.commits().iter().map(|commit| commit.epoch).collect();
        let past = self.chaos.pick(&epochs).filter(|epoch| (oldest..=newest).contains(epoch));
        let epoch = past.filter(|_| self.chaos.one_in(2)).unwrap_or(newest);
        let Some(relation) = self.some_table(&seen, epoch, true) else { return Ok(()) };
        let keys = self.chaos.one_in(3).then(|| self.some_keys(4));
        self.rows(&seen, &relation, epoch, keys.as_ref()).await?;
        self.chaos.count("done: reads compared");
        Ok(())
    }

    fn some_table(&self, seen: &Seen, epoch: Epoch, journal: bool) -> Option<Arc<Relation>> {
        let catalog = seen.state.catalog.at(epoch);
        let tables = catalog.relations().filter(|r| journal || r.name != JOURNAL);
        self.chaos.pick(&tables.cloned().collect::<Vec<_>>())
    }

    fn some_keys(&self, most: u64) -> BTreeSet<i32> {
        let count = 1 + self.chaos.below(most);
        let keys = (0..count).map(|_| i32::try_from(self.chaos.below(KEYS)).expect("small"));
        keys.collect()
    }

    /// The rows of a table, or those with some keys, checked against the model.
    async fn rows(
        &self,
        seen: &Seen,
        relation: &Relation,
        epoch: Epoch,
        keys: Option<&BTreeSet<i32>>,
    ) -> Result<Vec<Positioned>, CheckError> {
        let found = self.scan(&seen.state, relation, epoch, keys).await?;
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let history = model.history(relation.id, &seen.meta.commits());
        let is_wanted = |row: &&Row| keys.is_none_or(|keys| keys.contains(&row.key));
        let must: Vec<Row> = rows_at(&history, epoch).iter().filter(is_wanted).copied().collect();
        let mut are: Vec<Row> = found.iter().map(|positioned| positioned.row).collect();
        are.sort_unstable();
        if are != must {
            let name = &relation.name;
            let what = format!("a read of {name} at {epoch} gives {are:?}, and not {must:?}");
            return Err(CheckError::Wrong(what));
        }
        Ok(found)
    }

    async fn scan(
        &self,
        state: &State,
        relation: &Relation,
        epoch: Epoch,
        keys: Option<&BTreeSet<i32>>,
    ) -> Result<Vec<Positioned>, CheckError> {
        let table = Arc::new(relation.as_table().expect("there are no views").clone());
        let files = state.version.files_at(relation.id, epoch);
        let statistics = Arc::clone(&self.statistics);
        let provider =
            SstTable::new(table, files, self.url.clone(), &self.blocks, DATA_DIR, statistics);
        let provider = provider.with_key_filters(&self.filters).with_row_positions();
        let of_keys = |keys: &BTreeSet<i32>| -> Expr {
            col(KEY).in_list(keys.iter().map(|key| lit(*key)).collect(), false)
        };
        let filters: Vec<Expr> = keys.map(of_keys).into_iter().collect();
        let session = self.session.clone();
        // A panic counts as an error of the statement.
        let scanned = ambient::spawn(async move {
            let plan = provider.scan(&session, None, &filters, None).await?;
            collect(plan, session.task_ctx()).await
        });
        let scanned = scanned.await.map_err(CheckError::fails)?;
        let mut found = vec![];
        for batch in scanned.map_err(CheckError::fails)? {
            found.extend(positioned(&batch).map_err(CheckError::Wrong)?);
        }
        found.retain(|positioned| keys.is_none_or(|keys| keys.contains(&positioned.row.key)));
        Ok(found)
    }

    /// Changes rows of one table or two, in one commit.
    pub async fn write(&self, change: Change) -> Result<(), CheckError> {
        let seen = self.see().await?;
        let base_epoch = seen.state.version.max_committed_epoch;
        let staging = self.follower.ids.staging();
        let mut tables: BTreeMap<ObjectId, (TableWrite, Effect)> = BTreeMap::new();
        for _ in 0..=self.chaos.below(2) {
            let Some(relation) = self.some_table(&seen, base_epoch, false) else { break };
            if let Entry::Vacant(entry) = tables.entry(relation.id) {
                entry.insert(Box::pin(self.change(change, &seen, &relation, &staging)).await?);
            }
        }
        let (journal, effect) = self.journal(&seen, &staging).await?;
        let marker = journal.born[0].id;
        let mut effects = vec![effect];
        let mut write = Write { base_epoch, tables: vec![journal] };
        for (table, effect) in tables.into_values() {
            write.tables.push(table);
            effects.push(effect);
        }
        self.commit(marker, effects, write).await?;
        drop(staging);
        Ok(())
    }

    async fn commit(
        &self,
        marker: SstId,
        effects: Vec<Effect>,
        write: Write,
    ) -> Result<(), CheckError> {
        self.lock_model().meant.insert(marker, effects);
        let name = self.follower.name();
        let ask = |node: Arc<MetaNode>| {
            let (name, write) = (name.clone(), through(&write));
            async move { node.write(&name, write, vec![]).await }
        };
        let outcome = self.follower.link.call("write", ask).await;
        let told = match &outcome {
            Ok(committed) => Told::Committed(committed.epoch),
            Err(error) if error.kind == ErrorKind::Unknown => Told::Unknown,
            Err(error) if error.kind == ErrorKind::Internal => {
                return Err(CheckError::Wrong(format!("an error of our own: {error}")));
            }
            Err(_) => Told::Refused,
        };
        self.chaos.event(&format!("write {marker} {told:?}"));
        self.chaos.count(match told {
            Told::Committed(_) => "done: writes",
            Told::Refused => "refused: writes",
            Told::Unknown => "not known: writes",
        });
        self.lock_model().told.push((marker, told));
        outcome.map(|_| ()).map_err(CheckError::fails)
    }

    fn lock_model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A row of the journal, whose file identifies the write.
    async fn journal(
        &self,
        seen: &Seen,
        staging: &Staging,
    ) -> Result<(TableWrite, Effect), CheckError> {
        let catalog = seen.state.catalog.at(seen.state.version.max_committed_epoch);
        let relation = catalog.relation(PUBLIC, JOURNAL);
        let relation = relation.ok_or_else(|| CheckError::fails("there is no journal yet"))?;
        let row = Row { key: 0, tag: self.lock_model().next_tag() };
        let mut write = TableWrite::to(relation);
        write.born = self.stage(relation, staging, &[row], true).await?;
        let effect = effect_of(&write, vec![row], vec![]);
        Ok((write, effect))
    }

    async fn change(
        &self,
        change: Change,
        seen: &Seen,
        relation: &Relation,
        staging: &Staging,
    ) -> Result<(TableWrite, Effect), CheckError> {
        let epoch = seen.state.version.max_committed_epoch;
        let keyed = relation.as_table().is_some_and(|table| !table.primary_key.is_empty());
        let kind = match change {
            Change::Any => self.chaos.below(12),
            Change::Insert => self.chaos.below(6),
            Change::Kill => 6 + self.chaos.below(5),
        };
        let (mut added, mut dead) = (vec![], vec![]);
        match kind {
            0..=5 => {
                let keys = self.some_keys(12);
                if keyed {
                    dead = self.rows(seen, relation, epoch, Some(&keys)).await?;
                }
                added = self.new_rows(keys);
            }
            6..=8 => {
                dead = self.some_rows(seen, relation, epoch).await?;
                added = self.new_rows(dead.iter().map(|positioned| positioned.row.key));
            }
            9 | 10 => dead = self.some_rows(seen, relation, epoch).await?,
            _ => {}
        }
        let mut write = TableWrite::to(relation);
        write.truncate = kind == 11;
        write.dead_rows = dead_rows(&dead);
        if !added.is_empty() {
            let inline = self.chaos.one_in(3);
            write.born = self.stage(relation, staging, &added, inline).await?;
        }
        if keyed && !added.is_empty() {
            let hashes = added.iter().map(|row| u64::from(row.key.unsigned_abs())).collect();
            write.keys = WrittenKeys::of(hashes);
        }
        if !keyed && write.born.len() == 1 && added.len() > 1 && self.chaos.one_in(4) {
            take_back(&mut write, &mut added);
        }
        let removed = dead.iter().map(|positioned| positioned.row).collect();
        let effect = effect_of(&write, added, removed);
        Ok((write, effect))
    }

    fn new_rows(&self, keys: impl IntoIterator<Item = i32>) -> Vec<Row> {
        let mut model = self.lock_model();
        keys.into_iter().map(|key| Row { key, tag: model.next_tag() }).collect()
    }

    async fn some_rows(
        &self,
        seen: &Seen,
        relation: &Relation,
        epoch: Epoch,
    ) -> Result<Vec<Positioned>, CheckError> {
        let share = 1 + self.chaos.below(4);
        let mut rows = self.rows(seen, relation, epoch, None).await?;
        rows.retain(|_| self.chaos.one_in(share));
        Ok(rows)
    }

    async fn stage(
        &self,
        relation: &Relation,
        staging: &Staging,
        rows: &[Row],
        inline: bool,
    ) -> Result<Vec<Arc<SstInfo>>, CheckError> {
        let table = Arc::new(relation.as_table().expect("there are no views").clone());
        let target = Target {
            storage: &self.storage,
            data_directory: DATA_DIR,
            ids: staging,
            sst_bytes_target: 32 << 20,
            inline,
        };
        let rows = stream_of(&table, rows);
        let context = self.session.task_ctx();
        let written = write::write_rows(&target, relation.id, &table, rows, &context).await;
        Ok(written.map_err(CheckError::fails)?.files)
    }
}

/// Makes the last row that is born die in the same write.
fn take_back(write: &mut TableWrite, added: &mut Vec<Row>) {
    let last = u32::try_from(added.len() - 1).expect("few");
    added.pop();
    let positions = Arc::new(RoaringBitmap::from_iter([last]));
    write.dead_rows.push(DeadRows { sst_id: write.born[0].id, positions });
}

fn effect_of(write: &TableWrite, added: Vec<Row>, removed: Vec<Row>) -> Effect {
    let born = write.born.iter().map(|sst| sst.id).collect();
    Effect { table: write.table_id, born, added, removed, truncates: write.truncate }
}

/// Rows in the schema of a table whose columns after the first three are null.
fn stream_of(table: &Table, rows: &[Row]) -> SendableRecordBatchStream {
    let schema = table_schema(table);
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            KEY => Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.key))),
            TAG => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.tag))),
            TEXT => Arc::new(StringViewArray::from_iter_values(rows.iter().map(|r| r.text()))),
            _ => new_null_array(field.data_type(), rows.len()),
        }
    });
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect());
    let batch = batch.expect("the columns are those of the table");
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter([Ok(batch)])))
}

fn positioned(batch: &RecordBatch) -> Result<Vec<Positioned>, String> {
    let schema = batch.schema();
    let index = |name: &str| schema.index_of(name).ok();
    let rows = rows_of(batch, index)?;
    let column = |name: &str| batch.column_by_name(name).expect("the scan gives row positions");
    let files = column(FILE_COLUMN).as_primitive::<UInt64Type>().values().iter();
    let positions = column(POSITION_COLUMN).as_primitive::<Int64Type>().values().iter();
    let positioned = rows.into_iter().zip(files.zip(positions)).map(|(row, (sst, position))| {
        let position = u32::try_from(*position).expect("files are small");
        Positioned { row, sst: SstId(*sst), position }
    });
    Ok(positioned.collect())
}

fn dead_rows(dead: &[Positioned]) -> Vec<DeadRows> {
    let mut by_file: BTreeMap<SstId, RoaringBitmap> = BTreeMap::new();
    for positioned in dead {
        by_file.entry(positioned.sst).or_default().insert(positioned.position);
    }
    let rows = by_file.into_iter();
    rows.map(|(sst_id, positions)| DeadRows { sst_id, positions: Arc::new(positions) }).collect()
}
