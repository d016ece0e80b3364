//! `inferadb vault import`: a vault file to a server, which takes all of it in, or nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc as std_mpsc;
use std::thread;

use actix_web::web::Bytes;
use indicatif::ProgressBar;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Method};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::mpsc;

use super::remote::Remote;
use super::{ImportArgs, Mode, layout_of_name, progress};
use crate::cli::console::{self, CliError};
use crate::http::vault_file::Layout;

/// How much is read at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// How many pieces wait for the connection.
const QUEUED_PIECES: usize = 4;
/// How much of a file is looked at to find out how it is laid out.
const PEEKED_BYTES: usize = 1 << 20;

/// What tells a file of JSON from a first line.
#[derive(Deserialize)]
struct WholeFile {
    #[serde(default)]
    relationships: Option<IgnoredAny>,
}

pub(super) async fn run(arguments: ImportArgs) -> Result<(), CliError> {
    let unreadable = |error| CliError::Unreadable {
        path: arguments.file.clone(),
        error,
    };
    let (mut source, name, length) = open(&arguments.file).map_err(unreadable)?;
    let named = arguments.format.map(Layout::from);
    let (layout, peeked) = match named.or_else(|| layout_of_name(&arguments.file)) {
        Some(layout) => (layout, Vec::new()),
        None => {
            let peeked = peek(&mut source).map_err(unreadable)?;
            (layout_of(&peeked), peeked)
        }
    };
    // The server is silent while it takes in what came.
    let remote = Remote::new(&arguments.server, None)?;
    let bar = progress::over_bytes(length);
    let (body, failed) = body(source, peeked, bar.clone());
    let request = remote
        .vault(
            Method::POST,
            arguments.vault,
            "import",
            Some(arguments.mode.query(arguments.force)),
        )
        .header(CONTENT_TYPE, layout.media_type())
        .body(body);
    let sent = remote.send(request, Some(&name)).await;
    // The connection is broken off then, but that is not why.
    if let Ok(error) = failed.try_recv() {
        return Err(unreadable(error));
    }
    let response = sent?;
    let answer = response
        .bytes()
        .await
        .map_err(|error| remote.unreachable(&error))?;
    bar.finish_and_clear();
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| CliError::failed(format!("the server's answer makes no sense: {error}")))?;
    console::answer(summary(&name, arguments.mode, &answer).as_bytes())
}

/// The file, what it is called in messages, and its length if that is known.
fn open(path: &Path) -> io::Result<(Box<dyn Read + Send>, String, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), "<stdin>".to_owned(), None));
    }
    let file = File::open(path)?;
    let data = file.metadata()?;
    if data.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let length = data.is_file().then_some(data.len());
    Ok((Box::new(file), path.display().to_string(), length))
}

fn peek(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut peeked = Vec::new();
    source.take(PEEKED_BYTES as u64).read_to_end(&mut peeked)?;
    Ok(peeked)
}

/// How a file is laid out that begins so: if its first line is a JSON object, and not the whole file, it is one of lines.
fn layout_of(beginning: &[u8]) -> Layout {
    let beginning = beginning.trim_ascii_start();
    let line = beginning.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match serde_json::from_slice::<WholeFile>(line) {
        Ok(object) if object.relationships.is_none() => Layout::Lines,
        _ => Layout::Json,
    }
}

/// A body of what was read already and of the rest, which a thread of its own reads: standard input may keep it waiting. Also answers
/// where it is told why the rest could not be read.
fn body(
    mut source: Box<dyn Read + Send>,
    peeked: Vec<u8>,
    bar: ProgressBar,
) -> (Body, std_mpsc::Receiver<io::Error>) {
    let (failing, failed) = std_mpsc::channel();
    let (pieces, mut taken) = mpsc::channel::<io::Result<Bytes>>(QUEUED_PIECES);
    thread::spawn(move || {
        for piece in peeked.chunks(PIECE_BYTES) {
            if pieces.blocking_send(Ok(Bytes::copy_from_slice(piece))).is_err() {
                return;
            }
        }
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let kind = error.kind();
                    // Whether anybody still asks makes no difference.
                    let _ = failing.send(error);
                    Err(kind.into())
                }
            };
            let is_last = piece.is_err();
            if pieces.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    });
    let body = Body::wrap_stream(futures_util::stream::poll_fn(move |context| {
        let piece = taken.poll_recv(context);
        match &piece {
            std::task::Poll::Ready(Some(Ok(bytes))) => bar.inc(bytes.len() as u64),
            std::task::Poll::Ready(None) => bar.set_message("; the server is at work on it"),
            _ => {}
        }
        piece
    }));
    (body, failed)
}

fn summary(name: &str, mode: Mode, answer: &Value) -> String {
    let number = |member: &str| answer.get(member).and_then(Value::as_u64);
    let count = |member: &str| number(member).unwrap_or_default();
    let mut text = format!("{name}: ok: {} relationships", count("relationships"));
    match (mode, number("removed")) {
        (Mode::Replace, Some(removed)) => text.push_str(&format!(" in place of {removed}")),
        _ => text.push_str(&format!(
            ": {} created, {} updated",
            count("created"),
            count("updated")
        )),
    }
    match number("misfits") {
        None | Some(0) => {}
        Some(misfits) => text.push_str(&format!(
            ", of which {misfits} do not fit the schema and are ignored by every answer"
        )),
    }
    if answer.get("schema_changed") == Some(&Value::Bool(true)) {
        text.push_str(", and a new schema");
    }
    if let Some(revision) = answer.get("revision").and_then(Value::as_str) {
        text.push_str(&format!("; revision {revision}"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_told_from_the_beginning() {
        for (text, layout) in [
            ("", Layout::Json),
            (
                "{\"format\":\"inferadb.vault\",\"relationships\":[\n{}",
                Layout::Json,
            ),
            ("{\"relationships\":[]}\n", Layout::Json),
            ("{\n  \"format\": \"inferadb.vault\",", Layout::Json),
            (
                "{\"format\":\"inferadb.vault\"}\n{\"resource\":\"a:b\"}",
                Layout::Lines,
            ),
            ("\n{\"resource\":\"a:b\"}", Layout::Lines),
            ("nonsense\n{}", Layout::Json),
        ] {
            assert_eq!(layout_of(text.as_bytes()), layout, "{text}");
        }
    }
}
