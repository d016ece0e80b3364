//! The checks of a request that asks many: each sound or with what is wrong with it, and their answers put back in order.

use std::borrow::Cow;
use std::sync::Arc;

use inferadb_actors::{CheckRequest, Turn};
use inferadb_engine::context::Context;
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::body;
use super::contexts::Contexts;
use super::problem::Problem;
use super::wire::{RelationshipBody, at, parse_contextual};

/// What parsing a check is worth, beside the work of evaluations.
const WORK_OF_QUESTION: u64 = 8;
/// The same of a relationship that it brings.
const WORK_OF_RELATIONSHIP: u64 = 4;

/// One check in JSON.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct QuestionBody<'a> {
    /// Who.
    #[serde(borrow)]
    pub subject: Cow<'a, str>,
    /// On what.
    #[serde(borrow)]
    pub resource: Cow<'a, str>,
    /// The relation or permission asked for.
    #[serde(borrow)]
    pub permission: Cow<'a, str>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    /// Relationships that count for this check alone.
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    pub contextual_relationships: Vec<RelationshipBody<'a>>,
}

body::objects!(QuestionBody<'a>);

/// The checks of one request.
pub struct Questions {
    /// Those that make sense, in order.
    pub sound: Vec<CheckRequest>,
    /// For each check, what is wrong with it.
    problems: Vec<Option<Problem>>,
}

impl Questions {
    /// Parses the `checks` of a request, `most` at most, that has a `context` for all of them, in turns. What is wrong with one is that one's.
    pub async fn parse(
        most: usize,
        bodies: &[QuestionBody<'_>],
        context: Option<&RawValue>,
        contexts: &mut Contexts,
        turn: &mut Turn<'_>,
    ) -> Result<Self, Problem> {
        if bodies.len() > most {
            let count = bodies.len();
            let detail = format!("at most {most} checks in one batch, this one has {count}");
            return Err(Problem::invalid("too_many", "checks", detail));
        }
        let shared = Arc::new(contexts.read("context", context)?);
        let mut questions = Self {
            sound: Vec::with_capacity(bodies.len()),
            problems: Vec::with_capacity(bodies.len()),
        };
        let shared_bytes = context.map_or(0, |context| context.get().len());
        for (index, body) in bodies.iter().enumerate() {
            turn.pace(body.work(shared_bytes)).await;
            let problem = match body.parse(index, &shared, contexts) {
                Ok(question) => {
                    turn.count(work_of_contexts(&question.contextual));
                    questions.sound.push(question);
                    None
                }
                Err(problem) => Some(problem),
            };
            questions.problems.push(problem);
        }
        Ok(questions)
    }

    /// The outcome of each check, given those of the sound ones in order.
    pub fn outcomes<T>(self, answers: Vec<T>) -> Vec<Result<T, Problem>> {
        let mut answers = answers.into_iter();
        let outcome = |problem: Option<Problem>| match problem {
            Some(problem) => Some(Err(problem)),
            // There is one answer for each sound check.
            None => answers.next().map(Ok),
        };
        self.problems.into_iter().map_while(outcome).collect()
    }
}

impl QuestionBody<'_> {
    /// What parsing it is worth, but for the contexts of the relationships that it brings, where the context of all checks has so
    /// many bytes: a check with one of its own gets a copy of that.
    fn work(&self, shared_bytes: usize) -> u64 {
        let context = self
            .context
            .map_or(0, |own| shared_bytes.saturating_add(own.get().len()));
        let relationships = self.contextual_relationships.len() as u64;
        WORK_OF_QUESTION + WORK_OF_RELATIONSHIP * relationships + body::work_of(context)
    }

    fn parse(
        &self,
        index: usize,
        shared: &Arc<Context>,
        contexts: &mut Contexts,
    ) -> Result<CheckRequest, Problem> {
        let context = match self.context {
            None => Arc::clone(shared),
            Some(_) => {
                // A check's own values win over the request's.
                let field = format!("checks[{index}].context");
                let own = contexts.read(&field, self.context)?;
                // A copy of what all share is one more.
                contexts.hold(&field, shared)?;
                let mut context = Context::clone(shared);
                context.extend(own);
                Arc::new(context)
            }
        };
        Ok(CheckRequest {
            subject: at(
                format_args!("checks[{index}].subject"),
                SubjectRef::parse(&self.subject),
            )?,
            resource: at(
                format_args!("checks[{index}].resource"),
                ObjectRef::parse(&self.resource),
            )?,
            permission: at(
                format_args!("checks[{index}].permission"),
                Name::parse(&self.permission),
            )?,
            context,
            contextual: parse_contextual(
                format_args!("checks[{index}].contextual_relationships"),
                &self.contextual_relationships,
                contexts,
            )?,
            trace: false,
        })
    }
}

/// What it was worth to read the contexts of relationships.
pub fn work_of_contexts(relationships: &[Relationship]) -> u64 {
    let caveats = relationships.iter().filter_map(|held| held.caveat.as_ref());
    caveats.map(|caveat| body::work_of_context(&caveat.context)).sum()
}

/// A problem of one check, with the member at fault named as it stands in the request.
pub fn of_item(problem: Problem, index: usize) -> Problem {
    Problem {
        field: problem.field.map(|field| format!("checks[{index}].{field}")),
        ..problem
    }
}

/// A decision in JSON.
#[derive(Serialize)]
pub struct DecisionView<'a> {
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_context: Option<&'a [String]>,
}

impl<'a> From<&'a Decision> for DecisionView<'a> {
    fn from(decision: &'a Decision) -> Self {
        Self {
            decision: word(decision),
            missing_context: missing(decision),
        }
    }
}

/// A problem in the place of a decision.
pub fn error_value(problem: &Problem) -> Value {
    json!({ "error": problem.to_value() })
}

/// What is missing for a decision, where that is all it says.
pub fn missing(decision: &Decision) -> Option<&[String]> {
    match decision {
        Decision::Conditional { missing } => Some(missing),
        Decision::Allow | Decision::Deny => None,
    }
}

/// A decision in one word.
pub const fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
        Decision::Conditional { .. } => "conditional",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_check_brings_with_it_is_part_of_its_work() {
        let relationship = r#"{"resource":"doc:1","relation":"viewer","subject":"user:a"}"#;
        let check = |relationships: usize, context: &str| {
            let all = vec![relationship; relationships].join(",");
            format!(
                r#"{{"subject":"user:a","resource":"doc:1","permission":"view","context":{context},
                    "contextual_relationships":[{all}]}}"#
            )
        };
        let work = |text: &str, shared_bytes| {
            let body: QuestionBody<'_> = serde_json::from_str(text).unwrap();
            body.work(shared_bytes)
        };
        let plain = work(&check(0, "null"), 64_000);
        assert_eq!(
            plain, WORK_OF_QUESTION,
            "what all checks share is copied for none"
        );
        assert!(work(&check(70, "null"), 0) >= plain + 70);
        let long = format!(r#"{{"text":"{}"}}"#, "a".repeat(6_400));
        assert!(work(&check(0, &long), 0) >= plain + 100);
        assert!(work(&check(0, "{}"), 64_000) >= plain + 1_000, "each gets a copy");
    }
}
