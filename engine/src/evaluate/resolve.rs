//! From the names of a question to the numbers of a schema.

use super::{Check, Subject};
use crate::noun::{Name, ObjectRef, SubjectRef};
use crate::schema::{MemberId, Schema, TypeId};

/// A question names what the schema does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// There is no such type.
    #[error("the schema has no type `{name}`")]
    Type {
        /// The question's part: `resource` or `subject`.
        part: &'static str,
        /// The name.
        name: Name,
    },
    /// The type has no such relation or permission.
    #[error("the type `{object_type}` has no relation or permission `{name}`")]
    Member {
        /// The question's part: `permission` or `subject`.
        part: &'static str,
        /// The type.
        object_type: Name,
        /// The name.
        name: Name,
    },
}

impl Check {
    /// The check that asks whether `subject` has `permission` on `resource`.
    ///
    /// # Errors
    ///
    /// The first name that the schema does not have.
    pub fn resolve(
        schema: &Schema,
        resource: &ObjectRef,
        permission: &Name,
        subject: &SubjectRef,
    ) -> Result<Self, UnknownName> {
        let resource_type = type_named(schema, "resource", &resource.object_type)?;
        let member = member_named(
            schema,
            "permission",
            resource_type,
            &resource.object_type,
            permission,
        )?;
        let subject_type = type_named(schema, "subject", &subject.object_type)?;
        let relation = match &subject.relation {
            Some(name) => Some(member_named(
                schema,
                "subject",
                subject_type,
                &subject.object_type,
                name,
            )?),
            None => None,
        };
        Ok(Self {
            member,
            object: resource.id.clone(),
            subject: Subject {
                object_type: subject_type,
                id: subject.id.clone(),
                relation,
            },
        })
    }
}

fn type_named(schema: &Schema, part: &'static str, name: &Name) -> Result<TypeId, UnknownName> {
    schema.type_named(name).ok_or_else(|| UnknownName::Type {
        part,
        name: name.clone(),
    })
}

fn member_named(
    schema: &Schema,
    part: &'static str,
    of: TypeId,
    object_type: &Name,
    name: &Name,
) -> Result<MemberId, UnknownName> {
    let found = schema.member_named(of, name);
    found.ok_or_else(|| UnknownName::Member {
        part,
        object_type: object_type.clone(),
        name: name.clone(),
    })
}
