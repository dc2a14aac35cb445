//! Reads dates, times and timestamps.
//!
//! Accepted are dates as `2022-12-28`, `2022/12/28`, `12/28/2022`, `20221228`, `Dec 28, 2022`,
//! `28 Dec 2022` or `epoch`, with AD or BC;
//! times as `11:08`, `11:08:56.918`, `110856`, with AM or PM; `T` or spaces between them; then a zone as `Z`,
//! `+09`, `-03:30`, `+0530`, an abbreviation or a name. The default zone is UTC.

use super::{Result, is_space};
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::time::Zone;
use crate::time::calendar::{DAY_MICROS, days_in_month, days_of_date};
use crate::time::zone::abbreviation;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// PostgreSQL's first and last year.
const YEAR_MIN: i64 = -4713;
const YEAR_MAX: i64 = 5_874_897;

/// Reads a date as days since 1970-01-01.
pub(super) fn date(text: &str) -> Result<i32> {
    let kind = Kind { name: "date", short: "date" };
    let days = scan(text).and_then(|parts| {
        let days = parts.date.ok_or(Fault::Syntax)?.days()?;
        i32::try_from(days).map_err(|_| Fault::Range)
    });
    days.map_err(|fault| kind.error(fault, text))
}

/// Reads a time as microseconds since midnight.
pub(super) fn time(text: &str) -> Result<i64> {
    let kind = Kind { name: "time", short: "time" };
    // A timestamp is accepted too; its time is used.
    let whole = scan(text).and_then(|parts| parts.time.ok_or(Fault::Syntax));
    let micros = whole.or_else(|fault| match fault {
        Fault::Syntax => Scanner::new(text).time_only(),
        fault => Err(fault),
    });
    micros.map_err(|fault| kind.error(fault, text))
}

/// Reads a timestamp as microseconds since 1970-01-01 00:00:00; a zone in the text is ignored.
pub(super) fn timestamp(text: &str) -> Result<i64> {
    let kind = Kind { name: "timestamp", short: "timestamp" };
    scan(text).and_then(|parts| parts.local_micros()).map_err(|fault| kind.error(fault, text))
}

/// Reads a timestamp with time zone as microseconds since 1970-01-01 00:00:00 UTC.
pub(super) fn timestamptz(text: &str) -> Result<i64> {
    let kind = Kind { name: "timestamp with time zone", short: "timestamp" };
    scan(text).and_then(|parts| parts.utc_micros()).map_err(|fault| kind.error(fault, text))
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Why a text is not a date or time.
enum Fault {
    Syntax,
    /// A field, such as the month, is out of its range.
    Field,
    /// The whole value is out of range.
    Range,
    ZoneRange,
    ZoneUnknown(String),
}

struct Kind {
    name: &'static str,
    short: &'static str,
}

impl Kind {
    fn error(&self, fault: Fault, text: &str) -> SqlError {
        let Self { name, short } = self;
        let (sqlstate, message) = match fault {
            Fault::Syntax => (
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type {name}: \"{text}\""),
            ),
            Fault::Field => (
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{text}\""),
            ),
            Fault::Range => {
                (SqlState::DATETIME_FIELD_OVERFLOW, format!("{short} out of range: \"{text}\""))
            }
            Fault::ZoneRange => (
                SqlState::INVALID_TIME_ZONE_DISPLACEMENT,
                format!("time zone displacement out of range: \"{text}\""),
            ),
            Fault::ZoneUnknown(zone) => (
                SqlState::INVALID_PARAMETER_VALUE,
                format!("time zone \"{}\" not recognized", zone.to_lowercase()),
            ),
        };
        SqlError::new(sqlstate, message)
    }
}

type Scanned<T> = std::result::Result<T, Fault>;

struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    fn days(&self) -> Scanned<i64> {
        if !(YEAR_MIN..=YEAR_MAX).contains(&self.year) {
            return Err(Fault::Range);
        }
        let last = days_in_month(self.year, self.month).ok_or(Fault::Field)?;
        if !(1..=last).contains(&self.day) {
            return Err(Fault::Field);
        }
        Ok(days_of_date(self.year, self.month, self.day))
    }
}

enum GivenZone {
    Seconds(i64),
    Named(Zone),
}

#[derive(Default)]
struct Parts {
    date: Option<Date>,
    /// Microseconds since midnight.
    time: Option<i64>,
    zone: Option<GivenZone>,
}

impl Parts {
    fn local_micros(&self) -> Scanned<i64> {
        let days = self.date.as_ref().ok_or(Fault::Syntax)?.days()?;
        let midnight = days.checked_mul(DAY_MICROS).ok_or(Fault::Range)?;
        midnight.checked_add(self.time.unwrap_or(0)).ok_or(Fault::Range)
    }

