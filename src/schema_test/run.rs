//! Runs a suite: every expectation is asked of the engine, in memory, and compared.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use inferadb_actors::{CheckRequest, Trial, TrialAnswer, TrialMisfit, VaultError, background};
use inferadb_engine::evaluate::{Decision, Limits};
use inferadb_engine::noun::{Relationship, Timestamp};

use super::explain;
use super::flaw::{Flaw, Unfit};
use super::report::{Outcome, Report, Told};
use super::sets::World;
use super::suite::{Expectable, Expectation, Expected, ExpectedSubject, Group, Placed, Suite};

/// So many things that are but looked at cost as much as a check.
const LOOKS_A_CHECK: usize = 16;

/// How far one run may go.
#[derive(Debug)]
pub struct Bounds {
    /// The limits of each check.
    pub limits: Limits,
    /// The most relationships, those of each test counted with the common ones.
    pub max_relationships: usize,
    /// The most checks, those that lists are made of counted.
    pub max_checks: usize,
}

/// A run under way: what it may do, and what it has done.
#[derive(Debug)]
pub(super) struct Run<'a> {
    bounds: &'a Bounds,
    now: Timestamp,
    checks: &'a AtomicUsize,
    /// Things that were looked at.
    looks: AtomicUsize,
    turns: AtomicU64,
}

/// Why an expectation has no answer.
pub(super) enum Halted {
    /// This one has none.
    Failed(VaultError),
    /// The run has gone as far as it may.
    TooLarge(String),
}

impl From<VaultError> for Halted {
    fn from(error: VaultError) -> Self {
        Self::Failed(error)
    }
}

/// Runs a suite at the moment `now`. `checks` counts the checks that were made, also where the run is given up. With
/// `explain`, a decision that is not the expected one is explained.
///
/// # Errors
///
/// [`Unfit`] where a relationship does not fit the schema or a bound is passed; what an expectation itself
/// brings about is told in the report.
pub async fn run(
    suite: &Suite,
    bounds: &Bounds,
    now: Timestamp,
    checks: &AtomicUsize,
    explain: bool,
) -> Result<Report, Unfit> {
    let run = Run {
        bounds,
        now,
        checks,
        looks: AtomicUsize::new(0),
        turns: AtomicU64::new(0),
    };
    let own: usize = suite.groups.iter().map(|group| group.relationships.len()).sum();
    let common = suite
        .relationships
        .len()
        .saturating_mul(suite.groups.len().max(1));
    if own.saturating_add(common) > bounds.max_relationships {
        return Err(Unfit::TooLarge(format!(
            "at most {} relationships in one run, those of each test counted with the common ones",
            bounds.max_relationships
        )));
    }
    let mut outcomes = Vec::new();
    for group in &suite.groups {
        let world = world(suite, group)?;
        for expectation in &group.expectations {
            let outcome = run.outcome(&world, expectation, explain).await?;
            outcomes.push(Outcome {
                test: group.name.clone(),
                ..outcome
            });
        }
    }
    // A file without tests has relationships that must fit all the same.
    if suite.groups.is_empty() {
        world(suite, &Group::default())?;
    }
    Ok(Report { outcomes })
}

fn world<'a>(suite: &'a Suite, group: &'a Group) -> Result<World<'a>, Unfit> {
    let placed = || suite.relationships.iter().chain(&group.relationships);
    let values: Vec<&Relationship> = placed().map(|placed| &placed.value).collect();
    World::new(&suite.schema, values).map_err(|TrialMisfit { index, misfit }| {
        let found = placed().nth(index);
        let message = format!("the relationship does not fit the schema: {misfit}");
        Unfit::Misfit {
            flaw: Flaw {
                file: found.and_then(|placed| placed.file.as_deref().map(str::to_owned)),
                place: found.map(|placed: &Placed<_>| placed.place).unwrap_or_default(),
                message,
            },
            misfit,
        }
    })
}

