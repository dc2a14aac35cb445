//! Writes by single statements and by transactions.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, UInt64Type};
use datafusion::catalog::TableProvider as _;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use roaring::RoaringBitmap;
use tidemark_engine::meta::command::{DeadRows, TableWrite, Write, WrittenKeys};
use tidemark_engine::scan::{SstTable, StatisticsCache};
use tidemark_engine::write::write_rows;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::{SstId, VersionId};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::sst::schema::table_schema;
use tidemark_ledger::sst::{SstInfo, Target};
use tidemark_ledger::sst_ids::Staging;
use tidemark_ledger::state::State;
use tidemark_ledger::storage::BlockStore;
use tidemark_sql::pending::Pending;

use super::Step;
use super::engine::{DIRECTORY, Engine, STORE, relation};
use super::world::{History, Row, Table, World};

/// The view of a statement: the database at an epoch, and its transaction's writes.
#[derive(Clone)]
pub struct View {
    state: Arc<State>,
    epoch: Epoch,
    pending: Option<Arc<Pending>>,
}

/// An open transaction and its expected view.
pub struct Transaction {
    view: View,
    began: World,
    sees: World,
    /// Tables it has written to, and those of them that it truncated first.
    written: HashSet<String>,
    truncated: HashSet<String>,
}

/// The effect of a statement on a table, for the engine and for the model.
struct Change {
    name: String,
    write: TableWrite,
    staged: Vec<Arc<Staging>>,
    edit: Box<dyn Fn(&mut Table) + Send>,
}

/// A row with its row position.
type Positioned = (SstId, u32, Row);

impl Engine {
    pub fn view(&self) -> View {
        View { state: self.state(), epoch: self.epoch(), pending: None }
    }

    /// Runs a statement that commits alone.
    pub async fn run(&self, step: &Step, history: &mut History) {
        let Some(change) = self.change_of(&self.view(), step, history.now()).await else { return };
        let epoch = self.write(change.write).await.unwrap();
        history.change(epoch, |world| (change.edit)(world.get_mut(&change.name).unwrap()));
    }

    /// Runs a statement in the open transaction, which it begins if there is none.
    pub async fn run_in_transaction(&mut self, step: &Step, history: &History) -> Option<String> {
        let transaction = self.transaction.take().unwrap_or_else(|| {
            let view = View { pending: Some(Arc::default()), ..self.view() };
            let began = history.now().clone();
            let (written, truncated) = (HashSet::new(), HashSet::new());
            Transaction { view, sees: began.clone(), began, written, truncated }
        });
        let transaction = self.transaction.insert(transaction);
        let (view, sees) = (transaction.view.clone(), transaction.sees.clone());
        if let Some(change) = self.change_of(&view, step, &sees).await {
            let transaction = self.transaction.as_mut().unwrap();
            if change.write.truncate {
                transaction.truncated.insert(change.name.clone());
            }
            view.pending.as_ref().unwrap().add(vec![change.write], change.staged);
            (change.edit)(transaction.sees.get_mut(&change.name).unwrap());
            transaction.written.insert(change.name);
        }
        let found = self.world(&view).await;
        let expected = sorted(&self.transaction.as_ref().unwrap().sees);
        (found != expected)
            .then(|| format!("a transaction sees\n  {found:?}\nand should see\n  {expected:?}"))
    }

