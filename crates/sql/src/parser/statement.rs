//! The parser: Tidemark's own statements from the tokens, all others through `sqlparser`.

use sqlparser::ast::Expr;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

use super::ast::{ParsedStatement, Statement};
use super::copy::parse_copy;
use super::cursor::{Cursor, lowercase_first};
use super::depth::{balance, check_depth, check_tree, too_deep};
use super::escapes::{check_escapes, wrong_escape};
use super::lower::{lower, unsupported_statement};
use super::session;
use super::size::check_tokens;
use super::words::{StatementParser, is_keyword};
use tidemark_engine::meta::command::BackupOptions;
use tidemark_pg::dialect::SqlDialect;
use tidemark_pg::error::SqlError;

/// Parses the statements of `sql` in order; an empty text yields one [`Statement::Empty`].
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>, SqlError> {
    parse_within(sql, usize::MAX)
}

/// Like [`parse`], for a text of at most `tokens_max` tokens.
pub fn parse_within(sql: &str, tokens_max: usize) -> Result<Vec<ParsedStatement>, SqlError> {
    check_tokens(sql, tokens_max)?;
    let tokens = tokenize(sql)?;
    let dialect = SqlDialect::bounded(tokens.len());
    let mut parser = StatementParser::new(sql, tokens, &dialect);
    let mut cursor = Cursor::new(sql);
    let mut statements = Vec::new();
    while parser.skip_semicolons() {
        let statement = parser.next_statement(&mut cursor);
        statements.push(if dialect.is_exhausted() { Err(too_deep()) } else { statement }?);
    }
    if statements.is_empty() {
        statements.push(ParsedStatement { statement: Statement::Empty, text: String::new() });
    }
    Ok(statements)
}

/// Parses a single expression; `None` if the text is not one.
pub fn parse_expression(sql: &str) -> Result<Option<Expr>, SqlError> {
    let tokens = tokenize(sql)?;
    let dialect = SqlDialect::bounded(tokens.len());
    let mut parser = StatementParser::new(sql, tokens, &dialect);
    let Ok(mut expr) = parser.inner.parse_expr() else { return Ok(None) };
    balance(&mut expr);
    check_tree(&expr)?;
    Ok(Some(expr))
}

/// Tokenizes a text and checks its nesting and escapes.
fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    let tokens = Tokenizer::new(&SqlDialect::default(), sql)
        .tokenize_with_location()
        .map_err(|error| bad_token(sql, &error))?;
    let tokens = expand_table_statements(tokens);
    check_depth(&tokens)?;
    check_escapes(&tokens)?;
    Ok(tokens)
}

fn bad_token(sql: &str, error: &TokenizerError) -> SqlError {
    let mut cursor = Cursor::new(sql);
    let at = cursor.byte_at(error.location);
    if let Some(error) = wrong_escape(&sql[at..]) {
        return error.position(cursor.characters() + 1);
    }
    let message = match error.message.as_str() {
        "Unterminated string literal" => "unterminated quoted string".to_owned(),
        other if other.contains("multi-line comment") => "unterminated /* comment".to_owned(),
        other if other.contains("dollar") => "unterminated dollar-quoted string".to_owned(),
        other => lowercase_first(other),
    };
    let near: String = sql[at..].chars().take(20).collect();
    let message =
        if near.is_empty() { message } else { format!("{message} at or near \"{near}\"") };
    SqlError::syntax(message).position(cursor.characters() + 1)
}

/// Expands `TABLE t` at the start of a statement to `SELECT * FROM t`.
fn expand_table_statements(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut expanded = Vec::with_capacity(tokens.len());
    let mut at_start = true;
    for token in tokens {
        if at_start && is_keyword(&token.token, Keyword::TABLE) {
            let words = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
            expanded.extend(words.map(|word| TokenWithSpan::new(word, token.span)));
            at_start = false;
            continue;
        }
        match token.token {
            Token::Whitespace(_) => {}
            Token::SemiColon => at_start = true,
            _ => at_start = false,
        }
        expanded.push(token);
    }
    expanded
}

