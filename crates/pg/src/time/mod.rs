//! Arithmetic of dates, times and intervals with PostgreSQL's rules. Pure: no Arrow, no session.
//!
//! A date counts days and a timestamp microseconds since 1970-01-01; a time counts microseconds since midnight.

pub mod arithmetic;
pub mod calendar;
pub mod fields;
pub mod span;
pub mod zone;

pub use span::Span;
pub use zone::Zone;

use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::time::calendar::{DAY_MICROS, date_of_days, days_in_month, days_of_date};

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = DAY_MICROS;

pub type Result<T> = std::result::Result<T, SqlError>;

/// The first timestamp, 4714-11-24 00:00:00 BC.
pub const TIMESTAMP_MIN: i64 = -210_866_803_200 * SECOND;
/// The first and the last date.
pub const DATE_MIN: i64 = -2_440_588;
pub const DATE_MAX: i64 = 2_145_031_948;

/// The error for a value that its type cannot hold (22008).
pub fn out_of_range(what: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{what} out of range"))
}

/// Infinite timestamps are the integers at both ends.
pub fn is_infinite(micros: i64) -> bool {
    micros == i64::MAX || micros == i64::MIN
}

/// A timestamp, if it is in range.
pub fn timestamp_in_range(micros: i128) -> Result<i64> {
    i64::try_from(micros)
        .ok()
        .filter(|micros| *micros >= TIMESTAMP_MIN && *micros < i64::MAX)
        .ok_or_else(|| out_of_range("timestamp"))
}

/// A date, if it is in range.
pub fn date_in_range(days: i64) -> Result<i32> {
    i32::try_from(days)
        .ok()
        .filter(|days| (DATE_MIN..=DATE_MAX).contains(&i64::from(*days)))
        .ok_or_else(|| out_of_range("date"))
}

/// A timestamp by its fields. Year 0 is 1 BC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    /// Microseconds since midnight.
    pub time: i64,
}

impl Moment {
    pub fn of(micros: i64) -> Self {
        let (year, month, day) = date_of_days(micros.div_euclid(DAY));
        Self { year, month, day, time: micros.rem_euclid(DAY) }
    }

    pub fn days(&self) -> i64 {
        days_of_date(self.year, self.month, self.day)
    }

    pub fn micros(&self) -> Result<i64> {
        timestamp_in_range(i128::from(self.days()) * i128::from(DAY) + i128::from(self.time))
    }

    /// Adds months; a day that the month does not have becomes its last.
    pub fn add_months(&mut self, months: i64) {
        let total = self.year * 12 + self.month - 1 + months;
        (self.year, self.month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
        self.day = self.day.min(month_days(self.year, self.month));
    }

    pub fn hour(&self) -> i64 {
        self.time / HOUR
    }

    pub fn minute(&self) -> i64 {
        self.time % HOUR / MINUTE
    }

    /// Microseconds of the minute.
    pub fn second_micros(&self) -> i64 {
        self.time % MINUTE
    }
}

/// Days of a month from 1 to 12.
pub fn month_days(year: i64, month: i64) -> i64 {
    days_in_month(year, month).unwrap_or(31)
}

/// The year as people count: there is no year 0, and 1 BC is -1.
pub fn year_of_era(year: i64) -> i64 {
    if year > 0 { year } else { year - 1 }
}

/// The day of the week from Sunday, 0, to Saturday.
pub fn day_of_week(days: i64) -> i64 {
    (days + 4).rem_euclid(7)
}

/// Year and week by ISO 8601: weeks begin on Monday, and the first has the year's first Thursday.
pub fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days + 3 - (day_of_week(days) + 6) % 7;
    let (year, ..) = date_of_days(thursday);
    (year, (thursday - days_of_date(year, 1, 1)) / 7 + 1)
}

/// The Monday with which an ISO week begins.
pub fn iso_week_start(year: i64, week: i64) -> i64 {
    let fourth = days_of_date(year, 1, 4);
    fourth - (day_of_week(fourth) + 6) % 7 + (week - 1) * 7
}

#[cfg(test)]
mod tests;
