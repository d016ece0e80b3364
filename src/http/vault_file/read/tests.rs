//! What is read of vault files, and what is not; what is written is read again.

use serde_json::json;

use super::*;
use crate::http::vault_file::split::MAX_MEMBER_BYTES;
use crate::http::vault_file::{Output, Preface};
use crate::notation::parse_relationship;

const BOUNDS: Bounds = Bounds {
    relationship: 4_000,
    member: 4_000,
    schema: 500,
    context: 1_000,
};

const STORED: [&str; 7] = [
    "document:1#viewer@user:a",
    "document:é漢😀\"\\#viewer@user:*",
    "document:a@b:c/d#viewer@group:eng#member",
    "document:2#viewer@user:a[office:{\"n\": 1.0, \"big\": 18446744073709551615, \"s\": \"\\u0001}]\"}]",
    "document:3#viewer@user:a[ns/office]",
    "document:4#viewer@user:a[expiration:2030-01-01T00:00:00.123456Z]",
    "document:5#viewer@user:a[office:{\"l\": [null, true, {\"x\": -1e300}]}][expiration:1970-01-01T00:00:00Z]",
];

/// What was read of a file.
#[derive(Debug, PartialEq)]
struct Found {
    schema: Option<(Format, String)>,
    limits: Option<Map<String, Value>>,
    relationships: Vec<Relationship>,
    is_checked: bool,
}

fn read(layout: Layout, text: &[u8], at_once: usize) -> Result<Found, Problem> {
    let mut reader = Reader::new(layout, BOUNDS);
    let (mut relationships, mut heads) = (Vec::new(), Vec::new());
    for bytes in text.chunks(at_once) {
        reader.push(bytes)?;
        heads.extend(reader.head());
        assert!(reader.count() == 0 || !heads.is_empty(), "the head comes first");
        while let Some(page) = reader.full_page() {
            assert_eq!(page.first, relationships.len() as u64);
            relationships.extend(page.relationships);
        }
    }
    let totals = reader.end()?;
    heads.extend(reader.head());
    while let Some(page) = reader.page() {
        assert!(page.relationships.len() <= MAX_PAGE);
        assert_eq!(page.first, relationships.len() as u64);
        assert_eq!(page.places.len(), page.relationships.len());
        relationships.extend(page.relationships);
    }
    assert_eq!(totals.relationships, relationships.len() as u64);
    let [head] = &heads[..] else {
        panic!("{} heads", heads.len())
    };
    Ok(Found {
        schema: head.schema.clone(),
        limits: reader.limits(),
        relationships,
        is_checked: totals.is_checked,
    })
}

fn stored() -> Vec<Relationship> {
    STORED.map(|text| parse_relationship(text).unwrap()).to_vec()
}

fn written(layout: Layout, schema: Option<(Format, &str)>, relationships: &[Relationship]) -> String {
    let limits = json!({ "max_depth": 7 }).as_object().unwrap().clone();
    let vault = json!({ "id": "x", "name": "n", "limits": limits });
    let mut preface = Preface::new("2026-01-01T00:00:00Z".into(), &vault, limits, "r".into());
    preface.schema = schema.map(|(_, text)| text.to_owned());
    preface.schema_format = schema.map(|(format, _)| format.name());
    let mut output = Output::new(layout, preface);
    let mut text = output.begin();
    for relationship in relationships {
        text.extend(output.relationship(relationship));
    }
    text.extend(output.end());
    String::from_utf8(text).unwrap()
}

const SCHEMA: &str =
    "definition user {}\n\n/** é \"quoted\" */\ndefinition document {\n\trelation viewer: user\n}";

