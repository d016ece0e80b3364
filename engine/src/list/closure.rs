//! From a resource towards its subjects: every row in which subjects of the class can stand.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::ops::Bound;

use rustc_hash::FxHashMap;

use super::explore::{MAX_READINGS, Progress};
use super::judge::{Judge, Weight};
use super::merge::Found;
use super::plan::{Breadth, Plan, Way};
use crate::noun::ObjectId;
use crate::row::{RowKey, Rows};
use crate::schema::{MemberId, SlotId, SlotSubject};

/// A member of an object.
type Node = (MemberId, ObjectId);

/// See the module's text. Works from a plan; what is sure is visited before what is not, so that each node is done once.
#[derive(Debug)]
pub(super) struct Closure {
    pub(super) breadth: Breadth,
    /// Whether each node that was met is sure.
    visited: FxHashMap<Node, bool>,
    sure: VecDeque<Node>,
    unsure: VecDeque<Node>,
    waiting: Vec<Node>,
    /// Whether one of those that wait is sure.
    waits_sure: bool,
    /// Whether a wildcard counts, or may, in one of the rows.
    pub(super) has_wildcard: bool,
    pub(super) found: Found,
}

impl Closure {
    /// Begins at the resource.
    pub(super) fn new(plan: &Plan, resource: &ObjectId) -> Self {
        let mut closure = Self {
            breadth: plan.breadth,
            visited: FxHashMap::default(),
            sure: VecDeque::new(),
            unsure: VecDeque::new(),
            waiting: Vec::new(),
            waits_sure: false,
            has_wildcard: false,
            found: Found::default(),
        };
        closure.visit(plan, plan.target, resource, true);
        closure
    }

    /// Goes on until everything is found, or rows are missing, or the step is over. With the selected plan it is done as soon
    /// as it meets a wildcard.
    pub(super) fn step(&mut self, plan: &Plan, judge: &mut Judge<'_>, rows: &impl Rows) -> Progress {
        self.waits_sure = false;
        // First what waited: its rows are there by now, or demanded again.
        for node in std::mem::take(&mut self.waiting).into_iter().rev() {
            match self.visited.get(&node) {
                Some(true) => self.sure.push_front(node),
                _ => self.unsure.push_front(node),
            }
        }
        loop {
            let (node, sure) = match self.sure.pop_front() {
                Some(node) => (node, true),
                None if self.waits_sure => return Progress::Waiting,
                None => match self.unsure.pop_front() {
                    // It was met again by a sure way, and done.
                    Some(node) if self.visited.get(&node) == Some(&true) => continue,
                    Some(node) => (node, false),
                    None if self.waiting.is_empty() => return Progress::Done,
                    None => return Progress::Waiting,
                },
            };
            if !has_rows(plan, judge, rows, &node) {
                self.waits_sure |= sure;
                self.waiting.push(node);
                if self.waiting.len() >= MAX_READINGS {
                    return Progress::Waiting;
                }
                continue;
            }
            self.follow(plan, judge, rows, &node, sure);
            if self.has_wildcard && self.breadth == Breadth::Selected {
                return Progress::Done;
            }
            if judge.is_tired() {
                return Progress::Tired;
            }
        }
    }

    fn follow(&mut self, plan: &Plan, judge: &mut Judge<'_>, rows: &impl Rows, node: &Node, sure: bool) {
        judge.charge(1);
        let Some(part) = plan.part(node.0) else { return };
        for (way, way_sure) in &part.ways {
            let sure = sure && *way_sure;
            match way {
                Way::Itself => self.found.note_id(&node.1, sure),
                Way::Same(member) => self.visit(plan, *member, &node.1, sure),
                Way::Seed(slot) if !is_wildcard(judge, *slot) => self.found.note_row(*slot, &node.1, sure),
                Way::Seed(slot) => {
                    for (_, weight) in weighed(judge, rows, *slot, &node.1) {
                        self.has_wildcard |= weight != Weight::Void;
                    }
                }
                Way::Hop(slot, member) => {
                    for (subject, weight) in weighed(judge, rows, *slot, &node.1) {
                        if weight != Weight::Void {
                            self.visit(plan, *member, &subject, sure && weight == Weight::Counts);
                        }
                    }
                }
            }
        }
    }

    fn visit(&mut self, plan: &Plan, member: MemberId, object: &ObjectId, sure: bool) {
        let known = self.visited.entry((member, object.clone()));
        let is_news = match &known {
            Entry::Vacant(_) => true,
            Entry::Occupied(held) => sure && !held.get(),
        };
        if !is_news {
            return;
        }
        *known.or_default() = sure;
        if plan.class.relation == Some(member) {
            self.found.note_id(object, sure);
        }
        let queue = if sure { &mut self.sure } else { &mut self.unsure };
        queue.push_back((member, object.clone()));
    }
}

/// Whether all rows that lead on from a node are at hand; demands those that are not.
fn has_rows(plan: &Plan, judge: &mut Judge<'_>, rows: &impl Rows, node: &Node) -> bool {
    let ways = plan.part(node.0).map_or(&[][..], |part| &part.ways);
    let mut complete = true;
    for (way, _) in ways {
        let slot = match way {
            Way::Hop(slot, _) => *slot,
            Way::Seed(slot) if is_wildcard(judge, *slot) => *slot,
            Way::Seed(_) | Way::Itself | Way::Same(_) => continue,
        };
        complete &= judge.has_row(rows, &row_key(slot, &node.1));
    }
    complete
}

/// The subjects of a row that is at hand, and what their terms say.
fn weighed(
    judge: &mut Judge<'_>,
    rows: &impl Rows,
    slot: SlotId,
    object: &ObjectId,
) -> Vec<(ObjectId, Weight)> {
    let entries = judge.entries(rows, &row_key(slot, object), &Bound::Unbounded, usize::MAX);
    let (entries, _) = entries.unwrap_or_default();
    let weighed = entries.into_iter().map(|entry| {
        let weight = judge.weigh(entry.terms.as_deref());
        (entry.subject, weight)
    });
    weighed.collect()
}

fn is_wildcard(judge: &Judge<'_>, slot: SlotId) -> bool {
    let slot = judge.schema.slots().get(slot.index());
    slot.is_some_and(|slot| slot.subject == SlotSubject::Wildcard)
}

fn row_key(slot: SlotId, object: &ObjectId) -> RowKey {
    RowKey {
        slot,
        object: object.clone(),
    }
}
