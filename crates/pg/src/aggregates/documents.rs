//! `jsonb_agg` and `jsonb_object_agg`, of values that are documents already.

use std::mem::size_of_val;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray as _, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};

use super::function::Definition;
use super::states::state_fields;
use crate::error::SqlError;
use crate::memory::Growing;
use crate::sqlstate::SqlState;
use crate::text_input::json::Json;
use tidemark_ledger::catalog::ColumnType;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Documents {
    Array,
    /// Of keys and values.
    Object,
}

impl Documents {
    const fn arguments(self) -> usize {
        match self {
            Self::Array => 1,
            Self::Object => 2,
        }
    }
}

impl Definition for Documents {
    fn name(&self) -> &'static str {
        match self {
            Self::Array => "jsonb_agg",
            Self::Object => "jsonb_object_agg",
        }
    }

    fn arguments(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let documents = types.iter().all(|given| given.is_string() || given.is_null());
        let all = (*self).arguments();
        (types.len() == all && documents).then(|| vec![DataType::Utf8View; all])
    }

    fn result(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(ColumnType::Jsonb.arrow_type())
    }

    fn result_field(&self, _arguments: &[FieldRef]) -> Result<FieldRef> {
        Ok(Arc::new(ColumnType::Jsonb.field(self.name(), true)))
    }

    fn states(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)));
        Ok(state_fields(args.name, vec![list; (*self).arguments()]))
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Gathered::new((*self).arguments())))
    }

    fn is_ordered(&self, _types: &[DataType]) -> bool {
        true
    }
}

/// The documents of each argument, row by row.
#[derive(Debug)]
struct Gathered {
    columns: Vec<Vec<Option<String>>>,
    bytes: usize,
}

impl Gathered {
    fn new(arguments: usize) -> Self {
        Self { columns: vec![vec![]; arguments], bytes: 0 }
    }

    fn add(&mut self, at: usize, values: &ArrayRef) -> Result<()> {
        let values = cast(values, &DataType::Utf8View)?;
        for value in values.as_string_view() {
            self.bytes += value.map_or(0, str::len) + size_of::<Option<String>>();
            self.columns[at].push(value.map(str::to_owned));
        }
        Ok(())
    }

    fn document(&self) -> Result<String, SqlError> {
        let mut growing = Growing::new("jsonb_agg");
        growing.add(self.bytes)?;
        match self.columns.as_slice() {
            [elements] => {
                let elements = elements.iter().map(|element| element.as_deref().unwrap_or("null"));
                Ok(format!("[{}]", elements.collect::<Vec<_>>().join(", ")))
            }
            [keys, values] => object(keys, values, &mut growing),
            _ => Err(SqlError::internal("a document is made of one or two columns")),
        }
    }
}

fn object(
    keys: &[Option<String>],
    values: &[Option<String>],
    growing: &mut Growing,
) -> Result<String, SqlError> {
    let invalid = |message| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let mut members = vec![];
    for (key, value) in keys.iter().zip(values) {
        let Some(key) = key else { return Err(invalid("field name must not be null")) };
        let key = match Json::parse_counted(key, growing)? {
            Json::Text(key) => key,
            Json::Word(word) if word != "null" => word,
            _ => return Err(invalid("key value must be scalar, not array, composite, or json")),
        };
        let value = Json::parse_counted(value.as_deref().unwrap_or("null"), growing)?;
        members.push((key, value));
    }
    let mut text = String::new();
    Json::object(members).write(&mut text);
    Ok(text)
}

impl Accumulator for Gathered {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values.iter().enumerate().try_for_each(|(at, values)| self.add(at, values))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let is_empty = self.columns.iter().all(Vec::is_empty);
        let text = if is_empty { None } else { Some(self.document()?) };
        ScalarValue::Utf8View(text).cast_to(&ColumnType::Jsonb.arrow_type())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let lists = self.columns.iter().map(|column| {
            let texts: StringViewArray = column.iter().map(Option::as_deref).collect();
            SingleRowListArrayBuilder::new(Arc::new(texts)).with_nullable(true).build_list_scalar()
        });
        Ok(lists.collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (at, lists) in states.iter().enumerate() {
            for list in lists.as_list::<i32>().iter().flatten() {
                self.add(at, &list)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(columns: &[&[Option<&str>]]) -> Result<ScalarValue> {
        let mut gathered = Gathered::new(columns.len());
        let columns = columns.iter().map(|column| -> ArrayRef {
            Arc::new(column.iter().copied().collect::<StringViewArray>())
        });
        gathered.update_batch(&columns.collect::<Vec<_>>())?;
        let state = gathered.state()?;
        let state = state.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
        let mut merged = Gathered::new(state.len());
        merged.merge_batch(&state)?;
        merged.evaluate()
    }

    #[test]
    fn documents_are_gathered_in_the_order_of_rows() {
        let array = gathered(&[&[Some("1"), None, Some("{\"a\": 1}")]]).unwrap();
        assert_eq!(array.to_string(), "[1, null, {\"a\": 1}]");
        let (keys, values) =
            ([Some("\"bb\""), Some("1"), Some("\"bb\"")], [None, Some("2"), Some("3")]);
        let object = gathered(&[&keys, &values]).unwrap();
        assert_eq!(object.to_string(), "{\"1\": 2, \"bb\": 3}");
        assert!(gathered(&[&[]]).unwrap().is_null());
        gathered(&[&[None], &[Some("1")]]).unwrap_err();
    }
}
