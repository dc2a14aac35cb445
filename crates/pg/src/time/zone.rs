//! Time zones: those of the IANA database, the abbreviations that PostgreSQL knows, and fixed offsets.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Offset as _, TimeZone as _};
use chrono_tz::{OffsetName as _, TZ_VARIANTS, Tz};

use super::{DAY, Result, SECOND, day_of_week, is_infinite, timestamp_in_range};
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::time::calendar::{date_of_days, days_of_date};

/// The largest offset from UTC in seconds, exclusive.
const OFFSET_MAX: i64 = 168 * 3600;
/// The years that the zone database lists change by change. Later ones follow the rules of a year in it.
const LISTED_YEARS: std::ops::RangeInclusive<i64> = 1000..=2090;

/// A time zone.
#[derive(Clone, Debug, PartialEq)]
pub enum Zone {
    Named(Tz),
    /// Seconds east of UTC, and its name.
    Fixed {
        seconds: i64,
        name: Arc<str>,
    },
}

impl Zone {
    pub const UTC: Self = Self::Named(Tz::UTC);

    /// Finds the zone that a setting or `AT TIME ZONE` names.
    pub fn find(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        if lower == "z" || lower == "zulu" {
            return Some(Self::UTC);
        }
        if let Some(zone) = BY_NAME.get(lower.as_str()) {
            return Some(Self::Named(*zone));
        }
        posix(name.trim())
    }

    /// Finds the zone of `AT TIME ZONE`: an abbreviation, else a name.
    pub fn find_operand(name: &str) -> Result<Self> {
        let fixed = abbreviation(name.trim())
            .map(|seconds| Self::Fixed { seconds, name: name.trim().into() });
        fixed.or_else(|| Self::find(name)).ok_or_else(|| not_recognized(name))
    }

    /// The zone of a setting: a name, or hours east of UTC.
    pub fn of_setting(value: &str) -> Option<Self> {
        let value = value.trim();
        match value.parse::<f64>() {
            Ok(hours) if hours.is_finite() => Self::of_hours(hours),
            _ => Self::find(value),
        }
    }

    fn of_hours(hours: f64) -> Option<Self> {
        let seconds = super::span::micros_of((hours * 3600.0).trunc()).ok()?;
        (seconds.abs() < OFFSET_MAX).then(|| Self::Fixed { seconds, name: posix_name(seconds) })
    }

    /// A zone with a fixed offset.
    pub fn of_seconds(seconds: i64) -> Self {
        Self::Fixed { seconds, name: posix_name(seconds) }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Named(zone) => zone.name(),
            Self::Fixed { name, .. } => name,
        }
    }

    /// Seconds east of UTC at an instant.
    pub fn offset(&self, micros: i64) -> i64 {
        match self {
            Self::Fixed { seconds, .. } => *seconds,
            Self::Named(Tz::UTC) => 0,
            Self::Named(zone) => {
                let instant = listed(micros.div_euclid(SECOND));
                zone.offset_from_utc_datetime(&instant).fix().local_minus_utc().into()
            }
        }
    }

    /// The abbreviation at an instant.
    pub fn abbreviation(&self, micros: i64) -> String {
        match self {
            Self::Named(zone) => {
                let offset = zone.offset_from_utc_datetime(&listed(micros.div_euclid(SECOND)));
                offset.abbreviation().map_or_else(|| offset.to_string(), str::to_owned)
            }
            Self::Fixed { name, .. } => match name.strip_prefix('<') {
                Some(quoted) => quoted.split('>').next().unwrap_or_default().to_owned(),
                None => name.chars().take_while(char::is_ascii_alphabetic).collect(),
            },
        }
    }

    /// The local time of an instant.
    pub fn local(&self, micros: i64) -> Result<i64> {
        if is_infinite(micros) {
            return Ok(micros);
        }
        let seconds = i128::from(self.offset(micros));
        timestamp_in_range(i128::from(micros) + seconds * i128::from(SECOND))
    }

    /// The instant of a local time. Of a time that the clocks repeat, the second is meant; a time that they skip
    /// gets the offset from before the skip.
    pub fn instant(&self, local: i64) -> Result<i64> {
        if is_infinite(local) {
            return Ok(local);
        }
        let seconds = i128::from(self.local_offset(local));
        timestamp_in_range(i128::from(local) - seconds * i128::from(SECOND))
    }

    /// Seconds east of UTC at a local time.
    pub fn local_offset(&self, local: i64) -> i64 {
        let before = self.offset(local.saturating_sub(DAY));
        let after = self.offset(local.saturating_add(DAY));
        let fits = |offset: i64| self.offset(local.saturating_sub(offset * SECOND)) == offset;
        if before == after || fits(after) || !fits(before) && before > after {
            after
        } else {
            before
        }
    }
}

