//! The explanation: how a finished evaluation came to its answer, as a tree.
//!
//! It reads the values that the evaluation itself found and the rows that it had, and decides nothing: what was not
//! needed for the answer is shown as such. What speaks for the answer comes first, so that a tree that is cut short still
//! holds the reason.

use rustc_hash::FxHashSet;

use super::follow::target_of;
use super::known::Known;
use super::level::{Bounds, Level};
use super::read::Held;
use super::{Evaluation, EvaluationError};
use crate::caveat::Outcome;
use crate::context::Context;
use crate::noun::{ObjectId, Timestamp};
use crate::row::{RowKey, Rows, Terms};
use crate::schema::{ArrowMode, CaveatId, Expr, MemberId, SlotId, SlotSubject};

/// How deep the tree may be. It bounds the stack that making, walking and dropping it take.
const MAX_TREE_DEPTH: usize = 256;

/// How many rows and entries may be read for one explanation.
const MAX_WORK: u64 = 200_000;

/// How a check came to its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The check itself.
    pub root: TraceNode,
    /// Whether the tree was cut short, by its size or depth.
    pub truncated: bool,
}

/// One part of the way.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceNode {
    /// What it is.
    pub kind: TraceKind,
    /// What came of it.
    pub outcome: TraceOutcome,
    /// What it rests on.
    pub children: Vec<TraceNode>,
    /// Whether some of its children are left out because the tree has grown too large.
    pub truncated: bool,
}

/// What a part of the way is.
#[derive(Debug, Clone, PartialEq)]
pub enum TraceKind {
    /// A sub-check: a member of an object.
    Check {
        /// The relation or permission.
        member: MemberId,
        /// The object's id; its type is the member's.
        object: ObjectId,
        /// Why nothing is shown below it, if something was left out.
        cut: Option<Cut>,
    },
    /// One is enough.
    Union,
    /// All are needed.
    Intersection,
    /// The first without the second.
    Exclusion,
    /// An arrow.
    Arrow {
        /// The relation that is followed.
        relation: MemberId,
        /// How what it finds is combined.
        mode: ArrowMode,
        /// What it leads to on one of the types that has it; it has the same name on all of them.
        target: Option<MemberId>,
    },
    /// The relationships of a relation.
    This {
        /// The relation.
        relation: MemberId,
    },
    /// Nobody.
    Nil,
    /// The object itself.
    Itself,
    /// A relationship that was found. What lies behind its subject, for a userset or an arrow, is below it.
    Relationship {
        /// Its relation and class of subjects.
        slot: SlotId,
        /// Its resource's id.
        object: ObjectId,
        /// Its subject's id.
        subject: ObjectId,
        /// When it expires.
        expires_at: Option<Timestamp>,
        /// Whether it has expired, and so does not count.
        expired: bool,
        /// Its caveat, and what that says in this request.
        caveat: Option<TracedCaveat>,
        /// Whether it is not stored but counts for this request alone.
        contextual: bool,
    },
}

/// The caveat of a relationship, in an explanation.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedCaveat {
    /// Which.
    pub caveat: CaveatId,
    /// The context stored with the relationship.
    pub context: Context,
    /// What it says.
    pub outcome: CaveatOutcome,
}

/// What a caveat says of a relationship in this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaveatOutcome {
    /// It could be decided, or lacks values.
    Decided(Outcome),
    /// It failed.
    Failed(String),
}

/// Why nothing is shown below a sub-check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It lies within itself: the recursion was cut here.
    Recursion,
    /// It is shown in full elsewhere in the tree.
    Reused,
    /// The tree has grown too large.
    Truncated,
}

/// What came of a part of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceOutcome {
    /// The subject has it.
    Allow,
    /// The subject does not have it.
    Deny,
    /// It depends on missing values.
    Conditional,
    /// The answer did not need it.
    NotNeeded,
}

impl<'a> Evaluation<'a> {
    /// Explains the answer in at most about `max_nodes` nodes. Call it after [`Step::Done`](super::Step::Done), with the same rows;
    /// before, parts that are not decided yet show as [`TraceOutcome::NotNeeded`].
    pub fn explain(&mut self, rows: &impl Rows, max_nodes: usize) -> Trace {
        let (member, object) = (self.check_member, self.check_object.clone());
        let mut teller = Teller {
            max_work: self.reader.work.saturating_add(MAX_WORK),
            known: Known::new(self, rows),
            left: max_nodes,
            depth: 0,
            truncated: false,
            path: FxHashSet::default(),
            told: FxHashSet::default(),
        };
        let root = teller.check(member, &object);
        Trace {
            root,
            truncated: teller.truncated,
        }
    }
}

