//! The type names of the SQL grammar: of columns, casts and parameters.

use std::borrow::Cow;

use datafusion::arrow::datatypes::{DataType as ArrowType, Field, FieldRef};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, Ident, ObjectName, TimezoneInfo,
};
use sqlparser::parser::Parser;

use tidemark_ledger::catalog::{ColumnType, NUMERIC_PRECISION_MAX};

use super::arrow;
use super::system::SystemType;
use super::table::{PgType, by_type_name, types};
use crate::dialect::SqlDialect;
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Digits of the fraction of a second.
const MICROSECOND_DIGITS: u64 = 6;

/// Returns the type of a column declared with this type name.
pub fn column_type(data_type: &DataType) -> Result<ColumnType, SqlError> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => array(element),
        DataType::Custom(name, modifiers) => custom(data_type, name, modifiers),
        _ => keyword(data_type),
    }
}

/// Returns the `typname` of a type, of an array that of its elements; an unknown type's own name.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => type_name(element),
        DataType::Custom(name, _) => {
            let name = name.0.last().and_then(|part| part.as_ident());
            name.map_or_else(String::new, |name| match name.quote_style {
                Some(_) => name.value.clone(),
                None => name.value.to_ascii_lowercase(),
            })
        }
        _ => spelled(data_type).0.into_owned(),
    }
}

/// What a type name has in parentheses, and what else limits its values.
enum Limits<'a> {
    None,
    /// `float(n)`.
    Bits(ExactNumberInfo),
    Digits(ExactNumberInfo),
    /// The length, and that of a name without one.
    Characters(Option<&'a CharacterLength>, Option<u32>),
    /// Limits that Tidemark does not have.
    Unknown,
}

impl Limits<'_> {
    fn only_if(known: bool) -> Self {
        if known { Self::None } else { Self::Unknown }
    }
}

/// Returns the `typname` that a type name of `sqlparser` stands for, and its limits. Any other type has the name
/// that it is written with.
fn spelled(data_type: &DataType) -> (Cow<'static, str>, Limits<'_>) {
    use TimezoneInfo::{None as Local, Tz, WithTimeZone, WithoutTimeZone};
    let (name, limits) = match data_type {
        DataType::Bool | DataType::Boolean => ("bool", Limits::None),
        DataType::SmallInt(width) | DataType::Int2(width) => {
            ("int2", Limits::only_if(width.is_none()))
        }
        DataType::Int(width) | DataType::Integer(width) | DataType::Int4(width) => {
            ("int4", Limits::only_if(width.is_none()))
        }
        DataType::BigInt(width) | DataType::Int8(width) => {
            ("int8", Limits::only_if(width.is_none()))
        }
        DataType::Real | DataType::Float4 => ("float4", Limits::None),
        DataType::Float8 | DataType::DoublePrecision => ("float8", Limits::None),
        DataType::Double(digits) => ("float8", Limits::only_if(*digits == ExactNumberInfo::None)),
        DataType::Float(bits) => ("float8", Limits::Bits(*bits)),
        DataType::Numeric(digits) | DataType::Decimal(digits) | DataType::Dec(digits) => {
            ("numeric", Limits::Digits(*digits))
        }
        DataType::Varchar(length)
        | DataType::CharacterVarying(length)
        | DataType::CharVarying(length) => ("varchar", Limits::Characters(length.as_ref(), None)),
        DataType::Char(length) | DataType::Character(length) => {
            ("bpchar", Limits::Characters(length.as_ref(), Some(1)))
        }
        DataType::Time(precision, zone) => {
            let local = matches!(zone, Local | WithoutTimeZone);
            ("time", Limits::only_if(local && is_microseconds(*precision)))
        }
        DataType::Timestamp(precision, zone) => {
            let name = match zone {
                Local | WithoutTimeZone => "timestamp",
                Tz | WithTimeZone => "timestamptz",
            };
            (name, Limits::only_if(is_microseconds(*precision)))
        }
        DataType::Interval { fields, precision } => {
            ("interval", Limits::only_if(fields.is_none() && precision.is_none()))
        }
        other => return (other.to_string().to_ascii_lowercase().into(), Limits::None),
    };
    (name.into(), limits)
}

/// Whether the precision of a time is that of all times.
fn is_microseconds(precision: Option<u64>) -> bool {
    precision.is_none_or(|digits| digits == MICROSECOND_DIGITS)
}

