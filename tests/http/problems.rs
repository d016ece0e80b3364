//! Every class of error: its status, its code, the member or the place at fault, and what goes with it.

use serde_json::{Value, json};

use crate::harness::{Server, Tenant, exchange, relationship, until};

#[test]
fn malformed_bodies_are_400_at_a_place() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "malformed");
    let check = |field: &str, value: Value| {
        let mut body = json!({"subject": "user:a", "resource": "document:d", "permission": "view"});
        body[field] = value;
        body
    };
    let touch = |field: &str, value: Value| {
        let mut body = relationship("document:d#viewer@user:a");
        body[field] = value;
        json!({ "touch": [relationship("document:d#owner@user:a"), body] })
    };
    let batch = json!({"checks": [{"subject": "user:a", "resource": "document:d", "permission": "view", "trace": true}]});
    let long = format!("user:{}", "x".repeat(1025));
    for (path, body, code, field) in [
        ("check", check("why", json!(1)), "unknown_field", "why"),
        ("check", check("subject", json!(7)), "invalid_value", "subject"),
        (
            "check",
            check("subject", json!("alice")),
            "invalid_value",
            "subject",
        ),
        (
            "check",
            check("subject", json!("user:")),
            "invalid_value",
            "subject",
        ),
        (
            "check",
            check("subject", json!("user:a b")),
            "invalid_value",
            "subject",
        ),
        (
            "check",
            check("subject", json!("user:a\u{0}")),
            "invalid_value",
            "subject",
        ),
        (
            "check",
            check("subject", json!("user:*#x")),
            "invalid_value",
            "subject",
        ),
        ("check", check("subject", json!(long)), "invalid_value", "subject"),
        ("check", check("subject", json!(":a")), "invalid_value", "subject"),
        (
            "check",
            check("resource", json!("document:*")),
            "invalid_value",
            "resource",
        ),
        (
            "check",
            check("resource", json!("document:a#b")),
            "invalid_value",
            "resource",
        ),
        (
            "check",
            check("permission", json!("")),
            "invalid_value",
            "permission",
        ),
        (
            "check",
            check("permission", json!("0view")),
            "invalid_value",
            "permission",
        ),
        (
            "check",
            check("permission", json!("x".repeat(129))),
            "invalid_value",
            "permission",
        ),
        ("check", check("context", json!([1])), "invalid_value", "context"),
        (
            "check",
            check("context", json!({"x": "y".repeat(5000)})),
            "context_too_large",
            "context",
        ),
        (
            "check",
            check("consistency", json!("eventually")),
            "invalid_value",
            "consistency",
        ),
        (
            "check",
            check("consistency", json!({"at_least_as_fresh": "nonsense"})),
            "invalid_revision",
            "consistency.at_least_as_fresh",
        ),
        ("check", check("trace", json!("yes")), "invalid_value", "trace"),
        (
            "check",
            check("consistency", json!({})),
            "invalid_value",
            "consistency",
        ),
        (
            "check",
            check(
                "consistency",
                json!({"at_least_as_fresh": "x", "fully_consistent": null}),
            ),
            "invalid_value",
            "consistency",
        ),
        (
            "check",
            json!({"subject": "user:a", "resource": "document:d"}),
            "missing_field",
            "permission",
        ),
        (
            "check",
            check("subject", json!("person:a")),
            "unknown_type",
            "subject",
        ),
        (
            "check",
            check("resource", json!("folders:a")),
            "unknown_type",
            "resource",
        ),
        (
            "check",
            check("permission", json!("fly")),
            "unknown_permission",
            "permission",
        ),
        ("check/batch", batch, "unknown_field", "checks[0].trace"),
        ("check/batch", json!({}), "missing_field", "checks"),
        ("relationships/write", json!({}), "empty_write", "touch"),
        (
            "relationships/write",
            json!({"touches": []}),
            "unknown_field",
            "touches",
        ),
        (
            "relationships/write",
            touch("expires", json!("x")),
            "unknown_field",
            "touch[1].expires",
        ),
        (
            "relationships/write",
            touch("resource", json!("document")),
            "invalid_value",
            "touch[1].resource",
        ),
        (
            "relationships/write",
            touch("relation", json!("a b")),
            "invalid_value",
            "touch[1].relation",
        ),
        (
            "relationships/write",
            touch("subject", json!("user:#x")),
            "invalid_value",
            "touch[1].subject",
        ),
        (
            "relationships/write",
            touch("expires_at", json!("tomorrow")),
            "invalid_value",
            "touch[1].expires_at",
        ),
        (
            "relationships/write",
            touch("caveat", json!({"name": "a b"})),
            "invalid_value",
            "touch[1].caveat.name",
        ),
        (
            "relationships/write",
            json!({"preconditions": [{"must_exist": {}}], "delete": [relationship("document:d#viewer@user:a")]}),
            "empty_filter",
            "preconditions[0].must_exist",
        ),
        (
            "relationships/delete",
            json!({"filter": {}}),
            "empty_filter",
            "filter",
        ),
        ("relationships/delete", json!({}), "missing_field", "filter"),
        (
            "relationships/delete",
            json!({"filter": {"resource_type": "document"}, "limit": 0}),
            "invalid_value",
            "limit",
        ),
        (
            "relationships/read",
            json!({"filter": {"type": "document"}}),
            "unknown_field",
            "filter.type",
        ),
        (
            "relationships/read",
            json!({"filter": {"resource_id": "a", "resource_id_prefix": "b"}}),
            "invalid_value",
            "filter.resource_id_prefix",
        ),
        (
            "relationships/read",
            json!({"limit": 0}),
            "invalid_value",
            "limit",
        ),
        (
            "relationships/read",
            json!({"limit": 1001}),
            "invalid_value",
            "limit",
        ),
        (
            "relationships/read",
            json!({"cursor": "nonsense"}),
            "invalid_cursor",
            "cursor",
        ),
    ] {
        let answer = tenant.post(&format!("/v1/{path}"), body.clone());
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        let problem = answer.problem(400, code);
        assert_eq!(problem["field"], field, "{body}: {answer:?}");
    }
    for (body, line, column) in [
        (
            &b"{\"subject\": \"user:a\",\n  \"resource\" \"document:d\"}"[..],
            2,
            14,
        ),
        (b"", 1, 0),
        (b"{", 1, 1),
        (b"\xff\xfe", 1, 1),
        (b"{\"subject\":\"user:\xff\"}", 1, 18),
        (
            b"{\"subject\":\"user:a\",\"resource\":\"document:d\",\"permission\":\"view\"} x",
            1,
            66,
        ),
    ] {
        let answer = tenant.post_raw("/v1/check", body);
        let problem = answer.problem(400, "malformed_json");
        assert_eq!(
            (&problem["line"], &problem["column"]),
            (&json!(line), &json!(column)),
            "{answer:?}"
        );
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let context = format!(
        r#"{{"subject":"user:a","resource":"document:d","permission":"view","context":{{"x":{deep}}}}}"#
    );
    for body in [deep.as_bytes(), context.as_bytes()] {
        let answer = tenant.post_raw("/v1/check", body);
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    // Whoever names a member twice must not have one of them picked.
    let twice = br#"{"subject":"user:a","subject":"user:b","resource":"document:d","permission":"view"}"#;
    assert_eq!(tenant.post_raw("/v1/check", twice).status, 400);
}

#[test]
fn no_token_and_bad_tokens_are_401_with_a_challenge() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "401");
    let body = json!({});
    for path in [
        "/v1/check",
        "/v1/check/batch",
        "/v1/relationships/read",
        "/v1/relationships/write",
        "/v1/accounts",
    ] {
        let answer = server.request("POST", path).json(&body).send();
        answer.problem(401, "missing_token");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{answer:?}");
        let answer = server.request("POST", path).bearer("nonsense").json(&body).send();
        answer.problem(401, "invalid_token");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer error=\"invalid_token\""),
            "{answer:?}"
        );
        assert!(!answer.text().contains("nonsense"), "{answer:?}");
    }
    let basic = server
        .request("GET", "/v1/schema")
        .header("Authorization", "Basic dXNlcjpwYXNz")
        .send();
    basic.problem(401, "missing_token");
    let token = tenant.token("inferadb.read");
    let twice = server
        .request("GET", "/v1/schema")
        .bearer(&token)
        .bearer(&token)
        .send();
    twice.problem(401, "invalid_token");
    // The scheme's name is in any case (RFC 9110, 11.1).
    let lower = server
        .request("GET", "/v1/schema")
        .header("Authorization", &format!("bearer {token}"))
        .send();
    lower.problem(404, "no_schema");
}

