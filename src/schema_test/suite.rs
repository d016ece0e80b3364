//! What a test file holds, whichever form it has: a schema, relationships, and what is expected of them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use inferadb_actors::{CheckRequest, TrialSchema};
use inferadb_engine::context::Context;
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};

use super::flaw::Place;

/// A test file, ready to be run.
#[derive(Debug)]
pub struct Suite {
    /// The schema.
    pub schema: TrialSchema,
    /// The text of the schema, in the language of the file's form.
    pub schema_text: String,
    /// What all groups have in common.
    pub relationships: Vec<Placed<Relationship>>,
    /// The tests.
    pub groups: Vec<Group>,
}

/// Something with the place where it is written.
#[derive(Debug, Clone)]
pub struct Placed<T> {
    /// What it is.
    pub value: T,
    /// The other file that it is in, if it is not in the test file itself.
    pub file: Option<Arc<str>>,
    /// Where.
    pub place: Place,
}

/// Expectations over the same relationships.
#[derive(Debug, Default)]
pub struct Group {
    /// What it is called.
    pub name: Option<String>,
    /// What holds for it beside the suite's own relationships.
    pub relationships: Vec<Placed<Relationship>>,
    /// What is expected.
    pub expectations: Vec<Expectation>,
}

/// One thing that is expected.
#[derive(Debug)]
pub struct Expectation {
    /// As it is told.
    pub text: String,
    /// Where it is written.
    pub place: Place,
    /// What.
    pub kind: Expected,
}

/// What can be expected.
#[derive(Debug)]
pub enum Expected {
    /// A decision.
    Decision(CheckRequest, Expectable),
    /// All subjects that have a permission, of whatever type.
    Subjects {
        /// On what.
        resource: ObjectRef,
        /// The permission.
        permission: Name,
        /// Those expected.
        subjects: Vec<ExpectedSubject>,
    },
    /// All objects of a type that a subject has a relation to.
    Objects {
        /// Who.
        subject: SubjectRef,
        /// The relation.
        permission: Name,
        /// The type.
        object_type: Name,
        /// Values for conditions.
        context: Arc<Context>,
        /// Those expected.
        objects: Vec<ObjectRef>,
    },
    /// All subjects of some kinds that have a relation to an object.
    Users {
        /// On what.
        resource: ObjectRef,
        /// The relation.
        permission: Name,
        /// The kinds: a type, or a type with a relation; each once.
        kinds: Arc<[(Name, Option<Name>)]>,
        /// Values for conditions.
        context: Arc<Context>,
        /// Those expected.
        users: Vec<SubjectRef>,
    },
}

/// The decisions that can be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectable {
    /// `allow`
    Allow,
    /// `deny`
    Deny,
    /// `conditional`
    Conditional,
}

/// A subject as a validation block expects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedSubject {
    /// Who.
    pub subject: SubjectRef,
    /// Whether a caveat lies on every way to it.
    pub conditional: bool,
    /// Of a wildcard: who is left out, and whether that depends on a caveat.
    pub except: Vec<(SubjectRef, bool)>,
    /// Where the relationships stand that lead to it, as `type:id#relation`.
    pub through: BTreeSet<String>,
}

/// A subject without exceptions, wherever its relationships stand.
pub(super) fn listed(subject: &SubjectRef, conditional: bool) -> ExpectedSubject {
    ExpectedSubject {
        subject: subject.clone(),
        conditional,
        except: Vec::new(),
        through: BTreeSet::new(),
    }
}

impl Expectable {
    /// The word for it on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Conditional => "conditional",
        }
    }
}

impl ExpectedSubject {
    /// As a validation block has it: `[user:a] is <document:1#viewer>/<document:1#owner>`.
    pub(super) fn line(&self) -> String {
        match self.through.is_empty() {
            true => format!("[{self}]"),
            false => format!("[{self}] is {}", self.path()),
        }
    }

    /// `<document:1#viewer>/<document:1#owner>`
    pub(super) fn path(&self) -> String {
        let places: Vec<String> = self.through.iter().map(|place| format!("<{place}>")).collect();
        places.join("/")
    }

    /// Who is left out, in order.
    pub(super) fn exceptions(&self) -> String {
        let mut except: Vec<String> = self
            .except
            .iter()
            .map(|(subject, conditional)| marked(subject, *conditional))
            .collect();
        except.sort();
        except.join(", ")
    }
}

/// A subject with a mark if it depends on a caveat.
fn marked(subject: &SubjectRef, conditional: bool) -> String {
    format!("{subject}{}", if conditional { "[...]" } else { "" })
}

impl fmt::Display for ExpectedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&marked(&self.subject, self.conditional))?;
        match self.except.is_empty() {
            true => Ok(()),
            false => write!(f, " - {{{}}}", self.exceptions()),
        }
    }
}
