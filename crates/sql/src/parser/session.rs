//! Parses statements about the session: `SET`, `RESET`, `SHOW`, transactions, `DISCARD`, `DEALLOCATE`.

use sqlparser::tokenizer::Token;

use super::ast::{Discard, LikeFilter, SetScope, SetValue, ShowKind, Statement};
use super::words::StatementParser;
use tidemark_pg::error::SqlError;

/// `SET [SESSION | LOCAL] name {TO | =} {value, ... | DEFAULT}`, and the special forms of some settings.
pub fn parse_set(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.expect("SET")?;
    let scope = match parser.word(0).as_deref() {
        Some("SESSION") => SetScope::Session,
        Some("LOCAL") => SetScope::Local,
        _ => SetScope::Unspecified,
    };
    if scope != SetScope::Unspecified {
        parser.inner.advance_token();
    }
    match parser.word(0).as_deref() {
        Some("CHARACTERISTICS") => Err(SqlError::unsupported("SET SESSION CHARACTERISTICS")
            .hint("Say READ ONLY or READ WRITE with BEGIN.")),
        Some("AUTHORIZATION") => Err(SqlError::unsupported("SET SESSION AUTHORIZATION")),
        Some("ROLE") => Err(SqlError::unsupported("SET ROLE")),
        Some("CONSTRAINTS") => Err(SqlError::unsupported("SET CONSTRAINTS")),
        Some("TIME") if parser.word(1).as_deref() == Some("ZONE") => set_time_zone(parser, scope),
        Some("NAMES") => set_names(parser, scope),
        Some("TRANSACTION") => set_transaction(parser),
        _ => {
            let name = parser.setting_name()?;
            parser.expect_assignment()?;
            Ok(Statement::Set { scope, name, value: set_value(parser)? })
        }
    }
}

fn set_value(parser: &mut StatementParser<'_>) -> Result<SetValue, SqlError> {
    if parser.eat("DEFAULT") {
        return Ok(SetValue::Default);
    }
    let mut values = vec![parser.setting_value()?];
    while parser.inner.consume_token(&Token::Comma) {
        values.push(parser.setting_value()?);
    }
    Ok(SetValue::Values(values))
}

fn set_time_zone(parser: &mut StatementParser<'_>, scope: SetScope) -> Result<Statement, SqlError> {
    parser.expect("TIME")?;
    parser.expect("ZONE")?;
    let name = "timezone".to_owned();
    if parser.eat("LOCAL") {
        return Ok(Statement::Set { scope, name, value: SetValue::Default });
    }
    if parser.word(0).as_deref() == Some("INTERVAL") {
        return Err(SqlError::unsupported("SET TIME ZONE INTERVAL"));
    }
    Ok(Statement::Set { scope, name, value: set_value(parser)? })
}

fn set_names(parser: &mut StatementParser<'_>, scope: SetScope) -> Result<Statement, SqlError> {
    parser.expect("NAMES")?;
    let name = "client_encoding".to_owned();
    Ok(Statement::Set { scope, name, value: set_value(parser)? })
}

/// `SET TRANSACTION mode`: as in PostgreSQL, each mode is a separate setting.
fn set_transaction(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.expect("TRANSACTION")?;
    let (name, value) = if parser.eat("READ") {
        let only = parser.eat("ONLY");
        if !only {
            parser.expect("WRITE")?;
        }
        ("transaction_read_only", if only { "on" } else { "off" }.to_owned())
    } else if parser.word(0).as_deref() == Some("ISOLATION") {
        ("transaction_isolation", isolation_level(parser)?)
    } else {
        return Err(SqlError::unsupported("this mode of SET TRANSACTION"));
    };
    let value = SetValue::Values(vec![value]);
    Ok(Statement::Set { scope: SetScope::Local, name: name.to_owned(), value })
}

fn isolation_level(parser: &mut StatementParser<'_>) -> Result<String, SqlError> {
    parser.expect("ISOLATION")?;
    parser.expect("LEVEL")?;
    if parser.eat("SERIALIZABLE") {
        return Ok("serializable".to_owned());
    }
    if parser.eat("REPEATABLE") {
        parser.expect("READ")?;
        return Ok("repeatable read".to_owned());
    }
    parser.expect("READ")?;
    if parser.eat("COMMITTED") {
        return Ok("read committed".to_owned());
    }
    parser.expect("UNCOMMITTED")?;
    Ok("read uncommitted".to_owned())
}

