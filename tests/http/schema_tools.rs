//! Schema tests over HTTP, and schema changes under stored contexts.

use serde_json::{Value, json};

use crate::harness::{Server, Tenant, relationship};

const SUITE: &str = "\
schema: |
  caveat open(hour int) {
    hour > 8
  }

  definition user {}

  definition document {
    relation viewer: user | user:* | user with open
    relation banned: user
    permission view = viewer - banned
  }
relationships: |
  document:1#viewer@user:alice
  document:1#viewer@user:bob[open]
  document:2#viewer@user:*
  document:2#banned@user:eve
assertions:
  assertTrue:
    - document:1#view@user:alice
    - 'document:1#view@user:bob with {\"hour\": 9}'
  assertFalse:
    - document:1#view@user:carol
  assertCaveated:
    - document:1#view@user:bob
validation:
  document:1#view:
    - '[user:alice] is <document:1#viewer>'
    - '[user:bob[...]] is <document:1#viewer>'
  document:2#view:
    - '[user:* - {user:eve}] is <document:2#viewer>'
";

#[test]
fn a_test_file_is_run_and_nothing_is_stored() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "schema tests");
    let test = |text: &str| tenant.post_raw("/v1/schema/test", text.as_bytes());
    let report = test(SUITE).expect(200);
    assert_eq!(
        (&report["passed"], &report["failed"]),
        (&json!(6), &json!(0)),
        "{report}"
    );
    let first = &report["assertions"][0];
    assert_eq!(
        first,
        &json!({
            "assertion": "document:1#view@user:alice", "expected": "allow", "actual": "allow", "passed": true,
            "line": 20, "column": 7,
        })
    );
    let wrong = test(
        &SUITE
            .replace("user:carol", "user:alice")
            .replace("{user:eve}", "{user:bob}"),
    )
    .expect(200);
    assert_eq!(
        (&wrong["passed"], &wrong["failed"]),
        (&json!(4), &json!(2)),
        "{wrong}"
    );
    let failed: Vec<&Value> = wrong["assertions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|outcome| outcome["passed"] == false)
        .collect();
    assert_eq!(failed[0]["line"], 23);
    assert_eq!(
        (&failed[0]["expected"], &failed[0]["actual"]),
        (&json!("deny"), &json!("allow"))
    );
    assert_eq!(
        failed[1]["actual"],
        json!(["[user:* - {user:eve}] is <document:2#viewer>"])
    );
    assert_eq!(
        failed[1]["differences"],
        json!(["`user:*` leaves out {user:eve}, expected {user:bob}"])
    );
    let elsewhere = SUITE.replace(
        "[user:alice] is <document:1#viewer>",
        "[user:alice] is <document:1#banned>",
    );
    let differences = test(&elsewhere).expect(200)["assertions"][4]["differences"].clone();
    assert_eq!(
        differences,
        json!(["`user:alice` is found through <document:1#viewer>, expected through <document:1#banned>"])
    );
    // The same as JSON, which is YAML.
    let body = json!({
        "schema": "definition user {}\ndefinition d {\n  relation r: user\n}\n",
        "relationships": ["d:1#r@user:a"],
        "assertions": {"assertTrue": ["d:1#r@user:a"], "assertFalse": ["d:1#r@user:b"]},
    });
    assert_eq!(
        tenant.post("/v1/schema/test", body.clone()).expect(200)["passed"],
        2
    );
    assert_eq!(
        tenant.post("/v1/schema/test?format=validation", body).expect(200)["failed"],
        0
    );
    tenant.get("/v1/schema").problem(404, "no_schema");
    assert!(tenant.read(json!({})).is_empty());
}

