//! Imports that must change nothing, exports that must not pass for whole, and what a client or the server's end does to both.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use crate::harness::{
    JSON, NDJSON, Server, Stream, Tenant, admin_token, exported, import, relationship, state, until,
};

/// A relationship that fits.
const ONE: &str = r#"{"resource":"document:1","relation":"viewer","subject":"user:a"}"#;

fn ends(server: &Server, stream: &str, reason: &str) -> f64 {
    let series = format!("inferadb_stream_ends_total{{reason=\"{reason}\",stream=\"{stream}\"}}");
    server.metric(&series).unwrap_or(0.0)
}

fn imports(server: &Server, outcome: &str) -> f64 {
    let series = format!("inferadb_imports_total{{mode=\"replace\",outcome=\"{outcome}\"}}");
    server.metric(&series).unwrap_or(0.0)
}

/// The state of a vault and its revision: no import has touched it if they stay.
fn fingerprint(server: &Server, vault: &str) -> (Value, Value, Value) {
    let file = state(server, vault);
    (
        file["checksum"].clone(),
        file["revision"].clone(),
        file["vault"]["limits"].clone(),
    )
}

#[test]
fn what_is_wrong_changes_nothing() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "unharmed");
    tenant.touch(&["document:1#viewer@user:a", "folder:f#viewer@user:*"]);
    let before = fingerprint(&server, &tenant.vault);
    let many: String = (0..3_000)
        .map(|at| format!("{}\n", relationship(&format!("document:{at}#viewer@user:x"))))
        .collect();
    let misfit = ONE.replace("viewer", "nobody");
    let in_json = |list: &str| format!("{{\"relationships\":[\n{list}]}}");
    let schema = "definition user {}\\ndefinition document {\\n  relation viewer: nobody\\n}";
    let deep = "[".repeat(100_000);
    let closed = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let long = "x".repeat(2 << 20);
    let blank = " ".repeat(100_000);
    let cases = [
        (JSON, String::new(), 400, "malformed_json", None, Some((1, 1))),
        (NDJSON, String::new(), 400, "malformed_json", None, Some((1, 1))),
        (JSON, "{}".into(), 400, "missing_field", Some("relationships"), None),
        (JSON, "null".into(), 400, "malformed_json", None, Some((1, 1))),
        (JSON, in_json(ONE).replace(']', ""), 400, "malformed_json", None, None),
        (JSON, in_json(ONE).replace("]}", "]"), 400, "truncated", None, None),
        (JSON, format!("{}x", in_json(ONE)), 400, "malformed_json", None, Some((2, 67))),
        (JSON, in_json(&format!("{ONE},\n{}", ONE.replace("user:a", "user"))), 400, "invalid_value", Some("relationships[1].subject"), Some((3, 1))),
        (JSON, in_json(&format!("{ONE},\n\n {misfit}")), 422, "relationship_does_not_fit_schema", Some("relationships[1].relation"), Some((4, 2))),
        (NDJSON, format!("{many}{misfit}\n{many}"), 422, "relationship_does_not_fit_schema", Some("relationships[3000].relation"), Some((3001, 1))),
        (NDJSON, format!("{many}{{\"resource\":\n"), 400, "malformed_json", None, Some((3001, 12))),
        (NDJSON, format!("{{\"format\":\"inferadb.vault\"}}\n{many}"), 400, "truncated", None, None),
        (NDJSON, format!("{{\"format\":\"inferadb.vault\"}}\n{many}{{\"relationship_count\":2999}}"), 400, "count_mismatch", Some("relationship_count"), None),
        (JSON, format!("{{\"schema\":\"{schema}\",\"relationships\":[]}}"), 422, "schema_invalid", Some("schema"), Some((3, 20))),
        (JSON, "{\"schema\":\"definition user {}\",\"relationships\":[{\"resource\":\"document:1\",\"relation\":\"viewer\",\"subject\":\"user:a\"}]}".into(), 422, "relationship_does_not_fit_schema", None, Some((1, 49))),
        (JSON, "{\"vault\":{\"limits\":{\"max_cheese\":1}},\"relationships\":[]}".into(), 400, "unknown_field", Some("vault.limits.max_cheese"), None),
        (JSON, in_json(&deep), 400, "truncated", None, None),
        (JSON, in_json(&closed), 400, "invalid_value", Some("relationships[0]"), Some((2, 1))),
        (
            JSON,
            in_json(&ONE.replace('}', &format!(",\"caveat\":{{\"name\":\"c\",\"context\":{{\"a\":{closed}}}}}}}"))),
            400,
            "invalid_value",
            Some("relationships[0].caveat.context"),
            Some((2, 1)),
        ),
        (JSON, format!("{{\"vault\":{closed},\"relationships\":[]}}"), 413, "too_large", None, None),
        (JSON, format!("{{\"vault\":{},\"relationships\":[]}}", &closed[30_000..70_000]), 400, "invalid_value", Some("vault"), None),
        (NDJSON, format!("{{\"vault\":{{\"limits\":\"{}\"}}}}\n", &long[..100_000]), 413, "too_large", Some("vault"), None),
        (JSON, "{\"vault\":{\"limits\":{\"max_depth\":0}},\"schema\":\"definition {\"".into(), 400, "invalid_value", Some("vault.limits.max_depth"), None),
        (JSON, format!("{{\"vault\":{{\"limits\":{{\"max_depth\":{closed}}}}},\"relationships\":[]}}"), 400, "malformed_json", None, None),
        (NDJSON, closed.clone(), 400, "invalid_value", None, None),
        (JSON, format!("{{\"vault\":{{\"limits\":{deep}"), 400, "malformed_json", None, None),
        (JSON, format!("{{\"schema\":\"{long}"), 400, "malformed_json", None, None),
        (JSON, format!("{{\"schema\":\"{}\",\"relationships\":[]}}", "x".repeat(1 << 20)), 413, "schema_too_large", Some("schema"), None),
        (JSON, in_json(&ONE.replace("user:a", &format!("user:{long}"))), 413, "too_large", None, None),
        (JSON, in_json(&ONE.replace("user:a", &format!("user:{}", "x".repeat(2000)))), 400, "invalid_value", Some("relationships[0].subject"), None),
        (JSON, in_json(&blank), 400, "malformed_json", None, None),
        (NDJSON, long.repeat(4), 413, "too_large", None, None),
    ];
    for (content_type, body, status, code, field, position) in cases {
        let answer = import(
            &server,
            &tenant.vault,
            "?mode=replace",
            content_type,
            body.as_bytes(),
        );
        let what = &body[..body.len().min(200)];
        if status == 400 && code == "malformed_json" && position.is_none() {
            // Which bound is met first is nobody's concern.
            assert!([400, 413].contains(&answer.status), "{what}: {answer:?}");
        } else {
            let problem = answer.problem(status, code);
            if let Some(field) = field {
                assert_eq!(problem["field"], field, "{what}: {problem}");
            }
            if let Some((line, column)) = position {
                assert_eq!(
                    (&problem["line"], &problem["column"]),
                    (&json!(line), &json!(column)),
                    "{what}: {problem}"
                );
            }
        }
        assert_eq!(fingerprint(&server, &tenant.vault), before, "{what}");
    }
    // Before the body is looked at.
    let body = in_json(ONE);
    let call = |query: &str, content_type: &str| {
        import(&server, &tenant.vault, query, content_type, body.as_bytes())
    };
    assert_eq!(
        call("?mode=overwrite", JSON).problem(400, "invalid_value")["field"],
        "mode"
    );
    call("?mood=merge", JSON).problem(400, "invalid_query");
    for content_type in ["text/csv", "multipart/form-data; boundary=x", "application/xml"] {
        call("", content_type).problem(415, "unsupported_media_type");
    }
    assert_eq!(fingerprint(&server, &tenant.vault), before);
    for content_type in [
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "application/vnd.x+json",
    ] {
        call("", content_type).expect(200);
    }
}

