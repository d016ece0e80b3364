//! Relationships that count for one list alone: the list is the one of a vault in which they are stored.

use serde_json::{Value, json};

use crate::harness::{Server, Tenant, relationship};

const SCHEMA: &str = "use expiration

caveat office(place string) {
    place == 'office'
}

definition user {}

definition group {
    relation member: user | group#member
}

definition folder {
    relation viewer: user | group#member
    permission view = viewer
}

definition document {
    relation parent: folder
    relation viewer: user | user:* | group#member | user with office | user with expiration
    relation banned: user
    permission view = (viewer + parent->view) - banned
}
";

/// What is stored, and what comes with each list. Ids of both lie in between each other.
fn relationships() -> (Vec<Value>, Vec<Value>) {
    let mut stored = vec![
        relationship("group:all#member@group:eng#member"),
        relationship("folder:f#viewer@group:all#member"),
        relationship("document:banned#viewer@user:zoe"),
        relationship("document:open#viewer@user:*"),
        relationship("document:replaced#viewer@user:zoe"),
    ];
    let mut contextual = vec![
        relationship("group:eng#member@user:zoe"),
        relationship("document:banned#banned@user:zoe"),
        relationship("document:open#banned@user:u07"),
        relationship("document:x#viewer@user:*"),
        json!({"resource": "document:replaced", "relation": "viewer", "subject": "user:zoe", "caveat": {"name": "office"}}),
        json!({"resource": "document:d00", "relation": "viewer", "subject": "user:zoe",
            "expires_at": "2001-01-01T00:00:00Z"}),
    ];
    for at in 0..60 {
        let rows = [
            format!("document:d{at:02}#parent@folder:f"),
            format!("document:e{at:02}#viewer@user:zoe"),
            format!("document:x#viewer@user:u{at:02}"),
            format!("document:y#viewer@user:u{at:02}"),
            format!("document:open#banned@user:v{at:02}"),
        ];
        for (kind, text) in rows.iter().enumerate() {
            match (at + kind) % 4 {
                1 if contextual.len() < 90 => contextual.push(relationship(text)),
                3 => {}
                _ => stored.push(relationship(text)),
            }
        }
    }
    (stored, contextual)
}

fn tenant<'s>(server: &'s Server, name: &str, stored: &[&[Value]]) -> Tenant<&'s Server> {
    let tenant = Tenant::new(server, name);
    tenant.put_schema(SCHEMA);
    for touch in stored {
        tenant.change(json!({ "touch": touch }));
    }
    tenant
}

/// Every list that is asked for: its path, its body, and the member that holds its entries.
fn questions() -> Vec<(&'static str, Value, &'static str)> {
    let resources = |subject: &str, of: &str, permission: &str| {
        let body = json!({"subject": subject, "resource_type": of, "permission": permission});
        ("/v1/resources/list", body, "resources")
    };
    let subjects = |resource: &str, relation: Option<&str>| {
        let mut body = json!({"resource": resource, "permission": "view", "subject_type": "user"});
        if let Some(relation) = relation {
            body["subject_type"] = json!("group");
            body["subject_relation"] = json!(relation);
        }
        ("/v1/subjects/list", body, "subjects")
    };
    vec![
        resources("user:zoe", "document", "view"),
        resources("user:zoe", "document", "viewer"),
        resources("user:zoe", "folder", "view"),
        resources("user:zoe", "group", "member"),
        resources("user:u07", "document", "view"),
        resources("user:u09", "document", "viewer"),
        resources("user:*", "document", "view"),
        resources("group:eng#member", "document", "view"),
        subjects("document:x", None),
        subjects("document:y", None),
        subjects("document:d05", None),
        subjects("document:d04", Some("member")),
        subjects("document:open", None),
        subjects("document:banned", None),
        subjects("document:replaced", None),
    ]
}

/// All pages of a list, of so many entries each.
fn pages(tenant: &Tenant<&Server>, path: &str, body: &Value, list: &str, limit: usize) -> Vec<Value> {
    let mut body = body.clone();
    body["limit"] = json!(limit);
    let mut entries = Vec::new();
    loop {
        let mut answer = tenant.post(path, body.clone()).expect(200);
        let page = answer[list].as_array().unwrap().clone();
        assert!(page.len() <= limit, "{answer}");
        entries.extend(page);
        match answer["cursor"].take() {
            Value::Null => return entries,
            cursor => body["cursor"] = cursor,
        }
    }
}