#[test]
fn a_file_that_cannot_be_run_is_refused_at_its_place() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "bad schema tests");
    let refused = |text: &str, status, code| {
        let problem = tenant
            .post_raw("/v1/schema/test", text.as_bytes())
            .problem(status, code);
        (problem["line"].as_u64(), problem["column"].as_u64())
    };
    for (text, place) in [
        ("schema: [", None),
        ("", Some((1, 1))),
        ("schema: ''\nassertion: {}", Some((2, 1))),
        (
            "schema: ''\nassertions:\n  assertTrue:\n    - nonsense\n",
            Some((4, 7)),
        ),
        ("schemaFile: /etc/passwd", Some((1, 13))),
    ] {
        let found = refused(text, 400, "invalid_test_file");
        if let Some((line, column)) = place {
            assert_eq!(found, (Some(line), Some(column)), "{text}");
        }
    }
    let broken = SUITE.replace("permission view = viewer", "permission view = viewr");
    assert_eq!(refused(&broken, 422, "schema_invalid"), (Some(11), Some(23)));
    let unfit = SUITE.replace("document:2#banned@user:eve", "document:2#banned@user:*");
    assert_eq!(
        refused(&unfit, 422, "relationship_does_not_fit_schema"),
        (Some(17), Some(3))
    );
    let unfit = SUITE.replace("bob[open]", "bob[open:{\"hour\": \"late\"}]");
    assert_eq!(
        refused(&unfit, 422, "relationship_does_not_fit_schema"),
        (Some(15), Some(3))
    );
    tenant
        .post_raw("/v1/schema/test?format=toml", SUITE.as_bytes())
        .problem(400, "invalid_value");
    tenant
        .post_raw("/v1/schema/test", b"\xff")
        .problem(400, "invalid_test_file");
}

#[test]
fn a_test_has_the_deadline_and_the_bounds_of_a_request() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "large schema tests");
    let mut text = "schema: |\n  definition user {}\n  definition d {\n    relation r: user | d#r\n  }\nrelationships: |\n".to_owned();
    for at in 0..60 {
        text.push_str(&format!("  d:{at}#r@d:{}#r\n", at + 1));
    }
    for at in 0..400 {
        text.push_str(&format!("  d:60#r@user:{at}\n"));
    }
    text.push_str("validation:\n");
    for at in 0..400 {
        text.push_str(&format!("  d:{at}#r: []\n"));
    }
    server
        .request("POST", "/v1/schema/test")
        .bearer(&tenant.token("inferadb.read"))
        .header("X-Request-Timeout-Ms", "1")
        .bytes(text.as_bytes())
        .send()
        .problem(504, "deadline_exceeded");
    let mut many = "schema: \"definition d {\\n relation r: d\\n}\"\nrelationships: |\n".to_owned();
    for at in 0..=100_000 {
        many.push_str(&format!("  d:{at}#r@d:1\n"));
    }
    tenant
        .post_raw("/v1/schema/test", many.as_bytes())
        .problem(413, "too_large");
    // Another kind of token is not let in.
    server
        .request("POST", "/v1/schema/test")
        .bearer(&tenant.token("inferadb.check"))
        .bytes(SUITE.as_bytes())
        .send()
        .problem(403, "insufficient_scope");
}

#[test]
fn tests_at_once_come_to_no_more_checks_than_one_and_the_rate() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "limits": { "checks_per_second": 10 },
    }));
    let tenant = Tenant::new(&server, "many schema tests");
    // Lists of a type that nobody names: even these are counted.
    let lists = ["{user: 'user:a', type: d, assertions: {r: []}}"; 5_000].join(", ");
    let text = format!(
        "model: |\n  model\n    schema 1.1\n  type user\n  type d\n    relations\n      define r: [user]\n\
         tests:\n- list_objects: [{lists}]\n"
    );
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let test = || tenant.post_raw("/v1/schema/test", text.as_bytes()).status;
        let tests: Vec<_> = (0..10).map(|_| scope.spawn(test)).collect();
        tests.into_iter().map(|test| test.join().unwrap()).collect()
    });
    let run = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(run, 1, "{statuses:?}");
    assert!(
        statuses.iter().all(|status| [200, 429].contains(status)),
        "{statuses:?}"
    );
    tenant
        .post_raw("/v1/schema/test", SUITE.as_bytes())
        .problem(429, "rate_limited");
}

#[test]
fn a_test_that_would_check_all_users_on_all_objects_is_refused() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "wide schema tests");
    let numbered = |name: &str| -> String {
        let all: Vec<String> = (0..10_000).map(|at| format!("'{name}:{at}'")).collect();
        all.join(", ")
    };
    let (users, objects) = (numbered("user"), numbered("d"));
    let text = format!(
        "model: |\n  model\n    schema 1.1\n  type user\n  type d\n    relations\n      define r: [user]\n\
         tests:\n- check:\n  - {{users: [{users}], objects: [{objects}], assertions: {{r: true}}}}\n"
    );
    tenant
        .post_raw("/v1/schema/test", text.as_bytes())
        .problem(413, "too_large");
}

