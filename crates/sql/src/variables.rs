//! Session variables as one table, used by `SET`, `SHOW` and `SHOW ALL`.
//!
//! A value that would have no effect is refused: the user expects, for example, a time zone to be applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_pg::error::SqlError;
use tidemark_pg::functions::POSTGRES_VERSION;
use tidemark_pg::sqlstate::SqlState;

pub const QUERY_EPOCH: &str = "query_epoch";
pub const SEARCH_PATH: &str = "search_path";
pub const APPLICATION_NAME: &str = "application_name";
pub const CLIENT_ENCODING: &str = "client_encoding";
pub const TIMEZONE: &str = "timezone";
/// Longest search path in bytes.
pub const SEARCH_PATH_BYTES_MAX: usize = 16 << 10;
/// Longest name in bytes.
const NAME_BYTES_MAX: usize = 63;
const CLIENT_MIN_MESSAGES: &str = "client_min_messages";
const STATEMENT_TIMEOUT: &str = "statement_timeout";
const IDLE_SESSION_TIMEOUT: &str = "idle_session_timeout";
const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: &str = "idle_in_transaction_session_timeout";

struct VariableSpec {
    name: &'static str,
    default: &'static str,
    accepts: Accepts,
    description: &'static str,
}

/// The values that a variable accepts.
#[derive(Clone, Copy)]
enum Accepts {
    /// Any text, cut to [`NAME_BYTES_MAX`] bytes as in PostgreSQL.
    Name,
    /// The client's encoding, by any spelling PostgreSQL knows. `SQL_ASCII` means that nothing is converted.
    Encoding,
    /// These, case-insensitively; the first one is stored.
    Only(&'static [&'static str]),
    Integer(i64, i64),
    Bool,
    /// Milliseconds, or a number with a unit.
    Duration,
    /// Constant: fixed at build time.
    Nothing,
    /// Checked by the handler of `SET`.
    Special,
}

