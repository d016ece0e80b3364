//! From a subject towards the target: every object from which further ones follow, found before the first page.
//!
//! What is found by a sure way is followed at once. What is found by an unsure one is verified first, so that a wide false
//! branch costs one check and not its width. What nothing follows from is not read here but left to the merge.

use std::collections::VecDeque;
use std::ops::Bound;

use rustc_hash::FxHashMap;

use super::judge::{Ask, Judge, Weight};
use super::merge::Found;
use super::plan::Plan;
use super::{ListDemand, Part, Stretch};
use crate::evaluate::{Check, Decision, Subject};
use crate::noun::ObjectId;
use crate::row::Rows;
use crate::schema::{MemberId, SlotSubject};

/// The most entries that are read of one row at once.
const CHUNK: usize = 1_000;
/// The most rows that are read side by side: however many are left, a step looks at these alone.
pub(super) const MAX_READINGS: usize = 256;
/// The most checks side by side.
const MAX_ASKS: usize = 128;

/// A member of an object.
type Node = (MemberId, ObjectId);

/// Where a node stands that leads on to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The subject has it for sure.
    Sure,
    /// It is to be verified.
    Unsure,
}

/// A row that is being read, and to which members of its objects it leads.
#[derive(Debug)]
struct Reading {
    stretch: Stretch,
    to: Vec<(MemberId, bool)>,
}

#[derive(Debug)]
struct Suspect<'a> {
    node: Node,
    ask: Box<Ask<'a>>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Everything is found.
    Done,
    /// Rows are missing, and were demanded.
    Waiting,
    /// The step is over.
    Tired,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Exploration<'a> {
    subject: Subject,
    standings: FxHashMap<Node, Standing>,
    /// Nodes to follow, and whether the subject has them for sure.
    ready: VecDeque<(Node, bool)>,
    readings: VecDeque<Reading>,
    /// Those of them that were demanded.
    under_way: Vec<Reading>,
    suspects: VecDeque<Node>,
    asked: Vec<Suspect<'a>>,
    parts: FxHashMap<Stretch, Part>,
    pub(super) found: Found,
}

impl<'a> Exploration<'a> {
    /// Begins at the subject itself.
    pub(super) fn new(plan: &Plan, subject: Subject) -> Self {
        let mut exploration = Self {
            subject,
            standings: FxHashMap::default(),
            ready: VecDeque::new(),
            readings: VecDeque::new(),
            under_way: Vec::new(),
            suspects: VecDeque::new(),
            asked: Vec::new(),
            parts: FxHashMap::default(),
            found: Found::default(),
        };
        exploration.begin(plan);
        exploration
    }

    fn begin(&mut self, plan: &Plan) {
        let id = self.subject.id.clone();
        if let Some(member) = self.subject.relation {
            self.arrive(plan, member, &id, true);
        } else if !id.is_wildcard() {
            for (member, sure) in &plan.selves {
                self.arrive(plan, *member, &id, *sure);
            }
        }
    }

    /// The slots in which the subject itself can stand are the first rows to read.
    pub(super) fn seed(&mut self, plan: &Plan, judge: &Judge<'_>) {
        for (slot, member, sure) in &plan.seeds {
            let subject = judge.schema.slots().get(slot.index()).map(|slot| slot.subject);
            let of = match subject {
                Some(SlotSubject::Object) if !self.subject.id.is_wildcard() => self.subject.id.clone(),
                Some(SlotSubject::Wildcard) => ObjectId::wildcard(),
                _ => continue,
            };
            self.read(plan, *slot, &of, &[(*member, *sure)], true);
        }
    }

    pub(super) fn supply(&mut self, demand: ListDemand, part: Part) {
        if let ListDemand::Resources(stretch) = demand {
            self.parts.insert(stretch, part);
        }
    }

    /// Goes on until everything is found, or rows are missing, or the step is over.
    pub(super) fn step(&mut self, plan: &Plan, judge: &mut Judge<'a>, rows: &impl Rows) -> Progress {
        loop {
            while let Some((node, sure)) = self.ready.pop_front() {
                self.follow(plan, judge, &node, sure);
                if judge.is_tired() {
                    return Progress::Tired;
                }
            }
            if self.take_parts(plan, judge) {
                if judge.is_tired() {
                    return Progress::Tired;
                }
                continue;
            }
            let room = MAX_READINGS.saturating_sub(self.under_way.len());
            let next = self.readings.drain(..room.min(self.readings.len()));
            self.under_way.extend(next);
            for reading in &self.under_way {
                judge.want(ListDemand::Resources(reading.stretch.clone()));
            }
            // All that is sure comes before the first check: much of what looked unsure is spared one.
            if !self.under_way.is_empty() {
                return Progress::Waiting;
            }
            if self.suspects.is_empty() && self.asked.is_empty() {
                return Progress::Done;
            }
            let moved = self.verify(plan, judge, rows);
            if judge.is_tired() {
                return Progress::Tired;
            }
            if !moved {
                return Progress::Waiting;
            }
        }
    }