#[test]
fn no_way_into_a_vault_looks_like_another() {
    let server = Server::shared();
    let (mine, other) = (
        Tenant::with_documents(&*server, "door"),
        Tenant::with_documents(&*server, "other door"),
    );
    let (archived, deleted) = (
        Tenant::new(&*server, "archived"),
        Tenant::new(&*server, "deleted"),
    );
    let path = |tenant: &Tenant<&Server>| format!("/v1/vaults/{}", tenant.vault);
    server
        .admin("PATCH", &path(&archived), Some(json!({"archived": true})))
        .expect(200);
    assert_eq!(server.admin("DELETE", &path(&deleted), None).status, 204);
    let unknown = "0190a5c2-7f6e-7c31-9f5e-3b2a1d4c5e6f";
    let doors = [
        ("unknown vault", json!(mine.account), json!(unknown)),
        ("unknown account", json!(unknown), json!(mine.vault)),
        ("foreign vault", json!(mine.account), json!(other.vault)),
        ("foreign account", json!(other.account), json!(mine.vault)),
        ("archived", json!(archived.account), json!(archived.vault)),
        ("deleted", json!(deleted.account), json!(deleted.vault)),
        ("no vault", json!(mine.account), Value::Null),
        ("no account", Value::Null, json!(mine.vault)),
        ("neither", Value::Null, Value::Null),
    ];
    let check = json!({"subject": "user:a", "resource": "document:d", "permission": "view"});
    for (path, body) in [("/v1/check", check), ("/v1/relationships/read", json!({}))] {
        let mut seen: Vec<(String, Value)> = Vec::new();
        for (door, account, vault) in &doors {
            let more = json!({"scope": crate::harness::ALL_SCOPES, "account": account, "vault": vault});
            let token = crate::harness::Keys::shared()
                .ed
                .sign(&crate::harness::claims(more));
            let answer = server.request("POST", path).bearer(&token).json(&body).send();
            let mut problem = answer.problem(403, "vault_access_denied");
            assert!(
                problem["detail"]
                    .as_str()
                    .unwrap()
                    .contains("Vault access denied"),
                "{door}: {answer:?}"
            );
            problem.as_object_mut().unwrap().remove("request_id");
            seen.push(((*door).to_owned(), problem));
        }
        // What a token lacks its owner may be told; what is behind the door may not.
        let (with_claims, without) = seen.split_at(6);
        for group in [with_claims, without] {
            for (door, problem) in &group[1..] {
                assert_eq!(problem, &group[0].1, "{door} can be told from {}", group[0].0);
            }
        }
    }
}