    fn utc_micros(&self) -> Scanned<i64> {
        let local = self.local_micros()?;
        let seconds = match &self.zone {
            None => 0,
            Some(GivenZone::Seconds(seconds)) => *seconds,
            Some(GivenZone::Named(zone)) => zone.local_offset(local),
        };
        local.checked_sub(seconds * SECOND).ok_or(Fault::Range)
    }
}

fn scan(text: &str) -> Scanned<Parts> {
    let mut scanner = Scanner::new(text);
    if scanner.text.eq_ignore_ascii_case("epoch") {
        let date = Some(Date { year: 1970, month: 1, day: 1 });
        return Ok(Parts { date, ..Parts::default() });
    }
    let date = scanner.date()?;
    if date.year == 0 {
        return Err(Fault::Field);
    }
    let mut parts = Parts { date: Some(date), ..Parts::default() };
    let digit_ahead = |scanner: &Scanner<'_>| scanner.peek().is_some_and(|b| b.is_ascii_digit());
    if scanner.take_any(b"Tt") || (scanner.skip_spaces() && digit_ahead(&scanner)) {
        parts.time = Some(scanner.time()?);
    }
    scanner.suffixes(&mut parts)?;
    Ok(parts)
}

/// Scans the text without surrounding spaces.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.trim_matches(is_space), at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        self.take_any(&[byte])
    }

    fn take_any(&mut self, bytes: &[u8]) -> bool {
        let found = self.peek().is_some_and(|next| bytes.contains(&next));
        self.at += usize::from(found);
        found
    }

    fn skip_spaces(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(|byte| is_space(char::from(byte))) {
            self.at += 1;
        }
        self.at > start
    }

    fn digits(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// Reads a run of digits as a number; there must be one.
    fn number(&mut self) -> Scanned<i64> {
        value(self.digits())
    }

    /// Reads a run of letters and the other characters of zone names.
    fn word(&mut self) -> &'a str {
        let start = self.at;
        let within = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'_');

        while self.peek().is_some_and(within) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// Reads the name of a month, if one is next.
    fn month_name(&mut self) -> Option<i64> {
        let start = self.at;
        let name = self.letters().to_ascii_lowercase();
        let is_name = |known: &&str| {
            name == **known || name == known[..3] || (name == "sept" && known.starts_with("sep"))
        };
        let found = MONTHS.iter().position(is_name);
        if found.is_none() {
            self.at = start;
        }
        found.and_then(|at| i64::try_from(at + 1).ok())
    }

    fn letters(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphabetic()) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// Skips what may be between the parts of a date with the name of a month.
    fn skip_separators(&mut self) {
        while self
            .peek()
            .is_some_and(|byte| is_space(char::from(byte)) || matches!(byte, b',' | b'-'))
        {
            self.at += 1;
        }
    }

    /// Reads `Jan 5, 2024`, `5 Jan 2024` or `2024-Jan-05`, if there is the name of a month.
    fn named_date(&mut self) -> Option<Scanned<Date>> {
        let start = self.at;
        let before = self.digits();
        if !before.is_empty() {
            self.skip_separators();
        }
        let Some(month) = self.month_name() else {
            self.at = start;
            return None;
        };
        self.skip_separators();
        let after = self.digits();
        let (day, given_year) = if before.is_empty() {
            self.skip_separators();
            (after, self.digits())
        } else if before.len() > 2 {
            (after, before)
        } else {
            (before, after)
        };
        let date = value(day).and_then(|day| Ok(Date { year: year(given_year)?, month, day }));
        Some(if day.len() > 2 { Err(Fault::Syntax) } else { date })
    }

    fn date(&mut self) -> Scanned<Date> {
        if let Some(date) = self.named_date() {
            return date;
        }
        let first = self.digits();
        let separator = self.peek().filter(|byte| matches!(byte, b'-' | b'/' | b'.'));
        let Some(separator) = separator else { return compact_date(first) };
        self.at += 1;
        let second = self.number()?;
        if !self.take(separator) {
            return Err(Fault::Syntax);
        }
        let third = self.digits();
        if first.len() > 2 {
            return Ok(Date { year: value(first)?, month: second, day: value(third)? });
        }
        Ok(Date { year: year(third)?, month: value(first)?, day: second })
    }

    fn time_only(mut self) -> Scanned<i64> {
        let time = self.time()?;
        let mut parts = Parts { time: Some(time), ..Parts::default() };
        self.suffixes(&mut parts)?;
        parts.time.ok_or(Fault::Syntax)
    }

    fn time(&mut self) -> Scanned<i64> {
        let first = self.digits();
        let (hour, minute, second) = if self.take(b':') {
            let minute = self.number()?;
            let second = if self.take(b':') { self.number()? } else { 0 };
            (value(first)?, minute, second)
        } else {
            match first.len() {
                4 => (value(&first[..2])?, value(&first[2..])?, 0),
                6 => (value(&first[..2])?, value(&first[2..4])?, value(&first[4..])?),
                _ => return Err(Fault::Syntax),
            }
        };
        let fraction = if self.take(b'.') { fraction_micros(self.digits()) } else { 0 };
        let micros = hour * HOUR + minute * MINUTE + second * SECOND + fraction;
        if hour > 24 || minute > 59 || second > 60 || micros > DAY_MICROS {
            return Err(Fault::Field);
        }
        Ok(micros)
    }

    /// Reads AM or PM, a zone, AD or BC, in any order, up to the end of the text.
    fn suffixes(&mut self, parts: &mut Parts) -> Scanned<()> {
        loop {
            self.skip_spaces();
            match self.peek() {
                None => return Ok(()),
                Some(b'+' | b'-') => parts.zone = Some(GivenZone::Seconds(self.zone_offset()?)),
                Some(_) => self.named_suffix(parts)?,
            }
        }
    }

    fn named_suffix(&mut self, parts: &mut Parts) -> Scanned<()> {
        let word = self.word();
        let time = &mut parts.time;
        match word.to_ascii_lowercase().as_str() {
            "" => return Err(Fault::Syntax),
            "am" => *time = Some(half_day(*time, 0)?),
            "pm" => *time = Some(half_day(*time, 12 * HOUR)?),
            "ad" => {}
            "bc" => {
                let date = parts.date.as_mut().ok_or(Fault::Syntax)?;
                date.year = 1 - date.year;
            }
            lower => {
                let offset = abbreviation(lower).map(GivenZone::Seconds);
                let zone = offset.or_else(|| Zone::find(lower).map(GivenZone::Named));
                parts.zone = Some(zone.ok_or_else(|| {
                    if lower.contains('/') {
                        Fault::ZoneUnknown(word.to_owned())
                    } else {
                        Fault::Syntax
                    }
                })?);
            }
        }
        Ok(())
    }

    fn zone_offset(&mut self) -> Scanned<i64> {
        let negative = self.peek() == Some(b'-');
        self.at += 1;
        let first = self.digits();
        let (hours, mut minutes, mut seconds) = match first.len() {
            1 | 2 => (value(first)?, 0, 0),
            3 | 4 => {
                let (hours, minutes) = first.split_at(first.len() - 2);
                (value(hours)?, value(minutes)?, 0)
            }
            _ => return Err(Fault::Syntax),
        };
        if first.len() <= 2 && self.take(b':') {
            minutes = self.number()?;
            seconds = if self.take(b':') { self.number()? } else { 0 };
        }
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(Fault::ZoneRange);
        }
        let offset = hours * 3600 + minutes * 60 + seconds;
        Ok(if negative { -offset } else { offset })
    }
}

