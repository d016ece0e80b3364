//! Shapes: how many relationships of each kind a vault stores, known without a scan.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use inferadb_engine::noun::{Name, Relationship, RelationshipKey};

use super::{Breath, PAIRS_AT_ONCE, StoreError};
use crate::codec::StoredTerms;
use crate::keys::{self, Keyspace};
use crate::kv::{Isolation, Pair, RangeOptions, Transaction, key_after};

/// The most kinds of relationships that may come together in what an import or a clone builds. A schema that people write has some hundreds;
/// what is taken in without one could have as many as there are relationships.
pub const MAX_SHAPES: usize = 10_000;
/// The most that are read of one vault.
const MAX_READ: usize = 10 * MAX_SHAPES;

/// Which subjects of a type a relationship names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectClass {
    /// Plain objects: `user:alice`.
    Object,
    /// The wildcard: `user:*`.
    Wildcard,
    /// Usersets: `group:eng#member`.
    Userset(Name),
}

/// A kind of relationship, and how many of it are stored (expired ones too, until they are removed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The resource's type.
    pub resource_type: Name,
    /// The relation.
    pub relation: Name,
    /// The subject's type.
    pub subject_type: Name,
    /// Which subjects.
    pub subject_class: SubjectClass,
    /// The caveat's name, if they are under one.
    pub caveat: Option<Name>,
    /// Whether they carry an expiry.
    pub expires: bool,
    /// How many there are.
    pub count: u64,
}

impl Shape {
    /// Whether the relationship is of this kind.
    pub(super) fn describes(&self, key: &RelationshipKey, terms: &StoredTerms) -> bool {
        self.segments() == segments(key, terms)
    }

    fn segments(&self) -> [&str; 6] {
        [
            self.resource_type.as_str(),
            self.relation.as_str(),
            self.subject_type.as_str(),
            match &self.subject_class {
                SubjectClass::Object => "",
                SubjectClass::Wildcard => "*",
                SubjectClass::Userset(relation) => relation.as_str(),
            },
            self.caveat.as_ref().map_or("", Name::as_str),
            if self.expires { "e" } else { "" },
        ]
    }

    fn decode(key: &[u8], count: u64) -> Option<Self> {
        let [resource_type, relation, subject_type, class, caveat, expires] = keys::decode_shape(key)?;
        Some(Self {
            resource_type: Name::parse(resource_type).ok()?,
            relation: Name::parse(relation).ok()?,
            subject_type: Name::parse(subject_type).ok()?,
            subject_class: match class {
                "" => SubjectClass::Object,
                "*" => SubjectClass::Wildcard,
                relation => SubjectClass::Userset(Name::parse(relation).ok()?),
            },
            caveat: if caveat.is_empty() {
                None
            } else {
                Some(Name::parse(caveat).ok()?)
            },
            expires: expires == "e",
            count,
        })
    }
}

/// The changes to the counters that one transaction makes.
#[derive(Debug, Default)]
pub(super) struct ShapeDeltas {
    counts: HashMap<[String; 6], i64>,
    stored: Vec<[String; 6]>,
}

impl ShapeDeltas {
    pub(super) fn stored(&mut self, key: &RelationshipKey, terms: &StoredTerms) {
        let segments = segments(key, terms).map(str::to_owned);
        if !self.stored.contains(&segments) {
            self.stored.push(segments.clone());
        }
        *self.counts.entry(segments).or_default() += 1;
    }

    pub(super) fn removed(&mut self, key: &RelationshipKey, terms: &StoredTerms) {
        *self
            .counts
            .entry(segments(key, terms).map(str::to_owned))
            .or_default() -= 1;
    }

    /// Puts the changes into `transaction`. What is new or may be was read serialisably: so a schema that is checked
    /// for fit at the same time conflicts with it, but not with ordinary writes.
    pub(super) async fn apply(
        self,
        transaction: &mut dyn Transaction,
        space: Keyspace,
    ) -> Result<(), StoreError> {
        for segments in &self.stored {
            let key = keys::shape_known(space, &segments.each_ref().map(String::as_str));
            if transaction.get(&key, Isolation::Serializable).await?.is_none() {
                transaction.set(&key, &[]);
            }
        }
        for (segments, delta) in self.counts {
            if delta != 0 {
                transaction.add(
                    &keys::shape_count(space, &segments.each_ref().map(String::as_str)),
                    delta,
                );
            }
        }
        Ok(())
    }
}

/// How many relationships of each shape there are, counted while a generation is built.
#[derive(Debug, Default)]
pub(super) struct ShapeCounts {
    counts: HashMap<Vec<u8>, i64>,
    /// Kept to be filled again for each relationship.
    buffer: Vec<u8>,
}

