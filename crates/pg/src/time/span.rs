//! Intervals: months, days and microseconds, which only compare as if a month had 30 days and a day 24 hours.

use super::{DAY, Result, out_of_range};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

const MONTH_DAYS: i64 = 30;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

impl Span {
    pub fn of_micros(micros: i64) -> Self {
        Self { micros, ..Self::default() }
    }

    /// Its length in microseconds, by which intervals compare.
    pub fn length(self) -> i128 {
        let days = i128::from(self.months) * i128::from(MONTH_DAYS) + i128::from(self.days);
        days * i128::from(DAY) + i128::from(self.micros)
    }

    pub fn negated(self) -> Result<Self> {
        let parts = (self.months.checked_neg(), self.days.checked_neg(), self.micros.checked_neg());
        checked(parts)
    }

    pub fn plus(self, other: Self) -> Result<Self> {
        checked((
            self.months.checked_add(other.months),
            self.days.checked_add(other.days),
            self.micros.checked_add(other.micros),
        ))
    }

    pub fn minus(self, other: Self) -> Result<Self> {
        checked((
            self.months.checked_sub(other.months),
            self.days.checked_sub(other.days),
            self.micros.checked_sub(other.micros),
        ))
    }

    /// Multiplies; fractions of months become days, and those of days become time.
    pub fn times(self, factor: f64) -> Result<Self> {
        self.scaled(|value| value * factor)
    }

    pub fn divided(self, divisor: f64) -> Result<Self> {
        if divisor == 0.0 {
            return Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        self.scaled(|value| value / divisor)
    }

    fn scaled(self, scale: impl Fn(f64) -> f64) -> Result<Self> {
        let (months, days) = (scale(self.months.into()), scale(self.days.into()));
        let whole = Self { months: whole(months)?, days: whole(days)?, micros: 0 };
        // Noise of the product below a microsecond would make days of months.
        let month_rest = rounded((months - f64::from(whole.months)) * float(MONTH_DAYS));
        let mut seconds = rounded(
            (days - f64::from(whole.days) + month_rest - month_rest.trunc()) * SECONDS_OF_DAY,
        );
        let mut carried = 0.0;
        if seconds.abs() >= SECONDS_OF_DAY {
            carried = (seconds / SECONDS_OF_DAY).trunc();
            seconds -= carried * SECONDS_OF_DAY;
        }
        let days = f64::from(whole.days) + month_rest.trunc() + carried;
        let micros = (scale(float(self.micros)) + seconds * MICROS).round_ties_even();
        Ok(Self { days: self::whole(days)?, micros: micros_of(micros)?, ..whole })
    }

    /// Makes months of every 30 days.
    pub fn justify_days(self) -> Result<Self> {
        let months = self.days / 30;
        let mut span = Self { days: self.days - months * 30, ..self };
        let mut total = self.months.checked_add(months).ok_or_else(overflow)?;
        if total > 0 && span.days < 0 {
            span.days += 30;
            total -= 1;
        } else if total < 0 && span.days > 0 {
            span.days -= 30;
            total += 1;
        }
        Ok(Self { months: total, ..span })
    }

    /// Makes days of every 24 hours.
    pub fn justify_hours(self) -> Result<Self> {
        let days = i32::try_from(self.micros / DAY).map_err(|_| overflow())?;
        let mut micros = self.micros % DAY;
        let mut total = self.days.checked_add(days).ok_or_else(overflow)?;
        if total > 0 && micros < 0 {
            micros += DAY;
            total -= 1;
        } else if total < 0 && micros > 0 {
            micros -= DAY;
            total += 1;
        }
        Ok(Self { days: total, micros, ..self })
    }

    /// Does both, and gives all parts one sign.
    pub fn justify_interval(self) -> Result<Self> {
        let (months, days, micros) =
            (i64::from(self.months), i64::from(self.days), self.micros % DAY);
        let mut days = days + self.micros / DAY;
        let mut months = months + days / MONTH_DAYS;
        days %= MONTH_DAYS;
        let mut micros = micros;
        if months > 0 && (days < 0 || (days == 0 && micros < 0)) {
            days += MONTH_DAYS;
            months -= 1;
        } else if months < 0 && (days > 0 || (days == 0 && micros > 0)) {
            days -= MONTH_DAYS;
            months += 1;
        }
        if days > 0 && micros < 0 {
            micros += DAY;
            days -= 1;
        } else if days < 0 && micros > 0 {
            micros -= DAY;
            days += 1;
        }
        let small = |value: i64| i32::try_from(value).map_err(|_| overflow());
        Ok(Self { months: small(months)?, days: small(days)?, micros })
    }
}

const SECONDS_OF_DAY: f64 = 86_400.0;
const MICROS: f64 = 1_000_000.0;

fn overflow() -> SqlError {
    out_of_range("interval")
}

fn checked(parts: (Option<i32>, Option<i32>, Option<i64>)) -> Result<Span> {
    match parts {
        (Some(months), Some(days), Some(micros)) => Ok(Span { months, days, micros }),
        _ => Err(overflow()),
    }
}

/// Integers of spans are counts, of which a float holds enough digits.
fn float(value: i64) -> f64 {
    value as f64
}

fn rounded(value: f64) -> f64 {
    (value * MICROS).round_ties_even() / MICROS
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn whole(value: f64) -> Result<i32> {
    let inside = value > f64::from(i32::MIN) - 1.0 && value < f64::from(i32::MAX) + 1.0;
    if inside { Ok(value as i32) } else { Err(overflow()) }
}

/// A count of microseconds as an integer, if it is one that intervals hold.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
pub fn micros_of(value: f64) -> Result<i64> {
    let inside = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    if inside { Ok(value as i64) } else { Err(overflow()) }
}