#[test]
fn a_list_is_that_of_a_vault_in_which_they_are_stored() {
    let (stored, contextual) = relationships();
    assert!(contextual.len() > 60 && contextual.len() <= 100);
    let server = Server::shared();
    let all = tenant(&server, "contextual lists, stored", &[&stored, &contextual]);
    let some = tenant(&server, "contextual lists, brought", &[&stored]);
    let mut listed = 0;
    for (path, body, list) in questions() {
        let expected = all.post(path, limited(&body, 1_000)).expect(200)[list].take();
        listed += expected.as_array().unwrap().len();
        let mut body = body;
        body["contextual_relationships"] = json!(contextual);
        for limit in [1_000, 7, 2] {
            let found = pages(&some, path, &body, list, limit);
            assert_eq!(json!(found), expected, "{limit} a page: {path} {body}");
        }
        let answer = some
            .server
            .request("POST", path)
            .bearer(&some.token("inferadb.read"))
            .header("Accept", "application/x-ndjson")
            .json(&body)
            .send();
        let text = answer.text();
        let mut lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let last = lines.pop().unwrap();
        assert!(
            last["revision"].is_string() && last.get("cursor").is_none(),
            "{last}"
        );
        assert_eq!(json!(lines), expected, "a stream: {path} {body}");
    }
    assert!(listed > 200, "{listed} entries are too few to say anything");
    for subject in ["user:zoe", "user:u07"] {
        for resource in [
            "document:banned",
            "document:replaced",
            "document:d01",
            "document:open",
        ] {
            let mut body = json!({"subject": subject, "resource": resource});
            let expected = all.post("/v1/permissions/list", body.clone()).expect(200)["permissions"].take();
            body["contextual_relationships"] = json!(contextual);
            let found = some.post("/v1/permissions/list", body).expect(200)["permissions"].take();
            assert_eq!(found, expected, "{subject} on {resource}");
        }
    }
    assert_eq!(
        some.read(json!({"resource_type": "group"})).len(),
        1,
        "nothing was stored"
    );
}

fn limited(body: &Value, limit: usize) -> Value {
    let mut body = body.clone();
    body["limit"] = json!(limit);
    body
}

#[test]
fn what_is_wrong_with_them_is_told_as_for_a_check() {
    let server = Server::shared();
    let tenant = tenant(&server, "contextual lists, wrong", &[]);
    let good = relationship("document:d#viewer@user:zoe");
    let many: Vec<Value> = (0..101)
        .map(|at| relationship(&format!("document:d{at}#viewer@user:zoe")))
        .collect();
    let mut unknown = good.clone();
    unknown["colour"] = json!("red");
    let misfit = "relationship_does_not_fit_schema";
    let cases = [
        (
            vec![relationship("document:d#owner@user:zoe")],
            422,
            misfit,
            "[0].relation",
        ),
        (
            vec![good.clone(), relationship("document:d#banned@user:*")],
            422,
            misfit,
            "[1].subject",
        ),
        (vec![good.clone(), good], 400, "duplicate_relationship", "[1]"),
        (many, 400, "too_many", ""),
        (vec![unknown], 400, "unknown_field", "[0].colour"),
    ];
    let mut questions = questions();
    questions.truncate(1);
    questions.push((
        "/v1/subjects/list",
        json!({"resource": "document:d", "permission": "view", "subject_type": "user"}),
        "",
    ));
    questions.push((
        "/v1/permissions/list",
        json!({"resource": "document:d", "subject": "user:zoe"}),
        "",
    ));
    for (path, body, _) in questions {
        for (contextual, status, code, field) in &cases {
            let mut body = body.clone();
            body["contextual_relationships"] = json!(contextual);
            let problem = tenant.post(path, body).problem(*status, code);
            assert_eq!(
                problem["field"],
                format!("contextual_relationships{field}"),
                "{path}: {problem}"
            );
        }
    }
}

#[test]
fn a_cursor_goes_on_whatever_comes_with_the_next_page() {
    let server = Server::shared();
    let stored = ["document:a#viewer@user:zoe", "document:d#viewer@user:zoe"].map(relationship);
    let tenant = tenant(&server, "contextual lists, cursors", &[&stored]);
    let page = |contextual: &[&str], cursor: &Value| {
        let contextual: Vec<Value> = contextual.iter().map(|text| relationship(text)).collect();
        let mut body = json!({
            "subject": "user:zoe", "permission": "view", "resource_type": "document", "limit": 2,
            "contextual_relationships": contextual,
        });
        if !cursor.is_null() {
            body["cursor"] = cursor.clone();
        }
        let answer = tenant.post("/v1/resources/list", body).expect(200);
        let items = answer["resources"].as_array().unwrap().iter();
        let names: Vec<String> = items
            .map(|item| item["resource"].as_str().unwrap().to_owned())
            .collect();
        (names.join(" "), answer["cursor"].clone())
    };
    let (names, cursor) = page(
        &["document:b#viewer@user:zoe", "document:c#viewer@user:zoe"],
        &Value::Null,
    );
    assert_eq!(names, "document:a document:b");
    assert_eq!(
        page(&["document:c#viewer@user:zoe"], &cursor).0,
        "document:c document:d"
    );
    assert_eq!(
        page(
            &["document:a0#viewer@user:zoe", "document:e#viewer@user:zoe"],
            &cursor
        )
        .0,
        "document:d document:e"
    );
    assert_eq!(page(&[], &cursor).0, "document:d");
}
