//! Reading rows: what was supplied beside the source, what an entry's terms say, and what reading costs.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::level::Level;
use super::{EvaluationError, Limits, Subject};
use crate::caveat::{CaveatError, Outcome};
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

/// Of how many open terms the missing names are kept. Those of more are found again by another evaluation of their caveats.
const MAX_OPEN: usize = 8;

/// A whole row, or why there is none to walk.
pub(super) enum Held<'r> {
    Row(&'r Row),
    Shared(Arc<Row>),
    Empty,
    Unknown,
}

impl Held<'_> {
    pub(super) fn entries(&self) -> Entries<'_> {
        match self {
            Self::Row(row) => row.entries(),
            Self::Shared(row) => row.entries(),
            Self::Empty | Self::Unknown => Entries::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Row(row) => row.len(),
            Self::Shared(row) => row.len(),
            Self::Empty | Self::Unknown => 0,
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
    pub(super) work: u64,
    pub(super) valid_until: Option<Timestamp>,
    pub(super) used_context: bool,
    /// Terms that lack values, and which: a glance weighs them, the graph again, and at last the names are wanted.
    open: Vec<(Arc<Terms>, Vec<String>)>,
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
            work: 0,
            valid_until: None,
            used_context: false,
            open: Vec::new(),
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
        if self.names_of(terms).is_some() {
            return Level::Unknown;
        }
        match self.decide(*caveat, stored) {
            Ok(Outcome::True) => Level::True,
            Ok(Outcome::False) => Level::False,
            Ok(Outcome::Missing(names)) => {
                if self.open.len() < MAX_OPEN {
                    self.open.push((Arc::clone(terms), names));
                }
                Level::Unknown
            }
            Err(_) => Level::Unknown,
        }
    }

    /// Whether the terms have passed.
    pub(super) fn is_expired(&self, terms: Option<&Terms>) -> bool {
        terms
            .and_then(|terms| terms.expires_at)
            .is_some_and(|expires_at| expires_at <= self.now)
    }

    /// What the caveat of these very terms was missing, if that is still known.
    fn names_of(&self, terms: &Arc<Terms>) -> Option<&[String]> {
        let known = self.open.iter().find(|(open, _)| Arc::ptr_eq(open, terms));
        known.map(|(_, names)| names.as_slice())
    }

    fn decide(&self, caveat: CaveatId, stored: &Context) -> Result<Outcome, EvaluationError> {
        let Some(caveat) = self.schema.caveats().get(caveat.index()) else {
            return Err(EvaluationError::Caveat {
                name: format!("#{}", caveat.0),
                error: CaveatError::Expression("the schema has no such caveat".into()),
            });
        };
        let outcome = caveat.program.evaluate(stored, self.context);
        outcome.map_err(|error| EvaluationError::Caveat {
            name: caveat.name.to_string(),
            error,
        })
    }

    /// The caveat of these terms and what it says in this request.
    pub(super) fn caveat_outcome(
        &self,
        terms: Option<&Terms>,
    ) -> Option<(CaveatId, Result<Outcome, EvaluationError>)> {
        let (caveat, stored) = terms?.caveat.as_ref()?;
        Some((*caveat, self.decide(*caveat, stored)))
    }

    /// The names that the caveat of these terms is missing; its failure, if it fails.
    pub(super) fn caveat_names(&self, terms: &Arc<Terms>) -> Result<Vec<String>, EvaluationError> {
        if let Some(names) = self.names_of(terms) {
            return Ok(names.to_vec());
        }
        match self.caveat_outcome(Some(terms)) {
            Some((_, Ok(Outcome::Missing(names)))) => Ok(names),
            Some((_, Err(error))) => Err(error),
            Some((_, Ok(_))) | None => Ok(Vec::new()),
        }
    }
}
