//! The schema of a vault: stored atomically with the proof that what is stored fits it.

use futures_util::future::try_join;
use inferadb_engine::noun::{Name, RelationshipKey, Timestamp};

use super::change::{ChangeKind, PIECE_BYTES, append};
use super::filter::{MAX_SCANNED, RelationshipFilter, Scan};
use super::retry::{Marker, Retry};
use super::shape::{Shape, claim_shapes};
use super::vaults::require_vault;
use super::{SchemaRecord, Store, StoreError};
use crate::id::{Revision, VaultId};
use crate::keys;
use crate::kv::{Isolation, RangeOptions, Transaction, Versionstamp};

/// The longest schema, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 1_000_000;
/// How many misfitting relationships are named.
const MAX_EXAMPLES: usize = 5;

/// Is given the shapes that are stored; answers those that do not fit.
pub type FitCheck<'a> = dyn Fn(&[Shape]) -> Result<(), Vec<Shape>> + Send + Sync + 'a;

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

impl Store {
    /// Stores the schema of `vault`. `fit` is given every shape that is stored and answers those that do not fit; no
    /// relationship of a new shape can slip in between the check and the commit. It may be called several times.
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
        require_vault(&*transaction, vault, Isolation::Serializable).await?;
        let shapes = claim_shapes(&mut *transaction, vault).await?;
        if !schema.force
            && let Err(shapes) = fit(&shapes)
        {
            let examples = examples(&*transaction, vault, &shapes).await?;
            return Err(StoreError::Misfits { shapes, examples });
        }
        let held = read_schema(&*transaction, vault, Isolation::Serializable).await?;
        if let Some(held) = held
            && held.text == schema.text
            && held.format == schema.format
        {
            return Ok(SchemaPut {
                revision: held.revision,
                changed: false,
            });
        }
        let mut header = vec![schema.format];
        header.extend_from_slice(&(schema.text.len() as u32).to_be_bytes());
        transaction.set_versionstamped_value(&keys::schema_header(vault), &header);
        transaction.clear_range(keys::schema_pieces(vault));
        for (piece, bytes) in (0_u16..).zip(schema.text.as_bytes().chunks(PIECE_BYTES)) {
            transaction.set(&keys::schema_piece(vault, piece), bytes);
        }
        append(&mut *transaction, vault, schema.now, &ChangeKind::Schema)?;
        marker.set(&mut *transaction, &[]);
        let revision = Revision(transaction.commit().await?);
        Ok(SchemaPut {
            revision,
            changed: true,
        })
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

/// Some stored relationships of the given shapes, as far as a bounded scan finds them.
async fn examples(
    transaction: &dyn Transaction,
    vault: VaultId,
    shapes: &[Shape],
) -> Result<Vec<RelationshipKey>, StoreError> {
    let mut examples = Vec::new();
    for shape in shapes.iter().take(MAX_EXAMPLES) {
        let filter = RelationshipFilter {
            resource_type: Some(Name::clone(&shape.resource_type)),
            relation: Some(Name::clone(&shape.relation)),
            ..RelationshipFilter::default()
        };
        let isolation = Isolation::Snapshot;
        let scan = Scan {
            vault,
            filter: &filter,
            after: None,
            limit: MAX_SCANNED / 10,
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