#[test]
fn a_damaged_file_is_refused_and_an_edited_one_is_not() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "damaged");
    tenant.touch(&["document:1#viewer@user:a", "document:2#viewer@user:b"]);
    let before = fingerprint(&server, &tenant.vault);
    for layout in [JSON, NDJSON] {
        let text = exported(&server, &tenant.vault, layout);
        let lines: Vec<&str> = text.lines().collect();
        for (damaged, code) in [
            (text.replace("user:b", "user:c"), "checksum_mismatch"),
            (
                text.replace("relation owner: user", "relation owner: group"),
                "checksum_mismatch",
            ),
            (
                text.replace("\"version\":1", "\"version\":2"),
                "unsupported_version",
            ),
            (text.replace("inferadb.vault", "inferadb.volt"), "unknown_format"),
            (text.replace("count\":2", "count\":3"), "count_mismatch"),
        ] {
            assert_ne!(damaged, text);
            let answer = import(
                &server,
                &tenant.vault,
                "?mode=replace",
                layout,
                damaged.as_bytes(),
            );
            answer.problem(400, code);
            assert_eq!(fingerprint(&server, &tenant.vault), before);
        }
        for kept in 1..lines.len() {
            let cut = lines[..kept].join("\n");
            let answer = import(&server, &tenant.vault, "?mode=replace", layout, cut.as_bytes());
            assert_eq!(answer.status, 400, "{cut}: {answer:?}");
            assert_eq!(fingerprint(&server, &tenant.vault), before);
        }
    }
    let mut file = state(&server, &tenant.vault);
    file["relationships"]
        .as_array_mut()
        .unwrap()
        .push(relationship("document:3#viewer@user:c"));
    for member in ["checksum", "relationship_count"] {
        file.as_object_mut().unwrap().remove(member);
    }
    // As a tool that sorts members would write it, but for the one that has to stand first.
    let rest = file.to_string();
    let text = format!("{{\"relationship_count\":3,{}", &rest[1..]);
    let answer = import(&server, &tenant.vault, "?mode=replace", JSON, text.as_bytes());
    assert_eq!(
        answer.problem(400, "invalid_value")["field"],
        "schema",
        "relationships stand before the schema"
    );
    let schema = file.as_object_mut().unwrap().remove("schema").unwrap();
    let format = file.as_object_mut().unwrap().remove("schema_format").unwrap();
    let text = format!(
        "{{\"schema_format\":{format},\"schema\":{schema},{}",
        &file.to_string()[1..]
    );
    import(&server, &tenant.vault, "?mode=replace", JSON, text.as_bytes()).expect(200);
    assert_eq!(tenant.check("user:c view document:3"), "allow");
}

