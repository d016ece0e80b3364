//! Development mode: a server of this machine only, with a signing key of its own, example data, and a ready-made token.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use inferadb_actors::auth::Scopes;
use inferadb_actors::auth::development::{SigningKey, SigningKeyError};
use inferadb_actors::{AccountId, Platform, SchemaWrite, VaultError, VaultId};
use inferadb_engine::schema::Format;
use serde_json::json;

use crate::cli::DevArgs;
use crate::config::{Backend, Config, LogFormat};
use crate::http;
use crate::server::{Prepared, ServerError};

/// How long the printed token is good for.
const TOKEN_SECONDS: u64 = 24 * 3600;
const SIGNING_KEY: &str = "signing-key.pk8";
const KEY_SET: &str = "jwks.json";
const STORE: &str = "store";
const ISSUER: &str = "inferadb-dev";
const SCHEMA: &str = include_str!("../examples/documents/schema.zed");
const RELATIONSHIPS: &str = include_str!("../examples/documents/relationships.json");

/// Why development mode did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The server did not start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The signing key could not be made or read.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
    /// The data directory cannot be used.
    #[error("--data-dir: `{}`: {error}", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The example could not be loaded.
    #[error("the example data: {0}")]
    Example(String),
    /// Standard output takes nothing.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}

/// Runs development mode until it is told to stop.
pub async fn run(arguments: DevArgs) -> Result<(), DevError> {
    let directory = &arguments.data_dir;
    if arguments.reset {
        reset(directory)?;
    }
    fs::create_dir_all(directory).map_err(|error| directory_error(directory, error))?;
    let key = SigningKey::load_or_create(&directory.join(SIGNING_KEY))?;
    let key_set = directory.join(KEY_SET);
    fs::write(&key_set, key.key_set()).map_err(|error| directory_error(&key_set, error))?;
    let prepared = Prepared::new(configuration(&arguments, &key_set)).await?;
    let Some((vault, account)) = prepared.default_vault() else {
        return Err(DevError::Example(
            "the default vault was deleted; start again with --reset".into(),
        ));
    };
    load_example(prepared.platform(), vault, account).await?;
    let listening = prepared.listen()?;
    let address = listening
        .addresses()
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let token = key.sign(&claims(vault, account));
    let text = welcome(&address, &token, directory);
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(DevError::Output)?;
    drop(stdout);
    Ok(listening.serve().await?)
}

fn configuration(arguments: &DevArgs, key_set: &Path) -> Config {
    let mut config = Config::default();
    config.server.host = "127.0.0.1".into();
    config.server.port = arguments.port;
    config.observability.metrics.port = arguments.metrics_port;
    config.observability.logging.format = LogFormat::Text;
    config.storage.backend = Backend::Embedded;
    config.storage.path = arguments.data_dir.join(STORE);
    config.auth.jwks_url = Some(key_set.display().to_string());
    config.auth.issuer = Some(ISSUER.into());
    config
}

/// Everything, in the default vault.
fn claims(vault: VaultId, account: AccountId) -> serde_json::Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let scopes: Vec<&str> = Scopes::NAMES.into_iter().map(|(_, name)| name).collect();
    json!({
        "iss": ISSUER,
        "sub": "developer",
        "aud": "inferadb",
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "vault": vault.to_string(),
        "account": account.to_string(),
        "scope": scopes.join(" "),
    })
}

/// Loads the example into a vault without a schema, or goes on where that was interrupted; a vault with another schema, or
/// with relationships, is the developer's by now.
async fn load_example(platform: &Platform, vault: VaultId, account: AccountId) -> Result<(), DevError> {
    let failed = |error: VaultError| DevError::Example(error.to_string());
    let (vault, _pass) = platform.enter(vault, account).await.map_err(failed)?;
    let is_ours = match vault.schema().await.map_err(failed)? {
        Some(stored) => stored.text == SCHEMA && vault.stats().relationships == 0,
        None => true,
    };
    if !is_ours {
        return Ok(());
    }
    let write =
        http::parse_example(RELATIONSHIPS).map_err(|problem| DevError::Example(problem.to_string()))?;
    vault
        .put_schema(SchemaWrite {
            text: SCHEMA.into(),
            format: Format::Native,
            force: false,
        })
        .await
        .map_err(failed)?;
    vault.write(write).await.map_err(failed)?;
    Ok(())
}

fn welcome(address: &str, token: &str, directory: &Path) -> String {
    let check = |subject: &str, answer: &str| {
        format!(
            "# {answer}\ncurl -s http://{address}/v1/check -H \"Authorization: Bearer $TOKEN\" \\\n  \
             -d '{{\"subject\":\"{subject}\",\"resource\":\"document:readme\",\"permission\":\"view\"}}'\n\n"
        )
    };
    format!(
        "\n*** InferaDB in DEVELOPMENT mode: this machine only, with a signing key of its own. Not for production. ***\n\n\
         API at http://{address}, described at http://{address}/docs; data in {}. The example is a vault of documents in folders, shared with groups.\n\
         Paste this into another terminal; the token is good for a day:\n\n\
         TOKEN='{token}'\n\n{}{}{}\
         Stop with Ctrl-C. Log lines follow.\n\n",
        directory.display(),
        check("user:alice", "allow: alice is a viewer of the readme"),
        check("user:mallory", "deny: mallory is an editor, but banned"),
        check(
            "user:carol",
            "allow: carol is in engineering, which is staff, which may view the folder"
        ),
    )
}

/// Deletes what development mode keeps in its directory, and nothing else that may be there.
fn reset(directory: &Path) -> Result<(), DevError> {
    let is_gone = |outcome: io::Result<()>, path: &Path| match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(directory_error(path, error)),
        _ => Ok(()),
    };
    for file in [SIGNING_KEY, KEY_SET] {
        let path = directory.join(file);
        is_gone(fs::remove_file(&path), &path)?;
    }
    let store = directory.join(STORE);
    is_gone(fs::remove_dir_all(&store), &store)
}

fn directory_error(path: &Path, error: io::Error) -> DevError {
    DevError::Directory {
        path: path.to_owned(),
        error,
    }
}
