//! The resources of one type on which a subject has a member.

use std::ops::Bound;
use std::sync::Arc;

use super::explore::{Exploration, Progress};
use super::join::Join;
use super::judge::{Judge, sort_supply};
use super::merge::{Merge, Side};
use super::page::{Candidates, Question, Tray};
use super::plan::Plan;
use super::{ListDemand, ListPage, ListStep, ListSupply, Position, Search};
use crate::context::Context;
use crate::evaluate::{EvaluationError, Limits, Subject};
use crate::noun::{ObjectId, Timestamp};
use crate::row::Rows;
use crate::schema::Schema;

/// On what resources does the subject have the plan's member?
#[derive(Debug, Clone)]
pub struct ResourceQuestion {
    /// Who is asked about. Its class must be the plan's.
    pub subject: Subject,
    /// The resource to go on after.
    pub after: Option<ObjectId>,
}

/// The search for the resources.
#[derive(Debug)]
pub struct ResourceSearch<'a> {
    plan: Arc<Plan>,
    judge: Judge<'a>,
    subject: Subject,
    after: Option<ObjectId>,
    phase: Phase<'a>,
    tray: Tray,
}

#[derive(Debug)]
enum Phase<'a> {
    Exploring(Box<Exploration<'a>>),
    Paging(Box<Candidates<'a>>),
    Ended,
}

impl<'a> ResourceSearch<'a> {
    /// Prepares a search with the [selected](super::Breadth::Selected) plan of the member and the subject's class.
    pub fn new(
        schema: &'a Schema,
        plan: Arc<Plan>,
        question: ResourceQuestion,
        context: &'a Context,
        now: Timestamp,
        limits: Limits,
    ) -> Self {
        let mut judge = Judge::new(schema, context, now, limits);
        judge.begin_page();
        let mut exploration = Exploration::new(&plan, question.subject.clone());
        exploration.seed(&plan, &judge);
        Self {
            plan,
            judge,
            subject: question.subject,
            after: question.after,
            phase: Phase::Exploring(Box::new(exploration)),
            tray: Tray::new(1),
        }
    }

    fn advance(&mut self, rows: &impl Rows) -> Result<Option<ListPage>, EvaluationError> {
        loop {
            match &mut self.phase {
                Phase::Exploring(exploration) => {
                    let progress = exploration.step(&self.plan, &mut self.judge, rows);
                    if self.judge.is_spent() {
                        return Err(self.judge.spent());
                    }
                    if progress != Progress::Done {
                        return Ok(None);
                    }
                    let found = std::mem::take(&mut exploration.found);
                    let start = match &self.after {
                        Some(after) => Bound::Excluded(after.clone()),
                        None => Bound::Unbounded,
                    };
                    let guards = self.plan.guards.iter().map(|guard| {
                        let mut seeded = Exploration::new(guard, self.subject.clone());
                        seeded.seed(guard, &self.judge);
                        seeded.found
                    });
                    let merges = std::iter::once(found)
                        .chain(guards)
                        .map(|found| Merge::new(Side::Resources, found, &start, self.tray.limit));
                    let is_joint = self.plan.guards.is_empty() || self.plan.is_joint;
                    let join = Join::new(merges.collect(), is_joint);
                    let question = Question::Resource {
                        member: self.plan.target,
                        subject: self.subject.clone(),
                    };
                    self.phase = Phase::Paging(Box::new(Candidates::new(join, question)));
                }
                Phase::Paging(candidates) => return self.tray.step(candidates, &mut self.judge, rows),
                Phase::Ended => return Ok(Some(ListPage::default())),
            }
        }
    }
}

impl Search for ResourceSearch<'_> {
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
        match &mut self.phase {
            Phase::Exploring(exploration) => exploration.supply(demand, part),
            Phase::Paging(candidates) => candidates.join.supply(&demand, &part),
            Phase::Ended => {}
        }
    }

    fn set_limit(&mut self, limit: usize) {
        self.tray.limit = limit.max(1);
    }
}

impl Position {
    /// The id that the list goes on after.
    pub fn after(&self) -> Option<&ObjectId> {
        match self {
            Self::AfterWildcard => None,
            Self::After(id) => Some(id),
        }
    }
}