#[test]
fn paths_and_methods_that_are_none() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "paths");
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/check",
        "/v1/check/",
        "/v1/checks",
        "/v1/vaults",
        "/v1//check",
        "/v1/%2e%2e/check",
        "/metrics",
    ] {
        let answer = server
            .request("GET", path)
            .bearer(&tenant.token("inferadb.read"))
            .send();
        answer.problem(404, "not_found");
    }
    for (method, path, allowed) in [
        ("GET", "/v1/check", "POST"),
        ("DELETE", "/v1/check/batch", "POST"),
        ("POST", "/v1/schema", "GET, PUT"),
        ("GET", "/v1/relationships/write", "POST"),
        ("PUT", "/v1/accounts", "GET, POST"),
        (
            "POST",
            "/v1/vaults/0190a5c2-7f6e-7c31-9f5e-3b2a1d4c5e6f",
            "DELETE, GET, PATCH",
        ),
        ("POST", "/livez", "GET"),
        ("BREW", "/v1/check", "POST"),
    ] {
        let answer = server
            .request(method, path)
            .bearer(&tenant.token("inferadb.read"))
            .send();
        answer.problem(405, "method_not_allowed");
        let mut allow: Vec<&str> = answer.header("allow").unwrap_or_default().split(", ").collect();
        allow.retain(|method| *method != "HEAD");
        allow.sort_unstable();
        assert_eq!(allow.join(", "), allowed, "{answer:?}");
    }
}

