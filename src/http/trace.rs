//! Explanations on the wire: a tree that a person can read, with names instead of the engine's numbers.

use std::sync::Arc;

use inferadb_actors::{Explanation, Vault, VaultError, background};
use inferadb_engine::caveat::Outcome;
use inferadb_engine::evaluate::{CaveatOutcome, Cut, TraceKind, TraceNode, TraceOutcome, TracedCaveat};
use inferadb_engine::schema::{ArrowMode, MemberId, Schema, SlotId, SlotSubject};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::nesting::{Left, MAX_NESTING, Parts};
use super::wire::{ContextRoom, format_time};

/// How many bytes of stored contexts an explanation shows.
const MAX_CONTEXT_BYTES: usize = 1 << 20;
/// Longer expressions of caveats are not repeated in an explanation: the schema has them.
const MAX_EXPRESSION_BYTES: usize = 1_000;
/// An explanation of more nodes is written apart from the threads that answer requests.
const MANY_NODES: usize = 64;
/// As how many nodes one with a stored context counts, which can be large.
const NODES_OF_CONTEXT: usize = 8;

/// An explanation in JSON. A large one is written apart from the threads that answer requests.
pub async fn written(vault: &Arc<Vault>, explanation: Explanation) -> Result<Box<RawValue>, VaultError> {
    let is_large = weight(&explanation.trace.root) > MANY_NODES;
    // Strings, numbers and lists of them are always JSON.
    let write = move || to_raw_value(&TraceView::from(&explanation)).unwrap_or_default();
    match is_large {
        true => vault.apart(write).await,
        false => Ok(write()),
    }
}

/// How many nodes there are, as far as writing them is concerned.
fn weight(traced: &TraceNode) -> usize {
    let own = match &traced.kind {
        TraceKind::Relationship { caveat: Some(_), .. } => NODES_OF_CONTEXT,
        _ => 1,
    };
    own + traced.children.iter().map(weight).sum::<usize>()
}

#[derive(Debug, Serialize)]
struct TraceView {
    root: Value,
    /// The parts of the tree that lie too deep for one nesting of JSON.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<Value>,
    truncated: bool,
    /// The tree once more, a line a node, for whoever has no tool to look at trees with.
    text: Vec<String>,
    cache: &'static str,
    work: u64,
    storage_reads: usize,
}

impl From<&Explanation> for TraceView {
    fn from(explanation: &Explanation) -> Self {
        let schema = explanation.schema();
        let root = &explanation.trace.root;
        let mut text = Vec::new();
        lines(schema, root, 0, &mut text);
        let room = ContextRoom::new(MAX_CONTEXT_BYTES);
        let mut parts = Parts::new(root, |traced: &TraceNode, parts| {
            node(schema, &room, traced, 0, parts)
        });
        Self {
            root: parts.next().unwrap_or_default(),
            more: parts.collect(),
            truncated: explanation.trace.truncated,
            text,
            cache: match explanation.cached {
                Some(true) => "hit",
                Some(false) => "miss",
                None => "not_used",
            },
            work: explanation.work,
            storage_reads: explanation.storage_reads,
        }
    }
}

/// The node with what is below it, which from some depth on is left to another part.
fn node<'t>(
    schema: &Schema,
    room: &ContextRoom,
    traced: &'t TraceNode,
    depth: usize,
    left: &mut Left<&'t TraceNode>,
) -> Value {
    background::breathe();
    let mut value = kind(schema, room, &traced.kind);
    if let Some(members) = value.as_object_mut() {
        members.insert("outcome".into(), outcome(traced.outcome).into());
        if traced.truncated {
            members.insert("cut".into(), cut_word(Cut::Truncated).into());
        }
        if traced.children.is_empty() {
            return value;
        }
        if depth == MAX_NESTING {
            members.insert("continued".into(), left.leave(traced).into());
            return value;
        }
        let children = traced.children.iter();
        let children: Vec<Value> = children
            .map(|child| node(schema, room, child, depth + 1, left))
            .collect();
        members.insert("children".into(), children.into());
    }
    value
}

fn kind(schema: &Schema, room: &ContextRoom, kind: &TraceKind) -> Value {
    match kind {
        TraceKind::Check { member, object, cut } => {
            let (object_type, name) = member_names(schema, *member);
            let mut value =
                json!({ "node": "check", "resource": format!("{object_type}:{object}"), "permission": name });
            if let (Some(cut), Some(members)) = (cut, value.as_object_mut()) {
                members.insert("cut".into(), cut_word(*cut).into());
            }
            value
        }
        TraceKind::Union => json!({ "node": "union" }),
        TraceKind::Intersection => json!({ "node": "intersection" }),
        TraceKind::Exclusion => json!({ "node": "exclusion" }),
        TraceKind::Arrow {
            relation,
            mode,
            target,
        } => json!({
            "node": "arrow",
            "relation": member_names(schema, *relation).1,
            "permission": target.map(|target| member_names(schema, target).1),
            "mode": arrow_mode(*mode),
        }),
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
            expired,
            caveat,
            contextual,
        } => {
            let mut value = json!({
                "node": "relationship",
                "relationship": relationship(schema, *slot, object.as_str(), subject.as_str()),
            });
            if let Some(members) = value.as_object_mut() {
                if let Some(at) = expires_at {
                    members.insert("expires_at".into(), format_time(*at).into());
                }
                if *expired {
                    members.insert("expired".into(), true.into());
                }
                if let Some(caveat) = caveat {
                    members.insert("caveat".into(), caveat_value(schema, room, caveat));
                }
                if *contextual {
                    members.insert("contextual".into(), true.into());
                }
            }
            value
        }
    }
}

