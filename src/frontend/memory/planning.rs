//! What a plan takes, found before anything walks it.
//!
//! A query that is referred to twice is planned twice: fourteen times doubled, a few lines become 16,384
//! scans. The planner shares the parts of such a plan, the analyzer after it does not. So a plan is weighed
//! as the tree it will become, while its parts are shared.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::ParamValues;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};
use sqlparser::ast::{
    ObjectName, Query, Select, TableFactor, TableWithJoins, Value, ValueWithSpan, Visit as _,
    Visitor,
};

use super::{Held, StatementMemory};
use crate::frontend::error::SqlError;
use crate::frontend::pgwire::sqlstate::SqlState;

/// Most operators of one plan. More take longer to plan than anyone waits.
const OPERATORS_MAX: usize = 10_000;
/// What planning takes for each operator, each part of an expression and each column an operator yields:
/// the plan is rewritten part by part, and made a second time to be run.
const OPERATOR_BYTES: usize = 4096;
const EXPRESSION_BYTES: usize = 512;
const COLUMN_BYTES: usize = 64;
/// Most relations that one `FROM` joins, and the fewest that are let be. As a chain of joins is planned each
/// of them lists the columns of all before: what two relations take, of some dozens of columns.
const JOINED_MAX: usize = 1000;
const JOINED_MIN: usize = 64;
const JOIN_BYTES: usize = 16 << 10;

/// A text is copied this often until it is parsed: as a message, as tokens, as a tree.
const TEXT_COPIES: usize = 4;
/// Literals up to this size need not be counted.
const LITERAL_BYTES_SMALL: usize = 64 << 10;
/// A long literal is copied this often while its statement is planned and run: columns are named after their
/// expressions, and each rule that changes a plan makes a new one.
const LITERAL_COPIES: usize = 12;
/// The same of a value that is bound to a parameter: no column is named after it.
const VALUE_COPIES: usize = 6;

/// The parts of a plan, counted as often as they stand in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    operators: usize,
    expressions: usize,
    columns: usize,
}

impl Weight {
    fn of(plan: &LogicalPlan) -> Self {
        Scales::default().weigh(plan)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            operators: self.operators.saturating_add(other.operators),
            expressions: self.expressions.saturating_add(other.expressions),
            columns: self.columns.saturating_add(other.columns),
        }
    }

    fn bytes(self) -> usize {
        let operators = self.operators.saturating_mul(OPERATOR_BYTES);
        let expressions = self.expressions.saturating_mul(EXPRESSION_BYTES);
        operators
            .saturating_add(expressions)
            .saturating_add(self.columns.saturating_mul(COLUMN_BYTES))
    }
}

/// Weights of the operators seen, by their addresses: a shared one is weighed once.
#[derive(Default)]
struct Scales(HashMap<*const LogicalPlan, Weight>);

impl Scales {
    fn weigh(&mut self, plan: &LogicalPlan) -> Weight {
        if let Some(known) = self.0.get(&std::ptr::from_ref(plan)) {
            return *known;
        }
        let mut weight =
            Weight { operators: 1, columns: plan.schema().fields().len(), expressions: 0 };
        let mut inner: Vec<Subquery> = vec![];
        let counted = plan.apply_expressions(|expr| {
            expr.apply(|part| {
                weight.expressions += 1;
                inner.extend(subquery(part).cloned());
                Ok(TreeNodeRecursion::Continue)
            })
        });
        debug_assert!(counted.is_ok(), "counting never fails");
        let inner = inner.iter().map(|query| query.subquery.as_ref());
        for input in plan.inputs().into_iter().chain(inner) {
            weight = weight.plus(self.weigh(input));
        }
        self.0.insert(std::ptr::from_ref(plan), weight);
        weight
    }
}

fn subquery(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(query) => Some(query),
        Expr::Exists(exists) => Some(&exists.subquery),
        Expr::InSubquery(within) => Some(&within.subquery),
        Expr::SetComparison(compared) => Some(&compared.subquery),
        _ => None,
    }
}

/// Counts what parsing a text takes, until the value returned is dropped.
pub fn hold_text(memory: &Arc<StatementMemory>, text: &str) -> Result<Held, SqlError> {
    Ok(memory.hold("parsing", text.len().saturating_mul(TEXT_COPIES))?)
}

/// Counts what the long literals of a query take until its statement is over.
pub fn charge_literals(query: &Query, memory: &Arc<StatementMemory>) -> Result<(), SqlError> {
    let mut literals = Literals(0);
    let flow = query.visit(&mut literals);
    debug_assert!(flow.is_continue(), "counting never stops");
    match literals.0 {
        0..=LITERAL_BYTES_SMALL => Ok(()),
        bytes => Ok(memory.charge("literals", bytes.saturating_mul(LITERAL_COPIES))?),
    }
}

/// Bytes of all literals.
struct Literals(usize);

