//! The glance: what the rows of one object alone say of a sub-check, before any graph is built for it.
//!
//! Most checks, and most sub-checks of the others, are decided here: a direct relationship is there, or nothing
//! leads further. A glance allocates nothing, visits a bounded number of nodes and leaves open what it cannot see.

use super::level::{Bounds, Level};
use super::read::{Held, Reader};
use crate::noun::ObjectId;
use crate::row::{RowKey, Rows};
use crate::schema::{Expr, MemberId, SlotSubject};

/// How many expressions one glance may visit. Beyond them the graph remembers what was visited; a glance does not.
const MAX_VISITS: u32 = 24;
/// How deeply one glance may nest.
const MAX_NESTING: u32 = 8;

/// One glance at the members of one object.
pub(super) struct Glance<'g, 'a, R> {
    reader: &'g mut Reader<'a>,
    rows: &'g R,
    object: &'g ObjectId,
    visits: u32,
    nesting: u32,
}

impl<'g, 'a, R: Rows> Glance<'g, 'a, R> {
    pub(super) fn new(reader: &'g mut Reader<'a>, rows: &'g R, object: &'g ObjectId) -> Self {
        Self {
            reader,
            rows,
            object,
            visits: 0,
            nesting: 0,
        }
    }

    /// Between what bounds the member's value lies.
    pub(super) fn member(&mut self, member: MemberId) -> Bounds {
        if self.reader.is_subject(member, self.object) {
            return Bounds::exactly(Level::True);
        }
        let schema = self.reader.schema;
        match schema.members().get(member.index()) {
            Some(held) => self.expr(&held.expr, member),
            None => Bounds::OPEN,
        }
    }

    fn expr(&mut self, expr: &Expr, member: MemberId) -> Bounds {
        if self.visits >= MAX_VISITS || self.nesting >= MAX_NESTING {
            return Bounds::OPEN;
        }
        self.visits += 1;
        self.nesting += 1;
        let bounds = match expr {
            Expr::This => self.this(member),
            Expr::Nil => Bounds::exactly(Level::False),
            Expr::Itself => Bounds::exactly(self.reader.is_itself(member, self.object)),
            Expr::Member(other) => self.member(*other),
            Expr::Union(operands) => self.union(operands, member),
            Expr::Intersection(operands) => self.intersection(operands, member),
            Expr::Exclusion(left, right) => {
                let left = self.expr(left, member);
                match left.exact() {
                    Some(Level::False) => left,
                    _ => left.and(self.expr(right, member).not()),
                }
            }
            Expr::Arrow { relation, .. } => self.arrow(*relation),
        };
        self.nesting -= 1;
        bounds
    }

    fn union(&mut self, operands: &[Expr], member: MemberId) -> Bounds {
        let mut bounds = Bounds::exactly(Level::False);
        for operand in operands {
            if self.visits >= MAX_VISITS {
                // So it is for every one that follows, and there can be very many.
                return bounds.or(Bounds::OPEN);
            }
            bounds = bounds.or(self.expr(operand, member));
            if bounds.low == Level::True {
                break;
            }
        }
        bounds
    }

    fn intersection(&mut self, operands: &[Expr], member: MemberId) -> Bounds {
        let mut bounds = Bounds::exactly(Level::True);
        for operand in operands {
            if self.visits >= MAX_VISITS {
                return bounds.and(Bounds::OPEN);
            }
            bounds = bounds.and(self.expr(operand, member));
            if bounds.high == Level::False {
                break;
            }
        }
        bounds
    }

    /// The relationships of a relation: its direct and wildcard slots, and whether its usersets lead anywhere.
    fn this(&mut self, relation: MemberId) -> Bounds {
        let schema = self.reader.schema;
        let Some(member) = schema.members().get(relation.index()) else {
            return Bounds::OPEN;
        };
        self.reader.count_slots(member.slots.len());
        let mut bounds = Bounds::exactly(Level::False);
        let mut has_usersets = false;
        for id in &member.slots {
            let Some(slot) = schema.slots().get(id.index()) else {
                continue;
            };
            has_usersets |= matches!(slot.subject, SlotSubject::Userset(_));
            let Some(subject) = self.reader.probe_id(slot) else {
                continue;
            };
            let key = RowKey {
                slot: *id,
                object: self.object.clone(),
            };
            let found = self.reader.probe(self.rows, &key, &subject);
            bounds = bounds.or(found.map_or(Bounds::OPEN, |(level, _)| Bounds::exactly(level)));
            if bounds.low == Level::True {
                return bounds;
            }
        }
        if has_usersets && bounds.high < Level::True {
            for id in &member.slots {
                let slot = schema.slots().get(id.index());
                if slot.is_some_and(|slot| matches!(slot.subject, SlotSubject::Userset(_))) {
                    bounds = bounds.or(self.leads_on(*id));
                }
            }
        }
        bounds
    }

    /// An arrow is false where the relation it follows has no subjects; otherwise it leads to other objects.
    fn arrow(&mut self, relation: MemberId) -> Bounds {
        let schema = self.reader.schema;
        let Some(member) = schema.members().get(relation.index()) else {
            return Bounds::OPEN;
        };
        for slot in &member.slots {
            if self.leads_on(*slot) == Bounds::OPEN {
                return Bounds::OPEN;
            }
        }
        Bounds::exactly(Level::False)
    }

    fn leads_on(&mut self, slot: crate::schema::SlotId) -> Bounds {
        let key = RowKey {
            slot,
            object: self.object.clone(),
        };
        match self.reader.row(self.rows, &key) {
            Held::Empty => Bounds::exactly(Level::False),
            Held::Row(_) | Held::Shared(_) | Held::Unknown => Bounds::OPEN,
        }
    }
}

impl Reader<'_> {
    /// Whether `object#member` is the very userset that is asked about.
    pub(super) fn is_subject(&self, member: MemberId, object: &ObjectId) -> bool {
        self.subject.relation == Some(member) && self.subject.id == *object
    }

    /// Whether the object itself, of the member's type, is the subject.
    pub(super) fn is_itself(&self, member: MemberId, object: &ObjectId) -> Level {
        let held = self.schema.members().get(member.index());
        let same = self.subject.relation.is_none()
            && self.subject.id == *object
            && !object.is_wildcard()
            && held.is_some_and(|held| held.object_type == self.subject.object_type);
        if same { Level::True } else { Level::False }
    }
}
