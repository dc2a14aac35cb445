//! The real engine on memory stores, driven by the steps of a program.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::catalog::TableProvider as _;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use roaring::RoaringBitmap;
use tidemark::backup::restore::{self, Request};
use tidemark::backup::{OpenLocation, SnapshotReader};
use tidemark::catalog::{ColumnType, Relation, backfill};
use tidemark::epoch::{Clock, Epoch, ManualClock};
use tidemark::hummock::SstIdPool;
use tidemark::hummock::scan::{SstTable, StatisticsCache};
use tidemark::hummock::sst::SstInfo;
use tidemark::hummock::sst::schema::table_schema;
use tidemark::hummock::write::{Target, write_rows};
use tidemark::id::{SnapshotId, SstId};
use tidemark::layout;
use tidemark::meta::MetaNode;
use tidemark::meta::command::{
    AlterStep, CatalogCommand, CreateTable, DeadRows, NewColumn, Pins, RelationKind, TableWrite,
    Write, WrittenKeys,
};
use tidemark::meta::error::{ErrorKind, MetaError};
use tidemark::meta::maintenance::MaintenanceSettings;
use tidemark::meta::manager::{self, NewCluster};
use tidemark::meta::state::State;
use tidemark::meta::store::MemoryStore;
use tidemark::params::{self, Params};
use tidemark::storage::{Storage, StorageLocation};

use super::Step;
use super::world::{self, History, Row, Table, World};

const DIRECTORY: &str = "data";
const BACKUP: &str = "backup";
/// After the time of the machine, by which the stores date objects: vacuum finds them old.
const START_MS: u64 = 4_100_000_000_000;
const STORE: &str = "model://state";
const WORKER: &str = "model";

pub struct Engine {
    store: Arc<MemoryStore>,
    storage: Storage,
    clock: Arc<ManualClock>,
    node: Arc<MetaNode>,
    ids: Arc<SstIdPool>,
    context: SessionContext,
    /// A session that reads on, and what it saw.
    held: Option<(Arc<State>, Epoch, World)>,
}

/// A row with its place.
type Placed = (SstId, u32, Row);

impl Engine {
    pub async fn start() -> Self {
        let (store, storage) = (Arc::new(MemoryStore::default()), Storage::in_memory());
        let clock = ManualClock::at_ms(START_MS);
        let (node, ids) = open(&store, &storage, &clock).await;
        let config = SessionConfig::new().with_target_partitions(1).with_collect_statistics(true);
        let context = SessionContext::new_with_config(config);
        let url = ObjectStoreUrl::parse(STORE).unwrap();
        context.register_object_store(url.as_ref(), storage.object_store());
        let engine = Self { store, storage, clock, node, ids, context, held: None };
        engine.report().await;
        engine
    }

    fn state(&self) -> Arc<State> {
        self.node.manager.state()
    }

    /// The oldest epoch that can be asked for.
    pub fn first_epoch(&self) -> Epoch {
        self.state().version.safe_epoch
    }

    fn epoch(&self) -> Epoch {
        self.state().version.max_committed_epoch
    }

    /// As a frontend does about once a second.
    async fn report(&self) {
        let state = self.state();
        let version = self.held.as_ref().map_or(state.version.id, |(held, _, _)| held.version.id);
        let unfinished = self.ids.unfinished(state.next.sst);
        let worker = WORKER.to_owned();
        let pins = Pins { worker, version, snapshots: vec![], unfinished };
        self.node.report(pins).await.unwrap();
    }

