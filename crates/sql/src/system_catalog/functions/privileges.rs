//! `has_*_privilege` and `pg_has_role`: the one user has every privilege on everything that exists, `PUBLIC`
//! what PostgreSQL grants it by default.

use super::Lookup;
use super::call::{Argument, Evaluated, FunctionSpec};
use super::names::{identifiers, missing, oid_argument, resolve, schema_oid};
use crate::system_catalog::SYSTEM_SCHEMAS;
use crate::system_catalog::cell::Cell;
use crate::system_catalog::listing::{
    self, DATABASE_OID, Listed, OWNER, OWNER_OID, TABLESPACE_OID,
};
use crate::system_catalog::pg_catalog::{Procedure, procedures};
use tidemark_pg::DATABASE;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::{self, SystemType};

pub(super) const FUNCTIONS: &[FunctionSpec] = &[
    privilege("has_any_column_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, COLUMN_PRIVILEGES, relation)
    }),
    privilege("has_column_privilege", (3, 4), on_column),
    privilege("has_database_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, &["CREATE", "TEMPORARY", "TEMP", "CONNECT"], database)
    }),
    privilege("has_foreign_data_wrapper_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, USAGE, |_, argument| none("foreign-data wrapper", argument))
    }),
    privilege("has_function_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, &["EXECUTE"], function)
    }),
    privilege("has_language_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, USAGE, language)
    }),
    privilege("has_schema_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, &["CREATE", "USAGE"], schema)
    }),
    privilege("has_sequence_privilege", (2, 3), |lookup, arguments| {
        let known = &["USAGE", "SELECT", "UPDATE"];
        // The privilege is read first.
        arguments.last().map_or(Ok(vec![]), |privileges| parse(privileges, known))?;
        on_object(lookup, arguments, known, sequence)
    }),
    privilege("has_server_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, USAGE, |_, argument| none("server", argument))
    }),
    privilege("has_table_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, TABLE_PRIVILEGES, relation)
    }),
    privilege("has_tablespace_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, &["CREATE"], tablespace)
    }),
    privilege("has_type_privilege", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, USAGE, type_of)
    }),
    privilege("pg_has_role", (2, 3), |lookup, arguments| {
        on_object(lookup, arguments, &["USAGE", "MEMBER"], role_object)
    }),
];

const USAGE: &[&str] = &["USAGE"];
const COLUMN_PRIVILEGES: &[&str] = &["SELECT", "INSERT", "UPDATE", "REFERENCES"];
const TABLE_PRIVILEGES: &[&str] =
    &["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "RULE"];

const fn privilege(
    name: &'static str,
    arguments: (usize, usize),
    evaluate: fn(&Lookup, &[Argument]) -> Evaluated,
) -> FunctionSpec {
    FunctionSpec::strict(name, arguments, SystemType::Bool, evaluate)
}

/// An object whose privileges are asked for, by those of `PUBLIC` on it.
struct Object {
    public: &'static [&'static str],
}

impl Object {
    const PRIVATE: Self = Self { public: &[] };
    const USED_BY_ALL: Self = Self { public: USAGE };
}

/// The object of an argument: an unknown name is an error, an unknown oid is `None`.
type Find = fn(&Lookup, &Argument) -> Result<Option<Object>, SqlError>;

/// Answers `has_…_privilege([user,] object, privileges)`.
fn on_object(lookup: &Lookup, arguments: &[Argument], known: &[&str], find: Find) -> Evaluated {
    let (user, rest) = user_and_rest(arguments, 2)?;
    let [object, privileges] = rest else { return Ok(Cell::Null) };
    let object = find(lookup, object)?;
    let wanted = parse(privileges, known)?;
    Ok(answer(user, object.as_ref(), &wanted))
}

/// Answers `has_column_privilege([user,] table, column, privileges)`.
fn on_column(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    let (user, rest) = user_and_rest(arguments, 3)?;
    let [table, column, privileges] = rest else { return Ok(Cell::Null) };
    let found = listed(lookup, table)?;
    let exists = match (&found, column) {
        (Some(table), Argument::Text(name)) => {
            if !table.columns.iter().any(|column| column.name == *name) {
                let message =
                    format!("column \"{name}\" of relation \"{}\" does not exist", table.name);
                return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message));
            }
            true
        }
        (Some(table), Argument::Int(number)) => {
            usize::try_from(*number).is_ok_and(|n| (1..=table.columns.len()).contains(&n))
        }
        _ => false,
    };
    let wanted = parse(privileges, COLUMN_PRIVILEGES)?;
    let object = found.filter(|_| exists).map(|table| of_relation(&table));
    Ok(answer(user, object.as_ref(), &wanted))
}

