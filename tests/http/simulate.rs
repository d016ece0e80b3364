//! Simulations: each decision before and after, and nothing of it stored.

use serde_json::{Value, json};

use crate::harness::{DOCUMENTS, Server, Tenant, question_body, relationship};

fn questions(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| question_body(text)).collect()
}

fn relationships(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| relationship(text)).collect()
}

/// Each check's decisions (or the code of its error) before and after, with a mark where it says it changed.
fn told(answer: &Value) -> Vec<String> {
    let side = |side: &Value| match side.get("decision") {
        Some(decision) => decision.as_str().unwrap().to_owned(),
        None => side["error"]["code"].as_str().unwrap().to_owned(),
    };
    let results = answer["results"].as_array().unwrap().iter();
    let result = |result: &Value| {
        let mark = if result["changed"].as_bool().unwrap() {
            " !"
        } else {
            ""
        };
        format!("{} {}{mark}", side(&result["before"]), side(&result["after"]))
    };
    results.map(result).collect()
}

#[test]
fn changed_relationships_change_what_they_would_change() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "simulate");
    let revision = tenant.touch(&[
        "document:d#viewer@user:ann",
        "document:d#viewer@group:eng#member",
        "document:d#parent@folder:f",
        "group:eng#member@user:bob",
        "folder:f#viewer@user:cat",
    ]);
    let stored = tenant.read(json!({}));
    let simulate = json!({
        "touch": relationships(&["document:d#banned@user:ann", "group:eng#member@user:dan", "folder:f#viewer@user:*"]),
        "delete": relationships(&["group:eng#member@user:bob", "folder:f#viewer@user:nobody", "unheard#of@user:x"]),
        "checks": questions(&[
            "user:ann view document:d",
            "user:bob member group:eng",
            "user:bob view document:d",
            "user:cat view document:d",
            "user:dan member group:eng",
            "user:dan edit document:d",
            "user:dan fly document:d",
            "dan view document:d",
        ]),
    });
    // A resource must have a type and an id, even where nothing is stored under it.
    tenant
        .post("/v1/simulate", simulate.clone())
        .problem(400, "invalid_value");
    let mut simulate = simulate;
    simulate["delete"][2] = relationship("unheard:of#relation@user:x");
    for _ in 0..3 {
        let answer = tenant.post("/v1/simulate", simulate.clone()).expect(200);
        assert_eq!(
            told(&answer),
            [
                "allow deny !",
                "allow deny !",
                "allow allow",
                "allow allow",
                "deny allow !",
                "deny deny",
                "unknown_permission unknown_permission",
                "invalid_value invalid_value",
            ]
        );
        assert_eq!(
            answer["results"][6]["after"]["error"]["field"],
            "checks[6].permission"
        );
        assert_eq!(
            answer["results"][7]["before"]["error"]["field"],
            "checks[7].subject"
        );
        assert_eq!(answer["revision"], revision.as_str());
        assert_eq!(answer.get("ignored"), None);
        assert_eq!(tenant.check("user:ann view document:d"), "allow");
        assert_eq!(tenant.check("user:dan member group:eng"), "deny");
    }
    assert_eq!(tenant.read(json!({})), stored);
    // What is then written does what was simulated.
    tenant.change(json!({"touch": simulate["touch"], "delete": [simulate["delete"][0]]}));
    assert_eq!(tenant.check("user:ann view document:d"), "deny");
    assert_eq!(tenant.check("user:bob view document:d"), "allow");
    let again = tenant.post("/v1/simulate", simulate).expect(200);
    assert!(
        again["results"]
            .as_array()
            .unwrap()
            .iter()
            .all(|result| result["changed"] == false),
        "{again}"
    );
    let nothing = tenant.post("/v1/simulate", json!({"checks": []})).expect(200);
    assert_eq!(nothing["results"], json!([]));
}

#[test]
fn another_schema_decides_otherwise_and_ignores_what_no_longer_fits() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "simulate a schema");
    tenant.touch(&[
        "document:d#viewer@user:ann",
        "document:d#viewer@group:eng#member",
        "document:d#viewer@user:*",
        "document:d#owner@user:olga",
        "document:d#approver@user:olga",
        "document:e#approver@user:olga",
        "group:eng#member@user:bob",
    ]);
    // No wildcards, no approvers; owners view, viewers do not unless they are of a group.
    let schema = "definition user {}
