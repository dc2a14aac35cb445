//! A wrapper around a function that checks the size of its result before the call.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array as _, ArrayRef};
use datafusion::arrow::compute::concat;
use datafusion::arrow::compute::kernels::concat_elements::concat_elements_dyn;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TransformedResult as _, TreeNode as _};
use datafusion::error::Result;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, StructFieldMapping, Volatility,
};

use super::exact;
use super::folding::{FOLDED_BYTES_MAX, is_folding};
use super::made::{allowed, check_value, too_much};
use super::sizes::{Growth, Rows, growth};
use crate::error::SqlError;
use crate::memory::StatementMemory;

/// Wraps the function. `None` if its results do not grow, or it is wrapped already.
pub fn around(function: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    if function.inner().is::<Counted>() {
        return None;
    }
    let growth = growth(function.name())?;
    let inner = Arc::clone(function);
    Some(Arc::new(ScalarUDF::from(Counted { inner, growth })))
}

/// `text || text`, wrapped.
pub fn joined() -> Arc<ScalarUDF> {
    static JOINED: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::any(2, Volatility::Immutable);
        let inner = Arc::new(ScalarUDF::from(Join { signature }));
        Arc::new(ScalarUDF::from(Counted { inner, growth: Growth::Sum }))
    });
    Arc::clone(&JOINED)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Join {
    signature: Signature,
}

impl ScalarUDFImpl for Join {
    fn name(&self) -> &str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Utf8View))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)] = args.args.as_slice()
            && let (Some(Some(left)), Some(Some(right))) = (left.try_as_str(), right.try_as_str())
        {
            // Copied once: it may be long.
            let joined = Some([left, right].concat());
            return Ok(ColumnarValue::Scalar(match args.return_field.data_type() {
                DataType::Utf8 => ScalarValue::Utf8(joined),
                DataType::LargeUtf8 => ScalarValue::LargeUtf8(joined),
                _ => ScalarValue::Utf8View(joined),
            }));
        }
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let sides = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let [left, right] = sides.as_slice() else {
            return Err(SqlError::internal("|| takes two arguments").into());
        };
        let joined = concat_elements_dyn(left, right)?;
        scalar_or_array(joined, constant)
    }
}

fn scalar_or_array(array: ArrayRef, constant: bool) -> Result<ColumnarValue> {
    if constant {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
    }
    Ok(ColumnarValue::Array(array))
}

/// Calls `inner` on as many rows at a time as fit the allowed result size.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Counted {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl Counted {
    fn function(&self) -> &dyn ScalarUDFImpl {
        self.inner.inner().as_ref()
    }

    /// Returns an upper bound in bytes of the result of a call with these arguments.
    pub fn bound(&self, args: &[ColumnarValue], rows: Rows) -> usize {
        self.growth.bound(args, rows)
    }

    fn invoke(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let memory = StatementMemory::of(&args.config_options).cloned();
        if let Some(memory) = &memory {
            memory.check()?;
        }
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let count = if constant { 1 } else { args.number_rows };
        let rows = Rows { first: 0, count };
        if is_folding()
            && !self.growth.makes_arrays()
            && self.growth.bound(&args.args, rows) > FOLDED_BYTES_MAX
        {
            return Err(SqlError::internal("a long text is no part of a logical plan").into());
        }
        let allowed = allowed(&args.config_options, count);
        if self.growth.bound(&args.args, rows) <= allowed {
            return self.function().invoke_with_args(args);
        }
        let mut parts = Parts { memory, allowed, made: vec![], bytes: 0 };
        self.invoke_parts(&args, rows, &mut parts)?;
        match parts.made.as_slice() {
            [one] => scalar_or_array(Arc::clone(one), constant),
            many => {
                let many: Vec<_> = many.iter().map(AsRef::as_ref).collect();
                Ok(ColumnarValue::Array(concat(&many)?))
            }
        }
    }

    /// Halves the rows until the bound of each part is allowed or a single row is left.
    fn invoke_parts(&self, args: &ScalarFunctionArgs, rows: Rows, parts: &mut Parts) -> Result<()> {
        if rows.count > 1 && self.growth.bound(&args.args, rows) > parts.allowed {
            let half = rows.count / 2;
            self.invoke_parts(args, Rows { count: half, ..rows }, parts)?;
            let rest = Rows { first: rows.first + half, count: rows.count - half };
            return self.invoke_parts(args, rest, parts);
        }
        let args = part(args, rows);
        if rows.count == 1 {
            self.check_value(&args, parts)?;
        }
        let made = self.function().invoke_with_args(args)?.into_array(rows.count)?;
        parts.bytes = parts.bytes.saturating_add(made.get_array_memory_size());
        parts.made.push(made);
        if parts.made.len() > 1 && parts.bytes > parts.allowed {
            return Err(too_much(self.inner.name(), parts.bytes, parts.allowed).into());
        }
        Ok(())
    }

    fn check_value(&self, args: &ScalarFunctionArgs, parts: &Parts) -> Result<()> {
        let bound = self.growth.bound(&args.args, Rows { first: 0, count: 1 });
        let allowed = allowed(&args.config_options, 1);
        if bound <= allowed {
            return Ok(());
        }
        let bytes = exact::bytes(self.growth, args).unwrap_or(bound);
        let name = self.inner.name();
        check_value(name, self.growth.makes_arrays(), bytes, allowed)?;
        // Fails if there is no room for the value now.
        parts.memory.as_ref().map(|memory| memory.hold(name, bytes)).transpose()?;
        Ok(())
    }
}

/// The results so far.
struct Parts {
    memory: Option<Arc<StatementMemory>>,
    allowed: usize,
    made: Vec<ArrayRef>,
    bytes: usize,
}

/// Returns the arguments of some of the rows.
fn part(args: &ScalarFunctionArgs, rows: Rows) -> ScalarFunctionArgs {
    let sliced = args.args.iter().map(|arg| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(rows.first, rows.count)),
        scalar @ ColumnarValue::Scalar(_) => scalar.clone(),
    });
    ScalarFunctionArgs {
        args: sliced.collect(),
        arg_fields: args.arg_fields.clone(),
        number_rows: rows.count,
        return_field: Arc::clone(&args.return_field),
        config_options: Arc::clone(&args.config_options),
    }
}

impl ScalarUDFImpl for Counted {
    fn name(&self) -> &str {
        self.function().name()
    }

    fn aliases(&self) -> &[String] {
        self.function().aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.function().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.function().signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function().return_type(types)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let updated = self.function().with_updated_config(config)?;
        Some(ScalarUDF::from(Self { inner: Arc::new(updated), growth: self.growth }))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.function().return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.function().is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.invoke(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.function().simplify(args, info)? {
            ExprSimplifyResult::Simplified(expr) => {
                let counted = expr.transform_up(|expr| Ok(super::count(expr, &|_| false, None)));
                ExprSimplifyResult::Simplified(counted.data()?)
            }
            original => original,
        })
    }

    fn preimage(
        &self,
        args: &[Expr],
        literal: &Expr,
        info: &SimplifyContext,
    ) -> Result<PreimageResult> {
        self.function().preimage(args, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.function().short_circuits()
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.function().conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.function().evaluate_bounds(input)
    }

    fn propagate_constraints(
        &self,
        interval: &Interval,
        inputs: &[&Interval],
    ) -> Result<Option<Vec<Interval>>> {
        self.function().propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.function().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.function().preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.function().strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function().coerce_types(types)
    }

    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.function().struct_field_mapping(literals)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function().documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.function().placement(args)
    }
}
