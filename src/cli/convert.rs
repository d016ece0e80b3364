//! `inferadb schema convert`: prints the native equivalent of an OpenFGA model, and says what changes for writers.

use std::path::PathBuf;

use inferadb_engine::schema::{self, Format, Split};

use super::console::{CliError, answer, complain};
use super::source::gather;

/// Prints the native equivalent of the one schema in `files`. What has none goes to standard error, and nothing is
/// printed then.
pub(super) fn convert(files: &[PathBuf], format: Option<Format>) -> Result<(), CliError> {
    let sources = gather(files, format, Format::OpenFga)?;
    let [source] = sources.as_slice() else {
        return Err(CliError::failed(format!(
            "one schema is converted at a time, these files are {}",
            sources.len()
        )));
    };
    let compiled = match source.format.compile(&source.text) {
        Ok(compiled) => compiled,
        Err(errors) => {
            complain(&source.listed("", &errors));
            return Err(CliError::Schemas { failed: 1, all: 1 });
        }
    };
    complain(&source.listed("warning: ", &compiled.warnings));
    let printed = match schema::print(&compiled.schema) {
        Ok(printed) => printed,
        Err(unprintable) => {
            for part in &unprintable {
                complain(&format!("{}: {part}\n", source.name));
            }
            return Err(CliError::failed(format!(
                "{} cannot be converted: {} of its parts have no native equivalent",
                source.name,
                unprintable.len()
            )));
        }
    };
    for Split {
        object_type,
        member,
        relation,
    } in &printed.splits
    {
        complain(&format!(
            "{}: note: relationships of `{object_type}#{member}` are to be written to `{object_type}#{relation}`; \
             checks ask for `{member}` as before\n",
            source.name
        ));
    }
    answer(printed.text.as_bytes())
}
