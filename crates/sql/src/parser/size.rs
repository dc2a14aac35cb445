//! Limits the number of tokens in a text, before the tokenizer runs.
//!
//! A token of one or two bytes becomes hundreds of bytes of syntax tree. Text in quotes or comments is one
//! token whatever its length.

use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Most bytes per token that the tokens and the syntax tree take.
const TOKEN_BYTES: usize = 512;
/// The part of the query memory that parsing one text may take.
const MEMORY_PART: usize = 8;
/// Upper limit whatever the memory: more take seconds to parse.
const TOKENS_MAX: usize = 4_000_000;
/// Lower limit whatever the memory.
const TOKENS_MIN: usize = 20_000;
/// Spaces weigh less: the tokenizer creates a token for each one, which is dropped later.
const TOKEN_WEIGHT: usize = 4;
const SPACE_WEIGHT: usize = 1;

/// Most tokens of a text, given the memory of queries.
pub fn tokens_max(memory_bytes: usize) -> usize {
    (memory_bytes / MEMORY_PART / TOKEN_BYTES).clamp(TOKENS_MIN, TOKENS_MAX)
}

/// Upper bound in bytes of the parsed statements of a text.
pub fn parsed_bytes(sql: &str) -> usize {
    let tokens = weights(sql.as_bytes()).filter(|weight| *weight == TOKEN_WEIGHT).count();
    tokens.saturating_mul(TOKEN_BYTES).saturating_add(sql.len())
}

/// Refuses a text with more than `tokens_max` tokens (54000).
pub fn check_tokens(sql: &str, tokens_max: usize) -> Result<(), SqlError> {
    let weight_max = tokens_max.saturating_mul(TOKEN_WEIGHT);
    let mut weight = 0;
    let mut each = weights(sql.as_bytes());
    // A text shorter than the limit need not be scanned: each token has at least one byte.
    if sql.len() <= tokens_max
        || each.all(|more| {
            weight += more;
            weight <= weight_max
        })
    {
        return Ok(());
    }
    Err(too_many_tokens(tokens_max))
}

/// The error for a text with too many tokens.
pub fn too_many_tokens(tokens_max: usize) -> SqlError {
    let message = format!("the statement has more than {tokens_max} words, numbers and signs");
    SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message).hint(
        "Load many rows with COPY, keep long lists in a table, or start the server with more \
         --total-memory-bytes.",
    )
}

/// The weights of tokens and spaces in order; approximate if the text is malformed.
fn weights(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = *text.get(at)?;
        at += length(text, at);
        Some(if first.is_ascii_whitespace() { SPACE_WEIGHT } else { TOKEN_WEIGHT })
    })
}

/// Returns the length of the token, comment or space at `at`.
fn length(text: &[u8], at: usize) -> usize {
    let (before, rest) = text.split_at(at);
    match rest {
        [b'\'', ..] => quoted(rest, b'\'', has_escapes(before)),
        [b'"', ..] => quoted(rest, b'"', false),
        [b'-', b'-', ..] => run(rest, |byte| byte != b'\n'),
        [b'/', b'*', ..] => comment(rest),
        [b'$', ..] => dollar_quoted(rest).unwrap_or(1),
        [first, ..] if is_word(*first) => run(rest, is_word),
        _ => 1,
    }
}

/// Whether the quoted text after `before` has escapes, that is, follows a lone `E`.
fn has_escapes(before: &[u8]) -> bool {
    match before {
        [.., word, b'e' | b'E'] => !is_word(*word),
        [b'e' | b'E'] => true,
        _ => false,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Returns the number of leading bytes that satisfy `is_such`.
fn run(text: &[u8], is_such: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !is_such(*byte)).unwrap_or(text.len())
}

/// Length of a quoted text. A doubled quote reads as the end of one text and the start of the next, which may
/// count too many tokens but never too few.
fn quoted(text: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        at += match byte {
            b'\\' if escapes => 2,
            byte if *byte == quote => return at + 1,
            _ => 1,
        };
    }
    text.len()
}

fn comment(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        match &text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// `$tag$ … $tag$`
fn dollar_quoted(text: &[u8]) -> Option<usize> {
    let starts = text.get(1).is_some_and(|first| !first.is_ascii_digit());
    let tag = 2 + run(text.get(1..).filter(|_| starts)?, is_word);
    let (tag, rest) = text.split_at_checked(tag).filter(|(tag, _)| tag.ends_with(b"$"))?;
    let end = rest.windows(tag.len()).position(|window| window == tag);
    Some(end.map_or(text.len(), |end| tag.len() + end + tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::tokenizer::{Token, Tokenizer};

    fn counted(sql: &str) -> usize {
        weights(sql.as_bytes()).filter(|weight| *weight == TOKEN_WEIGHT).count()
    }

    #[test]
    fn no_fewer_tokens_are_counted_than_there_are() {
        let texts = [
            "SELECT a.b, 'it''s' || \"c d\" FROM t WHERE x >= 1.5e-3 -- done",
            "SELECT E'a\\'b', E'\\\\', 1",
            "SELECT $$ a ' b $$, $tag$ $$ $tag$, $1 + $2",
            "/* a /* b */ c */ SELECT 1;SELECT 2",
            "SELECT 'ünï', \"日本\", naïve",
            "INSERT INTO t VALUES (1,'a'),(2,'b')",
            "SELECT namee'a\\', 'b', E'c\\'d', 1",
            "SELECT x'00ff', B'01', N'n', U&'\\0061'",
            "SELECT '",
            "SELECT $a$ b",
            "SELECT /* a",
            "SELECT \"",
            "SELECT E'\\",
            "*/ 1",
            "",
            "$",
            "$$",
        ];
        for sql in texts {
            let dialect = tidemark_pg::dialect::SqlDialect::default();
            if let Ok(found) = Tokenizer::new(&dialect, sql).tokenize() {
                let found = found.iter().filter(|t| !matches!(t, Token::Whitespace(_))).count();
                assert!(counted(sql) >= found, "{sql}: {} < {found}", counted(sql));
            }
            assert!(counted(sql) <= sql.len());
        }
    }

    #[test]
    fn what_is_quoted_is_one_token() {
        let long = "a, b; ".repeat(1000);
        for (open, close) in [("'", "'"), ("\"", "\""), ("$x$", "$x$"), ("/*", "*/"), ("--", "\n")]
        {
            assert_eq!(counted(&format!("SELECT {open}{long}{close} x")), 3, "{open}");
        }
    }

    #[test]
    fn what_is_parsed_takes_its_tokens_and_its_text() {
        assert_eq!(parsed_bytes("SELECT 1"), 2 * TOKEN_BYTES + 8);
        let long = format!("SELECT '{}'", "x".repeat(1 << 20));
        assert_eq!(parsed_bytes(&long), 2 * TOKEN_BYTES + long.len());
    }

    #[test]
    fn more_tokens_than_allowed_are_refused() {
        let many = "1,".repeat(500);
        assert!(check_tokens(&many, 1000).is_ok());
        let refused = check_tokens(&format!("SELECT {many}1"), 1000).unwrap_err();
        assert_eq!(refused.sqlstate, SqlState::PROGRAM_LIMIT_EXCEEDED);
        assert!(check_tokens(&format!("SELECT '{many}'"), 10).is_ok());
        assert!(check_tokens(&" ".repeat(4000), 1000).is_ok());
        assert!(check_tokens(&" ".repeat(4001), 1000).is_err());
        assert_eq!(tokens_max(usize::MAX), TOKENS_MAX);
        assert_eq!(tokens_max(512 << 20), 131_072);
    }
}
