//! SQL texts and the statements or errors they parse to.

use super::*;
use tidemark_engine::meta::command::BackupOptions;
use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

fn one(sql: &str) -> Statement {
    let mut statements = parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0).statement
}

fn error(sql: &str) -> SqlError {
    match parse(sql) {
        Err(error) => error,
        Ok(parsed) => panic!("{sql} was read as {parsed:?}"),
    }
}

fn name(text: &str) -> RelationName {
    match text.split_once('.') {
        Some((schema, name)) => {
            RelationName { schema: Some(schema.to_owned()), name: name.to_owned() }
        }
        None => RelationName::bare(text),
    }
}

fn set(scope: SetScope, name: &str, values: &[&str]) -> Statement {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Statement::Set { scope, name: name.to_owned(), value: SetValue::Values(values) }
}

fn show(kind: ShowKind) -> Statement {
    Statement::Show { kind, filter: None }
}

#[test]
fn texts_are_those_of_one_statement_each() {
    let sql = "-- first\nSELECT 1 ; /* two */ ;; select 'ä;b' -- end\n; BACKUP";
    let texts: Vec<String> = parse(sql).unwrap().into_iter().map(|parsed| parsed.text).collect();
    assert_eq!(texts, ["SELECT 1", "select 'ä;b'", "BACKUP"]);
}

#[test]
fn nothing_is_one_empty_statement() {
    for sql in ["", "  ", ";", ";;", "-- only\n", "/* a /* nested */ comment */ ;"] {
        assert_eq!(one(sql), Statement::Empty, "{sql}");
    }
}

#[test]
fn statements_may_be_sent_to_other_threads() {
    fn check<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    check::<ParsedStatement>();
}

#[test]
fn our_own_statements_are_read() {
    let cases = [
        ("FLUSH", Statement::Flush),
        ("backup", Statement::Backup(BackupOptions::default())),
        (
            "BACKUP WITH (remarks = 'before the upgrade')",
            Statement::Backup(BackupOptions {
                remarks: Some("before the upgrade".to_owned()),
                copy_data: false,
            }),
        ),
        (
            "BACKUP WITH (copy_data, remarks = 'x')",
            Statement::Backup(BackupOptions { remarks: Some("x".to_owned()), copy_data: true }),
        ),
        ("BACKUP WITH (copy_data = off)", Statement::Backup(BackupOptions::default())),
        ("DELETE META SNAPSHOT 5", Statement::DeleteMetaSnapshots(vec![5])),
        ("delete meta snapshots 3, 4", Statement::DeleteMetaSnapshots(vec![3, 4])),
    ];
    for (sql, expected) in cases {
        assert_eq!(one(sql), expected, "{sql}");
    }
}

#[test]
fn alter_system_takes_every_spelling_of_a_value() {
    let cases = [
        ("ALTER SYSTEM SET checkpoint_frequency TO 10", "checkpoint_frequency", Some("10")),
        ("ALTER SYSTEM SET x = -5", "x", Some("-5")),
        ("alter system set X to 'A b'", "x", Some("A b")),
        (
            "ALTER SYSTEM SET backup_storage_directory TO \"Backup 1\"",
            "backup_storage_directory",
            Some("Backup 1"),
        ),
        ("ALTER SYSTEM SET backup_storage_url = memory", "backup_storage_url", Some("memory")),
        (
            "ALTER SYSTEM SET pause_on_next_bootstrap TO true",
            "pause_on_next_bootstrap",
            Some("true"),
        ),
        ("ALTER SYSTEM SET x TO DEFAULT", "x", None),
        ("ALTER SYSTEM RESET x", "x", None),
    ];
    for (sql, name, value) in cases {
        let value = value.map(str::to_owned);
        assert_eq!(one(sql), Statement::AlterSystem { name: name.to_owned(), value }, "{sql}");
    }
}

