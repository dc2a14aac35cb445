//! Types as text: what `format_type` prints and `regtype` reads.

use tidemark_ledger::catalog::ColumnType;

use super::modifier;
use super::table::{PgType, by_oid, types};

/// Finds the type that users mean by `text`: a `typname` or an SQL name, with or without `pg_catalog`, length
/// and brackets.
pub fn by_name(text: &str) -> Option<&'static PgType> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_prefix("pg_catalog.").unwrap_or(&text);
    if let Some(element) = text.strip_suffix("[]") {
        let element = by_name(element)?;
        return if element.is_array() { Some(element) } else { by_oid(element.array_oid) };
    }
    let text = without_modifier(text);
    // Only `"char"` in quotes is the one-byte type.
    let wanted = if text == "char" { "bpchar" } else { text.as_str() };
    types().find(|t| {
        t.name == wanted
            || t.sql_name == wanted
            || t.spellings.contains(&wanted)
            || t.words.contains(&wanted)
    })
}

/// `numeric(15,2)` without `(15,2)`; the text after the parentheses stays.
fn without_modifier(text: &str) -> String {
    match (text.find('('), text.rfind(')')) {
        (Some(open), Some(close)) if open < close => {
            let words = [text[..open].trim(), text[close + 1..].trim()];
            words.join(" ").trim().to_owned()
        }
        _ => text.to_owned(),
    }
}

/// Returns the type's name as PostgreSQL prints it; `modifier` is a value of `atttypmod`.
pub fn format_type(oid: u32, modifier: Option<i64>) -> String {
    let Some(t) = by_oid(oid) else {
        return if oid == 0 { "-".to_owned() } else { "???".to_owned() };
    };
    let (Some(modifier), Some(column_type)) = (modifier, t.read_as()) else {
        return t.sql_name.clone();
    };
    let limits = modifier::shown(&column_type, modifier);
    match t.sql_name.strip_suffix("[]") {
        Some(element) => format!("{element}{limits}[]"),
        None => format!("{}{limits}", t.sql_name),
    }
}

/// A type as `pg_attribute` stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeRef {
    pub oid: u32,
    /// `atttypmod`, or -1.
    pub modifier: i32,
    /// Dimensions of an array type, else 0.
    pub dimensions: i16,
}

impl TypeRef {
    pub const fn of_oid(oid: u32) -> Self {
        Self { oid, modifier: modifier::NONE, dimensions: 0 }
    }

    pub fn name(self) -> String {
        format_type(self.oid, Some(self.modifier.into()))
    }

    /// Returns the row of `pg_type`. Every type a column may have is in the table.
    pub fn pg_type(self) -> &'static PgType {
        by_oid(self.oid).expect("columns have only types of the table")
    }
}

impl From<&ColumnType> for TypeRef {
    fn from(column_type: &ColumnType) -> Self {
        let (mut dimensions, mut element) = (0, column_type);
        while let ColumnType::Array(inner) = element {
            (dimensions, element) = (dimensions + 1, inner);
        }
        let scalar = PgType::of(element);
        // PostgreSQL has one array type for all dimensions.
        let oid = if dimensions > 0 { scalar.array_oid } else { scalar.oid };
        Self { oid, modifier: modifier::of(column_type), dimensions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modified(column_type: &ColumnType) -> (u32, i32, String) {
        let reference = TypeRef::from(column_type);
        (reference.oid, reference.modifier, reference.name())
    }

    #[test]
    fn column_types_are_written_down_as_postgres_does() {
        let numeric = ColumnType::Numeric(Some((15, 2)));
        assert_eq!(modified(&numeric), (1700, 983_046, "numeric(15,2)".to_owned()));
        assert_eq!(modified(&ColumnType::Varchar(Some(20))).1, 24);
        let nested = ColumnType::Array(Box::new(ColumnType::Array(Box::new(ColumnType::Integer))));
        assert_eq!(modified(&nested), (1007, -1, "integer[]".to_owned()));
        assert_eq!(TypeRef::from(&nested).dimensions, 2);
        assert_eq!(format_type(1700, Some(((5 << 16) | (-2 & 0x7ff)) + 4)), "numeric(5,-2)");
    }

    #[test]
    fn types_are_found_by_every_name_they_have() {
        let cases = [
            ("INT", 23),
            ("pg_catalog.int4", 23),
            ("character varying(20)", 1043),
            ("timestamp(3) without time zone", 1114),
            ("numeric(15,2)[]", 1231),
            ("char", 1042),
            ("\"char\"", 18),
            ("_text", 1009),
        ];
        for (name, oid) in cases {
            assert_eq!(by_name(name).map(|t| t.oid), Some(oid), "{name}");
        }
        assert_eq!(by_name("nope"), None);
    }
}
