//! Regular expressions of `matches`: compiled within bounds, searched in time linear in the text.

use regex::{Regex, RegexBuilder};

use super::budget::Budget;
use super::evaluate::{Answer, Stop};
use super::function::shown;
use super::limits::MAX_PATTERN_BYTES;
use super::value::Value;

/// Steps of compiling a regular expression that is not a literal.
const COMPILE_STEPS: u64 = 2_000;

/// The smallest size that regular expressions are weighed by, in bytes.
const SMALLEST_BYTES: usize = 16 * 1024;

/// A compiled regular expression and what it costs to search with it.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    regex: Regex,
    /// A quarter of the steps for each 16 bytes of text: the compiled size bounds the work that a byte can cause.
    weight: u64,
}

impl Pattern {
    /// Compiles a literal; `None` if that does not work, which then fails only when it is evaluated.
    pub(super) fn compile(source: &str) -> Option<Self> {
        Self::within(source).ok()
    }

    /// Compiles a regular expression that was computed.
    pub(super) fn compile_at_evaluation(source: &str, budget: &mut Budget) -> Result<Self, Stop> {
        budget.spend(COMPILE_STEPS)?;
        budget.spend_items(source.len())?;
        Self::within(source).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => Stop::Limit("regular expression size"),
            _ => Stop::Failed(format!("`{}` is no regular expression", shown(source))),
        })
    }

    /// Tries growing sizes: the first that is enough tells how large the compiled form is.
    fn within(source: &str) -> Result<Self, regex::Error> {
        let mut size = SMALLEST_BYTES;
        loop {
            let built = RegexBuilder::new(source)
                .size_limit(size)
                .dfa_size_limit(MAX_PATTERN_BYTES)
                .nest_limit(50)
                .build();
            match built {
                Ok(regex) => {
                    return Ok(Self {
                        regex,
                        weight: (size / SMALLEST_BYTES) as u64,
                    });
                }
                Err(regex::Error::CompiledTooBig(_)) if size < MAX_PATTERN_BYTES => size *= 4,
                Err(error) => return Err(error),
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
