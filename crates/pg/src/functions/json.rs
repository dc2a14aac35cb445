//! Functions over `jsonb`: the implementation of the operators `->`, `->>`, `#>`, `#>>`, `?`, `||` and `@>`,
//! and a few more. Numbers keep their digits.

use std::sync::{Arc, LazyLock};

use datafusion::logical_expr::ScalarUDF;

use super::rowwise::{Answer, Arg, Row, Rowwise, Value};
use crate::error::SqlError;
use crate::memory::Growing;
use crate::sqlstate::SqlState;
use crate::text_input::json::Json;
use tidemark_ledger::catalog::ColumnType;

const BY_KEY_OR_INDEX: &[&[Arg]] = &[&[Arg::Text, Arg::Text], &[Arg::Text, Arg::Int]];
/// A path is a `text[]` or the text form of one.
const BY_PATH: &[&[Arg]] = &[&[Arg::Text, Arg::Texts], &[Arg::Text, Arg::Text]];
const TWO: &[&[Arg]] = &[&[Arg::Text, Arg::Text]];

/// `jsonb || jsonb`.
pub static CONCAT: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Rowwise::new("jsonb_concat", TWO, ColumnType::Jsonb, concat).udf());

/// `jsonb @> jsonb`.
pub static CONTAINS: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Rowwise::new("jsonb_contains", TWO, ColumnType::Boolean, contains).udf());

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let get = |name, returns, printed: fn(&Json<'_>) -> Value| {
        Rowwise::new(name, BY_KEY_OR_INDEX, returns, move |row| {
            let (json, _counted) = document(row, 0)?;
            let found = match (row.text(1), row.int(1)) {
                (Some(key), _) => member(&json, key),
                (None, Some(position)) => element_of(&json, position),
                (None, None) => None,
            };
            Ok(found.map_or(Value::Null, printed))
        })
    };
    let get_path = |name, returns, printed: fn(&Json<'_>) -> Value| {
        Rowwise::new(name, BY_PATH, returns, move |row| {
            let (json, _counted) = document(row, 0)?;
            Ok(descend(&json, &path(row)?).map_or(Value::Null, printed))
        })
    };
    vec![
        get("json_get", ColumnType::Jsonb, as_json).udf(),
        get("json_get_text", ColumnType::Text, as_text).udf(),
        get_path("json_get_path", ColumnType::Jsonb, as_json).udf(),
        get_path("json_get_path_text", ColumnType::Text, as_text).udf(),
        Rowwise::new("json_exists", TWO, ColumnType::Boolean, exists).udf(),
        Rowwise::new("jsonb_typeof", &[&[Arg::Text]], ColumnType::Text, type_of)
            .aliases(&["json_typeof"])
            .udf(),
        Rowwise::new("jsonb_array_length", &[&[Arg::Text]], ColumnType::Integer, array_length)
            .aliases(&["json_array_length"])
            .udf(),
        Arc::clone(&CONCAT),
        Arc::clone(&CONTAINS),
    ]
}

/// Parses the n-th argument as a document, whose memory is counted until the second value is dropped.
fn document<'a>(row: &Row<'a>, n: usize) -> Result<(Json<'a>, Growing), SqlError> {
    let mut growing = Growing::new("json");
    let json = Json::parse_counted(row.text(n).unwrap_or_default(), &mut growing)?;
    Ok((json, growing))
}

fn member<'a, 'b>(json: &'b Json<'a>, key: &str) -> Option<&'b Json<'a>> {
    let Json::Object(members) = json else { return None };
    members.iter().find(|(found, _)| found == key).map(|(_, value)| value)
}

/// The element at an index; negative ones count from the end. A scalar counts as an array of one element.
fn element_of<'a, 'b>(json: &'b Json<'a>, position: i64) -> Option<&'b Json<'a>> {
    match json {
        Json::Word(_) | Json::Text(_) => matches!(position, 0 | -1).then_some(json),
        json => element(json, position),
    }
}

fn element<'a, 'b>(json: &'b Json<'a>, position: i64) -> Option<&'b Json<'a>> {
    let Json::Array(elements) = json else { return None };
    let position =
        if position < 0 { i64::try_from(elements.len()).ok()? + position } else { position };
    elements.get(usize::try_from(position).ok()?)
}