/// Whose privileges are asked for.
#[derive(Clone, Copy)]
enum User {
    Root,
    /// `PUBLIC`, or an oid that no role has.
    Public,
}

/// Takes the user from the front of the arguments if there are more than `count`.
fn user_and_rest(arguments: &[Argument], count: usize) -> Result<(User, &[Argument]), SqlError> {
    if arguments.len() == count {
        return Ok((User::Root, arguments));
    }
    let user = match &arguments[0] {
        Argument::Text(name) if name == "public" => User::Public,
        Argument::Text(name) => {
            if name != OWNER {
                return Err(missing(SqlState::UNDEFINED_OBJECT, "role", name));
            }
            User::Root
        }
        Argument::Int(oid) if *oid == i64::from(OWNER_OID) => User::Root,
        _ => User::Public,
    };
    Ok((user, &arguments[1..]))
}

/// A privilege of the list, and whether it is asked for with the right to grant it.
type Wanted<'a> = (&'a str, bool);

/// Parses a list such as `SELECT, insert WITH GRANT OPTION` (22023 if one is unknown).
fn parse<'a>(privileges: &Argument, known: &[&'a str]) -> Result<Vec<Wanted<'a>>, SqlError> {
    let Argument::Text(text) = privileges else { return Ok(vec![]) };
    let parsed = text.split(',').map(|part| {
        let part = part.trim();
        let upper = part.to_uppercase();
        let suffix = ["WITH GRANT OPTION", "WITH ADMIN OPTION"]
            .iter()
            .find_map(|option| upper.strip_suffix(option).and_then(|rest| rest.strip_suffix(' ')));
        let name = suffix.unwrap_or(&upper);
        let found = known.iter().find(|privilege| **privilege == name);
        found.map(|privilege| (*privilege, suffix.is_some())).ok_or_else(|| {
            let message = format!("unrecognized privilege type: \"{part}\"");
            SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
        })
    });
    parsed.collect()
}

/// Whether the user has one of the privileges.
fn answer(user: User, object: Option<&Object>, wanted: &[Wanted<'_>]) -> Cell {
    let Some(object) = object else { return Cell::Null };
    match user {
        // `RULE` is a privilege of old that nobody has.
        User::Root => Cell::from(wanted.iter().any(|(privilege, _)| *privilege != "RULE")),
        User::Public => Cell::from(
            wanted.iter().any(|(privilege, grant)| !grant && object.public.contains(privilege)),
        ),
    }
}

fn listed(lookup: &Lookup, argument: &Argument) -> Result<Option<Listed>, SqlError> {
    match argument {
        Argument::Text(name) => {
            let found = resolve(lookup, name)?;
            found.map(Some).ok_or_else(|| missing(SqlState::UNDEFINED_TABLE, "relation", name))
        }
        argument => Ok(oid_argument(argument).and_then(|oid| lookup.by_oid(oid))),
    }
}

fn of_relation(relation: &Listed) -> Object {
    let is_system = SYSTEM_SCHEMAS.iter().any(|schema| schema.name == relation.schema);
    if is_system { Object { public: &["SELECT"] } } else { Object::PRIVATE }
}

fn relation(lookup: &Lookup, argument: &Argument) -> Result<Option<Object>, SqlError> {
    Ok(listed(lookup, argument)?.map(|relation| of_relation(&relation)))
}

fn sequence(lookup: &Lookup, argument: &Argument) -> Result<Option<Object>, SqlError> {
    match listed(lookup, argument)? {
        Some(relation) => {
            let message = format!("\"{}\" is not a sequence", relation.name);
            Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message))
        }
        None => Ok(None),
    }
}

/// The object of a kind of which there is none.
fn none(kind: &str, argument: &Argument) -> Result<Option<Object>, SqlError> {
    match argument {
        Argument::Text(name) => Err(missing(SqlState::UNDEFINED_OBJECT, kind, name)),
        _ => Ok(None),
    }
}