/// `RESET {name | ALL | TIME ZONE}`
pub fn parse_reset(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.expect("RESET")?;
    if parser.eat("ALL") {
        return Ok(Statement::Reset { name: None });
    }
    let second = parser.word(1);
    match (parser.word(0).as_deref(), second.as_deref()) {
        (Some("SESSION"), Some("AUTHORIZATION")) => {
            Err(SqlError::unsupported("RESET SESSION AUTHORIZATION"))
        }
        (Some("ROLE"), None) => Err(SqlError::unsupported("RESET ROLE")),
        _ => Ok(Statement::Reset { name: Some(variable(parser)?) }),
    }
}

/// The name of a setting, or the words that stand for it.
fn variable(parser: &mut StatementParser<'_>) -> Result<String, SqlError> {
    let spelled: [(&[&str], &str); 3] = [
        (&["TIME", "ZONE"], "timezone"),
        (&["TRANSACTION", "ISOLATION", "LEVEL"], "transaction_isolation"),
        (&["SESSION", "AUTHORIZATION"], "session_authorization"),
    ];
    for (words, name) in spelled {
        let next = (0..words.len()).map(|n| parser.word(n));
        if next.eq(words.iter().map(|word| Some((*word).to_owned()))) {
            for word in words {
                parser.expect(word)?;
            }
            return Ok(name.to_owned());
        }
    }
    parser.setting_name()
}

/// `SHOW what [LIKE 'pattern']`
pub fn parse_show(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.expect("SHOW")?;
    let second = parser.word(1);
    let kind = match (parser.word(0).as_deref(), second.as_deref()) {
        (Some("ALL"), _) => single(parser, ShowKind::All)?,
        (Some("CLUSTER" | "CLUSTERS"), _) => single(parser, ShowKind::Cluster)?,
        (Some("DATABASES"), _) => single(parser, ShowKind::Databases)?,
        (Some("PARAMETERS"), _) => single(parser, ShowKind::Parameters)?,
        (Some("SCHEMAS"), _) => single(parser, ShowKind::Schemas)?,
        (Some("TABLES"), _) => {
            parser.expect("TABLES")?;
            ShowKind::Tables { schema: from_schema(parser)? }
        }
        (Some("VIEWS"), _) => {
            parser.expect("VIEWS")?;
            ShowKind::Views { schema: from_schema(parser)? }
        }
        (Some("MATERIALIZED"), Some("VIEWS")) => {
            parser.expect("MATERIALIZED")?;
            parser.expect("VIEWS")?;
            ShowKind::MaterializedViews { schema: from_schema(parser)? }
        }
        (Some("COLUMNS"), _) => {
            parser.expect("COLUMNS")?;
            if !parser.eat("IN") {
                parser.expect("FROM")?;
            }
            ShowKind::Columns { table: parser.relation_name()? }
        }
        (Some("CREATE"), _) => show_create(parser)?,
        _ => {
            return Ok(Statement::Show {
                kind: ShowKind::Variable(variable(parser)?),
                filter: None,
            });
        }
    };
    Ok(Statement::Show { kind, filter: like_filter(parser)? })
}

fn single(parser: &mut StatementParser<'_>, kind: ShowKind) -> Result<ShowKind, SqlError> {
    parser.identifier()?;
    Ok(kind)
}

fn from_schema(parser: &mut StatementParser<'_>) -> Result<Option<String>, SqlError> {
    if parser.eat("FROM") || parser.eat("IN") { parser.identifier().map(Some) } else { Ok(None) }
}

fn show_create(parser: &mut StatementParser<'_>) -> Result<ShowKind, SqlError> {
    parser.expect("CREATE")?;
    if parser.eat("TABLE") {
        return Ok(ShowKind::CreateTable { name: parser.relation_name()? });
    }
    if parser.eat("VIEW") {
        return Ok(ShowKind::CreateView { name: parser.relation_name()? });
    }
    let kind = parser.word(0).unwrap_or_default();
    Err(SqlError::unsupported(format!("SHOW CREATE {kind}")))
}