fn path(row: &Row<'_>) -> Result<Vec<Option<String>>, SqlError> {
    if let Some(steps) = row.texts(1) {
        return Ok(steps);
    }
    let text = row.text(1).unwrap_or_default();
    let inside = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let Some(inside) = inside else {
        return Err(SqlError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("malformed array literal: \"{text}\""),
        ));
    };
    if inside.trim().is_empty() {
        return Ok(vec![]);
    }
    Ok(inside.split(',').map(|step| Some(step.trim().trim_matches('"').to_owned())).collect())
}

fn descend<'a, 'b>(json: &'b Json<'a>, path: &[Option<String>]) -> Option<&'b Json<'a>> {
    path.iter().try_fold(json, |inner, step| {
        let step = step.as_deref()?;
        match inner {
            Json::Array(_) => element(inner, step.trim().parse().ok()?),
            inner => member(inner, step),
        }
    })
}

fn as_json(json: &Json<'_>) -> Value {
    let mut out = String::new();
    json.write(&mut out);
    Value::Text(out)
}

fn as_text(json: &Json<'_>) -> Value {
    match json {
        Json::Word(word) if word == "null" => Value::Null,
        Json::Text(text) => Value::Text(text.clone().into_owned()),
        other => as_json(other),
    }
}

/// Merges two objects, in which the second wins; concatenates everything else as arrays.
fn concat(row: &Row<'_>) -> Answer {
    let ((left, _left), (right, _right)) = (document(row, 0)?, document(row, 1)?);
    let joined = match (left, right) {
        (Json::Object(mut left), Json::Object(right)) => {
            left.extend(right);
            Json::object(left)
        }
        (left, right) => Json::Array([left, right].into_iter().flat_map(elements).collect()),
    };
    Ok(as_json(&joined))
}

fn elements(json: Json<'_>) -> Vec<Json<'_>> {
    match json {
        Json::Array(elements) => elements,
        other => vec![other],
    }
}

fn contains(row: &Row<'_>) -> Answer {
    let ((whole, _whole), (part, _part)) = (document(row, 0)?, document(row, 1)?);
    // Only at the top level may an array contain a scalar.
    let found = match (&whole, &part) {
        (Json::Array(elements), Json::Word(_) | Json::Text(_)) => {
            elements.iter().any(|element| holds(element, &part))
        }
        _ => holds(&whole, &part),
    };
    Ok(Value::Bool(found))
}

/// Whether `whole` contains all of `part`, at the same level.
fn holds(whole: &Json<'_>, part: &Json<'_>) -> bool {
    match (whole, part) {
        (Json::Object(_), Json::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| member(whole, key).is_some_and(|found| holds(found, value))),
        (Json::Array(found), Json::Array(wanted)) => {
            wanted.iter().all(|value| found.iter().any(|element| holds(element, value)))
        }
        (Json::Word(left), Json::Word(right)) => digits(left) == digits(right),
        (left, right) => left == right,
    }
}

/// The number without trailing zeros in its fraction.
fn digits(word: &str) -> &str {
    match word.contains('.') {
        true => word.trim_end_matches('0').trim_end_matches('.'),
        false => word,
    }
}

/// Whether a string is a key of the object, an element of the array, or the string value itself.
fn exists(row: &Row<'_>) -> Answer {
    let key = row.text(1).unwrap_or_default();
    let is_key = |json: &Json<'_>| matches!(json, Json::Text(text) if text == key);
    let (json, _counted) = document(row, 0)?;
    Ok(Value::Bool(match json {
        Json::Array(elements) => elements.iter().any(is_key),
        json => is_key(&json) || member(&json, key).is_some(),
    }))
}

fn type_of(row: &Row<'_>) -> Answer {
    let (json, _counted) = document(row, 0)?;
    let name = match json {
        Json::Word(word) => match word.as_ref() {
            "null" => "null",
            "true" | "false" => "boolean",
            _ => "number",
        },
        Json::Text(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    Ok(Value::Text(name.to_owned()))
}

fn array_length(row: &Row<'_>) -> Answer {
    let (json, _counted) = document(row, 0)?;
    let what = match json {
        Json::Array(elements) => {
            return Ok(Value::Int(i64::try_from(elements.len()).unwrap_or(i64::MAX)));
        }
        Json::Object(_) => "a non-array",
        _ => "a scalar",
    };
    Err(SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("cannot get array length of {what}"),
    ))
}
