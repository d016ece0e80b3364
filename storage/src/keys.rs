//! The only encoder and decoder of keys. `docs/storage.md` describes the layout byte by byte.
//!
//! Within a vault, names and object ids end with a zero byte, which none of them can hold, so that keys sort by their
//! segments and every list that is read is one contiguous range.

use std::ops::Range;

use bytes::Bytes;
use inferadb_engine::noun::{Name, ObjectId, ObjectRef, RelationshipKey, SubjectRef, Timestamp};
use uuid::Uuid;

use crate::id::{AccountId, VaultId};
use crate::kv::{Versionstamp, prefix_range};

/// The version of this layout. It is stored, and a store with another one is not opened.
pub(crate) const LAYOUT_VERSION: u32 = 2;

const STORE: u8 = 0x01;
const ACCOUNT: u8 = 0x02;
const ACCOUNT_BY_CREATION: u8 = 0x03;
const VAULT_BY_CREATION: u8 = 0x04;
const VAULT: u8 = 0x05;
const VAULT_TOMBSTONE: u8 = 0x06;
const VAULT_CLEARING: u8 = 0x07;
const ACCOUNT_TOMBSTONE: u8 = 0x08;
const MARKER: u8 = 0x09;
const STAGING: u8 = 0x0a;
const DATA: u8 = 0x10;

const HEAD: u8 = 0x00;
const SCHEMA: u8 = 0x01;
const CHANGE: u8 = 0x02;
const HORIZON: u8 = 0x03;
const LAST_GENERATION: u8 = 0x04;
const GENERATION: u8 = 0x05;
const LOG_SIZE: u8 = 0x06;

const FORWARD: u8 = 0x00;
const REVERSE: u8 = 0x01;
const SHAPE_COUNT: u8 = 0x02;
const SHAPE_KNOWN: u8 = 0x03;
const INPUT: u8 = 0x04;

/// The bytes before what a [`Keyspace`] holds.
const KEYSPACE_BYTES: usize = 22;

/// Where one generation of a vault's relationships lies. An import builds another one beside it and switches over; no
/// number is used twice in a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Keyspace {
    pub(crate) vault: VaultId,
    pub(crate) generation: u32,
}

impl Keyspace {
    /// All its keys.
    pub(crate) fn range(self) -> Range<Bytes> {
        prefix_range(&self.prefix())
    }

    /// What of `key` tells it from others of a keyspace: the same in every generation.
    pub(crate) fn relative(key: &[u8]) -> &[u8] {
        key.get(KEYSPACE_BYTES..).unwrap_or_default()
    }

    /// The key that is told from others of this keyspace by `relative`.
    pub(crate) fn absolute(self, relative: &[u8]) -> Vec<u8> {
        let mut key = self.prefix();
        key.extend_from_slice(relative);
        key
    }

    fn prefix(self) -> Vec<u8> {
        let mut key = data(self.vault, GENERATION);
        key.extend_from_slice(&self.generation.to_be_bytes());
        key
    }

    fn part(self, part: u8) -> Vec<u8> {
        let mut key = self.prefix();
        key.push(part);
        key
    }
}

/// The layout's version.
pub(crate) const fn layout() -> [u8; 2] {
    [STORE, 0]
}

/// The id of the default account that was made because none was configured.
pub(crate) const fn default_account() -> [u8; 2] {
    [STORE, 1]
}

/// The id of the default vault that was made because none was configured.
pub(crate) const fn default_vault() -> [u8; 2] {
    [STORE, 2]
}

pub(crate) fn account(id: AccountId) -> [u8; 17] {
    tagged(ACCOUNT, id.0)
}

pub(crate) fn account_tombstone(id: AccountId) -> [u8; 17] {
    tagged(ACCOUNT_TOMBSTONE, id.0)
}

pub(crate) fn account_by_creation(created_at: Timestamp, id: AccountId) -> Vec<u8> {
    by_creation(&[ACCOUNT_BY_CREATION], created_at, id.0)
}

pub(crate) fn accounts_by_creation() -> Range<Bytes> {
    prefix_range(&[ACCOUNT_BY_CREATION])
}

pub(crate) fn vault_by_creation(account: AccountId, created_at: Timestamp, id: VaultId) -> Vec<u8> {
    by_creation(&tagged(VAULT_BY_CREATION, account.0), created_at, id.0)
}

pub(crate) fn vaults_by_creation(account: AccountId) -> Range<Bytes> {
    prefix_range(&tagged(VAULT_BY_CREATION, account.0))
}

pub(crate) fn vault(id: VaultId) -> [u8; 17] {
    tagged(VAULT, id.0)
}

pub(crate) fn vault_tombstone(id: VaultId) -> [u8; 17] {
    tagged(VAULT_TOMBSTONE, id.0)
}

pub(crate) fn vault_clearing(id: VaultId) -> [u8; 17] {
    tagged(VAULT_CLEARING, id.0)
}

pub(crate) fn vaults_clearing() -> Range<Bytes> {
    prefix_range(&[VAULT_CLEARING])
}

