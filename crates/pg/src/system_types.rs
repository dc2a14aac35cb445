//! PostgreSQL's built-in types as the system catalogs describe them, and the types of system columns.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

use tidemark_ledger::catalog::{ColumnType, SQL_TYPE_KEY};

/// `typlen` of a type of variable length.
const VARIABLE: i16 = -1;
/// `typlen` of a type whose values end with a zero byte.
const CSTRING: i16 = -2;

/// A row of `pg_type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgType {
    pub oid: u32,
    /// `typname`: `int4`, `_int4`.
    pub name: String,
    /// What `format_type` prints: `integer`, `integer[]`.
    pub sql_name: String,
    /// Oid of its array type, or 0.
    pub array_oid: u32,
    /// Oid of its element type, or 0.
    pub element_oid: u32,
    pub length: i16,
    pub category: char,
    pub align: char,
    pub storage: char,
    pub collation_oid: u32,
}

impl PgType {
    /// `typbyval`: whether values are passed by value.
    pub fn by_value(&self) -> bool {
        (1..=8).contains(&self.length)
    }

    /// `typtype`: `p` for a pseudo-type, else `b`.
    pub fn kind(&self) -> char {
        if matches!(self.category, 'P' | 'X') { 'p' } else { 'b' }
    }

    /// `typispreferred`: whether it is the preferred type of its category.
    pub fn is_preferred(&self) -> bool {
        matches!(
            self.name.as_str(),
            "bool" | "text" | "oid" | "float8" | "timestamptz" | "interval"
        )
    }

    /// Whether it is the array type of another type; vectors are not.
    pub fn is_array(&self) -> bool {
        self.name.starts_with('_')
    }
}

/// `oid`, `typname`, SQL name, array type, length, category, alignment, storage.
type Built = (u32, &'static str, &'static str, u32, i16, char, char, char);

const BUILT_IN: [Built; 50] = [
    (16, "bool", "boolean", 1000, 1, 'B', 'c', 'p'),
    (17, "bytea", "bytea", 1001, VARIABLE, 'U', 'i', 'x'),
    (18, "char", "\"char\"", 1002, 1, 'Z', 'c', 'p'),
    (19, "name", "name", 1003, 64, 'S', 'c', 'p'),
    (20, "int8", "bigint", 1016, 8, 'N', 'd', 'p'),
    (21, "int2", "smallint", 1005, 2, 'N', 's', 'p'),
    (22, "int2vector", "int2vector", 1006, VARIABLE, 'A', 'i', 'p'),
    (23, "int4", "integer", 1007, 4, 'N', 'i', 'p'),
    (24, "regproc", "regproc", 1008, 4, 'N', 'i', 'p'),
    (25, "text", "text", 1009, VARIABLE, 'S', 'i', 'x'),
    (26, "oid", "oid", 1028, 4, 'N', 'i', 'p'),
    (28, "xid", "xid", 1011, 4, 'U', 'i', 'p'),
    (30, "oidvector", "oidvector", 1013, VARIABLE, 'A', 'i', 'p'),
    (114, "json", "json", 199, VARIABLE, 'U', 'i', 'x'),
    (194, "pg_node_tree", "pg_node_tree", 0, VARIABLE, 'Z', 'i', 'x'),
    (700, "float4", "real", 1021, 4, 'N', 'i', 'p'),
    (701, "float8", "double precision", 1022, 8, 'N', 'd', 'p'),
    (705, "unknown", "unknown", 0, CSTRING, 'X', 'c', 'p'),
    (869, "inet", "inet", 1041, VARIABLE, 'I', 'i', 'm'),
    (1033, "aclitem", "aclitem", 1034, 12, 'U', 'i', 'p'),
    (1042, "bpchar", "character", 1014, VARIABLE, 'S', 'i', 'x'),
    (1043, "varchar", "character varying", 1015, VARIABLE, 'S', 'i', 'x'),
    (1082, "date", "date", 1182, 4, 'D', 'i', 'p'),
    (1083, "time", "time without time zone", 1183, 8, 'D', 'd', 'p'),
    (1114, "timestamp", "timestamp without time zone", 1115, 8, 'D', 'd', 'p'),
    (1184, "timestamptz", "timestamp with time zone", 1185, 8, 'D', 'd', 'p'),
    (1186, "interval", "interval", 1187, 16, 'T', 'd', 'p'),
    (1266, "timetz", "time with time zone", 1270, 12, 'D', 'd', 'p'),
    (1700, "numeric", "numeric", 1231, VARIABLE, 'N', 'i', 'm'),
    (2202, "regprocedure", "regprocedure", 2207, 4, 'N', 'i', 'p'),
    (2203, "regoper", "regoper", 2208, 4, 'N', 'i', 'p'),
    (2204, "regoperator", "regoperator", 2209, 4, 'N', 'i', 'p'),
    (2205, "regclass", "regclass", 2210, 4, 'N', 'i', 'p'),
    (2206, "regtype", "regtype", 2211, 4, 'N', 'i', 'p'),
    (2249, "record", "record", 2287, VARIABLE, 'P', 'd', 'x'),
    (2275, "cstring", "cstring", 1263, CSTRING, 'P', 'c', 'p'),
    (2276, "any", "\"any\"", 0, 4, 'P', 'i', 'p'),
    (2277, "anyarray", "anyarray", 0, VARIABLE, 'P', 'd', 'x'),
    (2278, "void", "void", 0, 4, 'P', 'i', 'p'),
    (2279, "trigger", "trigger", 0, 4, 'P', 'i', 'p'),
    (2281, "internal", "internal", 0, 8, 'P', 'd', 'p'),
    (2283, "anyelement", "anyelement", 0, 4, 'P', 'i', 'p'),
    (2776, "anynonarray", "anynonarray", 0, 4, 'P', 'i', 'p'),
    (2950, "uuid", "uuid", 2951, 16, 'U', 'c', 'p'),
    (3500, "anyenum", "anyenum", 0, 4, 'P', 'i', 'p'),
    (3802, "jsonb", "jsonb", 3807, VARIABLE, 'U', 'i', 'x'),
    (3831, "anyrange", "anyrange", 0, VARIABLE, 'P', 'd', 'x'),
    (4089, "regnamespace", "regnamespace", 4090, 4, 'N', 'i', 'p'),
    (4096, "regrole", "regrole", 4097, 4, 'N', 'i', 'p'),
    (4191, "regcollation", "regcollation", 4192, 4, 'N', 'i', 'p'),
];

