//! What a finished evaluation knows of any part of it: by the graph where one was built, by a glance elsewhere.

use super::Evaluation;
use super::follow::target_of;
use super::glance::Glance;
use super::graph::UpperBounds;
use super::level::{Bounds, Level};
use super::read::Held;
use crate::noun::ObjectId;
use crate::row::{RowKey, Rows};
use crate::schema::{ArrowMode, Expr, MemberId, SlotId, SlotSubject, TypeId};

/// How deeply expressions are followed on the Rust stack; what lies deeper is left open.
const MAX_NESTING: u32 = 64;

/// See the module's text.
pub(super) struct Known<'k, 'a, R> {
    pub(super) evaluation: &'k mut Evaluation<'a>,
    pub(super) rows: &'k R,
    upper: UpperBounds,
    nesting: u32,
}

impl<'k, 'a, R: Rows> Known<'k, 'a, R> {
    pub(super) fn new(evaluation: &'k mut Evaluation<'a>, rows: &'k R) -> Self {
        let upper = evaluation.graph.upper_bounds();
        Self {
            evaluation,
            rows,
            upper,
            nesting: 0,
        }
    }

    /// What is known of `member` of `object`.
    pub(super) fn member(&mut self, member: MemberId, object: &ObjectId) -> Bounds {
        if self.evaluation.reader.is_subject(member, object) {
            return Bounds::exactly(Level::True);
        }
        let gate = self.evaluation.gates_by_node.get(&(member, object.clone()));
        if let Some(gate) = gate {
            return self.evaluation.graph.bounds(*gate, &self.upper);
        }
        Glance::new(&mut self.evaluation.reader, self.rows, object).member(member)
    }

    /// What is known of an expression of `member` of `object`.
    pub(super) fn expr(&mut self, expr: &Expr, member: MemberId, object: &ObjectId) -> Bounds {
        if self.nesting >= MAX_NESTING {
            return Bounds::OPEN;
        }
        self.nesting += 1;
        let none = Bounds::exactly(Level::False);
        let all = Bounds::exactly(Level::True);
        let bounds = match expr {
            Expr::This => self.this(member, object),
            Expr::Nil => none,
            Expr::Itself => Bounds::exactly(self.evaluation.reader.is_itself(member, object)),
            Expr::Member(other) => self.member(*other, object),
            Expr::Union(operands) => operands
                .iter()
                .fold(none, |held, operand| held.or(self.expr(operand, member, object))),
            Expr::Intersection(operands) => operands
                .iter()
                .fold(all, |held, operand| held.and(self.expr(operand, member, object))),
            Expr::Exclusion(left, right) => {
                let left = self.expr(left, member, object);
                left.and(self.expr(right, member, object).not())
            }
            Expr::Arrow {
                relation,
                mode,
                targets,
            } => self.arrow(*relation, *mode, targets, object),
        };
        self.nesting -= 1;
        bounds
    }

    fn this(&mut self, relation: MemberId, object: &ObjectId) -> Bounds {
        let mut bounds = Bounds::exactly(Level::False);
        for (id, subject, _) in self.slots(relation) {
            bounds = bounds.or(match subject {
                SlotSubject::Userset(target) => self.follow(id, object, Some(target)).any,
                SlotSubject::Object | SlotSubject::Wildcard => self.probe(id, object),
            });
        }
        bounds
    }

    /// What the subject's own entry in a row says.
    pub(super) fn probe(&mut self, slot: SlotId, object: &ObjectId) -> Bounds {
        let reader = &mut self.evaluation.reader;
        let held = reader.schema.slots().get(slot.index());
        let Some(subject) = held.and_then(|held| reader.probe_id(held)) else {
            return Bounds::exactly(Level::False);
        };
        let key = RowKey {
            slot,
            object: object.clone(),
        };
        let found = reader.probe(self.rows, &key, &subject);
        found.map_or(Bounds::OPEN, |(level, _)| Bounds::exactly(level))
    }

    fn arrow(
        &mut self,
        relation: MemberId,
        mode: ArrowMode,
        targets: &[(TypeId, MemberId)],
        object: &ObjectId,
    ) -> Bounds {
        let mut found = Followed::NOTHING;
        for (id, subject, subject_type) in self.slots(relation) {
            if subject != SlotSubject::Wildcard {
                let more = self.follow(id, object, target_of(targets, subject_type));
                found = found.and(more);
            }
        }
        match mode {
            ArrowMode::Any => found.any,
            ArrowMode::All => found.all.and(found.exists),
        }
    }

    fn follow(&mut self, slot: SlotId, object: &ObjectId, target: Option<MemberId>) -> Followed {
        let key = RowKey {
            slot,
            object: object.clone(),
        };
        let held = self.evaluation.reader.row(self.rows, &key);
        if matches!(held, Held::Unknown) {
            return Followed {
                any: Bounds::OPEN,
                all: Bounds::OPEN,
                exists: Bounds::OPEN,
            };
        }
        self.evaluation.reader.work += held.len() as u64;
        let mut found = Followed::NOTHING;
        for entry in held.entries() {
            let terms = entry.terms.as_deref();
            if self.evaluation.reader.is_expired(terms) {
                continue;
            }
            let level = Bounds::exactly(self.evaluation.reader.weigh(entry.terms.as_ref()));
            let target = target.map_or(Bounds::exactly(Level::False), |target| {
                self.member(target, &entry.subject)
            });
            let bounds = level.and(target);
            found = Followed {
                any: found.any.or(bounds),
                all: found.all.and(bounds),
                exists: Bounds::exactly(Level::True),
            };
        }
        found
    }

    /// The slots of a relation, with their subjects and those subjects' type.
    pub(super) fn slots(
        &self,
        relation: MemberId,
    ) -> impl Iterator<Item = (SlotId, SlotSubject, TypeId)> + use<'a, R> {
        let schema = self.evaluation.reader.schema;
        let member = schema.members().get(relation.index());
        let slots = member.map_or(&[][..], |member| member.slots.as_slice());
        slots.iter().filter_map(|id| {
            let slot = schema.slots().get(id.index())?;
            Some((*id, slot.subject, slot.subject_type))
        })
    }
}

/// What following the subjects of a relation found.
struct Followed {
    any: Bounds,
    all: Bounds,
    /// Whether there is a subject at all.
    exists: Bounds,
}

impl Followed {
    const NOTHING: Self = Self {
        any: Bounds::exactly(Level::False),
        all: Bounds::exactly(Level::True),
        exists: Bounds::exactly(Level::False),
    };

    fn and(self, other: Self) -> Self {
        Self {
            any: self.any.or(other.any),
            all: self.all.and(other.all),
            exists: self.exists.or(other.exists),
        }
    }
}
