//! The contexts that a request brings: each of a bounded size, and all of them together.

use inferadb_actors::context_bytes;
use inferadb_engine::context::Context;
use serde_json::value::RawValue;

use super::HttpSettings;
use super::problem::Problem;

/// How much memory the contexts of one request may take together, in bytes. A byte of JSON can come to a hundred.
const MAX_CONTEXTS_BYTES: usize = 32 << 20;

/// Reads the contexts of one request, each of a bounded size, and all together.
pub struct Contexts {
    max_bytes: usize,
    max_stored_bytes: usize,
    left: usize,
}

impl Contexts {
    /// Of a request.
    pub fn new(settings: &HttpSettings) -> Self {
        Self::with_most(settings.max_context_bytes, settings.max_stored_context_bytes)
    }

    /// Of at most so many bytes of JSON, or so many where they are a relationship's.
    pub const fn with_most(max_bytes: usize, max_stored_bytes: usize) -> Self {
        Self {
            max_bytes,
            max_stored_bytes,
            left: MAX_CONTEXTS_BYTES,
        }
    }

    /// One that the request asks with.
    pub fn read(&mut self, field: &str, raw: Option<&RawValue>) -> Result<Context, Problem> {
        let context = parse_context(field, raw, self.max_bytes)?;
        self.hold(field, &context)?;
        Ok(context)
    }

    /// One that is stored with a relationship, or would be.
    pub fn read_stored(&mut self, field: &str, raw: Option<&RawValue>) -> Result<Context, Problem> {
        let context = parse_context(field, raw, self.max_stored_bytes)?;
        self.hold(field, &context)?;
        Ok(context)
    }

    /// Takes room for a context that is made of others.
    pub fn hold(&mut self, field: &str, context: &Context) -> Result<(), Problem> {
        match self.left.checked_sub(context_bytes(context)) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                let detail = format!(
                    "with `{field}` the contexts of the request take more than {MAX_CONTEXTS_BYTES} bytes of memory"
                );
                Err(Problem::invalid("context_too_large", field, detail))
            }
        }
    }
}

/// A caveat context: a JSON object of at most `max_bytes`.
fn parse_context(field: &str, raw: Option<&RawValue>, max_bytes: usize) -> Result<Context, Problem> {
    let Some(raw) = raw else { return Ok(Context::new()) };
    if raw.get().len() > max_bytes {
        let detail = format!(
            "`{field}` is at most {max_bytes} bytes of JSON, this one has {}",
            raw.get().len()
        );
        return Err(Problem::invalid("context_too_large", field, detail));
    }
    crate::context::parse(raw.get()).map_err(|error| {
        let text = error.to_string();
        // The position is one within the context alone.
        let message = text
            .rsplit_once(" at line ")
            .map_or(text.as_str(), |(message, _)| message);
        Problem::invalid("invalid_value", field, format!("`{field}`: {message}"))
    })
}
