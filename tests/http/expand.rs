//! Expansions: the tree of who has a permission.

use serde_json::{Value, json};

use crate::harness::{Server, Tenant, relationship};

#[test]
fn the_tree_shows_who_and_how() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "expand");
    let mut expiring = relationship("document:d#viewer@user:eve");
    expiring["expires_at"] = json!("2099-01-01T00:00:00Z");
    let mut expired = relationship("document:d#viewer@user:gone");
    expired["expires_at"] = json!("2001-01-01T00:00:00Z");
    tenant.touch(&[
        "document:d#owner@user:olga",
        "document:d#viewer@group:eng#member",
        "document:d#viewer@user:*",
        "document:d#parent@folder:f",
        "document:d#banned@user:mallory",
        "folder:f#viewer@group:eng#member",
        "folder:f#parent@folder:f",
        "group:eng#member@user:bob",
        "group:eng#member@group:eng#member",
    ]);
    let revision = tenant.change(json!({"touch": [expiring, expired]}));
    let body = json!({"resource": "document:d", "permission": "view"});
    let expected = r#"{
  "resource": "document:d", "permission": "view", "operation": "exclusion", "children": [
    {"operation": "union", "children": [
      {"resource": "document:d", "relation": "owner", "operation": "relationships", "subjects": [
        {"subject": "user:olga"}]},
      {"resource": "document:d", "relation": "viewer", "operation": "relationships", "subjects": [
        {"subject": "user:eve", "expires_at": "2099-01-01T00:00:00Z"},
        {"subject": "user:*"},
        {"subject": "group:eng#member", "through": {
          "resource": "group:eng", "relation": "member", "operation": "relationships", "subjects": [
            {"subject": "user:bob"},
            {"subject": "group:eng#member", "through": {
              "resource": "group:eng", "relation": "member", "cut": "recursion"}}]}}]},
      {"operation": "arrow", "follows": "parent", "to": "view", "mode": "any", "subjects": [
        {"subject": "folder:f", "through": {
          "resource": "folder:f", "permission": "view", "operation": "union", "children": [
            {"resource": "folder:f", "relation": "viewer", "operation": "relationships", "subjects": [
              {"subject": "group:eng#member", "through": {
                "resource": "group:eng", "relation": "member", "cut": "shown_elsewhere"}}]},
            {"operation": "arrow", "follows": "parent", "to": "view", "mode": "any", "subjects": [
              {"subject": "folder:f", "through": {
                "resource": "folder:f", "permission": "view", "cut": "recursion"}}]}]}}]}]},
    {"resource": "document:d", "relation": "banned", "operation": "relationships", "subjects": [
      {"subject": "user:mallory"}]}]}"#;
    let expected: Value = serde_json::from_str(expected).unwrap();
    for _ in 0..2 {
        let answer = tenant.post("/v1/expand", body.clone()).expect(200);
        assert_eq!(answer["tree"], expected, "{answer:#}");
        assert_eq!(answer["revision"], revision.as_str());
        assert_eq!(answer["truncated"], false);
    }
    let mut shallow = body;
    shallow["max_depth"] = json!(0);
    let answer = tenant.post("/v1/expand", shallow).expect(200);
    assert_eq!(answer["truncated"], true);
    let union = &answer["tree"]["children"][0]["children"];
    assert_eq!(
        union[1]["subjects"][2],
        json!({"subject": "group:eng#member", "through": {"resource": "group:eng", "relation": "member", "cut": "max_depth"}}),
        "{answer:#}"
    );
    let empty = tenant
        .post(
            "/v1/expand",
            json!({"resource": "group:none", "permission": "member"}),
        )
        .expect(200);
    assert_eq!(
        empty["tree"],
        json!({"resource": "group:none", "relation": "member", "operation": "relationships", "subjects": []})
    );
}

