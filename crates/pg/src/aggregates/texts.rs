//! `string_agg`.

use std::mem::size_of_val;

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};

use super::function::{Definition, undefined};
use super::states::state_fields;

/// Joins texts, or bytes. The delimiter of a row comes before its value; that of the first row is left out.
#[derive(Debug)]
pub struct StringAgg;

impl Definition for StringAgg {
    fn name(&self) -> &'static str {
        "string_agg"
    }

    fn arguments(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let [value, delimiter] = types else { return None };
        if is_bytes(value) && (is_bytes(delimiter) || delimiter.is_null()) {
            return Some(vec![DataType::BinaryView; 2]);
        }
        let is_text = |data_type: &DataType| data_type.is_string() || data_type.is_null();
        (is_text(value) && is_text(delimiter)).then(|| vec![DataType::Utf8View; 2])
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| undefined("string_agg", types))
    }

    fn states(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(args.name, [DataType::BinaryView, DataType::Int64]))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        Ok(Box::new(Joined { bytes: None, delimiter: 0, result }))
    }

    fn is_ordered(&self, _types: &[DataType]) -> bool {
        true
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

#[derive(Debug)]
struct Joined {
    /// The values, each after its delimiter; none before the first value.
    bytes: Option<Vec<u8>>,
    /// Length of the delimiter of the first value.
    delimiter: usize,
    result: DataType,
}

impl Joined {
    fn add(&mut self, delimiter: &[u8], value: &[u8]) {
        if self.bytes.is_none() {
            self.delimiter = delimiter.len();
        }
        let bytes = self.bytes.get_or_insert_default();
        bytes.extend_from_slice(delimiter);
        bytes.extend_from_slice(value);
    }

    fn joined(&self) -> Option<&[u8]> {
        self.bytes.as_ref().map(|bytes| &bytes[self.delimiter..])
    }
}

impl Accumulator for Joined {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let columns = values.iter().map(|column| cast(column, &DataType::BinaryView));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let (values, delimiters) = (columns[0].as_binary_view(), columns[1].as_binary_view());
        for (value, delimiter) in values.iter().zip(delimiters) {
            if let Some(value) = value {
                self.add(delimiter.unwrap_or_default(), value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(joined) = self.joined() else { return ScalarValue::try_from(&self.result) };
        if is_bytes(&self.result) {
            return Ok(ScalarValue::BinaryView(Some(joined.to_vec())));
        }
        let text = String::from_utf8_lossy(joined).into_owned();
        Ok(ScalarValue::Utf8View(Some(text)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes.as_ref().map_or(0, Vec::capacity)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let delimiter = i64::try_from(self.delimiter).unwrap_or(0);
        Ok(vec![ScalarValue::BinaryView(self.bytes.clone()), ScalarValue::from(delimiter)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (texts, delimiters) =
            (states[0].as_binary_view(), states[1].as_primitive::<Int64Type>());
        for row in 0..texts.len() {
            if texts.is_valid(row) {
                let length = usize::try_from(delimiters.value(row)).unwrap_or(0);
                let (delimiter, value) = texts.value(row).split_at(length);
                self.add(delimiter, value);
            }
        }
        Ok(())
    }
}
