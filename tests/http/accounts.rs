//! Accounts and vaults: names, pages, cascades, limits, and what an account's own administrator may do.

use serde_json::{Value, json};

use crate::harness::{Answer, Keys, Server, Tenant, claims};

fn ids(list: &Value) -> Vec<String> {
    let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(id).collect()
}

fn as_account_admin(server: &Server, account: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let more = json!({"scope": "inferadb.account.admin", "account": account});
    let request = server
        .request(method, path)
        .bearer(&Keys::shared().ed.sign(&claims(more)));
    match body {
        Some(body) => request.json(&body).send(),
        None => request.send(),
    }
}

#[test]
fn lists_are_paged_by_link_headers() {
    let server = Server::shared();
    let account = server
        .admin("POST", "/v1/accounts", Some(json!({"name": "pages"})))
        .expect(201);
    let vaults = format!("/v1/accounts/{}/vaults", account["id"].as_str().unwrap());
    let made: Vec<String> = (0..7)
        .map(|number| {
            let body = json!({ "name": format!("vault {number}") });
            server.admin("POST", &vaults, Some(body)).expect(201)["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let mut found = Vec::new();
    let mut next = Some(format!("{vaults}?limit=3"));
    let mut pages = Vec::new();
    while let Some(path) = next {
        let answer = server.admin("GET", &path, None);
        let page = ids(&answer.expect(200));
        pages.push(page.len());
        found.extend(page);
        next = answer.header("link").map(|link| {
            let (address, relation) = link.split_once('>').unwrap();
            assert_eq!(relation, "; rel=\"next\"");
            address.strip_prefix('<').unwrap().to_owned()
        });
    }
    assert_eq!((found, pages), (made.clone(), vec![3, 3, 1]));

    // Accounts are listed the same way, and a vault that is made meanwhile does not disturb a page.
    let first = server.admin("GET", "/v1/accounts?limit=1", None);
    assert_eq!(first.expect(200).as_array().unwrap().len(), 1);
    let link = first.header("link").unwrap().to_owned();
    let path = link
        .strip_prefix('<')
        .unwrap()
        .split_once('>')
        .unwrap()
        .0
        .to_owned();
    server.admin("GET", &path, None).expect(200);
    // A cursor of one list is none of another's.
    let cursor = path.split_once("cursor=").unwrap().1;
    server
        .admin("GET", &format!("{vaults}?cursor={cursor}"), None)
        .problem(400, "invalid_cursor");
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "cursor=nonsense",
        "archived=perhaps",
        "what=1",
    ] {
        let answer = server.admin("GET", &format!("{vaults}?{bad}"), None);
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
    }
}

#[test]
fn names_are_checked() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "names");
    let long = "x".repeat(257);
    let vault = format!("/v1/vaults/{}", tenant.vault);
    let account = format!("/v1/accounts/{}", tenant.account);
    for bad in ["", "   ", "a\u{0}b", "a\nb", long.as_str()] {
        for (method, path) in [("POST", "/v1/accounts"), ("PATCH", &account), ("PATCH", &vault)] {
            let problem = server
                .admin(method, path, Some(json!({ "name": bad })))
                .problem(400, "invalid_value");
            assert_eq!(problem["field"], "name");
        }
    }
    for good in ["Ünïcode — Straße 5", "a", &"x".repeat(256)] {
        let renamed = server
            .admin("PATCH", &vault, Some(json!({ "name": good })))
            .expect(200);
        assert_eq!(renamed["name"], good);
    }
    server
        .admin("PATCH", &vault, Some(json!({"id": "x"})))
        .problem(400, "unknown_field");
    server
        .admin("POST", "/v1/accounts", Some(json!({})))
        .problem(400, "missing_field");
    server
        .admin(
            "PATCH",
            &vault,
            Some(json!({"archived": true, "archived_at": "yesterday"})),
        )
        .problem(400, "invalid_value");
    server
        .admin(
            "PATCH",
            &vault,
            Some(json!({"archived": false, "archived_at": "2025-01-01T00:00:00Z"})),
        )
        .problem(400, "invalid_value");
    // Whatever was refused changed nothing.
    assert_eq!(server.admin("GET", &vault, None).expect(200)["archived"], false);
}

