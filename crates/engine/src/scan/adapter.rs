//! Reads files that were written under an older definition of their table: finds columns by id.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};

use tidemark_ledger::id::ColumnId;
use tidemark_ledger::sst::schema::{column_id, decode_intervals};

/// Creates adapters for the files of one table.
#[derive(Debug)]
pub struct ById {
    /// The values of columns in files older than these; columns not listed here read as null.
    pub backfill: HashMap<ColumnId, ScalarValue>,
}

impl PhysicalExprAdapterFactory for ById {
    fn create(
        &self,
        logical_file_schema: SchemaRef,
        physical_file_schema: SchemaRef,
    ) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let columns = logical_file_schema
            .fields()
            .iter()
            .map(|field| {
                let replacement = self.replacement(field, &physical_file_schema)?;
                Ok((field.name().clone(), replacement))
            })
            .collect::<Result<_>>()?;
        Ok(Arc::new(Adapter { columns }))
    }
}

impl ById {
    /// What a column of the table reads as in this file.
    fn replacement(&self, field: &FieldRef, file: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(id) = column_id(field) else {
            // Not a column of the table but one that the reader adds: it is found by name.
            return Ok(Arc::new(Column::new_with_schema(field.name(), file)?));
        };
        let Some(index) = file.fields().iter().position(|f| column_id(f) == Some(id)) else {
            let null = ScalarValue::try_from(field.data_type())?;
            let value = self.backfill.get(&id).cloned().unwrap_or(null);
            return Ok(Arc::new(Literal::new_with_metadata(value, Some(field.as_ref().into()))));
        };
        let stored = file.field(index);
        let column = Arc::new(Column::new(stored.name(), index));
        if stored.data_type() == field.data_type() {
            Ok(column)
        } else if holds_interval(field.data_type()) {
            Ok(Arc::new(DecodeIntervals { column, field: Arc::clone(field) }))
        } else {
            Ok(Arc::new(CastExpr::new(column, field.data_type().clone(), None)))
        }
    }
}

fn holds_interval(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(_) => true,
        DataType::List(element) => holds_interval(element.data_type()),
        _ => false,
    }
}

#[derive(Debug)]
struct Adapter {
    columns: HashMap<String, Arc<dyn PhysicalExpr>>,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        expr.transform_up(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            match self.columns.get(column.name()) {
                Some(replacement) => Ok(Transformed::yes(Arc::clone(replacement))),
                None => exec_err!("the table has no column {}", column.name()),
            }
        })
        .data()
    }
}

/// Decodes the stored bytes of an interval column.
#[derive(Debug, Eq)]
struct DecodeIntervals {
    column: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

// Not derived: the derive would move the trait object.
impl PartialEq for DecodeIntervals {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.field == other.field
    }
}

impl Hash for DecodeIntervals {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.field.hash(state);
    }
}

impl std::fmt::Display for DecodeIntervals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "decode_intervals({})", self.column)
    }
}

impl PhysicalExpr for DecodeIntervals {
    fn return_field(&self, _input_schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let stored = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(decode_intervals(&stored)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let [column] = children.as_slice() else {
            return exec_err!("decode_intervals takes one argument");
        };
        Ok(Arc::new(Self { column: Arc::clone(column), field: Arc::clone(&self.field) }))
    }

    fn fmt_sql(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}
