//! The parser: our own statements from the tokens, all others through `sqlparser`.

use sqlparser::ast::Expr;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, TokenizerError, Word};

use super::ast::{ParsedStatement, RelationName, Statement};
use super::check::{self, unsupported_statement};
use super::copy::parse_copy;
use super::cursor::{Cursor, lowercase_first, split_location};
use super::depth::{RECURSION_MAX, balance, check_depth, check_tree, too_deep};
use super::dialect::SqlDialect;
use super::escapes::{check_escapes, wrong_escape};
use super::session;
use super::size::check_tokens;
use crate::frontend::error::SqlError;
use crate::frontend::pgwire::sqlstate::SqlState;
use crate::meta::command::BackupOptions;

/// The statements of `sql`, in order; a text without any holds one [`Statement::Empty`].
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>, SqlError> {
    parse_within(sql, usize::MAX)
}

/// As [`parse`], of a text that has no more than `tokens_max` tokens.
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

/// Reads a lone expression; `None` where the text is none.
pub fn parse_expression(sql: &str) -> Result<Option<Expr>, SqlError> {
    let tokens = tokenize(sql)?;
    let dialect = SqlDialect::bounded(tokens.len());
    let mut parser = StatementParser::new(sql, tokens, &dialect);
    let Ok(mut expr) = parser.inner.parse_expr() else { return Ok(None) };
    balance(&mut expr);
    check_tree(&expr)?;
    Ok(Some(expr))
}

/// The tokens of a text that nests no deeper than is read.
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

/// `TABLE t` at the start of a statement means `SELECT * FROM t`, and is read as that.
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

fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none())
}

/// Reads one statement after the other. The methods that `super::session` and `super::copy` use
/// look at unquoted words by their letters in upper case, so that no word of ours need be a keyword.
pub struct StatementParser<'a> {
    sql: &'a str,
    pub(super) inner: Parser<'a>,
}

impl<'a> StatementParser<'a> {
    fn new(sql: &'a str, tokens: Vec<TokenWithSpan>, dialect: &'a SqlDialect) -> Self {
        let inner = Parser::new(dialect)
            .with_recursion_limit(RECURSION_MAX)
            .with_tokens_with_locations(tokens);
        Self { sql, inner }
    }

    /// Moves to the next statement; false when there is none.
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

    /// Reads one statement, up to its semicolon.
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

    /// A statement that `sqlparser` reads.
    fn foreign_statement(&mut self) -> Result<Statement, SqlError> {
        let name = self.statement_name();
        match self.inner.parse_statement() {
            Ok(mut statement) => {
                balance(&mut statement);
                check_tree(&statement)?;
                check::lower(statement, &name)
            }
            Err(error) => Err(self.parse_error(error)),
        }
    }

    /// What to call a statement we do not know: `CREATE INDEX`, `GRANT`.
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

    /// A boolean value of an option.
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

    /// Whether the parenthesis ahead opens a query and not a list of options.
    fn opens_query(&self) -> bool {
        self.inner.peek_nth_token_ref(1).token == Token::LParen
            || matches!(self.word(1).as_deref(), Some("SELECT" | "WITH" | "VALUES" | "TABLE"))
    }

    /// The value of an option that is on or off, and on when left out.
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

    // ---- what the grammars are made of -------------------------------------------------------

    /// The n-th unread token as an upper-case word, when it is a word without quotes.
    pub fn word(&self, n: usize) -> Option<String> {
        match &self.inner.peek_nth_token_ref(n).token {
            Token::Word(Word { value, quote_style: None, .. }) => Some(value.to_ascii_uppercase()),
            _ => None,
        }
    }

    /// Reads `word` if it comes next.
    pub fn eat(&mut self, word: &str) -> bool {
        let next = self.word(0).is_some_and(|next| next == word);
        if next {
            self.inner.advance_token();
        }
        next
    }

