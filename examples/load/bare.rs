//! The yardstick: an actix-web handler that parses a check's JSON and answers a decision's, and does nothing else.

use std::io::{self, Write};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};

/// What a revision looks like in an answer.
const REVISION: &str = "AAAAAAAAAAIAAAAAAAAAAgAB";

#[derive(Deserialize)]
struct Check {
    subject: String,
    resource: String,
    permission: String,
}

#[derive(Serialize)]
struct Answer {
    decision: &'static str,
    revision: &'static str,
}

/// Serves the bare handler on a port of its own, which it prints, until it is ended.
pub fn serve(workers: usize) -> io::Result<()> {
    actix_web::rt::System::new().block_on(async move {
        let server =
            HttpServer::new(|| App::new().service(web::resource("/v1/check").route(web::post().to(check))))
                .workers(workers)
                .bind(("127.0.0.1", 0))?;
        let mut stdout = io::stdout().lock();
        for address in server.addrs() {
            writeln!(stdout, "{address}")?;
        }
        stdout.flush()?;
        drop(stdout);
        server.run().await
    })
}

async fn check(check: web::Json<Check>) -> HttpResponse {
    // The generator knows that these are the ones who may not; looking costs what comparing a few bytes costs.
    let denied = check.subject.starts_with("user:banned") || check.subject.starts_with("user:stranger");
    let known = !check.resource.is_empty() && check.permission == "view";
    HttpResponse::Ok().json(Answer {
        decision: if denied || !known { "deny" } else { "allow" },
        revision: REVISION,
    })
}
