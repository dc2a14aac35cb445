//! Functions over `jsonb`: what the operators `->`, `->>`, `#>`, `#>>` and `?` become, and a few more.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use serde_json::Value as Json;

use super::rowwise::{Answer, Arg, Row, Rowwise, Value};
use crate::catalog::ColumnType;
use crate::frontend::error::SqlError;
use crate::frontend::pgwire::sqlstate::SqlState;

const BY_KEY_OR_PLACE: &[&[Arg]] = &[&[Arg::Text, Arg::Text], &[Arg::Text, Arg::Int]];
/// A path is a `text[]`, or the text of one.
const BY_PATH: &[&[Arg]] = &[&[Arg::Text, Arg::Texts], &[Arg::Text, Arg::Text]];

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let get = |name, returns, printed: fn(&Json) -> Value| {
        Rowwise::new(name, BY_KEY_OR_PLACE, returns, move |row| {
            let json = document(row)?;
            let found = match (row.text(1), row.int(1)) {
                (Some(key), _) => json.as_object().and_then(|members| members.get(key)),
                (None, Some(place)) => element(&json, place),
                (None, None) => None,
            };
            Ok(found.map_or(Value::Null, printed))
        })
    };
    let get_path = |name, returns, printed: fn(&Json) -> Value| {
        Rowwise::new(name, BY_PATH, returns, move |row| {
            let json = document(row)?;
            Ok(descend(&json, &path(row)?).map_or(Value::Null, printed))
        })
    };
    vec![
        get("json_get", ColumnType::Jsonb, as_json).udf(),
        get("json_get_text", ColumnType::Text, as_text).udf(),
        get_path("json_get_path", ColumnType::Jsonb, as_json).udf(),
        get_path("json_get_path_text", ColumnType::Text, as_text).udf(),
        Rowwise::new("json_exists", &[&[Arg::Text, Arg::Text]], ColumnType::Boolean, exists).udf(),
        Rowwise::new("jsonb_typeof", &[&[Arg::Text]], ColumnType::Text, type_of)
            .aliases(&["json_typeof"])
            .udf(),
        Rowwise::new("jsonb_array_length", &[&[Arg::Text]], ColumnType::Integer, array_length)
            .aliases(&["json_array_length"])
            .udf(),
    ]
}

fn document(row: &Row<'_>) -> Result<Json, SqlError> {
    serde_json::from_str(row.text(0).unwrap_or_default()).map_err(|error| {
        SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
            .detail(error.to_string())
    })
}

/// The element at a place; negative places count from the end.
fn element(json: &Json, place: i64) -> Option<&Json> {
    let elements = json.as_array()?;
    let place = if place < 0 { i64::try_from(elements.len()).ok()? + place } else { place };
    elements.get(usize::try_from(place).ok()?)
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

fn descend<'a>(json: &'a Json, path: &[Option<String>]) -> Option<&'a Json> {
    path.iter().try_fold(json, |inner, step| {
        let step = step.as_deref()?;
        match inner {
            Json::Object(members) => members.get(step),
            Json::Array(_) => element(inner, step.trim().parse().ok()?),
            _ => None,
        }
    })
}

fn as_json(json: &Json) -> Value {
    let mut out = String::new();
    write_json(json, &mut out);
    Value::Text(out)
}

fn as_text(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::String(text) => Value::Text(text.clone()),
        other => as_json(other),
    }
}

/// As PostgreSQL prints jsonb: keys by length, then by bytes; a space after each `:` and `,`.
fn write_json(json: &Json, out: &mut String) {
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            out.push_str(&json.to_string());
        }
        Json::Array(elements) => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_json(element, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
            out.push('{');
            for (at, (key, value)) in members.into_iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                out.push_str(&Json::String(key.clone()).to_string());
                out.push_str(": ");
                write_json(value, out);
            }
            out.push('}');
        }
    }
}

/// Whether a string is a key of an object, an element of an array, or the whole.
fn exists(row: &Row<'_>) -> Answer {
    let key = row.text(1).unwrap_or_default();
    Ok(Value::Bool(match document(row)? {
        Json::Object(members) => members.contains_key(key),
        Json::Array(elements) => elements.iter().any(|element| element.as_str() == Some(key)),
        Json::String(text) => text == key,
        _ => false,
    }))
}

fn type_of(row: &Row<'_>) -> Answer {
    let name = match document(row)? {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    Ok(Value::Text(name.to_owned()))
}

fn array_length(row: &Row<'_>) -> Answer {
    let what = match document(row)? {
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
