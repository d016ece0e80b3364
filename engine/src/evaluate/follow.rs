//! Relationships: from the rows of a relation to operands of a gate.

use super::expand::{Operand, Place, Work};
use super::graph::{GateId, Status};
use super::level::Level;
use super::read::Held;
use super::{Evaluation, EvaluationError};
use crate::noun::ObjectId;
use crate::row::{Demand, RowKey, Rows};
use crate::schema::{MemberId, SlotId, SlotSubject, TypeId};

impl<'a> Evaluation<'a> {
    /// The relationships of the place's relation.
    pub(super) fn this_into(
        &mut self,
        rows: &impl Rows,
        gate: GateId,
        place: &Place,
    ) -> Result<(), EvaluationError> {
        let schema = self.reader.schema;
        let member = schema.members().get(place.member.index());
        let member = member.ok_or(EvaluationError::UnknownMember(place.member))?;
        for id in &member.slots {
            let slot = schema.slots().get(id.index());
            if let Some(subject) = slot.and_then(|slot| self.reader.probe_id(slot)) {
                let work = Work::Probe(*id, subject);
                self.part_into(rows, gate, place, work)?;
            }
        }
        for id in &member.slots {
            let slot = schema.slots().get(id.index());
            if let Some(SlotSubject::Userset(target)) = slot.map(|slot| slot.subject) {
                self.part_into(rows, gate, place, Work::Follow(*id, target))?;
            }
        }
        Ok(())
    }

    /// `relation->target`: whoever has the target on one of the relation's subjects.
    pub(super) fn arrow_into(
        &mut self,
        rows: &impl Rows,
        gate: GateId,
        place: &Place,
        relation: MemberId,
        targets: &'a [(TypeId, MemberId)],
    ) -> Result<(), EvaluationError> {
        let schema = self.reader.schema;
        let member = schema.members().get(relation.index());
        let member = member.ok_or(EvaluationError::UnknownMember(relation))?;
        for id in &member.slots {
            let Some(slot) = schema.slots().get(id.index()) else {
                continue;
            };
            if slot.subject == SlotSubject::Wildcard {
                continue;
            }
            if let Some(target) = target_of(targets, slot.subject_type) {
                self.part_into(rows, gate, place, Work::Follow(*id, target))?;
            }
        }
        Ok(())
    }

    /// Does one row's part of a gate at once if the row is at hand; otherwise a gate of its own waits for it.
    fn part_into(
        &mut self,
        rows: &impl Rows,
        gate: GateId,
        place: &Place,
        work: Work<'a>,
    ) -> Result<(), EvaluationError> {
        if self.graph.value(gate) == Level::True {
            return Ok(());
        }
        let demanded = self.exploration.demands.len();
        match &work {
            Work::Probe(slot, subject) => self.probe_into(rows, gate, place, *slot, subject),
            Work::Follow(slot, target) => self.follow_into(rows, gate, place, *slot, *target)?,
            Work::Member | Work::Expr(_) | Work::FollowAll(..) => {}
        }
        if self.exploration.demands.len() > demanded {
            let part = self.add_task(place.clone(), work);
            let at = self.graph.gates[part].task;
            self.graph.gates[part].status = Status::Waiting;
            self.exploration.waiting.push(at);
            if let Some((waiting, _)) = self.exploration.demands.last_mut() {
                *waiting = part;
            }
            self.graph.link(gate, part, false);
        }
        Ok(())
    }

    pub(super) fn probe_into(
        &mut self,
        rows: &impl Rows,
        gate: GateId,
        place: &Place,
        slot: SlotId,
        subject: &ObjectId,
    ) {
        let key = place.row(slot);
        match self.reader.probe(rows, &key, subject) {
            Some((level, terms)) => {
                if level == Level::Unknown {
                    self.undecided.note(gate, terms.as_ref());
                }
                self.graph.raise(gate, level);
            }
            None => {
                let demand = Demand::Probe(key, subject.clone());
                self.exploration.demands.push((gate, demand));
            }
        }
    }

