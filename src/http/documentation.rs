//! The description of the API, and a page to read it on.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody, SizedStream};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, InvalidHeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, HttpResponseBuilder};
use futures_util::stream;
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
/// So much of a file waits for its reader at a time, whoever that is, in bytes.
const PIECE_BYTES: usize = 16 << 10;

/// The description, and the files that show it.
#[derive(Clone)]
pub struct Documentation(Arc<Files>);

struct Files {
    description: Bytes,
    /// What the page may load, and whom it may ask.
    policy: HeaderValue,
    /// By their names.
    beside: Vec<(&'static str, HeaderValue, Bytes)>,
}

/// The documentation of this build cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum DocumentationError {
    /// The description is none.
    #[error(transparent)]
    Description(#[from] serde_yaml::Error),
    /// A file is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A header cannot be sent.
    #[error(transparent)]
    Header(#[from] InvalidHeaderValue),
}

impl Documentation {
    /// That of a server which clients know by `public_url`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(public_url: Option<&str>) -> Result<Self, DocumentationError> {
        let mut description: Value = serde_yaml::from_str(WRITTEN)?;
        if let Some(version) = description.pointer_mut("/info/version") {
            *version = env!("CARGO_PKG_VERSION").into();
        }
        if let (Some(url), Some(servers)) = (public_url, description.get_mut("servers")) {
            *servers = json!([{ "url": url }]);
        }
        // The page and its files come from here, and calls go to where the description says; the library writes styles into elements.
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' {}; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            public_url.unwrap_or_default()
        );
        let script = HeaderValue::from_static("text/javascript; charset=utf-8");
        let mut beside = vec![("start.js", script, Bytes::from_static(START.as_bytes()))];
        let config = Arc::new(Config::from("openapi.json"));
        for name in FILES {
            let found = utoipa_swagger_ui::serve(name, Arc::clone(&config)).ok().flatten();
            let found = found.ok_or(DocumentationError::Missing(name))?;
            let bytes = match found.bytes {
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => bytes.into(),
            };
            beside.push((name, HeaderValue::from_str(&found.content_type)?, bytes));
        }
        Ok(Self(Arc::new(Files {
            description: description.to_string().into(),
            policy: HeaderValue::from_str(&policy)?,
            beside,
        })))
    }

    fn shown(&self, content_type: HeaderValue) -> HttpResponseBuilder {
        let mut answer = HttpResponse::Ok();
        answer.insert_header((CONTENT_TYPE, content_type));
        answer.insert_header((CONTENT_SECURITY_POLICY, self.0.policy.clone()));
        answer.insert_header((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
        answer
    }
}

/// `GET /openapi.json`
pub async fn description(app: web::Data<App>) -> HttpResponse {
    let json = HeaderValue::from_static("application/json");
    let description = piecewise(&app.documentation.0.description);
    app.documentation.shown(json).body(description)
}

/// `GET /docs`
pub async fn page(app: web::Data<App>) -> HttpResponse {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    app.documentation.shown(html).body(PAGE)
}

/// `GET /docs/{file}`
pub async fn file(app: web::Data<App>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let mut files = app.documentation.0.beside.iter();
    let found = files.find(|(known, ..)| **known == **name);
    let (_, content_type, bytes) = found.ok_or_else(|| problem_of_status(StatusCode::NOT_FOUND))?;
    let mut answer = app.documentation.shown(content_type.clone());
    answer.insert_header((CACHE_CONTROL, HeaderValue::from_static("max-age=3600")));
    Ok(answer.body(piecewise(bytes)))
}

/// A body of which no more is copied to a connection than its reader takes.
fn piecewise(bytes: &Bytes) -> BoxBody {
    let starts = (0..bytes.len()).step_by(PIECE_BYTES);
    let whole = bytes.clone();
    let pieces = starts.map(move |start| {
        let end = whole.len().min(start + PIECE_BYTES);
        Ok::<_, Infallible>(whole.slice(start..end))
    });
    SizedStream::new(bytes.len() as u64, stream::iter(pieces)).boxed()
}
