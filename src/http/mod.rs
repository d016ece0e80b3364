//! The HTTP surface: it turns JSON into the engine's nouns and back, and decides nothing about permissions.

mod accounts;
mod authzen;
mod bodies;
mod body;
mod caller;
mod check;
mod clone;
mod contexts;
mod deadline;
mod documentation;
mod expand;
mod export;
mod health;
mod import;
mod lines;
mod list_stream;
mod lists;
mod metrics;
mod nesting;
mod places;
mod problem;
mod question;
mod received;
mod relationships;
mod request;
mod schema;
mod schema_test;
mod simulate;
mod span;
mod stream;
mod trace;
mod transfer;
pub mod vault_file;
mod vaults;
mod watch;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use inferadb_actors::auth::{Authenticator, Principal};
use inferadb_actors::{AccountId, Platform, VaultId};
use serde::Serialize;

use self::authzen::{evaluation, metadata, search};
pub use self::bodies::Bodies;
use self::contexts::Contexts;
pub use self::documentation::{Documentation, DocumentationError};
pub use self::export::RELATIONSHIPS;
pub use self::health::livez;
pub use self::metrics::HttpMetrics;
pub use self::places::Places;
pub use self::problem::{Problem, diagnostic};
use self::request::internal_error;
pub use self::request::{REQUEST_ID, surround, with_id};
pub use self::span::RequestSpan;
pub use self::stream::Stopping;
use crate::telemetry::CheckLog;

/// What every handler can reach. Each worker has a clone of its own: its counts of references are then no other core's.
#[derive(Clone)]
pub struct App {
    /// Accounts, vaults and the way into them.
    pub platform: Platform,
    /// Verifies tokens; `None`: authentication is off, and everybody is [`App::everybody`].
    pub authenticator: Option<Authenticator>,
    /// Who a caller is where authentication is off.
    pub everybody: Arc<Principal>,
    /// The vault and account of tokens that name none, where there is but one vault.
    pub single_vault: Option<(VaultId, AccountId)>,
    /// Whether accounts and vaults can be made and removed.
    pub multi_tenancy: bool,
    /// The surface's own bounds.
    pub settings: HttpSettings,
    /// Where checks are logged.
    pub checks: CheckLog,
    /// The surface's metrics.
    pub metrics: HttpMetrics,
    /// Whether the server is stopping, for answers without an end.
    pub stopping: Stopping,
    /// The transfers of whole vaults that are under way.
    pub transfers: Places,
    /// The watches that are open.
    pub watches: Places,
    /// The bodies that are in memory.
    pub bodies: Bodies,
    /// The description of the API.
    pub documentation: Documentation,
}

/// The bounds of the HTTP surface.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The address by which clients know the server, without a slash at its end; `None`: by whatever they ask it by.
    pub public_url: Option<String>,
    /// The deadline of a request that asks for none.
    pub request_timeout: Duration,
    /// The longest deadline a request can ask for.
    pub max_request_timeout: Duration,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The most checks of a batch.
    pub max_batch_checks: usize,
    /// The most relationships of a write.
    pub max_write_changes: usize,
    /// The most items of a page.
    pub max_page_size: usize,
    /// The largest schema, in bytes.
    pub max_schema_bytes: usize,
    /// The largest context of a request, in bytes of JSON.
    pub max_context_bytes: usize,
    /// The largest context of a stored relationship, in bytes of JSON.
    pub max_stored_context_bytes: usize,
    /// The time between two heartbeats of a watch.
    pub heartbeat: Duration,
    /// How long a reader of a stream may take nothing while data waits for it.
    pub slow_reader: Duration,
}