/// The marker of the operation that holds `slot` of the process `process`.
pub(crate) fn marker(process: Uuid, slot: u32) -> Vec<u8> {
    let mut key = tagged(MARKER, process).to_vec();
    key.extend_from_slice(&slot.to_be_bytes());
    key
}

/// The markers of one process.
pub(crate) fn markers_of(process: Uuid) -> Range<Bytes> {
    prefix_range(&tagged(MARKER, process))
}

pub(crate) fn markers() -> Range<Bytes> {
    prefix_range(&[MARKER])
}

/// Says of a generation that is not, or not only, a vault's own: it is being built, or is to be cleared.
pub(crate) fn staging(space: Keyspace) -> Vec<u8> {
    let mut key = tagged(STAGING, space.vault.0).to_vec();
    key.extend_from_slice(&space.generation.to_be_bytes());
    key
}

pub(crate) fn stagings_of(vault: VaultId) -> Range<Bytes> {
    prefix_range(&tagged(STAGING, vault.0))
}

pub(crate) fn stagings() -> Range<Bytes> {
    prefix_range(&[STAGING])
}

/// The generation that a key of [`staging`] is about.
pub(crate) fn decode_staging(key: &[u8]) -> Option<Keyspace> {
    let (vault, generation) = key.strip_prefix(&[STAGING])?.split_first_chunk::<16>()?;
    Some(Keyspace {
        vault: VaultId(Uuid::from_bytes(*vault)),
        generation: u32::from_be_bytes(generation.try_into().ok()?),
    })
}

/// The id at the end of a key of one of the indexes and lists above.
pub(crate) fn trailing_id(key: &[u8]) -> Option<Uuid> {
    key.split_last_chunk::<16>().map(|(_, id)| Uuid::from_bytes(*id))
}

/// All keys of one vault's data.
pub(crate) fn vault_data(id: VaultId) -> Range<Bytes> {
    prefix_range(&tagged(DATA, id.0))
}

pub(crate) fn head(vault: VaultId) -> Vec<u8> {
    data(vault, HEAD)
}

/// The schema's header: its revision, format and length.
pub(crate) fn schema_header(vault: VaultId) -> Vec<u8> {
    data(vault, SCHEMA)
}

/// All pieces of the schema's text, without the header.
pub(crate) fn schema_pieces(vault: VaultId) -> Range<Bytes> {
    Bytes::from(schema_piece(vault, 0))..prefix_range(&data(vault, SCHEMA)).end
}

pub(crate) fn schema_piece(vault: VaultId, piece: u16) -> Vec<u8> {
    let mut key = data(vault, SCHEMA);
    key.extend_from_slice(&piece.to_be_bytes());
    key
}

/// The newest generation that was given out beside the first, which is 0.
pub(crate) fn last_generation(vault: VaultId) -> Vec<u8> {
    data(vault, LAST_GENERATION)
}

/// The revision up to which changes have been trimmed.
pub(crate) fn horizon(vault: VaultId) -> Vec<u8> {
    data(vault, HORIZON)
}

/// Two counters of the change log: its records, and their bytes.
pub(crate) fn log_size(vault: VaultId) -> [Vec<u8>; 2] {
    [0, 1].map(|which| {
        let mut key = data(vault, LOG_SIZE);
        key.push(which);
        key
    })
}

/// What stands before the versionstamp in the key of a change.
pub(crate) fn change_prefix(vault: VaultId) -> Vec<u8> {
    data(vault, CHANGE)
}

/// The changes after `after`, or all.
pub(crate) fn changes(vault: VaultId, after: Option<Versionstamp>) -> Range<Bytes> {
    let all = prefix_range(&change_prefix(vault));
    match after {
        None => all,
        Some(stamp) => {
            let last = [change_prefix(vault).as_slice(), &stamp.0].concat();
            prefix_range(&last).end..all.end
        }
    }
}

/// The stamp and piece number in the key of a change.
pub(crate) fn decode_change(vault: VaultId, key: &[u8]) -> Option<(Versionstamp, u16)> {
    let rest = key.strip_prefix(change_prefix(vault).as_slice())?;
    let (stamp, piece) = Versionstamp::split_from(rest)?;
    Some((stamp, u16::from_be_bytes(piece.try_into().ok()?)))
}

/// Which of the two orders relationships are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Resource type, resource id, relation, subject type, subject relation, subject id.
    Forward,
    /// Subject type, subject id, subject relation, resource type, relation, resource id.
    Reverse,
}

/// What stands before all relationships of `space` in `order`.
pub(crate) fn relationships(space: Keyspace, order: Order) -> Vec<u8> {
    match order {
        Order::Forward => space.part(FORWARD),
        Order::Reverse => space.part(REVERSE),
    }
}

/// What stands before all relationships that were handed to an import which merges them: in forward order, as the same
/// relationships stand after [`relationships`].
pub(crate) fn input(space: Keyspace) -> Vec<u8> {
    space.part(INPUT)
}

/// The key of one relationship in `order`.
pub(crate) fn relationship(space: Keyspace, order: Order, key: &RelationshipKey) -> Vec<u8> {
    with_segments(relationships(space, order), &relationship_segments(order, key))
}

