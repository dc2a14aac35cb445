//! Limits how deep a statement may nest, before anything is built from it.
//!
//! The syntax tree and the plans made from it are walked, copied and dropped recursively, so each level takes
//! stack. Parentheses are not the only source of levels: a chain of operators costs the parser no stack but
//! becomes a tree as deep as the chain is long, and so do joins, casts and set operations. Their tokens are
//! counted, weighted by the stack they take.
//!
//! Long chains of `AND` and `OR` are common in generated SQL. They are balanced after parsing, which makes
//! them shallow.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, Visit, VisitMut, Visitor, VisitorMut};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::trees::{balanced, binary, null, take};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Deepest tree in units. The stage that takes most stack takes 22 KiB per unit in a debug build, or 72 KiB
/// per unit of `AND`, whose chains the optimizer unbalances again. [`tidemark_pg::query_runtime::STACK_BYTES`]
/// is larger than the sum.
const DEPTH_MAX: usize = 1000;
/// Units of parentheses, brackets, braces and `CASE … END`.
const ENCLOSED: usize = 5;
/// Additional units of a query in parentheses.
const QUERY: usize = 3;
/// Units of an operator, except for the light ones.
const HEAVY: usize = 5;
/// Units of arithmetic, comparisons, set operations and each joined relation.
const LIGHT: usize = 2;
/// Number of `AND` and `OR` that count as one unit.
const LOGICAL_PER_UNIT: usize = 4;
/// Most operators without a comma or parenthesis between them. A keyword that ends a clause may also be a
/// column name, in which case the chain continues: a tree of this depth can still be dropped.
const CHAIN_MAX: usize = 50_000;
/// Deepest expression that is planned, whatever its tokens suggested.
const EXPRESSION_MAX: usize = 1000;

/// Recursion limit of the parser, which grows its stack as needed.
pub const RECURSION_MAX: usize = 256;

/// Chains up to this length are not balanced.
const CHAIN_UNBALANCED_MAX: usize = 16;

/// The token that opened a level.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Opened {
    #[default]
    Statement,
    Parenthesis,
    Bracket,
    Brace,
    Case,
}

/// The contents of one pair of parentheses so far.
#[derive(Default)]
struct Level {
    opened: Opened,
    /// Whether commas join relations here.
    in_from: bool,
    /// Units of set operations and the like, and of the joins of this `FROM`.
    queries: usize,
    joins: usize,
    /// Number of `AND` and `OR` since the last comma, clause or join, and units of the operators since the
    /// last of them.
    logical: usize,
    operators: usize,
    /// Number of `BETWEEN` whose `AND`, which does not join conditions, is still to come.
    betweens: usize,
    /// Most units of operators between two of `AND` and `OR`.
    operators_max: usize,
    /// Depth of the deepest parentheses since the last comma, clause or join.
    inside: usize,
    /// Depth of the deepest relation or condition of this `FROM` before the last join.
    joined: usize,
    /// Depth of the deepest expression of the whole level.
    deepest: usize,
    /// Operators since the last comma.
    chain: usize,
}

impl Level {
    fn opened_by(opened: Opened) -> Self {
        Self { opened, ..Self::default() }
    }

    fn depth(&self) -> usize {
        self.queries + self.joins + self.joined.max(self.part())
    }

    /// Depth of the part that is being read.
    fn part(&self) -> usize {
        self.inside + self.operators_max + self.logical.div_ceil(LOGICAL_PER_UNIT)
    }

    fn grow(&mut self, link: Link) {
        match link {
            Link::None => {}
            Link::And if self.betweens > 0 => self.betweens -= 1,
            Link::And | Link::Or => (self.logical, self.operators) = (self.logical + 1, 0),
            Link::Between => {
                self.betweens += 1;
                self.grow(Link::Operator(HEAVY));
            }
            Link::Operator(units) => {
                self.chain += 1;
                self.operators += units;
                self.operators_max = self.operators_max.max(self.operators);
            }
            Link::SetOperation => self.queries += LIGHT,
            Link::Join => {
                self.joined = self.joined.max(self.part());
                self.end_part();
                self.joins += LIGHT;
            }
            Link::Comma if self.in_from => self.grow(Link::Join),
            Link::Comma => {
                self.chain = 0;
                self.end();
            }
            Link::From => {
                self.end();
                self.in_from = true;
            }
            Link::Clause => {
                self.end();
                self.in_from = false;
            }
            Link::Query => {
                self.grow(Link::Clause);
                if self.opened == Opened::Parenthesis {
                    self.queries = self.queries.max(QUERY);
                }
            }
        }
        self.deepest = self.deepest.max(self.depth());
    }

