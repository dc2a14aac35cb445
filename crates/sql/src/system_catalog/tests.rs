//! The catalogs answer clients' queries at the epoch of the view.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, ListArray, RecordBatch};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{Expr, SessionConfig, SessionContext, ident, lit};
use datafusion::sql::parser::Statement as EngineStatement;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::relation::Wanted;
use super::*;
use crate::parser::{Statement, parse};
use crate::resolve::operators::Operators;
use crate::rewrite;
use crate::rewrite::subqueries::Subqueries;
use tidemark_engine::meta::maintenance::SnapshotUsage;
use tidemark_engine::meta::workers::{PinnedVersion, WorkerNode};
use tidemark_ledger::backup::{Manifest, ManifestEntry, SnapshotInfo};
use tidemark_ledger::catalog::{
    CatalogChange, Column, ColumnType, Relation, RelationBody, SQL_TYPE_KEY, Schema, Table, View,
    ViewColumn,
};
use tidemark_ledger::epoch::{Epoch, Lifetime};
use tidemark_ledger::id::{ColumnId, ObjectId, SnapshotId, VersionId};
use tidemark_ledger::params::{BACKUP_STORAGE_URL, Params};
use tidemark_ledger::state::State;
use tidemark_pg::carried;
use tidemark_pg::functions;
use tidemark_pg::types::SystemType;
use tidemark_pg::types::spelling::SqlTypes;

const BORN: u64 = 2 << 16;
const DROPPED: u64 = 5 << 16;

/// One snapshot of an empty database.
struct OneSnapshot;

impl MetaAnswers for OneSnapshot {
    fn usage(&self) -> BoxFuture<'_, Result<Vec<SnapshotUsage>, SqlError>> {
        async {
            // The first entry is a snapshot that is no longer listed.
            let gone = SnapshotUsage { id: SnapshotId(0), exclusive_bytes: 7 };
            Ok(vec![gone, SnapshotUsage { id: SnapshotId(1), exclusive_bytes: 10 }])
        }
        .boxed()
    }

    fn worker_nodes(&self) -> BoxFuture<'_, Result<Vec<WorkerNode>, SqlError>> {
        async { Ok(vec![]) }.boxed()
    }

    fn pinned_versions(&self) -> BoxFuture<'_, Result<Vec<PinnedVersion>, SqlError>> {
        async { Ok(vec![]) }.boxed()
    }

    fn snapshots(&self) -> BoxFuture<'_, Result<ReadManifest, SqlError>> {
        async {
            let info = SnapshotInfo {
                id: SnapshotId(1),
                hummock_version_id: VersionId(3),
                safe_epoch: Epoch::ZERO,
                max_committed_epoch: Epoch::from_u64(3603859827458048),
                format_version: 1,
                remarks: Some("nightly".to_owned()),
                rw_version: None,
                cluster_id: String::new(),
                created_at: "2022-12-28T11:08:56.918Z".to_owned(),
                sst_count: 0,
                data_bytes: 20,
                copy_data: false,
                life: String::new(),
            };
            let sha256 = String::new();
            let entry = ManifestEntry { info, size_bytes: 42, sha256, verification: None };
            let manifest = Manifest { snapshot_metadata: vec![entry], ..Manifest::default() };
            Ok(ReadManifest::from(manifest))
        }
        .boxed()
    }
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

fn relation(id: u32, name: &str, body: RelationBody) -> CatalogChange {
    let lifetime = Lifetime::since(Epoch::from_u64(BORN));
    let (id, schema_id) = (ObjectId(id), ObjectId(1));
    CatalogChange::Define(Relation { id, schema_id, name: name.to_owned(), lifetime, body })
}

fn table() -> RelationBody {
    let columns = vec![
        column(1, "a", ColumnType::Integer, None),
        column(2, "b", ColumnType::Varchar(Some(20)), Some("'x'")),
        column(4, "Odd", ColumnType::Array(Box::new(ColumnType::Numeric(Some((15, 2))))), None),
    ];
    let primary_key = vec![ColumnId(2), ColumnId(1)];
    RelationBody::Table(Table { columns, primary_key, next_column_id: ColumnId(5) })
}

