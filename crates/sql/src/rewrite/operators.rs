//! Replaces what DataFusion's planner lacks: PostgreSQL's operators, qualified function names, collations,
//! `SIMILAR TO`, `AT TIME ZONE`, `FETCH FIRST`.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, Fetch, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, Interval, LimitClause, ObjectName, ObjectNamePart, Query,
    TableFactor, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut, WindowFrameBound,
    WindowType,
};

use super::arrays::array_of;
use super::similar::similar_to_regex;
use super::table_functions::{UNNEST, name_as_postgres, unnested_by};
use crate::parser::folded;
use crate::trees::{self, binary, call, nested, string, take};
use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::{CAST, COMPLEMENT, EXTRACT};
use tidemark_pg::sqlstate::SqlState;

/// Rewrites every query and expression in `node`.
pub fn rewrite_operators<N: VisitMut>(node: &mut N) -> Result<(), SqlError> {
    match node.visit(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Returns the text of a string literal in any notation.
pub fn as_string(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => as_string(inner),
        Expr::Value(ValueWithSpan { value, .. }) => match value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            Value::DollarQuotedString(quoted) => Some(&quoted.value),
            _ => None,
        },
        _ => None,
    }
}

/// The flag of regular expressions with which `.` matches a newline.
const DOT_IS_ANY: &str = "(?s)";

struct Rewriter;

type Flow = ControlFlow<Box<SqlError>>;

impl VisitorMut for Rewriter {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        flow(fetch_to_limit(query))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } =
            factor
        {
            unqualify(name);
        }
        name_as_postgres(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        negate_first(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        flow(rewrite_expr(expr))
    }
}