    /// Ends an expression: the next one does not nest in it. Set operations continue.
    fn end(&mut self) {
        (self.joins, self.joined) = (0, 0);
        self.end_part();
    }

    fn end_part(&mut self) {
        (self.logical, self.operators, self.betweens) = (0, 0, 0);
        (self.operators_max, self.inside) = (0, 0);
    }

    /// Adds the depth of parentheses that close.
    fn close(&mut self, inner: &Self) {
        self.inside = self.inside.max(inner.deepest + ENCLOSED);
        self.deepest = self.deepest.max(self.depth());
    }
}

/// How a token extends the chain it is in.
#[derive(Clone, Copy)]
enum Link {
    None,
    And,
    Or,
    Between,
    Operator(usize),
    SetOperation,
    Join,
    Comma,
    From,
    Clause,
    Query,
}

/// Returns the link of a token; `before` are the two tokens before it, the nearest first.
fn link(token: &Token, before: [&Token; 2]) -> Link {
    match token {
        Token::Word(word) => keyword(word.keyword, before),
        Token::Comma => Link::Comma,
        // Before an operand they are signs, each one a level.
        Token::Plus | Token::Minus if !is_operand(before[0]) => Link::Operator(HEAVY),
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
        | Token::StringConcat => Link::Operator(LIGHT),
        token if is_operand(token) => Link::None,
        Token::Whitespace(_) | Token::EOF | Token::Period => Link::None,
        // It opens a level, which is counted separately.
        Token::LParen | Token::SemiColon => Link::None,
        // Any other sign may form an operator. A bracket is one too: `a[1][1]`.
        _ => Link::Operator(HEAVY),
    }
}

fn keyword(keyword: Keyword, before: [&Token; 2]) -> Link {
    match keyword {
        Keyword::AND => Link::And,
        Keyword::OR | Keyword::XOR => Link::Or,
        Keyword::BETWEEN => Link::Between,
        Keyword::SELECT | Keyword::WITH => Link::Query,
        // `a IS DISTINCT FROM b`
        Keyword::FROM if is(before[0], Keyword::DISTINCT) && !is(before[1], Keyword::SELECT) => {
            Link::None
        }
        Keyword::FROM => Link::From,
        Keyword::WHERE
        | Keyword::GROUP
        | Keyword::HAVING
        | Keyword::WINDOW
        | Keyword::ORDER
        | Keyword::LIMIT
        | Keyword::OFFSET
        | Keyword::FETCH
        | Keyword::RETURNING
        | Keyword::SET
        | Keyword::VALUES => Link::Clause,
        Keyword::WHEN | Keyword::THEN | Keyword::ELSE => Link::Comma,
        Keyword::UNION
        | Keyword::EXCEPT
        | Keyword::INTERSECT
        | Keyword::MINUS
        | Keyword::PIVOT
        | Keyword::UNPIVOT
        | Keyword::MATCH_RECOGNIZE => Link::SetOperation,
        Keyword::JOIN | Keyword::APPLY | Keyword::STRAIGHT_JOIN => Link::Join,
        // The parser recurses for each one without counting, and takes more stack than for others.
        Keyword::INTERVAL if is(before[0], Keyword::INTERVAL) => Link::Operator(2 * HEAVY),
        Keyword::INTERVAL => Link::Operator(HEAVY),
        Keyword::IS
        | Keyword::NOTNULL
        | Keyword::NOT
        | Keyword::IN
        | Keyword::LIKE
        | Keyword::ILIKE
        | Keyword::RLIKE
        | Keyword::REGEXP
        | Keyword::MATCH
        | Keyword::SIMILAR
        | Keyword::MEMBER
        | Keyword::OVERLAPS
        | Keyword::OPERATOR
        | Keyword::DIV
        | Keyword::COLLATE
        | Keyword::PRIOR
        | Keyword::AT => Link::Operator(HEAVY),
        _ => Link::None,
    }
}

fn is(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword)
}