    pub async fn step(&mut self, step: &Step, history: &mut History) {
        self.clock.advance_ms(10);
        match step {
            Step::CreateTable { keyed } => self.create_table(*keyed, history).await,
            Step::DropTable(table) => {
                let Some(name) = history.table(*table) else { return };
                self.drop_table(name, history).await;
            }
            Step::AddColumn { table, backfill } => {
                self.add_column(*table, backfill.map(i64::from), history).await;
            }
            Step::DropColumn { table, column } => {
                self.drop_column(*table, *column, history).await;
            }
            Step::RenameColumn { table, column } => {
                self.rename_column(*table, *column, history).await;
            }
            Step::RenameTable(table) => self.rename_table(*table, history).await,
            Step::Insert { table, from, count, object } => {
                self.insert(*table, i64::from(*from), *count, *object, history).await;
            }
            Step::Delete { table, by, rest } => self.delete(*table, *by, *rest, history).await,
            Step::Update { table, by, rest, to } => {
                self.update(*table, *by, *rest, i64::from(*to), history).await;
            }
            Step::Truncate(table) => {
                let Some(name) = history.table(*table) else { return };
                let mut write = self.table_write(&name);
                write.truncate = true;
                let epoch = self.write(write).await.unwrap();
                history.change(epoch, |w| w.get_mut(&name).unwrap().rows.clear());
            }
            Step::Collide { table } => self.collide(*table, history).await,
            Step::DeleteWhileCompacting { table, by, rest, turns } => {
                self.delete_while_compacting(*table, *by, *rest, *turns, history).await;
            }
            Step::Compact => drop(self.node.compact_all(None).await.unwrap()),
            Step::Vacuum { any_age } => {
                // What the first one forgets, a reader of the version before may still need.
                for _ in 0..2 {
                    self.report().await;
                    drop(self.node.vacuum(any_age.then_some(0), false).await.unwrap());
                }
            }
            Step::Backup => {
                let entry = self.node.backup(None).await.unwrap();
                history.remember(entry.info.id);
            }
            Step::DeleteSnapshot(place) => {
                let Some(id) = snapshot(history, *place) else { return };
                self.node.delete_snapshots(&[id]).await.unwrap();
                history.snapshots.remove(&id);
            }
            Step::Retention { none } => {
                let value = if *none { "0" } else { "600000" };
                let name = params::TIME_TRAVEL_RETENTION_MS;
                self.node.alter_system(name, Some(value)).await.unwrap();
            }
            Step::Advance { seconds } => self.clock.advance_ms(u64::from(*seconds) * 1000),
            Step::ClockBack { seconds } => {
                self.clock.set_ms(self.clock.now_ms() - u64::from(*seconds) * 1000);
            }
            Step::Hold => {
                let (state, epoch) = (self.state(), self.epoch());
                self.held = Some((state, epoch, history.at(epoch).clone()));
            }
            Step::Release => self.held = None,
            Step::Restart => self.restart().await,
            Step::Restore(place) => {
                let Some(id) = snapshot(history, *place) else { return };
                self.restore(id).await;
                history.go_back(id);
            }
        }
    }

    async fn restart(&mut self) {
        self.held = None;
        (self.node, self.ids) = open(&self.store, &self.storage, &self.clock).await;
        self.report().await;
    }

    async fn restore(&mut self, id: SnapshotId) {
        let url = self.storage.url().to_string();
        let request = Request {
            snapshot_id: id,
            backup: StorageLocation::new(url.clone(), BACKUP),
            hummock: StorageLocation::new(url, DIRECTORY),
            validate_integrity: true,
            now_ms: self.clock.now_ms(),
        };
        let target = Arc::new(MemoryStore::default());
        let plan = restore::plan(request, &*target).await.unwrap();
        restore::verify(&plan, &|_, _| {}).await.unwrap();
        restore::apply(&plan, &*target).await.unwrap();
        self.store = target;
        self.restart().await;
    }

    async fn change(&self, command: CatalogCommand) -> Epoch {
        self.node.manager.change_catalog(command).await.unwrap().epoch
    }

    async fn create_table(&self, keyed: bool, history: &mut History) {
        let name = history.fresh_name("t");
        let columns = vec![new_column("k", None), new_column("v", None)];
        let epoch = self
            .change(CatalogCommand::CreateTable(CreateTable {
                schema: "public".to_owned(),
                name: name.clone(),
                columns,
                primary_key: if keyed { vec!["k".to_owned()] } else { vec![] },
                if_not_exists: false,
                id: None,
                rows: vec![],
            }))
            .await;
        let columns = vec!["k".to_owned(), "v".to_owned()];
        history.change(epoch, |w| drop(w.insert(name, Table { keyed, columns, rows: vec![] })));
    }

