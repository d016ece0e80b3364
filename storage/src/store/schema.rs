//! The schema of a vault: stored atomically with the proof that what is stored fits it.

use futures_util::future::try_join;
use inferadb_engine::noun::{Name, Relationship, RelationshipKey, Timestamp};

use super::change::{Appended, PIECE_BYTES, append};
use super::filter::{MAX_SCANNED, RelationshipFilter, SCAN_BYTES, Scan, stored_bytes, whole};
use super::retry::{Marker, Retry};
use super::shape::{Shape, claim_shapes};
use super::vaults::require_vault;
use super::{SchemaRecord, Store, StoreError};
use crate::background;
use crate::id::{Revision, VaultId};
use crate::keys::{self, Keyspace};
use crate::kv::{Isolation, RangeOptions, Transaction, Versionstamp};

/// The longest schema, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 1_000_000;
/// How many misfitting relationships are named.
const MAX_EXAMPLES: usize = 5;

/// How many relationships are read to see whether those of doubtful shapes fit. What is left unread is held not to fit.
const MAX_JUDGED: usize = 10 * MAX_SCANNED;

/// Judges whether what is stored fits a new schema. A closure from the stored shapes to those that do not fit is one.
pub trait SchemaFit: Send + Sync {
    /// Is given the shapes that are stored; answers those that do not fit.
    fn shapes(&self, stored: &[Shape]) -> Result<(), Vec<Shape>>;

    /// Of the stored shapes, those that fit or not by the contexts of their relationships; `held` is the schema that
    /// is replaced.
    ///
    /// # Errors
    ///
    /// Where the held schema cannot be read.
    fn doubtful(&self, _stored: &[Shape], _held: Option<&SchemaRecord>) -> Result<Vec<Shape>, StoreError> {
        Ok(Vec::new())
    }

    /// Whether a stored relationship of a doubtful shape fits.
    fn relationship(&self, _stored: &Relationship) -> bool {
        true
    }
}

impl<F> SchemaFit for F
where
    F: Fn(&[Shape]) -> Result<(), Vec<Shape>> + Send + Sync,
{
    fn shapes(&self, stored: &[Shape]) -> Result<(), Vec<Shape>> {
        self(stored)
    }
}

/// A schema to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutSchema<'a> {
    /// Its text.
    pub text: &'a str,
    /// Which language it is in.
    pub format: u8,
    /// Whether to store it even if stored relationships do not fit.
    pub force: bool,
    /// The time.
    pub now: Timestamp,
}

/// A schema has been stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaPut {
    /// The schema's revision.
    pub revision: Revision,
    /// Whether it differs from the one before.
    pub changed: bool,
}

/// What judges, behind a pointer.
pub type FitCheck<'a> = dyn SchemaFit + 'a;

