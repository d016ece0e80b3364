//! Lists: what they answer, page by page and as streams, and that they say the same as checks.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, Tenant, until};

/// A schema with what lists find hard: exclusions, intersections, wildcards, usersets, arrows and caveats.
const SCHEMA: &str = "
caveat office(place string) {
    place == 'office'
}

definition user {}

definition group {
    relation member: user | group#member
}

definition folder {
    relation parent: folder
    relation viewer: user | group#member
    permission view = viewer + parent->view
}

definition document {
    relation parent: folder
    relation viewer: user | user:* | group#member | user with office
    relation banned: user
    relation approver: user
    permission view = (viewer + parent->view) - banned
    permission publish = view & approver
    permission loop = viewer - loop
}
";

const STORED: [&str; 14] = [
    "group:eng#member@user:alice",
    "group:all#member@group:eng#member",
    "group:all#member@user:carol",
    "folder:root#viewer@group:all#member",
    "folder:sub#parent@folder:root",
    "document:direct#viewer@user:alice",
    "document:direct#approver@user:alice",
    "document:nested#parent@folder:sub",
    "document:banned#viewer@user:alice",
    "document:banned#banned@user:alice",
    "document:open#viewer@user:*",
    "document:open#banned@user:mallory",
    "document:team#viewer@group:eng#member",
    "document:other#viewer@user:carol",
];

fn tenant<'a>(server: &'a Server, name: &str) -> Tenant<&'a Server> {
    let tenant = Tenant::new(server, name);
    tenant.put_schema(SCHEMA);
    tenant.touch(&STORED);
    tenant.change(json!({"touch": [{
        "resource": "document:caveated", "relation": "viewer", "subject": "user:alice",
        "caveat": {"name": "office"}
    }]}));
    tenant
}

/// `name decision` of each entry.
fn entries(answer: &Value, list: &str, member: &str) -> Vec<String> {
    let items = answer[list].as_array().unwrap_or_else(|| panic!("{answer}"));
    items
        .iter()
        .map(|item| {
            format!(
                "{} {}",
                item[member].as_str().unwrap(),
                item["decision"].as_str().unwrap()
            )
        })
        .collect()
}

fn resources(subject: &str, permission: &str, of: &str) -> Value {
    json!({ "subject": subject, "permission": permission, "resource_type": of })
}

fn subjects(resource: &str, permission: &str, of: &str) -> Value {
    json!({ "resource": resource, "permission": permission, "subject_type": of })
}

