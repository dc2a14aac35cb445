//! Backfills: the value that a column has in rows written before it was added.
//!
//! Stored as base64 of an Arrow IPC stream that holds one row of one column, so that every type round-trips
//! exactly.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};

/// Encodes a one-row array.
pub fn encode(value: &ArrayRef) -> Result<String> {
    let schema = Schema::new(vec![Field::new("value", value.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(value)])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    Ok(STANDARD_NO_PAD.encode(writer.into_inner()?))
}

/// Decodes the value that [`encode`] encoded.
pub fn decode(text: &str) -> Result<ScalarValue> {
    let wrong = || exec_datafusion_err!("the stored default of an added column cannot be read");
    let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| wrong())?;
    let mut batches = StreamReader::try_new(bytes.as_slice(), None)?;
    let batch = batches.next().ok_or_else(wrong)??;
    if batch.num_rows() != 1 || batch.num_columns() != 1 {
        return Err(wrong());
    }
    ScalarValue::try_from_array(batch.column(0), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::StringViewArray;

    #[test]
    fn a_value_comes_back_as_it_went() {
        let value: ArrayRef = Arc::new(StringViewArray::from(vec!["a string longer than inline"]));
        let text = encode(&value).unwrap();
        assert_eq!(decode(&text).unwrap(), ScalarValue::try_from_array(&value, 0).unwrap());
        assert!(decode("AAAA").is_err());
    }
}
