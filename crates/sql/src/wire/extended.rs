//! The extended protocol: statements are parsed, bound and executed in separate messages.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ParamValues, ScalarValue};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use pgwire::api::copy::send_copy_in_response;
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{
    send_execution_response, send_partial_query_response, send_ready_for_query,
};
use pgwire::api::results::{FieldFormat, FieldInfo, QueryResponse, Tag};
use pgwire::api::stmt::StoredStatement;
use pgwire::api::store::{Entry, PortalStore as _};
use pgwire::api::{
    ClientInfo as _, ClientPortalStore as _, DEFAULT_NAME, PgWireConnectionState, Type,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, ParameterDescription, RowDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete,
    TARGET_TYPE_BYTE_STATEMENT,
};

use super::connection::{Connection, send_notices, unpanicked};
use super::prepared::Prepared;
use super::respond::{feed, fields, query_response, send_empty};
use super::shared::SharedStatement;
use super::simple::copy_response;
use super::socket::Client;
use crate::handlers::{Described, Outcome};
use crate::limits::Limits;
use crate::parser::{Statement, parsed_bytes};
use crate::planner::Parameters;
use tidemark_pg::error::SqlError;
use tidemark_pg::memory::Kept;
use tidemark_pg::parameters::decode_parameter;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::spelling::parameter_type;
use tidemark_pg::types::wire::{pg_to_arrow, pg_type};

/// Texts and parameter values up to this size are not counted where at most one is kept.
const SMALL_BYTES: usize = 16 << 10;
/// Memory of a prepared statement or portal apart from its text and values: its result columns and name.
const PREPARED_BYTES: usize = 2 << 10;
/// Longest name of a statement or portal in bytes.
const NAME_BYTES_MAX: usize = 1 << 10;

impl Connection {
    /// Parses and describes a statement; `None` for an empty text.
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
        let Described { parameters, rows } = described.map_err(|error| error.in_text(sql))?;
        let parameters = parameters.iter().enumerate().map(|(position, field)| {
            let given = types.get(position).cloned().flatten();
            given.unwrap_or_else(|| pg_type(field))
        });
        Ok(Some(Prepared { statement, parameters: parameters.collect(), rows, kept: vec![] }))
    }

    /// Counts a statement before it is parsed. A short unnamed one is not counted: there is at most one.
    fn keep_statement(&self, name: &str, sql: &str) -> Result<Option<Arc<Kept>>, SqlError> {
        if name == DEFAULT_NAME && sql.len() <= SMALL_BYTES {
            return Ok(None);
        }
        let bytes = parsed_bytes(sql).saturating_add(PREPARED_BYTES);
        self.memory.keep("prepared statements", bytes).map(|kept| Some(Arc::new(kept)))
    }

    /// Returns the statement for a portal, with its bound values counted.
    fn keep_portal(
        &self,
        message: &Bind,
        statement: Arc<StoredStatement<Prepared>>,
    ) -> Result<Arc<StoredStatement<Prepared>>, SqlError> {
        let bytes = message.parameters.iter().flatten().map(Bytes::len).sum::<usize>();
        if name_of(&message.portal_name) == DEFAULT_NAME && bytes <= SMALL_BYTES {
            return Ok(statement);
        }
        let kept = self.memory.keep("portals", bytes.saturating_add(PREPARED_BYTES))?;
        let mut prepared = statement.statement.clone();
        prepared.kept.push(Arc::new(kept));
        Ok(Arc::new(StoredStatement::new(statement.id.clone(), prepared, vec![])))
    }

    /// Boxed like [`Connection::run_in_session`].
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

    /// Runs a portal.
    async fn execute(
        self: &Arc<Self>,
        client: &mut Client,
        portal: &Portal<Prepared>,
    ) -> PgWireResult<(Outcome, Limits)> {
        let prepared = &portal.statement.statement;
        let parameters = bound(portal)?;
        let limits = self.begin().await;
        let reply = self.run(prepared.statement.clone(), parameters, &limits).await?;
        self.after(client, &prepared.statement);
        send_notices(client, reply.notices).await?;
        Ok((reply.outcome, limits))
    }
}

fn given(types: &[Option<Type>]) -> Vec<Option<DataType>> {
    types.iter().map(|given| given.as_ref().and_then(pg_to_arrow)).collect()
}

/// The parameter type, if the client specified one.
fn known(given: &Option<Type>) -> Option<Type> {
    given.clone().filter(|given| *given != Type::UNKNOWN && given.oid() != 0)
}

/// The format of one column or parameter; text if the client specified too few.
fn format_of(format: &Format, position: usize) -> FieldFormat {
    match format {
        Format::Individual(codes) if position >= codes.len() => FieldFormat::Text,
        format => format.format_for(position),
    }
}