/// Spellings that are neither a `typname` nor an SQL name.
const ALIASES: [(&str, &str); 6] = [
    ("int", "int4"),
    ("decimal", "numeric"),
    ("dec", "numeric"),
    ("float", "float8"),
    ("string", "varchar"),
    ("char varying", "varchar"),
];

static TYPES: LazyLock<BTreeMap<u32, PgType>> = LazyLock::new(|| {
    let scalars = BUILT_IN.iter().map(scalar_type);
    let arrays = BUILT_IN.iter().filter(|built| built.3 != 0).map(array_type);
    scalars.chain(arrays).map(|t| (t.oid, t)).collect()
});

fn scalar_type(built: &Built) -> PgType {
    let &(oid, name, sql_name, array_oid, length, category, align, storage) = built;
    let element_oid = match name {
        "name" => 18,
        "int2vector" => 21,
        "oidvector" => 26,
        _ => 0,
    };
    PgType {
        oid,
        name: name.to_owned(),
        sql_name: sql_name.to_owned(),
        array_oid,
        element_oid,
        length,
        category,
        align,
        storage,
        collation_oid: collation_of(name),
    }
}

fn array_type(built: &Built) -> PgType {
    let &(element_oid, name, sql_name, oid, _, category, align, _) = built;
    PgType {
        oid,
        name: format!("_{name}"),
        sql_name: format!("{sql_name}[]"),
        array_oid: 0,
        element_oid,
        length: VARIABLE,
        category: if category == 'P' { 'P' } else { 'A' },
        align: if align == 'd' { 'd' } else { 'i' },
        storage: 'x',
        collation_oid: collation_of(name),
    }
}

/// The default collation (100) for text, `C` (950) for names.
fn collation_of(type_name: &str) -> u32 {
    match type_name {
        "text" | "varchar" | "bpchar" => 100,
        "name" => 950,
        _ => 0,
    }
}

/// Every type, by oid.
pub fn types() -> impl Iterator<Item = &'static PgType> {
    TYPES.values()
}

pub fn by_oid(oid: u32) -> Option<&'static PgType> {
    TYPES.get(&oid)
}

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
    let alias = ALIASES.iter().find(|(alias, _)| *alias == wanted);
    let wanted = alias.map_or(wanted, |alias| alias.1);
    types().find(|t| t.name == wanted || t.sql_name == wanted)
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
    let Some(modifier) = modifier.filter(|m| *m >= 4) else { return t.sql_name.clone() };
    let (scalar, brackets) = match t.sql_name.strip_suffix("[]") {
        Some(element) => (element, "[]"),
        None => (t.sql_name.as_str(), ""),
    };
    match scalar {
        "numeric" => {
            let (precision, scale) = numeric_of(modifier);
            format!("numeric({precision},{scale}){brackets}")
        }
        "character varying" | "character" => format!("{scalar}({}){brackets}", modifier - 4),
        _ => t.sql_name.clone(),
    }
}

