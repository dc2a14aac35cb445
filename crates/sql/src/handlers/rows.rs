//! Converts the rows of a query to rows of a table: assigns types, checks lengths and nulls.

use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;

use super::target::Target;
use tidemark_ledger::catalog::{ColumnType, Table};
use tidemark_ledger::sst::schema::table_schema;
use tidemark_pg::error::{SqlError, Subject};
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::arrow::name_of;
use tidemark_pg::{functions, text_input};

/// Longest value in the description of a row, in bytes.
const SHOWN_BYTES: usize = 64;

/// Converts batches whose columns are in the table's order, of any type, to rows of the table.
#[derive(Clone, Debug)]
pub struct Conform {
    table: Arc<Table>,
    /// The names of the table and of its schema.
    schema_name: String,
    name: String,
    schema: SchemaRef,
}

impl Conform {
    pub fn new(table: Arc<Table>, schema_name: &str, name: &str) -> Self {
        let schema = table_schema(&table);
        Self { table, schema_name: schema_name.to_owned(), name: name.to_owned(), schema }
    }

    /// Converts to rows of the table that a statement writes to.
    pub fn of(target: &Target) -> Self {
        Self::new(Arc::clone(&target.table), &target.schema, &target.relation.name)
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Fails with 42804 for a type that is not assignable to its column, even if there are no rows.
    pub fn check_types<'a>(
        &self,
        given: impl Iterator<Item = &'a Arc<Field>>,
    ) -> Result<(), SqlError> {
        given.zip(&self.table.columns).try_for_each(|(field, column)| {
            check_assignable(field.data_type(), &column.name, &column.column_type)
        })
    }

    /// Converts the columns of a batch. Fails with 42804 for an unassignable type and 23502 for a null in a
    /// `NOT NULL` column.
    pub fn apply(&self, columns: &[ArrayRef]) -> Result<RecordBatch, SqlError> {
        let columns = columns.iter().zip(&self.table.columns);
        let assigned =
            columns.map(|(values, column)| assign(values, &column.name, &column.column_type));
        let assigned = assigned.collect::<Result<Vec<_>, _>>()?;
        self.refuse_nulls(&assigned)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), assigned);
        batch.map_err(|e| DataFusionError::from(e).into())
    }

    /// Fails with the first row that has a null in a `NOT NULL` column.
    fn refuse_nulls(&self, columns: &[ArrayRef]) -> Result<(), SqlError> {
        let nulls = columns.iter().zip(&self.table.columns).filter_map(|(values, column)| {
            let checked = column.not_null && values.null_count() > 0;
            let row = (0..values.len()).find(|row| checked && values.is_null(*row))?;
            Some((row, column))
        });
        match nulls.min_by_key(|(row, _)| *row) {
            Some((row, column)) => Err(self.null_violation(columns, row, &column.name)),
            None => Ok(()),
        }
    }

    fn null_violation(&self, columns: &[ArrayRef], row: usize, column: &str) -> SqlError {
        let message = format!(
            "null value in column \"{column}\" of relation \"{}\" violates not-null constraint",
            self.name
        );
        let values = columns.iter().zip(self.schema.fields());
        let values: Vec<_> = values.map(|(values, field)| shown(values, row, field)).collect();
        SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
            .detail(format!("Failing row contains ({}).", values.join(", ")))
            .about(Subject {
                schema: Some(self.schema_name.clone()),
                table: Some(self.name.clone()),
                column: Some(column.to_owned()),
                ..Subject::default()
            })
    }
}

/// A value as the description of a row shows it.
fn shown(values: &ArrayRef, row: usize, field: &Field) -> String {
    if values.is_null(row) {
        return "null".to_owned();
    }
    if let Some(values) = values.as_boolean_opt() {
        return if values.value(row) { "t" } else { "f" }.to_owned();
    }
    let printed = functions::print(&values.slice(row, 1), field);
    let printed = printed.ok().and_then(|text| ScalarValue::try_from_array(&text, 0).ok());
    let text = printed.map(|text| text.to_string()).unwrap_or_default();
    match text.char_indices().map(|(at, _)| at).find(|at| *at >= SHOWN_BYTES) {
        Some(end) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn check_assignable(from: &DataType, column: &str, to: &ColumnType) -> Result<(), SqlError> {
    if functions::is_assignable(from, to) {
        return Ok(());
    }
    let from = name_of(from, None);
    Err(SqlError::new(
        SqlState::DATATYPE_MISMATCH,
        format!("column \"{column}\" is of type {to} but expression is of type {from}"),
    )
    .hint("You will need to rewrite or cast the expression."))
}

/// Converts values to the type of a column: text is parsed, other values are cast where PostgreSQL has an
/// assignment cast. Fails with 42804 otherwise.
pub fn assign(values: &ArrayRef, column: &str, to: &ColumnType) -> Result<ArrayRef, SqlError> {
    let from = values.data_type();
    check_assignable(from, column, to)?;
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
