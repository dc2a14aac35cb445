//! Rows are encoded as PostgreSQL 15 sends them.

use datafusion::arrow::array::{
    Array, Decimal128Array, Decimal256Array, DictionaryArray, DurationNanosecondArray,
    Float32Array, Float64Array, Int32Array, Int64Array, ListArray, NullArray, StringArray,
    StructArray, Time32SecondArray, TimestampSecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{Int8Type, Int32Type, i256};

use super::*;
use crate::text_input::parse_column;
use tidemark_ledger::catalog::ColumnType;

fn array_of(element: ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(element))
}

/// One column for each type.
fn all_types() -> Vec<ColumnType> {
    vec![
        ColumnType::Boolean,
        ColumnType::SmallInt,
        ColumnType::Integer,
        ColumnType::BigInt,
        ColumnType::Real,
        ColumnType::Double,
        ColumnType::Numeric(None),
        ColumnType::Varchar(None),
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::Timestamptz,
        ColumnType::Interval,
        ColumnType::Jsonb,
        array_of(ColumnType::Integer),
        array_of(ColumnType::Varchar(None)),
    ]
}

fn batch(types: &[ColumnType], rows: &[&[Option<&str>]]) -> RecordBatch {
    let fields: Vec<_> = types.iter().map(|ty| ty.field("c", true)).collect();
    let columns = types.iter().enumerate().map(|(position, ty)| {
        let text: Vec<_> = rows.iter().map(|row| row[position]).collect();
        parse_column(&(Arc::new(StringArray::from(text)) as ArrayRef), ty).unwrap()
    });
    let columns = columns.collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Encodes the rows and returns the bytes of their fields.
fn rows(batch: &RecordBatch, format: FieldFormat) -> Vec<Vec<Option<Vec<u8>>>> {
    let encoder = RowEncoder::new(&batch.schema(), |_| format);
    let rows = encoder.encode(batch).unwrap();
    rows.into_iter().map(|row| fields(row.field_count, &row.data)).collect()
}

fn fields(count: i16, mut data: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut fields = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, rest) = rest.split_at(length.unwrap_or(0));
        fields.push(length.map(|_| value.to_vec()));
        data = rest;
    }
    assert_eq!(fields.len(), usize::try_from(count).unwrap());
    fields
}