/// Resolves the names that `sqlparser` knows.
fn keyword(data_type: &DataType) -> Result<ColumnType, SqlError> {
    let (name, limits) = spelled(data_type);
    let known = by_type_name(&name).and_then(PgType::declared_as);
    match (known, limits) {
        (Some(known), Limits::None) => Ok(known.clone()),
        (Some(ColumnType::Varchar(_)), Limits::Characters(length, otherwise)) => {
            Ok(ColumnType::Varchar(characters(length)?.or(otherwise)))
        }
        (Some(ColumnType::Numeric(_)), Limits::Digits(digits)) => numeric(digits),
        (Some(ColumnType::Double), Limits::Bits(bits)) => float(bits),
        _ => Err(unsupported(data_type)),
    }
}

/// Returns the type a cast to this name yields, including types that only catalog queries use.
pub fn cast_type(data_type: &DataType) -> Result<ColumnType, SqlError> {
    match pseudo_type(data_type) {
        Some(PseudoType::Oid | PseudoType::Registered(_)) => Ok(ColumnType::BigInt),
        Some(PseudoType::Name) => Ok(ColumnType::Varchar(None)),
        None => match data_type {
            DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => {
                Ok(ColumnType::Array(Box::new(cast_type(element)?)))
            }
            _ => column_type(data_type),
        },
    }
}

/// Returns the type with this SQL name, as [`ColumnType`] prints it.
pub fn column_type_named(name: &str) -> Result<ColumnType, SqlError> {
    let undefined =
        || SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"));
    column_type(&parsed(name).ok_or_else(undefined)?)
}

/// Returns the SQL type of a parameter with this Arrow type.
pub fn parameter_type(arrow: &ArrowType) -> DataType {
    let found = arrow::column_type(arrow, None).unwrap_or(ColumnType::Text);
    sql_type(&with_varchar(found))
}

/// The SQL type that stands for a column type.
pub fn sql_type(column_type: &ColumnType) -> DataType {
    match column_type {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::SmallInt => DataType::SmallInt(None),
        ColumnType::Integer => DataType::Integer(None),
        ColumnType::BigInt => DataType::BigInt(None),
        ColumnType::Real => DataType::Real,
        ColumnType::Double => DataType::DoublePrecision,
        ColumnType::Numeric(digits) => DataType::Numeric(match digits {
            None => ExactNumberInfo::None,
            Some((precision, scale)) => {
                ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale))
            }
        }),
        ColumnType::Varchar(length) => DataType::CharacterVarying(length.map(|length| {
            CharacterLength::IntegerLength { length: u64::from(length), unit: None }
        })),
        ColumnType::Text => DataType::Text,
        ColumnType::Bytea => DataType::Bytea,
        ColumnType::Date => DataType::Date,
        ColumnType::Time => DataType::Time(None, TimezoneInfo::WithoutTimeZone),
        ColumnType::Timestamp => DataType::Timestamp(None, TimezoneInfo::WithoutTimeZone),
        ColumnType::Timestamptz => DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
        ColumnType::Interval => DataType::Interval { fields: None, precision: None },
        ColumnType::Jsonb => DataType::JSONB,
        ColumnType::Array(element) => {
            DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(sql_type(element)), None))
        }
    }
}

/// Makes text `varchar`, which parameters of unknown types are.
fn with_varchar(column_type: ColumnType) -> ColumnType {
    match column_type {
        ColumnType::Text => ColumnType::Varchar(None),
        ColumnType::Array(element) => ColumnType::Array(Box::new(with_varchar(*element))),
        other => other,
    }
}

fn parsed(name: &str) -> Option<DataType> {
    let dialect = SqlDialect::default();
    Parser::new(&dialect).try_with_sql(name).and_then(|mut p| p.parse_data_type()).ok()
}

/// A type that no user column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PseudoType {
    Oid,
    Name,
    /// `regclass` and similar types: an oid written as a name.
    Registered(Registered),
}

/// The kind of object that a `reg` type names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    Class,
    Type,
    Namespace,
    Function,
    /// Operators, roles and everything else with a `reg` type.
    Other,
}

