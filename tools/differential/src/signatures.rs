//! The table of operators and functions, `signatures.txt`: each row is expanded to one signature a type.

use crate::types::{self, Type};

const TABLE: &str = include_str!("signatures.txt");

/// Where an expression may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Anywhere,
    /// Only where rows are grouped, and as a window.
    Aggregate,
    Window,
}

/// A part of the SQL of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Argument {
        of: Type,
        may_be_untyped: bool,
    },
    /// The text of an argument again.
    Same(usize),
    /// A literal out of a pool.
    Pool(usize),
    Query {
        of: Vec<Type>,
        is_scalar: bool,
    },
    Window,
}

/// An operator or a function with the types of its arguments.
#[derive(Clone, Debug)]
pub struct Signature {
    pub place: Place,
    pub result: Type,
    pub pieces: Vec<Piece>,
    /// Whether the last digits may differ.
    pub is_approximate: bool,
    /// The SQL with types in place of arguments, which names the signature.
    pub text: String,
    /// The row it comes from, without its types.
    pub row: String,
}

/// Literals that make sense as a certain argument.
#[derive(Clone, Debug)]
pub struct Pool {
    name: String,
    pub of: Type,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Table {
    pub signatures: Vec<Signature>,
    pub pools: Vec<Pool>,
}

impl Signature {
    /// Whether it has a sub-query.
    pub fn has_query(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Query { .. }))
    }
}

/// Reads the table. What is wrong with it is a mistake in the file, and says in which row.
pub fn table() -> Result<Table, String> {
    let mut table = Table::default();
    let mut section = "";
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let added = match section {
            "pools" => pool(line).map(|pool| table.pools.push(pool)),
            "scalar" => add(&mut table, line, &[Place::Anywhere]),
            "aggregate" => add(&mut table, line, &[Place::Aggregate, Place::Window]),
            _ => add(&mut table, line, &[Place::Window]),
        };
        added.ok_or_else(|| format!("signatures.txt: {line}"))?;
    }
    Ok(table)
}

fn pool(line: &str) -> Option<Pool> {
    let (head, values) = line.split_once(": ")?;
    let (name, of) = head.split_once(' ')?;
    let values = values.split(" ¦ ").map(str::to_owned).collect();
    Some(Pool { name: name.to_owned(), of: Type::of_tag(of)?, values })
}

fn add(table: &mut Table, line: &str, places: &[Place]) -> Option<()> {
    let mut fields = line.split("  ").map(str::trim).filter(|field| !field.is_empty());
    let (result, sql) = (fields.next()?, fields.next()?);
    let options: Vec<&str> = fields.collect();
    let class = options.iter().find_map(|option| option.strip_prefix("T:"));
    let is_approximate = options.contains(&"approximate");
    let types = class.map_or(Some(&[Type::Bool][..]), types_of)?;
    for of in types {
        for place in places {
            for sql in forms(sql, *place) {
                let row = sql.clone();
                let pieces = pieces(&sql, *of, &table.pools)?;
                let result = Type::of_tag(&substituted(result, *of))?;
                let text = shown(&pieces, &table.pools);
                let signature =
                    Signature { place: *place, result, pieces, is_approximate, text, row };
                table.signatures.push(signature);
            }
        }
    }
    Some(())
}

/// An aggregate also has a filter; as a window, it has neither an order nor DISTINCT of its own.
fn forms(sql: &str, place: Place) -> Vec<String> {
    match place {
        Place::Anywhere => vec![sql.to_owned()],
        Place::Aggregate => vec![sql.to_owned(), format!("{sql} FILTER (WHERE {{bool}})")],
        Place::Window if sql.ends_with("{window}") => vec![sql.to_owned()],
        Place::Window if ["DISTINCT", "ORDER BY"].iter().any(|word| sql.contains(word)) => vec![],
        Place::Window => vec![format!("{sql} OVER {{window}}")],
    }
}

