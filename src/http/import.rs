//! `POST /v1/vaults/{vault}/import`: a vault file becomes a vault's state, all of it or nothing, of any size in bounded memory.
//!
//! The body is taken in as it comes. Whatever ends it before its end, or is wrong with it, leaves the vault as it was.

use std::pin::pin;
use std::time::{Duration, Instant};

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use inferadb_actors::{Import, ImportMode, Imported, VaultError};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::caller::Caller;
use super::places::Place;
use super::problem::Problem;
use super::transfer;
use super::vault_file::{Bounds, Head, LINES, Layout, Page, Reader};
use super::{App, HttpMetrics, HttpSettings, body, ok};
use crate::telemetry::LogScope;

/// How much of the body is taken apart before others of the thread get their turn, in bytes.
const AT_ONCE: usize = 8 << 10;
/// How many pieces of the body wait to be taken apart.
const QUEUED_PIECES: usize = 4;
/// How much of a refused body is read on, so that its sender comes to read why.
const DRAINED_BYTES: usize = 16 << 20;
/// For how long that is done.
const DRAINED_FOR: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ImportQuery {
    mode: Option<String>,
    force: bool,
}

/// A piece of the body; `None` at its end.
type Came = Result<Option<Bytes>, Problem>;

/// The request's body on its way in.
struct Incoming {
    payload: web::Payload,
    patience: Duration,
}

/// Counts an import and logs how it ended; one of which nothing is told was given up.
struct Ending {
    metrics: HttpMetrics,
    mode: &'static str,
    started: Instant,
    outcome: &'static str,
}

/// `POST /v1/vaults/{vault}/import`
pub async fn import(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let mut incoming = Incoming {
        payload,
        patience: app.settings.slow_reader,
    };
    let outcome = import_body(&app, &request, &path, &mut incoming).await;
    if outcome.is_err() {
        incoming.drain().await;
    }
    outcome
}

async fn import_body(
    app: &App,
    request: &HttpRequest,
    path: &str,
    incoming: &mut Incoming,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of(app, request).await?;
    let (id, reach, _, slot) = transfer::begin(app, &caller, path).await?;
    let query: ImportQuery = body::query(request)?;
    let mode = mode(&query)?;
    let layout = layout(request)?;
    let ending = Ending {
        metrics: app.metrics.clone(),
        mode: name_of(mode),
        started: Instant::now(),
        outcome: "given_up",
    };
    let (pieces, coming) = mpsc::channel(QUEUED_PIECES);
    let (platform, reader) = (app.platform.clone(), Reader::new(layout, bounds(&app.settings)));
    let work = async move {
        let mut import = platform.import(id, reach, mode).await?;
        if query.force {
            import.force();
        }
        take_in(import, mode, reader, coming).await
    };
    let work = app.platform.heavy().run(LogScope::carried(work));
    // What comes is handed over where it comes in.
    let work = async {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            outcome = &mut work => outcome,
            () = incoming.hand_over(pieces) => work.await,
        }
    };
    let taken_in = tokio::select! {
        taken_in = work => taken_in.map_err(Problem::from).flatten(),
        // Whoever stops the server is not to wait for the end of a file.
        () = app.stopping.begun() => Err(VaultError::Stopping.into()),
    };
    let imported = match taken_in {
        // All of it is here. A server that stops waits for it, as for any request: who is told that it was abandoned must
        // not find it there.
        Ok(import) => finish(app, import, slot, ending).await?,
        Err(problem) => {
            ending.tell(Err(&problem));
            return Err(problem);
        }
    };
    let mut answer = json!({
        "mode": name_of(mode),
        "relationships": imported.relationships,
        "created": imported.created,
        "updated": imported.updated,
        "schema_changed": imported.schema_changed,
        "revision": imported.revision.encode(id),
    });
    if let Some(members) = answer.as_object_mut() {
        let misfits = query.force.then_some(imported.misfits);
        for (name, count) in [("removed", imported.removed), ("misfits", misfits)] {
            if let Some(count) = count {
                members.insert(name.into(), count.into());
            }
        }
    }
    ok(&answer)
}

