//! Sample values of each type, as SQL.

/// Literals of a type, the plainest first; `None` if there are none.
pub fn of(type_name: &str) -> Option<Vec<String>> {
    if let Some(literals) = literals(type_name) {
        return Some(literals.iter().map(|text| format!("'{text}'::{type_name}")).collect());
    }
    let expressions: &[&str] = match type_name {
        "anyelement" | "anycompatible" | "anynonarray" | "anycompatiblenonarray" => {
            &["5::integer", "'ab'::text", "NULL::integer"]
        }
        "any" | "\"any\"" => &["'ab'::text", "5::integer", "true", "NULL::text", "1.50::numeric"],
        "anyarray" | "anycompatiblearray" => &[
            "'{5,7,NULL,5}'::integer[]",
            "'{ab,\"c d\",NULL}'::text[]",
            "'{}'::integer[]",
            "NULL::integer[]",
        ],
        "record" => &["ROW(1, 'a')", "ROW(NULL, 'b')"],
        _ => return None,
    };
    Some(expressions.iter().map(|&text| text.to_owned()).collect())
}

/// Texts that the type's input function reads.
fn literals(type_name: &str) -> Option<&'static [&'static str]> {
    Some(match type_name {
        "boolean" => &["t", "f"],
        "smallint" => &["3", "-2", "0", "32767"],
        "integer" => &["3", "-2", "0", "2147483647"],
        "bigint" => &["3", "-2", "0", "9223372036854775807"],
        "numeric" => &["2.50", "-7.125", "0", "NaN", "12345678901234567890.5"],
        "real" => &["1.5", "-2.25", "0", "NaN", "Infinity"],
        "double precision" => &["0.5", "-2.5", "0", "NaN", "Infinity", "1e300"],
        "text" | "character varying" => &["abc", "", "Hello, World 12", "äöü €", "2"],
        "character" => &["abc", "a b "],
        "\"char\"" => &["a", "b"],
        "name" => &["abc", "pg_class"],
        "bytea" => &["\\x0001ff61", "\\x", "\\x616263"],
        "date" => &["2024-02-29", "1999-12-31", "infinity", "0044-03-15 BC"],
        "time without time zone" => &["12:34:56.789", "00:00:00", "24:00:00"],
        "time with time zone" => &["12:34:56+02"],
        "timestamp without time zone" => &["2024-02-29 12:34:56.789", "1970-01-01", "-infinity"],
        "timestamp with time zone" => &["2024-02-29 12:34:56.789+02", "1970-01-01+00", "infinity"],
        "interval" => &["1 day 02:03:04.5", "1 year 2 mons -3 days", "0", "-40 days"],
        "json" => {
            &["{\"a\": 1, \"b\": [true, null, \"x\"]}", "[1, 2, {\"a\": 3}]", "5", "{}", "[]"]
        }
        "jsonb" => {
            &["{\"a\": 1, \"b\": [true, null, \"x\"]}", "[1, 2, {\"a\": 3}]", "5", "{}", "[]"]
        }
        "jsonpath" => &["$.a", "$[*]"],
        "uuid" => &["00112233-4455-6677-8899-aabbccddeeff", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
        "oid" => &["1259", "23", "0", "999999"],
        "regclass" | "regtype" => &["23"],
        "integer[]" => &["{5,7,NULL,5}", "{}", "{1}"],
        "text[]" => &["{a,b,NULL}", "{}", "{\"x y\",a}"],
        "smallint[]" | "bigint[]" => &["{5,7}", "{}"],
        "double precision[]" | "real[]" | "numeric[]" => &["{0.5,0.25}", "{}"],
        "timestamp with time zone[]" => &["{2024-01-01 00:00+00}"],
        "inet" | "cidr" => &["192.168.1.0/24"],
        "macaddr" => &["08:00:2b:01:02:03"],
        "macaddr8" => &["08:00:2b:01:02:03:04:05"],
        "bit" | "bit varying" => &["101"],
        "money" => &["12.34"],
        "point" => &["(1,2)"],
        "tsvector" => &["a fat cat"],
        "tsquery" => &["fat & cat"],
        "int4range" => &["[1,5)"],
        _ => return None,
    })
}

/// Lists of arguments for parameters of these types: the plainest value of each, then every parameter's others
/// in turn, then NULLs. `None` if a type has no samples.
pub fn arguments(types: &[String]) -> Option<Vec<Vec<String>>> {
    let samples: Option<Vec<_>> = types.iter().map(|name| of(name)).collect();
    let samples = samples?;
    let plainest: Vec<_> = samples.iter().map(|values| values[0].clone()).collect();
    let mut lists = vec![plainest.clone()];
    let most = samples.iter().map(Vec::len).max().unwrap_or(0);
    for index in 1..most {
        lists.push(samples.iter().map(|values| values[index % values.len()].clone()).collect());
    }
    for (position, values) in samples.iter().enumerate().filter(|_| samples.len() > 1) {
        for value in values.iter().skip(1) {
            let mut list = plainest.clone();
            list[position].clone_from(value);
            lists.push(list);
        }
    }
    for (position, name) in types.iter().enumerate().filter(|(_, name)| !name.contains("any")) {
        let mut list = plainest.clone();
        list[position] = format!("NULL::{name}");
        lists.push(list);
    }
    lists.dedup();
    Some(lists)
}
