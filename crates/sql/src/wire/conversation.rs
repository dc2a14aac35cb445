//! The message loop of a session, from login to its end.
//!
//! The protocol state is decided here, as in PostgreSQL: after an error in the extended protocol all messages
//! are skipped up to the next `Sync`; messages of a `COPY` that is over are ignored; messages that do not
//! belong to a running `COPY` end the connection, as do malformed ones. After such an end nothing more is
//! read from the client.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt};
use pgwire::api::query::send_ready_for_query;
use pgwire::api::results::Tag;
use pgwire::api::store::PortalStore as _;
use pgwire::api::{ClientInfo as _, ClientPortalStore as _, PgWireConnectionState};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;

use super::connection::{Connection, error_fields};
use super::framing::{self, Frame, Received, STATEMENT_BYTES_MAX, SkipReason};
use super::login::Ended;
use super::message::{Message, violation};
use super::socket::{Client, Incoming, Progress, Unread};
use crate::sessions::SessionState;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// How long statements may still run after their client has closed its end.
const END_GRACE: Duration = Duration::from_millis(500);
/// Interval of the check for statements whose output the client does not read.
const STALL_CHECK: Duration = Duration::from_secs(1);
/// Number of consecutive failed checks after which the connection is closed.
const STALL_CHECKS: u32 = 5;

/// A session and its client.
pub struct Conversation<'a> {
    incoming: &'a mut Incoming,
    client: &'a mut Client,
    connection: Arc<Connection>,
    /// Set after an error in the extended protocol, until the next `Sync`.
    skipping: bool,
    /// Whether no message arrived since `ReadyForQuery`: only then does the idle timeout run.
    is_idle: bool,
}

/// Whether the loop continues.
enum Then {
    GoOn,
    End,
}

impl<'a> Conversation<'a> {
    pub fn new(
        incoming: &'a mut Incoming,
        client: &'a mut Client,
        connection: Arc<Connection>,
    ) -> Self {
        // The login ended with `ReadyForQuery`.
        Self { incoming, client, connection, skipping: false, is_idle: true }
    }

    /// Answers messages until the client ends the session or has to be disconnected.
    pub async fn run(&mut self) -> Result<(), Ended> {
        while let Some(received) = self.receive().await? {
            let then = match received {
                Received::Frame(frame) => self.answer(frame).await?,
                Received::Skipped { kind, reason } => self.answer_skipped(kind, reason).await?,
            };
            if let Then::End = then {
                break;
            }
        }
        Ok(())
    }

    /// Whether a `COPY` is running, and whether the extended protocol started it.
    fn copying(&self) -> Option<bool> {
        match self.client.state() {
            PgWireConnectionState::CopyInProgress(extended) => Some(extended),
            _ => None,
        }
    }

    /// Returns the next frame; an error if the client takes too long to send it.
    async fn receive(&mut self) -> Result<Option<Received>, Ended> {
        let connection = Arc::clone(&self.connection);
        loop {
            let copying = self.copying();
            let received = tokio::select! {
                biased;
                received = self.incoming.frame() => received,
                error = connection.copy_overdue(), if copying.is_some() => {
                    self.fail(began_copy(copying == Some(true)), error).await?;
                    continue;
                }
                error = connection.idle_too_long(), if self.is_idle => return Err(error.into()),
            };
            self.is_idle = false;
            return received.map_err(|unread| match unread {
                Unread::Closed(error) => Ended::Lost(error),
                Unread::Violation(error) => violation(error.to_string()).into(),
            });
        }
    }

    async fn answer(&mut self, frame: Frame) -> Result<Then, Ended> {
        let kind = frame.kind;
        if kind == framing::TERMINATE {
            return Ok(Then::End);
        }
        if let Some(extended) = self.copying() {
            self.answer_in_copy(frame, extended).await?;
            return Ok(Then::GoOn);
        }
        if kind == framing::SYNC {
            self.skipping = false;
        }
        let of_a_copy =
            matches!(kind, framing::COPY_DATA | framing::COPY_DONE | framing::COPY_FAIL);
        if self.skipping || of_a_copy {
            return Ok(Then::GoOn);
        }
        match Message::read(frame) {
            Ok(message) => self.perform(kind, message).await,
            Err(error) => self.fail(kind, error).await.map(|()| Then::GoOn),
        }
    }

