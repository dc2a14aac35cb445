//! Functions in `FROM`: `unnest` with and without its schema, and columns called as PostgreSQL calls them.

use sqlparser::ast::{
    FunctionArg, FunctionArgExpr, Ident, TableAlias, TableAliasColumnDef, TableFactor,
    TableFunctionArgs,
};

use crate::frontend::parser::folded;

/// Functions with one column, which has the name of the alias or else of the function.
const ONE_COLUMN: [&str; 2] = ["generate_series", "range"];
const UNNEST: &str = "unnest";

/// Gives a function's column its name; `factor` is left alone if it is no function.
pub(super) fn name_as_postgres(factor: &mut TableFactor) {
    if let Some(unnest) = as_unnest(factor) {
        *factor = unnest;
    }
    match factor {
        TableFactor::UNNEST { alias, array_exprs, .. } if array_exprs.len() == 1 => {
            name_column(alias, UNNEST);
        }
        TableFactor::Table { name, args: Some(_), alias, .. }
        | TableFactor::Function { name, alias, .. } => {
            let name = name.to_string().to_lowercase();
            if ONE_COLUMN.contains(&name.as_str()) {
                name_column(alias, &name);
            }
        }
        _ => {}
    }
}

/// The parser knows `unnest(...)`, but not by its full name, from which the schema was taken before.
fn as_unnest(factor: &TableFactor) -> Option<TableFactor> {
    let (name, args, alias) = match factor {
        TableFactor::Table { name, args: Some(TableFunctionArgs { args, .. }), alias, .. }
        | TableFactor::Function { name, args, alias, .. } => (name, args, alias),
        _ => return None,
    };
    if !name.to_string().eq_ignore_ascii_case(UNNEST) {
        return None;
    }
    let arrays = args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(array)) => Some(array.clone()),
        _ => None,
    });
    Some(TableFactor::UNNEST {
        alias: alias.clone(),
        array_exprs: arrays.collect::<Option<Vec<_>>>()?,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    })
}

fn name_column(alias: &mut Option<TableAlias>, function: &str) {
    let alias = alias.get_or_insert_with(|| TableAlias {
        explicit: true,
        name: Ident::new(function),
        columns: vec![],
        at: None,
    });
    if alias.columns.is_empty() {
        let name = Ident::with_quote('"', folded(&alias.name));
        alias.columns.push(TableAliasColumnDef { name, data_type: None });
    }
}
