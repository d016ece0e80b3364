//! `GET /v1/vaults/{vault}/export`: one state of a vault as a vault file, of any size in bounded memory.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{CONTENT_DISPOSITION, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::{Export, VaultError, VaultRecord, now};
use inferadb_engine::noun::Relationship;

use super::caller::{Caller, Lease};
use super::places::Place;
use super::problem::Problem;
use super::stream::{self, Unread, Writer};
use super::transfer::{self, NoQuery};
use super::vault_file::{LINES, Layout, Output, Preface};
use super::vaults::VaultView;
use super::wire::format_time;
use super::{App, body};
use crate::telemetry::LogScope;

/// How many relationships there are to come, for who shows how far an export is.
pub const RELATIONSHIPS: HeaderName = HeaderName::from_static("x-relationship-count");
/// How many relationships are written out in one turn of the vault.
const AT_ONCE: usize = 50;
/// Fewer, where they come to so many bytes; a large one is written in pieces of that.
const PIECE_BYTES: usize = 16 << 10;
/// The name of these streams in the metrics.
const STREAM: &str = "export";
/// The longest part of a file's name that is the vault's.
const MAX_NAME_CHARS: usize = 60;

/// Why an export ends before its end.
enum Broken {
    Unread(Unread),
    Failed(Problem),
}

/// `GET /v1/vaults/{vault}/export`
pub async fn export(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of(&app, &request).await?;
    let (id, reach, _, slot) = transfer::begin(&app, &caller, &path).await?;
    let lease = caller.lease(&app, &request)?;
    let NoQuery {} = body::query(&request)?;
    let [first, second, third, fourth] = LINES;
    let offered = [Layout::Json.media_type(), first, second, third, fourth];
    let layout = match stream::preferred(&request, &offered) {
        media if LINES.contains(&media) => Layout::Lines,
        _ => Layout::Json,
    };
    let platform = app.platform.clone();
    // Until its first relationships are there, what fails is answered as a problem.
    let beginning = LogScope::carried(async move {
        let mut export = platform.export(id, reach).await?;
        let first = export.next().await?;
        Ok::<_, VaultError>((export, first))
    });
    let (export, first) = app.platform.heavy().run(beginning).await??;
    let scope = LogScope::current()
        .unwrap_or_else(|| Arc::new(LogScope::new("", request.method().clone(), request.path())));
    let disposition = format!("attachment; filename=\"{}\"", file_name(export.vault(), layout));
    let expected = export.relationships();
    let (patience, threads) = (app.settings.slow_reader, app.platform.heavy().clone());
    let output = Output::new(layout, preface(&export));
    let mut response = stream::answer(&threads, &scope, layout.media_type(), patience, move |writer| {
        send(app, export, first, output, (slot, lease), writer)
    });
    let headers = response.headers_mut();
    if let Ok(disposition) = disposition.parse() {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    if let Some(expected) = expected {
        headers.insert(RELATIONSHIPS, expected.into());
    }
    Ok(response)
}

/// Sends the file. Where it cannot be sent to its end the answer is broken off: half a file is never taken for a whole one.
async fn send(
    app: web::Data<App>,
    mut export: Export,
    first: Option<Vec<Relationship>>,
    mut output: Output,
    (slot, lease): (Place, Lease),
    mut writer: Writer,
) {
    let started = Instant::now();
    let left = lease.left();
    let outcome = tokio::select! {
        biased;
        () = tokio::time::sleep(left) => Err(Broken::Failed(Lease::expired())),
        outcome = send_all((&app, &lease), &mut export, first, &mut output, &mut writer) => outcome,
    };
    let (relationships, seconds) = (output.count(), started.elapsed().as_secs_f64());
    app.metrics.exported(relationships);
    let reason = match &outcome {
        Ok(()) => "complete",
        Err(Broken::Unread(Unread::Gone)) => "reader_gone",
        Err(Broken::Unread(Unread::Slow)) => "slow_reader",
        Err(Broken::Failed(problem)) => problem.code,
    };
    app.metrics.stream_ended(STREAM, reason);
    match outcome {
        Ok(()) => {
            tracing::info!(relationships, seconds, "vault exported");
            writer.finish(&output.end());
        }
        Err(Broken::Failed(problem)) => {
            tracing::warn!(reason, %problem, relationships, seconds, "the export of a vault was broken off");
        }
        Err(Broken::Unread(_)) => {
            tracing::warn!(
                reason,
                relationships,
                seconds,
                "the export of a vault was broken off"
            );
        }
    }
    drop(slot);
}

async fn send_all(
    (app, lease): (&App, &Lease),
    export: &mut Export,
    first: Option<Vec<Relationship>>,
    output: &mut Output,
    writer: &mut Writer,
) -> Result<(), Broken> {
    writer.part(&output.begin()).await.map_err(Broken::Unread)?;
    writer.end_record();
    let pace = export.pace();
    let mut page = first;
    let mut checked = Instant::now();
    while let Some(relationships) = page {
        for some in relationships.chunks(AT_ONCE) {
            pace.take(write(some, export, output, writer)).await?;
        }
        writer.flush().await.map_err(Broken::Unread)?;
        if checked.elapsed() >= app.settings.heartbeat {
            lease.check(app).await.map_err(Broken::Failed)?;
            checked = Instant::now();
        }
        page = export
            .next()
            .await
            .map_err(|error| Broken::Failed(error.into()))?;
    }
    Ok(())
}

/// Writes relationships. Each piece of them may have to wait for the reader: meanwhile storage is not to keep what nobody needs.
async fn write(
    relationships: &[Relationship],
    export: &mut Export,
    output: &mut Output,
    writer: &mut Writer,
) -> Result<(), Broken> {
    let mut written = 0;
    for relationship in relationships {
        let line = output.relationship(relationship);
        for piece in line.chunks(PIECE_BYTES) {
            writer.part(piece).await.map_err(Broken::Unread)?;
            let refreshed = export.refresh(Instant::now()).await;
            refreshed.map_err(|error| Broken::Failed(error.into()))?;
        }
        writer.end_record();
        written += line.len();
        if written >= PIECE_BYTES {
            written = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

fn preface(export: &Export) -> Preface {
    let record = export.vault();
    let exported_at = format_time(now());
    let limits = record.limits.clone().unwrap_or_default();
    let vault = VaultView::from(record);
    let mut preface = Preface::new(exported_at, &vault, limits, export.revision().encode(record.id));
    if let Some(schema) = export.schema() {
        preface.schema = Some(schema.text.clone());
        preface.schema_format = Some(schema.format.name());
    }
    preface
}

/// The vault's name as far as every file system takes it, and the time: `acme-production-20260131T120000Z.json`.
fn file_name(vault: &VaultRecord, layout: Layout) -> String {
    let mut name = String::new();
    for part in vault.name.split(|c: char| !c.is_ascii_alphanumeric()) {
        if part.is_empty() || name.len() + part.len() > MAX_NAME_CHARS {
            continue;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(&part.to_ascii_lowercase());
    }
    if name.is_empty() {
        name = vault.id.to_string();
    }
    let time: String = format_time(now())
        .chars()
        .take_while(|c| *c != '.' && *c != 'Z')
        .filter(|c| !matches!(c, '-' | ':'))
        .collect();
    format!("{name}-{time}Z.{}", layout.extension())
}