#[test]
fn an_account_with_vaults_goes_only_by_cascade() {
    let server = Server::shared();
    let one = Tenant::with_documents(&*server, "cascade");
    let two = Tenant::in_account(&*server, one.account.clone(), "second");
    let archived = Tenant::in_account(&*server, one.account.clone(), "third");
    let path = format!("/v1/vaults/{}", archived.vault);
    server
        .admin("PATCH", &path, Some(json!({"archived": true})))
        .expect(200);
    one.touch(&["document:d#viewer@user:alice"]);
    let account = format!("/v1/accounts/{}", one.account);
    server
        .admin("DELETE", &account, None)
        .problem(409, "account_not_empty");
    server
        .admin("DELETE", &format!("{account}?cascade=maybe"), None)
        .problem(400, "invalid_query");
    assert_eq!(one.check("user:alice view document:d"), "allow");
    assert_eq!(
        server
            .admin("DELETE", &format!("{account}?cascade=true"), None)
            .status,
        204
    );
    server.admin("GET", &account, None).problem(404, "not_found");
    server
        .admin("GET", &format!("{account}/vaults"), None)
        .problem(404, "not_found");
    server.admin("DELETE", &account, None).problem(404, "not_found");
    server
        .admin("POST", &format!("{account}/vaults"), Some(json!({"name": "x"})))
        .problem(404, "not_found");
    for tenant in [&one, &two, &archived] {
        tenant.get("/v1/schema").problem(403, "vault_access_denied");
        server
            .admin("GET", &format!("/v1/vaults/{}", tenant.vault), None)
            .problem(404, "not_found");
    }
    // An account whose only vault is archived still owns it.
    let other = Tenant::new(&*server, "archive only");
    let path = format!("/v1/vaults/{}", other.vault);
    server
        .admin("PATCH", &path, Some(json!({"archived": true})))
        .expect(200);
    let account = format!("/v1/accounts/{}", other.account);
    server
        .admin("DELETE", &account, None)
        .problem(409, "account_not_empty");
    assert_eq!(server.admin("DELETE", &path, None).status, 204);
    assert_eq!(server.admin("DELETE", &account, None).status, 204);
}