/// Whether the token ends an operand, so that a following sign is a binary operator.
fn is_operand(token: &Token) -> bool {
    match token {
        // A sign after a keyword is the first of its chain, if it is a sign.
        Token::Word(_) | Token::Number(..) | Token::Char(_) | Token::Placeholder(_) => true,
        Token::RParen | Token::RBracket | Token::RBrace => true,
        Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::TripleSingleQuotedString(_)
        | Token::TripleDoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::DoubleQuotedByteStringLiteral(_)
        | Token::TripleSingleQuotedByteStringLiteral(_)
        | Token::TripleDoubleQuotedByteStringLiteral(_)
        | Token::SingleQuotedRawStringLiteral(_)
        | Token::DoubleQuotedRawStringLiteral(_)
        | Token::TripleSingleQuotedRawStringLiteral(_)
        | Token::TripleDoubleQuotedRawStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::QuoteDelimitedStringLiteral(_)
        | Token::NationalQuoteDelimitedStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_) => true,
        _ => false,
    }
}

/// The open levels, innermost last. The first is never closed.
struct Levels(Vec<Level>);

impl Levels {
    fn new() -> Self {
        Self(vec![Level::default()])
    }

    fn innermost(&mut self) -> &mut Level {
        self.0.last_mut().expect("the first level is never closed")
    }

    fn open(&mut self, opened: Opened) {
        self.0.push(Level::opened_by(opened));
    }

    /// Closes the innermost level that was opened by `opened`, and an unended `CASE` inside it.
    fn close(&mut self, opened: Opened) {
        let cases = self.0.iter().rev().take_while(|level| level.opened == Opened::Case).count();
        let unended = if opened == Opened::Case { 0 } else { cases };
        let closing = self.0.len() - 1 - unended.min(self.0.len() - 1);
        if self.0[closing].opened != opened {
            return;
        }
        for _ in 0..=unended {
            let inner = self.0.pop().expect("as many levels were counted");
            self.innermost().close(&inner);
        }
    }

    /// Depth of the innermost level including all enclosing ones.
    fn depth(&self) -> usize {
        let innermost = self.0.last().map_or(0, Level::depth);
        let around: usize = self.0.iter().rev().skip(1).map(|level| level.queries).sum();
        ENCLOSED * (self.0.len() - 1) + around + innermost
    }
}

/// Refuses token sequences that nest too deep (54001).
pub fn check_depth(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut levels = Levels::new();
    let mut before = [&Token::EOF, &Token::EOF];
    for TokenWithSpan { token, .. } in tokens {
        if matches!(token, Token::Whitespace(_)) {
            continue;
        }
        levels.innermost().grow(link(token, before));
        match token {
            Token::LParen => levels.open(Opened::Parenthesis),
            Token::LBracket => levels.open(Opened::Bracket),
            Token::LBrace => levels.open(Opened::Brace),
            Token::RParen => levels.close(Opened::Parenthesis),
            Token::RBracket => levels.close(Opened::Bracket),
            Token::RBrace => levels.close(Opened::Brace),
            Token::SemiColon => levels = Levels::new(),
            token if is(token, Keyword::CASE) => levels.open(Opened::Case),
            token if is(token, Keyword::END) => levels.close(Opened::Case),
            _ => {}
        }
        before = [token, before[0]];
        if levels.depth() > DEPTH_MAX || levels.innermost().chain > CHAIN_MAX {
            return Err(too_deep());
        }
    }
    Ok(())
}

/// Refuses a tree that is deeper than its tokens suggested.
pub fn check_tree<N: Visit>(node: &N) -> Result<(), SqlError> {
    match node.visit(&mut ExpressionDepth(0)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(too_deep()),
    }
}

struct ExpressionDepth(usize);

impl Visitor for ExpressionDepth {
    type Break = ();

    fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
        self.0 += 1;
        if self.0 > EXPRESSION_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
        self.0 -= 1;
        ControlFlow::Continue(())
    }
}

/// The error for a statement that nests too deep.
pub fn too_deep() -> SqlError {
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
        .detail("The statement nests too deep; chains of operators and of joins count as well.")
        .hint("Write the statement with less nesting; use IN (...) for a long chain of OR.")
}

/// Balances long chains of `AND` and of `OR`, which are associative, to minimum depth.
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
                let join = |left, right| binary(left, op.clone(), right);
                *expr = balanced(operands, join).unwrap_or_else(null);
            }
        }
        ControlFlow::Continue(())
    }
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

/// Returns the operands of a left-deep chain in order.
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