    async fn drop_table(&self, name: String, history: &mut History) {
        let command = CatalogCommand::DropRelation {
            kind: RelationKind::Table,
            schema: "public".to_owned(),
            name: name.clone(),
            if_exists: false,
            cascade: false,
        };
        let epoch = self.change(command).await;
        history.change(epoch, |world| drop(world.remove(&name)));
    }

    async fn alter(&self, table: &str, step: AlterStep) -> Epoch {
        let (schema, name) = ("public".to_owned(), table.to_owned());
        self.change(CatalogCommand::AlterTable { schema, name, if_exists: false, step }).await
    }

    async fn add_column(&self, table: u8, value: Option<i64>, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let column = history.fresh_name("c");
        let backfilled = value.map(|value| {
            let value: ArrayRef = Arc::new(Int64Array::from(vec![value]));
            backfill::encode(&value).unwrap()
        });
        let step =
            AlterStep::AddColumn { column: new_column(&column, backfilled), if_not_exists: false };
        let epoch = self.alter(&name, step).await;
        history.change(epoch, |world| {
            let table = world.get_mut(&name).unwrap();
            table.columns.push(column);
            table.rows.iter_mut().for_each(|row| row.push(value));
        });
    }

    async fn drop_column(&self, table: u8, column: u8, history: &mut History) {
        let Some((name, at, column)) = column_of(history, table, column) else { return };
        let step = AlterStep::DropColumn { name: column, if_exists: false };
        let epoch = self.alter(&name, step).await;
        history.change(epoch, |world| {
            let table = world.get_mut(&name).unwrap();
            table.columns.remove(at);
            for row in &mut table.rows {
                row.remove(at);
            }
        });
    }

    async fn rename_column(&self, table: u8, column: u8, history: &mut History) {
        let Some((name, at, from)) = column_of(history, table, column) else { return };
        // A name that another column had before, now and then.
        let to = if at == 2 { "again".to_owned() } else { history.fresh_name("c") };
        if history.now()[&name].columns.contains(&to) {
            return;
        }
        let epoch = self.alter(&name, AlterStep::RenameColumn { from, to: to.clone() }).await;
        history.change(epoch, |world| world.get_mut(&name).unwrap().columns[at] = to);
    }

    async fn rename_table(&self, table: u8, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let to = history.fresh_name("t");
        let epoch = self.alter(&name, AlterStep::RenameTo { name: to.clone() }).await;
        history.change(epoch, |world| {
            let table = world.remove(&name).unwrap();
            world.insert(to, table);
        });
    }

    async fn insert(&self, table: u8, from: i64, count: u8, object: bool, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let width = history.now()[&name].columns.len();
        let rows = (from..from + i64::from(count)).map(|key| {
            let rest = (1..width).map(|place| (key % 3 != 0).then(|| key * 10 + place as i64));
            std::iter::once(Some(key)).chain(rest).collect::<Row>()
        });
        let rows: Vec<Row> = rows.collect();
        let mut write = self.table_write(&name);
        write.born = self.stage(&name, &rows, !object).await;
        if history.now()[&name].keyed {
            let keys: HashSet<_> = rows.iter().map(|row| row[0]).collect();
            write.dead_rows = self.places(&name, |row| keys.contains(&row[0])).await;
            write.keys = WrittenKeys::Any;
        }
        let epoch = self.write(write).await.unwrap();
        history.change(epoch, |world| world.get_mut(&name).unwrap().insert(&rows));
    }

