//! How much statements may hold, and which one is ended first.

use sqlparser::ast::{Query, Statement};
use sqlparser::parser::Parser;

use super::*;
use crate::dialect::SqlDialect;
use crate::text_input::json;

/// A query, read without the limits that a statement has.
pub(super) fn parse_query(text: &str) -> Query {
    let dialect = SqlDialect::default();
    let parser = Parser::new(&dialect).with_recursion_limit(10_000);
    let parsed = parser.try_with_sql(text).unwrap().parse_statement().unwrap();
    let Statement::Query(query) = parsed else { panic!("{text} is no query") };
    *query
}

#[test]
fn a_statement_leaves_a_part_of_what_is_free() {
    let budget = Budget::new(1000);
    let (first, second) = (budget.begin(), budget.begin());
    assert!(first.hold("all", 600).is_err());
    let held = first.hold("most", 450).unwrap();
    assert!(held.resize(451).is_err());
    let rest = second.hold("rest", 112).unwrap();
    assert!(second.hold("more", 1).is_err());
    drop(held);
    assert_eq!((first.held(), second.held()), (0, 112));
    rest.resize(400).unwrap();
    drop(rest);
    assert_eq!(budget.pool().reserved(), 0);
}

#[test]
fn a_statement_is_forgotten_when_it_is_over() {
    let budget = Budget::new(1000);
    let memory = budget.begin();
    let mut options = ConfigOptions::new();
    memory.join(&mut options);
    let held = memory.hold("much", 100).unwrap();
    let copy = options.clone();
    drop((memory, options));
    assert_eq!(budget.statements().len(), 1);
    assert!(budget.end_largest(Instant::now()));
    assert_eq!(StatementMemory::of(&copy).unwrap().check(), Err(Stop::OutOfMemory.error()));
    assert!(!budget.end_largest(Instant::now()), "it was ended already");
    drop((copy, held));
    assert!(budget.statements().is_empty());
}

#[test]
fn views_are_counted_per_statement() {
    let budget = Budget::new(1000);
    let memory = budget.begin();
    assert!((0..VIEWS_MAX).all(|_| memory.expand_view().is_ok()));
    let refused = memory.expand_view().unwrap_err();
    assert_eq!(refused.sqlstate, SqlState::STATEMENT_TOO_COMPLEX);
    assert!(budget.begin().expand_view().is_ok());
}

#[test]
fn what_a_session_keeps_is_counted_and_leaves_room_for_others() {
    let budget = Budget::new(8000);
    let (first, second) = (SessionMemory::new(&budget), SessionMemory::new(&budget));
    let kept = first.keep("portals", 700).unwrap();
    let refused = first.keep("portals", 100).unwrap_err();
    assert_eq!(refused.sqlstate, SqlState::OUT_OF_MEMORY);
    assert_eq!(budget.kept(), 700, "what was refused is not counted");
    let other = second.keep("prepared statements", 200).unwrap();
    let statement = budget.begin();
    assert!(statement.hold("all that sessions leave", 2930).is_err());
    drop(statement.hold("less", 2920).unwrap());
    drop(kept);
    let again = first.keep("portals", 500).unwrap();
    assert_eq!(budget.kept(), 700);
    drop((again, other));
    assert_eq!(budget.kept(), 0);
}

#[test]
fn a_value_is_counted_while_it_grows() {
    let budget = Budget::new(40 << 20);
    let running = Arc::new(Running::default());
    let work = running.inline(async {
        let memory = budget.begin();
        let mut growing = Growing::new("json");
        growing.add(1000)?;
        assert_eq!(memory.held(), 0, "it is small");
        growing.add(5 << 20)?;
        assert!(memory.held() >= 5 << 20);
        let refused = growing.add(5 << 20).unwrap_err();
        assert_eq!(refused.sqlstate, SqlState::OUT_OF_MEMORY);
        drop(growing);
        assert_eq!(memory.held(), 0);
        Ok(())
    });
    futures::executor::block_on(work).unwrap();
}

#[test]
fn a_document_is_refused_before_its_tree_fills_memory() {
    let budget = Budget::new(16 << 20);
    let running = Arc::new(Running::default());
    let work = running.inline(async {
        let _memory = budget.begin();
        let array = |items: usize| json::normalise(&format!("[{}1]", "1,".repeat(items)));
        assert!(array(1000).is_ok());
        assert_eq!(array(1_000_000).unwrap_err().sqlstate, SqlState::OUT_OF_MEMORY);
        let zeros = format!("[{}1]", "1e131071,".repeat(100));
        assert_eq!(json::normalise(&zeros).unwrap_err().sqlstate, SqlState::OUT_OF_MEMORY);
        assert_eq!(budget.pool().reserved(), 0);
        Ok(())
    });
    futures::executor::block_on(work).unwrap();
}