impl Run<'_> {
    /// Counts what costs as much as some checks at most, if there may be so many more.
    pub(super) fn spend(&self, checks: usize) -> Result<(), Halted> {
        let made = self.checks.load(Ordering::Relaxed).saturating_add(checks);
        if made > self.bounds.max_checks {
            let message = format!("at most {} checks in one run", self.bounds.max_checks);
            return Err(Halted::TooLarge(message));
        }
        self.checks.store(made, Ordering::Relaxed);
        Ok(())
    }

    /// Counts things that are but looked at: many of them cost as much as a check.
    pub(super) fn look_at(&self, things: usize) -> Result<(), Halted> {
        let before = self.looks.load(Ordering::Relaxed);
        let after = before.saturating_add(things);
        self.looks.store(after, Ordering::Relaxed);
        self.spend(after / LOOKS_A_CHECK - before / LOOKS_A_CHECK)
    }

    /// Small checks never wait: others get their turn all the same.
    pub(super) async fn turn(&self) {
        background::breathe();
        let turns = self.turns.fetch_add(1, Ordering::Relaxed);
        if turns % 64 == 63 {
            tokio::task::yield_now().await;
        }
    }

    /// Whether something that expires has.
    pub(super) fn has_expired(&self, expires_at: Option<Timestamp>) -> bool {
        expires_at.is_some_and(|expires_at| expires_at <= self.now)
    }

    /// Asks one question, if there may be one more.
    pub(super) async fn ask(&self, trial: &Trial, request: &CheckRequest) -> Result<TrialAnswer, Halted> {
        self.spend(1)?;
        self.turn().await;
        Ok(trial.check(request, self.bounds.limits, self.now).await?)
    }

    async fn outcome(
        &self,
        world: &World<'_>,
        expectation: &Expectation,
        explain: bool,
    ) -> Result<Outcome, Unfit> {
        let mut outcome = Outcome {
            test: None,
            assertion: expectation.text.clone(),
            place: expectation.place,
            expected: wanted(&expectation.kind),
            actual: Told::Word("error"),
            passed: false,
            missing_context: Vec::new(),
            differences: Vec::new(),
            error: None,
            explanation: None,
        };
        match self.actual(world, expectation, explain, &mut outcome).await {
            Ok(actual) => {
                outcome.passed = actual == outcome.expected;
                outcome.actual = actual;
            }
            Err(Halted::Failed(error)) => outcome.error = Some(error.to_string()),
            Err(Halted::TooLarge(message)) => return Err(Unfit::TooLarge(message)),
        }
        Ok(outcome)
    }

    async fn actual(
        &self,
        world: &World<'_>,
        expectation: &Expectation,
        explain: bool,
        outcome: &mut Outcome,
    ) -> Result<Told, Halted> {
        match &expectation.kind {
            Expected::Decision(request, expected) => {
                let answer = self.ask(&world.trial, request).await?;
                let found = match answer.decision {
                    Decision::Allow => Expectable::Allow,
                    Decision::Deny => Expectable::Deny,
                    Decision::Conditional { missing } => {
                        outcome.missing_context = missing;
                        Expectable::Conditional
                    }
                };
                if explain && found != *expected {
                    let again = CheckRequest {
                        trace: true,
                        ..request.clone()
                    };
                    let trace = self.ask(&world.trial, &again).await?.trace;
                    outcome.explanation = trace.map(|trace| explain::tree(world.trial.schema(), &trace));
                }
                Ok(Told::Word(found.as_str()))
            }
            Expected::Subjects {
                resource,
                permission,
                subjects,
            } => {
                let (told, differences) = world.subjects(self, resource, permission, subjects).await?;
                outcome.differences = differences;
                Ok(told)
            }
            Expected::Objects {
                subject,
                permission,
                object_type,
                context,
                objects,
            } => {
                let question = (subject, permission, object_type);
                world.objects(self, question, context, objects).await
            }
            Expected::Users {
                resource,
                permission,
                kinds,
                context,
                users,
            } => {
                let question = (resource, permission, &**kinds);
                world.users(self, question, context, users).await
            }
        }
    }
}

/// What is expected, in words; lists sorted, each item once.
fn wanted(kind: &Expected) -> Told {
    match kind {
        Expected::Decision(_, expected) => Told::Word(expected.as_str()),
        Expected::Subjects { subjects, .. } => Told::list(subjects.iter().map(ExpectedSubject::line)),
        Expected::Objects { objects, .. } => Told::list(objects.iter().map(ToString::to_string)),
        Expected::Users { users, .. } => Told::list(users.iter().map(ToString::to_string)),
    }
}
