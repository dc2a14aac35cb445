//! Errors of the engine become errors of PostgreSQL, also inside wrappers.

use datafusion::common::{Column, TableReference};
use datafusion::prelude::SessionContext;

use super::*;

async fn error_of(sql: &str) -> SqlError {
    let context = SessionContext::new();
    let created = context.sql("CREATE TABLE t (a BIGINT, s VARCHAR)").await.unwrap();
    created.collect().await.unwrap();
    let planned = context.sql(sql).await;
    let result = match planned {
        Ok(frame) => frame.collect().await.map(drop),
        Err(error) => Err(error),
    };
    from_datafusion(result.unwrap_err())
}

#[tokio::test]
async fn the_engines_errors_get_codes_and_words_of_postgres() {
    let cases = [
        ("SELECT * FROM nope", "42P01", "relation \"nope\" does not exist"),
        ("SELECT nope FROM t", "42703", "column \"nope\" does not exist"),
        ("SELECT t.nope FROM t", "42703", "column t.nope does not exist"),
        ("SELECT u.a FROM t", "42P01", "missing FROM-clause entry for table \"u\""),
        ("SELECT a FROM t x, t y", "42702", "column reference \"a\" is ambiguous"),
        ("SELECT nofunc(a) FROM t", "42883", "function nofunc does not exist"),
        ("SELECT 1 / 0", "22012", "division by zero"),
        (
            "SELECT a, count(*) FROM t",
            "42803",
            "column \"t.a\" must appear in the GROUP BY clause or be used in an aggregate function",
        ),
        (
            "SELECT * FROM t WHERE count(*) > 1",
            "42803",
            "aggregate functions are not allowed in WHERE",
        ),
        ("SELECT CAST('abc' AS INT)", "22P02", "invalid input syntax for type integer: \"abc\""),
        (
            "SELECT 1 UNION SELECT 1, 2",
            "42601",
            "each UNION query must have the same number of columns",
        ),
    ];
    for (sql, code, message) in cases {
        let error = error_of(sql).await;
        assert_eq!((error.sqlstate.code(), error.message.as_str()), (code, message), "{sql}");
    }
}

#[test]
fn texts_of_arrow_become_messages_of_postgres() {
    let cases = [
        (
            "Cannot cast string 'x' to value of Decimal128(38, 10) type",
            "22P02",
            "invalid input syntax for type numeric: \"x\"",
        ),
        (
            "Cannot cast string '99999999999' to value of Int32 type",
            "22003",
            "value \"99999999999\" is out of range for type integer",
        ),
        ("Can't cast value 70000 to type Int16", "22003", "smallint out of range"),
        (
            "Error parsing timestamp from 'x': invalid",
            "22007",
            "invalid input syntax for type timestamp: \"x\"",
        ),
        (
            "Cannot cast string 'x' to value of Date32 type",
            "22007",
            "invalid input syntax for type date: \"x\"",
        ),
        (
            "123.456 is too large to store in a Decimal128 of precision 5. Max is 99.999",
            "22003",
            "numeric field overflow",
        ),
        ("Casting from Int64 to Date32 not supported", "42846", "cannot cast type bigint to date"),
    ];
    for (text, code, message) in cases {
        let error = map(&ArrowError::CastError(text.to_owned()).into());
        assert_eq!((error.sqlstate.code(), error.message.as_str()), (code, message), "{text}");
    }
}

#[test]
fn coercion_texts_name_the_operator_or_the_function() {
    let cases = [
        (
            "Cannot coerce arithmetic expression Utf8 + Int64 to valid types",
            "operator does not exist: text + bigint",
        ),
        (
            "Cannot infer common argument type for comparison operation Decimal128(38, 10) IS DISTINCT FROM Boolean",
            "operator does not exist: numeric IS DISTINCT FROM boolean",
        ),
        (
            "x. No function matches the given name and argument types 'abs(Utf8, Decimal128(3, 1))'. You might need to add explicit type casts.\n\tCandidate functions:",
            "function abs(text, numeric) does not exist",
        ),
    ];
    for (text, message) in cases {
        let error = map(&DataFusionError::Plan(text.to_owned()));
        assert_eq!(
            (error.sqlstate, error.message.as_str()),
            (SqlState::UNDEFINED_FUNCTION, message)
        );
    }
}

#[test]
fn our_own_error_passes_through_every_wrapper_unchanged() {
    let ours = SqlError::new(SqlState::SERIALIZATION_FAILURE, "try again").hint("please");
    let wrapped = DataFusionError::from(ours.clone()).context("while writing");
    assert_eq!(from_datafusion(wrapped), ours);
    let parquet = ParquetError::External(Box::new(DataFusionError::from(ours.clone())));
    let arrow = ArrowError::ExternalError(Box::new(parquet));
    assert_eq!(from_datafusion(DataFusionError::ArrowError(Box::new(arrow), None)), ours);
}

#[test]
fn a_missing_object_and_a_full_disk_are_named() {
    let missing = object_store::Error::NotFound { path: "a/7.data".into(), source: "gone".into() };
    let error = map(&DataFusionError::ObjectStore(Box::new(missing)));
    assert_eq!(error.sqlstate, SqlState::IO_ERROR);
    assert!(error.message.contains("a/7.data"));
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let source = object_store::Error::Generic { store: "fs", source: Box::new(full) };
    let error = map(&DataFusionError::External(Box::new(source)));
    assert_eq!(error.sqlstate, SqlState::DISK_FULL);
}

#[test]
fn an_unknown_qualifier_is_a_missing_table() {
    let field = Column::new(Some(TableReference::bare("u")), "a");
    let error = SchemaError::FieldNotFound { field: Box::new(field), valid_fields: vec![] };
    let message = "missing FROM-clause entry for table \"u\"";
    assert_eq!(schema(&error).message, message);
}

#[test]
fn texts_of_planning_errors_are_postgres_words() {
    let plan = |text: &str| {
        let error = map(&DataFusionError::Plan(text.to_owned()));
        format!("{} {}", error.sqlstate, error.message)
    };
    let cases = [
        (
            "Join condition must be boolean type, but got Int32",
            "42804 argument of JOIN/ON must be type boolean, not type integer",
        ),
        (
            "Inconsistent data type across values list at row 1 column 0. Was List(Int64) but found Int64",
            "42804 VALUES types bigint[] and bigint cannot be matched",
        ),
        (
            "There isn't a common type to coerce Int32 and Utf8 in LIKE expression",
            "42883 operator does not exist: integer ~~ text",
        ),
        (
            "Cannot get result type for temporal operation Date32 * Int64: Invalid argument error",
            "42883 operator does not exist: date * bigint",
        ),
        ("No value found for placeholder with id $3", "42P02 there is no parameter $3"),
        ("Something of Utf8View, not Int32", "42601 something of text, not integer"),
        ("Bad Expr { Utf8 }", "42601 this expression is not supported"),
    ];
    for (text, expected) in cases {
        assert_eq!(plan(text), expected);
    }
}
