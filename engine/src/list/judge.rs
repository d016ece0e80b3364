//! Verification: candidates are asked about with the evaluation that decides checks, many side by side over shared rows.

use std::ops::Bound;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{ListDemand, ListPage, ListStep, ListSupply};
use crate::caveat::{Outcome, STEPS_A_WORK};
use crate::context::{Context, Value};
use crate::evaluate::{Check, Decision, Evaluation, EvaluationError, Limits, Step};
use crate::noun::{ObjectId, Timestamp};
use crate::row::{Demand, Entries, Entry, Found, Row, RowKey, Rows, Supply, Terms};
use crate::schema::Schema;

/// The most demands that one step makes.
const MAX_DEMANDS: usize = 1_000;
/// How much of what was supplied is kept from one page to the next, in entries. A large context is as much as several.
const MAX_KEPT: usize = 200_000;
/// What the contexts may come to that are supplied for one page, in bytes, about: a hundred thousand small ones.
const MAX_PAGE_BYTES: usize = 128 << 20;
/// What a value of a context takes beside its text, and about what an entry takes, in bytes.
const VALUE_BYTES: usize = 64;

/// What a check of one candidate came to.
pub(super) type Ruling = Result<Decision, EvaluationError>;

/// What a relationship's terms say in this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// It counts.
    Counts,
    /// A caveat is open: only a check can tell what that means.
    Open,
    /// It does not count.
    Void,
}

/// Everything that the checks of one search have in common.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) schema: &'a Schema,
    context: &'a Context,
    now: Timestamp,
    limits: Limits,
    supplied: Supplied,
    wanted: Vec<ListDemand>,
    wanted_set: FxHashSet<ListDemand>,
    work: u64,
    step_ends_at: u64,
    /// What contexts were supplied for this page, in bytes.
    page_bytes: usize,
}

/// One candidate's check under way.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    evaluation: Evaluation<'a>,
    waits_for: Vec<Demand>,
    charged: u64,
}

/// Rows and entries that were demanded and supplied.
#[derive(Debug, Default)]
struct Supplied {
    rows: FxHashMap<RowKey, Arc<Row>>,
    entries: FxHashMap<(RowKey, ObjectId), Option<Entry>>,
    weight: usize,
}

/// A source of rows, and beside it what was supplied.
struct Layered<'r, R> {
    source: &'r R,
    supplied: &'r Supplied,
}

impl<R: Rows> Rows for Layered<'_, R> {
    fn row(&self, key: &RowKey) -> Found<'_> {
        match self.source.row(key) {
            Found::Unknown => match self.supplied.rows.get(key) {
                Some(row) if row.is_empty() => Found::Empty,
                Some(row) => Found::Row(row),
                None => Found::Unknown,
            },
            known => known,
        }
    }
}

impl<'a> Judge<'a> {
    pub(super) fn new(schema: &'a Schema, context: &'a Context, now: Timestamp, limits: Limits) -> Self {
        Self {
            schema,
            context,
            now,
            limits,
            supplied: Supplied::default(),
            wanted: Vec::new(),
            wanted_set: FxHashSet::default(),
            work: 0,
            step_ends_at: 0,
            page_bytes: 0,
        }
    }

    /// Begins a step.
    pub(super) fn begin_step(&mut self) {
        self.step_ends_at = self.work.saturating_add(self.limits.quantum);
    }

    /// Begins a page: its work is counted from here.
    pub(super) fn begin_page(&mut self) {
        self.work = 0;
        self.page_bytes = 0;
        if self.supplied.weight > MAX_KEPT {
            self.supplied = Supplied::default();
        }
        self.begin_step();
    }

    pub(super) fn charge(&mut self, work: u64) {
        self.work = self.work.saturating_add(work);
    }

    /// Whether the step has done its quantum.
    pub(super) fn is_tired(&self) -> bool {
        self.work >= self.step_ends_at
    }

    /// Whether the page has done all the work it may, or was supplied as much as may be held for it.
    pub(super) fn is_spent(&self) -> bool {
        self.work > self.limits.max_work || self.page_bytes > MAX_PAGE_BYTES
    }

    pub(super) fn spent(&self) -> EvaluationError {
        EvaluationError::LimitExceeded {
            limit: "max_work",
            value: self.limits.max_work,
        }
    }

    /// Demands something, once in a step. What is too much for one step is demanded again in a later one.
    pub(super) fn want(&mut self, demand: ListDemand) {
        if self.wanted.len() < MAX_DEMANDS && self.wanted_set.insert(demand.clone()) {
            self.wanted.push(demand);
        }
    }