/// Finishes the import, and tells of it, though whoever waits for it goes away; its place is taken until then.
async fn finish(app: &App, import: Import, slot: Place, ending: Ending) -> Result<Imported, Problem> {
    let work = LogScope::carried(async move {
        let finished = import.finish().await.map_err(Problem::from);
        ending.tell(finished.as_ref());
        drop(slot);
        finished
    });
    let finishing = app.platform.heavy().spawn(work)?;
    finishing
        .await
        .unwrap_or_else(|_| Err(VaultError::ActorFailed.into()))
}

async fn take_in(
    mut import: Import,
    mode: ImportMode,
    mut reader: Reader,
    mut coming: mpsc::Receiver<Came>,
) -> Result<Import, Problem> {
    let pace = import.pace();
    // Whoever hands it over says when that was all.
    while let Some(bytes) = coming
        .recv()
        .await
        .unwrap_or_else(|| Err(VaultError::Stopping.into()))?
    {
        for piece in bytes.chunks(AT_ONCE) {
            pace.take(async { reader.push(piece) }).await?;
            if let Some(head) = reader.head() {
                take_head(&mut import, head).await?;
            }
            take_limits(&mut import, mode, &mut reader).await?;
            while let Some(page) = reader.full_page() {
                add(&mut import, page).await?;
            }
        }
    }
    reader.end()?;
    if let Some(head) = reader.head() {
        take_head(&mut import, head).await?;
    }
    take_limits(&mut import, mode, &mut reader).await?;
    while let Some(page) = reader.page() {
        add(&mut import, page).await?;
    }
    Ok(import)
}

/// Takes the vault's limits as soon as they have come: what is wrong with them is not to be told after a long file.
async fn take_limits(import: &mut Import, mode: ImportMode, reader: &mut Reader) -> Result<(), Problem> {
    let (ImportMode::Replace, Some(limits)) = (mode, reader.limits()) else {
        return Ok(());
    };
    let limits = (!limits.is_empty()).then_some(limits);
    let taken = import.settings(limits).await;
    taken.map_err(|error| of_member("vault", error))
}

async fn take_head(import: &mut Import, head: Head) -> Result<(), Problem> {
    let Some((format, text)) = head.schema else {
        return Ok(());
    };
    let taken = import.schema(format, &text).await;
    taken.map_err(|error| Problem {
        field: Some("schema".to_owned()),
        ..error.into()
    })
}

async fn add(import: &mut Import, mut page: Page) -> Result<(), Problem> {
    let relationships = std::mem::take(&mut page.relationships);
    let added = import.add(relationships).await;
    added.map_err(|error| {
        let does_not_fit = matches!(error, VaultError::Misfit { .. });
        let mut problem = page.located(error.into());
        if does_not_fit {
            problem
                .detail
                .push_str("; with `?force=true` it is taken in all the same, and every answer ignores it");
        }
        problem
    })
}

/// A problem with what stands within the file's member `name`.
fn of_member(name: &str, error: VaultError) -> Problem {
    let problem = Problem::from(error);
    let field = problem.field.as_ref().map(|field| format!("{name}.{field}"));
    Problem { field, ..problem }
}

impl Incoming {
    /// Hands over what comes, to its end or to what ends it before; then there is nothing left to do.
    async fn hand_over(&mut self, to: mpsc::Sender<Came>) {
        loop {
            let came = self.next().await;
            let is_last = !matches!(came, Ok(Some(_)));
            // Nobody takes it: the import has failed, and says why itself.
            if to.send(came).await.is_err() || is_last {
                return;
            }
        }
    }

