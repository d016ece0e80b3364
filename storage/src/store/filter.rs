//! Filters over relationships: which index serves one best, and the scan that reads it.

use std::ops::Range;

use bytes::Bytes;
use inferadb_engine::noun::{Name, ObjectId, Relationship, RelationshipKey, Timestamp};

use super::{Breath, StoreError};
use crate::codec::StoredTerms;
use crate::keys::{self, Keyspace, Order};
use crate::kv::{Isolation, RangeOptions, Transaction, key_after, prefix_range};

/// The most stored relationships that one scan reads, whether they match or not.
pub(super) const MAX_SCANNED: usize = 10_000;
/// The most pairs that are read in one go.
const MAX_CHUNK: usize = 1_000;
/// About the most bytes that are read in one go.
const CHUNK_BYTES: usize = 1 << 20;
/// What one scan finds, in bytes of keys and values, where its limit does not come to be reached before.
pub(super) const SCAN_BYTES: usize = 4 << 20;

/// The relation of a filter's subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SubjectRelation {
    /// None: plain objects and wildcards.
    Plain,
    /// This relation: usersets.
    Userset(Name),
}

/// Which relationships are meant: those that match all that is given. The default matches all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RelationshipFilter {
    /// The resource's type.
    pub resource_type: Option<Name>,
    /// The resource's id.
    pub resource_id: Option<ObjectId>,
    /// What the resource's id starts with.
    pub resource_id_prefix: Option<String>,
    /// The relation.
    pub relation: Option<Name>,
    /// The subject's type.
    pub subject_type: Option<Name>,
    /// The subject's id; the wildcard's is `*`.
    pub subject_id: Option<ObjectId>,
    /// The subject's relation.
    pub subject_relation: Option<SubjectRelation>,
}

/// A relationship as it is stored.
pub(super) type Found = (RelationshipKey, StoredTerms);

/// What a scan is to find.
pub(super) struct Scan<'a> {
    pub(super) space: Keyspace,
    pub(super) filter: &'a RelationshipFilter,
    /// The position that an earlier scan with this filter answered.
    pub(super) after: Option<&'a [u8]>,
    /// The most relationships to find, at least one.
    pub(super) limit: usize,
    /// What these may weigh, unless it is one.
    pub(super) max_bytes: usize,
    /// What one of them weighs, by the bytes of its key and its value: [`stored_bytes`] or [`removal_bytes`].
    pub(super) weigh: fn(usize, usize) -> usize,
    pub(super) isolation: Isolation,
    /// Leaves out what has expired by then.
    pub(super) live_at: Option<Timestamp>,
}

/// What a scan found.
pub(super) struct Scanned {
    pub(super) found: Vec<Found>,
    /// Where to go on; `None` at the end of what matches.
    pub(super) next: Option<Vec<u8>>,
    /// How many relationships were read, whether they match or not.
    pub(super) read: usize,
}

impl RelationshipFilter {
    /// Whether `key` matches.
    pub fn matches(&self, key: &RelationshipKey) -> bool {
        let is = |wanted: &Option<Name>, held: &Name| wanted.as_ref().is_none_or(|wanted| wanted == held);
        is(&self.resource_type, &key.resource.object_type)
            && self.resource_id.as_ref().is_none_or(|id| *id == key.resource.id)
            && self
                .resource_id_prefix
                .as_ref()
                .is_none_or(|prefix| key.resource.id.as_str().starts_with(prefix))
            && is(&self.relation, &key.relation)
            && is(&self.subject_type, &key.subject.object_type)
            && self.subject_id.as_ref().is_none_or(|id| *id == key.subject.id)
            && match &self.subject_relation {
                None => true,
                Some(SubjectRelation::Plain) => key.subject.relation.is_none(),
                Some(SubjectRelation::Userset(relation)) => key.subject.relation.as_ref() == Some(relation),
            }
    }