fn flow(result: Result<(), SqlError>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

fn rewrite_expr(expr: &mut Expr) -> Result<(), SqlError> {
    match expr {
        Expr::BinaryOp { .. } => rewrite_operation(expr),
        Expr::Collate { expr: inner, collation } => {
            check_collation(collation)?;
            *expr = take(inner);
            Ok(())
        }
        Expr::Function(function) => {
            unqualify(&mut function.name);
            restore_frame(function);
            match bare_name(&function.name).as_deref() {
                // The engine's functions of these names change the first element only.
                Some("array_remove") => function.name = Ident::new("array_remove_all").into(),
                Some("array_replace") => function.name = Ident::new("array_replace_all").into(),
                Some("mod") => {
                    if let Some(remainder) = remainder(function) {
                        *expr = remainder;
                        return Ok(());
                    }
                }
                Some("regexp_like" | "regexp_match") => match_newlines(function, 2),
                Some("regexp_count" | "regexp_replace") => match_newlines(function, 3),
                Some("age") => since_today(function),
                Some("array_length") => {
                    // An empty array has no length.
                    let zero = Expr::value(Value::Number("0".to_owned(), false));
                    let length = call("nullif", vec![take(expr), zero]);
                    *expr = trees::cast(length, DataType::Integer(None));
                    return Ok(());
                }
                _ => {}
            }
            if let FunctionArguments::Subquery(query) = &mut function.args {
                let empty = Box::new(trees::select(vec![]).query());
                *expr = array_of(std::mem::replace(query, empty));
            } else if let Some(array) = unnested_by(function) {
                *expr = call(UNNEST, vec![array]);
            }
            Ok(())
        }
        // PostgreSQL reserves these words: column names must be quoted.
        Expr::Identifier(ident) if ident.quote_style.is_none() => {
            match ident.value.to_ascii_lowercase().as_str() {
                "current_schema" => *expr = call("current_schema", vec![]),
                "current_role" => *expr = call("current_user", vec![]),
                _ => {}
            }
            Ok(())
        }
        Expr::CompoundFieldAccess { root, access_chain } if matches!(**root, Expr::Nested(_)) => {
            *expr = accessed(take(root), std::mem::take(access_chain));
            Ok(())
        }
        Expr::Substring { expr: text, substring_from, substring_for, .. } => {
            // The planner would call the engine's function, whatever is registered.
            let one = || Box::new(Expr::value(Value::Number("1".to_owned(), false)));
            let from = substring_from.take().unwrap_or_else(one);
            let bounds = [Some(from), substring_for.take()].into_iter().flatten();
            let args = std::iter::once(take(text)).chain(bounds.map(|bound| *bound));
            *expr = call("substr", args.collect());
            Ok(())
        }
        Expr::Position { expr: wanted, r#in: text } => {
            *expr = call("strpos", vec![take(text), take(wanted)]);
            Ok(())
        }
        Expr::SimilarTo { .. } => rewrite_similar_to(expr),
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            if let Some(escape) = escape_char.take_if(|escape| !is_backslash(escape)) {
                **pattern = call("like_escape", vec![take(pattern), Expr::Value(escape)]);
            }
            Ok(())
        }
        Expr::Extract { field, expr: value, .. } => {
            let field = field.to_string();
            let field = field.trim_matches('\'').to_ascii_lowercase();
            *expr = call(EXTRACT, vec![string(field), take(value)]);
            Ok(())
        }
        Expr::Interval(interval) => {
            if let Some(text) = interval_text(interval) {
                // The engine's own syntax of intervals is another.
                *expr = call(CAST, vec![string(text), string(ColumnType::Interval.to_string())]);
            }
            Ok(())
        }
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: bits } => {
            *expr = call(COMPLEMENT, vec![take(bits)]);
            Ok(())
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            *expr = call("timezone", vec![take(time_zone), take(timestamp)]);
            Ok(())
        }
        Expr::Value(value) => {
            if let Value::NationalStringLiteral(text) | Value::UnicodeStringLiteral(text) =
                &mut value.value
            {
                value.value = Value::SingleQuotedString(std::mem::take(text));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn rewrite_operation(expr: &mut Expr) -> Result<(), SqlError> {
    let Expr::BinaryOp { left, op, right } = expr else { return Ok(()) };
    if let BinaryOperator::PGCustomBinaryOperator(parts) = op {
        *op = named_operator(parts)?;
    }
    let function = match op {
        BinaryOperator::PGRegexMatch
        | BinaryOperator::PGRegexIMatch
        | BinaryOperator::PGRegexNotMatch
        | BinaryOperator::PGRegexNotIMatch => {
            **right = with_newlines(take(right));
            return Ok(());
        }
        BinaryOperator::Arrow => "json_get",
        BinaryOperator::LongArrow => "json_get_text",
        BinaryOperator::HashArrow => "json_get_path",
        BinaryOperator::HashLongArrow => "json_get_path_text",
        BinaryOperator::Question => "json_exists",
        BinaryOperator::PGStartsWith => "starts_with",
        BinaryOperator::PGOverlap => "array_has_any",
        _ => return Ok(()),
    };
    *expr = call(function, vec![take(left), take(right)]);
    Ok(())
}

/// Makes the sign part of the first operand in `-2 ^ 2`: it binds more tightly than the power.
fn negate_first(expr: &mut Expr) {
    let Expr::UnaryOp { op: UnaryOperator::Minus, expr: power } = expr else { return };
    if !is_power(power) {
        return;
    }
    let mut first = power.as_mut();
    while let Expr::BinaryOp { left, op: BinaryOperator::PGExp, .. } = first {
        first = left.as_mut();
    }
    *first = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(take(first)) };
    *expr = take(power);
}

fn is_power(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::PGExp, .. })
}

/// The name of a function without a schema.
fn bare_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Some(folded(name)),
        _ => None,
    }
}

/// The pattern of a regular expression in which `.` is any character, a newline too, as in PostgreSQL.
fn with_newlines(pattern: Expr) -> Expr {
    match as_string(&pattern) {
        Some(text) => string(format!("{DOT_IS_ANY}{text}")),
        None => {
            let joined = binary(string(DOT_IS_ANY), BinaryOperator::StringConcat, nested(pattern));
            nested(joined)
        }
    }
}

