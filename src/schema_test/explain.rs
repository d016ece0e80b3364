//! An explanation as text: one line a part, indented below what it speaks for.

use inferadb_engine::caveat::Outcome;
use inferadb_engine::evaluate::{CaveatOutcome, Cut, Trace, TraceKind, TraceNode, TraceOutcome};
use inferadb_engine::schema::{ArrowMode, MemberId, Schema, SlotId, SlotSubject};

/// The tree of an explanation.
pub(super) fn tree(schema: &Schema, trace: &Trace) -> String {
    let mut text = String::new();
    node(schema, &trace.root, 0, &mut text);
    if trace.truncated {
        text.push_str("(and more)\n");
    }
    text
}

/// The engine bounds the tree's depth.
fn node(schema: &Schema, traced: &TraceNode, depth: usize, text: &mut String) {
    let outcome = match traced.outcome {
        TraceOutcome::Allow => "allow",
        TraceOutcome::Deny => "deny",
        TraceOutcome::Conditional => "conditional",
        TraceOutcome::NotNeeded => "not needed",
    };
    text.push_str(&"  ".repeat(depth));
    text.push_str(&format!("{}: {outcome}\n", kind(schema, &traced.kind)));
    for child in &traced.children {
        node(schema, child, depth + 1, text);
    }
}

fn kind(schema: &Schema, kind: &TraceKind) -> String {
    match kind {
        TraceKind::Check { member, object, cut } => {
            let (object_type, name) = names(schema, *member);
            let cut = match cut {
                None => "",
                Some(Cut::Recursion) => " (within itself)",
                Some(Cut::Reused) => " (shown elsewhere)",
                Some(Cut::Truncated) => " (cut short)",
            };
            format!("{object_type}:{object}#{name}{cut}")
        }
        TraceKind::Union => "one of".to_owned(),
        TraceKind::Intersection => "all of".to_owned(),
        TraceKind::Exclusion => "the first without the second".to_owned(),
        TraceKind::Arrow { relation, mode, .. } => {
            let all = match mode {
                ArrowMode::Any => "any",
                ArrowMode::All => "all",
            };
            format!("{all} of `{}`", names(schema, *relation).1)
        }
        TraceKind::This { relation } => format!("stored in `{}`", names(schema, *relation).1),
        TraceKind::Nil => "nobody".to_owned(),
        TraceKind::Itself => "the object itself".to_owned(),
        TraceKind::Relationship {
            slot,
            object,
            subject,
            caveat,
            expires_at,
            expired,
            contextual: _,
        } => {
            let mut text = relationship(schema, *slot, object.as_str(), subject.as_str());
            if let Some(traced) = caveat {
                let caveat = schema.caveats().get(traced.caveat.index());
                let name = caveat.map_or("", |caveat| caveat.name.as_str());
                text.push_str(&format!(" [{name}: {}]", told(&traced.outcome)));
            }
            if *expired {
                text.push_str(" [expired]");
            } else if expires_at.is_some() {
                text.push_str(" [expires]");
            }
            text
        }
    }
}

fn told(said: &CaveatOutcome) -> String {
    match said {
        CaveatOutcome::Decided(Outcome::True) => "true".to_owned(),
        CaveatOutcome::Decided(Outcome::False) => "false".to_owned(),
        CaveatOutcome::Decided(Outcome::Missing(names)) => format!("misses {}", names.join(", ")),
        CaveatOutcome::Failed(why) => format!("failed: {why}"),
    }
}

fn relationship(schema: &Schema, slot: SlotId, object: &str, subject: &str) -> String {
    let Some(slot) = schema.slots().get(slot.index()) else {
        return String::new();
    };
    let (object_type, relation) = names(schema, slot.relation);
    let subject_type = schema.types().get(slot.subject_type.index());
    let subject_type = subject_type.map_or("", |held| held.name.as_str());
    let userset = match slot.subject {
        SlotSubject::Userset(member) => format!("#{}", names(schema, member).1),
        SlotSubject::Object | SlotSubject::Wildcard => String::new(),
    };
    format!("{object_type}:{object}#{relation}@{subject_type}:{subject}{userset}")
}

/// The names of a member's type and of the member.
fn names(schema: &Schema, member: MemberId) -> (&str, &str) {
    let Some(member) = schema.members().get(member.index()) else {
        return ("", "");
    };
    let object_type = schema.types().get(member.object_type.index());
    (
        object_type.map_or("", |held| held.name.as_str()),
        member.name.as_str(),
    )
}