fn check_parameters(given: usize, wanted: usize) -> Result<(), SqlError> {
    if given == wanted {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::PROTOCOL_VIOLATION,
        format!(
            "bind message supplies {given} parameters, but prepared statement requires {wanted}"
        ),
    ))
}

/// Decodes the values that a client bound.
fn bound(portal: &Portal<Prepared>) -> Result<Parameters, SqlError> {
    let prepared = &portal.statement.statement;
    check_parameters(portal.parameters.len(), prepared.parameters.len())?;
    let values = portal.parameters.iter().zip(&prepared.parameters).enumerate();
    let values = values.map(|(position, (value, pg_type))| {
        let format = format_of(&portal.parameter_format, position);
        decode_parameter(position + 1, value.as_ref(), pg_type, format)
    });
    let values: Vec<ScalarValue> = values.collect::<Result<_, _>>()?;
    let types = values.iter().map(|value| parameter_type(&value.data_type())).collect();
    let values = ParamValues::List(values.into_iter().map(Into::into).collect());
    Ok(Parameters { types, values, told: prepared.rows.clone() })
}

/// Describes the columns of a statement; empty if it returns no rows.
fn columns(prepared: &Prepared, format: &Format) -> Vec<FieldInfo> {
    let formats = |position| format_of(format, position);
    prepared.rows.as_ref().map_or_else(Vec::new, |schema| fields(schema, formats))
}

fn name_of(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or(DEFAULT_NAME)
}

fn check_name(name: &str) -> Result<(), SqlError> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a name of {} bytes is too long", name.len());
    let detail = format!("Statements and portals have names of at most {NAME_BYTES_MAX} bytes.");
    Err(SqlError::new(SqlState::NAME_TOO_LONG, message).detail(detail))
}

/// Handlers of the extended protocol's messages. Responses are sent at `Sync` or `Flush`, as in PostgreSQL.
impl Connection {
    pub(super) async fn answer_parse(
        self: &Arc<Self>,
        client: &mut Client,
        message: Parse,
    ) -> PgWireResult<()> {
        let name = name_of(&message.name).to_owned();
        let types: Vec<Option<Type>> =
            message.type_oids.iter().map(|oid| Type::from_oid(*oid)).collect();
        check_name(&name)?;
        if name == DEFAULT_NAME {
            // It is dropped even if the new one fails, as in PostgreSQL.
            client.portal_store().rm_statement(&name);
        }
        let kept = self.keep_statement(&name, &message.query)?;
        let prepared = Arc::clone(self).prepare(&message.query, &types).await?;
        if let Some(kept) = kept.as_ref().filter(|_| name != DEFAULT_NAME) {
            self.remember_prepared(&name, kept);
        }
        match prepared {
            Some(mut prepared) => {
                prepared.kept.extend(kept);
                let stored = StoredStatement::new(name, prepared, vec![]);
                client.portal_store().put_statement(Arc::new(stored));
            }
            None => client.portal_store().put_empty_statement(&name),
        }
        feed(client, PgWireBackendMessage::ParseComplete(ParseComplete::new())).await
    }

    pub(super) async fn answer_bind(&self, client: &mut Client, message: Bind) -> PgWireResult<()> {
        let (name, portal) = (name_of(&message.statement_name), name_of(&message.portal_name));
        check_name(portal)?;
        let store = client.portal_store();
        if message.portal_name.is_some() && store.get_portal(portal).is_some() {
            let message = format!("cursor \"{portal}\" already exists");
            return Err(SqlError::new(SqlState::DUPLICATE_CURSOR, message).into());
        }
        match store.get_statement(name) {
            Some(Entry::Value(statement)) => {
                store.rm_portal(portal);
                let statement = self.keep_portal(&message, statement)?;
                store.put_portal(Arc::new(Portal::try_new(&message, statement)?));
            }
            Some(Entry::Empty) => {
                check_parameters(message.parameters.len(), 0)?;
                store.put_empty_portal(portal);
            }
            None => return Err(PgWireError::StatementNotFound(name.to_owned())),
        }
        feed(client, PgWireBackendMessage::BindComplete(BindComplete::new())).await
    }

