//! `pg_catalog`: the catalog that psql, drivers and tools query in PostgreSQL.

mod empty;
mod pg_am;
mod pg_attrdef;
mod pg_attribute;
mod pg_class;
mod pg_collation;
mod pg_constraint;
mod pg_database;
mod pg_index;
mod pg_indexes;
mod pg_language;
mod pg_namespace;
mod pg_proc;
mod pg_roles;
mod pg_settings;
mod pg_stat_activity;
mod pg_stat_user_tables;
mod pg_tables;
mod pg_tablespace;
mod pg_type;
mod pg_user;
mod pg_views;

use super::relation::SystemRelation;

pub(super) use pg_proc::{Procedure, procedures};
pub(super) use pg_roles::{Role, roles};

/// Every relation of the schema.
pub(super) const RELATIONS: &[&[SystemRelation]] = &[
    &[
        pg_am::RELATION,
        pg_attrdef::RELATION,
        pg_attribute::RELATION,
        pg_class::RELATION,
        pg_collation::RELATION,
        pg_constraint::RELATION,
        pg_database::RELATION,
        pg_index::RELATION,
        pg_indexes::RELATION,
        pg_language::RELATION,
        pg_namespace::RELATION,
        pg_proc::RELATION,
        pg_roles::RELATION,
        pg_settings::RELATION,
        pg_stat_activity::RELATION,
        pg_stat_user_tables::RELATION,
        pg_tables::RELATION,
        pg_tablespace::RELATION,
        pg_type::RELATION,
        pg_user::RELATION,
        pg_user::SHADOW,
        pg_views::RELATION,
    ],
    empty::RELATIONS,
];
