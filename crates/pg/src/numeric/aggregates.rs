//! Sums and moments of numeric values, with PostgreSQL's result scales.

use std::collections::BTreeMap;

use super::arithmetic::quotient_scale;
use super::decimal::Decimal;
use super::{Numeric, Result, fixed};

/// The state of `sum`, `avg`, `variance` and their kin. Values can be taken out again, as sliding frames do.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Sums of the finite values, and of their squares if they are wanted. Both are exact.
    sum: Decimal,
    squares: Option<Decimal>,
    /// How many finite values have each scale: the result shows the greatest.
    scales: BTreeMap<u32, u64>,
    finite: u64,
    infinite: u64,
    negative_infinite: u64,
    nan: u64,
}

/// Whether the values are all there are, or a sample of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Population {
    Whole,
    Sample,
}

impl Moments {
    /// For `sum` and `avg`.
    pub fn of_sum() -> Self {
        Self {
            sum: Decimal::zero(0),
            squares: None,
            scales: BTreeMap::new(),
            finite: 0,
            infinite: 0,
            negative_infinite: 0,
            nan: 0,
        }
    }

    /// For variances and standard deviations too.
    pub fn of_variance() -> Self {
        Self { squares: Some(Decimal::zero(0)), ..Self::of_sum() }
    }

    pub fn add(&mut self, value: &Numeric) {
        match value {
            Numeric::NaN => self.nan += 1,
            Numeric::Infinity => self.infinite += 1,
            Numeric::NegativeInfinity => self.negative_infinite += 1,
            Numeric::Finite(value) => {
                self.finite += 1;
                *self.scales.entry(value.scale).or_default() += 1;
                self.sum = self.sum.plus(value);
                self.squares = self.squares.take().map(|squares| squares.plus(&value.times(value)));
            }
        }
    }

    /// Takes out a value that was added.
    pub fn remove(&mut self, value: &Numeric) {
        match value {
            Numeric::NaN => self.nan -= 1,
            Numeric::Infinity => self.infinite -= 1,
            Numeric::NegativeInfinity => self.negative_infinite -= 1,
            Numeric::Finite(value) => {
                self.finite -= 1;
                if let Some(count) = self.scales.get_mut(&value.scale) {
                    *count -= 1;
                }
                self.scales.retain(|_, count| *count > 0);
                self.sum = self.sum.minus(value);
                self.squares =
                    self.squares.take().map(|squares| squares.minus(&value.times(value)));
            }
        }
    }

    /// Adds all values of another state of the same kind.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.plus(&other.sum);
        self.squares = match (self.squares.take(), &other.squares) {
            (Some(own), Some(other)) => Some(own.plus(other)),
            _ => None,
        };
        for (scale, count) in &other.scales {
            *self.scales.entry(*scale).or_default() += count;
        }
        self.finite += other.finite;
        self.infinite += other.infinite;
        self.negative_infinite += other.negative_infinite;
        self.nan += other.nan;
    }

    fn count(&self) -> u64 {
        self.finite + self.infinite + self.negative_infinite + self.nan
    }

    /// The sum if a value is not finite.
    fn special(&self) -> Option<Numeric> {
        match (self.nan, self.infinite, self.negative_infinite) {
            (0, 0, 0) => None,
            (0, 1.., 0) => Some(Numeric::Infinity),
            (0, 0, 1..) => Some(Numeric::NegativeInfinity),
            _ => Some(Numeric::NaN),
        }
    }

    /// Digits after the point of the sum.
    fn scale(&self) -> u32 {
        self.scales.keys().next_back().copied().unwrap_or(0)
    }

    /// The sum; `None` without values.
    pub fn sum(&self) -> Result<Option<Numeric>> {
        if self.count() == 0 {
            return Ok(None);
        }
        if let Some(special) = self.special() {
            return Ok(Some(special));
        }
        Numeric::from_decimal(self.sum.rounded(self.scale().into())).map(Some)
    }

    /// The mean; `None` without values.
    pub fn average(&self) -> Result<Option<Numeric>> {
        let Some(sum) = self.sum()? else { return Ok(None) };
        sum.div(&Numeric::Finite(Decimal::new(self.count(), 0))).map(Some)
    }

    /// The variance; `None` with too few values.
    pub fn variance(&self, population: Population) -> Result<Option<Numeric>> {
        self.spread(population, |variance, _| variance)
    }

    /// The standard deviation; `None` with too few values.
    pub fn deviation(&self, population: Population) -> Result<Option<Numeric>> {
        self.spread(population, |variance, scale| fixed::sqrt(&variance, scale))
    }

    fn spread(
        &self,
        population: Population,
        finish: impl FnOnce(Decimal, u32) -> Decimal,
    ) -> Result<Option<Numeric>> {
        let least = if population == Population::Sample { 2 } else { 1 };
        if self.count() < least {
            return Ok(None);
        }
        let Some(squares) = self.squares.as_ref().filter(|_| self.special().is_none()) else {
            return Ok(Some(Numeric::NaN));
        };
        let count = Decimal::new(self.finite, 0);
        let sum = self.sum.rounded(self.scale().into());
        let squares = squares.rounded(i64::from(self.scale()) * 2);
        let numerator = count.times(&squares).minus(&sum.times(&sum));
        if numerator.signum() <= 0 {
            return Ok(Some(Numeric::zero()));
        }
        let others = if population == Population::Sample { self.finite - 1 } else { self.finite };
        let denominator = count.times(&Decimal::new(others, 0));
        let scale = quotient_scale(&numerator, &denominator);
        Numeric::from_decimal(finish(numerator.divided(&denominator, scale), scale)).map(Some)
    }
}