definition group {
    relation member: user | group#member
}
definition document {
    relation owner: user
    relation viewer: group#member
    permission edit = owner
    permission view = owner + viewer
    permission audit = owner & viewer
}";
    let simulate = json!({
        "schema": schema,
        "touch": relationships(&["document:d#viewer@group:ops#member", "group:ops#member@user:olga"]),
        "delete": relationships(&["group:eng#member@user:nobody"]),
        "checks": questions(&[
            "user:ann view document:d",
            "user:bob view document:d",
            "user:olga view document:d",
            "user:olga publish document:d",
            "user:olga audit document:d",
            "user:olga edit document:e",
            "user:ann view folder:f",
        ]),
    });
    for _ in 0..2 {
        let answer = tenant.post("/v1/simulate", simulate.clone()).expect(200);
        assert_eq!(
            told(&answer),
            [
                "allow deny !",
                "allow allow",
                "allow allow",
                "allow unknown_permission !",
                "unknown_permission allow !",
                "deny deny",
                "deny unknown_type !",
            ]
        );
        // The schema that is tried has no revision, but it is there.
        let detail = &answer["results"][6]["after"]["error"]["detail"];
        assert_eq!(detail, "the schema has no type `folder`");
        let ignored = &answer["ignored"];
        assert_eq!(
            (&ignored["relationships"], &ignored["truncated"]),
            (&json!(4), &json!(false)),
            "{answer}"
        );
        let mut kinds: Vec<(&str, u64)> = ignored["kinds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| {
                (
                    kind["kind"].as_str().unwrap(),
                    kind["relationships"].as_u64().unwrap(),
                )
            })
            .collect();
        kinds.sort_unstable();
        assert_eq!(
            kinds,
            [
                ("document#approver@user", 2),
                ("document#viewer@user", 1),
                ("document#viewer@user:*", 1)
            ]
        );
        assert_eq!(tenant.check("user:ann view document:d"), "allow");
    }
    // Forced, the schema does what was simulated.
    tenant
        .put_schema_as("/v1/schema?force=true", "text/plain", schema)
        .expect(200);
    assert_eq!(tenant.check("user:ann view document:d"), "deny");
    assert_eq!(tenant.check("user:bob view document:d"), "allow");

    let broken = "definition user {\n    relation a: nobody\n    permission b = c\n}";
    let problem = tenant
        .post("/v1/simulate", json!({"schema": broken, "checks": []}))
        .problem(422, "schema_invalid");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 2, "{problem}");
    let empty = tenant
        .post("/v1/simulate", json!({"schema": DOCUMENTS, "checks": []}))
        .expect(200);
    assert_eq!(
        empty["ignored"],
        json!({"relationships": 0, "kinds": [], "truncated": false})
    );
}

#[test]
fn a_schema_to_try_can_be_an_openfga_model() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "simulate a model");
    tenant.touch(&[
        "document:d#viewer@user:ann",
        "document:d#viewer@user:*",
        "document:d#owner@user:olga",
        "group:eng#member@user:bob",
    ]);
    // Owners view and are written to as viewers are; a wildcard has no place.
    let dsl = "model
  schema 1.1
type user
type group
  relations
    define member: [user]
type document
  relations
    define owner: [user]
    define viewer: [user, group#member] or owner
    define view: viewer";
    let json_model = json!({
        "schema_version": "1.1",
        "type_definitions": [
            {"type": "user"},
            {
                "type": "group",
                "relations": {"member": {"this": {}}},
                "metadata": {"relations": {"member": {"directly_related_user_types": [{"type": "user"}]}}},
            },
            {
                "type": "document",
                "relations": {
                    "owner": {"this": {}},
                    "viewer": {"union": {"child": [{"this": {}}, {"computedUserset": {"relation": "owner"}}]}},
                    "view": {"computedUserset": {"relation": "viewer"}},
                },
                "metadata": {"relations": {
                    "owner": {"directly_related_user_types": [{"type": "user"}]},
                    "viewer": {"directly_related_user_types": [
                        {"type": "user"}, {"type": "group", "relation": "member"},
                    ]},
                }},
            },
        ],
    });
    let (before, after) = dsl.split_once("type document").unwrap();
    let modules = json!({"modules": [
        {"name": "core.fga", "text": before.replace("model\n  schema 1.1", "module core")},
        {"name": "docs.fga", "text": format!("module docs\ntype document{after}")},
    ]});
    for model in [
        json!(dsl),
        json_model.clone(),
        json!(json_model.to_string()),
        modules,
    ] {
        let simulate = json!({
            "schema": model,
            "schema_format": "openfga",
            "touch": relationships(&["document:e#viewer@group:eng#member"]),
            "checks": questions(&[
                "user:ann view document:d",
                "user:olga viewer document:d",
                "user:zoe view document:d",
                "user:bob view document:e",
                "user:olga edit document:d",
            ]),
        });
        let answer = tenant.post("/v1/simulate", simulate).expect(200);
        assert_eq!(
            told(&answer),
            [
                "allow allow",
                "allow allow",
                "allow deny !",
                "deny allow !",
                "allow unknown_permission !",
            ],
            "{model}"
        );
        let kinds = json!([{"kind": "document#viewer@user:*", "relationships": 1}]);
        assert_eq!(answer["ignored"]["kinds"], kinds, "{model}");
    }
    // The vault itself is under the native schema still.
    assert_eq!(tenant.check("user:zoe view document:d"), "allow");
    let native = json!({"schema": DOCUMENTS, "schema_format": "native", "checks": []});
    tenant.post("/v1/simulate", native).expect(200);

    for (body, status, code, field) in [
        (json!({"schema": dsl}), 422, "schema_invalid", None),
        (
            json!({"schema": DOCUMENTS, "schema_format": "openfga"}),
            422,
            "schema_invalid",
            None,
        ),
        (json!({"schema": {}}), 400, "invalid_value", Some("schema")),
        (
            json!({"schema": ["x"], "schema_format": "openfga"}),
            400,
            "invalid_value",
            Some("schema"),
        ),
        (
            json!({"schema": dsl, "schema_format": "fga"}),
            400,
            "invalid_value",
            Some("schema_format"),
        ),
        (
            json!({"schema_format": "openfga"}),
            400,
            "invalid_value",
            Some("schema_format"),
        ),
    ] {
        let mut body = body;
        body["checks"] = json!([]);
        let problem = tenant.post("/v1/simulate", body).problem(status, code);
        assert_eq!(problem["field"].as_str(), field, "{problem}");
    }
    let broken = dsl.replace("[user, group#member] or owner", "[user, team] or owner");
    let body = json!({"schema": broken, "schema_format": "openfga", "checks": []});
    let problem = tenant.post("/v1/simulate", body).problem(422, "schema_invalid");
    assert_eq!(problem["errors"][0]["line"], 10, "{problem}");
}

