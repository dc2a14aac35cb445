//! Converts `SIMILAR TO` patterns to regular expressions; DataFusion treats the pattern as one already.

/// Returns a regular expression equivalent to `pattern`; `None` if the pattern is malformed.
pub fn similar_to_regex(pattern: &str, escape: char) -> Option<String> {
    let mut regex = String::from("^(?:");
    let mut chars = pattern.chars();
    let mut in_brackets = false;
    while let Some(c) = chars.next() {
        match c {
            _ if c == escape => push_literal(&mut regex, chars.next()?),
            '%' if !in_brackets => regex.push_str("(?s:.*)"),
            '_' if !in_brackets => regex.push_str("(?s:.)"),
            '[' => {
                in_brackets = true;
                regex.push('[');
            }
            ']' => {
                in_brackets = false;
                regex.push(']');
            }
            // These have the same meaning in both.
            '|' | '*' | '+' | '?' | '{' | '}' | '(' | ')' if !in_brackets => regex.push(c),
            '.' | '^' | '$' | '\\' if !in_brackets => push_literal(&mut regex, c),
            _ => regex.push(c),
        }
    }
    regex.push_str(")$");
    (!in_brackets).then_some(regex)
}

fn push_literal(regex: &mut String, c: char) {
    if !c.is_alphanumeric() && !c.is_whitespace() && c.is_ascii() {
        regex.push('\\');
    }
    regex.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_anchored_regular_expressions() {
        let cases = [
            ("abc", Some("^(?:abc)$")),
            ("a%b_", Some("^(?:a(?s:.*)b(?s:.))$")),
            ("(a|b)+", Some("^(?:(a|b)+)$")),
            ("a.c", Some("^(?:a\\.c)$")),
            ("10\\%", Some("^(?:10\\%)$")),
            ("[a-c_]%", Some("^(?:[a-c_](?s:.*))$")),
            ("[abc", None),
            ("abc\\", None),
        ];
        for (pattern, expected) in cases {
            assert_eq!(similar_to_regex(pattern, '\\').as_deref(), expected, "{pattern}");
        }
    }
}
