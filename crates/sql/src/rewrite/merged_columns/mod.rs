//! Replaces `JOIN … USING` and `NATURAL JOIN` with `ON`, and the columns that they merge with what these are
//! computed from.
//!
//! DataFusion takes a merged column from the left side, whatever the join, and in some clauses calls its name
//! ambiguous. In PostgreSQL it comes from the side that has every row, and from both sides of a full join; `*`
//! shows the merged columns first. This pass needs to know the columns of every relation in `FROM`, to tell
//! which query a name belongs to; so it runs only on queries that have such a join.

mod scope;

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::execution::context::SessionState;
use sqlparser::ast::{
    Cte, Expr, FunctionArg, Ident, Join, JoinConstraint, JoinOperator, ObjectName, OrderBy,
    OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias,
    TableAliasColumnDef, TableFactor, TableFunctionArgs, TableWithJoins, Visit, VisitMut, Visitor,
    VisitorMut, visit_relations,
};

use super::output_names::{column_name, item_name};
use super::table_functions::ONE_COLUMN;
use crate::parser::folded;
use crate::trees::{join_constraint, join_constraint_mut, named, quoted, select, table};
use scope::{Meaning, Scope, Side};
use tidemark_pg::error::SqlError;

/// Names of columns; `None` if they are unknown.
type Names = Option<Vec<String>>;

/// Rewrites the joins of a query and of all queries inside it.
pub async fn merge_columns(query: &mut Query, state: &SessionState) -> Result<(), SqlError> {
    if !needs_names(query) {
        return Ok(());
    }
    let relations = relations_of(query, state).await?;
    let resolver = Resolver { relations: &relations };
    resolver.query(query, &Env::default()).map(drop)
}

/// Whether the query joins by names, or may rename only some columns of a relation.
fn needs_names(query: &Query) -> bool {
    struct Found;
    impl Visitor for Found {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let mut tables = query.with.iter().flat_map(|with| &with.cte_tables);
            found(tables.any(|cte| !cte.alias.columns.is_empty()))
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            let (TableFactor::Table { alias: Some(alias), args: None, .. }
            | TableFactor::Derived { alias: Some(alias), .. }) = factor
            else {
                return ControlFlow::Continue(());
            };
            found(!alias.columns.is_empty())
        }

        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            found(select.from.iter().any(merges))
        }
    }
    query.visit(&mut Found).is_break()
}

const fn found(found: bool) -> ControlFlow<()> {
    if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn merges(from: &TableWithJoins) -> bool {
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => merges(table_with_joins),
        _ => false,
    };
    nested(&from.relation)
        || from.joins.iter().any(|join| {
            nested(&join.relation)
                || matches!(
                    join_constraint(&join.join_operator),
                    Some(JoinConstraint::Using(_) | JoinConstraint::Natural)
                )
        })
}

/// The side of the merged columns of a join.
fn side_of(operator: &JoinOperator) -> Side {
    match operator {
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Side::Right,
        JoinOperator::FullOuter(_) => Side::Both,
        _ => Side::Left,
    }
}

/// The columns of the catalog's relations that a query may refer to.
async fn relations_of(
    query: &Query,
    state: &SessionState,
) -> Result<HashMap<Vec<String>, Vec<String>>, SqlError> {
    let mut wanted: Vec<Vec<String>> = vec![];
    let flow: ControlFlow<()> = visit_relations(query, |name| {
        wanted.push(parts_of(name));
        ControlFlow::Continue(())
    });
    debug_assert!(flow.is_continue(), "collecting never stops");
    wanted.sort();
    wanted.dedup();
    let mut relations = HashMap::new();
    for parts in wanted {
        let Some(reference) = reference_to(&parts) else { continue };
        let table = reference.table().to_owned();
        let Ok(schema) = state.schema_for_ref(reference) else { continue };
        if let Some(found) = schema.table(&table).await? {
            let fields = found.schema();
            relations.insert(parts, fields.fields().iter().map(|f| f.name().clone()).collect());
        }
    }
    Ok(relations)
}

fn parts_of(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect()
}

