//! `GET /v1/watch`: every change of the token's vault as it happens, as Server-Sent Events or as lines of JSON.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::ConnectionType;
use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{
    Change, ChangeKind, ChangeOp, HeavyThreads, RelationshipFilter, Revision, Turn, VaultError, VaultId,
    Watch,
};
use inferadb_engine::noun::Relationship;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::MissedTickBehavior;

use super::caller::{Caller, Lease, in_vault};
use super::places::Place;
use super::problem::Problem;
use super::relationships::WORK_OF_LINE;
use super::stream::{self, EVENT_STREAM, NDJSON, Unread, Writer};
use super::wire::{FilterBody, RelationshipView, format_time};
use super::{App, body};
use crate::telemetry::LogScope;

/// What a browser's `EventSource` sends when it connects again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The parameters that are members of a filter.
const FILTER: [&str; 7] = [
    "resource_type",
    "resource_id",
    "resource_id_prefix",
    "relation",
    "subject_type",
    "subject_id",
    "subject_relation",
];
/// The most resource types that one watch can name.
const MAX_TYPES: usize = 100;

/// What a request asks for.
struct Query {
    /// Where to go on, and the parameter or header that says so.
    since: Option<(Revision, &'static str)>,
    /// Relationships that match any of these; all if there is none.
    filters: Vec<RelationshipFilter>,
}

/// A watch on its way to its reader.
struct Stream {
    app: web::Data<App>,
    watch: Watch,
    vault: VaultId,
    filters: Vec<RelationshipFilter>,
    lease: Lease,
    format: Format,
    request_id: String,
    sent: u64,
    _place: Place,
}

#[derive(Clone, Copy)]
enum Format {
    Events,
    Lines,
}

/// Why a watch ends.
enum End {
    Unread(Unread),
    Failed(Problem),
}

#[derive(Serialize)]
struct OneChange {
    operation: &'static str,
    relationship: RelationshipView,
}

/// `GET /v1/watch`
pub async fn watch(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = Caller::of(&app, &request).await?;
    in_vault(&app, &request, caller, Scopes::WATCH | Scopes::READ, |visit| {
        let (app, request) = (app.clone(), request.clone());
        async move {
            let vault = visit.vault.id;
            let query = Query::of(&request, vault)?;
            let lease = visit.caller.lease(&app, &request)?;
            let format = match stream::preferred(&request, &[EVENT_STREAM, NDJSON]) {
                NDJSON => Format::Lines,
                _ => Format::Events,
            };
            let since = query.since.map(|(since, _)| since);
            let place = app.watches.enter(visit.vault.account)?;
            let watch = app
                .platform
                .watch(Arc::clone(&visit.vault), since)
                .await
                .map_err(|error| refusal(error, query.since.map(|(_, field)| field)))?;
            let (patience, threads) = (app.settings.slow_reader, app.platform.heavy().clone());
            let stream = Stream {
                app,
                watch,
                vault,
                filters: query.filters,
                lease,
                format,
                request_id: visit.scope.request_id().to_owned(),
                sent: 0,
                _place: place,
            };
            Ok(begin(&threads, stream, &visit.scope, patience))
        }
    })
    .await
}

fn begin(threads: &HeavyThreads, stream: Stream, scope: &Arc<LogScope>, patience: Duration) -> HttpResponse {
    tracing::info!("watch opened");
    let mut response = stream::answer(
        threads,
        scope,
        stream.format.content_type(),
        patience,
        move |writer| stream.run(writer),
    );
    // Who waits for the end of the connection is not to wait longer than for the end of the watch.
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

/// Names the parameter that a refused revision came from.
fn refusal(error: VaultError, field: Option<&'static str>) -> Problem {
    let is_about_revision = matches!(error, VaultError::RevisionAhead | VaultError::HistoryGone);
    let mut problem = Problem::from(error);
    if is_about_revision {
        problem.field = field.map(str::to_owned);
    }
    problem
}

impl Query {
    fn of(request: &HttpRequest, vault: VaultId) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(request.query_string()).map_err(|error| {
                Problem::invalid("invalid_query", "query", format!("the query string: {error}"))
            })?;
        let mut since = None;
        let mut types = Vec::new();
        let mut members = Map::new();
        for (name, value) in pairs {
            let twice = match name.as_str() {
                "since" => since.replace(value).is_some(),
                "resource_type" => {
                    types.push(value);
                    false
                }
                known if FILTER.contains(&known) => members.insert(name.clone(), value.into()).is_some(),
                _ => {
                    let detail = format!(
                        "unknown parameter `{name}`; known are `since`, `{}`",
                        FILTER.join("`, `")
                    );
                    return Err(Problem::invalid("unknown_field", name, detail));
                }
            };
            if twice {
                let detail = format!("the parameter `{name}` is given twice");
                return Err(Problem::invalid("invalid_value", name, detail));
            }
        }
        Ok(Self {
            since: resume_point(request, since, vault)?,
            filters: filters(&types, &members)?,
        })
    }
}

/// Where to go on. A browser that connects again repeats the address of the first time, so its header is the later word.
fn resume_point(
    request: &HttpRequest,
    since: Option<String>,
    vault: VaultId,
) -> Result<Option<(Revision, &'static str)>, Problem> {
    let header = match request.headers().get(LAST_EVENT_ID).map(|value| value.to_str()) {
        None | Some(Ok("")) => None,
        Some(Ok(text)) => Some(text.to_owned()),
        Some(Err(_)) => Some("?".to_owned()),
    };
    let (text, field) = match (header, since) {
        (Some(text), _) => (text, "Last-Event-ID"),
        (None, Some(text)) => (text, "since"),
        (None, None) => return Ok(None),
    };
    match Revision::decode(vault, &text) {
        Ok(revision) => Ok(Some((revision, field))),
        Err(error) => Err(Problem::invalid("invalid_revision", field, error.to_string())),
    }
}

fn filters(types: &[String], members: &Map<String, Value>) -> Result<Vec<RelationshipFilter>, Problem> {
    if types.len() > MAX_TYPES {
        let detail = format!("at most {MAX_TYPES} resource types in one watch");
        return Err(Problem::invalid("too_many", "resource_type", detail));
    }
    let parse = |members: Map<String, Value>| {
        // Every member is known and text.
        let body: FilterBody = serde_json::from_value(Value::Object(members))
            .map_err(|error| Problem::invalid("invalid_query", "query", error.to_string()))?;
        body.parse("query").map_err(|mut problem| {
            problem.field = problem.field.map(|field| field.replacen("query.", "", 1));
            problem.detail = problem.detail.replacen("query.", "", 1);
            problem
        })
    };
    if types.is_empty() && members.is_empty() {
        return Ok(Vec::new());
    }
    if types.is_empty() {
        return Ok(vec![parse(members.clone())?]);
    }
    types
        .iter()
        .map(|name| {
            let mut members = members.clone();
            members.insert("resource_type".to_owned(), name.as_str().into());
            parse(members)
        })
        .collect()
}

impl Stream {
    /// Sends until there is a reason to end, and says which.
    async fn run(mut self, mut writer: Writer) {
        let opened = Instant::now();
        let (gone, stopping, left) = (writer.gone(), self.app.stopping.clone(), self.lease.left());
        let end = tokio::select! {
            biased;
            () = gone => End::Unread(Unread::Gone),
            () = stopping.begun() => End::Failed(VaultError::Stopping.into()),
            () = tokio::time::sleep(left) => End::Failed(Lease::expired()),
            Err(end) = self.follow(&mut writer) => end,
        };
        self.finish(end, writer, opened.elapsed());
    }