#[test]
fn bodies_that_are_too_large_are_413() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "413");
    let token = tenant.token(crate::harness::ALL_SCOPES);
    for path in ["/v1/check", "/v1/relationships/write", "/v1/schema/validate"] {
        // The announcement is enough: nothing of the body need be sent.
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: 5000000\r\n\r\n"
        );
        exchange(server.port, head.as_bytes()).problem(413, "body_too_large");
        // Unannounced, in chunks.
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        .into_bytes();
        for _ in 0..6 {
            bytes.extend(format!("{:x}\r\n", 1 << 20).into_bytes());
            bytes.extend(vec![b' '; 1 << 20]);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        exchange(server.port, &bytes).problem(413, "body_too_large");
    }
    let schema = format!("definition user {{}}\n//{}", "x".repeat(1 << 20));
    tenant
        .put_schema_as("/v1/schema", "text/plain", &schema)
        .problem(413, "schema_too_large");
    // One byte below the bound is read.
    let mut body = br#"{"subject":"user:a","resource":"document:d","permission":"view"}"#.to_vec();
    body.resize(4 << 20, b' ');
    tenant.post_raw("/v1/check", &body).problem(400, "unknown_type");
}

#[test]
fn over_a_limit_is_429_with_a_time_to_wait() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "429");
    let quiet = Tenant::with_documents(&*server, "not 429");
    let path = format!("/v1/vaults/{}", tenant.vault);
    let patch = |limits: Value| {
        server
            .admin("PATCH", &path, Some(json!({ "limits": limits })))
            .expect(200)
    };
    patch(json!({"checks_per_second": 1, "writes_per_second": 1}));
    let item = json!({"subject": "user:a", "resource": "document:d", "permission": "view"});
    let batch = json!({ "checks": vec![item.clone(); 1000] });
    let mut refused = None;
    for _ in 0..3 {
        let answer = tenant.post("/v1/check/batch", batch.clone());
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("3,000 checks at 1 a second");
    let problem = refused.problem(429, "rate_limited");
    assert!(
        problem["detail"].as_str().unwrap().contains("checks_per_second"),
        "{refused:?}"
    );
    assert!(
        refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1,
        "{refused:?}"
    );
    tenant
        .post("/v1/check", item.clone())
        .problem(429, "rate_limited");
    // Another vault does not notice, nor do writes.
    quiet.post("/v1/check", item.clone()).expect(200);
    let touched: Vec<Value> = (0..1000)
        .map(|at| relationship(&format!("document:d{at}#viewer@user:a")))
        .collect();
    tenant.write(json!({ "touch": touched })).expect(200);
    let refused = tenant.write(json!({"touch": [relationship("document:e#viewer@user:a")]}));
    refused.problem(429, "rate_limited");
    assert!(refused.header("retry-after").is_some());
    assert!(
        tenant.read(json!({"resource_id": "e"})).is_empty(),
        "what was refused was not written"
    );
    // Taken back, they no longer hold.
    patch(json!({"checks_per_second": null, "writes_per_second": null}));
    tenant.post("/v1/check", item).expect(200);
    tenant.touch(&["document:e#viewer@user:a"]);
}

#[test]
fn a_deadline_that_passes_is_504_and_no_decision() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "504");
    let chain: Vec<Value> = (0..90)
        .map(|at| relationship(&format!("folder:{at}#parent@folder:{}", at + 1)))
        .collect();
    tenant.change(json!({ "touch": chain }));
    let checks: Vec<Value> = (0..1000)
        .map(|at| json!({"subject": format!("user:{at}"), "resource": "folder:0", "permission": "view"}))
        .collect();
    let body = json!({ "checks": checks });
    let ask = |timeout: &str| {
        server
            .request("POST", "/v1/check/batch")
            .bearer(&tenant.token("inferadb.check"))
            .header("X-Request-Timeout-Ms", timeout)
            .json(&body)
            .send()
    };
    ask("1").problem(504, "deadline_exceeded");
    for bad in ["0", "-1", "1.5", "soon", ""] {
        let problem = ask(bad).problem(400, "invalid_value");
        assert_eq!(problem["field"], "X-Request-Timeout-Ms");
    }
    assert_eq!(
        ask("30000").expect(200)["results"].as_array().unwrap().len(),
        1000
    );
    // More than the most there is is cut to it, not refused.
    ask("18446744073709551615").expect(200);
}

