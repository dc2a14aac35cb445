//! Converts names to oids and back: the implementation of `regclass` and similar types.

use super::Lookup;
use super::call::{Argument, Evaluated, FunctionSpec};
use crate::system_catalog::cell::Cell;
use crate::system_catalog::listing::{self, Listed};
use crate::system_catalog::pg_catalog::procedures;
use tidemark_pg::error::SqlError;
use tidemark_pg::quote::{qualified, quote_identifier};
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::{self, SystemType, format_type};

pub(super) const FUNCTIONS: &[FunctionSpec] = &[
    // `to_…` are PostgreSQL's functions: null for unknown names. `to_…_oid` are casts: an error.
    FunctionSpec::strict("to_regclass", (1, 1), SystemType::Oid, |lookup, arguments| {
        let relation = relation_argument(lookup, &arguments[0])?;
        Ok(Cell::from(relation.map(|relation| relation.oid)))
    }),
    FunctionSpec::strict("to_regclass_oid", (1, 1), SystemType::Oid, |lookup, arguments| {
        cast_to_oid(&arguments[0], |name| {
            let relation = resolve(lookup, name)?;
            let oid = relation.map(|relation| relation.oid);
            oid.ok_or_else(|| missing(SqlState::UNDEFINED_TABLE, "relation", name))
        })
    }),
    FunctionSpec::strict("regclass_name", (1, 1), SystemType::Text, regclass_name),
    FunctionSpec::strict("to_regtype", (1, 1), SystemType::Oid, |_, arguments| {
        Ok(Cell::from(text(&arguments[0]).and_then(types::by_name).map(|t| t.oid)))
    }),
    FunctionSpec::strict("to_regtype_oid", (1, 1), SystemType::Oid, |_, arguments| {
        cast_to_oid(&arguments[0], |name| {
            let found = types::by_name(name).map(|t| t.oid);
            found.ok_or_else(|| missing(SqlState::UNDEFINED_OBJECT, "type", name))
        })
    }),
    FunctionSpec::strict("regtype_name", (1, 1), SystemType::Text, regtype_name),
    FunctionSpec::strict("to_regnamespace", (1, 1), SystemType::Oid, |lookup, arguments| {
        let name = text(&arguments[0]).unwrap_or_default();
        well_formed(name)?;
        Ok(Cell::from(schema_oid(lookup, name)))
    }),
    FunctionSpec::strict("to_regnamespace_oid", (1, 1), SystemType::Oid, |lookup, arguments| {
        cast_to_oid(&arguments[0], |name| {
            let found = schema_oid(lookup, name);
            found.ok_or_else(|| missing(SqlState::INVALID_SCHEMA_NAME, "schema", name))
        })
    }),
    FunctionSpec::strict("regnamespace_name", (1, 1), SystemType::Text, regnamespace_name),
    FunctionSpec::strict("to_regproc", (1, 1), SystemType::Oid, |_, arguments| {
        let name = text(&arguments[0]).unwrap_or_default();
        well_formed(name)?;
        Ok(Cell::from(procedure_oid(name)))
    }),
    FunctionSpec::strict("to_regproc_oid", (1, 1), SystemType::Oid, |_, arguments| {
        cast_to_oid(&arguments[0], |name| {
            let found = procedure_oid(name);
            found.ok_or_else(|| missing(SqlState::UNDEFINED_FUNCTION, "function", name))
        })
    }),
    FunctionSpec::strict("regproc_name", (1, 1), SystemType::Text, regproc_name),
    FunctionSpec::strict("to_oid", (1, 1), SystemType::Oid, to_oid),
    FunctionSpec::strict("pg_table_is_visible", (1, 1), SystemType::Bool, is_visible),
];

/// Returns the number of an argument, even if it is given as text.
pub(super) fn oid_argument(argument: &Argument) -> Option<i64> {
    match argument {
        Argument::Int(oid) => Some(*oid),
        Argument::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Resolves an argument of type `regclass`, an oid or a name.
pub(super) fn relation_argument(
    lookup: &Lookup,
    argument: &Argument,
) -> Result<Option<Listed>, SqlError> {
    match (oid_argument(argument), argument) {
        (Some(oid), _) => Ok(lookup.by_oid(oid)),
        (None, Argument::Text(name)) => resolve(lookup, name),
        _ => Ok(None),
    }
}

fn text(argument: &Argument) -> Option<&str> {
    match argument {
        Argument::Text(text) => Some(text),
        _ => None,
    }
}

/// Keeps a number, looks up a name.
fn cast_to_oid(argument: &Argument, find: impl FnOnce(&str) -> Result<u32, SqlError>) -> Evaluated {
    match (oid_argument(argument), text(argument)) {
        (Some(oid), _) => Ok(Cell::from(oid)),
        (None, Some(name)) => find(name).map(Cell::from),
        (None, None) => Ok(Cell::Null),
    }
}

/// Casts to `oid`. Negative four-byte numbers wrap around, as in PostgreSQL.
fn to_oid(_: &Lookup, arguments: &[Argument]) -> Evaluated {
    let Some(number) = oid_argument(&arguments[0]) else {
        let text = text(&arguments[0]).unwrap_or_default();
        let message = format!("invalid input syntax for type oid: \"{text}\"");
        return Err(SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message));
    };
    let oid = match i32::try_from(number) {
        Ok(narrow) => Some(narrow.cast_unsigned()),
        Err(_) => u32::try_from(number).ok(),
    };
    let out_of_range = || SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "OID out of range");
    oid.map(Cell::from).ok_or_else(out_of_range)
}

pub(super) fn missing(sqlstate: SqlState, kind: &str, name: &str) -> SqlError {
    SqlError::new(sqlstate, format!("{kind} \"{name}\" does not exist"))
}

