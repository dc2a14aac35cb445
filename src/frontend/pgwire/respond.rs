//! Rows on the wire: encoded as they come, stopped when told to.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use pgwire::api::results::{FieldFormat, FieldInfo, QueryResponse};
use pgwire::error::PgWireError;

use super::connection::unpanicked;
use super::encode::{RowEncoder, field_infos};
use super::limits::Limits;
use crate::frontend::error::SqlError;
use crate::frontend::handlers::Rows;

/// What the client is told of the columns.
pub fn fields(schema: &Schema, formats: impl Fn(usize) -> FieldFormat) -> Vec<FieldInfo> {
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    field_infos(schema, &names, formats)
}

/// A result that flows until it ends, fails, or its limits are reached.
pub fn query_response(
    rows: Rows,
    tag: &str,
    formats: impl Fn(usize) -> FieldFormat,
    limits: Limits,
) -> QueryResponse {
    let infos = Arc::new(fields(&rows.schema, &formats));
    let encoder = RowEncoder::new(&rows.schema, &formats);
    let batches = stream::try_unfold((rows.stream, limits), |(mut rows, limits)| async move {
        let next = async { Ok(rows.next().await.transpose()?) };
        let batch = limits.around(unpanicked(next)).await?;
        Ok::<_, SqlError>(batch.map(|batch| (batch, (rows, limits))))
    });
    let encoded = batches
        .and_then(move |batch| {
            let rows = encoder.encode(&batch).map_err(SqlError::from);
            async move { rows.map(|rows| stream::iter(rows.into_iter().map(Ok::<_, SqlError>))) }
        })
        .try_flatten();
    let mut response = QueryResponse::new(infos, encoded.map_err(PgWireError::from));
    response.set_command_tag(tag);
    response
}
