//! `inferadb vault export`: a vault file from a server, checked as it passes.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::ACCEPT;

use super::output::Target;
use super::remote::Remote;
use super::{ExportArgs, layout_of_name, progress};
use crate::cli::console::{self, CliError};
use crate::http::RELATIONSHIPS;
use crate::http::vault_file::{Bounds, Layout, Reader};

/// For how long the server may send nothing.
const SILENCE: Duration = Duration::from_secs(120);
/// More than any server lets parts of a file be: it has to be whole, not small.
const BOUNDS: Bounds = Bounds {
    relationship: 64 << 20,
    member: 256 << 20,
    schema: 256 << 20,
    context: 64 << 20,
};

pub(super) async fn run(arguments: ExportArgs) -> Result<(), CliError> {
    let layout = arguments.format.map(Layout::from);
    let layout = layout
        .or_else(|| layout_of_name(&arguments.output))
        .unwrap_or(Layout::Json);
    let remote = Remote::new(&arguments.server, Some(SILENCE))?;
    let request = remote.vault(Method::GET, arguments.vault, "export", None);
    let mut response = remote
        .send(request.header(ACCEPT, layout.media_type()), None)
        .await?;
    let expected = response.headers().get(RELATIONSHIPS.as_str());
    let expected = expected.and_then(|value| value.to_str().ok()?.parse().ok());
    let bar = progress::over_relationships(expected);
    let mut target = Target::open(&arguments.output)?;
    let mut reader = Reader::new(layout, BOUNDS);
    let damaged = |problem: crate::http::Problem| {
        CliError::failed(format!(
            "what the server sent is not a whole vault file: {}",
            problem.detail
        ))
    };
    loop {
        let bytes = response
            .chunk()
            .await
            .map_err(|error| remote.unreachable(&error))?;
        let Some(bytes) = bytes else { break };
        reader.push(&bytes).map_err(damaged)?;
        while reader.page().is_some() {}
        target.write(&bytes)?;
        bar.set_position(reader.count());
    }
    let totals = reader.end().map_err(damaged)?;
    if !totals.is_checked {
        return Err(CliError::failed("what the server sent has no checksum"));
    }
    let is_stdout = target.is_stdout();
    target.finish()?;
    bar.finish_and_clear();
    if is_stdout {
        return Ok(());
    }
    let summary = format!(
        "{}: ok: {} relationships\n",
        arguments.output.display(),
        totals.relationships
    );
    console::answer(summary.as_bytes())
}
