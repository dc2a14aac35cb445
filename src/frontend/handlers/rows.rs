//! From what a query yields to what a table takes: types assigned, lengths and nulls checked.

use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::DataFusionError;

use crate::catalog::{Column, ColumnType, Table};
use crate::frontend::error::SqlError;
use crate::frontend::pgwire::sqlstate::SqlState;
use crate::frontend::text_input;
use crate::hummock::sst::schema::table_schema;

/// Turns batches with the table's columns, in order but of any type, into rows of the table.
#[derive(Clone, Debug)]
pub struct Conform {
    table: Arc<Table>,
    name: String,
    schema: SchemaRef,
}

impl Conform {
    pub fn new(table: Arc<Table>, name: &str) -> Self {
        let schema = table_schema(&table);
        Self { table, name: name.to_owned(), schema }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn apply(&self, columns: &[ArrayRef]) -> Result<RecordBatch, SqlError> {
        let columns = columns.iter().zip(&self.table.columns);
        let assigned = columns.map(|(values, column)| self.assign(values, column));
        let assigned = assigned.collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), assigned);
        batch.map_err(|e| DataFusionError::from(e).into())
    }

    fn assign(&self, values: &ArrayRef, column: &Column) -> Result<ArrayRef, SqlError> {
        let assigned = assign(values, &column.column_type)?;
        if column.not_null && assigned.null_count() > 0 {
            let (column, table) = (&column.name, &self.name);
            return Err(SqlError::new(
                SqlState::NOT_NULL_VIOLATION,
                format!(
                    "null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"
                ),
            ));
        }
        Ok(assigned)
    }
}

/// Values as the type a column has: text is read as that type's input, the rest is cast.
pub fn assign(values: &ArrayRef, to: &ColumnType) -> Result<ArrayRef, SqlError> {
    let target = to.arrow_type();
    let from_text = matches!(
        values.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    if from_text && !matches!(to, ColumnType::Text | ColumnType::Varchar(_)) {
        return Ok(text_input::parse_column(values, to)?);
    }
    let values = if values.data_type() == &target {
        Arc::clone(values)
    } else {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(values, &target, &options).map_err(DataFusionError::from)?
    };
    Ok(text_input::check_length(&values, to)?)
}

impl From<text_input::TextInputError> for SqlError {
    fn from(error: text_input::TextInputError) -> Self {
        let sql = Self::new(SqlState::from_code(error.sqlstate), error.message);
        match error.detail {
            Some(detail) => sql.detail(detail),
            None => sql,
        }
    }
}