/// Converts digits to a number; fails if there are too many for any field.
fn value(digits: &str) -> Scanned<i64> {
    match digits.len() {
        0 => Err(Fault::Syntax),
        1..=9 => digits.parse().map_err(|_| Fault::Syntax),
        _ => Err(Fault::Field),
    }
}

/// Reads a year; one or two digits stand for 1970 to 2069.
fn year(digits: &str) -> Scanned<i64> {
    let year = value(digits)?;
    Ok(match (digits.len(), year) {
        (1 | 2, 70..) => year + 1900,
        (1 | 2, _) => year + 2000,
        _ => year,
    })
}

/// `YYYYMMDD` or `YYMMDD`.
fn compact_date(digits: &str) -> Scanned<Date> {
    if !matches!(digits.len(), 6 | 8) {
        return Err(Fault::Syntax);
    }
    let (start, day) = digits.split_at(digits.len() - 2);
    let (first, month) = start.split_at(start.len() - 2);
    Ok(Date { year: year(first)?, month: value(month)?, day: value(day)? })
}

/// Converts the digits after the point of a second to microseconds; the seventh digit rounds.
fn fraction_micros(digits: &str) -> i64 {
    let digit =
        |position| digits.as_bytes().get(position).map_or(0, |digit| i64::from(digit - b'0'));
    let micros = (0..6).fold(0, |micros, position| micros * 10 + digit(position));
    micros + i64::from(digit(6) >= 5)
}

/// Converts a twelve-hour time; its half of the day begins at `start`.
fn half_day(time: Option<i64>, start: i64) -> Scanned<i64> {
    let time = time.ok_or(Fault::Syntax)?;
    if time >= 13 * HOUR {
        return Err(Fault::Field);
    }
    Ok(time % (12 * HOUR) + start)
}
