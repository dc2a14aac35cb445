//! Type modifiers (`atttypmod`): the limits of `varchar(n)` and `numeric(p, s)` as one number.

use tidemark_ledger::catalog::ColumnType;

/// The modifier of a type without limits.
pub const NONE: i32 = -1;

/// PostgreSQL adds the size of a value's header, so that no modifier is less than this.
const HEADER: i32 = 4;

/// The modifier of a column's type; of an array, that of its elements.
pub fn of(column_type: &ColumnType) -> i32 {
    match column_type.scalar() {
        ColumnType::Varchar(Some(length)) => i32::try_from(*length).map_or(NONE, |n| n + HEADER),
        ColumnType::Numeric(Some((precision, scale))) => {
            ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + HEADER
        }
        _ => NONE,
    }
}

/// The type with the limits of a modifier. Limits that it cannot have are ignored.
pub fn limited(column_type: &ColumnType, modifier: i32) -> ColumnType {
    let Some(modifier) = checked(modifier.into()) else { return column_type.clone() };
    match column_type {
        ColumnType::Varchar(_) => ColumnType::Varchar(u32::try_from(characters(modifier)).ok()),
        ColumnType::Numeric(_) => {
            let (precision, scale) = digits(modifier);
            let precision = u8::try_from(precision).ok();
            ColumnType::Numeric(precision.zip(i8::try_from(scale).ok()))
        }
        other => other.clone(),
    }
}

/// Prints the limits after the name of a type: `(15,2)`; empty if the type has none.
pub fn shown(column_type: &ColumnType, modifier: i64) -> String {
    let Some(modifier) = checked(modifier) else { return String::new() };
    match column_type.scalar() {
        ColumnType::Varchar(_) => format!("({})", characters(modifier)),
        ColumnType::Numeric(_) => {
            let (precision, scale) = digits(modifier);
            format!("({precision},{scale})")
        }
        _ => String::new(),
    }
}

/// Reads the limits between the parentheses after the name of a type, as [`shown`] prints them.
pub fn parse(column_type: &ColumnType, limits: &str) -> Option<i32> {
    let limited = match column_type {
        ColumnType::Varchar(_) => ColumnType::Varchar(Some(limits.parse().ok()?)),
        ColumnType::Numeric(_) => {
            let (precision, scale) = limits.split_once(',')?;
            ColumnType::Numeric(Some((precision.parse().ok()?, scale.parse().ok()?)))
        }
        _ => return None,
    };
    Some(of(&limited))
}

/// The modifier, if it is one.
pub fn checked(modifier: i64) -> Option<i64> {
    Some(modifier).filter(|modifier| *modifier >= HEADER.into())
}

/// Returns `n` of `varchar(n)`.
pub fn characters(modifier: i64) -> i64 {
    modifier - i64::from(HEADER)
}

/// Returns precision and scale of a numeric.
pub fn digits(modifier: i64) -> (i64, i64) {
    let digits = modifier - i64::from(HEADER);
    // The scale has 11 bits; the highest is its sign.
    let scale = ((digits & 0x7ff) ^ 0x400) - 0x400;
    ((digits >> 16) & 0xffff, scale)
}
