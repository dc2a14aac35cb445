//! Estimates the memory of a plan before anything walks it.
//!
//! A query that is referred to twice is planned twice: doubled fourteen times, a few lines become 16,384
//! scans. The planner shares the parts of such a plan, but the analyzer after it does not. So a plan is
//! weighed as the tree it will become, while its parts are still shared.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::ParamValues;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};
use sqlparser::ast::{
    ObjectName, Query, Select, TableFactor, TableWithJoins, Value, ValueWithSpan, Visit as _,
    Visitor,
};

use super::{Held, StatementMemory};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Most operators of one plan. Larger ones take longer to plan than anyone waits.
const OPERATORS_MAX: usize = 10_000;
/// Bytes that planning takes for each operator, each part of an expression and each output column of an
/// operator: the plan is rewritten part by part and then translated to a physical one.
const OPERATOR_BYTES: usize = 4096;
const EXPRESSION_BYTES: usize = 512;
const COLUMN_BYTES: usize = 64;
/// Most relations that one `FROM` joins, and the number that is always allowed. In a chain of joins each one
/// lists the columns of all before it. The bytes are an estimate for a pair of relations of some dozens of
/// columns.
const JOINED_MAX: usize = 1000;
const JOINED_MIN: usize = 64;
const JOIN_BYTES: usize = 16 << 10;

/// How often a text is copied until it is parsed: as a message, as tokens, as a tree.
const TEXT_COPIES: usize = 4;
/// Literals up to this size are not counted.
const LITERAL_BYTES_SMALL: usize = 64 << 10;
/// How often a long literal is copied while its statement is planned and run: columns are named after their
/// expressions, and each rule that changes a plan builds a new one.
const LITERAL_COPIES: usize = 12;
/// The same for a value bound to a parameter: no column is named after it.
const VALUE_COPIES: usize = 6;

/// Deepest plan, in levels of operators. A level of an expression counts as several, by the stack it takes.
/// Levels of expressions add up over stacked operators, whose expressions may be merged into one.
const DEPTH_MAX: usize = 2000;
const EXPRESSION_LEVELS: usize = 4;
/// Expressions up to this depth do not count, such as column names and simple computations.
const SHALLOW: usize = 3;
/// Longest chain of `WITH` queries that refer to each other.
const REFERENCES_DEPTH_MAX: usize = 700;
/// Deepest nesting of views.
pub const NESTED_VIEWS_MAX: usize = 100;

/// The parts of a plan, each counted as often as it occurs in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    operators: usize,
    expressions: usize,
    columns: usize,
    /// Levels of the deepest branch.
    depth: usize,
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
            depth: self.depth,
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

/// Weights of the operators seen, by address: a shared operator is weighed once.
#[derive(Default)]
struct Scales(HashMap<*const LogicalPlan, Weight>);

impl Scales {
    fn weigh(&mut self, plan: &LogicalPlan) -> Weight {
        if let Some(known) = self.0.get(&std::ptr::from_ref(plan)) {
            return *known;
        }
        let mut parts = Parts::default();
        let counted = plan.apply_expressions(|expr| expr.visit(&mut parts));
        debug_assert!(counted.is_ok(), "counting never fails");
        let mut weight = Weight {
            operators: 1,
            columns: plan.schema().fields().len(),
            expressions: parts.count,
            depth: 0,
        };
        let inner = parts.subqueries.iter().map(|query| query.subquery.as_ref());
        let mut below = 0;
        for input in plan.inputs().into_iter().chain(inner) {
            let input = self.weigh(input);
            below = below.max(input.depth);
            weight = weight.plus(input);
        }
        weight.depth = 1 + parts.deepest.saturating_sub(SHALLOW * EXPRESSION_LEVELS) + below;
        self.0.insert(std::ptr::from_ref(plan), weight);
        weight
    }
}

/// The parts of the expressions of an operator.
#[derive(Default)]
struct Parts {
    count: usize,
    subqueries: Vec<Subquery>,
    /// Levels that are open now, and the maximum so far.
    depth: usize,
    deepest: usize,
}

/// Levels that an expression counts for. Chains of binary operators take little stack.
fn levels(expr: &Expr) -> usize {
    if matches!(expr, Expr::BinaryExpr(_)) { 1 } else { EXPRESSION_LEVELS }
}