/// Finds an object that the catalog lists by oid and name.
fn known(
    argument: &Argument,
    mut objects: impl Iterator<Item = (u32, &'static str)>,
    unknown: impl FnOnce(&str) -> SqlError,
    object: Object,
) -> Result<Option<Object>, SqlError> {
    match argument {
        Argument::Text(wanted) => match objects.any(|(_, name)| name == wanted) {
            true => Ok(Some(object)),
            false => Err(unknown(wanted)),
        },
        Argument::Int(wanted) => {
            Ok(objects.any(|(oid, _)| i64::from(oid) == *wanted).then_some(object))
        }
        _ => Ok(None),
    }
}

fn database(_: &Lookup, argument: &Argument) -> Result<Option<Object>, SqlError> {
    let public = &["TEMPORARY", "TEMP", "CONNECT"];
    let unknown = |name: &str| missing(SqlState::INVALID_CATALOG_NAME, "database", name);
    known(argument, [(DATABASE_OID, DATABASE)].into_iter(), unknown, Object { public })
}

fn tablespace(_: &Lookup, argument: &Argument) -> Result<Option<Object>, SqlError> {
    let unknown = |name: &str| missing(SqlState::UNDEFINED_OBJECT, "tablespace", name);
    known(argument, [(TABLESPACE_OID, "pg_default")].into_iter(), unknown, Object::PRIVATE)
}

fn language(_: &Lookup, argument: &Argument) -> Result<Option<Object>, SqlError> {
    let unknown = |name: &str| missing(SqlState::UNDEFINED_OBJECT, "language", name);
    let languages = [(12, "internal"), (13, "c"), (14, "sql")];
    known(argument, languages.into_iter(), unknown, Object::USED_BY_ALL)
}

fn role_object(_: &Lookup, argument: &Argument) -> Result<Option<Object>, SqlError> {
    let unknown = |name: &str| missing(SqlState::UNDEFINED_OBJECT, "role", name);
    known(argument, [(OWNER_OID, OWNER)].into_iter(), unknown, Object::PRIVATE)
}

fn schema(lookup: &Lookup, argument: &Argument) -> Result<Option<Object>, SqlError> {
    let name = match argument {
        Argument::Text(name) => {
            let quoted = tidemark_pg::quote::quote_identifier(name);
            if schema_oid(lookup, &quoted).is_none() {
                return Err(missing(SqlState::INVALID_SCHEMA_NAME, "schema", name));
            }
            Some(name.clone())
        }
        argument => oid_argument(argument)
            .and_then(|oid| listing::schema_name(&lookup.view, u32::try_from(oid).ok()?)),
    };
    Ok(name.map(|name| {
        let is_system = SYSTEM_SCHEMAS.iter().any(|schema| schema.name == name);
        if is_system || name == "public" { Object::USED_BY_ALL } else { Object::PRIVATE }
    }))
}

fn type_of(_: &Lookup, argument: &Argument) -> Result<Option<Object>, SqlError> {
    match argument {
        Argument::Text(name) => match types::by_name(name) {
            Some(_) => Ok(Some(Object::USED_BY_ALL)),
            None => Err(missing(SqlState::UNDEFINED_OBJECT, "type", name)),
        },
        argument => {
            let oid = oid_argument(argument).and_then(|oid| u32::try_from(oid).ok());
            Ok(oid.and_then(types::by_oid).map(|_| Object::USED_BY_ALL))
        }
    }
}

fn function(_: &Lookup, argument: &Argument) -> Result<Option<Object>, SqlError> {
    let object = Object { public: &["EXECUTE"] };
    match argument {
        Argument::Text(text) => {
            if let Some(oid) = oid_argument(argument) {
                return Ok(procedure_with(oid).map(|_| object));
            }
            let Some((name, _)) = text.split_once('(') else {
                let message = "expected a left parenthesis";
                return Err(SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message));
            };
            let name = identifiers(name).and_then(|mut parts| parts.pop());
            match procedures().iter().find(|procedure| Some(procedure.name) == name.as_deref()) {
                Some(_) => Ok(Some(object)),
                None => Err(missing(SqlState::UNDEFINED_FUNCTION, "function", text)),
            }
        }
        argument => Ok(oid_argument(argument).and_then(procedure_with).map(|_| object)),
    }
}

fn procedure_with(oid: i64) -> Option<&'static Procedure> {
    procedures().iter().find(|procedure| i64::from(procedure.oid) == oid)
}
