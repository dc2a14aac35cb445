//! Decodes parameters as clients bind them.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Field, Schema};

use super::*;
use crate::encode::{RowEncoder, column_text};
use crate::types::column_types;
use crate::types::wire::pg_type;

fn text(value: &str, pg_type: &Type) -> Result<ScalarValue> {
    let value = Bytes::copy_from_slice(value.as_bytes());
    decode_parameter(1, Some(&value), pg_type, FieldFormat::Text)
}

fn binary(value: &[u8], pg_type: &Type) -> Result<ScalarValue> {
    let value = Bytes::copy_from_slice(value);
    decode_parameter(1, Some(&value), pg_type, FieldFormat::Binary)
}

/// The binary form of a value as the server encodes it.
fn sent(value: &ScalarValue) -> Vec<u8> {
    let array = value.to_array().unwrap();
    encoded(Field::new("c", array.data_type().clone(), true), array)
}

fn encoded(field: Field, array: ArrayRef) -> Vec<u8> {
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
    let encoder = RowEncoder::new(&batch.schema(), |_| FieldFormat::Binary);
    encoder.encode(&batch).unwrap().remove(0).data[4..].to_vec()
}

#[test]
fn both_formats_give_the_same_value() {
    let cases = [
        (Type::BOOL, "true"),
        (Type::INT2, "-32768"),
        (Type::INT4, "258"),
        (Type::INT8, "-9223372036854775808"),
        (Type::FLOAT4, "-1.5"),
        (Type::FLOAT8, "2.25"),
        (Type::NUMERIC, "12345.67"),
        (Type::NUMERIC, "-0.005"),
        (Type::NUMERIC, "0"),
        (Type::NUMERIC, "100000000"),
        (Type::NUMERIC, "1234567890123456789012345678901234567890.5"),
        (Type::TEXT, "héllo"),
        (Type::BYTEA, "\\x00ff10"),
        (Type::DATE, "1969-12-31"),
        (Type::TIME, "11:08:56.918"),
        (Type::TIMESTAMP, "2022-12-28 11:08:56.918"),
        (Type::TIMESTAMPTZ, "2022-12-28 11:08:56.918+00"),
        (Type::INTERVAL, "1 mon -2 days 03:04:05.5"),
        (Type::INT4_ARRAY, "{1,2,NULL}"),
        (Type::TEXT_ARRAY, "{a,NULL,\"b c\"}"),
        (Type::INT8_ARRAY, "{}"),
    ];
    for (pg_type, value) in cases {
        let value = text(value, &pg_type).unwrap();
        assert_eq!(binary(&sent(&value), &pg_type).unwrap(), value, "{pg_type}");
    }
}

/// The text form of some value.
fn sample(column_type: &ColumnType) -> &'static str {
    match column_type {
        ColumnType::Boolean => "t",
        ColumnType::SmallInt => "-2",
        ColumnType::Integer => "-4",
        ColumnType::BigInt => "-8",
        ColumnType::Real | ColumnType::Double => "-0.5",
        ColumnType::Numeric(_) => "-12345.678",
        ColumnType::Varchar(_) | ColumnType::Text => "\"héllo\"",
        ColumnType::Bytea => "\\x00ff",
        ColumnType::Date => "1969-12-31",
        ColumnType::Time => "11:08:56.918",
        ColumnType::Timestamp => "1969-12-31 11:08:56.918",
        ColumnType::Timestamptz => "1969-12-31 11:08:56.918+00",
        ColumnType::Interval => "1 mon -2 days +03:04:05.5",
        ColumnType::Jsonb => "{\"a\": 1}",
        ColumnType::Array(_) => unreachable!("the types of columns are listed without arrays"),
    }
}

/// Asserts that a value survives the way to a client and back, in both formats.
fn assert_returns(value: &ScalarValue, column_type: &ColumnType) {
    let (field, array) = (column_type.field("c", true), value.to_array().unwrap());
    let pg_type = pg_type(&field);
    let as_text = column_text(&field, &array).unwrap();
    let as_bytes = encoded(field, array);
    for returned in [text(as_text.value(0), &pg_type), binary(&as_bytes, &pg_type)] {
        let returned = returned.unwrap().cast_to(&column_type.arrow_type()).unwrap();
        assert_eq!(returned, *value, "{column_type}");
    }
}

#[test]
fn values_of_every_column_type_return_in_both_formats() {
    for column_type in column_types() {
        let text = sample(column_type);
        let value = parsed(text, column_type).unwrap();
        let shown = column_text(&column_type.field("c", true), &value.to_array().unwrap());
        assert_eq!(shown.unwrap().value(0), text);
        assert_returns(&value, column_type);

        let null = ScalarValue::try_new_null(&column_type.arrow_type()).unwrap();
        let list = ScalarValue::new_list(&[value, null], &column_type.arrow_type(), true);
        let array = ColumnType::Array(Box::new(column_type.clone()));
        assert_returns(&ScalarValue::List(list), &array);
    }
}

