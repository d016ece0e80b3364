//! Lists: resources of a subject, subjects of a resource, permissions of one on the other. Pages, or NDJSON streams.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{
    Consistency, ListRequest, Paging, Permission, PermissionsRequest, ResourcesRequest, SubjectsRequest,
    Turn, Vault, now,
};
use inferadb_engine::list::Listed;
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};
use inferadb_engine::schema::MemberKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::caller::{Visit, in_vault, in_vault_heavy};
use super::contexts::Contexts;
use super::list_stream::{self, Streaming};
use super::problem::Problem;
use super::question::{missing, word};
use super::received::{Held, Received};
use super::stream::{self, NDJSON};
use super::wire::{ConsistencyBody, RelationshipBody, at, parse_contextual};
use super::{App, Json, body};
use crate::telemetry::LogScope;

/// How many entries a page has where the caller does not say.
const PAGE_SIZE: usize = 100;

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct ResourcesBody<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    permission: Cow<'a, str>,
    #[serde(borrow)]
    resource_type: Cow<'a, str>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    contextual_relationships: Vec<RelationshipBody<'a>>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default, deserialize_with = "body::or_default")]
    consistency: ConsistencyBody,
}

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct SubjectsBody<'a> {
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    permission: Cow<'a, str>,
    #[serde(borrow)]
    subject_type: Cow<'a, str>,
    #[serde(borrow, default)]
    subject_relation: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    contextual_relationships: Vec<RelationshipBody<'a>>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default, deserialize_with = "body::or_default")]
    consistency: ConsistencyBody,
}

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct PermissionsBody<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    contextual_relationships: Vec<RelationshipBody<'a>>,
    #[serde(default, deserialize_with = "body::or_default")]
    include_relations: bool,
    #[serde(default, deserialize_with = "body::or_default")]
    consistency: ConsistencyBody,
}

body::objects!(ResourcesBody<'a>, SubjectsBody<'a>, PermissionsBody<'a>);

/// An entry of a list on the wire.
#[derive(Debug, Serialize)]
pub struct ItemView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_context: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    excluded: Option<Vec<String>>,
}

#[derive(Serialize)]
struct PageView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<ItemView<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subjects: Option<Vec<ItemView<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    revision: &'a str,
}

#[derive(Serialize)]
struct PermissionsView<'a> {
    permissions: Vec<PermissionView<'a>>,
    revision: &'a str,
}

#[derive(Serialize)]
struct PermissionView<'a> {
    permission: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_context: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

impl<'a> From<&'a Permission> for PermissionView<'a> {
    fn from(permission: &'a Permission) -> Self {
        let decision = permission.outcome.as_ref().ok();
        let error = permission.outcome.as_ref().err();
        Self {
            permission: permission.name.as_str(),
            kind: match permission.kind {
                MemberKind::Relation => "relation",
                MemberKind::Permission => "permission",
            },
            decision: decision.map(word),
            missing_context: decision.and_then(missing),
            error: error.map(|error| Problem::from(error.clone()).to_value()),
        }
    }
}

impl<'a> ItemView<'a> {
    /// An entry of the list that was asked for.
    pub fn new(request: &ListRequest, item: &'a Listed) -> Self {
        let (resource, subject, excluded) = match request {
            ListRequest::Resources(request) => {
                let resource = format!("{}:{}", request.resource_type, item.id);
                (Some(resource), None, None)
            }
            ListRequest::Subjects(request) => {
                let name = |id| match &request.subject_relation {
                    Some(relation) => format!("{}:{id}#{relation}", request.subject_type),
                    None => format!("{}:{id}", request.subject_type),
                };
                let excluded = || item.excluded.iter().map(name).collect();
                (None, Some(name(&item.id)), item.id.is_wildcard().then(excluded))
            }
        };
        Self {
            resource,
            subject,
            decision: word(&item.decision),
            missing_context: missing(&item.decision),
            excluded,
        }
    }
}

/// A list as it was asked for.
struct Asked {
    list: ListRequest,
    limit: Option<usize>,
    cursor: Option<String>,
    consistency: Consistency,
}

/// Reads what a body asks for, in the turn of a request of a vault.
type Read = fn(&App, &Vault, &mut Turn<'_>, &[u8]) -> Result<Asked, Problem>;

/// `POST /v1/resources/list`
pub async fn resources(
    app: web::Data<App>,
    request: HttpRequest,
    received: Received,
) -> Result<HttpResponse, Problem> {
    list(app, request, received, read_resources).await
}

/// `POST /v1/subjects/list`
pub async fn subjects(
    app: web::Data<App>,
    request: HttpRequest,
    received: Received,
) -> Result<HttpResponse, Problem> {
    list(app, request, received, read_subjects).await
}

/// `POST /v1/permissions/list`
pub async fn permissions(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
        answer_permissions(app.clone(), visit, bytes)
    })
    .await
}