#[test]
fn contextual_relationships_are_shown_and_marked() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "expand with relationships");
    tenant.put_schema(
        "caveat big(size int) {
    size > 10
}
definition user {}
definition group {
    relation member: user
}
definition document {
    relation viewer: user | user with big | group#member
    permission view = viewer
    permission same = view
    permission itself = nil
}",
    );
    tenant.touch(&["document:d#viewer@user:ann", "document:d#viewer@user:bob"]);
    let mut caveated = relationship("document:d#viewer@user:bob");
    caveated["caveat"] = json!({"name": "big", "context": {"size": 3}});
    let contextual = json!([
        caveated,
        relationship("document:d#viewer@group:g#member"),
        relationship("group:g#member@user:cat")
    ]);
    let body =
        json!({"resource": "document:d", "permission": "same", "contextual_relationships": contextual});
    let answer = tenant.post("/v1/expand", body).expect(200);
    assert_eq!(
        answer["tree"],
        json!({"resource": "document:d", "permission": "same", "operation": "same_as", "children": [
            {"resource": "document:d", "permission": "view", "operation": "same_as", "children": [
                {"resource": "document:d", "relation": "viewer", "operation": "relationships", "subjects": [
                    {"subject": "user:ann"},
                    {"subject": "user:bob", "contextual": true, "caveat": {"name": "big", "context": {"size": 3}}},
                    {"subject": "group:g#member", "contextual": true, "through": {
                        "resource": "group:g", "relation": "member", "operation": "relationships",
                        "subjects": [{"subject": "user:cat", "contextual": true}]}},
                ]},
            ]},
        ]}),
        "{answer:#}"
    );
    let plain = tenant
        .post(
            "/v1/expand",
            json!({"resource": "document:d", "permission": "viewer"}),
        )
        .expect(200);
    assert_eq!(
        plain["tree"]["subjects"],
        json!([{"subject": "user:ann"}, {"subject": "user:bob"}])
    );
}

#[test]
fn a_tree_that_is_too_large_says_where_it_stops() {
    // With little memory the rows come from storage, and the tree is the same.
    let little = Server::with(json!({"vaults": {"memory_budget_bytes": 1_048_576}}));
    let plenty = Server::shared();
    let mut found: Vec<Value> = Vec::new();
    for server in [&*plenty, &little] {
        let tenant = Tenant::with_documents(server, "expand much");
        let mut many: Vec<String> = (0..12_000)
            .map(|at| format!("group:wide#member@user:u{at:05}{}", "x".repeat(150)))
            .collect();
        many.extend((0..300).map(|at| format!("group:middle#member@user:u{at:05}")));
        many.extend([
            "document:d#viewer@group:wide#member".into(),
            "document:d#viewer@group:middle#member".into(),
        ]);
        for chunk in many.chunks(1_000) {
            tenant.touch(&chunk.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let body = json!({"resource": "document:d", "permission": "viewer", "consistency": "fully_consistent",
            "contextual_relationships": [relationship("group:middle#member@user:extra")]});
        let answer = tenant.post("/v1/expand", body).expect(200);
        assert_eq!(answer["truncated"], true);
        let subjects = answer["tree"]["subjects"].as_array().unwrap();
        let (middle, wide) = (&subjects[0]["through"], &subjects[1]["through"]);
        assert_eq!(middle["subjects"].as_array().unwrap().len(), 301);
        assert_eq!(
            middle["subjects"][0],
            json!({"subject": "user:extra", "contextual": true})
        );
        assert_eq!(middle.get("cut"), None);
        assert_eq!(wide["cut"], "truncated");
        let shown = wide["subjects"].as_array().unwrap();
        assert!(shown.len() > 9_000 && shown.len() < 10_000, "{}", shown.len());
        let last = shown[8_999]["subject"].as_str().unwrap();
        assert!(last.starts_with("user:u08999x"), "{last}");
        found.push(answer["tree"].clone());
    }
    assert!(found[0] == found[1], "the tree depends on what is in memory");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "expand, refused");
    for (body, code, field) in [
        (json!({"resource": "document:d"}), "missing_field", "permission"),
        (
            json!({"resource": "document", "permission": "view"}),
            "invalid_value",
            "resource",
        ),
        (
            json!({"resource": "dog:d", "permission": "view"}),
            "unknown_type",
            "resource",
        ),
        (
            json!({"resource": "document:d", "permission": "fly"}),
            "unknown_permission",
            "permission",
        ),
        (
            json!({"resource": "document:d", "permission": "view", "max_depth": 101}),
            "invalid_value",
            "max_depth",
        ),
        (
            json!({"resource": "document:d", "permission": "view", "max_depth": -1}),
            "invalid_value",
            "max_depth",
        ),
        (
            json!({"resource": "document:d", "permission": "view", "depth": 1}),
            "unknown_field",
            "depth",
        ),
    ] {
        let problem = tenant.post("/v1/expand", body.clone()).problem(400, code);
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
}

#[test]
fn deep_trees_come_in_parts_that_every_parser_reads() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "expand deeply");
    let mut chain: Vec<String> = (0..60)
        .map(|at| format!("folder:{at}#parent@folder:{}", at + 1))
        .collect();
    chain.push("folder:60#viewer@user:last".into());
    tenant.touch(&chain.iter().map(String::as_str).collect::<Vec<_>>());
    // The harness's parser refuses what nests more than 128 levels.
    let body = json!({"resource": "folder:0", "permission": "view", "max_depth": 100});
    let answer = tenant.post("/v1/expand", body).expect(200);
    assert_eq!(answer["truncated"], false);
    assert_eq!(
        whole(&answer["tree"], &answer["more"], "user:last"),
        1,
        "{answer}"
    );
    let mut body = crate::harness::question_body("user:last view folder:0");
    body["trace"] = json!(true);
    let answer = tenant.post("/v1/check", body).expect(200);
    let trace = &answer["trace"];
    assert_eq!(
        (&answer["decision"], &trace["truncated"]),
        (&json!("allow"), &json!(false))
    );
    let reason = "folder:60#viewer@user:last";
    assert_eq!(whole(&trace["root"], &trace["more"], reason), 1, "{trace}");
    assert!(trace["text"].to_string().contains(reason), "{trace}");
}