impl<'n> TreeNodeVisitor<'n> for Parts {
    type Node = Expr;

    fn f_down(&mut self, expr: &'n Expr) -> datafusion::error::Result<TreeNodeRecursion> {
        self.count += 1;
        self.subqueries.extend(subquery(expr).cloned());
        self.depth += levels(expr);
        self.deepest = self.deepest.max(self.depth);
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, expr: &'n Expr) -> datafusion::error::Result<TreeNodeRecursion> {
        self.depth -= levels(expr);
        Ok(TreeNodeRecursion::Continue)
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

/// Counts the memory for parsing a text until the returned value is dropped.
pub fn hold_text(memory: &Arc<StatementMemory>, text: &str) -> Result<Held, SqlError> {
    Ok(memory.hold("parsing", text.len().saturating_mul(TEXT_COPIES))?)
}

/// Counts the memory of a query's long literals until its statement is over.
pub fn charge_literals(query: &Query, memory: &Arc<StatementMemory>) -> Result<(), SqlError> {
    let mut literals = Literals(0);
    let flow = query.visit(&mut literals);
    debug_assert!(flow.is_continue(), "counting never stops");
    match literals.0 {
        0..=LITERAL_BYTES_SMALL => Ok(()),
        bytes => Ok(memory.charge("literals", bytes.saturating_mul(LITERAL_COPIES))?),
    }
}

/// Total bytes of the literals.
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

/// Counts the memory of long parameter values until their statement is over.
pub fn charge_values(values: &ParamValues, memory: &Arc<StatementMemory>) -> Result<(), SqlError> {
    let ParamValues::List(values) = values else { return Ok(()) };
    let bytes = values.iter().map(|bound| bound.value.size()).fold(0, usize::saturating_add);
    match bytes {
        0..=LITERAL_BYTES_SMALL => Ok(()),
        bytes => Ok(memory.charge("parameters", bytes.saturating_mul(VALUE_COPIES))?),
    }
}

/// Most relations that one `FROM` may join with this much memory: the columns of each join are those of all
/// before it.
fn joined_max(memory_bytes: usize) -> usize {
    (memory_bytes / JOIN_BYTES).isqrt().clamp(JOINED_MIN, JOINED_MAX)
}

/// Refuses a query with too many joins for the available memory, before it is planned and weighed.
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

/// Number of relations of the longest `FROM`.
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

/// Refuses a query whose `WITH` expands to too many references, before each of them is planned.
pub fn check_references(query: &Query) -> Result<(), SqlError> {
    let found = references(query, &HashMap::new());
    let count = found.count;
    if count > OPERATORS_MAX {
        return Err(too_many(&format!(
            "Its WITH comes to {count} references; a plan has at most {OPERATORS_MAX} operators."
        )));
    }
    if found.depth > REFERENCES_DEPTH_MAX {
        return Err(too_complex(format!(
            "More than {REFERENCES_DEPTH_MAX} queries of its WITH refer to each other in a row."
        )));
    }
    Ok(())
}

/// The expansion of a relation in `WITH`: its relations, and the length of their longest chain.
#[derive(Clone, Copy, Default)]
struct Found {
    count: usize,
    depth: usize,
}

/// The relations of a query; a `WITH` query counts each time it is referred to.
fn references(query: &Query, outer: &HashMap<String, Found>) -> Found {
    let mut known = outer.clone();
    for table in query.with.iter().flat_map(|with| &with.cte_tables) {
        let found = references(&table.query, &known);
        let found = Found { count: found.count.max(1), depth: found.depth + 1 };
        known.insert(table.alias.name.value.to_lowercase(), found);
    }
    let mut counted = References { known: &known, inside: 0, found: Found::default() };
    let flow = query.body.visit(&mut counted);
    debug_assert!(flow.is_continue(), "counting never stops");
    counted.found
}

/// Counts the relations of a query, and those of the queries inside it separately.
struct References<'a> {
    known: &'a HashMap<String, Found>,
    inside: usize,
    found: Found,
}

impl References<'_> {
    fn add(&mut self, more: Found) {
        self.found.count = self.found.count.saturating_add(more.count);
        self.found.depth = self.found.depth.max(more.depth);
    }
}

