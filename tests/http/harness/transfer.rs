//! Exports and imports as an administrator makes them.

use serde_json::{Value, json};

use super::{Answer, Keys, Server, claims};

pub const JSON: &str = "application/json";
pub const NDJSON: &str = "application/x-ndjson";

/// A token of the platform's administrator.
pub fn admin_token() -> String {
    Keys::shared()
        .ed
        .sign(&claims(json!({"scope": "inferadb.admin"})))
}

pub fn export_as(server: &Server, token: &str, vault: &str, accept: &str) -> Answer {
    server
        .request("GET", &format!("/v1/vaults/{vault}/export"))
        .bearer(token)
        .header("Accept", accept)
        .send()
}

/// The text of a vault file that must come whole.
#[track_caller]
pub fn exported(server: &Server, vault: &str, layout: &str) -> String {
    let answer = export_as(server, &admin_token(), vault, layout);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some(layout));
    answer.text()
}

/// A vault file of JSON, as JSON.
#[track_caller]
pub fn state(server: &Server, vault: &str) -> Value {
    serde_json::from_str(&exported(server, vault, JSON)).unwrap()
}

pub fn import(server: &Server, vault: &str, mode: &str, content_type: &str, body: &[u8]) -> Answer {
    server
        .request("POST", &format!("/v1/vaults/{vault}/import{mode}"))
        .bearer(&admin_token())
        .header("Content-Type", content_type)
        .bytes(body)
        .send()
}
