//! Definitions as SQL: the output of `SHOW CREATE`, which recreates the same relation.

use super::listing::{Listed, ListedKey};
use tidemark_ledger::catalog::{Column, Relation, RelationBody, Table, View};
use tidemark_pg::quote::{qualified, quote_identifier};

/// Returns the statement that creates the relation, without a semicolon.
pub fn create_sql(schema_name: &str, relation: &Relation) -> String {
    let name = qualified(schema_name, &relation.name);
    match &relation.body {
        RelationBody::Table(table) => table_sql(&name, table),
        RelationBody::View(view) => view_sql(&name, view),
    }
}

/// Returns `CREATE TABLE` for a table, and `CREATE VIEW` for a view.
pub fn create_table_sql(schema_name: &str, relation: &Relation) -> String {
    create_sql(schema_name, relation)
}

/// Returns `CREATE VIEW` for a view, and `CREATE TABLE` for a table.
pub fn create_view_sql(schema_name: &str, relation: &Relation) -> String {
    create_sql(schema_name, relation)
}

fn table_sql(name: &str, table: &Table) -> String {
    let mut parts: Vec<String> = table.columns.iter().map(column_sql).collect();
    if !table.primary_key.is_empty() {
        let columns = table.key_columns().map(|c| c.name.as_str());
        parts.push(format!("PRIMARY KEY ({})", identifiers(columns)));
    }
    format!("CREATE TABLE {name} ({})", parts.join(", "))
}

fn column_sql(column: &Column) -> String {
    let mut sql = format!("{} {}", quote_identifier(&column.name), column.column_type);
    if column.not_null {
        sql.push_str(" NOT NULL");
    }
    if let Some(default) = &column.default {
        sql.push_str(" DEFAULT ");
        sql.push_str(default);
    }
    sql
}

/// The columns are always named: the query alone does not show whether the user renamed them.
fn view_sql(name: &str, view: &View) -> String {
    let columns = identifiers(view.columns.iter().map(|c| c.name.as_str()));
    format!("CREATE VIEW {name} ({columns}) AS {}", query_of(view))
}

fn query_of(view: &View) -> &str {
    view.query.trim().trim_end_matches(';').trim_end()
}

/// The result of `pg_get_viewdef`.
pub(super) fn view_definition(view: &View) -> String {
    format!(" {};", query_of(view))
}

/// The result of `pg_get_indexdef`.
pub(super) fn index_definition(key: &ListedKey) -> String {
    let index = quote_identifier(&key.name);
    let table = qualified(&key.table.schema, &key.table.name);
    format!("CREATE UNIQUE INDEX {index} ON {table} USING btree ({})", key_columns(key))
}

/// The result of `pg_get_constraintdef`.
pub(super) fn constraint_definition(key: &ListedKey) -> String {
    format!("PRIMARY KEY ({})", key_columns(key))
}

fn key_columns(key: &ListedKey) -> String {
    identifiers(key.columns().map(|column| column.name.as_str()))
}

fn identifiers<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(quote_identifier).collect::<Vec<_>>().join(", ")
}

impl Listed {
    /// The statement that creates a user's relation.
    pub fn definition(&self) -> Option<String> {
        self.relation.as_ref().map(|relation| create_sql(&self.schema, relation))
    }

    /// The query of a user's view.
    pub(super) fn view_query(&self) -> Option<String> {
        self.relation.as_ref().and_then(|r| r.as_view()).map(view_definition)
    }
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    use super::*;
    use tidemark_ledger::catalog::{ColumnType, ViewColumn};
    use tidemark_ledger::epoch::{Epoch, Lifetime};
    use tidemark_ledger::id::{ColumnId, ObjectId};

    fn relation(name: &str, body: RelationBody) -> Relation {
        let lifetime = Lifetime::since(Epoch::ZERO);
        Relation { id: ObjectId(7), schema_id: ObjectId(1), name: name.to_owned(), lifetime, body }
    }

    fn column(id: i32, name: &str, column_type: ColumnType, default: Option<&str>) -> Column {
        Column {
            id: ColumnId(id),
            name: name.to_owned(),
            column_type,
            not_null: id == 1,
            default: default.map(str::to_owned),
            backfill: None,
        }
    }

    fn odd_table() -> Relation {
        let columns = vec![
            column(1, "id", ColumnType::BigInt, None),
            column(2, "order", ColumnType::Varchar(Some(20)), Some("'it''s'")),
            column(3, "Odd \"name\"", ColumnType::Timestamptz, Some("now()")),
            column(4, "tags", ColumnType::Array(Box::new(ColumnType::Double)), None),
        ];
        let primary_key = vec![ColumnId(2), ColumnId(1)];
        let table = Table { columns, primary_key, next_column_id: ColumnId(5) };
        relation("T", RelationBody::Table(table))
    }

    #[test]
    fn a_table_is_written_with_everything_that_makes_it() {
        assert_eq!(
            create_table_sql("public", &odd_table()),
            "CREATE TABLE public.\"T\" (id bigint NOT NULL, \
             \"order\" character varying(20) DEFAULT 'it''s', \
             \"Odd \"\"name\"\"\" timestamp with time zone DEFAULT now(), \
             tags double precision[], PRIMARY KEY (\"order\", id))"
        );
    }

    #[test]
    fn a_view_names_its_columns() {
        let columns = vec![ViewColumn { name: "b".to_owned(), column_type: ColumnType::Integer }];
        let view = View {
            query: "SELECT a FROM t; ".to_owned(),
            search_path: vec!["public".to_owned()],
            columns,
            depends_on: vec![],
        };
        let view = relation("v", RelationBody::View(view));
        assert_eq!(create_view_sql("s", &view), "CREATE VIEW s.v (b) AS SELECT a FROM t");
    }

    #[test]
    fn what_is_written_parses_again() {
        let sql = create_table_sql("public", &odd_table());
        Parser::parse_sql(&PostgreSqlDialect {}, &sql).unwrap();
    }
}