#[test]
fn an_account_s_own_administrator_reaches_its_own_vaults_and_learns_nothing_of_others() {
    let server = Server::shared();
    let (mine, other) = (Tenant::new(&*server, "mine"), Tenant::new(&*server, "other"));
    let call = |method: &str, path: &str, body: Option<Value>| {
        as_account_admin(&server, &mine.account, method, path, body)
    };
    let vaults = format!("/v1/accounts/{}/vaults", mine.account);
    let vault = call("POST", &vaults, Some(json!({"name": "more"}))).expect(201);
    let path = format!("/v1/vaults/{}", vault["id"].as_str().unwrap());
    assert_eq!(ids(&call("GET", &vaults, None).expect(200)).len(), 2);
    call("GET", &path, None).expect(200);
    call("PATCH", &path, Some(json!({"name": "renamed"}))).expect(200);
    call("POST", &format!("{path}/activate"), None).expect(200);
    call("GET", &format!("{path}/stats"), None).expect(200);
    call("POST", &format!("{path}/deactivate"), None).expect(200);
    assert_eq!(call("DELETE", &path, None).status, 204);

    // What is another's and what is not there answer alike, but for the request's id.
    let unknown = "0190a5c2-7f6e-7c31-9f5e-3b2a1d4c5e6f";
    let alike = |method: &str, path: &dyn Fn(&str) -> String, body: Option<Value>, foreign: &str| {
        let mut answers = [foreign, unknown, "no-uuid"].map(|id| {
            let mut problem = call(method, &path(id), body.clone()).problem(404, "not_found");
            problem.as_object_mut().unwrap().remove("request_id");
            problem
        });
        answers.sort_by_key(Value::to_string);
        assert_eq!(answers[0], answers[2], "{method}");
    };
    for (method, suffix, body) in [
        ("GET", "", None),
        ("PATCH", "", Some(json!({"name": "stolen"}))),
        ("DELETE", "", None),
        ("GET", "/stats", None),
        ("POST", "/activate", None),
        ("POST", "/deactivate", None),
    ] {
        alike(
            method,
            &|id| format!("/v1/vaults/{id}{suffix}"),
            body,
            &other.vault,
        );
    }
    for (method, body) in [("GET", None), ("POST", Some(json!({"name": "x"})))] {
        alike(
            method,
            &|id| format!("/v1/accounts/{id}/vaults"),
            body,
            &other.account,
        );
    }
    let kept = server
        .admin("GET", &format!("/v1/vaults/{}", other.vault), None)
        .expect(200);
    assert_eq!(kept["name"], "other");

    // Accounts themselves are the platform's.
    for (method, path, body) in [
        ("GET", "/v1/accounts".to_owned(), None),
        ("POST", "/v1/accounts".to_owned(), Some(json!({"name": "x"}))),
        ("GET", format!("/v1/accounts/{}", mine.account), None),
        (
            "PATCH",
            format!("/v1/accounts/{}", mine.account),
            Some(json!({"name": "x"})),
        ),
        ("DELETE", format!("/v1/accounts/{}", mine.account), None),
    ] {
        call(method, &path, body).problem(403, "insufficient_scope");
    }
    // Without an account in the token there is nothing to administer.
    let token = Keys::shared()
        .ed
        .sign(&claims(json!({"scope": "inferadb.account.admin"})));
    let answer = server.request("GET", &vaults).bearer(&token).send();
    assert_eq!(answer.status, 403, "{answer:?}");
}

#[test]
fn limits_of_a_vault_are_set_shown_and_taken_back() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "limits");
    let path = format!("/v1/vaults/{}", tenant.vault);
    let patch = |limits: Value| server.admin("PATCH", &path, Some(json!({ "limits": limits })));
    let set = patch(json!({"max_depth": 7, "writes_per_second": 50})).expect(200);
    assert_eq!(set["limits"], json!({"max_depth": 7, "writes_per_second": 50}));
    let stats = server.admin("GET", &format!("{path}/stats"), None).expect(200);
    assert_eq!(
        (
            &stats["limits"]["max_depth"],
            &stats["limits"]["writes_per_second"]
        ),
        (&json!(7), &json!(50))
    );
    let back = patch(json!({"max_depth": null})).expect(200);
    assert_eq!(back["limits"], json!({"writes_per_second": 50}));
    for (bad, field) in [
        (json!({"max_deepness": 1}), "limits.max_deepness"),
        (json!({"max_depth": 0}), "limits.max_depth"),
        (json!({"max_depth": "7"}), "limits.max_depth"),
        (json!({"max_work": -1}), "limits.max_work"),
    ] {
        let answer = patch(bad);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.json()["field"], field);
    }
    // A depth that is passed is an error, not a `deny`.
    let chain: Vec<String> = (0..20)
        .map(|at| format!("folder:{at}#parent@folder:{}", at + 1))
        .collect();
    tenant.touch(&chain.iter().map(String::as_str).collect::<Vec<_>>());
    tenant.touch(&["folder:20#viewer@user:deep"]);
    assert_eq!(tenant.check("user:deep view folder:0"), "allow");
    patch(json!({"max_depth": 5})).expect(200);
    let body = json!({"subject": "user:other", "permission": "view", "resource": "folder:0"});
    let problem = tenant.post("/v1/check", body).problem(400, "limit_exceeded");
    assert_eq!(problem["limit"], "max_depth");
    patch(json!({"max_depth": null})).expect(200);
    assert_eq!(tenant.check("user:other view folder:0"), "deny");
}
