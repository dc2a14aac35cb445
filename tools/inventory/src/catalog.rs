//! What PostgreSQL's own catalog lists: functions, operators, aggregates and casts that users call.

use crate::Fallible;
use crate::server::Connection;

/// A function, an operator or a cast with one list of argument types.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub arguments: Vec<String>,
    pub result: String,
    /// Whether two calls may give different values.
    pub is_volatile: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Function,
    Aggregate,
    /// An aggregate with `WITHIN GROUP`, and the number of its direct arguments.
    OrderedSet(usize),
    Window,
    Operator,
    Cast,
}

impl Entry {
    /// The entry as PostgreSQL's manual writes it.
    pub fn signature(&self) -> String {
        match (&self.kind, self.arguments.as_slice()) {
            (Kind::Operator, [left, right]) => format!("{left} {} {right}", self.name),
            (Kind::Operator, [right]) => format!("{} {right}", self.name),
            (Kind::Cast, [from]) => format!("{from} → {}", self.result),
            _ => format!("{}({})", self.name, self.arguments.join(", ")),
        }
    }
}

/// Functions, aggregates and window functions. What only the server calls is left out: input and output of
/// types, support of operators, indexes, aggregates and casts, and the sources of the statistics views.
const FUNCTIONS: &str = r"
SELECT p.proname, p.prokind, COALESCE(g.aggkind, ''), COALESCE(g.aggnumdirectargs, 0)::text, p.provolatile,
    format_type(p.prorettype, NULL),
    (SELECT string_agg(format_type(t, NULL), ';' ORDER BY i) FROM unnest(p.proargtypes) WITH ORDINALITY a(t, i))
FROM pg_proc p LEFT JOIN pg_aggregate g ON g.aggfnoid = p.oid
WHERE p.pronamespace = 'pg_catalog'::regnamespace
AND COALESCE(obj_description(p.oid, 'pg_proc'), '') !~
    '^(implementation of|aggregate |internal|less-equal-greater|hash|sort support|I/O|deprecated)'
AND p.proname !~
    '^(pg_stat_get|pg_stat_reset|pg_stat_clear|binary_upgrade|pg_replication|pg_logical|pg_(ls|read|stat)_(dir|file|binary)|pg_lo_|lo_|lo(read|write)|in_range|pg_ls_|pg_nextoid|pg_extension|pg_event_trigger|brin_|gin_|_pg)'
AND NOT EXISTS (
    SELECT 1 FROM unnest(array_append(p.proargtypes::oid[], p.prorettype)) a(t)
    JOIN pg_type y ON y.oid = a.t
    WHERE y.typtype = 'p' AND y.typname !~ '^any' AND y.typname NOT IN ('record', 'void'))
AND p.oid NOT IN (SELECT castfunc FROM pg_cast)
AND p.oid NOT IN (SELECT amproc FROM pg_amproc)
AND p.oid NOT IN (SELECT oprcode FROM pg_operator)
AND NOT EXISTS (SELECT 1 FROM pg_type y WHERE p.oid IN (y.typinput, y.typoutput, y.typreceive, y.typsend, y.typmodin))
AND NOT EXISTS (
    SELECT 1 FROM pg_aggregate s WHERE p.oid IN (s.aggtransfn, s.aggfinalfn, s.aggcombinefn, s.aggmtransfn,
    s.aggminvtransfn, s.aggmfinalfn))
ORDER BY 1, 7";

const OPERATORS: &str = r"
SELECT o.oprname, COALESCE(format_type(NULLIF(o.oprleft, 0), NULL), ''), format_type(o.oprright, NULL),
    format_type(o.oprresult, NULL)
FROM pg_operator o
JOIN pg_type r ON r.oid = o.oprright LEFT JOIN pg_type l ON l.oid = o.oprleft
WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprresult <> 0
AND r.typname !~ '^(_|pg_|xid|cid|tid|aclitem|gtsvector)' AND COALESCE(l.typname, '') !~ '^(_|pg_|xid|cid|tid|aclitem)'
AND o.oprname !~ '^~[<>]=?~$' AND o.oprname !~ '^\*'
OR o.oprname = '*' AND o.oprleft <> 0
ORDER BY 1, 2, 3";

const CASTS: &str = r"
SELECT format_type(c.castsource, NULL), format_type(c.casttarget, NULL)
FROM pg_cast c JOIN pg_type s ON s.oid = c.castsource JOIN pg_type t ON t.oid = c.casttarget
WHERE c.castsource <> c.casttarget AND s.typname !~ '^(pg_|xid|cid)' AND t.typname !~ '^(pg_|xid|cid)'
ORDER BY 1, 2";

/// Stable functions whose values change from one moment, session or server to another.
const CHANGING: &str = "now statement_timestamp transaction_timestamp timeofday current_query current_schemas \
                        get_current_ts_config version current_user session_user current_database \
                        pg_client_encoding to_timestamp_now";

/// Reads all entries.
pub async fn entries(postgres: &mut Connection) -> Fallible<Vec<Entry>> {
    let mut entries: Vec<_> =
        postgres.rows(FUNCTIONS).await?.iter().map(|row| function(row)).collect();
    entries.extend(postgres.rows(OPERATORS).await?.iter().map(|row| operator(row)));
    entries.extend(postgres.rows(CASTS).await?.iter().map(|row| Entry {
        name: "cast".to_owned(),
        kind: Kind::Cast,
        arguments: vec![row[0].clone()],
        result: row[1].clone(),
        is_volatile: false,
    }));
    Ok(entries)
}

fn function(row: &[String]) -> Entry {
    let arguments: Vec<_> =
        row[6].split(';').filter(|t| !t.is_empty()).map(str::to_owned).collect();
    let kind = match (row[1].as_str(), row[2].as_str()) {
        ("a", "n") => Kind::Aggregate,
        ("a", _) => Kind::OrderedSet(row[3].parse().unwrap_or(0)),
        ("w", _) => Kind::Window,
        _ => Kind::Function,
    };
    let changing = CHANGING.split_whitespace().any(|name| name == row[0]);
    let relative = row[0] == "age" && arguments.len() == 1;
    Entry {
        is_volatile: row[4] == "v" || changing || relative,
        name: row[0].clone(),
        kind,
        arguments,
        result: row[5].clone(),
    }
}

fn operator(row: &[String]) -> Entry {
    let arguments = row[1..3].iter().filter(|name| !name.is_empty()).cloned().collect();
    Entry {
        name: row[0].clone(),
        kind: Kind::Operator,
        arguments,
        result: row[3].clone(),
        is_volatile: false,
    }
}
