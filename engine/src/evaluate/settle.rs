//! When the answer is certain: what one step of an evaluation ends with.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::expand::ROOT;
use super::glance::Glance;
use super::graph::{GateId, Status, UpperBounds};
use super::level::Level;
use super::{Decision, Evaluation, EvaluationError, Step, Verdict};
use crate::row::{Demand, Rows};

/// How many gates a pass over the whole graph goes through in the time that reading one row takes, about.
const GATES_A_WORK: u64 = 16;

/// What is known once nothing is left to explore.
enum Settled {
    /// The answer.
    Certain(Level),
    /// These are missing.
    Need(Vec<Demand>),
    /// There is more to explore after all.
    Explore,
}

impl Evaluation<'_> {
    pub(super) fn advance(&mut self, rows: &impl Rows) -> Result<Step, EvaluationError> {
        if self.graph.gates.len() == 0 {
            let bounds = Glance::new(&mut self.reader, rows, &self.check_object).member(self.check_member);
            if let Some(level @ (Level::False | Level::True)) = bounds.exact() {
                return self.conclude(level);
            }
        }
        if std::mem::take(&mut self.demanded) {
            self.retry_waiting();
        }
        let root = self.root();
        self.exploration.step_ends_at = self.reader.work.saturating_add(self.limits.quantum);
        loop {
            let explored = self.explore(rows);
            if self.graph.value(root) == Level::True {
                return self.conclude(Level::True);
            }
            if matches!(explored, Err(EvaluationError::LimitExceeded { .. }))
                && self.graph.bounds(root, &self.graph.upper_bounds()).exact() == Some(Level::False)
            {
                // Nothing that is still to be explored, or was left half done, can change it.
                return self.conclude(Level::False);
            }
            if explored? {
                if self.is_tired() {
                    return Ok(Step::Yield);
                }
                continue;
            }
            match self.settle(root)? {
                Settled::Certain(level) => return self.conclude(level),
                Settled::Need(demands) => {
                    self.demanded = true;
                    return Ok(Step::Need(demands));
                }
                Settled::Explore => {}
            }
        }
    }

    /// Narrows the check's bounds until they meet, or until it is clear what keeps them apart.
    fn settle(&mut self, root: GateId) -> Result<Settled, EvaluationError> {
        let exploration = &self.exploration;
        if exploration.demands.is_empty() && !exploration.has_beyond && !self.graph.has_exclusions() {
            return Ok(Settled::Certain(self.graph.value(root)));
        }
        if self.graph.is_one_union() && !exploration.demands.is_empty() {
            return Ok(Settled::Need(distinct(
                exploration.demands.iter().map(|(_, demand)| demand),
            )));
        }
        loop {
            self.reader.work += self.graph.size() / GATES_A_WORK;
            let upper = self.graph.upper_bounds();
            let known = self.graph.bounds(root, &upper).exact();
            if let Some(level @ (Level::False | Level::True)) = known {
                return Ok(Settled::Certain(level));
            }
            if self.graph.lift_exclusions(&upper) {
                self.reader.check_work()?;
                continue;
            }
            // An answer that is known to be conditional still wants the names that it is missing.
            let open = self.open_gates(root, &upper, known.is_some());
            let demands = self.demands_of(&open);
            if !demands.is_empty() {
                return Ok(Settled::Need(demands));
            }
            if open
                .iter()
                .any(|gate| self.graph.gates[*gate].status == Status::Beyond)
            {
                if self.reach_further(root) {
                    return Ok(Settled::Explore);
                }
                return Err(EvaluationError::LimitExceeded {
                    limit: "max_depth",
                    value: u64::from(self.limits.max_depth),
                });
            }
            if let Some(level) = known {
                return Ok(Settled::Certain(level));
            }
            if self.reader.schema.denies_paradoxes {
                self.denied_paradox = true;
                return Ok(Settled::Certain(self.graph.value(root)));
            }
            return Err(EvaluationError::RecursiveExclusion {
                member: self.reader.member_text(self.check_member),
                object: self.check_object.to_string(),
            });
        }
    }

    /// The gates whose operands are not explored and that keep the check's bounds apart, or, where these meet at
    /// unknown, that could add to what is `conditional` about it.
    fn open_gates(&self, root: GateId, upper: &UpperBounds, conditional: bool) -> FxHashSet<GateId> {
        let mut open = FxHashSet::default();
        let mut seen = vec![false; self.graph.gates.len()];
        let mut stack = vec![root];
        while let Some(gate) = stack.pop() {
            let Some(seen) = seen.get_mut(gate as usize) else {
                continue;
            };
            let bounds = self.graph.bounds(gate, upper);
            let matters = match bounds.exact() {
                None => true,
                Some(Level::Unknown) => conditional,
                Some(Level::False | Level::True) => false,
            };
            if std::mem::replace(seen, true) || !matters {
                continue;
            }
            if self.graph.gates[gate].status != Status::Open {
                open.insert(gate);
            }
            stack.extend(self.graph.edges_below(gate).map(|edge| edge.child));
        }
        open
    }

    /// What the open gates wait for.
    fn demands_of(&self, open: &FxHashSet<GateId>) -> Vec<Demand> {
        let waiting = self.exploration.demands.iter();
        let waiting = waiting.filter(|(gate, _)| open.contains(gate));
        distinct(waiting.map(|(_, demand)| demand))
    }

    /// Explores the gates that were met too deep at first but lie within the limit by another way: which way is met
    /// first depends on which rows are at hand. `false` if there are none.
    fn reach_further(&mut self, root: GateId) -> bool {
        let mut depths = vec![u32::MAX; self.graph.gates.len()];
        let mut queue = VecDeque::from([(root, 0u32)]);
        let mut reached = Vec::new();
        while let Some((gate, depth)) = queue.pop_front() {
            match depths.get_mut(gate as usize) {
                Some(known) if depth < *known => *known = depth,
                _ => continue,
            }
            if depth <= self.limits.max_depth && self.graph.gates[gate].status == Status::Beyond {
                reached.push((gate, depth));
            }
            for edge in self.graph.edges_below(gate) {
                if edge.hop {
                    queue.push_back((edge.child, depth.saturating_add(1)));
                } else {
                    queue.push_front((edge.child, depth));
                }
            }
        }
        for (gate, depth) in &reached {
            self.revive(*gate, *depth);
        }
        !reached.is_empty()
    }

    fn conclude(&mut self, level: Level) -> Result<Step, EvaluationError> {
        let decision = match level {
            Level::True => Decision::Allow,
            Level::False => Decision::Deny,
            Level::Unknown => Decision::Conditional {
                missing: self.missing(ROOT)?,
            },
        };
        let verdict = Verdict {
            decision,
            valid_until: self.reader.valid_until,
            used_context: self.reader.used_context,
            work: self.reader.work,
        };
        self.verdict = Some(verdict.clone());
        Ok(Step::Done(verdict))
    }
}

/// Each demand once; a scan of a row makes a probe of it needless.
fn distinct<'d>(demands: impl Iterator<Item = &'d Demand> + Clone) -> Vec<Demand> {
    let scanned: FxHashSet<_> = demands
        .clone()
        .filter_map(|demand| match demand {
            Demand::Scan(key) => Some(key),
            Demand::Probe(..) => None,
        })
        .collect();
    let mut named = FxHashSet::default();
    demands
        .filter(|demand| !matches!(demand, Demand::Probe(key, _) if scanned.contains(key)))
        .filter(|demand| named.insert(*demand))
        .cloned()
        .collect()
}