    /// What this step demands.
    /// What a step comes to that got so far. After a page the next one begins.
    pub(super) fn end_step(&mut self, page: Option<ListPage>) -> ListStep {
        self.wanted_set.clear();
        let wanted = std::mem::take(&mut self.wanted);
        match page {
            Some(page) => {
                self.begin_page();
                ListStep::Page(page)
            }
            None if wanted.is_empty() => ListStep::Yield,
            None => ListStep::Need(wanted),
        }
    }

    pub(super) fn supply(&mut self, demand: Demand, supply: Supply) {
        match (demand, supply) {
            (Demand::Probe(key, _) | Demand::Scan(key), Supply::Row(row)) => {
                let bytes = row.entries().map(|entry| terms_bytes(entry.terms.as_deref()));
                let bytes = bytes.sum();
                self.take_bytes(bytes);
                self.supplied.weight += 1 + row.len() + bytes / VALUE_BYTES;
                self.supplied.rows.insert(key, row);
            }
            (Demand::Probe(key, subject), Supply::Entry(entry)) => {
                let bytes = terms_bytes(entry.as_ref().and_then(|entry| entry.terms.as_deref()));
                self.take_bytes(bytes);
                self.supplied.weight += 1 + bytes / VALUE_BYTES;
                self.supplied.entries.insert((key, subject), entry);
            }
            // An entry does not answer a scan: the demand stands and is made again.
            (Demand::Scan(_), Supply::Entry(_)) => {}
        }
    }

    fn take_bytes(&mut self, bytes: usize) {
        self.page_bytes = self.page_bytes.saturating_add(bytes);
    }

    /// What a relationship's terms say.
    pub(super) fn weigh(&mut self, terms: Option<&Terms>) -> Weight {
        let Some(terms) = terms else {
            return Weight::Counts;
        };
        if terms.expires_at.is_some_and(|expires_at| expires_at <= self.now) {
            return Weight::Void;
        }
        let Some((caveat, stored)) = &terms.caveat else {
            return Weight::Counts;
        };
        let Some(caveat) = self.schema.caveats().get(caveat.index()) else {
            return Weight::Open;
        };
        let (outcome, steps) = caveat.program.evaluate_counted(stored, self.context);
        self.work = self.work.saturating_add(steps / STEPS_A_WORK);
        match outcome {
            Ok(Outcome::True) => Weight::Counts,
            Ok(Outcome::False) => Weight::Void,
            Ok(Outcome::Missing(_)) | Err(_) => Weight::Open,
        }
    }

    /// Whether a whole row is at hand; demands it where it is not.
    pub(super) fn has_row(&mut self, rows: &impl Rows, key: &RowKey) -> bool {
        let known = row_of(rows, &self.supplied, key).is_some();
        if !known {
            self.want(ListDemand::Check(Demand::Scan(key.clone())));
        }
        known
    }

    /// The entries of a row that is at hand, from a start on and at most so many.
    pub(super) fn entries(
        &mut self,
        rows: &impl Rows,
        key: &RowKey,
        start: &Bound<ObjectId>,
        limit: usize,
    ) -> Option<(Vec<Entry>, bool)> {
        let mut rest = match row_of(rows, &self.supplied, key)? {
            Some(row) => row.entries_from(start),
            None => Entries::default(),
        };
        let found: Vec<Entry> = rest.by_ref().take(limit).cloned().collect();
        let is_last = rest.next().is_none();
        self.charge(1 + found.len() as u64);
        Some((found, is_last))
    }

    /// Prepares a candidate's check.
    pub(super) fn ask(&self, check: Check) -> Box<Ask<'a>> {
        Box::new(Ask {
            evaluation: Evaluation::new(self.schema, check, self.context, self.now, self.limits),
            waits_for: Vec::new(),
            charged: 0,
        })
    }

    /// Goes on with a candidate's check: its outcome, or `None` where it waits for rows or has done a quantum.
    pub(super) fn pursue(&mut self, rows: &impl Rows, ask: &mut Ask<'a>) -> Option<Ruling> {
        loop {
            if !self.answer(rows, ask) {
                return None;
            }
            let layered = Layered {
                source: rows,
                supplied: &self.supplied,
            };
            match ask.evaluation.step(&layered) {
                Ok(Step::Done(verdict)) => {
                    self.charge(verdict.work.saturating_sub(ask.charged).max(1));
                    return Some(Ok(verdict.decision));
                }
                Ok(Step::Need(demands)) => ask.waits_for = demands,
                Ok(Step::Yield) => {
                    ask.charged += self.limits.quantum;
                    self.charge(self.limits.quantum);
                    return None;
                }
                Err(error) => {
                    self.charge(1);
                    return Some(Err(error));
                }
            }
        }
    }

    /// Whether all that a check waits for is at hand, and then hands it over; otherwise demands what is not.
    fn answer(&mut self, rows: &impl Rows, ask: &mut Ask<'a>) -> bool {
        let mut missing = Vec::new();
        for demand in &ask.waits_for {
            let layered = Layered {
                source: rows,
                supplied: &self.supplied,
            };
            let (Demand::Probe(key, _) | Demand::Scan(key)) = demand;
            if !matches!(layered.row(key), Found::Unknown) {
                continue;
            }
            if let Demand::Probe(key, subject) = demand
                && let Some(entry) = self.supplied.entries.get(&(key.clone(), subject.clone()))
            {
                ask.evaluation
                    .supply(demand.clone(), Supply::Entry(entry.clone()));
                continue;
            }
            missing.push(demand.clone());
        }
        let complete = missing.is_empty();
        if complete {
            ask.waits_for.clear();
        }
        for demand in missing {
            self.want(ListDemand::Check(demand));
        }
        complete
    }
}