/// The segments of one relationship's key in `order`.
pub(crate) fn relationship_segments(order: Order, key: &RelationshipKey) -> [&str; 6] {
    let resource = (key.resource.object_type.as_str(), key.resource.id.as_str());
    let subject = (key.subject.object_type.as_str(), key.subject.id.as_str());
    let subject_relation = key.subject.relation.as_ref().map_or("", Name::as_str);
    match order {
        Order::Forward => [
            resource.0,
            resource.1,
            key.relation.as_str(),
            subject.0,
            subject_relation,
            subject.1,
        ],
        Order::Reverse => [
            subject.0,
            subject.1,
            subject_relation,
            resource.0,
            key.relation.as_str(),
            resource.1,
        ],
    }
}

/// The key `prefix` with whole segments after it.
pub(crate) fn with_segments(mut prefix: Vec<u8>, segments: &[&str]) -> Vec<u8> {
    for segment in segments {
        prefix.extend_from_slice(segment.as_bytes());
        prefix.push(0);
    }
    prefix
}

/// The relationship that `key` of a keyspace stands for; `None` if it is none in `order`.
pub(crate) fn decode_relationship(order: Order, key: &[u8]) -> Option<RelationshipKey> {
    decode_segments(order, key.get(KEYSPACE_BYTES + 1..)?)
}

/// The relationship with these segments, each ended by its zero byte.
pub(crate) fn decode_segments(order: Order, bytes: &[u8]) -> Option<RelationshipKey> {
    let [a, b, c, d, e, f] = segments(bytes)?;
    let ((resource_type, resource_id, relation), (subject_type, subject_relation, subject_id)) = match order {
        Order::Forward => ((a, b, c), (d, e, f)),
        Order::Reverse => ((d, f, e), (a, c, b)),
    };
    Some(RelationshipKey {
        resource: ObjectRef {
            object_type: name(resource_type)?,
            id: object_id(resource_id)?,
        },
        relation: name(relation)?,
        subject: SubjectRef {
            object_type: name(subject_type)?,
            id: object_id(subject_id)?,
            relation: if subject_relation.is_empty() {
                None
            } else {
                Some(name(subject_relation)?)
            },
        },
    })
}

/// The id at the end of a relationship's key: the subject's of a forward one, the resource's of a reverse one.
pub(crate) fn decode_last_id(key: &[u8]) -> Option<ObjectId> {
    let key = key.strip_suffix(&[0])?;
    object_id(std::str::from_utf8(key.rsplit(|byte| *byte == 0).next()?).ok()?)
}

/// How many relationships of a shape there are; `segments` are the shape's.
pub(crate) fn shape_count(space: Keyspace, segments: &[&str; 6]) -> Vec<u8> {
    with_segments(space.part(SHAPE_COUNT), segments)
}

/// Says that there may be relationships of a shape.
pub(crate) fn shape_known(space: Keyspace, segments: &[&str; 6]) -> Vec<u8> {
    with_segments(space.part(SHAPE_KNOWN), segments)
}

/// The counter of the shape with these segments, and the key that says that there may be such relationships.
pub(crate) fn shape_keys(space: Keyspace, segments: &[u8]) -> [Vec<u8>; 2] {
    [SHAPE_COUNT, SHAPE_KNOWN].map(|part| {
        let mut key = space.part(part);
        key.extend_from_slice(segments);
        key
    })
}

pub(crate) fn shape_counts(space: Keyspace) -> Range<Bytes> {
    prefix_range(&space.part(SHAPE_COUNT))
}

pub(crate) fn shapes_known(space: Keyspace) -> Range<Bytes> {
    prefix_range(&space.part(SHAPE_KNOWN))
}

/// The segments of a key of either kind of a shape.
pub(crate) fn decode_shape(key: &[u8]) -> Option<[&str; 6]> {
    segments(key.get(KEYSPACE_BYTES + 1..)?)
}

fn segments(bytes: &[u8]) -> Option<[&str; 6]> {
    let mut segments = [""; 6];
    let mut found = std::str::from_utf8(bytes).ok()?.strip_suffix('\0')?.split('\0');
    for segment in &mut segments {
        *segment = found.next()?;
    }
    found.next().is_none().then_some(segments)
}

fn name(text: &str) -> Option<Name> {
    Name::parse(text).ok()
}

fn object_id(text: &str) -> Option<ObjectId> {
    if text == "*" {
        Some(ObjectId::wildcard())
    } else {
        ObjectId::parse(text).ok()
    }
}

fn tagged(tag: u8, id: Uuid) -> [u8; 17] {
    let mut key = [tag; 17];
    for (to, from) in key.iter_mut().skip(1).zip(id.as_bytes()) {
        *to = *from;
    }
    key
}

fn by_creation(prefix: &[u8], created_at: Timestamp, id: Uuid) -> Vec<u8> {
    // With its sign bit turned over, a number sorts as its bytes do.
    let moment = (created_at.0 as u64 ^ (1 << 63)).to_be_bytes();
    [prefix, &moment, id.as_bytes()].concat()
}

fn data(vault: VaultId, part: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(128);
    key.extend_from_slice(&tagged(DATA, vault.0));
    key.push(part);
    key
}
