//! OpenFGA models over HTTP: stored in each of their forms, given back as they were, decided by, and kept over
//! evictions and restarts.

use serde_json::{Value, json};

use crate::harness::{Server, Tenant};

const MODEL: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user, team#member]
type doc/page
  relations
    define parent: [doc/page]
    define owner: [user]
    define can-view: ([user, user:* with by_day, team#member] or owner or can-view from parent) but not blocked
    define blocked: [user]
condition by_day(hour: int) {
  hour >= 8 && hour < 20
}
";

const MODULES: &[(&str, &str)] = &[
    (
        "core.fga",
        "module core\ntype user\ntype org\n  relations\n    define admin: [user]\n",
    ),
    (
        "wiki.fga",
        "module wiki\nextend type org\n  relations\n    define reader: [user] or admin\n",
    ),
];

const URL: &str = "/v1/schema?format=openfga";

fn json_model() -> Value {
    json!({
        "schema_version": "1.2",
        "type_definitions": [
            {"type": "user"},
            {
                "type": "doc",
                "relations": {
                    "owner": {"this": {}},
                    "view": {"union": {"child": [{"this": {}}, {"computedUserset": {"relation": "owner"}}]}},
                },
                "metadata": {"relations": {
                    "owner": {"directly_related_user_types": [{"type": "user"}]},
                    "view": {"directly_related_user_types": [{"type": "user"}]},
                }},
            },
        ],
    })
}

fn modules() -> Value {
    let modules: Vec<Value> = MODULES
        .iter()
        .map(|(name, text)| json!({"name": name, "text": text}))
        .collect();
    json!({ "modules": modules })
}

#[track_caller]
fn verify_decisions(tenant: &Tenant<&Server>) {
    for (question, decision) in [
        ("user:olga can-view doc/page:p", "allow"),
        ("user:tim can-view doc/page:p", "allow"),
        ("user:olga can-view doc/page:child", "allow"),
        ("user:bo can-view doc/page:p", "deny"),
        ("user:direct can-view doc/page:p", "allow"),
        ("user:anybody can-view doc/page:p", "deny"),
        ("user:anybody can-view doc/page:day", "conditional"),
        ("user:direct owner doc/page:p", "deny"),
    ] {
        assert_eq!(tenant.check(question), decision, "{question}");
    }
    for (hour, decision) in [(9, "allow"), (21, "deny")] {
        let answer = tenant.post(
            "/v1/check",
            json!({"subject": "user:x", "permission": "can-view", "resource": "doc/page:day", "context": {"hour": hour}}),
        );
        assert_eq!(answer.expect(200)["decision"], decision, "{hour}");
    }
}

#[test]
fn a_model_decides_and_survives_eviction_and_restart() {
    let server = Server::with(json!({}));
    let tenant = Tenant::new(&server, "openfga");
    tenant.put_schema_as(URL, "text/plain", MODEL).expect(200);
    tenant.touch(&[
        "doc/page:p#owner@user:olga",
        "doc/page:p#can-view@user:direct",
        "doc/page:p#can-view@team:t#member",
        "team:t#member@team:u#member",
        "team:u#member@user:tim",
        "team:u#member@user:bo",
        "doc/page:p#blocked@user:bo",
        "doc/page:child#parent@doc/page:p",
    ]);
    tenant.change(json!({"touch": [{
        "resource": "doc/page:day", "relation": "can-view", "subject": "user:*", "caveat": {"name": "by_day"},
    }]}));
    verify_decisions(&tenant);
    let conditional = tenant.post(
        "/v1/check",
        json!({"subject": "user:x", "permission": "can-view", "resource": "doc/page:day"}),
    );
    assert_eq!(conditional.expect(200)["missing_context"], json!(["hour"]));
    // A condition belongs to exactly the kinds of subjects that name it.
    for (subject, caveat) in [("user:*", Value::Null), ("user:x", json!({"name": "by_day"}))] {
        let mut touched = json!({"resource": "doc/page:p", "relation": "can-view", "subject": subject});
        if !caveat.is_null() {
            touched["caveat"] = caveat;
        }
        tenant
            .write(json!({ "touch": [touched] }))
            .problem(422, "relationship_does_not_fit_schema");
    }
    let stored = tenant.get("/v1/schema").expect(200);
    assert_eq!(
        (&stored["schema"], &stored["format"]),
        (&json!(MODEL), &json!("openfga"))
    );
    let path = format!("/v1/vaults/{}/deactivate", tenant.vault);
    server.admin("POST", &path, None).expect(200);
    verify_decisions(&tenant);
    assert_eq!(tenant.get("/v1/schema").expect(200), stored);
    let (account, vault) = (tenant.account.clone(), tenant.vault.clone());
    let server = server.restarted(json!({}));
    let tenant = Tenant::of(&server, account, vault);
    verify_decisions(&tenant);
    assert_eq!(tenant.get("/v1/schema").expect(200), stored);
    // The trace of a relation that holds relationships and is computed tells of both.
    let answer = tenant.post(
        "/v1/check",
        json!({"subject": "user:direct", "permission": "can-view", "resource": "doc/page:p", "trace": true}),
    );
    let trace = answer.expect(200)["trace"].to_string();
    assert!(
        trace.contains("can-view") && trace.contains("user:direct"),
        "{trace}"
    );
    // A native schema takes its place, and the format says so.
    tenant
        .put_schema_as("/v1/schema?force=true", "text/plain", "definition user {}\n")
        .expect(200);
    assert_eq!(tenant.get("/v1/schema").expect(200)["format"], "native");
}

#[test]
fn every_form_is_taken_and_given_back() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "openfga forms");
    let (json_model, modules) = (json_model().to_string(), modules().to_string());
    for (content_type, body, text) in [
        ("text/plain", MODEL, MODEL),
        ("application/json", &json_model, &json_model),
        ("text/plain", &json_model, &json_model),
        ("application/json", &modules, &modules),
        ("application/json", &json!({ "schema": MODEL }).to_string(), MODEL),
        (
            "application/json",
            &json!({ "schema": json_model }).to_string(),
            &json_model,
        ),
        (
            "application/json",
            &format!("{{\"schema\": {json_model}}}"),
            &json_model,
        ),
        (
            "application/json",
            &format!(" {{\"schema\": {modules} }}"),
            &modules,
        ),
    ] {
        let answer = tenant.put_schema_as(URL, content_type, body).expect(200);
        assert_eq!(answer["warnings"], json!([]), "{body}");
        let stored = tenant.get("/v1/schema").expect(200);
        assert_eq!(stored["schema"], text, "{body}");
        assert_eq!(stored["revision"], answer["revision"]);
        assert_eq!(stored["format"], "openfga");
        let validated = tenant.post_raw("/v1/schema/validate?format=openfga", body.as_bytes());
        assert_eq!(
            validated.expect(200),
            json!({"valid": true, "errors": [], "warnings": []})
        );
    }
    tenant.touch(&["org:o#admin@user:a"]);
    assert_eq!(tenant.check("user:a reader org:o"), "allow");
    // The same text is another schema in another language.
    tenant
        .put_schema_as("/v1/schema?force=true", "text/plain", MODEL)
        .problem(422, "schema_invalid");
    tenant
        .put_schema_as(URL, "text/plain", "definition user {}")
        .problem(422, "schema_invalid");
    tenant
        .put_schema_as("/v1/schema?format=OpenFGA", "text/plain", MODEL)
        .problem(400, "invalid_value");
    tenant
        .put_schema_as(URL, "application/json", r#"{"schema": 5}"#)
        .problem(400, "invalid_value");
    tenant
        .put_schema_as(URL, "application/json", r#"{"schema": "", "more": 1}"#)
        .problem(400, "unknown_field");
    assert_eq!(
        tenant.check("user:a reader org:o"),
        "allow",
        "what was refused changed nothing"
    );
}

#[test]
fn errors_are_422_at_their_places() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "openfga errors");
    let broken = "model\n  schema 1.1\ntype doc\n  relations\n    define a: [usr]\n    define b: c or a\n";
    let problem = tenant
        .put_schema_as(URL, "text/plain", broken)
        .problem(422, "schema_invalid");
    let places: Vec<(u64, u64)> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["line"].as_u64().unwrap(), error["column"].as_u64().unwrap()))
        .collect();
    assert_eq!(places, [(5, 16), (6, 15)]);
    assert_eq!((&problem["line"], &problem["column"]), (&json!(5), &json!(16)));
    let validated = tenant.post_raw("/v1/schema/validate?format=openfga", broken.as_bytes());
    assert_eq!(validated.expect(200)["errors"], problem["errors"]);
    // Where the JSON of a request is a model, it is the model's text that errors count in.
    let model = json_model().to_string().replace("\"this\":{}", "\n\"these\":{}");
    let problem = tenant
        .put_schema_as(URL, "application/json", &model)
        .problem(422, "schema_invalid");
    assert_eq!(problem["line"], 2, "{problem}");
    let problem = tenant
        .put_schema_as(URL, "application/json", "{\"schema_version\": ")
        .problem(422, "schema_invalid");
    assert_eq!(problem["column"], 20, "{problem}");
    // Those of a module name its file.
    let broken = modules().to_string().replace("or admin", "or nobody");
    let problem = tenant
        .put_schema_as(URL, "application/json", &broken)
        .problem(422, "schema_invalid");
    let error = &problem["errors"][0];
    assert_eq!(
        (&error["file"], &error["line"], &error["column"]),
        (&json!("wiki.fga"), &json!(4), &json!(30)),
        "{problem}"
    );
    assert!(
        problem["detail"].as_str().unwrap().contains("wiki.fga:4:30"),
        "{problem}"
    );
    tenant.get("/v1/schema").problem(404, "no_schema");
}

#[test]
fn a_model_in_use_is_kept_unless_forced() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "openfga in use");
    let model = |restriction: &str| {
        format!(
            "model\n  schema 1.1\ntype user\ntype bot\ntype doc\n  relations\n    define view: {restriction}\n"
        )
    };
    tenant
        .put_schema_as(URL, "text/plain", &model("[user, bot]"))
        .expect(200);
    tenant.touch(&["doc:d#view@bot:b", "doc:d#view@user:u"]);
    let problem = tenant
        .put_schema_as(URL, "text/plain", &model("[user]"))
        .problem(409, "schema_in_use");
    assert_eq!(problem["examples"], json!(["doc:d#view@bot:b"]));
    tenant
        .put_schema_as(&format!("{URL}&force=true"), "text/plain", &model("[user]"))
        .expect(200);
    assert_eq!(tenant.check("bot:b view doc:d"), "deny");
    assert_eq!(tenant.check("user:u view doc:d"), "allow");
    tenant
        .put_schema_as(URL, "text/plain", &model("[user, bot]"))
        .expect(200);
    assert_eq!(tenant.check("bot:b view doc:d"), "allow");
}