fn view() -> RelationBody {
    RelationBody::View(View {
        query: "SELECT a FROM t".to_owned(),
        search_path: vec!["public".to_owned()],
        columns: vec![ViewColumn { name: "a".to_owned(), column_type: ColumnType::Integer }],
        depends_on: vec![ObjectId(7)],
    })
}

/// A table `t` (7) and a view `v` (8), created at 2 and dropped at 5.
fn state() -> State {
    let born = Epoch::from_u64(BORN);
    let mut params = Params::default();
    params.set(BACKUP_STORAGE_URL, "minio://key:secret@127.0.0.1:9301/bucket");
    let state = State::new("c".to_owned(), params, Epoch::from_u64(1 << 16));
    let lifetime = Lifetime::since(Epoch::from_u64(1 << 16));
    let public = Schema { id: ObjectId(1), name: "public".to_owned(), lifetime };
    let mut made = state.change_at(born);
    made.catalog = vec![
        CatalogChange::CreateSchema(public),
        relation(7, "t", table()),
        relation(8, "v", view()),
    ];
    let state = state.apply(&made);
    let mut dropped = state.change_at(Epoch::from_u64(DROPPED));
    dropped.catalog =
        vec![CatalogChange::DropRelation(ObjectId(8)), CatalogChange::DropRelation(ObjectId(7))];
    state.apply(&dropped)
}

fn context_at(epoch: u64) -> SystemContext {
    let sources = SystemSources {
        meta: Arc::new(OneSnapshot),
        database: "dev".to_owned(),
        user: "root".to_owned(),
        settings: Arc::new([("time_zone".to_owned(), "UTC".to_owned())].into()),
        params: Arc::default(),
        sessions: Arc::default(),
    };
    sources.over(&ReadView::of(&state(), Epoch::from_u64(epoch)))
}

/// A session that plans like the frontend.
fn session(system: &SystemContext) -> SessionContext {
    let lookup = Lookup { view: system.view.clone(), search_path: ["public".to_owned()].into() };
    let mut config = SessionConfig::new();
    carried::put(config.options_mut(), Arc::new(lookup));
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(vec![Arc::new(Operators)])
        .with_default_features()
        .with_type_planner(Arc::new(SqlTypes))
        .with_analyzer_rule(Arc::new(Subqueries));
    let session = SessionContext::new_with_state(state.build());
    let catalog = session.catalog("datafusion").unwrap();
    for schema in SYSTEM_SCHEMAS.iter().map(|schema| schema.name) {
        let tables = MemorySchemaProvider::new();
        for name in relation_names(schema) {
            let table = provider(schema, name, system.clone()).unwrap();
            tables.register_table(name.to_owned(), table).unwrap();
        }
        catalog.register_schema(schema, Arc::new(tables)).unwrap();
    }
    for function in functions::all().into_iter().chain(super::functions()) {
        session.register_udf(ScalarUDF::clone(&function));
    }
    session
}

/// Runs a query and returns its rows, values separated by bars.
async fn ask_at(epoch: u64, sql: &str) -> Result<Vec<String>, SqlError> {
    let Statement::Query(mut query) = parse(sql)?.remove(0).statement else {
        return Err(SqlError::internal("not a query"));
    };
    rewrite::query(&mut query)?;
    let session = session(&context_at(epoch));
    let statement = EngineStatement::Statement(Box::new(sqlparser::ast::Statement::Query(query)));
    let plan = session.state().statement_to_plan(statement).await?;
    let batches = session.execute_logical_plan(plan).await?.collect().await?;
    Ok(batches.iter().flat_map(shown).collect())
}

async fn ask(sql: &str) -> Vec<String> {
    ask_at(BORN, sql).await.unwrap()
}

fn shown(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let columns = batch.columns().iter();
    let columns: Vec<_> =
        columns.map(|array| ArrayFormatter::try_new(array, &options).unwrap()).collect();
    let row = |row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}

#[tokio::test]
async fn every_relation_has_rows_of_its_columns() {
    let (context, session) = (context_at(BORN), SessionContext::new().state());
    for schema in &SYSTEM_SCHEMAS {
        for relation in schema.relations() {
            let wanted = Wanted::new(relation, None, &[], &session).unwrap();
            let batch = relation.batch(&context, wanted).await.unwrap();
            assert_eq!(batch.schema(), relation.arrow_schema(), "{}", relation.name);
        }
    }
}