    /// Answers a message whose body was skipped.
    async fn answer_skipped(&mut self, kind: u8, reason: SkipReason) -> Result<Then, Ended> {
        if self.copying().is_some() {
            return Err(unexpected_in_copy(kind).into());
        }
        if !self.skipping {
            self.fail(kind, unkept(reason)).await?;
        }
        Ok(Then::GoOn)
    }

    /// Executes a message. Also ends it when the client closes the connection.
    async fn perform(&mut self, kind: u8, message: Message) -> Result<Then, Ended> {
        let connection = Arc::clone(&self.connection);
        connection.is_active(&message);
        let progress = self.client.get_ref().progress();
        let mut gone = false;
        let outcome = {
            let mut work = std::pin::pin!(perform(&connection, self.client, message));
            let mut stalled = std::pin::pin!(stalled(&connection, &progress));
            tokio::select! {
                biased;
                outcome = &mut work => Some(outcome),
                () = self.incoming.gone() => {
                    gone = true;
                    let rest = after_the_end(&connection, &mut work);
                    tokio::select! { outcome = rest => Some(outcome), () = &mut stalled => None }
                }
                () = &mut stalled => None,
            }
        };
        match outcome {
            None => return Err(unread()),
            Some(Ok(())) if matches!(kind, framing::QUERY | framing::SYNC) => self.waits().await,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                // If the client does not read, sending the error would block forever.
                tokio::select! {
                    biased;
                    told = self.fail(kind, error) => told?,
                    () = stalled(&connection, &progress) => return Err(unread()),
                }
            }
        }
        Ok(if gone { Then::End } else { Then::GoOn })
    }

    async fn answer_in_copy(&mut self, frame: Frame, extended: bool) -> Result<(), Ended> {
        let kind = frame.kind;
        let connection = Arc::clone(&self.connection);
        let copied = match Message::read(frame) {
            Ok(Message::CopyData(data)) => connection.copy_data(&data).await,
            Ok(Message::CopyDone) => return self.end_copy(extended).await,
            Ok(Message::CopyFail(reason)) => Err(connection.copy_fail(&reason).await),
            // Clients send these right after the message that started the COPY.
            Ok(Message::Flush | Message::Sync) => Ok(()),
            Ok(_) => return Err(unexpected_in_copy(kind).into()),
            Err(error) => Err(error),
        };
        match copied {
            Ok(()) => Ok(()),
            Err(error) => self.fail(began_copy(extended), error).await,
        }
    }

    async fn end_copy(&mut self, extended: bool) -> Result<(), Ended> {
        match Arc::clone(&self.connection).copy_done().await {
            Ok(rows) => {
                let rows = usize::try_from(rows).unwrap_or(usize::MAX);
                let tag = Tag::new("COPY").with_rows(rows);
                self.client.feed(PgWireBackendMessage::CommandComplete(tag.into())).await?;
                self.client.set_state(PgWireConnectionState::ReadyForQuery);
                if extended { Ok(()) } else { self.ready().await }
            }
            Err(error) => self.fail(began_copy(extended), error).await,
        }
    }

    /// Sends an error in response to a message of this kind, and ends the COPY and the transaction.
    async fn fail(&mut self, kind: u8, error: impl Into<PgWireError>) -> Result<(), Ended> {
        let info = match error.into() {
            PgWireError::IoError(error) => return Err(Ended::Lost(error)),
            error => error_fields(error),
        };
        if info.is_fatal() {
            return Err(Ended::Fatal(Box::new(info)));
        }
        // Sent first: a stopped statement may hold the session a little longer.
        self.client.send(PgWireBackendMessage::ErrorResponse(info.into())).await?;
        let connection = Arc::clone(&self.connection);
        connection.abandon_copy().await;
        connection.abandon_implicit().await;
        connection.fail_transaction();
        self.client.set_state(PgWireConnectionState::ReadyForQuery);
        if !framing::is_extended(kind) {
            return self.ready().await;
        }
        self.skipping = true;
        Ok(())
    }

    async fn ready(&mut self) -> Result<(), Ended> {
        let status = self.connection.transaction_status().await;
        send_ready_for_query(self.client, status).await?;
        self.waits().await;
        Ok(())
    }

    /// After `ReadyForQuery`: drops portals outside of a transaction, and marks the session as waiting.
    async fn waits(&mut self) {
        if self.copying().is_some() {
            return;
        }
        self.is_idle = true;
        let connection = Arc::clone(&self.connection);
        if let SessionState::Idle = connection.waits().await {
            self.client.portal_store().clear_portals();
        }
    }
}

