//! `BEGIN … COMMIT`: a transaction has one read view, sees its own writes, and commits in one epoch.

use super::{Outcome, Reply};
use crate::Frontend;
use crate::parser::{Discard, Statement};
use crate::session::{Session, Transaction};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// `BEGIN`: starts a transaction, or makes an implicit one explicit.
pub fn begin(session: &mut Session, read_only: bool) -> Reply {
    match &mut session.transaction {
        // As in PostgreSQL, the earlier statements of the same text become part of the transaction.
        Some(transaction) if transaction.implicit => {
            (transaction.implicit, transaction.read_only) = (false, read_only);
        }
        Some(_) => {
            let notices = vec!["there is already a transaction in progress".to_owned()];
            return Reply { outcome: Outcome::done("BEGIN"), notices };
        }
        None => session.transaction = Some(Transaction { read_only, ..Transaction::default() }),
    }
    Outcome::Begun.into()
}

impl Frontend {
    /// Commits the writes of the transaction. The transaction is over in any case.
    ///
    /// # Errors
    /// SQLSTATE 40001 if another transaction has changed the same rows, keys or definitions.
    pub(crate) async fn commit_transaction(
        &self,
        session: &mut Session,
    ) -> Result<Reply, SqlError> {
        let open = session.transaction.as_ref().filter(|transaction| !transaction.failed);
        if let Some(transaction) = open
            && let Some(view) = transaction.view.clone()
        {
            // The staged files are held until the reply has arrived.
            let (tables, staged) = transaction.pending.take();
            if !tables.is_empty()
                && let Err(error) = self.commit_at(view.epoch, tables, staged).await
            {
                session.transaction = None;
                return Err(error.into());
            }
        }
        Ok(end(session, "COMMIT"))
    }
}

/// Ends the transaction without committing; `tag` is the command tag on success.
pub fn end(session: &mut Session, tag: &'static str) -> Reply {
    match session.transaction.take() {
        // As in PostgreSQL, committing a failed transaction rolls back and reports ROLLBACK.
        Some(transaction) if transaction.failed => Outcome::Ended("ROLLBACK").into(),
        Some(transaction) if !transaction.implicit => Outcome::Ended(tag).into(),
        _ => Reply {
            outcome: Outcome::done(tag),
            notices: vec!["there is no transaction in progress".to_owned()],
        },
    }
}

/// `DISCARD`: resets the session. Fails with 25001 inside a transaction.
pub fn discard(session: &mut Session, discard: Discard) -> Result<Reply, SqlError> {
    if session.transaction.is_some() {
        return Err(SqlError::new(
            SqlState::ACTIVE_SQL_TRANSACTION,
            "DISCARD cannot run inside a transaction block",
        ));
    }
    let tag = match discard {
        Discard::All => {
            session.reset_all();
            "DISCARD ALL"
        }
        Discard::Plans => "DISCARD PLANS",
        Discard::Sequences => "DISCARD SEQUENCES",
        Discard::Temp => "DISCARD TEMP",
    };
    Ok(Outcome::done(tag).into())
}

/// After an error in a transaction, only its end is accepted (25P02).
pub fn refuse_in_failed(session: &Session, statement: &Statement) -> Result<(), SqlError> {
    if matches!(statement, Statement::Commit | Statement::Rollback | Statement::Empty) {
        return Ok(());
    }
    session.check_not_failed()
}
