//! A bound on how deep a statement may nest, taken before anything is built from it.
//!
//! A chain of operators costs the parser no stack but becomes a tree as deep as the chain is long,
//! and such a tree is dropped, copied and walked by recursion. Long chains of `AND` and `OR` are
//! common in generated SQL, so these are balanced after parsing, which makes their depth small.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, Value, VisitMut, VisitorMut};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::frontend::error::SqlError;
use crate::frontend::pgwire::sqlstate::SqlState;

/// Deepest tree that is built. `AND` and `OR` count for a part of a level each.
const DEPTH_MAX: usize = 500;
const LOGICAL_PER_LEVEL: usize = 8;

/// How deep the parser may recurse; it grows its stack as it does.
pub const RECURSION_MAX: usize = 256;

/// Chains of at most this length are left as they are.
const CHAIN_UNBALANCED_MAX: usize = 16;

/// What one pair of parentheses holds so far.
#[derive(Default)]
struct Level {
    /// Operators since the last comma or clause: `AND` and `OR`, and all others.
    logical: usize,
    others: usize,
    /// Set operations so far.
    queries: usize,
    /// Longest chain of the others between two of `AND` and `OR`.
    others_max: usize,
    /// Depth of the deepest parentheses since then.
    inside: usize,
    /// Depth of the deepest expression of the whole level.
    deepest: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.queries + self.inside + self.others_max + self.logical.div_ceil(LOGICAL_PER_LEVEL)
    }

    fn grow(&mut self, token: &Token) {
        match link(token) {
            Link::None => {}
            Link::Logical => (self.logical, self.others) = (self.logical + 1, 0),
            Link::Other => {
                self.others += 1;
                self.others_max = self.others_max.max(self.others);
            }
            // The parser recurses for each without counting, and takes more of the stack than for others.
            Link::Interval => {
                self.others += 2;
                self.others_max = self.others_max.max(self.others);
            }
            Link::Query => self.queries += 1,
            Link::End => {
                *self = Self { queries: self.queries, deepest: self.deepest, ..Self::default() };
            }
        }
        self.deepest = self.deepest.max(self.depth());
    }

    /// Takes over the depth of parentheses that close.
    fn close(&mut self, inner: &Self) {
        self.inside = self.inside.max(inner.deepest + 1);
        self.deepest = self.deepest.max(self.depth());
    }
}

/// What a token does to the chain it stands in.
enum Link {
    None,
    Logical,
    Other,
    Interval,
    Query,
    End,
}

fn link(token: &Token) -> Link {
    match token {
        Token::Comma => Link::End,
        Token::Word(word) => match word.keyword {
            Keyword::OR | Keyword::AND => Link::Logical,
            Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::WHEN | Keyword::VALUES => {
                Link::End
            }
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => Link::Query,
            Keyword::INTERVAL => Link::Interval,
            Keyword::IS | Keyword::NOT | Keyword::COLLATE | Keyword::AT => Link::Other,
            _ => Link::None,
        },
        Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::StringConcat
        | Token::DoubleColon
        | Token::Arrow
        | Token::LongArrow
        | Token::HashArrow
        | Token::HashLongArrow
        | Token::Caret
        | Token::Ampersand
        | Token::Pipe
        | Token::ShiftLeft
        | Token::ShiftRight
        | Token::CustomBinaryOperator(_) => Link::Other,
        _ => Link::None,
    }
}

/// Refuses what nests too deep.
pub fn check_depth(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut open = vec![Level::default()];
    for TokenWithSpan { token, .. } in tokens {
        match token {
            Token::LParen => open.push(Level::default()),
            Token::SemiColon => open = vec![Level::default()],
            Token::RParen => {
                if let [.., outer, inner] = open.as_mut_slice() {
                    outer.close(inner);
                    open.pop();
                }
            }
            token => open.iter_mut().rev().take(1).for_each(|level| level.grow(token)),
        }
        if open.last().is_some_and(|level| open.len() + level.depth() > DEPTH_MAX) {
            return Err(too_deep());
        }
    }
    Ok(())
}

/// The statement nests deeper than we read.
pub fn too_deep() -> SqlError {
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
        .hint("Write the statement with less nesting; use IN (...) for a long chain of OR.")
}

/// Makes long chains of `AND` and of `OR` as shallow as they can be; both are associative.
pub fn balance<N: VisitMut>(node: &mut N) {
    let flow = node.visit(&mut Balancer);
    debug_assert!(flow.is_continue(), "balancing never stops");
}

struct Balancer;

impl VisitorMut for Balancer {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = expr {
            let op = op.clone();
            if chain_length(expr, &op) > CHAIN_UNBALANCED_MAX {
                let operands = operands(take(expr), &op);
                *expr = tree(operands, &op);
            }
        }
        ControlFlow::Continue(())
    }
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

fn chain_length(expr: &Expr, op: &BinaryOperator) -> usize {
    let mut length = 0;
    let mut rest = expr;
    while let Expr::BinaryOp { left, op: found, .. } = rest
        && found == op
    {
        length += 1;
        rest = left;
    }
    length
}

/// The operands of a chain that leans to the left, in order.
fn operands(expr: Expr, op: &BinaryOperator) -> Vec<Expr> {
    let mut operands = Vec::new();
    let mut rest = expr;
    loop {
        match rest {
            Expr::BinaryOp { left, op: found, right } if found == *op => {
                operands.push(*right);
                rest = *left;
            }
            first => {
                operands.push(first);
                operands.reverse();
                return operands;
            }
        }
    }
}

/// Joins neighbours until one is left. What AND binds stays below OR without parentheses, since the
/// tree, not its text, is what is planned.
fn tree(mut operands: Vec<Expr>, op: &BinaryOperator) -> Expr {
    while operands.len() > 1 {
        let mut rest = operands.into_iter();
        let mut joined = Vec::new();
        while let Some(left) = rest.next() {
            joined.push(match rest.next() {
                Some(right) => {
                    Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) }
                }
                None => left,
            });
        }
        operands = joined;
    }
    operands.pop().unwrap_or_else(|| Expr::value(Value::Null))
}