    /// Makes `target` of each of a slot's subjects an operand of `gate`.
    pub(super) fn follow_into(
        &mut self,
        rows: &impl Rows,
        gate: GateId,
        place: &Place,
        slot: SlotId,
        target: MemberId,
    ) -> Result<(), EvaluationError> {
        let key = place.row(slot);
        let held = self.reader.row(rows, &key);
        if matches!(held, Held::Unknown) {
            self.exploration.demands.push((gate, Demand::Scan(key)));
        }
        for entry in held.entries() {
            self.reader.work += 1;
            self.reader.check_work()?;
            let level = self.reader.weigh(entry.terms.as_ref());
            if level == Level::False {
                continue;
            }
            let operand = self.visit(rows, place.step_to(target, &entry.subject));
            let operand = self.under(level, entry.terms.as_ref(), operand);
            self.put(gate, operand, true);
            if self.graph.value(gate) == Level::True {
                break;
            }
        }
        Ok(())
    }

    /// `relation.all(target)`: whoever has the target on every subject of the relation, of which there must be one.
    /// A subject whose type lacks the target denies it to everybody.
    pub(super) fn follow_all_into(
        &mut self,
        rows: &impl Rows,
        gate: GateId,
        place: &Place,
        relation: MemberId,
        targets: &'a [(TypeId, MemberId)],
    ) -> Result<(), EvaluationError> {
        let schema = self.reader.schema;
        let member = schema.members().get(relation.index());
        let member = member.ok_or(EvaluationError::UnknownMember(relation))?;
        let mut held_rows = Vec::new();
        let mut complete = true;
        for id in &member.slots {
            let Some(slot) = schema.slots().get(id.index()) else {
                continue;
            };
            if slot.subject == SlotSubject::Wildcard {
                continue;
            }
            let key = place.row(*id);
            let held = self.reader.row(rows, &key);
            if matches!(held, Held::Unknown) {
                complete = false;
                self.exploration.demands.push((gate, Demand::Scan(key)));
            }
            held_rows.push((held, target_of(targets, slot.subject_type)));
        }
        if !complete {
            return Ok(());
        }
        let all = self.graph.add_all(Level::True);
        let mut any_subject = false;
        for (held, target) in &held_rows {
            for entry in held.entries() {
                self.reader.work += 1;
                self.reader.check_work()?;
                if self.reader.is_expired(entry.terms.as_deref()) {
                    continue;
                }
                any_subject = true;
                let level = self.reader.weigh(entry.terms.as_ref());
                let operand = match (level, target) {
                    (Level::False, _) | (_, None) => Operand::False,
                    (_, Some(target)) => self.visit(rows, place.step_to(*target, &entry.subject)),
                };
                let operand = self.under(level, entry.terms.as_ref(), operand);
                if matches!(operand, Operand::False) {
                    self.graph.abandon(all);
                    return Ok(());
                }
                self.put(all, operand, true);
            }
        }
        if any_subject {
            self.graph.seal(all);
            self.graph.link(gate, all, false);
        } else {
            self.graph.abandon(all);
        }
        Ok(())
    }
}

impl Place {
    fn row(&self, slot: SlotId) -> RowKey {
        RowKey {
            slot,
            object: self.object.clone(),
        }
    }

    fn step_to(&self, member: MemberId, object: &ObjectId) -> Self {
        Self {
            member,
            object: object.clone(),
            depth: self.depth.saturating_add(1),
        }
    }
}

/// The member that an arrow leads to on objects of a type.
pub(super) fn target_of(targets: &[(TypeId, MemberId)], object_type: TypeId) -> Option<MemberId> {
    let at = targets
        .binary_search_by_key(&object_type, |(held, _)| *held)
        .ok()?;
    targets.get(at).map(|(_, member)| *member)
}