    /// Sends changes as they come, and heartbeats. Never ends well.
    async fn follow(&mut self, writer: &mut Writer) -> Result<Infallible, End> {
        self.tell(writer, "ready").await?;
        let mut heartbeat = tokio::time::interval(self.app.settings.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.tick().await;
        loop {
            tokio::select! {
                biased;
                // First: changes without a pause, none of which the filter lets through, must not keep it back.
                _ = heartbeat.tick() => {
                    self.lease.check(&self.app).await?;
                    self.tell(writer, "heartbeat").await?;
                }
                changes = self.watch.next() => {
                    let changes = changes?;
                    // A change comes to all watches of the vault at once: each sends it in a turn.
                    let vault = Arc::clone(self.watch.vault());
                    let mut turn = vault.heavy_turn();
                    turn.begin().await;
                    for change in changes {
                        self.send(writer, &change, &mut turn).await?;
                    }
                    turn.during(writer.flush()).await?;
                }
            }
        }
    }

    /// Sends what the filter leaves of a change; nothing if it leaves nothing.
    async fn send(&mut self, writer: &mut Writer, change: &Change, turn: &mut Turn<'_>) -> Result<(), End> {
        let (relationships, rest): (&[_], _) = match &change.kind {
            ChangeKind::Relationships(changes) => (changes, "]"),
            ChangeKind::Schema => (&[], "],\"schema_changed\":true"),
            ChangeKind::Settings => (&[], "],\"settings_changed\":true"),
        };
        // One after another: a commit can be far larger than what a watch may hold.
        let revision = change.revision.encode(self.vault);
        let mut part = self.format.begin("change", &revision);
        part.extend_from_slice(format!(",\"at\":\"{}\",\"changes\":[", format_time(change.at)).as_bytes());
        let mut is_first = true;
        for (operation, relationship) in relationships {
            turn.pace(1 + self.filters.len() as u64).await;
            if !self.is_wanted(relationship) {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                part.push(b',');
            }
            let one = OneChange {
                operation: name_of(*operation),
                relationship: RelationshipView::from(relationship),
            };
            part.extend(serde_json::to_vec(&one).unwrap_or_default());
            turn.count(WORK_OF_LINE + body::work_of(part.len()));
            turn.during(writer.part(&part)).await?;
            part.clear();
        }
        if is_first && matches!(change.kind, ChangeKind::Relationships(_)) {
            return Ok(());
        }
        part.extend_from_slice(rest.as_bytes());
        part.extend_from_slice(self.format.end().as_bytes());
        turn.during(writer.part(&part)).await?;
        writer.end_record();
        self.watch.vault().metrics.watch_events.inc();
        self.sent += 1;
        Ok(())
    }

    fn is_wanted(&self, relationship: &Relationship) -> bool {
        if self.filters.is_empty() {
            return true;
        }
        let key = relationship.key();
        self.filters.iter().any(|filter| filter.matches(&key))
    }

    /// Sends how far the watch has come: where another one can go on.
    async fn tell(&self, writer: &mut Writer, kind: &'static str) -> Result<(), End> {
        let mut event = self.format.begin(kind, &self.watch.position().encode(self.vault));
        event.extend_from_slice(self.format.end().as_bytes());
        writer.write(&event).await?;
        writer.flush().await?;
        Ok(())
    }

    fn finish(self, end: End, writer: Writer, open: Duration) {
        let problem = match end {
            End::Unread(Unread::Gone) => None,
            End::Unread(Unread::Slow) => Some(stream::slow_reader(self.app.settings.slow_reader)),
            End::Failed(problem) => Some(problem),
        };
        let reason = problem.as_ref().map_or("reader_gone", |problem| problem.code);
        self.app.metrics.stream_ended("watch", reason);
        let (changes, seconds) = (self.sent, open.as_secs());
        match &problem {
            Some(problem) if problem.status.is_server_error() || problem.code == "slow_reader" => {
                tracing::warn!(reason, changes, seconds, "watch ended");
            }
            _ => tracing::info!(reason, changes, seconds, "watch ended"),
        }
        if let Some(problem) = problem {
            writer.finish(&self.format.error(&problem.of_request(&self.request_id)));
        }
    }
}

const fn name_of(operation: ChangeOp) -> &'static str {
    match operation {
        ChangeOp::Created => "create",
        ChangeOp::Updated => "touch",
        ChangeOp::Deleted => "delete",
    }
}

impl Format {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Events => EVENT_STREAM,
            Self::Lines => NDJSON,
        }
    }

    /// The beginning of an event whose id is its revision: who has seen it can go on from there.
    fn begin(self, kind: &'static str, revision: &str) -> Vec<u8> {
        match self {
            Self::Events => format!("id: {revision}\nevent: {kind}\ndata: {{\"revision\":\"{revision}\""),
            Self::Lines => format!("{{\"event\":\"{kind}\",\"revision\":\"{revision}\""),
        }
        .into_bytes()
    }

    /// The end of an event.
    const fn end(self) -> &'static str {
        match self {
            Self::Events => "}\n\n",
            Self::Lines => "}\n",
        }
    }

    /// The last event, which leaves the place to go on from as it is.
    fn error(self, problem: &Problem) -> Vec<u8> {
        let body = problem.to_value();
        match self {
            Self::Events => format!("event: error\ndata: {body}\n\n").into_bytes(),
            Self::Lines => {
                let line = serde_json::json!({ "event": "error", "error": body });
                format!("{line}\n").into_bytes()
            }
        }
    }
}

impl From<Unread> for End {
    fn from(unread: Unread) -> Self {
        Self::Unread(unread)
    }
}

impl From<VaultError> for End {
    fn from(error: VaultError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}
