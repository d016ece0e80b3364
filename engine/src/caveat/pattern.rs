//! Regular expressions of `matches`: compiled within bounds, searched in time linear in the text.

use regex::{Regex, RegexBuilder};
use rustc_hash::FxHashMap;

use super::budget::Budget;
use super::evaluate::{Answer, Stop};
use super::function::shown;
use super::limits::{
    MAX_PATTERN_BYTES, MAX_PATTERN_SOURCE_BYTES, MAX_PATTERNS_BYTES, PATTERN_BYTES_PER_STEP,
};
use super::value::Value;

/// Bytes that a byte of a regular expression's source is weighed by: what it is parsed to.
const PARSED_BYTES: usize = 32;

/// The smallest size that regular expressions are weighed by, in bytes.
const SMALLEST_BYTES: usize = 16 * 1024;

/// A compiled regular expression and what it costs to search with it.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    regex: Regex,
    /// A quarter of the steps for each 16 bytes of text: the compiled size bounds the work that a byte can cause.
    weight: u64,
}

/// The literal regular expressions of a schema's caveats: each is compiled once, and all of them within a bound.
#[derive(Debug)]
pub(crate) struct Patterns {
    /// How many bytes may still be compiled to.
    bytes_left: usize,
    compiled: FxHashMap<String, Result<Pattern, PatternError>>,
}

/// Why there is no compiled form of a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatternError {
    /// It is no regular expression, or too large.
    Unfit,
    /// The schema has too many.
    Exhausted,
}

impl Default for Patterns {
    fn default() -> Self {
        Self {
            bytes_left: MAX_PATTERNS_BYTES,
            compiled: FxHashMap::default(),
        }
    }
}

impl Patterns {
    /// Compiles a literal.
    pub(super) fn compile(&mut self, source: &str) -> Result<Pattern, PatternError> {
        if let Some(known) = self.compiled.get(source) {
            return known.clone();
        }
        let mut spend = |bytes: usize| {
            self.bytes_left = self
                .bytes_left
                .checked_sub(bytes)
                .ok_or(PatternError::Exhausted)?;
            Ok(())
        };
        let compiled = Pattern::within(source, &mut spend)?.map_err(|_| PatternError::Unfit);
        self.compiled.insert(source.to_owned(), compiled.clone());
        compiled
    }
}

impl Pattern {
    /// Compiles a regular expression that was computed.
    pub(super) fn compile_at_evaluation(source: &str, budget: &mut Budget) -> Result<Self, Stop> {
        budget.spend_items(source.len())?;
        let mut spend = |bytes: usize| budget.spend_items(bytes / PATTERN_BYTES_PER_STEP);
        Self::within(source, &mut spend)?.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => Stop::Limit("regular expression size"),
            _ => Stop::Failed(format!("`{}` is no regular expression", shown(source))),
        })
    }

    /// Tries growing sizes: the first that is enough tells how large the compiled form is. Each is paid for before it
    /// is tried.
    fn within<E>(
        source: &str,
        spend: &mut impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Result<Self, regex::Error>, E> {
        let mut size = SMALLEST_BYTES;
        loop {
            if source.len() > MAX_PATTERN_SOURCE_BYTES {
                return Ok(Err(regex::Error::CompiledTooBig(MAX_PATTERN_SOURCE_BYTES)));
            }
            spend(size + source.len() * PARSED_BYTES)?;
            let built = RegexBuilder::new(source)
                .size_limit(size)
                .dfa_size_limit(MAX_PATTERN_BYTES)
                .nest_limit(50)
                .build();
            match built {
                Ok(regex) => {
                    return Ok(Ok(Self {
                        regex,
                        weight: (size / SMALLEST_BYTES) as u64,
                    }));
                }
                Err(regex::Error::CompiledTooBig(_)) if size < MAX_PATTERN_BYTES => size *= 4,
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Whether the expression matches anywhere in the text.
    pub(super) fn matches(&self, text: &str, budget: &mut Budget) -> Answer {
        let units = text.len() as u64 / 16 + 1;
        budget.spend(units.saturating_mul(self.weight * 4))?;
        Ok(Value::Bool(self.regex.is_match(text)))
    }
}