    async fn delete(&self, table: u8, by: u8, rest: u8, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let mut write = self.table_write(&name);
        write.dead_rows = self.places(&name, |row| matches(row, by, rest)).await;
        let epoch = self.write(write).await.unwrap();
        history.change(epoch, |world| {
            world.get_mut(&name).unwrap().rows.retain(|row| !matches(row, by, rest));
        });
    }

    async fn delete_while_compacting(
        &self,
        table: u8,
        by: u8,
        rest: u8,
        turns: u8,
        history: &mut History,
    ) {
        let Some(name) = history.table(table) else { return };
        let mut write = self.table_write(&name);
        write.dead_rows = self.places(&name, |row| matches(row, by, rest)).await;
        let node = Arc::clone(&self.node);
        let compacting = tokio::spawn(async move { node.compact_all(None).await });
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        match self.write(write).await {
            Ok(epoch) => history.change(epoch, |world| {
                world.get_mut(&name).unwrap().rows.retain(|row| !matches(row, by, rest));
            }),
            // The compaction came first: its files are looked at now.
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
                compacting.await.unwrap().unwrap();
                return self.delete(table, by, rest, history).await;
            }
        }
        compacting.await.unwrap().unwrap();
    }

    async fn update(&self, table: u8, by: u8, rest: u8, to: i64, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let changed = |row: &Row| {
            let mut row = row.clone();
            *row.last_mut().unwrap() = Some(to);
            row
        };
        // The key is the first column, and stays.
        if history.now()[&name].columns.len() < 2 {
            return;
        }
        let rows = self.rows(&self.state(), self.epoch(), &name).await;
        let old: Vec<Row> = rows.into_iter().map(|(_, _, row)| row).collect();
        let new: Vec<Row> = old.iter().filter(|row| matches(row, by, rest)).map(changed).collect();
        let mut write = self.table_write(&name);
        write.dead_rows = self.places(&name, |row| matches(row, by, rest)).await;
        write.born = if new.is_empty() { vec![] } else { self.stage(&name, &new, true).await };
        let epoch = self.write(write).await.unwrap();
        history.change(epoch, |world| {
            let rows = &mut world.get_mut(&name).unwrap().rows;
            for row in rows.iter_mut().filter(|row| matches(row, by, rest)) {
                *row = changed(row);
            }
        });
    }

    async fn collide(&self, table: u8, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let mut write = self.table_write(&name);
        write.dead_rows = self.places(&name, |_| true).await;
        if write.dead_rows.is_empty() {
            return;
        }
        let base_epoch = self.epoch();
        let twice = [write.clone(), write]
            .map(|write| self.node.manager.write(Write { base_epoch, tables: vec![write] }));
        let [first, second] = twice;
        let (first, second) = tokio::join!(first, second);
        let epoch = first.expect("the first of two writes is taken").epoch;
        let lost = second.expect_err("the second of two writes loses");
        assert_eq!(lost.kind, ErrorKind::Conflict);
        history.change(epoch, |world| world.get_mut(&name).unwrap().rows.clear());
    }

    async fn write(&self, write: TableWrite) -> Result<Epoch, MetaError> {
        let write = Write { base_epoch: self.epoch(), tables: vec![write] };
        self.node.manager.write(write).await.map(|committed| committed.epoch)
    }

    fn table_write(&self, name: &str) -> TableWrite {
        let relation = relation(&self.state(), self.epoch(), name);
        TableWrite {
            table_id: relation.id,
            definition_born: relation.lifetime.born,
            born: vec![],
            dead_rows: vec![],
            keys: WrittenKeys::None,
            truncate: false,
        }
    }

    async fn stage(&self, name: &str, rows: &[Row], inline: bool) -> Vec<Arc<SstInfo>> {
        let relation = relation(&self.state(), self.epoch(), name);
        let table = Arc::new(relation.as_table().unwrap().clone());
        let schema = table_schema(&table);
        let columns = (0..schema.fields().len()).map(|place| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row[place]).collect::<Int64Array>())
        });
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
        let rows = futures::stream::iter([Ok(batch)]);
        let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
        let ids = self.ids.staging();
        let target = Target {
            storage: &self.storage,
            data_directory: DIRECTORY,
            ids: &ids,
            // Small, so that there are many files.
            sst_bytes_target: 1 << 10,
            inline,
        };
        let context = self.context.task_ctx();
        write_rows(&target, relation.id, &table, rows, &context).await.unwrap().0
    }

    /// The places of the rows that `wanted` wants.
    async fn places(&self, name: &str, wanted: impl Fn(&Row) -> bool) -> Vec<DeadRows> {
        let mut places: BTreeMap<SstId, RoaringBitmap> = BTreeMap::new();
        for (file, position, row) in self.rows(&self.state(), self.epoch(), name).await {
            if wanted(&row) {
                places.entry(file).or_default().insert(position);
            }
        }
        let dead = places.into_iter();
        dead.map(|(sst_id, rows)| DeadRows { sst_id, positions: Arc::new(rows) }).collect()
    }

    /// The rows of a table at an epoch, as the engine reads them.
    async fn rows(&self, state: &State, epoch: Epoch, name: &str) -> Vec<Placed> {
        let relation = relation(state, epoch, name);
        let table = Arc::new(relation.as_table().unwrap().clone());
        let files = state.version.files_at(relation.id, epoch);
        let (url, statistics) =
            (ObjectStoreUrl::parse(STORE).unwrap(), Arc::<StatisticsCache>::default());
        let scan = SstTable::new(table, files, url, DIRECTORY, statistics).with_places();
        let plan = scan.scan(&self.context.state(), None, &[], None).await.unwrap();
        let batches = datafusion::physical_plan::collect(plan, self.context.task_ctx()).await;
        batches.unwrap().iter().flat_map(placed).collect()
    }

    async fn world(&self, state: &State, epoch: Epoch) -> World {
        let catalog = state.catalog.at(epoch);
        let mut world = World::new();
        for relation in catalog.relations() {
            let table = relation.as_table().unwrap();
            let rows = self.rows(state, epoch, &relation.name).await;
            let columns = table.columns.iter().map(|column| column.name.clone()).collect();
            let rows = rows.into_iter().map(|(_, _, row)| row).collect();
            let keyed = !table.primary_key.is_empty();
            world.insert(relation.name.clone(), Table { keyed, columns, rows }.sorted());
        }
        world
    }

    /// Where the engine and the model part: now, at some epochs that can be asked for, and for the
    /// session that reads on.
    pub async fn differs(&self, history: &History, seed: usize) -> Option<String> {
        let state = self.state();
        state.version.check().unwrap();
        let now = state.version.max_committed_epoch;
        let safe = state.version.safe_epoch;
        let somewhere =
            Epoch::from_u64(safe.as_u64() + (now.as_u64() - safe.as_u64()) / (seed as u64 % 7 + 1));
        for epoch in [now, safe, somewhere] {
            let differs = self.compare(&state, epoch, history.at(epoch)).await;
            if differs.is_some() {
                return differs;
            }
        }
        if let Some((state, epoch, expected)) = &self.held {
            let differs = self.compare(state, *epoch, expected).await;
            return differs.map(|differs| format!("a session that reads on: {differs}"));
        }
        None
    }

    /// Every epoch at which something changed, and the one before it, of every snapshot.
    pub async fn differs_anywhere(&self, history: &History) -> Option<String> {
        let url = self.storage.url().to_string();
        let location = OpenLocation::open(&StorageLocation::new(url, BACKUP)).unwrap();
        for (id, states) in &history.snapshots {
            let path = layout::snapshot(BACKUP, *id);
            let reader = SnapshotReader::open(&location.storage, &path, None).await.unwrap();
            let state = reader.state().await.unwrap();
            let (first, last) = (state.version.safe_epoch, state.version.max_committed_epoch);
            let changes = states.keys().filter(|epoch| first <= **epoch && **epoch <= last);
            let before = |epoch: &Epoch| Epoch::from_u64(epoch.as_u64() - 1);
            let around = changes.flat_map(|epoch| [before(epoch), *epoch]);
            for epoch in around.chain([first, last]).filter(|epoch| first <= *epoch) {
                let expected = world::at(states, epoch);
                if let Some(differs) = self.compare(&state, epoch, expected).await {
                    return Some(format!("snapshot {id}: {differs}"));
                }
            }
        }
        None
    }

    async fn compare(&self, state: &State, epoch: Epoch, expected: &World) -> Option<String> {
        let found = self.world(state, epoch).await;
        let sorted = expected.iter().map(|(name, table)| (name.clone(), table.clone().sorted()));
        let expected: World = sorted.collect();
        (found != expected)
            .then(|| format!("epoch {epoch} is\n  {found:?}\nand should be\n  {expected:?}"))
    }
}

