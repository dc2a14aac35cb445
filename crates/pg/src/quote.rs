//! Quotes identifiers as SQL needs it.

/// Reserved words: they name nothing unless quoted.
const RESERVED: &str = "all analyse analyze and any array as asc asymmetric authorization between binary both \
    case cast check collate collation column concurrently constraint create cross \
    current_catalog current_date current_role current_schema current_time current_timestamp \
    current_user default deferrable desc distinct do else end except exclude exists false \
    fetch for foreign freeze from full grant group having ilike in initially inner intersect \
    into is isnull join lateral leading left like limit localtime localtimestamp natural not \
    notnull null offset on only or order outer overlaps placing primary references returning \
    right select session_user similar some symmetric table tablesample then to trailing true \
    union unique user using values variadic verbose when where window with";

/// Returns the identifier as it must be written in SQL, quoted if needed.
pub fn quote_identifier(name: &str) -> String {
    let mut letters = name.chars();
    let starts_plain = letters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$';
    let reserved = RESERVED.split_whitespace().any(|word| word == name);
    if starts_plain && letters.all(plain) && !reserved {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Returns `schema.name`, each quoted if needed.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}
