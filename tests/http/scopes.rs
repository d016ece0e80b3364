//! Which scope opens which call, for every call and every scope.

use serde_json::{Value, json};

use crate::harness::{Server, Tenant};

const SCOPES: [&str; 7] = [
    "inferadb.check",
    "inferadb.read",
    "inferadb.write",
    "inferadb.schema",
    "inferadb.watch",
    "inferadb.admin",
    "inferadb.account.admin",
];

#[test]
fn each_call_takes_the_scopes_of_the_contract_and_no_others() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "scopes");
    let write = json!({"touch": [{"resource": "document:d", "relation": "viewer", "subject": "user:a"}]});
    let check = json!({"subject": "user:a", "resource": "document:d", "permission": "view"});
    let schema = json!({ "schema": crate::harness::DOCUMENTS });
    let calls: Vec<(&str, &str, Option<Value>, &[&str])> = vec![
        ("PUT", "/v1/schema", Some(schema.clone()), &["schema", "admin"]),
        ("GET", "/v1/schema", None, &["read", "schema", "check"]),
        ("POST", "/v1/schema/validate", Some(schema), &["read", "schema"]),
        ("POST", "/v1/relationships/write", Some(write), &["write"]),
        (
            "POST",
            "/v1/relationships/delete",
            Some(json!({"filter": {"resource_type": "group"}})),
            &["write"],
        ),
        (
            "POST",
            "/v1/relationships/read",
            Some(json!({"filter": {}})),
            &["read"],
        ),
        ("POST", "/v1/check", Some(check.clone()), &["check", "read"]),
        (
            "POST",
            "/v1/check/batch",
            Some(json!({ "checks": [check] })),
            &["check", "read"],
        ),
        (
            "POST",
            "/v1/simulate",
            Some(json!({ "checks": [check] })),
            &["read"],
        ),
        (
            "POST",
            "/v1/resources/list",
            Some(json!({"subject": "user:a", "permission": "view", "resource_type": "document"})),
            &["read"],
        ),
        (
            "POST",
            "/v1/expand",
            Some(json!({"resource": "document:d", "permission": "view"})),
            &["read"],
        ),
        (
            "POST",
            "/v1/subjects/list",
            Some(json!({"resource": "document:d", "permission": "view", "subject_type": "user"})),
            &["read"],
        ),
        (
            "POST",
            "/v1/permissions/list",
            Some(json!({"subject": "user:a", "resource": "document:d"})),
            &["read"],
        ),
    ];
    for (method, path, body, allowed) in calls {
        let ask = |scopes: &str| {
            let request = server.request(method, path).bearer(&tenant.token(scopes));
            match &body {
                Some(body) => request.json(body).send(),
                None => request.send(),
            }
        };
        for scope in SCOPES {
            let answer = ask(scope);
            if allowed.contains(&scope.strip_prefix("inferadb.").unwrap()) {
                assert_eq!(answer.status, 200, "{scope}: {answer:?}");
            } else {
                answer.problem(403, "insufficient_scope");
                assert_eq!(
                    answer.header("www-authenticate"),
                    Some("Bearer error=\"insufficient_scope\""),
                    "{answer:?}"
                );
            }
        }
        for nothing in [
            "",
            "inferadb",
            "inferadb.*",
            "INFERADB.READ",
            "inferadb.readx",
            "inferadb.read,inferadb.write,inferadb.schema",
        ] {
            ask(nothing).problem(403, "insufficient_scope");
        }
    }
}

#[test]
fn administration_takes_the_administrator_s_scopes() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "scopes of administration");
    let vault = format!("/v1/vaults/{}", tenant.vault);
    let account = format!("/v1/accounts/{}", tenant.account);
    let both = &["inferadb.admin", "inferadb.account.admin"][..];
    let calls = [
        ("GET", "/v1/accounts".to_owned(), &both[..1]),
        ("GET", account.clone(), &both[..1]),
        ("GET", format!("{account}/vaults"), both),
        ("GET", vault.clone(), both),
        ("GET", format!("{vault}/stats"), both),
        ("POST", format!("{vault}/activate"), both),
        ("POST", format!("{vault}/deactivate"), both),
    ];
    for (method, path, allowed) in calls {
        for scope in SCOPES {
            let answer = server.request(method, &path).bearer(&tenant.token(scope)).send();
            if allowed.contains(&scope) {
                assert_eq!(answer.status, 200, "{scope}: {answer:?}");
            } else {
                answer.problem(403, "insufficient_scope");
            }
        }
    }
}