/// Declares every route.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        // Load balancers ask for health with HEAD as well.
        .service(
            web::resource("/livez")
                .route(web::get().to(health::livez))
                .route(web::head().to(health::livez)),
        )
        .service(
            web::resource("/readyz")
                .route(web::get().to(health::readyz))
                .route(web::head().to(health::readyz)),
        )
        .service(
            web::resource("/healthz")
                .route(web::get().to(health::healthz))
                .route(web::head().to(health::healthz)),
        )
        .service(web::resource("/openapi.json").route(web::get().to(documentation::description)))
        .service(web::resource("/docs").route(web::get().to(documentation::page)))
        .service(web::resource("/docs/{file}").route(web::get().to(documentation::file)))
        .service(web::resource("/v1/check").route(web::post().to(check::check)))
        .service(web::resource("/v1/check/batch").route(web::post().to(check::batch)))
        .service(web::resource("/v1/expand").route(web::post().to(expand::expand)))
        .service(web::resource("/v1/simulate").route(web::post().to(simulate::simulate)))
        .service(
            web::resource("/v1/schema")
                .route(web::get().to(schema::get))
                .route(web::put().to(schema::put)),
        )
        .service(web::resource("/v1/schema/validate").route(web::post().to(schema::validate)))
        .service(web::resource("/v1/schema/test").route(web::post().to(schema_test::test)))
        .service(web::resource("/v1/relationships/write").route(web::post().to(relationships::write)))
        .service(web::resource("/v1/relationships/delete").route(web::post().to(relationships::delete)))
        .service(web::resource("/v1/relationships/read").route(web::post().to(relationships::read)))
        .service(web::resource("/v1/watch").route(web::get().to(watch::watch)))
        .service(web::resource("/v1/resources/list").route(web::post().to(lists::resources)))
        .service(web::resource("/v1/subjects/list").route(web::post().to(lists::subjects)))
        .service(web::resource("/v1/permissions/list").route(web::post().to(lists::permissions)))
        .service(web::resource("/access/v1/evaluation").route(web::post().to(evaluation::evaluation)))
        .service(web::resource("/access/v1/evaluations").route(web::post().to(evaluation::evaluations)))
        .service(web::resource("/access/v1/search/subject").route(web::post().to(search::subject)))
        .service(web::resource("/access/v1/search/resource").route(web::post().to(search::resource)))
        .service(web::resource("/access/v1/search/action").route(web::post().to(search::action)))
        .service(web::resource("/.well-known/authzen-configuration").route(web::get().to(metadata::metadata)))
        .service(
            web::resource("/v1/accounts")
                .route(web::get().to(accounts::list))
                .route(web::post().to(accounts::create)),
        )
        .service(
            web::resource("/v1/accounts/{account}")
                .route(web::get().to(accounts::get))
                .route(web::patch().to(accounts::update))
                .route(web::delete().to(accounts::delete)),
        )
        .service(
            web::resource("/v1/accounts/{account}/vaults")
                .route(web::get().to(vaults::list))
                .route(web::post().to(vaults::create)),
        )
        .service(
            web::resource("/v1/vaults/{vault}")
                .route(web::get().to(vaults::get))
                .route(web::patch().to(vaults::update))
                .route(web::delete().to(vaults::delete)),
        )
        .service(web::resource("/v1/vaults/{vault}/export").route(web::get().to(export::export)))
        .service(web::resource(request::IMPORT).route(web::post().to(import::import)))
        .service(web::resource(request::CLONE).route(web::post().to(clone::clone)))
        .service(web::resource("/v1/vaults/{vault}/stats").route(web::get().to(vaults::stats)))
        .service(web::resource("/v1/vaults/{vault}/activate").route(web::post().to(vaults::activate)))
        .service(web::resource("/v1/vaults/{vault}/deactivate").route(web::post().to(vaults::deactivate)));
}

/// A JSON body of a 200. Unlike an answer that has it, it can be made on any thread.
#[derive(Debug)]
pub struct Json(Vec<u8>);

impl Json {
    /// Writes it.
    fn of(body: impl Serialize) -> Result<Self, Problem> {
        // What is answered has no keys that JSON cannot have.
        serde_json::to_vec(&body).map(Self).map_err(|_| internal_error())
    }
}

/// A 200 with a JSON body.
fn ok(body: &impl Serialize) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(body))
}

/// Parses a request body of `/v1/relationships/write`, as the example data is kept.
pub fn parse_example(text: &str) -> Result<inferadb_actors::WriteRequest, Problem> {
    relationships::parse(text.as_bytes(), 1_000, Contexts::with_most(4_096, 25_000))
}
