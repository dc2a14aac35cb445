//! Arithmetic with PostgreSQL's answers.

use super::arithmetic::{age, bin};
use super::fields::{Field, Unit, of_date};
use super::*;

#[test]
fn weeks_are_those_of_iso_8601() {
    for (date, year, week) in
        [((2021, 1, 3), 2020, 53), ((2024, 12, 30), 2025, 1), ((2026, 1, 1), 2026, 1)]
    {
        let days = days_of_date(date.0, date.1, date.2);
        assert_eq!(iso_week(days), (year, week), "{date:?}");
        assert!((iso_week_start(year, week)..iso_week_start(year, week) + 7).contains(&days));
    }
}

#[test]
fn products_of_intervals_carry_down_only() {
    let span = |months, days, micros| Span { months, days, micros };
    assert_eq!(span(1, 0, 0).times(1.5).unwrap(), span(1, 15, 0));
    assert_eq!(span(0, 1, 0).times(0.5).unwrap(), span(0, 0, 12 * HOUR));
    assert_eq!(span(14, 3, 4 * HOUR).divided(3.0).unwrap(), span(4, 21, HOUR + 20 * MINUTE));
    assert!(span(1, 0, 0).times(f64::NAN).is_err() && span(1, 0, 0).divided(0.0).is_err());
}

#[test]
fn a_zone_has_one_offset_for_each_local_time() {
    let berlin = Zone::find("europe/berlin").unwrap();
    let local = |month, day, time| days_of_date(2024, month, day) * DAY + time;
    let two_thirty = 2 * HOUR + 30 * MINUTE;
    // Skipped: the offset from before. Repeated: the one from after.
    assert_eq!(berlin.local_offset(local(3, 31, two_thirty)), 3600);
    assert_eq!(berlin.local_offset(local(10, 27, two_thirty)), 3600);
    assert_eq!(berlin.local_offset(local(7, 1, 0)), 7200);
    // Long after the end of the database.
    assert_eq!(berlin.offset(days_of_date(12_024, 7, 1) * DAY), 7200);
    assert_eq!(Zone::of_setting("-7").unwrap().name(), "<-07>+07");
    assert_eq!(Zone::of_setting("5.5").unwrap().name(), "<+05:30>-05:30");
    assert_eq!(Zone::find("FOO3").unwrap().offset(0), -3 * 3600);
    assert_eq!(Zone::find("+03:00").unwrap().offset(0), -3 * 3600);
    assert_eq!((abbreviation_of("PST"), abbreviation_of("nope")), (Some(-8 * 3600), None));
}

fn abbreviation_of(name: &str) -> Option<i64> {
    zone::abbreviation(name)
}

#[test]
fn ages_borrow_the_days_of_the_earlier_month() {
    let at = |year, month, day| days_of_date(year, month, day) * DAY;
    let span = age(at(2024, 3, 31), at(2024, 2, 29)).unwrap();
    assert_eq!(span, Span { months: 1, days: 2, micros: 0 });
    let back = age(at(2024, 2, 29), at(2024, 3, 31)).unwrap();
    assert_eq!(back, Span { months: -1, days: -2, micros: 0 });
}

#[test]
fn bins_begin_before_their_times() {
    let stride = Span::of_micros(30 * SECOND);
    assert_eq!(bin(stride, -SECOND, 0).unwrap(), -30 * SECOND);
    assert!(bin(Span::of_micros(0), 0, 0).is_err());
}

#[test]
fn years_before_christ_have_fields_too() {
    let days = i32::try_from(days_of_date(0, 3, 15)).unwrap();
    for (unit, value) in [(Unit::Year, -1), (Unit::Century, -1), (Unit::Decade, 0)] {
        assert_eq!(of_date(unit, days), Some(Field::Digits(value, 0)), "{unit:?}");
    }
}
