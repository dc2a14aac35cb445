//! Evaluates `LIMIT` and `OFFSET` before planning: the engine takes integers only, PostgreSQL any expression
//! without columns.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use sqlparser::ast::{
    self, Expr, LimitClause, Query, SelectItem, UnaryOperator, Value, VisitMut, VisitorMut,
};

use super::{Parameters, Planner};
use crate::rewrite::placement;
use crate::trees;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::text_input::invalid_text;
use tidemark_pg::types::arrow::name_of;

impl Planner {
    /// Replaces each `LIMIT` and `OFFSET` by its value.
    pub(super) async fn evaluate_limits(&self, query: &mut Query) -> Result<(), SqlError> {
        let mut found = Found::default();
        let flow = query.visit(&mut found);
        debug_assert!(flow.is_continue(), "the visitor never breaks off");
        if found.clauses.is_empty() {
            return Ok(());
        }
        let mut values = vec![];
        for counted in &found.clauses {
            values.push(self.value_of(counted).await?);
        }
        let flow = query.visit(&mut Put(values.into_iter()));
        debug_assert!(flow.is_continue(), "the visitor never breaks off");
        Ok(())
    }

    async fn value_of(&self, counted: &Counted) -> Result<Option<i64>, SqlError> {
        let Counted { clause, expr, query } = counted;
        match literal(expr) {
            Some(Literal::Null) => return Ok(None),
            Some(Literal::Integer(number)) => return clause.checked(number),
            Some(Literal::Text(text)) => {
                let parsed = text.trim().parse().map_err(|_| invalid_text("bigint", text));
                return clause.checked(parsed?);
            }
            None => {}
        }
        placement::check_limit(expr, clause.name())?;
        // Boxed, as it plans a query inside of one.
        let value = self.single_value(query).await?;
        clause.assigned(value)
    }

    /// The value of a query of one row and one column.
    fn single_value<'a>(
        &'a self,
        query: &'a Query,
    ) -> BoxFuture<'a, Result<ScalarValue, SqlError>> {
        async move {
            let rows = self.query(query, &Parameters::none()).await?;
            let null = ScalarValue::try_from(rows.schema.field(0).data_type())?;
            let batches: Vec<_> = rows.stream.try_collect().await?;
            match batches.iter().find(|batch| batch.num_rows() > 0) {
                Some(batch) => Ok(ScalarValue::try_from_array(batch.column(0), 0)?),
                None => Ok(null),
            }
        }
        .boxed()
    }
}

#[derive(Clone, Copy)]
enum Clause {
    Limit,
    Offset,
}

impl Clause {
    fn name(self) -> &'static str {
        match self {
            Self::Limit => "LIMIT",
            Self::Offset => "OFFSET",
        }
    }

    fn checked(self, number: i64) -> Result<Option<i64>, SqlError> {
        if number >= 0 {
            return Ok(Some(number));
        }
        let sqlstate = match self {
            Self::Limit => SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE,
            Self::Offset => SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE,
        };
        Err(SqlError::new(sqlstate, format!("{} must not be negative", self.name())))
    }

    /// Assigns the value to a `bigint`, as PostgreSQL does; NULL means all rows.
    fn assigned(self, value: ScalarValue) -> Result<Option<i64>, SqlError> {
        let data_type = value.data_type();
        let is_number = data_type.is_numeric() || data_type == DataType::Null;
        if !is_number {
            let found = name_of(&data_type, None);
            let clause = self.name();
            let message = format!("argument of {clause} must be type bigint, not type {found}");
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message));
        }
        if value.is_null() {
            return Ok(None);
        }
        let out_of_range =
            || SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range");
        let rounded = tidemark_pg::functions::rounded(&value.to_array()?)?;
        let rounded = ScalarValue::try_from_array(&rounded, 0)?;
        match rounded.cast_to(&DataType::Int64).map_err(|_| out_of_range())? {
            ScalarValue::Int64(Some(number)) => self.checked(number),
            _ => Err(out_of_range()),
        }
    }
}

/// A clause that needs a value.
struct Counted {
    clause: Clause,
    expr: Expr,
    /// Selects the expression, with the WITH queries around it.
    query: Query,
}

#[derive(Default)]
struct Found {
    clauses: Vec<Counted>,
}

impl VisitorMut for Found {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut found = vec![];
        each_clause(query, |clause, expr| found.push((clause, expr.clone())));
        for (clause, expr) in found {
            let item = SelectItem::UnnamedExpr(expr.clone());
            let select = trees::select(vec![item]).query();
            let query = Query { with: query.with.clone(), ..select };
            self.clauses.push(Counted { clause, expr, query });
        }
        ControlFlow::Continue(())
    }
}

/// Puts the values where the expressions were.
struct Put(std::vec::IntoIter<Option<i64>>);

impl VisitorMut for Put {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        each_clause(query, |_, expr| {
            *expr = match self.0.next().flatten() {
                Some(number) => Expr::value(Value::Number(number.to_string(), false)),
                None => trees::null(),
            };
        });
        ControlFlow::Continue(())
    }
}

/// Calls `act` with each clause that is no plain number and has no parameter.
fn each_clause(query: &mut Query, mut act: impl FnMut(Clause, &mut Expr)) {
    let mut visit = |clause: Clause, expr: &mut Expr| {
        if !is_plain(expr) && !has_parameter(expr) {
            act(clause, expr);
        }
    };
    if let Some(LimitClause::LimitOffset { limit, offset, limit_by: _ }) = &mut query.limit_clause {
        if let Some(limit) = limit {
            visit(Clause::Limit, limit);
        }
        if let Some(offset) = offset {
            visit(Clause::Offset, &mut offset.value);
        }
    }
    if let Some(quantity) = query.fetch.as_mut().and_then(|fetch| fetch.quantity.as_mut()) {
        visit(Clause::Limit, quantity);
    }
}

fn is_plain(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if match &value.value {
        Value::Number(text, _) => text.parse::<i64>().is_ok(),
        _ => false,
    })
}

fn has_parameter(expr: &Expr) -> bool {
    let flow = ast::visit_expressions(expr, |inner| match inner {
        Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    flow.is_break()
}

enum Literal<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
}

/// A literal whose value needs no query.
fn literal(expr: &Expr) -> Option<Literal<'_>> {
    match expr {
        Expr::Nested(inner) => literal(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match literal(expr)? {
            Literal::Integer(number) => Some(Literal::Integer(-number)),
            _ => None,
        },
        Expr::Value(value) => match &value.value {
            Value::Null => Some(Literal::Null),
            Value::Number(text, _) => text.parse().ok().map(Literal::Integer),
            Value::SingleQuotedString(text) => Some(Literal::Text(text)),
            _ => None,
        },
        _ => None,
    }
}