fn like_filter(parser: &mut StatementParser<'_>) -> Result<Option<LikeFilter>, SqlError> {
    let case_insensitive = parser.eat("ILIKE");
    if !case_insensitive && !parser.eat("LIKE") {
        return Ok(None);
    }
    Ok(Some(LikeFilter { pattern: parser.string()?, case_insensitive }))
}

/// `DESCRIBE table`
pub fn parse_describe(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.identifier()?;
    let kind = ShowKind::Columns { table: parser.relation_name()? };
    Ok(Statement::Show { kind, filter: None })
}

/// `BEGIN [WORK | TRANSACTION] [mode, ...]`, `START TRANSACTION [mode, ...]`
pub fn parse_begin(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    if parser.eat("BEGIN") {
        let _noise = parser.eat("WORK") || parser.eat("TRANSACTION");
    } else {
        parser.expect("START")?;
        parser.expect("TRANSACTION")?;
    }
    let (mut read_only, mut read_write, mut serializable) = (false, false, false);
    while !parser.at_end() {
        match parser.word(0).as_deref() {
            Some("READ") => {
                parser.expect("READ")?;
                read_only = parser.eat("ONLY");
                read_write = !read_only;
                if read_write {
                    parser.expect("WRITE")?;
                }
            }
            Some("ISOLATION") => serializable = isolation_level(parser)? == "serializable",
            Some("NOT") => {
                parser.expect("NOT")?;
                parser.expect("DEFERRABLE")?;
            }
            // A reader of one epoch never waits, so it is always deferrable.
            Some("DEFERRABLE") => parser.expect("DEFERRABLE")?,
            _ => return Err(parser.unexpected()),
        }
        if parser.inner.consume_token(&Token::Comma) && parser.at_end() {
            return Err(parser.unexpected());
        }
    }
    if serializable && !read_only {
        return Err(SqlError::unsupported("ISOLATION LEVEL SERIALIZABLE for writing")
            .hint("Use REPEATABLE READ, or READ ONLY."));
    }
    Ok(Statement::Begin { read_only, read_write })
}

/// `COMMIT`, `END`, `ROLLBACK`, `ABORT`, each with `[WORK | TRANSACTION] [AND NO CHAIN]`
pub fn parse_end(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    let word = parser.identifier()?;
    let _noise = parser.eat("WORK") || parser.eat("TRANSACTION");
    match parser.word(0).as_deref() {
        Some("PREPARED") => {
            let what = format!("{} PREPARED", word.to_uppercase());
            return Err(SqlError::unsupported(what));
        }
        Some("TO") => return Err(SqlError::unsupported("ROLLBACK TO SAVEPOINT")),
        _ => {}
    }
    if parser.eat("AND") {
        if !parser.eat("NO") {
            return Err(SqlError::unsupported("AND CHAIN"));
        }
        parser.expect("CHAIN")?;
    }
    let commits = matches!(word.as_str(), "commit" | "end");
    Ok(if commits { Statement::Commit } else { Statement::Rollback })
}

/// `DISCARD {ALL | PLANS | SEQUENCES | TEMP | TEMPORARY}`
pub fn parse_discard(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.expect("DISCARD")?;
    let what = match parser.word(0).as_deref() {
        Some("ALL") => Discard::All,
        Some("PLANS") => Discard::Plans,
        Some("SEQUENCES") => Discard::Sequences,
        Some("TEMP" | "TEMPORARY") => Discard::Temp,
        _ => return Err(parser.unexpected()),
    };
    parser.inner.advance_token();
    Ok(Statement::Discard(what))
}

/// `DEALLOCATE [PREPARE] {name | ALL}`
pub fn parse_deallocate(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.expect("DEALLOCATE")?;
    let _noise = parser.eat("PREPARE");
    let name = if parser.eat("ALL") { None } else { Some(parser.identifier()?) };
    Ok(Statement::Deallocate { name })
}

/// `CLOSE ALL`: connection pools send it before they reuse a connection.
pub fn parse_close_all(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.expect("CLOSE")?;
    parser.expect("ALL")?;
    Ok(Statement::NoOp("CLOSE CURSOR ALL"))
}

/// `UNLISTEN {* | channel}`
pub fn parse_unlisten(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.expect("UNLISTEN")?;
    if !parser.inner.consume_token(&Token::Mul) {
        parser.setting_name()?;
    }
    Ok(Statement::NoOp("UNLISTEN"))
}
