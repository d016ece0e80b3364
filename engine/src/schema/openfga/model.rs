//! An OpenFGA model as it was written, whichever of its forms it was written in, and where each part of it stands.

use smol_str::SmolStr;

use crate::schema::CaveatType;
use crate::schema::diagnostic::Span;

/// A whole model, or one module of it.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) types: Vec<TypeDefinition>,
    pub(super) conditions: Vec<Condition>,
    /// Whether some type or condition could not be read, so that names may only seem to be unknown.
    pub(super) incomplete: bool,
}

/// A name where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identifier {
    pub(super) text: SmolStr,
    pub(super) span: Span,
}

/// A type, or what a module adds to one.
#[derive(Debug)]
pub(super) struct TypeDefinition {
    pub(super) name: Identifier,
    /// Whether it adds to a type that another module defines.
    pub(super) extends: bool,
    pub(super) relations: Vec<Relation>,
    pub(super) doc: Option<String>,
    /// Whether some relation could not be read, so that names may only seem to be unknown.
    pub(super) incomplete: bool,
}

/// A relation: who can be related directly, and how it is decided.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) name: Identifier,
    pub(super) restrictions: Vec<Restriction>,
    pub(super) rewrite: Rewrite,
    pub(super) doc: Option<String>,
}

/// One kind of subject that can be related directly.
#[derive(Debug)]
pub(super) struct Restriction {
    pub(super) type_name: Identifier,
    pub(super) subject: Subject,
    pub(super) condition: Option<Identifier>,
    pub(super) span: Span,
}

/// Which subjects of a type.
#[derive(Debug)]
pub(super) enum Subject {
    Object,
    Wildcard,
    Userset(Identifier),
}

/// How a relation is decided.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub(super) kind: RewriteKind,
    pub(super) span: Span,
}

/// The kinds of rewrites.
#[derive(Debug)]
pub(super) enum RewriteKind {
    /// `[…]`: the relationships stored under the relation itself.
    This,
    /// Another relation of the same type.
    Computed(Identifier),
    /// `relation from tupleset`
    From {
        relation: Identifier,
        tupleset: Identifier,
    },
    Union(Vec<Rewrite>),
    Intersection(Vec<Rewrite>),
    Exclusion(Box<Rewrite>, Box<Rewrite>),
    /// It was reported, and the relation is kept for its name only.
    Broken,
}

/// A condition.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) name: Identifier,
    pub(super) parameters: Vec<(Identifier, CaveatType)>,
    /// `None` if the condition was reported and is kept for its name only.
    pub(super) expression: Option<Expression>,
    pub(super) doc: Option<String>,
}

/// The CEL of a condition.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) text: String,
    /// Where it stands.
    pub(super) span: Span,
    /// Whether it stands there with the escapes of a JSON string.
    pub(super) escaped: bool,
}

/// The deepest that rewrites nest.
pub(super) const MAX_DEPTH: usize = 50;

/// The versions of OpenFGA's schema that can be read.
pub(super) const VERSIONS: [&str; 2] = ["1.1", "1.2"];
