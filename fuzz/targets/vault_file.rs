//! Vault files: any bytes are read or refused, at a place that lies within them, and where they are cut into packets makes no
//! difference; what was read is written so that it is read as the same.
#![no_main]

use inferadb::http::vault_file::{Bounds, Layout, Output, Preface, Reader, Totals};
use inferadb_engine::noun::Relationship;
use inferadb_engine::schema::Format;
use libfuzzer_sys::fuzz_target;

const BOUNDS: Bounds = Bounds {
    relationship: 4_000,
    member: 4_000,
    schema: 1_000,
    context: 1_000,
};

/// What was read of a file.
#[derive(Debug, PartialEq)]
struct Found {
    schema: Option<(Format, String)>,
    relationships: Vec<Relationship>,
    totals: Totals,
}

/// What was wrong with a file: what, and where.
type Refused = (&'static str, String, Option<(u32, u32)>);

fn read(layout: Layout, bytes: &[u8], at_once: usize) -> Result<Found, Refused> {
    let mut reader = Reader::new(layout, BOUNDS);
    let (mut relationships, mut heads) = (Vec::new(), Vec::new());
    let refused = |problem: inferadb::http::Problem| (problem.code, problem.detail, problem.position);
    for bytes in bytes.chunks(at_once) {
        reader.push(bytes).map_err(refused)?;
        heads.extend(reader.head());
        assert!(reader.count() == 0 || !heads.is_empty(), "the head comes first");
        while let Some(page) = reader.full_page() {
            assert_eq!(page.first, relationships.len() as u64);
            relationships.extend(page.relationships);
        }
    }
    let totals = reader.end().map_err(refused)?;
    heads.extend(reader.head());
    while let Some(page) = reader.page() {
        relationships.extend(page.relationships);
    }
    assert_eq!(heads.len(), 1, "one head");
    assert_eq!(totals.relationships, relationships.len() as u64);
    Ok(Found {
        schema: heads.remove(0).schema,
        relationships,
        totals,
    })
}

fn write(layout: Layout, found: &Found) -> Vec<u8> {
    let mut preface = Preface::new("2026-01-01T00:00:00Z".into(), &(), Default::default(), "r".into());
    preface.schema = found.schema.as_ref().map(|(_, text)| text.clone());
    preface.schema_format = found.schema.as_ref().map(|(format, _)| format.name());
    let mut output = Output::new(layout, preface);
    let mut bytes = output.begin();
    for relationship in &found.relationships {
        bytes.extend(output.relationship(relationship));
    }
    bytes.extend(output.end());
    bytes
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (is_lines, at_once, bytes) = input;
    let layout = if is_lines { Layout::Lines } else { Layout::Json };
    let whole = read(layout, bytes, bytes.len().max(1));
    assert_eq!(whole, read(layout, bytes, usize::from(at_once % 16) + 1));
    match whole {
        Err((_, _, position)) => {
            let (line, column) = position.expect("what is wrong with a file has a place");
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
            assert!((1..=lines).contains(&line) && column >= 1, "{line}:{column}");
        }
        Ok(found) => {
            for layout in [Layout::Json, Layout::Lines] {
                // What is written may be longer than what was read: a bound may then be passed.
                if let Ok(again) = read(layout, &write(layout, &found), 64) {
                    assert_eq!(again.relationships, found.relationships);
                    assert_eq!(again.schema, found.schema);
                    assert!(again.totals.is_checked);
                }
            }
        }
    }
});
