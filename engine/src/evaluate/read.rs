//! Reading rows: what was supplied beside the source, what an entry's terms say, and what reading costs.

use std::ops::Bound;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::level::Level;
use super::{EvaluationError, Limits, Subject};
use crate::caveat::{CaveatError, Outcome, STEPS_A_WORK};
use crate::context::Context;
use crate::noun::{ObjectId, Timestamp};
use crate::row::{Demand, Entries, Entry, Found, FoundEntry, Row, RowKey, Rows, Supply, Terms};
use crate::schema::{CaveatId, MemberId, Schema, Slot, SlotSubject};

/// Rows and entries that were demanded and supplied.
#[derive(Debug, Default)]
pub(super) struct Supplied {
    rows: FxHashMap<RowKey, Arc<Row>>,
    entries: FxHashMap<(RowKey, ObjectId), Option<Entry>>,
}

/// How many operands are built, or looked at in vain, in the time that reading one entry takes, about.
const OPERANDS_A_WORK: u32 = 16;

/// How many classes of subjects are gone through in that time.
const SLOTS_A_WORK: u64 = 64;

/// What the caveats of terms that were met say. The terms are held, so that no other ones can come to lie where they do.
type Decided = FxHashMap<usize, (Arc<Terms>, Result<Outcome, CaveatError>)>;

/// A whole row, or why there is none to walk.
pub(super) enum Held<'r> {
    Row(&'r Row),
    Shared(Arc<Row>),
    Empty,
    Unknown,
}

impl Held<'_> {
    pub(super) fn entries(&self) -> Entries<'_> {
        self.row().map_or_else(Entries::default, Row::entries)
    }

    /// The entries after that of a subject; all of them without one.
    pub(super) fn entries_after(&self, subject: Option<&ObjectId>) -> Entries<'_> {
        match (self.row(), subject) {
            (Some(row), Some(subject)) => row.entries_from(&Bound::Excluded(subject.clone())),
            _ => self.entries(),
        }
    }

    fn row(&self) -> Option<&Row> {
        match self {
            Self::Row(row) => Some(row),
            Self::Shared(row) => Some(row),
            Self::Empty | Self::Unknown => None,
        }
    }
}

