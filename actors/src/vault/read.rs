//! Reading relationships as they are stored, by a filter.

use inferadb_engine::noun::{Name, ObjectId, Relationship, Timestamp};
use inferadb_storage::token::{Cursor, fingerprint};
use inferadb_storage::{RelationshipFilter, Revision, SubjectRelation};

use super::{Consistency, Until, Vault};
use crate::error::VaultError;

/// One page of relationships.
#[derive(Debug)]
pub struct ReadPage {
    /// The relationships.
    pub relationships: Vec<Relationship>,
    /// Where the next page goes on; `None` at the end.
    pub cursor: Option<String>,
    /// The state they are of.
    pub revision: Revision,
}

impl Vault {
    /// One page of at most `limit` stored relationships that match a filter and have not expired.
    pub async fn read(
        &self,
        filter: &RelationshipFilter,
        cursor: Option<&str>,
        limit: usize,
        consistency: Consistency,
        now: Timestamp,
    ) -> Result<ReadPage, VaultError> {
        // Storage itself is read, which shows every commit there is; a token may still be from a future never seen.
        if let Consistency::AtLeast(revision) = consistency
            && self.view.load().revision < revision
        {
            self.catch_up(Until::Revision(revision)).await?;
        }
        let after = match cursor {
            Some(text) => Some(
                Cursor::decode(self.id.0, query_of(filter), text).map_err(|error| VaultError::Invalid {
                    code: "invalid_cursor",
                    field: "cursor".into(),
                    message: error.to_string(),
                })?,
            ),
            None => None,
        };
        let snapshot = self
            .store
            .snapshot(self.id)
            .await
            .map_err(VaultError::from_store)?;
        let page = snapshot
            .relationships(filter, after.as_deref(), limit, now)
            .await
            .map_err(VaultError::from_store)?;
        let query = query_of(filter);
        let cursor = page
            .next
            .map(|position| Cursor { position, query }.encode(self.id.0));
        Ok(ReadPage {
            relationships: page.items,
            cursor,
            revision: snapshot.revision(),
        })
    }
}

/// Tells a filter from every other one.
fn query_of(filter: &RelationshipFilter) -> u64 {
    let RelationshipFilter {
        resource_type,
        resource_id,
        resource_id_prefix,
        relation,
        ..
    } = filter;
    let RelationshipFilter {
        subject_type,
        subject_id,
        subject_relation,
        ..
    } = filter;
    let parts = [
        resource_type.as_ref().map(Name::as_str),
        resource_id.as_ref().map(ObjectId::as_str),
        resource_id_prefix.as_deref(),
        relation.as_ref().map(Name::as_str),
        subject_type.as_ref().map(Name::as_str),
        subject_id.as_ref().map(ObjectId::as_str),
        match subject_relation {
            None => None,
            Some(SubjectRelation::Plain) => Some("..."),
            Some(SubjectRelation::Userset(name)) => Some(name.as_str()),
        },
    ];
    // What is not asked for is told from what is by a byte that no name and no id holds.
    fingerprint(parts.iter().map(|part| part.map_or(&b"\0"[..], str::as_bytes)))
}
