//! Converts intervals to numbers that compare as PostgreSQL compares intervals: a month is 30 days, a day 24
//! hours. DataFusion would compare months, then days, then the rest.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, AsArray as _, Decimal128Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit};
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
                let order = nanos(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&order, 0)?))
            }
            [ColumnarValue::Array(intervals)] => Ok(ColumnarValue::Array(nanos(intervals)?)),
            _ => exec_err!("it takes one argument"),
        }
    }
}

fn nanos(intervals: &ArrayRef) -> Result<ArrayRef> {
    let intervals = cast(intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let nanos = intervals.as_primitive::<IntervalMonthDayNanoType>().iter().map(|interval| {
        let interval = interval?;
        let days = i128::from(interval.months) * MONTH_DAYS + i128::from(interval.days);
        Some(days * DAY_NANOS + i128::from(interval.nanoseconds))
    });
    let nanos = nanos.collect::<Decimal128Array>().with_precision_and_scale(38, 0)?;
    Ok(Arc::new(nanos))
}