#[test]
fn filters_say_which_rows_are_wanted() {
    let session = SessionContext::new().state();
    let relation = SystemSchema::find("rw_catalog").unwrap().relation("rw_meta_snapshot").unwrap();
    let wanted = |filters: &[Expr]| {
        let wanted = Wanted::new(relation, None, filters, &session).unwrap();
        (1..=4).filter(|id| wanted.may_be("meta_snapshot_id", *id)).collect::<Vec<_>>()
    };
    let id = || ident("meta_snapshot_id");
    assert_eq!(wanted(&[]), [1, 2, 3, 4]);
    assert_eq!(wanted(&[id().eq(lit(2_i64))]), [2]);
    assert_eq!(wanted(&[id().eq(lit(2_i64)).or(id().eq(lit(4_i64)))]), [2, 4]);
    assert_eq!(wanted(&[id().not_eq(lit(2_i64))]), [1, 3, 4]);
    assert_eq!(wanted(&[id().in_list(vec![lit(1_i64), lit(9_i64)], false)]), [1]);
    assert_eq!(wanted(&[id().eq(lit(1_i64)), ident("remarks").eq(lit("nightly"))]), [1]);
    assert_eq!(wanted(&[id().gt(lit(2_i64))]), [1, 2, 3, 4]);
}

#[test]
fn names_and_oids_are_taken_once() {
    let listed: Vec<_> = SYSTEM_SCHEMAS.iter().flat_map(SystemSchema::listed).collect();
    let names: HashMap<_, _> =
        listed.iter().map(|r| ((r.schema.as_str(), r.name.as_str()), r.oid)).collect();
    let oids: HashMap<_, _> = listed.iter().map(|r| (r.oid, &r.name)).collect();
    assert_eq!((names.len(), oids.len()), (listed.len(), listed.len()));
    assert!(oids.keys().all(|oid| *oid < listing::USER_OID_BASE));
}

#[test]
fn columns_say_which_sql_type_they_are() {
    let schema = arrow_schema("pg_catalog", "pg_class").unwrap();
    let declared = |name: &str| {
        let field = schema.field_with_name(name).unwrap();
        field.metadata().get(SQL_TYPE_KEY).cloned().unwrap()
    };
    assert_eq!(["oid", "relname", "relkind"].map(declared), ["oid", "name", "\"char\""]);
    assert!(arrow_schema("pg_catalog", "nope").is_none());
}

#[tokio::test]
async fn psql_lists_relations() {
    let rows = ask("SELECT n.nspname, c.relname, c.relkind, am.amname FROM pg_catalog.pg_class c \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam \
         WHERE c.relkind IN ('r','p','v','m','S','f','i','') AND n.nspname <> 'pg_catalog' \
         AND n.nspname <> 'information_schema' AND pg_table_is_visible(c.oid) ORDER BY 1,2")
    .await;
    assert_eq!(rows, ["public|t|r|hummock", "public|t_pkey|i|btree", "public|v|v|null"]);
}

#[tokio::test]
async fn psql_describes_a_table() {
    let rows =
        ask("SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attnum, \
         pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attribute a \
         LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attrelid = '16391' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum")
        .await;
    assert_eq!(
        rows,
        [
            "a|integer|true|1|null",
            "b|character varying(20)|true|2|'x'::character varying",
            "Odd|numeric(15,2)[]|false|3|null"
        ]
    );
    let rows = ask("SELECT c2.relname, i.indisprimary, pg_get_indexdef(i.indexrelid, 0, true), \
         pg_get_indexdef(i.indexrelid, 2, true), pg_get_constraintdef(con.oid, true), i.indkey \
         FROM pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_index i \
         LEFT JOIN pg_catalog.pg_constraint con ON (conrelid = i.indrelid \
         AND conindid = i.indexrelid AND contype IN ('p','u','x')) \
         WHERE c.oid = '16391' AND c.oid = i.indrelid AND i.indexrelid = c2.oid")
    .await;
    let index = "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (b, a)";
    assert_eq!(rows, [format!("t_pkey|true|{index}|a|PRIMARY KEY (b, a)|[2, 1]")]);
}

