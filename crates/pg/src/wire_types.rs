//! Maps columns to the PostgreSQL types that clients see, and bound parameters to Arrow types.
//!
//! The Arrow type decides; the field's metadata (`catalog::SQL_TYPE_KEY`) only selects among several SQL
//! types with the same Arrow type. Expressions may carry the metadata of a column whose type they changed, so
//! metadata that does not fit the Arrow type is ignored.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use pgwire::api::Type;
use tokio_postgres::types::Kind;

use tidemark_ledger::catalog::{ColumnType, NUMERIC_DEFAULT, SQL_TYPE_KEY};

/// The binary format counts from 2000-01-01, Arrow from 1970-01-01.
pub const EPOCH_DAYS: i32 = 10_957;
pub const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// How the values of a column are sent.
#[derive(Clone, Debug)]
pub struct WireType {
    pub pg_type: Type,
    /// The Arrow type to which values are cast first; there is one for each way of writing them.
    pub arrow_type: DataType,
    /// Whether zeros at the end of a decimal fraction are left out.
    pub trim_zeros: bool,
    /// `pg_attribute.atttypmod`.
    pub modifier: i32,
    /// The type of the elements, if it is an array.
    pub element: Option<Box<Self>>,
}

impl WireType {
    pub fn of(field: &Field) -> Self {
        let declared = field.metadata().get(SQL_TYPE_KEY).map(String::as_str);
        Self::new(field.data_type(), declared.unwrap_or_default())
    }

    /// `declared` is the name of the SQL type; empty if unknown.
    fn new(data_type: &DataType, declared: &str) -> Self {
        let arrow_type = canonical(data_type);
        let simple = |pg_type| Self {
            pg_type,
            arrow_type: arrow_type.clone(),
            trim_zeros: false,
            modifier: -1,
            element: None,
        };
        match &arrow_type {
            DataType::Boolean => simple(Type::BOOL),
            // PostgreSQL's only unsigned four-byte type is oid.
            DataType::Int64 if declared.is_empty() && *data_type == DataType::UInt32 => {
                simple(Type::OID)
            }
            DataType::Int16 => simple(integer_type(declared, Type::INT2)),
            DataType::Int32 => simple(integer_type(declared, Type::INT4)),
            DataType::Int64 => simple(integer_type(declared, Type::INT8)),
            DataType::Float32 => simple(Type::FLOAT4),
            DataType::Float64 => simple(Type::FLOAT8),
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
                let exact = declared == format!("numeric({precision},{scale})");
                Self {
                    // An unconstrained numeric and expressions of it have this scale.
                    trim_zeros: !exact && *scale >= NUMERIC_DEFAULT.1,
                    modifier: if exact { numeric_modifier(*precision, *scale) } else { -1 },
                    ..simple(Type::NUMERIC)
                }
            }
            DataType::Utf8View => {
                let modifier = varchar_length(declared).map_or(-1, |length| length + 4);
                Self { modifier, ..simple(string_type(declared)) }
            }
            DataType::BinaryView => simple(Type::BYTEA),
            DataType::Date32 => simple(Type::DATE),
            DataType::Time64(_) => simple(Type::TIME),
            DataType::Timestamp(_, None) => simple(Type::TIMESTAMP),
            DataType::Timestamp(_, Some(_)) => simple(Type::TIMESTAMPTZ),
            DataType::Interval(_) => simple(Type::INTERVAL),
            DataType::List(field) => {
                let element = match declared {
                    "oidvector" => "oid",
                    array => array.strip_suffix("[]").unwrap_or_default(),
                };
                // The canonical type has lost the distinction of oids.
                let element =
                    Self::new(element_of(data_type).unwrap_or(field.data_type()), element);
                let pg_type = match (declared, &element.pg_type) {
                    ("int2vector", &Type::INT2) => Type::INT2_VECTOR,
                    ("oidvector", &Type::OID) => Type::OID_VECTOR,
                    (_, element) => array_type(element),
                };
                Self {
                    modifier: element.modifier,
                    element: Some(Box::new(element)),
                    ..simple(pg_type)
                }
            }
            _ => simple(Type::TEXT),
        }
    }
}

/// The type of a list's elements.
fn element_of(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(field.data_type())
        }
        _ => None,
    }
}

/// The PostgreSQL type of a column.
pub fn pg_type(field: &Field) -> Type {
    WireType::of(field).pg_type
}