#[test]
fn a_numeric_keeps_the_scale_it_was_written_with() {
    let value = text("12.50", &Type::NUMERIC).unwrap();
    assert_eq!(value, ScalarValue::Decimal128(Some(1250), 4, 2));
    let value = text("1e-3", &Type::NUMERIC).unwrap();
    assert_eq!(value, ScalarValue::Decimal128(Some(1), 3, 3));
    let long = text(&format!("0.{}", "1".repeat(100)), &Type::NUMERIC).unwrap();
    assert!(matches!(long, ScalarValue::Decimal256(Some(_), 76, 76)));
    assert_eq!(text("1e80", &Type::NUMERIC).unwrap_err().sqlstate.code(), "22003");
    assert_eq!(text("1e-999999999", &Type::NUMERIC).unwrap().to_array().unwrap().len(), 1);
}

#[test]
fn nulls_have_the_type_of_the_parameter() {
    for (pg_type, expected) in [
        (Type::INT4, ScalarValue::Int32(None)),
        (Type::UNKNOWN, ScalarValue::Utf8(None)),
        (Type::TIMESTAMPTZ, ScalarValue::TimestampMicrosecond(None, Some("UTC".into()))),
    ] {
        let value = decode_parameter(1, None, &pg_type, FieldFormat::Binary).unwrap();
        assert_eq!(value, expected);
    }
}

#[test]
fn json_is_normalised_in_both_formats() {
    let expected = ScalarValue::Utf8(Some(r#"{"a": 1}"#.to_owned()));
    assert_eq!(text(r#"{"a":1}"#, &Type::JSONB).unwrap(), expected);
    assert_eq!(binary(b"\x01{\"a\":1}", &Type::JSONB).unwrap(), expected);
    assert_eq!(binary(b"\x02{}", &Type::JSONB).unwrap_err().sqlstate.code(), "XX000");
}

#[test]
fn malformed_data_has_its_own_codes() {
    let sqlstate = |value: Result<ScalarValue>| value.unwrap_err().sqlstate.code();
    assert_eq!(sqlstate(text("abc", &Type::INT4)), "22P02");
    assert_eq!(sqlstate(binary(&[0, 0, 1], &Type::INT4)), "08P01");
    assert_eq!(sqlstate(binary(&[0, 0, 0, 0, 1], &Type::INT4)), "22P03");
    assert_eq!(sqlstate(binary(&[0xff], &Type::TEXT)), "22021");
    assert_eq!(sqlstate(text("a\0", &Type::TEXT)), "22021");
    assert_eq!(sqlstate(binary(&i64::MAX.to_be_bytes(), &Type::TIMESTAMP)), "22008");
    assert_eq!(sqlstate(binary(&[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10], &Type::NUMERIC)), "22P03");
    let error = binary(&[1; 5], &Type::INT4).unwrap_err();
    assert_eq!(error.message, "incorrect binary data format in bind parameter 1");
}

#[test]
fn arrays_of_another_element_type_are_refused() {
    let int4 = sent(&text("{1}", &Type::INT4_ARRAY).unwrap());
    assert_eq!(binary(&int4, &Type::TEXT_ARRAY).unwrap_err().sqlstate.code(), "42804");
    let texts = sent(&text("{a}", &Type::TEXT_ARRAY).unwrap());
    let value = binary(&texts, &Type::VARCHAR_ARRAY).unwrap();
    assert_eq!(value.to_array().unwrap().as_list::<i32>().value_length(0), 1);
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let types = [
        Type::BOOL,
        Type::INT8,
        Type::NUMERIC,
        Type::DATE,
        Type::TIME,
        Type::TIMESTAMP,
        Type::INTERVAL,
        Type::JSONB,
        Type::BYTEA,
        Type::INT4_ARRAY,
        Type::NUMERIC_ARRAY,
        Type::UUID,
    ];
    for pg_type in types {
        for length in 0..40 {
            for byte in [0, 1, 4, 0x27, 0x7f, 0xc0, 0xff] {
                drop(binary(&vec![byte; length], &pg_type));
            }
        }
    }
    let numeric = text("{1.5,NULL}", &Type::NUMERIC_ARRAY).unwrap();
    for end in 0..sent(&numeric).len() {
        drop(binary(&sent(&numeric)[..end], &Type::NUMERIC_ARRAY));
    }
}
