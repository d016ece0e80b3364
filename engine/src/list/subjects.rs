//! The subjects of one class that have a member of one resource.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use super::closure::Closure;
use super::explore::Progress;
use super::join::Join;
use super::judge::{Ask, Judge, sort_supply};
use super::merge::{Found, Merge, Side};
use super::page::{Candidates, Question, Tray, Turn};
use super::plan::{Breadth, Class, Plan};
use super::{ListDemand, ListPage, ListStep, ListSupply, Listed, Position, Search};
use crate::context::Context;
use crate::evaluate::{Decision, EvaluationError, Limits};
use crate::noun::{ObjectId, Timestamp};
use crate::row::Rows;
use crate::schema::{MemberId, Schema};

/// The plans of both breadths for one member and class.
#[derive(Debug, Clone)]
pub struct SubjectPlans {
    /// Finds all that can have the member, while no wildcard is in play.
    pub selected: Arc<Plan>,
    /// Finds all whose decision can differ from that of a subject that nothing names.
    pub everything: Arc<Plan>,
}

impl SubjectPlans {
    /// Works both out.
    pub fn new(schema: &Schema, target: MemberId, class: Class) -> Self {
        Self {
            selected: Arc::new(Plan::new(schema, target, class, Breadth::Selected)),
            everything: Arc::new(Plan::new(schema, target, class, Breadth::Everything)),
        }
    }
}

/// What subjects of the plans' class have the plans' member of the resource?
#[derive(Debug, Clone)]
pub struct SubjectQuestion {
    /// The resource; its type is the member's.
    pub resource: ObjectId,
    /// Where to go on; `None`: from the start, the wildcard first.
    pub from: Option<Position>,
}

/// The search for the subjects.
#[derive(Debug)]
pub struct SubjectSearch<'a> {
    plans: SubjectPlans,
    judge: Judge<'a>,
    question: Question,
    resource: ObjectId,
    from: Option<Position>,
    phase: Phase<'a>,
    tray: Tray,
}

#[derive(Debug)]
enum Phase<'a> {
    /// Looks for the rows of one plan: the first, then its guards.
    Exploring(Box<Closure>, Box<Guarding>),
    /// Asks about a subject that nothing names, which the wildcard stands for.
    Wildcard(Box<Ask<'a>>, Box<Closure>),
    /// Decides every named subject: those that are left out are told with the wildcard.
    Comparing(Box<Candidates<'a>>, Box<Comparison>),
    /// Hands out what was decided before.
    Told(VecDeque<Listed>),
    Paging(Box<Candidates<'a>>),
    Ended,
}

/// What was found by the first plan, and by each of its guards.
#[derive(Debug, Default)]
struct Guarding {
    found: Vec<Option<Found>>,
    lets_all_pass: bool,
}

#[derive(Debug)]
struct Comparison {
    wildcard: Decision,
    excluded: Vec<ObjectId>,
    listed: VecDeque<Listed>,
}

impl<'a> SubjectSearch<'a> {
    /// Prepares a search.
    pub fn new(
        schema: &'a Schema,
        plans: SubjectPlans,
        question: SubjectQuestion,
        context: &'a Context,
        now: Timestamp,
        limits: Limits,
    ) -> Self {
        let mut judge = Judge::new(schema, context, now, limits);
        judge.begin_page();
        let closure = Closure::new(&plans.selected, &question.resource);
        let class = plans.selected.class;
        Self {
            judge,
            question: Question::Subject {
                member: plans.selected.target,
                object: question.resource.clone(),
                object_type: class.object_type,
                relation: class.relation,
            },
            plans,
            resource: question.resource,
            from: question.from,
            phase: Phase::Exploring(Box::new(closure), Box::default()),
            tray: Tray::new(1),
        }
    }

    fn candidates(&self, found: Vec<Found>, is_joint: bool) -> Box<Candidates<'a>> {
        let start = match self.from.as_ref().and_then(Position::after) {
            Some(after) => Bound::Excluded(after.clone()),
            None => Bound::Unbounded,
        };
        let merges = found
            .into_iter()
            .map(|found| Merge::new(Side::Subjects, found, &start, self.tray.limit));
        let join = Join::new(merges.collect(), is_joint);
        Box::new(Candidates::new(join, self.question.clone()))
    }

    fn advance(&mut self, rows: &impl Rows) -> Result<Option<ListPage>, EvaluationError> {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Ended) {
                Phase::Exploring(mut closure, guarding) => {
                    let plans = &self.plans;
                    let plan = match (closure.breadth, guarding.found.len().checked_sub(1)) {
                        (Breadth::Everything, _) => &*plans.everything,
                        (Breadth::Selected, None) => &*plans.selected,
                        (Breadth::Selected, Some(at)) => {
                            plans.selected.guards.get(at).unwrap_or(&*plans.selected)
                        }
                    };
                    let progress = closure.step(plan, &mut self.judge, rows);
                    if self.judge.is_spent() {
                        return Err(self.judge.spent());
                    }
                    if progress != Progress::Done {
                        self.phase = Phase::Exploring(closure, guarding);
                        return Ok(None);
                    }
                    self.phase = self.explored(closure, guarding);
                }
                Phase::Wildcard(mut ask, mut closure) => match self.judge.pursue(rows, &mut ask) {
                    Some(ruling) => {
                        let wildcard = ruling?;
                        let candidates = self.candidates(vec![std::mem::take(&mut closure.found)], true);
                        self.phase = match wildcard {
                            Decision::Deny => Phase::Paging(candidates),
                            wildcard => Phase::Comparing(candidates, Box::new(Comparison::new(wildcard))),
                        };
                    }
                    None => {
                        self.phase = Phase::Wildcard(ask, closure);
                        if self.judge.is_spent() {
                            return Err(self.judge.spent());
                        }
                        return Ok(None);
                    }
                },
                Phase::Comparing(mut candidates, mut comparison) => {
                    if !comparison.step(&mut candidates, &mut self.judge, rows)? {
                        self.phase = Phase::Comparing(candidates, comparison);
                        return Ok(None);
                    }
                    self.phase = Phase::Told(comparison.listed());
                }
                Phase::Told(mut listed) => {
                    let items: Vec<Listed> = listed.drain(..self.tray.limit.min(listed.len())).collect();
                    let next = items.last().filter(|_| !listed.is_empty()).map(position_of);
                    self.phase = Phase::Told(listed);
                    return Ok(Some(ListPage { items, next }));
                }
                Phase::Paging(mut candidates) => {
                    let page = self.tray.step(&mut candidates, &mut self.judge, rows);
                    self.phase = Phase::Paging(candidates);
                    return page;
                }
                Phase::Ended => return Ok(Some(ListPage::default())),
            }
        }
    }

    /// What follows once the rows between the resource and its subjects are known.
    fn explored(&self, mut closure: Box<Closure>, mut guarding: Box<Guarding>) -> Phase<'a> {
        if closure.breadth == Breadth::Everything {
            return match self.from {
                None => {
                    let ask = self.judge.ask(self.question.about(&ObjectId::wildcard()));
                    Phase::Wildcard(ask, closure)
                }
                Some(_) => Phase::Paging(self.candidates(vec![closure.found], true)),
            };
        }
        let is_first = guarding.found.is_empty();
        if is_first && closure.has_wildcard {
            // Any subject may have it by the wildcard: then all that can make a difference counts.
            let everything = Closure::new(&self.plans.everything, &self.resource);
            return Phase::Exploring(Box::new(everything), guarding);
        }
        // A guard with a wildcard lets everybody pass.
        guarding.lets_all_pass |= closure.has_wildcard;
        let found = (!closure.has_wildcard).then(|| std::mem::take(&mut closure.found));
        guarding.found.push(found);
        match self.plans.selected.guards.get(guarding.found.len() - 1) {
            Some(guard) => Phase::Exploring(Box::new(Closure::new(guard, &self.resource)), guarding),
            None => {
                let is_alone = self.plans.selected.guards.is_empty();
                let is_joint = is_alone || (self.plans.selected.is_joint && !guarding.lets_all_pass);
                let found = guarding.found.into_iter().flatten().collect();
                Phase::Paging(self.candidates(found, is_joint))
            }
        }
    }
}

