//! Types with a precision and a scale.

use std::cmp::Ordering;

use super::decimal::{Decimal, power_of_ten};
use super::{Numeric, Result};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// `numeric(precision, scale)`. A negative scale rounds digits before the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typmod {
    pub precision: u16,
    pub scale: i16,
}

impl Typmod {
    /// Rounds a value to the type's scale.
    pub fn apply(self, value: &Numeric) -> Result<Numeric> {
        let value = match value {
            Numeric::NaN => return Ok(Numeric::NaN),
            Numeric::Infinity | Numeric::NegativeInfinity => {
                return Err(self.error("cannot hold an infinite value."));
            }
            Numeric::Finite(value) => value,
        };
        let rounded = value.rounded(i64::from(self.scale));
        if self.holds(&rounded) { Numeric::from_decimal(rounded) } else { Err(self.overflow()) }
    }

    fn holds(self, value: &Decimal) -> bool {
        let digits = self.integer_digits();
        let bound = match u32::try_from(digits) {
            Ok(digits) => Decimal::new(power_of_ten(digits), 0),
            Err(_) => Decimal::new(1, digits.unsigned_abs().into()),
        };
        value.abs().cmp_value(&bound) == Ordering::Less
    }

    /// Digits before the point; negative if zeros must follow the point.
    fn integer_digits(self) -> i16 {
        i16::try_from(self.precision).unwrap_or(i16::MAX).saturating_sub(self.scale)
    }

    pub(super) fn overflow(self) -> SqlError {
        let bound = match self.integer_digits() {
            0 => "1".to_owned(),
            power => format!("10^{power}"),
        };
        self.error(&format!("must round to an absolute value less than {bound}."))
    }

    fn error(self, what: &str) -> SqlError {
        let Self { precision, scale } = self;
        SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")
            .detail(format!("A field with precision {precision}, scale {scale} {what}"))
    }
}
