//! `inferadb schema test`: runs test files and says which of their assertions do not hold.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use actix_web::rt::System;
use inferadb_actors::now;
use inferadb_engine::evaluate::Limits;
use serde_json::{Value, json};

use super::OutputFormat;
use super::console::{CliError, answer, complain};
use super::source::listed;
use crate::http::diagnostic;
use crate::schema_test::{
    Beside, Bounds, Flaw, Report, Unfit, bounded_text, parse, read_text, run as run_suite,
};

/// The most relationships of one run: what a person waits for.
const MAX_RELATIONSHIPS: usize = 10_000_000;
/// The most checks of one run.
const MAX_CHECKS: usize = 100_000_000;

/// Runs each of `files`; `verbose` explains wrong decisions.
pub(super) fn run(files: &[PathBuf], format: OutputFormat, verbose: bool) -> Result<(), CliError> {
    let (mut passed, mut failed, mut unfit) = (0, 0, 0);
    let mut told = Vec::new();
    for path in files {
        let (name, outcome) = run_file(path, verbose);
        match &outcome {
            Ok(report) => {
                passed += report.passed();
                failed += report.failed();
            }
            Err(_) => unfit += 1,
        }
        match (format, outcome) {
            (OutputFormat::Json, outcome) => told.push(file_value(&name, outcome)),
            (OutputFormat::Text, Ok(report)) => answer(report.to_text(&name).as_bytes())?,
            (OutputFormat::Text, Err(refused)) => complain(&refused.to_text(&name)),
        }
    }
    if format == OutputFormat::Json {
        let all = json!({ "files": told, "passed": passed, "failed": failed });
        answer(format!("{all:#}\n").as_bytes())?;
    }
    if unfit > 0 {
        let all = files.len();
        return Err(CliError::TestFiles { failed: unfit, all }.trouble());
    }
    if failed > 0 {
        let all = passed + failed;
        return Err(CliError::Assertions { failed, all });
    }
    Ok(())
}

/// Why a file was not run.
enum Refused {
    Unreadable(String),
    Unfit(Unfit),
}

fn run_file(path: &Path, verbose: bool) -> (String, Result<Report, Refused>) {
    let (name, text) = if path == Path::new("-") {
        ("<stdin>".to_owned(), bounded_text(io::stdin().lock()))
    } else {
        (path.display().to_string(), read_text(path))
    };
    let outcome = text.map_err(Refused::Unreadable).and_then(|text| {
        let suite = parse(&text, None, &Beside::new(path)).map_err(Refused::Unfit)?;
        let bounds = Bounds {
            limits: Limits::default(),
            max_relationships: MAX_RELATIONSHIPS,
            max_checks: MAX_CHECKS,
        };
        let checks = AtomicUsize::new(0);
        let running = run_suite(&suite, &bounds, now(), &checks, verbose);
        System::new().block_on(running).map_err(Refused::Unfit)
    });
    (name, outcome)
}

impl Refused {
    /// Lines for a person, each with the place at fault.
    fn to_text(&self, name: &str) -> String {
        match self {
            Self::Unreadable(why) => format!("{name}: cannot be read: {why}\n"),
            Self::Unfit(Unfit::Malformed(flaw) | Unfit::Misfit { flaw, .. }) => {
                let file = flaw.file.as_deref().unwrap_or(name);
                format!("{file}:{}: {}\n", flaw.place, flaw.message)
            }
            Self::Unfit(Unfit::TooLarge(why)) => format!("{name}: {why}\n"),
            Self::Unfit(Unfit::Schema {
                file,
                errors,
                in_file,
            }) => {
                let own = format!("{name}: in the schema");
                let file = file.as_deref().unwrap_or(if *in_file { name } else { &own });
                listed(file, "", errors)
            }
        }
    }
}

fn file_value(name: &str, outcome: Result<Report, Refused>) -> Value {
    let mut value = match outcome {
        Ok(report) => report.to_value(),
        Err(Refused::Unreadable(why)) => json!({ "error": format!("cannot be read: {why}") }),
        Err(Refused::Unfit(Unfit::TooLarge(why))) => json!({ "error": why }),
        Err(Refused::Unfit(Unfit::Malformed(flaw) | Unfit::Misfit { flaw, .. })) => flaw_value(&flaw),
        Err(Refused::Unfit(Unfit::Schema { file, errors, .. })) => json!({
            "error": "the schema does not compile",
            "in": file,
            "errors": errors.iter().map(diagnostic).collect::<Vec<_>>(),
        }),
    };
    if let Some(members) = value.as_object_mut() {
        members.insert("file".to_owned(), name.into());
    }
    value
}

fn flaw_value(flaw: &Flaw) -> Value {
    json!({
        "error": flaw.message,
        "in": flaw.file,
        "line": flaw.place.line,
        "column": flaw.place.column,
    })
}
