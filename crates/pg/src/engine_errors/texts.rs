//! More texts of planning errors, and what PostgreSQL says in their place.

use super::{after, between, first_line, pg_type};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Words of the engine that mean nothing to a client: its types and the names of its structures.
const ENGINE_WORDS: [&str; 19] = [
    "Utf8",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Float32",
    "Float64",
    "Decimal",
    "Date32",
    "Date64",
    "Boolean",
    "LargeUtf8",
    "List(",
    "Struct(",
    "Timestamp(",
    "Interval(",
    "Binary",
    "physical plan",
    "logical expression",
];

/// The names of operators in the engine's syntax tree, as they are written.
const UNARY_OPERATORS: [(&str, &str); 11] = [
    ("PGSquareRoot", "|/"),
    ("PGCubeRoot", "||/"),
    ("PGPostfixFactorial", "!"),
    ("PGPrefixFactorial", "!!"),
    ("PGAbs", "@"),
    ("BangNot", "!"),
    ("Hash", "#"),
    ("AtDashAt", "@-@"),
    ("DoubleAt", "@@"),
    ("QuestionDash", "?-"),
    ("QuestionPipe", "?|"),
];

/// Maps the text of a planning error; `None` if it is not known.
pub(super) fn planning(text: &str) -> Option<SqlError> {
    let line = first_line(text);
    types(line).or_else(|| operators(line)).or_else(|| clauses(line)).or_else(|| windows(line))
}

/// The text without the engine's words: what cannot be shown is left out.
pub(super) fn plain(text: &str) -> String {
    let line = first_line(text);
    let shows_engine = |text: &str| {
        ENGINE_WORDS.iter().any(|word| text.contains(word)) || text.contains(['{', '}'])
    };
    if !shows_engine(line) {
        return line.to_owned();
    }
    let words = line.split(' ').map(|word| {
        let (bare, end) = match word.strip_suffix([',', '.', ';']) {
            Some(bare) => (bare, &word[bare.len()..]),
            None => (word, ""),
        };
        format!("{}{end}", pg_type(bare))
    });
    let named = words.collect::<Vec<_>>().join(" ");
    if shows_engine(&named) { "this expression is not supported".to_owned() } else { named }
}

/// Functions that operators are rewritten to, and the operators.
const OPERATOR_FUNCTIONS: [(&str, &str); 6] = [
    ("json_get", "->"),
    ("json_get_text", "->>"),
    ("json_get_path", "#>"),
    ("json_get_path_text", "#>>"),
    ("json_exists", "?"),
    ("array_has_any", "&&"),
];