#[test]
fn request_ids_are_echoed_made_up_and_in_the_log() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "ids");
    let body = json!({"subject": "user:a", "resource": "document:d", "permission": "view"});
    let ask = |id: Option<&str>| {
        let request = server
            .request("POST", "/v1/check")
            .bearer(&tenant.token("inferadb.check"));
        match id {
            Some(id) => request.header("X-Request-Id", id).json(&body).send(),
            None => request.json(&body).send(),
        }
    };
    let answer = ask(Some("my-request:1/2"));
    answer.expect(200);
    assert_eq!(answer.header("x-request-id"), Some("my-request:1/2"));
    let made_up = ask(None).header("x-request-id").unwrap().to_owned();
    assert_ne!(ask(None).header("x-request-id"), Some(made_up.as_str()));
    // One that would spoil a log line, or is too long, is not taken over.
    for unsound in ["a b", "a\tb", "ü", &"x".repeat(129), ""] {
        let answer = ask(Some(unsound));
        answer.expect(200);
        let echoed = answer.header("x-request-id").unwrap();
        assert!(echoed != unsound && !echoed.is_empty(), "{answer:?}");
    }
    for id in ["my-request:1/2", &made_up] {
        server.logged("the check's line", |line| {
            line["request_id"] == id && line["message"] == "Permission check"
        });
    }
    // Errors that no handler ever saw have one too.
    for (method, path) in [("GET", "/nowhere"), ("GET", "/v1/check")] {
        let answer = server
            .request(method, path)
            .header("X-Request-Id", "lost-1")
            .send();
        assert_eq!(answer.json()["request_id"], "lost-1", "{answer:?}");
    }
    // What is logged on behalf of a request names it.
    let name = json!({"name": "with an id"});
    let made = server
        .request("POST", "/v1/accounts")
        .bearer(
            &crate::harness::Keys::shared()
                .ed
                .sign(&crate::harness::claims(json!({"scope": "inferadb.admin"}))),
        )
        .header("X-Request-Id", "account-1")
        .json(&name)
        .send()
        .expect(201);
    let line = server.logged("the account's line", |line| {
        line["account"] == made["id"] && line["message"] == "account created"
    });
    assert_eq!(line["request_id"], "account-1", "{line}");
}

#[test]
fn requests_that_are_no_http_hurt_nobody() {
    let server = Server::shared();
    let token = Tenant::new(&*server, "raw").token("inferadb.read");
    let long = "x".repeat(200_000);
    for raw in [
        "\r\n\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"),
        format!(
            "POST /v1/check HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nContent-Length: -5\r\n\r\n"
        ),
        format!(
            "POST /v1/check HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!(
            "POST /v1/check HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        ),
    ] {
        // An answer is not owed; a 5xx, or a server that is gone, would be a failure.
        if let Some(status) = raw_status(server.port, raw.as_bytes()) {
            assert!(
                (400..500).contains(&status) || status == 200,
                "{status}: {:?}",
                &raw[..raw.len().min(80)]
            );
        }
    }
    assert_eq!(server.request("GET", "/livez").send().status, 200);
    // A body that ends before its announced length is no request.
    let head = format!(
        "POST /v1/check HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nContent-Length: 500\r\n\r\n{{"
    );
    let _ = raw_status(server.port, head.as_bytes());
    until("the server answers", || {
        (server.request("GET", "/readyz").send().status == 200).then_some(())
    });
}

/// The status of what comes back, if anything does.
fn raw_status(port: u16, bytes: &[u8]) -> Option<u16> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