struct Teller<'k, 'a, R> {
    known: Known<'k, 'a, R>,
    max_work: u64,
    left: usize,
    depth: usize,
    truncated: bool,
    path: FxHashSet<(MemberId, ObjectId)>,
    told: FxHashSet<(MemberId, ObjectId)>,
}

/// A relationship that is to be told, and where it leads.
struct Lead {
    kind: TraceKind,
    bounds: Bounds,
    target: Option<MemberId>,
    subject: ObjectId,
}

impl<R: Rows> Teller<'_, '_, R> {
    fn check(&mut self, member: MemberId, object: &ObjectId) -> TraceNode {
        self.left = self.left.saturating_sub(1);
        let bounds = self.known.member(member, object);
        let outcome = outcome_of(bounds);
        let node = (member, object.clone());
        let is_subject = self.known.evaluation.reader.is_subject(member, object);
        let cut = if self.path.contains(&node) {
            Some(Cut::Recursion)
        } else if self.told.contains(&node) {
            Some(Cut::Reused)
        } else if self.is_full() {
            Some(Cut::Truncated)
        } else {
            None
        };
        let mut children = Vec::new();
        if cut.is_none() && !is_subject && outcome != TraceOutcome::NotNeeded {
            let schema = self.known.evaluation.reader.schema;
            if let Some(held) = schema.members().get(member.index()) {
                self.path.insert(node.clone());
                children.push(self.expr(&held.expr, member, object));
                self.path.remove(&node);
            }
            self.told.insert(node);
        }
        TraceNode {
            kind: TraceKind::Check {
                member,
                object: object.clone(),
                cut,
            },
            outcome,
            children,
            truncated: cut == Some(Cut::Truncated),
        }
    }

    fn is_full(&mut self) -> bool {
        let tired = self.known.evaluation.reader.work > self.max_work;
        let full = tired || self.left == 0 || self.depth >= MAX_TREE_DEPTH;
        self.truncated |= full;
        full
    }

    fn expr(&mut self, expr: &Expr, member: MemberId, object: &ObjectId) -> TraceNode {
        if let Expr::Member(other) = expr {
            self.depth += 1;
            let node = self.check(*other, object);
            self.depth -= 1;
            return node;
        }
        self.left = self.left.saturating_sub(1);
        let bounds = self.known.expr(expr, member, object);
        let outcome = outcome_of(bounds);
        let kind = match expr {
            Expr::This | Expr::Member(_) => TraceKind::This { relation: member },
            Expr::Nil => TraceKind::Nil,
            Expr::Itself => TraceKind::Itself,
            Expr::Union(_) => TraceKind::Union,
            Expr::Intersection(_) => TraceKind::Intersection,
            Expr::Exclusion(..) => TraceKind::Exclusion,
            Expr::Arrow {
                relation,
                mode,
                targets,
            } => TraceKind::Arrow {
                relation: *relation,
                mode: *mode,
                target: targets.first().map(|(_, target)| *target),
            },
        };
        let mut children = Vec::new();
        let mut truncated = false;
        if outcome == TraceOutcome::NotNeeded || matches!(expr, Expr::Nil | Expr::Itself) {
            // There is nothing to tell.
        } else if self.is_full() {
            truncated = true;
        } else {
            self.depth += 1;
            children = match expr {
                Expr::This => {
                    let leads = self.this(member, object);
                    self.tell(leads, bounds, &mut truncated)
                }
                Expr::Nil | Expr::Itself | Expr::Member(_) => Vec::new(),
                Expr::Union(operands) | Expr::Intersection(operands) => {
                    self.operands(operands.iter(), member, object, bounds)
                }
                Expr::Exclusion(left, right) => {
                    vec![self.expr(left, member, object), self.expr(right, member, object)]
                }
                Expr::Arrow {
                    relation, targets, ..
                } => {
                    let mut leads = Vec::new();
                    for (slot, subject, subject_type) in self.known.slots(*relation) {
                        if subject != SlotSubject::Wildcard {
                            self.follow(&mut leads, slot, object, target_of(targets, subject_type));
                        }
                    }
                    self.tell(leads, bounds, &mut truncated)
                }
            };
            self.depth -= 1;
        }
        TraceNode {
            kind,
            outcome,
            children,
            truncated,
        }
    }

