//! Whether what a vault stores fits a new schema: by its shapes and, where a caveat's parameters change, by the
//! contexts that are stored under it.

use std::sync::Arc;

use inferadb_engine::noun::Relationship;
use inferadb_engine::schema::{Caveat, Schema};
use inferadb_storage::{SchemaFit, SchemaRecord, Shape, StoreError};

use super::load;
use crate::view::VaultSchema;

/// Judges what is stored by a new schema.
pub(crate) struct Fit {
    /// The new schema.
    pub(crate) new: Arc<VaultSchema>,
    /// What is known to be the current one. Another server may have replaced it.
    pub(crate) current: Arc<VaultSchema>,
}

impl SchemaFit for Fit {
    fn shapes(&self, stored: &[Shape]) -> Result<(), Vec<Shape>> {
        let misfits: Vec<Shape> = stored
            .iter()
            .filter(|shape| !self.new.fits_shape(shape))
            .cloned()
            .collect();
        if misfits.is_empty() { Ok(()) } else { Err(misfits) }
    }

    fn doubtful(&self, stored: &[Shape], held: Option<&SchemaRecord>) -> Result<Vec<Shape>, StoreError> {
        if stored.iter().all(|shape| shape.caveat.is_none()) {
            return Ok(Vec::new());
        }
        let held = match held {
            Some(record) if self.current.revision != Some(record.revision) => {
                let compiled = load::compile(Some(record.clone()))
                    .map_err(|_| StoreError::Damaged("the stored schema does not compile".into()))?;
                Arc::new(compiled)
            }
            _ => Arc::clone(&self.current),
        };
        let is_doubtful = |shape: &&Shape| {
            let old = caveat_of(shape, &held.compiled);
            match (old, caveat_of(shape, &self.new.compiled)) {
                (Some(old), Some(new)) => !accepts_what(old, new),
                // One that the old schema does not have is of relationships that were ignored until now.
                (None, Some(_)) => true,
                (_, None) => false,
            }
        };
        Ok(stored.iter().filter(is_doubtful).cloned().collect())
    }

    fn relationship(&self, stored: &Relationship) -> bool {
        self.new.compiled.fits(stored).is_ok()
    }
}

fn caveat_of<'a>(shape: &Shape, schema: &'a Schema) -> Option<&'a Caveat> {
    let id = schema.caveat_named(shape.caveat.as_ref()?)?;
    schema.caveats().get(id.index())
}

/// Whether every context that the `old` caveat takes is one that the `new` takes: it has the same parameters, and
/// perhaps more.
fn accepts_what(old: &Caveat, new: &Caveat) -> bool {
    old.parameters
        .iter()
        .all(|parameter| new.parameters.contains(parameter))
}
