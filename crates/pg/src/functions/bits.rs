//! `&`, `|`, `#`, `~`, `<<` and `>>` of integers. The engine's `a # a` is 0 even for null, and its shifts widen
//! the shifted number.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray as _, PrimitiveArray};
use datafusion::arrow::compute::{binary, unary};
use datafusion::arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::SqlError;
use crate::types::arrow::name_of;
use tidemark_ledger::catalog::ColumnType;

/// The name of `~`, which users cannot write as that of a function.
pub const COMPLEMENT: &str = "\u{1}~";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Bits::Complement.function()]
}

/// An operator of the bits of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    And,
    Or,
    Xor,
    Complement,
    /// The left operand is shifted by an `integer`.
    Left,
    Right,
}

impl Bits {
    const ALL: [Self; 6] =
        [Self::And, Self::Or, Self::Xor, Self::Complement, Self::Left, Self::Right];

    /// The operator as a function of one or two integers.
    pub fn function(self) -> Arc<ScalarUDF> {
        static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 6]> = LazyLock::new(|| {
            Bits::ALL.map(|operator| {
                let args = if operator == Bits::Complement { 1 } else { 2 };
                let signature = Signature::any(args, Volatility::Immutable);
                Arc::new(ScalarUDF::new_from_impl(BitFunction { operator, signature }))
            })
        });
        let [and, or, xor, complement, left, right] = &*FUNCTIONS;
        Arc::clone(match self {
            Self::And => and,
            Self::Or => or,
            Self::Xor => xor,
            Self::Complement => complement,
            Self::Left => left,
            Self::Right => right,
        })
    }

    /// The types of the operands, and so of the result, which is of the first one's; `None` if there is no such
    /// operator.
    pub fn operands(self, left: &ColumnType, right: &ColumnType) -> Option<[ColumnType; 2]> {
        let width = |operand: &ColumnType| match operand {
            ColumnType::SmallInt => Some(0),
            ColumnType::Integer => Some(1),
            ColumnType::BigInt => Some(2),
            _ => None,
        };
        let (left_width, right_width) = (width(left)?, width(right)?);
        match self {
            Self::Left | Self::Right => {
                (right_width < 2).then(|| [left.clone(), ColumnType::Integer])
            }
            _ if left_width < right_width => Some([right.clone(), right.clone()]),
            _ => Some([left.clone(), left.clone()]),
        }
    }

    const fn symbol(self) -> &'static str {
        match self {
            Self::And => "&",
            Self::Or => "|",
            Self::Xor => "#",
            Self::Complement => COMPLEMENT,
            Self::Left => "<<",
            Self::Right => ">>",
        }
    }

    /// The result for one row. `bits` is the number of bits that a machine shifts.
    const fn of(self, left: i64, right: i64, bits: i64) -> i64 {
        match self {
            Self::And => left & right,
            Self::Or => left | right,
            Self::Xor => left ^ right,
            Self::Complement => !left,
            Self::Left => left << (right & (bits - 1)),
            Self::Right => left >> (right & (bits - 1)),
        }
    }

    fn of_columns<L: Integers, R: Integers>(self, args: &[ArrayRef]) -> Result<ArrayRef>
    where
        L::Native: Into<i64>,
        R::Native: Into<i64>,
    {
        // Two-byte integers are shifted as integers.
        let bits = if L::DATA_TYPE == DataType::Int64 { 64 } else { 32 };
        let result: PrimitiveArray<L> = match args {
            [only] => {
                unary(only.as_primitive::<L>(), |value| L::low_bits(self.of(value.into(), 0, bits)))
            }
            [left, right] => {
                binary(left.as_primitive::<L>(), right.as_primitive::<R>(), |left, right| {
                    L::low_bits(self.of(left.into(), right.into(), bits))
                })?
            }
            _ => return exec_err!("{} takes one or two integers", self.symbol()),
        };
        Ok(Arc::new(result))
    }
}

/// Types of integers.
trait Integers: ArrowPrimitiveType {
    /// The low bits of the number.
    fn low_bits(number: i64) -> Self::Native;
}

macro_rules! integers {
    ($($arrow:ty: $native:ty),*) => {$(
        impl Integers for $arrow {
            #[expect(clippy::cast_possible_truncation, reason = "the high bits are not wanted")]
            fn low_bits(number: i64) -> $native {
                number as $native
            }
        }
    )*};
}

integers!(Int16Type: i16, Int32Type: i32);

impl Integers for Int64Type {
    fn low_bits(number: i64) -> i64 {
        number
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BitFunction {
    operator: Bits,
    signature: Signature,
}

impl ScalarUDFImpl for BitFunction {
    fn name(&self) -> &str {
        self.operator.symbol()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first() {
            Some(first) if first.is_signed_integer() => Ok(first.clone()),
            Some(other) => {
                Err(SqlError::undefined_operator(format!("~ {}", name_of(other, None))).into())
            }
            None => exec_err!("{} takes integers", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let args = ColumnarValue::values_to_arrays(&args.args)?;
        let types: Vec<&DataType> = args.iter().map(|arg| arg.data_type()).collect();
        let result = match types.as_slice() {
            [DataType::Int16, .., DataType::Int32] => {
                self.operator.of_columns::<Int16Type, Int32Type>(&args)
            }
            [DataType::Int64, .., DataType::Int32] => {
                self.operator.of_columns::<Int64Type, Int32Type>(&args)
            }
            [DataType::Int16, ..] => self.operator.of_columns::<Int16Type, Int16Type>(&args),
            [DataType::Int32, ..] => self.operator.of_columns::<Int32Type, Int32Type>(&args),
            [DataType::Int64, ..] => self.operator.of_columns::<Int64Type, Int64Type>(&args),
            _ => exec_err!("{} takes integers", self.name()),
        }?;
        Ok(match is_constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColumnType::{BigInt, Integer, Numeric, SmallInt};

    #[test]
    fn operands_are_widened_and_shifts_are_not() {
        assert_eq!(Bits::And.operands(&SmallInt, &BigInt), Some([BigInt, BigInt]));
        assert_eq!(Bits::Xor.operands(&Integer, &SmallInt), Some([Integer, Integer]));
        assert_eq!(Bits::Left.operands(&SmallInt, &Integer), Some([SmallInt, Integer]));
        assert_eq!(Bits::Left.operands(&BigInt, &BigInt), None);
        assert_eq!(Bits::Or.operands(&Integer, &Numeric(None)), None);
    }

    #[test]
    fn shifts_take_the_number_of_bits_modulo_the_width() {
        assert_eq!(Bits::Left.of(1, 33, 32), 2);
        assert_eq!(Bits::Right.of(-8, 1, 32), -4);
        assert_eq!(Int16Type::low_bits(Bits::Left.of(1, 15, 32)), i16::MIN);
        assert_eq!(Int16Type::low_bits(Bits::Left.of(1, 16, 32)), 0);
    }
}
