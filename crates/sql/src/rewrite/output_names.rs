//! Names the columns of a query as PostgreSQL does, instead of with DataFusion's printed expressions.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Expr, ObjectName, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Subscript, TableFactor, TrimWhereField, Visit,
    VisitMut, Visitor, VisitorMut, visit_expressions, visit_expressions_mut,
};

use crate::parser::folded;
use crate::trees;
use tidemark_pg::types::spelling::type_name;

const UNNAMED: &str = "?column?";

/// Returns the names of the result columns. `plan_fields` are DataFusion's names, one per column; columns
/// from a wildcard keep them.
pub fn output_names(query: &Query, plan_fields: &[String]) -> Vec<String> {
    let mut names = plan_fields.to_vec();
    let Some(select) = leftmost_select(&query.body) else { return names };
    let items = &select.projection;
    let is_wildcard = |item: &SelectItem| {
        matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
    };
    let before = items.iter().position(is_wildcard).unwrap_or(items.len());
    let after = items.iter().rev().position(is_wildcard).unwrap_or(0);
    if before + after > names.len() || (before == items.len() && before != names.len()) {
        return names;
    }
    for (name, item) in names.iter_mut().zip(&items[..before]) {
        *name = item_name(item);
    }
    for (name, item) in names.iter_mut().rev().zip(items.iter().rev()).take(after) {
        *name = item_name(item);
    }
    names
}

/// Names the unnamed columns of subqueries in `node`, so that outer queries can refer to them by PostgreSQL's
/// names, and renames columns that would have the same name in DataFusion.
pub fn name_nested_selects<N: VisitMut>(node: &mut N) {
    let flow = node.visit(&mut Namer);
    debug_assert!(flow.is_continue(), "naming never stops");
}

struct Namer;

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            if cte.alias.columns.is_empty() {
                name_items(&mut cte.query);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { subquery, alias, .. } = factor
            && alias.as_ref().is_none_or(|alias| alias.columns.is_empty())
        {
            name_items(subquery);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        rename_duplicate_columns(select);
        ControlFlow::Continue(())
    }
}

fn leftmost_select(body: &SetExpr) -> Option<&Select> {
    let mut body = body;
    loop {
        match body {
            SetExpr::Select(select) => return Some(select),
            SetExpr::Query(query) => body = &query.body,
            SetExpr::SetOperation { left, .. } => body = left,
            _ => return None,
        }
    }
}

fn leftmost_select_mut(body: &mut SetExpr) -> Option<&mut Select> {
    let mut body = body;
    loop {
        match body {
            SetExpr::Select(select) => return Some(select),
            SetExpr::Query(query) => body = &mut query.body,
            SetExpr::SetOperation { left, .. } => body = left,
            _ => return None,
        }
    }
}

pub(super) fn item_name(item: &SelectItem) -> String {
    match item {
        SelectItem::UnnamedExpr(expr) => column_name(expr),
        SelectItem::ExprWithAlias { alias, .. } => folded(alias),
        SelectItem::ExprWithAliases { .. }
        | SelectItem::Wildcard(_)
        | SelectItem::QualifiedWildcard(..) => UNNAMED.to_owned(),
    }
}

/// The name PostgreSQL gives to a column without an alias.
pub fn column_name(expr: &Expr) -> String {
    figure(expr).map_or_else(|| UNNAMED.to_owned(), |figured| figured.name)
}

/// A name, and whether an enclosing cast's type name replaces it.
struct Figured {
    name: String,
    weak: bool,
}

fn strong(name: impl Into<String>) -> Option<Figured> {
    Some(Figured { name: name.into(), weak: false })
}

fn weak(name: impl Into<String>) -> Option<Figured> {
    Some(Figured { name: name.into(), weak: true })
}

fn figure(expr: &Expr) -> Option<Figured> {
    match expr {
        Expr::Identifier(ident) => strong(folded(ident)),
        Expr::CompoundIdentifier(idents) => strong(folded(idents.last()?)),
        Expr::CompoundFieldAccess { root, access_chain } => figure_access(root, access_chain),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figure(inner),
        Expr::Function(function) => strong(last_part(&function.name)?),
        Expr::Cast { expr, data_type, .. } => match figure(expr) {
            Some(figured) if !figured.weak => Some(figured),
            _ => weak(type_name(data_type)),
        },
        Expr::TypedString(literal) => weak(type_name(&literal.data_type)),
        Expr::Interval(_) => weak("interval"),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(figure) {
            Some(figured) if !figured.weak => Some(figured),
            _ => weak("case"),
        },
        Expr::Array(_) => strong("array"),
        Expr::Exists { negated: false, .. } => strong("exists"),
        Expr::Subquery(query) => {
            let item = leftmost_select(&query.body)?.projection.first()?;
            match item {
                SelectItem::UnnamedExpr(expr) => figure(expr),
                SelectItem::ExprWithAlias { alias, .. } => strong(folded(alias)),
                _ => None,
            }
        }
        Expr::Tuple(_) => strong("row"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Position { .. } => strong("position"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            Some(TrimWhereField::Both) | None => "btrim",
        }),
        Expr::IsNormalized { .. } => strong("is_normalized"),
        _ => None,
    }
}

/// The name of the last field access; subscripts are ignored.
fn figure_access(root: &Expr, chain: &[AccessExpr]) -> Option<Figured> {
    let field = chain.iter().rev().find_map(|access| match access {
        AccessExpr::Dot(Expr::Identifier(ident)) => Some(folded(ident)),
        AccessExpr::Dot(_)
        | AccessExpr::Subscript(Subscript::Index { .. } | Subscript::Slice { .. }) => None,
    });
    field.map_or_else(|| figure(root), strong)
}

