//! The extended protocol: statements prepared, bound and run apart.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use futures::future::BoxFuture;
use futures::{FutureExt as _, Sink, SinkExt as _};
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{ExtendedQueryHandler, send_partial_query_response};
use pgwire::api::results::{
    DescribePortalResponse, DescribeStatementResponse, FieldFormat, FieldInfo, QueryResponse,
    Response, Tag,
};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Describe, Execute, Sync as PgSync, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::ReadyForQuery;

use super::connection::{Connection, Handler, send_notices, unpanicked};
use super::params::decode_parameter;
use super::respond::{fields, query_response};
use super::shared::SharedStatement;
use super::simple::copy_response;
use super::sqlstate::SqlState;
use super::types::{pg_to_arrow, pg_type};
use crate::frontend::error::SqlError;
use crate::frontend::handlers::{Described, Outcome, Parameters, parameter_type};
use crate::frontend::parser::Statement;

/// A statement, and what it was found to need and to yield when it was prepared.
#[derive(Clone, Debug)]
pub struct Prepared {
    statement: SharedStatement,
    parameters: Vec<Type>,
    rows: Option<SchemaRef>,
}

impl Connection {
    /// `None` where there is no statement.
    async fn prepare(
        self: Arc<Self>,
        sql: &str,
        types: &[Option<Type>],
    ) -> Result<Option<Prepared>, SqlError> {
        let mut statements = self.parse(sql).await?;
        statements.retain(|statement| **statement != Statement::Empty);
        if statements.len() > 1 {
            return Err(SqlError::syntax(
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let Some(statement) = statements.pop() else { return Ok(None) };
        let types: Vec<Option<Type>> = types.iter().map(known).collect();
        let limits = self.begin().await;
        let is_light = statement.needs_no_threads();
        let work = Arc::clone(&self).describe(statement.clone(), given(&types));
        let described = if is_light {
            limits.around(limits.running.inline(work)).await
        } else {
            self.work(&limits, work).await
        };
        let Described { parameters, rows } = described?;
        let parameters = parameters.iter().enumerate().map(|(place, field)| {
            let given = types.get(place).cloned().flatten();
            given.unwrap_or_else(|| pg_type(field))
        });
        Ok(Some(Prepared { statement, parameters: parameters.collect(), rows }))
    }

    /// Boxed, as [`Connection::run_in_session`] is.
    fn describe(
        self: Arc<Self>,
        statement: SharedStatement,
        given: Vec<Option<DataType>>,
    ) -> BoxFuture<'static, Result<Described, SqlError>> {
        let work = async move {
            let mut session = self.session.lock().await;
            let work = Box::pin(self.frontend.describe(&mut session, &statement, &given));
            unpanicked(work).await
        };
        work.boxed()
    }

    /// Runs a portal. Whatever fails, the transaction fails with it.
    async fn execute<C>(
        self: &Arc<Self>,
        client: &mut C,
        portal: &Portal<Prepared>,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let outcome = self.execute_bound(client, portal).await;
        if outcome.is_err() {
            self.fail_transaction();
        }
        outcome
    }

    async fn execute_bound<C>(
        self: &Arc<Self>,
        client: &mut C,
        portal: &Portal<Prepared>,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        let parameters = bound(portal)?;
        let limits = self.begin().await;
        let reply = self.run(prepared.statement.clone(), parameters, &limits).await?;
        send_notices(client, reply.notices).await?;
        Ok(match reply.outcome {
            Outcome::Empty => Response::EmptyQuery,
            Outcome::Rows { rows, tag } => {
                check_unchanged(prepared, &rows.schema)?;
                let formats = |place| format_of(&portal.result_column_format, place);
                Response::Query(query_response(Arc::clone(self), rows, tag, formats, limits))
            }
            Outcome::Done(tag) => Response::Execution(Tag::new(&tag)),
            Outcome::Begun => Response::TransactionStart(Tag::new("BEGIN")),
            Outcome::Ended(tag) => Response::TransactionEnd(Tag::new(tag)),
            Outcome::CopyIn(copy) => {
                Response::CopyIn(copy_response(self.start_copy(*copy, limits).await?))
            }
        })
    }
}

fn given(types: &[Option<Type>]) -> Vec<Option<DataType>> {
    types.iter().map(|given| given.as_ref().and_then(pg_to_arrow)).collect()
}

/// A parameter type, if the client really said one.
fn known(given: &Option<Type>) -> Option<Type> {
    given.clone().filter(|given| *given != Type::UNKNOWN && given.oid() != 0)
}

/// A client decodes rows by what it was told: they must still be that.
fn check_unchanged(prepared: &Prepared, now: &SchemaRef) -> Result<(), SqlError> {
    let types = |schema: &SchemaRef| -> Vec<Type> {
        schema.fields().iter().map(|field| pg_type(field)).collect()
    };
    match &prepared.rows {
        Some(told) if types(told) != types(now) => Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "cached plan must not change result type",
        )
        .hint("Prepare the statement again.")),
        _ => Ok(()),
    }
}

/// The format of one column or parameter. A client that named too few gets text for the rest.
fn format_of(format: &Format, place: usize) -> FieldFormat {
    match format {
        Format::Individual(codes) if place >= codes.len() => FieldFormat::Text,
        format => format.format_for(place),
    }
}