/// Everything that reading rows for one check takes, and what it has noticed on the way.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) schema: &'a Schema,
    pub(super) subject: Subject,
    context: &'a Context,
    now: Timestamp,
    max_work: u64,
    supplied: Supplied,
    decided: Decided,
    operands: u32,
    pub(super) work: u64,
    pub(super) valid_until: Option<Timestamp>,
    pub(super) used_context: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        schema: &'a Schema,
        subject: Subject,
        context: &'a Context,
        now: Timestamp,
        limits: Limits,
    ) -> Self {
        Self {
            schema,
            subject,
            context,
            now,
            max_work: limits.max_work,
            supplied: Supplied::default(),
            decided: Decided::default(),
            operands: 0,
            work: 0,
            valid_until: None,
            used_context: false,
        }
    }

    pub(super) fn supply(&mut self, demand: Demand, supply: Supply) {
        match (demand, supply) {
            (Demand::Probe(key, _) | Demand::Scan(key), Supply::Row(row)) => {
                self.supplied.rows.insert(key, row);
            }
            (Demand::Probe(key, subject), Supply::Entry(entry)) => {
                self.supplied.entries.insert((key, subject), entry);
            }
            // An entry does not answer a scan: the demand stands and is made again.
            (Demand::Scan(_), Supply::Entry(_)) => {}
        }
    }

    /// Fails once the work done exceeds the limit.
    pub(super) fn check_work(&self) -> Result<(), EvaluationError> {
        if self.work > self.max_work {
            return Err(EvaluationError::LimitExceeded {
                limit: "max_work",
                value: self.max_work,
            });
        }
        Ok(())
    }

    /// Counts one operand of an expression; fails as [`Reader::check_work`] does.
    pub(super) fn count_operand(&mut self) -> Result<(), EvaluationError> {
        self.operands += 1;
        if self.operands < OPERANDS_A_WORK {
            return Ok(());
        }
        self.operands = 0;
        self.work += 1;
        self.check_work()
    }

    /// Counts the classes of subjects of a relation that are gone through.
    pub(super) const fn count_slots(&mut self, slots: usize) {
        self.work += slots as u64 / SLOTS_A_WORK;
    }

    /// `type#member`, for messages.
    pub(super) fn member_text(&self, member: MemberId) -> String {
        let held = self.schema.members().get(member.index());
        let object_type = held.and_then(|held| self.schema.types().get(held.object_type.index()));
        match (object_type, held) {
            (Some(object_type), Some(held)) => format!("{}#{}", object_type.name, held.name),
            _ => format!("#{}", member.0),
        }
    }

    /// The id under which the subject stands in a slot of this class, if it can stand there at all.
    pub(super) fn probe_id(&self, slot: &Slot) -> Option<ObjectId> {
        if slot.subject_type != self.subject.object_type || self.subject.relation.is_some() {
            return None;
        }
        match slot.subject {
            SlotSubject::Object => (!self.subject.id.is_wildcard()).then(|| self.subject.id.clone()),
            SlotSubject::Wildcard => Some(ObjectId::wildcard()),
            SlotSubject::Userset(_) => None,
        }
    }

    /// What the entry of one subject in a row says, and its terms; `None` if neither the source nor what was supplied knows.
    pub(super) fn probe(
        &mut self,
        rows: &impl Rows,
        key: &RowKey,
        subject: &ObjectId,
    ) -> Option<(Level, Option<Arc<Terms>>)> {
        self.work += 1;
        Some(match self.find(rows, key, subject)? {
            Some(terms) => (self.weigh(terms.as_ref()), terms),
            None => (Level::False, None),
        })
    }

    /// The entry of one subject in a row: `None` if that is not known, `Some(None)` if there is none, otherwise
    /// its terms.
    #[expect(
        clippy::option_option,
        reason = "unknown, absent and without terms are three things"
    )]
    pub(super) fn find(
        &self,
        rows: &impl Rows,
        key: &RowKey,
        subject: &ObjectId,
    ) -> Option<Option<Option<Arc<Terms>>>> {
        let in_row = |row: &Row| row.find(subject).map(|entry| entry.terms.clone());
        match rows.entry(key, subject) {
            FoundEntry::Entry(entry) => Some(Some(entry.terms.clone())),
            FoundEntry::Absent => Some(None),
            FoundEntry::Unknown => {
                if let Some(row) = self.supplied.rows.get(key) {
                    return Some(in_row(row));
                }
                if self.supplied.entries.is_empty() {
                    return None;
                }
                let entry = self.supplied.entries.get(&(key.clone(), subject.clone()))?;
                Some(entry.as_ref().map(|entry| entry.terms.clone()))
            }
        }
    }

    /// A whole row.
    pub(super) fn row<'r>(&mut self, rows: &'r impl Rows, key: &RowKey) -> Held<'r> {
        self.work += 1;
        match rows.row(key) {
            Found::Row(row) if row.is_empty() => Held::Empty,
            Found::Row(row) => Held::Row(row),
            Found::Empty => Held::Empty,
            Found::Unknown => match self.supplied.rows.get(key) {
                Some(row) if row.is_empty() => Held::Empty,
                Some(row) => Held::Shared(Arc::clone(row)),
                None => Held::Unknown,
            },
        }
    }

    /// Whether an entry under these terms counts. A caveat that fails leaves it unknown: should the decision
    /// depend on it, the failure becomes the answer (see [`Reader::caveat_names`]).
    pub(super) fn weigh(&mut self, terms: Option<&Arc<Terms>>) -> Level {
        let Some(terms) = terms else {
            return Level::True;
        };
        if let Some(expires_at) = terms.expires_at {
            if expires_at <= self.now {
                return Level::False;
            }
            self.valid_until = Some(self.valid_until.map_or(expires_at, |held| held.min(expires_at)));
        }
        let Some((caveat, stored)) = &terms.caveat else {
            return Level::True;
        };
        self.used_context = true;
        let level = |outcome: &Result<Outcome, CaveatError>| match outcome {
            Ok(Outcome::True) => Level::True,
            Ok(Outcome::False) => Level::False,
            Ok(Outcome::Missing(_)) | Err(_) => Level::Unknown,
        };
        let place = Arc::as_ptr(terms).addr();
        if let Some((_, outcome)) = self.decided.get(&place) {
            return level(outcome);
        }
        let (outcome, steps) = self.decide(*caveat, stored);
        self.work += steps / STEPS_A_WORK;
        let found = level(&outcome);
        self.decided.insert(place, (Arc::clone(terms), outcome));
        found
    }

    /// Whether the terms have passed.
    pub(super) fn is_expired(&self, terms: Option<&Terms>) -> bool {
        terms
            .and_then(|terms| terms.expires_at)
            .is_some_and(|expires_at| expires_at <= self.now)
    }

    fn decide(&self, caveat: CaveatId, stored: &Context) -> (Result<Outcome, CaveatError>, u64) {
        match self.schema.caveats().get(caveat.index()) {
            Some(caveat) => caveat.program.evaluate_counted(stored, self.context),
            None => {
                let error = CaveatError::Expression("the schema has no such caveat".into());
                (Err(error), 0)
            }
        }
    }

    /// The caveat of these terms and what it says in this request.
    pub(super) fn caveat_outcome(
        &self,
        terms: Option<&Arc<Terms>>,
    ) -> Option<(CaveatId, Result<Outcome, EvaluationError>)> {
        let terms = terms?;
        let (id, stored) = terms.caveat.as_ref()?;
        let outcome = match self.decided.get(&Arc::as_ptr(terms).addr()) {
            Some((_, outcome)) => outcome.clone(),
            None => self.decide(*id, stored).0,
        };
        let outcome = outcome.map_err(|error| EvaluationError::Caveat {
            name: match self.schema.caveats().get(id.index()) {
                Some(caveat) => caveat.name.to_string(),
                None => format!("#{}", id.0),
            },
            error,
        });
        Some((*id, outcome))
    }

    /// The names that the caveat of these terms is missing; its failure, if it fails.
    pub(super) fn caveat_names(&self, terms: &Arc<Terms>) -> Result<Vec<String>, EvaluationError> {
        match self.caveat_outcome(Some(terms)) {
            Some((_, Ok(Outcome::Missing(names)))) => Ok(names),
            Some((_, Err(error))) => Err(error),
            Some((_, Ok(_))) | None => Ok(Vec::new()),
        }
    }
}
