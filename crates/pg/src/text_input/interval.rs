//! Reads intervals in PostgreSQL's own form (`1 mon 2 days 03:04:05.5`, `2 hours ago`) and in ISO 8601
//! (`P1Y2M3DT4H5M6S`).

use datafusion::arrow::datatypes::IntervalMonthDayNano;

use super::{Result, is_space};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY_MICROS: f64 = 86_400_000_000.0;

/// Reads an interval. Fails with 22007 on a syntax error and 22015 if a field is out of range.
pub(super) fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    let word = text.trim_matches(is_space);
    let sum = match word.as_bytes() {
        [b'P' | b'p', ..] => iso_8601(&word[1..]),
        _ => verbose(word),
    };
    sum.and_then(|sum| sum.finish()).map_err(|fault| fault.error(text))
}

enum Fault {
    Syntax,
    Field,
}

impl Fault {
    fn error(self, text: &str) -> SqlError {
        match self {
            Self::Syntax => SqlError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type interval: \"{text}\""),
            ),
            Self::Field => SqlError::new(
                SqlState::INTERVAL_FIELD_OVERFLOW,
                format!("interval field value out of range: \"{text}\""),
            ),
        }
    }
}

type Scanned<T> = std::result::Result<T, Fault>;

/// The value of one unit in months, days or microseconds.
#[derive(Clone, Copy)]
enum Unit {
    Months(i64),
    Days(i64),
    Micros(i64),
}

const YEAR: Unit = Unit::Months(12);
const MONTH: Unit = Unit::Months(1);

fn unit(word: &str) -> Scanned<Unit> {
    Ok(match word {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" => {
            Unit::Micros(1)
        }
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" => {
            Unit::Micros(1000)
        }
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Micros(SECOND),
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Micros(MINUTE),
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Micros(HOUR),
        "d" | "day" | "days" => Unit::Days(1),
        "w" | "week" | "weeks" => Unit::Days(7),
        "mon" | "mons" | "month" | "months" => MONTH,
        "y" | "yr" | "yrs" | "year" | "years" => YEAR,
        "dec" | "decs" | "decade" | "decades" => Unit::Months(120),
        "c" | "cent" | "century" | "centuries" => Unit::Months(1200),
        "mil" | "mils" | "millennium" | "millennia" => Unit::Months(12_000),
        _ => return Err(Fault::Syntax),
    })
}

fn iso_unit(letter: u8, in_time: bool) -> Scanned<Unit> {
    Ok(match (letter.to_ascii_uppercase(), in_time) {
        (b'Y', false) => YEAR,
        (b'M', false) => MONTH,
        (b'W', false) => Unit::Days(7),
        (b'D', false) => Unit::Days(1),
        (b'H', true) => Unit::Micros(HOUR),
        (b'M', true) => Unit::Micros(MINUTE),
        (b'S', true) => Unit::Micros(SECOND),
        _ => return Err(Fault::Syntax),
    })
}

/// A signed number; its fraction is separate so that large counts stay exact.
#[derive(Clone, Copy)]
struct Number {
    whole: i64,
    fraction: f64,
}

/// The sum of the parts read so far.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i64,
}

impl Sum {
    /// Adds `number` units; a fraction of a unit carries over to smaller ones as in PostgreSQL.
    fn add(&mut self, number: Number, unit: Unit) -> Scanned<()> {
        let Number { whole, fraction } = number;
        match unit {
            Unit::Micros(size) => {
                add(&mut self.micros, whole, size)?;
                add(&mut self.micros, rounded(fraction * float(size)), 1)
            }
            Unit::Days(size) => {
                add(&mut self.days, whole, size)?;
                self.add_days(fraction * float(size))
            }
            Unit::Months(1) => {
                add(&mut self.months, whole, 1)?;
                self.add_days(fraction * 30.0)
            }
            Unit::Months(size) => {
                add(&mut self.months, whole, size)?;
                add(&mut self.months, rounded(fraction * float(size)), 1)
            }
        }
    }

    fn add_days(&mut self, days: f64) -> Scanned<()> {
        add(&mut self.days, rounded(days.trunc()), 1)?;
        add(&mut self.micros, rounded(days.fract() * DAY_MICROS), 1)
    }

    fn negate(self) -> Scanned<Self> {
        let negated = |value: i64| value.checked_neg().ok_or(Fault::Field);
        Ok(Self {
            months: negated(self.months)?,
            days: negated(self.days)?,
            micros: negated(self.micros)?,
        })
    }

    fn finish(self) -> Scanned<IntervalMonthDayNano> {
        Ok(IntervalMonthDayNano {
            months: i32::try_from(self.months).map_err(|_| Fault::Field)?,
            days: i32::try_from(self.days).map_err(|_| Fault::Field)?,
            nanoseconds: self.micros.checked_mul(1000).ok_or(Fault::Field)?,
        })
    }
}

fn add(total: &mut i64, count: i64, size: i64) -> Scanned<()> {
    let amount = count.checked_mul(size).ok_or(Fault::Field)?;
    *total = total.checked_add(amount).ok_or(Fault::Field)?;
    Ok(())
}

/// Unit sizes are far below the largest integer a float holds exactly.
fn float(size: i64) -> f64 {
    size as f64
}

#[expect(clippy::cast_possible_truncation, reason = "saturates; so large a sum is refused")]
fn rounded(value: f64) -> i64 {
    value.round_ties_even() as i64
}

