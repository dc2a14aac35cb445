//! The SQL types a column may have, their Arrow form and their PostgreSQL names.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

/// Field metadata key that carries the SQL type where Arrow alone does not tell it:
/// jsonb and varchar are both strings, and an unconstrained numeric has no fixed scale.
pub const SQL_TYPE_KEY: &str = "tidemark.type";

/// Precision and scale by which an unconstrained `numeric` is stored.
pub const NUMERIC_DEFAULT: (u8, i8) = (38, 10);

/// Largest precision of `numeric(p, s)`: that of a 256-bit decimal.
pub const NUMERIC_PRECISION_MAX: u8 = 76;

/// The declared type of a column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    Boolean,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    /// `numeric` or `numeric(precision, scale)`.
    Numeric(Option<(u8, i8)>),
    /// `varchar` or `varchar(n)`; `char(n)` is taken as `varchar(n)`. `n` counts characters.
    Varchar(Option<u32>),
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Jsonb,
    Array(Box<ColumnType>),
}

impl ColumnType {
    /// The Arrow type in which queries see values of this type.
    pub fn arrow_type(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::SmallInt => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Real => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Numeric(digits) => {
                let (precision, scale) = digits.unwrap_or(NUMERIC_DEFAULT);
                if precision <= 38 {
                    DataType::Decimal128(precision, scale)
                } else {
                    DataType::Decimal256(precision, scale)
                }
            }
            Self::Varchar(_) | Self::Text | Self::Jsonb => DataType::Utf8View,
            Self::Bytea => DataType::BinaryView,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Array(element) => {
                DataType::List(Arc::new(Field::new_list_field(element.arrow_type(), true)))
            }
        }
    }

    /// A field of this type whose metadata says what Arrow cannot, and nothing else: DataFusion wants
    /// the parts of a `UNION` or of a recursive query to carry the same.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow_type(), nullable);
        if self.told_by_arrow() {
            return field;
        }
        field.with_metadata([(SQL_TYPE_KEY.to_owned(), self.to_string())].into())
    }

    /// Whether the Arrow type alone says which type this is. A string without more is `text`.
    fn told_by_arrow(&self) -> bool {
        match self {
            Self::Numeric(_) | Self::Varchar(_) | Self::Jsonb => false,
            Self::Array(element) => element.told_by_arrow(),
            _ => true,
        }
    }

    /// The type inside an array type, else the type itself.
    pub fn scalar(&self) -> &Self {
        match self {
            Self::Array(element) => element.scalar(),
            other => other,
        }
    }
}

/// PostgreSQL's name of the type, as `format_type` and `\d` print it.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Boolean => "boolean",
            Self::SmallInt => "smallint",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Real => "real",
            Self::Double => "double precision",
            Self::Numeric(None) => "numeric",
            Self::Numeric(Some((precision, scale))) => {
                return write!(f, "numeric({precision},{scale})");
            }
            Self::Varchar(None) => "character varying",
            Self::Varchar(Some(length)) => return write!(f, "character varying({length})"),
            Self::Text => "text",
            Self::Bytea => "bytea",
            Self::Date => "date",
            Self::Time => "time without time zone",
            Self::Timestamp => "timestamp without time zone",
            Self::Timestamptz => "timestamp with time zone",
            Self::Interval => "interval",
            Self::Jsonb => "jsonb",
            Self::Array(element) => return write!(f, "{element}[]"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_postgres() {
        assert_eq!(ColumnType::Numeric(Some((15, 2))).to_string(), "numeric(15,2)");
        assert_eq!(ColumnType::Array(Box::new(ColumnType::Integer)).to_string(), "integer[]");
    }

    #[test]
    fn wide_numerics_take_the_wide_decimal() {
        assert_eq!(ColumnType::Numeric(Some((39, 2))).arrow_type(), DataType::Decimal256(39, 2));
    }
}