/// Begins an import of `length` bytes with the first of them.
fn begin(server: &Server, vault: &str, first: &[u8], length: usize) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    socket.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let head = format!(
        "POST /v1/vaults/{vault}/import?mode=replace HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: {NDJSON}\r\nContent-Length: {length}\r\n\r\n",
        admin_token()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(first).unwrap();
    socket
}

fn rest(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn an_import_that_is_cut_off_changes_nothing() {
    let server = Server::with(json!({"watch": {"slow_reader_seconds": 1}}));
    let tenant = Tenant::with_documents(&server, "cut off");
    tenant.touch(&["document:1#viewer@user:a"]);
    let before = fingerprint(&server, &tenant.vault);
    let lines: String = (0..4_000)
        .map(|at| format!("{}\n", relationship(&format!("document:{at}#viewer@user:x"))))
        .collect();
    // The sender goes away, at the end of a line and within one.
    for (round, cut) in [lines.len(), lines.len() - 10, 10].into_iter().enumerate() {
        let socket = begin(
            &server,
            &tenant.vault,
            &lines.as_bytes()[..cut],
            lines.len() + 100,
        );
        // A request that ends before its vault was found is no import.
        until("the import begins", || {
            (server.metric("inferadb_transfers")? > 0.0).then_some(())
        });
        socket.shutdown(Shutdown::Both).unwrap();
        until("the import is abandoned", || {
            (imports(&server, "sender_gone") + imports(&server, "given_up") > round as f64).then_some(())
        });
        assert_eq!(fingerprint(&server, &tenant.vault), before);
    }
    // It sends nothing more.
    let socket = begin(&server, &tenant.vault, lines.as_bytes(), lines.len() + 100);
    let answer = rest(socket);
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"slow_sender\""),
        "{answer}"
    );
    assert_eq!(imports(&server, "slow_sender"), 1.0);
    assert_eq!(fingerprint(&server, &tenant.vault), before);
    // The vault takes the next one.
    import(&server, &tenant.vault, "?mode=replace", NDJSON, lines.as_bytes()).expect(200);
    assert_eq!(state(&server, &tenant.vault)["relationship_count"], 4_000);
}

