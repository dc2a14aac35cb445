//! Sums and differences of times, their truncation, and `age`.

use super::fields::Unit;
use super::{
    DAY, HOUR, MINUTE, Moment, Result, SECOND, Span, Zone, is_infinite, iso_week, iso_week_start,
    month_days, out_of_range, timestamp_in_range,
};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Adds an interval to a local timestamp: months first, then days, then the time.
pub fn add(micros: i64, span: Span) -> Result<i64> {
    if is_infinite(micros) {
        return Ok(micros);
    }
    let mut moment = Moment::of(micros);
    if span.months != 0 {
        moment.add_months(span.months.into());
    }
    let days = i128::from(moment.days()) + i128::from(span.days);
    let local = days * i128::from(DAY) + i128::from(moment.time);
    timestamp_in_range(local + i128::from(span.micros))
}

/// Adds an interval to an instant: months and days on the clocks of the zone, then the time.
pub fn add_in(zone: &Zone, micros: i64, span: Span) -> Result<i64> {
    if is_infinite(micros) || (span.months == 0 && span.days == 0) {
        return if is_infinite(micros) {
            Ok(micros)
        } else {
            timestamp_in_range(i128::from(micros) + i128::from(span.micros))
        };
    }
    let local = zone.local(micros)?;
    let moved = zone.instant(add(local, Span { micros: 0, ..span })?)?;
    timestamp_in_range(i128::from(moved) + i128::from(span.micros))
}

/// The difference of two timestamps in days and time.
pub fn subtract(left: i64, right: i64) -> Result<Span> {
    if is_infinite(left) || is_infinite(right) {
        let message = "cannot subtract infinite timestamps";
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message));
    }
    let micros = left.checked_sub(right).ok_or_else(|| out_of_range("interval"))?;
    Span::of_micros(micros).justify_hours()
}

/// The difference of two local timestamps in years, months, days and time.
pub fn age(left: i64, right: i64) -> Result<Span> {
    if is_infinite(left) || is_infinite(right) {
        return Err(out_of_range("timestamp"));
    }
    let (a, b) = (Moment::of(left), Moment::of(right));
    let mut time = a.time - b.time;
    let mut days = a.day - b.day;
    let mut months = (a.year - b.year) * 12 + a.month - b.month;
    let negative = left < right;
    if negative {
        (time, days, months) = (-time, -days, -months);
    }
    while time < 0 {
        time += DAY;
        days -= 1;
    }
    // The days of the month in which the earlier of the two is.
    let earlier = if negative { a } else { b };
    while days < 0 {
        days += month_days(earlier.year, earlier.month);
        months -= 1;
    }
    if negative {
        (time, days, months) = (-time, -days, -months);
    }
    let small = |value: i64| i32::try_from(value).map_err(|_| out_of_range("interval"));
    Ok(Span { months: small(months)?, days: small(days)?, micros: time })
}

/// Sets what is smaller than the unit to its least value; `None` for a unit that cannot be truncated to.
pub fn truncate(micros: i64, unit: Unit) -> Result<Option<i64>> {
    if is_infinite(micros) {
        return Ok(Some(micros));
    }
    let mut m = Moment::of(micros);
    let time = |size: i64| m.time - m.time % size;
    let year_start = |year| Moment { year, month: 1, day: 1, time: 0 };
    // Centuries begin with year 1, decades with year 0.
    let period_start = |year: i64, years: i64| (year - 1).div_euclid(years) * years + 1;
    m = match unit {
        Unit::Microseconds => m,
        Unit::Milliseconds => Moment { time: time(1000), ..m },
        Unit::Second => Moment { time: time(SECOND), ..m },
        Unit::Minute => Moment { time: time(MINUTE), ..m },
        Unit::Hour => Moment { time: time(HOUR), ..m },
        Unit::Day => Moment { time: 0, ..m },
        Unit::Week => {
            let (year, week) = iso_week(m.days());
            Moment::of(iso_week_start(year, week) * DAY)
        }
        Unit::Month => Moment { day: 1, time: 0, ..m },
        Unit::Quarter => Moment { month: (m.month - 1) / 3 * 3 + 1, day: 1, time: 0, ..m },
        Unit::Year => year_start(m.year),
        Unit::Decade => year_start(m.year.div_euclid(10) * 10),
        Unit::Century => year_start(period_start(m.year, 100)),
        Unit::Millennium => year_start(period_start(m.year, 1000)),
        _ => return Ok(None),
    };
    m.micros().map(Some)
}

/// Truncates an interval. Its weeks cannot be known.
pub fn truncate_span(span: Span, unit: Unit) -> Option<Span> {
    let time = |size: i64| Span { micros: span.micros - span.micros % size, ..span };
    let months = |size: i32| Span { months: span.months / size * size, days: 0, micros: 0 };
    Some(match unit {
        Unit::Microseconds => span,
        Unit::Milliseconds => time(1000),
        Unit::Second => time(SECOND),
        Unit::Minute => time(MINUTE),
        Unit::Hour => time(HOUR),
        Unit::Day => Span { micros: 0, ..span },
        Unit::Month => months(1),
        Unit::Quarter => months(3),
        Unit::Year => months(12),
        Unit::Decade => months(120),
        Unit::Century => months(1200),
        Unit::Millennium => months(12_000),
        _ => return None,
    })
}

/// The start of the bin in which a timestamp is; the bins have one length, and one begins at `origin`.
pub fn bin(stride: Span, micros: i64, origin: i64) -> Result<i64> {
    let fail = |state, message: &str| Err(SqlError::new(state, message));
    if is_infinite(micros) {
        return Ok(micros);
    }
    if is_infinite(origin) {
        return fail(SqlState::DATETIME_FIELD_OVERFLOW, "origin out of range");
    }
    if stride.months != 0 {
        let message = "timestamps cannot be binned into intervals containing months or years";
        return fail(SqlState::FEATURE_NOT_SUPPORTED, message);
    }
    let stride = stride.length();
    if stride <= 0 {
        let message = "stride must be greater than zero";
        return fail(SqlState::DATETIME_FIELD_OVERFLOW, message);
    }
    let difference = i128::from(micros) - i128::from(origin);
    timestamp_in_range(i128::from(origin) + difference.div_euclid(stride) * stride)
}

/// Rounds to the digits of `timestamp(n)` and its kin.
pub fn rounded(micros: i64, digits: u32) -> i64 {
    if is_infinite(micros) || digits >= 6 {
        return micros;
    }
    let unit = 10_i64.pow(6 - digits);
    let half = if micros >= 0 { unit / 2 } else { -(unit / 2) };
    micros.checked_add(half).map_or(micros, |sum| sum / unit * unit)
}
