//! The shape of an aggregate function, and how the engine sees it.
//!
//! A [`Definition`] says what a function computes of rows in any order. [`Aggregate`] adds `DISTINCT`, `ORDER BY`
//! and frames that rows leave.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, StatisticsArgs,
    Volatility,
};
use datafusion::physical_expr::PhysicalExpr;

use super::rows::{Collected, Replayed};
use super::states::state_fields;
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::types::arrow::name_of;

/// An aggregate function without `DISTINCT` and `ORDER BY`.
pub trait Definition: fmt::Debug + Send + Sync + 'static {
    fn name(&self) -> &str;

    /// The types to which arguments of these types are cast; `None` if there is no such function.
    fn arguments(&self, types: &[DataType]) -> Option<Vec<DataType>>;

    fn result(&self, types: &[DataType]) -> Result<DataType>;

    fn result_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        let types: Vec<_> = arguments.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.result(&types)?, true)))
    }

    fn states(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>>;

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>>;

    fn groups(&self, _args: AccumulatorArgs<'_>) -> Result<Option<Box<dyn GroupsAccumulator>>> {
        Ok(None)
    }

    /// Whether `accumulator` takes rows out without a trace. If not, frames that rows leave are computed anew.
    fn slides(&self, _types: &[DataType]) -> bool {
        false
    }

    /// Whether a row that comes twice counts twice.
    fn counts_duplicates(&self) -> bool {
        true
    }

    /// Whether the result depends on the order of rows.
    fn is_ordered(&self, _types: &[DataType]) -> bool {
        false
    }

    /// Whether it is called with `WITHIN GROUP`.
    fn is_ordered_set(&self) -> bool {
        false
    }

    fn value_from_stats(&self, _statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        None
    }

    fn is_descending(&self) -> Option<bool> {
        None
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        ScalarValue::try_from(data_type)
    }
}

/// Types of the arguments of a call.
pub fn types_of(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

#[derive(Clone, Debug)]
struct Aggregate {
    definition: Arc<dyn Definition>,
    signature: Signature,
}

/// The function as the engine calls it.
pub fn aggregate(definition: impl Definition) -> Arc<AggregateUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::from(Aggregate { definition: Arc::new(definition), signature }))
}

impl PartialEq for Aggregate {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name() == other.definition.name()
    }
}

impl Eq for Aggregate {}

impl Hash for Aggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name().hash(state);
    }
}

/// What an accumulator is made from, without references.
struct Call {
    return_field: FieldRef,
    schema: Schema,
    name: String,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl Call {
    fn of(args: &AccumulatorArgs<'_>) -> Self {
        Self {
            return_field: Arc::clone(&args.return_field),
            schema: args.schema.clone(),
            name: args.name.to_owned(),
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
        }
    }

    fn args(&self) -> AccumulatorArgs<'_> {
        AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: &self.name,
            is_distinct: false,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        }
    }
}

impl Aggregate {
    /// Whether the rows must be kept until the group is complete.
    fn collects(&self, arguments: &[FieldRef], is_distinct: bool, is_sorted: bool) -> bool {
        let sorted = is_sorted && self.definition.is_ordered(&types_of(arguments));
        sorted || (is_distinct && self.definition.counts_duplicates())
    }

    fn check_order(&self, is_sorted: bool) -> Result<()> {
        if self.definition.is_ordered_set() && !is_sorted {
            let name = self.name();
            let message = format!("WITHIN GROUP is required for ordered-set aggregate {name}");
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).into());
        }
        Ok(())
    }
}

/// There is no function of this name with such arguments.
pub fn undefined(name: &str, types: &[DataType]) -> DataFusionError {
    let types: Vec<_> = types.iter().map(|data_type| name_of(data_type, None)).collect();
    DataFusionError::Plan(format!("function {name}({}) does not exist", types.join(", ")))
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.definition.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.definition.arguments(types).ok_or_else(|| undefined(self.name(), types))
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.definition.result(types)
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.definition.result_field(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (is_distinct, order_bys) = (args.is_distinct, args.order_bys);
        self.check_order(!order_bys.is_empty())?;
        let call = Call::of(&args);
        let inner = self.definition.accumulator(call.args())?;
        if !self.collects(args.expr_fields, is_distinct, !order_bys.is_empty()) {
            return Ok(inner);
        }
        let order = order_bys.iter().map(|sort| -> Result<(DataType, SortOptions)> {
            Ok((sort.expr.data_type(args.schema)?, sort.options))
        });
        let order = order.collect::<Result<Vec<_>>>()?;
        let arguments = types_of(args.expr_fields);
        Ok(Box::new(Collected::new(inner, arguments, order, is_distinct)))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let is_sorted = !args.ordering_fields.is_empty();
        if !self.collects(args.input_fields, args.is_distinct, is_sorted) {
            return self.definition.states(StateFieldsArgs { is_distinct: false, ..args });
        }
        let columns = args.input_fields.iter().chain(args.ordering_fields);
        let lists = columns.map(|field| {
            DataType::List(Arc::new(Field::new_list_field(field.data_type().clone(), true)))
        });
        Ok(state_fields(args.name, lists))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        let is_sorted = !args.order_bys.is_empty();
        !self.collects(args.expr_fields, args.is_distinct, is_sorted)
            && self
                .definition
                .groups(Call::of(&args).args())
                .is_ok_and(|accumulator| accumulator.is_some())
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let accumulator = self.definition.groups(Call::of(&args).args())?;
        accumulator.ok_or_else(|| SqlError::internal("there is no accumulator of groups").into())
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        if self.definition.slides(&types_of(args.expr_fields)) {
            return self.definition.accumulator(args);
        }
        let call = Call::of(&args);
        let definition = Arc::clone(&self.definition);
        Ok(Box::new(Replayed::new(move || definition.accumulator(call.args()))))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // The accumulator sorts the rows itself, whatever their order.
        AggregateOrderSensitivity::Beneficial
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        _is_sorted: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }

    fn is_descending(&self) -> Option<bool> {
        self.definition.is_descending()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.definition.value_from_stats(statistics)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.definition.default_value(data_type)
    }

    fn supports_within_group_clause(&self) -> bool {
        self.definition.is_ordered_set()
    }
}