/// Reads the part after the `P`.
fn iso_8601(text: &str) -> Scanned<Sum> {
    let mut scanner = Scanner { text, at: 0 };
    let (mut sum, mut in_time) = (Sum::default(), false);
    if text.is_empty() {
        return Err(Fault::Syntax);
    }
    while let Some(next) = scanner.peek() {
        if matches!(next, b'T' | b't') && !in_time {
            in_time = true;
            scanner.at += 1;
            continue;
        }
        let negative = scanner.sign();
        let number = scanner.number(negative)?;
        let letter = scanner.peek().ok_or(Fault::Syntax)?;
        scanner.at += 1;
        sum.add(number, iso_unit(letter, in_time)?)?;
    }
    Ok(sum)
}

fn verbose(text: &str) -> Scanned<Sum> {
    let text = text.to_ascii_lowercase();
    let mut scanner = Scanner { text: &text, at: 0 };
    let mut sum = Sum::default();
    if scanner.peek() == Some(b'@') {
        scanner.at += 1;
    }
    scanner.skip_spaces();
    if scanner.peek().is_none() {
        return Err(Fault::Syntax);
    }
    while scanner.peek().is_some() {
        if scanner.word_ahead() {
            return if scanner.word() == "ago" && scanner.skip_spaces().peek().is_none() {
                sum.negate()
            } else {
                Err(Fault::Syntax)
            };
        }
        scanner.part(&mut sum)?;
        scanner.skip_spaces();
    }
    Ok(sum)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn word_ahead(&self) -> bool {
        self.peek().is_some_and(|byte| byte.is_ascii_alphabetic())
    }

    fn skip_spaces(&mut self) -> &Self {
        self.run(|byte| is_space(char::from(byte)));
        self
    }

    fn run(&mut self, within: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&within) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn word(&mut self) -> &'a str {
        self.run(|byte| byte.is_ascii_alphabetic())
    }

    fn digits(&mut self) -> &'a str {
        self.run(|byte| byte.is_ascii_digit())
    }

    /// Skips a sign; returns whether it is a minus.
    fn sign(&mut self) -> bool {
        let sign = self.peek();
        self.at += usize::from(matches!(sign, Some(b'+' | b'-')));
        sign == Some(b'-')
    }

    /// Reads digits, a point and digits.
    fn number(&mut self, negative: bool) -> Scanned<Number> {
        let start = self.at;
        let whole = self.digits();
        let fraction = self.fraction()?;
        if self.at == start || &self.text[start..self.at] == "." {
            return Err(Fault::Syntax);
        }
        let whole = if whole.is_empty() { 0 } else { integer(whole)? };
        Ok(if negative {
            Number { whole: -whole, fraction: -fraction }
        } else {
            Number { whole, fraction }
        })
    }

    fn fraction(&mut self) -> Scanned<f64> {
        let start = self.at;
        if self.peek() != Some(b'.') {
            return Ok(0.0);
        }
        self.at += 1;
        if self.digits().is_empty() {
            return Ok(0.0);
        }
        self.text[start..self.at].parse().map_err(|_| Fault::Syntax)
    }

    /// Reads one part: a count with its unit, a time of day, years and months as `1-2`, or bare seconds.
    fn part(&mut self, sum: &mut Sum) -> Scanned<()> {
        let negative = self.sign();
        let start = self.at;
        let number = self.number(negative)?;
        match self.peek() {
            Some(b':') => {
                self.at = start;
                return self.clock(negative, sum);
            }
            Some(b'-') if number.fraction == 0.0 => {
                self.at += 1;
                let months = integer(self.digits())?;
                if months > 11 {
                    return Err(Fault::Field);
                }
                sum.add(number, YEAR)?;
                let months = if negative { -months } else { months };
                return sum.add(Number { whole: months, fraction: 0.0 }, MONTH);
            }
            _ => {}
        }
        self.skip_spaces();
        if self.word_ahead() && !self.text[self.at..].starts_with("ago") {
            let unit = unit(self.word())?;
            return sum.add(number, unit);
        }
        self.bare(number, sum)
    }

    /// Handles a number without a unit: days before a time of day, seconds at the end.
    fn bare(&self, number: Number, sum: &mut Sum) -> Scanned<()> {
        let rest = &self.text[self.at..];
        if rest.is_empty() || rest.starts_with("ago") {
            return sum.add(number, Unit::Micros(SECOND));
        }
        let first_word = rest.split(is_space).next().unwrap_or_default();
        if first_word.contains(':') {
            return sum.add(number, Unit::Days(1));
        }
        Err(Fault::Syntax)
    }

    /// Reads `hours:minutes[:seconds]` or `minutes:seconds.fraction`.
    fn clock(&mut self, negative: bool, sum: &mut Sum) -> Scanned<()> {
        let mut fields = [integer(self.digits())?, 0, 0];
        let mut count = 1;
        while count < 3 && self.peek() == Some(b':') {
            self.at += 1;
            fields[count] = integer(self.digits())?;
            count += 1;
        }
        let with_fraction = self.peek() == Some(b'.');
        let fraction = self.fraction()?;
        if with_fraction && count == 2 {
            fields = [0, fields[0], fields[1]];
        }
        let [hours, minutes, seconds] = fields;
        if minutes > 59 || seconds > 60 {
            return Err(Fault::Field);
        }
        let sign = if negative { -1 } else { 1 };
        for (count, size) in [(hours, HOUR), (minutes, MINUTE), (seconds, SECOND)] {
            add(&mut sum.micros, sign * count, size)?;
        }
        add(&mut sum.micros, sign * rounded(fraction * float(SECOND)), 1)
    }
}

fn integer(digits: &str) -> Scanned<i64> {
    if digits.is_empty() {
        return Err(Fault::Syntax);
    }
    digits.parse().map_err(|_| Fault::Field)
}