async fn open(
    store: &Arc<MemoryStore>,
    storage: &Storage,
    clock: &Arc<ManualClock>,
) -> (Arc<MetaNode>, Arc<SstIdPool>) {
    let mut params = Params::default();
    let url = storage.url().to_string();
    params.set(params::STATE_STORE, &format!("hummock+{url}"));
    params.set(params::DATA_DIRECTORY, DIRECTORY);
    params.set(params::BACKUP_STORAGE_URL, &url);
    params.set(params::BACKUP_STORAGE_DIRECTORY, BACKUP);
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    let manager =
        manager::open(Arc::clone(store) as _, NewCluster { params }, clock).await.unwrap();
    let settings = MaintenanceSettings {
        compaction: false,
        vacuum_interval_ms: 0,
        min_sst_retention_ms: 600_000,
        ..MaintenanceSettings::default()
    };
    let node = Arc::new(MetaNode::start(manager, settings).await.unwrap());
    let state = node.manager.state();
    node.workers.register(WORKER, state.version.id, state.next.sst, node.manager.clock().now_ms());
    let reserving = node.manager.clone();
    let ids = SstIdPool::start(move |count| {
        let manager = reserving.clone();
        Box::pin(async move { Ok(manager.reserve_ssts(count).await?) })
    });
    (node, ids.await.unwrap())
}

