//! Checks from outside: what relationships mean, explanations, and batches.

use serde_json::{Value, json};

use crate::harness::{Server, Tenant, question_body, relationship};

#[test]
fn relationships_mean_what_the_schema_says() {
    verify_meaning(&Server::shared());
}

#[test]
fn relationships_mean_the_same_without_a_cache() {
    verify_meaning(&Server::with(
        json!({"cache": {"enabled": false}, "storage": {"backend": "memory"}}),
    ));
}

fn verify_meaning(server: &Server) {
    let tenant = Tenant::with_documents(server, "checks");
    tenant.touch(&[
        "document:readme#owner@user:alice",
        "document:readme#viewer@user:bob",
        "document:readme#viewer@group:eng#member",
        "document:readme#banned@user:mallory",
        "document:readme#viewer@user:mallory",
        "document:readme#approver@user:alice",
        "document:readme#approver@user:bob",
        "document:readme#parent@folder:inner",
        "document:public#viewer@user:*",
        "document:public#banned@user:mallory",
        "folder:inner#parent@folder:outer",
        "folder:outer#viewer@user:carol",
        "folder:outer#viewer@group:staff#member",
        "group:eng#member@user:dave",
        "group:staff#member@group:eng#member",
        "group:staff#member@group:loop#member",
        "group:loop#member@group:staff#member",
        "group:loop#member@user:erin",
    ]);
    for (question, decision) in [
        ("user:alice view document:readme", "allow"),
        ("user:alice edit document:readme", "allow"),
        ("user:alice publish document:readme", "allow"),
        ("user:bob view document:readme", "allow"),
        ("user:bob edit document:readme", "deny"),
        ("user:bob publish document:readme", "deny"),
        ("user:mallory view document:readme", "deny"),
        ("user:carol view document:readme", "allow"),
        ("user:dave view document:readme", "allow"),
        ("user:dave view folder:outer", "allow"),
        ("user:dave view folder:inner", "allow"),
        ("user:erin view document:readme", "allow"),
        ("user:erin member group:staff", "allow"),
        ("user:zoe member group:loop", "deny"),
        ("user:zoe view document:readme", "deny"),
        ("user:zoe view document:public", "allow"),
        ("user:mallory view document:public", "deny"),
        ("user:zoe viewer document:public", "allow"),
        ("user:carol viewer document:readme", "deny"),
        ("group:eng#member viewer document:readme", "allow"),
        ("group:eng#member view document:readme", "allow"),
        ("group:eng#member member group:staff", "allow"),
        ("group:staff#member view folder:outer", "allow"),
        ("group:staff#member viewer document:readme", "deny"),
        ("group:eng viewer document:readme", "deny"),
        ("user:alice view document:never-heard-of", "deny"),
        ("user:* view document:public", "allow"),
        ("user:* view document:readme", "deny"),
    ] {
        // Evaluated, and remembered.
        for round in ["first", "second"] {
            assert_eq!(tenant.check(question), decision, "{question}, the {round} time");
        }
        let mut body = question_body(question);
        body["consistency"] = json!("fully_consistent");
        body["trace"] = json!(true);
        let explained = tenant.post("/v1/check", body).expect(200);
        assert_eq!(explained["decision"], decision, "{question}, explained");
        assert_eq!(
            explained["trace"]["root"]["outcome"], decision,
            "{question}: {explained}"
        );
    }
}

#[test]
fn a_trace_shows_the_relationship_that_decided() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "trace");
    tenant.touch(&[
        "document:d#parent@folder:f",
        "folder:f#viewer@group:g#member",
        "group:g#member@user:alice",
    ]);
    let mut body = question_body("user:alice view document:d");
    assert_eq!(
        tenant.post("/v1/check", body.clone()).expect(200).get("trace"),
        None
    );
    body["trace"] = json!(true);
    let answer = tenant.post("/v1/check", body).expect(200);
    let root = &answer["trace"]["root"];
    assert_eq!(
        (&root["node"], &root["resource"], &root["permission"]),
        (&json!("check"), &json!("document:d"), &json!("view"))
    );
    let mut shown = Vec::new();
    collect(root, &mut shown);
    for text in [
        "document:d#parent@folder:f",
        "folder:f#viewer@group:g#member",
        "group:g#member@user:alice",
    ] {
        assert!(shown.iter().any(|held| held == text), "{text} is not in {answer}");
    }
    // A recursion is cut and said to be.
    tenant.touch(&["group:g#member@group:g#member"]);
    let mut body = question_body("user:zoe member group:g");
    body["trace"] = json!(true);
    let answer = tenant.post("/v1/check", body).expect(200);
    assert_eq!(answer["decision"], "deny");
    assert!(answer.to_string().contains("\"recursion\""), "{answer}");
}

