//! Where what is: the metadata of the policy decision point.

use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::http::App;

/// `GET /.well-known/authzen-configuration`
pub async fn metadata(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    let base = match &app.settings.public_url {
        Some(url) => url.clone(),
        None => {
            let asked = request.connection_info();
            format!("{}://{}", asked.scheme(), asked.host())
        }
    };
    let endpoint = |path: &str| format!("{base}{path}");
    let mut answer = HttpResponse::Ok();
    if app.settings.public_url.is_none() {
        // It repeats the name that it was asked by: nobody else is to be told that.
        answer.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    }
    answer.json(json!({
        "policy_decision_point": base,
        "access_evaluation_endpoint": endpoint("/access/v1/evaluation"),
        "access_evaluations_endpoint": endpoint("/access/v1/evaluations"),
        "search_subject_endpoint": endpoint("/access/v1/search/subject"),
        "search_resource_endpoint": endpoint("/access/v1/search/resource"),
        "search_action_endpoint": endpoint("/access/v1/search/action"),
    }))
}
