//! The reasons why a relationship does not fit a schema.

use crate::caveat::CaveatError;
use crate::noun::Name;

/// Why a relationship does not fit a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The resource's type is not defined.
    #[error("the schema has no type `{0}`")]
    UnknownResourceType(Name),
    /// The resource is a wildcard.
    #[error("a resource cannot be the wildcard `{0}:*`")]
    WildcardResource(Name),
    /// The resource's type has no such relation.
    #[error("type `{object_type}` has no relation `{relation}`")]
    UnknownRelation {
        /// The resource's type.
        object_type: Name,
        /// The relation asked for.
        relation: Name,
    },
    /// The relation is a permission, and holds no relationships.
    #[error(
        "`{permission}` is a permission of type `{object_type}`: relationships are written to relations only"
    )]
    NotARelation {
        /// The resource's type.
        object_type: Name,
        /// The permission.
        permission: Name,
    },
    /// The subject's type is not defined.
    #[error("the schema has no type `{0}`")]
    UnknownSubjectType(Name),
    /// The subject's type has no such relation or permission.
    #[error("type `{subject_type}` has no relation or permission `{relation}`")]
    UnknownSubjectRelation {
        /// The subject's type.
        subject_type: Name,
        /// The userset's relation.
        relation: Name,
    },
    /// The subject is a wildcard and a userset in one.
    #[error("the wildcard `{0}:*` cannot be followed by a relation")]
    WildcardUserset(Name),
    /// The relation does not hold such subjects.
    #[error("relation `{relation}` does not allow subjects `{subject}`; it allows {allowed}")]
    SubjectNotAllowed {
        /// `type#relation`
        relation: String,
        /// The kind of subject: `user`, `user:*` or `group#member`.
        subject: String,
        /// The kinds of subjects that it does allow.
        allowed: String,
    },
    /// The caveat is not defined.
    #[error("the schema has no caveat `{0}`")]
    UnknownCaveat(Name),
    /// The relation does not allow this caveat with such subjects, or wants one where there is none.
    #[error("relation `{relation}` does not allow `{subject}` {found}; it allows {allowed}")]
    CaveatNotAllowed {
        /// `type#relation`
        relation: String,
        /// The kind of subject.
        subject: String,
        /// `with the_caveat` or `without a caveat`
        found: String,
        /// What it does allow.
        allowed: String,
    },
    /// The caveat has no such parameter.
    #[error("caveat `{caveat}` has no parameter `{parameter}`; it has {allowed}")]
    UnknownParameter {
        /// The caveat.
        caveat: Name,
        /// The parameter in the stored context.
        parameter: String,
        /// The parameters that it does have.
        allowed: String,
    },
    /// A value that is stored with the caveat does not fit its parameter's type.
    #[error("{0}")]
    UnfitValue(CaveatError),
    /// The relation does not allow an expiry with such subjects, or wants one where there is none.
    #[error("relation `{relation}` does not allow `{subject}` {found}; it allows {allowed}")]
    ExpirationNotAllowed {
        /// `type#relation`
        relation: String,
        /// The kind of subject.
        subject: String,
        /// `with an expiry` or `without an expiry`
        found: &'static str,
        /// What it does allow.
        allowed: String,
    },
}

impl Misfit {
    /// The field of the relationship that does not fit: `resource`, `relation`, `subject`, `caveat` or `expires_at`.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::UnknownResourceType(_) | Self::WildcardResource(_) => "resource",
            Self::UnknownRelation { .. } | Self::NotARelation { .. } => "relation",
            Self::UnknownSubjectType(_)
            | Self::WildcardUserset(_)
            | Self::UnknownSubjectRelation { .. }
            | Self::SubjectNotAllowed { .. } => "subject",
            Self::UnknownCaveat(_)
            | Self::CaveatNotAllowed { .. }
            | Self::UnknownParameter { .. }
            | Self::UnfitValue(_) => "caveat",
            Self::ExpirationNotAllowed { .. } => "expires_at",
        }
    }
}
