//! Backfills: the value that a column has in rows written before it was added.
//!
//! Stored as base64 of an Arrow IPC stream that holds one row of one column, so that every type round-trips
//! exactly.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Encodes a one-row array.
pub fn encode(value: &ArrayRef) -> Result<String, ArrowError> {
    let schema = Schema::new(vec![Field::new("value", value.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(value)])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    Ok(STANDARD_NO_PAD.encode(writer.into_inner()?))
}

/// Decodes the value that [`encode`] encoded.
pub fn decode(text: &str) -> Result<ArrayRef, ArrowError> {
    let wrong = || {
        let message = "the stored default of an added column cannot be read";
        ArrowError::ParseError(message.to_owned())
    };
    let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| wrong())?;
    let mut batches = StreamReader::try_new(bytes.as_slice(), None)?;
    let batch = batches.next().ok_or_else(wrong)??;
    match batch.columns() {
        [value] if value.len() == 1 => Ok(Arc::clone(value)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringViewArray;

    use super::*;

    #[test]
    fn a_value_comes_back_as_it_went() {
        let value: ArrayRef = Arc::new(StringViewArray::from(vec!["a string longer than inline"]));
        let text = encode(&value).unwrap();
        assert_eq!(&decode(&text).unwrap(), &value);
        assert!(decode("AAAA").is_err());
    }
}
