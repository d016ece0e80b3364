//! Searches: the subjects, resources or actions that an evaluation would permit.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{
    Consistency, ListRequest, Paging, PermissionsRequest, ResourcesRequest, SubjectsRequest, VaultError, now,
};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::list::Listed;
use inferadb_engine::noun::Name;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Action, Entity, Sought, context_of, require_json};
use crate::http::caller::{Visit, in_vault_heavy};
use crate::http::problem::Problem;
use crate::http::received::{Held, Received};
use crate::http::wire::at;
use crate::http::{App, Json, body};

/// How many results a page has where the caller does not say.
const PAGE_SIZE: usize = 100;

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct SubjectBody<'a> {
    #[serde(borrow)]
    subject: Sought<'a>,
    #[serde(borrow)]
    action: Action<'a>,
    #[serde(borrow)]
    resource: Entity<'a>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    page: PageBody<'a>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct ResourceBody<'a> {
    #[serde(borrow)]
    subject: Entity<'a>,
    #[serde(borrow)]
    action: Action<'a>,
    #[serde(borrow)]
    resource: Sought<'a>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    page: PageBody<'a>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct ActionBody<'a> {
    #[serde(borrow)]
    subject: Entity<'a>,
    #[serde(borrow)]
    resource: Entity<'a>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(remote = "Self")]
struct PageBody<'a> {
    #[serde(borrow, default)]
    token: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    limit: Option<u64>,
}

body::objects!(SubjectBody<'a>, ResourceBody<'a>, ActionBody<'a>, PageBody<'a>);

#[derive(Default, Serialize)]
struct ResultsBody {
    page: PageView,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Value>,
    results: Vec<Found>,
}

#[derive(Default, Serialize)]
struct PageView {
    /// Empty at the end.
    next_token: String,
    count: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    Entity {
        r#type: String,
        id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        properties: Option<Value>,
    },
    Action {
        name: String,
    },
}

/// A list that is searched, and which page of it.
struct Search {
    list: ListRequest,
    token: Option<String>,
    limit: usize,
}

/// `POST /access/v1/search/subject`
pub async fn subject(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    require_json(&request)?;
    in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
        let app = app.clone();
        async move {
            let body: SubjectBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes).await?;
            let search = body.page.limit(&app).and_then(|limit| {
                Ok(Search {
                    list: ListRequest::Subjects(body.parse(&app)?),
                    token: body.page.token(),
                    limit,
                })
            });
            page(&visit, search).await
        }
    })
    .await
}

/// `POST /access/v1/search/resource`
pub async fn resource(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    require_json(&request)?;
    in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
        let app = app.clone();
        async move {
            let body: ResourceBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes).await?;
            let search = body.page.limit(&app).and_then(|limit| {
                Ok(Search {
                    list: ListRequest::Resources(body.parse(&app)?),
                    token: body.page.token(),
                    limit,
                })
            });
            page(&visit, search).await
        }
    })
    .await
}

/// `POST /access/v1/search/action`
pub async fn action(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    require_json(&request)?;
    in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
        actions(app.clone(), visit, bytes)
    })
    .await
}

impl SubjectBody<'_> {
    fn parse(&self, app: &App) -> Result<SubjectsRequest, Problem> {
        let entities = [
            ("subject", self.subject.properties),
            ("action", self.action.properties),
            ("resource", self.resource.properties),
        ];
        let context = context_of(self.context, entities, app.settings.max_context_bytes)?;
        Ok(SubjectsRequest {
            resource: self.resource.resource()?,
            permission: self.action.permission()?,
            subject_type: at("subject.type", Name::parse(&self.subject.object_type))?,
            subject_relation: None,
            context: context.into(),
            contextual: Arc::default(),
        })
    }
}

impl ResourceBody<'_> {
    fn parse(&self, app: &App) -> Result<ResourcesRequest, Problem> {
        let entities = [
            ("subject", self.subject.properties),
            ("action", self.action.properties),
            ("resource", self.resource.properties),
        ];
        let context = context_of(self.context, entities, app.settings.max_context_bytes)?;
        Ok(ResourcesRequest {
            subject: self.subject.subject()?,
            permission: self.action.permission()?,
            resource_type: at("resource.type", Name::parse(&self.resource.object_type))?,
            context: context.into(),
            contextual: Arc::default(),
        })
    }
}

