//! Mean and variance of integers and decimals, from exact sums of the values and of their squares.

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, Decimal256Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal256Type, Int64Type, i256};
use datafusion::common::ScalarValue;
use datafusion::error::Result;

use super::division::{Decimal, out_of_range};
use super::moments::Statistic;
use super::states::{Finish, State};
use crate::error::SqlError;

/// The type in which values are added, with the scale of the column.
const fn wide(scale: i8) -> DataType {
    DataType::Decimal256(76, scale)
}

/// Number, sum and sum of squares of the values, as integers at the scale of the column.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums<const SQUARES: bool> {
    n: i64,
    sum: i256,
    squares: i256,
}

impl<const SQUARES: bool> Sums<SQUARES> {
    fn change(&mut self, value: i256, by: i64) -> Option<()> {
        let signed = |value: i256| if by < 0 { value.checked_neg() } else { Some(value) };
        self.n = self.n.checked_add(by)?;
        self.sum = self.sum.checked_add(signed(value)?)?;
        if SQUARES {
            self.squares = self.squares.checked_add(signed(value.checked_mul(value)?)?)?;
        }
        Some(())
    }
}

impl<const SQUARES: bool> State for Sums<SQUARES> {
    type Columns = Decimal256Array;

    fn saved_types() -> Vec<DataType> {
        vec![DataType::Int64, wide(0), wide(0)]
    }

    fn columns(values: &[ArrayRef]) -> Result<Decimal256Array> {
        let scale = match values[0].data_type() {
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
            _ => 0,
        };
        Ok(cast(&values[0], &wide(scale))?.as_primitive::<Decimal256Type>().clone())
    }

    fn add(&mut self, column: &Decimal256Array, row: usize) -> Result<()> {
        if column.is_valid(row) {
            self.change(column.value(row), 1).ok_or_else(out_of_range)?;
        }
        Ok(())
    }

    fn remove(&mut self, column: &Decimal256Array, row: usize) -> Result<()> {
        if column.is_valid(row) {
            self.change(column.value(row), -1).ok_or_else(out_of_range)?;
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        let merged = || {
            Some(Self {
                n: self.n.checked_add(other.n)?,
                sum: self.sum.checked_add(other.sum)?,
                squares: self.squares.checked_add(other.squares)?,
            })
        };
        *self = merged().ok_or_else(out_of_range)?;
        Ok(())
    }

    fn save(&self) -> Vec<ScalarValue> {
        let wide = |value| ScalarValue::Decimal256(Some(value), 76, 0);
        vec![ScalarValue::from(self.n), wide(self.sum), wide(self.squares)]
    }

    fn load(saved: &[ArrayRef], row: usize) -> Result<Self> {
        let wide = |at: usize| saved[at].as_primitive::<Decimal256Type>().value(row);
        let n = saved[0].as_primitive::<Int64Type>().value(row);
        Ok(Self { n, sum: wide(1), squares: wide(2) })
    }
}

/// Computes a statistic of values with `scale` digits after the point.
#[derive(Clone, Debug)]
pub struct Exactly {
    pub statistic: Statistic,
    pub scale: i8,
    pub result: DataType,
}

impl Exactly {
    fn compute<const SQUARES: bool>(
        &self,
        sums: &Sums<SQUARES>,
    ) -> Result<Option<Decimal>, SqlError> {
        let scale = i32::from(self.scale);
        match self.statistic {
            Statistic::Average if sums.n == 0 => Ok(None),
            Statistic::Average => {
                let sum = Decimal { value: sums.sum, scale };
                sum.divided_by(Decimal::integer(sums.n)).map(Some)
            }
            Statistic::Variance { sample } => variance(sums, scale, sample),
            Statistic::Deviation { sample } => {
                variance(sums, scale, sample)?.map(Decimal::square_root).transpose()
            }
        }
    }

    fn in_type(&self, number: Option<Decimal>) -> Result<ScalarValue, SqlError> {
        let value_at = |scale: i8| number.map(|n| n.at_scale(i32::from(scale))).transpose();
        match self.result {
            DataType::Decimal128(precision, scale) => {
                let value =
                    value_at(scale)?.map(|value| within_128(value, precision)).transpose()?;
                Ok(ScalarValue::Decimal128(value, precision, scale))
            }
            DataType::Decimal256(precision, scale) => {
                Ok(ScalarValue::Decimal256(value_at(scale)?, precision, scale))
            }
            _ => Err(SqlError::internal("statistics of exact numbers are decimals")),
        }
    }
}

/// A value that has at most `precision` digits.
pub fn within_128(value: i256, precision: u8) -> Result<i128, SqlError> {
    let limit = 10_u128.checked_pow(u32::from(precision)).unwrap_or(u128::MAX);
    value.to_i128().filter(|value| value.unsigned_abs() < limit).ok_or_else(out_of_range)
}

/// `(n * sum of squares - square of the sum) / (n * n)`, or `/ (n * (n - 1))` of a sample.
fn variance<const SQUARES: bool>(
    sums: &Sums<SQUARES>,
    scale: i32,
    sample: bool,
) -> Result<Option<Decimal>, SqlError> {
    let divisor = i128::from(sums.n) - i128::from(sample);
    if divisor <= 0 {
        return Ok(None);
    }
    let n = i256::from_i128(i128::from(sums.n));
    let distances = || {
        let squares = sums.squares.checked_mul(n)?;
        squares.checked_sub(sums.sum.checked_mul(sums.sum)?)
    };
    let distances = distances().ok_or_else(out_of_range)?;
    if distances <= i256::ZERO {
        return Ok(Some(Decimal { value: i256::ZERO, scale: 0 }));
    }
    let divisor = n.checked_mul(i256::from_i128(divisor)).ok_or_else(out_of_range)?;
    let distances = Decimal { value: distances, scale: 2 * scale };
    distances.divided_by(Decimal { value: divisor, scale: 0 }).map(Some)
}

impl<const SQUARES: bool> Finish<Sums<SQUARES>> for Exactly {
    fn finish(&self, sums: &Sums<SQUARES>) -> Result<ScalarValue> {
        Ok(self.in_type(self.compute(sums)?)?)
    }
}
