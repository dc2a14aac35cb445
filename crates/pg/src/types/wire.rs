//! The PostgreSQL types that clients see, and those that they bind.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use pgwire::api::Type;
use tokio_postgres::types::Kind;

use tidemark_ledger::catalog::{ColumnType, NUMERIC_DEFAULT};

use super::arrow::{canonical, element_of, holds, undeclared};
use super::declared::DeclaredType;
use super::modifier;
use super::table::{OID, PgType, TEXT, by_oid};

/// The binary format counts from 2000-01-01, Arrow from 1970-01-01.
pub const EPOCH_DAYS: i32 = 10_957;
pub const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// How the values of a column are sent.
#[derive(Clone, Debug)]
pub struct WireType {
    pub pg_type: Type,
    /// `pg_type.typlen`: the width of a value in bytes, or -1 if it varies.
    pub size: i16,
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
        Self::new(field.data_type(), DeclaredType::of(field))
    }

    fn new(data_type: &DataType, declared: Option<DeclaredType>) -> Self {
        let arrow_type = canonical(data_type);
        if let DataType::List(field) = &arrow_type {
            // The canonical type has lost the distinction of oids.
            let element = element_of(data_type).unwrap_or(field.data_type());
            let element = Self::new(element, declared.and_then(DeclaredType::element));
            return Self::array(arrow_type, element, declared);
        }
        let fitting = declared.filter(|declared| fits(*declared, &arrow_type));
        let (row, modifier) = match fitting {
            Some(declared) => (declared.pg_type, declared.modifier),
            // PostgreSQL's only unsigned four-byte type is oid.
            None if declared.is_none() && *data_type == DataType::UInt32 => {
                (known(OID), modifier::NONE)
            }
            None => {
                let undeclared = undeclared(&arrow_type);
                (undeclared.map_or(known(TEXT), |found| PgType::of(&found)), modifier::NONE)
            }
        };
        // An unconstrained numeric and expressions of it have this scale.
        let trim_zeros = modifier == modifier::NONE
            && decimal_scale(&arrow_type).is_some_and(|scale| scale >= NUMERIC_DEFAULT.1);
        Self { trim_zeros, modifier, ..Self::plain(row, arrow_type) }
    }

    fn array(arrow_type: DataType, element: Self, declared: Option<DeclaredType>) -> Self {
        let element_oid = element.pg_type.oid();
        let vector = declared.filter(|declared| declared.is_vector());
        let vector = vector.map(|vector| vector.pg_type).filter(|v| v.element_oid == element_oid);
        let row = vector.unwrap_or_else(|| {
            let element = known(element_oid);
            // PostgreSQL has one array type for all dimensions.
            by_oid(element.array_oid).unwrap_or(element)
        });
        Self {
            modifier: element.modifier,
            element: Some(Box::new(element)),
            ..Self::plain(row, arrow_type)
        }
    }

    fn plain(row: &PgType, arrow_type: DataType) -> Self {
        Self {
            pg_type: Type::from_oid(row.oid).expect("the types of columns are PostgreSQL's"),
            size: row.length,
            arrow_type,
            trim_zeros: false,
            modifier: modifier::NONE,
            element: None,
        }
    }
}

/// A row of the table, which has every type that is sent.
fn known(oid: u32) -> &'static PgType {
    by_oid(oid).expect("every type that is sent is in the table")
}

/// Whether a declared type is that of values with this canonical Arrow type. Oids have several.
fn fits(declared: DeclaredType, arrow_type: &DataType) -> bool {
    let is_oid = declared.dimensions == 0 && declared.pg_type.oid == OID;
    declared.read_as().is_some_and(|read| holds(&read, arrow_type))
        || is_oid && arrow_type.is_integer()
}

fn decimal_scale(arrow_type: &DataType) -> Option<i8> {
    match arrow_type {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

/// The PostgreSQL type of a column.
pub fn pg_type(field: &Field) -> Type {
    WireType::of(field).pg_type
}

/// Returns the Arrow type of a parameter bound as `pg_type`; `None` for unknown types.
///
/// A numeric parameter has the scale of its value; this is the type if there is no value.
pub fn pg_to_arrow(pg_type: &Type) -> Option<DataType> {
    Some(bound(&column_type(pg_type)?))
}

fn bound(column_type: &ColumnType) -> DataType {
    match column_type {
        text if is_text(text) => DataType::Utf8,
        ColumnType::Array(element) => {
            DataType::List(Arc::new(Field::new_list_field(bound(element), true)))
        }
        other => other.arrow_type(),
    }
}

/// Whether the values of the type are handled as text.
pub fn is_string(pg_type: &Type) -> bool {
    column_type(pg_type).is_some_and(|column_type| is_text(&column_type))
}

fn is_text(column_type: &ColumnType) -> bool {
    matches!(column_type, ColumnType::Text | ColumnType::Varchar(_) | ColumnType::Jsonb)
}

/// Returns the column type that reads the text form of `pg_type`.
pub fn column_type(pg_type: &Type) -> Option<ColumnType> {
    by_oid(pg_type.oid())?.read_as()
}

/// Returns the element type of an array type.
pub fn array_element(array: &Type) -> Option<Type> {
    match array.kind() {
        Kind::Array(element) => Some(element.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;
    use tidemark_ledger::catalog::SQL_TYPE_KEY;

    fn shown(data_type: DataType, declared: &str) -> (Type, i32) {
        let metadata = [(SQL_TYPE_KEY.to_owned(), declared.to_owned())];
        let field = Field::new("c", data_type, true).with_metadata(metadata.into());
        (pg_type(&field), WireType::of(&field).modifier)
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
}