/// Does the same to the pattern of a function, unless its flags, the argument at `flags_at`, say otherwise.
fn match_newlines(function: &mut Function, flags_at: usize) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let mut args: Vec<&mut Expr> = list.args.iter_mut().filter_map(unnamed).collect();
    let flags = args.get(flags_at).map(|flags| as_string(flags).map(str::to_owned));
    let may_be_any = match flags {
        None => true,
        Some(flags) => flags.is_some_and(|flags| !flags.contains(['m', 'n', 'p', 'w'])),
    };
    if may_be_any && let Some(pattern) = args.get_mut(1) {
        **pattern = with_newlines(take(pattern));
    }
}

/// `a % b` for `mod(a, b)`.
fn remainder(function: &mut Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let mut args: Vec<&mut Expr> = list.args.iter_mut().filter_map(unnamed).collect();
    let [a, b] = args.as_mut_slice() else { return None };
    let (a, b) = (nested(take(a)), nested(take(b)));
    Some(nested(binary(a, BinaryOperator::Modulo, b)))
}

/// Makes literals of the intervals of a window's frame again, which the planner takes only so.
fn restore_frame(function: &mut Function) {
    let Some(WindowType::WindowSpec(window)) = &mut function.over else { return };
    let Some(frame) = &mut window.window_frame else { return };
    for bound in [Some(&mut frame.start_bound), frame.end_bound.as_mut()].into_iter().flatten() {
        let (WindowFrameBound::Preceding(Some(size)) | WindowFrameBound::Following(Some(size))) =
            bound
        else {
            continue;
        };
        if let Expr::Function(cast) = size.as_mut()
            && bare_name(&cast.name).as_deref() == Some(CAST)
            && let FunctionArguments::List(list) = &mut cast.args
            && let Some(text) = list.args.first_mut().and_then(unnamed)
        {
            let value = Box::new(take(text));
            **size = Expr::Interval(Interval {
                value,
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            });
        }
    }
}

/// The text of an interval literal; that of `'1' day` names the unit. `None` if the literal has other fields.
fn interval_text(interval: &Interval) -> Option<String> {
    let text = as_string(&interval.value)?;
    let has_precision = interval.leading_precision.is_some()
        || interval.fractional_seconds_precision.is_some()
        || interval.last_field.is_some();
    match &interval.leading_field {
        _ if has_precision => None,
        None => Some(text.to_owned()),
        Some(unit) => {
            let number = text.trim();
            let is_number = number.parse::<i64>().is_ok();
            is_number.then(|| format!("{number} {unit}"))
        }
    }
}

/// Makes `age(time)` count from the midnight with which today began.
fn since_today(function: &mut Function) {
    if let FunctionArguments::List(list) = &mut function.args
        && list.args.len() == 1
    {
        let today = FunctionArgExpr::Expr(call("current_date", vec![]));
        list.args.insert(0, FunctionArg::Unnamed(today));
    }
}

fn unnamed(arg: &mut FunctionArg) -> Option<&mut Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// Resolves an operator written as `OPERATOR(pg_catalog.~)`.
fn named_operator(parts: &[String]) -> Result<BinaryOperator, SqlError> {
    let symbol = match parts {
        [symbol] => symbol,
        [schema, symbol] if schema.eq_ignore_ascii_case("pg_catalog") => symbol,
        _ => return Err(SqlError::unsupported(format!("operator {}", parts.join(".")))),
    };
    let operator = match symbol.as_str() {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "@>" => BinaryOperator::AtArrow,
        "<@" => BinaryOperator::ArrowAt,
        "&&" => BinaryOperator::PGOverlap,
        "->" => BinaryOperator::Arrow,
        "->>" => BinaryOperator::LongArrow,
        "#>" => BinaryOperator::HashArrow,
        "#>>" => BinaryOperator::HashLongArrow,
        _ => return Err(SqlError::unsupported(format!("operator {symbol}"))),
    };
    Ok(operator)
}

