//! What statements may hold, and which one goes first.

use super::*;

#[test]
fn a_statement_leaves_a_part_of_what_is_free() {
    let budget = Budget::new(1000);
    let (first, second) = (budget.begin(), budget.begin());
    assert!(first.hold("all", 1000).is_err());
    let held = first.hold("most", 750).unwrap();
    assert!(held.resize(751).is_err());
    let rest = second.hold("rest", 187).unwrap();
    assert!(second.hold("more", 1).is_err());
    drop(held);
    assert_eq!((first.held(), second.held()), (0, 187));
    rest.resize(600).unwrap();
    drop(rest);
    assert_eq!(budget.pool().reserved(), 0);
}

#[test]
fn a_statement_is_forgotten_when_it_is_over() {
    let budget = Budget::new(1000);
    let memory = budget.begin();
    let mut options = ConfigOptions::new();
    memory.join(&mut options);
    let copy = options.clone();
    drop((memory, options));
    assert_eq!(budget.statements().len(), 1);
    assert!(budget.end_largest());
    assert_eq!(StatementMemory::of(&copy).unwrap().check(), Err(ended_as_largest()));
    assert!(!budget.end_largest(), "it was ended already");
    drop(copy);
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