/// The values a client bound, as the engine takes them.
fn bound(portal: &Portal<Prepared>) -> Result<Parameters, SqlError> {
    let prepared = &portal.statement.statement;
    let (given, wanted) = (portal.parameters.len(), prepared.parameters.len());
    if given != wanted {
        return Err(SqlError::new(
            SqlState::PROTOCOL_VIOLATION,
            format!(
                "bind message supplies {given} parameters, but prepared statement requires {wanted}"
            ),
        ));
    }
    let values = portal.parameters.iter().zip(&prepared.parameters).enumerate();
    let values = values.map(|(place, (value, pg_type))| {
        let format = format_of(&portal.parameter_format, place);
        decode_parameter(place + 1, value.as_ref(), pg_type, format).map_err(SqlError::from)
    });
    let values: Vec<ScalarValue> = values.collect::<Result<_, _>>()?;
    let types = values.iter().map(|value| parameter_type(&value.data_type())).collect();
    let values = ParamValues::List(values.into_iter().map(Into::into).collect());
    Ok(Parameters { types, values })
}

#[async_trait]
impl QueryParser for Handler {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        _client: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        match Arc::clone(&self.0).prepare(sql, types).await {
            Ok(prepared) => Ok(prepared),
            Err(error) => {
                self.0.fail_transaction();
                Err(error.into())
            }
        }
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(prepared.parameters.clone())
    }

    fn get_result_schema(
        &self,
        prepared: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let formats = |place| format.map_or(FieldFormat::Text, |format| format_of(format, place));
        Ok(prepared.rows.as_ref().map_or_else(Vec::new, |schema| fields(schema, formats)))
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Prepared;
    type QueryParser = Self;

    fn query_parser(&self) -> Arc<Self> {
        Arc::new(self.clone())
    }

    /// As the default, but a statement with parameters and without rows says so: `NoData`.
    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
            if let Some(Entry::Value(stored)) = client.portal_store().get_statement(name)
                && stored.statement.rows.is_none()
            {
                let oids = stored.statement.parameters.iter().map(Type::oid).collect();
                let parameters = ParameterDescription::new(oids);
                client.feed(PgWireBackendMessage::ParameterDescription(parameters)).await?;
                client.feed(PgWireBackendMessage::NoData(NoData::new())).await?;
                return Ok(());
            }
        }
        self._on_describe(client, message).await
    }

    /// As the default, but rows are sent as they come: the default collects all that were asked for.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) if portal.statement.statement.rows.is_some() => portal,
            Some(Entry::Value(portal)) => return self.execute_once(client, &portal, message).await,
            _ => return self._on_execute(client, message).await,
        };
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        // No rows wanted means all of them; a negative number too, as in PostgreSQL.
        let rows_max = usize::try_from(message.max_rows).unwrap_or_default();
        self.send_rows(client, &portal, rows_max).await?;
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }

    async fn on_sync<C>(&self, client: &mut C, _message: PgSync) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        client.portal_store().rm_portal(DEFAULT_NAME);
        let status = self.0.transaction_status().await;
        client.set_transaction_status(status);
        client.send(PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(status))).await?;
        Ok(())
    }

    async fn do_describe_statement<C>(
        &self,
        _client: &mut C,
        target: &StoredStatement<Prepared>,
    ) -> PgWireResult<DescribeStatementResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &target.statement;
        let rows = self.get_result_schema(prepared, None)?;
        Ok(DescribeStatementResponse::new(prepared.parameters.clone(), rows))
    }

    async fn do_describe_portal<C>(
        &self,
        _client: &mut C,
        target: &Portal<Prepared>,
    ) -> PgWireResult<DescribePortalResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &target.statement.statement;
        let rows = self.get_result_schema(prepared, Some(&target.result_column_format))?;
        Ok(DescribePortalResponse::new(rows))
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.0.execute(client, portal).await
    }
}

impl Handler {
    /// Runs a portal that yields no rows, unless it ran before: it would do twice what was asked for once.
    async fn execute_once<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        message: Execute,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let state = portal.state();
        if let PortalExecutionState::Finished = *state.lock().await {
            let name = message.name.as_deref().unwrap_or_default();
            let message = format!("portal \"{name}\" cannot be run");
            return Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message).into());
        }
        self._on_execute(client, message).await?;
        *state.lock().await = PortalExecutionState::Finished;
        Ok(())
    }

    /// Sends at most `rows_max` rows of a portal, 0 for all, starting its query if need be.
    async fn send_rows<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        rows_max: usize,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let state = portal.state();
        let mut state = state.lock().await;
        // What fails half way is not gone on with.
        let mut rows = match std::mem::replace(&mut *state, PortalExecutionState::Finished) {
            PortalExecutionState::Suspended(rows) => rows,
            PortalExecutionState::Finished => {
                let nothing = futures::stream::empty();
                QueryResponse::new(Arc::default(), nothing)
            }
            PortalExecutionState::Initial => match self.0.execute(client, portal).await? {
                Response::Query(rows) => rows,
                _ => return Err(SqlError::internal("a statement yields no rows after all").into()),
            },
        };
        if send_partial_query_response(client, &mut rows, rows_max).await? {
            *state = PortalExecutionState::Suspended(rows);
        }
        Ok(())
    }
}