fn reference_to(parts: &[String]) -> Option<TableReference> {
    match parts {
        [table] => Some(TableReference::bare(table.as_str())),
        [schema, table] => Some(TableReference::partial(schema.as_str(), table.as_str())),
        [catalog, schema, table] => {
            Some(TableReference::full(catalog.as_str(), schema.as_str(), table.as_str()))
        }
        _ => None,
    }
}

/// What is known outside of a query.
#[derive(Clone, Default)]
struct Env {
    /// The queries of `WITH`, inner ones last.
    ctes: Vec<(String, Names)>,
    /// The `FROM` clauses of the queries around it, inner ones last.
    scopes: Vec<Scope>,
}

impl Env {
    fn with_scope(&self, scope: &Scope) -> Self {
        let mut inner = self.clone();
        inner.scopes.push(scope.clone());
        inner
    }

    /// What an unqualified name stands for, if a join merged its columns.
    fn merged(&self, name: &str) -> Option<Expr> {
        for scope in self.scopes.iter().rev() {
            match scope.meaning(name) {
                Meaning::Merged(expr) => return Some(*expr),
                Meaning::Column => return None,
                Meaning::Nothing => {}
            }
        }
        None
    }
}

struct Resolver<'a> {
    relations: &'a HashMap<Vec<String>, Vec<String>>,
}