/// Resolves a name as in `'name'::regclass`. Fails with 42602 if the name is malformed.
pub(super) fn resolve(lookup: &Lookup, name: &str) -> Result<Option<Listed>, SqlError> {
    let parts = well_formed(name)?;
    let find = |schema: &str, name: &str| listing::by_name(&lookup.view, schema, name);
    Ok(match parts.as_slice() {
        [name] => lookup.schemas().find_map(|schema| find(schema, name)),
        [schema, name] | [_, schema, name] => find(schema, name),
        _ => None,
    })
}

/// The parts of a dotted name (42602 if it is malformed).
fn well_formed(name: &str) -> Result<Vec<String>, SqlError> {
    identifiers(name).ok_or_else(|| SqlError::new(SqlState::INVALID_NAME, "invalid name syntax"))
}

/// Splits a dotted name; folds unquoted parts to lower case. `None` if it is malformed.
pub(super) fn identifiers(name: &str) -> Option<Vec<String>> {
    let mut parts = vec![];
    let mut rest = name.trim();
    loop {
        let quoted = rest.starts_with('"');
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_identifier(quoted)?,
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].trim().to_lowercase(), &rest[end..])
            }
        };
        let is_one = quoted || !part.contains(char::is_whitespace);
        if part.is_empty() || part.contains('\0') || !is_one {
            return None;
        }
        parts.push(part);
        match after.trim_start().strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None if after.trim().is_empty() => return Some(parts),
            None => return None,
        }
    }
}

/// Returns the text before the closing quote, and the rest; two quotes stand for one.
fn quoted_identifier(text: &str) -> Option<(String, &str)> {
    let mut identifier = String::new();
    let mut rest = text;
    loop {
        let quote = rest.find('"')?;
        identifier.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                identifier.push('"');
                rest = more;
            }
            None => return Some((identifier, rest)),
        }
    }
}

fn regclass_name(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    if let (None, Some(name)) = (oid_argument(&arguments[0]), text(&arguments[0])) {
        let relation = resolve(lookup, name)?;
        let relation =
            relation.ok_or_else(|| missing(SqlState::UNDEFINED_TABLE, "relation", name))?;
        return Ok(Cell::from(shown(lookup, &relation)));
    }
    name_of(&arguments[0], |oid| lookup.by_oid(oid).map(|relation| shown(lookup, &relation)))
}

/// The name, qualified unless the bare name resolves to the relation.
fn shown(lookup: &Lookup, relation: &Listed) -> String {
    if lookup.is_visible(relation) {
        quote_identifier(&relation.name)
    } else {
        qualified(&relation.schema, &relation.name)
    }
}

fn regtype_name(_: &Lookup, arguments: &[Argument]) -> Evaluated {
    if let (None, Some(name)) = (oid_argument(&arguments[0]), text(&arguments[0])) {
        let found = types::by_name(name);
        let found = found.ok_or_else(|| missing(SqlState::UNDEFINED_OBJECT, "type", name))?;
        return Ok(Cell::from(&found.sql_name));
    }
    name_of(&arguments[0], |oid| {
        let oid = u32::try_from(oid).ok()?;
        types::by_oid(oid).map(|_| format_type(oid, None))
    })
}

fn regnamespace_name(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    let name = |oid| listing::schema_name(&lookup.view, u32::try_from(oid).ok()?);
    name_of(&arguments[0], |oid| name(oid).map(|name| quote_identifier(&name)))
}

fn regproc_name(_: &Lookup, arguments: &[Argument]) -> Evaluated {
    let find = |oid: i64| procedures().iter().find(|procedure| i64::from(procedure.oid) == oid);
    name_of(&arguments[0], |oid| find(oid).map(|procedure| procedure.name.to_owned()))
}

/// Returns the name of an oid. Zero is `-`; an oid without a name is printed as a number; text stays.
fn name_of(argument: &Argument, find: impl FnOnce(i64) -> Option<String>) -> Evaluated {
    Ok(match (oid_argument(argument), text(argument)) {
        (Some(0), _) => Cell::from("-"),
        (Some(oid), _) => Cell::from(find(oid).unwrap_or_else(|| oid.to_string())),
        (None, name) => Cell::from(name),
    })
}

pub(super) fn schema_oid(lookup: &Lookup, name: &str) -> Option<u32> {
    let [name] = <[String; 1]>::try_from(identifiers(name)?).ok()?;
    let mut schemas = listing::schemas(&lookup.view).into_iter();
    schemas.find(|(_, schema)| *schema == name).map(|(oid, _)| oid)
}

fn procedure_oid(name: &str) -> Option<u32> {
    let name = identifiers(name)?.pop()?;
    procedures().iter().find(|procedure| procedure.name == name).map(|procedure| procedure.oid)
}

/// Relations of `rw_catalog` can be referred to without schema, but `\d` should not list them.
fn is_visible(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    let relation = relation_argument(lookup, &arguments[0])?;
    Ok(Cell::from(relation.map(|r| r.schema != "rw_catalog" && lookup.is_visible(&r))))
}

#[cfg(test)]
mod tests {
    use super::identifiers;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        let cases: [(&str, Option<&[&str]>); 9] = [
            ("T", Some(&["t"])),
            ("public.T", Some(&["public", "t"])),
            (" \"A.b\".\"c\"\"d\" ", Some(&["A.b", "c\"d"])),
            ("dev . s . t", Some(&["dev", "s", "t"])),
            ("", None),
            ("a.", None),
            ("\"open", None),
            ("\"a\"b", None),
            ("a b", None),
        ];
        for (name, expected) in cases {
            let parts = identifiers(name);
            let parts = parts.as_ref().map(|p| p.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(parts.as_deref(), expected, "{name}");
        }
    }
}