impl PageBody<'_> {
    fn token(&self) -> Option<String> {
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        token.map(str::to_owned)
    }

    /// As many results as a page has at most.
    fn limit(&self, app: &App) -> Result<usize, Problem> {
        let most = app.settings.max_page_size;
        match self.limit {
            None => Ok(PAGE_SIZE.min(most)),
            Some(0) => Err(Problem::invalid(
                "invalid_value",
                "page.limit",
                "`page.limit` must be 1 at least",
            )),
            Some(limit) => Ok(usize::try_from(limit).unwrap_or(most).min(most)),
        }
    }
}

/// One page of the entities that are permitted. A page can have fewer than were asked for, though there are more.
async fn page(visit: &Visit, search: Result<Search, Problem>) -> Result<Json, Problem> {
    let Search { list, token, limit } = match search {
        Ok(search) => search,
        Err(problem) => return nothing_if_unknown(problem),
    };
    let paging = Paging {
        limit,
        cursor: token,
        consistency: Consistency::MinimizeLatency,
        now: now(),
    };
    let page = match visit.vault.list(&list, &paging).await {
        Ok(page) => page,
        Err(error) => return nothing_if_unknown(error.into()),
    };
    let permitted = page.items.iter().filter(|item| item.decision == Decision::Allow);
    let results: Vec<Found> = permitted.map(|item| Found::of(&list, item)).collect();
    Json::of(ResultsBody {
        page: PageView {
            next_token: page.cursor.unwrap_or_default(),
            count: results.len(),
        },
        context: None,
        results,
    })
}

impl Found {
    fn of(list: &ListRequest, item: &Listed) -> Self {
        let object_type = match list {
            ListRequest::Resources(request) => &request.resource_type,
            ListRequest::Subjects(request) => &request.subject_type,
        };
        // Everybody of the type, but for those who are named.
        let excluded = || {
            let excluded: Vec<&str> = item.excluded.iter().map(|id| id.as_str()).collect();
            json!({ "excluded": excluded })
        };
        Self::Entity {
            r#type: object_type.to_string(),
            id: item.id.to_string(),
            properties: item.id.is_wildcard().then(excluded),
        }
    }
}

/// All permissions that the subject has on the resource, in one page.
async fn actions(app: web::Data<App>, visit: Visit, bytes: Held) -> Result<Json, Problem> {
    let body: ActionBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes).await?;
    let found = match body.parse(&app) {
        Ok(list) => visit
            .vault
            .permissions(&list, Consistency::MinimizeLatency, now())
            .await
            .map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    let found = match found {
        Ok(found) => found,
        Err(problem) => return nothing_if_unknown(problem),
    };
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for permission in &found.permissions {
        match &permission.outcome {
            Ok(Decision::Allow) => results.push(Found::Action {
                name: permission.name.to_string(),
            }),
            Ok(_) => {}
            Err(error) => errors.push(failed(&permission.name, error)),
        }
    }
    Json::of(ResultsBody {
        page: PageView {
            next_token: String::new(),
            count: results.len(),
        },
        context: (!errors.is_empty()).then(|| json!({ "errors": errors })),
        results,
    })
}

impl ActionBody<'_> {
    fn parse(&self, app: &App) -> Result<PermissionsRequest, Problem> {
        let entities = [
            ("subject", self.subject.properties),
            ("action", None),
            ("resource", self.resource.properties),
        ];
        let context = context_of(self.context, entities, app.settings.max_context_bytes)?;
        Ok(PermissionsRequest {
            subject: self.subject.subject()?,
            resource: self.resource.resource()?,
            context: context.into(),
            contextual: Arc::default(),
            relations: false,
        })
    }
}

/// An action that could not be decided.
fn failed(name: &Name, error: &VaultError) -> Value {
    let problem = Problem::from(error.clone());
    json!({
        "action": name.as_str(),
        "status": problem.status.as_u16(),
        "code": problem.code,
        "message": problem.detail,
    })
}

/// An entity, a type or an action that is unknown, or that cannot exist, finds nothing; anything else is an error.
fn nothing_if_unknown(problem: Problem) -> Result<Json, Problem> {
    let names_an_entity = |field: &str| {
        [
            "subject",
            "resource",
            "subject.type",
            "resource.type",
            "action.name",
        ]
        .contains(&field)
    };
    match problem.code {
        "unknown_type" | "unknown_permission" => Json::of(ResultsBody::default()),
        "invalid_value" if problem.field.as_deref().is_some_and(names_an_entity) => {
            Json::of(ResultsBody::default())
        }
        _ => Err(problem),
    }
}
