//! The server that a command calls: its address, the token for it, and what its refusals say.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::cli::console::CliError;

/// The environment variable that holds a token.
const TOKEN: &str = "INFERADB_TOKEN";
/// How long to try to reach the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to see whether a server that is silent, because it is at work, is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The longest token file, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// Which server, and as whom.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// The server's address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: Url,
    /// A file with the token to show [default: the environment's INFERADB_TOKEN, if it is set]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A server.
pub(super) struct Remote {
    client: Client,
    server: Url,
    authorization: Option<HeaderValue>,
}

impl Remote {
    /// The server that the arguments name. `silence` is for how long it may send nothing while it answers.
    pub(super) fn new(arguments: &ServerArgs, silence: Option<Duration>) -> Result<Self, CliError> {
        let server = arguments.server.clone();
        if !matches!(server.scheme(), "http" | "https") || !server.has_host() {
            return Err(CliError::failed(format!(
                "--server: `{server}` is not an http or https address"
            )));
        }
        let authorization = token(arguments.token_file.as_deref())?
            .map(|token| {
                // What is wrong with it must not show it.
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| CliError::failed("the token has characters that no token has"))?;
                value.set_sensitive(true);
                Ok::<_, CliError>(value)
            })
            .transpose()?;
        let mut client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEP_ALIVE)
            .redirect(Policy::none())
            .user_agent(concat!("inferadb/", env!("CARGO_PKG_VERSION")));
        if let Some(silence) = silence {
            client = client.read_timeout(silence);
        }
        Ok(Self {
            client: client.build().map_err(CliError::failed)?,
            server,
            authorization,
        })
    }

    /// A request to `/v1/vaults/{vault}/{call}`, with a query in its encoded form.
    pub(super) fn vault(
        &self,
        method: Method,
        vault: Uuid,
        call: &str,
        query: Option<&str>,
    ) -> RequestBuilder {
        let mut address = self.server.clone();
        let base = address.path().trim_end_matches('/').to_owned();
        address.set_path(&format!("{base}/v1/vaults/{vault}/{call}"));
        address.set_query(query);
        let request = self.client.request(method, address);
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// Sends a request; an answer that is a refusal is an error. `file` is what was sent, for what is wrong within it.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        file: Option<&str>,
    ) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        Err(CliError::failed(refusal(status.as_u16(), &body, file)))
    }

    /// What a failure to send or receive comes to.
    pub(super) fn unreachable(&self, error: &reqwest::Error) -> CliError {
        // The innermost cause is what a person can act on; the rest names layers.
        let mut cause: &dyn Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let what = match error.is_connect() {
            true => "cannot be reached",
            false => "broke the connection off",
        };
        CliError::failed(format!("{}: {what}: {cause}", self.server))
    }
}

/// The token of the file, or else of the environment.
fn token(file: Option<&Path>) -> Result<Option<String>, CliError> {
    let text = match file {
        Some(path) => {
            let unreadable = |error| CliError::Unreadable {
                path: path.to_owned(),
                error,
            };
            let length = fs::metadata(path).map_err(unreadable)?.len();
            if length > MAX_TOKEN_BYTES {
                return Err(CliError::failed(format!(
                    "{}: a token has at most {MAX_TOKEN_BYTES} bytes",
                    path.display()
                )));
            }
            fs::read_to_string(path).map_err(unreadable)?
        }
        None => match std::env::var(TOKEN) {
            Ok(text) => text,
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(CliError::failed(format!("{TOKEN} is not UTF-8")));
            }
        },
    };
    let text = text.trim();
    let token = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    match (token.is_empty(), file) {
        (false, _) => Ok(Some(token.to_owned())),
        (true, None) => Ok(None),
        (true, Some(path)) => Err(CliError::failed(format!("{}: holds no token", path.display()))),
    }
}

/// A refusal in one line: `dump.json:3:17: …` where it is about a place in the file.
fn refusal(status: u16, body: &str, file: Option<&str>) -> String {
    let Ok(problem) = serde_json::from_str::<Value>(body) else {
        return format!("the server answered {status} and no reason; is it an InferaDB server?");
    };
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let number = |name: &str| problem.get(name).and_then(Value::as_u64);
    let mut line = match (file, number("line"), number("column"), text("code")) {
        // That position is one in the schema's own text.
        (Some(_), _, _, Some("schema_invalid")) => String::new(),
        (Some(file), Some(line), Some(column), _) => format!("{file}:{line}:{column}: "),
        _ => String::new(),
    };
    line.push_str(text("detail").unwrap_or("no reason given"));
    let code = text("code").unwrap_or("unknown");
    line.push_str(&format!(" ({status} {code}"));
    if let Some(id) = text("request_id") {
        line.push_str(&format!(", request {id}"));
    }
    line.push(')');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line() {
        let body = r#"{"detail":"it is wrong","code":"invalid_value","line":3,"column":7,"request_id":"r"}"#;
        assert_eq!(
            refusal(400, body, Some("a.json")),
            "a.json:3:7: it is wrong (400 invalid_value, request r)"
        );
        assert_eq!(
            refusal(400, body, None),
            "it is wrong (400 invalid_value, request r)"
        );
        assert_eq!(
            refusal(502, "<html>", None),
            "the server answered 502 and no reason; is it an InferaDB server?"
        );
    }
}
