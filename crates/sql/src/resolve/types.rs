//! Which types meet, and as what: PostgreSQL's categories, implicit casts and preferred types.

use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, cast};

use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::cast_call;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::PgType;

/// What happens to two operands of an operator that takes two of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The engine brings them together without a loss.
    AsIs,
    /// Both are cast to this type.
    As(ColumnType),
    /// There is no such operator.
    Never,
}

/// How the operands of `=`, `<` and the like meet.
pub fn compared(a: &ColumnType, b: &ColumnType) -> Meeting {
    use ColumnType::{Array, Double, Numeric, Real};
    match (a, b) {
        _ if is_number(a) && is_number(b) => numbers(a, b),
        _ if is_text(a) && is_text(b) => Meeting::AsIs,
        _ if time_rank(a).is_some() && time_rank(b).is_some() => {
            match time_rank(a).cmp(&time_rank(b)) {
                std::cmp::Ordering::Less => Meeting::As(b.clone()),
                std::cmp::Ordering::Equal => Meeting::AsIs,
                std::cmp::Ordering::Greater => Meeting::As(a.clone()),
            }
        }
        (Array(a), Array(b)) => match compared(a, b) {
            Meeting::AsIs
                if a == b || is_text(a) || matches!((&**a, &**b), (Numeric(_), Numeric(_))) =>
            {
                Meeting::AsIs
            }
            _ => Meeting::Never,
        },
        (Real | Double, _) | (_, Real | Double) => Meeting::Never,
        _ if a == b => Meeting::AsIs,
        _ => Meeting::Never,
    }
}

/// How the operands of `+` and the like meet, if both are numbers.
pub fn numbers(a: &ColumnType, b: &ColumnType) -> Meeting {
    use ColumnType::{Double, Real};
    match (a, b) {
        (Real, Real) | (Double, Double) => Meeting::AsIs,
        (Real | Double, _) | (_, Real | Double) => Meeting::As(Double),
        _ => Meeting::AsIs,
    }
}

/// The one type of the branches of `CASE`, the rows of `VALUES` and so on.
///
/// # Errors
/// 42804 if there is none; `construct` names what has the branches.
pub fn common(
    types: &[ColumnType],
    construct: &str,
) -> std::result::Result<Option<ColumnType>, SqlError> {
    let Some((first, rest)) = types.split_first() else { return Ok(None) };
    let mut common = first.clone();
    for other in rest {
        if !is_implicit(&common, other) && !is_implicit(other, &common) {
            let message = format!(
                "{construct} types {} and {} cannot be matched",
                sql_name(&common),
                sql_name(other)
            );
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message));
        }
        if is_implicit(&common, other) && !is_implicit(other, &common) {
            common = other.clone();
        }
    }
    Ok(Some(common))
}

/// The name of a type without its limits.
pub fn sql_name(column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::Array(element) => format!("{}[]", sql_name(element)),
        scalar => PgType::of(scalar).sql_name.clone(),
    }
}

/// Whether values of one type become those of the other without a cast.
fn is_implicit(from: &ColumnType, to: &ColumnType) -> bool {
    match (from, to) {
        _ if is_text(from) && is_text(to) => true,
        (ColumnType::Numeric(_), ColumnType::Numeric(_)) => true,
        (ColumnType::Time, ColumnType::Interval) => true,
        (ColumnType::Array(from), ColumnType::Array(to)) => is_implicit(from, to),
        _ => match (rank(from), rank(to)) {
            (Some(from), Some(to)) => from <= to,
            _ => match (time_rank(from), time_rank(to)) {
                (Some(from), Some(to)) => from <= to,
                _ => from == to,
            },
        },
    }
}

/// The order in which numbers become wider.
fn rank(number: &ColumnType) -> Option<u8> {
    match number {
        ColumnType::SmallInt => Some(0),
        ColumnType::Integer => Some(1),
        ColumnType::BigInt => Some(2),
        ColumnType::Numeric(_) => Some(3),
        ColumnType::Real => Some(4),
        ColumnType::Double => Some(5),
        _ => None,
    }
}

fn time_rank(time: &ColumnType) -> Option<u8> {
    match time {
        ColumnType::Date => Some(0),
        ColumnType::Timestamp => Some(1),
        ColumnType::Timestamptz => Some(2),
        _ => None,
    }
}

pub fn is_number(column_type: &ColumnType) -> bool {
    rank(column_type).is_some()
}

pub fn is_text(column_type: &ColumnType) -> bool {
    matches!(column_type, ColumnType::Text | ColumnType::Varchar(_))
}

/// Casts an expression to a type that its own type becomes implicitly. What the engine casts by itself, and
/// as PostgreSQL does, is left to it: integers to wider ones and to numerics.
pub fn as_type(expr: Expr, from: &ColumnType, to: &ColumnType) -> Result<Expr> {
    Ok(match to {
        ColumnType::Real | ColumnType::Double if from != to => as_float(expr, &to.arrow_type())?,
        ColumnType::Timestamp | ColumnType::Interval if from != to => cast(expr, to.arrow_type()),
        // In the time zone of the session.
        ColumnType::Timestamptz if from != to => cast_call(expr, to),
        _ => expr,
    })
}

fn as_float(expr: Expr, float: &DataType) -> Result<Expr> {
    Ok(match expr {
        Expr::Literal(value, _) => Expr::Literal(value.cast_to(float)?, None),
        expr => cast(expr, float.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColumnType::{
        Array, BigInt, Boolean, Date, Double, Integer, Numeric, Real, SmallInt, Text, Time,
        Timestamp, Timestamptz, Varchar,
    };

    #[test]
    fn a_float_meets_other_numbers_as_double() {
        for other in [SmallInt, Integer, BigInt, Numeric(None), Double] {
            assert_eq!(compared(&Real, &other), Meeting::As(Double), "{other}");
        }
        assert_eq!(compared(&Real, &Real), Meeting::AsIs);
        assert_eq!(compared(&SmallInt, &Numeric(None)), Meeting::AsIs);
    }

    #[test]
    fn types_of_several_categories_do_not_meet() {
        for (a, b) in [(Integer, Text), (Boolean, Integer), (Date, Text), (Time, Timestamp)] {
            assert_eq!(compared(&a, &b), Meeting::Never, "{a} {b}");
        }
        let (integers, bigints) = (Array(Box::new(Integer)), Array(Box::new(BigInt)));
        assert_eq!(compared(&integers, &bigints), Meeting::Never);
        assert_eq!(compared(&Date, &Timestamptz), Meeting::As(Timestamptz));
    }

    #[test]
    fn the_common_type_is_the_one_that_all_become() {
        let of = |types: &[ColumnType]| common(types, "CASE");
        assert_eq!(of(&[Integer, Numeric(None), BigInt]).unwrap(), Some(Numeric(None)));
        assert_eq!(of(&[Integer, Real]).unwrap(), Some(Real));
        assert_eq!(of(&[Date, Timestamp]).unwrap(), Some(Timestamp));
        assert_eq!(of(&[Varchar(Some(3)), Text]).unwrap(), Some(Varchar(Some(3))));
        assert_eq!(of(&[]).unwrap(), None);
        let error = of(&[Integer, Text]).unwrap_err();
        assert_eq!(error.message, "CASE types integer and text cannot be matched");
    }
}
