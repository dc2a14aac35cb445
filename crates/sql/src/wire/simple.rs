//! The simple protocol: executes the statements of a query text in order.
//!
//! Several statements form one transaction without a `BEGIN`: all of their writes stay or none, as in
//! PostgreSQL. [`ImplicitTransaction`] handles statements that cannot be part of a transaction.

use std::sync::Arc;

use futures::{SinkExt as _, stream};
use pgwire::api::copy::send_copy_in_response;
use pgwire::api::query::{send_execution_response, send_query_response, send_ready_for_query};
use pgwire::api::results::{CopyResponse, FieldFormat, Tag};
use pgwire::api::{ClientInfo as _, PgWireConnectionState};
use pgwire::error::PgWireResult;
use pgwire::messages::simplequery::Query;

use super::connection::{Connection, send_notices, unpanicked};
use super::respond::{query_response, send_empty};
use super::shared::SharedStatement;
use super::socket::Client;
use crate::handlers::Outcome;
use crate::parser::{ImplicitTransaction, Statement};
use crate::planner::Parameters;
use crate::session::Transaction;
use tidemark_pg::error::SqlError;

/// COPY data is in text format.
const COPY_TEXT: i8 = 0;

/// What happens after a statement.
enum Next {
    Statement,
    /// The client sends rows now; it gets `ReadyForQuery` after them.
    Copy,
}

impl Connection {
    pub(super) async fn answer_query(
        self: &Arc<Self>,
        client: &mut Client,
        query: &Query,
    ) -> PgWireResult<()> {
        if let Next::Copy = self.run_text(client, &query.query).await? {
            client.set_state(PgWireConnectionState::CopyInProgress(false));
            client.flush().await?;
            return Ok(());
        }
        send_ready_for_query(client, self.transaction_status().await).await
    }

    /// Runs the statements of `text` until one fails.
    async fn run_text(self: &Arc<Self>, client: &mut Client, text: &str) -> PgWireResult<Next> {
        let statements = self.parse(text).await?;
        if statements.iter().all(|statement| **statement == Statement::Empty) {
            send_empty(client).await?;
            return Ok(Next::Statement);
        }
        let last = statements.len() - 1;
        for (position, statement) in statements.into_iter().enumerate() {
            if matches!(*statement, Statement::Copy(_)) && position != last {
                let message = "COPY FROM STDIN must be the last statement of a query";
                return Err(SqlError::unsupported(message).into());
            }
            self.join_transaction(&statement, position == last).await?;
            if let Next::Copy = self.run_statement(client, text, statement).await? {
                return Ok(Next::Copy);
            }
        }
        self.commit_implicit().await?;
        Ok(Next::Statement)
    }

    /// Makes a statement part of the implicit transaction of its text, which is begun or committed as needed.
    /// A last statement without an open transaction commits alone, so that it can be retried after a
    /// conflict.
    async fn join_transaction(&self, statement: &Statement, last: bool) -> Result<(), SqlError> {
        match statement.implicit_transaction() {
            ImplicitTransaction::Outside => Ok(()),
            ImplicitTransaction::Alone => self.commit_implicit().await,
            ImplicitTransaction::Within => {
                let mut session = self.session.lock().await;
                if session.transaction.is_none() && !last {
                    let implicit = Transaction { implicit: true, ..Transaction::default() };
                    session.transaction = Some(implicit);
                }
                Ok(())
            }
        }
    }

    async fn commit_implicit(&self) -> Result<(), SqlError> {
        if !self.session.lock().await.in_implicit_transaction() {
            return Ok(());
        }
        let limits = self.begin().await;
        let mut session = self.session.lock().await;
        let commit = Box::pin(self.frontend.commit_transaction(&mut session));
        limits.around(limits.running.inline(unpanicked(commit))).await.map(drop)
    }

    /// Discards the writes of a text's statements after one of them failed.
    pub(super) async fn abandon_implicit(&self) {
        let mut session = self.session.lock().await;
        session.transaction.take_if(|transaction| transaction.implicit);
    }

    async fn run_statement(
        self: &Arc<Self>,
        client: &mut Client,
        text: &str,
        statement: SharedStatement,
    ) -> PgWireResult<Next> {
        let limits = self.begin().await;
        let reply = self.run(statement.clone(), Parameters::none(), &limits).await;
        let reply = reply.map_err(|error| error.in_text(text))?;
        self.after(client, &statement);
        send_notices(client, reply.notices).await?;
        match reply.outcome {
            Outcome::Empty => {}
            Outcome::Rows { rows, tag } => {
                let text = |_| FieldFormat::Text;
                let response = query_response(rows, tag, text, limits);
                send_query_response(client, response, true).await?;
            }
            Outcome::Done(tag) => send_execution_response(client, Tag::new(&tag)).await?,
            Outcome::Begun => send_execution_response(client, Tag::new("BEGIN")).await?,
            Outcome::Ended(tag) => send_execution_response(client, Tag::new(tag)).await?,
            Outcome::CopyIn(copy) => {
                let columns = self.start_copy(*copy, limits).await?;
                send_copy_in_response(client, copy_response(columns)).await?;
                return Ok(Next::Copy);
            }
        }
        Ok(Next::Statement)
    }
}

/// The response that asks for rows.
pub(super) fn copy_response(columns: usize) -> CopyResponse {
    CopyResponse::new(COPY_TEXT, columns, stream::empty())
}
