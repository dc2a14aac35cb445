//! Describes a prepared statement: its parameters and the rows it returns.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as PlanExpr, ExprSchemable as _, LogicalPlan};
use sqlparser::ast::{self, Expr, Query, SetExpr, Value, ValueWithSpan, Visit, Visitor};

use super::returning::Returning;
use super::target::{InsertTarget, Target};
use super::{Outcome, backup, delete, explain, insert, update};
use crate::parser::{Insert, InsertSource, Statement};
use crate::planner::{Parameters, Planner};
use crate::session::Session;
use crate::{Frontend, rewrite};
use tidemark_pg::error::SqlError;
use tidemark_pg::types::spelling::parameter_type;

/// Types of the parameters, and the schema of the rows if the statement returns any.
#[derive(Clone, Debug)]
pub struct Described {
    pub parameters: Vec<Field>,
    pub rows: Option<SchemaRef>,
}

impl Frontend {
    /// Describes a statement. `given` are the parameter types declared by the client, if any.
    pub async fn describe(
        &self,
        session: &mut Session,
        statement: &Statement,
        given: &[Option<DataType>],
    ) -> Result<Described, SqlError> {
        let rows = match statement {
            Statement::Show { .. } => {
                let reply = self.run(session, statement, &Parameters::none()).await?;
                match reply.outcome {
                    Outcome::Rows { rows, .. } => Some(rows.schema),
                    _ => None,
                }
            }
            Statement::Backup(_) => Some(backup::backup_schema()),
            Statement::Explain { .. } => Some(explain::explain_schema()),
            _ => None,
        };
        let count = placeholders(statement)?.max(given.len());
        let planner = self.planner(session);
        let Some((query, hints)) = planned_part(&planner, statement)? else {
            let parameters = parameter_fields(count, given, &BTreeMap::new());
            return Ok(Described { parameters, rows });
        };
        let state = planner.state();
        let mut known = hints;
        for (name, data_type) in rewrite::parameter_types(&query) {
            if let Some(number) = number_of(&name) {
                known.entry(number).or_insert(data_type);
            }
        }
        if count > 0 {
            // The expression around a parameter often determines its type; where planning needs a type first,
            // it is text.
            if let Ok(plan) = planner.plan(&state, &query, &[]).await {
                for (name, data_type) in compared_arrays(&plan)? {
                    if let Some(number) = number_of(&name) {
                        known.entry(number).or_insert_with(|| plain(data_type));
                    }
                }
                for (name, data_type) in plan.get_parameter_types()? {
                    if let (Some(number), Some(data_type)) = (number_of(&name), data_type) {
                        known.entry(number).or_insert_with(|| plain(data_type));
                    }
                }
            }
        }
        let parameters = parameter_fields(count, given, &known);
        let sql_types: Vec<ast::DataType> =
            parameters.iter().map(|field| parameter_type(field.data_type())).collect();
        let rows = match statement {
            Statement::Query(query) => {
                let plan = planner.plan(&state, query, &sql_types).await?;
                Some(planner.output_schema(query, &plan))
            }
            _ => match returning_of(&planner, statement)? {
                Some(returning) => Some(returning.describe(&planner, &sql_types).await?),
                None => rows,
            },
        };
        Ok(Described { parameters, rows })
    }
}