    /// The next bytes; `None` at the body's end.
    async fn next(&mut self) -> Came {
        let patience = self.patience;
        let came = tokio::time::timeout(patience, self.payload.next()).await;
        match came {
            Ok(None) => Ok(None),
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(error))) => Err(broken(&error)),
            Err(_) => {
                let detail = format!(
                    "nothing more of the file has come for {} seconds; nothing was changed",
                    patience.as_secs()
                );
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "slow_sender", detail))
            }
        }
    }

    /// Reads on for a while without a use for it: a connection that is closed over unread bytes may lose the answer.
    async fn drain(&mut self) {
        let reading = async {
            let mut left = DRAINED_BYTES;
            while let Some(Ok(bytes)) = self.payload.next().await {
                if left < bytes.len() {
                    break;
                }
                left -= bytes.len();
            }
        };
        // Whoever sends more than that finds the connection closed.
        let _ = tokio::time::timeout(DRAINED_FOR, reading).await;
    }
}

impl Ending {
    fn tell(mut self, outcome: Result<&Imported, &Problem>) {
        let (mode, seconds) = (self.mode, self.started.elapsed().as_secs_f64());
        match outcome {
            Ok(Imported {
                relationships,
                created,
                updated,
                ..
            }) => {
                self.outcome = "complete";
                self.metrics.imported(*relationships);
                tracing::info!(mode, relationships, created, updated, seconds, "vault imported");
            }
            Err(problem) => {
                self.outcome = problem.code;
                let reason = problem.code;
                tracing::warn!(mode, reason, seconds, "the import of a vault was abandoned");
            }
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.metrics.import_ended(self.mode, self.outcome);
    }
}

fn broken(error: &PayloadError) -> Problem {
    let detail = format!("the file broke off: {error}; nothing was changed");
    Problem::new(StatusCode::BAD_REQUEST, "sender_gone", detail)
}

fn mode(query: &ImportQuery) -> Result<ImportMode, Problem> {
    match query.mode.as_deref() {
        None | Some("merge") => Ok(ImportMode::Merge),
        Some("replace") => Ok(ImportMode::Replace),
        Some(other) => {
            let detail = format!(
                "`mode` is `merge` or `replace`, this is `{}`",
                other.escape_debug()
            );
            Err(Problem::invalid("invalid_value", "mode", detail))
        }
    }
}

const fn name_of(mode: ImportMode) -> &'static str {
    match mode {
        ImportMode::Merge => "merge",
        ImportMode::Replace => "replace",
    }
}

/// How the body is laid out, by its content type. As everywhere, what `curl -d` says of itself is read as JSON.
fn layout(request: &HttpRequest) -> Result<Layout, Problem> {
    let Some(value) = request.headers().get(CONTENT_TYPE) else {
        return Ok(Layout::Json);
    };
    let text = value.to_str().unwrap_or("?").to_ascii_lowercase();
    let media = text.split(';').next().unwrap_or_default().trim();
    match media {
        media if LINES.contains(&media) => Ok(Layout::Lines),
        ""
        | "application/json"
        | "text/json"
        | "application/x-www-form-urlencoded"
        | "application/octet-stream" => Ok(Layout::Json),
        other if other.ends_with("+json") => Ok(Layout::Json),
        other => {
            let detail = format!(
                "a vault file is `application/json` or `application/x-ndjson`, not `{}`",
                other.escape_debug()
            );
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Err(Problem::new(status, "unsupported_media_type", detail))
        }
    }
}

/// What a file may have of its parts. Escapes can make each byte of a text six of JSON.
fn bounds(settings: &HttpSettings) -> Bounds {
    /// A stored context can be longer written out than it was given: `1e15` becomes `1000000000000000.0`.
    const GROWTH: usize = 8;
    /// More than the names and ids of a relationship take, with every character escaped.
    const IDS: usize = 32 << 10;
    let context = settings.max_stored_context_bytes.saturating_mul(GROWTH);
    Bounds {
        relationship: context + IDS,
        member: settings.max_schema_bytes.saturating_mul(6) + IDS,
        schema: settings.max_schema_bytes,
        context,
    }
}
