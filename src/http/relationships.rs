//! Relationships: written in one transaction, deleted by a filter, read as they are stored.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{
    Consistency, DeleteRequest, ReadPage, RelationshipFilter, Turn, Vault, VaultId, WriteRequest, now,
};
use serde::Deserialize;
use serde_json::json;

use super::caller::{Visit, in_vault, in_vault_heavy};
use super::contexts::Contexts;
use super::problem::Problem;
use super::received::{Held, Received};
use super::stream::{self, NDJSON};
use super::wire::{
    ConsistencyBody, FilterBody, PreconditionBody, RelationshipBody, RelationshipView, parse_preconditions,
};
use super::{App, Json, body, lines};
use crate::telemetry::LogScope;

/// How many relationships a page has where the caller does not say.
const PAGE_SIZE: usize = 100;

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct WriteBody<'a> {
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    touch: Vec<RelationshipBody<'a>>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    create: Vec<RelationshipBody<'a>>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    delete: Vec<RelationshipBody<'a>>,
    #[serde(default, deserialize_with = "body::or_default")]
    preconditions: Vec<PreconditionBody>,
}

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct DeleteBody {
    filter: FilterBody,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default, deserialize_with = "body::or_default")]
    preconditions: Vec<PreconditionBody>,
}

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct ReadBody {
    #[serde(default, deserialize_with = "body::or_default")]
    filter: FilterBody,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default, deserialize_with = "body::or_default")]
    consistency: ConsistencyBody,
}

body::objects!(WriteBody<'a>, DeleteBody, ReadBody);

/// What it is worth to make a relationship of a change of a write, beside the work of evaluations.
pub const WORK_OF_CHANGE: u64 = 4;
/// What it is worth to write an entry of a page or stream, but for its bytes.
pub const WORK_OF_LINE: u64 = 4;

/// `POST /v1/relationships/write`
pub async fn write(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault_heavy(&app, &request, caller, Scopes::WRITE, |visit| {
        let app = app.clone();
        async move {
            // What takes a while where it is large is done in steps, between which others have their turn.
            let mut turn = visit.vault.turn();
            let body: WriteBody<'_> = body::json_of(&mut turn, &bytes).await?;
            body.count(app.settings.max_write_changes)?;
            let mut write = WriteRequest::default();
            let mut contexts = Contexts::new(&app.settings);
            for change in body.each_change() {
                turn.pace(WORK_OF_CHANGE).await;
                change.parse_into(&mut write, &mut contexts)?;
                turn.count(change.work_of_context(&write));
            }
            drop(turn);
            write.preconditions = parse_preconditions(&body.preconditions)?;
            let revision = visit.vault.write(write).await?;
            Json::of(json!({ "revision": revision.encode(visit.vault.id) }))
        }
    })
    .await
}

/// `POST /v1/relationships/delete`
pub async fn delete(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault_heavy(&app, &request, caller, Scopes::WRITE, |visit| async move {
        let body: DeleteBody = body::json_of(&mut visit.vault.turn(), &bytes).await?;
        let filter = body.filter.parse("filter")?;
        if filter == RelationshipFilter::default() {
            let detail = "the filter must have at least one member: an empty one would delete everything";
            return Err(Problem::invalid("empty_filter", "filter", detail));
        }
        if body.limit == Some(0) {
            return Err(Problem::invalid(
                "invalid_value",
                "limit",
                "`limit` must be 1 at least",
            ));
        }
        let preconditions = parse_preconditions(&body.preconditions)?;
        let deleted = visit
            .vault
            .delete(DeleteRequest {
                filter,
                limit: body.limit,
                preconditions,
            })
            .await?;
        Json::of(json!({
            "deleted": deleted.deleted,
            "complete": deleted.complete,
            "revision": deleted.revision.encode(visit.vault.id),
        }))
    })
    .await
}

/// `POST /v1/relationships/read`
pub async fn read(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    if stream::preferred(&request, &["application/json", NDJSON]) != NDJSON {
        return in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
            read_page(app.clone(), visit, bytes)
        })
        .await;
    }
    in_vault(&app, &request, caller, Scopes::READ, |visit| async {
        let vault = Arc::clone(&visit.vault);
        let reading = LogScope::carried(async move { read_body(&vault, &bytes).await });
        let (body, filter, consistency) = app.platform.heavy().finish(reading).await??;
        lines::answer(
            &app,
            &request,
            visit,
            filter,
            body.cursor,
            body.limit,
            consistency,
        )
        .await
    })
    .await
}

async fn read_body(
    vault: &Vault,
    bytes: &[u8],
) -> Result<(ReadBody, RelationshipFilter, Consistency), Problem> {
    let body: ReadBody = body::json_of(&mut vault.turn(), bytes).await?;
    let filter = body.filter.parse("filter")?;
    let consistency = body.consistency.parse(vault.id)?;
    Ok((body, filter, consistency))
}