/// The error for a zone that does not exist (22023).
pub fn not_recognized(name: &str) -> SqlError {
    let message = format!("time zone \"{name}\" not recognized");
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// The instant, or one of the same month, day and weekday in a year that the database lists.
fn listed(seconds: i64) -> chrono::NaiveDateTime {
    let days = seconds.div_euclid(86_400);
    let (year, month, day) = date_of_days(days);
    let days = if LISTED_YEARS.contains(&year) {
        days
    } else if year < *LISTED_YEARS.start() {
        days_of_date(*LISTED_YEARS.start(), month, 1)
    } else {
        days_of_date(year_like(year), month, day)
    };
    let seconds = days * 86_400 + seconds.rem_euclid(86_400);
    DateTime::from_timestamp(seconds, 0).unwrap_or_default().naive_utc()
}

/// A year of the database whose days have the weekdays of `year`.
fn year_like(year: i64) -> i64 {
    let shape = |year| {
        (day_of_week(days_of_date(year, 1, 1)), days_of_date(year, 3, 1) - days_of_date(year, 2, 1))
    };
    let wanted = shape(year);
    (2050..2090).find(|year| shape(*year) == wanted).unwrap_or(2050)
}

/// The name that PostgreSQL gives an offset: `<+02>-02`.
fn posix_name(seconds: i64) -> Arc<str> {
    let shown = |sign: char| {
        let total = seconds.abs();
        let (hours, minutes, rest) = (total / 3600, total % 3600 / 60, total % 60);
        let mut shown = format!("{sign}{hours:02}");
        if minutes != 0 || rest != 0 {
            shown.push_str(&format!(":{minutes:02}"));
        }
        if rest != 0 {
            shown.push_str(&format!(":{rest:02}"));
        }
        shown
    };
    let (sign, opposite) = if seconds < 0 { ('-', '+') } else { ('+', '-') };
    format!("<{}>{}", shown(sign), shown(opposite)).into()
}

/// A POSIX zone without daylight saving time: letters or `<…>`, then hours west of UTC.
fn posix(text: &str) -> Option<Zone> {
    let rest = match text.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?.1,
        None => {
            let rest = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            if rest.len() == text.len() || (text.len() - rest.len()) < 3 && !rest.is_empty() {
                return offset_only(text);
            }
            rest
        }
    };
    let west = hours_minutes_seconds(rest)?;
    Some(Zone::Fixed { seconds: -west, name: text.into() })
}

/// `+02:00` alone: PostgreSQL reads it as POSIX, so that it counts west of UTC.
fn offset_only(text: &str) -> Option<Zone> {
    let west = hours_minutes_seconds(text)?;
    text.starts_with(['+', '-']).then(|| Zone::Fixed { seconds: -west, name: text.into() })
}

fn hours_minutes_seconds(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = 0;
    let mut parts = digits.split(':');
    for (size, limit) in [(3600, 168), (60, 60), (1, 60)] {
        let Some(part) = parts.next() else { break };
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = part.parse::<i64>().ok().filter(|number| is_number && *number < limit)?;
        total += number * size;
    }
    let sign = if negative { -1 } else { 1 };
    parts.next().is_none().then_some(sign * total)
}

static BY_NAME: LazyLock<HashMap<String, Tz>> = LazyLock::new(|| {
    TZ_VARIANTS.iter().map(|zone| (zone.name().to_ascii_lowercase(), *zone)).collect()
});

/// The seconds east of UTC of an abbreviation that PostgreSQL knows by default.
pub fn abbreviation(name: &str) -> Option<i64> {
    let name = name.to_ascii_lowercase();
    let found = ABBREVIATIONS.binary_search_by(|(known, _)| known.cmp(&name.as_str()));
    found.ok().map(|at| ABBREVIATIONS[at].1)
}

