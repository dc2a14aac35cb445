//! The fields of times: what `extract` and `date_part` take and `date_trunc` truncates to.

use super::{
    DAY, HOUR, MINUTE, Moment, SECOND, Span, day_of_week, is_infinite, iso_week, year_of_era,
};
use crate::time::calendar::days_of_date;

/// A unit of time, or another field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Epoch,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    IsoYear,
    Julian,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

impl Unit {
    /// Reads a name as PostgreSQL does, which looks at the first ten characters.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        let name: String =
            if name.starts_with("timezone_") { name } else { name.chars().take(10).collect() };
        Some(match name.as_str() {
            "us" | "usec" | "usecs" | "microsecon" | "useconds" | "usecond" => Self::Microseconds,
            "ms" | "msec" | "msecs" | "millisecon" | "mseconds" | "msecond" => Self::Milliseconds,
            "s" | "sec" | "secs" | "second" | "seconds" => Self::Second,
            "m" | "min" | "mins" | "minute" | "minutes" => Self::Minute,
            "h" | "hr" | "hrs" | "hour" | "hours" => Self::Hour,
            "d" | "day" | "days" => Self::Day,
            "w" | "week" | "weeks" => Self::Week,
            "mon" | "mons" | "month" | "months" => Self::Month,
            "qtr" | "quarter" => Self::Quarter,
            "y" | "yr" | "yrs" | "year" | "years" => Self::Year,
            "dec" | "decs" | "decade" | "decades" => Self::Decade,
            "c" | "cent" | "century" | "centuries" => Self::Century,
            "mil" | "mils" | "millennium" | "millennia" => Self::Millennium,
            "epoch" => Self::Epoch,
            "dow" => Self::DayOfWeek,
            "isodow" => Self::IsoDayOfWeek,
            "doy" => Self::DayOfYear,
            "isoyear" => Self::IsoYear,
            "j" | "jd" | "julian" => Self::Julian,
            "timezone" => Self::Timezone,
            "timezone_h" | "timezone_hour" => Self::TimezoneHour,
            "timezone_m" | "timezone_minute" => Self::TimezoneMinute,
            _ => return None,
        })
    }

    /// Whether the field grows without end, so that an infinite time has an infinite one.
    fn is_monotonic(self) -> bool {
        matches!(
            self,
            Self::Year
                | Self::Decade
                | Self::Century
                | Self::Millennium
                | Self::Julian
                | Self::IsoYear
                | Self::Epoch
        )
    }
}

/// A field's value: an exact fraction, nothing, or no number at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The value times ten to the number of digits.
    Digits(i128, u32),
    /// A fraction, of which numeric shows 20 digits: the julian day.
    JulianDay {
        days: i64,
        micros: i64,
    },
    Null,
    Infinite {
        negative: bool,
    },
}

const fn whole(value: i64) -> Field {
    Field::Digits(value as i128, 0)
}

/// Years in periods of a length: from year 1 to `years` is the first, and that before is -1.
fn period(year: i64, years: i64) -> i64 {
    if year > 0 { (year + years - 1) / years } else { -((years - 1 - (year - 1)) / years) }
}

/// A field of a timestamp; `offset` is that of its zone in seconds, if it has one. `None` if it has no such field.
pub fn of_timestamp(unit: Unit, micros: i64, offset: Option<i64>) -> Option<Field> {
    if is_infinite(micros) {
        return infinite(unit, micros < 0, offset.is_some());
    }
    let local = micros + offset.unwrap_or(0) * SECOND;
    let m = Moment::of(local);
    Some(match unit {
        Unit::Epoch => Field::Digits(micros.into(), 6),
        Unit::Julian => match m.time {
            0 => whole(m.days() + JULIAN_DAYS),
            time => Field::JulianDay { days: m.days() + JULIAN_DAYS, micros: time },
        },
        Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour => {
            return of_clock(unit, m.time);
        }
        Unit::Timezone => whole(offset?),
        Unit::TimezoneHour => whole(offset? / 3600),
        Unit::TimezoneMinute => whole(offset? % 3600 / 60),
        _ => return of_calendar(unit, m),
    })
}

const JULIAN_DAYS: i64 = 2_440_588;

/// A field of a date.
pub fn of_date(unit: Unit, days: i32) -> Option<Field> {
    if days == i32::MAX || days == i32::MIN {
        return match unit {
            Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour => {
                None
            }
            _ => infinite(unit, days < 0, false),
        };
    }
    match unit {
        Unit::Epoch => Some(whole(i64::from(days) * 86_400)),
        Unit::Julian => Some(whole(i64::from(days) + JULIAN_DAYS)),
        _ => {
            let (year, month, day) = crate::time::calendar::date_of_days(days.into());
            of_calendar(unit, Moment { year, month, day, time: 0 })
        }
    }
}

fn infinite(unit: Unit, negative: bool, has_zone: bool) -> Option<Field> {
    match unit {
        unit if unit.is_monotonic() => Some(Field::Infinite { negative }),
        Unit::Timezone | Unit::TimezoneHour | Unit::TimezoneMinute if !has_zone => None,
        _ => Some(Field::Null),
    }
}

fn of_calendar(unit: Unit, m: Moment) -> Option<Field> {
    let dow = || day_of_week(m.days());
    Some(whole(match unit {
        Unit::Day => m.day,
        Unit::Week => iso_week(m.days()).1,
        Unit::Month => m.month,
        Unit::Quarter => (m.month - 1) / 3 + 1,
        Unit::Year => year_of_era(m.year),
        Unit::Decade => m.year.div_euclid(10),
        Unit::Century => period(m.year, 100),
        Unit::Millennium => period(m.year, 1000),
        Unit::DayOfWeek => dow(),
        Unit::IsoDayOfWeek => (dow() + 6) % 7 + 1,
        Unit::DayOfYear => m.days() - days_of_date(m.year, 1, 1) + 1,
        Unit::IsoYear => year_of_era(iso_week(m.days()).0),
        _ => return None,
    }))
}

/// A field of the time of a day.
fn of_clock(unit: Unit, time: i64) -> Option<Field> {
    Some(match unit {
        Unit::Microseconds => whole(time % MINUTE),
        Unit::Milliseconds => Field::Digits((time % MINUTE).into(), 3),
        Unit::Second => Field::Digits((time % MINUTE).into(), 6),
        Unit::Minute => whole(time % HOUR / MINUTE),
        Unit::Hour => whole(time / HOUR),
        _ => return None,
    })
}

/// A field of a time.
pub fn of_time(unit: Unit, time: i64) -> Option<Field> {
    match unit {
        Unit::Epoch => Some(Field::Digits(time.into(), 6)),
        _ => of_clock(unit, time),
    }
}

/// A field of an interval.
pub fn of_span(unit: Unit, span: Span) -> Option<Field> {
    let (years, months) = (i64::from(span.months / 12), i64::from(span.months % 12));
    Some(match unit {
        Unit::Day => whole(span.days.into()),
        Unit::Month => whole(months),
        Unit::Quarter => whole(months / 3 + 1),
        Unit::Year => whole(years),
        Unit::Decade => whole(years / 10),
        Unit::Century => whole(years / 100),
        Unit::Millennium => whole(years / 1000),
        // A year has 365.25 days here, and a month 30.
        Unit::Epoch => {
            let quarter_days = i128::from(years) * 1461 + i128::from(months) * 120;
            let days = quarter_days + i128::from(span.days) * 4;
            Field::Digits(days * i128::from(DAY / 4) + i128::from(span.micros), 6)
        }
        _ => return of_clock(unit, span.micros),
    })
}