/// Returns precision and scale from the `atttypmod` of a numeric.
pub fn numeric_of(modifier: i64) -> (i64, i64) {
    let digits = modifier - 4;
    // The scale has 11 bits; the highest is its sign.
    let scale = ((digits & 0x7ff) ^ 0x400) - 0x400;
    ((digits >> 16) & 0xffff, scale)
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
        Self { oid, modifier: -1, dimensions: 0 }
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
        let oid = match column_type {
            ColumnType::Boolean => 16,
            ColumnType::SmallInt => 21,
            ColumnType::Integer => 23,
            ColumnType::BigInt => 20,
            ColumnType::Real => 700,
            ColumnType::Double => 701,
            ColumnType::Numeric(_) => 1700,
            ColumnType::Varchar(_) => 1043,
            ColumnType::Text => 25,
            ColumnType::Bytea => 17,
            ColumnType::Date => 1082,
            ColumnType::Time => 1083,
            ColumnType::Timestamp => 1114,
            ColumnType::Timestamptz => 1184,
            ColumnType::Interval => 1186,
            ColumnType::Jsonb => 3802,
            ColumnType::Array(element) => return array_of(Self::from(&**element)),
        };
        Self { oid, modifier: modifier_of(column_type), dimensions: 0 }
    }
}

fn array_of(element: TypeRef) -> TypeRef {
    let oid = if element.dimensions > 0 { element.oid } else { element.pg_type().array_oid };
    TypeRef { oid, modifier: element.modifier, dimensions: element.dimensions + 1 }
}

fn modifier_of(column_type: &ColumnType) -> i32 {
    match column_type {
        ColumnType::Varchar(Some(length)) => i32::try_from(*length).map_or(-1, |n| n + 4),
        ColumnType::Numeric(Some((precision, scale))) => {
            ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4
        }
        _ => -1,
    }
}

/// The type of a system relation's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Oid,
    Xid,
    Regproc,
    Char,
    Name,
    Text,
    Varchar,
    NodeTree,
    Inet,
    Bytea,
    Jsonb,
    Interval,
    Timestamp,
    Timestamptz,
    Int2Vector,
    OidVector,
    Int2Array,
    Float4Array,
    OidArray,
    CharArray,
    NameArray,
    TextArray,
    AclArray,
}

impl SystemType {
    /// Its oid in `pg_type`.
    pub const fn oid(self) -> u32 {
        match self {
            Self::Bool => 16,
            Self::Int2 => 21,
            Self::Int4 => 23,
            Self::Int8 => 20,
            Self::Float4 => 700,
            Self::Float8 => 701,
            Self::Oid => 26,
            Self::Xid => 28,
            Self::Regproc => 24,
            Self::Char => 18,
            Self::Name => 19,
            Self::Text => 25,
            Self::Varchar => 1043,
            Self::NodeTree => 194,
            Self::Inet => 869,
            Self::Bytea => 17,
            Self::Jsonb => 3802,
            Self::Interval => 1186,
            Self::Timestamp => 1114,
            Self::Timestamptz => 1184,
            Self::Int2Vector => 22,
            Self::OidVector => 30,
            Self::Int2Array => 1005,
            Self::Float4Array => 1021,
            Self::OidArray => 1028,
            Self::CharArray => 1002,
            Self::NameArray => 1003,
            Self::TextArray => 1009,
            Self::AclArray => 1034,
        }
    }

    /// The Arrow type that represents it. Only oids are unsigned.
    pub fn arrow_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Oid | Self::Xid | Self::Regproc => DataType::UInt32,
            Self::Char | Self::Name | Self::Text | Self::Varchar => DataType::Utf8View,
            Self::NodeTree | Self::Inet | Self::Jsonb => DataType::Utf8View,
            Self::Bytea => DataType::BinaryView,
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Int2Vector | Self::Int2Array => list_of(DataType::Int16),
            Self::OidVector | Self::OidArray => list_of(DataType::UInt32),
            Self::Float4Array => list_of(DataType::Float32),
            Self::CharArray | Self::NameArray | Self::TextArray | Self::AclArray => {
                list_of(DataType::Utf8View)
            }
        }
    }

    /// Returns a field whose metadata names the SQL type, as for user columns. Types represented as oids are
    /// sent as oids.
    pub fn field(self, name: &str) -> Field {
        let sent_as = if self.arrow_type() == DataType::UInt32 { Self::Oid } else { self };
        let sql_name = TypeRef::of_oid(sent_as.oid()).name();
        Field::new(name, self.arrow_type(), true)
            .with_metadata([(SQL_TYPE_KEY.to_owned(), sql_name)].into())
    }
}

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
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

    #[test]
    fn array_types_and_element_types_point_at_each_other() {
        for array in types().filter(|t| t.is_array()) {
            let element = by_oid(array.element_oid).unwrap();
            assert_eq!(element.array_oid, array.oid, "{}", array.name);
        }
    }
}
