//! Every schema in `tests/corpus/schemas` compiles, or fails, exactly as the comments at its top say.
//!
//! `// error: LINE:COLUMN code: text` and `// warning: …` expect a diagnostic there whose message holds the text. A schema
//! without `error` lines must compile; whatever is not expected must not be reported.

use std::path::PathBuf;

use inferadb_engine::schema::{Diagnostic, compile};

/// The diagnostics that a schema's first lines expect.
fn expected(source: &str, mark: &str) -> Vec<String> {
    let header = source.lines().take_while(|line| line.starts_with("//"));
    header
        .filter_map(|line| line.strip_prefix(mark))
        .map(|line| line.trim().to_owned())
        .collect()
}

fn compare(path: &str, kind: &str, expected: &[String], found: &[Diagnostic], failures: &mut Vec<String>) {
    let mut open: Vec<&String> = expected.iter().collect();
    for diagnostic in found {
        let Diagnostic {
            line,
            column,
            code,
            message,
            ..
        } = diagnostic;
        let place = format!("{line}:{column} {code}: ");
        let hit = open.iter().position(|wanted| {
            wanted
                .strip_prefix(&place)
                .is_some_and(|text| message.contains(text))
        });
        match hit {
            Some(at) => {
                open.remove(at);
            }
            None => failures.push(format!("{path}: unexpected {kind}: {place}{message}")),
        }
    }
    failures.extend(
        open.iter()
            .map(|wanted| format!("{path}: missing {kind}: {wanted}")),
    );
}

#[test]
fn schemas_compile_as_they_say() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/schemas");
    let mut failures = Vec::new();
    let mut schemas = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "zed") {
            continue;
        }
        schemas += 1;
        let source = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let (errors, warnings) = match compile(&source) {
            Ok(compiled) => (Vec::new(), compiled.warnings),
            Err(errors) => (errors, Vec::new()),
        };
        compare(
            &name,
            "error",
            &expected(&source, "// error:"),
            &errors,
            &mut failures,
        );
        compare(
            &name,
            "warning",
            &expected(&source, "// warning:"),
            &warnings,
            &mut failures,
        );
    }
    assert!(schemas >= 20, "only {schemas} schemas in {}", folder.display());
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