/// Rewrites `(x).f` to `get_field(x, 'f')`: the planner would read the dot as a qualified column name.
fn accessed(root: Expr, chain: Vec<AccessExpr>) -> Expr {
    chain.into_iter().fold(root, |value, access| match access {
        AccessExpr::Dot(Expr::Identifier(field)) => {
            call("get_field", vec![value, string(folded(&field))])
        }
        access => Expr::CompoundFieldAccess { root: Box::new(value), access_chain: vec![access] },
    })
}

/// Whether it is the default escape character of patterns.
fn is_backslash(escape: &ValueWithSpan) -> bool {
    escape.value.clone().into_string().as_deref() == Some("\\")
}

/// Strings compare by their bytes; accepts the collations that do the same.
fn check_collation(collation: &ObjectName) -> Result<(), SqlError> {
    let last =
        collation.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase());
    match last.as_deref() {
        Some("default" | "c" | "posix" | "ucs_basic" | "c.utf8" | "c.utf-8") => Ok(()),
        _ => Err(SqlError::unsupported(format!("collation {collation}"))
            .hint("Strings compare by their bytes, as with COLLATE \"C\".")),
    }
}

/// Rewrites `pg_catalog.f` and `public.f` to `f`.
fn unqualify(name: &mut ObjectName) {
    if let [schema, _] = name.0.as_slice()
        && let Some(schema) = schema.as_ident().map(folded)
        && matches!(schema.as_str(), "pg_catalog" | "public" | "information_schema" | "rw_catalog")
    {
        name.0.remove(0);
    }
}

/// Rewrites `x SIMILAR TO 'p'` to `x ~ 'regex'`.
fn rewrite_similar_to(expr: &mut Expr) -> Result<(), SqlError> {
    let Expr::SimilarTo { negated, expr: text, pattern, escape_char } = expr else { return Ok(()) };
    let Some(literal) = as_string(pattern) else {
        return Err(SqlError::unsupported("SIMILAR TO with a pattern that is not a literal"));
    };
    let escape = match escape_char.as_ref().map(|escape| escape.value.clone().into_string()) {
        None => Some('\\'),
        Some(escape) => escape.and_then(|text| {
            let mut chars = text.chars();
            chars.next().filter(|_| chars.next().is_none())
        }),
    };
    let escape = escape.ok_or_else(|| {
        SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
            .hint("Escape string must be one character.")
    })?;
    let regex = similar_to_regex(literal, escape).ok_or_else(|| {
        SqlError::new(
            SqlState::INVALID_REGULAR_EXPRESSION,
            format!("invalid SIMILAR TO pattern: \"{literal}\""),
        )
    })?;
    let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
    // The new operator has a different precedence: keep it in parentheses.
    *expr = nested(binary(take(text), op, string(regex)));
    Ok(())
}

/// Rewrites `FETCH FIRST n ROWS ONLY` to `LIMIT n`.
fn fetch_to_limit(query: &mut Query) -> Result<(), SqlError> {
    let Some(Fetch { with_ties, percent, quantity }) = query.fetch.take() else { return Ok(()) };
    if with_ties {
        return Err(SqlError::unsupported("FETCH ... WITH TIES"));
    }
    if percent {
        return Err(SqlError::unsupported("FETCH ... PERCENT"));
    }
    let rows = quantity.unwrap_or_else(|| Expr::value(Value::Number("1".to_owned(), false)));
    match &mut query.limit_clause {
        None => {
            query.limit_clause = Some(LimitClause::LimitOffset {
                limit: Some(rows),
                offset: None,
                limit_by: vec![],
            });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        Some(_) => return Err(SqlError::syntax("multiple LIMIT clauses not allowed")),
    }
    Ok(())
}
