//! Stretches: what stands opposite one end of a relationship, in the order of ids, a bounded number at a time. Lists read these.

use std::ops::{Bound, RangeBounds};

use inferadb_engine::noun::{CaveatRef, Name, ObjectId, Timestamp};

use super::{Snapshot, StoreError, SubjectClass};
use crate::codec::StoredTerms;
use crate::keys::{self, Order};
use crate::kv::{Isolation, Pair, RangeOptions, key_after, prefix_range};

/// About the most bytes of one stretch: one of so much ends before its limit.
const STRETCH_BYTES: usize = 256 << 10;

/// Which relationships a stretch is read from: those of one relation and one class of subjects.
#[derive(Debug, Clone, Copy)]
pub struct StretchOf<'a> {
    /// The resource's type.
    pub resource_type: &'a Name,
    /// The relation.
    pub relation: &'a Name,
    /// The subject's type.
    pub subject_type: &'a Name,
    /// Which subjects of that type.
    pub subject_class: &'a SubjectClass,
}

/// The far end of a relationship.
#[derive(Debug, Clone, PartialEq)]
pub struct OppositeRead {
    /// The id there.
    pub id: ObjectId,
    /// The caveat the relationship is under.
    pub caveat: Option<CaveatRef>,
    /// The moment from which on it no longer counts. It may have passed.
    pub expires_at: Option<Timestamp>,
}

/// A stretch that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct StretchRead {
    /// Sorted by id; expired ones too.
    pub entries: Vec<OppositeRead>,
    /// Whether nothing follows them.
    pub is_last: bool,
}

impl Snapshot {
    /// The resources that `subject` stands under, at most `limit` (at least one) from `start` on. For a class of
    /// usersets the subject is the userset of that object.
    pub async fn resources_of(
        &self,
        of: StretchOf<'_>,
        subject: &ObjectId,
        start: Bound<&ObjectId>,
        limit: usize,
    ) -> Result<StretchRead, StoreError> {
        let segments = [
            of.subject_type.as_str(),
            subject.as_str(),
            subject_relation(of.subject_class),
            of.resource_type.as_str(),
            of.relation.as_str(),
        ];
        let row = keys::with_segments(
            keys::relationships(self.vault().space(), Order::Reverse),
            &segments,
        );
        self.stretch(row, start, limit).await
    }

    /// The subjects of the class that stand under `resource`, at most `limit` (at least one) from `start` on.
    pub async fn subjects_of(
        &self,
        of: StretchOf<'_>,
        resource: &ObjectId,
        start: Bound<&ObjectId>,
        limit: usize,
    ) -> Result<StretchRead, StoreError> {
        if *of.subject_class == SubjectClass::Wildcard {
            let read = self.row(
                of.resource_type,
                resource,
                of.relation,
                of.subject_type,
                of.subject_class,
                1,
            );
            let entries = read.await?.entries.into_iter().map(|entry| OppositeRead {
                id: entry.subject,
                caveat: entry.caveat,
                expires_at: entry.expires_at,
            });
            return Ok(StretchRead {
                entries: entries
                    .filter(|entry| (start, Bound::Unbounded).contains(&entry.id))
                    .collect(),
                is_last: true,
            });
        }
        let segments = [
            of.resource_type.as_str(),
            resource.as_str(),
            of.relation.as_str(),
            of.subject_type.as_str(),
            subject_relation(of.subject_class),
        ];
        let row = keys::with_segments(
            keys::relationships(self.vault().space(), Order::Forward),
            &segments,
        );
        // The wildcard lies among the plain objects and is not one of them: room for it is left, and taken back.
        let limit = limit.max(1);
        let mut read = self.stretch(row, start, limit.saturating_add(1)).await?;
        read.entries.retain(|entry| !entry.id.is_wildcard());
        if read.entries.len() > limit {
            read.entries.truncate(limit);
            read.is_last = false;
        }
        Ok(read)
    }

    async fn stretch(
        &self,
        row: Vec<u8>,
        start: Bound<&ObjectId>,
        limit: usize,
    ) -> Result<StretchRead, StoreError> {
        let mut range = prefix_range(&row);
        let key = |id: &ObjectId| keys::with_segments(row, &[id.as_str()]);
        match start {
            Bound::Unbounded => {}
            Bound::Included(first) => range.start = key(first).into(),
            Bound::Excluded(last) => range.start = key_after(&key(last)),
        }
        let limit = limit.max(1);
        let options = RangeOptions {
            limit,
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        let read = self.transaction().range_of_size(range, options, STRETCH_BYTES);
        let (pairs, may_follow) = read.await?;
        let is_last = !may_follow;
        let entries = pairs.iter().map(opposite).collect::<Result<Vec<_>, _>>()?;
        Ok(StretchRead { entries, is_last })
    }
}

fn subject_relation(class: &SubjectClass) -> &str {
    match class {
        SubjectClass::Userset(relation) => relation.as_str(),
        SubjectClass::Object | SubjectClass::Wildcard => "",
    }
}

fn opposite((key, value): &Pair) -> Result<OppositeRead, StoreError> {
    let damaged = |what: &str| StoreError::unreadable(what);
    let id = keys::decode_last_id(key).ok_or_else(|| damaged("relationship's key"))?;
    let terms = StoredTerms::decode(value).ok_or_else(|| damaged("relationship's terms"))?;
    Ok(OppositeRead {
        id,
        caveat: terms.caveat,
        expires_at: terms.expires_at,
    })
}