fn types_of(class: &str) -> Option<&'static [Type]> {
    use Type::{
        Bool, Date, Float4, Float8, Int2, Int4, Int8, Interval, Numeric, Text, Time, Timestamp,
        Timestamptz, Varchar,
    };
    Some(match class {
        "any" | "comparable" => types::ALL,
        "plain" => types::PLAIN,
        "number" => types::NUMBERS,
        "integer" => types::INTEGERS,
        "exact" => &[Int2, Int4, Int8, Numeric],
        "wide" => &[Int4, Int8],
        "narrow" => &[Int2, Int4],
        "fraction" => &[Numeric, Float8],
        "float" => &[Float4, Float8],
        "time" => types::TIMES,
        "moment" => &[Timestamp, Timestamptz],
        "element" => &[Int4, Numeric, Float8, Text, Bool, Date],
        "maximal" => &[
            Int2,
            Int4,
            Int8,
            Numeric,
            Float4,
            Float8,
            Text,
            Varchar,
            Date,
            Time,
            Timestamp,
            Timestamptz,
            Interval,
        ],
        _ => return None,
    })
}

/// `T` is the type of this expansion; casts are written with a type's name in SQL, which is its tag.
fn substituted(text: &str, of: Type) -> String {
    match text.strip_prefix('T') {
        Some(rest) if rest.is_empty() || rest.starts_with(['[', '~', ',']) => {
            format!("{}{rest}", of.tag())
        }
        _ => text.to_owned(),
    }
}

fn pieces(sql: &str, of: Type, pools: &[Pool]) -> Option<Vec<Piece>> {
    let mut found = vec![];
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}')?;
        found.push(Piece::Text(cast(before, of)));
        found.push(placeholder(inside, of, pools)?);
        rest = after;
    }
    found.push(Piece::Text(cast(rest, of)));
    found.retain(|piece| *piece != Piece::Text(String::new()));
    Some(found)
}

/// A text between placeholders, in which `::T` is a cast.
fn cast(text: &str, of: Type) -> String {
    text.replace("::T", &format!("::{}", of.name()))
}

fn placeholder(inside: &str, of: Type, pools: &[Pool]) -> Option<Piece> {
    if inside == "window" {
        return Some(Piece::Window);
    }
    if let Some(index) = inside.strip_prefix('#') {
        return Some(Piece::Same(index.parse().ok()?));
    }
    if let Some(name) = inside.strip_prefix('@') {
        return Some(Piece::Pool(pools.iter().position(|pool| pool.name == name)?));
    }
    if let Some(columns) = inside.strip_prefix('?') {
        let (columns, is_scalar) = match columns.strip_prefix('1') {
            Some(columns) => (columns, true),
            None => (columns, false),
        };
        let columns = columns.split(',').filter(|column| *column != "any");
        let of = columns.map(|column| Type::of_tag(&substituted(column, of)));
        return Some(Piece::Query { of: of.collect::<Option<_>>()?, is_scalar });
    }
    let tag = substituted(inside, of);
    let may_be_untyped = tag.ends_with('~');
    Some(Piece::Argument { of: Type::of_tag(tag.trim_end_matches('~'))?, may_be_untyped })
}

fn shown(pieces: &[Piece], pools: &[Pool]) -> String {
    let tags = |of: &[Type]| of.iter().map(|of| of.tag()).collect::<Vec<_>>().join(", ");
    let shown = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Argument { of, .. } => of.tag().to_owned(),
        Piece::Same(index) => format!("{{{index}}}"),
        Piece::Pool(index) => pools[*index].name.clone(),
        Piece::Query { of, .. } => format!("SELECT {}", tags(of)),
        Piece::Window => "(…)".to_owned(),
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read() {
        let table = table().unwrap();
        assert!(table.signatures.len() > 1000);
    }

    #[test]
    fn a_row_is_expanded_by_type_and_place() {
        let table = table().unwrap();
        let texts: Vec<&str> = table.signatures.iter().map(|known| known.text.as_str()).collect();
        for text in ["(int4 + int4)", "max(date) FILTER (WHERE bool)", "max(date) OVER (…)"] {
            assert!(texts.contains(&text), "{text}");
        }
        assert!(!texts.iter().any(|text| text.contains("DISTINCT int4) OVER")));
    }
}