impl StatementParser<'_> {
    /// Moves to the next statement; returns false if there is none.
    fn skip_semicolons(&mut self) -> bool {
        while self.inner.consume_token(&Token::SemiColon) {}
        self.inner.peek_token_ref().token != Token::EOF
    }

    fn next_statement(&mut self, cursor: &mut Cursor<'_>) -> Result<ParsedStatement, SqlError> {
        let first = self.inner.index();
        let start = self.inner.peek_token_ref().span.start;
        let mut statement = self.statement()?;
        if !self.at_end() {
            return Err(self.unexpected());
        }
        let start = cursor.byte_at(start);
        let query_start = match &statement {
            Statement::CreateView(_) => self.view_query_start(first).map(|at| cursor.byte_at(at)),
            _ => None,
        };
        let end = cursor.byte_at(self.last_span().end);
        if let (Statement::CreateView(view), Some(at)) = (&mut statement, query_start) {
            self.sql[at..end].clone_into(&mut view.query_text);
        }
        Ok(ParsedStatement { statement, text: self.sql[start..end].to_owned() })
    }

    /// Parses one statement up to its semicolon.
    pub fn statement(&mut self) -> Result<Statement, SqlError> {
        let second = self.word(1);
        match (self.word(0).as_deref().unwrap_or_default(), second.as_deref().unwrap_or_default()) {
            ("BACKUP", _) => self.backup(),
            ("DELETE", "META") => self.delete_meta_snapshots(),
            ("FLUSH", _) => self.flush(),
            ("ALTER", "SYSTEM") => self.alter_system(),
            ("EXPLAIN", _) => self.explain(),
            ("COPY", _) => parse_copy(self),
            ("SET", _) => session::parse_set(self),
            ("RESET", _) => session::parse_reset(self),
            ("SHOW", _) => session::parse_show(self),
            ("DESCRIBE" | "DESC", _) => session::parse_describe(self),
            ("BEGIN" | "START", _) => session::parse_begin(self),
            ("COMMIT" | "END" | "ROLLBACK" | "ABORT", _) => session::parse_end(self),
            ("DISCARD", _) => session::parse_discard(self),
            ("DEALLOCATE", _) => session::parse_deallocate(self),
            ("CLOSE", "ALL") => session::parse_close_all(self),
            ("UNLISTEN", _) => session::parse_unlisten(self),
            _ => self.foreign_statement(),
        }
    }

    /// Parses a statement with `sqlparser`.
    fn foreign_statement(&mut self) -> Result<Statement, SqlError> {
        let name = self.statement_name();
        match self.inner.parse_statement() {
            Ok(mut statement) => {
                balance(&mut statement);
                check_tree(&statement)?;
                lower(statement, &name)
            }
            Err(error) => Err(self.parse_error(error)),
        }
    }

    /// The name of an unsupported statement: `CREATE INDEX`, `GRANT`.
    fn statement_name(&self) -> String {
        let first = self.word(0).unwrap_or_else(|| "this statement".to_owned());
        if !matches!(first.as_str(), "CREATE" | "ALTER" | "DROP" | "REFRESH") {
            return first;
        }
        let skipped = ["OR", "REPLACE", "UNIQUE", "TEMP", "TEMPORARY", "RECURSIVE", "DEFAULT"];
        let mut words = (1..).map_while(|n| self.word(n));
        let kind = words.find(|word| !skipped.contains(&word.as_str()));
        match kind.as_deref() {
            Some("MATERIALIZED") => format!("{first} MATERIALIZED VIEW"),
            Some(kind) => format!("{first} {kind}"),
            None => first,
        }
    }

    fn flush(&mut self) -> Result<Statement, SqlError> {
        self.expect("FLUSH")?;
        Ok(Statement::Flush)
    }

    /// `BACKUP [WITH (remarks = 'text', copy_data [= boolean])]`
    fn backup(&mut self) -> Result<Statement, SqlError> {
        self.expect("BACKUP")?;
        if !self.eat("WITH") {
            return Ok(Statement::Backup(BackupOptions::default()));
        }
        let mut options = BackupOptions::default();
        let mut given: Vec<String> = vec![];
        self.expect_token(&Token::LParen)?;
        loop {
            let option = self.identifier()?;
            if given.contains(&option) {
                let text = format!("conflicting or redundant BACKUP option \"{option}\"");
                return Err(SqlError::syntax(text));
            }
            self.backup_option(&option, &mut options)?;
            given.push(option);
            if !self.inner.consume_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(Statement::Backup(options))
    }

    fn backup_option(&mut self, name: &str, options: &mut BackupOptions) -> Result<(), SqlError> {
        match name {
            "remarks" => {
                self.expect_token(&Token::Eq)?;
                options.remarks = Some(self.string()?);
            }
            "copy_data" => {
                let is_bare = !self.inner.consume_token(&Token::Eq);
                options.copy_data = is_bare || self.truth()?;
            }
            _ => {
                let error = SqlError::syntax(format!("unrecognized BACKUP option \"{name}\""));
                return Err(error.hint("The options are remarks and copy_data."));
            }
        }
        Ok(())
    }

    /// Parses a boolean option value.
    fn truth(&mut self) -> Result<bool, SqlError> {
        match self.setting_value()?.to_ascii_lowercase().as_str() {
            "true" | "on" | "1" => Ok(true),
            "false" | "off" | "0" => Ok(false),
            other => Err(SqlError::syntax(format!("\"{other}\" is no boolean value"))),
        }
    }

    /// `DELETE META SNAPSHOT[S] id [, ...]`
    fn delete_meta_snapshots(&mut self) -> Result<Statement, SqlError> {
        self.expect("DELETE")?;
        self.expect("META")?;
        if !self.eat("SNAPSHOT") && !self.eat("SNAPSHOTS") {
            return Err(self.located(SqlError::syntax("expected SNAPSHOT or SNAPSHOTS")));
        }
        let mut ids = vec![self.snapshot_id()?];
        while self.inner.consume_token(&Token::Comma) {
            ids.push(self.snapshot_id()?);
        }
        Ok(Statement::DeleteMetaSnapshots(ids))
    }

    fn snapshot_id(&mut self) -> Result<u64, SqlError> {
        let Token::Number(digits, _) = &self.inner.peek_token_ref().token else {
            return Err(self.unexpected());
        };
        let Ok(id) = digits.parse() else {
            let error = SqlError::syntax(format!("invalid snapshot id: {digits}"));
            return Err(self.located(error));
        };
        self.inner.advance_token();
        Ok(id)
    }

    /// `ALTER SYSTEM SET name {TO | =} {value | DEFAULT}`, `ALTER SYSTEM RESET name`
    fn alter_system(&mut self) -> Result<Statement, SqlError> {
        self.expect("ALTER")?;
        self.expect("SYSTEM")?;
        if self.eat("RESET") {
            return Ok(Statement::AlterSystem { name: self.setting_name()?, value: None });
        }
        self.expect("SET")?;
        let name = self.setting_name()?;
        self.expect_assignment()?;
        let value = if self.eat("DEFAULT") { None } else { Some(self.setting_value()?) };
        Ok(Statement::AlterSystem { name, value })
    }

    fn explain(&mut self) -> Result<Statement, SqlError> {
        self.expect("EXPLAIN")?;
        let (mut analyze, mut verbose) = (false, false);
        if self.inner.peek_token_ref().token == Token::LParen && !self.opens_query() {
            self.inner.advance_token();
            loop {
                let option = self.identifier()?;
                match option.as_str() {
                    "analyze" => analyze = self.switch()?,
                    "verbose" => verbose = self.switch()?,
                    "format" if self.eat("TEXT") => {}
                    "format" => {
                        return Err(SqlError::unsupported("an EXPLAIN format other than TEXT"));
                    }
                    other => {
                        let what = format!("EXPLAIN option {}", other.to_uppercase());
                        return Err(SqlError::unsupported(what));
                    }
                }
                if !self.inner.consume_token(&Token::Comma) {
                    break;
                }
            }
            self.expect_token(&Token::RParen)?;
        } else {
            analyze = self.eat("ANALYZE");
            verbose = self.eat("VERBOSE");
        }
        let name = self.statement_name();
        if name == "EXPLAIN" {
            return Err(unsupported_statement("EXPLAIN EXPLAIN"));
        }
        let statement = self.statement()?;
        match statement {
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_) => {
                Ok(Statement::Explain { analyze, verbose, statement: Box::new(statement) })
            }
            _ => Err(unsupported_statement(&format!("EXPLAIN {name}"))),
        }
    }

    /// Whether the parenthesis ahead begins a query rather than a list of options.
    fn opens_query(&self) -> bool {
        self.inner.peek_nth_token_ref(1).token == Token::LParen
            || matches!(self.word(1).as_deref(), Some("SELECT" | "WITH" | "VALUES" | "TABLE"))
    }

    /// Parses the value of an on/off option, which is on if omitted.
    fn switch(&mut self) -> Result<bool, SqlError> {
        match &self.inner.peek_token_ref().token {
            Token::Comma | Token::RParen => return Ok(true),
            _ => {}
        }
        let value = self.setting_value()?;
        match value.as_str() {
            "true" | "on" | "1" => Ok(true),
            "false" | "off" | "0" => Ok(false),
            other => {
                Err(SqlError::syntax(format!("invalid value for a boolean option: \"{other}\"")))
            }
        }
    }

    // ---- Grammar rules ----------------------------------------------------------------------
}
