//! Reads a statement word by word.

use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Word};

use super::ast::RelationName;
use super::cursor::{Cursor, lowercase_first, split_location};
use super::depth::{RECURSION_MAX, too_deep};
use tidemark_pg::dialect::SqlDialect;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Parses one statement after another. The methods used by `super::session` and `super::copy` compare
/// unquoted words by their upper-case text, so that none of our words has to be a keyword.
pub struct StatementParser<'a> {
    pub(super) sql: &'a str,
    pub(super) inner: Parser<'a>,
}

impl<'a> StatementParser<'a> {
    pub(super) fn new(sql: &'a str, tokens: Vec<TokenWithSpan>, dialect: &'a SqlDialect) -> Self {
        let inner = Parser::new(dialect)
            .with_recursion_limit(RECURSION_MAX)
            .with_tokens_with_locations(tokens);
        Self { sql, inner }
    }

    /// The n-th unread token as an upper-case word, if it is an unquoted word.
    pub fn word(&self, n: usize) -> Option<String> {
        match &self.inner.peek_nth_token_ref(n).token {
            Token::Word(Word { value, quote_style: None, .. }) => Some(value.to_ascii_uppercase()),
            _ => None,
        }
    }

    /// Skips `word` if it is next; returns whether it was.
    pub fn eat(&mut self, word: &str) -> bool {
        let next = self.word(0).is_some_and(|next| next == word);
        if next {
            self.inner.advance_token();
        }
        next
    }

    /// Skips `word`; a syntax error if it is not next.
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

    /// Reads an identifier and folds it.
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

    /// Reads the name of a setting, lower-cased; it may contain dots.
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

    /// Reads a number, a string, or a quoted or bare word as text.
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

    // ---- Positions and errors ----------------------------------------------------------------

    /// The span of the last token read.
    pub(super) fn last_span(&self) -> Span {
        let read = (0..self.inner.index()).rev().map(|at| self.inner.token_at(at));
        let last = read
            .filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
            .find(|token| token.span != Span::empty());
        last.map_or(Span::empty(), |token| token.span)
    }

    /// Start of the query of the `CREATE VIEW` whose first token is `first`: after the first `AS` outside
    /// parentheses, since no name before it can be an unquoted `AS`.
    pub(super) fn view_query_start(&self, first: usize) -> Option<Location> {
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

    /// The syntax error at the next token.
    pub fn unexpected(&self) -> SqlError {
        self.near(self.inner.peek_token_ref().span)
    }

    /// Adds the position of the next token to the error.
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

    /// Converts an error of `sqlparser`, which gives the position only in its text.
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

pub(super) fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none())
}
