//! Resolves the names of windows, and checks frames.
//!
//! DataFusion neither lets a window refine another one nor resolves names in `ORDER BY`; here each call gets its whole
//! definition.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, NamedWindowDefinition,
    NamedWindowExpr, Query, Select, SetExpr, UnaryOperator, Value, ValueWithSpan, VisitMut,
    VisitorMut, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
    visit_expressions,
};

use crate::parser::folded;
use crate::trees;
use tidemark_pg::aggregates::is_aggregate;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Writes the definitions of named windows into the calls that refer to them.
pub fn resolve<N: VisitMut>(node: &mut N) -> Result<(), SqlError> {
    match node.visit(&mut Resolver { scopes: vec![] }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

type Windows = BTreeMap<String, WindowSpec>;
type Flow = ControlFlow<Box<SqlError>>;

struct Resolver {
    /// The named windows of each enclosing query and select.
    scopes: Vec<Windows>,
}

fn flow(result: Result<(), SqlError>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

fn windowing(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::WINDOWING_ERROR, message)
}

impl VisitorMut for Resolver {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        // The windows of a select can be named in the ORDER BY of its query.
        let windows = match query.body.as_ref() {
            SetExpr::Select(select) => named_windows(&select.named_window),
            _ => Ok(Windows::new()),
        };
        flow(windows.map(|windows| self.scopes.push(windows)))
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> Flow {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        let windows = named_windows(&select.named_window);
        flow(windows.map(|windows| {
            select.named_window.clear();
            self.scopes.push(windows);
        }))
    }

    fn post_visit_select(&mut self, _select: &mut Select) -> Flow {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let Some(over) = &function.over else { return ControlFlow::Continue(()) };
        let empty = Windows::new();
        let windows = self.scopes.last().unwrap_or(&empty);
        let resolved = match over {
            WindowType::NamedWindow(name) => find(windows, name).cloned(),
            WindowType::WindowSpec(spec) => refined(windows, spec),
        };
        flow(resolved.and_then(|mut spec| {
            check_frame(&spec)?;
            if spec.window_frame.as_ref().is_some_and(never_has_rows) {
                spec.window_frame = None;
                of_no_rows(function);
            }
            function.over = Some(WindowType::WindowSpec(spec));
            Ok(())
        }))
    }
}

fn find<'a>(windows: &'a Windows, name: &Ident) -> Result<&'a WindowSpec, SqlError> {
    windows.get(&folded(name)).ok_or_else(|| {
        let message = format!("window \"{}\" does not exist", folded(name));
        SqlError::new(SqlState::UNDEFINED_OBJECT, message)
    })
}

/// Resolves the definitions of a `WINDOW` clause, each of which may refine an earlier one.
fn named_windows(definitions: &[NamedWindowDefinition]) -> Result<Windows, SqlError> {
    let mut windows = Windows::new();
    for NamedWindowDefinition(name, definition) in definitions {
        let spec = match definition {
            NamedWindowExpr::NamedWindow(other) => find(&windows, other)?.clone(),
            NamedWindowExpr::WindowSpec(spec) => refined(&windows, spec)?,
        };
        check_frame(&spec)?;
        let name = folded(name);
        if windows.contains_key(&name) {
            return Err(windowing(format!("window \"{name}\" is already defined")));
        }
        windows.insert(name, spec);
    }
    Ok(windows)
}

/// The whole definition of a window that may refine another one.
fn refined(windows: &Windows, spec: &WindowSpec) -> Result<WindowSpec, SqlError> {
    let Some(name) = &spec.window_name else { return Ok(spec.clone()) };
    let base = find(windows, name)?;
    let name = folded(name);
    if !spec.partition_by.is_empty() {
        let message = format!("cannot override PARTITION BY clause of window \"{name}\"");
        return Err(windowing(message));
    }
    if !spec.order_by.is_empty() && !base.order_by.is_empty() {
        let message = format!("cannot override ORDER BY clause of window \"{name}\"");
        return Err(windowing(message));
    }
    if base.window_frame.is_some() {
        let message = format!("cannot copy window \"{name}\" because it has a frame clause");
        let error = windowing(message);
        let plain = spec.order_by.is_empty() && spec.window_frame.is_none();
        return Err(if plain {
            error.hint("Omit the parentheses in this OVER clause.")
        } else {
            error
        });
    }
    let order_by = if spec.order_by.is_empty() { &base.order_by } else { &spec.order_by };
    Ok(WindowSpec {
        window_name: None,
        partition_by: base.partition_by.clone(),
        order_by: order_by.clone(),
        window_frame: spec.window_frame.clone(),
    })
}