/// What a caveat said, and why: its expression and what was stored for it. What the request brought is the caller's to know.
fn caveat_value(schema: &Schema, room: &ContextRoom, caveat: &TracedCaveat) -> Value {
    let held = schema.caveats().get(caveat.caveat.index());
    let (name, expression) = held.map_or(("", ""), |held| (held.name.as_str(), held.expression.as_str()));
    let mut value = json!({ "name": name });
    if let Some(members) = value.as_object_mut() {
        room.show(members, &caveat.context);
        let expression = expression.trim();
        if expression.len() <= MAX_EXPRESSION_BYTES {
            members.insert("expression".into(), expression.into());
        }
        let mut put = |name: &str, value: Value| members.insert(name.into(), value);
        match &caveat.outcome {
            CaveatOutcome::Decided(Outcome::True) => put("outcome", "true".into()),
            CaveatOutcome::Decided(Outcome::False) => put("outcome", "false".into()),
            CaveatOutcome::Decided(Outcome::Missing(names)) => {
                put("missing_context", json!(names));
                put("outcome", "missing".into())
            }
            CaveatOutcome::Failed(why) => {
                put("error", why.as_str().into());
                put("outcome", "failed".into())
            }
        };
    }
    value
}

/// One line for each node, as deep as it lies. The engine bounds the tree's depth.
fn lines(schema: &Schema, traced: &TraceNode, depth: usize, text: &mut Vec<String>) {
    background::breathe();
    let mut line = format!("{:width$}{}: ", "", outcome(traced.outcome), width = 2 * depth);
    write_kind(schema, &traced.kind, &mut line);
    if traced.truncated {
        line.push_str(" [not all of it is shown]");
    }
    text.push(line);
    for child in &traced.children {
        lines(schema, child, depth + 1, text);
    }
}

fn write_kind(schema: &Schema, kind: &TraceKind, line: &mut String) {
    match kind {
        TraceKind::Check { member, object, cut } => {
            let (object_type, name) = member_names(schema, *member);
            line.push_str(&format!("{name} of {object_type}:{object}"));
            match cut {
                Some(Cut::Recursion) => line.push_str(" [within itself]"),
                Some(Cut::Reused) => line.push_str(" [shown elsewhere]"),
                Some(Cut::Truncated) | None => {}
            }
        }
        TraceKind::Union => line.push_str("one of"),
        TraceKind::Intersection => line.push_str("all of"),
        TraceKind::Exclusion => line.push_str("the first without the second"),
        TraceKind::Arrow {
            relation,
            mode,
            target,
        } => {
            let relation = member_names(schema, *relation).1;
            let target = target.map_or("", |target| member_names(schema, target).1);
            line.push_str(&match mode {
                ArrowMode::Any => format!("{relation}->{target}"),
                ArrowMode::All => format!("{relation}.all({target})"),
            });
        }
        TraceKind::This { relation } => {
            line.push_str(&format!("relationships of {}", member_names(schema, *relation).1));
        }
        TraceKind::Nil => line.push_str("nobody"),
        TraceKind::Itself => line.push_str("the resource itself"),
        TraceKind::Relationship {
            slot,
            object,
            subject,
            expires_at,
            expired,
            caveat,
            contextual,
        } => {
            line.push_str(&relationship(schema, *slot, object.as_str(), subject.as_str()));
            if *contextual {
                line.push_str(", contextual");
            }
            if let Some(at) = expires_at {
                let word = if *expired { "expired" } else { "expires" };
                line.push_str(&format!(", {word} {}", format_time(*at)));
            }
            if let Some(caveat) = caveat {
                let held = schema.caveats().get(caveat.caveat.index());
                let name = held.map_or("", |held| held.name.as_str());
                line.push_str(&match &caveat.outcome {
                    CaveatOutcome::Decided(Outcome::True) => format!(", caveat {name} holds"),
                    CaveatOutcome::Decided(Outcome::False) => format!(", caveat {name} does not hold"),
                    CaveatOutcome::Decided(Outcome::Missing(names)) => {
                        format!(", caveat {name} lacks {}", names.join(", "))
                    }
                    CaveatOutcome::Failed(why) => format!(", caveat {name} failed: {why}"),
                });
            }
        }
    }
}

const fn cut_word(cut: Cut) -> &'static str {
    match cut {
        Cut::Recursion => "recursion",
        Cut::Reused => "shown_elsewhere",
        Cut::Truncated => "truncated",
    }
}

/// An arrow's mode in one word.
pub const fn arrow_mode(mode: ArrowMode) -> &'static str {
    match mode {
        ArrowMode::Any => "any",
        ArrowMode::All => "all",
    }
}

/// `type:id#relation@subject`
fn relationship(schema: &Schema, id: SlotId, object: &str, subject: &str) -> String {
    let Some(slot) = schema.slots().get(id.index()) else {
        return String::new();
    };
    let (object_type, relation) = member_names(schema, slot.relation);
    let subject = subject_text(schema, id, subject);
    format!("{object_type}:{object}#{relation}@{subject}")
}

/// The subject `id` of a slot: `type:id`, `type:*` or `type:id#relation`.
pub fn subject_text(schema: &Schema, slot: SlotId, id: &str) -> String {
    let Some(slot) = schema.slots().get(slot.index()) else {
        return String::new();
    };
    let subject_type = schema
        .types()
        .get(slot.subject_type.index())
        .map_or("", |held| held.name.as_str());
    let userset = match slot.subject {
        SlotSubject::Userset(member) => format!("#{}", member_names(schema, member).1),
        SlotSubject::Object | SlotSubject::Wildcard => String::new(),
    };
    format!("{subject_type}:{id}{userset}")
}

/// The names of a member's type and of the member.
pub fn member_names(schema: &Schema, member: MemberId) -> (&str, &str) {
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