fn collect(node: &Value, found: &mut Vec<String>) {
    if let Some(text) = node["relationship"].as_str() {
        found.push(text.to_owned());
    }
    for child in node["children"].as_array().into_iter().flatten() {
        collect(child, found);
    }
}

#[test]
fn a_batch_answers_in_order_with_errors_where_they_belong() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "batch");
    let touched: Vec<Value> = (0..1000)
        .step_by(3)
        .map(|at| relationship(&format!("document:d{at}#viewer@user:alice")))
        .collect();
    let revision = tenant.change(json!({ "touch": touched }));
    let checks: Vec<Value> = (0..1000)
        .map(|at| question_body(&format!("user:alice view document:d{at}")))
        .collect();
    for _ in 0..2 {
        let answer = tenant
            .post("/v1/check/batch", json!({ "checks": checks }))
            .expect(200);
        assert_eq!(answer["revision"], revision.as_str());
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), 1000);
        for (at, result) in results.iter().enumerate() {
            let expected = if at % 3 == 0 { "allow" } else { "deny" };
            assert_eq!(result, &json!({ "decision": expected }), "{at}");
        }
    }
    let mixed = json!({"checks": [
        question_body("user:alice view document:d0"),
        question_body("user:alice fly document:d0"),
        question_body("user:alice view nothing:d0"),
        {"subject": "alice", "resource": "document:d0", "permission": "view"},
        question_body("user:alice view document:d1"),
        question_body("user:alice view document:d0"),
    ]});
    let answer = tenant.post("/v1/check/batch", mixed).expect(200);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 6, "{answer}");
    assert_eq!(results[0], json!({"decision": "allow"}));
    for (at, code) in [
        (1, "unknown_permission"),
        (2, "unknown_type"),
        (3, "invalid_value"),
    ] {
        let error = &results[at]["error"];
        assert_eq!(
            (&error["code"], &error["status"]),
            (&json!(code), &json!(400)),
            "{answer}"
        );
        assert_eq!(
            results[at].get("decision"),
            None,
            "an error is no decision: {answer}"
        );
        let field = error["field"].as_str().unwrap_or_default();
        assert!(
            field.starts_with(&format!("checks[{at}].")),
            "which of them? {answer}"
        );
    }
    assert_eq!(
        (&results[4], &results[5]),
        (&json!({"decision": "deny"}), &json!({"decision": "allow"}))
    );
    let none = tenant.post("/v1/check/batch", json!({"checks": []})).expect(200);
    assert_eq!(none["results"], json!([]));
    let most: Vec<Value> = vec![question_body("user:a view document:d"); 1001];
    tenant
        .post("/v1/check/batch", json!({ "checks": most }))
        .problem(400, "too_many");
}

#[test]
fn a_vault_without_a_schema_decides_nothing() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "no schema");
    tenant
        .post("/v1/check", question_body("user:a view document:d"))
        .problem(400, "unknown_type");
    tenant
        .write(json!({"touch": [relationship("document:d#viewer@user:a")]}))
        .problem(422, "relationship_does_not_fit_schema");
    let page = tenant.post("/v1/relationships/read", json!({})).expect(200);
    assert_eq!(page["relationships"], json!([]));
}

#[test]
fn context_without_caveats_changes_nothing() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "context");
    tenant.touch(&["document:d#viewer@user:alice"]);
    for (subject, decision) in [("user:alice", "allow"), ("user:bob", "deny")] {
        for context in [
            Value::Null,
            json!({}),
            json!({"ip": "10.0.0.1", "deep": {"a": [1, 2.5, null, true]}}),
        ] {
            let mut body = question_body(&format!("{subject} view document:d"));
            body["context"] = context;
            let answer = tenant.post("/v1/check", body).expect(200);
            assert_eq!(answer["decision"], decision);
            assert_eq!(answer.get("missing_context"), None);
        }
    }
}
