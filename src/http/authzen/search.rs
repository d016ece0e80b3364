//! Searches: the subjects, resources or actions that an evaluation would permit.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{
    Consistency, ListPage, ListRequest, Paging, PermissionsRequest, ResourcesRequest, SubjectsRequest, Turn,
    VaultError, now,
};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::list::Listed;
use inferadb_engine::noun::Name;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Action, Entity, Parts, Sought, in_its_words, require_json};
use crate::http::caller::{Visit, in_vault_heavy};
use crate::http::contexts::Contexts;
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
    token: Option<Cow<'a, str>>,
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

/// Why a search has no results to tell.
enum Without {
    /// It asks for, or about, something that is not known, or that cannot be.
    Unknown,
    /// It failed.
    Problem(Problem),
}

/// Reads which list a search of entities is, and which page of it, in the turn of its request.
type Read = fn(&App, &mut Turn<'_>, &[u8]) -> Result<(ListRequest, Paging), Without>;

/// `POST /access/v1/search/subject`
pub async fn subject(
    app: web::Data<App>,
    request: HttpRequest,
    received: Received,
) -> Result<HttpResponse, Problem> {
    entities(app, request, received, |app, turn, bytes| {
        let body: SubjectBody<'_> = body::json_now(turn, bytes)?;
        let paging = body.page.paging(app)?;
        Ok((ListRequest::Subjects(body.list(app)?), paging))
    })
    .await
}

/// `POST /access/v1/search/resource`
pub async fn resource(
    app: web::Data<App>,
    request: HttpRequest,
    received: Received,
) -> Result<HttpResponse, Problem> {
    entities(app, request, received, |app, turn, bytes| {
        let body: ResourceBody<'_> = body::json_now(turn, bytes)?;
        let paging = body.page.paging(app)?;
        Ok((ListRequest::Resources(body.list(app)?), paging))
    })
    .await
}

/// `POST /access/v1/search/action`
pub async fn action(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    let sound = require_json(&request);
    in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
        let app = app.clone();
        async move {
            sound?;
            told(actions(&app, &visit, &bytes).await)
        }
    })
    .await
}

/// Answers a search of entities that `read` makes of a body.
async fn entities(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
    read: Read,
) -> Result<HttpResponse, Problem> {
    let sound = require_json(&request);
    in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
        let app = app.clone();
        async move {
            sound?;
            told(page(&app, &visit, &bytes, read).await)
        }
    })
    .await
}

fn told(found: Result<ResultsBody, Without>) -> Result<Json, Problem> {
    match found {
        Ok(results) => Json::of(results),
        Err(Without::Unknown) => Json::of(ResultsBody::default()),
        Err(Without::Problem(problem)) => Err(in_its_words(problem)),
    }
}

/// One page of the entities that are permitted. It can have fewer than were asked for, though there are more.
async fn page(app: &App, visit: &Visit, bytes: &Held, read: Read) -> Result<ResultsBody, Without> {
    let mut turn = visit.vault.turn();
    body::turn_for(&mut turn, bytes).await;
    let (list, paging) = read(app, &mut turn, bytes)?;
    drop(turn);
    let ListPage { items, cursor, .. } = visit.vault.list(&list, &paging).await?;
    let permitted = items.iter().filter(|item| item.decision == Decision::Allow);
    let results: Vec<Found> = permitted.map(|item| Found::of(&list, item)).collect();
    Ok(ResultsBody {
        page: PageView {
            next_token: cursor.unwrap_or_default(),
            count: results.len(),
        },
        context: None,
        results,
    })
}

/// All permissions that the subject has on the resource, in one page.
async fn actions(app: &App, visit: &Visit, bytes: &Held) -> Result<ResultsBody, Without> {
    let body: ActionBody<'_> = body::json_of(&mut visit.vault.turn(), bytes).await?;
    let list = body.list(app)?;
    let found = visit
        .vault
        .permissions(&list, Consistency::MinimizeLatency, now())
        .await?;
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for permission in &found.permissions {
        match &permission.outcome {
            Ok(Decision::Allow) => results.push(Found::Action {
                name: permission.name.to_string(),
            }),
            Ok(_) => {}
            Err(error) => errors.push(failed(&permission.name, error)?),
        }
    }
    Ok(ResultsBody {
        page: PageView {
            next_token: String::new(),
            count: results.len(),
        },
        context: (!errors.is_empty()).then(|| json!({ "errors": errors })),
        results,
    })
}

