//! Results are those of PostgreSQL 15 for the same data.

use datafusion::arrow::array::{Array, AsArray};

use super::*;

type Rows = Vec<Vec<Option<String>>>;

fn read_chunks<'c>(
    options: &CopyOptions,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> Result<Rows, CopyError> {
    let mut parser = CopyParser::new(options.clone(), vec!["a".to_owned(), "b".to_owned()]);
    let mut buffer = RowBuffer::new(2);
    for chunk in chunks {
        parser.push(chunk, &mut buffer)?;
    }
    parser.finish(&mut buffer)?;
    let count = buffer.rows();
    let columns = buffer.take_columns();
    assert_eq!((buffer.rows(), buffer.bytes()), (0, 0));
    let value = |column: &ArrayRef, row| {
        let column = column.as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    Ok((0..count).map(|row| columns.iter().map(|column| value(column, row)).collect()).collect())
}

/// Asserts that the result is the same wherever the data is cut into chunks.
fn read(options: &CopyOptions, data: &[u8]) -> Result<Rows, CopyError> {
    let whole = read_chunks(options, [data]);
    assert_eq!(read_chunks(options, data.chunks(1)), whole);
    for cut in 0..data.len() {
        let (before, after) = data.split_at(cut);
        assert_eq!(read_chunks(options, [before, b"", after]), whole);
    }
    whole
}

fn rows(rows: &[[Option<&str>; 2]]) -> Rows {
    rows.iter().map(|row| row.iter().map(|value| value.map(str::to_owned)).collect()).collect()
}

fn check_error(options: &CopyOptions, data: &[u8], line: u64, sqlstate: &str, message: &str) {
    let error = read(options, data).unwrap_err();
    let found = (error.line, error.cause.sqlstate.code(), error.cause.message.as_str());
    assert_eq!(found, (line, sqlstate, message));
}

#[test]
fn text_fields_are_unescaped() {
    let data =
        b"1\tx\\ty\\\\\\x41\\101\\n\\b\\f\\r\\v\\q\n2\t\\N\n\\N\t\n3\ta\\\nb\n4\t\\x4g\\18\\xg\n";
    let expected = rows(&[
        [Some("1"), Some("x\ty\\AA\n\u{8}\u{c}\r\u{b}q")],
        [Some("2"), None],
        [None, Some("")],
        [Some("3"), Some("a\nb")],
        [Some("4"), Some("\u{4}g\u{1}8xg")],
    ]);
    assert_eq!(read(&CopyOptions::text(), data), Ok(expected));
}

#[test]
fn an_escaped_delimiter_is_data() {
    let options = CopyOptions { delimiter: b'|', null: "-".to_owned(), ..CopyOptions::text() };
    let expected = rows(&[[Some("a|b"), None], [Some("\\N"), Some("-x")]]);
    assert_eq!(read(&options, b"a\\|b|-\n\\\\N|-x"), Ok(expected));
}

#[test]
fn csv_fields_are_unquoted() {
    let data = b"1,\"a\"\"b\nc\"\n2,\n3,\"\"\n4,x\"y,z\"w\n5,\" \"";
    let expected = rows(&[
        [Some("1"), Some("a\"b\nc")],
        [Some("2"), None],
        [Some("3"), Some("")],
        [Some("4"), Some("xy,zw")],
        [Some("5"), Some(" ")],
    ]);
    assert_eq!(read(&CopyOptions::csv(), data), Ok(expected));
}

#[test]
fn csv_may_have_an_escape_of_its_own() {
    let options = CopyOptions { escape: b'\\', ..CopyOptions::csv() };
    let data = b"1,\"a\\\"b\\\\\\c\"\n\"\\\"\",\"x\\\ny\"\n";
    let expected = rows(&[[Some("1"), Some("a\"b\\\\c")], [Some("\""), Some("x\\\ny")]]);
    assert_eq!(read(&options, data), Ok(expected));
}

#[test]
fn the_end_marker_ends_both_formats() {
    let expected = rows(&[[Some("1"), Some("2")]]);
    assert_eq!(read(&CopyOptions::text(), b"1\t2\n\\.\nrubbish"), Ok(expected.clone()));
    assert_eq!(read(&CopyOptions::csv(), b"1,2\n\\.\nrubbish"), Ok(expected.clone()));
    assert_eq!(read(&CopyOptions::csv(), b"1,2\r\n\\.\r\n"), Ok(expected.clone()));
    assert_eq!(read(&CopyOptions::text(), b"1\t2\n\\."), Ok(expected));
}

#[test]
fn a_header_is_not_data() {
    let options = CopyOptions { header: true, ..CopyOptions::csv() };
    assert_eq!(read(&options, b"a,b\n7,8\n"), Ok(rows(&[[Some("7"), Some("8")]])));
    assert_eq!(read(&options, b"a,b,c\n"), Ok(rows(&[])));
}

#[test]
fn rows_may_end_in_carriage_returns_if_all_do() {
    let expected = rows(&[[Some("1"), Some("2")], [Some("3"), Some("4")]]);
    assert_eq!(read(&CopyOptions::text(), b"1\t2\r\n3\t4\r\n"), Ok(expected.clone()));
    assert_eq!(read(&CopyOptions::csv(), b"1,2\r\n3,4"), Ok(expected));
    let (text, csv) = (CopyOptions::text(), CopyOptions::csv());
    check_error(&text, b"1\ta\r\n2\tb\n", 2, "22P04", "literal newline found in data");
    check_error(&text, b"1\ta\n2\tb\r\n", 2, "22P04", "literal carriage return found in data");
    check_error(&csv, b"1,a\n2,b\r\n", 2, "22P04", "unquoted carriage return found in data");
}

#[test]
fn wrong_numbers_of_fields_are_refused_with_their_line() {
    let (text, csv) = (CopyOptions::text(), CopyOptions::csv());
    check_error(&text, b"1\t2\n1\n", 2, "22P04", "missing data for column \"b\"");
    check_error(&text, b"\n", 1, "22P04", "missing data for column \"b\"");
    check_error(&text, b"1\t2\t3\n", 1, "22P04", "extra data after last expected column");
    check_error(&csv, b"1,\"x\ny\"\n1\n", 3, "22P04", "missing data for column \"b\"");
    check_error(&csv, b"1,\"abc\n", 1, "22P04", "unterminated CSV quoted field");
}

#[test]
fn data_must_be_utf8_without_zero_bytes() {
    let text = CopyOptions::text();
    let message = "invalid byte sequence for encoding \"UTF8\": 0xff";
    check_error(&text, b"1\t\\xff\n", 1, "22021", message);
    check_error(&text, b"1\t\xff\n", 1, "22021", message);
    let message = "invalid byte sequence for encoding \"UTF8\": 0x00";
    check_error(&text, b"1\ta\\000\n", 1, "22021", message);
    check_error(&CopyOptions::csv(), b"1,\0\n", 1, "22021", message);
}

#[test]
fn no_bytes_make_the_parser_panic() {
    let alphabet = b"\\\"\n\r\t,.Nx\xc3";
    let base = alphabet.len();
    for options in [CopyOptions::text(), CopyOptions::csv()] {
        for number in 0..base.pow(4) {
            let data: Vec<_> =
                (0..4).map(|position| alphabet[number / base.pow(position) % base]).collect();
            let whole = read_chunks(&options, [data.as_slice()]);
            assert_eq!(read_chunks(&options, data.chunks(2)), whole, "{data:?}");
        }
    }
}

#[test]
fn a_row_that_is_too_long_is_refused_before_it_ends() {
    let mut parser = CopyParser::new(CopyOptions::text(), vec!["a".to_owned()]);
    parser = parser.with_rows_up_to(4 << 20);
    let (mut buffer, piece) = (RowBuffer::new(1), vec![b'x'; 1 << 20]);
    for _ in 0..4 {
        parser.push(&piece, &mut buffer).unwrap();
        assert!(parser.held_bytes() <= 4 << 20, "it takes no more than the longest row");
    }
    let error = parser.push(b"x", &mut buffer).unwrap_err();
    assert_eq!((error.line, error.cause.sqlstate.code()), (1, "54000"));
    assert_eq!(parser.held_bytes(), 0);
}
