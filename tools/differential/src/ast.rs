//! Statements as trees: made by `generate`, printed by `print`, made smaller by `shrink`.

use crate::types::Type;

/// An expression of a known type.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    pub of: Type,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A literal as it is written.
    Literal(String),
    /// A column as it is referred to.
    Column(String),
    /// A row of the table of signatures with its arguments, sub-queries and window, each in order.
    Call {
        signature: usize,
        arguments: Vec<Expression>,
        queries: Vec<Query>,
        window: Option<Box<Window>>,
    },
}

/// What stands in `OVER`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    pub partition: Vec<Expression>,
    pub order: Vec<Order>,
    pub frame: Option<String>,
}

/// A sort key with its direction, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub key: Expression,
    pub direction: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub with: Vec<Common>,
    pub body: Body,
    /// Positions of result columns, from one; all of them if there is a limit.
    pub order: Vec<(usize, &'static str)>,
    pub limit: Option<u64>,
    pub offset: Option<u64>,
}

/// A query in `WITH`.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    pub name: String,
    pub columns: Vec<String>,
    /// `MATERIALIZED`, `NOT MATERIALIZED` or nothing.
    pub hint: &'static str,
    pub query: Query,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Select(Box<Select>),
    Set { operator: &'static str, left: Box<Body>, right: Box<Body> },
    Values(Vec<Vec<Expression>>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    pub distinct: Distinct,
    pub items: Vec<Item>,
    pub from: Option<From>,
    pub filter: Option<Expression>,
    pub grouping: Option<Grouping>,
    pub having: Option<Expression>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinct {
    No,
    Yes,
    /// On the first columns of the order.
    On(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub value: Expression,
    pub alias: Option<String>,
}

/// `GROUP BY`; without columns, all rows are one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    pub columns: Vec<Expression>,
    pub sets: Sets,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sets {
    Plain,
    Rollup,
    Cube,
    /// Positions of columns, from zero.
    Explicit(Vec<Vec<usize>>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum From {
    Table { name: String, alias: String },
    Derived { query: Box<Query>, alias: String, columns: Vec<String>, is_lateral: bool },
    Join { kind: &'static str, left: Box<From>, right: Box<From>, condition: Condition },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    On(Expression),
    Using(Vec<String>),
    /// Of a cross join and a natural one.
    Nothing,
}

/// A statement that changes one table.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Insert {
        table: String,
        columns: Vec<String>,
        source: Query,
        conflict: Option<Conflict>,
        returning: Vec<Item>,
    },
    Update {
        table: String,
        set: Vec<(String, Expression)>,
        filter: Option<Expression>,
        returning: Vec<Item>,
    },
    Delete {
        table: String,
        filter: Option<Expression>,
        returning: Vec<Item>,
    },
}

/// `ON CONFLICT` on the key.
#[derive(Clone, Debug, PartialEq)]
pub enum Conflict {
    Nothing,
    Update { set: Vec<(String, Expression)>, filter: Option<Expression> },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    Query(Query),
    Change(Change),
}

impl Expression {
    pub fn literal(of: Type, text: impl Into<String>) -> Self {
        Self { of, kind: Kind::Literal(text.into()) }
    }

    pub fn column(of: Type, text: impl Into<String>) -> Self {
        Self { of, kind: Kind::Column(text.into()) }
    }
}

impl Statement {
    /// The signatures it calls, each once.
    pub fn signatures(&self) -> Vec<usize> {
        let mut found = vec![];
        match self {
            Self::Query(query) => query.signatures(&mut found),
            Self::Change(change) => change.signatures(&mut found),
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Expression {
    fn signatures(&self, found: &mut Vec<usize>) {
        let Kind::Call { signature, arguments, queries, window } = &self.kind else { return };
        found.push(*signature);
        arguments.iter().for_each(|argument| argument.signatures(found));
        queries.iter().for_each(|query| query.signatures(found));
        if let Some(window) = window {
            window.partition.iter().for_each(|key| key.signatures(found));
            window.order.iter().for_each(|order| order.key.signatures(found));
        }
    }
}

impl Query {
    fn signatures(&self, found: &mut Vec<usize>) {
        self.with.iter().for_each(|common| common.query.signatures(found));
        self.body.signatures(found);
    }
}

impl Body {
    fn signatures(&self, found: &mut Vec<usize>) {
        match self {
            Self::Select(select) => {
                select.items.iter().for_each(|item| item.value.signatures(found));
                select.from.iter().for_each(|from| from.signatures(found));
                select.filter.iter().for_each(|filter| filter.signatures(found));
                select.having.iter().for_each(|having| having.signatures(found));
            }
            Self::Set { left, right, .. } => {
                left.signatures(found);
                right.signatures(found);
            }
            Self::Values(rows) => rows.iter().flatten().for_each(|value| value.signatures(found)),
        }
    }
}

impl From {
    fn signatures(&self, found: &mut Vec<usize>) {
        match self {
            Self::Table { .. } => {}
            Self::Derived { query, .. } => query.signatures(found),
            Self::Join { left, right, condition, .. } => {
                left.signatures(found);
                right.signatures(found);
                if let Condition::On(on) = condition {
                    on.signatures(found);
                }
            }
        }
    }
}

impl Change {
    fn signatures(&self, found: &mut Vec<usize>) {
        let (Self::Insert { returning, .. }
        | Self::Update { returning, .. }
        | Self::Delete { returning, .. }) = self;
        returning.iter().for_each(|item| item.value.signatures(found));
        let (set, filter) = match self {
            Self::Insert { conflict: Some(Conflict::Update { set, filter }), .. }
            | Self::Update { set, filter, .. } => (set.as_slice(), filter),
            Self::Delete { filter, .. } => (&[][..], filter),
            Self::Insert { .. } => return,
        };
        set.iter().for_each(|(_, value)| value.signatures(found));
        filter.iter().for_each(|filter| filter.signatures(found));
    }
}

impl Query {
    pub fn of(body: Body) -> Self {
        Self { with: vec![], body, order: vec![], limit: None, offset: None }
    }

    /// A query of one row without a table.
    pub fn of_items(items: Vec<Item>) -> Self {
        let (distinct, from, filter, grouping, having) = (Distinct::No, None, None, None, None);
        let select = Select { distinct, items, from, filter, grouping, having };
        Self::of(Body::Select(Box::new(select)))
    }

    /// Whether the order of its rows is determined: all its columns are sort keys.
    pub fn is_ordered(&self) -> bool {
        !self.order.is_empty()
    }
}