#[test]
fn what_is_written_is_read_again() {
    for layout in [Layout::Json, Layout::Lines] {
        for schema in [
            None,
            Some((Format::Native, SCHEMA)),
            Some((Format::OpenFga, "model\n  schema 1.1\ntype user\n")),
        ] {
            for relationships in [stored(), Vec::new()] {
                let text = written(layout, schema, &relationships);
                for at_once in [1, 2, 3, 17, text.len()] {
                    let found = read(layout, text.as_bytes(), at_once).unwrap();
                    assert_eq!(found.relationships, relationships);
                    assert_eq!(
                        found.schema,
                        schema.map(|(format, text)| (format, text.to_owned()))
                    );
                    assert_eq!(found.limits.unwrap()["max_depth"], 7);
                    assert!(found.is_checked);
                }
            }
        }
    }
    // A relationship a line, and the members in the order in which they are documented.
    let text = written(Layout::Json, Some((Format::Native, SCHEMA)), &stored());
    assert_eq!(
        text.lines().count(),
        STORED.len() * 2 - STORED.len() + 2,
        "{text}"
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["relationship_count"], STORED.len());
    let names = [
        "format",
        "version",
        "exported_at",
        "vault",
        "revision",
        "schema",
        "schema_format",
        "relationships",
        "relationship_count",
        "checksum",
    ];
    let places = names.map(|name| text.find(&format!("\"{name}\":")).unwrap());
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn a_file_may_be_spaced_otherwise() {
    let text = written(Layout::Json, Some((Format::Native, SCHEMA)), &stored());
    let compact = text.replace('\n', "");
    let crlf = text.replace('\n', "\r\n");
    let spaced = text
        .replace(",\"relationship_count\"", " \n\t, \"relationship_count\" \n :\n ")
        .replace(":\n :", ":");
    let spaced = spaced.replace("\n ::", "\n :").replace("::", ":");
    // `1.0` as some tools write it.
    let tooled = text.replace("\"n\":1.0", "\"n\":1");
    assert_ne!(tooled, text);
    for text in [compact, crlf, spaced, tooled] {
        let found = read(Layout::Json, text.as_bytes(), 64).unwrap();
        assert!(
            found.is_checked && found.relationships.len() == STORED.len(),
            "{text}"
        );
    }
    let lines = written(Layout::Lines, None, &stored());
    for text in [
        lines.replace('\n', "\r\n"),
        lines.replace('\n', "\n\n"),
        lines.trim_end().to_owned(),
    ] {
        assert!(
            read(Layout::Lines, text.as_bytes(), 64).unwrap().is_checked,
            "{text}"
        );
    }
}

#[test]
fn no_part_of_a_file_is_a_file() {
    for layout in [Layout::Json, Layout::Lines] {
        let text = written(layout, Some((Format::Native, SCHEMA)), &stored());
        let whole = text.trim_end().len();
        for cut in 0..whole {
            let problem = read(layout, &text.as_bytes()[..cut], 50).unwrap_err();
            assert_eq!(problem.status, 400, "{cut}: {problem}");
        }
        read(layout, &text.as_bytes()[..whole], 50).unwrap();
    }
}

#[test]
fn no_changed_byte_of_what_counts_goes_unnoticed() {
    let text = written(Layout::Lines, Some((Format::Native, SCHEMA)), &stored());
    let whole = read(Layout::Lines, text.as_bytes(), 50).unwrap();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        // What only people read, such as the time, may change; what is read of it is as it was.
        if let Ok(found) = read(Layout::Lines, &bytes, 50) {
            assert_eq!(found, whole, "byte {at}");
        }
    }
}

