//! `inferadb config check`: says whether the server would start with a configuration, without starting it.

use std::path::Path;

use super::console::{CliError, answer};
use crate::config::Config;

/// Says that `config`, from the file at `path` if one was named, is fine, in one line that sums it up.
pub(super) fn run(path: Option<&Path>, config: &Config) -> Result<(), CliError> {
    let name = path.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
    let metrics = if config.observability.metrics.enabled {
        format!(
            "metrics on {}",
            listener(config.metrics_host(), config.observability.metrics.port)
        )
    } else {
        "no metrics".to_owned()
    };
    let auth = if config.auth.enabled {
        "tokens required"
    } else {
        "no authentication"
    };
    let server = listener(&config.server.host, config.server.port);
    let backend = format!("{:?}", config.storage.backend).to_lowercase();
    answer(format!("{name}: ok: serves {server}, {metrics}, storage {backend}, {auth}\n").as_bytes())
}

fn listener(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
