//! Where what is: the metadata of the policy decision point.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::http::App;
use crate::http::problem::Problem;
use crate::origin::origin_of;

/// `GET /.well-known/authzen-configuration`
pub async fn metadata(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let base = match &app.settings.public_url {
        Some(url) => url.clone(),
        None => asked_by(&request)?,
    };
    let endpoint = |path: &str| format!("{base}{path}");
    let mut answer = HttpResponse::Ok();
    if app.settings.public_url.is_none() {
        // It repeats the name that it was asked by: nobody else is to be told that.
        answer.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    }
    Ok(answer.json(json!({
        "policy_decision_point": base,
        "access_evaluation_endpoint": endpoint("/access/v1/evaluation"),
        "access_evaluations_endpoint": endpoint("/access/v1/evaluations"),
        "search_subject_endpoint": endpoint("/access/v1/search/subject"),
        "search_resource_endpoint": endpoint("/access/v1/search/resource"),
        "search_action_endpoint": endpoint("/access/v1/search/action"),
    })))
}

/// The scheme and host that a request says it was sent to.
fn asked_by(request: &HttpRequest) -> Result<String, Problem> {
    let asked = request.connection_info();
    let origin = origin_of(&format!("{}://{}", asked.scheme(), asked.host()));
    origin.ok_or_else(|| {
        let detail = "the request does not say by which scheme and host the server is known";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_host", detail)
    })
}
