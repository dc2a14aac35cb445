//! `information_schema.columns`: columns of tables and views.

use super::yes_or_no;
use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, ListedColumn};
use crate::system_catalog::relation::{SystemRelation, relation};
use tidemark_pg::types::{PgType, modifier};

struct Column {
    schema: String,
    relation: String,
    /// Whether it belongs to a user's table.
    updatable: bool,
    position: i64,
    column: ListedColumn,
    pg_type: &'static PgType,
}

pub(super) const RELATION: SystemRelation = relation!(
    View 13001 "columns", |context, column: Column| from columns,
    {
        table_catalog: Name = &context.database,
        table_schema: Name = &column.schema,
        table_name: Name = &column.relation,
        column_name: Name = &column.column.name,
        ordinal_position: Int4 = column.position,
        column_default: Varchar = column.column.shown_default(),
        is_nullable: Varchar = yes_or_no(!column.column.not_null),
        data_type: Varchar = column.data_type(),
        character_maximum_length: Int4 = column.characters_max(),
        character_octet_length: Int4 = column.octets_max(),
        numeric_precision: Int4 = column.numeric().map(|numeric| numeric.precision),
        numeric_precision_radix: Int4 = column.numeric().map(|numeric| numeric.radix),
        numeric_scale: Int4 = column.numeric().and_then(|numeric| numeric.scale),
        datetime_precision: Int4 = column.datetime_precision(),
        interval_type: Varchar = NULL,
        interval_precision: Int4 = NULL,
        character_set_catalog: Name = NULL,
        character_set_schema: Name = NULL,
        character_set_name: Name = NULL,
        collation_catalog: Name = NULL,
        collation_schema: Name = NULL,
        collation_name: Name = NULL,
        domain_catalog: Name = NULL,
        domain_schema: Name = NULL,
        domain_name: Name = NULL,
        udt_catalog: Name = &context.database,
        udt_schema: Name = "pg_catalog",
        udt_name: Name = &column.pg_type.name,
        scope_catalog: Name = NULL,
        scope_schema: Name = NULL,
        scope_name: Name = NULL,
        maximum_cardinality: Int4 = NULL,
        dtd_identifier: Name = column.position.to_string(),
        is_self_referencing: Varchar = "NO",
        is_identity: Varchar = "NO",
        identity_generation: Varchar = NULL,
        identity_start: Varchar = NULL,
        identity_increment: Varchar = NULL,
        identity_maximum: Varchar = NULL,
        identity_minimum: Varchar = NULL,
        identity_cycle: Varchar = "NO",
        is_generated: Varchar = "NEVER",
        generation_expression: Varchar = NULL,
        is_updatable: Varchar = yes_or_no(column.updatable),
    }
);

/// The standard's properties of a numeric type.
struct Numeric {
    precision: Option<i64>,
    radix: i64,
    scale: Option<i64>,
}

impl Column {
    fn data_type(&self) -> &'static str {
        if self.pg_type.category == 'A' && self.pg_type.is_array() {
            "ARRAY"
        } else {
            &self.pg_type.sql_name
        }
    }

    fn modifier(&self) -> Option<i64> {
        modifier::checked(self.column.type_ref.modifier.into())
    }

    fn characters_max(&self) -> Option<i64> {
        self.modifier().filter(|_| self.pg_type.name == "varchar").map(modifier::characters)
    }

    /// Four bytes per character, up to PostgreSQL's maximum for a value.
    fn octets_max(&self) -> Option<i64> {
        let is_text = matches!(self.pg_type.name.as_str(), "varchar" | "text");
        is_text.then(|| self.characters_max().map_or(1 << 30, |length| length * 4))
    }

    fn numeric(&self) -> Option<Numeric> {
        let binary = |bits, scale| Some(Numeric { precision: Some(bits), radix: 2, scale });
        match self.pg_type.name.as_str() {
            "int2" => binary(16, Some(0)),
            "int4" => binary(32, Some(0)),
            "int8" => binary(64, Some(0)),
            "float4" => binary(24, None),
            "float8" => binary(53, None),
            "numeric" => {
                let digits = self.modifier().map(modifier::digits);
                let (precision, scale) = digits.unzip();
                Some(Numeric { precision, radix: 10, scale })
            }
            _ => None,
        }
    }

    fn datetime_precision(&self) -> Option<i64> {
        match self.pg_type.name.as_str() {
            "date" => Some(0),
            "time" | "timestamp" | "timestamptz" | "interval" => Some(6),
            _ => None,
        }
    }
}

fn columns(context: &SystemContext) -> Vec<Column> {
    let mut columns = vec![];
    for relation in listing::relations(&context.view) {
        for (column, position) in relation.columns.into_iter().zip(1..) {
            columns.push(Column {
                schema: relation.schema.clone(),
                relation: relation.name.clone(),
                updatable: relation.kind == 'r' && relation.relation.is_some(),
                position,
                pg_type: column.type_ref.pg_type(),
                column,
            });
        }
    }
    columns
}
