//! `SET` and `RESET`: session variables, and `QUERY_EPOCH` for reading the past.

use super::{Outcome, Reply};
use crate::Frontend;
use crate::parser::{SetScope, SetValue};
use crate::session::Session;
use crate::variables::{self, QUERY_EPOCH, SEARCH_PATH, SEARCH_PATH_BYTES_MAX, TIMEZONE, names_in};
use tidemark_ledger::epoch::Epoch;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

impl Frontend {
    /// Applies the settings that a client asks for when it connects; `RESET` returns to them.
    pub async fn begin_session(
        &self,
        session: &mut Session,
        settings: &[(String, String)],
    ) -> Result<(), SqlError> {
        for (name, value) in settings {
            let values = match variables::is_special(name)? {
                Some(SEARCH_PATH) => names_in(value).ok_or_else(|| invalid_list(value))?,
                _ => vec![value.clone()],
            };
            match self.set_to(session, name, &values).await {
                // Drivers send the zone of their machine. The server says that it is in UTC.
                Err(_) if name.eq_ignore_ascii_case(TIMEZONE) => {}
                set => set?,
            }
        }
        session.begin();
        Ok(())
    }

    pub(super) async fn set(
        &self,
        session: &mut Session,
        scope: SetScope,
        name: &str,
        value: &SetValue,
    ) -> Result<Reply, SqlError> {
        if scope == SetScope::Local {
            return Err(SqlError::unsupported("SET LOCAL").hint("Use SET, and RESET afterwards."));
        }
        let values = match value {
            SetValue::Default => return self.reset(session, Some(name)).map(set_tag),
            SetValue::Values(values) => values,
        };
        self.set_to(session, name, values).await?;
        Ok(Outcome::done("SET").into())
    }

    async fn set_to(
        &self,
        session: &mut Session,
        name: &str,
        values: &[String],
    ) -> Result<(), SqlError> {
        match variables::is_special(name)? {
            Some(QUERY_EPOCH) => self.set_query_epoch(session, values).await?,
            Some(SEARCH_PATH) => session.variables.keep(SEARCH_PATH, search_path(values)?),
            _ => session.variables.set(name, &values.join(", "))?,
        }
        Ok(())
    }

    pub(super) fn reset(
        &self,
        session: &mut Session,
        name: Option<&str>,
    ) -> Result<Reply, SqlError> {
        match name {
            None => {
                refuse_epoch_in_transaction(session)?;
                session.reset_all();
            }
            Some(name) => {
                if variables::is_special(name)? == Some(QUERY_EPOCH) {
                    refuse_epoch_in_transaction(session)?;
                    session.reset_epoch();
                }
                session.variables.reset(name)?;
            }
        }
        Ok(Outcome::done("RESET").into())
    }

    /// Moves the session to an epoch that some snapshot covers; 0 returns it to the present.
    async fn set_query_epoch(
        &self,
        session: &mut Session,
        values: &[String],
    ) -> Result<(), SqlError> {
        let [value] = values else {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "SET QUERY_EPOCH takes only one argument",
            ));
        };
        let epoch = parse_epoch(value)?;
        refuse_epoch_in_transaction(session)?;
        session.past = if epoch == Epoch::ZERO { None } else { Some(self.views.at(epoch).await?) };
        session.variables.keep(QUERY_EPOCH, epoch.to_string());
        Ok(())
    }
}

/// A transaction keeps the view it began with.
fn refuse_epoch_in_transaction(session: &Session) -> Result<(), SqlError> {
    if session.transaction.is_none() {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::ACTIVE_SQL_TRANSACTION,
        "query_epoch cannot be changed inside a transaction block",
    )
    .hint("COMMIT first."))
}

fn parse_epoch(value: &str) -> Result<Epoch, SqlError> {
    value.trim().parse().map_err(|e: std::num::ParseIntError| {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("Invalid value `{value}` for `query_epoch`"),
        )
        .detail(format!("It must be a whole number: {e}."))
        .hint("Take one from rw_catalog.rw_meta_snapshot; 0 reads the present.")
    })
}

fn invalid_list(value: &str) -> SqlError {
    let message = format!("invalid value for parameter \"{SEARCH_PATH}\": \"{value}\"");
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message).detail("List syntax is invalid.")
}

fn search_path(values: &[String]) -> Result<String, SqlError> {
    let length: usize = values.iter().map(String::len).sum();
    if length > SEARCH_PATH_BYTES_MAX {
        let message = format!("search_path has more than {SEARCH_PATH_BYTES_MAX} bytes");
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
    }
    Ok(quoted_list(values))
}

fn quoted_list(values: &[String]) -> String {
    let quoted = values.iter().map(|value| {
        let plain = value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if plain && !value.is_empty() {
            value.clone()
        } else {
            format!("\"{}\"", value.replace('"', "\"\""))
        }
    });
    quoted.collect::<Vec<_>>().join(", ")
}

fn set_tag(reply: Reply) -> Reply {
    Reply { outcome: Outcome::done("SET"), ..reply }
}
