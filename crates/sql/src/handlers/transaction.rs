//! `BEGIN … COMMIT`: a transaction holds one read view, sees what it writes, and commits in one epoch.

use super::{Outcome, Reply};
use crate::Frontend;
use crate::parser::{Discard, Statement};
use crate::session::{Session, Transaction};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

pub fn begin(session: &mut Session, read_only: bool) -> Reply {
    match &mut session.transaction {
        // As PostgreSQL: what the text did before is part of it.
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
    /// Commits what the transaction wrote. Whatever comes of it, the transaction is over.
    ///
    /// # Errors
    /// SQLSTATE 40001 when somebody else changed the same rows, keys or definitions meanwhile.
    pub(crate) async fn commit_transaction(
        &self,
        session: &mut Session,
    ) -> Result<Reply, SqlError> {
        let open = session.transaction.as_ref().filter(|transaction| !transaction.failed);
        if let Some(transaction) = open
            && let Some(view) = transaction.view.clone()
        {
            // The files are held until the answer is there.
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

pub fn end(session: &mut Session, tag: &'static str) -> Reply {
    match session.transaction.take() {
        // As PostgreSQL: committing what failed rolls back, and says so.
        Some(transaction) if transaction.failed => Outcome::Ended("ROLLBACK").into(),
        Some(transaction) if !transaction.implicit => Outcome::Ended(tag).into(),
        _ => Reply {
            outcome: Outcome::done(tag),
            notices: vec!["there is no transaction in progress".to_owned()],
        },
    }
}

pub fn discard(session: &mut Session, discard: Discard) -> Result<Reply, SqlError> {
    if session.transaction.is_some() {
        return Err(SqlError::new(
            SqlState::ACTIVE_SQL_TRANSACTION,
            "DISCARD cannot run inside a transaction block",
        ));
    }
    let tag = match discard {
        Discard::All => {
            session.past = None;
            session.variables.reset_all();
            "DISCARD ALL"
        }
        Discard::Plans => "DISCARD PLANS",
        Discard::Sequences => "DISCARD SEQUENCES",
        Discard::Temp => "DISCARD TEMP",
    };
    Ok(Outcome::done(tag).into())
}

/// After an error in a transaction only its end is taken.
pub fn refuse_in_failed(session: &Session, statement: &Statement) -> Result<(), SqlError> {
    let failed = session.transaction.as_ref().is_some_and(|t| t.failed);
    if !failed || matches!(statement, Statement::Commit | Statement::Rollback | Statement::Empty) {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    ))
}
