//! The description of the API, and a page to read it on.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, ContentType, HeaderName, HeaderValue};
use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde_json::{Value, json};
use utoipa_swagger_ui::Config;

use super::App;
use super::problem::Problem;
use super::request::problem_of_status;

/// The description as it is written.
const WRITTEN: &str = include_str!("../../docs/openapi.yaml");
/// The page.
const PAGE: &str = include_str!("documentation.html");
/// What the page does when it is there.
const START: &str = include_str!("documentation.js");
/// The files of the library that shows it, of which it needs no more.
const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];
/// The page and its files come from here, and ask nobody else; the library writes styles into elements.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The description, and the files that show it.
#[derive(Clone)]
pub struct Documentation {
    description: Bytes,
    files: Arc<Config<'static>>,
}

impl Documentation {
    /// The description of a server that clients know by `public_url`.
    ///
    /// # Errors
    ///
    /// What is wrong with the description.
    pub fn new(public_url: Option<&str>) -> Result<Self, serde_yaml::Error> {
        let mut description: Value = serde_yaml::from_str(WRITTEN)?;
        if let Some(version) = description.pointer_mut("/info/version") {
            *version = env!("CARGO_PKG_VERSION").into();
        }
        if let (Some(url), Some(servers)) = (public_url, description.get_mut("servers")) {
            *servers = json!([{ "url": url }]);
        }
        Ok(Self {
            description: description.to_string().into(),
            files: Arc::new(Config::from("openapi.json")),
        })
    }
}

/// `GET /openapi.json`
pub async fn description(app: web::Data<App>) -> HttpResponse {
    let json = ContentType::json();
    HttpResponse::Ok()
        .content_type(json)
        .body(app.documentation.description.clone())
}

/// `GET /docs`
pub async fn page() -> HttpResponse {
    shown().content_type(ContentType::html()).body(PAGE)
}

/// `GET /docs/{file}`
pub async fn file(app: web::Data<App>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    if *name == "start.js" {
        let script = HeaderValue::from_static("text/javascript; charset=utf-8");
        return Ok(shown().insert_header((CONTENT_TYPE, script)).body(START));
    }
    let known = FILES.iter().find(|known| **known == *name);
    let found =
        known.and_then(|name| utoipa_swagger_ui::serve(name, Arc::clone(&app.documentation.files)).ok()?);
    let found = found.ok_or_else(|| problem_of_status(StatusCode::NOT_FOUND))?;
    Ok(shown()
        .content_type(found.content_type)
        .body(found.bytes.into_owned()))
}

fn shown() -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)));
    let no_sniffing = HeaderName::from_static("x-content-type-options");
    answer.insert_header((no_sniffing, HeaderValue::from_static("nosniff")));
    answer
}
