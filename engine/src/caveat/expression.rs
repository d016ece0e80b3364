//! A checked expression: names resolved to positions, macros to loops, literals to values.

use super::function::Function;
use super::pattern::Pattern;
use super::syntax::Operator;
use super::value::Value;
use std::sync::Arc;

/// An expression ready to evaluate.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    Constant(Value),
    /// A parameter, by its position among the declared ones.
    Parameter(usize),
    /// The variable of a loop, by how many loops are around that one.
    Local(usize),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Conditional(Box<(Expr, Expr, Expr)>),
    Binary(Operator, Box<(Expr, Expr)>),
    /// `operand.field`, or `operand.?field`
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        optional: bool,
    },
    /// `has(operand.field)`
    Has {
        operand: Box<Expr>,
        field: Arc<str>,
    },
    /// `operand[index]`, or `operand[?index]`
    Index {
        parts: Box<(Expr, Expr)>,
        optional: bool,
    },
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    Call(Function, Vec<Expr>),
    /// `text.matches("literal")`
    Matches(Box<Expr>, Box<Pattern>),
    /// `optional.orValue(other)`, or with the flag `optional.or(other)`, which stays optional.
    Otherwise {
        parts: Box<(Expr, Expr)>,
        optional: bool,
    },
    /// `optional.optMap(name, body)`
    OptionalMap(Box<(Expr, Expr)>),
    Loop(Box<Loop>),
}

/// A macro over the items of a list or the keys of a map.
#[derive(Debug, Clone)]
pub(super) struct Loop {
    pub(super) kind: LoopKind,
    pub(super) range: Expr,
    /// What `map` with three arguments asks before it takes an item.
    pub(super) filter: Option<Expr>,
    pub(super) body: Expr,
}

/// Which macro a loop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}
