//! Converts the rows of a query to rows of a table: assigns types, checks lengths and nulls.

use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::error::DataFusionError;

use tidemark_ledger::catalog::{Column, ColumnType, Table};
use tidemark_ledger::sst::schema::table_schema;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::arrow::name_of;
use tidemark_pg::{functions, text_input};

/// Converts batches whose columns are in the table's order, of any type, to rows of the table.
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

    /// Converts the columns of a batch. Fails with 42804 for an unassignable type and 23502 for a null in a
    /// `NOT NULL` column.
    pub fn apply(&self, columns: &[ArrayRef]) -> Result<RecordBatch, SqlError> {
        let columns = columns.iter().zip(&self.table.columns);
        let assigned = columns.map(|(values, column)| self.assign(values, column));
        let assigned = assigned.collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), assigned);
        batch.map_err(|e| DataFusionError::from(e).into())
    }

    fn assign(&self, values: &ArrayRef, column: &Column) -> Result<ArrayRef, SqlError> {
        let assigned = assign(values, &column.name, &column.column_type)?;
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

/// Converts values to the type of a column: text is parsed, other values are cast where PostgreSQL has an
/// assignment cast. Fails with 42804 otherwise.
pub fn assign(values: &ArrayRef, column: &str, to: &ColumnType) -> Result<ArrayRef, SqlError> {
    let from = values.data_type();
    if !functions::is_assignable(from, to) {
        let from = name_of(from, None);
        return Err(SqlError::new(
            SqlState::DATATYPE_MISMATCH,
            format!("column \"{column}\" is of type {to} but expression is of type {from}"),
        )
        .hint("You will need to rewrite or cast the expression."));
    }
    let to_text = matches!(to, ColumnType::Text | ColumnType::Varchar(_));
    let to_integer = matches!(to, ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt);
    let values = if from.is_string() && !to_text {
        return text_input::parse_column(values, to);
    } else if to_text && !from.is_string() && !from.is_null() {
        functions::print(values, &Field::new(column, from.clone(), true))?
    } else if to_integer && (from.is_floating() || from.is_decimal()) {
        functions::rounded(values)?
    } else {
        Arc::clone(values)
    };
    let target = to.arrow_type();
    let values = if values.data_type() == &target {
        values
    } else {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&values, &target, &options).map_err(DataFusionError::from)?
    };
    text_input::check_length(&values, to)
}
