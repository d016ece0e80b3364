//! Lists as NDJSON: an entry a line, and at the end a line that says how the list ended.
//!
//! Page after page is searched for, never more than the stream's queue ahead of its reader. The list ends with the reader, with
//! the last entry, or with the request's deadline; then the last line holds a cursor to go on from.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::{Either, select};
use inferadb_actors::{ListPage, ListRequest, Paging, Reach, VaultError};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::caller::Visit;
use super::lists::ItemView;
use super::problem::Problem;
use super::relationships::WORK_OF_LINE;
use super::request::timeout_of;
use super::stream::{self, NDJSON, Unread, Writer};
use super::{App, body};

/// The name of these streams in the metrics.
const STREAM: &str = "list";

/// A list that is to be streamed.
pub struct Streaming {
    /// What is listed.
    pub list: ListRequest,
    /// The size of the pages behind the stream, and where it begins.
    pub paging: Paging,
    /// The most entries in all.
    pub total: Option<usize>,
}

/// Tells the handler that the first page is there, or why there is none.
type Begun = oneshot::Sender<Result<(), Problem>>;

/// Answers with a stream, once its first page is there: until then what fails is answered as a problem.
pub async fn answer(
    app: &web::Data<App>,
    request: &HttpRequest,
    visit: Visit,
    streaming: Streaming,
) -> Result<HttpResponse, Problem> {
    let deadline = Instant::from_std(visit.scope.started()) + timeout_of(request.headers(), app)?;
    let patience = app.settings.slow_reader;
    let scope = Arc::clone(&visit.scope);
    let (begun, beginning) = oneshot::channel();
    let task = Task {
        app: app.clone(),
        visit,
        streaming,
        deadline,
    };
    let answer = stream::answer(app.platform.heavy(), &scope, NDJSON, patience, move |writer| {
        task.run(writer, begun)
    });
    match beginning.await {
        Ok(outcome) => outcome.map(|()| answer),
        Err(_) => Err(Problem::from(VaultError::Stopping)),
    }
}

struct Task {
    app: web::Data<App>,
    visit: Visit,
    streaming: Streaming,
    deadline: Instant,
}

/// How far the stream has come.
struct Reached {
    begun: Option<Begun>,
    cursor: Option<String>,
    revision: Option<Arc<str>>,
    unread: Option<Unread>,
}

impl Task {
    async fn run(self, mut writer: Writer, begun: Begun) {
        let mut reached = Reached {
            begun: Some(begun),
            cursor: None,
            revision: None,
            unread: None,
        };
        let outcome = {
            let gone = writer.gone();
            let writing = Cell::new(false);
            let work = pin!(async {
                let mut pages = pin!(self.pages(&mut reached, &mut writer, &writing));
                let in_time = async {
                    match tokio::time::timeout_at(self.deadline, &mut pages).await {
                        // A page is written whole, or no cursor would say where the list goes on; it is the last one then.
                        Err(_) if writing.get() => Ok(pages.await),
                        outcome => outcome,
                    }
                };
                tokio::select! {
                    () = gone => None,
                    outcome = in_time => Some(outcome),
                }
            });
            // A request under way, which the vault is kept for; but a reader that takes its time does not hold up its end.
            let staying = pin!(async {
                let _pass = self.visit.vault.stay();
                self.visit.vault.closing().await;
            });
            match select(work, staying).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(((), work)) => match self.check_vault().await {
                    Ok(()) => work.await,
                    Err(error) => Some(Ok(Err(error))),
                },
            }
        };
        let ended = |reason: &str| {
            self.app.metrics.stream_ended(STREAM, reason);
        };
        let failed = |problem: Problem| {
            let problem = problem.of_request(self.visit.scope.request_id());
            ended(problem.code);
            tracing::warn!(reason = problem.code, "the stream of a list ended early");
            problem.to_value()
        };
        let error = match (outcome, reached.unread) {
            (None, _) | (_, Some(Unread::Gone)) => {
                ended("reader_gone");
                return;
            }
            (_, Some(Unread::Slow)) => Some(failed(stream::slow_reader(self.app.settings.slow_reader))),
            (Some(Ok(Err(error))), None) => match reached.begun.take() {
                // The handler answers it, if it is still there.
                Some(begun) => {
                    let _ = begun.send(Err(error.into()));
                    return;
                }
                None => {
                    self.visit.vault.metrics.errors.inc();
                    Some(failed(error.into()))
                }
            },
            (Some(Err(_)), None) => match reached.begun.take() {
                // The handler's own deadline may be a moment away still: it answers this one.
                Some(begun) => {
                    let _ = begun.send(Err(VaultError::DeadlinePassed.into()));
                    return;
                }
                None => {
                    ended("deadline");
                    None
                }
            },
            (Some(Ok(Ok(()))), None) => {
                let is_cut = reached.cursor.is_some() && self.has_passed();
                ended(if is_cut { "deadline" } else { "complete" });
                None
            }
        };
        writer.finish(&line(&Summary {
            revision: reached.revision.as_deref(),
            cursor: reached.cursor.as_deref(),
            error,
        }));
    }

    /// Refuses a vault that was archived or deleted meanwhile.
    async fn check_vault(&self) -> Result<(), VaultError> {
        let vault = self.visit.vault.id;
        match self.app.platform.vault(vault, Reach::Everything).await {
            Ok(record) if !record.archived => Ok(()),
            Ok(_) | Err(VaultError::NotFound(_)) => Err(VaultError::AccessDenied),
            Err(error) => Err(error),
        }
    }

    fn has_passed(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// `writing` says that a page is being written.
    async fn pages(
        &self,
        reached: &mut Reached,
        writer: &mut Writer,
        writing: &Cell<bool>,
    ) -> Result<(), VaultError> {
        let Streaming { list, paging, total } = &self.streaming;
        let mut left = total.unwrap_or(usize::MAX);
        let take = async |page: ListPage| {
            if let Some(begun) = reached.begun.take() {
                // A handler that is gone takes the stream's reading end with it.
                let _ = begun.send(Ok(()));
            }
            let written = async {
                // The search gives up its turn where this one waits.
                let mut turn = self.visit.vault.heavy_turn();
                turn.begin().await;
                for item in &page.items {
                    let line = line(&ItemView::new(list, item));
                    turn.during(writer.write(&line)).await?;
                    turn.pace(WORK_OF_LINE + body::work_of(line.len())).await;
                }
                turn.during(writer.flush()).await
            };
            writing.set(true);
            let written = written.await;
            writing.set(false);
            if let Err(unread) = written {
                reached.unread = Some(unread);
                return None;
            }
            reached.cursor = page.cursor;
            reached.revision = Some(self.visit.vault.token(page.revision));
            left = left.saturating_sub(page.items.len());
            (left > 0 && !self.has_passed()).then(|| paging.limit.min(left))
        };
        self.visit.vault.list_each(list, paging, take).await
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

fn line(object: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists of them are always JSON.
    let mut text = serde_json::to_vec(object).unwrap_or_default();
    text.push(b'\n');
    text
}
