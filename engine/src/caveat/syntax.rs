//! The syntax tree of a caveat expression, before names are resolved.

use super::value::Value;

/// A part of an expression and the byte at which its operator, name or literal stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) offset: usize,
    /// Levels beneath and including this one.
    pub(super) depth: usize,
}

/// What a part is.
#[derive(Debug)]
pub(super) enum NodeKind {
    Literal(Value),
    Name(String),
    Select {
        operand: Box<Node>,
        field: String,
        optional: bool,
    },
    Index {
        operand: Box<Node>,
        index: Box<Node>,
        optional: bool,
    },
    Call {
        target: Option<Box<Node>>,
        name: String,
        arguments: Vec<Node>,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary {
        operator: Operator,
        left: Box<Node>,
        right: Box<Node>,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
    Conditional(Box<Node>, Box<Node>, Box<Node>),
}

/// The operators of two operands that need both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// How it is written.
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// Higher binds tighter; operators of one strength group to the left.
    pub(super) const fn strength(self) -> u8 {
        match self {
            Self::Add | Self::Subtract => 2,
            Self::Multiply | Self::Divide | Self::Remainder => 3,
            _ => 1,
        }
    }
}

impl NodeKind {
    /// The deepest of its direct parts.
    pub(super) fn depth_beneath(&self) -> usize {
        let deepest = |nodes: &[Node]| nodes.iter().map(|node| node.depth).max().unwrap_or_default();
        match self {
            Self::Literal(_) | Self::Name(_) => 0,
            Self::Select { operand, .. } | Self::Not(operand) | Self::Negate(operand) => operand.depth,
            Self::Index { operand, index, .. } => operand.depth.max(index.depth),
            Self::Call {
                target, arguments, ..
            } => deepest(arguments).max(target.as_ref().map_or(0, |target| target.depth)),
            Self::List(items) | Self::And(items) | Self::Or(items) => deepest(items),
            Self::Map(entries) => entries
                .iter()
                .map(|(key, value)| key.depth.max(value.depth))
                .max()
                .unwrap_or_default(),
            Self::Binary { left, right, .. } => left.depth.max(right.depth),
            Self::Conditional(condition, yes, no) => condition.depth.max(yes.depth).max(no.depth),
        }
    }
}
