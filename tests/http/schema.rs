//! Schemas: stored, read back, tried, refused with every error, and replaced under stored relationships.

use serde_json::{Value, json};

use crate::harness::{DOCUMENTS, Server, Tenant};

const BROKEN: &str = "definition user {}

definition document {
    relation viewer: usr
    permission view = viewer + edtor
    permission view = viewer
}
";

fn places(list: &Value) -> Vec<(u64, u64)> {
    let place = |error: &Value| (error["line"].as_u64().unwrap(), error["column"].as_u64().unwrap());
    list.as_array().unwrap().iter().map(place).collect()
}

#[test]
fn what_is_put_is_what_is_got() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "schema");
    tenant.get("/v1/schema").problem(404, "no_schema");
    let answers = [
        tenant.put_schema_as("/v1/schema", "text/plain", DOCUMENTS),
        tenant.put_schema_as(
            "/v1/schema",
            "text/plain; charset=utf-8",
            &format!("// doc: ünï\n{DOCUMENTS}"),
        ),
        tenant.put_schema_as(
            "/v1/schema",
            "application/json",
            &json!({"schema": "definition user {}\n// two"}).to_string(),
        ),
        tenant.put_schema_as(
            "/v1/schema",
            "application/x-www-form-urlencoded",
            "definition user {}\n",
        ),
        tenant.put_schema_as("/v1/schema?format=native", "text/plain", "definition user {}\n"),
    ];
    let revisions: Vec<Value> = answers
        .iter()
        .map(|answer| answer.expect(200)["revision"].clone())
        .collect();
    assert!(revisions.iter().all(Value::is_string), "{revisions:?}");
    let got = tenant.get("/v1/schema").expect(200);
    assert_eq!(got["schema"], "definition user {}\n");
    assert_eq!(got["revision"], revisions[4]);
    tenant
        .put_schema_as("/v1/schema", "application/json", r#"{"schema": "", "x": 1}"#)
        .problem(400, "unknown_field");
    tenant
        .put_schema_as("/v1/schema", "application/json", r#"{"text": ""}"#)
        .problem(400, "unknown_field");
    tenant
        .put_schema_as("/v1/schema?format=nonsense", "text/plain", "")
        .problem(400, "invalid_value");
    tenant
        .put_schema_as("/v1/schema?forced=true", "text/plain", "")
        .problem(400, "invalid_query");
    assert_eq!(
        tenant.get("/v1/schema").expect(200),
        got,
        "what was refused changed nothing"
    );
}

#[test]
fn a_schema_that_does_not_compile_is_422_with_every_error_at_its_place() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "broken schema");
    let before = tenant.get("/v1/schema").expect(200);
    for answer in [
        tenant.put_schema_as("/v1/schema", "text/plain", BROKEN),
        tenant.put_schema_as("/v1/schema?force=true", "text/plain", BROKEN),
        tenant.put_schema_as(
            "/v1/schema",
            "application/json",
            &json!({ "schema": BROKEN }).to_string(),
        ),
    ] {
        let problem = answer.problem(422, "schema_invalid");
        let places = places(&problem["errors"]);
        for expected in [(4, 22), (5, 32)] {
            assert!(places.contains(&expected), "{expected:?}: {answer:?}");
        }
        assert!(places.iter().any(|place| place.0 == 6), "{answer:?}");
        assert_eq!(
            (problem["line"].as_u64(), problem["column"].as_u64()),
            (Some(places[0].0), Some(places[0].1))
        );
        for error in problem["errors"].as_array().unwrap() {
            assert!(
                !error["message"].as_str().unwrap().is_empty() && error["code"].is_string(),
                "{error}"
            );
        }
    }
    // Errors of the syntax are several, too.
    let syntax = "definition user {\n\ndefinition a { relation b user }\ndefinition c { permission d = }\n";
    let problem = tenant
        .put_schema_as("/v1/schema", "text/plain", syntax)
        .problem(422, "schema_invalid");
    assert!(problem["errors"].as_array().unwrap().len() >= 2, "{problem}");
    assert_eq!(tenant.get("/v1/schema").expect(200), before);
}

