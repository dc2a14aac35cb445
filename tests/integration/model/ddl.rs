//! Changes of the catalog.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int16Array};
use tidemark_engine::meta::command::{
    AlterStep, CatalogCommand, CreateTable, NewColumn, RelationKind,
};
use tidemark_ledger::catalog::{ColumnType, backfill};
use tidemark_ledger::epoch::Epoch;

use super::engine::{Engine, relation};
use super::world::{History, Table};

impl Engine {
    async fn change(&self, command: CatalogCommand) -> Epoch {
        self.node.manager.change_catalog(command).await.unwrap().epoch
    }

    pub async fn create_table(&self, keyed: bool, history: &mut History) {
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

    pub async fn drop_table(&self, name: String, history: &mut History) {
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

    pub async fn add_column(&self, table: u8, value: Option<i64>, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let column = history.fresh_name("c");
        let backfilled = value.map(|value| {
            let value = i16::try_from(value).unwrap();
            let value: ArrayRef = Arc::new(Int16Array::from(vec![value]));
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

    pub async fn drop_column(&self, table: u8, column: u8, history: &mut History) {
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

    pub async fn rename_column(&self, table: u8, column: u8, history: &mut History) {
        let Some((name, at, from)) = column_of(history, table, column) else { return };
        // Occasionally a name that another column had before.
        let to = if at == 2 { "again".to_owned() } else { history.fresh_name("c") };
        if history.now()[&name].columns.contains(&to) {
            return;
        }
        let epoch = self.alter(&name, AlterStep::RenameColumn { from, to: to.clone() }).await;
        history.change(epoch, |world| world.get_mut(&name).unwrap().columns[at] = to);
    }

    pub async fn widen_column(&self, table: u8, column: u8, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let relation = relation(&self.state(), self.epoch(), &name);
        let columns = &relation.as_table().unwrap().columns;
        let column = &columns[usize::from(column) % columns.len()];
        let to = match column.column_type {
            ColumnType::SmallInt => ColumnType::Integer,
            _ => ColumnType::BigInt,
        };
        let epoch =
            self.alter(&name, AlterStep::WidenColumn { name: column.name.clone(), to }).await;
        history.change(epoch, |_| {});
    }

    pub async fn rename_table(&self, table: u8, history: &mut History) {
        let Some(name) = history.table(table) else { return };
        let to = history.fresh_name("t");
        let epoch = self.alter(&name, AlterStep::RenameTo { name: to.clone() }).await;
        history.change(epoch, |world| {
            let table = world.remove(&name).unwrap();
            world.insert(to, table);
        });
    }
}

fn new_column(name: &str, backfill: Option<String>) -> NewColumn {
    NewColumn {
        name: name.to_owned(),
        column_type: ColumnType::SmallInt,
        not_null: false,
        default: None,
        backfill,
    }
}

/// Resolves a column other than the first by index.
fn column_of(history: &History, table: u8, column: u8) -> Option<(String, usize, String)> {
    let name = history.table(table)?;
    let columns = &history.now()[&name].columns;
    let at = 1 + usize::from(column) % (columns.len() - 1).max(1);
    let found = columns.get(at)?.clone();
    Some((name, at, found))
}
