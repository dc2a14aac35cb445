//! Converts the tokenizer's lines and columns to byte and character offsets.

use sqlparser::tokenizer::Location;

/// A position in a text that only moves forward, so that walking over all statements is linear.
pub struct Cursor<'a> {
    rest: std::str::Chars<'a>,
    length: usize,
    line: u64,
    column: u64,
    characters: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text.chars(), length: text.len(), line: 1, column: 1, characters: 0 }
    }

    /// Moves to `location` and returns its byte offset. It must not be before an earlier one.
    pub fn byte_at(&mut self, location: Location) -> usize {
        while (self.line, self.column) < (location.line, location.column) {
            let Some(c) = self.rest.next() else { break };
            self.characters += 1;
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.length - self.rest.as_str().len()
    }

    /// Number of characters before the current position.
    pub fn characters(&self) -> usize {
        self.characters
    }
}

/// Splits ` at Line: 3, Column: 7` off a message.
pub fn split_location(text: &str) -> (&str, Option<Location>) {
    let parsed = text.rsplit_once(" at Line: ").and_then(|(message, position)| {
        let (line, column) = position.split_once(", Column: ")?;
        Some((message, Location::new(line.parse().ok()?, column.parse().ok()?)))
    });
    match parsed {
        Some((message, location)) => (message, Some(location)),
        None => (text, None),
    }
}

/// Lowercases the first letter of a message, as in PostgreSQL.
pub fn lowercase_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
