//! Exploration: turns sub-checks into gates, breadth first, as rows are at hand.

use std::collections::VecDeque;

use super::glance::Glance;
use super::graph::{GateId, NONE, Status};
use super::level::Level;
use super::{Evaluation, EvaluationError};
use crate::noun::ObjectId;
use crate::row::{Demand, Rows};
use crate::schema::{Expr, MemberId, SlotId, TypeId};

/// The check's own gate: always the first.
pub(super) const ROOT: GateId = 0;

/// What is still to be explored.
#[derive(Debug, Default)]
pub(super) struct Exploration<'a> {
    tasks: Vec<Task<'a>>,
    queue: VecDeque<u32>,
    /// What the waiting tasks wait for.
    pub(super) demands: Vec<(GateId, Demand)>,
    /// The tasks that wait for rows.
    pub(super) waiting: Vec<u32>,
    /// Whether a gate was met that lies too deep.
    pub(super) has_beyond: bool,
    /// The work at which the step ends.
    pub(super) step_ends_at: u64,
}

/// The operands of one gate (an `Any`) that are still to be linked.
#[derive(Debug, Clone)]
struct Task<'a> {
    gate: GateId,
    place: Place,
    work: Work<'a>,
}

/// Where a task stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The member being decided, to which `this` and `self` refer.
    pub(super) member: MemberId,
    pub(super) object: ObjectId,
    pub(super) depth: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Work<'a> {
    /// A whole sub-check.
    Member,
    /// An expression of the place's member.
    Expr(&'a Expr),
    /// The entry of one subject.
    Probe(SlotId, ObjectId),
    /// Some of a union's operands.
    Operands(&'a [Expr]),
    /// All subjects of a slot, or those after one, each followed to a member.
    Follow(SlotId, MemberId, Option<ObjectId>),
    /// All subjects of a relation, all of whom must have the target.
    FollowAll(MemberId, &'a [(TypeId, MemberId)], Option<Halfway>),
}

/// How far the subjects of a relation were followed, all of whom must have a target.
#[derive(Debug, Clone)]
pub(super) struct Halfway {
    /// The gate of those that were followed: an `All`, not sealed yet.
    pub(super) all: GateId,
    /// Which of the relation's rows is to be gone on with, and after which subject.
    pub(super) row: usize,
    pub(super) after: ObjectId,
    /// Whether any subject counted.
    pub(super) any_subject: bool,
}

/// A part of an expression, as far as it is known. What caveats leave undecided is a gate, which remembers them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand {
    False,
    True,
    Gate(GateId),
}

impl<'a> Evaluation<'a> {
    /// The check's own gate, made if it is not there yet.
    pub(super) fn root(&mut self) -> GateId {
        if self.graph.gates.len() == 0 {
            let place = Place {
                member: self.check_member,
                object: self.check_object.clone(),
                depth: 0,
            };
            self.add_node(place);
        }
        ROOT
    }

    /// Does the next task; `false` if there is none.
    pub(super) fn explore(&mut self, rows: &impl Rows) -> Result<bool, EvaluationError> {
        let Some(at) = self.exploration.queue.pop_front() else {
            return Ok(false);
        };
        let Some(task) = self.exploration.tasks.get(at as usize) else {
            return Ok(true);
        };
        let gate = task.gate;
        if gate != ROOT && !self.graph.is_needed(gate) {
            self.graph.gates[gate].status = Status::Dormant;
            return Ok(true);
        }
        let task = task.clone();
        let demanded = self.exploration.demands.len();
        if let Some(rest) = self.run(rows, &task)? {
            if let Some(task) = self.exploration.tasks.get_mut(at as usize) {
                task.work = rest;
            }
            self.enqueue(at);
            return Ok(true);
        }
        self.graph.gates[gate].status = if self.demanded_by(gate, demanded) {
            self.exploration.waiting.push(at);
            Status::Waiting
        } else {
            Status::Open
        };
        self.reader.check_work()?;
        Ok(true)
    }

    /// Whether the gate itself, not one made below it, waits for a demand made since there were `before`.
    fn demanded_by(&self, gate: GateId, before: usize) -> bool {
        let mut new = self.exploration.demands.iter().skip(before);
        new.any(|(waiting, _)| *waiting == gate)
    }

    /// Puts every task that waits for rows into the queue again.
    pub(super) fn retry_waiting(&mut self) {
        self.exploration.demands.clear();
        for at in std::mem::take(&mut self.exploration.waiting) {
            self.enqueue(at);
        }
    }

    /// Explores a gate after all, which was put aside or seemed too deep, as one at `depth`.
    pub(super) fn revive(&mut self, gate: GateId, depth: u32) {
        let at = self.graph.gates[gate].task;
        if let Some(task) = self.exploration.tasks.get_mut(at as usize) {
            task.place.depth = task.place.depth.min(depth);
            self.enqueue(at);
        }
    }

    pub(super) fn enqueue(&mut self, at: u32) {
        if let Some(task) = self.exploration.tasks.get(at as usize) {
            self.graph.gates[task.gate].status = Status::Queued;
            self.exploration.queue.push_back(at);
        }
    }

    pub(super) fn add_task(&mut self, place: Place, work: Work<'a>) -> GateId {
        let gate = self.graph.add_any();
        let at = u32::try_from(self.exploration.tasks.len()).unwrap_or(NONE);
        self.graph.gates[gate].task = at;
        self.exploration.tasks.push(Task { gate, place, work });
        gate
    }

    /// A gate for a sub-check that is met for the first time.
    fn add_node(&mut self, place: Place) -> GateId {
        let node = (place.member, place.object.clone());
        let too_deep = place.depth > self.limits.max_depth;
        let gate = self.add_task(place, Work::Member);
        self.gates_by_node.insert(node, gate);
        if too_deep {
            self.exploration.has_beyond = true;
            self.graph.gates[gate].status = Status::Beyond;
        } else {
            self.enqueue(self.graph.gates[gate].task);
        }
        gate
    }

    /// The sub-check of `member` of `object`.
    pub(super) fn visit(&mut self, rows: &impl Rows, place: Place) -> Operand {
        if let Some(gate) = self.gates_by_node.get(&(place.member, place.object.clone())) {
            let gate = *gate;
            return match self.graph.value(gate) {
                Level::True => Operand::True,
                _ => {
                    let status = self.graph.gates[gate].status;
                    let reachable = status == Status::Beyond && place.depth <= self.limits.max_depth;
                    if status == Status::Dormant || reachable {
                        self.revive(gate, place.depth);
                    }
                    Operand::Gate(gate)
                }
            };
        }
        if self.reader.is_subject(place.member, &place.object) {
            return Operand::True;
        }
        if place.depth > self.limits.max_depth {
            // Not even a glance: what lies too deep must not depend on which rows are at hand.
            return Operand::Gate(self.add_node(place));
        }
        let bounds = Glance::new(&mut self.reader, rows, &place.object).member(place.member);
        match bounds.exact() {
            Some(Level::False) => Operand::False,
            Some(Level::True) => Operand::True,
            Some(Level::Unknown) | None => Operand::Gate(self.add_node(place)),
        }
    }

    /// Whether the step has done its quantum.
    pub(super) fn is_tired(&self) -> bool {
        self.reader.work >= self.exploration.step_ends_at
    }

    /// Does a task; what is left of it, where the step's quantum ends it before.
    fn run(&mut self, rows: &impl Rows, task: &Task<'a>) -> Result<Option<Work<'a>>, EvaluationError> {
        let (gate, place) = (task.gate, &task.place);
        match &task.work {
            Work::Member => {
                let schema = self.reader.schema;
                let member = schema.members().get(place.member.index());
                let member = member.ok_or(EvaluationError::UnknownMember(place.member))?;
                if self.reader.is_subject(place.member, &place.object) {
                    self.graph.raise(gate, Level::True);
                    return Ok(None);
                }
                self.build_into(rows, gate, &member.expr, place, 0)?;
            }
            Work::Expr(expr) => self.build_into(rows, gate, expr, place, 0)?,
            Work::Operands(operands) => self.union_into(rows, gate, operands, place, 0)?,
            Work::Probe(slot, subject) => self.probe_into(rows, gate, place, *slot, subject),
            Work::Follow(slot, target, after) => {
                let halfway = self.follow_into(rows, gate, place, *slot, *target, after.as_ref())?;
                return Ok(halfway.map(|halfway| Work::Follow(*slot, *target, Some(halfway))));
            }
            Work::FollowAll(relation, targets, halfway) => {
                let halfway =
                    self.follow_all_into(rows, gate, place, *relation, targets, halfway.as_ref())?;
                return Ok(halfway.map(|halfway| Work::FollowAll(*relation, targets, Some(halfway))));
            }
        }
        Ok(None)
    }
}
