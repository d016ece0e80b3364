//! Evaluation of checks: stepped by its caller, who supplies the rows it demands.
//!
//! A check is decided on a graph of sub-checks (`graph`), which is explored breadth first from the check itself
//! (`expand`, `build`, `follow`), as far as rows are at hand and an undecided gate needs it; `glance` decides what one object's own rows
//! decide, `settle` says when the answer is certain, `missing` names what a conditional answer depends on,
//! and `explain` shows the way. Nothing recurses along the data: no depth of nesting can exhaust the stack.

mod build;
mod expand;
mod explain;
mod follow;
mod glance;
mod graph;
mod known;
mod level;
mod missing;
mod read;
mod settle;

use rustc_hash::FxHashMap;

use self::expand::Exploration;
pub use self::explain::{CaveatOutcome, Cut, Trace, TraceKind, TraceNode, TraceOutcome, TracedCaveat};
use self::graph::{GateId, Graph};
use self::missing::Undecided;
use self::read::Reader;
use crate::caveat::CaveatError;
use crate::context::Context;
use crate::noun::{ObjectId, Timestamp};
use crate::row::{Demand, Rows, Supply};
use crate::schema::{MemberId, Schema, TypeId};

/// Who is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The subject's type.
    pub object_type: TypeId,
    /// The subject's id. The wildcard matches stored wildcards only.
    pub id: ObjectId,
    /// The member of a userset (of the subject's type); `None` for a plain object or a wildcard.
    pub relation: Option<MemberId>,
}

/// The question: does the subject have the member of the object?
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Check {
    /// The relation or permission asked for.
    pub member: MemberId,
    /// The object's id; its type is the member's.
    pub object: ObjectId,
    /// Who is asked about.
    pub subject: Subject,
}

/// How far one evaluation may go. Passing `max_depth` or `max_work` is an error, never a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many steps from object to object, by usersets and arrows, the shortest way to a sub-check may take.
    pub max_depth: u32,
    /// How many rows and entries may be read.
    pub max_work: u64,
    /// After how many rows and entries one step yields. At least one task is done in every step.
    pub quantum: u64,
}

impl Default for Limits {
    /// Depth 100, a million rows and entries, a yield after every 10,000 (about a millisecond).
    fn default() -> Self {
        Self {
            max_depth: 100,
            max_work: 1_000_000,
            quantum: 10_000,
        }
    }
}

/// The answer to a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The subject has it.
    Allow,
    /// The subject does not have it.
    Deny,
    /// It depends on values that neither the relationships nor the request gave.
    Conditional {
        /// The names of those values; sorted, each once.
        missing: Vec<String>,
    },
}

/// The answer and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The answer.
    pub decision: Decision,
    /// The earliest expiry of the relationships that were read: from that moment on the answer may differ.
    pub valid_until: Option<Timestamp>,
    /// Whether a caveat was decided on the way: then the answer may differ with another request context.
    pub used_context: bool,
    /// How many rows and entries were read.
    pub work: u64,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The answer. Every later step gives it again.
    Done(Verdict),
    /// The evaluation cannot go on before some of these were supplied; what is left is demanded again. Each is named once.
    Need(Vec<Demand>),
    /// A quantum of work was done; step again.
    Yield,
}

/// Why there is no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A limit was passed.
    #[error("the check exceeds the limit `{limit}` of {value}")]
    LimitExceeded {
        /// `max_depth` or `max_work`, as in [`Limits`].
        limit: &'static str,
        /// The limit.
        value: u64,
    },
    /// The decision depends on a caveat that failed.
    #[error("caveat `{name}` failed: {error}")]
    Caveat {
        /// The caveat's name.
        name: String,
        /// How it failed.
        #[source]
        error: CaveatError,
    },
    /// An exclusion depends on its own opposite, so that neither allow nor deny is right. (OpenFGA models say that it
    /// is deny then.)
    #[error("the decision depends on an exclusion that excludes itself, met from `{member}` of `{object}`")]
    RecursiveExclusion {
        /// `type#member` of the check.
        member: String,
        /// The object's id.
        object: String,
    },
    /// The check or the schema names a member that the schema does not have.
    #[error("the schema has no member {}", .0.0)]
    UnknownMember(MemberId),
}

/// One check, being evaluated.
///
/// All rows, whether read from the source or supplied, must be of one revision. Reading stops as soon as the answer is certain.
#[derive(Debug)]
pub struct Evaluation<'a> {
    check_member: MemberId,
    check_object: ObjectId,
    limits: Limits,
    reader: Reader<'a>,
    graph: Graph,
    /// The gate of each sub-check that was met. Keys are ids that an outsider chooses; `max_work` bounds the harm.
    gates_by_node: FxHashMap<(MemberId, ObjectId), GateId>,
    exploration: Exploration<'a>,
    /// Whether the last step named rows that it needs.
    demanded: bool,
    undecided: Undecided,
    verdict: Option<Verdict>,
}

impl<'a> Evaluation<'a> {
    /// Prepares a check. `now` is the moment at which expiry is judged. Allocates nothing.
    pub fn new(
        schema: &'a Schema,
        check: Check,
        context: &'a Context,
        now: Timestamp,
        limits: Limits,
    ) -> Self {
        Self {
            check_member: check.member,
            check_object: check.object,
            limits,
            reader: Reader::new(schema, check.subject, context, now, limits),
            graph: Graph::new(),
            gates_by_node: FxHashMap::default(),
            exploration: Exploration::default(),
            demanded: false,
            undecided: Undecided::default(),
            verdict: None,
        }
    }

    /// Goes on until the answer is certain, rows are missing, or a quantum of work is done.
    ///
    /// `rows` may know more or less than at the step before, but must be of the same revision.
    ///
    /// # Errors
    /// See [`EvaluationError`]; what is certain despite a limit or a failing caveat is answered.
    pub fn step(&mut self, rows: &impl Rows) -> Result<Step, EvaluationError> {
        if let Some(verdict) = &self.verdict {
            return Ok(Step::Done(verdict.clone()));
        }
        self.advance(rows)
    }

    /// Answers one of the demands of [`Step::Need`]. An entry answers a probe only; a row answers either.
    pub fn supply(&mut self, demand: Demand, supply: Supply) {
        self.reader.supply(demand, supply);
    }
}
