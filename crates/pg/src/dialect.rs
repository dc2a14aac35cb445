//! PostgreSQL's dialect with two changes that keep parsing from taking exponential time.
//!
//! `sqlparser` reads `f(expr => value)` by trying the expression as a name first, which doubles the time for
//! each level of `f(f(f(…)))`. Here argument names are plain names only. The dialect reports itself as
//! PostgreSQL's, since the parser checks for that in a few spots.
//!
//! If `CAST(`, `EXTRACT(` and the like contain an error, `sqlparser` parses them once more as function calls,
//! which also doubles the time for each level. A limit on the number of expressions begun stops that.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

/// How many expressions the parser may begin: this many per token, plus a fixed allowance for short texts.
const TRIES_PER_TOKEN: usize = 32;
const TRIES_AT_LEAST: usize = 20_000;

/// The dialect of every parser in this crate.
#[derive(Debug, Default)]
pub struct SqlDialect {
    /// How many more expressions may be begun; `None` if there is no limit.
    tries_left: Option<Cell<usize>>,
}

impl SqlDialect {
    /// The dialect for one text of this number of tokens, with a limit on the expressions that the parser may
    /// begin.
    pub fn bounded(tokens: usize) -> Self {
        let tries = tokens.saturating_mul(TRIES_PER_TOKEN).saturating_add(TRIES_AT_LEAST);
        Self { tries_left: Some(Cell::new(tries)) }
    }

    /// Whether the parser was stopped because it reached the limit.
    pub fn is_exhausted(&self) -> bool {
        self.tries_left.as_ref().is_some_and(|left| left.get() == 0)
    }
}

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// Flags that have PostgreSQL's value.
macro_rules! as_postgres {
    ($($flag:ident),* $(,)?) => {
        $(fn $flag(&self) -> bool {
            POSTGRES.$flag()
        })*
    };
}

impl Dialect for SqlDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn parse_prefix(&self, _parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        let left = self.tries_left.as_ref()?;
        left.set(left.get().saturating_sub(1));
        (left.get() == 0).then(|| Err(ParserError::ParserError("too many tries".to_owned())))
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    /// `'a'` and `'b'` on two lines are one string, as in PostgreSQL; on one line they are an error.
    fn supports_string_literal_concatenation_with_newline(&self) -> bool {
        true
    }

    as_postgres! {
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_listen_notify,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_geometric_types,
        supports_set_names,
        supports_alter_column_type_using,
        supports_notnull_operator,
        supports_interval_options,
        supports_insert_table_alias,
        supports_create_table_like_parenthesized,
        supports_select_wildcard_with_alias,
        supports_comma_separated_trim,
        supports_xml_expressions,
        supports_comment_optimizer_hint,
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    /// `ON` needs `AS` to be a name, so that `INSERT … SELECT 1 ON CONFLICT …` has no column of that name.
    fn is_column_alias(&self, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        *keyword != Keyword::ON && POSTGRES.is_column_alias(keyword, parser)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        POSTGRES.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        POSTGRES.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }
}
