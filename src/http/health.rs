//! Whether the server lives, is ready, and what of that it depends on.

use std::time::Duration;

use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, web};
use inferadb_actors::VaultError;
use serde_json::{Value, json};

use super::App;

/// How long storage may take to answer. Whoever asks for health is about to give up then.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /livez`: the process answers.
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: requests can be answered.
pub async fn readyz(app: web::Data<App>) -> HttpResponse {
    let (ready, _) = examine(&app).await;
    answer(
        ready,
        json!({ "status": if ready { "ready" } else { "not_ready" } }),
    )
}

/// `GET /healthz`: everything it depends on, by name.
pub async fn healthz(app: web::Data<App>) -> HttpResponse {
    let (ready, checks) = examine(&app).await;
    answer(
        ready,
        json!({ "status": if ready { "ok" } else { "failing" }, "checks": checks }),
    )
}

fn answer(ready: bool, body: Value) -> HttpResponse {
    if ready {
        HttpResponse::Ok().json(body)
    } else {
        HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, "1"))
            .json(body)
    }
}

async fn examine(app: &App) -> (bool, Value) {
    let asked = tokio::time::timeout(PATIENCE, app.platform.is_ready()).await;
    let storage = asked.unwrap_or(Err(VaultError::DeadlinePassed));
    if let Err(error) = &storage {
        tracing::warn!(%error, "storage does not answer");
    }
    let mut checks = json!({ "storage": { "status": word(storage.is_ok()) } });
    let mut ready = storage.is_ok();
    if let (Some(authenticator), Some(checks)) = (&app.authenticator, checks.as_object_mut()) {
        let status = authenticator.status();
        ready = ready && status.ready;
        let age = status.age.map(|age| age.as_secs());
        let keys = json!({ "status": word(status.ready), "keys": status.keys, "age_seconds": age, "stale": status.stale });
        checks.insert("key_set".into(), keys);
    }
    if let Some(checks) = checks.as_object_mut() {
        checks.insert(
            "vaults".into(),
            json!({ "status": "ok", "active": app.platform.active_count() }),
        );
    }
    (ready, checks)
}

const fn word(ok: bool) -> &'static str {
    if ok { "ok" } else { "failing" }
}
