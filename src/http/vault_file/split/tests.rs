//! Files are taken apart alike however their bytes come, and never held without bound.

use super::*;

const BOUNDS: Bounds = Bounds {
    relationship: 100,
    member: 200,
    schema: 100,
    context: 50,
};

/// The parts of a file whose bytes come `at_once` by `at_once`.
fn split(layout: Layout, text: &str, at_once: usize) -> Result<Vec<String>, Problem> {
    let mut found = Vec::new();
    let mut splitter = Splitter::new(layout, BOUNDS);
    let mut take = |piece: Piece<'_>, place: Place| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let said = match piece {
            Piece::Member(name, value) => format!("{name}={}", text(value)),
            Piece::Relationships => "[".to_owned(),
            Piece::Relationship(value) | Piece::Line(value) => text(value),
        };
        found.push(format!("{}:{} {said}", place.line, place.column));
        Ok(())
    };
    for bytes in text.as_bytes().chunks(at_once) {
        splitter.push(bytes, &mut take)?;
    }
    splitter.end(&mut take)?;
    Ok(found)
}

/// The code and the place of a problem.
type Refused = (&'static str, Option<(u32, u32)>);

/// The same, however the bytes come.
fn split_anyhow(layout: Layout, text: &str) -> Result<Vec<String>, Refused> {
    let outcome = |at_once| split(layout, text, at_once).map_err(|problem| (problem.code, problem.position));
    let whole = outcome(text.len().max(1));
    for at_once in 1..text.len().min(40) {
        assert_eq!(outcome(at_once), whole, "{text} by {at_once}");
    }
    whole
}

#[test]
fn parts_are_found_however_the_bytes_come() {
    let text = "{ \"a\" : {\"x\":[\"]}\\\"\\\\\"]} ,\n\"b\":-1.5e3,\"c\":null,\n \"d\":\"é\\\"\",\"relationships\":[\n{\"r\":\"}\"},\n [1] , \"s\",2\n],\"e\":true}\n ";
    assert_eq!(
        split_anyhow(Layout::Json, text).unwrap(),
        [
            "1:9 a={\"x\":[\"]}\\\"\\\\\"]}",
            "2:5 b=-1.5e3",
            "2:16 c=null",
            "3:6 d=\"é\\\"\"",
            "3:29 [",
            "4:1 {\"r\":\"}\"}",
            "5:2 [1]",
            "5:8 \"s\"",
            "5:12 2",
            "6:7 e=true",
        ]
    );
    assert_eq!(split_anyhow(Layout::Json, "{}").unwrap(), [""; 0]);
    assert_eq!(
        split_anyhow(Layout::Json, "{\"relationships\":[ ]}").unwrap(),
        ["1:18 ["]
    );
    assert_eq!(
        split_anyhow(Layout::Lines, "\n {\"a\":1} \r\n\n2\n3").unwrap(),
        ["2:2 {\"a\":1}", "4:1 2", "5:1 3"]
    );
}

#[test]
fn what_is_no_file_is_refused_with_its_place() {
    for (text, code, place) in [
        ("", "malformed_json", (1, 1)),
        (" \n", "malformed_json", (2, 1)),
        ("[]", "malformed_json", (1, 1)),
        ("{\"a\":1,}", "malformed_json", (1, 8)),
        ("{\"a\" 1}", "malformed_json", (1, 6)),
        ("{\"a\":}", "malformed_json", (1, 6)),
        ("{\"a\":1 2}", "malformed_json", (1, 8)),
        ("{\"a\":1}}", "malformed_json", (1, 8)),
        ("{\"a\":1\"b\"", "malformed_json", (1, 7)),
        ("{\"\\x\":1}", "malformed_json", (1, 2)),
        ("{\"relationships\":{}}", "invalid_value", (1, 18)),
        ("{\"relationships\":[{},]}", "malformed_json", (1, 22)),
        ("{\"relationships\":[,{}]}", "malformed_json", (1, 19)),
        ("{\"relationships\":[{} {}]}", "malformed_json", (1, 22)),
        ("{\"relationships\":[{}}", "malformed_json", (1, 21)),
        ("{\"relationships\":[{}]", "truncated", (1, 22)),
        ("{\"relationships\":[{", "truncated", (1, 20)),
        ("{\"a\":\"x", "truncated", (1, 8)),
        ("{\"a", "truncated", (1, 4)),
        ("{", "truncated", (1, 2)),
    ] {
        assert_eq!(
            split_anyhow(Layout::Json, text).unwrap_err(),
            (code, Some(place)),
            "{text}"
        );
    }
}

#[test]
fn nothing_is_held_without_bound() {
    let long = "x".repeat(300);
    let deep = "[".repeat(300);
    let blank = " ".repeat(MAX_BLANK_BYTES + 1);
    let lines = "\n".repeat(MAX_BLANK_BYTES + 1);
    for (layout, text, code) in [
        (Layout::Json, format!("{{\"{long}\":1}}"), "malformed_json"),
        (Layout::Json, format!("{{\"a\":\"{long}\"}}"), "too_large"),
        (Layout::Json, format!("{{\"a\":{long}}}"), "too_large"),
        (Layout::Json, format!("{{\"a\":{deep}"), "too_large"),
        (
            Layout::Json,
            format!("{{\"relationships\":[{{\"{long}\"}}"),
            "too_large",
        ),
        (Layout::Json, format!("{{\"relationships\":[{deep}"), "too_large"),
        (Layout::Json, format!("{{{blank}}}"), "malformed_json"),
        (Layout::Json, format!("{{}}{blank}"), "malformed_json"),
        (Layout::Lines, long.clone(), "too_large"),
        (Layout::Lines, lines, "malformed_json"),
    ] {
        for at_once in [1, 7, text.len()] {
            let problem = split(layout, &text, at_once).unwrap_err();
            assert_eq!(problem.code, code, "{problem}");
        }
    }
}