    pub(super) async fn answer_describe(
        client: &mut Client,
        message: Describe,
    ) -> PgWireResult<()> {
        let name = name_of(&message.name);
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            let (oids, columns) = match client.portal_store().get_statement(name) {
                Some(Entry::Value(stored)) => {
                    let prepared = &stored.statement;
                    let oids = prepared.parameters.iter().map(Type::oid).collect();
                    (oids, columns(prepared, &Format::UnifiedText))
                }
                Some(Entry::Empty) => (vec![], vec![]),
                None => return Err(PgWireError::StatementNotFound(name.to_owned())),
            };
            let parameters = ParameterDescription::new(oids);
            feed(client, PgWireBackendMessage::ParameterDescription(parameters)).await?;
            return describe_rows(client, &columns).await;
        }
        let columns = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => {
                columns(&portal.statement.statement, &portal.result_column_format)
            }
            Some(Entry::Empty) => vec![],
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        describe_rows(client, &columns).await
    }

    pub(super) async fn answer_execute(
        self: &Arc<Self>,
        client: &mut Client,
        message: Execute,
    ) -> PgWireResult<()> {
        let name = name_of(&message.name);
        match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) if portal.statement.statement.rows.is_some() => {
                // Zero means all rows, and so does a negative number, as in PostgreSQL.
                let rows_max = usize::try_from(message.max_rows).unwrap_or_default();
                self.send_rows(client, &portal, rows_max).await
            }
            Some(Entry::Value(portal)) => self.execute_once(client, &portal).await,
            Some(Entry::Empty) => send_empty(client).await,
            None => Err(PgWireError::PortalNotFound(name.to_owned())),
        }
    }

    pub(super) async fn answer_close(
        &self,
        client: &mut Client,
        message: Close,
    ) -> PgWireResult<()> {
        let name = name_of(&message.name);
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            self.forget_prepared(client, Some(name));
        } else {
            client.portal_store().rm_portal(name);
        }
        feed(client, PgWireBackendMessage::CloseComplete(CloseComplete::new())).await
    }

    /// Drops the unnamed portal, and sends `ReadyForQuery`.
    pub(super) async fn answer_sync(&self, client: &mut Client) -> PgWireResult<()> {
        client.portal_store().rm_portal(DEFAULT_NAME);
        send_ready_for_query(client, self.transaction_status().await).await
    }

    /// Runs a portal that returns no rows; fails if it ran before, as it would take effect twice.
    async fn execute_once(
        self: &Arc<Self>,
        client: &mut Client,
        portal: &Portal<Prepared>,
    ) -> PgWireResult<()> {
        let state = portal.state();
        let mut state = state.lock().await;
        if let PortalExecutionState::Finished = *state {
            let name = Some(portal.name.as_str()).filter(|name| *name != DEFAULT_NAME);
            let message = format!("portal \"{}\" cannot be run", name.unwrap_or_default());
            return Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message).into());
        }
        let (outcome, limits) = self.execute(client, portal).await?;
        match outcome {
            Outcome::Done(tag) => send_execution_response(client, Tag::new(&tag)).await?,
            Outcome::Begun => send_execution_response(client, Tag::new("BEGIN")).await?,
            Outcome::Ended(tag) => {
                client.portal_store().rm_portal(DEFAULT_NAME);
                send_execution_response(client, Tag::new(tag)).await?;
            }
            Outcome::CopyIn(copy) => {
                let columns = self.start_copy(*copy, limits).await?;
                client.set_state(PgWireConnectionState::CopyInProgress(true));
                send_copy_in_response(client, copy_response(columns)).await?;
            }
            Outcome::Empty => send_empty(client).await?,
            Outcome::Rows { .. } => {
                return Err(SqlError::internal("a statement yields rows after all").into());
            }
        }
        *state = PortalExecutionState::Finished;
        Ok(())
    }

    /// Sends at most `rows_max` rows of a portal, 0 for all; starts its query if needed.
    async fn send_rows(
        self: &Arc<Self>,
        client: &mut Client,
        portal: &Portal<Prepared>,
        rows_max: usize,
    ) -> PgWireResult<()> {
        let state = portal.state();
        let mut state = state.lock().await;
        // After an error the portal cannot continue.
        let mut rows = match std::mem::replace(&mut *state, PortalExecutionState::Finished) {
            PortalExecutionState::Suspended(rows) => {
                self.start_timer().await;
                rows
            }
            PortalExecutionState::Finished => {
                let nothing = futures::stream::empty();
                QueryResponse::new(Arc::default(), nothing)
            }
            PortalExecutionState::Initial => match self.execute(client, portal).await? {
                (Outcome::Rows { rows, tag }, limits) => {
                    let formats = |position| format_of(&portal.result_column_format, position);
                    query_response(rows, tag, formats, limits)
                }
                _ => return Err(SqlError::internal("a statement yields no rows after all").into()),
            },
        };
        if send_partial_query_response(client, &mut rows, rows_max).await? {
            *state = PortalExecutionState::Suspended(rows);
        }
        Ok(())
    }
}

async fn describe_rows(client: &mut Client, columns: &[FieldInfo]) -> PgWireResult<()> {
    let message = if columns.is_empty() {
        PgWireBackendMessage::NoData(NoData::new())
    } else {
        let columns = columns.iter().map(Into::into).collect();
        PgWireBackendMessage::RowDescription(RowDescription::new(columns))
    };
    feed(client, message).await
}
