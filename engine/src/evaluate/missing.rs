//! What a conditional decision depends on: the names of the missing values, gathered over all undecided gates.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::graph::GateId;
use super::level::Level;
use super::{Evaluation, EvaluationError};
use crate::row::Terms;

/// The terms that leave gates undecided.
#[derive(Debug, Default)]
pub(super) struct Undecided(FxHashMap<GateId, Vec<Arc<Terms>>>);

impl Undecided {
    /// Remembers that the gate is undecided under these terms.
    pub(super) fn note(&mut self, gate: GateId, terms: Option<&Arc<Terms>>) {
        if let Some(terms) = terms {
            self.0.entry(gate).or_default().push(Arc::clone(terms));
        }
    }
}

impl Evaluation<'_> {
    /// The missing names that matter; sorted, each once. The failure of a caveat that matters is the answer.
    ///
    /// What is true or false, no missing value changes: only the undecided operands of undecided gates matter.
    pub(super) fn missing(&self, root: GateId) -> Result<Vec<String>, EvaluationError> {
        // Where paradoxes are denied, what is open between two bounds is undecided as well: a value can end the paradox.
        let may_be_open = self.reader.schema.denies_paradoxes && self.graph.has_exclusions();
        let upper = may_be_open.then(|| self.graph.upper_bounds());
        let is_undecided = |gate| match &upper {
            None => self.graph.value(gate) == Level::Unknown,
            Some(upper) => !matches!(
                self.graph.bounds(gate, upper).exact(),
                Some(Level::False | Level::True)
            ),
        };
        let mut names = BTreeSet::new();
        let mut seen = vec![false; self.graph.gates.len()];
        let mut stack = vec![root];
        while let Some(gate) = stack.pop() {
            let Some(seen) = seen.get_mut(gate as usize) else {
                continue;
            };
            if std::mem::replace(seen, true) || !is_undecided(gate) {
                continue;
            }
            for terms in self.undecided.0.get(&gate).into_iter().flatten() {
                names.extend(self.reader.caveat_names(terms)?);
            }
            stack.extend(self.graph.edges_below(gate).map(|edge| edge.child));
        }
        Ok(names.into_iter().collect())
    }
}