    /// The smallest range that holds all that matches.
    fn plan(&self, space: Keyspace) -> (Order, Range<Bytes>) {
        let resource_type = self.resource_type.as_ref().map(Name::as_str);
        let resource_id = self.resource_id.as_ref().map(ObjectId::as_str);
        let relation = self.relation.as_ref().map(Name::as_str);
        let subject_type = self.subject_type.as_ref().map(Name::as_str);
        let subject_id = self.subject_id.as_ref().map(ObjectId::as_str);
        let subject_relation = self.subject_relation.as_ref().map(|relation| match relation {
            SubjectRelation::Plain => "",
            SubjectRelation::Userset(name) => name.as_str(),
        });
        let forward = [
            resource_type,
            resource_id,
            relation,
            subject_type,
            subject_relation,
            subject_id,
        ];
        let reverse = [
            subject_type,
            subject_id,
            subject_relation,
            resource_type,
            relation,
            resource_id,
        ];
        let given =
            |segments: &[Option<&str>]| segments.iter().take_while(|segment| segment.is_some()).count();
        let id_prefix = match resource_id {
            None => self
                .resource_id_prefix
                .as_deref()
                .filter(|_| resource_type.is_some()),
            Some(_) => None,
        };
        // An object's id narrows most; then the prefix of one; a type alone narrows least.
        let (order, segments) = match (given(&forward), given(&reverse)) {
            (2.., _) => (Order::Forward, forward),
            (_, 2..) => (Order::Reverse, reverse),
            (0, 1) => (Order::Reverse, reverse),
            _ => (Order::Forward, forward),
        };
        let fixed: Vec<&str> = segments.into_iter().map_while(|segment| segment).collect();
        let mut prefix = keys::with_segments(keys::relationships(space, order), &fixed);
        if let Some(id_prefix) = id_prefix
            && order == Order::Forward
        {
            prefix.extend_from_slice(id_prefix.as_bytes());
        }
        (order, prefix_range(&prefix))
    }
}

impl Scan<'_> {
    /// Reads until enough is found, or as much as one scan may read.
    pub(super) async fn run(&self, transaction: &dyn Transaction) -> Result<Scanned, StoreError> {
        let (order, range) = self.filter.plan(self.space);
        let mut start = range.start.clone();
        if let Some(after) = self.after {
            let key = self.space.absolute(after);
            if !range.contains(key.as_slice()) {
                return Err(StoreError::BadPosition);
            }
            start = key_after(&key);
        }
        let limit = self.limit.max(1);
        let mut scanned = Scanned {
            found: Vec::new(),
            next: None,
            read: 0,
        };
        let mut last = None;
        let mut weighs = 0_usize;
        let mut chunk = limit.saturating_add(1).clamp(16, MAX_CHUNK);
        // Where storage answers at once nothing else lets others have their turn.
        let mut breath = Breath::default();
        while start < range.end {
            let options = RangeOptions {
                limit: chunk,
                reverse: false,
                isolation: self.isolation,
            };
            let rest = start..range.end.clone();
            let at_once = CHUNK_BYTES.min(self.max_bytes);
            let (pairs, may_follow) = transaction.range_of_size(rest, options, at_once).await?;
            let is_last = !may_follow;
            scanned.read += pairs.len();
            start = pairs
                .last()
                .map_or_else(|| range.end.clone(), |(key, _)| key_after(key));
            for (key, value) in pairs {
                breath.after(key.len() + value.len()).await;
                let relationship = keys::decode_relationship(order, &key)
                    .ok_or_else(|| StoreError::unreadable("relationship's key"))?;
                let terms = StoredTerms::decode(&value)
                    .ok_or_else(|| StoreError::unreadable("relationship's terms"))?;
                let live = self.live_at.is_none_or(|now| !terms.is_expired(now));
                if live && self.filter.matches(&relationship) {
                    weighs = weighs.saturating_add((self.weigh)(key.len(), value.len()));
                    let is_full = weighs > self.max_bytes && !scanned.found.is_empty();
                    if is_full || scanned.found.len() == limit {
                        scanned.next = last;
                        return Ok(scanned);
                    }
                    scanned.found.push((relationship, terms));
                }
                last = Some(Keyspace::relative(&key).to_vec());
            }
            if is_last {
                break;
            }
            if scanned.read >= MAX_SCANNED {
                scanned.next = last;
                break;
            }
            chunk = (chunk * 4).min(MAX_CHUNK);
        }
        Ok(scanned)
    }
}

/// About what the removal of a relationship adds to a transaction, in bytes: its key is in two orders, each of them cleared, with
/// a range of conflicts of two ends; its terms are in the log.
pub(super) const fn removal_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    6 * key_bytes + value_bytes
}

/// What a relationship takes where it is stored, in one of its orders.
pub(super) const fn stored_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    key_bytes + value_bytes
}

/// Puts a relationship together again.
pub(super) fn whole((key, terms): Found) -> Relationship {
    Relationship {
        resource: key.resource,
        relation: key.relation,
        subject: key.subject,
        caveat: terms.caveat,
        expires_at: terms.expires_at,
    }
}
