//! `inferadb schema validate`: compiles schemas and lists what is wrong with them, as compilers do.

use std::path::PathBuf;

use inferadb_engine::schema::Format;

use super::console::{CliError, answer, complain};
use super::source::gather;

/// Compiles each of the schemas in `files`. Errors and warnings go to standard error as `file:line:column: message`.
pub(super) fn validate(files: &[PathBuf], format: Option<Format>) -> Result<(), CliError> {
    let sources = gather(files, format, Format::Native)?;
    let mut failed = 0;
    for source in &sources {
        let (errors, warnings, types) = match source.format.compile(&source.text) {
            Ok(compiled) => (Vec::new(), compiled.warnings, compiled.schema.types().len()),
            Err(errors) => (errors, Vec::new(), 0),
        };
        complain(&source.listed("warning: ", &warnings));
        complain(&source.listed("", &errors));
        if errors.is_empty() {
            answer(format!("{}: ok: {types} types\n", source.name).as_bytes())?;
        } else {
            failed += 1;
        }
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(CliError::Schemas {
            failed,
            all: sources.len(),
        })
    }
}