#[test]
fn too_much_at_once_is_refused_and_never_half_done() {
    let server = Server::with(json!({
        "vaults": {"max_concurrent_requests": 2, "mailbox_capacity": 1},
        "server": {"worker_threads": 4},
        "storage": {"backend": "memory"},
    }));
    let tenant = Tenant::with_documents(&server, "overload");
    let written: Vec<String> = std::thread::scope(|scope| {
        let tenant = &tenant;
        let threads: Vec<_> = (0..8)
            .map(|writer| {
                scope.spawn(move || {
                    let mut written = Vec::new();
                    for round in 0..15 {
                        let texts: Vec<String> = (0..100)
                            .map(|at| format!("document:w{writer}-{round:02}-{at:02}#viewer@user:u"))
                            .collect();
                        let touched: Vec<Value> = texts.iter().map(|text| relationship(text)).collect();
                        let answer = tenant.write(json!({ "touch": touched }));
                        match answer.status {
                            200 => written.extend(texts),
                            429 | 503 => assert!(answer.header("retry-after").is_some(), "{answer:?}"),
                            _ => panic!("{answer:?}"),
                        }
                    }
                    written
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        !written.is_empty() && written.len() < 12_000,
        "{} of 12,000: nothing was refused",
        written.len()
    );
    let mut expected = written;
    expected.sort();
    assert_eq!(tenant.read(json!({})), expected);
}

#[test]
fn members_are_named_and_what_is_wrong_with_them_is_told_in_words_of_json() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "lists for objects");
    tenant.touch(&["document:d#viewer@user:a"]);
    let key = "document:e#viewer@user:a";
    // A list of the members' values, in whatever order, is no object: not as the body, and nowhere within it.
    for (path, body, field) in [
        (
            "check",
            json!(["user:a", "document:d", "view", {}, [], "minimize_latency", false]),
            Value::Null,
        ),
        (
            "check/batch",
            json!({"checks": [["user:a", "document:d", "view"]]}),
            json!("checks[0]"),
        ),
        (
            "relationships/write",
            json!({"touch": [relationship(key), ["document:e", "viewer", "user:b", null, null]]}),
            json!("touch[1]"),
        ),
        (
            "relationships/write",
            json!({"touch": [relationship(key)], "preconditions": [{"must_exist": ["document"]}]}),
            json!("preconditions[0].must_exist"),
        ),
        (
            "relationships/write",
            json!({"touch": [relationship(key)], "preconditions": [{}]}),
            json!("preconditions[0]"),
        ),
        (
            "relationships/write",
            json!({"touch": [relationship(key)],
                "preconditions": [{"must_exist": {"relation": "viewer"}, "must_not_exist": {"relation": "owner"}}]}),
            json!("preconditions[0]"),
        ),
        (
            "relationships/read",
            json!({"filter": ["document"]}),
            json!("filter"),
        ),
        ("relationships/read", json!({"filter": 5}), json!("filter")),
        ("relationships/read", json!({"limit": -1}), json!("limit")),
        ("simulate", json!([[], [], null, null, []]), Value::Null),
        ("expand", json!(["document:d", "view"]), Value::Null),
        ("resources/list", json!("user:a"), Value::Null),
        (
            "check",
            json!({"subject": "user:a", "resource": "document:d", "permission": "view", "consistency": {"since": "x"}}),
            json!("consistency"),
        ),
    ] {
        let answer = tenant.post(&format!("/v1/{path}"), body.clone());
        let problem = answer.problem(400, "invalid_value");
        assert_eq!(
            problem.get("field").unwrap_or(&Value::Null),
            &field,
            "{body}: {answer:?}"
        );
        let detail = problem["detail"].as_str().unwrap();
        for word in ["struct", "usize", "Body", "sequence", "variant"] {
            assert!(!detail.contains(word), "{body}: {detail}");
        }
    }
    assert_eq!(tenant.read(json!({})).len(), 1);
    // What need not be there may be `null`.
    let question = json!({
        "subject": "user:a", "resource": "document:d", "permission": "view", "context": null, "trace": null,
        "contextual_relationships": null, "consistency": null,
    });
    assert_eq!(
        tenant.post("/v1/check", question).expect(200)["decision"],
        "allow"
    );
    let write = json!({"touch": null, "create": [relationship(key)], "delete": null, "preconditions": null});
    tenant.post("/v1/relationships/write", write).expect(200);
    let list = json!({
        "subject": "user:a", "permission": "view", "resource_type": "document", "context": null, "limit": null, "cursor": null,
        "contextual_relationships": null, "consistency": null,
    });
    let listed = tenant.post("/v1/resources/list", list).expect(200);
    assert_eq!(listed["resources"].as_array().unwrap().len(), 2);
}
