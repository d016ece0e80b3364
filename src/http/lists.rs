//! Lists: resources of a subject, subjects of a resource, permissions of one on the other. Pages, or NDJSON streams.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{
    ListRequest, Paging, Permission, PermissionsRequest, ResourcesRequest, SubjectsRequest, now,
};
use inferadb_engine::list::Listed;
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};
use inferadb_engine::schema::MemberKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::caller::{Visit, in_vault};
use super::list_stream::{self, Streaming};
use super::problem::Problem;
use super::question::{missing, word};
use super::received::Received;
use super::stream::{self, NDJSON};
use super::wire::{ConsistencyBody, RelationshipBody, at, parse_context, parse_contextual};
use super::{App, body, ok};

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

/// `POST /v1/resources/list`
pub async fn resources(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes, .. }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault(&app, &request, caller, Scopes::READ, |visit| {
        let (app, request) = (app.clone(), request.clone());
        async move {
            let body: ResourcesBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes)?;
            let list = ResourcesRequest {
                subject: at("subject", SubjectRef::parse(&body.subject))?,
                permission: at("permission", Name::parse(&body.permission))?,
                resource_type: at("resource_type", Name::parse(&body.resource_type))?,
                context: parse_context("context", body.context, app.settings.max_context_bytes)?.into(),
                contextual: contextual(&app, &body.contextual_relationships)?,
            };
            let list = ListRequest::Resources(list);
            answer(
                app,
                request,
                visit,
                list,
                body.limit,
                body.cursor,
                &body.consistency,
            )
            .await
        }
    })
    .await
}

/// `POST /v1/subjects/list`
pub async fn subjects(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes, .. }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault(&app, &request, caller, Scopes::READ, |visit| {
        let (app, request) = (app.clone(), request.clone());
        async move {
            let body: SubjectsBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes)?;
            let subject_relation = match body.subject_relation.as_deref() {
                None | Some("" | "...") => None,
                Some(text) => Some(at("subject_relation", Name::parse(text))?),
            };
            let list = SubjectsRequest {
                resource: at("resource", ObjectRef::parse(&body.resource))?,
                permission: at("permission", Name::parse(&body.permission))?,
                subject_type: at("subject_type", Name::parse(&body.subject_type))?,
                subject_relation,
                context: parse_context("context", body.context, app.settings.max_context_bytes)?.into(),
                contextual: contextual(&app, &body.contextual_relationships)?,
            };
            let list = ListRequest::Subjects(list);
            answer(
                app,
                request,
                visit,
                list,
                body.limit,
                body.cursor,
                &body.consistency,
            )
            .await
        }
    })
    .await
}

/// `POST /v1/permissions/list`
pub async fn permissions(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes, .. }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault(&app, &request, caller, Scopes::READ, |visit| {
        let app = app.clone();
        async move {
            let body: PermissionsBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes)?;
            let list = PermissionsRequest {
                subject: at("subject", SubjectRef::parse(&body.subject))?,
                resource: at("resource", ObjectRef::parse(&body.resource))?,
                context: parse_context("context", body.context, app.settings.max_context_bytes)?.into(),
                contextual: contextual(&app, &body.contextual_relationships)?,
                relations: body.include_relations,
            };
            let consistency = body.consistency.parse(visit.vault.id)?;
            let found = visit.vault.permissions(&list, consistency, now()).await?;
            let revision = visit.vault.token(found.revision);
            let permissions = found.permissions.iter().map(PermissionView::from).collect();
            ok(&PermissionsView {
                permissions,
                revision: &revision,
            })
        }
    })
    .await
}

fn contextual(app: &App, bodies: &[RelationshipBody<'_>]) -> Result<Arc<[Relationship]>, Problem> {
    let most = app.settings.max_stored_context_bytes;
    parse_contextual("contextual_relationships", bodies, most)
}

async fn answer(
    app: web::Data<App>,
    request: HttpRequest,
    visit: Visit,
    list: ListRequest,
    limit: Option<usize>,
    cursor: Option<String>,
    consistency: &ConsistencyBody,
) -> Result<HttpResponse, Problem> {
    let most = app.settings.max_page_size;
    let streams = stream::preferred(&request, &["application/json", NDJSON]) == NDJSON;
    let out_of_range = |range: &str| {
        let detail = format!("`limit` must be {range}");
        Problem::invalid("invalid_value", "limit", detail)
    };
    let page_size = match limit {
        Some(0) if streams => return Err(out_of_range("1 at least")),
        Some(limit) if streams || (1..=most).contains(&limit) => limit.min(most),
        Some(_) => return Err(out_of_range(&format!("from 1 to {most}"))),
        None if streams => most,
        None => PAGE_SIZE.min(most),
    };
    let paging = Paging {
        limit: page_size,
        cursor,
        consistency: consistency.parse(visit.vault.id)?,
        now: now(),
    };
    if streams {
        let streaming = Streaming {
            list,
            paging,
            total: limit,
        };
        return list_stream::answer(&app, &request, visit, streaming).await;
    }
    let page = visit.vault.list(&list, &paging).await?;
    let items: Vec<ItemView<'_>> = page.items.iter().map(|item| ItemView::new(&list, item)).collect();
    let revision = visit.vault.token(page.revision);
    let (resources, subjects) = match &list {
        ListRequest::Resources(_) => (Some(items), None),
        ListRequest::Subjects(_) => (None, Some(items)),
    };
    ok(&PageView {
        resources,
        subjects,
        cursor: page.cursor.as_deref(),
        revision: &revision,
    })
}
