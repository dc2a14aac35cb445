//! Rules that need no server: texts, scales, limits and errors.

use datafusion::arrow::datatypes::i256;

use crate::numeric::{Numeric, Result, Typmod, factorial, width_bucket};

fn numeric(text: &str) -> Numeric {
    text.parse().unwrap()
}

fn code(result: Result<Numeric>) -> &'static str {
    result.unwrap_err().sqlstate.code()
}

/// Checks the text of a result.
#[track_caller]
fn gives(result: Result<Numeric>, expected: &str) {
    assert_eq!(result.unwrap().to_string(), expected);
}

#[test]
fn texts_keep_their_digits() {
    for (text, shown) in [
        (" 1.50\n", "1.50"),
        ("+.5e-3", "0.0005"),
        ("5.", "5"),
        ("1e3", "1000"),
        ("1e 5", "100000"),
        ("-0.00", "0.00"),
        ("INF", "Infinity"),
        ("-infinity", "-Infinity"),
        ("nan", "NaN"),
        ("0e200000", "0"),
        ("007.10", "7.10"),
    ] {
        assert_eq!(numeric(text).to_string(), shown, "{text}");
    }
    for text in ["", ".", "1e", "1_0", "-nan", "- 1", "1.2.3", "0x10", "+-1", "infinit"] {
        assert_eq!(code(text.parse()), "22P02", "{text}");
    }
    for text in ["1e131072", "1e-16384", "0e-16384", "0e1073741823", "1e99999999999999999999"] {
        assert_eq!(code(text.parse()), "22003", "{text}");
    }
}

#[test]
fn quotients_have_sixteen_digits_at_least() {
    gives(numeric("1").div(&numeric("3")), "0.33333333333333333333");
    gives(numeric("1.0").div(&numeric("0.0001")), "10000.0000000000000000");
    gives(numeric("10").div(&numeric("4")), "2.5000000000000000");
    assert_eq!(code(numeric("1").div(&numeric("0.0"))), "22012");
    assert_eq!(code(numeric("Infinity").rem(&numeric("0"))), "22012");
    gives(numeric("NaN").div(&numeric("0")), "NaN");
}

#[test]
fn functions_have_the_digits_of_postgresql() {
    gives(numeric("2").sqrt(), "1.414213562373095");
    gives(numeric("1").exp(), "2.7182818284590452");
    gives(numeric("2").ln(), "0.6931471805599453");
    gives(numeric("2").log(&numeric("8")), "3.0000000000000000");
    gives(numeric("2").power(&numeric("0.5")), "1.4142135623730950");
    gives(numeric("10.0").power(&numeric("-20.5")), "0.000000000000000000003162277660168379");
    gives(numeric("1.0000000000000000585").power(&numeric("12.5")), "1.0000000000000007312");
    gives(factorial(20), "2432902008176640000");
}

#[test]
fn arguments_out_of_domain_are_errors() {
    assert_eq!(code(numeric("0").ln()), "2201E");
    assert_eq!(code(numeric("-Infinity").sqrt()), "2201F");
    assert_eq!(code(numeric("0").power(&numeric("-1"))), "2201F");
    assert_eq!(code(numeric("-2").power(&numeric("0.5"))), "2201F");
    assert_eq!(code(numeric("1").log(&numeric("5"))), "22012");
    assert_eq!(code(numeric("6000").exp()), "22003");
    assert_eq!(code(factorial(-1)), "22003");
    assert_eq!(code(numeric("1e131071").mul(&numeric("10"))), "22003");
    let error = width_bucket(&numeric("1"), &numeric("2"), &numeric("2.0"), 3).unwrap_err();
    assert_eq!(error.sqlstate.code(), "2201G");
}

#[test]
fn decimals_of_arrow_are_rounded_to_their_type() {
    let typmod = Typmod { precision: 5, scale: 2 };
    assert_eq!(numeric("-1.005").to_decimal128(typmod).unwrap(), -101);
    assert_eq!(numeric("-1.005").to_decimal256(typmod).unwrap(), i256::from_i128(-101));
    let error = numeric("999.995").to_decimal128(typmod).unwrap_err();
    assert_eq!(error.message, "numeric field overflow");
    let detail =
        "A field with precision 5, scale 2 must round to an absolute value less than 10^3.";
    assert_eq!(error.detail.as_deref(), Some(detail));
    let rounded = Typmod { precision: 3, scale: -2 };
    assert_eq!(numeric("1250").to_decimal128(rounded).unwrap(), 13);
    assert_eq!(Numeric::from_decimal128(13, -2).unwrap().to_string(), "1300");
    assert_eq!(Numeric::from_decimal256(i256::from_i128(-150), 2).unwrap().to_string(), "-1.50");
    assert!(numeric("NaN").to_decimal128(typmod).is_err());
}

#[test]
fn wire_bytes_are_checked() {
    let bytes =
        |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
    gives(Numeric::from_wire(&bytes(&[3, 1, 0, 4, 10, 0, 5000])), "100000.5000");
    gives(Numeric::from_wire(&bytes(&[1, 0xffff, 0x4000, 2, 1299])), "-0.12");
    gives(Numeric::from_wire(&bytes(&[0, 0, 0xd000, 32])), "Infinity");
    for wrong in [
        &[1, 0, 0, 0][..],
        &[0, 0, 1, 0],
        &[0, 0, 0, 16_384],
        &[1, 0, 0, 0, 10_000],
        &[0, 0, 0, 0, 1],
    ] {
        assert!(Numeric::from_wire(&bytes(wrong)).is_err(), "{wrong:?}");
    }
    assert!(Numeric::from_wire(&[0, 0, 0]).is_err());
}

#[test]
fn nan_is_equal_to_itself_and_greatest() {
    assert_eq!(numeric("NaN"), numeric("nan"));
    assert!(numeric("NaN") > numeric("Infinity"));
    assert!(numeric("-Infinity") < numeric("-1e131071"));
    assert_eq!(numeric("1.50"), numeric("1.5"));
}
