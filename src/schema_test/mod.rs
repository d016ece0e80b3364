//! Schema tests: files that hold a schema, relationships, and what is expected of them. Nothing is stored.
//!
//! Two forms are read: SpiceDB's validation files (`validation`) and OpenFGA's stores (`store`), both YAML with places
//! (`yaml`). What they hold becomes one `suite`, which `run` asks in memory; `report` and `explain` tell the outcome.

mod explain;
mod files;
mod flaw;
mod members;
mod membership;
mod modules;
mod report;
mod run;
mod sets;
mod store;
mod suite;
mod validation;
mod yaml;

use inferadb_actors::TrialSchema;
use inferadb_engine::schema::{Diagnostic, Format as Language, Schema};

pub use self::files::{Beside, Files, NoFiles};
pub(crate) use self::files::{bounded_text, read_text};
pub use self::flaw::{Flaw, Place, Unfit};
pub(crate) use self::modules::{Module, ModuleList, joined};
pub use self::report::{Outcome, Report, Told};
pub use self::run::{Bounds, run};
pub use self::suite::{Expectable, Expectation, Expected, ExpectedSubject, Group, Placed, Suite};
pub use self::validation::relationships;

use self::yaml::{Content, Node, Scalar};

/// The forms of test files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// SpiceDB's validation files.
    Validation,
    /// OpenFGA's stores (`.fga.yaml`).
    Store,
}

/// Compiles the text of a schema.
type Compile = fn(&str) -> Result<Schema, Vec<Diagnostic>>;

/// Reads a test file. Its form is recognised by its members where `format` does not say it.
///
/// # Errors
///
/// The first thing that is wrong with it, and where; for a schema that does not compile, all its errors.
pub fn parse(text: &str, format: Option<Format>, files: &dyn Files) -> Result<Suite, Unfit> {
    let Some(root) = Node::parse(text)? else {
        return Err(Flaw::at(Place { line: 1, column: 1 }, "the file is empty").into());
    };
    let Content::Map(members) = &root.content else {
        let message =
            "a test file is a map with `schema`, `relationships` and `assertions`, or an OpenFGA store";
        return Err(Flaw::at(root.place, message).into());
    };
    let is_store = || {
        members
            .iter()
            .any(|(key, _)| store::MEMBERS.contains(&key.text.as_str()))
    };
    match format {
        Some(Format::Store) => store::read(members, files, compile_model),
        None if is_store() => store::read(members, files, compile_model),
        Some(Format::Validation) | None => validation::read(root.place, members, files, compile_native),
    }
}

fn compile_native(text: &str) -> Result<Schema, Vec<Diagnostic>> {
    Language::Native.compile(text).map(|compiled| compiled.schema)
}

/// Compiles an OpenFGA model.
fn compile_model(text: &str) -> Result<Schema, Vec<Diagnostic>> {
    Language::OpenFga.compile(text).map(|compiled| compiled.schema)
}

/// Compiles a schema that stands in the test file itself.
fn inline_schema(node: &Node, scalar: &Scalar, compile: Compile) -> Result<(TrialSchema, String), Unfit> {
    let compiled = compile(&scalar.text).map(|schema| (TrialSchema::new(schema), scalar.text.clone()));
    compiled.map_err(|errors| {
        let in_file = |error: &Diagnostic| {
            let place = scalar.place_of(node.place, error.line, error.column)?;
            let end = scalar.place_of(node.place, error.end_line, error.end_column)?;
            Some(Diagnostic {
                line: place.line,
                column: place.column,
                end_line: end.line,
                end_column: end.column,
                ..error.clone()
            })
        };
        let moved: Option<Vec<Diagnostic>> = errors.iter().map(in_file).collect();
        Unfit::Schema {
            file: None,
            in_file: moved.is_some(),
            errors: moved.unwrap_or(errors),
        }
    })
}

/// Compiles a schema in a file of its own.
fn schema_of_file(
    node: &Node,
    what: &str,
    files: &dyn Files,
    compile: Compile,
) -> Result<(TrialSchema, String), Unfit> {
    let path = &node.text(what)?.text;
    let text = read_beside(node, what, path, files)?;
    compile_file(path, text, compile)
}

/// Compiles a model in files of its own: one file, an `fga.mod`, or a list of modules.
fn model_of_files(
    node: &Node,
    what: &str,
    files: &dyn Files,
    compile: Compile,
) -> Result<(TrialSchema, String), Unfit> {
    if let Content::List(items) = &node.content {
        let text = modules::of_items(items, what, files)?;
        return compile_file(what, text, compile);
    }
    let path = &node.text(what)?.text;
    let text = read_beside(node, what, path, files)?;
    match modules::is_list(path) {
        true => compile_file(path, modules::of_list(path, &text, files)?, compile),
        false => compile_file(path, text, compile),
    }
}

fn read_beside(node: &Node, what: &str, path: &str, files: &dyn Files) -> Result<String, Flaw> {
    let text = files.read(path);
    text.map_err(|error| Flaw::at(node.place, format!("`{what}`: {error}")))
}

/// Compiles the text of the file `path`.
fn compile_file(path: &str, text: String, compile: Compile) -> Result<(TrialSchema, String), Unfit> {
    match compile(&text) {
        Ok(schema) => Ok((TrialSchema::new(schema), text)),
        Err(errors) => Err(Unfit::Schema {
            file: Some(path.to_owned()),
            errors,
            in_file: true,
        }),
    }
}

/// The error of a member that such a map does not have.
fn unknown(key: &yaml::Key, known: &[&str]) -> Flaw {
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let message = format!(
        "unknown member `{}`; there are {}",
        yaml::shortened(&key.text),
        known.join(", ")
    );
    Flaw::at(key.place, message)
}

#[cfg(test)]
mod tests;
