//! Keys of values: arrays of which equal elements are equal in PostgreSQL, and which sort as PostgreSQL sorts.
//!
//! The engine compares floats by their bits, so that -0 is less than 0 and a NaN may be less than everything, and
//! intervals field by field. Rules of the planner put [`ORDER_KEY`] around such values wherever a plan compares them.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray as _, PrimitiveArray};
use datafusion::arrow::compute::{cast, interleave};
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

/// The floats with the same NaN everywhere: arithmetic makes some with the sign bit, which the engine takes for less
/// than all numbers.
pub fn plain_nans(values: ArrayRef) -> ArrayRef {
    fn plain<T: ArrowPrimitiveType>(
        values: ArrayRef,
        is_other: fn(T::Native) -> bool,
        nan: T::Native,
    ) -> ArrayRef {
        let floats = values.as_primitive::<T>();
        if !floats.values().iter().any(|value| is_other(*value)) {
            return values;
        }
        let floats: PrimitiveArray<T> =
            floats.unary(|value| if is_other(value) { nan } else { value });
        Arc::new(floats)
    }
    match values.data_type() {
        DataType::Float32 => {
            plain::<Float32Type>(values, |v| v.is_nan() && v.is_sign_negative(), f32::NAN)
        }
        DataType::Float64 => {
            plain::<Float64Type>(values, |v| v.is_nan() && v.is_sign_negative(), f64::NAN)
        }
        _ => values,
    }
}

/// Adding zero makes -0 to 0.
fn floats<T: ArrowPrimitiveType>(values: &ArrayRef, key: fn(T::Native) -> T::Native) -> ArrayRef {
    let keys: PrimitiveArray<T> = values.as_primitive::<T>().unary(key);
    Arc::new(keys)
}

/// `greatest` and `least` of values that are compared by their keys.
pub fn pick_by_keys(name: &str) -> Option<Arc<ScalarUDF>> {
    static PICKS: LazyLock<[(&str, Arc<ScalarUDF>); 2]> = LazyLock::new(|| {
        [("greatest", Ordering::Greater), ("least", Ordering::Less)].map(|(name, wanted)| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            (name, Arc::new(ScalarUDF::new_from_impl(Pick { name, wanted, signature })))
        })
    });
    PICKS.iter().find(|(known, _)| *known == name).map(|(_, pick)| Arc::clone(pick))
}

/// Of values that are equal, the first.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Pick {
    name: &'static str,
    wanted: Ordering,
    signature: Signature,
}

impl ScalarUDFImpl for Pick {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let typed = types.iter().find(|data_type| !data_type.is_null());
        Ok(typed.cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let result = args.return_field.data_type();
        let columns = args.args.iter().map(|arg| cast(&arg.to_array(args.number_rows)?, result));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let keys = columns.iter().map(key_of).collect::<Result<Vec<_>>>()?;
        let picked = (0..args.number_rows).map(|row| Ok((self.of_row(&keys, row)?, row)));
        let picked = picked.collect::<Result<Vec<_>>>()?;
        let columns: Vec<_> = columns.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(interleave(&columns, &picked)?))
    }
}

impl Pick {
    /// The column of the value; any if all are null.
    fn of_row(&self, keys: &[ArrayRef], row: usize) -> Result<usize> {
        let mut best = None;
        for (at, keys) in keys.iter().enumerate() {
            let key = ScalarValue::try_from_array(keys, row)?;
            let better = match &best {
                _ if key.is_null() => false,
                None => true,
                Some((_, best)) => key.partial_cmp(best) == Some(self.wanted),
            };
            if better {
                best = Some((at, key));
            }
        }
        Ok(best.map_or(0, |(at, _)| at))
    }
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
