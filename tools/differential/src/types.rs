//! The types both servers have, and values of them: ordinary ones, extremes, and ones that look alike.

use fastrand::Rng;

/// A type of expressions. Type modifiers belong to columns, not to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    Bool,
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
    Bytea,
    Jsonb,
    Int4Array,
    NumericArray,
    Float8Array,
    TextArray,
    BoolArray,
    DateArray,
}

/// Everything the tool knows of a type.
struct Facts {
    /// Its name in the table of signatures.
    tag: &'static str,
    /// Its name in SQL.
    name: &'static str,
    /// Columns are declared as one of these.
    declared: &'static [&'static str],
    values: &'static [&'static str],
}

pub const ALL: &[Type] = &[
    Type::Bool,
    Type::Int2,
    Type::Int4,
    Type::Int8,
    Type::Numeric,
    Type::Float4,
    Type::Float8,
    Type::Text,
    Type::Varchar,
    Type::Date,
    Type::Time,
    Type::Timestamp,
    Type::Timestamptz,
    Type::Interval,
    Type::Bytea,
    Type::Jsonb,
    Type::Int4Array,
    Type::NumericArray,
    Type::Float8Array,
    Type::TextArray,
    Type::BoolArray,
    Type::DateArray,
];

/// By rank: a set operation over two of them has the later one.
pub const NUMBERS: &[Type] =
    &[Type::Int2, Type::Int4, Type::Int8, Type::Numeric, Type::Float4, Type::Float8];

pub const INTEGERS: &[Type] = &[Type::Int2, Type::Int4, Type::Int8];

pub const TIMES: &[Type] = &[Type::Date, Type::Timestamp, Type::Timestamptz];

/// Those without arrays, `jsonb` and types whose equal values look different.
pub const PLAIN: &[Type] = &[
    Type::Bool,
    Type::Int2,
    Type::Int4,
    Type::Int8,
    Type::Float4,
    Type::Float8,
    Type::Text,
    Type::Varchar,
    Type::Date,
    Type::Time,
    Type::Timestamp,
    Type::Timestamptz,
    Type::Bytea,
];

const INT2: &[&str] = &["0", "1", "-1", "2", "3", "7", "100", "32767", "-32768"];
const INT4: &[&str] =
    &["0", "1", "-1", "2", "3", "5", "7", "10", "-42", "2147483647", "-2147483648"];
const INT8: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "10",
    "16777217",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
];
const NUMERIC: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "1.5",
    "2.5",
    "-2.5",
    "0.1",
    "0.05",
    "1.10",
    "3.14159",
    "100",
    "12345.678",
    "-99999.99",
    "99999999.99",
];
const FLOAT4: &[&str] = &[
    "0",
    "1",
    "-0",
    "-1",
    "1.5",
    "2.5",
    "0.1",
    "-3.25",
    "16777216",
    "1e30",
    "1e-30",
    "NaN",
    "Infinity",
    "-Infinity",
];
const FLOAT8: &[&str] = &[
    "0",
    "1",
    "-0",
    "-1",
    "0.5",
    "1.5",
    "2.5",
    "-2.5",
    "0.1",
    "100",
    "-3.25",
    "16777217",
    "1e15",
    "1e16",
    "1e300",
    "1e-300",
    "NaN",
    "Infinity",
    "-Infinity",
];
const TEXT: &[&str] = &[
    "",
    "a",
    "b",
    "A",
    "ab",
    "abc",
    "aBc",
    " a ",
    "a b",
    "%",
    "a%",
    "_",
    "é",
    "日本",
    "x'y",
    "a\\b",
    "0",
    "1",
    "-1",
    "10",
    "zz",
    "true",
    "null",
    "foo bar baz",
    "a,b,,c",
    "line\nbreak",
];
const DATE: &[&str] = &[
    "1970-01-01",
    "2000-01-01",
    "2024-02-29",
    "2024-12-31",
    "1999-12-31",
    "2023-01-31",
    "1582-10-15",
    "0001-01-01",
    "9999-12-31",
    "2024-03-31",
];
const TIME: &[&str] =
    &["00:00:00", "12:00:00", "23:59:59.999999", "01:02:03.456", "04:05:06", "00:00:00.000001"];
const TIMESTAMP: &[&str] = &[
    "1970-01-01 00:00:00",
    "2000-01-01 00:00:00",
    "2024-02-29 12:34:56.789",
    "2023-12-31 23:59:59.999999",
    "1969-12-31 23:59:59.5",
    "0001-01-01 00:00:00",
    "9999-12-31 23:59:59",
    "2024-03-31 02:30:00",
];
const TIMESTAMPTZ: &[&str] = &[
    "1970-01-01 00:00:00+00",
    "2000-01-01 00:00:00+00",
    "2024-02-29 12:34:56.789+00",
    "2023-12-31 23:59:59.999999-05",
    "2024-03-31 02:30:00+02",
    "0001-01-01 00:00:00+00",
];
const INTERVAL: &[&str] = &[
    "0",
    "1 day",
    "24 hours",
    "1 mon",
    "30 days",
    "-1 day",
    "1 year 2 mons 3 days 04:05:06.789",
    "1 mon -1 days",
    "-00:00:01",
    "36:00:00",
    "1 week",
    "2 years",
];
const BYTEA: &[&str] = &["\\x", "\\x00", "\\xff", "\\x616263", "\\x0001", "\\x80"];
const JSONB: &[&str] = &[
    "{}",
    "[]",
    "null",
    "1",
    "1.50",
    "true",
    "\"a\"",
    "{\"a\": 1}",
    "{\"a\": {\"b\": [1, 2, null]}, \"c\": \"x\"}",
    "[1, \"a\", true, null]",
    "{\"b\": 1, \"a\": 2}",
    "[[1], {\"a\": []}]",
];