fn text_rows(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let text = |field: Option<Vec<u8>>| field.map(|bytes| String::from_utf8(bytes).unwrap());
    rows(batch, FieldFormat::Text)
        .into_iter()
        .map(|row| row.into_iter().map(text).collect())
        .collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The values of one column as text; nulls as `NULL`.
fn column_values(array: impl Array + 'static) -> Vec<String> {
    let array: ArrayRef = Arc::new(array);
    let batch = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
    text_rows(&batch).into_iter().map(|mut row| row.remove(0).unwrap_or("NULL".into())).collect()
}

#[test]
fn every_type_prints_as_in_postgres() {
    let first = [
        "true",
        "-32768",
        "-2147483648",
        "-9223372036854775808",
        "-1.5",
        "2.25",
        "12345.678900",
        "héllo",
        "\\x00ff10",
        "2022-12-28",
        "11:08:56.918",
        "2022-12-28 11:08:56.918",
        "2022-12-28 11:08:56.918+00",
        "1 month 2 days 03:04:05.5",
        r#"{"a":[1,2,{"b":null}],"s":"x"}"#,
        "{1,2,3}",
        "{p,q}",
    ];
    let third = [
        "false",
        "32767",
        "2147483647",
        "9223372036854775807",
        "3.0e8",
        "1.0e-5",
        "-0.0000001",
        "",
        "\\x",
        "1999-12-31",
        "00:00:00",
        "1970-01-01 00:00:00",
        "2100-01-01 12:00:00+09",
        "-1 year",
        "[]",
        "{}",
        "{NULL,z}",
    ];
    let rows = [first.map(Some), [None; 17], third.map(Some)];
    let batch = batch(&all_types(), &[&rows[0], &rows[1], &rows[2]]);
    let shown = text_rows(&batch);
    let expected_first = [
        "t",
        "-32768",
        "-2147483648",
        "-9223372036854775808",
        "-1.5",
        "2.25",
        "12345.6789",
        "héllo",
        "\\x00ff10",
        "2022-12-28",
        "11:08:56.918",
        "2022-12-28 11:08:56.918",
        "2022-12-28 11:08:56.918+00",
        "1 mon 2 days 03:04:05.5",
        r#"{"a": [1, 2, {"b": null}], "s": "x"}"#,
        "{1,2,3}",
        "{p,q}",
    ];
    let expected_third = [
        "f",
        "32767",
        "2147483647",
        "9223372036854775807",
        "3e+08",
        "1e-05",
        "-0.0000001",
        "",
        "\\x",
        "1999-12-31",
        "00:00:00",
        "1970-01-01 00:00:00",
        "2100-01-01 03:00:00+00",
        "-1 years",
        "[]",
        "{}",
        "{NULL,z}",
    ];
    assert_eq!(shown[0], expected_first.map(|text| Some(text.to_owned())));
    assert_eq!(shown[1], vec![None; 17]);
    assert_eq!(shown[2], expected_third.map(|text| Some(text.to_owned())));
}

#[test]
fn every_type_has_the_binary_form_of_postgres() {
    let numeric = |digits| ColumnType::Numeric(digits);
    let cases = [
        (ColumnType::Boolean, "true", "01"),
        (ColumnType::SmallInt, "-32768", "8000"),
        (ColumnType::Integer, "-2147483648", "80000000"),
        (ColumnType::BigInt, "-9223372036854775808", "8000000000000000"),
        (ColumnType::Real, "-1.5", "bfc00000"),
        (ColumnType::Double, "2.25", "4002000000000000"),
        (numeric(None), "12345.678900", "0003000100000004000109291a85"),
        (numeric(None), "-0.0000001", "0001fffe40000007000a"),
        (numeric(None), "0", "0000000000000000"),
        (numeric(Some((5, 2))), "0", "0000000000000002"),
        (numeric(None), "10000", "00010001000000000001"),
        (numeric(None), "100000000", "00010002000000000001"),
        (
            numeric(Some((40, 1))),
            "12345678901234567890123456789012345678.5",
            "000b000900000001000c0d801ed204d2162e23340d801ed204d2162e1388",
        ),
        (numeric(None), "0.00012", "0002ffff00000005000107d0"),
        (numeric(Some((5, 2))), "1.1", "0002000000000002000103e8"),
        (numeric(Some((8, 4))), "9999.9999", "0002000000000004270f270f"),
        (numeric(Some((10, -30))), "1234e30", "0002000800000000000c0d48"),
        (ColumnType::Varchar(None), "héllo", "68c3a96c6c6f"),
        (ColumnType::Bytea, "\\x00ff10", "00ff10"),
        (ColumnType::Date, "2022-12-28", "000020cd"),
        (ColumnType::Date, "1969-12-31", "ffffd532"),
        (ColumnType::Time, "11:08:56.918", "000000095858c3f0"),
        (ColumnType::Timestamp, "2022-12-28 11:08:56.918", "000293e029d0a3f0"),
        (ColumnType::Timestamptz, "2022-12-28 11:08:56.918+00", "000293e029d0a3f0"),
        (ColumnType::Interval, "1 month 2 days 03:04:05.5", "00000002925cf4600000000200000001"),
        (ColumnType::Jsonb, "[]", "015b5d"),
        (
            array_of(ColumnType::Integer),
            "{1,2,3}",
            "0000000100000000000000170000000300000001000000040000000100000004000000020000000400000003",
        ),
        (array_of(ColumnType::Integer), "{}", "000000000000000000000017"),
        (
            array_of(ColumnType::Varchar(None)),
            "{NULL,z}",
            "0000000100000001000004130000000200000001ffffffff000000017a",
        ),
        (
            array_of(array_of(ColumnType::Integer)),
            "{{1,2},{3,4}}",
            "000000020000000000000017000000020000000100000002000000010000000400000001000000040000000200000004000000030000000400000004",
        ),
    ];
    for (ty, text, expected) in cases {
        let batch = batch(std::slice::from_ref(&ty), &[&[Some(text)]]);
        let row = rows(&batch, FieldFormat::Binary).remove(0).remove(0).unwrap();
        assert_eq!(hexadecimal(&row), expected, "{ty} {text}");
    }
}

#[test]
fn floats_print_their_shortest_digits() {
    let doubles = [
        (1e23, "9.999999999999999e+22"),
        (9e-265, "9e-265"),
        (5e-324, "5e-324"),
        (1e15, "1e+15"),
        (123_456_789_012_345.0, "123456789012345"),
        (1e14, "100000000000000"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.5e-5, "1.5e-05"),
        (-0.0, "-0"),
        (1e22, "1e+22"),
        (4_503_599_627_370_496.0, "4.503599627370496e+15"),
        (f64::NEG_INFINITY, "-Infinity"),
        (f64::NAN, "NaN"),
        (f64::MAX, "1.7976931348623157e+308"),
        (-1234.5, "-1234.5"),
    ];
    let (values, texts): (Vec<_>, Vec<_>) = doubles.into_iter().unzip();
    assert_eq!(column_values(Float64Array::from(values)), texts);
    let reals = [
        (1e6, "1e+06"),
        (100_000.0, "100000"),
        (999_999.0, "999999"),
        (1e-5, "1e-05"),
        (16_777_216.0, "1.6777216e+07"),
        (f32::MIN_POSITIVE, "1.1754944e-38"),
        (33_554_432.0, "3.3554432e+07"),
        (9.5e-7, "9.5e-07"),
        (f32::MAX, "3.4028235e+38"),
        (0.1, "0.1"),
    ];
    let (values, texts): (Vec<f32>, Vec<_>) = reals.into_iter().unzip();
    assert_eq!(column_values(Float32Array::from(values)), texts);
}

#[test]
fn declared_scales_keep_their_zeros_and_undeclared_wide_ones_lose_them() {
    let decimal = |value, precision, scale| {
        Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap()
    };
    assert_eq!(column_values(decimal(150, 5, 2)), ["1.50"]);
    assert_eq!(column_values(decimal(-5, 5, 3)), ["-0.005"]);
    assert_eq!(column_values(decimal(12_500_000_000, 38, 10)), ["1.25"]);
    assert_eq!(column_values(decimal(0, 38, 20)), ["0"]);
    assert_eq!(column_values(decimal(7, 5, -2)), ["700"]);
    let largest = Decimal256Array::from(vec![i256::MIN]).with_precision_and_scale(76, 2).unwrap();
    let text = column_values(largest).remove(0);
    assert!(text.starts_with("-5789604461865809771178549250434395392663499233282028201972879"));
    let declared = ColumnType::Numeric(Some((38, 10))).field("c", true);
    let array: ArrayRef = Arc::new(decimal(12_500_000_000, 38, 10));
    assert_eq!(column_text(&declared, &array).unwrap().value(0), "1.2500000000");
}

#[test]
fn types_that_only_the_engine_has_are_shown_as_their_nearest() {
    assert_eq!(column_values(UInt64Array::from(vec![Some(7), None])), ["7", "NULL"]);
    assert_eq!(column_values(NullArray::new(2)), ["NULL", "NULL"]);
    let words: DictionaryArray<Int8Type> = vec!["a", "b", "a"].into_iter().collect();
    assert_eq!(column_values(words), ["a", "b", "a"]);
    let seconds = TimestampSecondArray::from(vec![0]).with_timezone("UTC");
    assert_eq!(column_values(seconds), ["1970-01-01 00:00:00+00"]);
    assert_eq!(column_values(Time32SecondArray::from(vec![3661])), ["01:01:01"]);
    let nanos = (2 * 86_400 + 3661) * 1_000_000_000;
    let durations = DurationNanosecondArray::from(vec![nanos, -1_000_000_000]);
    assert_eq!(column_values(durations), ["2 days 01:01:01", "-00:00:01"]);
    let field = Arc::new(Field::new("x", DataType::Int32, true));
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![5]));
    assert_eq!(column_values(StructArray::from(vec![(field, numbers)])), ["{x: 5}"]);
}