#[test]
fn validation_says_the_same_and_stores_nothing() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "validate");
    let validate = |text: &str| {
        tenant
            .post_raw("/v1/schema/validate", text.as_bytes())
            .expect(200)
    };
    let good = validate(DOCUMENTS);
    assert_eq!((&good["valid"], &good["errors"]), (&json!(true), &json!([])));
    let bad = validate(BROKEN);
    assert_eq!(bad["valid"], false);
    let stored = tenant
        .put_schema_as("/v1/schema", "text/plain", BROKEN)
        .problem(422, "schema_invalid");
    assert_eq!(bad["errors"], stored["errors"]);
    let mixed = "definition user {}\ndefinition d {\n  relation a: user\n  relation b: user\n  relation c: user\n  permission p = a - b + c\n}\n";
    let warned = validate(mixed);
    assert_eq!(warned["valid"], true);
    assert_eq!(places(&warned["warnings"])[0].0, 6, "{warned}");
    assert_eq!(
        tenant
            .post("/v1/schema/validate", json!({ "schema": mixed }))
            .expect(200),
        warned
    );
    tenant.get("/v1/schema").problem(404, "no_schema");
    assert_eq!(tenant.put_schema(mixed)["warnings"], warned["warnings"]);
}

#[test]
fn a_schema_in_use_is_kept_unless_forced_and_then_answers_ignore_what_does_not_fit() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "schema in use");
    tenant.touch(&[
        "document:d#viewer@group:g#member",
        "group:g#member@user:alice",
        "document:d#owner@user:bob",
    ]);
    assert_eq!(tenant.check("user:alice view document:d"), "allow");
    let narrow = "definition user {}\ndefinition group {\n  relation member: user\n}\ndefinition document {\n  relation owner: user\n  relation viewer: user\n  permission view = owner + viewer\n}\n";
    let answer = tenant.put_schema_as("/v1/schema", "text/plain", narrow);
    let problem = answer.problem(409, "schema_in_use");
    assert_eq!(
        problem["examples"],
        json!(["document:d#viewer@group:g#member"]),
        "{answer:?}"
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("document#viewer@group#member"),
        "{answer:?}"
    );
    assert_eq!(tenant.check("user:alice view document:d"), "allow");
    tenant
        .put_schema_as("/v1/schema?force=true", "text/plain", narrow)
        .expect(200);
    assert_eq!(tenant.check("user:alice view document:d"), "deny");
    assert_eq!(tenant.check("user:bob view document:d"), "allow");
    let stored = [
        "document:d#owner@user:bob",
        "document:d#viewer@group:g#member",
        "group:g#member@user:alice",
    ];
    assert_eq!(tenant.read(json!({})), stored);
    // What does not fit can be deleted, by key or by filter, and counts again once the schema takes it.
    tenant
        .put_schema_as("/v1/schema", "text/plain", DOCUMENTS)
        .expect(200);
    assert_eq!(tenant.check("user:alice view document:d"), "allow");
    tenant
        .put_schema_as("/v1/schema?force=true", "text/plain", narrow)
        .expect(200);
    tenant.untouch(&["document:d#viewer@group:g#member"]);
    assert_eq!(tenant.read(json!({})).len(), 2);
    // A type that still has relationships cannot go; one that has none can.
    tenant
        .put_schema_as(
            "/v1/schema",
            "text/plain",
            "definition user {}\ndefinition group {\n  relation member: user\n}",
        )
        .problem(409, "schema_in_use");
    let deleted = tenant
        .post(
            "/v1/relationships/delete",
            json!({"filter": {"resource_type": "document"}}),
        )
        .expect(200);
    assert_eq!(deleted["deleted"], 1);
    tenant.put_schema("definition user {}\ndefinition group {\n  relation member: user\n}");
}

#[test]
fn decisions_follow_the_schema_at_once() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "schema changes");
    let schema = |rule: &str| {
        format!(
            "definition user {{}}\ndefinition document {{\n  relation a: user\n  relation b: user\n  permission view = {rule}\n}}\n"
        )
    };
    tenant.put_schema(&schema("a"));
    tenant.touch(&["document:d#a@user:alice"]);
    for (rule, decision) in [
        ("a", "allow"),
        ("a & b", "deny"),
        ("a - b", "allow"),
        ("nil", "deny"),
        ("b + a", "allow"),
    ] {
        tenant.put_schema(&schema(rule));
        for _ in 0..2 {
            assert_eq!(tenant.check("user:alice view document:d"), decision, "{rule}");
        }
    }
}