/// Types of the parameters in `x = ANY($n)`, planned as `array_has($n, x)`: arrays of the type of `x`.
fn compared_arrays(plan: &LogicalPlan) -> datafusion::error::Result<Vec<(String, DataType)>> {
    let mut found = vec![];
    plan.apply_with_subqueries(|node| {
        let mut schema = node.schema().as_ref().clone();
        node.inputs().iter().for_each(|input| schema.merge(input.schema()));
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let PlanExpr::ScalarFunction(call) = expr
                    && call.name() == "array_has"
                    && let [PlanExpr::Placeholder(array), element] = call.args.as_slice()
                    && let Ok(element) = element.get_type(&schema)
                {
                    let element = Arc::new(Field::new_list_field(element, true));
                    found.push((array.id.clone(), DataType::List(element)));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// Returns the `RETURNING` clause of a statement that writes.
fn returning_of(planner: &Planner, statement: &Statement) -> Result<Option<Returning>, SqlError> {
    match statement {
        Statement::Insert(insert) => {
            let target = InsertTarget::find(planner, insert)?;
            Ok(Returning::new(insert.returning.as_ref(), &target.into))
        }
        Statement::Update(update) => {
            let target = Target::find(planner, &update.target)?;
            Ok(Returning::new(update.returning.as_ref(), &target))
        }
        Statement::Delete(delete) => {
            let target = Target::find(planner, &delete.target)?;
            Ok(Returning::new(delete.returning.as_ref(), &target))
        }
        _ => Ok(None),
    }
}

/// Types of parameters by number.
type Hints = BTreeMap<usize, Field>;

/// Returns the query inside a statement, and the types its parameters get from their target columns.
fn planned_part(
    planner: &Planner,
    statement: &Statement,
) -> Result<Option<(Query, Hints)>, SqlError> {
    let none = Hints::new;
    Ok(match statement {
        Statement::Query(query) => Some((Query::clone(query), none())),
        Statement::Explain { statement, .. } => planned_part(planner, statement)?,
        Statement::Insert(insert) => {
            let target = InsertTarget::find(planner, insert)?;
            let hints = insert_hints(insert, &target);
            insert::insert_query(insert, &target).map(|query| (query, hints))
        }
        Statement::Update(update) => {
            let target = Target::find(planner, &update.target)?;
            let query = update::update_query(&target, update)?;
            let mut hints = none();
            for assignment in &update.assignments {
                let column = target.table.column(&assignment.column);
                if let (Some(column), Some(number)) = (column, placeholder(&assignment.value)) {
                    hints.insert(number, column.column_type.field("", true));
                }
            }
            Some((query, hints))
        }
        Statement::Delete(delete) => {
            let target = Target::find(planner, &delete.target)?;
            Some((delete::delete_query(&target, delete), none()))
        }
        _ => None,
    })
}

fn insert_hints(insert: &Insert, target: &InsertTarget) -> Hints {
    let mut hints = Hints::new();
    let InsertSource::Query(query) = &insert.source else { return hints };
    let SetExpr::Values(values) = query.body.as_ref() else { return hints };
    for row in &values.rows {
        for (cell, column) in row.content.iter().zip(&target.columns) {
            if let Some(number) = placeholder(cell) {
                let column_type = &target.into.table.columns[*column].column_type;
                hints.insert(number, column_type.field("", true));
            }
        }
    }
    hints
}

/// Types of parameters 1 to `count`: declared by the client, else known from the statement, else text.
fn parameter_fields(count: usize, given: &[Option<DataType>], known: &Hints) -> Vec<Field> {
    let resolve = |number: usize| {
        let given = given.get(number - 1).cloned().flatten().map(plain);
        given.or_else(|| known.get(&number).cloned()).unwrap_or_else(|| plain(DataType::Utf8))
    };
    (1..=count).map(resolve).collect()
}

/// A parameter with only an Arrow type.
fn plain(data_type: DataType) -> Field {
    Field::new("", data_type, true)
}

/// The parameter number of an expression that is only `$n`.
fn placeholder(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => number_of(name),
            _ => None,
        },
        _ => None,
    }
}

fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix('$')?
        .parse()
        .ok()
        .filter(|number| (1..=usize::from(u16::MAX)).contains(number))
}

/// Returns the highest parameter number in a statement.
fn placeholders(statement: &Statement) -> Result<usize, SqlError> {
    match statement {
        Statement::Query(query) => highest_parameter(query),
        Statement::Explain { statement, .. } => placeholders(statement),
        Statement::Insert(insert) => highest_parameter(insert),
        Statement::Update(update) => highest_parameter(update),
        Statement::Delete(delete) => highest_parameter(delete),
        Statement::CreateTable(create) => highest_parameter(create),
        _ => Ok(0),
    }
}

/// Returns the highest parameter number in a part of a statement.
pub fn highest_parameter(node: &impl Visit) -> Result<usize, SqlError> {
    let mut highest = Highest(0);
    match node.visit(&mut highest) {
        ControlFlow::Continue(()) => Ok(highest.0),
        ControlFlow::Break(name) => Err(SqlError::new(
            tidemark_pg::sqlstate::SqlState::UNDEFINED_PARAMETER,
            format!("there is no parameter {name}"),
        )),
    }
}

struct Highest(usize);

impl Visitor for Highest {
    type Break = String;

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<String> {
        if let Value::Placeholder(name) = &value.value {
            match number_of(name) {
                Some(number) => self.0 = self.0.max(number),
                None => return ControlFlow::Break(name.clone()),
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse;

    #[test]
    fn parameters_are_found_in_every_clause() {
        let texts = [
            "SELECT $5",
            "EXPLAIN SELECT $5",
            "INSERT INTO t VALUES ($5)",
            "INSERT INTO t SELECT a FROM u WHERE b = $5",
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = $5",
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1 WHERE t.c = $5",
            "INSERT INTO t DEFAULT VALUES RETURNING $5",
            "UPDATE t SET a = $5",
            "UPDATE t SET a = 1 FROM (SELECT $5) u",
            "UPDATE t SET a = 1 WHERE b IN (SELECT $5)",
            "UPDATE t SET a = 1 RETURNING $5",
            "DELETE FROM t USING f($5)",
            "DELETE FROM t WHERE a = $5",
            "DELETE FROM t RETURNING $5",
            "CREATE TABLE t (a int DEFAULT $5)",
            "CREATE TABLE t AS SELECT $5",
        ];
        for text in texts {
            let statement = parse(text).unwrap().remove(0).statement;
            assert_eq!(placeholders(&statement).unwrap(), 5, "{text}");
        }
        let named = parse("DELETE FROM t WHERE a = $x").unwrap().remove(0).statement;
        assert_eq!(placeholders(&named).unwrap_err().message, "there is no parameter $x");
    }
}
