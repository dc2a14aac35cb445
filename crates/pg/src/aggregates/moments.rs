//! Mean, variance and regression of floats: sums of the values and of the squares of their distances from the
//! mean, updated row by row as PostgreSQL does, so that results agree to the last digit.

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;

use super::states::{Finish, State};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

pub fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
}

fn as_floats(array: &ArrayRef) -> Result<Float64Array> {
    Ok(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn saved<const N: usize>(values: [f64; N]) -> Vec<ScalarValue> {
    values.into_iter().map(ScalarValue::from).collect()
}

fn loaded<const N: usize>(saved: &[ArrayRef], row: usize) -> [f64; N] {
    std::array::from_fn(|at| saved[at].as_primitive::<Float64Type>().value(row))
}

/// The value of a result; every NaN is the same.
fn result(value: Option<f64>) -> ScalarValue {
    ScalarValue::Float64(value.map(|value| if value.is_nan() { f64::NAN } else { value }))
}

/// A sum of finite numbers that is infinite is an error.
fn checked(sum: f64, parts: [f64; 2]) -> Result<f64> {
    if sum.is_infinite() && parts.iter().all(|part| !part.is_infinite()) {
        return Err(overflow().into());
    }
    Ok(sum)
}

/// Number, sum and squared distances from the mean of one column.
#[derive(Clone, Debug, Default)]
pub struct Moments {
    n: f64,
    sum: f64,
    squares: f64,
}

impl State for Moments {
    type Columns = Float64Array;

    fn saved_types() -> Vec<DataType> {
        vec![DataType::Float64; 3]
    }

    fn columns(values: &[ArrayRef]) -> Result<Float64Array> {
        as_floats(&values[0])
    }

    fn add(&mut self, column: &Float64Array, row: usize) -> Result<()> {
        if column.is_null(row) {
            return Ok(());
        }
        let value = column.value(row);
        let before = self.clone();
        self.n += 1.0;
        self.sum += value;
        if before.n > 0.0 {
            let distance = value * self.n - self.sum;
            self.squares += distance * distance / (self.n * before.n);
            if self.sum.is_infinite() || self.squares.is_infinite() {
                if !before.sum.is_infinite() && !value.is_infinite() {
                    return Err(overflow().into());
                }
                self.squares = f64::NAN;
            }
        } else if !value.is_finite() {
            self.squares = f64::NAN;
        }
        Ok(())
    }

    fn remove(&mut self, _column: &Float64Array, _row: usize) -> Result<()> {
        Err(SqlError::internal("sums of floats keep traces of removed values").into())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        if self.n == 0.0 {
            *self = other.clone();
        } else if other.n != 0.0 {
            let n = self.n + other.n;
            let distance = self.sum / self.n - other.sum / other.n;
            let squares = self.squares + other.squares + self.n * other.n * distance * distance / n;
            self.squares = checked(squares, [self.squares, other.squares])?;
            self.sum = checked(self.sum + other.sum, [self.sum, other.sum])?;
            self.n = n;
        }
        Ok(())
    }

    fn save(&self) -> Vec<ScalarValue> {
        saved([self.n, self.sum, self.squares])
    }

    fn load(saved: &[ArrayRef], row: usize) -> Result<Self> {
        let [n, sum, squares] = loaded(saved, row);
        Ok(Self { n, sum, squares })
    }
}

/// A statistic of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistic {
    Average,
    /// Of all values, or of a sample of them.
    Variance {
        sample: bool,
    },
    Deviation {
        sample: bool,
    },
}

impl Finish<Moments> for Statistic {
    fn finish(&self, state: &Moments) -> Result<ScalarValue> {
        let variance = |sample: bool| {
            let divisor = if sample { state.n - 1.0 } else { state.n };
            (divisor > 0.0).then(|| state.squares / divisor)
        };
        Ok(result(match *self {
            Self::Average => (state.n > 0.0).then(|| state.sum / state.n),
            Self::Variance { sample } => variance(sample),
            Self::Deviation { sample } => variance(sample).map(f64::sqrt),
        }))
    }
}

/// Numbers of a line through pairs of values.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    n: f64,
    x: f64,
    xx: f64,
    y: f64,
    yy: f64,
    xy: f64,
}

impl Pairs {
    fn check(&mut self, before: &Self, x: f64, y: f64) -> Result<()> {
        let infinite = |numbers: &[f64]| numbers.iter().any(|number| number.is_infinite());
        let x_finite = !infinite(&[before.x, x]);
        let y_finite = !infinite(&[before.y, y]);
        if (infinite(&[self.x, self.xx]) && x_finite)
            || (infinite(&[self.y, self.yy]) && y_finite)
            || (infinite(&[self.xy]) && x_finite && y_finite)
        {
            return Err(overflow().into());
        }
        for square in [&mut self.xx, &mut self.yy, &mut self.xy] {
            if square.is_infinite() {
                *square = f64::NAN;
            }
        }
        Ok(())
    }
}