#[test]
fn an_import_into_a_vault_that_goes_finds_no_vault() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let tenant = Tenant::with_documents(&server, "goes");
    let lines: String = (0..4_000)
        .map(|at| format!("{}\n", relationship(&format!("document:{at}#viewer@user:x"))))
        .collect();
    let mut socket = begin(&server, &tenant.vault, lines.as_bytes(), 2 * lines.len());
    until("the import begins", || {
        (server.metric("inferadb_transfers")? > 0.0).then_some(())
    });
    server
        .admin("DELETE", &format!("/v1/vaults/{}", tenant.vault), None)
        .expect(204);
    let _ = socket.write_all(lines.as_bytes());
    let answer = rest(socket);
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.contains("\"not_found\""),
        "{answer}"
    );
}

#[test]
fn what_an_import_has_done_is_counted_though_its_sender_has_left() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let tenant = Tenant::with_documents(&server, "left");
    tenant.touch(&["document:0#viewer@user:x"]);
    let mut last = state(&server, &tenant.vault)["revision"].clone();
    let mut shown = 0;
    for round in 0..30 {
        let lines: String = (0..2_000)
            .map(|at| {
                format!(
                    "{}\n",
                    relationship(&format!("document:{at}#viewer@user:x{round}"))
                )
            })
            .collect();
        let socket = begin(&server, &tenant.vault, lines.as_bytes(), lines.len());
        // All of it was sent; how much of it is taken in by now, or done, is left to chance.
        socket.shutdown(Shutdown::Write).unwrap();
        rest(socket);
        until("the import is over", || {
            (server.metric("inferadb_transfers") == Some(0.0)).then_some(())
        });
        let now = state(&server, &tenant.vault)["revision"].clone();
        if now != last {
            (last, shown) = (now, shown + 1);
        }
        assert_eq!(imports(&server, "complete"), f64::from(shown), "round {round}");
    }
    until("each is logged", || {
        let log = server.log();
        let imported = log.iter().filter(|line| line["message"] == "vault imported");
        (imported.count() == shown as usize).then_some(())
    });
}

#[test]
fn a_server_that_stops_abandons_imports() {
    let server = Server::with(json!({}));
    let tenant = Tenant::with_documents(&server, "stopped");
    tenant.touch(&["document:1#viewer@user:a"]);
    let (vault, before) = (tenant.vault.clone(), fingerprint(&server, &tenant.vault));
    let lines: String = (0..4_000)
        .map(|at| format!("{}\n", relationship(&format!("document:{at}#viewer@user:x"))))
        .collect();
    let socket = begin(&server, &vault, lines.as_bytes(), lines.len() + 100);
    let waiting = std::thread::spawn(move || rest(socket));
    let mut server = {
        // Whether it had come far by then does not matter.
        server.terminate();
        server
    };
    assert_eq!(server.ended().code(), Some(0));
    let answer = waiting.join().unwrap();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 503 "),
        "{answer}"
    );
    let server = Server::over(std::sync::Arc::clone(&server.directory), json!({}));
    assert_eq!(fingerprint(&server, &vault), before);
}