fn stream(tenant: &Tenant<&Server>, path: &str, body: &Value) -> Answer {
    let request = tenant
        .server
        .request("POST", path)
        .bearer(&tenant.token("inferadb.read"));
    request
        .header("Accept", "application/json;q=0.1, Application/X-NDJSON; q=1")
        .json(body)
        .send()
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let text = answer.text();
    assert!(text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn resources_are_those_that_checks_allow() {
    let server = Server::shared();
    let tenant = tenant(&server, "resources");
    for (body, expected) in [
        (
            resources("user:alice", "view", "document"),
            "document:caveated conditional, document:direct allow, document:nested allow, document:open allow, document:team allow",
        ),
        (
            resources("user:alice", "publish", "document"),
            "document:direct allow",
        ),
        (resources("user:mallory", "view", "document"), ""),
        (resources("user:zoe", "view", "document"), "document:open allow"),
        (resources("user:*", "view", "document"), "document:open allow"),
        (
            resources("user:carol", "view", "document"),
            "document:nested allow, document:open allow, document:other allow",
        ),
        (
            resources("user:carol", "view", "folder"),
            "folder:root allow, folder:sub allow",
        ),
        (
            resources("group:eng#member", "view", "document"),
            "document:nested allow, document:team allow",
        ),
        (
            resources("group:eng#member", "member", "group"),
            "group:all allow, group:eng allow",
        ),
        (
            resources("user:alice", "viewer", "group"),
            "!unknown_permission permission",
        ),
        (
            resources("user:alice", "view", "nothing"),
            "!unknown_type resource_type",
        ),
        (resources("robot:a", "view", "document"), "!unknown_type subject"),
        (
            resources("group:eng#x", "view", "document"),
            "!unknown_permission subject",
        ),
        (resources("user:alice", "loop", "document"), "!"),
    ] {
        let answer = tenant.post("/v1/resources/list", body.clone());
        match expected.strip_prefix('!') {
            Some("") => {
                answer.problem(422, "recursive_exclusion");
            }
            Some(error) => {
                let (code, field) = error.split_once(' ').unwrap();
                assert_eq!(answer.problem(400, code)["field"], field, "{body}");
            }
            None => {
                let answer = answer.expect(200);
                assert_eq!(
                    entries(&answer, "resources", "resource").join(", "),
                    expected,
                    "{body}"
                );
                assert!(answer.get("cursor").is_none(), "{answer}");
                assert!(!answer["revision"].as_str().unwrap().is_empty());
            }
        }
    }
    // What is open is named; with the value it is decided.
    let mut body = resources("user:alice", "view", "document");
    let answer = tenant.post("/v1/resources/list", body.clone()).expect(200);
    assert_eq!(answer["resources"][0]["missing_context"], json!(["place"]));
    assert!(answer["resources"][1].get("missing_context").is_none());
    for (place, expected) in [("office", 5), ("home", 4)] {
        body["context"] = json!({ "place": place });
        let answer = tenant.post("/v1/resources/list", body.clone()).expect(200);
        let found = entries(&answer, "resources", "resource");
        assert_eq!(found.len(), expected, "{found:?}");
        assert!(found.iter().all(|entry| entry.ends_with(" allow")));
    }
    body["context"] = json!({ "place": 7 });
    tenant
        .post("/v1/resources/list", body)
        .problem(400, "caveat_failed");
}

#[test]
fn subjects_are_those_that_checks_allow() {
    let server = Server::shared();
    let tenant = tenant(&server, "subjects");
    let of_groups = |relation: &str| {
        let mut body = subjects("document:nested", "view", "group");
        body["subject_relation"] = json!(relation);
        body
    };
    for (body, expected) in [
        (
            subjects("document:nested", "view", "user"),
            "user:alice allow, user:carol allow",
        ),
        (subjects("document:direct", "publish", "user"), "user:alice allow"),
        (subjects("document:banned", "view", "user"), ""),
        (subjects("document:open", "view", "user"), "user:* allow"),
        (subjects("document:team", "view", "user"), "user:alice allow"),
        (
            subjects("document:caveated", "view", "user"),
            "user:alice conditional",
        ),
        (subjects("document:unheard-of", "view", "user"), ""),
        (subjects("document:nested", "view", "folder"), ""),
        (
            of_groups("member"),
            "group:all#member allow, group:eng#member allow",
        ),
        (of_groups(""), ""),
        (of_groups("x"), "!unknown_permission subject_relation"),
        (
            subjects("document:nested", "view", "robot"),
            "!unknown_type subject_type",
        ),
        (subjects("book:nested", "view", "user"), "!unknown_type resource"),
        (
            subjects("document:nested", "read", "user"),
            "!unknown_permission permission",
        ),
    ] {
        let answer = tenant.post("/v1/subjects/list", body.clone());
        match expected.strip_prefix('!') {
            Some(error) => {
                let (code, field) = error.split_once(' ').unwrap();
                assert_eq!(answer.problem(400, code)["field"], field, "{body}");
            }
            None => {
                let answer = answer.expect(200);
                assert_eq!(
                    entries(&answer, "subjects", "subject").join(", "),
                    expected,
                    "{body}"
                );
            }
        }
    }
    // The wildcard says who is left out; who is named beside it is listed as well.
    tenant.touch(&[
        "document:open#viewer@user:alice",
        "document:open#viewer@user:mallory",
    ]);
    let body = subjects("document:open", "view", "user");
    let whole = tenant.post("/v1/subjects/list", body.clone()).expect(200);
    assert_eq!(
        whole["subjects"],
        json!([
            {"subject": "user:*", "decision": "allow", "excluded": ["user:mallory"]},
            {"subject": "user:alice", "decision": "allow"},
        ])
    );
    // One at a time, the same come.
    let mut body = body;
    body["limit"] = json!(1);
    let first = tenant.post("/v1/subjects/list", body.clone()).expect(200);
    assert_eq!(first["subjects"], json!([whole["subjects"][0]]));
    body["cursor"] = first["cursor"].clone();
    let second = tenant.post("/v1/subjects/list", body).expect(200);
    assert_eq!(second["subjects"], json!([whole["subjects"][1]]));
    assert!(second.get("cursor").is_none(), "{second}");
}

#[test]
fn permissions_of_a_resource_are_told_with_their_decisions() {
    let server = Server::shared();
    let tenant = tenant(&server, "permissions");
    let body = json!({"subject": "user:alice", "resource": "document:caveated"});
    let answer = tenant.post("/v1/permissions/list", body).expect(200);
    assert_eq!(
        entries(&answer, "permissions", "permission").join(", "),
        "view conditional, publish deny, loop conditional"
    );
    let body = json!({"subject": "user:alice", "resource": "document:caveated", "include_relations": true});
    let answer = tenant.post("/v1/permissions/list", body).expect(200);
    assert!(!answer["revision"].as_str().unwrap().is_empty());
    let found = answer["permissions"].clone();
    let relation = |name, decision| json!({"permission": name, "kind": "relation", "decision": decision});
    let mut viewer = relation("viewer", "conditional");
    viewer["missing_context"] = json!(["place"]);
    let view = json!({"permission": "view", "kind": "permission", "decision": "conditional", "missing_context": ["place"]});
    let publish = json!({"permission": "publish", "kind": "permission", "decision": "deny"});
    let of_loop = json!({"permission": "loop", "kind": "permission", "decision": "conditional", "missing_context": ["place"]});
    assert_eq!(
        found,
        json!([
            relation("parent", "deny"),
            viewer,
            relation("banned", "deny"),
            relation("approver", "deny"),
            view,
            publish,
            of_loop
        ])
    );
    let body = json!({"subject": "user:alice", "resource": "document:direct", "context": {"place": "office"}, "include_relations": true});
    let answer = tenant.post("/v1/permissions/list", body).expect(200);
    // The one that cannot be decided says why, and takes nothing from the others.
    let of_loop = &answer["permissions"][6];
    assert_eq!(of_loop["permission"], "loop");
    assert_eq!(of_loop["error"]["code"], "recursive_exclusion");
    assert!(of_loop.get("decision").is_none());
    let allowed = entries(
        &json!({"permissions": answer["permissions"].as_array().unwrap()[..6]}),
        "permissions",
        "permission",
    );
    assert_eq!(
        allowed.join(", "),
        "parent deny, viewer allow, banned deny, approver allow, view allow, publish allow"
    );
    for (body, code, field) in [
        (
            json!({"subject": "robot:a", "resource": "document:d"}),
            "unknown_type",
            "subject",
        ),
        (
            json!({"subject": "user:a", "resource": "book:d"}),
            "unknown_type",
            "resource",
        ),
        (
            json!({"subject": "user:a", "resource": "d"}),
            "invalid_value",
            "resource",
        ),
        (
            json!({"subject": "user:a", "resource": "document:d", "limit": 3}),
            "unknown_field",
            "limit",
        ),
    ] {
        let problem = tenant.post("/v1/permissions/list", body).problem(400, code);
        assert_eq!(problem["field"], field);
    }
}

#[test]
fn pages_go_on_where_they_ended_whatever_is_written_meanwhile() {
    let server = Server::shared();
    let tenant = tenant(&server, "pages");
    let name = |at: usize| format!("document:d{at:03}");
    let all: Vec<String> = (0..60)
        .map(|at| format!("{}#viewer@user:bob", name(at)))
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    tenant.touch(&all);
    let mut body = resources("user:bob", "view", "document");
    body["limit"] = json!(7);
    let mut found: Vec<String> = Vec::new();
    let mut pages = 0;
    loop {
        let page = tenant.post("/v1/resources/list", body.clone()).expect(200);
        let items = entries(&page, "resources", "resource");
        assert!(items.len() <= 7);
        found.extend(items);
        // Between pages some come and some go, behind the cursor and before it.
        tenant.touch(&[&format!("document:a{pages}#viewer@user:bob")]);
        tenant.untouch(&[&format!("{}#viewer@user:bob", name(59 - pages % 3))]);
        pages += 1;
        match page.get("cursor") {
            Some(cursor) => body["cursor"] = cursor.clone(),
            None => break,
        }
    }
    assert!(pages >= 9, "{pages}");
    let mut sorted = found.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(found, sorted, "in order, each once");
    for at in 0..57 {
        let entry = format!("{} allow", name(at));
        assert_eq!(found.iter().filter(|held| **held == entry).count(), 1, "{entry}");
    }
    // A cursor belongs to its question and its vault.
    let cursor = body["cursor"].clone();
    for (member, value) in [
        ("subject", json!("user:carol")),
        ("permission", json!("viewer")),
        ("resource_type", json!("folder")),
    ] {
        let mut other = body.clone();
        other[member] = value;
        let permission = if member == "resource_type" {
            "view"
        } else {
            "viewer"
        };
        if member != "permission" {
            other["permission"] = json!(permission);
        }
        let problem = tenant
            .post("/v1/resources/list", other)
            .problem(400, "invalid_cursor");
        assert_eq!(problem["field"], "cursor");
    }
    let other = self::tenant(&server, "other pages");
    other
        .post("/v1/resources/list", body.clone())
        .problem(400, "invalid_cursor");
    let mut of_subjects = subjects("document:open", "view", "user");
    of_subjects["cursor"] = cursor;
    tenant
        .post("/v1/subjects/list", of_subjects)
        .problem(400, "invalid_cursor");
    for (member, value) in [
        ("cursor", json!("nonsense")),
        ("limit", json!(0)),
        ("limit", json!(1_001)),
        ("limit", json!(-1)),
        ("subject", json!("bob")),
        ("resource_type", json!("a b")),
        ("permission", json!("")),
        ("context", json!([])),
        ("consistency", json!({"at_least_as_fresh": "x"})),
        ("offset", json!(1)),
    ] {
        let mut bad = resources("user:bob", "view", "document");
        bad[member] = value;
        let answer = tenant.post("/v1/resources/list", bad);
        assert_eq!(answer.status, 400, "{member}: {answer:?}");
    }
}

#[test]
fn a_page_that_the_work_limit_cuts_says_where_it_goes_on() {
    let server = Server::shared();
    let tenant = tenant(&server, "work");
    let documents: Vec<String> = (0..400).map(|at| format!("document:d{at:03}")).collect();
    for chunk in documents.chunks(200) {
        let viewers: Vec<String> = chunk
            .iter()
            .map(|name| format!("{name}#viewer@user:bob"))
            .collect();
        let banned: Vec<String> = chunk
            .iter()
            .map(|name| format!("{name}#banned@user:bob"))
            .collect();
        tenant.touch(&viewers.iter().map(String::as_str).collect::<Vec<_>>());
        tenant.touch(&banned.iter().map(String::as_str).collect::<Vec<_>>());
    }
    tenant.touch(&["document:zz#viewer@user:bob"]);
    let limit = |value: u64| {
        let path = format!("/v1/vaults/{}", tenant.vault);
        tenant
            .server
            .admin("PATCH", &path, Some(json!({"limits": {"max_work": value}})))
            .expect(200);
        until("the limit holds", || {
            let stats = tenant
                .server
                .admin("GET", &format!("{path}/stats"), None)
                .expect(200);
            (stats["limits"]["max_work"] == value).then_some(())
        });
    };
    limit(500);
    let mut body = resources("user:bob", "view", "document");
    body["limit"] = json!(5);
    let (mut found, mut pages, mut empty) = (Vec::new(), 0, 0);
    loop {
        let page = tenant.post("/v1/resources/list", body.clone()).expect(200);
        let items = entries(&page, "resources", "resource");
        empty += usize::from(items.is_empty());
        found.extend(items);
        pages += 1;
        match page.get("cursor") {
            Some(cursor) => body["cursor"] = cursor.clone(),
            None => break,
        }
    }
    assert_eq!(found, ["document:open allow", "document:zz allow"]);
    assert!(pages > 2 && empty > 0, "{pages} pages, {empty} empty");
    // A stream goes on by itself.
    let answer = stream(
        &tenant,
        "/v1/resources/list",
        &resources("user:bob", "view", "document"),
    );
    let lines = lines(&answer);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[2]["revision"].is_string() && lines[2].get("cursor").is_none());
    // Too little for anything at all is an error, not an empty list.
    limit(1);
    let problem = tenant.post("/v1/resources/list", resources("user:bob", "view", "document"));
    assert!(
        problem.problem(400, "limit_exceeded")["detail"]
            .as_str()
            .unwrap()
            .contains("max_work")
    );
}

#[test]
fn streams_hold_everything_a_line_each_and_say_how_they_ended() {
    let server = Server::shared();
    let tenant = tenant(&server, "streams");
    for chunk in 0..5 {
        let touched: Vec<String> = (0..500)
            .flat_map(|at| {
                let at = chunk * 500 + at;
                [
                    format!("document:d{at:04}#viewer@user:bob"),
                    format!("document:big#viewer@user:u{at:04}"),
                ]
            })
            .collect();
        tenant.touch(&touched.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let body = resources("user:bob", "view", "document");
    let all = lines(&stream(&tenant, "/v1/resources/list", &body));
    assert_eq!(all.len(), 2_500 + 2);
    assert_eq!(all[0], json!({"resource": "document:d0000", "decision": "allow"}));
    assert_eq!(
        all[2_500],
        json!({"resource": "document:open", "decision": "allow"})
    );
    let last = all.last().unwrap();
    assert!(
        last["revision"].is_string() && last.get("cursor").is_none(),
        "{last}"
    );
    // A stream's limit is for all of it, and its cursor serves streams and pages.
    let mut body = body;
    body["limit"] = json!(2_300);
    let some = lines(&stream(&tenant, "/v1/resources/list", &body));
    assert_eq!(some[..2_300], all[..2_300]);
    assert_eq!(some.len(), 2_301);
    body["cursor"] = some[2_300]["cursor"].clone();
    let rest = lines(&stream(&tenant, "/v1/resources/list", &body));
    assert_eq!(rest[..rest.len() - 1], all[2_300..2_501]);
    body["limit"] = json!(10);
    let page = tenant.post("/v1/resources/list", body).expect(200);
    assert_eq!(page["resources"].as_array().unwrap()[..], all[2_300..2_310]);
    let users = lines(&stream(
        &tenant,
        "/v1/subjects/list",
        &subjects("document:big", "view", "user"),
    ));
    assert_eq!(users.len(), 2_501);
    assert_eq!(users[7], json!({"subject": "user:u0007", "decision": "allow"}));
    // Nothing is a stream too; an error before the first line is a problem like any other.
    let none = lines(&stream(
        &tenant,
        "/v1/resources/list",
        &resources("user:bob", "publish", "document"),
    ));
    assert_eq!(none.len(), 1, "{none:?}");
    stream(
        &tenant,
        "/v1/resources/list",
        &resources("user:bob", "view", "book"),
    )
    .problem(400, "unknown_type");
    stream(&tenant, "/v1/resources/list", &json!({})).problem(400, "missing_field");
    let mut zero = resources("user:bob", "view", "document");
    zero["limit"] = json!(0);
    stream(&tenant, "/v1/resources/list", &zero).problem(400, "invalid_value");
    // One after the lines that are certain is told in the last one.
    tenant.touch(&["document:zz#viewer@user:carol", "document:da#viewer@user:bob"]);
    let broken = stream(
        &tenant,
        "/v1/resources/list",
        &resources("user:bob", "loop", "document"),
    );
    broken.problem(422, "recursive_exclusion");
}

#[test]
fn lists_see_what_was_written_before_them() {
    let server = Server::shared();
    let tenant = tenant(&server, "fresh lists");
    for round in 0..20 {
        let name = format!("document:new{round:02}");
        let revision = tenant.touch(&[&format!("{name}#viewer@user:bob")]);
        for consistency in [
            json!("minimize_latency"),
            json!("fully_consistent"),
            json!({ "at_least_as_fresh": revision }),
        ] {
            let mut body = resources("user:bob", "view", "document");
            body["consistency"] = consistency.clone();
            let answer = tenant.post("/v1/resources/list", body).expect(200);
            assert_eq!(answer["revision"], revision.as_str(), "{consistency}");
            assert_eq!(
                answer["resources"].as_array().unwrap().len(),
                round + 2,
                "{consistency}"
            );
            let mut body = subjects(&name, "view", "user");
            body["consistency"] = consistency.clone();
            let answer = tenant.post("/v1/subjects/list", body).expect(200);
            assert_eq!(entries(&answer, "subjects", "subject"), ["user:bob allow"]);
            let mut body = json!({ "subject": "user:bob", "resource": name });
            body["consistency"] = consistency;
            let answer = tenant.post("/v1/permissions/list", body).expect(200);
            assert_eq!(answer["revision"], revision.as_str());
            assert_eq!(answer["permissions"][0]["decision"], "allow");
        }
    }
}
