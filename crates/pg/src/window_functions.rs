//! Window functions with PostgreSQL's arguments: `lag`, `lead`, `ntile` and `nth_value`.
//!
//! The engine's take constants only, and have other errors and types. For constants `lag`, `lead` and `nth_value` are
//! the engine's, which need not keep the whole partition.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, Int32Array, new_null_array};
use datafusion::arrow::compute::interleave;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::functions_window::{lead_lag, nth_value};
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs,
};
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;
use datafusion::logical_expr::{
    LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, Volatility, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;

use crate::aggregates::undefined;
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// PostgreSQL's window functions.
const NAMES: [&str; 11] = [
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
];

/// Whether a name is that of a window function that is no aggregate.
pub fn is_window_function(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The functions that replace the engine's.
pub fn all() -> Vec<Arc<WindowUDF>> {
    let functions = [
        Shift::function("lag", -1, lead_lag::lag_udwf()),
        Shift::function("lead", 1, lead_lag::lead_udwf()),
        Arc::new(WindowUDF::from(Ntile { signature: user_defined() })),
        Arc::new(WindowUDF::from(NthValue {
            engine: nth_value::nth_value_udwf(),
            signature: user_defined(),
        })),
    ];
    functions.to_vec()
}

fn user_defined() -> Signature {
    Signature::user_defined(Volatility::Immutable)
}

/// The value of an argument that is a constant.
fn constant(expr: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    expr.downcast_ref::<Literal>().map(Literal::value)
}

fn is_whole_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_string() || data_type.is_null()
}

/// `lag` and `lead`.
#[derive(Debug)]
struct Shift {
    name: &'static str,
    /// Whether an offset of one means the row before or after.
    direction: i64,
    engine: Arc<WindowUDF>,
    signature: Signature,
}

impl Shift {
    fn function(name: &'static str, direction: i64, engine: Arc<WindowUDF>) -> Arc<WindowUDF> {
        Arc::new(WindowUDF::from(Self { name, direction, engine, signature: user_defined() }))
    }

    /// Whether offset and default are constants with which the engine computes.
    fn is_constant(args: &[Arc<dyn PhysicalExpr>]) -> bool {
        let offset = args
            .get(1)
            .is_none_or(|offset| constant(offset).is_some_and(|offset| !offset.is_null()));
        offset && args.get(2).is_none_or(|default| constant(default).is_some())
    }
}

impl PartialEq for Shift {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Shift {}

impl Hash for Shift {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The type of values and defaults together.
fn common_type(value: &DataType, default: &DataType) -> Option<DataType> {
    match (value, default) {
        (same, other) if same == other || other.is_null() => Some(same.clone()),
        (DataType::Null, other) => Some(other.clone()),
        // A quoted literal is a value of any type; the engine reads those of lists and bytes in another way.
        (_, text) if text.is_string() => {
            (!value.is_nested() && !value.is_binary()).then(|| value.clone())
        }
        (text, _) if text.is_string() => None,
        (integer, other) if integer.is_integer() && other.is_integer() => {
            let wider = integer.primitive_width() >= other.primitive_width();
            Some(if wider { value.clone() } else { default.clone() })
        }
        (decimal, integer) if decimal.is_decimal() && integer.is_integer() => Some(value.clone()),
        (float, number) if float.is_floating() && number.is_decimal() => Some(value.clone()),
        _ => type_union_coercion(value, default),
    }
}

impl WindowUDFImpl for Shift {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let offset = |offset: &DataType| is_whole_number(offset).then_some(DataType::Int64);
        let coerced = match types {
            [value] => Some(vec![value.clone()]),
            [value, by] => offset(by).map(|by| vec![value.clone(), by]),
            [value, by, default] => offset(by)
                .zip(common_type(value, default))
                .map(|(by, common)| vec![common.clone(), by, common]),
            _ => None,
        };
        coerced.ok_or_else(|| undefined(self.name, types))
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        let value = args.get_input_field(0).ok_or_else(|| undefined(self.name, &[]))?;
        Ok(Arc::new(value.as_ref().clone().with_name(args.name()).with_nullable(true)))
    }

    fn expressions(&self, args: ExpressionArgs<'_>) -> Vec<Arc<dyn PhysicalExpr>> {
        if Self::is_constant(args.input_exprs()) {
            self.engine.expressions(args)
        } else {
            args.input_exprs().to_vec()
        }
    }

    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs<'_>,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        if Self::is_constant(args.input_exprs()) {
            return self.engine.partition_evaluator_factory(args);
        }
        Ok(Box::new(Shifted { direction: self.direction }))
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        ReversedUDWF::NotSupported
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

/// Values of rows at distances that differ from row to row.
#[derive(Debug)]
struct Shifted {
    direction: i64,
}

impl PartitionEvaluator for Shifted {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let Some((value, rest)) = values.split_first() else {
            return Err(SqlError::internal("a value is shifted").into());
        };
        let offsets = rest.first().map(|offsets| offsets.as_primitive::<Int64Type>());
        let nulls = new_null_array(value.data_type(), 1);
        let default = rest.get(1).unwrap_or(&nulls);
        let default_of = |row: usize| (1, if rest.len() > 1 { row } else { 0 });
        let picked = (0..rows).map(|row| {
            let offset = match offsets {
                Some(offsets) if offsets.is_null(row) => return (2, 0),
                Some(offsets) => offsets.value(row),
                None => 1,
            };
            let at = offset
                .checked_mul(self.direction)
                .and_then(|offset| i64::try_from(row).ok()?.checked_add(offset))
                .and_then(|at| usize::try_from(at).ok());
            at.filter(|at| *at < rows).map_or_else(|| default_of(row), |at| (0, at))
        });
        let picked: Vec<_> = picked.collect();
        Ok(interleave(&[value.as_ref(), default.as_ref(), nulls.as_ref()], &picked)?)
    }
}

/// `ntile(buckets)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ntile {
    signature: Signature,
}

