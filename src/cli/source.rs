//! Schemas in files: which language each is in, and how the modules of an OpenFGA model become one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use inferadb_engine::schema::{Diagnostic, Format, MAX_SOURCE_BYTES};

use super::console::CliError;
use crate::schema_test::{Module, ModuleList, joined};

/// The languages as the command line names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// The native language.
    Native,
    /// An OpenFGA model: DSL or JSON.
    Openfga,
}

impl From<Language> for Format {
    fn from(name: Language) -> Self {
        match name {
            Language::Native => Self::Native,
            Language::Openfga => Self::OpenFga,
        }
    }
}

/// A schema to compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// What it is called in messages.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
    /// Its language.
    pub(super) format: Format,
}

impl Source {
    /// Errors or warnings as compilers list them, `file:line:column: message`, one a line.
    pub(super) fn listed(&self, kind: &str, diagnostics: &[Diagnostic]) -> String {
        listed(&self.name, kind, diagnostics)
    }
}

/// Errors or warnings of the file `name` as compilers list them, one a line.
pub(super) fn listed(name: &str, kind: &str, diagnostics: &[Diagnostic]) -> String {
    let line = |found: &Diagnostic| {
        let file = found.file.as_deref().unwrap_or(name);
        format!(
            "{file}:{}:{}: {kind}{}\n",
            found.line, found.column, found.message
        )
    };
    diagnostics.iter().map(line).collect()
}

/// Reads the schemas in `files`. `format` is the language of all of them; without it, `.fga`, `.json` and `.mod` say
/// OpenFGA, standard input is told by its first word, and every other name says `otherwise`. Files that begin with `module` are one
/// model together.
pub(super) fn gather(
    files: &[PathBuf],
    format: Option<Format>,
    otherwise: Format,
) -> Result<Vec<Source>, CliError> {
    let mut sources = Vec::new();
    let mut modules = Vec::new();
    for path in files {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension == Some("mod") {
            sources.push(read_module_list(path)?);
            continue;
        }
        let (text, name) = read(path)?;
        let format = format.unwrap_or(match extension {
            Some("fga" | "json") => Format::OpenFga,
            _ if path == Path::new("-") && is_model(&text) => Format::OpenFga,
            _ => otherwise,
        });
        match format == Format::OpenFga && is_module(&text) {
            true => modules.push(Module { name, text }),
            false => sources.push(Source { name, text, format }),
        }
    }
    if !modules.is_empty() {
        sources.push(of_modules("the modules".to_owned(), None, &modules));
    }
    Ok(sources)
}

/// The text of a file, no longer than the compiler takes, and what the file is called in messages.
fn read(path: &Path) -> Result<(String, String), CliError> {
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

/// Reads `fga.mod` and the files that it names, which lie beside it.
fn read_module_list(path: &Path) -> Result<Source, CliError> {
    let (text, name) = read(path)?;
    let list = ModuleList::parse(&text)
        .map_err(|flaw| CliError::failed(format!("{name}:{}: {}", flaw.place, flaw.message)))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut modules = Vec::with_capacity(list.files.len());
    for file in &list.files {
        let (text, name) = read(&folder.join(file))?;
        modules.push(Module { name, text });
    }
    Ok(of_modules(name, Some(&list.version), &modules))
}

fn of_modules(name: String, version: Option<&str>, modules: &[Module]) -> Source {
    Source {
        name,
        text: joined(version, modules),
        format: Format::OpenFga,
    }
}

/// Whether the first word, after comments, is `module`.
fn is_module(text: &str) -> bool {
    first_word(text) == Some("module")
}

/// Whether a text is an OpenFGA model: no native schema begins as one does.
fn is_model(text: &str) -> bool {
    first_word(text).is_some_and(|word| word == "model" || word == "module" || word.starts_with('{'))
}

/// The first word after `#` comments, which native schemas do not have.
fn first_word(text: &str) -> Option<&str> {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    first.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_by_their_first_word() {
        for (text, expected) in [
            ("module core\ntype user", true),
            ("# a comment\n\n  module core", true),
            ("model\n  schema 1.1", false),
            ("modules", false),
            ("", false),
        ] {
            assert_eq!(is_module(text), expected, "{text}");
        }
    }

    #[test]
    fn models_are_told_from_native_schemas() {
        for (text, expected) in [
            ("# a comment\nmodel\n  schema 1.1", true),
            ("module core", true),
            (" \n{\"schema_version\": \"1.1\"}", true),
            ("definition model {}", false),
            ("// model\ncaveat model() { true }", false),
            ("", false),
        ] {
            assert_eq!(is_model(text), expected, "{text}");
        }
    }
}