impl Resolver<'_> {
    /// Rewrites a query; returns the names of its columns.
    fn query(&self, query: &mut Query, outer: &Env) -> Result<Names, SqlError> {
        let mut env = outer.clone();
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                let names = self.cte(cte, with.recursive, &env)?;
                env.ctes.push((folded(&cte.alias.name), names));
            }
        }
        self.body(&mut query.body, query.order_by.as_mut(), &env)
    }

    fn cte(&self, cte: &mut Cte, recursive: bool, env: &Env) -> Result<Names, SqlError> {
        let mut inner = env.clone();
        if recursive {
            let mut first = cte.query.clone();
            if let SetExpr::SetOperation { left, .. } = first.body.as_mut() {
                *first.body = std::mem::replace(left, select(vec![]).body());
                let names = self.query(&mut first, env)?;
                let names = renamed(names, &mut cte.alias);
                inner.ctes.push((folded(&cte.alias.name), names));
            }
        }
        Ok(renamed(self.query(&mut cte.query, &inner)?, &mut cte.alias))
    }

    fn body(
        &self,
        body: &mut SetExpr,
        order_by: Option<&mut OrderBy>,
        env: &Env,
    ) -> Result<Names, SqlError> {
        match body {
            SetExpr::Select(select) => self.select(select, order_by, env),
            SetExpr::Query(query) => self.query(query, env),
            SetExpr::SetOperation { left, right, .. } => {
                let names = self.body(left, None, env)?;
                self.body(right, None, env)?;
                Ok(names)
            }
            SetExpr::Values(values) => {
                let columns = values.rows.first().map_or(0, |row| row.len());
                self.names_in(values, env)?;
                Ok(Some((1..=columns).map(|at| format!("column{at}")).collect()))
            }
            _ => Ok(None),
        }
    }

    fn select(
        &self,
        select: &mut Select,
        order_by: Option<&mut OrderBy>,
        env: &Env,
    ) -> Result<Names, SqlError> {
        let mut scope = Scope::default();
        for from in &mut select.from {
            scope = scope.clone().and(self.joined(from, &scope, env)?);
        }
        let inner = env.with_scope(&scope);
        let names = output_of(&select.projection, &scope);
        if let Some(order_by) = order_by {
            self.order_by(order_by, &select.projection, &inner)?;
        }
        // The alias would be a second column of the name.
        let is_shown =
            select.projection.iter().any(|item| matches!(item, SelectItem::QualifiedWildcard(..)));
        let expanded =
            std::mem::take(&mut select.projection).into_iter().flat_map(|item| match item {
                SelectItem::Wildcard(_) if scope.has_merged() => scope.select_items(),
                SelectItem::UnnamedExpr(mut expr) => {
                    let name = column_name(&expr);
                    if merged_name(&mut expr, &inner) && !is_shown {
                        vec![named(expr, name)]
                    } else {
                        vec![SelectItem::UnnamedExpr(expr)]
                    }
                }
                item => vec![item],
            });
        select.projection = expanded.collect();
        let from = std::mem::take(&mut select.from);
        self.names_in(select, &inner)?;
        select.from = from;
        Ok(names)
    }

    /// `ORDER BY name` means a column of the result, if there is one of that name.
    fn order_by(&self, by: &mut OrderBy, items: &[SelectItem], env: &Env) -> Result<(), SqlError> {
        let OrderByKind::Expressions(exprs) = &mut by.kind else { return Ok(()) };
        let outputs: Vec<String> = items.iter().map(item_name).collect();
        for by in exprs {
            match &by.expr {
                Expr::Identifier(name) if outputs.contains(&folded(name)) => {}
                _ => self.names_in(&mut by.expr, env)?,
            }
        }
        Ok(())
    }

    /// Rewrites what `FROM` joins; returns its columns. `before` are the columns that `LATERAL` sees.
    fn joined(
        &self,
        from: &mut TableWithJoins,
        before: &Scope,
        env: &Env,
    ) -> Result<Scope, SqlError> {
        let mut left = self.factor(&mut from.relation, before, env)?;
        for join in &mut from.joins {
            let seen = before.clone().and(left.clone());
            let right = self.factor(&mut join.relation, &seen, env)?;
            left = self.join(join, left, right, before, env)?;
        }
        Ok(left)
    }

    fn join(
        &self,
        join: &mut Join,
        left: Scope,
        right: Scope,
        before: &Scope,
        env: &Env,
    ) -> Result<Scope, SqlError> {
        let side = side_of(&join.join_operator);
        let Some(by) = join_constraint_mut(&mut join.join_operator) else {
            return Ok(left.and(right));
        };
        let names = match by {
            JoinConstraint::Using(columns) => columns.iter().flat_map(parts_of).collect(),
            JoinConstraint::Natural => left.common(&right).ok_or_else(|| {
                SqlError::unsupported("NATURAL with a relation whose columns are not known")
            })?,
            JoinConstraint::On(_) | JoinConstraint::None => {
                let scope = left.and(right);
                if let JoinConstraint::On(condition) = by {
                    self.names_in(condition, &env.with_scope(before).with_scope(&scope))?;
                }
                return Ok(scope);
            }
        };
        let (scope, condition) = left.merge(right, &names, side)?;
        *by = JoinConstraint::On(condition);
        Ok(scope)
    }

    fn factor(
        &self,
        factor: &mut TableFactor,
        before: &Scope,
        env: &Env,
    ) -> Result<Scope, SqlError> {
        if let TableFactor::NestedJoin { table_with_joins, alias } = factor {
            let scope = self.joined(table_with_joins, before, env)?;
            let Some(mut alias) = alias.take() else { return Ok(scope) };
            let names = renamed(scope.names(), &mut alias);
            let name = alias.name.clone();
            let joined = std::mem::replace(table_with_joins.as_mut(), table(&[], None));
            let subquery = Box::new(select(scope.select_items()).from([joined]).query());
            *factor =
                TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
            return Ok(Scope::of_relation(Some(&name), names.as_deref()));
        }
        let lateral = env.with_scope(before);
        match factor {
            TableFactor::Derived { lateral: is_lateral, subquery, alias, .. } => {
                let env = if *is_lateral { &lateral } else { env };
                let names = self.query(subquery, env)?;
                let names = under(names, alias.as_mut());
                let name = alias.as_ref().map(|alias| &alias.name);
                Ok(Scope::of_relation(name, names.as_deref()))
            }
            TableFactor::Table { name, args: None, alias, .. } => {
                let names = self.relation(name, env);
                let names = under(names, alias.as_mut());
                let last = name.0.last().and_then(|part| part.as_ident());
                let called = alias.as_ref().map(|alias| &alias.name).or(last);
                Ok(Scope::of_relation(called, names.as_deref()))
            }
            TableFactor::Table {
                name, args: Some(TableFunctionArgs { args, .. }), alias, ..
            }
            | TableFactor::Function { name, args, alias, .. } => {
                self.arguments(args, &lateral)?;
                Ok(columns_of_function(name, alias.as_ref()))
            }
            TableFactor::UNNEST { array_exprs, alias, .. } => {
                for array in array_exprs {
                    self.names_in(array, &lateral)?;
                }
                Ok(columns_of_function(
                    &ObjectName::from(vec![Ident::new("unnest")]),
                    alias.as_ref(),
                ))
            }
            _ => Ok(Scope::of_relation(None, None)),
        }
    }

    fn arguments(&self, args: &mut [FunctionArg], env: &Env) -> Result<(), SqlError> {
        args.iter_mut().try_for_each(|arg| self.names_in(arg, env))
    }

    fn relation(&self, name: &ObjectName, env: &Env) -> Names {
        let parts = parts_of(name);
        if let [only] = parts.as_slice()
            && let Some((_, names)) = env.ctes.iter().rev().find(|(cte, _)| cte == only)
        {
            return names.clone();
        }
        self.relations.get(&parts).cloned()
    }

    /// Replaces the merged columns in a part of a query, and rewrites the queries inside it.
    fn names_in<N: VisitMut>(&self, node: &mut N, env: &Env) -> Result<(), SqlError> {
        match node.visit(&mut Replacer { resolver: self, env, inside: vec![] }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }
}

