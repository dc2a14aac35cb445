//! Results are those of PostgreSQL 15 for the same text.

use datafusion::arrow::array::StringArray;

use super::*;
use crate::encode::column_text;

fn array_of(element: ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(element))
}

fn parse(ty: &ColumnType, text: &str) -> Result<ArrayRef> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some(text), None]));
    let parsed = parse_column(&text, ty)?;
    assert_eq!(parsed.data_type(), &ty.arrow_type());
    assert!(parsed.is_null(1));
    Ok(parsed)
}

/// Parses `text` and prints the value.
fn printed(ty: &ColumnType, text: &str) -> String {
    let parsed = parse(ty, text).unwrap_or_else(|error| panic!("{ty} {text:?}: {error}"));
    column_text(&ty.field("c", true), &parsed).unwrap().value(0).to_owned()
}

fn check(ty: &ColumnType, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(printed(ty, text), *expected, "{ty} {text:?}");
    }
}

fn check_errors(ty: &ColumnType, cases: &[(&str, &str, &str)]) {
    for (text, sqlstate, message) in cases {
        let error = parse(ty, text).expect_err(text);
        assert_eq!(
            (error.sqlstate.code(), error.message.as_str()),
            (*sqlstate, *message),
            "{text:?}"
        );
    }
}

#[test]
fn booleans_are_any_unambiguous_beginning() {
    let cases = [(" TrU ", "t"), ("of", "f"), ("1", "t"), ("y", "t"), ("NO", "f"), ("on", "t")];
    check(&ColumnType::Boolean, &cases);
    let syntax = |text| format!("invalid input syntax for type boolean: \"{text}\"");
    for text in ["o", "", "2", "truee"] {
        check_errors(&ColumnType::Boolean, &[(text, "22P02", &syntax(text))]);
    }
}

#[test]
fn integers_may_have_spaces_around_and_must_fit() {
    check(&ColumnType::Integer, &[(" 5 ", "5"), ("+5", "5"), ("-0", "0")]);
    check(&ColumnType::BigInt, &[("-9223372036854775808", "-9223372036854775808")]);
    check_errors(
        &ColumnType::Integer,
        &[
            ("abc", "22P02", "invalid input syntax for type integer: \"abc\""),
            ("", "22P02", "invalid input syntax for type integer: \"\""),
            ("1.5", "22P02", "invalid input syntax for type integer: \"1.5\""),
        ],
    );
    let message = "value \"99999\" is out of range for type smallint";
    check_errors(&ColumnType::SmallInt, &[("99999", "22003", message)]);
}

