//! What users type and drivers send: statements, values, storage URLs.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, StringArray};
use object_store::path::Path;
use pgwire::api::Type;
use pgwire::api::results::FieldFormat;

use super::chosen;
use tidemark_ledger::catalog::ColumnType;
use tidemark_ledger::layout;
use tidemark_ledger::storage_url::{self, StorageUrl};
use tidemark_pg::copy_text::{CopyOptions, CopyParser, RowBuffer};
use tidemark_pg::parameters::decode_parameter;
use tidemark_pg::text_input::parse_column;
use tidemark_pg::types::{column_types, types};
use tidemark_sql::parser;

pub fn sql(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(parser::parse(text));
    }
}

/// The data of a `COPY`, in two chunks: the second byte says where it is cut.
pub fn copy(bytes: &[u8]) {
    let header = CopyOptions { header: true, ..CopyOptions::csv() };
    let options = [CopyOptions::text(), CopyOptions::csv(), header];
    let Some((options, rest)) = chosen(&options, bytes) else { return };
    let Some((cut, data)) = rest.split_first() else { return };
    let mut rows = RowBuffer::new(2);
    let mut parser = CopyParser::new(options.clone(), vec!["a".to_owned(), "b".to_owned()]);
    let (first, second) = data.split_at(usize::from(*cut).min(data.len()));
    let read = parser.push(first, &mut rows).and_then(|()| parser.push(second, &mut rows));
    if read.and_then(|()| parser.finish(&mut rows)).is_ok() {
        let count = rows.rows();
        assert!(rows.take_columns().iter().all(|column| column.len() == count));
    }
}

pub fn text_values(bytes: &[u8]) {
    let array = |element| ColumnType::Array(Box::new(element));
    let limited = [
        ColumnType::Numeric(Some((76, 10))),
        ColumnType::Varchar(Some(3)),
        array(ColumnType::Numeric(Some((5, 2)))),
    ];
    let arrays = column_types().cloned().map(array);
    let types: Vec<_> = column_types().cloned().chain(arrays).chain(limited).collect();
    let Some((ty, rest)) = chosen(&types, bytes) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    if let Ok(column) = parse_column(&text, ty) {
        assert_eq!(column.len(), 1);
    }
}

pub fn binary_values(bytes: &[u8]) {
    let types: Vec<_> = types().filter_map(|t| Type::from_oid(t.oid)).collect();
    let Some((ty, rest)) = chosen(&types, bytes) else { return };
    let Some((format, value)) = rest.split_first() else { return };
    let format = if format % 4 == 0 { FieldFormat::Text } else { FieldFormat::Binary };
    drop(decode_parameter(1, Some(&Bytes::copy_from_slice(value)), ty, format));
}

/// Storage URLs, and the names of objects.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(url) = StorageUrl::parse(storage_url::without_hummock(text)) {
        let shown = url.to_string();
        assert!(StorageUrl::parse(&shown).is_ok(), "{shown:?} does not read back");
    }
    drop(storage_url::mask(text));
    let Ok(path) = Path::parse(text) else { return };
    let read = (layout::parse_sst(&path), layout::parse_snapshot(&path));
    let in_d = (layout::parse_sst_in("d", &path), layout::parse_checkpoint("d", &path));
    std::hint::black_box((read, in_d));
}