#[test]
fn a_file_by_hand_needs_no_more_than_its_relationships() {
    let one = r#"{"resource":"document:1","relation":"viewer","subject":"user:a"}"#;
    let model = r#"{"schema_version":"1.1","type_definitions":[{"type":"user"}]}"#;
    for (layout, text, schema, count) in [
        (Layout::Json, format!("{{\"relationships\":[{one}]}}"), None, 1),
        (
            Layout::Json,
            "{\"relationships\":[],\"schema\":null}".replace(
                "\"relationships\":[],\"schema\":null",
                "\"schema\":null,\"relationships\":[]",
            ),
            None,
            0,
        ),
        (
            Layout::Json,
            format!("{{\"schema\":\"x\",\"relationships\":[{one}]}}"),
            Some((Format::Native, "x")),
            1,
        ),
        (
            Layout::Json,
            format!("{{\"schema_format\":\"openfga\",\"schema\":\"x\",\"relationships\":[{one}]}}"),
            Some((Format::OpenFga, "x")),
            1,
        ),
        (
            Layout::Json,
            "{\"schema\":{\"format\":\"openfga\",\"text\":\"x\"},\"relationships\":[]}".to_owned(),
            Some((Format::OpenFga, "x")),
            0,
        ),
        (
            Layout::Json,
            format!("{{\"schema\":{model},\"relationships\":[]}}"),
            Some((Format::OpenFga, model)),
            0,
        ),
        (Layout::Lines, format!("{one}\n{one}"), None, 2),
        (
            Layout::Lines,
            format!("{{\"schema\":\"x\"}}\n{one}\n{{\"relationship_count\":1}}"),
            Some((Format::Native, "x")),
            1,
        ),
        (Layout::Lines, format!("{one}\n{{\"revision\":\"r\"}}\n"), None, 1),
        // A read that found nothing.
        (Layout::Lines, "{\"revision\":\"r\"}\n".to_owned(), None, 0),
        (
            Layout::Lines,
            " { \"subject\":\"user:a\",\"relation\":\"viewer\",\"resource\":\"document:1\"}".to_owned(),
            None,
            1,
        ),
    ] {
        let found = read(layout, text.as_bytes(), 9).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(
            found.schema,
            schema.map(|(format, text)| (format, text.to_owned())),
            "{text}"
        );
        assert_eq!(
            (found.relationships.len(), found.is_checked),
            (count, false),
            "{text}"
        );
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let one = r#"{"resource":"document:1","relation":"viewer","subject":"user:a"}"#;
    let zeros = "0".repeat(64);
    let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    for (text, code, field, position) in [
        ("{}", "missing_field", "relationships", (1, 3)),
        ("{\"format\":\"other\"}", "unknown_format", "format", (1, 11)),
        ("{\"version\":2}", "unsupported_version", "version", (1, 12)),
        ("{\"version\":\"1\"}", "invalid_value", "version", (1, 14)),
        ("{\"kind\":1}", "unknown_field", "kind", (1, 9)),
        ("{\"schema\":1}", "invalid_value", "schema", (1, 11)),
        (
            "{\"schema\":{\"text\":\"x\",\"type_definitions\":[]}}",
            "invalid_value",
            "schema",
            (1, 11),
        ),
        (
            "{\"schema_format\":\"cedar\"}",
            "invalid_value",
            "schema_format",
            (1, 18),
        ),
        (
            "{\"vault\":{\"limits\":[]}}",
            "invalid_value",
            "vault.limits",
            (1, 19),
        ),
        (
            "{\"version\":1,\n \"version\":1}",
            "invalid_value",
            "version",
            (2, 12),
        ),
        (
            "{\"relationships\":[],\"relationships\":[]}",
            "invalid_value",
            "relationships",
            (1, 37),
        ),
        (
            "{\"relationships\":[],\"schema\":\"x\"}",
            "invalid_value",
            "schema",
            (1, 30),
        ),
        (
            "{\"relationships\":[],\"relationship_count\":1}",
            "count_mismatch",
            "relationship_count",
            (1, 44),
        ),
        (
            "{\"relationships\":[],\"checksum\":\"md5:1\"}",
            "invalid_value",
            "checksum",
            (1, 32),
        ),
        (
            &format!("{{\"relationships\":[],\"checksum\":\"sha256:{zeros}\"}}"),
            "checksum_mismatch",
            "checksum",
            (1, 106),
        ),
        (
            "{\"relationships\":[\n 1]}",
            "invalid_value",
            "relationships[0]",
            (2, 2),
        ),
        (
            "{\"relationships\":[\n {\"resource\":\"a\"}]}",
            "missing_field",
            "relationships[0].relation",
            (2, 17),
        ),
        (
            &format!("{{\"relationships\":[{one},\n{{\"resource\":\"a\",\n\"who\":1}}]}}"),
            "unknown_field",
            "relationships[1].who",
            (3, 5),
        ),
        (
            &format!("{{\"relationships\":[\n{}]}}", one.replace("user:a", "user")),
            "invalid_value",
            "relationships[0].subject",
            (2, 1),
        ),
        (
            &format!(
                "{{\"relationships\":[\n{}]}}",
                one.replace("}", ",\"relation\":\"b\"}")
            ),
            "invalid_value",
            "relationships[0]",
            (2, 74),
        ),
        (
            &format!(
                "{{\"relationships\":[\n{}]}}",
                one.replace("}", ",\"expires_at\":\"soon\"}")
            ),
            "invalid_value",
            "relationships[0].expires_at",
            (2, 1),
        ),
        (
            &format!(
                "{{\"relationships\":[{}]}}",
                one.replace("}", ",\"caveat\":{\"name\":\"c\",\"context\":{\"a\":1,\"a\":1}}}")
            ),
            "invalid_value",
            "relationships[0].caveat.context",
            (1, 19),
        ),
        (
            &format!(
                "{{\"relationships\":[{}]}}",
                one.replace(
                    "}",
                    &format!(",\"caveat\":{{\"name\":\"c\",\"context\":{{\"a\":{deep}}}}}}}")
                )
            ),
            "invalid_value",
            "relationships[0].caveat.context",
            (1, 19),
        ),
        (
            &format!("{{\"relationships\":[{deep}]}}"),
            "invalid_value",
            "relationships[0]",
            (1, 19),
        ),
    ] {
        let problem = read(Layout::Json, text.as_bytes(), 5).unwrap_err();
        assert_eq!(
            (problem.code, problem.field.as_deref(), problem.position),
            (code, Some(field), Some(position)),
            "{text}: {problem}"
        );
    }
    for (text, code, position) in [
        ("", "malformed_json", (1, 1)),
        ("\n\n", "malformed_json", (3, 1)),
        ("[]", "invalid_value", (1, 1)),
        ("{\"version\":1}\n", "truncated", (2, 1)),
        (&format!("{{\"revision\":\"r\"}}\n{one}\n"), "truncated", (3, 1)),
        (
            "{\"revision\":\"r\",\"exported_at\":\"t\"}\n",
            "truncated",
            (2, 1),
        ),
        (
            "{\"revision\":\"r\",\"first_revision\":\"f\"}\n",
            "unknown_field",
            (1, 1),
        ),
        (&format!("{{\"version\":1}}\n{one}\n"), "truncated", (3, 1)),
        (&format!("{one}\n{{\"error\":{{}}}}\n"), "unknown_field", (2, 1)),
        (
            &format!("{one}\n{{\"cursor\":\"c\",\"revision\":\"r\"}}\n"),
            "unknown_field",
            (2, 1),
        ),
        (
            &format!("{one}\n{{\"relationship_count\":1}}\n{one}"),
            "malformed_json",
            (3, 1),
        ),
        (&format!("{one}\n{}", &one[..30]), "malformed_json", (2, 30)),
        (
            &format!("{{\"version\":1,\"relationships\":[{one}]}}"),
            "malformed_json",
            (1, 1),
        ),
        (
            &format!("{{\"relationships\":[{one}]}}"),
            "malformed_json",
            (1, 1),
        ),
    ] {
        let problem = read(Layout::Lines, text.as_bytes(), 5).unwrap_err();
        assert_eq!(
            (problem.code, problem.position),
            (code, Some(position)),
            "{text}: {problem}"
        );
    }
}

#[test]
fn members_are_bounded_and_what_is_wrong_is_not_told_whole() {
    let long = "x".repeat(MAX_MEMBER_BYTES);
    let bounds = Bounds {
        member: 1 << 20,
        schema: 1 << 20,
        ..BOUNDS
    };
    let read = |layout, text: &str| {
        let mut reader = Reader::new(layout, bounds);
        reader.push(text.as_bytes()).and_then(|()| reader.end())
    };
    for member in [
        "format",
        "exported_at",
        "vault",
        "revision",
        "schema_format",
        "checksum",
        "other",
    ] {
        for (layout, text) in [
            (
                Layout::Json,
                format!("{{\"{member}\":\"{long}\",\"relationships\":[]}}"),
            ),
            (Layout::Lines, format!("{{\"{member}\":\"{long}\"}}\n")),
        ] {
            let problem = read(layout, &text).unwrap_err();
            assert_eq!(
                (problem.status.as_u16(), problem.code),
                (413, "too_large"),
                "{member}"
            );
            assert!(problem.detail.len() < 300, "{}", problem.detail.len());
        }
    }
    let schema = format!("{{\"schema\":\"{long}\",\"relationships\":[]}}");
    read(Layout::Json, &schema).unwrap();
    let most = &long[..MAX_MEMBER_BYTES - 2];
    for (layout, text, code) in [
        (
            Layout::Json,
            format!("{{\"format\":\"{most}\"}}"),
            "unknown_format",
        ),
        (
            Layout::Json,
            format!("{{\"schema_format\":\"{most}\"}}"),
            "invalid_value",
        ),
        (
            Layout::Json,
            format!("{{\"schema\":{{\"text\":\"\",\"format\":\"{long}\"}}}}"),
            "invalid_value",
        ),
        (Layout::Lines, format!("{{\"{long}\":1}}\n"), "unknown_field"),
    ] {
        let problem = read(layout, &text).unwrap_err();
        assert_eq!(problem.code, code);
        let told = problem.detail.len() + problem.field.map_or(0, |field| field.len());
        assert!(told < 400, "{code}: {told}");
    }
}

#[test]
fn limits_are_told_when_they_come_and_once() {
    for layout in [Layout::Json, Layout::Lines] {
        let text = written(layout, Some((Format::Native, SCHEMA)), &stored());
        let mut reader = Reader::new(layout, BOUNDS);
        let head = text.find("\"resource\"").unwrap();
        reader.push(&text.as_bytes()[..head]).unwrap();
        assert_eq!(reader.limits().unwrap()["max_depth"], 7);
        assert_eq!(reader.limits(), None);
        reader.push(&text.as_bytes()[head..]).unwrap();
        assert!(reader.end().unwrap().is_checked);
        assert_eq!(reader.limits(), None);
    }
}

#[test]
fn pages_are_bounded_in_number_and_size() {
    let mut reader = Reader::new(Layout::Lines, BOUNDS);
    let line = |at: usize| {
        format!(
            "{{\"resource\":\"d:{at}\",\"relation\":\"v\",\"subject\":\"u:{}\"}}\n",
            "x".repeat(900)
        )
    };
    let mut came = 0;
    for at in 0..3_000 {
        reader.push(line(at).as_bytes()).unwrap();
        while let Some(page) = reader.full_page() {
            assert_eq!(page.first, came);
            came += page.relationships.len() as u64;
            assert!(
                page.relationships.len() <= MAX_PAGE && page.bytes >= MAX_PAGE_BYTES
                    || page.relationships.len() == MAX_PAGE
            );
        }
        assert!(reader.parts.page.relationships.len() < MAX_PAGE);
    }
    let many: String = (0..2_500)
        .map(|at| format!("{{\"resource\":\"d:{at}\",\"relation\":\"v\",\"subject\":\"u:a\"}}\n"))
        .collect();
    let mut reader = Reader::new(Layout::Lines, BOUNDS);
    reader.push(many.as_bytes()).unwrap();
    let mut sizes = Vec::new();
    while let Some(page) = reader.page() {
        let problem = Problem::invalid("x", "relationships[3].subject", "`relationships[3].subject`");
        let located = page.located(problem);
        assert_eq!(
            located.field.unwrap(),
            format!("relationships[{}].subject", page.first + 3)
        );
        assert_eq!(located.position.unwrap().0 as u64, page.first + 4);
        sizes.push(page.relationships.len());
    }
    assert_eq!(sizes, [1000, 1000, 500]);
}

/// A sequence that differs from seed to seed (SplitMix64).
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap()
}

