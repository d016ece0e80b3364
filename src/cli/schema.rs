//! `inferadb schema validate`: compiles schemas and lists what is wrong with them, as compilers do.

use std::path::PathBuf;

use inferadb_engine::schema::Format;
use serde_json::{Value, json};

use super::OutputFormat;
use super::console::{CliError, answer, complain};
use super::source::gather;
use crate::http::diagnostic;

/// Compiles each of the schemas in `files`. Errors and warnings go to standard error as `file:line:column: message`, or, as
/// JSON, with the rest to standard output.
pub(super) fn validate(
    files: &[PathBuf],
    language: Option<Format>,
    format: OutputFormat,
) -> Result<(), CliError> {
    let sources = gather(files, language, Format::Native)?;
    let mut failed = 0;
    let mut told = Vec::new();
    for source in &sources {
        let (errors, warnings, types) = match source.format.compile(&source.text) {
            Ok(compiled) => (Vec::new(), compiled.warnings, compiled.schema.types().len()),
            Err(errors) => (errors, Vec::new(), 0),
        };
        failed += usize::from(!errors.is_empty());
        if format == OutputFormat::Json {
            told.push(json!({
                "file": source.name,
                "valid": errors.is_empty(),
                "errors": errors.iter().map(diagnostic).collect::<Vec<_>>(),
                "warnings": warnings.iter().map(diagnostic).collect::<Vec<_>>(),
            }));
            continue;
        }
        complain(&source.listed("warning: ", &warnings));
        complain(&source.listed("", &errors));
        if errors.is_empty() {
            answer(format!("{}: ok: {types} types\n", source.name).as_bytes())?;
        }
    }
    if format == OutputFormat::Json {
        answer(format!("{:#}\n", Value::from(told)).as_bytes())?;
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
