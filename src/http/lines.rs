//! Relationships read as lines of JSON: as many as there are, in bounded memory.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::{Either, select};
use inferadb_actors::{
    Consistency, Reach, RelationshipFilter, RelationshipStream, Vault, VaultError, VaultId, now,
};
use serde_json::json;

use super::caller::{Lease, Visit};
use super::problem::Problem;
use super::relationships::WORK_OF_LINE;
use super::stream::{self, NDJSON, Unread, Writer};
use super::wire::RelationshipView;
use super::{App, body};

/// Answers everything that matches, one relationship a line, and then a line with the state they are of.
pub async fn answer(
    app: &web::Data<App>,
    request: &HttpRequest,
    visit: Visit,
    filter: RelationshipFilter,
    cursor: Option<String>,
    limit: Option<usize>,
    consistency: Consistency,
) -> Result<HttpResponse, Problem> {
    if limit == Some(0) {
        let detail = "`limit` must be 1 at least";
        return Err(Problem::invalid("invalid_value", "limit", detail));
    }
    let lease = visit.caller.lease(app, request)?;
    let relationships = visit
        .vault
        .read_all(filter, cursor.as_deref(), consistency, now())
        .await?;
    let limit = limit.unwrap_or(usize::MAX);
    let (app, patience) = (app.clone(), app.settings.slow_reader);
    let threads = app.platform.heavy().clone();
    let scope = Arc::clone(&visit.scope);
    Ok(stream::answer(
        &threads,
        &scope,
        NDJSON,
        patience,
        move |writer| send_lines(app, visit, lease, relationships, limit, writer),
    ))
}

async fn send_lines(
    app: web::Data<App>,
    visit: Visit,
    lease: Lease,
    mut relationships: RelationshipStream,
    limit: usize,
    mut writer: Writer,
) {
    let left = lease.left();
    let standing = Standing {
        app: &app,
        lease,
        vault: visit.vault.id,
    };
    let outcome = {
        let sending = async {
            tokio::select! {
                biased;
                () = tokio::time::sleep(left) => Err(Broken::Failed(Lease::expired())),
                outcome = send_all(&standing, &visit.vault, &mut relationships, limit, &mut writer) => outcome,
            }
        };
        let sending = pin!(sending);
        // A request under way, which the vault is kept for; but a reader that takes its time does not hold up its end.
        let staying = pin!(async {
            let _pass = visit.vault.stay();
            visit.vault.closing().await;
        });
        match select(sending, staying).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), sending)) => match standing.check_vault().await {
                Ok(()) => sending.await,
                Err(problem) => Err(Broken::Failed(problem)),
            },
        }
    };
    let line = match outcome {
        Ok(()) => {
            app.metrics.stream_ended("relationships", "complete");
            last_line(&relationships, visit.vault.id)
        }
        Err(Broken::Unread(unread)) => {
            let (reason, problem) = match unread {
                Unread::Gone => ("reader_gone", None),
                Unread::Slow => ("slow_reader", Some(stream::slow_reader(app.settings.slow_reader))),
            };
            app.metrics.stream_ended("relationships", reason);
            tracing::info!(reason, "the stream of relationships ended early");
            let Some(problem) = problem else { return };
            json!({ "error": problem.of_request(visit.scope.request_id()).to_value() })
        }
        Err(Broken::Failed(problem)) => {
            app.metrics.stream_ended("relationships", problem.code);
            tracing::warn!(reason = problem.code, "the stream of relationships ended early");
            json!({ "error": problem.of_request(visit.scope.request_id()).to_value() })
        }
    };
    writer.finish(format!("{line}\n").as_bytes());
}

/// Why a stream ends before its end.
enum Broken {
    Unread(Unread),
    Failed(Problem),
}

/// What the answer stands on while it is being sent: a token that is accepted, and a vault that answers.
struct Standing<'a> {
    app: &'a App,
    lease: Lease,
    vault: VaultId,
}

impl Standing<'_> {
    async fn check(&self) -> Result<(), Problem> {
        self.lease.check(self.app).await?;
        self.check_vault().await
    }

    /// Refuses a vault that was archived or deleted meanwhile.
    async fn check_vault(&self) -> Result<(), Problem> {
        match self.app.platform.vault(self.vault, Reach::Everything).await {
            Ok(record) if !record.archived => Ok(()),
            Ok(_) | Err(VaultError::NotFound(_)) => Err(VaultError::AccessDenied.into()),
            Err(error) => Err(error.into()),
        }
    }
}

async fn send_all(
    standing: &Standing<'_>,
    vault: &Vault,
    relationships: &mut RelationshipStream,
    limit: usize,
    writer: &mut Writer,
) -> Result<(), Broken> {
    let mut turn = vault.heavy_turn();
    let mut left = limit;
    let mut checked = Instant::now();
    while left > 0 {
        let page = turn.during(relationships.next(left)).await;
        let Some(page) = page.map_err(|error| Broken::Failed(error.into()))? else {
            break;
        };
        left -= page.len().min(left);
        turn.begin().await;
        for relationship in &page {
            let mut line = serde_json::to_vec(&RelationshipView::from(relationship)).unwrap_or_default();
            line.push(b'\n');
            let written = turn.during(writer.write(&line)).await;
            written.map_err(Broken::Unread)?;
            relationships.rest();
            if checked.elapsed() >= standing.app.settings.heartbeat {
                let checking = turn.during(standing.check()).await;
                checking.map_err(Broken::Failed)?;
                checked = Instant::now();
            }
            turn.pace(WORK_OF_LINE + body::work_of(line.len())).await;
        }
        turn.during(writer.flush()).await.map_err(Broken::Unread)?;
    }
    Ok(())
}

/// The state that all was read from; the first and the last of them where one could not be held so long.
fn last_line(relationships: &RelationshipStream, vault: VaultId) -> serde_json::Value {
    let (first, last) = (relationships.first_revision(), relationships.revision());
    let optional = [
        ("first_revision", (first != last).then(|| first.encode(vault))),
        ("cursor", relationships.cursor()),
    ];
    let mut line = serde_json::Map::new();
    line.insert("revision".to_owned(), last.encode(vault).into());
    for (name, value) in optional {
        if let Some(value) = value {
            line.insert(name.to_owned(), value.into());
        }
    }
    line.into()
}