impl WindowUDFImpl for Ntile {
    fn name(&self) -> &'static str {
        "ntile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [buckets] if is_whole_number(buckets) => Ok(vec![DataType::Int32]),
            _ => Err(undefined("ntile", types)),
        }
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Int32, true)))
    }

    fn partition_evaluator(
        &self,
        _args: PartitionEvaluatorArgs<'_>,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Buckets))
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

#[derive(Debug)]
struct Buckets;

impl PartitionEvaluator for Buckets {
    /// The number of buckets is that of the first row in which it is not null.
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let Some(counts) = values.first().map(|counts| counts.as_primitive::<Int32Type>()) else {
            return Err(SqlError::internal("ntile takes a number").into());
        };
        let mut filling: Option<Filling> = None;
        let mut buckets = Vec::with_capacity(rows);
        for row in 0..rows {
            if filling.is_none() && counts.is_valid(row) {
                filling = Some(Filling::new(counts.value(row), rows)?);
            }
            buckets.push(filling.as_mut().map(Filling::next));
        }
        Ok(Arc::new(Int32Array::from(buckets)))
    }
}

/// The bucket that is being filled with rows.
struct Filling {
    bucket: i32,
    rows: usize,
    rows_max: usize,
    /// How many buckets have one more row.
    larger: usize,
}

impl Filling {
    fn new(buckets: i32, rows: usize) -> Result<Self, SqlError> {
        let Some(buckets) = usize::try_from(buckets).ok().filter(|buckets| *buckets > 0) else {
            let message = "argument of ntile must be greater than zero";
            return Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_NTILE, message));
        };
        let (each, more) = (rows / buckets, rows % buckets);
        let (rows_max, larger) = match each {
            0 => (1, 0),
            each => (each + usize::from(more > 0), more),
        };
        Ok(Self { bucket: 1, rows: 0, rows_max, larger })
    }

    /// The bucket of the next row.
    fn next(&mut self) -> i32 {
        self.rows += 1;
        if self.rows > self.rows_max {
            if self.larger > 0 && usize::try_from(self.bucket).is_ok_and(|b| b == self.larger) {
                self.larger = 0;
                self.rows_max -= 1;
            }
            self.bucket += 1;
            self.rows = 1;
        }
        self.bucket
    }
}

/// `nth_value(value, n)`.
#[derive(Debug)]
struct NthValue {
    engine: Arc<WindowUDF>,
    signature: Signature,
}

impl PartialEq for NthValue {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for NthValue {}

impl Hash for NthValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl WindowUDFImpl for NthValue {
    fn name(&self) -> &'static str {
        "nth_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value, n] if is_whole_number(n) => Ok(vec![value.clone(), DataType::Int64]),
            _ => Err(undefined("nth_value", types)),
        }
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        let value = args.get_input_field(0).ok_or_else(|| undefined("nth_value", &[]))?;
        Ok(Arc::new(value.as_ref().clone().with_name(args.name()).with_nullable(true)))
    }

    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs<'_>,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        let data_type = args.input_fields().first().map(|field| field.data_type().clone());
        match args.input_exprs().get(1).and_then(constant) {
            Some(ScalarValue::Int64(Some(1..))) => self.engine.partition_evaluator_factory(args),
            Some(ScalarValue::Int64(None)) => {
                Ok(Box::new(Nulls(data_type.unwrap_or(DataType::Null))))
            }
            Some(_) => {
                let message = "argument of nth_value must be greater than zero";
                let sqlstate = SqlState::INVALID_ARGUMENT_FOR_NTH_VALUE;
                Err(SqlError::new(sqlstate, message).into())
            }
            None => {
                Err(SqlError::unsupported("nth_value with a number that is not a constant").into())
            }
        }
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

/// Null in each row.
struct Nulls(DataType);

impl fmt::Debug for Nulls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nulls")
    }
}

impl PartitionEvaluator for Nulls {
    fn evaluate_all(&mut self, _values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        Ok(new_null_array(&self.0, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(buckets: i32, rows: usize) -> Vec<i32> {
        let mut filling = Filling::new(buckets, rows).unwrap();
        (0..rows).map(|_| filling.next()).collect()
    }

    #[test]
    fn the_first_buckets_have_the_rows_that_are_left() {
        assert_eq!(buckets(3, 7), [1, 1, 1, 2, 2, 3, 3]);
        assert_eq!(buckets(3, 6), [1, 1, 2, 2, 3, 3]);
        assert_eq!(buckets(5, 3), [1, 2, 3]);
        assert_eq!(buckets(3, 8), [1, 1, 1, 2, 2, 2, 3, 3]);
        assert!(Filling::new(0, 3).is_err());
    }
}