    /// Takes up what was read; says whether there was anything.
    fn take_parts(&mut self, plan: &Plan, judge: &mut Judge<'a>) -> bool {
        if self.parts.is_empty() {
            return false;
        }
        let parts = std::mem::take(&mut self.parts);
        let mut moved = false;
        for mut reading in std::mem::take(&mut self.under_way) {
            let Some(part) = parts.get(&reading.stretch) else {
                self.under_way.push(reading);
                continue;
            };
            moved = true;
            judge.charge(1 + part.entries.len() as u64);
            for entry in &part.entries {
                let weight = judge.weigh(entry.terms.as_deref());
                if weight == Weight::Void {
                    continue;
                }
                for (member, sure) in &reading.to {
                    self.arrive(plan, *member, &entry.id, *sure && weight == Weight::Counts);
                }
            }
            if let Some(last) = part.entries.last()
                && !part.is_last
            {
                reading.stretch.start = Bound::Excluded(last.id.clone());
                self.under_way.push(reading);
            }
        }
        moved
    }

    /// Goes on with the checks of what is unsure; says whether one was decided.
    fn verify(&mut self, plan: &Plan, judge: &mut Judge<'a>, rows: &impl Rows) -> bool {
        while self.asked.len() < MAX_ASKS {
            let Some(node) = self.suspects.pop_front() else {
                break;
            };
            if self.standings.get(&node) == Some(&Standing::Sure) {
                continue;
            }
            let ask = judge.ask(Check {
                member: node.0,
                object: node.1.clone(),
                subject: self.subject.clone(),
            });
            self.asked.push(Suspect { node, ask });
        }
        let mut moved = self.asked.is_empty();
        let mut open = Vec::new();
        for mut suspect in std::mem::take(&mut self.asked) {
            if judge.is_tired() {
                open.push(suspect);
                continue;
            }
            match judge.pursue(rows, &mut suspect.ask) {
                None => open.push(suspect),
                Some(ruling) => {
                    moved = true;
                    let sure = match ruling {
                        Ok(Decision::Deny) => continue,
                        Ok(Decision::Allow) => true,
                        // What cannot be told here is followed: the check of what comes of it will tell.
                        Ok(Decision::Conditional { .. }) | Err(_) => false,
                    };
                    self.settle(plan, suspect.node, sure);
                }
            }
        }
        self.asked = open;
        moved
    }

    /// What stands in for a node that the subject has for sure, or perhaps.
    fn settle(&mut self, plan: &Plan, node: Node, sure: bool) {
        if sure && self.standings.insert(node.clone(), Standing::Sure) == Some(Standing::Sure) {
            return;
        }
        if let Some(arrives) = plan.part(node.0).and_then(|part| part.arrives) {
            self.found.note_id(&node.1, sure && arrives);
        }
        self.ready.push_back((node, sure));
    }

    fn arrive(&mut self, plan: &Plan, member: MemberId, object: &ObjectId, sure: bool) {
        let Some(part) = plan.part(member) else { return };
        if !part.leads_on {
            if let Some(arrives) = part.arrives {
                self.found.note_id(object, sure && arrives);
            }
            return;
        }
        let node = (member, object.clone());
        match (self.standings.get(&node), sure) {
            (Some(Standing::Sure), _) | (Some(Standing::Unsure), false) => {}
            (_, true) => self.settle(plan, node, true),
            (None, false) => {
                self.standings.insert(node.clone(), Standing::Unsure);
                self.suspects.push_back(node);
            }
        }
    }

    fn follow(&mut self, plan: &Plan, judge: &mut Judge<'a>, node: &Node, sure: bool) {
        judge.charge(1);
        let Some(part) = plan.part(node.0) else { return };
        for (member, step_sure) in &part.same {
            self.arrive(plan, *member, &node.1, sure && *step_sure);
        }
        for (slot, to) in &part.hops {
            self.read(plan, *slot, &node.1, to, sure);
        }
    }

    /// Reads a row now as far as something follows from it, and leaves it to the merge as far as it arrives.
    fn read(
        &mut self,
        plan: &Plan,
        slot: crate::schema::SlotId,
        of: &ObjectId,
        to: &[(MemberId, bool)],
        sure: bool,
    ) {
        let mut now = Vec::new();
        for (member, step_sure) in to {
            let sure = sure && *step_sure;
            match plan.part(*member) {
                Some(part) if part.leads_on => now.push((*member, sure)),
                Some(part) => {
                    if let Some(arrives) = part.arrives {
                        self.found.note_row(slot, of, sure && arrives);
                    }
                }
                None => {}
            }
        }
        if !now.is_empty() {
            self.readings.push_back(Reading {
                stretch: Stretch {
                    slot,
                    of: of.clone(),
                    start: Bound::Unbounded,
                    limit: CHUNK,
                },
                to: now,
            });
        }
    }
}
