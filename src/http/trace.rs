//! Explanations on the wire: a tree that a person can read, with names instead of the engine's numbers.

use inferadb_actors::Explanation;
use inferadb_engine::caveat::Outcome;
use inferadb_engine::evaluate::{CaveatOutcome, Cut, TraceKind, TraceNode, TraceOutcome};
use inferadb_engine::schema::{ArrowMode, MemberId, Schema, SlotId, SlotSubject};
use serde::Serialize;
use serde_json::{Value, json};

use super::wire::format_time;

/// An explanation in JSON.
#[derive(Debug, Serialize)]
pub struct TraceView {
    root: Value,
    truncated: bool,
}

impl From<&Explanation> for TraceView {
    fn from(explanation: &Explanation) -> Self {
        let schema = explanation.schema();
        Self {
            root: node(schema, &explanation.trace.root),
            truncated: explanation.trace.truncated,
        }
    }
}

/// The engine bounds the tree's depth.
fn node(schema: &Schema, traced: &TraceNode) -> Value {
    let mut value = kind(schema, &traced.kind);
    if let Some(members) = value.as_object_mut() {
        members.insert("outcome".into(), outcome(traced.outcome).into());
        if !traced.children.is_empty() {
            let children: Vec<Value> = traced.children.iter().map(|child| node(schema, child)).collect();
            members.insert("children".into(), children.into());
        }
    }
    value
}

fn kind(schema: &Schema, kind: &TraceKind) -> Value {
    match kind {
        TraceKind::Check { member, object, cut } => {
            let (object_type, name) = member_names(schema, *member);
            let mut value =
                json!({ "node": "check", "resource": format!("{object_type}:{object}"), "permission": name });
            if let (Some(cut), Some(members)) = (cut, value.as_object_mut()) {
                let why = match cut {
                    Cut::Recursion => "recursion",
                    Cut::Reused => "shown_elsewhere",
                    Cut::Truncated => "truncated",
                };
                members.insert("cut".into(), why.into());
            }
            value
        }
        TraceKind::Union => json!({ "node": "union" }),
        TraceKind::Intersection => json!({ "node": "intersection" }),
        TraceKind::Exclusion => json!({ "node": "exclusion" }),
        TraceKind::Arrow { relation, mode } => {
            let mode = match mode {
                ArrowMode::Any => "any",
                ArrowMode::All => "all",
            };
            json!({ "node": "arrow", "relation": member_names(schema, *relation).1, "mode": mode })
        }
        TraceKind::This { relation } => {
            json!({ "node": "relation", "relation": member_names(schema, *relation).1 })
        }
        TraceKind::Nil => json!({ "node": "nil" }),
        TraceKind::Itself => json!({ "node": "self" }),
        TraceKind::Relationship {
            slot,
            object,
            subject,
            expires_at,
            caveat,
        } => {
            let mut value = json!({
                "node": "relationship",
                "relationship": relationship(schema, *slot, object.as_str(), subject.as_str()),
            });
            if let Some(members) = value.as_object_mut() {
                if let Some(at) = expires_at {
                    members.insert("expires_at".into(), format_time(*at).into());
                }
                if let Some((id, said)) = caveat {
                    let name = schema
                        .caveats()
                        .get(id.index())
                        .map_or("", |caveat| caveat.name.as_str());
                    members.insert("caveat".into(), caveat_value(name, said));
                }
            }
            value
        }
    }
}

fn caveat_value(name: &str, said: &CaveatOutcome) -> Value {
    match said {
        CaveatOutcome::Decided(Outcome::True) => json!({ "name": name, "outcome": "true" }),
        CaveatOutcome::Decided(Outcome::False) => json!({ "name": name, "outcome": "false" }),
        CaveatOutcome::Decided(Outcome::Missing(names)) => {
            json!({ "name": name, "outcome": "missing", "missing_context": names })
        }
        CaveatOutcome::Failed(why) => json!({ "name": name, "outcome": "failed", "error": why }),
    }
}

fn relationship(schema: &Schema, slot: SlotId, object: &str, subject: &str) -> String {
    let Some(slot) = schema.slots().get(slot.index()) else {
        return String::new();
    };
    let (object_type, relation) = member_names(schema, slot.relation);
    let subject_type = schema
        .types()
        .get(slot.subject_type.index())
        .map_or("", |held| held.name.as_str());
    let userset = match slot.subject {
        SlotSubject::Userset(member) => format!("#{}", member_names(schema, member).1),
        SlotSubject::Object | SlotSubject::Wildcard => String::new(),
    };
    format!("{object_type}:{object}#{relation}@{subject_type}:{subject}{userset}")
}

/// The names of a member's type and of the member.
fn member_names(schema: &Schema, member: MemberId) -> (&str, &str) {
    let Some(member) = schema.members().get(member.index()) else {
        return ("", "");
    };
    let object_type = schema
        .types()
        .get(member.object_type.index())
        .map_or("", |held| held.name.as_str());
    (object_type, member.name.as_str())
}

const fn outcome(outcome: TraceOutcome) -> &'static str {
    match outcome {
        TraceOutcome::Allow => "allow",
        TraceOutcome::Deny => "deny",
        TraceOutcome::Conditional => "conditional",
        TraceOutcome::NotNeeded => "not_needed",
    }
}