#[test]
fn garbled_files_are_read_alike_however_they_come() {
    let pieces: [&[u8]; 14] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b",",
        b":",
        b"\n",
        b" ",
        b"\xff",
        b"\"relationships\":[",
        b"null",
        b"\"schema\":\"x\",",
    ];
    let mut state = 7;
    let mut accepted = 0;
    for round in 0..3_000 {
        let layout = [Layout::Json, Layout::Lines][round % 2];
        let count = random(&mut state) % 4;
        let mut text = written(layout, Some((Format::Native, SCHEMA)), &stored()[..count]).into_bytes();
        for _ in 0..=random(&mut state) % 3 {
            let from = random(&mut state) % text.len();
            let to = (from + random(&mut state) % 8).min(text.len());
            let piece = pieces[random(&mut state) % pieces.len()];
            text.splice(from..to, piece.iter().copied());
        }
        let outcome = |at_once: usize| {
            read(layout, &text, at_once)
                .map_err(|problem| (problem.code, problem.field, problem.position, problem.detail))
        };
        let whole = outcome(text.len());
        accepted += usize::from(whole.is_ok());
        for at_once in [1, 3, 1 + random(&mut state) % 50] {
            assert_eq!(outcome(at_once), whole, "{}", String::from_utf8_lossy(&text));
        }
    }
    assert!(accepted > 0, "none was sound");
}