/// The position of a bound: before, at or after the current row.
fn side(bound: &WindowFrameBound) -> i8 {
    match bound {
        WindowFrameBound::Preceding(_) => -1,
        WindowFrameBound::CurrentRow => 0,
        WindowFrameBound::Following(_) => 1,
    }
}

fn check_frame(spec: &WindowSpec) -> Result<(), SqlError> {
    let Some(frame) = &spec.window_frame else { return Ok(()) };
    let start = &frame.start_bound;
    let end = frame.end_bound.as_ref().unwrap_or(&WindowFrameBound::CurrentRow);
    let message = match (start, end) {
        (WindowFrameBound::Following(None), _) => Some("frame start cannot be UNBOUNDED FOLLOWING"),
        (_, WindowFrameBound::Preceding(None)) => Some("frame end cannot be UNBOUNDED PRECEDING"),
        (WindowFrameBound::Following(_), _) if frame.end_bound.is_none() => {
            Some("frame starting from following row cannot end with current row")
        }
        (WindowFrameBound::CurrentRow, WindowFrameBound::Preceding(_)) => {
            Some("frame starting from current row cannot have preceding rows")
        }
        (WindowFrameBound::Following(_), end) if side(end) < 1 => {
            Some("frame starting from following row cannot have preceding rows")
        }
        _ => None,
    };
    if let Some(message) = message {
        return Err(windowing(message));
    }
    let offsets = [(offset(start), "starting"), (offset(end), "ending")];
    let has_offset = offsets.iter().any(|(offset, _)| offset.is_some());
    match frame.units {
        WindowFrameUnits::Range if has_offset && spec.order_by.len() != 1 => {
            let message =
                "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column";
            return Err(windowing(message));
        }
        WindowFrameUnits::Groups if spec.order_by.is_empty() => {
            return Err(windowing("GROUPS mode requires an ORDER BY clause"));
        }
        _ => {}
    }
    for (offset, place) in offsets {
        if let Some(offset) = offset {
            check_offset(frame, offset, place)?;
        }
    }
    Ok(())
}

/// Whether a frame ends before it begins, which DataFusion refuses.
fn never_has_rows(frame: &WindowFrame) -> bool {
    use WindowFrameBound::{Following, Preceding};
    let number = |bound: Option<&Expr>| match bound {
        Some(Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. })) => {
            number.parse::<u64>().ok()
        }
        _ => None,
    };
    let end = frame.end_bound.as_ref();
    let numbers = number(offset(&frame.start_bound)).zip(number(end.and_then(offset)));
    match (&frame.start_bound, end, numbers) {
        (Preceding(_), Some(Preceding(_)), Some((start, end))) => start < end,
        (Following(_), Some(Following(_)), Some((start, end))) => start > end,
        _ => false,
    }
}

/// Makes the result of a call over a frame that of no rows.
fn of_no_rows(function: &mut Function) {
    match function.name.to_string().to_lowercase().as_str() {
        "first_value" | "last_value" | "nth_value" => {
            if let FunctionArguments::List(list) = &mut function.args
                && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(value))) =
                    list.args.first_mut()
            {
                let result = trees::take(value);
                *value = trees::call("nullif", vec![result.clone(), result]);
            }
        }
        name if is_aggregate(name) => {
            function.filter = Some(Box::new(Expr::value(Value::Boolean(false))));
        }
        _ => {}
    }
}

fn offset(bound: &WindowFrameBound) -> Option<&Expr> {
    match bound {
        WindowFrameBound::Preceding(offset) | WindowFrameBound::Following(offset) => {
            offset.as_deref()
        }
        WindowFrameBound::CurrentRow => None,
    }
}

fn check_offset(frame: &WindowFrame, offset: &Expr, place: &str) -> Result<(), SqlError> {
    let names = visit_expressions(offset, |expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    if names.is_break() {
        let message = format!("argument of {} must not contain variables", frame.units);
        return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
    }
    let negative = match frame.units {
        WindowFrameUnits::Range => {
            "invalid preceding or following size in window function".to_owned()
        }
        _ => format!("frame {place} offset must not be negative"),
    };
    match offset {
        Expr::Value(ValueWithSpan { value: Value::Null, .. }) => {
            let message = format!("frame {place} offset must not be null");
            Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message))
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, .. } => {
            Err(SqlError::new(SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE, negative))
        }
        _ => Ok(()),
    }
}
