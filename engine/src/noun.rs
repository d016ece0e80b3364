//! The field's nouns, validated once on the way in: names, object ids, resources, subjects, relationships.

use std::fmt;

use smol_str::SmolStr;

use crate::context::Context;

/// The longest name of a type, relation, permission or caveat, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// The longest object id, in bytes.
pub const MAX_OBJECT_ID_BYTES: usize = 1024;

/// Why a noun was refused: what was wrong, in words fit for an API answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidNoun(pub String);

/// The name of a type, relation, permission or caveat: 1-128 bytes of `[A-Za-z_][A-Za-z0-9_/.-]*`.
///
/// The native schema language is stricter about where `/`, `.` and `-` may stand; the compiler says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(SmolStr);

impl Name {
    /// Validates `text` as a name.
    pub fn parse(text: &str) -> Result<Self, InvalidNoun> {
        if text.is_empty() {
            return Err(InvalidNoun("a name must not be empty".into()));
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(InvalidNoun(format!(
                "a name is at most {MAX_NAME_BYTES} bytes long, this one has {}",
                text.len()
            )));
        }
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well
            || !text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/' | b'-' | b'.'))
        {
            return Err(InvalidNoun(format!(
                "`{}` is not a name: it must start with a letter or `_` and hold only letters, digits, `_`, `/`, `-` and `.`",
                text.escape_debug()
            )));
        }
        Ok(Self(SmolStr::new(text)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of an object within its type: 1-1,024 bytes of UTF-8 without control characters, white space or `#`,
/// and not a lone `*`. The wildcard `*` itself exists only as [`ObjectId::wildcard`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(SmolStr);

impl ObjectId {
    /// Validates `text` as an object id.
    pub fn parse(text: &str) -> Result<Self, InvalidNoun> {
        if text.is_empty() {
            return Err(InvalidNoun("an object id must not be empty".into()));
        }
        if text.len() > MAX_OBJECT_ID_BYTES {
            return Err(InvalidNoun(format!(
                "an object id is at most {MAX_OBJECT_ID_BYTES} bytes long, this one has {}",
                text.len()
            )));
        }
        if text == "*" {
            return Err(InvalidNoun("a lone `*` is not an object id".into()));
        }
        if let Some(bad) = text
            .chars()
            .find(|c| c.is_control() || c.is_whitespace() || *c == '#')
        {
            return Err(InvalidNoun(format!(
                "an object id must not hold `{}`",
                bad.escape_debug()
            )));
        }
        Ok(Self(SmolStr::new(text)))
    }

    /// The id `*`, which stands for every object of a type where a subject is a wildcard.
    pub const fn wildcard() -> Self {
        Self(SmolStr::new_static("*"))
    }

    /// Whether this is the wildcard `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0 == "*"
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An object: `type:id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The object's type.
    pub object_type: Name,
    /// The object's id within its type.
    pub id: ObjectId,
}

impl ObjectRef {
    /// Parses `type:id`, split at the first `:`.
    pub fn parse(text: &str) -> Result<Self, InvalidNoun> {
        let (object_type, id) = split_type(text)?;
        Ok(Self {
            object_type: Name::parse(object_type)?,
            id: ObjectId::parse(id)?,
        })
    }
}

/// A subject: an object `type:id`, a userset `type:id#relation`, or a wildcard `type:*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectRef {
    /// The subject's type.
    pub object_type: Name,
    /// The subject's id, or [`ObjectId::wildcard`].
    pub id: ObjectId,
    /// The relation of a userset; `None` for a plain object or a wildcard. `#...` is read as `None`.
    pub relation: Option<Name>,
}

impl SubjectRef {
    /// Parses `type:id`, `type:id#relation` or `type:*`.
    pub fn parse(text: &str) -> Result<Self, InvalidNoun> {
        let (object_type, rest) = split_type(text)?;
        let (id, relation) = match rest.split_once('#') {
            Some((id, "...")) => (id, None),
            Some((id, relation)) => (id, Some(Name::parse(relation)?)),
            None => (rest, None),
        };
        let id = match id {
            "*" if relation.is_some() => {
                return Err(InvalidNoun(
                    "a wildcard `*` cannot be followed by `#relation`".into(),
                ));
            }
            "*" => ObjectId::wildcard(),
            id => ObjectId::parse(id)?,
        };
        Ok(Self {
            object_type: Name::parse(object_type)?,
            id,
            relation,
        })
    }
}

/// A moment: microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// The caveat on a relationship: its name and the context stored with it.
#[derive(Debug, Clone, PartialEq)]
pub struct CaveatRef {
    /// The caveat's name.
    pub name: Name,
    /// What was stored with the relationship; wins over the request's context.
    pub context: Context,
}

/// `resource # relation @ subject`, optionally under a caveat and until a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Relationship {
    /// The resource.
    pub resource: ObjectRef,
    /// The relation.
    pub relation: Name,
    /// The subject.
    pub subject: SubjectRef,
    /// The caveat it is under, if any.
    pub caveat: Option<CaveatRef>,
    /// The moment from which on it no longer counts, if any.
    pub expires_at: Option<Timestamp>,
}

/// What identifies a relationship: at most one is stored for each key, whatever its caveat and expiry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationshipKey {
    /// The resource.
    pub resource: ObjectRef,
    /// The relation.
    pub relation: Name,
    /// The subject.
    pub subject: SubjectRef,
}

impl Relationship {
    /// The relationship without its caveat and expiry.
    pub fn key(&self) -> RelationshipKey {
        RelationshipKey {
            resource: self.resource.clone(),
            relation: self.relation.clone(),
            subject: self.subject.clone(),
        }
    }
}

fn split_type(text: &str) -> Result<(&str, &str), InvalidNoun> {
    text.split_once(':').ok_or_else(|| {
        InvalidNoun(format!(
            "`{}` has no `:`; expected `type:id`",
            text.escape_debug()
        ))
    })
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.object_type, self.id)
    }
}

impl fmt::Display for SubjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.object_type, self.id)?;
        match &self.relation {
            Some(relation) => write!(f, "#{relation}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RelationshipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}@{}", self.resource, self.relation, self.subject)
    }
}
