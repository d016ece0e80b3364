//! Compiled schemas in memory: vaults whose schemas have the same text share one.
//!
//! Only memory is shared, no work: a schema is compiled before it is looked for here, and plans of lists stay each vault's own. How
//! long a vault takes to be activated tells nobody whether another has the same schema.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::view::{SchemaParts, VaultSchema};

/// The compiled schemas of all active vaults. Clones share them.
#[derive(Clone, Default)]
pub struct Schemas(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    /// By a keyed hash of their text: whoever writes schemas must not choose what they are found under.
    by_hash: HashMap<u64, Vec<Weak<SchemaParts>>, ahash::RandomState>,
    hasher: ahash::RandomState,
    /// How many there may be until those that nobody holds any more are looked for.
    sweep_at: usize,
    len: usize,
}

impl Schemas {
    /// The same schema, sharing its parts with an equal one that is held already.
    pub fn share(&self, schema: VaultSchema) -> VaultSchema {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = held.hasher.hash_one(&schema.text);
        if held.len >= held.sweep_at {
            held.sweep();
        }
        let equals = held.by_hash.entry(hash).or_default();
        let known = equals.iter().find_map(|known| {
            let known = known.upgrade()?;
            (known.format == schema.format && known.text == schema.text).then_some(known)
        });
        match known {
            Some(known) => schema.with_parts(known),
            None => {
                equals.push(schema.weak_parts());
                held.len += 1;
                schema
            }
        }
    }
}

impl Held {
    fn sweep(&mut self) {
        self.by_hash.retain(|_, equals| {
            equals.retain(|parts| parts.strong_count() > 0);
            !equals.is_empty()
        });
        self.by_hash.shrink_to_fit();
        self.len = self.by_hash.values().map(Vec::len).sum();
        self.sweep_at = (2 * self.len).max(64);
    }
}

#[cfg(test)]
mod tests {
    use inferadb_engine::schema::Format;

    use super::*;

    fn schema(text: &str) -> VaultSchema {
        let compiled = inferadb_engine::schema::compile(text).unwrap().schema;
        VaultSchema::new(compiled, text.to_owned(), None)
    }

    #[test]
    fn equal_texts_of_one_language_are_held_once() {
        let schemas = Schemas::default();
        let first = schemas.share(schema("definition user {}"));
        let second = schemas.share(schema("definition user {}"));
        let other = schemas.share(schema("definition person {}"));
        let foreign = schemas.share(schema("definition user {}").in_format(Format::OpenFga));
        assert!(std::ptr::eq(&raw const *first, &raw const *second));
        assert!(!std::ptr::eq(&raw const *first, &raw const *other));
        assert!(!std::ptr::eq(&raw const *first, &raw const *foreign));
        assert_ne!(first.generation, second.generation);
        assert_eq!(first.shared_bytes(), first.bytes() / 2);
        drop(second);
        assert_eq!(first.shared_bytes(), first.bytes());
    }

    #[test]
    fn what_nobody_holds_any_more_is_forgotten() {
        let schemas = Schemas::default();
        for number in 0..1_000 {
            schemas.share(schema(&format!("definition type_{number} {{}}")));
        }
        assert!(schemas.0.lock().unwrap().by_hash.len() <= 65);
    }
}