impl ShapeCounts {
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] for one kind too many.
    pub(super) fn stored(&mut self, key: &RelationshipKey, terms: &StoredTerms) -> Result<(), StoreError> {
        self.add(key, terms, 1);
        if self.counts.len() > MAX_SHAPES {
            return Err(StoreError::TooLarge(format!(
                "more than {MAX_SHAPES} kinds of relationships: kinds differ in type, relation, type and relation of the subject, \
                 caveat, or in whether they expire"
            )));
        }
        Ok(())
    }

    pub(super) fn removed(&mut self, key: &RelationshipKey, terms: &StoredTerms) {
        self.add(key, terms, -1);
    }

    /// Each shape that was ever counted, by the segments of its keys, and its count.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.counts
            .iter()
            .map(|(shape, count)| (shape.as_slice(), *count))
    }

    fn add(&mut self, key: &RelationshipKey, terms: &StoredTerms, delta: i64) {
        self.buffer.clear();
        self.buffer = keys::with_segments(std::mem::take(&mut self.buffer), &segments(key, terms));
        match self.counts.get_mut(&self.buffer) {
            Some(count) => *count += delta,
            None => {
                self.counts.insert(self.buffer.clone(), delta);
            }
        }
    }
}

/// The shape of one relationship, as if it were the only one.
pub(super) fn shape_of(key: &RelationshipKey, terms: &StoredTerms) -> Shape {
    Shape {
        resource_type: key.resource.object_type.clone(),
        relation: key.relation.clone(),
        subject_type: key.subject.object_type.clone(),
        subject_class: match &key.subject.relation {
            Some(relation) => SubjectClass::Userset(relation.clone()),
            None if key.subject.id.is_wildcard() => SubjectClass::Wildcard,
            None => SubjectClass::Object,
        },
        caveat: terms.caveat.as_ref().map(|caveat| caveat.name.clone()),
        expires: terms.expires_at.is_some(),
        count: 1,
    }
}

/// The shapes of which at least one relationship is stored.
pub(super) async fn stored_shapes(
    transaction: &dyn Transaction,
    space: Keyspace,
) -> Result<Vec<Shape>, StoreError> {
    let pairs = read_all(transaction, keys::shape_counts(space), Isolation::Snapshot).await?;
    let (mut shapes, mut breath) = (Vec::new(), Breath::default());
    for (key, value) in pairs {
        breath.after(key.len()).await;
        let count = count(&value).ok_or_else(|| StoreError::unreadable("counter"))?;
        if let Ok(count @ 1..) = u64::try_from(count) {
            shapes.push(Shape::decode(&key, count).ok_or_else(|| StoreError::unreadable("shape"))?);
        }
    }
    Ok(shapes)
}

/// The stored shapes, such that a commit conflicts if a shape comes up that was not stored before. Forgets those that
/// are no longer stored.
pub(super) async fn claim_shapes(
    transaction: &mut dyn Transaction,
    space: Keyspace,
) -> Result<Vec<Shape>, StoreError> {
    let known = read_all(transaction, keys::shapes_known(space), Isolation::Serializable).await?;
    let shapes = stored_shapes(transaction, space).await?;
    let stored: HashSet<[&str; 6]> = shapes.iter().map(Shape::segments).collect();
    let mut breath = Breath::default();
    for (key, _) in &known {
        breath.after(key.len()).await;
        let segments = keys::decode_shape(key).ok_or_else(|| StoreError::unreadable("shape"))?;
        if !stored.contains(&segments) {
            let counter = keys::shape_count(space, &segments);
            transaction.get(&counter, Isolation::Serializable).await?;
            transaction.clear(&counter);
            transaction.clear(key);
        }
    }
    Ok(shapes)
}

/// The pairs of a range, some at a time.
async fn read_all(
    transaction: &dyn Transaction,
    mut range: Range<Bytes>,
    isolation: Isolation,
) -> Result<Vec<Pair>, StoreError> {
    let options = RangeOptions {
        limit: PAIRS_AT_ONCE,
        reverse: false,
        isolation,
    };
    let mut all = Vec::new();
    while all.len() < MAX_READ {
        let pairs = transaction.range(range.clone(), options).await?;
        let is_last = pairs.len() < PAIRS_AT_ONCE;
        if let Some((last, _)) = pairs.last() {
            range.start = key_after(last);
        }
        all.extend(pairs);
        if is_last {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(all)
}

fn segments<'a>(key: &'a RelationshipKey, terms: &'a StoredTerms) -> [&'a str; 6] {
    let class = match &key.subject.relation {
        Some(relation) => relation.as_str(),
        None if key.subject.id.is_wildcard() => "*",
        None => "",
    };
    [
        key.resource.object_type.as_str(),
        key.relation.as_str(),
        key.subject.object_type.as_str(),
        class,
        terms.caveat.as_ref().map_or("", |caveat| caveat.name.as_str()),
        if terms.expires_at.is_some() { "e" } else { "" },
    ]
}

fn count(value: &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(value.try_into().ok()?))
}

impl From<&Relationship> for StoredTerms {
    fn from(relationship: &Relationship) -> Self {
        Self {
            caveat: relationship.caveat.clone(),
            expires_at: relationship.expires_at,
        }
    }
}