async fn answer_permissions(app: web::Data<App>, visit: Visit, bytes: Held) -> Result<Json, Problem> {
    let body: PermissionsBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes).await?;
    let mut contexts = Contexts::new(&app.settings);
    let list = PermissionsRequest {
        subject: at("subject", SubjectRef::parse(&body.subject))?,
        resource: at("resource", ObjectRef::parse(&body.resource))?,
        context: contexts.read("context", body.context)?.into(),
        contextual: contextual(&body.contextual_relationships, &mut contexts)?,
        relations: body.include_relations,
    };
    let consistency = body.consistency.parse(visit.vault.id)?;
    let found = visit.vault.permissions(&list, consistency, now()).await?;
    let revision = visit.vault.token(found.revision);
    let permissions = found.permissions.iter().map(PermissionView::from).collect();
    Json::of(&PermissionsView {
        permissions,
        revision: &revision,
    })
}

fn read_resources(app: &App, vault: &Vault, turn: &mut Turn<'_>, bytes: &[u8]) -> Result<Asked, Problem> {
    let body: ResourcesBody<'_> = body::json_now(turn, bytes)?;
    let mut contexts = Contexts::new(&app.settings);
    Ok(Asked {
        list: ListRequest::Resources(ResourcesRequest {
            subject: at("subject", SubjectRef::parse(&body.subject))?,
            permission: at("permission", Name::parse(&body.permission))?,
            resource_type: at("resource_type", Name::parse(&body.resource_type))?,
            context: contexts.read("context", body.context)?.into(),
            contextual: contextual(&body.contextual_relationships, &mut contexts)?,
        }),
        limit: body.limit,
        cursor: body.cursor,
        consistency: body.consistency.parse(vault.id)?,
    })
}

fn read_subjects(app: &App, vault: &Vault, turn: &mut Turn<'_>, bytes: &[u8]) -> Result<Asked, Problem> {
    let body: SubjectsBody<'_> = body::json_now(turn, bytes)?;
    let subject_relation = match body.subject_relation.as_deref() {
        None | Some("" | "...") => None,
        Some(text) => Some(at("subject_relation", Name::parse(text))?),
    };
    let mut contexts = Contexts::new(&app.settings);
    Ok(Asked {
        list: ListRequest::Subjects(SubjectsRequest {
            resource: at("resource", ObjectRef::parse(&body.resource))?,
            permission: at("permission", Name::parse(&body.permission))?,
            subject_type: at("subject_type", Name::parse(&body.subject_type))?,
            subject_relation,
            context: contexts.read("context", body.context)?.into(),
            contextual: contextual(&body.contextual_relationships, &mut contexts)?,
        }),
        limit: body.limit,
        cursor: body.cursor,
        consistency: body.consistency.parse(vault.id)?,
    })
}

fn contextual(
    bodies: &[RelationshipBody<'_>],
    contexts: &mut Contexts,
) -> Result<Arc<[Relationship]>, Problem> {
    parse_contextual("contextual_relationships", bodies, contexts)
}

async fn list(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
    read: Read,
) -> Result<HttpResponse, Problem> {
    if stream::preferred(&request, &["application/json", NDJSON]) != NDJSON {
        return in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
            page(app.clone(), visit, bytes, read)
        })
        .await;
    }
    in_vault(&app, &request, caller, Scopes::READ, |visit| async {
        let (own_app, vault) = (app.clone(), Arc::clone(&visit.vault));
        let reading = LogScope::carried(async move { asked(&own_app, &vault, &bytes, read).await });
        let asked = app.platform.heavy().finish(reading).await??;
        let most = app.settings.max_page_size;
        let limit = match asked.limit {
            Some(0) => return Err(limit_out_of("1 at least")),
            limit => limit.map_or(most, |limit| limit.min(most)),
        };
        let total = asked.limit;
        let (list, paging) = asked.paged(limit);
        let streaming = Streaming { list, paging, total };
        list_stream::answer(&app, &request, visit, streaming).await
    })
    .await
}

async fn asked(app: &App, vault: &Vault, bytes: &[u8], read: Read) -> Result<Asked, Problem> {
    let mut turn = vault.turn();
    body::turn_for(&mut turn, bytes).await;
    read(app, vault, &mut turn, bytes)
}

async fn page(app: web::Data<App>, visit: Visit, bytes: Held, read: Read) -> Result<Json, Problem> {
    let asked = asked(&app, &visit.vault, &bytes, read).await?;
    let most = app.settings.max_page_size;
    let limit = match asked.limit {
        None => PAGE_SIZE.min(most),
        Some(limit) if (1..=most).contains(&limit) => limit,
        Some(_) => return Err(limit_out_of(&format!("from 1 to {most}"))),
    };
    let (list, paging) = asked.paged(limit);
    let page = visit.vault.list(&list, &paging).await?;
    let items: Vec<ItemView<'_>> = page.items.iter().map(|item| ItemView::new(&list, item)).collect();
    let revision = visit.vault.token(page.revision);
    let (resources, subjects) = match &list {
        ListRequest::Resources(_) => (Some(items), None),
        ListRequest::Subjects(_) => (None, Some(items)),
    };
    Json::of(&PageView {
        resources,
        subjects,
        cursor: page.cursor.as_deref(),
        revision: &revision,
    })
}

impl Asked {
    /// The list, and how it is read in pages of `limit` entries from now on.
    fn paged(self, limit: usize) -> (ListRequest, Paging) {
        let paging = Paging {
            limit,
            cursor: self.cursor,
            consistency: self.consistency,
            now: now(),
        };
        (self.list, paging)
    }
}

fn limit_out_of(range: &str) -> Problem {
    Problem::invalid("invalid_value", "limit", format!("`limit` must be {range}"))
}