/// Whether an id lies before a start.
pub(super) fn is_before(id: &ObjectId, start: &Bound<ObjectId>) -> bool {
    match start {
        Bound::Unbounded => false,
        Bound::Included(first) => id < first,
        Bound::Excluded(last) => id <= last,
    }
}

/// A row, by the source or by what was supplied: `None` if that is not known, `Some(None)` if it is empty.
#[expect(clippy::option_option, reason = "unknown and empty are two things")]
fn row_of<'r>(rows: &'r impl Rows, supplied: &'r Supplied, key: &RowKey) -> Option<Option<&'r Row>> {
    match rows.row(key) {
        Found::Row(row) => Some(Some(row)),
        Found::Empty => Some(None),
        Found::Unknown => supplied.rows.get(key).map(|row| Some(&**row)),
    }
}

/// Splits what was supplied by what it answers; what does not fit its demand is dropped, and the demand made again.
pub(super) fn sort_supply(
    judge: &mut Judge<'_>,
    demand: ListDemand,
    supply: ListSupply,
) -> Option<(ListDemand, super::Part)> {
    match (demand, supply) {
        (ListDemand::Check(demand), ListSupply::Check(supply)) => {
            judge.supply(demand, supply);
            None
        }
        (ListDemand::Check(_), ListSupply::Part(_)) | (_, ListSupply::Check(_)) => None,
        (demand, ListSupply::Part(part)) => {
            let terms = part.entries.iter().map(|entry| entry.terms.as_deref());
            judge.take_bytes(terms.map(terms_bytes).sum());
            Some((demand, part))
        }
    }
}

/// About what the context takes that stored terms hold, in bytes.
fn terms_bytes(terms: Option<&Terms>) -> usize {
    let caveat = terms.and_then(|terms| terms.caveat.as_ref());
    caveat.map_or(0, |(_, context)| context_bytes(context))
}

/// Recurses as deep as a stored context nests, which storage bounds.
fn context_bytes(context: &Context) -> usize {
    let members = context.iter();
    members.map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => 0,
            Value::String(text) => text.len(),
            Value::List(items) => items.iter().map(value_bytes).sum(),
            Value::Map(members) => context_bytes(members),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{CaveatId, SlotId};

    #[test]
    fn what_is_supplied_for_a_page_is_bounded_in_bytes_and_not_kept_for_the_next() {
        let (schema, context) = (Schema::default(), Context::new());
        let mut judge = Judge::new(&schema, &context, Timestamp(0), Limits::default());
        judge.begin_page();
        // One context that many share, so that the test holds little.
        let stored = [("text".to_owned(), Value::String("x".repeat(1 << 20)))];
        let terms = Arc::new(Terms {
            caveat: Some((CaveatId(0), stored.into())),
            expires_at: None,
        });
        let mut supplied = 0;
        while !judge.is_spent() {
            let key = RowKey {
                slot: SlotId(0),
                object: ObjectId::parse(&format!("o{supplied}")).unwrap(),
            };
            let entry = Entry {
                subject: ObjectId::parse("s").unwrap(),
                terms: Some(Arc::clone(&terms)),
            };
            let supply = match supplied % 2 {
                0 => (Demand::Scan(key), Supply::Row(Arc::new(Row::new(vec![entry])))),
                _ => (
                    Demand::Probe(key, entry.subject.clone()),
                    Supply::Entry(Some(entry)),
                ),
            };
            judge.supply(supply.0, supply.1);
            supplied += 1;
        }
        assert_eq!(supplied, MAX_PAGE_BYTES >> 20);
        judge.begin_page();
        assert!(!judge.is_spent() && judge.supplied.rows.is_empty());
    }
}