/// An action that cannot be decided. Where that is the server's fault, the search has failed.
fn failed(name: &Name, error: &VaultError) -> Result<Value, Problem> {
    let problem = Problem::from(error.clone());
    match problem.status.is_server_error() {
        true => Err(problem),
        false => Ok(json!({
            "action": name.as_str(),
            "status": problem.status.as_u16(),
            "code": problem.code,
            "message": problem.detail,
        })),
    }
}

impl SubjectBody<'_> {
    fn list(&self, app: &App) -> Result<SubjectsRequest, Without> {
        let properties = [
            self.subject.properties,
            self.action.properties,
            self.resource.properties,
        ];
        let context = Parts::new(self.context, properties).read(&mut Contexts::new(&app.settings))?;
        self.resource.require_id("resource")?;
        Ok(SubjectsRequest {
            resource: known(self.resource.resource())?,
            permission: known(self.action.permission())?,
            subject_type: known(at("subject.type", Name::parse(&self.subject.object_type)))?,
            subject_relation: None,
            context: context.into(),
            contextual: Arc::default(),
        })
    }
}

impl ResourceBody<'_> {
    fn list(&self, app: &App) -> Result<ResourcesRequest, Without> {
        let properties = [
            self.subject.properties,
            self.action.properties,
            self.resource.properties,
        ];
        let context = Parts::new(self.context, properties).read(&mut Contexts::new(&app.settings))?;
        self.subject.require_id("subject")?;
        Ok(ResourcesRequest {
            subject: known(self.subject.subject())?,
            permission: known(self.action.permission())?,
            resource_type: known(at("resource.type", Name::parse(&self.resource.object_type)))?,
            context: context.into(),
            contextual: Arc::default(),
        })
    }
}

impl ActionBody<'_> {
    fn list(&self, app: &App) -> Result<PermissionsRequest, Without> {
        let properties = [self.subject.properties, None, self.resource.properties];
        let context = Parts::new(self.context, properties).read(&mut Contexts::new(&app.settings))?;
        self.subject.require_id("subject")?;
        self.resource.require_id("resource")?;
        Ok(PermissionsRequest {
            subject: known(self.subject.subject())?,
            resource: known(self.resource.resource())?,
            context: context.into(),
            contextual: Arc::default(),
            relations: false,
        })
    }
}

impl PageBody<'_> {
    fn paging(&self, app: &App) -> Result<Paging, Problem> {
        let most = app.settings.max_page_size;
        let limit = match self.limit {
            None => PAGE_SIZE.min(most),
            Some(0) => {
                let detail = "`page.limit` must be 1 at least";
                return Err(Problem::invalid("invalid_value", "page.limit", detail));
            }
            Some(limit) => usize::try_from(limit).unwrap_or(most).min(most),
        };
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        Ok(Paging {
            limit,
            cursor: token.map(str::to_owned),
            consistency: Consistency::MinimizeLatency,
            now: now(),
        })
    }
}

impl Entity<'_> {
    /// An empty id is none: whoever lost it is not told that nobody may do anything.
    fn require_id(&self, name: &str) -> Result<(), Problem> {
        match self.id.is_empty() {
            false => Ok(()),
            true => {
                let detail = format!("`{name}.id` is empty");
                Err(Problem::invalid("invalid_value", format!("{name}.id"), detail))
            }
        }
    }
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

/// A noun of a search: one that cannot be is not known.
fn known<T>(noun: Result<T, Problem>) -> Result<T, Without> {
    noun.map_err(|_| Without::Unknown)
}

impl From<Problem> for Without {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<VaultError> for Without {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Invalid {
                code: "unknown_type" | "unknown_permission",
                ..
            } => Self::Unknown,
            error => Self::Problem(error.into()),
        }
    }
}
