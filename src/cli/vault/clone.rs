//! `inferadb vault clone`: a new vault with another's state.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::CloneArgs;
use super::remote::Remote;
use crate::cli::console::{self, CliError};

pub(super) async fn run(arguments: CloneArgs) -> Result<(), CliError> {
    let remote = Remote::new(&arguments.server, None)?;
    let members = [
        ("name", Some(arguments.name)),
        ("account", arguments.account.map(|account| account.to_string())),
        ("revision", arguments.revision),
    ];
    let body: Map<String, Value> = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect();
    let request = remote
        .vault(Method::POST, arguments.vault, "clone", None)
        .header(CONTENT_TYPE, "application/json")
        .body(Value::Object(body).to_string());
    let response = remote.send(request, None).await?;
    let answer = response
        .text()
        .await
        .map_err(|error| remote.unreachable(&error))?;
    let vault: Value = serde_json::from_str(&answer)
        .map_err(|error| CliError::failed(format!("the server's answer makes no sense: {error}")))?;
    let Some(id) = vault.get("id").and_then(Value::as_str) else {
        return Err(CliError::failed("the server's answer names no vault"));
    };
    // The id alone, for a shell to take.
    console::answer(format!("{id}\n").as_bytes())
}
