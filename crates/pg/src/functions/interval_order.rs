//! Converts intervals to numbers that compare as PostgreSQL compares intervals: a month is 30 days, a day 24
//! hours. DataFusion would compare months, then days, then the rest.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, AsArray as _, Decimal128Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The function; users cannot write its name.
pub static INTERVAL_ORDER: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(IntervalOrder { signature }))
});

const DAY_NANOS: i128 = 86_400_000_000_000;
const MONTH_DAYS: i128 = 30;

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalOrder {
    signature: Signature,
}

impl ScalarUDFImpl for IntervalOrder {
    fn name(&self) -> &'static str {
        "\u{1}interval_order"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(38, 0))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Scalar(value)] => {
                let order = interval_keys(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&order, 0)?))
            }
            [ColumnarValue::Array(intervals)] => {
                Ok(ColumnarValue::Array(interval_keys(intervals)?))
            }
            _ => exec_err!("it takes one argument"),
        }
    }
}

/// The length in nanoseconds.
pub fn interval_nanos(interval: IntervalMonthDayNano) -> i128 {
    let days = i128::from(interval.months) * MONTH_DAYS + i128::from(interval.days);
    days * DAY_NANOS + i128::from(interval.nanoseconds)
}

/// The lengths of intervals.
pub fn interval_keys(intervals: &ArrayRef) -> Result<ArrayRef> {
    let intervals = cast(intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>().iter();
    let lengths = intervals.map(|interval| interval.map(interval_nanos));
    let lengths = lengths.collect::<Decimal128Array>().with_precision_and_scale(38, 0)?;
    Ok(Arc::new(lengths))
}
