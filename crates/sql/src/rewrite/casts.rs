//! Rewrites casts and typed literals to calls of our cast function, and `regclass` and similar casts to calls
//! of catalog functions.
//!
//! Two casts are left to DataFusion: that of a parameter, from which the planner takes the parameter's type,
//! and that of `NULL`. For both, [`tidemark_pg::types::spelling`] resolves the type names.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::Field;
use sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query,
    SelectItem, SetExpr, TypedString, Value, ValueWithSpan, Visit, VisitMut, visit_expressions,
    visit_expressions_mut,
};

use super::literals;
use super::operators::as_string;
use crate::parser::folded;
use crate::trees::{call, cast, string, take};
use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::CAST;
use tidemark_pg::types::spelling::{PseudoType, Registered, cast_field, cast_type, pseudo_type};

/// The cast to `oid`.
const TO_OID: &str = "to_oid";

/// Rewrites every cast and typed literal in `node`.
pub fn rewrite_casts<N: VisitMut>(node: &mut N) -> Result<(), SqlError> {
    let flow = visit_expressions_mut(node, |expr| match rewrite_cast(expr) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    });
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// The types to which parameters are cast, which become theirs, by parameter name.
pub fn parameter_types<N: Visit>(node: &N) -> HashMap<String, Field> {
    let mut types = HashMap::new();
    let flow: ControlFlow<()> = visit_expressions(node, |expr| {
        if let Expr::Cast { expr, data_type, .. } = expr
            && let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) = &**expr
            && !matches!(pseudo_type(data_type), Some(PseudoType::Registered(_)))
            && let Ok(field) = cast_field(data_type)
        {
            types.entry(name.clone()).or_insert(field);
        }
        ControlFlow::Continue(())
    });
    debug_assert!(flow.is_continue(), "looking for casts never stops");
    types
}

/// Makes columns of `regclass` and similar types show the object's name and not its oid.
pub fn show_names(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            continue;
        };
        let shows_name = match expr {
            Expr::Cast { data_type, expr: literal, .. } => {
                matches!(pseudo_type(data_type), Some(PseudoType::Registered(_)))
                    && as_string(literal).is_some()
            }
            Expr::Function(function) => names_oid(function).is_some(),
            _ => false,
        };
        if shows_name {
            *expr = cast(take(expr), DataType::Text);
        }
    }
}

fn rewrite_cast(expr: &mut Expr) -> Result<(), SqlError> {
    if let Expr::TypedString(TypedString { data_type, value, .. }) = expr {
        let literal = Expr::Value(value.clone());
        *expr = match pseudo_type(data_type) {
            Some(PseudoType::Registered(registered)) => registered_cast(registered, literal),
            Some(PseudoType::Oid) => call(TO_OID, vec![literal]),
            Some(PseudoType::Name) | None => {
                let target = cast_type(data_type)?;
                literals::check(&literal, &target)?;
                cast_call(literal, &target)
            }
        };
        return Ok(());
    }
    let Expr::Cast {
        kind: CastKind::Cast | CastKind::DoubleColon,
        expr: inner,
        data_type,
        array: false,
        format: None,
    } = expr
    else {
        return Ok(());
    };
    if let Some(PseudoType::Registered(registered)) = pseudo_type(data_type) {
        *expr = registered_cast(registered, take(inner));
        return Ok(());
    }
    let target = cast_type(data_type)?;
    if pseudo_type(data_type).is_none() {
        literals::check(inner, &target)?;
    }
    match inner.as_ref() {
        Expr::Value(ValueWithSpan { value: Value::Null, .. }) => {}
        Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => {
            // Only our cast validates and normalises its text.
            if target == ColumnType::Jsonb {
                let text = cast(take(inner), DataType::Text);
                *expr = cast_call(text, &target);
            }
        }
        Expr::Function(function) if is_text(&target) && names_oid(function).is_some() => {
            let name = names_oid(function).unwrap_or_default();
            *expr = call(&name, vec![take(inner)]);
        }
        _ if pseudo_type(data_type) == Some(PseudoType::Oid) => {
            oid_of_name(inner);
            *expr = call(TO_OID, vec![take(inner)]);
        }
        _ if matches!(target, ColumnType::Integer | ColumnType::BigInt) => {
            oid_of_name(inner);
            *expr = cast_call(take(inner), &target);
        }
        _ => *expr = cast_call(take(inner), &target),
    }
    Ok(())
}

fn cast_call(value: Expr, target: &ColumnType) -> Expr {
    call(CAST, vec![value, string(target.to_string())])
}

fn is_text(target: &ColumnType) -> bool {
    matches!(target, ColumnType::Text | ColumnType::Varchar(_))
}

/// Returns the reverse function of `to_regclass` and of `to_regclass_oid`: `regclass_name`.
fn names_oid(function: &Function) -> Option<String> {
    let name = function.name.0.last()?.as_ident().map(folded)?;
    let kind = name.strip_prefix("to_reg")?;
    let kind = kind.strip_suffix("_oid").unwrap_or(kind);
    let is_known = ["class", "type", "namespace", "proc"].contains(&kind);
    is_known.then(|| format!("reg{kind}_name"))
}

/// Makes a cast to `regclass` or a similar type give the oid and not the name: `regclass_name` becomes
/// `to_regclass_oid`.
fn oid_of_name(cast: &mut Expr) {
    if let Expr::Function(function) = cast
        && let FunctionArguments::List(list) = &mut function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = list.args.as_mut_slice()
        && let Some(kind) = function.name.to_string().strip_suffix("_name")
        && ["regclass", "regtype", "regnamespace", "regproc"].contains(&kind)
    {
        *cast = call(&format!("to_{kind}_oid"), vec![take(value)]);
    }
}

/// Converts a literal or parameter, which is the name of an object, to the oid; converts anything else, which
/// is an oid, to the name.
fn registered_cast(registered: Registered, value: Expr) -> Expr {
    let kind = match registered {
        Registered::Class => "regclass",
        Registered::Type => "regtype",
        Registered::Namespace => "regnamespace",
        Registered::Function => "regproc",
        Registered::Other => return cast_call(value, &ColumnType::BigInt),
    };
    let is_parameter =
        matches!(&value, Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }));
    if is_parameter || as_string(&value).is_some() {
        call(&format!("to_{kind}_oid"), vec![value])
    } else {
        call(&format!("{kind}_name"), vec![value])
    }
}