impl Store {
    /// Stores the schema of `vault`, if what is stored fits it by the judgement of `fit`; no relationship that was not
    /// judged can slip in between the check and the commit. It may be called several times.
    ///
    /// # Errors
    ///
    /// [`StoreError::Misfits`] unless `force`, [`StoreError::VaultNotFound`], [`StoreError::TooLarge`].
    pub async fn put_schema(
        &self,
        vault: VaultId,
        schema: &PutSchema<'_>,
        fit: &FitCheck<'_>,
    ) -> Result<SchemaPut, StoreError> {
        if schema.text.len() > MAX_SCHEMA_BYTES {
            return Err(StoreError::TooLarge(format!(
                "a schema is at most {MAX_SCHEMA_BYTES} bytes long, this one has {}",
                schema.text.len()
            )));
        }
        let marker = self.markers().take();
        let mut retry = Retry::default();
        loop {
            match self.try_put_schema(vault, schema, fit, &marker).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn try_put_schema(
        &self,
        vault: VaultId,
        schema: &PutSchema<'_>,
        fit: &FitCheck<'_>,
        marker: &Marker<'_>,
    ) -> Result<SchemaPut, StoreError> {
        let mut transaction = self.engine().begin().await?;
        if let Some((revision, _)) = marker.outcome(&*transaction).await? {
            return Ok(SchemaPut {
                revision,
                changed: true,
            });
        }
        let record = require_vault(&*transaction, vault, Isolation::Serializable).await?;
        self.admit_writer(&mut *transaction, &record)?;
        let space = record.space();
        let shapes = claim_shapes(&mut *transaction, space).await?;
        if !schema.force
            && let Err(shapes) = fit.shapes(&shapes)
        {
            let examples = examples(&*transaction, space, &shapes).await?;
            return Err(StoreError::Misfits { shapes, examples });
        }
        let held = read_schema(&*transaction, vault, Isolation::Serializable).await?;
        if !schema.force {
            let doubtful = fit.doubtful(&shapes, held.as_ref())?;
            judge(&*transaction, space, &doubtful, fit).await?;
        }
        if let Some(held) = &held
            && held.text == schema.text
            && held.format == schema.format
        {
            return Ok(SchemaPut {
                revision: held.revision,
                changed: false,
            });
        }
        set_schema(&mut *transaction, vault, schema.text, schema.format);
        append(
            &mut *transaction,
            vault,
            schema.now,
            Appended::Schema(held.as_ref()),
        )?;
        marker.set(&mut *transaction, &[]);
        let revision = Revision(transaction.commit().await?);
        Ok(SchemaPut {
            revision,
            changed: true,
        })
    }
}

/// Stores a schema, whose revision will be that of the commit.
pub(super) fn set_schema(transaction: &mut dyn Transaction, vault: VaultId, text: &str, format: u8) {
    let mut header = vec![format];
    header.extend_from_slice(&(text.len() as u32).to_be_bytes());
    transaction.set_versionstamped_value(&keys::schema_header(vault), &header);
    transaction.clear_range(keys::schema_pieces(vault));
    for (piece, bytes) in (0_u16..).zip(text.as_bytes().chunks(PIECE_BYTES)) {
        transaction.set(&keys::schema_piece(vault, piece), bytes);
    }
}

/// The schema's header alone: its revision, format and length.
pub(super) async fn read_schema_header(
    transaction: &dyn Transaction,
    vault: VaultId,
    isolation: Isolation,
) -> Result<Option<(Revision, u8, usize)>, StoreError> {
    let Some(value) = transaction.get(&keys::schema_header(vault), isolation).await? else {
        return Ok(None);
    };
    match Versionstamp::split_from(&value) {
        Some((stamp, [format, length @ ..])) => {
            let length = length.try_into().map_err(|_| StoreError::unreadable("schema"))?;
            Ok(Some((
                Revision(stamp),
                *format,
                u32::from_be_bytes(length) as usize,
            )))
        }
        _ => Err(StoreError::unreadable("schema")),
    }
}

pub(super) async fn read_schema(
    transaction: &dyn Transaction,
    vault: VaultId,
    isolation: Isolation,
) -> Result<Option<SchemaRecord>, StoreError> {
    let options = RangeOptions {
        limit: MAX_SCHEMA_BYTES / PIECE_BYTES + 2,
        reverse: false,
        isolation,
    };
    let header = read_schema_header(transaction, vault, isolation);
    let pieces = async { Ok(transaction.range(keys::schema_pieces(vault), options).await?) };
    let (header, pieces) = try_join(header, pieces).await?;
    let Some((revision, format, length)) = header else {
        return Ok(None);
    };
    let mut bytes = Vec::with_capacity(length);
    for (_, piece) in pieces {
        bytes.extend_from_slice(&piece);
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.len() == length => Ok(Some(SchemaRecord {
            text,
            revision,
            format,
        })),
        _ => Err(StoreError::unreadable("schema")),
    }
}

/// Reads the relationships of `doubtful` shapes, such that a commit conflicts if any is changed meanwhile.
///
/// # Errors
///
/// [`StoreError::Misfits`] with the shapes of which some do not fit, or too many are stored to tell.
async fn judge(
    transaction: &dyn Transaction,
    space: Keyspace,
    doubtful: &[Shape],
    fit: &FitCheck<'_>,
) -> Result<(), StoreError> {
    let (mut shapes, mut misfits) = (Vec::new(), Vec::<RelationshipKey>::new());
    let mut read = 0;
    for shape in doubtful {
        let filter = shape_filter(shape);
        let mut fits = true;
        let mut after = Some(Vec::new());
        while let Some(position) = after.take_if(|_| read < MAX_JUDGED) {
            let scan = Scan {
                space,
                filter: &filter,
                after: (!position.is_empty()).then_some(&position),
                limit: MAX_SCANNED,
                max_bytes: SCAN_BYTES,
                weigh: stored_bytes,
                isolation: Isolation::Serializable,
                live_at: None,
            };
            let scanned = scan.run(transaction).await?;
            read += scanned.read;
            for found in scanned.found {
                background::breathe();
                if !shape.describes(&found.0, &found.1) {
                    continue;
                }
                let stored = whole(found);
                if !fit.relationship(&stored) {
                    fits = false;
                    if misfits.len() < MAX_EXAMPLES {
                        misfits.push(stored.key());
                    }
                }
            }
            after = scanned.next;
        }
        if after.is_some() || !fits {
            shapes.push(shape.clone());
        }
    }
    if shapes.is_empty() {
        return Ok(());
    }
    if misfits.is_empty() {
        misfits = examples(transaction, space, &shapes).await?;
    }
    Err(StoreError::Misfits {
        shapes,
        examples: misfits,
    })
}

/// What holds the relationships of a shape, and others.
fn shape_filter(shape: &Shape) -> RelationshipFilter {
    RelationshipFilter {
        resource_type: Some(Name::clone(&shape.resource_type)),
        relation: Some(Name::clone(&shape.relation)),
        ..RelationshipFilter::default()
    }
}

/// Some stored relationships of the given shapes, as far as a bounded scan finds them.
pub(super) async fn examples(
    transaction: &dyn Transaction,
    space: Keyspace,
    shapes: &[Shape],
) -> Result<Vec<RelationshipKey>, StoreError> {
    let mut examples = Vec::new();
    for shape in shapes.iter().take(MAX_EXAMPLES) {
        let filter = shape_filter(shape);
        let isolation = Isolation::Snapshot;
        let scan = Scan {
            space,
            filter: &filter,
            after: None,
            limit: MAX_SCANNED / 10,
            max_bytes: SCAN_BYTES,
            weigh: stored_bytes,
            isolation,
            live_at: None,
        };
        let found = scan.run(transaction).await?.found;
        let fitting = found
            .into_iter()
            .filter(|(key, terms)| shape.describes(key, terms));
        // One of each shape first; a single shape may fill the list.
        let share = if shapes.len() == 1 { MAX_EXAMPLES } else { 1 };
        examples.extend(fitting.take(share).map(|(key, _)| key));
    }
    examples.truncate(MAX_EXAMPLES);
    Ok(examples)
}
