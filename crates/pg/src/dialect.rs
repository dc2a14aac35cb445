//! PostgreSQL's dialect, but for one rule that makes the parser try every way to read nested calls, and with
//! a bound on how often it may begin to read an expression.
//!
//! `sqlparser` reads `f(expr => value)` by trying the expression as a name first, which takes twice as
//! long for each level of `f(f(f(…)))`. With names that are only names it need not. The dialect says
//! of itself that it is PostgreSQL's, as the parser asks that in places.
//!
//! Where `CAST(`, `EXTRACT(` and the like hold an error, `sqlparser` reads them once more as calls of functions,
//! which takes twice as long for each level. The bound ends that.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

/// Beginnings of expressions that the parser may try for each token, and for a text of few.
const TRIES_PER_TOKEN: usize = 32;
const TRIES_AT_LEAST: usize = 20_000;

/// What every parser of ours reads.
#[derive(Debug, Default)]
pub struct SqlDialect {
    /// How many expressions may still be begun; `None` where there is no bound.
    tries_left: Option<Cell<usize>>,
}

impl SqlDialect {
    /// The dialect for one text, which has this number of tokens.
    pub fn bounded(tokens: usize) -> Self {
        let tries = tokens.saturating_mul(TRIES_PER_TOKEN).saturating_add(TRIES_AT_LEAST);
        Self { tries_left: Some(Cell::new(tries)) }
    }

    /// Whether the parser was stopped because it tried too often.
    pub fn is_exhausted(&self) -> bool {
        self.tries_left.as_ref().is_some_and(|left| left.get() == 0)
    }
}

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// Flags that are PostgreSQL's.
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