const VARIABLES: &[VariableSpec] = &[
    variable(APPLICATION_NAME, "", Accepts::Name, "name of the client application"),
    variable("bytea_output", "hex", Accepts::Only(&["hex"]), "text form of bytea"),
    variable(
        "check_function_bodies",
        "on",
        Accepts::Bool,
        "accepted for pg_dump; there are no functions to check",
    ),
    variable(CLIENT_ENCODING, "UTF8", Accepts::Encoding, "encoding of the client"),
    variable(
        CLIENT_MIN_MESSAGES,
        "notice",
        Accepts::Only(&["notice", "warning", "error"]),
        "least severe message sent",
    ),
    variable(
        "datestyle",
        "ISO, MDY",
        Accepts::Only(&["ISO, MDY", "ISO", "ISO, YMD"]),
        "text form of dates",
    ),
    variable(
        "default_table_access_method",
        "hummock",
        Accepts::Only(&["hummock"]),
        "what keeps the rows of new tables",
    ),
    variable("default_tablespace", "", Accepts::Only(&[""]), "where new tables are"),
    variable(
        "default_transaction_isolation",
        "repeatable read",
        Accepts::Only(&["repeatable read", "read committed", "snapshot"]),
        "isolation of new transactions; a statement always sees one epoch",
    ),
    variable(
        "default_transaction_read_only",
        "off",
        Accepts::Only(&["off", "false", "0", "no"]),
        "whether new transactions refuse writes",
    ),
    variable(
        "extra_float_digits",
        "1",
        Accepts::Integer(1, 3),
        "floats are always shown so that they read back exactly",
    ),
    variable(
        IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        "0",
        Accepts::Duration,
        "longest wait for a client inside a transaction in ms; 0 is for ever",
    ),
    variable(
        IDLE_SESSION_TIMEOUT,
        "0",
        Accepts::Duration,
        "longest wait for a client outside of transactions in ms; 0 is for ever",
    ),
    variable(
        "implicit_flush",
        "on",
        Accepts::Only(&["on", "true", "1"]),
        "a write is durable and visible when it is acknowledged",
    ),
    variable("integer_datetimes", "on", Accepts::Nothing, "times are whole microseconds"),
    variable("intervalstyle", "postgres", Accepts::Only(&["postgres"]), "text form of intervals"),
    variable("is_superuser", "on", Accepts::Nothing, "whether the user may do everything"),
    variable("jit", "off", Accepts::Only(&["off"]), "accepted for drivers; nothing is compiled"),
    variable("lc_collate", "C", Accepts::Nothing, "order of texts"),
    variable("lc_ctype", "C", Accepts::Nothing, "classes of characters"),
    variable(
        "lock_timeout",
        "0",
        Accepts::Duration,
        "accepted for drivers; no statement waits for a lock of another",
    ),
    variable("max_identifier_length", "63", Accepts::Nothing, "longest name in bytes"),
    variable("max_index_keys", "32", Accepts::Nothing, "most columns of a key"),
    variable(QUERY_EPOCH, "0", Accepts::Special, "epoch the session reads at; 0 reads the present"),
    variable("row_security", "on", Accepts::Bool, "accepted for pg_dump; there are no policies"),
    variable(SEARCH_PATH, "\"$user\", public", Accepts::Special, "schemas of names that have none"),
    variable("server_encoding", "UTF8", Accepts::Nothing, "encoding of the server"),
    variable(
        "server_version",
        POSTGRES_VERSION,
        Accepts::Nothing,
        "version of PostgreSQL whose dialect is spoken",
    ),
    variable("server_version_num", "140010", Accepts::Nothing, "the same as a number"),
    variable(
        "standard_conforming_strings",
        "on",
        Accepts::Only(&["on", "true"]),
        "backslashes are plain in strings",
    ),
    variable(
        STATEMENT_TIMEOUT,
        "0",
        Accepts::Duration,
        "longest time of a statement in ms; 0 is for ever",
    ),
    variable(
        "synchronize_seqscans",
        "on",
        Accepts::Bool,
        "accepted for pg_dump; scans are always consistent",
    ),
    variable(
        TIMEZONE,
        "UTC",
        Accepts::Only(&["UTC", "Etc/UTC", "GMT"]),
        "time zone of the session",
    ),
    variable(
        "transaction_isolation",
        "repeatable read",
        Accepts::Only(&["repeatable read", "read committed"]),
        "isolation of the transaction; a statement always sees one epoch",
    ),
    variable("transaction_read_only", "off", Accepts::Nothing, "whether writes are refused now"),
    variable("xmloption", "content", Accepts::Only(&["content"]), "accepted for pg_dump"),
];

const fn variable(
    name: &'static str,
    default: &'static str,
    accepts: Accepts,
    description: &'static str,
) -> VariableSpec {
    VariableSpec { name, default, accepts, description }
}

/// The variables of one session.
#[derive(Clone, Debug)]
pub struct Variables {
    values: Arc<BTreeMap<String, String>>,
    /// What `RESET` returns to: the values with which the client connected.
    defaults: Arc<BTreeMap<String, String>>,
}

impl Default for Variables {
    fn default() -> Self {
        let values = VARIABLES.iter().map(|v| (v.name.to_owned(), v.default.to_owned()));
        let values = Arc::new(values.collect());
        Self { defaults: Arc::clone(&values), values }
    }
}

impl Variables {
    /// Returns the value; the name is case-insensitive and may have the old `rw_` prefix.
    pub fn value(&self, name: &str) -> Result<&str, SqlError> {
        let spec = find(name)?;
        Ok(self.values.get(spec.name).map_or(spec.default, String::as_str))
    }