async fn read_page(app: web::Data<App>, visit: Visit, bytes: Held) -> Result<Json, Problem> {
    let (body, filter, consistency) = read_body(&visit.vault, &bytes).await?;
    let most = app.settings.max_page_size;
    let limit = match body.limit {
        None => PAGE_SIZE.min(most),
        Some(limit) if (1..=most).contains(&limit) => limit,
        Some(_) => {
            let detail = format!("`limit` must be from 1 to {most}");
            return Err(Problem::invalid("invalid_value", "limit", detail));
        }
    };
    let page = visit
        .vault
        .read(&filter, body.cursor.as_deref(), limit, consistency, now())
        .await?;
    Ok(Json(
        written(&page, visit.vault.id, &mut visit.vault.turn()).await,
    ))
}

/// A page in JSON, written in turns.
async fn written(page: &ReadPage, vault: VaultId, turn: &mut Turn<'_>) -> Vec<u8> {
    let mut answer = Vec::new();
    // Strings and objects of them are always JSON, and memory does not fail.
    if let Some(cursor) = &page.cursor {
        answer.extend_from_slice(b"{\"cursor\":");
        let _ = serde_json::to_writer(&mut answer, cursor);
        answer.push(b',');
    } else {
        answer.push(b'{');
    }
    answer.extend_from_slice(b"\"relationships\":[");
    for (index, relationship) in page.relationships.iter().enumerate() {
        if index > 0 {
            answer.push(b',');
        }
        let before = answer.len();
        let _ = serde_json::to_writer(&mut answer, &RelationshipView::from(relationship));
        turn.pace(WORK_OF_LINE + body::work_of(answer.len() - before))
            .await;
    }
    answer.extend_from_slice(b"],\"revision\":");
    let _ = serde_json::to_writer(&mut answer, &page.revision.encode(vault));
    answer.push(b'}');
    answer
}

/// Parses the body of a write.
pub fn parse(bytes: &[u8], most: usize, mut contexts: Contexts) -> Result<WriteRequest, Problem> {
    let body: WriteBody<'_> = body::json(bytes)?;
    body.count(most)?;
    let mut write = WriteRequest::default();
    for change in body.each_change() {
        change.parse_into(&mut write, &mut contexts)?;
    }
    write.preconditions = parse_preconditions(&body.preconditions)?;
    Ok(write)
}

impl WriteBody<'_> {
    fn changes(&self) -> usize {
        self.touch.len() + self.create.len() + self.delete.len()
    }

    /// Whether there are as many changes as a write may have.
    fn count(&self, most: usize) -> Result<(), Problem> {
        let changes = self.changes();
        if changes > most {
            let detail = format!("at most {most} changes in one write, this one has {changes}");
            return Err(Problem::invalid("too_many", "touch", detail));
        }
        if changes == 0 {
            let detail = "a write must name at least one relationship in `touch`, `create` or `delete`";
            return Err(Problem::invalid("empty_write", "touch", detail));
        }
        Ok(())
    }

    fn each_change(&self) -> impl Iterator<Item = ChangeBody<'_>> {
        let lists = [
            (ChangeKind::Touch, &self.touch),
            (ChangeKind::Create, &self.create),
            (ChangeKind::Delete, &self.delete),
        ];
        lists.into_iter().flat_map(|(kind, bodies)| {
            let change = move |(index, body)| ChangeBody { kind, index, body };
            bodies.iter().enumerate().map(change)
        })
    }
}

/// What is to become of a relationship.
#[derive(Clone, Copy)]
enum ChangeKind {
    Touch,
    Create,
    Delete,
}

/// One change of a write.
struct ChangeBody<'a> {
    kind: ChangeKind,
    /// Which of its kind.
    index: usize,
    body: &'a RelationshipBody<'a>,
}

impl ChangeBody<'_> {
    /// What it was worth to read the context of the relationship that was made of it, the latest of its kind.
    fn work_of_context(&self, write: &WriteRequest) -> u64 {
        let made = match self.kind {
            ChangeKind::Touch => write.touch.last(),
            ChangeKind::Create => write.create.last(),
            ChangeKind::Delete => None,
        };
        let caveat = made.and_then(|made| made.caveat.as_ref());
        caveat.map_or(0, |caveat| body::work_of_context(&caveat.context))
    }

    fn parse_into(&self, write: &mut WriteRequest, contexts: &mut Contexts) -> Result<(), Problem> {
        let (index, body) = (self.index, self.body);
        match self.kind {
            ChangeKind::Touch => {
                let touched = body.parse(format_args!("touch[{index}]"), contexts)?;
                write.touch.push(touched);
            }
            ChangeKind::Create => {
                let created = body.parse(format_args!("create[{index}]"), contexts)?;
                write.create.push(created);
            }
            ChangeKind::Delete => write
                .delete
                .push(body.parse_key(format_args!("delete[{index}]"))?),
        }
        Ok(())
    }
}
