//! `pg_settings`: settings of the session and parameters of the cluster.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::relation::{SystemRelation, relation};
use crate::variables;
use tidemark_ledger::params::{PARAMS, ParamSpec};

struct Setting {
    name: String,
    /// The displayed value, without credentials.
    value: String,
    description: &'static str,
    /// What can change it: `user`, `postmaster` (with `ALTER SYSTEM`) or nothing (`internal`).
    context: &'static str,
    default: Option<&'static str>,
}

pub(super) const RELATION: SystemRelation = relation!(
    View 12014 "pg_settings", |_context, setting: Setting| from settings,
    {
        name: Text = &setting.name,
        setting: Text = &setting.value,
        unit: Text = NULL,
        category: Text = setting.category(),
        short_desc: Text = setting.description,
        extra_desc: Text = NULL,
        context: Text = setting.context,
        vartype: Text = "string",
        source: Text = setting.source(),
        min_val: Text = NULL,
        max_val: Text = NULL,
        enumvals: TextArray = NULL,
        boot_val: Text = setting.default,
        reset_val: Text = setting.default,
        sourcefile: Text = NULL,
        sourceline: Int4 = NULL,
        pending_restart: Bool = false,
    }
);

impl Setting {
    fn category(&self) -> &'static str {
        if self.context == "user" { "Session" } else { "Cluster" }
    }

    fn source(&self) -> &'static str {
        match self.default {
            Some(default) if default == self.value => "default",
            _ if self.context == "user" => "session",
            _ => "configuration file",
        }
    }
}

fn settings(context: &SystemContext) -> Vec<Setting> {
    let session = context.settings.iter().map(|(name, value)| Setting {
        name: name.clone(),
        value: value.clone(),
        description: "",
        context: "user",
        default: variables::default_of(name),
    });
    let cluster = PARAMS.iter().map(|param| parameter(context, param));
    let mut settings: Vec<Setting> = session.chain(cluster).collect();
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    settings
}

fn parameter(context: &SystemContext, param: &ParamSpec) -> Setting {
    Setting {
        name: param.name.to_owned(),
        value: context.view.params.shown(param.name),
        description: param.description,
        context: if param.mutable { "postmaster" } else { "internal" },
        default: param.default,
    }
}