/// `pg_attribute.atttypmod`: the limits of `numeric(p, s)` and `varchar(n)`, else -1.
pub fn type_modifier(field: &Field) -> i32 {
    WireType::of(field).modifier
}

/// `pg_type.typlen`: the width of a value in bytes, or -1 if it varies.
pub fn type_size(pg_type: &Type) -> i16 {
    match *pg_type {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::OID | Type::DATE => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL => 16,
        Type::NAME => 64,
        _ => -1,
    }
}

/// Returns the Arrow type of a parameter bound as `pg_type`; `None` for unknown types.
///
/// A numeric parameter has the scale of its value; this is the type if there is no value.
pub fn pg_to_arrow(pg_type: &Type) -> Option<DataType> {
    if is_string(pg_type) {
        return Some(DataType::Utf8);
    }
    if let Some(element) = array_element(pg_type) {
        let field = Field::new_list_field(pg_to_arrow(&element)?, true);
        return Some(DataType::List(Arc::new(field)));
    }
    column_type(pg_type).map(|ty| ty.arrow_type())
}

/// Whether the values of the type are handled as text.
pub fn is_string(pg_type: &Type) -> bool {
    matches!(
        *pg_type,
        Type::TEXT
            | Type::VARCHAR
            | Type::BPCHAR
            | Type::NAME
            | Type::CHAR
            | Type::UNKNOWN
            | Type::JSON
            | Type::JSONB
    )
}

/// Returns the column type that reads the text form of `pg_type`.
pub fn column_type(pg_type: &Type) -> Option<ColumnType> {
    Some(match *pg_type {
        Type::BOOL => ColumnType::Boolean,
        Type::INT2 => ColumnType::SmallInt,
        Type::INT4 => ColumnType::Integer,
        Type::INT8 | Type::OID => ColumnType::BigInt,
        Type::FLOAT4 => ColumnType::Real,
        Type::FLOAT8 => ColumnType::Double,
        Type::NUMERIC => ColumnType::Numeric(None),
        Type::BYTEA => ColumnType::Bytea,
        Type::DATE => ColumnType::Date,
        Type::TIME => ColumnType::Time,
        Type::TIMESTAMP => ColumnType::Timestamp,
        Type::TIMESTAMPTZ => ColumnType::Timestamptz,
        Type::INTERVAL => ColumnType::Interval,
        Type::JSONB | Type::JSON => ColumnType::Jsonb,
        _ if is_string(pg_type) => ColumnType::Text,
        _ => ColumnType::Array(Box::new(column_type(&array_element(pg_type)?)?)),
    })
}

/// Returns the element type of an array type.
pub fn array_element(array: &Type) -> Option<Type> {
    match array.kind() {
        Kind::Array(element) => Some(element.clone()),
        _ => None,
    }
}

fn array_type(element: &Type) -> Type {
    match *element {
        Type::BOOL => Type::BOOL_ARRAY,
        Type::INT2 => Type::INT2_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::FLOAT4 => Type::FLOAT4_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::NUMERIC => Type::NUMERIC_ARRAY,
        Type::VARCHAR => Type::VARCHAR_ARRAY,
        Type::NAME => Type::NAME_ARRAY,
        Type::CHAR => Type::CHAR_ARRAY,
        Type::OID => Type::OID_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::TIME => Type::TIME_ARRAY,
        Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
        Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
        Type::INTERVAL => Type::INTERVAL_ARRAY,
        Type::JSON => Type::JSON_ARRAY,
        Type::JSONB => Type::JSONB_ARRAY,
        Type::TEXT => Type::TEXT_ARRAY,
        // For an array of arrays: PostgreSQL has one array type for all dimensions.
        _ => element.clone(),
    }
}

fn integer_type(declared: &str, otherwise: Type) -> Type {
    if declared == "oid" { Type::OID } else { otherwise }
}

fn string_type(declared: &str) -> Type {
    match declared {
        "jsonb" => Type::JSONB,
        "json" => Type::JSON,
        "name" => Type::NAME,
        "\"char\"" => Type::CHAR,
        _ if declared.starts_with("character varying") => Type::VARCHAR,
        _ => Type::TEXT,
    }
}

fn varchar_length(declared: &str) -> Option<i32> {
    declared.strip_prefix("character varying(")?.strip_suffix(')')?.parse().ok()
}