fn last_part(name: &ObjectName) -> Option<String> {
    name.0.last()?.as_ident().map(folded)
}

/// Gives the unnamed columns of a query PostgreSQL's names, unless another name would change its meaning.
fn name_items(query: &mut Query) {
    let mut taken = HashSet::new();
    if let Some(order_by) = &query.order_by
        && let OrderByKind::Expressions(exprs) = &order_by.kind
    {
        exprs.iter().for_each(|by| collect_names(by, &mut taken));
    }
    let Some(select) = leftmost_select_mut(&mut query.body) else { return };
    if select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)))
    {
        return;
    }
    // These clauses would resolve to the alias instead of a column of the table.
    collect_names(&select.group_by, &mut taken);
    collect_names(&select.having, &mut taken);
    collect_names(&select.distinct, &mut taken);
    let names: Vec<String> = select.projection.iter().map(item_name).collect();
    for (at, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let name = &names[at];
        let alone = names.iter().filter(|other| *other == name).count() == 1;
        if is_column(expr) || !alone || taken.contains(name) {
            continue;
        }
        *item = trees::named(trees::take(expr), name.clone());
    }
}

/// Whether DataFusion already uses the column's name for the expression.
fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Nested(inner) => is_column(inner),
        _ => false,
    }
}

fn collect_names<N: Visit>(node: &N, names: &mut HashSet<String>) {
    let flow: ControlFlow<()> = visit_expressions(node, |expr| {
        if let Expr::Identifier(ident) = expr {
            names.insert(folded(ident));
        }
        ControlFlow::Continue(())
    });
    debug_assert!(flow.is_continue(), "collecting never stops");
}

/// What DataFusion distinguishes columns of a select list by.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Column(Option<String>, String),
    Expression(String),
}

impl Key {
    /// Whether the two would have the same name; an unqualified column may match any qualifier.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Column(left, a), Self::Column(right, b)) => {
                a == b && (left == right || left.is_none() || right.is_none())
            }
            (left, right) => left == right,
        }
    }
}

/// A cast has the name of its operand; case is ignored.
fn key(expr: &Expr) -> Key {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => key(inner),
        Expr::Identifier(ident) => Key::Column(None, folded(ident)),
        Expr::CompoundIdentifier(idents) => match idents.split_last() {
            Some((name, [])) => Key::Column(None, folded(name)),
            Some((name, qualifier)) => {
                let qualifier: Vec<String> = qualifier.iter().map(folded).collect();
                Key::Column(Some(qualifier.join(".")), folded(name))
            }
            None => Key::Expression(String::new()),
        },
        // DataFusion names a subquery after the column it returns.
        Expr::Subquery(query) => {
            match leftmost_select(&query.body).and_then(|select| select.projection.first()) {
                Some(SelectItem::UnnamedExpr(expr)) => key(expr),
                Some(SelectItem::ExprWithAlias { alias, .. }) => Key::Column(None, folded(alias)),
                _ => Key::Expression(expr.to_string().to_ascii_lowercase()),
            }
        }
        // DataFusion's names do not distinguish subqueries.
        _ if holds_query(expr) => Key::Expression("(query)".to_owned()),
        _ => {
            // DataFusion's names omit parentheses and casts.
            let mut bare = expr.clone();
            let flow: ControlFlow<()> = visit_expressions_mut(&mut bare, |inner| {
                while let Expr::Nested(more) | Expr::Cast { expr: more, .. } = inner {
                    *inner = trees::take(more);
                }
                ControlFlow::Continue(())
            });
            debug_assert!(flow.is_continue(), "baring never stops");
            Key::Expression(bare.to_string().to_ascii_lowercase())
        }
    }
}

fn holds_query(expr: &Expr) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expr.visit(&mut Finder).is_break()
}

/// Renames duplicates: DataFusion refuses two columns of one name, PostgreSQL does not. The later one gets an
/// alias that nothing can refer to.
fn rename_duplicate_columns(select: &mut Select) {
    if select.projection.len() < 2 {
        return;
    }
    let mut seen: Vec<Key> = Vec::new();
    let wildcards: Vec<Option<String>> = select.projection.iter().filter_map(wildcard_of).collect();
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (key, clashes) = match item {
            SelectItem::UnnamedExpr(expr) => {
                let key = key(expr);
                let expanded = match &key {
                    Key::Column(table, _) => {
                        wildcards.iter().any(|wildcard| wildcard.is_none() || wildcard == table)
                    }
                    Key::Expression(_) => false,
                };
                let clashes = expanded || seen.iter().any(|other| other.meets(&key));
                (key, clashes)
            }
            SelectItem::ExprWithAlias { alias, .. } => {
                let key = Key::Column(None, folded(alias));
                let clashes = seen.iter().any(|other| other.meets(&key));
                (key, clashes)
            }
            _ => continue,
        };
        if clashes {
            rename(item, at);
        } else {
            seen.push(key);
        }
    }
}

/// The table of `t.*`; no table for `*`; `None` for other items.
fn wildcard_of(item: &SelectItem) -> Option<Option<String>> {
    match item {
        SelectItem::Wildcard(_) => Some(None),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), _) => {
            let parts: Vec<String> =
                table.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
            Some(Some(parts.join(".")))
        }
        _ => None,
    }
}

fn rename(item: &mut SelectItem, at: usize) {
    let alias = trees::quoted(format!("{}#{}", item_name(item), at + 1));
    match item {
        SelectItem::UnnamedExpr(expr) => {
            *item = SelectItem::ExprWithAlias { expr: trees::take(expr), alias };
        }
        SelectItem::ExprWithAlias { alias: old, .. } => *old = alias,
        _ => {}
    }
}
