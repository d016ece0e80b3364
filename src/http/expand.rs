//! Expansions: who has a permission and how they got there, as a tree of JSON.
//!
//! The engine's tree is flat; here it becomes nested, and a relation or permission and the way it is decided become one
//! object. The tree's depth is bounded by the engine.

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{ExpandRequest, Expanded, background, now};
use inferadb_engine::expand::{ExpandCut, ExpandKind, ExpandNode, NodeId};
use inferadb_engine::noun::{Name, ObjectId, ObjectRef};
use inferadb_engine::row::Terms;
use inferadb_engine::schema::{MemberKind, Schema, SlotId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::caller::{Visit, in_vault_heavy};
use super::contexts::Contexts;
use super::nesting::{Left, MAX_NESTING, Parts, tree_bytes};
use super::problem::Problem;
use super::received::{Held, Received};
use super::trace::{arrow_mode, member_names, subject_text};
use super::wire::{ConsistencyBody, ContextRoom, RelationshipBody, at, format_time, parse_contextual};
use super::{App, Json, body};

/// How many steps from object to object a tree takes where the caller does not say.
const DEFAULT_DEPTH: u32 = 10;
/// The most that a caller may ask for.
const MAX_DEPTH: u32 = 100;
/// How many bytes of stored contexts a tree shows.
const MAX_CONTEXT_BYTES: usize = 4 << 20;
/// A tree of more nodes is written apart from the threads that answer requests.
const MANY_NODES: usize = 256;
/// As how many nodes one with a stored context counts, which can be large.
const NODES_OF_CONTEXT: usize = 16;

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct ExpandBody<'a> {
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    permission: Cow<'a, str>,
    #[serde(default)]
    max_depth: Option<u32>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    contextual_relationships: Vec<RelationshipBody<'a>>,
    #[serde(default, deserialize_with = "body::or_default")]
    consistency: ConsistencyBody,
}

body::objects!(ExpandBody<'a>);

/// `POST /v1/expand`
pub async fn expand(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
        answer(app.clone(), visit, bytes)
    })
    .await
}

async fn answer(app: web::Data<App>, visit: Visit, bytes: Held) -> Result<Json, Problem> {
    let body: ExpandBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes).await?;
    let max_depth = body.max_depth.unwrap_or(DEFAULT_DEPTH);
    if max_depth > MAX_DEPTH {
        let detail = format!("`max_depth` must be from 0 to {MAX_DEPTH}");
        return Err(Problem::invalid("invalid_value", "max_depth", detail));
    }
    let question = ExpandRequest {
        resource: at("resource", ObjectRef::parse(&body.resource))?,
        permission: at("permission", Name::parse(&body.permission))?,
        max_depth,
        contextual: parse_contextual(
            "contextual_relationships",
            &body.contextual_relationships,
            &mut Contexts::new(&app.settings),
        )?,
    };
    let consistency = body.consistency.parse(visit.vault.id)?;
    let expanded = visit.vault.expand(&question, consistency, now()).await?;
    let revision = visit.vault.token(expanded.revision);
    let answer = match is_large(&expanded) {
        true => {
            let writing = visit.vault.apart(move || written(&expanded, &revision));
            writing.await?
        }
        false => written(&expanded, &revision),
    };
    Ok(Json(answer))
}

/// Whether it takes long to write a tree.
fn is_large(expanded: &Expanded) -> bool {
    let nodes = (0..).map_while(|id| expanded.tree.node(id));
    let weights = nodes.map(|node| match &node.kind {
        ExpandKind::Subject { terms: Some(_), .. } => NODES_OF_CONTEXT,
        _ => 1,
    });
    weights.sum::<usize>() > MANY_NODES
}

/// The answer in JSON.
fn written(expanded: &Expanded, revision: &str) -> Vec<u8> {
    let shape = Shape {
        expanded,
        room: ContextRoom::new(MAX_CONTEXT_BYTES),
    };
    let mut parts = Parts::new(0, |id, left| shape.node(id, 0, left));
    let tree = parts.next();
    let more: Vec<Value> = parts.collect();
    let mut answer = Map::new();
    answer.insert("tree".into(), tree.unwrap_or_default());
    answer.insert("truncated".into(), expanded.tree.truncated.into());
    answer.insert("revision".into(), revision.into());
    if !more.is_empty() {
        answer.insert("more".into(), more.into());
    }
    tree_bytes(&answer)
}

/// The tree's nodes as JSON.
struct Shape<'e> {
    expanded: &'e Expanded,
    room: ContextRoom,
}

