//! Aggregates of numbers and intervals: sums, means, variances and regressions.

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, GroupsAccumulator};

use super::division::result_type;
use super::exact::{Exactly, Sums};
use super::function::{Definition, types_of, undefined};
use super::interval_mean::{IntervalSum, Mean};
use super::intervals::INTERVAL;
use super::moments::{Moments, Pairs, Relation, Statistic};
use super::states::{OfGroups, OfOne, State, state_fields};
use super::sums::{Decimals, Doubles, Folded, Integers, Intervals, LongDecimals, Reals};

/// The type of sums of `bigint`.
const SUM_OF_BIGINT: DataType = DataType::Decimal128(38, 0);
/// Digits that a sum may have more than its parts.
const SUM_DIGITS: u8 = 10;

/// The kinds of numbers with sums of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Integer,
    BigInt,
    Decimal,
    Real,
    Double,
    Interval,
}

fn kind(data_type: &DataType) -> Option<Kind> {
    Some(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            Kind::Integer
        }
        DataType::Int64 | DataType::UInt64 => Kind::BigInt,
        DataType::Decimal128(..) | DataType::Decimal256(..) => Kind::Decimal,
        DataType::Float32 => Kind::Real,
        DataType::Float64 => Kind::Double,
        DataType::Interval(_) | DataType::Time64(_) => Kind::Interval,
        _ => return None,
    })
}

fn only(types: &[DataType]) -> Option<&DataType> {
    match types {
        [only] => Some(only),
        _ => None,
    }
}

#[derive(Debug)]
pub struct Sum;

fn sum_type(data_type: &DataType) -> Option<DataType> {
    Some(match (kind(data_type)?, data_type) {
        (Kind::Integer, _) => DataType::Int64,
        (Kind::BigInt, _) => SUM_OF_BIGINT,
        (Kind::Decimal, DataType::Decimal128(precision, scale)) => {
            DataType::Decimal128(precision.saturating_add(SUM_DIGITS).min(38), *scale)
        }
        (Kind::Decimal, DataType::Decimal256(_, scale)) => DataType::Decimal256(76, *scale),
        (Kind::Interval, _) => INTERVAL,
        (_, other) => other.clone(),
    })
}

/// Makes the accumulator of sums in the type, which serves for one group and for many.
macro_rules! with_fold {
    ($result:expr, |$folded:ident| $body:expr) => {
        match $result {
            DataType::Int64 => {
                let $folded = Folded::<Integers>::new($result.clone());
                Some($body)
            }
            DataType::Decimal128(..) => {
                let $folded = Folded::<Decimals>::new($result.clone());
                Some($body)
            }
            DataType::Decimal256(..) => {
                let $folded = Folded::<LongDecimals>::new($result.clone());
                Some($body)
            }
            DataType::Float32 => {
                let $folded = Folded::<Reals>::new($result.clone());
                Some($body)
            }
            DataType::Float64 => {
                let $folded = Folded::<Doubles>::new($result.clone());
                Some($body)
            }
            DataType::Interval(_) => {
                let $folded = Folded::<Intervals>::new($result.clone());
                Some($body)
            }
            _ => None,
        }
    };
}

impl Definition for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn arguments(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        kind(only(types)?).map(|_| types.to_vec())
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        only(types).and_then(sum_type).ok_or_else(|| undefined("sum", types))
    }

    fn states(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(args.name, [args.return_field.data_type().clone()]))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type();
        with_fold!(result, |folded| Box::new(folded) as Box<dyn Accumulator>)
            .ok_or_else(|| undefined("sum", std::slice::from_ref(result)))
    }

    fn groups(&self, args: AccumulatorArgs<'_>) -> Result<Option<Box<dyn GroupsAccumulator>>> {
        let result = args.return_field.data_type();
        Ok(with_fold!(result, |folded| Box::new(folded) as Box<dyn GroupsAccumulator>))
    }

    fn slides(&self, types: &[DataType]) -> bool {
        !is_float(types)
    }

    fn is_ordered(&self, types: &[DataType]) -> bool {
        is_float(types)
    }
}

fn is_float(types: &[DataType]) -> bool {
    matches!(only(types).and_then(kind), Some(Kind::Real | Kind::Double))
}

/// `avg`, and the families of `variance` and `stddev`.
#[derive(Debug)]
pub struct Statistics {
    pub name: &'static str,
    pub statistic: Statistic,
}

/// Digits before and after the point of a number.
fn digits(data_type: &DataType) -> (u8, i8) {
    match data_type {
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            (precision.saturating_sub(scale.unsigned_abs()), *scale)
        }
        DataType::Int64 | DataType::UInt64 => (20, 0),
        _ => (10, 0),
    }
}

