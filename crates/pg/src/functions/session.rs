//! Functions whose result depends on the session that calls them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use super::rowwise::{Answer, Arg, Row, Rowwise, Value};
use crate::carried::Carried;
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use tidemark_ledger::catalog::ColumnType;
use tidemark_ledger::params::{ParamSpec, Params};

/// The properties of a session that its functions return.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    pub pid: i32,
    pub user: String,
    pub database: String,
    /// The schema in which unqualified names are looked up and created.
    pub schema: String,
    /// Every setting by its lower-case name.
    pub settings: Arc<BTreeMap<String, String>>,
}

/// The session and the parameters that session functions read.
#[derive(Debug)]
pub struct Caller {
    pub session: SessionInfo,
    /// The cluster's parameters.
    pub params: Arc<Params>,
}

impl Carried for Caller {
    const NAME: &'static str = "caller";
}

/// The functions whose result depends on the session. They fail in plans that carry no [`Caller`].
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let current_setting = Rowwise::new(
        "current_setting",
        &[&[Arg::Text], &[Arg::Text, Arg::Bool]],
        ColumnType::Text,
        |row| {
            let missing_ok = row.count() > 1 && row.bool(1) == Some(true);
            let (name, caller) = (row.text(0).unwrap_or_default(), caller(row)?);
            match ParamSpec::find(name) {
                Ok(param) => Ok(Value::Text(caller.params.shown(param.name))),
                Err(_) => setting(&caller.session.settings, name, missing_ok),
            }
        },
    );
    let set_config = Rowwise::new(
        "set_config",
        &[&[Arg::Text, Arg::Text, Arg::Bool]],
        ColumnType::Text,
        |row| {
            let settings = &caller(row)?.session.settings;
            unchanged(settings, row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default())
        },
    );
    let current_schemas = Rowwise::new(
        "current_schemas",
        &[&[Arg::Bool]],
        ColumnType::Array(Box::new(ColumnType::Text)),
        |row| {
            let implicit = (row.bool(0) == Some(true)).then(|| "pg_catalog".to_owned());
            let own = Some(&caller(row)?.session.schema).filter(|schema| !schema.is_empty());
            Ok(Value::Texts(implicit.into_iter().chain(own.cloned()).map(Some).collect()))
        },
    );
    let backend_pid = Rowwise::new("pg_backend_pid", &[&[]], ColumnType::Integer, |row| {
        Ok(Value::Int(caller(row)?.session.pid.into()))
    });
    vec![
        backend_pid.stable().udf(),
        constant("current_schema", &[], |session| &session.schema),
        constant("current_database", &["current_catalog"], |session| &session.database),
        constant("current_user", &["session_user", "user", "current_role"], |session| {
            &session.user
        }),
        current_schemas.stable().udf(),
        current_setting.stable().udf(),
        set_config.stable().udf(),
    ]
}

fn caller<'a>(row: &Row<'a>) -> Result<&'a Arc<Caller>, SqlError> {
    row.carried().ok_or_else(|| SqlError::internal("a function was called outside of a session"))
}

fn constant(
    name: &'static str,
    aliases: &[&str],
    answer: fn(&SessionInfo) -> &String,
) -> Arc<ScalarUDF> {
    Rowwise::new(name, &[&[]], ColumnType::Text, move |row| {
        let answer = answer(&caller(row)?.session);
        // An empty value is null: there may be no current schema.
        Ok(if answer.is_empty() { Value::Null } else { Value::Text(answer.clone()) })
    })
    .aliases(aliases)
    .stable()
    .udf()
}

fn setting(settings: &BTreeMap<String, String>, name: &str, missing_ok: bool) -> Answer {
    match settings.get(&name.to_ascii_lowercase()) {
        Some(value) => Ok(Value::Text(value.clone())),
        None if missing_ok => Ok(Value::Null),
        None => Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}

/// Accepts only the current value: a query cannot change its session.
fn unchanged(settings: &BTreeMap<String, String>, name: &str, value: &str) -> Answer {
    match setting(settings, name, false)? {
        Value::Text(current) if current == value => Ok(Value::Text(current)),
        _ => Err(SqlError::unsupported("set_config() that changes a setting").hint("Use SET.")),
    }
}