#[test]
fn integers_too_large_for_bigint_are_an_error() {
    let array: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let batch = RecordBatch::try_from_iter([("c", array)]).unwrap();
    let encoder = RowEncoder::new(&batch.schema(), |_| FieldFormat::Text);
    let error = encoder.encode(&batch).unwrap_err();
    assert_eq!((error.sqlstate.code(), error.message.as_str()), ("22003", "bigint out of range"));
}

#[test]
fn array_elements_are_quoted_when_they_must_be() {
    let cases = [
        (ColumnType::Boolean, "{true,false}", "{t,f}"),
        (
            ColumnType::Text,
            r#"{"x y","a\"b","\\","{}","null","",NULL,ü}"#,
            r#"{"x y","a\"b","\\","{}","null","",NULL,ü}"#,
        ),
        (ColumnType::Bytea, r#"{"\\x00"}"#, r#"{"\\x00"}"#),
        (ColumnType::Timestamp, "{2022-12-28}", r#"{"2022-12-28 00:00:00"}"#),
        (ColumnType::Interval, "{1 day}", r#"{"1 day"}"#),
        (ColumnType::Numeric(None), "{1.50,2.25}", "{1.5,2.25}"),
        (ColumnType::Numeric(Some((5, 2))), "{1.5,2.25}", "{1.50,2.25}"),
        (ColumnType::Jsonb, r#"{"{\"a\":1}"}"#, r#"{"{\"a\": 1}"}"#),
    ];
    for (element, text, expected) in cases {
        let batch = batch(&[array_of(element)], &[&[Some(text)]]);
        assert_eq!(text_rows(&batch)[0][0].as_deref(), Some(expected));
    }
}

#[test]
fn a_slice_of_lists_shows_its_own_rows() {
    let lists = vec![Some(vec![Some(1)]), None, Some(vec![Some(2), None, Some(3)]), Some(vec![])];
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    assert_eq!(column_values(lists.slice(1, 3)), ["NULL", "{2,NULL,3}", "{}"]);
}

#[test]
fn ragged_arrays_have_no_binary_form() {
    let batch = batch(&[array_of(array_of(ColumnType::Integer))], &[&[Some("{{1,2},{3}}")]]);
    let encoder = RowEncoder::new(&batch.schema(), |_| FieldFormat::Binary);
    assert_eq!(encoder.encode(&batch).unwrap_err().sqlstate.code(), "2202E");
}

#[test]
fn formats_are_chosen_per_column_and_told_to_the_client() {
    let types = [ColumnType::Integer, ColumnType::Varchar(Some(7))];
    let batch = batch(&types, &[&[Some("258"), Some("x")]]);
    let formats = |position| if position == 0 { FieldFormat::Binary } else { FieldFormat::Text };
    let rows = RowEncoder::new(&batch.schema(), formats).encode(&batch).unwrap();
    assert_eq!(hexadecimal(&rows[0].data), "00000004000001020000000178");
    let infos = field_infos(&batch.schema(), &["a".into(), "b".into()], formats);
    assert_eq!((infos[0].name(), infos[0].type_size(), infos[0].type_modifier()), ("a", 4, -1));
    assert_eq!((infos[1].name(), infos[1].type_size(), infos[1].type_modifier()), ("b", -1, 11));
    assert_eq!(infos[0].format(), FieldFormat::Binary);
}

#[test]
fn oids_take_four_bytes() {
    let metadata = [(tidemark_ledger::catalog::SQL_TYPE_KEY.to_owned(), "oid".to_owned())];
    let field = Field::new("oid", DataType::Int64, false).with_metadata(metadata.into());
    let column: ArrayRef = Arc::new(Int64Array::from(vec![26]));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap();
    assert_eq!(rows(&batch, FieldFormat::Binary)[0][0].as_deref(), Some(&[0, 0, 0, 26][..]));
    assert_eq!(text_rows(&batch)[0][0].as_deref(), Some("26"));
}

#[test]
fn the_ends_of_time_do_not_panic() {
    let ends = [i64::MIN, i64::MAX];
    let seconds = TimestampSecondArray::from(vec![i64::MAX]);
    let batch = RecordBatch::try_from_iter([("c", Arc::new(seconds) as ArrayRef)]).unwrap();
    let encoder = RowEncoder::new(&batch.schema(), |_| FieldFormat::Text);
    assert_eq!(encoder.encode(&batch).unwrap_err().sqlstate.code(), "22008");
    for ty in [ColumnType::Timestamp, ColumnType::Time] {
        let array: ArrayRef = Arc::new(Int64Array::from(ends.to_vec()));
        let array = datafusion::arrow::compute::cast(&array, &ty.arrow_type()).unwrap();
        let schema = Arc::new(Schema::new(vec![ty.field("c", true)]));
        let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
        assert_eq!(rows(&batch, FieldFormat::Text).len(), 2);
        assert_eq!(rows(&batch, FieldFormat::Binary).len(), 2);
    }
}