/// How often a string stands in a tree and the parts that continue it; each part must be named once.
fn whole(root: &Value, more: &Value, wanted: &str) -> usize {
    let (mut found, mut named) = (0, Vec::new());
    let parts = more.as_array().unwrap();
    let mut left: Vec<&Value> = parts.iter().chain([root]).collect();
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => found += usize::from(text == wanted),
            Value::Array(items) => left.extend(items),
            Value::Object(members) => {
                named.extend(members.get("continued").and_then(Value::as_u64));
                left.extend(members.values());
            }
            _ => {}
        }
    }
    named.sort_unstable();
    assert!(!named.is_empty() && named == (0..parts.len() as u64).collect::<Vec<_>>());
    found
}

#[test]
fn large_stored_contexts_are_shown_as_far_as_there_is_room() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "expand large contexts");
    tenant.put_schema(
        "caveat named(name string) {
    name != \"\"
}
definition user {}
definition document {
    relation viewer: user with named
}",
    );
    for chunk in 0..10 {
        let caveated = |at: u32| {
            let mut body = relationship(&format!("document:d#viewer@user:u{chunk}{at:02}"));
            body["caveat"] = json!({"name": "named", "context": {"name": "x".repeat(24_000)}});
            body
        };
        tenant.change(json!({"touch": (0..20).map(caveated).collect::<Vec<_>>()}));
    }
    let body = json!({"resource": "document:d", "permission": "viewer"});
    let answer = tenant.post("/v1/expand", body).expect(200);
    let subjects = answer["tree"]["subjects"].as_array().unwrap();
    let (shown, omitted): (Vec<_>, Vec<_>) = subjects
        .iter()
        .map(|subject| &subject["caveat"])
        .partition(|caveat| caveat.get("context").is_some());
    assert!(
        shown.len() > 170 && shown.len() + omitted.len() == 200,
        "{} shown",
        shown.len()
    );
    assert!(!omitted.is_empty());
    assert_eq!(omitted[0], &json!({"name": "named", "context_omitted": true}));
}
