//! `inferadb schema diff`: what a change of schema does, and to which relationships.

use std::path::Path;

use inferadb_engine::schema::{Format, Misfit, Schema, SchemaDiff};
use serde_json::{Value, json};

use super::console::{CliError, answer, complain};
use super::source::gather;
use super::{DiffArgs, OutputFormat};
use crate::schema_test::{read_text, relationships};

/// How many relationships that no longer fit are named.
const MAX_NAMED: usize = 20;

/// Relationships that were tried on the new schema.
struct Tried {
    all: usize,
    /// Those that the new schema does not take: where, which, why, and whether the old schema took them.
    misfits: Vec<(u32, String, Misfit, bool)>,
}

/// Compares two schemas; the difference is [`CliError::Differences`].
pub(super) fn run(arguments: &DiffArgs) -> Result<(), CliError> {
    if arguments.old == Path::new("-") && arguments.new == Path::new("-") {
        return Err(CliError::Unfit("only one of the schemas can be standard input".to_owned()).trouble());
    }
    let old = schema(&arguments.old)?;
    let new = schema(&arguments.new)?;
    let diff = SchemaDiff::between(&old, &new);
    let tried = match &arguments.relationships {
        Some(path) => Some(try_relationships(path, &old, &new)?),
        None => None,
    };
    let text = match arguments.format {
        OutputFormat::Text => to_text(&diff, tried.as_ref()),
        OutputFormat::Json => format!("{:#}\n", to_value(&diff, tried.as_ref())),
    };
    answer(text.as_bytes())?;
    if diff.is_empty() {
        Ok(())
    } else {
        Err(CliError::Differences)
    }
}

/// The one schema of a file, in the language that its name says.
fn schema(path: &Path) -> Result<Schema, CliError> {
    let sources = gather(&[path.to_owned()], None, Format::Native).map_err(CliError::trouble)?;
    let compiled = sources
        .first()
        .map(|source| (source, source.format.compile(&source.text)));
    match compiled {
        Some((_, Ok(compiled))) => Ok(compiled.schema),
        Some((source, Err(errors))) => {
            complain(&source.listed("", &errors));
            Err(CliError::Unfit(format!("{} does not compile", source.name)).trouble())
        }
        None => Err(CliError::Unfit(format!("{} names no schema", path.display())).trouble()),
    }
}

fn try_relationships(path: &Path, old: &Schema, new: &Schema) -> Result<Tried, CliError> {
    let name = path.display();
    let trouble = |text: String| CliError::Unfit(text).trouble();
    let text = read_text(path).map_err(|why| trouble(format!("{name}: cannot be read: {why}")))?;
    let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let stored = relationships(&text, is_yaml)
        .map_err(|flaw| trouble(format!("{name}:{}: {}", flaw.place, flaw.message)))?;
    let misfits = stored.iter().filter_map(|stored| {
        let misfit = new.fits(&stored.value).err()?;
        let fitted = old.fits(&stored.value).is_ok();
        Some((stored.place.line, stored.value.key().to_string(), misfit, fitted))
    });
    Ok(Tried {
        all: stored.len(),
        misfits: misfits.collect(),
    })
}

fn to_text(diff: &SchemaDiff, tried: Option<&Tried>) -> String {
    let mut text = String::new();
    if diff.is_empty() {
        text.push_str("no differences\n");
    }
    let mut section = |title: &str, lines: Vec<String>| {
        if lines.is_empty() {
            return;
        }
        text.push_str(&format!("{title}:\n"));
        for line in lines {
            text.push_str(&format!("  {line}\n"));
        }
    };
    section("changes", diff.changes.iter().map(ToString::to_string).collect());
    section("permissions that may answer differently", diff.affected.clone());
    section("relationships that would no longer fit", diff.orphaned.clone());
    if let Some(tried) = tried {
        let lines = tried.misfits.iter().take(MAX_NAMED);
        let mut lines: Vec<String> = lines
            .map(|(line, key, misfit, fitted)| {
                let before = if *fitted { "" } else { " (nor did it before)" };
                format!("line {line}: {key}: {misfit}{before}")
            })
            .collect();
        if tried.misfits.len() > MAX_NAMED {
            lines.push(format!("and {} more", tried.misfits.len() - MAX_NAMED));
        }
        let title = format!(
            "{} of {} given relationships do not fit",
            tried.misfits.len(),
            tried.all
        );
        if lines.is_empty() {
            text.push_str(&format!("all {} given relationships fit\n", tried.all));
        } else {
            section(&title, lines);
        }
    }
    text
}

fn to_value(diff: &SchemaDiff, tried: Option<&Tried>) -> Value {
    let changes = diff.changes.iter();
    let changes: Vec<Value> = changes
        .map(|change| {
            json!({
                "change": change.kind.as_str(),
                "at": change.at,
                "old": change.old,
                "new": change.new,
            })
        })
        .collect();
    let mut value = json!({
        "changes": changes,
        "affected_permissions": diff.affected,
        "no_longer_allowed": diff.orphaned,
    });
    if let (Some(tried), Some(members)) = (tried, value.as_object_mut()) {
        let named = tried.misfits.iter().take(MAX_NAMED);
        let named: Vec<Value> = named
            .map(|(line, key, misfit, fitted)| {
                json!({
                    "line": line,
                    "relationship": key,
                    "reason": misfit.to_string(),
                    "fitted_before": fitted,
                })
            })
            .collect();
        let tried = json!({ "all": tried.all, "misfits": tried.misfits.len(), "examples": named });
        members.insert("relationships".to_owned(), tried);
    }
    value
}