    /// Ends the open transaction. It may fail only if another writer changed a table it wrote to, not because
    /// a compaction moved its rows.
    pub async fn end_transaction(&mut self, commit: bool, history: &mut History) {
        let Some(transaction) = self.transaction.take().filter(|_| commit) else { return };
        let (tables, _staged) = transaction.view.pending.as_ref().unwrap().take();
        if tables.is_empty() {
            return;
        }
        let base_epoch = transaction.view.epoch;
        match self.node.manager.write(Write { base_epoch, tables }, vec![]).await {
            Ok(committed) => {
                history.change(committed.epoch, |world| transaction.apply(world));
            }
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
                let touched = |name: &String| self.touched_since(name, base_epoch);
                assert!(
                    history.changed_since(base_epoch) && transaction.written.iter().any(touched),
                    "nobody was in the way: {error}"
                );
            }
        }
    }

    /// Whether a table's files or definition differ from those at `epoch`, or did in between: a row may have
    /// been inserted and deleted.
    fn touched_since(&self, name: &str, epoch: Epoch) -> bool {
        let state = self.state();
        let of = |epoch| {
            let relation = state.catalog.at(epoch).relation("public", name).cloned()?;
            let files = state.version.files_at(relation.id, epoch);
            let files = files.into_iter().map(|file| (file.sst.id, file.dead));
            Some((relation.lifetime.born, files.collect::<Vec<_>>()))
        };
        let id = state.catalog.at(epoch).relation("public", name).map(|relation| relation.id);
        let mut files = state.version.all_files();
        let came = files.any(|f| Some(f.table_id) == id && f.lifetime.born > epoch);
        came || of(epoch) != of(self.epoch())
    }

    /// The change that a step makes to its table, given the world its statement sees.
    async fn change_of(&self, view: &View, step: &Step, world: &World) -> Option<Change> {
        match step {
            Step::Insert { table, from, count, object } => {
                let name = table_of(world, *table)?;
                let from = i64::from(*from);
                let width = world[&name].columns.len();
                let rows = (from..from + i64::from(*count)).map(|key| {
                    let value = |index: usize| key * 10 + i64::try_from(index).unwrap();
                    let rest = (1..width).map(|index| (key % 3 != 0).then(|| value(index)));
                    std::iter::once(Some(key)).chain(rest).collect::<Row>()
                });
                let rows: Vec<Row> = rows.collect();
                let mut write = view.table_write(&name);
                let staged;
                (write.born, staged) = self.stage(view, &name, &rows, !object).await;
                if world[&name].keyed {
                    let keys: HashSet<_> = rows.iter().map(|row| row[0]).collect();
                    write.dead_rows =
                        self.dead_rows(view, &name, |row| keys.contains(&row[0])).await;
                    write.keys = WrittenKeys::Any;
                }
                let edit = Box::new(move |table: &mut Table| table.insert(&rows));
                Some(Change { name, write, staged: vec![staged], edit })
            }
            Step::Delete { table, by, rest } => {
                let (name, by, rest) = (table_of(world, *table)?, *by, *rest);
                let mut write = view.table_write(&name);
                write.dead_rows = self.dead_rows(view, &name, |row| matches(row, by, rest)).await;
                let edit =
                    Box::new(move |table: &mut Table| table.rows.retain(|r| !matches(r, by, rest)));
                Some(Change { name, write, staged: vec![], edit })
            }
            Step::Update { table, by, rest, to } => {
                let (name, by, rest) = (table_of(world, *table)?, *by, *rest);
                // The key is the first column, which is not updated.
                if world[&name].columns.len() < 2 {
                    return None;
                }
                let to = Some(i64::from(*to));
                let set = move |row: &mut Row| *row.last_mut().unwrap() = to;
                let rows = self.rows(view, &name).await;
                let new = rows.into_iter().map(|(_, _, row)| row).filter(|r| matches(r, by, rest));
                let mut new: Vec<Row> = new.collect();
                new.iter_mut().for_each(set);
                let mut write = view.table_write(&name);
                write.dead_rows = self.dead_rows(view, &name, |row| matches(row, by, rest)).await;
                let mut staged = vec![];
                if !new.is_empty() {
                    let ids;
                    (write.born, ids) = self.stage(view, &name, &new, true).await;
                    staged.push(ids);
                }
                let edit = Box::new(move |table: &mut Table| {
                    table.rows.iter_mut().filter(|row| matches(row, by, rest)).for_each(set);
                });
                Some(Change { name, write, staged, edit })
            }
            Step::Truncate(table) => {
                let name = table_of(world, *table)?;
                let write = TableWrite { truncate: true, ..view.table_write(&name) };
                let edit = Box::new(|table: &mut Table| table.rows.clear());
                Some(Change { name, write, staged: vec![], edit })
            }
            _ => None,
        }
    }

    pub async fn write_while_compacting(&self, write: &Step, turns: u8, history: &mut History) {
        let Some(change) = self.change_of(&self.view(), write, history.now()).await else {
            return;
        };
        let node = Arc::clone(&self.node);
        let compacting = tokio::spawn(async move { node.compact_all(None).await });
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        // If the compaction committed first, the row positions are translated.
        let epoch = self.write(change.write).await.unwrap();
        history.change(epoch, |world| (change.edit)(world.get_mut(&change.name).unwrap()));
        compacting.await.unwrap().unwrap();
    }

    pub async fn collide(&self, table: u8, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let view = self.view();
        let mut write = view.table_write(&name);
        write.dead_rows = self.dead_rows(&view, &name, |_| true).await;
        if write.dead_rows.is_empty() {
            return;
        }
        let base_epoch = self.epoch();
        let twice = [write.clone(), write].map(|write| {
            self.node.manager.write(Write { base_epoch, tables: vec![write] }, vec![])
        });
        let [first, second] = twice;
        let (first, second) = tokio::join!(first, second);
        let epoch = first.expect("the first of two writes is taken").epoch;
        let lost = second.expect_err("the second of two writes loses");
        assert_eq!(lost.kind, ErrorKind::Conflict);
        history.change(epoch, |world| world.get_mut(&name).unwrap().rows.clear());
    }

    async fn write(&self, write: TableWrite) -> Result<Epoch, MetaError> {
        let write = Write { base_epoch: self.epoch(), tables: vec![write] };
        self.node.manager.write(write, vec![]).await.map(|committed| committed.epoch)
    }

    async fn stage(
        &self,
        view: &View,
        name: &str,
        rows: &[Row],
        inline: bool,
    ) -> (Vec<Arc<SstInfo>>, Arc<Staging>) {
        let relation = relation(&view.state, view.epoch, name);
        let table = Arc::new(relation.as_table().unwrap().clone());
        let schema = table_schema(&table);
        let columns = schema.fields().iter().enumerate().map(|(index, field)| {
            let values: ArrayRef =
                Arc::new(rows.iter().map(|row| row[index]).collect::<Int64Array>());
            cast(&values, field.data_type()).unwrap()
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
        let files = write_rows(&target, relation.id, &table, rows, &context).await.unwrap().files;
        (files, Arc::new(ids))
    }

    /// The row positions of the rows that satisfy `wanted`.
    async fn dead_rows(
        &self,
        view: &View,
        name: &str,
        wanted: impl Fn(&Row) -> bool,
    ) -> Vec<DeadRows> {
        let mut dead: BTreeMap<SstId, RoaringBitmap> = BTreeMap::new();
        for (file, position, row) in self.rows(view, name).await {
            if wanted(&row) {
                dead.entry(file).or_default().insert(position);
            }
        }
        let dead = dead.into_iter();
        dead.map(|(sst_id, rows)| DeadRows { sst_id, positions: Arc::new(rows) }).collect()
    }

    /// The rows of a table as the engine reads them.
    async fn rows(&self, view: &View, name: &str) -> Vec<Positioned> {
        let relation = relation(&view.state, view.epoch, name);
        let table = Arc::new(relation.as_table().unwrap().clone());
        let files = view.state.version.files_at(relation.id, view.epoch);
        let files = match &view.pending {
            Some(pending) => pending.files(relation.id, files),
            None => files,
        };
        let (url, statistics) =
            (ObjectStoreUrl::parse(STORE).unwrap(), Arc::<StatisticsCache>::default());
        let blocks = Arc::new(BlockStore::without_cache(self.storage.object_store()));
        let scan =
            SstTable::new(table, files, url, &blocks, DIRECTORY, statistics).with_row_positions();
        let plan = scan.scan(&self.context.state(), None, &[], None).await.unwrap();
        let batches = datafusion::physical_plan::collect(plan, self.context.task_ctx()).await;
        batches.unwrap().iter().flat_map(positioned).collect()
    }

    /// Everything in a view.
    pub async fn world(&self, view: &View) -> World {
        let catalog = view.state.catalog.at(view.epoch);
        let mut world = World::new();
        for relation in catalog.relations() {
            let table = relation.as_table().unwrap();
            let rows = self.rows(view, &relation.name).await;
            let columns = table.columns.iter().map(|column| column.name.clone()).collect();
            let rows = rows.into_iter().map(|(_, _, row)| row).collect();
            let keyed = !table.primary_key.is_empty();
            world.insert(relation.name.clone(), Table { keyed, columns, rows }.sorted());
        }
        world
    }
}

impl View {
    pub fn at(state: &Arc<State>, epoch: Epoch) -> Self {
        Self { state: Arc::clone(state), epoch, pending: None }
    }

    fn table_write(&self, name: &str) -> TableWrite {
        TableWrite::to(&relation(&self.state, self.epoch, name))
    }
}

impl Transaction {
    /// The version it reads.
    pub fn version(&self) -> VersionId {
        self.view.state.version.id
    }

    /// Applies the transaction's changes to a world in which others changed other rows.
    fn apply(&self, world: &mut World) {
        for name in &self.written {
            let (before, after) = (&self.began[name].rows, &self.sees[name].rows);
            let table = world.get_mut(name).expect("a table that is gone takes no rows");
            if self.truncated.contains(name) {
                table.rows.clone_from(after);
                continue;
            }
            for row in without(before, after) {
                let index = table.rows.iter().position(|known| *known == row);
                table.rows.remove(index.expect("nobody else removed the row"));
            }
            for row in without(after, before) {
                let taken = table.keyed && table.rows.iter().any(|known| known[0] == row[0]);
                assert!(!taken, "nobody else wrote the key of {row:?}");
                table.rows.push(row);
            }
        }
    }
}

/// The multiset difference of `rows` and `others`.
fn without(rows: &[Row], others: &[Row]) -> Vec<Row> {
    let mut others = others.to_vec();
    let keep = |row: &&Row| match others.iter().position(|other| other == *row) {
        Some(index) => {
            others.swap_remove(index);
            false
        }
        None => true,
    };
    rows.iter().filter(keep).cloned().collect()
}

pub fn sorted(world: &World) -> World {
    world.iter().map(|(name, table)| (name.clone(), table.clone().sorted())).collect()
}

fn table_of(world: &World, index: u8) -> Option<String> {
    let names: Vec<_> = world.keys().collect();
    (!names.is_empty()).then(|| names[usize::from(index) % names.len()].clone())
}

fn matches(row: &Row, by: u8, rest: u8) -> bool {
    row[0].is_some_and(|key| key % i64::from(by) == i64::from(rest))
}

fn positioned(batch: &RecordBatch) -> Vec<Positioned> {
    let width = batch.num_columns() - 2;
    let files = batch.column(width).as_primitive::<UInt64Type>();
    let positions = batch.column(width + 1).as_primitive::<Int64Type>();
    let columns = batch.columns()[..width].iter();
    let columns: Vec<_> = columns.map(|c| cast(c, &DataType::Int64).unwrap()).collect();
    let row = |at: usize| {
        let value = |index: usize| {
            let column = columns[index].as_primitive::<Int64Type>();
            (!column.is_null(at)).then(|| column.value(at))
        };
        let position = u32::try_from(positions.value(at)).unwrap();
        (SstId(files.value(at)), position, (0..width).map(value).collect())
    };
    (0..batch.num_rows()).map(row).collect()
}