#[tokio::test]
async fn subqueries_over_the_catalog_need_no_aggregate() {
    let rows = ask("SELECT a.attname, \
         (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d \
          WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), \
         (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t \
          WHERE c.oid = a.attcollation AND t.oid = a.atttypid \
          AND a.attcollation <> t.typcollation) AS attcollation, \
         (SELECT s.seqstart FROM pg_catalog.pg_sequence s WHERE s.seqrelid = a.attrelid) \
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = '16391' AND a.attnum > 0 ORDER BY 1")
    .await;
    assert_eq!(
        rows,
        ["Odd|null|null|null", "a|null|null|null", "b|'x'::character varying|null|null"]
    );
    let rows = ask("SELECT count(*) FROM pg_catalog.pg_type t WHERE t.typrelid <> 0 OR \
         (SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid)")
    .await;
    assert_eq!(rows, ["0"]);
}

#[tokio::test]
async fn exists_and_array_stand_in_the_select_list() {
    let rows = ask("SELECT c.relname, EXISTS (SELECT 1 FROM pg_catalog.pg_constraint \
         WHERE conrelid = c.oid AND contype IN ('p', 'u') AND NOT condeferrable), \
         ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = c.oid AND attnum > 0 ORDER BY a.attnum), \
         array_to_string(c.reloptions || array(select 'x.' || o from unnest(c.reloptions) o), ',') \
         FROM pg_catalog.pg_class c WHERE c.oid >= 16384 AND c.relkind <> 'i' ORDER BY 1")
    .await;
    // A null and an empty array both yield an empty array.
    assert_eq!(rows, ["t|true|[a, b, Odd]|", "v|false|[a]|"]);
    let rows = ask("SELECT r.rolname, ARRAY(SELECT b.rolname FROM pg_catalog.pg_auth_members m \
         JOIN pg_catalog.pg_roles b ON (m.roleid = b.oid) WHERE m.member = r.oid) \
         FROM pg_catalog.pg_roles r")
    .await;
    assert_eq!(rows, ["root|[]"]);
    let policies = ask("SELECT CASE WHEN p.polroles = '{0}' THEN NULL ELSE \
         array(select rolname from pg_catalog.pg_roles where oid = any (p.polroles)) END \
         FROM pg_catalog.pg_policy p WHERE p.polroles <> '{0}'")
    .await;
    assert!(policies.is_empty());
}

#[tokio::test]
async fn vectors_count_from_zero() {
    let rows = ask("SELECT indkey[0], indkey[1], indkey[2], array_lower(indkey, 1), \
         array_upper(indkey, 1), pg_index.tableoid::regclass, indrelid::regclass \
         FROM pg_catalog.pg_index")
    .await;
    assert_eq!(rows, ["2|1|null|0|1|pg_index|t"]);
    let rows = ask("SELECT unnest(indkey), generate_subscripts(indkey, 1), \
         (information_schema._pg_expandarray(indkey)).n FROM pg_catalog.pg_index ORDER BY 2")
    .await;
    assert_eq!(rows, ["2|0|1", "1|1|2"]);
}

#[tokio::test]
async fn a_dropped_table_is_there_at_its_time_only() {
    let sql = "SELECT relname FROM pg_catalog.pg_class WHERE oid >= 16384 ORDER BY 1";
    assert_eq!(ask_at(DROPPED - 1, sql).await.unwrap(), ["t", "t_pkey", "v"]);
    assert!(ask_at(DROPPED, sql).await.unwrap().is_empty());
    let sql = "SELECT name FROM rw_catalog.rw_tables";
    assert_eq!(ask_at(BORN, sql).await.unwrap(), ["t"]);
    assert!(ask_at(DROPPED, sql).await.unwrap().is_empty());
}

#[tokio::test]
async fn drivers_find_types() {
    let rows =
        ask("SELECT t.typname, t.typtype, t.typelem, r.rngsubtype, t.typbasetype, n.nspname, \
         t.typrelid FROM pg_catalog.pg_type t \
         LEFT OUTER JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid \
         INNER JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = 1007")
        .await;
    assert_eq!(rows, ["_int4|b|23|null|0|pg_catalog|0"]);
}

