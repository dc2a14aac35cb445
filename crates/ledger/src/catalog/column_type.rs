//! The SQL types a column may have, their Arrow form and their PostgreSQL names.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

/// Field metadata key that carries the SQL type where the Arrow type does not determine it: jsonb and varchar
/// are both strings, and an unconstrained numeric has no fixed scale.
pub const SQL_TYPE_KEY: &str = "tidemark.type";

/// Precision and scale with which an unconstrained `numeric` is stored.
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
    /// `varchar` or `varchar(n)`; `char(n)` is treated as `varchar(n)`. `n` counts characters.
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

    /// An Arrow field of this type. Its metadata carries the SQL type only where the Arrow type does not
    /// determine it, since DataFusion requires equal metadata in all parts of a `UNION` or of a recursive
    /// query.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow_type(), nullable);
        if self.told_by_arrow() {
            return field;
        }
        field.with_metadata([(SQL_TYPE_KEY.to_owned(), self.to_string())].into())
    }

    /// Whether the Arrow type determines the SQL type. A string without metadata is `text`.
    pub fn told_by_arrow(&self) -> bool {
        match self {
            Self::Numeric(_) | Self::Varchar(_) | Self::Jsonb => false,
            Self::Array(element) => element.told_by_arrow(),
            _ => true,
        }
    }

    /// Whether every value of this type is a value of `wider` too.
    pub fn widens_to(&self, wider: &Self) -> bool {
        use ColumnType::{Array, BigInt, Double, Integer, Numeric, Real, SmallInt, Text, Varchar};
        match (self, wider) {
            (same, other) if same == other => true,
            (SmallInt, Integer | BigInt | Real | Double)
            | (Integer, BigInt | Double)
            | (Real, Double)
            | (Varchar(_), Text | Varchar(None))
            | (Text, Varchar(None)) => true,
            (Varchar(Some(from)), Varchar(Some(to))) => from <= to,
            (SmallInt, Numeric(to)) => whole_digits(*to) >= 5,
            (Integer, Numeric(to)) => whole_digits(*to) >= 10,
            (BigInt, Numeric(to)) => whole_digits(*to) >= 19,
            (Numeric(from), Numeric(to)) => {
                let scale = |digits: &Option<(u8, i8)>| digits.unwrap_or(NUMERIC_DEFAULT).1;
                whole_digits(*from) <= whole_digits(*to) && scale(from) <= scale(to)
            }
            (Array(from), Array(to)) => from.widens_to(to),
            _ => false,
        }
    }

    /// Whether values of a primary key keep their bytes when this type is widened to `wider`.
    pub fn keeps_key_bytes(&self, wider: &Self) -> bool {
        let scale = |data_type: &DataType| match data_type {
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(*scale),
            _ => None,
        };
        let (from, to) = (self.arrow_type(), wider.arrow_type());
        (from.is_integer() && to.is_integer())
            || (from.is_floating() && to.is_floating())
            || (from == to)
            || (from.is_decimal() && scale(&from) == scale(&to))
    }

    /// The type inside an array type, else the type itself.
    pub fn scalar(&self) -> &Self {
        match self {
            Self::Array(element) => element.scalar(),
            other => other,
        }
    }
}

/// Number of digits before the decimal point.
fn whole_digits(digits: Option<(u8, i8)>) -> i16 {
    let (precision, scale) = digits.unwrap_or(NUMERIC_DEFAULT);
    i16::from(precision) - i16::from(scale)
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
    fn a_wider_type_holds_every_value() {
        use ColumnType::{BigInt, Double, Integer, Numeric, Real, Text, Varchar};
        assert!(Integer.widens_to(&BigInt) && !BigInt.widens_to(&Integer));
        assert!(BigInt.widens_to(&Numeric(None)) && !BigInt.widens_to(&Double));
        assert!(!Integer.widens_to(&Numeric(Some((11, 2)))));
        assert!(Integer.widens_to(&Numeric(Some((12, 2)))));
        assert!(Numeric(Some((10, 2))).widens_to(&Numeric(Some((12, 4)))));
        assert!(!Numeric(Some((10, 2))).widens_to(&Numeric(Some((10, 4)))));
        assert!(Varchar(Some(3)).widens_to(&Varchar(Some(4))) && Varchar(None).widens_to(&Text));
        assert!(!Text.widens_to(&Varchar(Some(9))) && !Double.widens_to(&Real));
        let array = |of| ColumnType::Array(Box::new(of));
        assert!(array(Integer).widens_to(&array(BigInt)) && !array(Integer).widens_to(&BigInt));
    }

    #[test]
    fn keys_keep_their_bytes_under_some_wider_types() {
        use ColumnType::{BigInt, Integer, Numeric};
        assert!(Integer.keeps_key_bytes(&BigInt) && !Integer.keeps_key_bytes(&Numeric(None)));
        let numeric = |precision, scale| Numeric(Some((precision, scale)));
        assert!(numeric(10, 2).keeps_key_bytes(&numeric(60, 2)));
        assert!(!numeric(10, 2).keeps_key_bytes(&numeric(12, 4)));
    }

    #[test]
    fn wide_numerics_take_the_wide_decimal() {
        assert_eq!(ColumnType::Numeric(Some((39, 2))).arrow_type(), DataType::Decimal256(39, 2));
    }
}