impl Type {
    fn facts(self) -> Facts {
        let facts = |tag, name, declared, values| Facts { tag, name, declared, values };
        match self {
            Self::Bool => facts("bool", "boolean", &["boolean"], &["true", "false"]),
            Self::Int2 => facts("int2", "smallint", &["smallint"], INT2),
            Self::Int4 => facts("int4", "integer", &["integer"], INT4),
            Self::Int8 => facts("int8", "bigint", &["bigint"], INT8),
            Self::Numeric => {
                facts("numeric", "numeric", &["numeric", "numeric(12,3)", "numeric(20,5)"], NUMERIC)
            }
            Self::Float4 => facts("float4", "real", &["real"], FLOAT4),
            Self::Float8 => facts("float8", "double precision", &["double precision"], FLOAT8),
            Self::Text => facts("text", "text", &["text"], TEXT),
            Self::Varchar => facts("varchar", "varchar", &["varchar", "varchar(20)"], TEXT),
            Self::Date => facts("date", "date", &["date"], DATE),
            Self::Time => facts("time", "time", &["time"], TIME),
            Self::Timestamp => facts("timestamp", "timestamp", &["timestamp"], TIMESTAMP),
            Self::Timestamptz => facts("timestamptz", "timestamptz", &["timestamptz"], TIMESTAMPTZ),
            Self::Interval => facts("interval", "interval", &["interval"], INTERVAL),
            Self::Bytea => facts("bytea", "bytea", &["bytea"], BYTEA),
            Self::Jsonb => facts("jsonb", "jsonb", &["jsonb"], JSONB),
            Self::Int4Array => facts(
                "int4[]",
                "integer[]",
                &["integer[]"],
                &["{}", "{1}", "{1,2,3}", "{NULL,1}", "{3,1,2,1}", "{NULL}", "{-1,2147483647}"],
            ),
            Self::NumericArray => {
                facts("numeric[]", "numeric[]", &["numeric[]"], &["{}", "{1.5}", "{1.50,NULL,-2}"])
            }
            Self::Float8Array => facts(
                "float8[]",
                "double precision[]",
                &["double precision[]"],
                &["{}", "{1.5}", "{NaN,0,-0}", "{Infinity,NULL}"],
            ),
            Self::TextArray => facts(
                "text[]",
                "text[]",
                &["text[]"],
                &["{}", "{a}", "{a,b,NULL}", "{\"\"}", "{\"x y\",\"a,b\",\"NULL\"}", "{b,a,b}"],
            ),
            Self::BoolArray => {
                facts("bool[]", "boolean[]", &["boolean[]"], &["{}", "{t,f,NULL}", "{t}"])
            }
            Self::DateArray => {
                facts("date[]", "date[]", &["date[]"], &["{}", "{2024-02-29,NULL}", "{1970-01-01}"])
            }
        }
    }

    /// The type of a name in the table of signatures.
    pub fn of_tag(tag: &str) -> Option<Self> {
        ALL.iter().copied().find(|known| known.tag() == tag)
    }

    pub fn tag(self) -> &'static str {
        self.facts().tag
    }

    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// What a column of this type may be declared as.
    pub fn declared(self, rng: &mut Rng) -> &'static str {
        pick(rng, self.facts().declared)
    }

    /// The text of a value other than NULL.
    pub fn value(self, rng: &mut Rng) -> String {
        if INTEGERS.contains(&self) && rng.u8(..4) > 0 {
            return rng.i32(-3..12).to_string();
        }
        pick(rng, self.facts().values).to_owned()
    }

    /// The simplest value other than NULL, to shrink to.
    pub fn simplest(self) -> &'static str {
        self.facts().values.get(1).copied().unwrap_or_default()
    }

    /// The group of types whose differences mostly have one cause.
    pub fn family(self) -> &'static str {
        match self {
            Self::Int2 | Self::Int4 | Self::Int8 => "int",
            Self::Float4 | Self::Float8 => "float",
            Self::Text | Self::Varchar => "text",
            Self::Timestamp | Self::Timestamptz => "moment",
            _ if self.element().is_some() => "array",
            _ => self.tag(),
        }
    }

    pub fn element(self) -> Option<Self> {
        self.tag().strip_suffix("[]").and_then(Self::of_tag)
    }

    /// The type of a literal without quotes and casts that PostgreSQL reads as this one, and its text.
    pub fn is_natural(self, value: &str) -> bool {
        let is_digits = value.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Bool => true,
            Self::Int4 => is_digits && value.len() < 10,
            Self::Int8 => is_digits && (11..19).contains(&value.len()),
            Self::Numeric => value.contains('.') && !value.starts_with('-'),
            _ => false,
        }
    }
}

/// A text as a string literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// One of several. There must be one.
pub fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}
