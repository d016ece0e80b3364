//! The syntax tree of a caveat expression, before names are resolved.

use super::value::Value;

/// A part of an expression and the byte at which its operator, name or literal stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) offset: usize,
}

/// Two parts are the same wherever they stand.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// What a part is.
#[derive(Debug, PartialEq)]
pub(super) enum NodeKind {
    Literal(Literal),
    /// A name; with a dot before it, that of a parameter whatever the variables of the loops around are called.
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

/// A value that was written down.
#[derive(Debug)]
pub(super) struct Literal(pub(super) Value);

/// Two literals are the same if they make the same value of the same type; `0.0` and `-0.0` do not.
impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::Int(left), Value::Int(right)) => left == right,
            (Value::Uint(left), Value::Uint(right)) => left == right,
            (Value::Double(left), Value::Double(right)) => left.to_bits() == right.to_bits(),
            (Value::String(left), Value::String(right)) => left == right,
            (Value::Bytes(left), Value::Bytes(right)) => left == right,
            _ => false,
        }
    }
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
}