/// Returns the pseudo-type with this name, bare or as `pg_catalog.name`.
pub fn pseudo_type(data_type: &DataType) -> Option<PseudoType> {
    let name = match data_type {
        DataType::Regclass => return Some(PseudoType::Registered(Registered::Class)),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => system_name(name)?,
        _ => return None,
    };
    match name.as_str() {
        "oid" | "xid" | "cid" => Some(PseudoType::Oid),
        "name" | "char" | "cstring" => Some(PseudoType::Name),
        "regclass" => Some(PseudoType::Registered(Registered::Class)),
        "regtype" => Some(PseudoType::Registered(Registered::Type)),
        "regnamespace" => Some(PseudoType::Registered(Registered::Namespace)),
        "regproc" | "regprocedure" => Some(PseudoType::Registered(Registered::Function)),
        "regoper" | "regoperator" | "regrole" | "regcollation" | "regconfig" | "regdictionary" => {
            Some(PseudoType::Registered(Registered::Other))
        }
        _ => None,
    }
}

/// Returns the result type of a cast, as the planner and clients see it.
///
/// The metadata is always set: a cast without any would keep its source's.
pub fn cast_field(data_type: &DataType) -> Result<Field, SqlError> {
    let is_oid = |data_type: &DataType| {
        matches!(pseudo_type(data_type), Some(PseudoType::Oid | PseudoType::Registered(_)))
    };
    match data_type {
        oid if is_oid(oid) => Ok(SystemType::Oid.field("")),
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) if is_oid(element) => {
            Ok(SystemType::OidArray.field(""))
        }
        _ => Ok(cast_type(data_type)?.field("", true)),
    }
}

/// Resolves types for DataFusion's planner, so that casts and typed literals have the types of columns.
#[derive(Debug)]
pub struct SqlTypes;

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, sql_type: &DataType) -> EngineResult<Option<FieldRef>> {
        Ok(Some(cast_field(sql_type)?.into()))
    }
}

fn float(digits: ExactNumberInfo) -> Result<ColumnType, SqlError> {
    match digits {
        ExactNumberInfo::None | ExactNumberInfo::Precision(25..=53) => Ok(ColumnType::Double),
        ExactNumberInfo::Precision(1..=24) => Ok(ColumnType::Real),
        _ => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "precision for type float must be between 1 and 53 bits",
        )),
    }
}

fn numeric(digits: ExactNumberInfo) -> Result<ColumnType, SqlError> {
    let (precision, scale) = match digits {
        ExactNumberInfo::None => return Ok(ColumnType::Numeric(None)),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let out_of_range = |what: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, what);
    let precision = u8::try_from(precision)
        .ok()
        .filter(|precision| (1..=NUMERIC_PRECISION_MAX).contains(precision))
        .ok_or_else(|| {
            let most = NUMERIC_PRECISION_MAX;
            out_of_range(format!("NUMERIC precision {precision} must be between 1 and {most}"))
        })?;
    let scale = i8::try_from(scale)
        .ok()
        .filter(|scale| u8::try_from(*scale).is_ok_and(|scale| scale <= precision))
        .ok_or_else(|| {
            out_of_range(format!(
                "NUMERIC scale {scale} must be between 0 and precision {precision}"
            ))
        })?;
    Ok(ColumnType::Numeric(Some((precision, scale))))
}

fn characters(length: Option<&CharacterLength>) -> Result<Option<u32>, SqlError> {
    let invalid = |what: &str| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, what.to_owned());
    match length {
        None => Ok(None),
        Some(CharacterLength::IntegerLength { length: 0, .. }) => {
            Err(invalid("length for type varchar must be at least 1"))
        }
        Some(CharacterLength::IntegerLength { length, .. }) => match u32::try_from(*length) {
            Ok(length) if length <= 10_485_760 => Ok(Some(length)),
            _ => Err(invalid("length for type varchar cannot exceed 10485760")),
        },
        Some(CharacterLength::Max) => Err(invalid("length for type varchar must be a number")),
    }
}

fn array(element: &DataType) -> Result<ColumnType, SqlError> {
    if matches!(element, DataType::Array(_)) {
        return Err(SqlError::unsupported("an array of more than one dimension"));
    }
    Ok(ColumnType::Array(Box::new(column_type(element)?)))
}

/// Returns the lower-case name of a type that is written bare or as `pg_catalog.name`.
fn system_name(name: &ObjectName) -> Option<String> {
    let fold = |ident: &Ident| ident.value.to_ascii_lowercase();
    match name.0.as_slice() {
        [name] => name.as_ident().map(fold),
        [schema, name] if schema.as_ident().map(fold).as_deref() == Some("pg_catalog") => {
            name.as_ident().map(fold)
        }
        _ => None,
    }
}

