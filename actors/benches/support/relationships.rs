//! Relationships from text, for benchmarks.

use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};

/// The relationship `type:id#relation@subject`, without caveat and expiry.
pub fn relationship(text: &str) -> Relationship {
    let (resource, rest) = text.split_once('#').unwrap();
    let (relation, subject) = rest.split_once('@').unwrap();
    Relationship {
        resource: ObjectRef::parse(resource).unwrap(),
        relation: Name::parse(relation).unwrap(),
        subject: SubjectRef::parse(subject).unwrap(),
        caveat: None,
        expires_at: None,
    }
}