#[test]
fn context_and_relationships_of_the_checks_count_on_both_sides() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "simulate with context");
    tenant.put_schema(
        "caveat big(size int) {
    size > 10
}
definition user {}
definition document {
    relation viewer: user with big | user
    permission view = viewer
}",
    );
    let caveated = |subject: &str| {
        let mut body = relationship(&format!("document:d#viewer@{subject}"));
        body["caveat"] = json!({"name": "big"});
        body
    };
    tenant.change(json!({"touch": [caveated("user:ann")]}));
    let mut own_context = question_body("user:ann view document:d");
    own_context["context"] = json!({"size": 5});
    let mut own_relationship = question_body("user:cat view document:d");
    own_relationship["contextual_relationships"] = json!([relationship("document:d#viewer@user:cat")]);
    let mut misfitting = question_body("user:cat view document:d");
    misfitting["contextual_relationships"] = json!([relationship("document:d#owner@user:cat")]);
    let body = json!({
        "touch": [caveated("user:bob")],
        "delete": [relationship("document:d#viewer@user:cat")],
        "checks": [
            question_body("user:ann view document:d"),
            own_context,
            question_body("user:bob view document:d"),
            own_relationship,
            misfitting,
        ],
    });
    let answer = tenant.post("/v1/simulate", body.clone()).expect(200);
    assert_eq!(
        told(&answer),
        [
            "conditional conditional",
            "deny deny",
            "deny conditional !",
            "allow allow",
            "relationship_does_not_fit_schema relationship_does_not_fit_schema",
        ]
    );
    assert_eq!(answer["results"][2]["after"]["missing_context"], json!(["size"]));
    let mut body = body;
    body["context"] = json!({"size": 11});
    let answer = tenant.post("/v1/simulate", body).expect(200);
    assert_eq!(
        told(&answer)[..4],
        ["allow allow", "deny deny", "deny allow !", "allow allow"]
    );
}

#[test]
fn what_a_write_refuses_is_refused() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "simulate, refused");
    let good = relationship("document:d#viewer@user:a");
    for (body, status, code, field) in [
        (json!({"touch": []}), 400, "missing_field", Some("checks")),
        (
            json!({"checks": [], "create": []}),
            400,
            "unknown_field",
            Some("create"),
        ),
        (
            json!({"checks": [{"subject": "user:a"}]}),
            400,
            "missing_field",
            Some("checks[0].resource"),
        ),
        (
            json!({"checks": [], "touch": [good, relationship("document:d#fan@user:a")]}),
            422,
            "relationship_does_not_fit_schema",
            Some("touch[1].relation"),
        ),
        (
            json!({"checks": [], "touch": [good], "delete": [good]}),
            400,
            "duplicate_relationship",
            Some("delete[0]"),
        ),
        (
            json!({"checks": [], "touch": vec![good.clone(); 1_001]}),
            400,
            "too_many",
            Some("touch"),
        ),
        (
            json!({"checks": vec![question_body("user:a view document:d"); 1_001]}),
            400,
            "too_many",
            Some("checks"),
        ),
        (
            json!({"checks": [], "consistency": {"at_least_as_fresh": "nonsense"}}),
            400,
            "invalid_revision",
            Some("consistency.at_least_as_fresh"),
        ),
    ] {
        let problem = tenant.post("/v1/simulate", body).problem(status, code);
        assert_eq!(problem["field"].as_str(), field, "{problem}");
    }
}