/// PostgreSQL's default set, in order.
#[rustfmt::skip]
const ABBREVIATIONS: &[(&str, i64)] = &[
    ("acdt", 37800), ("acsst", 37800), ("acst", 34200), ("act", -18000), ("acwst", 31500),
    ("adt", -10800), ("aedt", 39600), ("aesst", 39600), ("aest", 36000), ("aft", 16200),
    ("akdt", -28800), ("akst", -32400), ("almst", 25200), ("almt", 21600), ("amst", 14400),
    ("amt", -14400), ("anast", 43200), ("anat", 43200), ("arst", -10800), ("art", -10800),
    ("ast", -14400), ("awsst", 32400), ("awst", 28800), ("azost", 0), ("azot", -3600),
    ("azst", 14400), ("azt", 14400), ("bdst", 7200), ("bdt", 21600), ("bnt", 28800),
    ("bort", 28800), ("bot", -14400), ("bra", -10800), ("brst", -7200), ("brt", -10800),
    ("bst", 3600), ("btt", 21600), ("cadt", 37800), ("cast", 34200), ("cct", 28800),
    ("cdt", -18000), ("cest", 7200), ("cet", 3600), ("cetdst", 7200), ("chadt", 49500),
    ("chast", 45900), ("chut", 36000), ("ckt", -36000), ("clst", -10800), ("clt", -10800),
    ("cot", -18000), ("cst", -21600), ("cxt", 25200), ("davt", 25200), ("ddut", 36000),
    ("easst", -18000), ("east", -18000), ("eat", 10800), ("edt", -14400), ("eest", 10800),
    ("eet", 7200), ("eetdst", 10800), ("egst", 0), ("egt", -3600), ("est", -18000), ("fet", 10800),
    ("fjst", 46800), ("fjt", 43200), ("fkst", -10800), ("fkt", -10800), ("fnst", -3600),
    ("fnt", -7200), ("galt", -21600), ("gamt", -32400), ("gest", 14400), ("get", 14400),
    ("gft", -10800), ("gilt", 43200), ("gmt", 0), ("gyt", -14400), ("hkt", 28800), ("hst", -36000),
    ("ict", 25200), ("idt", 10800), ("iot", 21600), ("irkst", 28800), ("irkt", 28800),
    ("irt", 12600), ("ist", 7200), ("jayt", 32400), ("jst", 32400), ("kdt", 36000), ("kgst", 21600),
    ("kgt", 21600), ("kost", 39600), ("krast", 25200), ("krat", 25200), ("kst", 32400),
    ("lhdt", 39600), ("lhst", 37800), ("ligt", 36000), ("lint", 50400), ("lkt", 19800),
    ("magst", 39600), ("magt", 39600), ("mart", -34200), ("mawt", 18000), ("mdt", -21600),
    ("mest", 7200), ("mesz", 7200), ("met", 3600), ("metdst", 7200), ("mez", 3600), ("mht", 43200),
    ("mmt", 23400), ("mpt", 36000), ("msd", 14400), ("msk", 10800), ("mst", -25200),
    ("must", 18000), ("mut", 14400), ("mvt", 18000), ("myt", 28800), ("ndt", -9000),
    ("nft", -12600), ("novst", 25200), ("novt", 25200), ("npt", 20700), ("nst", -12600),
    ("nut", -39600), ("nzdt", 46800), ("nzst", 43200), ("nzt", 43200), ("omsst", 21600),
    ("omst", 21600), ("pdt", -25200), ("pet", -18000), ("petst", 43200), ("pett", 43200),
    ("pgt", 36000), ("pht", 28800), ("pkst", 21600), ("pkt", 18000), ("pmdt", -7200),
    ("pmst", -10800), ("pont", 39600), ("pst", -28800), ("pwt", 32400), ("pyst", -10800),
    ("pyt", -10800), ("ret", 14400), ("sadt", 37800), ("sast", 7200), ("sct", 14400),
    ("sgt", 28800), ("taht", -36000), ("tft", 18000), ("tjt", 18000), ("tkt", 46800),
    ("tmt", 18000), ("tot", 46800), ("trut", 36000), ("tvt", 43200), ("uct", 0), ("ulast", 32400),
    ("ulat", 28800), ("ut", 0), ("utc", 0), ("uyst", -7200), ("uyt", -10800), ("uzst", 21600),
    ("uzt", 18000), ("vet", -14400), ("vlast", 36000), ("vlat", 36000), ("volt", 10800),
    ("vut", 39600), ("wadt", 28800), ("wakt", 43200), ("wast", 25200), ("wat", 3600),
    ("wdt", 32400), ("wet", 0), ("wetdst", 3600), ("wft", 43200), ("wgst", -7200), ("wgt", -10800),
    ("xjt", 21600), ("yakst", 32400), ("yakt", 32400), ("yapt", 36000), ("yekst", 21600),
    ("yekt", 18000), ("z", 0), ("zulu", 0),
];