    pub fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.eat(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub fn expect_token(&mut self, token: &Token) -> Result<(), SqlError> {
        if self.inner.consume_token(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// `TO` or `=`.
    pub fn expect_assignment(&mut self) -> Result<(), SqlError> {
        if self.inner.consume_token(&Token::Eq) { Ok(()) } else { self.expect("TO") }
    }

    /// Whether the statement ends here.
    pub fn at_end(&self) -> bool {
        matches!(self.inner.peek_token_ref().token, Token::SemiColon | Token::EOF)
    }

    /// An identifier, folded.
    pub fn identifier(&mut self) -> Result<String, SqlError> {
        match &self.inner.peek_token_ref().token {
            Token::Word(Word { value, quote_style, .. }) => {
                let name = match quote_style {
                    Some(_) => value.clone(),
                    None => value.to_ascii_lowercase(),
                };
                self.inner.advance_token();
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    pub fn relation_name(&mut self) -> Result<RelationName, SqlError> {
        match self.inner.parse_object_name(false) {
            Ok(name) => RelationName::try_from(&name),
            Err(error) => Err(self.parse_error(error)),
        }
    }

    /// The name of a setting: case never matters, dots may be in it.
    pub fn setting_name(&mut self) -> Result<String, SqlError> {
        let mut name = self.identifier()?;
        while self.inner.consume_token(&Token::Period) {
            name.push('.');
            name.push_str(&self.identifier()?);
        }
        Ok(name.to_ascii_lowercase())
    }

    pub fn string(&mut self) -> Result<String, SqlError> {
        let text = match &self.inner.peek_token_ref().token {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
            Token::DollarQuotedString(quoted) => quoted.value.clone(),
            _ => return Err(self.unexpected()),
        };
        self.inner.advance_token();
        Ok(text)
    }

    /// A number, a string, a quoted or a bare word: the text it stands for.
    pub fn setting_value(&mut self) -> Result<String, SqlError> {
        let sign = match self.inner.peek_token_ref().token {
            Token::Minus => "-",
            Token::Plus => "+",
            _ => "",
        };
        if !sign.is_empty() {
            self.inner.advance_token();
        }
        match &self.inner.peek_token_ref().token {
            Token::Number(digits, _) => {
                let value = format!("{}{digits}", sign.trim_start_matches('+'));
                self.inner.advance_token();
                Ok(value)
            }
            Token::Placeholder(_) => {
                let error = SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "a setting cannot be given as a parameter",
                );
                Err(self.located(error.hint("Write the value into the statement.")))
            }
            _ if !sign.is_empty() => Err(self.unexpected()),
            Token::Word(_) => self.identifier(),
            _ => self.string(),
        }
    }

    // ---- where things are, and errors that say so --------------------------------------------

    /// The span of the last token read.
    fn last_span(&self) -> Span {
        let read = (0..self.inner.index()).rev().map(|at| self.inner.token_at(at));
        let last = read
            .filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
            .find(|token| token.span != Span::empty());
        last.map_or(Span::empty(), |token| token.span)
    }

    /// Where the query of the `CREATE VIEW` that starts at token `first` starts: after the first
    /// `AS` outside parentheses, since no name before it can be an unquoted `AS`.
    fn view_query_start(&self, first: usize) -> Option<Location> {
        let mut depth = 0usize;
        let mut tokens = (first..self.inner.index()).map(|at| self.inner.token_at(at));
        tokens.by_ref().find(|token| {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && is_keyword(&token.token, Keyword::AS)
        })?;
        let mut rest = tokens.skip_while(|token| matches!(token.token, Token::Whitespace(_)));
        rest.next().map(|token| token.span.start)
    }

    /// The error that the next token does not belong here.
    pub fn unexpected(&self) -> SqlError {
        self.near(self.inner.peek_token_ref().span)
    }

    /// The error with the place of the next token.
    pub fn located(&self, error: SqlError) -> SqlError {
        let span = self.inner.peek_token_ref().span;
        if span == Span::empty() {
            error
        } else {
            error.position(self.characters_to(span.start) + 1)
        }
    }

    fn near(&self, span: Span) -> SqlError {
        if span == Span::empty() {
            return SqlError::syntax("syntax error at end of input")
                .position(self.sql.chars().count() + 1);
        }
        let mut cursor = Cursor::new(self.sql);
        let start = cursor.byte_at(span.start);
        let position = cursor.characters() + 1;
        let end = cursor.byte_at(span.end);
        let word = &self.sql[start..end];
        let versioned = ["SYSTEM_TIME", "SYSTEM_VERSION"];
        if versioned.iter().any(|name| word.eq_ignore_ascii_case(name)) {
            return SqlError::unsupported(format!("FOR {} AS OF", word.to_uppercase()))
                .hint("Use SET QUERY_EPOCH to read the past.")
                .position(position);
        }
        SqlError::syntax(format!("syntax error at or near \"{word}\"")).position(position)
    }

    fn characters_to(&self, location: Location) -> usize {
        let mut cursor = Cursor::new(self.sql);
        cursor.byte_at(location);
        cursor.characters()
    }

    /// An error of `sqlparser`, which tells the place only in its text.
    pub fn parse_error(&self, error: ParserError) -> SqlError {
        let text = match error {
            ParserError::RecursionLimitExceeded => return too_deep(),
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        };
        let (message, location) = split_location(&text);
        let found = message.starts_with("Expected: ") && message.contains(", found: ");
        match location {
            None if found => self.near(Span::empty()),
            Some(location) if found => self.near(self.span_at(location)),
            None => SqlError::syntax(lowercase_first(message)),
            Some(location) => SqlError::syntax(lowercase_first(message))
                .position(self.characters_to(location) + 1),
        }
    }

    /// The span of the token that starts at `location`.
    fn span_at(&self, location: Location) -> Span {
        let tokens = (0..).map(|at| self.inner.token_at(at));
        let mut tokens = tokens.take_while(|token| token.token != Token::EOF);
        tokens.find(|token| token.span.start == location).map_or(Span::empty(), |token| token.span)
    }
}
