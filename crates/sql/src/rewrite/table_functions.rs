//! Set-returning functions in `FROM`: those that unnest an array become `unnest`, and columns get
//! PostgreSQL's names.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, TableAlias, TableAliasColumnDef, TableFactor, TableFunctionArgs,
};

use crate::parser::folded;
use crate::trees::{call, quoted, table_alias};
use tidemark_pg::functions::{EXPANDED, SUBSCRIPTS};

/// Functions with one column, named after the alias or else the function.
pub(super) const ONE_COLUMN: [&str; 2] = ["generate_series", "range"];
pub(super) const UNNEST: &str = "unnest";

/// The array behind a set-returning function, if the function unnests the result of another one.
pub(super) fn unnested_by(function: &Function) -> Option<Expr> {
    match &function.args {
        FunctionArguments::List(FunctionArgumentList { args, .. }) => {
            unnested(&function.name, args).filter(|_| !is_unnest(&function.name))
        }
        _ => None,
    }
}

fn unnested(function: &ObjectName, args: &[FunctionArg]) -> Option<Expr> {
    let args = args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => Some(arg.clone()),
        _ => None,
    });
    let mut args = args.collect::<Option<Vec<_>>>()?;
    match function.to_string().to_lowercase().as_str() {
        UNNEST if args.len() == 1 => args.pop(),
        "generate_subscripts" => Some(call(SUBSCRIPTS, args)),
        "_pg_expandarray" => Some(call(EXPANDED, args)),
        _ => None,
    }
}

fn is_unnest(function: &ObjectName) -> bool {
    function.to_string().eq_ignore_ascii_case(UNNEST)
}

/// Names the column of a function; leaves other table factors unchanged.
pub(super) fn name_as_postgres(factor: &mut TableFactor) {
    match factor {
        TableFactor::UNNEST { alias, array_exprs, .. } if array_exprs.len() == 1 => {
            name_column(alias, UNNEST);
        }
        TableFactor::Table { name, args: Some(TableFunctionArgs { args, .. }), alias, .. }
        | TableFactor::Function { name, args, alias, .. } => {
            let called = name.to_string().to_lowercase();
            let array = unnested(name, args);
            if array.is_some() || ONE_COLUMN.contains(&called.as_str()) {
                name_column(alias, &called);
            }
            if let Some(array) = array {
                *factor = TableFactor::UNNEST {
                    alias: alias.take(),
                    array_exprs: vec![array],
                    with_offset: false,
                    with_offset_alias: None,
                    with_ordinality: false,
                };
            }
        }
        _ => {}
    }
}

fn name_column(alias: &mut Option<TableAlias>, function: &str) {
    let alias = alias.get_or_insert_with(|| table_alias(Ident::new(function)));
    if alias.columns.is_empty() {
        let name = quoted(folded(&alias.name));
        alias.columns.push(TableAliasColumnDef { name, data_type: None });
    }
}