    /// Name, value and description of every variable, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
        VARIABLES.iter().map(|spec| {
            let value = self.values.get(spec.name).map_or(spec.default, String::as_str);
            (spec.name, value, spec.description)
        })
    }

    /// All values, for functions like `current_setting`.
    pub fn values(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.values)
    }

    /// Sets a variable for which [`is_special`] returns nothing.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        let spec = find(name)?;
        self.keep(spec.name, spec.parse(value)?);
        Ok(())
    }

    /// Resets a variable to its default.
    pub fn reset(&mut self, name: &str) -> Result<(), SqlError> {
        let spec = find(name)?;
        let default = self.defaults.get(spec.name).map_or(spec.default, String::as_str);
        self.keep(spec.name, default.to_owned());
        Ok(())
    }

    /// Makes the values of now the defaults.
    pub fn become_defaults(&mut self) {
        self.defaults = Arc::clone(&self.values);
    }

    /// Stores a value that was checked elsewhere.
    pub fn keep(&mut self, name: &str, value: String) {
        Arc::make_mut(&mut self.values).insert(name.to_owned(), value);
    }

    /// Resets all variables to their defaults.
    pub fn reset_all(&mut self) {
        self.values = Arc::clone(&self.defaults);
    }

    /// Whether the client wants notices.
    pub fn sends_notices(&self) -> bool {
        self.values.get(CLIENT_MIN_MESSAGES).is_none_or(|least| least == "notice")
    }

    /// Longest time a statement may take; `None` for no limit.
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.duration(STATEMENT_TIMEOUT)
    }

    /// Longest time a session may wait for its client inside a transaction; `None` for no limit.
    pub fn idle_in_transaction_session_timeout(&self) -> Option<Duration> {
        self.duration(IDLE_IN_TRANSACTION_SESSION_TIMEOUT)
    }

    /// Longest time a session may wait for its client outside of transactions; `None` for no limit.
    pub fn idle_session_timeout(&self) -> Option<Duration> {
        self.duration(IDLE_SESSION_TIMEOUT)
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        let ms = self.values.get(name)?.parse::<u64>().ok()?;
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    /// The schemas in which unqualified names are looked up, in order. They need not exist.
    pub fn search_path(&self, user: &str) -> Vec<String> {
        let path = self.values.get(SEARCH_PATH).and_then(|path| names_in(path));
        let schemas = path.into_iter().flatten();
        let schemas = schemas.map(|s| if s == "$user" { user.to_owned() } else { s });
        schemas.filter(|s| !s.is_empty()).collect()
    }
}

/// The names of a list such as `"$user", public`; unquoted ones are folded. `None` if it is no such list.
pub fn names_in(list: &str) -> Option<Vec<String>> {
    let mut rest = list.trim();
    let mut names = vec![];
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted)?,
            None => plain_name(rest)?,
        };
        names.push(name);
        let after = after.trim_start();
        if after.is_empty() {
            return Some(names);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

/// The name up to the next comma, and what follows it.
fn plain_name(text: &str) -> Option<(String, &str)> {
    let (name, rest) = text.split_at(text.find(',').unwrap_or(text.len()));
    let name = name.trim_end();
    let is_one = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '"');
    is_one.then(|| (name.to_lowercase(), rest))
}

/// The name up to the closing quote, and what follows it.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            None => return Some((name, after)),
            Some(more) => {
                name.push('"');
                rest = more;
            }
        }
    }
}

/// Cuts a name to the stored length, at a character boundary.
fn cut_name(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// The default value of a variable.
pub fn default_of(name: &str) -> Option<&'static str> {
    find(name).ok().map(|spec| spec.default)
}

/// Returns the variable's name if `SET` has a separate handler for it.
pub fn is_special(name: &str) -> Result<Option<&'static str>, SqlError> {
    let spec = find(name)?;
    Ok(matches!(spec.accepts, Accepts::Special).then_some(spec.name))
}

fn find(name: &str) -> Result<&'static VariableSpec, SqlError> {
    let lower = name.to_ascii_lowercase();
    let lower = match lower.as_str() {
        "time zone" => "timezone",
        "rw_implicit_flush" => "implicit_flush",
        "transaction isolation level" => "transaction_isolation",
        other => other,
    };
    VARIABLES.iter().find(|v| v.name == lower).ok_or_else(|| {
        SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{lower}\""),
        )
        .hint("SHOW ALL lists the session variables, SHOW PARAMETERS those of the cluster.")
    })
}

