//! A trial: a schema and relationships in memory alone, asked as a vault is asked. Nothing is stored.

use std::collections::HashMap;
use std::sync::Arc;

use inferadb_engine::evaluate::{Decision, Evaluation, Limits, Step, Trace};
use inferadb_engine::noun::{Relationship, Timestamp};
use inferadb_engine::row::{Demand, Entry, Found, Row, RowKey, Rows, Supply};
use inferadb_engine::schema::{Misfit, Schema};
use inferadb_storage::background;

use crate::error::VaultError;
use crate::vault::{CheckRequest, resolve};
use crate::view::VaultSchema;

/// The most nodes of an explanation.
const MAX_TRACE_NODES: usize = 1_000;

/// A schema, compiled, to try relationships under. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TrialSchema(Arc<VaultSchema>);

/// A schema with relationships.
#[derive(Debug)]
pub struct Trial {
    schema: TrialSchema,
    rows: Resident,
}

/// A relationship that does not fit the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialMisfit {
    /// Which, counted from 0.
    pub index: usize,
    /// Why.
    pub misfit: Misfit,
}

/// The answer to one question.
#[derive(Debug)]
pub struct TrialAnswer {
    /// The decision.
    pub decision: Decision,
    /// How it came about, if that was asked for.
    pub trace: Option<Trace>,
    /// How many rows and entries were read.
    pub work: u64,
}

/// All rows there are. Object ids are chosen by outsiders: the hashing is keyed.
#[derive(Debug)]
struct Resident(HashMap<RowKey, Row, ahash::RandomState>);

impl Rows for Resident {
    fn row(&self, key: &RowKey) -> Found<'_> {
        self.0.get(key).map_or(Found::Empty, Found::Row)
    }
}

impl TrialSchema {
    /// Wraps a compiled schema.
    pub fn new(schema: Schema) -> Self {
        Self(Arc::new(VaultSchema::new(schema, String::new(), None)))
    }

    /// The compiled schema.
    pub fn compiled(&self) -> &Schema {
        &self.0.compiled
    }
}

impl Trial {
    /// Puts relationships under a schema. Of two with the same resource, relation and subject the later one counts.
    ///
    /// # Errors
    ///
    /// The first that does not fit.
    pub fn new<'a>(
        schema: &TrialSchema,
        relationships: impl IntoIterator<Item = &'a Relationship>,
    ) -> Result<Self, TrialMisfit> {
        let mut entries: HashMap<RowKey, Vec<Entry>, ahash::RandomState> = HashMap::default();
        for (index, relationship) in relationships.into_iter().enumerate() {
            background::breathe();
            let fits = schema.0.compiled.fits(relationship);
            fits.map_err(|misfit| TrialMisfit { index, misfit })?;
            if let Some((key, entry)) = schema.0.row_entry(relationship) {
                entries.entry(key).or_default().push(entry);
            }
        }
        let rows = entries.into_iter().map(|(key, entries)| (key, Row::new(entries)));
        Ok(Self {
            schema: schema.clone(),
            rows: Resident(rows.collect()),
        })
    }

    /// The compiled schema.
    pub fn schema(&self) -> &Schema {
        self.schema.compiled()
    }

    /// Answers one question, with an explanation if it asks for one. Others of the thread get their turn after each
    /// quantum of work.
    ///
    /// # Errors
    ///
    /// [`VaultError::Invalid`] where it names what the schema does not have, [`VaultError::Evaluation`] where there
    /// is no decision.
    pub async fn check(
        &self,
        request: &CheckRequest,
        limits: Limits,
        now: Timestamp,
    ) -> Result<TrialAnswer, VaultError> {
        let check = resolve(&self.schema.0, request)?;
        let mut evaluation = Evaluation::new(self.schema(), check, &request.context, now, limits);
        loop {
            match evaluation.step(&self.rows)? {
                Step::Done(verdict) => {
                    let trace = request
                        .trace
                        .then(|| evaluation.explain(&self.rows, MAX_TRACE_NODES));
                    return Ok(TrialAnswer {
                        decision: verdict.decision,
                        trace,
                        work: verdict.work,
                    });
                }
                Step::Yield => tokio::task::yield_now().await,
                // All rows are at hand: what is demanded is not there.
                Step::Need(demands) => {
                    for demand in demands {
                        let (Demand::Probe(key, _) | Demand::Scan(key)) = &demand;
                        let row = self.rows.0.get(key).cloned().unwrap_or_default();
                        evaluation.supply(demand, Supply::Row(Arc::new(row)));
                    }
                }
            }
        }
    }
}
