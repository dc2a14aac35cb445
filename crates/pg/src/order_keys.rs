//! Keys of values: arrays of which equal elements are equal in PostgreSQL, and which sort as PostgreSQL sorts.
//!
//! The engine compares floats by their bits, so that -0 is less than 0 and a NaN may be less than everything, and
//! intervals field by field. Rules of the planner put [`ORDER_KEY`] around such values wherever a plan compares them.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray as _, PrimitiveArray};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::SqlError;
use crate::functions::interval_keys;

/// The function that returns keys; users cannot write its name.
pub static ORDER_KEY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(OrderKey { signature }))
});

/// Whether the keys of values of this type differ from the values.
pub fn has_key(data_type: &DataType) -> bool {
    is_float(data_type) || is_interval(data_type)
}

pub fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

pub fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_))
}

/// The keys of the elements.
pub fn key_of(values: &ArrayRef) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Float32 => {
            Ok(floats::<Float32Type>(
                values,
                |value| {
                    if value.is_nan() { f32::NAN } else { value + 0.0 }
                },
            ))
        }
        DataType::Float64 => {
            Ok(floats::<Float64Type>(
                values,
                |value| {
                    if value.is_nan() { f64::NAN } else { value + 0.0 }
                },
            ))
        }
        DataType::Interval(_) => interval_keys(values),
        _ => Ok(Arc::clone(values)),
    }
}

/// Adding zero makes -0 to 0.
fn floats<T: ArrowPrimitiveType>(values: &ArrayRef, key: fn(T::Native) -> T::Native) -> ArrayRef {
    let keys: PrimitiveArray<T> = values.as_primitive::<T>().unary(key);
    Arc::new(keys)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderKey {
    signature: Signature,
}

impl ScalarUDFImpl for OrderKey {
    fn name(&self) -> &'static str {
        "\u{1}order_key"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Interval(_)] => Ok(DataType::Decimal128(38, 0)),
            [other] => Ok(other.clone()),
            _ => Err(SqlError::internal("a key is of one value").into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Scalar(value)] => {
                let key = key_of(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&key, 0)?))
            }
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(key_of(values)?)),
            _ => Err(SqlError::internal("a key is of one value").into()),
        }
    }
}
