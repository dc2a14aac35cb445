//! Functions over the subscripts of an array's elements. Arrays count from 1, the vectors in `pg_index` from
//! 0.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::rowwise::no_such_function;
use crate::error::SqlError;
use crate::types::DeclaredType;

/// The function that `generate_subscripts(array, dimension)` unnests.
pub const SUBSCRIPTS: &str = "array_subscripts";
/// The function that `information_schema._pg_expandarray(array)` unnests: elements with their subscripts.
pub const EXPANDED: &str = "array_expanded";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let subscripts = ArrayFunction {
        name: SUBSCRIPTS,
        arguments: 2,
        returns: |_| list_of(DataType::Int32),
        body: subscripts,
    };
    let expanded = ArrayFunction {
        name: EXPANDED,
        arguments: 1,
        returns: |element| list_of(DataType::Struct(element_and_subscript(element))),
        body: |call| expanded(&call.lists),
    };
    let bound =
        |name, body| ArrayFunction { name, arguments: 2, returns: |_| DataType::Int32, body };
    let lower = bound("array_lower", |call| Ok(Arc::new(call.bounds(|first, _| first))));
    let upper =
        bound("array_upper", |call| Ok(Arc::new(call.bounds(|first, length| first + length - 1))));
    [subscripts, expanded, lower, upper].map(|f| Arc::new(ScalarUDF::from(f.udf()))).into()
}

/// The subscript of the first element of arrays with this field.
pub fn first_subscript(field: &Field) -> i32 {
    if DeclaredType::of(field).is_some_and(DeclaredType::is_vector) { 0 } else { 1 }
}

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

fn element_and_subscript(element: &DataType) -> Fields {
    Fields::from(vec![
        Field::new("x", element.clone(), true),
        Field::new("n", DataType::Int32, true),
    ])
}

/// The arguments of a call.
struct Call {
    lists: ListArray,
    first: i32,
    dimensions: Option<Int64Array>,
}

impl Call {
    /// For each array that has elements, `bound` of its first subscript and its length; null for the others.
    fn bounds(&self, bound: impl Fn(i32, i32) -> i32) -> Int32Array {
        let bounds = (0..self.lists.len()).map(|row| {
            let length = self.length(row);
            (length > 0).then(|| bound(self.first, length))
        });
        bounds.collect()
    }

    /// The length; 0 for a null array or a dimension other than the first.
    fn length(&self, row: usize) -> i32 {
        let is_first = |d: &Int64Array| d.is_valid(row) && d.value(row) == 1;
        let known = self.lists.is_valid(row) && self.dimensions.as_ref().is_none_or(is_first);
        if known { self.lists.value_length(row) } else { 0 }
    }
}

fn subscripts(call: &Call) -> EngineResult<ArrayRef> {
    let lengths = (0..call.lists.len()).map(|row| call.length(row));
    let lengths: Vec<i32> = lengths.collect();
    let positions = lengths.iter().flat_map(|length| call.first..call.first + length);
    let positions: ArrayRef = Arc::new(positions.collect::<Int32Array>());
    let sizes = lengths.iter().map(|length| usize::try_from(*length).unwrap_or(0));
    let field = Arc::new(Field::new_list_field(DataType::Int32, true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(sizes), positions, None)?))
}

/// Subscripts count from 1 here for every array.
fn expanded(lists: &ListArray) -> EngineResult<ArrayRef> {
    let fields = element_and_subscript(lists.values().data_type());
    // Elements outside all offsets belong to no array and keep 0.
    let mut positions = vec![0; lists.values().len()];
    for bounds in lists.offsets().windows(2) {
        let within = usize::try_from(bounds[0]).ok().zip(usize::try_from(bounds[1]).ok());
        let within = within.and_then(|(start, end)| positions.get_mut(start..end));
        within.into_iter().flatten().zip(1..).for_each(|(position, number)| *position = number);
    }
    let columns: Vec<ArrayRef> =
        vec![Arc::clone(lists.values()), Arc::new(Int32Array::from(positions))];
    let elements = StructArray::try_new(fields, columns, None)?;
    let field = Arc::new(Field::new_list_field(elements.data_type().clone(), true));
    let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
    Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(elements), nulls)?))
}

struct ArrayFunction {
    name: &'static str,
    arguments: usize,
    /// Returns the type of the result, given the type of the elements.
    returns: fn(&DataType) -> DataType,
    body: fn(&Call) -> EngineResult<ArrayRef>,
}

impl ArrayFunction {
    fn udf(self) -> ArrayUdf {
        ArrayUdf { function: self, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

struct ArrayUdf {
    function: ArrayFunction,
    signature: Signature,
}

impl ScalarUDFImpl for ArrayUdf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> EngineResult<DataType> {
        match types.first() {
            Some(DataType::List(element)) => Ok((self.function.returns)(element.data_type())),
            _ => Err(no_such_function(self.name(), types).into()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn coerce_types(&self, types: &[DataType]) -> EngineResult<Vec<DataType>> {
        match types {
            [list @ DataType::List(_)] if self.function.arguments == 1 => Ok(vec![list.clone()]),
            [list @ DataType::List(_), dimension]
                if self.function.arguments == 2 && dimension.is_integer() =>
            {
                Ok(vec![list.clone(), DataType::Int64])
            }
            _ => Err(no_such_function(self.name(), types).into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (Some(lists), Some(field)) = (arrays.first(), args.arg_fields.first()) else {
            return Err(SqlError::internal("a function of an array without one").into());
        };
        let dimensions = arrays.get(1).map(|d| d.as_primitive::<Int64Type>().clone());
        let first = first_subscript(field);
        let call = Call { lists: lists.as_list::<i32>().clone(), first, dimensions };
        Ok(ColumnarValue::Array((self.function.body)(&call)?))
    }
}

impl fmt::Debug for ArrayUdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayUdf").field("name", &self.function.name).finish_non_exhaustive()
    }
}

impl PartialEq for ArrayUdf {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for ArrayUdf {}

impl Hash for ArrayUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}
