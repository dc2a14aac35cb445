//! Calls the functions through SQL in a statement with little memory.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{CountedFunctions, InPieces, without_long_texts};
use crate::error::SqlError;
use crate::functions;
use crate::memory::{Budget, StatementMemory};

/// Allows 1 MiB for one call and 4 MiB for one value.
const BUDGET_BYTES: usize = 16 << 20;

fn state(memory: &Arc<StatementMemory>) -> SessionStateBuilder {
    let mut config = SessionConfig::new().with_target_partitions(1);
    memory.join(config.options_mut());
    SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_analyzer_rule(Arc::new(CountedFunctions))
        .with_optimizer_rule(Arc::new(CountedFunctions))
}

async fn run_in(state: SessionStateBuilder, sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
    let context = SessionContext::new_with_state(state.build());
    for function in functions::all() {
        context.register_udf(function.as_ref().clone());
    }
    Ok(context.sql(sql).await?.collect().await?)
}

async fn run(sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
    run_in(state(&Budget::new(BUDGET_BYTES).begin()), sql).await
}

async fn refused(sql: &str) -> (String, String) {
    let error = match run(sql).await {
        Ok(batches) => panic!("{sql}: {} batches", batches.len()),
        Err(error) => error,
    };
    (error.sqlstate.code().to_owned(), error.message)
}

#[tokio::test]
async fn one_value_is_not_longer_than_postgres_allows() {
    let length = "requested length too large";
    let array = "array size exceeds the maximum allowed (134217727)";
    for (expression, message) in [
        ("repeat('x', 2000000000)", length),
        ("lpad('x', 2000000000)", length),
        ("rpad('x', 300000000, 'äö€🦀')", length),
        ("replace(repeat('a', 100000), 'a', repeat('b', 100000))", length),
        ("regexp_replace(repeat('a', 100000), 'a', repeat('b', 100000), 'g')", length),
        ("array_to_string(string_to_array(repeat('a,', 40000), ','), repeat('b', 100000))", length),
        ("array_repeat(1, 1000000000)", array),
        ("array_repeat('x', 9223372036854775807)", array),
        ("array_resize(make_array(1), 1000000000, 0)", array),
        ("range(1000000000)", array),
        ("range(-9223372036854775807, 9223372036854775807)", array),
        ("generate_series(1, 1000000000, 1)", array),
        ("generate_series(1000000000, 1, -1)", array),
        ("range(DATE '1000-01-01', DATE '9000-01-01', INTERVAL '1' microsecond)", array),
    ] {
        let (sqlstate, found) = refused(&format!("SELECT {expression}")).await;
        assert_eq!((sqlstate.as_str(), found.as_str()), ("54000", message), "{expression}");
    }
}

#[tokio::test]
async fn what_one_call_makes_fits_the_memory_of_the_statement() {
    for expression in [
        "repeat('x', 5000000)",
        "lpad('x', 5000000)",
        "repeat('x', v)",
        "rpad('x', v)",
        "replace(repeat('a', 1000), 'a', repeat('b', v))",
        "regexp_replace(repeat('a', 1000), 'a', repeat('b', 1000) || v, 'g')",
        "translate(repeat('a', v), 'a', '🦀')",
        "repeat('a', v) || repeat('b', v)",
        "concat(repeat('a', v), repeat('b', v))",
        "concat_ws(repeat('a', 500), v, v, v, v)",
        "array_to_string(range(1000), '-' || v)",
        "string_to_array(repeat('a,', 50) || v, ',')",
        "array_repeat(v, 1000)",
        "range(v)",
        "generate_series(0, v)",
        "array_resize(make_array(v), 1000, v)",
        "format('%1000s', v)",
        "format(repeat('%1$100000s', 60), 1)",
    ] {
        let sql = format!("SELECT {expression} FROM (SELECT value AS v FROM range(2000, 7000))");
        let (sqlstate, message) = refused(&sql).await;
        assert_eq!(
            (sqlstate.as_str(), message.as_str()),
            ("53200", "out of memory"),
            "{expression}"
        );
    }
}

#[tokio::test]
async fn what_is_counted_answers_as_before() {
    for (expression, expected) in [
        ("max(repeat('ab', 3))", "ababab"),
        ("max(lpad('x', 3, 'ab'))", "abx"),
        ("max('a' || CAST(v AS varchar))", "a999"),
        ("count('a' || CAST(NULL AS varchar))", "0"),
        ("max(concat('a', 'b', v))", "ab999"),
        ("sum(length(concat_ws('-', 'a', v)))", "16890"),
        ("sum(cardinality(range(v % 3)))", "3000"),
        ("sum(cardinality(array_repeat(v, 3)))", "9000"),
        ("sum(cardinality(string_to_array(v || ',b,c', ',')))", "9000"),
        // The bound is far above the actual size: the call is made in parts.
        ("sum(length(replace(v || ',', ',', repeat('-', 100))))", "310890"),
        ("sum(length(regexp_replace(v || 'b', 'b', repeat('-', 100))))", "310890"),
        ("sum(length(regexp_replace(v || 'b', '(b)', '<\\1>', 'g')))", "19890"),
        // Large, but a single value.
        ("max(cardinality(range(100000)))", "100000"),
        ("max(length(repeat('x', 1000000)))", "1000000"),
        ("max(length(replace(repeat('ab', 500000), 'b', 'xyz')))", "2000000"),
    ] {
        let sql = format!(
            "SELECT CAST({expression} AS varchar) FROM (SELECT value AS v FROM range(0, 3000))"
        );
        assert_eq!(answer(run(&sql).await), expected, "{expression}");
    }
}