#[test]
fn floats_outside_their_range_are_refused() {
    check(
        &ColumnType::Double,
        &[
            (" 1.5 ", "1.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("inf", "Infinity"),
            ("-Infinity", "-Infinity"),
            ("nan", "NaN"),
            ("1.0e-5", "1e-05"),
        ],
    );
    let range = |text, name| format!("\"{text}\" is out of range for type {name}");
    for text in ["1e400", "1e-400"] {
        check_errors(&ColumnType::Double, &[(text, "22003", &range(text, "double precision"))]);
    }
    check_errors(&ColumnType::Real, &[("1e40", "22003", &range("1e40", "real"))]);
    let message = "invalid input syntax for type double precision: \"x\"";
    check_errors(&ColumnType::Double, &[("x", "22P02", message)]);
}

#[test]
fn numerics_round_half_away_from_zero() {
    check(
        &ColumnType::Numeric(Some((5, 2))),
        &[
            ("0.005", "0.01"),
            ("-0.005", "-0.01"),
            ("0.0049999", "0.00"),
            ("999.994", "999.99"),
            (" 1e2 ", "100.00"),
            ("1e-3", "0.00"),
            ("00012.5", "12.50"),
        ],
    );
    check(&ColumnType::Numeric(Some((3, -2))), &[("12345", "12300"), ("50", "100"), ("49", "0")]);
    let wide = "1234567890123456789012345678901234567890.123";
    check(&ColumnType::Numeric(Some((50, 3))), &[(wide, wide)]);
}

#[test]
fn unconstrained_numerics_print_without_trailing_zeros() {
    check(
        &ColumnType::Numeric(None),
        &[
            ("12345.678900", "12345.6789"),
            ("-0.0000001", "-0.0000001"),
            ("10.00", "10"),
            ("0.00e5", "0"),
            (".5", "0.5"),
            ("5.", "5"),
        ],
    );
}

#[test]
fn numerics_that_do_not_fit_say_what_would() {
    let ty = ColumnType::Numeric(Some((5, 2)));
    let error = parse(&ty, "999.995").unwrap_err();
    assert_eq!(
        (error.sqlstate.code(), error.message.as_str()),
        ("22003", "numeric field overflow")
    );
    let detail =
        "A field with precision 5, scale 2 must round to an absolute value less than 10^3.";
    assert_eq!(error.detail.as_deref(), Some(detail));
    for text in ["1e99999999999999999999", "1e400", "123456789012345678901234567890"] {
        assert_eq!(parse(&ColumnType::Numeric(None), text).unwrap_err().sqlstate.code(), "22003");
    }
    let syntax = "invalid input syntax for type numeric: \"1e5x\"";
    check_errors(&ty, &[("1e5x", "22P02", syntax)]);
    assert_eq!(parse(&ty, "NaN").unwrap_err().sqlstate.code(), "0A000");
}

#[test]
fn bytes_are_read_in_both_notations() {
    check(
        &ColumnType::Bytea,
        &[
            ("\\x00ff10", "\\x00ff10"),
            ("\\x", "\\x"),
            ("\\x 12 34", "\\x1234"),
            ("a\\\\b\\001", "\\x615c6201"),
            ("é", "\\xc3a9"),
        ],
    );
    check_errors(
        &ColumnType::Bytea,
        &[
            ("\\xzz", "22023", "invalid hexadecimal digit: \"z\""),
            ("\\x123", "22023", "invalid hexadecimal data: odd number of digits"),
            ("a\\9", "22P02", "invalid input syntax for type bytea"),
        ],
    );
}

#[test]
fn dates_are_read_in_the_usual_orders() {
    check(
        &ColumnType::Date,
        &[
            ("2022-12-28", "2022-12-28"),
            ("2022-1-5", "2022-01-05"),
            ("20220105", "2022-01-05"),
            ("1/5/2022", "2022-01-05"),
            ("2022/01/05", "2022-01-05"),
            ("0044-03-15 BC", "0044-03-15 BC"),
            ("10000-01-01", "10000-01-01"),
            ("epoch", "1970-01-01"),
            ("2022-12-28 11:08:56", "2022-12-28"),
            (" 2024-02-29 ", "2024-02-29"),
        ],
    );
    let field = |text: &str| format!("date/time field value out of range: \"{text}\"");
    for text in ["2022-13-01", "2022-02-29", "99-1-8", "0000-01-01"] {
        check_errors(&ColumnType::Date, &[(text, "22008", &field(text))]);
    }
    check_errors(
        &ColumnType::Date,
        &[
            ("abc", "22007", "invalid input syntax for type date: \"abc\""),
            ("", "22007", "invalid input syntax for type date: \"\""),
            ("2022-12-28x", "22007", "invalid input syntax for type date: \"2022-12-28x\""),
            ("9999999-01-01", "22008", "date out of range: \"9999999-01-01\""),
        ],
    );
}

#[test]
fn times_are_read_to_the_microsecond() {
    check(
        &ColumnType::Time,
        &[
            ("11:08:56.918", "11:08:56.918"),
            ("24:00:00", "24:00:00"),
            ("23:59:60", "24:00:00"),
            ("11:08", "11:08:00"),
            ("1:2:3.4567891", "01:02:03.456789"),
            ("110856", "11:08:56"),
            ("04:05 PM", "16:05:00"),
            ("12:00 am", "00:00:00"),
            ("04:05:06-08", "04:05:06"),
            ("04:05:06.5 +05:30", "04:05:06.5"),
            ("04:05:06.999999999", "04:05:07"),
            ("2022-12-28 11:08:56", "11:08:56"),
        ],
    );
    let field = |text: &str| format!("date/time field value out of range: \"{text}\"");
    for text in ["25:00", "13:00 pm", "1:60", "24:00:01"] {
        check_errors(&ColumnType::Time, &[(text, "22008", &field(text))]);
    }
    check_errors(
        &ColumnType::Time,
        &[("abc", "22007", "invalid input syntax for type time: \"abc\"")],
    );
}

#[test]
fn timestamps_ignore_a_zone() {
    check(
        &ColumnType::Timestamp,
        &[
            ("2022-12-28T11:08:56.918", "2022-12-28 11:08:56.918"),
            ("2022-12-28 11:08:56.918+09", "2022-12-28 11:08:56.918"),
            ("2022-12-28", "2022-12-28 00:00:00"),
            ("2022-12-28 11:08", "2022-12-28 11:08:00"),
            ("2022-12-28 24:00:00", "2022-12-29 00:00:00"),
            ("2022-12-28 11:08:60", "2022-12-28 11:09:00"),
            ("20221228T110856", "2022-12-28 11:08:56"),
            ("2022-12-28 11:08:56.9999996", "2022-12-28 11:08:57"),
            ("2022-12-28  11:08:05 pm", "2022-12-28 23:08:05"),
            ("0001-01-01 00:00 BC", "0001-01-01 00:00:00 BC"),
            ("1969-12-31 23:59:59.5", "1969-12-31 23:59:59.5"),
        ],
    );
    check_errors(
        &ColumnType::Timestamp,
        &[
            ("abc", "22007", "invalid input syntax for type timestamp: \"abc\""),
            (
                "2022-12-28 11",
                "22007",
                "invalid input syntax for type timestamp: \"2022-12-28 11\"",
            ),
            ("300000-01-01", "22008", "timestamp out of range: \"300000-01-01\""),
            (
                "2022-02-30 00:00:00",
                "22008",
                "date/time field value out of range: \"2022-02-30 00:00:00\"",
            ),
        ],
    );
}

#[test]
fn timestamps_with_a_zone_are_kept_in_utc() {
    check(
        &ColumnType::Timestamptz,
        &[
            ("2022-12-28 11:08:56.918+00", "2022-12-28 11:08:56.918+00"),
            ("2100-01-01 12:00:00+09", "2100-01-01 03:00:00+00"),
            ("2022-12-28T11:08:56Z", "2022-12-28 11:08:56+00"),
            ("2022-12-28 11:08:56 +05:30", "2022-12-28 05:38:56+00"),
            ("2022-12-28 11:08:56-0330", "2022-12-28 14:38:56+00"),
            ("2022-12-28 11:08:56 UTC", "2022-12-28 11:08:56+00"),
            ("2022-12-28+05", "2022-12-27 19:00:00+00"),
            ("2022-12-28 11:08:56+15:59:59", "2022-12-27 19:08:57+00"),
        ],
    );
    check_errors(
        &ColumnType::Timestamptz,
        &[
            ("abc", "22007", "invalid input syntax for type timestamp with time zone: \"abc\""),
            (
                "2022-02-20 00:00:00+99",
                "22009",
                "time zone displacement out of range: \"2022-02-20 00:00:00+99\"",
            ),
            ("2022-12-28 11:08:56 Foo/Bar", "22023", "time zone \"foo/bar\" not recognized"),
        ],
    );
}

#[test]
fn intervals_are_read_in_words_and_in_iso_8601() {
    check(
        &ColumnType::Interval,
        &[
            ("1 month 2 days 03:04:05.5", "1 mon 2 days 03:04:05.5"),
            ("-1 year", "-1 years"),
            ("0", "00:00:00"),
            ("1 year -2 days +03:00", "1 year -2 days +03:00:00"),
            ("-1 mon 2 days", "-1 mons +2 days"),
            ("-1 mon -02:00:00", "-1 mons -02:00:00"),
            ("-0.5 seconds", "-00:00:00.5"),
            ("1.5 days", "1 day 12:00:00"),
            ("1.5 months", "1 mon 15 days"),
            ("1.5 years", "1 year 6 mons"),
            ("0.7 mon", "21 days"),
            ("0.33 days", "07:55:12"),
            ("1.5 weeks", "10 days 12:00:00"),
            ("1-2", "1 year 2 mons"),
            ("-1-2 +3 -4:05:06", "-1 years -2 mons +3 days -04:05:06"),
            ("1 2:03:04", "1 day 02:03:04"),
            ("@ 1 minute 2 secs ago", "-00:01:02"),
            ("5", "00:00:05"),
            ("1 hour 30", "01:00:30"),
            ("1d2h3m4s", "1 day 02:03:04"),
            ("1 decade 3 centuries", "310 years"),
            ("100 ms 3 us", "00:00:00.100003"),
            ("-1 day 02:03", "-1 days +02:03:00"),
            ("100:00:00", "100:00:00"),
            ("P1Y2M3DT4H5M6.7S", "1 year 2 mons 3 days 04:05:06.7"),
            ("P1W", "7 days"),
            ("PT1.5H", "01:30:00"),
            ("P-1Y", "-1 years"),
        ],
    );
    let syntax = |text: &str| format!("invalid input syntax for type interval: \"{text}\"");
    for text in ["abc", "", "P", "1 fortnight", "1e3 s", "1 2 days", "@"] {
        check_errors(&ColumnType::Interval, &[(text, "22007", &syntax(text))]);
    }
    let range = |text: &str| format!("interval field value out of range: \"{text}\"");
    for text in ["99999999999 years", "1:99", "2147483648 days", "99999999999999999999 s"] {
        check_errors(&ColumnType::Interval, &[(text, "22015", &range(text))]);
    }
}

#[test]
fn jsonb_is_brought_into_one_form() {
    check(
        &ColumnType::Jsonb,
        &[
            (r#"{"a":[1,2,{"b":null}],"s":"x"}"#, r#"{"a": [1, 2, {"b": null}], "s": "x"}"#),
            ("[]", "[]"),
            (
                r#"{"bb":1,"a":{"z":1,"y":[ ]},"a":2, "aaa": 1e5, "é": "\u00e9\n\u0001/\/",
                    "n": -0.0, "m":1.50, "e":1E-3, "big":12345678901234567890.5, "em":{}}"#,
                r#"{"a": 2, "e": 0.001, "m": 1.50, "n": 0.0, "bb": 1, "em": {}, "é": "é\n\u0001//", "aaa": 100000, "big": 12345678901234567890.5}"#,
            ),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (" true ", "true"),
        ],
    );
}

#[test]
fn invalid_json_is_refused_with_a_detail() {
    let cases = [
        (r#"{"a":}"#, "22P02", "Expected JSON value, but found \"}\"."),
        (r#"{"a":1"#, "22P02", "The input string ended unexpectedly."),
        ("", "22P02", "The input string ended unexpectedly."),
        ("[1,2] x", "22P02", "Token \"x\" is invalid."),
        ("01", "22P02", "Token \"01\" is invalid."),
        ("[1 2]", "22P02", "Expected \",\" or \"]\", but found \"2\"."),
        (r#""\u0000""#, "22P05", "\\u0000 cannot be converted to text."),
        (r#""\ud83d""#, "22P02", "Unicode low surrogate must follow a high surrogate."),
        ("\"a\nb\"", "22P02", "Character with value 0x0a must be escaped."),
        (r#""\q""#, "22P02", "Escape sequence \"\\q\" is invalid."),
        ("\"abc", "22P02", "The input string ended unexpectedly."),
    ];
    for (text, sqlstate, detail) in cases {
        let error = parse(&ColumnType::Jsonb, text).unwrap_err();
        assert_eq!(
            (error.sqlstate.code(), error.detail.as_deref()),
            (sqlstate, Some(detail)),
            "{text}"
        );
    }
    let deep = "[".repeat(100_000);
    assert_eq!(parse(&ColumnType::Jsonb, &deep).unwrap_err().sqlstate.code(), "54001");
    assert_eq!(parse(&ColumnType::Jsonb, "1e999999").unwrap_err().sqlstate.code(), "22003");
}

#[test]
fn arrays_are_read_with_quotes_and_nulls() {
    check(
        &array_of(ColumnType::Integer),
        &[("{1,2,3}", "{1,2,3}"), ("{}", "{}"), (" { 1 , NULL } ", "{1,NULL}")],
    );
    check(
        &array_of(ColumnType::Varchar(None)),
        &[
            ("{NULL,z}", "{NULL,z}"),
            (r#"{1,2,NULL," a b "}"#, r#"{1,2,NULL," a b "}"#),
            (r#"{"null",null,"",a\,b,"a\"b"}"#, r#"{"null",NULL,"","a,b","a\"b"}"#),
            ("{a b , c}", r#"{"a b",c}"#),
            (r"{\é,é\\}", r#"{é,"é\\"}"#),
        ],
    );
    let nested = array_of(array_of(ColumnType::Integer));
    check(&nested, &[("{{1,2},{3,4}}", "{{1,2},{3,4}}")]);
}

#[test]
fn malformed_arrays_are_refused_with_a_detail() {
    let cases = [
        ("abc", "Array value must start with \"{\" or dimension information."),
        ("{1,2", "Unexpected end of input."),
        ("{1,,2}", "Unexpected \",\" character."),
        ("{1,2}x", "Junk after closing right brace."),
        ("{1,2,}", "Unexpected \"}\" character."),
        ("{\"a\"b}", "Unexpected array element."),
        ("{\"a\\", "Unexpected end of input."),
    ];
    for (text, detail) in cases {
        let error = parse(&array_of(ColumnType::Text), text).unwrap_err();
        assert_eq!(error.message, format!("malformed array literal: \"{text}\""));
        assert_eq!((error.sqlstate.code(), error.detail.as_deref()), ("22P02", Some(detail)));
    }
    let message = "invalid input syntax for type integer: \"a\"";
    check_errors(&array_of(ColumnType::Integer), &[("{a}", "22P02", message)]);
}

#[test]
fn strings_keep_to_their_declared_length() {
    check(&ColumnType::Varchar(Some(5)), &[("héllo", "héllo"), ("abc       ", "abc  ")]);
    let message = "value too long for type character varying(5)";
    check_errors(&ColumnType::Varchar(Some(5)), &[("abcdef", "22001", message)]);
    let message = "value too long for type character varying(3)";
    check_errors(&array_of(ColumnType::Varchar(Some(3))), &[("{abcd}", "22001", message)]);
}

#[test]
fn typed_strings_are_held_to_the_length_too() {
    let strings: ArrayRef = Arc::new(StringArray::from(vec![Some("ab "), None, Some("abc")]));
    let checked = check_length(&strings, &ColumnType::Varchar(Some(3))).unwrap();
    assert_eq!(&checked, &strings);
    let cut = check_length(&strings.slice(0, 2), &ColumnType::Varchar(Some(2))).unwrap();
    assert_eq!(cut.as_string::<i32>().value(0), "ab");
    assert!(check_length(&strings, &ColumnType::Varchar(Some(2))).is_err());

    let lists = parse(&array_of(ColumnType::Text), "{ab,abcd}").unwrap();
    assert!(check_length(&lists, &array_of(ColumnType::Varchar(Some(3)))).is_err());
    let ty = array_of(ColumnType::Varchar(Some(4)));
    assert_eq!(&check_length(&lists, &ty).unwrap(), &lists);
}

#[test]
fn the_first_bad_row_is_found() {
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("1"), None, Some("x"), Some("y")]));
    assert_eq!(first_bad_row(&text, &ColumnType::Integer), Some(2));
    assert_eq!(first_bad_row(&text, &ColumnType::Text), None);
}

#[test]
fn no_text_makes_a_parser_panic() {
    let types = [
        ColumnType::Boolean,
        ColumnType::SmallInt,
        ColumnType::Real,
        ColumnType::Numeric(None),
        ColumnType::Numeric(Some((76, 70))),
        ColumnType::Varchar(Some(1)),
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::Timestamptz,
        ColumnType::Interval,
        ColumnType::Jsonb,
        array_of(ColumnType::Jsonb),
        array_of(array_of(ColumnType::Text)),
    ];
    let seeds = [
        "2022-12-28 11:08:56.918+00 BC",
        "999999999-999999999-999999999 999999999:999999999:999999999.9",
        "1 year -2.5 mons 3 days 04:05:06.789 ago",
        "P1Y2M3DT4H5M6.7S",
        "{\"é\": [1e-5, \"\\ud83d\\u00e9\"], \"b\": {\"c\": 12E+3}}",
        "{{a,\"b\\\"é\"},{NULL,\\é}}",
        "-00012345678901234567890.5e-20",
        "\\x0é\\\\777",
    ];
    for ty in &types {
        for seed in seeds {
            for (position, character) in seed.char_indices() {
                let (before, after) = seed.split_at(position);
                let without = format!("{before}{}", &after[character.len_utf8()..]);
                let doubled = format!("{before}{character}{after}");
                for text in [before, after, without.as_str(), doubled.as_str()] {
                    drop(parse(ty, text));
                }
            }
        }
    }
}