fn numeric_modifier(precision: u8, scale: i8) -> i32 {
    (i32::from(precision) << 16 | (i32::from(scale) & 0x7ff)) + 4
}

/// Whether PostgreSQL has no similar type; values are then shown as text.
pub fn is_foreign(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => true,
        DataType::Dictionary(_, values) => is_foreign(values),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::RunEndEncoded(_, field) => is_foreign(field.data_type()),
        _ => false,
    }
}

/// Returns one Arrow type for all those that look the same to a client.
fn canonical(data_type: &DataType) -> DataType {
    match data_type {
        foreign if is_foreign(foreign) => DataType::Utf8View,
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            DataType::BinaryView
        }
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Interval(_) | DataType::Duration(_) => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        DataType::Dictionary(_, values) => canonical(values),
        DataType::RunEndEncoded(_, values) => canonical(values.data_type()),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => {
            DataType::List(Arc::new(Field::new_list_field(canonical(field.data_type()), true)))
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(data_type: DataType, declared: &str) -> (Type, i32) {
        let metadata = [(SQL_TYPE_KEY.to_owned(), declared.to_owned())];
        let field = Field::new("c", data_type, true).with_metadata(metadata.into());
        (pg_type(&field), type_modifier(&field))
    }

    #[test]
    fn metadata_tells_what_arrow_does_not() {
        assert_eq!(shown(DataType::Utf8View, "jsonb"), (Type::JSONB, -1));
        assert_eq!(shown(DataType::Utf8View, "character varying(10)"), (Type::VARCHAR, 14));
        assert_eq!(shown(DataType::Decimal128(15, 2), "numeric(15,2)"), (Type::NUMERIC, 983_046));
        assert_eq!(shown(DataType::Int64, "oid"), (Type::OID, -1));
        assert_eq!(shown(DataType::UInt32, ""), (Type::OID, -1));
        assert_eq!(shown(DataType::new_list(DataType::UInt32, true), ""), (Type::OID_ARRAY, -1));
        let vector = DataType::new_list(DataType::Int16, true);
        assert_eq!(shown(vector, "int2vector"), (Type::INT2_VECTOR, -1));
        let list = DataType::new_list(DataType::Utf8, true);
        assert_eq!(shown(list, "character varying[]"), (Type::VARCHAR_ARRAY, -1));
    }

    #[test]
    fn metadata_that_does_not_fit_the_arrow_type_is_ignored() {
        assert_eq!(shown(DataType::Utf8, "integer"), (Type::TEXT, -1));
        assert_eq!(shown(DataType::Decimal128(10, 4), "numeric(15,2)"), (Type::NUMERIC, -1));
        assert_eq!(shown(DataType::Int32, "jsonb"), (Type::INT4, -1));
    }

    #[test]
    fn engine_types_without_a_counterpart_take_the_nearest() {
        let field = |data_type| Field::new("c", data_type, true);
        let cases = [
            (DataType::UInt64, Type::INT8),
            (DataType::Int8, Type::INT2),
            (DataType::Null, Type::TEXT),
            (DataType::Duration(TimeUnit::Second), Type::INTERVAL),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), Type::TIMESTAMP),
            (DataType::Timestamp(TimeUnit::Second, Some("UTC".into())), Type::TIMESTAMPTZ),
            (DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into()), Type::TEXT),
            (DataType::Struct(vec![field(DataType::Int8)].into()), Type::TEXT),
            (DataType::new_list(DataType::new_list(DataType::Int32, true), true), Type::INT4_ARRAY),
        ];
        for (data_type, expected) in cases {
            assert_eq!(pg_type(&field(data_type)), expected);
        }
    }

    #[test]
    fn every_column_type_survives_the_way_to_its_pg_type_and_back() {
        let types = [
            ColumnType::Boolean,
            ColumnType::SmallInt,
            ColumnType::Integer,
            ColumnType::BigInt,
            ColumnType::Real,
            ColumnType::Double,
            ColumnType::Numeric(None),
            ColumnType::Bytea,
            ColumnType::Date,
            ColumnType::Time,
            ColumnType::Timestamp,
            ColumnType::Timestamptz,
            ColumnType::Interval,
            ColumnType::Array(Box::new(ColumnType::Integer)),
        ];
        for ty in types {
            let shown = pg_type(&ty.field("c", true));
            assert_eq!(pg_to_arrow(&shown), Some(ty.arrow_type()), "{ty}");
        }
    }
}