impl VariableSpec {
    fn parse(&self, value: &str) -> Result<String, SqlError> {
        let value = value.trim();
        match self.accepts {
            Accepts::Name => Ok(cut_name(value).to_owned()),
            Accepts::Encoding => {
                let letters = value.chars().filter(char::is_ascii_alphanumeric);
                match letters.collect::<String>().to_ascii_lowercase().as_str() {
                    "utf8" | "unicode" => Ok("UTF8".to_owned()),
                    "sqlascii" => Ok("SQL_ASCII".to_owned()),
                    _ => Err(self.invalid(value).hint("Texts are UTF8; set it in the client.")),
                }
            }
            Accepts::Only(allowed) => {
                match allowed.iter().find(|a| a.eq_ignore_ascii_case(value)) {
                    Some(_) => Ok(allowed[0].to_owned()),
                    None => {
                        Err(self.invalid(value).hint(format!("It can be: {}.", allowed.join("; "))))
                    }
                }
            }
            Accepts::Integer(min, max) => match value.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
                _ => Err(self.invalid(value).hint(format!("It can be from {min} to {max}."))),
            },
            Accepts::Bool => match value.to_ascii_lowercase().as_str() {
                "on" | "true" | "yes" | "1" => Ok("on".to_owned()),
                "off" | "false" | "no" | "0" => Ok("off".to_owned()),
                _ => Err(self.invalid(value)),
            },
            Accepts::Duration => duration_ms(value)
                .map(|ms| ms.to_string())
                .ok_or_else(|| self.invalid(value).hint("Use milliseconds, or a unit: '5s'.")),
            Accepts::Nothing => Err(SqlError::new(
                SqlState::CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{}\" cannot be changed", self.name),
            )),
            Accepts::Special => Err(SqlError::internal("this variable has a handler of its own")),
        }
    }

    fn invalid(&self, value: &str) -> SqlError {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"{}\": \"{value}\"", self.name),
        )
    }
}

fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().ok()?;
    let factor = match text.get(digits.len()..)?.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor).filter(|ms| *ms <= u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_effect_is_refused() {
        let mut variables = Variables::default();
        assert!(variables.set("TimeZone", "Europe/Paris").is_err());
        variables.set("TIME ZONE", "utc").unwrap();
        assert_eq!(variables.value("timezone").unwrap(), "UTC");
        assert!(variables.set("nope", "1").is_err());
    }

    #[test]
    fn a_name_is_cut_at_a_whole_character() {
        let mut variables = Variables::default();
        variables.set(APPLICATION_NAME, &"ü".repeat(1 << 20)).unwrap();
        assert_eq!(variables.value(APPLICATION_NAME).unwrap(), "ü".repeat(31));
        assert_eq!((cut_name(""), cut_name("psql")), ("", "psql"));
    }

    #[test]
    fn timeouts_take_units() {
        let mut variables = Variables::default();
        variables.set("statement_timeout", "5s").unwrap();
        assert_eq!(variables.statement_timeout(), Some(Duration::from_secs(5)));
        variables.reset("statement_timeout").unwrap();
        assert_eq!(variables.statement_timeout(), None);
        assert!(variables.set("statement_timeout", "-1").is_err());
    }

    #[test]
    fn the_search_path_names_the_user_where_it_says_so() {
        let mut variables = Variables::default();
        assert_eq!(variables.search_path("root"), ["root", "public"]);
        variables.keep(SEARCH_PATH, "app, public".to_owned());
        assert_eq!(variables.search_path("root"), ["app", "public"]);
    }

    #[test]
    fn a_list_of_names_is_read_as_postgres_reads_it() {
        let names = |list| names_in(list).map(|names| names.join("|"));
        let cases = [
            ("", Some("")),
            ("App ,public", Some("app|public")),
            (r#" "$user", "a,""b" "#, Some(r#"$user|a,"b"#)),
            ("\"\"", Some("")),
            ("a,", None),
            (",a", None),
            ("a b", None),
            (r#""a"#, None),
            (r#""a"b"#, None),
        ];
        for (list, expected) in cases {
            assert_eq!(names(list).as_deref(), expected, "{list}");
        }
    }

    #[test]
    fn reset_returns_to_what_the_client_connected_with() {
        let mut variables = Variables::default();
        variables.set("statement_timeout", "5s").unwrap();
        variables.become_defaults();
        variables.set("statement_timeout", "7s").unwrap();
        variables.reset("statement_timeout").unwrap();
        assert_eq!(variables.value("statement_timeout").unwrap(), "5000");
        variables.set("client_encoding", "'utf-8'").unwrap();
        variables.reset_all();
        assert_eq!(variables.value("client_encoding").unwrap(), "UTF8");
    }
}