impl Visitor for References<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.inside == 0 {
            self.add(references(query, self.known));
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
            self.add(known.copied().unwrap_or(Found { count: 1, depth: 0 }));
        }
        ControlFlow::Continue(())
    }
}

/// The error for views that are nested too deeply.
pub fn nested_views() -> SqlError {
    too_complex(format!("More than {NESTED_VIEWS_MAX} views are inside each other."))
}

fn too_many(detail: &str) -> SqlError {
    too_complex(format!("{detail} A query in WITH, or a view, counts each time it is referred to."))
        .hint("Store the rows of what is referred to often in a table, and refer to that.")
}

pub(super) fn too_complex(detail: String) -> SqlError {
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "the statement is too complex")
        .detail(detail)
        .hint("Store the rows of what is innermost in a table, and refer to that.")
}

/// Counts the memory of a plan in its statement; refuses a plan that is too large.
pub fn check(plan: &LogicalPlan, options: &ConfigOptions) -> Result<(), SqlError> {
    let weight = Weight::of(plan);
    if weight.operators > OPERATORS_MAX {
        return Err(too_many(&format!(
            "Its plan would have {} operators; a plan has at most {OPERATORS_MAX}.",
            weight.operators
        )));
    }
    if weight.depth > DEPTH_MAX {
        return Err(too_complex(format!(
            "Its plan would have {} levels; a plan has at most {DEPTH_MAX}.",
            weight.depth
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
    use crate::memory::tests::parse_query;

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
        // Two to the sixtieth: only a walk that shares subtrees terminates.
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
        let check = |text: &str| check_references(&parse_query(text));
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
    fn a_plan_of_too_many_levels_is_too_complex() {
        let options = ConfigOptions::new();
        let nested = |levels: usize| {
            let one = LogicalPlanBuilder::empty(true).build().unwrap();
            let deep = |level| (0..10).fold(lit(1), |expr, _| -expr).alias(format!("x{level}"));
            (0..levels).fold(one, |plan, level| {
                LogicalPlanBuilder::from(plan).project([deep(level)]).unwrap().build().unwrap()
            })
        };
        check(&nested(40), &options).unwrap();
        let refused = check(&nested(100), &options).unwrap_err();
        assert_eq!(refused.sqlstate, SqlState::STATEMENT_TOO_COMPLEX);
    }

    #[test]
    fn references_in_a_row_are_bounded() {
        let chain = |levels: usize| {
            let more = (1..=levels).map(|n| format!(", c{n} AS (SELECT x FROM c{})", n - 1));
            let more: String = more.collect();
            let text = format!("WITH c0 AS (SELECT 1 AS x){more} SELECT * FROM c{levels}");
            check_references(&parse_query(&text))
        };
        chain(REFERENCES_DEPTH_MAX - 1).unwrap();
        let refused = chain(REFERENCES_DEPTH_MAX).unwrap_err();
        assert_eq!(refused.sqlstate, SqlState::STATEMENT_TOO_COMPLEX);
    }

    #[test]
    fn a_plan_is_counted_as_long_as_its_statement_runs() {
        let budget = crate::memory::Budget::new(1 << 20);
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
        let budget = crate::memory::Budget::new(16 << 20);
        let memory = budget.begin();
        let literal = |bytes: usize| {
            let text = format!("SELECT length('{}')", "x".repeat(bytes));
            charge_literals(&parse_query(&text), &memory)
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
        let memory = crate::memory::Budget::new(1 << 20).begin();
        let joined = |count: usize| {
            let more = ", t".repeat(count - 3);
            let text = format!("SELECT 1 FROM t, (t JOIN t USING (a)){more}");
            check_joins(&parse_query(&text), &memory)
        };
        assert_eq!(joined_max(1 << 20), JOINED_MIN);
        assert_eq!(joined_max(256 << 20), 128);
        assert_eq!(joined(JOINED_MIN), Ok(()));
        assert_eq!(joined(JOINED_MIN + 1).unwrap_err().sqlstate, SqlState::STATEMENT_TOO_COMPLEX);
    }
}