impl Shape<'_> {
    fn schema(&self) -> &Schema {
        self.expanded.schema()
    }

    /// The node with what is below it, which from some depth on is left to another part.
    fn node(&self, id: NodeId, depth: usize, left: &mut Left<NodeId>) -> Value {
        background::breathe();
        let Some(node) = self.expanded.tree.node(id) else {
            return Value::Null;
        };
        let mut members = Map::new();
        if depth == MAX_NESTING && !node.children.is_empty() {
            self.name(&mut members, node);
            members.insert("continued".into(), left.leave(id).into());
        } else {
            self.fill(&mut members, node, depth, left);
        }
        Value::Object(members)
    }

    /// What names a relation or permission.
    fn name(&self, members: &mut Map<String, Value>, node: &ExpandNode) {
        let ExpandKind::Member { member, object } = &node.kind else {
            return;
        };
        let (object_type, name) = member_names(self.schema(), *member);
        let held = self.schema().members().get(member.index());
        let is_relation = held.is_some_and(|held| held.kind == MemberKind::Relation);
        let word = if is_relation { "relation" } else { "permission" };
        members.insert("resource".into(), format!("{object_type}:{object}").into());
        members.insert(word.into(), name.into());
    }

    fn fill(
        &self,
        members: &mut Map<String, Value>,
        node: &ExpandNode,
        depth: usize,
        left: &mut Left<NodeId>,
    ) {
        self.name(members, node);
        cut(members, node);
        let mut put = |name: &str, value: Value| {
            members.insert(name.to_owned(), value);
        };
        let mut list = "children";
        match &node.kind {
            ExpandKind::Member { .. } => {
                // How it is decided is told in the same object, unless that is another member's own.
                let child = node.children.first().and_then(|id| self.expanded.tree.node(*id));
                match child.map(|child| &child.kind) {
                    Some(ExpandKind::Member { .. }) => {
                        put("operation", "same_as".into());
                    }
                    Some(_) => {
                        let child = child.into_iter();
                        return child.for_each(|child| self.fill(members, child, depth, left));
                    }
                    None => return,
                }
            }
            ExpandKind::Union => put("operation", "union".into()),
            ExpandKind::Intersection => put("operation", "intersection".into()),
            ExpandKind::Exclusion => put("operation", "exclusion".into()),
            ExpandKind::Nil => {
                put("operation", "nil".into());
                return;
            }
            ExpandKind::Itself { object_type, object } => {
                let held = self.schema().types().get(object_type.index());
                let name = held.map_or("", |held| held.name.as_str());
                put("operation", "self".into());
                put("subjects", json!([{ "subject": format!("{name}:{object}") }]));
                return;
            }
            ExpandKind::This => {
                put("operation", "relationships".into());
                list = "subjects";
            }
            ExpandKind::Arrow {
                relation,
                mode,
                target,
            } => {
                put("operation", "arrow".into());
                put("follows", member_names(self.schema(), *relation).1.into());
                if let Some(target) = target {
                    put("to", member_names(self.schema(), *target).1.into());
                }
                put("mode", arrow_mode(*mode).into());
                list = "subjects";
            }
            ExpandKind::Subject {
                slot,
                subject,
                terms,
                contextual,
            } => {
                self.subject(members, *slot, subject, terms.as_deref(), *contextual);
                if let Some(behind) = node.children.first() {
                    members.insert("through".into(), self.node(*behind, depth + 1, left));
                }
                return;
            }
        }
        let children = node.children.iter();
        let children = children.map(|child| self.node(*child, depth + 1, left));
        members.insert(list.to_owned(), children.collect());
    }

    fn subject(
        &self,
        members: &mut Map<String, Value>,
        slot: SlotId,
        subject: &ObjectId,
        terms: Option<&Terms>,
        contextual: bool,
    ) {
        let text = subject_text(self.schema(), slot, subject.as_str());
        members.insert("subject".into(), text.into());
        if let Some((caveat, context)) = terms.and_then(|terms| terms.caveat.as_ref()) {
            let held = self.schema().caveats().get(caveat.index());
            let name = held.map_or("", |held| held.name.as_str());
            let mut caveat = Map::from_iter([("name".to_owned(), Value::from(name))]);
            self.room.show(&mut caveat, context);
            members.insert("caveat".into(), caveat.into());
        }
        if let Some(moment) = terms.and_then(|terms| terms.expires_at) {
            members.insert("expires_at".into(), format_time(moment).into());
        }
        if contextual {
            members.insert("contextual".into(), true.into());
        }
    }
}

/// Says why something below the node is not shown.
fn cut(members: &mut Map<String, Value>, node: &ExpandNode) {
    let why = match node.cut {
        None => return,
        Some(ExpandCut::Recursion) => "recursion",
        Some(ExpandCut::Elsewhere) => "shown_elsewhere",
        Some(ExpandCut::Depth) => "max_depth",
        Some(ExpandCut::Size) => "truncated",
    };
    members.insert("cut".into(), why.into());
}