#[tokio::test]
async fn names_and_oids_turn_into_each_other() {
    let rows = ask("SELECT to_regclass_oid('t'), to_regclass_oid('public.T_PKEY') - 536870912, \
         to_regclass('nope'), to_regclass_oid('16391'), regclass_name(16391), regclass_name(0), \
         regclass_name(to_regclass_oid('information_schema.tables')), \
         regclass_name(to_regclass_oid('pg_class')), regtype_name(1043), \
         regnamespace_name(11), to_regtype('int[]')")
    .await;
    assert_eq!(
        rows,
        ["t|7|null|t|t|-|information_schema.tables|pg_class|character varying|\
          pg_catalog|integer[]"]
    );
    let error = ask_at(BORN, "SELECT to_regclass_oid('nope')").await.unwrap_err();
    assert_eq!(error.sqlstate.code(), "42P01");
    assert_eq!(error.message, "relation \"nope\" does not exist");
}

#[tokio::test]
async fn definitions_are_sql() {
    let rows = ask("SELECT pg_get_viewdef(16392, true), pg_get_viewdef('t')").await;
    assert_eq!(rows, [" SELECT a FROM t;|null"]);
    let rows =
        ask("SELECT id, schema_id, definition FROM rw_catalog.rw_relations ORDER BY 1").await;
    let table = "CREATE TABLE public.t (a integer NOT NULL, b character varying(20) DEFAULT 'x', \
                 \"Odd\" numeric(15,2)[], PRIMARY KEY (b, a))";
    let view = "CREATE VIEW public.v (a) AS SELECT a FROM t";
    assert_eq!(rows, [format!("7|1|{table}"), format!("8|1|{view}")]);
}

#[tokio::test]
async fn snapshots_are_listed_with_their_times() {
    let rows = ask("SELECT * FROM rw_catalog.rw_meta_snapshot").await;
    assert_eq!(
        rows,
        ["1|3|0|null|3603859827458048|2022-12-28T11:08:56.918|nightly|null|null|\
          2022-12-28T11:08:56.918Z|42|20|10|false|null|null|null|null"]
    );
}

#[tokio::test]
async fn settings_show_no_credentials() {
    let rows = ask("SELECT name, setting, context FROM pg_catalog.pg_settings \
         WHERE name IN ('time_zone', 'backup_storage_url', 'sstable_size_mb') ORDER BY 1")
    .await;
    assert_eq!(rows.len(), 3);
    assert!(rows[0].ends_with("|postmaster") && !rows[0].contains("secret"), "{}", rows[0]);
    assert_eq!(rows[1..], ["sstable_size_mb|256|internal", "time_zone|UTC|user"]);
}

#[tokio::test]
async fn the_standards_views_describe_the_table() {
    let rows =
        ask("SELECT column_name, is_nullable, data_type, character_maximum_length, udt_name \
         FROM information_schema.columns WHERE table_name = 't' ORDER BY ordinal_position")
        .await;
    assert_eq!(
        rows,
        [
            "a|NO|integer|null|int4",
            "b|NO|character varying|20|varchar",
            "Odd|YES|ARRAY|null|_numeric"
        ]
    );
    let rows = ask(
        "SELECT kcu.column_name, kcu.ordinal_position FROM information_schema.table_constraints tc \
         JOIN information_schema.key_column_usage kcu ON tc.constraint_name = kcu.constraint_name \
         WHERE tc.constraint_type = 'PRIMARY KEY' AND tc.table_name = 't' ORDER BY 2",
    )
    .await;
    assert_eq!(rows, ["b|1", "a|2"]);
}

#[test]
fn keys_are_arrays_of_small_numbers() {
    let keys = listing::keys(&context_at(BORN).view);
    let cells: Vec<_> = keys.iter().map(|key| cell::Cell::from(key.positions.clone())).collect();
    let array = cell::array_of(SystemType::Int2Array, cells.iter());
    let lists = array.as_any().downcast_ref::<ListArray>().unwrap();
    assert_eq!(lists.value_length(0), 2);
}