fn schema(parameters: &str, expression: &str) -> String {
    format!(
        "caveat c({parameters}) {{\n  {expression}\n}}\ndefinition user {{}}\ndefinition d {{\n  relation r: user | user with c\n  permission p = r\n}}\n"
    )
}

fn caveated(text: &str, context: Value) -> Value {
    let mut stored = relationship(text);
    stored["caveat"] = json!({"name": "c", "context": context});
    stored
}

#[test]
fn a_caveat_cannot_change_under_contexts_that_are_stored_with_it() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "caveats in use");
    let put = |parameters: &str, expression: &str| {
        tenant.put_schema_as("/v1/schema", "text/plain", &schema(parameters, expression))
    };
    put("x int, y string", "x > 1 && y != ''").expect(200);
    tenant.change(json!({"touch": [
        relationship("d:0#r@user:a"),
        caveated("d:1#r@user:a", json!({"x": 5})),
        caveated("d:2#r@user:a", json!({})),
    ]}));
    // More parameters, another expression, a parameter that no context holds: all fit.
    put("x int, y string, z bool", "x > 2 && z").expect(200);
    put("x int, y list<bool>, z bool", "x > 2 && z").expect(200);
    put("x int", "x > 2").expect(200);
    // A type that takes what is stored.
    put("x double", "x > 2.5").expect(200);
    put("x any", "x > 2.5").expect(200);
    put("x int", "x > 2").expect(200);
    for (parameters, expression) in [
        ("x string", "x != ''"),
        ("x list<int>", "x != []"),
        ("other int", "other > 1"),
    ] {
        let answer = put(parameters, expression);
        let problem = answer.problem(409, "schema_in_use");
        assert_eq!(problem["examples"], json!(["d:1#r@user:a"]), "{answer:?}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("2 of `d#r@user with c`"), "{detail}");
    }
    let question = |resource: &str| json!({"subject": "user:a", "resource": resource, "permission": "p"});
    let decision = |resource: &str| {
        let answer = tenant.post("/v1/check", question(resource)).expect(200);
        answer["decision"].as_str().unwrap().to_owned()
    };
    assert_eq!(decision("d:1"), "allow");
    // Forced, what no longer fits is ignored, and only that.
    let forced = schema("x list<int>", "x != []");
    tenant
        .put_schema_as("/v1/schema?force=true", "text/plain", &forced)
        .expect(200);
    for _ in 0..2 {
        assert_eq!(decision("d:0"), "allow");
        assert_eq!(decision("d:1"), "deny");
        assert_eq!(decision("d:2"), "conditional");
    }
    assert_eq!(tenant.read(json!({})).len(), 3);
    put("x int", "x > 2").expect(200);
    assert_eq!(decision("d:1"), "allow");
    // Without what is stored under it the caveat is free.
    tenant.untouch(&["d:1#r@user:a"]);
    put("x string", "x != ''").expect(200);
}

#[test]
fn a_context_must_fit_its_caveat_and_name_each_value_once() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "contexts");
    tenant.put_schema(&schema("x int, l list<int>", "x > 1 || x in l"));
    for context in [
        json!({"x": "many"}),
        json!({"x": 1.5}),
        json!({"l": ["a"]}),
        json!({"z": 1}),
    ] {
        let problem = tenant
            .write(json!({"touch": [caveated("d:1#r@user:a", context)]}))
            .problem(422, "relationship_does_not_fit_schema");
        assert_eq!(problem["field"], "touch[0].caveat", "{problem}");
    }
    tenant.change(json!({"touch": [caveated("d:1#r@user:a", json!({"x": "5"}))]}));
    let twice = r#"{"touch":[{"resource":"d:1","relation":"r","subject":"user:a","caveat":{"name":"c","context":{"x":1,"x":2}}}]}"#;
    let problem = tenant
        .post_raw("/v1/relationships/write", twice.as_bytes())
        .problem(400, "invalid_value");
    assert_eq!(problem["field"], "touch[0].caveat.context");
    assert!(
        problem["detail"].as_str().unwrap().contains("`x` is given twice"),
        "{problem}"
    );
    let nested = r#"{"subject":"user:a","resource":"d:1","permission":"p","context":{"m":{"k":1,"k":2}}}"#;
    let problem = tenant
        .post_raw("/v1/check", nested.as_bytes())
        .problem(400, "invalid_value");
    assert_eq!(problem["field"], "context");
    assert!(
        problem["detail"].as_str().unwrap().contains("`k` is given twice"),
        "{problem}"
    );
}
