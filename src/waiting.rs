//! Waits at the start for a storage cluster that cannot be reached. Meanwhile the server's address answers that the process
//! lives and is not ready, so that whoever asks can tell this from a server that hangs.

use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header::RETRY_AFTER;
use actix_web::rt::task::JoinHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use inferadb_actors::{StartError, StoreError, VaultError};
use serde_json::json;

use crate::config::{Backend, Config};
use crate::http::{Problem, REQUEST_ID, livez, with_id};
use crate::server::{ServerError, Signals};

/// How long to wait between two attempts, each of which takes seconds itself.
const PAUSE: Duration = Duration::from_secs(1);

/// The wait, which begins with the first failure.
pub(crate) struct Waiting<'a> {
    config: &'a Config,
    /// Only a cluster can come back by itself; elsewhere signals end the process as they do any other.
    signals: Option<Signals>,
    answering: Option<(ServerHandle, JoinHandle<std::io::Result<()>>)>,
}

impl<'a> Waiting<'a> {
    /// Nothing is waited for yet.
    pub(crate) fn new(config: &'a Config) -> Result<Self, ServerError> {
        let signals = match config.storage.backend {
            Backend::FoundationDb => Some(Signals::new().map_err(ServerError::Serve)?),
            Backend::Embedded | Backend::Memory => None,
        };
        Ok(Self {
            config,
            signals,
            answering: None,
        })
    }

    /// Attempts until it succeeds, or fails for another reason than that the cluster does not answer.
    pub(crate) async fn until<T>(
        &mut self,
        attempt: impl AsyncFn() -> Result<T, ServerError>,
    ) -> Result<T, ServerError> {
        let Some(mut signals) = self.signals.take() else {
            return attempt().await;
        };
        let outcome = loop {
            let outcome = tokio::select! {
                () = signals.stop() => Err(ServerError::StoppedWaiting),
                outcome = attempt() => outcome,
            };
            let error = match outcome {
                Err(error) if passes(&error) => error,
                outcome => break outcome,
            };
            tracing::warn!(%error, "waiting for storage");
            if let Err(error) = self.answer() {
                break Err(error);
            }
            tokio::select! {
                () = signals.stop() => break Err(ServerError::StoppedWaiting),
                () = tokio::time::sleep(PAUSE) => {}
            }
        };
        self.signals = Some(signals);
        outcome
    }

    /// Gives the address back.
    pub(crate) async fn end(&mut self) {
        if let Some((handle, task)) = self.answering.take() {
            handle.stop(false).await;
            if let Ok(Err(error)) = task.await {
                tracing::warn!(%error, "what answered while storage was waited for failed");
            }
            tracing::info!("storage answers");
        }
    }

    /// Answers at the server's address, if nothing does yet.
    fn answer(&mut self) -> Result<(), ServerError> {
        if self.answering.is_none() {
            let server = listen(self.config)?;
            let handle = server.handle();
            self.answering = Some((handle, actix_web::rt::spawn(server)));
        }
        Ok(())
    }
}

/// Whether time can mend it.
fn passes(error: &ServerError) -> bool {
    let storage = match error {
        ServerError::Platform(StartError::Storage(error))
        | ServerError::Defaults(VaultError::Storage(error)) => error,
        ServerError::Defaults(VaultError::OutcomeUnknown) => return true,
        _ => return false,
    };
    matches!(
        storage,
        StoreError::Unavailable(_)
            | StoreError::OutcomeUnknown
            | StoreError::Contended
            | StoreError::SnapshotTooOld
    )
}

fn listen(config: &Config) -> Result<Server, ServerError> {
    let server = &config.server;
    let bound = HttpServer::new(|| {
        let health = |path, status| {
            let answer = move |request: HttpRequest| async move { not_ready(&request, status) };
            web::resource(path)
                .route(web::get().to(answer))
                .route(web::head().to(answer))
        };
        App::new()
            .service(
                web::resource("/livez")
                    .route(web::get().to(livez))
                    .route(web::head().to(livez)),
            )
            .service(health("/readyz", "not_ready"))
            .service(health("/healthz", "failing"))
            .default_service(web::to(unavailable))
    })
    .workers(1)
    .disable_signals()
    .bind((server.host.as_str(), server.port))
    .map_err(|error| ServerError::Bind {
        key: "server.host, server.port",
        host: server.host.clone(),
        port: server.port,
        error,
    })?;
    for address in bound.addrs() {
        tracing::info!(%address, "not ready, and saying so");
    }
    Ok(bound.run())
}

/// The answer to whatever needs storage.
async fn unavailable(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let reason = StoreError::Unavailable("it has not been reached since the start".into());
    let problem = Problem::from(VaultError::Storage(reason));
    Err(with_id(request.headers(), |id| problem.of_request(id)))
}

fn not_ready(request: &HttpRequest, status: &str) -> HttpResponse {
    with_id(request.headers(), |id| {
        HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, "1"))
            .insert_header((REQUEST_ID, id))
            .json(json!({ "status": status, "checks": { "storage": { "status": "failing" } } }))
    })
}
