//! Lists as NDJSON: an entry a line, and at the end a line that says how the list ended.
//!
//! A task of its own searches page after page, never more than a few ahead of the reader. It ends with the reader, with the list, or
//! with the request's deadline; then the last line holds a cursor to go on from.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::ACCEPT;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use inferadb_actors::{ListPage, ListRequest, Paging, Pass, Vault};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::Instant;

use super::App;
use super::caller::Visit;
use super::lists::ItemView;
use super::problem::Problem;
use super::request::timeout_of;

const NDJSON: &str = "application/x-ndjson";
/// How many pages may wait for the reader.
const PAGES_AHEAD: usize = 2;
/// How long the last line waits for a reader that is slow.
const GRACE: Duration = Duration::from_secs(5);

/// A list that is to be streamed.
pub struct Streaming {
    /// What is listed.
    pub list: ListRequest,
    /// The size of the pages behind the stream, and where it begins.
    pub paging: Paging,
    /// The most entries in all.
    pub total: Option<usize>,
}

/// What the reader gets next: lines, or instead of all of them a problem.
type Lines = Result<Bytes, Problem>;

/// Whether a request's `Accept` names NDJSON.
pub fn is_asked_for(request: &HttpRequest) -> bool {
    let accepted = request
        .headers()
        .get_all(ACCEPT)
        .filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(','));
    types.any(|item| {
        let media_type = item.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case(NDJSON)
    })
}

/// Answers with a stream, once its first page is there: until then what fails is answered as a problem.
pub async fn answer(
    app: &App,
    request: &HttpRequest,
    visit: &Visit,
    streaming: Streaming,
) -> Result<HttpResponse, Problem> {
    let deadline = Instant::from_std(visit.scope.started()) + timeout_of(request.headers(), app)?;
    // The stream is inside the vault on its own account: the request's pass ends with its handler.
    let account = visit.vault.record().account;
    let (vault, pass) = app.platform.enter(visit.vault.id, account).await?;
    let (sender, mut lines) = mpsc::channel(PAGES_AHEAD);
    let task = Task {
        vault,
        streaming,
        request_id: visit.scope.request_id().to_owned(),
        sender,
        deadline,
        _pass: pass,
    };
    actix_web::rt::spawn(task.run());
    let first = match lines.recv().await {
        Some(first) => first?,
        None => return Err(Problem::from(inferadb_actors::VaultError::Stopping)),
    };
    let body = stream::unfold((Some(first), lines), |(first, mut lines)| async move {
        let next = match first {
            Some(first) => first,
            // A problem stands first or nowhere.
            None => lines.recv().await?.ok()?,
        };
        Some((Ok::<_, Infallible>(next), (None, lines)))
    });
    Ok(HttpResponse::Ok().content_type(NDJSON).streaming(Box::pin(body)))
}

struct Task {
    vault: Arc<Vault>,
    streaming: Streaming,
    request_id: String,
    sender: Sender<Lines>,
    deadline: Instant,
    _pass: Pass,
}

/// How far the stream has come.
#[derive(Default)]
struct Reached {
    is_begun: bool,
    cursor: Option<String>,
    revision: Option<Arc<str>>,
}

impl Task {
    async fn run(self) {
        let mut reached = Reached::default();
        let outcome = {
            let work = self.pages(&mut reached);
            tokio::select! {
                () = self.sender.closed() => return,
                outcome = tokio::time::timeout_at(self.deadline, work) => outcome,
            }
        };
        let last = match outcome {
            // Where the deadline passed before the first page, the handler's own has passed as well.
            Err(_) if !reached.is_begun => return,
            Ok(Ok(())) | Err(_) => Ok(line(&reached.summary())),
            Ok(Err(error)) => {
                let problem = Problem::from(error).of_request(&self.request_id);
                if reached.is_begun {
                    self.vault.metrics.errors.inc();
                    Ok(line(&Summary {
                        error: Some(problem.to_value()),
                        ..reached.summary()
                    }))
                } else {
                    Err(problem)
                }
            }
        };
        // A reader who does not take even this line learns from its absence that the stream is not whole.
        let _ = tokio::time::timeout(GRACE, self.sender.send(last)).await;
    }

    async fn pages(&self, reached: &mut Reached) -> Result<(), inferadb_actors::VaultError> {
        let Streaming { list, paging, total } = &self.streaming;
        let mut left = total.unwrap_or(usize::MAX);
        let take = async |page: ListPage| {
            let mut text = Vec::new();
            for item in &page.items {
                text.extend_from_slice(&line(&ItemView::new(list, item)));
            }
            if !text.is_empty() && self.sender.send(Ok(text.into())).await.is_err() {
                return None;
            }
            reached.is_begun = true;
            reached.cursor = page.cursor;
            reached.revision = Some(self.vault.token(page.revision));
            left = left.saturating_sub(page.items.len());
            (left > 0).then(|| paging.limit.min(left))
        };
        self.vault.list_each(list, paging, take).await
    }
}

/// The last line. A cursor says that the list goes on.
#[derive(Serialize)]
struct Summary<'a> {
    revision: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

impl Reached {
    fn summary(&self) -> Summary<'_> {
        Summary {
            revision: self.revision.as_deref(),
            cursor: self.cursor.as_deref(),
            error: None,
        }
    }
}

fn line(object: &impl Serialize) -> Bytes {
    // Strings, numbers and lists of them are always JSON.
    let mut text = serde_json::to_vec(object).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