#[test]
fn an_export_that_is_not_taken_is_broken_off() {
    let server = Server::with(json!({"storage": {"backend": "memory"}, "watch": {"slow_reader_seconds": 1}}));
    let tenant = Tenant::with_documents(&server, "not taken");
    let long = "x".repeat(500);
    let lines: String = (0..20_000)
        .map(|at| {
            format!(
                "{}\n",
                relationship(&format!("document:{at:06}#viewer@user:{long}"))
            )
        })
        .collect();
    import(&server, &tenant.vault, "", NDJSON, lines.as_bytes()).expect(200);
    let token = admin_token();
    let path = format!("/v1/vaults/{}/export", tenant.vault);
    let target = Tenant::new(&server, "target");
    for (round, layout) in [JSON, NDJSON].into_iter().enumerate() {
        let stream = Stream::open_narrow(&server, &token, "GET", &path, &[("Accept", layout)], "");
        assert_eq!(stream.status, 200);
        until("the reader is cut off", || {
            (ends(&server, "export", "slow_reader") > round as f64).then_some(())
        });
        let (text, outcome) = stream.rest();
        assert!(outcome.is_err(), "the end of the answer is missing");
        assert!(!text.is_empty());
        let answer = import(&server, &target.vault, "?mode=replace", layout, text.as_bytes());
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    // One who goes away is only counted.
    let stream = Stream::open_narrow(&server, &token, "GET", &path, &[], "");
    stream.close();
    until("the reader is gone", || {
        (ends(&server, "export", "reader_gone") > 0.0).then_some(())
    });
    // A vault that goes takes its exports with it, or they end whole.
    let stream = Stream::open_narrow(&server, &token, "GET", &path, &[("Accept", JSON)], "");
    server
        .admin("DELETE", &format!("/v1/vaults/{}", tenant.vault), None)
        .expect(204);
    let (text, outcome) = stream.rest();
    let is_whole = serde_json::from_str::<Value>(&text).is_ok();
    assert_eq!(outcome.is_ok(), is_whole, "{outcome:?}");
}

#[test]
fn one_account_does_not_take_every_place() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let tenant = Tenant::with_documents(&server, "greedy");
    let other = Tenant::with_documents(&server, "modest");
    let line = format!("{ONE}\n");
    let mut held = Vec::new();
    let body = format!("{{\"relationships\":[{ONE}]}}");
    // Each import under way waits for the rest of its body.
    let vaults: Vec<Tenant<&Server>> = (0..4)
        .map(|at| {
            let vault = Tenant::in_account(&server, tenant.account.clone(), &format!("vault {at}"));
            vault.put_schema(crate::harness::DOCUMENTS);
            vault
        })
        .collect();
    for vault in &vaults {
        held.push(begin(&server, &vault.vault, line.as_bytes(), line.len() + 100));
    }
    let under_way = || server.metric("inferadb_transfers");
    until("the places are taken", || {
        (under_way() == Some(4.0)).then_some(())
    });
    let refused = import(&server, &tenant.vault, "", JSON, body.as_bytes());
    let problem = refused.problem(429, "rate_limited");
    assert_eq!(problem["limit"], "max_account_transfers");
    assert!(refused.header("retry-after").is_some());
    import(&server, &other.vault, "", JSON, body.as_bytes()).expect(200);
    drop(held);
    until("the places are free", || (under_way() == Some(0.0)).then_some(()));
    import(&server, &tenant.vault, "", JSON, body.as_bytes()).expect(200);
}
