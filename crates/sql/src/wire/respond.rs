//! Sends rows: encodes them as they arrive, and stops at the statement's limits.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use pgwire::api::results::{FieldFormat, FieldInfo, QueryResponse};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::EmptyQueryResponse;

use super::connection::unpanicked;
use super::socket::Client;
use crate::limits::Limits;
use crate::planner::Rows;
use tidemark_pg::encode::{RowEncoder, field_infos};
use tidemark_pg::error::SqlError;

/// Describes the columns to the client.
pub fn fields(schema: &Schema, formats: impl Fn(usize) -> FieldFormat) -> Vec<FieldInfo> {
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    field_infos(schema, &names, formats)
}

/// Queues a message for the client; it is sent with the messages after it.
pub async fn feed(client: &mut Client, message: PgWireBackendMessage) -> PgWireResult<()> {
    Ok(client.feed(message).await?)
}

/// The response to an empty query text.
pub async fn send_empty(client: &mut Client) -> PgWireResult<()> {
    feed(client, PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await
}

/// A stream of rows that runs until it ends, fails, or reaches its limits.
pub fn query_response(
    rows: Rows,
    tag: &str,
    formats: impl Fn(usize) -> FieldFormat,
    limits: Limits,
) -> QueryResponse {
    let infos = Arc::new(fields(&rows.schema, &formats));
    let encoder = RowEncoder::new(&rows.schema, &formats);
    let batches = (rows.stream, limits.clone());
    let batches = stream::try_unfold(batches, |(mut rows, limits)| async move {
        limits.resume();
        let next = async { Ok(rows.next().await.transpose()?) };
        let batch = limits.around(unpanicked(next)).await?;
        Ok::<_, SqlError>(batch.map(|batch| (batch, (rows, limits))))
    });
    let encoded = batches
        .and_then(move |batch| {
            let rows = encoder.encode(&batch);
            let limits = limits.clone();
            // If batches arrive faster than their rows are sent, nothing else checks the time.
            let checked = move |row| limits.check().map(|()| row);
            async move { rows.map(|rows| stream::iter(rows.into_iter().map(checked))) }
        })
        .try_flatten();
    let mut response = QueryResponse::new(infos, encoded.map_err(PgWireError::from));
    response.set_command_tag(tag);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::arrow::array::{Int64Array, RecordBatch};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

    use super::*;
    use crate::cancel::Slot;

    /// An endless result whose batches are ready at once.
    fn endless(limits: Limits) -> QueryResponse {
        let column = Arc::new(Int64Array::from_iter_values(0..100)) as _;
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let schema = batch.schema();
        let batches = stream::repeat_with(move || Ok(batch.clone()));
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), batches));
        query_response(Rows { schema, stream }, "SELECT", |_| FieldFormat::Text, limits)
    }

    #[tokio::test]
    async fn rows_that_are_never_waited_for_run_out_of_time() {
        let limits = Limits::begin(Arc::default(), Some(Duration::from_millis(20)));
        let mut response = endless(limits);
        let error = loop {
            if let Err(error) = response.data_rows().next().await.expect("it has no end") {
                break error;
            }
        };
        assert!(error.to_string().contains("due to statement timeout"), "{error}");
    }

    #[tokio::test]
    async fn rows_that_were_suspended_are_cancelled_when_they_flow_again() {
        let slot = Arc::<Slot>::default();
        let mut suspended = endless(Limits::begin(Arc::clone(&slot), None));
        suspended.data_rows().next().await.unwrap().unwrap();
        let other = slot.begin(None);
        // Skips the rows of the batch that was ready already.
        for _ in 0..150 {
            suspended.data_rows().next().await.unwrap().unwrap();
        }
        slot.cancel();
        assert!(!other.is_over());
        let error = suspended.data_rows().next().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("due to user request"), "{error}");
    }
}