impl Visitor for Literals {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        let bytes = match &value.value {
            Value::DollarQuotedString(quoted) => quoted.value.len(),
            Value::SingleQuotedString(text)
            | Value::EscapedStringLiteral(text)
            | Value::UnicodeStringLiteral(text)
            | Value::NationalStringLiteral(text)
            | Value::HexStringLiteral(text)
            | Value::SingleQuotedByteStringLiteral(text)
            | Value::Number(text, _) => text.len(),
            _ => 0,
        };
        self.0 = self.0.saturating_add(bytes);
        ControlFlow::Continue(())
    }
}

/// Counts what long values of parameters take until their statement is over.
pub fn charge_values(values: &ParamValues, memory: &Arc<StatementMemory>) -> Result<(), SqlError> {
    let ParamValues::List(values) = values else { return Ok(()) };
    let bytes = values.iter().map(|bound| bound.value.size()).fold(0, usize::saturating_add);
    match bytes {
        0..=LITERAL_BYTES_SMALL => Ok(()),
        bytes => Ok(memory.charge("parameters", bytes.saturating_mul(VALUE_COPIES))?),
    }
}

/// Most relations that one `FROM` may join, given the memory there is: the columns of each join are those
/// of all before it.
fn joined_max(memory_bytes: usize) -> usize {
    (memory_bytes / JOIN_BYTES).isqrt().clamp(JOINED_MIN, JOINED_MAX)
}

/// Refuses a query whose joins would take more than there is before they are a plan to be weighed.
pub fn check_joins(query: &Query, memory: &StatementMemory) -> Result<(), SqlError> {
    let joined_max = joined_max(memory.budget.bytes());
    let mut widest = WidestFrom(0);
    let flow = query.visit(&mut widest);
    debug_assert!(flow.is_continue(), "counting never stops");
    if widest.0 <= joined_max {
        return Ok(());
    }
    let message = format!("a FROM clause joins more than {joined_max} relations");
    Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message)
        .hint("Store the rows of some of the joins in a table, and join that."))
}

/// The number of relations of the longest `FROM`.
struct WidestFrom(usize);

impl Visitor for WidestFrom {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.0 = self.0.max(select.from.iter().map(relations).sum());
        ControlFlow::Continue(())
    }
}

fn relations(from: &TableWithJoins) -> usize {
    let joined = from.joins.iter().map(|join| &join.relation);
    let each = joined.chain([&from.relation]).map(|relation| match relation {
        TableFactor::NestedJoin { table_with_joins, .. } => relations(table_with_joins),
        _ => 1,
    });
    each.sum()
}

/// Refuses a query whose `WITH` comes to too many references before they are planned, each on its own.
pub fn check_references(query: &Query) -> Result<(), SqlError> {
    let count = references(query, &HashMap::new());
    if count <= OPERATORS_MAX {
        return Ok(());
    }
    Err(too_complex(format!(
        "Its WITH comes to {count} references; a plan has at most {OPERATORS_MAX} operators."
    )))
}

/// The relations of a query, those of `WITH` as often as they are referred to.
fn references(query: &Query, outer: &HashMap<String, usize>) -> usize {
    let mut known = outer.clone();
    for table in query.with.iter().flat_map(|with| &with.cte_tables) {
        let count = references(&table.query, &known);
        known.insert(table.alias.name.value.to_lowercase(), count.max(1));
    }
    let mut counted = References { known: &known, inside: 0, count: 0 };
    let flow = query.body.visit(&mut counted);
    debug_assert!(flow.is_continue(), "counting never stops");
    counted.count
}

/// Counts the relations of a query; those of queries inside it by themselves.
struct References<'a> {
    known: &'a HashMap<String, usize>,
    inside: usize,
    count: usize,
}

impl Visitor for References<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.inside == 0 {
            self.count = self.count.saturating_add(references(query, self.known));
        }
        self.inside += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.inside -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        if self.inside == 0 {
            let known = self.known.get(&relation.to_string().to_lowercase());
            self.count = self.count.saturating_add(known.copied().unwrap_or(1));
        }
        ControlFlow::Continue(())
    }
}

fn too_complex(detail: String) -> SqlError {
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "the statement is too complex")
        .detail(format!("{detail} A query in WITH, or a view, counts each time it is referred to."))
        .hint("Store the rows of what is referred to often in a table, and refer to that.")
}