impl Comparison {
    const fn new(wildcard: Decision) -> Self {
        Self {
            wildcard,
            excluded: Vec::new(),
            listed: VecDeque::new(),
        }
    }

    /// Decides the named subjects; `true` once all are.
    ///
    /// # Errors
    /// `limit_exceeded` where they are too many: a wildcard without all its exceptions would say too much.
    fn step<'a>(
        &mut self,
        candidates: &mut Candidates<'a>,
        judge: &mut Judge<'a>,
        rows: &impl Rows,
    ) -> Result<bool, EvaluationError> {
        loop {
            if judge.is_spent() {
                return Err(judge.spent());
            }
            match candidates.next(judge, rows, usize::MAX)? {
                Turn::Decided(id, decision) => {
                    let lesser = match &decision {
                        Decision::Deny => true,
                        Decision::Conditional { .. } => self.wildcard == Decision::Allow,
                        Decision::Allow => false,
                    };
                    if lesser {
                        self.excluded.push(id.clone());
                    }
                    if decision != Decision::Deny {
                        self.listed.push_back(Listed {
                            id,
                            decision,
                            excluded: Vec::new(),
                        });
                    }
                }
                Turn::End => return Ok(true),
                Turn::Waiting => return Ok(false),
                Turn::Tired if judge.is_spent() => {}
                Turn::Tired => return Ok(false),
            }
        }
    }

    fn listed(self) -> VecDeque<Listed> {
        let mut listed = self.listed;
        listed.push_front(Listed {
            id: ObjectId::wildcard(),
            decision: self.wildcard,
            excluded: self.excluded,
        });
        listed
    }
}

fn position_of(item: &Listed) -> Position {
    if item.id.is_wildcard() {
        Position::AfterWildcard
    } else {
        Position::After(item.id.clone())
    }
}

impl Search for SubjectSearch<'_> {
    fn step(&mut self, rows: &impl Rows) -> Result<ListStep, EvaluationError> {
        self.judge.begin_step();
        let page = self.advance(rows)?;
        if page.as_ref().is_some_and(|page| page.next.is_none()) {
            self.phase = Phase::Ended;
        }
        Ok(self.judge.end_step(page))
    }

    fn supply(&mut self, demand: ListDemand, supply: ListSupply) {
        let Some((demand, part)) = sort_supply(&mut self.judge, demand, supply) else {
            return;
        };
        if let Phase::Comparing(candidates, _) | Phase::Paging(candidates) = &mut self.phase {
            candidates.join.supply(&demand, &part);
        }
    }

    fn set_limit(&mut self, limit: usize) {
        self.tray.limit = limit.max(1);
    }
}
