//! Relationships that count for one request alone: held to what a write's are, and compiled into an overlay.

use std::collections::HashSet;

use inferadb_engine::noun::Relationship;
use inferadb_engine::overlay::Overlay;
use inferadb_engine::schema::Schema;

use super::operation::too_many;
use crate::error::VaultError;

/// The most contextual relationships of one request, or of one check of a batch.
pub const MAX_CONTEXTUAL_RELATIONSHIPS: usize = 100;

/// The request's member that they stand in.
const FIELD: &str = "contextual_relationships";

/// `under` with contextual relationships over it: each takes the place of one with the same key.
///
/// # Errors
///
/// More than [`MAX_CONTEXTUAL_RELATIONSHIPS`], one that is there twice, one that does not fit the schema.
pub(super) fn overlay(
    schema: &Schema,
    under: &Overlay,
    relationships: &[Relationship],
) -> Result<Overlay, VaultError> {
    if relationships.len() > MAX_CONTEXTUAL_RELATIONSHIPS {
        let count = relationships.len();
        return Err(too_many(
            FIELD,
            "contextual relationships",
            count,
            MAX_CONTEXTUAL_RELATIONSHIPS,
        ));
    }
    let mut overlay = under.clone();
    let mut seen = HashSet::new();
    for (at, relationship) in relationships.iter().enumerate() {
        let field = || format!("{FIELD}[{at}]");
        let key = relationship.key();
        if seen.contains(&key) {
            return Err(VaultError::Invalid {
                code: "duplicate_relationship",
                field: field(),
                message: format!("the relationship `{key}` appears more than once in this request"),
            });
        }
        seen.insert(key);
        let added = overlay.add(schema, relationship);
        added.map_err(|misfit| VaultError::Misfit { at: field(), misfit })?;
    }
    Ok(overlay)
}