/// Counts what a plan will take for the statement it is part of; refuses one that is too large.
pub fn check(plan: &LogicalPlan, options: &ConfigOptions) -> Result<(), SqlError> {
    let weight = Weight::of(plan);
    if weight.operators > OPERATORS_MAX {
        return Err(too_complex(format!(
            "Its plan would have {} operators; a plan has at most {OPERATORS_MAX}.",
            weight.operators
        )));
    }
    match StatementMemory::of(options) {
        Some(memory) => Ok(memory.charge("planning", weight.bytes())?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::{LogicalPlanBuilder, lit};

    use super::*;

    fn doubled(times: usize) -> LogicalPlan {
        let one =
            LogicalPlanBuilder::empty(true).project([lit(1).alias("x")]).unwrap().build().unwrap();
        (0..times).fold(one, |plan, level| {
            let side = |name: &str| {
                let named = LogicalPlanBuilder::from(plan.clone());
                named.alias(format!("{name}{level}")).unwrap().build().unwrap()
            };
            let both = LogicalPlanBuilder::from(side("a")).cross_join(side("b")).unwrap();
            both.project([lit(1).alias("x")]).unwrap().build().unwrap()
        })
    }

    #[test]
    fn what_is_referred_to_twice_weighs_twice() {
        let (one, two) = (Weight::of(&doubled(1)), Weight::of(&doubled(2)));
        assert_eq!(two.operators, 2 * one.operators + 4);
        // Two to the sixtieth: only a walk that shares comes to an end.
        assert!(Weight::of(&doubled(60)).operators > 1 << 60);
    }

    #[test]
    fn references_of_with_are_counted_before_they_are_planned() {
        let doubled = |times: usize| {
            let more = (1..=times).map(|n| {
                let before = n - 1;
                format!(", c{n} AS (SELECT 1 AS x FROM C{before} a, (SELECT * FROM c{before}) b)")
            });
            let more: String = more.collect();
            format!("WITH c0 AS (SELECT 1 AS x){more} SELECT * FROM c{times}")
        };
        let check =
            |text: &str| check_references(&crate::frontend::planner::parse_query(text).unwrap());
        check(&doubled(8)).unwrap();
        for text in [doubled(60), format!("SELECT * FROM ({}) z", doubled(60))] {
            assert_eq!(check(&text).unwrap_err().sqlstate, SqlState::STATEMENT_TOO_COMPLEX);
        }
    }

    #[test]
    fn a_plan_of_too_many_operators_is_too_complex() {
        let options = ConfigOptions::new();
        assert!(check(&doubled(8), &options).is_ok());
        let refused = check(&doubled(14), &options).unwrap_err();
        assert_eq!(refused.sqlstate, SqlState::STATEMENT_TOO_COMPLEX);
    }

    #[test]
    fn a_plan_is_counted_as_long_as_its_statement_runs() {
        let budget = crate::frontend::memory::Budget::new(1 << 20);
        let memory = budget.begin();
        let mut options = ConfigOptions::new();
        memory.join(&mut options);
        check(&doubled(1), &options).unwrap();
        assert!(memory.held() >= 4 * OPERATOR_BYTES);
        let refused = check(&doubled(8), &options).unwrap_err();
        assert_eq!(refused.sqlstate, SqlState::OUT_OF_MEMORY);
        drop((memory, options));
        assert_eq!(budget.pool().reserved(), 0);
    }

    #[test]
    fn long_literals_and_values_are_counted_until_the_statement_is_over() {
        let budget = crate::frontend::memory::Budget::new(16 << 20);
        let memory = budget.begin();
        let literal = |bytes: usize| {
            let text = format!("SELECT length('{}')", "x".repeat(bytes));
            charge_literals(&crate::frontend::planner::parse_query(&text).unwrap(), &memory)
        };
        literal(LITERAL_BYTES_SMALL).unwrap();
        assert_eq!(memory.held(), 0);
        literal(100 << 10).unwrap();
        assert_eq!(memory.held(), LITERAL_COPIES * (100 << 10));
        assert_eq!(literal(1 << 20).unwrap_err().sqlstate, SqlState::OUT_OF_MEMORY);
        let value = |bytes: usize| {
            let value = ScalarValue::from("x".repeat(bytes));
            charge_values(&ParamValues::List(vec![value.into()]), &memory)
        };
        value(1000).unwrap();
        assert_eq!(value(2 << 20).unwrap_err().sqlstate, SqlState::OUT_OF_MEMORY);
        assert!(hold_text(&memory, &"x".repeat(4 << 20)).is_err());
        drop(memory);
        assert_eq!(budget.pool().reserved(), 0);
    }

    #[test]
    fn a_from_clause_joins_only_so_many_relations() {
        let memory = crate::frontend::memory::Budget::new(1 << 20).begin();
        let joined = |count: usize| {
            let more = ", t".repeat(count - 3);
            let text = format!("SELECT 1 FROM t, (t JOIN t USING (a)){more}");
            check_joins(&crate::frontend::planner::parse_query(&text).unwrap(), &memory)
        };
        assert_eq!(joined_max(1 << 20), JOINED_MIN);
        assert_eq!(joined_max(256 << 20), 128);
        assert_eq!(joined(JOINED_MIN), Ok(()));
        assert_eq!(joined(JOINED_MIN + 1).unwrap_err().sqlstate, SqlState::STATEMENT_TOO_COMPLEX);
    }
}