fn relation(state: &State, epoch: Epoch, name: &str) -> Arc<Relation> {
    Arc::clone(state.catalog.at(epoch).relation("public", name).unwrap())
}

fn new_column(name: &str, backfill: Option<String>) -> NewColumn {
    NewColumn {
        name: name.to_owned(),
        column_type: ColumnType::BigInt,
        not_null: false,
        default: None,
        backfill,
    }
}

/// A column but the first, by its place.
fn column_of(history: &History, table: u8, column: u8) -> Option<(String, usize, String)> {
    let name = history.table(table)?;
    let columns = &history.now()[&name].columns;
    let at = 1 + usize::from(column) % (columns.len() - 1).max(1);
    let found = columns.get(at)?.clone();
    Some((name, at, found))
}

fn snapshot(history: &History, place: u8) -> Option<SnapshotId> {
    let ids: Vec<_> = history.snapshots.keys().copied().collect();
    (!ids.is_empty()).then(|| ids[usize::from(place) % ids.len()])
}

fn matches(row: &Row, by: u8, rest: u8) -> bool {
    row[0].is_some_and(|key| key % i64::from(by) == i64::from(rest))
}

fn placed(batch: &RecordBatch) -> Vec<Placed> {
    let width = batch.num_columns() - 2;
    let files = batch.column(width).as_primitive::<UInt64Type>();
    let positions = batch.column(width + 1).as_primitive::<Int64Type>();
    let row = |at: usize| {
        let value = |place: usize| {
            let column = batch.column(place).as_primitive::<Int64Type>();
            (!column.is_null(at)).then(|| column.value(at))
        };
        let position = u32::try_from(positions.value(at)).unwrap();
        (SstId(files.value(at)), position, (0..width).map(value).collect())
    };
    (0..batch.num_rows()).map(row).collect()
}
