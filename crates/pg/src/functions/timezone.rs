//! `timezone(zone, time)`, the function behind `time AT TIME ZONE zone`.

use std::hash::Hash;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::rowwise::no_such_function;
use crate::error::SqlError;
use crate::time::Zone;
use tidemark_ledger::catalog::ColumnType;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Timezone {
    signature: Signature,
}

pub(super) fn function() -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(Timezone { signature }))
}

impl ScalarUDFImpl for Timezone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> EngineResult<DataType> {
        match types {
            [_, DataType::Timestamp(_, Some(_))] => Ok(ColumnType::Timestamp.arrow_type()),
            [_, DataType::Timestamp(_, None)] => Ok(ColumnType::Timestamptz.arrow_type()),
            _ => Err(no_such_function(self.name(), types).into()),
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> EngineResult<Vec<DataType>> {
        let [zone, time] = types else { return Err(no_such_function(self.name(), types).into()) };
        if !zone.is_string() && *zone != DataType::Null {
            return Err(no_such_function(self.name(), types).into());
        }
        let time = match time {
            DataType::Timestamp(_, None) => ColumnType::Timestamp.arrow_type(),
            // A string or a date is read as a timestamp with time zone, which PostgreSQL prefers.
            DataType::Timestamp(_, Some(_)) | DataType::Date32 | DataType::Null => {
                ColumnType::Timestamptz.arrow_type()
            }
            time if time.is_string() => ColumnType::Timestamptz.arrow_type(),
            _ => return Err(no_such_function(self.name(), types).into()),
        };
        Ok(vec![DataType::Utf8View, time])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [zones, times] = arrays.as_slice() else {
            return Err(SqlError::internal("timezone takes two arguments").into());
        };
        let has_zone = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
        let shifted = shift(zones, times, rows, has_zone)?;
        let shifted: ArrayRef =
            if has_zone { Arc::new(shifted) } else { Arc::new(shifted.with_timezone("UTC")) };
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&shifted, 0)?));
        }
        Ok(ColumnarValue::Array(shifted))
    }
}

/// Converts instants to local times of a zone, or local times to instants.
fn shift(
    zones: &ArrayRef,
    times: &ArrayRef,
    rows: usize,
    to_local: bool,
) -> EngineResult<TimestampMicrosecondArray> {
    let zones = cast(zones, &DataType::Utf8View)?;
    let zones = zones.as_string_view();
    let zone = times.data_type();
    let micros = DataType::Timestamp(
        TimeUnit::Microsecond,
        if let DataType::Timestamp(_, zone) = zone { zone.clone() } else { None },
    );
    let times = cast(times, &micros)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut last: Option<(&str, Zone)> = None;
    let mut shifted = Vec::with_capacity(rows);
    for row in 0..rows {
        if zones.is_null(row) || times.is_null(row) {
            shifted.push(None);
            continue;
        }
        let name = zones.value(row);
        let zone = match last.take() {
            Some((known, zone)) if known == name => zone,
            _ => Zone::find_operand(name)?,
        };
        let micros = times.value(row);
        shifted.push(Some(if to_local { zone.local(micros)? } else { zone.instant(micros)? }));
        last = Some((name, zone));
    }
    Ok(TimestampMicrosecondArray::from(shifted))
}