/// The columns of a set-returning function, which are unknown for some.
fn columns_of_function(name: &ObjectName, alias: Option<&TableAlias>) -> Scope {
    let function = parts_of(name).pop().unwrap_or_default();
    let called = alias.map_or_else(|| quoted(&function), |alias| alias.name.clone());
    let is_one = ONE_COLUMN.contains(&function.as_str())
        || ["unnest", "generate_subscripts"].contains(&function.as_str());
    let own = is_one.then(|| vec![folded(&called)]);
    let names = match alias {
        Some(alias) if !alias.columns.is_empty() && !is_one => {
            Some(alias.columns.iter().map(|column| folded(&column.name)).collect())
        }
        Some(alias) => renamed(own, &mut alias.clone()),
        None => own,
    };
    Scope::of_relation(Some(&called), names.as_deref())
}

/// The names under an alias. An alias that renames only the first columns is completed: DataFusion wants all.
fn renamed(names: Names, alias: &mut TableAlias) -> Names {
    let mut names = names?;
    if !alias.columns.is_empty() {
        let rest = names.iter().skip(alias.columns.len());
        let rest = rest.map(|name| TableAliasColumnDef { name: quoted(name), data_type: None });
        alias.columns.extend(rest.collect::<Vec<_>>());
    }
    for (name, column) in names.iter_mut().zip(&alias.columns) {
        *name = folded(&column.name);
    }
    Some(names)
}

/// The names under an alias, if there is one.
fn under(names: Names, alias: Option<&mut TableAlias>) -> Names {
    match alias {
        Some(alias) => renamed(names, alias),
        None => names,
    }
}

/// The names of the columns of a select list.
fn output_of(items: &[SelectItem], scope: &Scope) -> Names {
    let mut names = vec![];
    for item in items {
        match item {
            SelectItem::Wildcard(_) => names.extend(scope.names()?),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(table),
                _,
            ) => {
                names.extend(scope.names_of(parts_of(table).last()?)?);
            }
            item => names.push(item_name(item)),
        }
    }
    Some(names)
}

/// Replaces an expression that is nothing but the name of a merged column.
fn merged_name(expr: &mut Expr, env: &Env) -> bool {
    let merged = match expr {
        Expr::Identifier(name) => env.merged(&folded(name)),
        _ => None,
    };
    match merged {
        Some(merged) => {
            *expr = merged;
            true
        }
        None => false,
    }
}

/// Replaces names, but not in the queries inside: those are taken out while it passes them.
struct Replacer<'a> {
    resolver: &'a Resolver<'a>,
    env: &'a Env,
    inside: Vec<Query>,
}

impl VisitorMut for Replacer<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        let mut taken = std::mem::replace(query, select(vec![]).query());
        if let Err(error) = self.resolver.query(&mut taken, self.env) {
            return ControlFlow::Break(error);
        }
        self.inside.push(taken);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        if let Some(taken) = self.inside.pop() {
            *query = taken;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        merged_name(expr, self.env);
        ControlFlow::Continue(())
    }
}