/// Resolves names that `sqlparser` does not know, which include all qualified ones.
fn custom(
    data_type: &DataType,
    name: &ObjectName,
    modifiers: &[String],
) -> Result<ColumnType, SqlError> {
    let Some(name) = system_name(name) else { return Err(unknown(data_type)) };
    if matches!(
        name.as_str(),
        "serial" | "bigserial" | "smallserial" | "serial2" | "serial4" | "serial8"
    ) {
        return Err(SqlError::unsupported(format!("type {name}"))
            .hint("There are no sequences: use bigint and give each row its value."));
    }
    if matches!(name.as_str(), "varchar" | "bpchar" | "numeric") && !modifiers.is_empty() {
        return Err(
            SqlError::unsupported(format!("type {data_type}")).hint("Write it without the schema.")
        );
    }
    if !modifiers.is_empty() {
        return Err(SqlError::unsupported(format!("type {data_type}")));
    }
    let mut named = types().filter(|t| t.name == name || t.spellings.contains(&name.as_str()));
    named.find_map(PgType::declared_as).cloned().ok_or_else(|| unknown(data_type))
}

fn unknown(data_type: &DataType) -> SqlError {
    let name = data_type.to_string().to_lowercase().replace('"', "");
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
}

/// A type that `sqlparser` knows and Tidemark does not support.
fn unsupported(data_type: &DataType) -> SqlError {
    let name = data_type.to_string().to_lowercase();
    let error = SqlError::unsupported(format!("type {name}"));
    match data_type {
        DataType::Uuid => error.hint("Use varchar."),
        DataType::Time(_, _) | DataType::Timestamp(_, _) => {
            error.hint("Times have microseconds; leave the precision out.")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_type(sql: &str) -> DataType {
        let dialect = SqlDialect::default();
        Parser::new(&dialect).try_with_sql(sql).unwrap().parse_data_type().unwrap()
    }

    #[test]
    fn type_names_mean_the_types_of_postgres() {
        let cases = [
            ("bool", "boolean"),
            ("int2", "smallint"),
            ("int", "integer"),
            ("int8", "bigint"),
            ("float", "double precision"),
            ("float(24)", "real"),
            ("decimal(15, 2)", "numeric(15,2)"),
            ("numeric(5)", "numeric(5,0)"),
            ("numeric", "numeric"),
            ("character varying(10)", "character varying(10)"),
            ("char", "character varying(1)"),
            ("timestamp", "timestamp without time zone"),
            ("timestamp with time zone", "timestamp with time zone"),
            ("timestamptz(6)", "timestamp with time zone"),
            ("int[]", "integer[]"),
            ("pg_catalog.int4", "integer"),
        ];
        for (sql, expected) in cases {
            assert_eq!(column_type(&data_type(sql)).unwrap().to_string(), expected, "{sql}");
        }
    }

    #[test]
    fn types_are_found_again_by_their_names() {
        let types = [
            ColumnType::Double,
            ColumnType::Numeric(Some((15, 2))),
            ColumnType::Numeric(None),
            ColumnType::Varchar(Some(7)),
            ColumnType::Varchar(None),
            ColumnType::Time,
            ColumnType::Timestamp,
            ColumnType::Timestamptz,
            ColumnType::Interval,
            ColumnType::Jsonb,
            ColumnType::Bytea,
            ColumnType::Array(Box::new(ColumnType::Timestamptz)),
        ];
        for ty in types {
            assert_eq!(column_type_named(&ty.to_string()).unwrap(), ty);
        }
    }

    #[test]
    fn other_types_are_refused_with_the_right_code() {
        let cases = [
            ("serial", "0A000"),
            ("uuid", "0A000"),
            ("timestamp(3)", "0A000"),
            ("int[][]", "0A000"),
            ("nonsense", "42704"),
            ("regclass", "0A000"),
            ("numeric(100, 2)", "22023"),
            ("numeric(4, 5)", "22023"),
            ("varchar(0)", "22023"),
        ];
        for (sql, code) in cases {
            let error = column_type(&data_type(sql)).unwrap_err();
            assert_eq!(error.sqlstate.code(), code, "{sql}: {error}");
        }
    }

    #[test]
    fn casts_know_the_types_of_catalog_queries() {
        let cases = [
            ("regclass", "bigint"),
            ("pg_catalog.oid", "bigint"),
            ("name", "character varying"),
            ("\"char\"", "character varying"),
            ("pg_catalog.text", "text"),
            ("json", "jsonb"),
        ];
        for (sql, expected) in cases {
            assert_eq!(cast_type(&data_type(sql)).unwrap().to_string(), expected, "{sql}");
        }
    }
}