/// The error of an operator or a subscript for which the user wrote no function; `signature` is the call.
pub(super) fn of_operator(signature: &str) -> Option<SqlError> {
    let (name, arguments) = signature.split_once('(').unwrap_or((signature, ""));
    let mut arguments = arguments.trim_end_matches(')').split(", ");
    let first = arguments.next().unwrap_or_default();
    if name == "array_has" {
        let message = "op ANY/ALL (array) requires array on right side";
        return Some(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
    }
    if name == "array_element" {
        let message =
            format!("cannot subscript type {first} because it does not support subscripting");
        return Some(SqlError::new(SqlState::DATATYPE_MISMATCH, message));
    }
    let (_, operator) = OPERATOR_FUNCTIONS.iter().find(|(function, _)| *function == name)?;
    let operation = match arguments.next() {
        Some(second) => format!("{first} {operator} {second}"),
        None => (*operator).to_owned(),
    };
    Some(SqlError::undefined_operator(operation))
}

/// Values of types that cannot be where they are.
fn types(line: &str) -> Option<SqlError> {
    let mismatch = |message: String| SqlError::new(SqlState::DATATYPE_MISMATCH, message);
    if let Some(found) = after(line, "oin condition must be boolean type, but got ") {
        let found = pg_type(found);
        return Some(mismatch(format!(
            "argument of JOIN/ON must be type boolean, not type {found}"
        )));
    }
    if let Some(found) = after(line, "xpected LIMIT to be an integer or null, but got ") {
        let found = pg_type(found);
        return Some(mismatch(format!("argument of LIMIT must be type bigint, not type {found}")));
    }
    if line.contains("nconsistent data type across values list") {
        let (first, second) = after(line, ". Was ")?.split_once(" but found ")?;
        let (first, second) = (pg_type(first), pg_type(second));
        return Some(mismatch(format!("VALUES types {first} and {second} cannot be matched")));
    }
    if line.contains("ncompatible inputs for Union") {
        let first = pg_type(between(line, "Previous inputs were of type ", ", but got")?);
        let second = pg_type(between(line, "got incompatible type ", " on column")?);
        return Some(mismatch(format!("UNION types {first} and {second} cannot be matched")));
    }
    if let Some(found) = between(line, "annot access field at argument 1: type ", " is not Struct")
    {
        let message = format!("type {} is not composite", pg_type(found));
        return Some(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
    }
    None
}

/// Operators and functions that do not take these operands.
fn operators(line: &str) -> Option<SqlError> {
    let undefined = |operation: String| Some(SqlError::undefined_operator(operation));
    if let Some(types) = between(line, "common type to coerce ", " in LIKE expression") {
        let (left, right) = types.split_once(" and ")?;
        return undefined(format!("{} ~~ {}", pg_type(left), pg_type(right)));
    }
    if let Some(name) = between(line, "nsupported binary operator: Custom(\"", "\")") {
        return undefined(name.to_owned());
    }
    if let Some(name) = after(line, "nsupported SQL unary operator ") {
        let written = UNARY_OPERATORS.iter().find(|(engine, _)| *engine == name);
        return undefined(written.map_or(name, |(_, written)| written).to_owned());
    }
    if let Some(name) = between(line, "nary operator '", "' only supports") {
        return undefined(format!("{name} with this operand"));
    }
    if let Some(operation) = between(line, "result type for temporal operation ", ": ") {
        let mut words = operation.splitn(3, ' ');
        let (left, operator, right) = (words.next()?, words.next()?, words.next()?);
        return undefined(format!("{} {operator} {}", pg_type(left), pg_type(right)));
    }
    if let Some(name) = between(line, "unction '", "' requires ")
        .or_else(|| between(line, "unction '", "' failed to match any signature"))
        .or_else(|| between(line, "[return_type] ", " not supported for "))
    {
        return Some(SqlError::undefined_function(name.to_lowercase()));
    }
    if line.contains("WITHIN GROUP is only supported for ordered-set aggregate") {
        let message = "WITHIN GROUP of an aggregate that is not an ordered-set aggregate";
        return Some(SqlError { message: message.to_owned(), ..SqlError::undefined_function("") });
    }
    None
}

/// Expressions in clauses where they may not be.
fn clauses(line: &str) -> Option<SqlError> {
    if let Some(number) = after(line, "o value found for placeholder with id ") {
        let message = format!("there is no parameter {number}");
        return Some(SqlError::new(SqlState::UNDEFINED_PARAMETER, message));
    }
    if line.contains("ggregate function calls cannot be nested") {
        let message = "aggregate function calls cannot be nested";
        return Some(SqlError::new(SqlState::GROUPING_ERROR, message));
    }
    if let Some(kind) = after(line, "hysical plan does not support logical expression ") {
        let (sqlstate, message) = match kind.split(['(', ' ']).next()? {
            "AggregateFunction" => {
                (SqlState::GROUPING_ERROR, "aggregate functions are not allowed here")
            }
            "WindowFunction" => {
                (SqlState::WINDOWING_ERROR, "window functions are not allowed here")
            }
            "Wildcard" => (SqlState::SYNTAX_ERROR, "* is not allowed here"),
            _ => (SqlState::FEATURE_NOT_SUPPORTED, "this expression is not supported here"),
        };
        return Some(SqlError::new(sqlstate, message));
    }
    if line.contains("nsupported LIMIT expression") || line.contains("nsupported OFFSET expression")
    {
        return Some(SqlError::unsupported("this expression in LIMIT or OFFSET"));
    }
    None
}

fn windows(line: &str) -> Option<SqlError> {
    if line.contains("RANGE requires exactly one ORDER BY column") {
        let message = "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column";
        return Some(SqlError::new(SqlState::WINDOWING_ERROR, message));
    }
    if line.contains("NTILE requires a positive integer") {
        let message = "argument of ntile must be greater than zero";
        return Some(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_NTILE, message));
    }
    if line.contains("frame offsets for ROWS / GROUPS must be") {
        let message = "frame starting offset must not be negative";
        return Some(SqlError::new(SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE, message));
    }
    None
}