impl State for Pairs {
    /// `y` and `x`.
    type Columns = (Float64Array, Float64Array);

    fn saved_types() -> Vec<DataType> {
        vec![DataType::Float64; 6]
    }

    fn columns(values: &[ArrayRef]) -> Result<Self::Columns> {
        Ok((as_floats(&values[0])?, as_floats(&values[1])?))
    }

    fn add(&mut self, (ys, xs): &Self::Columns, row: usize) -> Result<()> {
        if ys.is_null(row) || xs.is_null(row) {
            return Ok(());
        }
        let (y, x) = (ys.value(row), xs.value(row));
        let before = self.clone();
        self.n += 1.0;
        self.x += x;
        self.y += y;
        if before.n > 0.0 {
            let dx = x * self.n - self.x;
            let dy = y * self.n - self.y;
            let scale = 1.0 / (self.n * before.n);
            self.xx += dx * dx * scale;
            self.yy += dy * dy * scale;
            self.xy += dx * dy * scale;
            return self.check(&before, x, y);
        }
        if !x.is_finite() {
            self.xx = f64::NAN;
            self.xy = f64::NAN;
        }
        if !y.is_finite() {
            self.yy = f64::NAN;
            self.xy = f64::NAN;
        }
        Ok(())
    }

    fn remove(&mut self, _columns: &Self::Columns, _row: usize) -> Result<()> {
        Err(SqlError::internal("sums of floats keep traces of removed values").into())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        if self.n == 0.0 {
            *self = other.clone();
            return Ok(());
        }
        if other.n == 0.0 {
            return Ok(());
        }
        let n = self.n + other.n;
        let dx = self.x / self.n - other.x / other.n;
        let dy = self.y / self.n - other.y / other.n;
        let weight = self.n * other.n;
        let merged = Self {
            n,
            x: checked(self.x + other.x, [self.x, other.x])?,
            xx: checked(self.xx + other.xx + weight * dx * dx / n, [self.xx, other.xx])?,
            y: checked(self.y + other.y, [self.y, other.y])?,
            yy: checked(self.yy + other.yy + weight * dy * dy / n, [self.yy, other.yy])?,
            xy: checked(self.xy + other.xy + weight * dx * dy / n, [self.xy, other.xy])?,
        };
        *self = merged;
        Ok(())
    }

    fn save(&self) -> Vec<ScalarValue> {
        saved([self.n, self.x, self.xx, self.y, self.yy, self.xy])
    }

    fn load(saved: &[ArrayRef], row: usize) -> Result<Self> {
        let [n, x, xx, y, yy, xy] = loaded(saved, row);
        Ok(Self { n, x, xx, y, yy, xy })
    }
}

/// A statistic of two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    Count,
    AverageX,
    AverageY,
    SquaresX,
    SquaresY,
    Products,
    Covariance { sample: bool },
    Correlation,
    Slope,
    Intercept,
    Determination,
}

impl Relation {
    fn of(self, s: &Pairs) -> Option<f64> {
        if s.n < 1.0 {
            return None;
        }
        let sloped = s.xx != 0.0;
        match self {
            Self::Count => Some(s.n),
            Self::AverageX => Some(s.x / s.n),
            Self::AverageY => Some(s.y / s.n),
            Self::SquaresX => Some(s.xx),
            Self::SquaresY => Some(s.yy),
            Self::Products => Some(s.xy),
            Self::Covariance { sample: false } => Some(s.xy / s.n),
            Self::Covariance { sample: true } => (s.n > 1.0).then(|| s.xy / (s.n - 1.0)),
            Self::Correlation => (sloped && s.yy != 0.0).then(|| s.xy / (s.xx * s.yy).sqrt()),
            Self::Slope => sloped.then(|| s.xy / s.xx),
            Self::Intercept => sloped.then(|| (s.y - s.x * s.xy / s.xx) / s.n),
            Self::Determination if !sloped => None,
            Self::Determination if s.yy == 0.0 => Some(1.0),
            Self::Determination => Some((s.xy * s.xy) / (s.xx * s.yy)),
        }
    }
}

impl Finish<Pairs> for Relation {
    fn finish(&self, state: &Pairs) -> Result<ScalarValue> {
        if *self == Self::Count {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a count of rows is a whole number"
            )]
            return Ok(ScalarValue::Int64(Some(state.n as i64)));
        }
        Ok(result(self.of(state)))
    }
}
