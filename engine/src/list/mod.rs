//! Lists: the resources on which a subject has a permission, and the subjects that have one on a resource.
//!
//! A list is the same set as asking a check about everything, by construction: a search over the rows finds *candidates*,
//! of which there can be too many but never too few (`plan` says where to look), and each is verified by the very
//! [`Evaluation`](crate::evaluate::Evaluation) that decides checks, unless the way it was found proves the answer (`judge`).
//! Candidates come in the order of their ids, from a lazy merge of sorted rows (`merge`, `page`), so that a page costs what it
//! shows and what lies between, not what follows. Like an evaluation, a search is stepped by its caller, who supplies
//! what it demands; nothing recurses along the data.

mod closure;
mod explore;
mod join;
mod judge;
mod laid;
mod live;
mod merge;
mod page;
mod plan;
mod resources;
mod subjects;
#[cfg(test)]
mod tests;

use std::ops::Bound;
use std::sync::Arc;

pub use self::plan::{Breadth, Class, Plan};
pub use self::resources::{ResourceQuestion, ResourceSearch};
pub use self::subjects::{SubjectPlans, SubjectQuestion, SubjectSearch};

use crate::evaluate::{Decision, EvaluationError};
use crate::noun::ObjectId;
use crate::row::{Demand, Rows, Supply, Terms};
use crate::schema::SlotId;

/// A stretch of the sorted ids that stand opposite `of` in a slot: at most `limit`, from `start` on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// The relation and the class of subjects.
    pub slot: SlotId,
    /// The id on the near side; its type is the slot's on that side.
    pub of: ObjectId,
    /// Where it begins.
    pub start: Bound<ObjectId>,
    /// The most entries, 1 at least.
    pub limit: usize,
}

/// What a search cannot go on without.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListDemand {
    /// Rows and entries, as a check demands them.
    Check(Demand),
    /// The resources that the subject `of` stands under (for a slot of usersets: the userset of that object).
    Resources(Stretch),
    /// The subjects that stand under the resource `of`.
    Subjects(Stretch),
}

/// One entry of a stretch.
#[derive(Debug, Clone, PartialEq)]
pub struct Opposite {
    /// The id on the far side.
    pub id: ObjectId,
    /// The relationship's terms, if it has any.
    pub terms: Option<Arc<Terms>>,
}

/// A stretch that was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// In the order of their ids, each once.
    pub entries: Vec<Opposite>,
    /// Whether nothing follows them.
    pub is_last: bool,
}

/// The answer to a [`ListDemand`].
#[derive(Debug, Clone)]
pub enum ListSupply {
    /// Answers [`ListDemand::Check`].
    Check(Supply),
    /// Answers [`ListDemand::Resources`] and [`ListDemand::Subjects`].
    Part(Part),
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The resource or subject; the wildcard stands for every subject that no relationship names.
    pub id: ObjectId,
    /// Allow or conditional, never deny.
    pub decision: Decision,
    /// Of the wildcard: the named subjects whose decision is a lesser one. Sorted.
    pub excluded: Vec<ObjectId>,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// With the first id that is none of the wildcard's.
    AfterWildcard,
    /// With the first id after this one.
    After(ObjectId),
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// The wildcard first if there is one, then in the order of their ids.
    pub items: Vec<Listed>,
    /// Where the next page goes on; `None` at the end. A page can be short, or empty, although more follows.
    pub next: Option<Position>,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq)]
pub enum ListStep {
    /// A page. Stepping on begins the next one, with the work limit anew.
    Page(ListPage),
    /// The search cannot go on before some of these were supplied. Each is named once.
    Need(Vec<ListDemand>),
    /// A quantum of work was done; step again.
    Yield,
}

/// A search that is stepped to its pages.
pub trait Search {
    /// Goes on until a page is full, rows are missing, or a quantum of work is done. All rows must be of one revision.
    ///
    /// # Errors
    /// That of the check of a candidate of this page; or `limit_exceeded` where the work limit ends a page before anything of
    /// it is certain.
    fn step(&mut self, rows: &impl Rows) -> Result<ListStep, EvaluationError>;

    /// Answers one of the demands of [`ListStep::Need`].
    fn supply(&mut self, demand: ListDemand, supply: ListSupply);

    /// Sets the most entries of the pages to come, 1 at least.
    fn set_limit(&mut self, limit: usize);
}