#[test]
fn settings_are_set_in_every_spelling() {
    let default = Statement::Set {
        scope: SetScope::Unspecified,
        name: "query_epoch".to_owned(),
        value: SetValue::Default,
    };
    let cases = [
        (
            "SET QUERY_EPOCH = 3603859827458048",
            set(SetScope::Unspecified, "query_epoch", &["3603859827458048"]),
        ),
        ("set query_epoch to '7'", set(SetScope::Unspecified, "query_epoch", &["7"])),
        ("SET query_epoch TO DEFAULT", default),
        ("SET SESSION a.B TO on", set(SetScope::Session, "a.b", &["on"])),
        (
            "SET LOCAL search_path = \"Mixed\", Public",
            set(SetScope::Local, "search_path", &["Mixed", "public"]),
        ),
        ("SET TIME ZONE 'UTC'", set(SetScope::Unspecified, "timezone", &["UTC"])),
        ("SET NAMES 'utf8'", set(SetScope::Unspecified, "client_encoding", &["utf8"])),
        ("SET TRANSACTION READ ONLY", set(SetScope::Local, "transaction_read_only", &["on"])),
        (
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            set(SetScope::Local, "transaction_isolation", &["repeatable read"]),
        ),
        ("RESET ALL", Statement::Reset { name: None }),
        ("RESET query_epoch", Statement::Reset { name: Some("query_epoch".to_owned()) }),
        ("RESET TIME ZONE", Statement::Reset { name: Some("timezone".to_owned()) }),
    ];
    for (sql, expected) in cases {
        assert_eq!(one(sql), expected, "{sql}");
    }
}