/// Boxed, so that the compiler checks only once whether its contents are `Send`.
fn perform<'a>(
    connection: &'a Arc<Connection>,
    client: &'a mut Client,
    message: Message,
) -> BoxFuture<'a, PgWireResult<()>> {
    let work = async move {
        match message {
            Message::Query(query) => connection.answer_query(client, &query).await,
            Message::Parse(parse) => connection.answer_parse(client, parse).await,
            Message::Bind(bind) => connection.answer_bind(client, bind).await,
            Message::Describe(describe) => Connection::answer_describe(client, describe).await,
            Message::Execute(execute) => connection.answer_execute(client, execute).await,
            Message::Close(close) => connection.answer_close(client, close).await,
            Message::Flush => Ok(SinkExt::<PgWireBackendMessage>::flush(client).await?),
            Message::Sync => connection.answer_sync(client).await,
            // Belongs to a COPY that is over, or ends the session; both were handled before.
            Message::CopyData(_)
            | Message::CopyDone
            | Message::CopyFail(_)
            | Message::Terminate => Ok(()),
        }
    };
    work.boxed()
}

/// The end of a session whose client does not read its output.
fn unread() -> Ended {
    Ended::Lost(std::io::ErrorKind::TimedOut.into())
}

fn unexpected_in_copy(kind: u8) -> SqlError {
    violation(format!("unexpected message type 0x{kind:02X} during COPY from stdin"))
}

/// Finishes `work` after its client has closed its end: waits for a moment, in which statements sent without
/// waiting may complete, then stops it.
async fn after_the_end<T>(
    connection: &Connection,
    work: &mut (impl Future<Output = T> + Unpin),
) -> T {
    tokio::select! {
        biased;
        outcome = &mut *work => return outcome,
        () = tokio::time::sleep(END_GRACE) => connection.abandon(),
    }
    work.await
}

/// Resolves when a stopped statement cannot end because its client does not read the output.
async fn stalled(connection: &Connection, progress: &Progress) {
    let (mut stalled, mut sent) = (0, progress.sent());
    while stalled < STALL_CHECKS {
        tokio::time::sleep(STALL_CHECK).await;
        let stuck = progress.is_blocked() && progress.sent() == sent && connection.is_overdue();
        stalled = if stuck { stalled + 1 } else { 0 };
        sent = progress.sent();
    }
}

/// The kind of message that started a `COPY`.
fn began_copy(extended: bool) -> u8 {
    if extended { framing::EXECUTE } else { framing::QUERY }
}

/// The error in response to a message whose body was skipped.
fn unkept(reason: SkipReason) -> SqlError {
    match reason {
        SkipReason::TooLong { length } => SqlError::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!("statement of {length} bytes is too long"),
        )
        .detail(format!("A statement has at most {STATEMENT_BYTES_MAX} bytes."))
        .hint("Send rows with COPY, or as parameters."),
        SkipReason::NoRoom { length } => {
            SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory for messages")
                .detail(format!("A message of {length} bytes has no room next to those of others."))
                .hint("Try again, send less at a time, or raise --total-memory-bytes.")
        }
    }
}
