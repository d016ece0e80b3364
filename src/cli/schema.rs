//! `inferadb schema validate`: compiles schemas and lists what is wrong with them, as compilers do.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use inferadb_engine::schema::{Diagnostic, MAX_SOURCE_BYTES, compile};

use serde_json::{Value, json};

use super::OutputFormat;
use super::console::{CliError, answer, complain};
use crate::http::diagnostic;

/// Compiles each of `files`. Errors and warnings go to standard error as `file:line:column: message`, or, as JSON, with
/// the rest to standard output.
pub(super) fn validate(files: &[PathBuf], format: OutputFormat) -> Result<(), CliError> {
    let mut failed = 0;
    let mut told = Vec::new();
    for path in files {
        let (text, name) = read(path)?;
        let (errors, warnings, types) = match compile(&text) {
            Ok(compiled) => (Vec::new(), compiled.warnings, compiled.schema.types().len()),
            Err(errors) => (errors, Vec::new(), 0),
        };
        failed += usize::from(!errors.is_empty());
        if format == OutputFormat::Json {
            told.push(json!({
                "file": name,
                "valid": errors.is_empty(),
                "errors": errors.iter().map(diagnostic).collect::<Vec<_>>(),
                "warnings": warnings.iter().map(diagnostic).collect::<Vec<_>>(),
            }));
            continue;
        }
        complain(&listed(&name, "warning: ", &warnings));
        complain(&listed(&name, "", &errors));
        if errors.is_empty() {
            answer(format!("{name}: ok: {types} types\n").as_bytes())?;
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
            all: files.len(),
        })
    }
}

/// The text of a schema, no longer than the compiler takes, and what the file is called in messages.
pub(super) fn read(path: &Path) -> Result<(String, String), CliError> {
    let unreadable = |error| CliError::Unreadable {
        path: path.to_owned(),
        error,
    };
    // One byte more than allowed is enough for the compiler to say that it is too long.
    let most = MAX_SOURCE_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let name = if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        "<stdin>".to_owned()
    } else {
        File::open(path)
            .and_then(|file| file.take(most).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        path.display().to_string()
    };
    let cut = bytes.len() > MAX_SOURCE_BYTES;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        // Where it was cut may be within a character.
        Err(error) if cut => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        Err(error) => {
            return Err(unreadable(io::Error::new(
                io::ErrorKind::InvalidData,
                error.utf8_error(),
            )));
        }
    };
    Ok((text, name))
}

pub(super) fn listed(name: &str, kind: &str, diagnostics: &[Diagnostic]) -> String {
    let line = |found: &Diagnostic| {
        format!(
            "{name}:{}:{}: {kind}{}\n",
            found.line, found.column, found.message
        )
    };
    diagnostics.iter().map(line).collect()
}