impl Statistics {
    fn exactly(&self, args: &AccumulatorArgs<'_>) -> Exactly {
        let scale = args.expr_fields.first().map_or(0, |field| digits(field.data_type()).1);
        Exactly { statistic: self.statistic, scale, result: args.return_field.data_type().clone() }
    }

    fn kind_of(&self, fields: &[FieldRef]) -> Result<Kind> {
        let types = types_of(fields);
        only(&types).and_then(kind).ok_or_else(|| undefined(self.name, &types))
    }
}

impl Definition for Statistics {
    fn name(&self) -> &'static str {
        self.name
    }

    fn arguments(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        match kind(only(types)?)? {
            Kind::Interval => (self.statistic == Statistic::Average).then(|| types.to_vec()),
            Kind::Real => Some(vec![DataType::Float64]),
            _ => Some(types.to_vec()),
        }
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        let data_type = only(types).ok_or_else(|| undefined(self.name, types))?;
        let (whole, scale) = digits(data_type);
        match kind(data_type) {
            None => Err(undefined(self.name, types)),
            Some(Kind::Interval) => Ok(INTERVAL),
            Some(Kind::Real | Kind::Double) => Ok(DataType::Float64),
            Some(Kind::Integer | Kind::BigInt | Kind::Decimal) => Ok(match self.statistic {
                Statistic::Variance { .. } => result_type(whole.saturating_mul(2), scale),
                Statistic::Average | Statistic::Deviation { .. } => result_type(whole, scale),
            }),
        }
    }

    fn states(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let types = match self.kind_of(args.input_fields)? {
            Kind::Interval => IntervalSum::saved_types(),
            Kind::Real | Kind::Double => Moments::saved_types(),
            Kind::Integer | Kind::BigInt | Kind::Decimal => Sums::<true>::saved_types(),
        };
        Ok(state_fields(args.name, types))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let exactly = self.exactly(&args);
        Ok(match self.kind_of(args.expr_fields)? {
            Kind::Interval => Box::new(OfOne::<IntervalSum, _>::new(Mean, true)),
            Kind::Real | Kind::Double => Box::new(OfOne::<Moments, _>::new(self.statistic, false)),
            _ if self.statistic == Statistic::Average => {
                Box::new(OfOne::<Sums<false>, _>::new(exactly, true))
            }
            _ => Box::new(OfOne::<Sums<true>, _>::new(exactly, true)),
        })
    }

    fn groups(&self, args: AccumulatorArgs<'_>) -> Result<Option<Box<dyn GroupsAccumulator>>> {
        let exactly = self.exactly(&args);
        Ok(Some(match self.kind_of(args.expr_fields)? {
            Kind::Interval => Box::new(OfGroups::<IntervalSum, _>::new(Mean)),
            Kind::Real | Kind::Double => Box::new(OfGroups::<Moments, _>::new(self.statistic)),
            _ if self.statistic == Statistic::Average => {
                Box::new(OfGroups::<Sums<false>, _>::new(exactly))
            }
            _ => Box::new(OfGroups::<Sums<true>, _>::new(exactly)),
        }))
    }

    fn slides(&self, types: &[DataType]) -> bool {
        !is_float(types)
    }

    fn is_ordered(&self, types: &[DataType]) -> bool {
        is_float(types)
    }
}

/// `corr`, and the families of `covar` and `regr`.
#[derive(Debug)]
pub struct Regression {
    pub name: &'static str,
    pub relation: Relation,
}

impl Definition for Regression {
    fn name(&self) -> &'static str {
        self.name
    }

    fn arguments(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let numbers =
            types.iter().all(|t| kind(t).is_some_and(|kind| kind != Kind::Interval) || t.is_null());
        (types.len() == 2 && numbers).then(|| vec![DataType::Float64; 2])
    }

    fn result(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(match self.relation {
            Relation::Count => DataType::Int64,
            _ => DataType::Float64,
        })
    }

    fn states(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(args.name, Pairs::saved_types()))
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OfOne::<Pairs, _>::new(self.relation, false)))
    }

    fn groups(&self, _args: AccumulatorArgs<'_>) -> Result<Option<Box<dyn GroupsAccumulator>>> {
        Ok(Some(Box::new(OfGroups::<Pairs, _>::new(self.relation))))
    }

    fn is_ordered(&self, _types: &[DataType]) -> bool {
        true
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.relation {
            Relation::Count => Ok(ScalarValue::Int64(Some(0))),
            _ => ScalarValue::try_from(data_type),
        }
    }
}
