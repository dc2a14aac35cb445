//! The chapters of PostgreSQL's manual on functions, and which entry belongs where.

/// Number and title of a chapter.
pub type Chapter = (&'static str, &'static str);

/// Chapters in order, each with the names of the functions that its types do not tell.
pub const CHAPTERS: [(Chapter, &str); 22] = [
    (("9.1", "Logical and comparison"), "num_nulls num_nonnulls"),
    (
        ("9.3", "Mathematical"),
        "abs ceil ceiling degrees div exp factorial floor gcd lcm ln log log10 min_scale mod pi power pow radians \
         round scale sign sqrt trim_scale trunc width_bucket random setseed cbrt acos acosd asin asind atan atand \
         atan2 atan2d cos cosd cot cotd sin sind tan tand sinh cosh tanh asinh acosh atanh erf erfc",
    ),
    (
        ("9.4", "Strings"),
        "bit_length char_length character_length lower upper normalize is_normalized octet_length overlay position \
         substring btrim ltrim rtrim ascii chr concat concat_ws format initcap left length lpad md5 parse_ident \
         pg_client_encoding quote_ident quote_literal quote_nullable repeat replace reverse right rpad split_part \
         starts_with string_to_array string_to_table strpos substr to_ascii to_hex translate unistr \
         textcat textlen bpcharlen unicode_assigned",
    ),
    (
        ("9.5", "Binary strings"),
        "get_bit get_byte set_bit set_byte sha224 sha256 sha384 sha512 convert convert_from convert_to encode decode \
         bit_count crc32",
    ),
    (("9.6", "Bit strings"), ""),
    (
        ("9.7", "Pattern matching"),
        "regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array \
         regexp_split_to_table regexp_substr like notlike like_escape similar_escape similar_to_escape texticlike",
    ),
    (("9.8", "Formatting"), "to_char to_date to_number to_timestamp"),
    (
        ("9.9", "Dates and times"),
        "age clock_timestamp date_add date_bin date_part date_trunc extract isfinite justify_days justify_hours \
         justify_interval make_date make_interval make_time make_timestamp make_timestamptz now \
         statement_timestamp timeofday transaction_timestamp timezone overlaps pg_sleep pg_sleep_for pg_sleep_until",
    ),
    (("9.10", "Enums"), "enum_first enum_last enum_range"),
    (("9.11", "Geometry"), ""),
    (("9.12", "Network addresses"), ""),
    (("9.13", "Text search"), "get_current_ts_config ts_stat"),
    (("9.14", "UUID"), "gen_random_uuid"),
    (("9.15", "XML"), ""),
    (("9.16", "JSON"), ""),
    (("9.17", "Sequences"), "nextval currval lastval setval"),
    (
        ("9.19", "Arrays"),
        "array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position \
         array_positions array_prepend array_remove array_replace array_to_string array_upper cardinality \
         trim_array unnest array_larger array_smaller",
    ),
    (("9.20", "Ranges"), ""),
    (("9.21", "Aggregates"), ""),
    (("9.22", "Windows"), ""),
    (("9.25", "Sets"), "generate_series generate_subscripts"),
    (("9.26", "System information"), ""),
];

/// Families of types that decide the chapter.
const FAMILIES: [(&str, &[&str]); 8] = [
    ("9.11", &["point", "box", "circle", "line", "lseg", "path", "polygon"]),
    ("9.12", &["inet", "cidr", "macaddr", "macaddr8"]),
    ("9.13", &["tsvector", "tsquery", "regconfig", "regdictionary", "gtsvector"]),
    ("9.15", &["xml"]),
    ("9.6", &["bit", "bit varying"]),
    ("9.16", &["json", "jsonb", "jsonpath"]),
    ("9.10", &["anyenum"]),
    ("9.14", &["uuid"]),
];

const NUMBERS: [&str; 7] =
    ["smallint", "integer", "bigint", "numeric", "real", "double precision", "money"];
const TIMES: [&str; 6] = [
    "date",
    "time without time zone",
    "time with time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "interval",
];

/// The chapter of a function or operator by its name and the types of its arguments and result.
pub fn of(name: &str, kind: char, types: &[String]) -> Chapter {
    let number = match kind {
        'a' => "9.21",
        'w' => "9.22",
        _ => by_family(types).or_else(|| by_name(name)).unwrap_or_else(|| by_types(name, types)),
    };
    let found = CHAPTERS.iter().find(|((chapter, _), _)| *chapter == number);
    found.map_or(("9.26", "System information"), |(chapter, _)| *chapter)
}

fn by_family(types: &[String]) -> Option<&'static str> {
    if types.iter().any(|name| name.contains("range")) {
        return Some("9.20");
    }
    let bare = |name: &String| name.trim_end_matches("[]").to_owned();
    let has = |family: &[&str]| types.iter().any(|name| family.contains(&bare(name).as_str()));
    FAMILIES.iter().find(|(_, family)| has(family)).map(|(number, _)| *number)
}

fn by_name(name: &str) -> Option<&'static str> {
    let listed = |names: &str| names.split_whitespace().any(|listed| listed == name);
    CHAPTERS.iter().find(|(_, names)| listed(names)).map(|((number, _), _)| *number)
}

fn by_types(name: &str, types: &[String]) -> &'static str {
    let system =
        ["pg_", "has_", "inet_", "current_", "col_", "obj_", "row_security", "txid_", "to_reg"];
    let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let comparison = ["=", "<>", "<", ">", "<=", ">="];
    let first = types.first().map_or("", String::as_str);
    match name {
        _ if name.contains("json") => "9.16",
        _ if name.contains("xml") => "9.15",
        _ if name.starts_with("ts_") => "9.13",
        _ if system.iter().any(|prefix| name.starts_with(prefix)) => "9.26",
        _ if comparison.contains(&name) => "9.1",
        _ if is_operator
            && name.contains('~')
            && first != "bigint"
            && !NUMBERS.contains(&first) =>
        {
            "9.7"
        }
        _ if types.iter().any(|t| t.contains("any") || t.ends_with("[]")) => "9.19",
        _ if types.iter().any(|t| TIMES.contains(&t.as_str())) => "9.9",
        _ if NUMBERS.contains(&first) => "9.3",
        _ if ["text", "character", "character varying", "name"].contains(&first) => "9.4",
        _ if first == "bytea" => "9.5",
        _ => "9.26",
    }
}
