//! Relationships that come with a request and count for it alone: in checks, batches, explanations and expansions.

use serde_json::{Value, json};

use crate::harness::{Server, Tenant, question_body, relationship};

const OFFICE: &str = "use expiration

caveat office(ip ipaddress) {
    ip.in_cidr(\"10.0.0.0/8\")
}

definition user {}

definition group {
    relation member: user | group#member
}

definition document {
    relation viewer: user | user:* | group#member | user with office | user with expiration
    relation banned: user | user:*
    permission view = viewer - banned
}
";

fn office<'s>(server: &'s Server, name: &str) -> Tenant<&'s Server> {
    let tenant = Tenant::new(server, name);
    tenant.put_schema(OFFICE);
    tenant
}

fn relationships(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| relationship(text)).collect()
}

/// A check with relationships of its own.
fn with(question: &str, contextual: &[Value]) -> Value {
    let mut body = question_body(question);
    body["contextual_relationships"] = json!(contextual);
    body
}

#[test]
fn they_count_for_one_check_and_no_other() {
    let server = Server::shared();
    let tenant = office(&server, "contextual");
    tenant.touch(&[
        "document:d#viewer@group:eng#member",
        "document:d#viewer@user:bob",
        "document:e#banned@user:bob",
    ]);
    let in_office = json!({"resource": "document:d", "relation": "viewer", "subject": "user:zoe",
        "caveat": {"name": "office"}});
    let until = |time: &str| json!({"resource": "document:d", "relation": "viewer", "subject": "user:zoe", "expires_at": time});
    let bob_in_office = json!({"resource": "document:d", "relation": "viewer", "subject": "user:bob",
        "caveat": {"name": "office", "context": {"ip": "192.168.0.1"}}});
    let one = |text: &str| relationships(&[text]);
    let cases: Vec<(&str, Vec<Value>, &str)> = vec![
        ("user:zoe view document:d", vec![], "deny"),
        (
            "user:zoe view document:d",
            one("document:d#viewer@user:zoe"),
            "allow",
        ),
        (
            "user:zoe view document:d",
            one("group:eng#member@user:zoe"),
            "allow",
        ),
        (
            "user:zoe view document:d",
            one("document:e#viewer@user:zoe"),
            "deny",
        ),
        (
            "user:zoe view document:d",
            one("document:d#viewer@user:*"),
            "allow",
        ),
        (
            "user:zoe view document:d",
            relationships(&["group:eng#member@group:x#member", "group:x#member@user:zoe"]),
            "allow",
        ),
        (
            "user:zoe view document:d",
            relationships(&["document:d#viewer@user:zoe", "document:d#banned@user:*"]),
            "deny",
        ),
        ("user:bob view document:d", vec![], "allow"),
        (
            "user:bob view document:d",
            one("document:d#banned@user:bob"),
            "deny",
        ),
        // One of the request's takes the place of the stored one of the same key.
        ("user:bob view document:d", vec![bob_in_office], "deny"),
        (
            "user:bob view document:e",
            one("document:e#viewer@user:bob"),
            "deny",
        ),
        ("user:zoe view document:d", vec![in_office], "conditional"),
        (
            "user:zoe view document:d",
            vec![until("2099-01-01T00:00:00Z")],
            "allow",
        ),
        (
            "user:zoe view document:d",
            vec![until("2001-01-01T00:00:00Z")],
            "deny",
        ),
    ];
    // Again and again: neither the rows in memory nor the remembered decisions take anything in.
    for round in 0..3 {
        for (question, contextual, decision) in &cases {
            let answer = tenant.post("/v1/check", with(question, contextual)).expect(200);
            assert_eq!(
                answer["decision"], *decision,
                "round {round}: {question} {contextual:?}"
            );
            let mut explained = with(question, contextual);
            explained["trace"] = json!(true);
            let answer = tenant.post("/v1/check", explained).expect(200);
            assert_eq!(
                answer["decision"], *decision,
                "explained: {question} {contextual:?}"
            );
            assert_eq!(answer["trace"]["root"]["outcome"], *decision, "{answer}");
        }
        assert_eq!(tenant.check("user:zoe view document:d"), "deny");
        assert_eq!(tenant.check("user:bob view document:d"), "allow");
    }
    assert_eq!(tenant.read(json!({})).len(), 3, "nothing was stored");
    let server = Server::with(json!({"vaults": {"memory_budget_bytes": 1_048_576}}));
    let small = office(&server, "contextual, little memory");
    let pad = "x".repeat(150);
    let many: Vec<String> = (0..8_000)
        .map(|at| format!("document:d#viewer@user:u{at}{}", pad))
        .collect();
    for chunk in many.chunks(1_000) {
        small.touch(&chunk.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for _ in 0..2 {
        for (contextual, decision) in [
            (relationships(&["document:d#viewer@user:zoe"]), "allow"),
            (
                relationships(&["document:d#viewer@group:g#member", "group:g#member@user:zoe"]),
                "allow",
            ),
            (relationships(&["document:d#banned@user:zoe"]), "deny"),
        ] {
            let answer = small
                .post("/v1/check", with("user:zoe view document:d", &contextual))
                .expect(200);
            assert_eq!(answer["decision"], decision, "{contextual:?}");
            assert_eq!(small.check(&format!("user:u7{pad} view document:d")), "allow");
        }
    }
}

#[test]
fn they_are_held_to_what_a_write_is() {
    let server = Server::shared();
    let tenant = office(&server, "contextual, refused");
    let question = "user:zoe view document:d";
    let good = relationship("document:d#viewer@user:zoe");
    let refuse = |bad: Value, status: u16, code: &str, field: &str| {
        for (path, body) in [
            ("/v1/check", with(question, &[good.clone(), bad.clone()])),
            (
                "/v1/check/batch",
                json!({"checks": [question_body(question)], "contextual_relationships": [good, bad]}),
            ),
            (
                "/v1/expand",
                json!({"resource": "document:d", "permission": "view", "contextual_relationships": [good, bad]}),
            ),
        ] {
            let problem = tenant.post(path, body).problem(status, code);
            assert_eq!(
                problem["field"],
                format!("contextual_relationships[1]{field}"),
                "{path} {problem}"
            );
        }
        let body = json!({"checks": [question_body(question), with(question, &[good.clone(), bad.clone()])]});
        let answer = tenant.post("/v1/check/batch", body).expect(200);
        assert_eq!(answer["results"][0], json!({"decision": "deny"}));
        let error = &answer["results"][1]["error"];
        assert_eq!(
            (&error["code"], &error["status"]),
            (&json!(code), &json!(status)),
            "{answer}"
        );
        assert_eq!(
            error["field"],
            format!("checks[1].contextual_relationships[1]{field}"),
            "{answer}"
        );
    };
    let misfit = "relationship_does_not_fit_schema";
    refuse(relationship("document:d#fan@user:zoe"), 422, misfit, ".relation");
    refuse(relationship("document:d#view@user:zoe"), 422, misfit, ".relation");
    refuse(relationship("dog:d#viewer@user:zoe"), 422, misfit, ".resource");
    refuse(
        relationship("document:d#viewer@document:e"),
        422,
        misfit,
        ".subject",
    );
    let mut caveated = relationship("document:d#viewer@user:a");
    caveated["caveat"] = json!({"name": "home"});
    refuse(caveated.clone(), 422, misfit, ".caveat");
    caveated["caveat"] = json!({"name": "office", "context": {"port": 1}});
    refuse(caveated, 422, misfit, ".caveat");
    refuse(good.clone(), 400, "duplicate_relationship", "");
    refuse(
        relationship("document#viewer@user:zoe"),
        400,
        "invalid_value",
        ".resource",
    );
    let mut expiring = relationship("document:d#viewer@user:a");
    expiring["expires_at"] = json!("tomorrow");
    refuse(expiring, 400, "invalid_value", ".expires_at");

    let many: Vec<Value> = (0..101)
        .map(|at| relationship(&format!("document:d{at}#viewer@user:zoe")))
        .collect();
    tenant.post("/v1/check", with(question, &many[..100])).expect(200);
    let problem = tenant
        .post("/v1/check", with(question, &many))
        .problem(400, "too_many");
    assert_eq!(problem["field"], "contextual_relationships");
    let mut unknown = good;
    unknown["colour"] = json!("red");
    let problem = tenant
        .post("/v1/check", with(question, &[unknown]))
        .problem(400, "unknown_field");
    assert_eq!(problem["field"], "contextual_relationships[0].colour");
}

#[test]
fn a_batch_has_them_for_all_and_for_each() {
    let server = Server::shared();
    let tenant = office(&server, "contextual, batch");
    tenant.touch(&["document:d#viewer@group:eng#member"]);
    let body = json!({
        "contextual_relationships": relationships(&["group:eng#member@user:zoe"]),
        "checks": [
            question_body("user:zoe view document:d"),
            question_body("user:bob view document:d"),
            with("user:bob view document:d", &relationships(&["group:eng#member@user:bob"])),
            with("user:zoe view document:d", &relationships(&["document:d#banned@user:zoe"])),
            with("user:zoe view document:d", &[Value::Null]),
            question_body("user:zoe view document:d"),
            question_body("user:bob view document:d"),
        ],
    });
    // A relationship that is no object is malformed, and so is the request.
    tenant
        .post("/v1/check/batch", body.clone())
        .problem(400, "invalid_value");
    let mut body = body;
    body["checks"][4] = question_body("user:bob view document:d");
    for _ in 0..2 {
        let answer = tenant.post("/v1/check/batch", body.clone()).expect(200);
        let results = answer["results"].as_array().unwrap();
        let found: Vec<&str> = results
            .iter()
            .map(|result| result["decision"].as_str().unwrap())
            .collect();
        assert_eq!(found, ["allow", "deny", "allow", "deny", "deny", "allow", "deny"]);
        assert_eq!(tenant.check("user:zoe view document:d"), "deny");
    }
    // A check's own takes the place of the one they have in common.
    let mut caveated = relationship("document:d#viewer@user:ann");
    caveated["caveat"] = json!({"name": "office"});
    let body = json!({
        "contextual_relationships": [caveated],
        "checks": [
            question_body("user:ann view document:d"),
            with("user:ann view document:d", &relationships(&["document:d#viewer@user:ann"])),
        ],
    });
    let answer = tenant.post("/v1/check/batch", body).expect(200);
    assert_eq!(
        answer["results"],
        json!([{"decision": "conditional", "missing_context": ["ip"]}, {"decision": "allow"}])
    );
}

#[test]
fn a_trace_marks_them_and_says_what_was_remembered() {
    let server = Server::shared();
    let tenant = office(&server, "contextual, traced");
    tenant.touch(&["document:d#viewer@group:eng#member"]);
    let explain = |contextual: &[Value], subject: &str| {
        let mut body = with(&format!("{subject} view document:d"), contextual);
        body["trace"] = json!(true);
        tenant.post("/v1/check", body).expect(200)["trace"].take()
    };
    let trace = explain(&relationships(&["group:eng#member@user:zoe"]), "user:zoe");
    let node =
        |trace: &Value, text: &str| find(&trace["root"], text).unwrap_or_else(|| panic!("{text}: {trace}"));
    assert_eq!(node(&trace, "group:eng#member@user:zoe")["contextual"], true);
    assert_eq!(
        node(&trace, "document:d#viewer@group:eng#member").get("contextual"),
        None
    );
    assert_eq!(trace["cache"], "not_used");
    let line = "document:d#viewer@group:eng#member";
    let text: Vec<&str> = trace["text"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    assert_eq!(text[0], "allow: view of document:d");
    assert!(
        text.iter().any(|held| held.trim() == format!("allow: {line}")),
        "{text:#?}"
    );
    let line = "allow: group:eng#member@user:zoe, contextual";
    assert!(text.iter().any(|held| held.trim() == line), "{text:#?}");

    // What is remembered of the same check is told, but not used.
    assert_eq!(explain(&[], "user:zoe")["cache"], "miss");
    tenant.check("user:zoe view document:d");
    assert_eq!(explain(&[], "user:zoe")["cache"], "hit");

    let mut caveated = relationship("document:d#viewer@user:ann");
    caveated["caveat"] = json!({"name": "office", "context": {"ip": "10.1.1.1"}});
    let mut lacking = relationship("document:d#viewer@user:bob");
    lacking["caveat"] = json!({"name": "office"});
    let mut expired = relationship("document:d#viewer@user:cat");
    expired["expires_at"] = json!("2001-01-01T00:00:00Z");
    tenant.change(json!({"touch": [caveated, lacking, expired]}));
    let trace = explain(&[], "user:ann");
    let caveat = &node(&trace, "document:d#viewer@user:ann")["caveat"];
    assert_eq!(
        caveat,
        &json!({"name": "office", "expression": "ip.in_cidr(\"10.0.0.0/8\")", "context": {"ip": "10.1.1.1"}, "outcome": "true"})
    );
    let trace = explain(&[], "user:bob");
    let caveat = &node(&trace, "document:d#viewer@user:bob")["caveat"];
    assert_eq!(
        (&caveat["outcome"], &caveat["missing_context"]),
        (&json!("missing"), &json!(["ip"]))
    );
    let trace = explain(&[], "user:cat");
    let held = node(&trace, "document:d#viewer@user:cat");
    assert_eq!(
        (&held["expired"], &held["outcome"]),
        (&json!(true), &json!("deny")),
        "{trace}"
    );
    assert!(
        trace.to_string().contains("expired 2001-01-01T00:00:00Z"),
        "{trace}"
    );
}

/// The node of a relationship.
fn find(node: &Value, text: &str) -> Option<Value> {
    if node["relationship"] == text {
        return Some(node.clone());
    }
    node["children"]
        .as_array()?
        .iter()
        .find_map(|child| find(child, text))
}

#[test]
fn the_log_says_how_many_there_were() {
    let server = Server::shared();
    let tenant = office(&server, "contextual, logged");
    tenant.check("user:plain view document:logged");
    tenant
        .post(
            "/v1/check",
            with(
                "user:zoe view document:logged",
                &relationships(&["document:logged#viewer@user:zoe"]),
            ),
        )
        .expect(200);
    let line = |subject: &str| {
        server.logged("the check is logged", |line| {
            line["message"] == "Permission check"
                && line["vault"] == tenant.vault.as_str()
                && line["subject"] == subject
        })
    };
    let contextual = line("user:zoe");
    assert_eq!(
        (
            &contextual["contextual"],
            &contextual["decision"],
            &contextual["cached"]
        ),
        (&json!(1), &json!("allow"), &json!(false))
    );
    assert_eq!(line("user:plain").get("contextual"), None);
}