#[test]
fn show_knows_lists_and_variables() {
    let cases = [
        ("SHOW PARAMETERS", show(ShowKind::Parameters)),
        ("SHOW ALL", show(ShowKind::All)),
        ("show cluster", show(ShowKind::Cluster)),
        ("SHOW TABLES", show(ShowKind::Tables { schema: None })),
        ("SHOW TABLES FROM s", show(ShowKind::Tables { schema: Some("s".to_owned()) })),
        ("SHOW MATERIALIZED VIEWS", show(ShowKind::MaterializedViews { schema: None })),
        ("SHOW COLUMNS FROM s.t", show(ShowKind::Columns { table: name("s.t") })),
        ("DESCRIBE t", show(ShowKind::Columns { table: name("t") })),
        ("SHOW CREATE TABLE \"T\"", show(ShowKind::CreateTable { name: name("T") })),
        ("SHOW CREATE VIEW v", show(ShowKind::CreateView { name: name("v") })),
        ("SHOW query_epoch", show(ShowKind::Variable("query_epoch".to_owned()))),
        ("SHOW TIME ZONE", show(ShowKind::Variable("timezone".to_owned()))),
        (
            "SHOW transaction isolation level",
            show(ShowKind::Variable("transaction_isolation".to_owned())),
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(one(sql), expected, "{sql}");
    }
    let Statement::Show { filter, .. } = one("SHOW SCHEMAS LIKE 'a%'") else { panic!("not SHOW") };
    assert_eq!(filter, Some(LikeFilter { pattern: "a%".to_owned(), case_insensitive: false }));
}

#[test]
fn transactions_keep_what_they_may_do() {
    let begin = |read_only, read_write| Statement::Begin { read_only, read_write };
    let cases = [
        ("BEGIN", begin(false, false)),
        ("begin work", begin(false, false)),
        ("START TRANSACTION READ ONLY", begin(true, false)),
        ("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE", begin(false, true)),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY NOT DEFERRABLE", begin(true, false)),
        ("COMMIT", Statement::Commit),
        ("END TRANSACTION", Statement::Commit),
        ("ROLLBACK WORK AND NO CHAIN", Statement::Rollback),
        ("ABORT", Statement::Rollback),
        ("DISCARD ALL", Statement::Discard(Discard::All)),
        ("DEALLOCATE PREPARE p", Statement::Deallocate { name: Some("p".to_owned()) }),
        ("DEALLOCATE ALL", Statement::Deallocate { name: None }),
        ("CLOSE ALL", Statement::NoOp("CLOSE CURSOR ALL")),
        ("UNLISTEN *", Statement::NoOp("UNLISTEN")),
    ];
    for (sql, expected) in cases {
        assert_eq!(one(sql), expected, "{sql}");
    }
}

#[test]
fn copy_reads_both_orders_of_options() {
    let text = CopyOptions {
        format: CopyFormat::Text,
        delimiter: '\t',
        null: "\\N".to_owned(),
        header: false,
        quote: '"',
        escape: '"',
    };
    let csv = CopyOptions {
        format: CopyFormat::Csv,
        delimiter: ',',
        null: String::new(),
        ..text.clone()
    };
    let cases = [
        ("COPY t FROM STDIN", text.clone()),
        ("COPY t FROM stdin;", text.clone()),
        (
            "COPY t FROM STDIN WITH (FORMAT text, NULL 'x')",
            CopyOptions { null: "x".to_owned(), ..text },
        ),
        ("COPY t FROM STDIN (FORMAT csv)", csv.clone()),
        ("COPY t FROM STDIN CSV", csv.clone()),
        (
            "COPY t FROM STDIN WITH (FORMAT 'csv', HEADER, DELIMITER '|', QUOTE '''', ENCODING 'utf-8')",
            CopyOptions { header: true, delimiter: '|', quote: '\'', escape: '\'', ..csv.clone() },
        ),
        (
            "COPY t FROM STDIN WITH CSV HEADER DELIMITER AS ';'",
            CopyOptions { header: true, delimiter: ';', ..csv },
        ),
    ];
    for (sql, options) in cases {
        let expected = CopyFrom { table: name("t"), columns: vec![], options };
        assert_eq!(one(sql), Statement::Copy(expected), "{sql}");
    }
    let Statement::Copy(copy) = one("COPY s.t (a, \"B\") FROM STDIN") else { panic!("not COPY") };
    assert_eq!((copy.table, copy.columns), (name("s.t"), vec!["a".to_owned(), "B".to_owned()]));
}

#[test]
fn a_view_keeps_the_text_of_its_query() {
    let sql = "CREATE OR REPLACE VIEW s.v (a, B) AS\n  SELECT 1 AS x, (2) -- two\n ; SELECT 3";
    let statements = parse(sql).unwrap();
    let Statement::CreateView(view) = &statements[0].statement else { panic!("not a view") };
    assert_eq!(view.query_text, "SELECT 1 AS x, (2)");
    assert_eq!(view.name, name("s.v"));
    assert_eq!(view.columns, ["a", "b"]);
    assert!(view.or_replace);
    assert_eq!(statements[1].text, "SELECT 3");
}

#[test]
fn queries_come_in_all_their_forms() {
    let queries = [
        "SELECT 1",
        "(SELECT 1) UNION (SELECT 2)",
        "VALUES (1, 'a'), (2, 'b')",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "SELECT * FROM t WHERE a = $1 LIMIT $2",
        "TABLE t",
        "TABLE s.\"T\" ORDER BY a LIMIT 1",
    ];
    for sql in queries {
        assert!(matches!(one(sql), Statement::Query(_)), "{sql}");
    }
    assert_eq!(one("TABLE t"), one("SELECT * FROM t"));
    let Statement::Explain { analyze, verbose, statement } = one("EXPLAIN ANALYZE SELECT 1") else {
        panic!("not EXPLAIN")
    };
    assert!(analyze && !verbose && matches!(*statement, Statement::Query(_)));
    let explain = one("EXPLAIN (ANALYZE false, VERBOSE, FORMAT text) DELETE FROM t");
    assert!(matches!(explain, Statement::Explain { analyze: false, verbose: true, .. }));
    assert!(matches!(one("EXPLAIN (SELECT 1)"), Statement::Explain { .. }));
}

#[test]
fn definitions_and_changes_are_lowered() {
    let drop = Statement::DropTable {
        names: vec![name("a"), name("s.b")],
        if_exists: true,
        cascade: true,
    };
    assert_eq!(one("DROP TABLE IF EXISTS a, S.b CASCADE"), drop);
    assert_eq!(one("TRUNCATE TABLE t"), Statement::Truncate { tables: vec![name("t")] });
    let schema = Statement::CreateSchema { name: "s".to_owned(), if_not_exists: true };
    assert_eq!(one("CREATE SCHEMA IF NOT EXISTS S"), schema);
    let table = "CREATE TABLE t (a INT NOT NULL DEFAULT 1, b NUMERIC(15, 2), PRIMARY KEY (a))";
    assert!(matches!(one(table), Statement::CreateTable(_)));
    assert!(matches!(one("CREATE TABLE t AS SELECT 1 AS a"), Statement::CreateTable(_)));
    let Statement::AlterTable(alter) = one("ALTER TABLE t RENAME COLUMN a TO B") else {
        panic!("not ALTER TABLE")
    };
    let rename = AlterOperation::RenameColumn { from: "a".to_owned(), to: "b".to_owned() };
    assert_eq!(alter.operation, rename);
    let Statement::Update(update) = one("UPDATE t SET (a, b) = (1, 2), c = 3") else {
        panic!("not UPDATE")
    };
    assert_eq!(update.assignments.len(), 3);
}

#[test]
fn an_insert_holds_all_of_its_clauses() {
    let sql = "INSERT INTO s.T AS New (a, \"B\") VALUES (1, 2) \
               ON CONFLICT (A) DO UPDATE SET (b, c) = (3, DEFAULT) WHERE d RETURNING *, a AS x";
    let Statement::Insert(insert) = one(sql) else { panic!("not INSERT") };
    let Insert { target, columns, source, on_conflict, returning } = *insert;
    assert_eq!(target, Target { name: name("s.t"), alias: Some("new".to_owned()) });
    assert_eq!(columns, ["a", "B"]);
    assert!(matches!(source, InsertSource::Query(_)));
    let Some(OnConflict::DoUpdate { key, assignments, filter }) = on_conflict else {
        panic!("not DO UPDATE")
    };
    let assigned: Vec<String> =
        assignments.iter().map(|a| format!("{} = {}", a.column, a.value)).collect();
    assert_eq!((key, assigned), (vec!["a".to_owned()], vec!["b = 3".into(), "c = DEFAULT".into()]));
    assert_eq!(filter.map(|filter| filter.to_string()), Some("d".to_owned()));
    assert_eq!(returning.map(|items| items.len()), Some(2));
    let Statement::Insert(insert) =
        one("INSERT INTO t DEFAULT VALUES ON CONFLICT DO NOTHING RETURNING 1")
    else {
        panic!("not INSERT")
    };
    assert_eq!(insert.source, InsertSource::DefaultValues);
    assert_eq!(insert.on_conflict, Some(OnConflict::DoNothing { key: None }));
}

#[test]
fn a_table_has_the_key_of_its_column_or_of_its_constraint() {
    let source = |sql| match one(sql) {
        Statement::CreateTable(table) => table.source,
        other => panic!("{sql} was read as {other:?}"),
    };
    let column = |not_null, default: Option<&str>| ColumnDefinition {
        name: "a".to_owned(),
        column_type: ColumnType::Integer,
        not_null,
        default: default.map(|sql| parse_expression(sql).unwrap().unwrap()),
    };
    let of = |column, keys: &[&str]| TableSource::Columns {
        columns: vec![column],
        primary_key: keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    let cases = [
        ("CREATE TABLE t (a int NULL)", of(column(false, None), &[])),
        ("CREATE TABLE t (A int4 NOT NULL DEFAULT 1 + 2)", of(column(true, Some("1 + 2")), &[])),
        ("CREATE TABLE t (a int CONSTRAINT k PRIMARY KEY)", of(column(false, None), &["a"])),
        ("CREATE TABLE t (a int, PRIMARY KEY (A, \"B\"))", of(column(false, None), &["a", "B"])),
    ];
    for (sql, expected) in cases {
        assert_eq!(source(sql), expected, "{sql}");
    }
    let twice = error("CREATE TABLE S.t (a int PRIMARY KEY, PRIMARY KEY (a))");
    assert_eq!(twice.message, "multiple primary keys for table \"S.t\" are not allowed");
}

#[test]
fn what_would_be_ignored_is_refused_by_name() {
    let cases = [
        ("CREATE INDEX i ON t (a)", "CREATE INDEX is not supported"),
        ("CREATE UNIQUE INDEX i ON t (a)", "CREATE INDEX is not supported"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW is not supported"),
        ("DROP MATERIALIZED VIEW v", "DROP MATERIALIZED VIEW is not supported"),
        ("CREATE TEMPORARY TABLE t (a INT)", "CREATE TABLE ... TEMPORARY is not supported"),
        ("CREATE TABLE t (LIKE u)", "CREATE TABLE ... LIKE is not supported"),
        ("CREATE TABLE t (a INT) WITH (fillfactor = 70)", "CREATE TABLE ... WITH is not supported"),
        ("CREATE TABLE t (a INT UNIQUE)", "column option UNIQUE is not supported"),
        ("CREATE TABLE t (a INT CHECK (a > 0))", "column option CHECK is not supported"),
        ("CREATE TABLE t (a INT REFERENCES u (b))", "column option REFERENCES is not supported"),
        ("CREATE TABLE t (a INT, UNIQUE (a))", "table constraint UNIQUE is not supported"),
        ("CREATE TABLE t (a SERIAL)", "type serial is not supported"),
        (
            "CREATE TABLE t (a int) AS SELECT 1",
            "CREATE TABLE AS with column types or constraints is not supported",
        ),
        (
            "ALTER TABLE t ADD COLUMN a int PRIMARY KEY",
            "ALTER TABLE ADD COLUMN ... PRIMARY KEY is not supported",
        ),
        (
            "ALTER TABLE t DROP COLUMN a, DROP b",
            "ALTER TABLE with several actions is not supported",
        ),
        (
            "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
            "ALTER TABLE ALTER COLUMN SET NOT NULL is not supported",
        ),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT ON CONSTRAINT k DO NOTHING",
            "ON CONFLICT ON CONSTRAINT is not supported",
        ),
        ("UPDATE t JOIN u ON true SET a = 1", "UPDATE of a join is not supported"),
        ("COPY t TO STDOUT", "COPY TO is not supported"),
        ("COPY (SELECT 1) TO STDOUT", "COPY TO is not supported"),
        ("COPY t FROM '/etc/passwd'", "COPY FROM a file of the server is not supported"),
        ("COPY t FROM STDIN (FORMAT binary)", "COPY format binary is not supported"),
        ("COPY t FROM STDIN (FREEZE)", "COPY option FREEZE is not supported"),
        ("EXPLAIN (BUFFERS) SELECT 1", "EXPLAIN option BUFFERS is not supported"),
        ("EXPLAIN (FORMAT json) SELECT 1", "an EXPLAIN format other than TEXT is not supported"),
        ("EXPLAIN FLUSH", "EXPLAIN FLUSH is not supported"),
        ("SAVEPOINT s", "SAVEPOINT is not supported"),
        ("ROLLBACK TO SAVEPOINT s", "ROLLBACK TO SAVEPOINT is not supported"),
        ("COMMIT AND CHAIN", "AND CHAIN is not supported"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET SESSION CHARACTERISTICS is not supported",
        ),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "ISOLATION LEVEL SERIALIZABLE for writing is not supported",
        ),
        ("CREATE SCHEMA AUTHORIZATION me", "CREATE SCHEMA ... AUTHORIZATION is not supported"),
        ("DROP TABLE a.b.c", "cross-database references are not implemented: a.b.c"),
        ("SET query_epoch TO $1", "a setting cannot be given as a parameter"),
        ("SELECT * FROM t FOR SYSTEM_TIME AS OF 1", "FOR SYSTEM_TIME AS OF is not supported"),
    ];
    for (sql, message) in cases {
        let error = error(sql);
        assert_eq!((error.sqlstate.code(), error.message.as_str()), ("0A000", message), "{sql}");
    }
}

#[test]
fn syntax_errors_say_where() {
    let cases = [
        ("SELEC 1", "syntax error at or near \"SELEC\"", Some(1)),
        ("SELECT 1;\n SELECT 'ä' 5", "syntax error at or near \"5\"", Some(23)),
        ("SELECT (1", "syntax error at end of input", Some(10)),
        ("DELETE META SNAPS 1", "expected SNAPSHOT or SNAPSHOTS", Some(13)),
        ("DELETE META SNAPSHOT x", "syntax error at or near \"x\"", Some(22)),
        ("BACKUP now", "syntax error at or near \"now\"", Some(8)),
        ("FLUSH 1", "syntax error at or near \"1\"", Some(7)),
        ("SET a 1", "syntax error at or near \"1\"", Some(7)),
        ("SELECT 'open", "unterminated quoted string at or near \"'open\"", Some(8)),
        ("BEGIN sometimes", "syntax error at or near \"sometimes\"", Some(7)),
    ];
    for (sql, message, position) in cases {
        let error = error(sql);
        assert_eq!(error.sqlstate.code(), "42601", "{sql}: {error}");
        let found = error.position.map(usize::from);
        assert_eq!((error.message.as_str(), found), (message, position), "{sql}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let parens = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let sum = format!("SELECT 1{}", " + 1".repeat(100_000));
    let casts = format!("SELECT 1{}", "::int".repeat(100_000));
    let unions = format!("SELECT 1{}", " UNION SELECT 1".repeat(100_000));
    let nots = format!("SELECT {} true", "NOT ".repeat(100_000));
    let explains = format!("{} SELECT 1", "EXPLAIN ".repeat(100_000));
    for sql in [parens, sum, casts, nots] {
        assert_eq!(error(&sql).sqlstate.code(), "54001");
    }
    assert_eq!(error(&explains).sqlstate.code(), "0A000");
    assert_eq!(error(&unions).sqlstate.code(), "54001");
}

/// The opening of a level, the innermost expression, and the closing of a level.
const NESTED: &[[&str; 3]] = &[
    ["(", "1", ")"],
    ["f(", "1", ")"],
    ["row(", "1", ")"],
    ["sum(", "1", ") OVER ()"],
    ["array[", "1", "]"],
    ["a[", "1", "]"],
    ["CASE WHEN a THEN ", "1", " END"],
    ["CASE a WHEN 1 THEN 2 ELSE ", "1", " END"],
    ["(SELECT ", "1", ")"],
    ["1 FROM (SELECT ", "1", ") q"],
    ["(", "WITH a AS (SELECT 1) SELECT 1", ")"],
    ["1 IN (", "1", ")"],
    ["- ", "1", ""],
    ["~ ", "1", ""],
    ["NOT ", "a", ""],
    ["INTERVAL ", "'1 day'", ""],
    ["", "a", "::int"],
    ["", "NULL::int", "[]"],
    ["", "a", "[1]"],
    ["", "a", " + 1"],
    ["", "a", " -> 'b'"],
    ["", "a", " LIKE 'b'"],
    ["", "a", " IN (1)"],
    ["", "a", " BETWEEN 1 AND 2"],
    ["", "a", " IS NULL"],
    ["", "a", " IS DISTINCT FROM b"],
    ["", "a", " OPERATOR(pg_catalog.+) b"],
    ["", "a", " COLLATE \"C\""],
    ["", "a", " AT TIME ZONE 'UTC'"],
    ["", "1 FROM t", " CROSS JOIN t"],
    ["", "1 FROM t", ", t"],
    ["1 FROM (", "t", " CROSS JOIN t)"],
    ["", "1 FROM t", " PIVOT (sum(a) FOR b IN (1))"],
    ["", "1", " UNION SELECT 1"],
    ["", "1", " EXCEPT SELECT 1"],
];

#[test]
fn nesting_of_every_kind_has_a_bound() {
    for [open, inner, close] in NESTED {
        let nested = |levels: usize| {
            let text = format!("SELECT {}{inner}{}", open.repeat(levels), close.repeat(levels));
            parse(&text).err().map(|error| error.sqlstate)
        };
        let refused = Some(SqlState::STATEMENT_TOO_COMPLEX);
        assert_ne!(nested(50), refused, "{open}{inner}{close}");
        for levels in [700, 5000, 100_000] {
            assert_eq!(nested(levels), refused, "{levels} of {open}{inner}{close}");
        }
    }
}

#[test]
fn words_that_end_clauses_do_not_hide_a_chain() {
    // Runs with the stack size of the server's threads: the trees are dropped recursively.
    let thread = std::thread::Builder::new().stack_size(tidemark_pg::query_runtime::STACK_BYTES);
    thread.spawn(refuse_chains_of_keywords).unwrap().join().unwrap();
}

fn refuse_chains_of_keywords() {
    for word in ["set", "offset", "values", "returning", "window", "fetch", "then"] {
        for levels in [2000, 30_000, 100_000] {
            let text = format!("SELECT a{}", format!(" + {word}").repeat(levels));
            assert!(parse(&text).is_err(), "{levels} of {word}");
        }
    }
    let pivots = " PIVOT (sum(a) FOR b IN (1)) AS set".repeat(5000);
    assert_eq!(error(&format!("SELECT 1 FROM t{pivots}")).sqlstate.code(), "54001");
}

#[test]
fn what_stands_next_to_each_other_is_not_nested() {
    let items = ["abs(- a::int)", "CASE WHEN a = 1 THEN b + 1 ELSE c END", "a IS DISTINCT FROM b"];
    for item in items {
        let list = [item; 5000].join(", ");
        for text in [
            format!("SELECT {list}"),
            format!("SELECT 1 FROM t, u WHERE a IN ({list})"),
            format!("SELECT 1 FROM t GROUP BY {list} ORDER BY {list}"),
            format!("INSERT INTO t (a) VALUES ({list})"),
        ] {
            parse(&text).unwrap();
        }
    }
    let cases = ["WHEN a = 1 THEN b + 1 - c"; 5000].join(" ");
    parse(&format!("SELECT CASE {cases} END; END")).unwrap();
    let joins = " JOIN u ON t.a = u.a AND t.b <> u.b + 1".repeat(200);
    parse(&format!("SELECT 1 FROM t{joins}")).unwrap();
    let sets = ["SELECT a + 1 FROM t WHERE (a = 1 OR b = 2)"; 400].join(" UNION ALL ");
    parse(&sets).unwrap();
}

#[test]
fn lone_expressions_are_read_as_those_of_statements() {
    let nested =
        |levels: usize| parse_expression(&format!("{}1{}", "(".repeat(levels), ")".repeat(levels)));
    assert!(nested(150).unwrap().is_some());
    assert_eq!(nested(5000).unwrap_err().sqlstate, SqlState::STATEMENT_TOO_COMPLEX);
    assert!(parse_expression("1 +").unwrap().is_none());
}

#[test]
fn long_chains_of_or_are_balanced_and_lists_have_no_limit() {
    let or = format!("SELECT 1 WHERE a = 0{}", " OR a = 1".repeat(3_000));
    let Statement::Query(query) = one(&or) else { panic!("not a query") };
    let sqlparser::ast::SetExpr::Select(select) = query.body.as_ref() else {
        panic!("not a select")
    };
    let mut depth = 0;
    let mut rest = select.selection.as_ref();
    while let Some(sqlparser::ast::Expr::BinaryOp { left, .. }) = rest {
        depth += 1;
        rest = Some(left);
    }
    assert!(depth < 20, "{depth}");
    let values = format!("INSERT INTO t VALUES (1, -1 + 2){}", ", (1, 1 * 2)".repeat(20_000));
    assert!(matches!(one(&values), Statement::Insert(_)));
}

#[test]
fn intervals_of_intervals_are_too_deep() {
    // Each one takes stack; thousands of them used to overflow it.
    let error = parse(&format!("SELECT {}", "INTERVAL ".repeat(3000))).unwrap_err();
    assert_eq!(error.sqlstate.code(), "54001");
    assert!(parse("SELECT INTERVAL '1 day' + INTERVAL '2 days'").is_ok());
}

#[test]
fn nested_calls_that_hold_an_error_take_no_time_that_doubles() {
    for call in ["CAST(", "EXTRACT(YEAR FROM ", "TRIM(", "SUBSTRING(", "POSITION("] {
        for (end, rest) in [("", ""), ("1 +", ")")] {
            let text = format!("SELECT {}{end}{}", call.repeat(200), rest.repeat(200));
            let refused = parse(&text).unwrap_err().sqlstate;
            let expected = [SqlState::STATEMENT_TOO_COMPLEX, SqlState::SYNTAX_ERROR];
            assert!(expected.contains(&refused), "{refused:?}");
        }
    }
    let casts = format!("SELECT {}1{}", "CAST(".repeat(60), " AS int)".repeat(60));
    parse(&casts).unwrap();
}