    /// Tells the operands in their order, but those that made the value before the others, where the tree may not hold
    /// all.
    fn operands<'e>(
        &mut self,
        operands: impl Iterator<Item = &'e Expr>,
        member: MemberId,
        object: &ObjectId,
        bounds: Bounds,
    ) -> Vec<TraceNode> {
        let mut ranked: Vec<(bool, usize, &Expr)> = operands
            .enumerate()
            .map(|(at, operand)| (self.known.expr(operand, member, object) != bounds, at, operand))
            .collect();
        ranked.sort_by_key(|(differs, at, _)| (*differs, *at));
        let mut nodes: Vec<(usize, TraceNode)> = ranked
            .into_iter()
            .map(|(_, at, operand)| (at, self.expr(operand, member, object)))
            .collect();
        nodes.sort_by_key(|(at, _)| *at);
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    fn this(&mut self, relation: MemberId, object: &ObjectId) -> Vec<Lead> {
        let mut leads = Vec::new();
        for (slot, subject, _) in self.known.slots(relation) {
            match subject {
                SlotSubject::Userset(target) => self.follow(&mut leads, slot, object, Some(target)),
                SlotSubject::Object | SlotSubject::Wildcard => self.probe(&mut leads, slot, object),
            }
        }
        leads
    }

    fn probe(&mut self, leads: &mut Vec<Lead>, slot: SlotId, object: &ObjectId) {
        let reader = &self.known.evaluation.reader;
        let held = reader.schema.slots().get(slot.index());
        let Some(subject) = held.and_then(|held| reader.probe_id(held)) else {
            return;
        };
        let key = RowKey {
            slot,
            object: object.clone(),
        };
        if let Some(Some(terms)) = reader.find(self.known.rows, &key, &subject) {
            let kind = self.relationship(key, subject.clone(), terms.as_deref());
            let bounds = self.known.probe(slot, object);
            leads.push(Lead {
                kind,
                bounds,
                target: None,
                subject,
            });
        }
    }

    fn follow(&mut self, leads: &mut Vec<Lead>, slot: SlotId, object: &ObjectId, target: Option<MemberId>) {
        let key = RowKey {
            slot,
            object: object.clone(),
        };
        let held = self.known.evaluation.reader.row(self.known.rows, &key);
        if matches!(held, Held::Unknown) {
            return;
        }
        self.known.evaluation.reader.work += held.len() as u64;
        for entry in held.entries() {
            let terms = entry.terms.as_deref();
            let level = Bounds::exactly(self.known.evaluation.reader.weigh(entry.terms.as_ref()));
            let behind = match target {
                Some(target) => self.known.member(target, &entry.subject),
                None => Bounds::exactly(Level::False),
            };
            leads.push(Lead {
                kind: self.relationship(key.clone(), entry.subject.clone(), terms),
                bounds: level.and(behind),
                target,
                subject: entry.subject.clone(),
            });
        }
    }

    fn relationship(&self, key: RowKey, subject: ObjectId, terms: Option<&Terms>) -> TraceKind {
        let reader = &self.known.evaluation.reader;
        let stored = terms.and_then(|terms| terms.caveat.as_ref());
        let caveat = reader.caveat_outcome(terms).zip(stored);
        TraceKind::Relationship {
            contextual: self.known.rows.is_contextual(&key, &subject),
            slot: key.slot,
            object: key.object,
            subject,
            expires_at: terms.and_then(|terms| terms.expires_at),
            expired: reader.is_expired(terms),
            caveat: caveat.map(|((caveat, outcome), (_, context))| {
                let outcome = match outcome {
                    Ok(outcome) => CaveatOutcome::Decided(outcome),
                    Err(EvaluationError::Caveat { error, .. }) => CaveatOutcome::Failed(error.to_string()),
                    Err(error) => CaveatOutcome::Failed(error.to_string()),
                };
                TracedCaveat {
                    caveat,
                    context: context.clone(),
                    outcome,
                }
            }),
        }
    }

    /// Tells relationships, those that made the value first, as long as there is room.
    fn tell(&mut self, mut leads: Vec<Lead>, bounds: Bounds, truncated: &mut bool) -> Vec<TraceNode> {
        leads.sort_by_key(|lead| lead.bounds != bounds);
        let mut nodes = Vec::new();
        for lead in leads {
            if self.is_full() {
                *truncated = true;
                break;
            }
            self.left = self.left.saturating_sub(1);
            self.depth += 1;
            let children = lead.target.map(|target| self.check(target, &lead.subject));
            self.depth -= 1;
            nodes.push(TraceNode {
                kind: lead.kind,
                outcome: outcome_of(lead.bounds),
                children: children.into_iter().collect(),
                truncated: false,
            });
        }
        nodes
    }
}

fn outcome_of(bounds: Bounds) -> TraceOutcome {
    match bounds.exact() {
        Some(Level::True) => TraceOutcome::Allow,
        Some(Level::False) => TraceOutcome::Deny,
        Some(Level::Unknown) => TraceOutcome::Conditional,
        None => TraceOutcome::NotNeeded,
    }
}