/// The first value.
fn answer(ran: Result<Vec<RecordBatch>, SqlError>) -> String {
    let batches = ran.unwrap_or_else(|error| panic!("{error:?}"));
    array_value_to_string(batches[0].column(0), 0).unwrap()
}

#[tokio::test]
async fn what_is_too_much_for_a_batch_flows_in_pieces() {
    for (query, expected) in [
        ("SELECT sum(length(repeat(v || 'x', 10000))) FROM t", "138900000"),
        ("SELECT count(*) FROM t WHERE length(repeat(v || 'x', 10000)) > 5", "3000"),
        ("SELECT sum(length(r)) FROM (SELECT lpad(v || '', 5000) AS r FROM t)", "15000000"),
        ("SELECT sum(length(replace(repeat('a', v), 'a', 'bb'))) FROM t", "8997000"),
        ("SELECT sum(cardinality(range(v))) FROM t", "4498500"),
        ("SELECT min(concat(repeat('a', v), repeat('b', v)) || 'c') FROM t WHERE v < 3", "aabbc"),
    ] {
        let query = query.replace("FROM t", "FROM (SELECT value AS v FROM range(0, 3000))");
        let memory = Budget::new(BUDGET_BYTES).begin();
        let state = state(&memory).with_physical_optimizer_rule(Arc::new(InPieces));
        assert_eq!(answer(run_in(state, &query).await), expected, "{query}");
    }
}

#[tokio::test]
async fn results_over_windows_are_counted() {
    let from = "FROM (SELECT value AS v FROM range(0, 3000))";
    for window in ["(ORDER BY v)", "()", "(PARTITION BY v % 2)", "(PARTITION BY 1 ORDER BY v)"] {
        for call in ["array_agg(v)", "string_agg(CAST(v AS varchar), ',')"] {
            let (sqlstate, _) = refused(&format!("SELECT {call} OVER {window} {from}")).await;
            assert_eq!(sqlstate, "53200", "{call} OVER {window}");
        }
    }
    let small = "SELECT sum(cardinality(a)) FROM
                 (SELECT array_agg(v) OVER (PARTITION BY v / 10 ORDER BY v) AS a";
    assert_eq!(answer(run(&format!("{small} {from})")).await), "16500");
}

#[tokio::test]
async fn a_long_text_is_no_part_of_a_plan() {
    let optimizer = Optimizer::new().rules.into_iter().map(without_long_texts).collect();
    let state = state(&Budget::new(BUDGET_BYTES).begin()).with_optimizer_rules(optimizer);
    let context = SessionContext::new_with_state(state.build());
    let planned = async |sql: &str| {
        let query = context.sql(sql).await.unwrap();
        let plan = query.clone().create_physical_plan().await.unwrap();
        let plan = displayable(plan.as_ref()).indent(true).to_string();
        (plan, answer(query.collect().await.map_err(SqlError::from)))
    };
    let length = "SELECT length('[' || repeat('1,', TIMES) || ']')";
    let (short, answer) = planned(&length.replace("TIMES", "7")).await;
    assert!(short.contains("expr=[16 as") && answer == "16", "{short}");
    let (long, answer) = planned(&length.replace("TIMES", "500000")).await;
    assert!(long.contains("repeat(1,, 500000)") && long.len() < 1000, "{}", long.len());
    assert_eq!(answer, "1000002");
    // What needs a value for planning has it.
    for sql in [
        "SELECT 1000000 LIMIT length(repeat('1,', 500000))",
        "SELECT length(v) FROM (VALUES (repeat('1,', 500000))) v (v)",
        "SELECT length(lag('a', 1, repeat('1,', 500000)) OVER ())",
        "SELECT length((SELECT repeat('1,', 500000)))",
        "SELECT length(string_agg(v, repeat('1', 999998))) FROM (VALUES ('a'), ('b')) v (v)",
        "SELECT max(length(v)) FROM (VALUES ('a')) t (a) JOIN (VALUES (repeat('1,', 500000))) u (v) ON v < a",
    ] {
        let (_, answer) = planned(sql).await;
        assert_eq!(answer, "1000000", "{sql}");
    }
}

#[tokio::test]
async fn an_ended_statement_calls_no_more() {
    let budget = Budget::new(BUDGET_BYTES);
    let memory = budget.begin();
    let frame = SessionContext::new_with_state(state(&memory).build());
    let frame = frame.sql("SELECT repeat('x', value) FROM range(3)").await.unwrap();
    let _held = memory.hold("much", BUDGET_BYTES / 8).unwrap();
    assert!(budget.end_largest(std::time::Instant::now()));
    let error = SqlError::from(frame.collect().await.unwrap_err());
    assert_eq!(Err(error), memory.check());
}
