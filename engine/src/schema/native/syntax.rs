//! The syntax tree of a native schema: what was written, and where.

use std::collections::HashSet;
use std::fmt;

use smol_str::SmolStr;

use crate::schema::diagnostic::Span;
use crate::schema::{ArrowMode, MemberKind};

/// A whole schema.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) definitions: Vec<Definition>,
    pub(super) partials: Vec<Definition>,
    pub(super) caveats: Vec<Caveat>,
    /// Whether `use typechecking` makes type annotations count.
    pub(super) typechecking: bool,
    /// Whether `use self` makes `self` a keyword.
    pub(super) self_keyword: bool,
    /// Whether `use expiration` makes `expiration` a keyword.
    pub(super) expiration_keyword: bool,
    /// Whether some definition or caveat could not be read, so that names may only seem to be unknown.
    pub(super) incomplete: bool,
}

/// A name where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identifier {
    pub(super) text: SmolStr,
    pub(super) span: Span,
}

/// The comment before an item.
#[derive(Debug, Default)]
pub(super) struct Comment {
    /// Its text without comment marks.
    pub(super) doc: Option<String>,
    /// The codes of the warnings that it switches off.
    pub(super) ignored_warnings: HashSet<String>,
}

/// A `definition` or `partial`.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: Identifier,
    pub(super) items: Vec<Item>,
    pub(super) comment: Comment,
    /// Whether some statement could not be read, so that names may only seem to be unknown.
    pub(super) incomplete: bool,
}

/// A statement of a definition.
#[derive(Debug)]
pub(super) enum Item {
    Member(Member),
    /// `...partial`
    Spread(Identifier),
}

/// A relation or permission.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Identifier,
    pub(super) body: MemberBody,
    pub(super) comment: Comment,
    pub(super) span: Span,
}

/// What a relation or permission is.
#[derive(Debug)]
pub(super) enum MemberBody {
    Relation(Vec<SubjectType>),
    Permission {
        annotation: Vec<Identifier>,
        expression: Expression,
    },
    /// It was reported and is kept for its name only.
    Broken(MemberKind),
}

/// One kind of subject of a relation.
#[derive(Debug)]
pub(super) struct SubjectType {
    pub(super) type_name: Identifier,
    pub(super) subject: Subject,
    pub(super) caveat: Option<Identifier>,
    pub(super) expiration: bool,
    pub(super) span: Span,
}

/// Which subjects of a type.
#[derive(Debug)]
pub(super) enum Subject {
    Object,
    Wildcard,
    Userset(Identifier),
}

/// A caveat.
#[derive(Debug)]
pub(super) struct Caveat {
    pub(super) name: Identifier,
    pub(super) parameters: Vec<(Identifier, ParameterType)>,
    /// Where its expression stands; `None` if the caveat was reported and is kept for its name only.
    pub(super) expression: Option<Span>,
    pub(super) comment: Comment,
}

/// The type of a caveat's parameter, as written.
#[derive(Debug)]
pub(super) struct ParameterType {
    pub(super) name: Identifier,
    pub(super) arguments: Vec<ParameterType>,
    pub(super) span: Span,
}

/// A permission's expression.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) kind: ExpressionKind,
    /// Whether it stands in parentheses.
    pub(super) parenthesized: bool,
    pub(super) span: Span,
}

/// What an expression is.
#[derive(Debug)]
pub(super) enum ExpressionKind {
    Nil,
    Itself,
    Member(SmolStr),
    Arrow {
        relation: Identifier,
        mode: ArrowMode,
        target: Identifier,
    },
    /// Two or more operands, joined from the left by one operator.
    Operation(Operator, Vec<Expression>),
}

/// The operators, loosest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Exclusion,
    Intersection,
    Union,
}

impl Operator {
    pub(super) const fn symbol(self) -> char {
        match self {
            Self::Exclusion => '-',
            Self::Intersection => '&',
            Self::Union => '+',
        }
    }
}

impl fmt::Display for Expression {
    /// Writes the expression with parentheses around each operation in another, and around no other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExpressionKind::Nil => f.write_str("nil"),
            ExpressionKind::Itself => f.write_str("self"),
            ExpressionKind::Member(name) => f.write_str(name),
            ExpressionKind::Arrow {
                relation,
                mode: ArrowMode::Any,
                target,
            } => {
                write!(f, "{}->{}", relation.text, target.text)
            }
            ExpressionKind::Arrow {
                relation,
                mode: ArrowMode::All,
                target,
            } => {
                write!(f, "{}.all({})", relation.text, target.text)
            }
            ExpressionKind::Operation(operator, operands) => {
                for (position, operand) in operands.iter().enumerate() {
                    if position > 0 {
                        write!(f, " {} ", operator.symbol())?;
                    }
                    match operand.kind {
                        ExpressionKind::Operation(..) => write!(f, "({operand})")?,
                        _ => write!(f, "{operand}")?,
                    }
                }
                Ok(())
            }
        }
    }
}
