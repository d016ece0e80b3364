//! OpenID AuthZEN from outside: the small world that its certification asks for, what it says of errors, and what it leaves to us.

use std::ops::Deref;

use serde_json::{Value, json};

use crate::harness::{Server, Tenant};

const EVALUATION: &str = "/access/v1/evaluation";
const EVALUATIONS: &str = "/access/v1/evaluations";
const SUBJECTS: &str = "/access/v1/search/subject";
const RESOURCES: &str = "/access/v1/search/resource";
const ACTIONS: &str = "/access/v1/search/action";

/// Records that may be written while they are not archived, and deleted softly.
const RECORDS: &str = r#"
definition user {}

caveat not_archived(resource map<any>) {
    !has(resource.status) || resource.status != "archived"
}

caveat softly(action map<any>) {
    has(action.soft) && action.soft == true
}

caveat during_the_day(hour int) {
    hour > 7 && hour < 20
}

definition record {
    relation reader: user | user:* | user with during_the_day
    relation blocked: user
    relation writer: user | user with not_archived
    relation deleter: user with softly
    permission read = reader - blocked
    permission write = writer
    permission delete = deleter
}
"#;

fn records(server: &Server) -> Tenant<&Server> {
    let tenant = Tenant::new(server, "authzen");
    tenant.put_schema(RECORDS);
    let caveated = |relationship: [&str; 3], caveat: &str| {
        let [resource, relation, subject] = relationship;
        json!({"resource": resource, "relation": relation, "subject": subject, "caveat": {"name": caveat}})
    };
    tenant.touch(&[
        "record:record-1#reader@user:alice",
        "record:record-1#reader@user:bob",
        "record:record-2#reader@user:alice",
        // An administrator.
        "record:record-2#writer@user:bob",
        "record:record-3#reader@user:*",
        "record:record-3#blocked@user:mallory",
    ]);
    tenant.change(json!({"touch": [
        caveated(["record:record-1", "writer", "user:alice"], "not_archived"),
        caveated(["record:record-2", "writer", "user:alice"], "not_archived"),
        caveated(["record:record-1", "deleter", "user:alice"], "softly"),
        caveated(["record:record-4", "reader", "user:alice"], "during_the_day"),
    ]}));
    tenant
}

fn entity(text: &str) -> Value {
    let (kind, id) = text.split_once(':').unwrap();
    json!({"type": kind, "id": id})
}

/// A question such as `user:alice read record:record-1`.
fn question(text: &str) -> Value {
    let words: Vec<&str> = text.split(' ').collect();
    json!({"subject": entity(words[0]), "action": {"name": words[1]}, "resource": entity(words[2])})
}

/// Adds properties to the entities of a question.
fn with(mut question: Value, properties: Value) -> Value {
    for (entity, properties) in properties.as_object().unwrap() {
        question[entity]["properties"] = properties.clone();
    }
    question
}

#[test]
fn an_evaluation_is_a_check_in_other_words() {
    let server = Server::shared();
    let tenant = records(&server);
    let archived = || json!({"resource": {"status": "archived"}});
    for (asked, decision) in [
        (question("user:alice read record:record-1"), true),
        (question("user:alice write record:record-1"), true),
        (question("user:bob read record:record-1"), true),
        (question("user:bob write record:record-1"), false),
        (question("user:nobody read record:record-1"), false),
        (question("user:alice read record:no-such-record"), false),
        (
            with(question("user:alice write record:record-2"), archived()),
            false,
        ),
        (
            with(
                question("user:alice write record:record-2"),
                json!({"resource": {"status": "active"}}),
            ),
            true,
        ),
        (
            with(
                question("user:bob write record:record-2"),
                json!({"subject": {"role": "admin"}, "resource": {"status": "archived"}}),
            ),
            true,
        ),
        (
            with(
                question("user:alice delete record:record-1"),
                json!({"action": {"soft": true}}),
            ),
            true,
        ),
        (
            with(
                question("user:alice delete record:record-1"),
                json!({"action": {"soft": false}}),
            ),
            false,
        ),
        (question("user:alice delete record:record-1"), false),
    ] {
        let mut padded = asked.clone();
        padded["context"] = json!({"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"});
        padded["something_new"] = json!(["of", "a", "later", "version"]);
        padded["subject"]["nickname"] = json!(7);
        for asked in [asked, padded] {
            // Evaluated, and remembered.
            for _ in 0..2 {
                let answer = tenant.post(EVALUATION, asked.clone()).expect(200);
                assert_eq!(answer, json!({"decision": decision}), "{asked}");
                assert_eq!(
                    tenant.post(EVALUATIONS, asked.clone()).expect(200),
                    answer,
                    "{asked}"
                );
            }
        }
    }
}

#[test]
fn what_lacks_context_is_denied_and_says_what_it_lacks() {
    let server = Server::shared();
    let tenant = records(&server);
    let asked = question("user:alice read record:record-4");
    let reason = json!({"decision": "conditional", "missing_context": ["hour"]});
    assert_eq!(
        tenant.post(EVALUATION, asked.clone()).expect(200),
        json!({"decision": false, "context": {"reason": reason}})
    );
    for (hour, decision) in [(12, true), (3, false)] {
        let mut asked = asked.clone();
        asked["context"] = json!({ "hour": hour });
        assert_eq!(
            tenant.post(EVALUATION, asked).expect(200),
            json!({ "decision": decision })
        );
    }
    // What is only conditional is not found either.
    let search =
        json!({"subject": entity("user:alice"), "action": {"name": "read"}, "resource": {"type": "record"}});
    assert_eq!(
        ids(&tenant, RESOURCES, search.clone()),
        ["record-1", "record-2", "record-3"]
    );
    let mut by_day = search;
    by_day["context"] = json!({"hour": 12});
    assert_eq!(
        ids(&tenant, RESOURCES, by_day),
        ["record-1", "record-2", "record-3", "record-4"]
    );
}

#[test]
fn context_and_properties_meet_in_the_context_of_caveats() {
    let server = Server::shared();
    let tenant = records(&server);
    let decide = |asked: Value| tenant.post(EVALUATION, asked).expect(200)["decision"].clone();
    let mut asked = question("user:alice write record:record-1");
    // Where an entity has no properties, what the context has by its name counts.
    asked["context"] = json!({"resource": {"status": "archived"}});
    assert_eq!(decide(asked.clone()), false);
    asked["resource"]["properties"] = json!({"status": "active"});
    assert_eq!(decide(asked.clone()), true);
    asked["resource"]["properties"] = json!({});
    assert_eq!(decide(asked.clone()), true);
    asked["resource"]["properties"] = json!(null);
    assert_eq!(decide(asked), false);
}

#[test]
fn several_evaluations_share_what_they_have_in_common() {
    let server = Server::shared();
    let tenant = records(&server);
    let decisions = |asked: Value| -> Vec<bool> {
        let answer = tenant.post(EVALUATIONS, asked).expect(200);
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
        let evaluations = answer["evaluations"].as_array().unwrap();
        evaluations
            .iter()
            .map(|one| one["decision"].as_bool().unwrap())
            .collect()
    };
    let record = |id: &str, status: &str| json!({"resource": {"type": "record", "id": id, "properties": {"status": status}}});
    for (asked, expected) in [
        (
            json!({"subject": entity("user:alice"), "action": {"name": "read"}, "evaluations": [
                {"resource": entity("record:record-1")}, {"resource": entity("record:record-9")},
            ]}),
            vec![true, false],
        ),
        (
            json!({"subject": entity("user:bob"), "resource": entity("record:record-1"), "evaluations": [
                {"action": {"name": "read"}}, {"action": {"name": "write"}},
            ]}),
            vec![true, false],
        ),
        (
            json!({"subject": entity("user:alice"), "action": {"name": "write"},
                "evaluations": [record("record-1", "active"), record("record-2", "archived")]}),
            vec![true, false],
        ),
        (
            json!({"evaluations": [
                question("user:alice read record:record-1"), question("user:bob write record:record-1"),
            ]}),
            vec![true, false],
        ),
        (
            // An entity is replaced as a whole, its properties with it.
            json!({"subject": entity("user:alice"), "action": {"name": "write"},
                "resource": {"type": "record", "id": "record-1", "properties": {"status": "archived"}},
                "evaluations": [{}, {"resource": entity("record:record-1")}, {"resource": null}]}),
            vec![false, true, false],
        ),
        (
            // So is the context.
            json!({"subject": entity("user:alice"), "action": {"name": "read"}, "resource": entity("record:record-4"),
                "context": {"hour": 12}, "evaluations": [{}, {"context": {"hour": 3}}, {"context": {}}]}),
            vec![true, false, false],
        ),
    ] {
        assert_eq!(decisions(asked.clone()), expected, "{asked}");
    }
}

#[test]
fn the_answer_can_end_with_the_evaluation_that_decides() {
    let server = Server::shared();
    let tenant = records(&server);
    let ask = |semantic: Value, ids: [&str; 4]| -> Vec<Value> {
        let evaluations = ids.map(|id| json!({"resource": entity(&format!("record:{id}"))}));
        let answer = tenant.post(
            EVALUATIONS,
            json!({"subject": entity("user:bob"), "action": {"name": "read"}, "evaluations": evaluations,
                "options": {"evaluations_semantic": semantic, "another": 1}}),
        );
        let decisions = answer.expect(200)["evaluations"].as_array().unwrap().clone();
        decisions.iter().map(|one| one["decision"].clone()).collect()
    };
    let (mixed, late) = (
        ["record-1", "record-9", "record-3", "record-9"],
        ["record-9", "record-9", "record-3", "record-1"],
    );
    for (semantic, ids, expected) in [
        (json!(null), mixed, json!([true, false, true, false])),
        (json!("execute_all"), mixed, json!([true, false, true, false])),
        (json!("deny_on_first_deny"), mixed, json!([true, false])),
        (
            json!("deny_on_first_deny"),
            ["record-1", "record-3", "record-1", "record-3"],
            json!([true, true, true, true]),
        ),
        // What cannot be decided is denied.
        (
            json!("deny_on_first_deny"),
            ["record-1", "a b", "record-1", "record-3"],
            json!([true, false]),
        ),
        (json!("permit_on_first_permit"), mixed, json!([true])),
        (json!("permit_on_first_permit"), late, json!([false, false, true])),
    ] {
        assert_eq!(json!(ask(semantic.clone(), ids)), expected, "{semantic} {ids:?}");
    }
    let options = json!({"evaluations_semantic": "allow_some"});
    let mut asked = question("user:bob read record:record-1");
    asked["options"] = options;
    let problem = tenant.post(EVALUATIONS, asked).problem(400, "invalid_value");
    assert_eq!(problem["field"], "options.evaluations_semantic");
}

#[test]
fn what_is_wrong_with_one_of_several_is_that_ones() {
    let server = Server::shared();
    let tenant = records(&server);
    let answer = tenant
        .post(
            EVALUATIONS,
            json!({"subject": entity("user:alice"), "action": {"name": "read"},
            "options": {"evaluations_semantic": "execute_all"}, "evaluations": [
                {"resource": entity("record:record-1")},
                {},
                {"resource": {"type": "record"}},
                {"resource": entity("spaceship:1")},
                {"resource": entity("record:record-1"), "action": {"name": "fly"}},
                {"resource": entity("record:a b")},
                {"resource": entity("record:record-1"), "subject": "alice"},
                {"resource": entity("record:record-1"), "context": 7},
                "record-1",
                {"resource": entity("record:record-1"), "later": true},
            ]}),
        )
        .expect(200);
    let evaluations = answer["evaluations"].as_array().unwrap();
    let expected = [
        None,
        Some("missing_field"),
        Some("missing_field"),
        Some("unknown_type"),
        Some("unknown_permission"),
        Some("invalid_value"),
        Some("invalid_value"),
        Some("invalid_value"),
        Some("invalid_value"),
        None,
    ];
    assert_eq!(evaluations.len(), expected.len());
    for (at, (one, code)) in evaluations.iter().zip(expected).enumerate() {
        let Some(code) = code else {
            assert_eq!(one, &json!({"decision": true}), "{at}");
            continue;
        };
        assert_eq!(one["decision"], false, "{at}: {one}");
        let error = &one["context"]["error"];
        assert_eq!(
            (&error["status"], &error["code"]),
            (&json!(400), &json!(code)),
            "{at}: {one}"
        );
        assert!(
            error["message"].as_str().is_some_and(|text| !text.is_empty()),
            "{at}"
        );
    }
    // More than there may be is refused as a whole.
    let many = vec![json!({}); 1_001];
    let mut asked = question("user:alice read record:record-1");
    asked["evaluations"] = json!(many);
    tenant.post(EVALUATIONS, asked).problem(400, "too_many");
}

#[test]
fn what_is_malformed_or_unknown_is_an_error_and_no_decision() {
    let server = Server::shared();
    let tenant = records(&server);
    let sound = question("user:alice read record:record-1");
    let without = |path: &[&str]| {
        let mut body = sound.clone();
        let (last, parents) = path.split_last().unwrap();
        let parent = parents
            .iter()
            .fold(&mut body, |value, member| &mut value[*member]);
        parent.as_object_mut().unwrap().remove(*last);
        body
    };
    for path in [
        &["subject"][..],
        &["action"],
        &["resource"],
        &["subject", "type"],
        &["subject", "id"],
        &["action", "name"],
        &["resource", "type"],
        &["resource", "id"],
    ] {
        for endpoint in [EVALUATION, EVALUATIONS] {
            let problem = tenant.post(endpoint, without(path)).problem(400, "missing_field");
            assert_eq!(problem["field"], path.join("."), "{endpoint}");
        }
    }
    let changed = |member: &str, value: Value| {
        let mut body = sound.clone();
        body[member] = value;
        body
    };
    for (body, code) in [
        (changed("subject", json!("alice")), "invalid_value"),
        (changed("action", json!({"name": 123})), "invalid_value"),
        (changed("context", json!([])), "invalid_value"),
        (
            changed("subject", json!({"type": "user", "id": "alice", "properties": 1})),
            "invalid_value",
        ),
        (
            changed("subject", json!({"type": "user", "id": "a b"})),
            "invalid_value",
        ),
        (
            changed("resource", json!({"type": "spaceship", "id": "1"})),
            "unknown_type",
        ),
        (changed("action", json!({"name": "fly"})), "unknown_permission"),
        (json!([sound]), "invalid_value"),
    ] {
        tenant.post(EVALUATION, body.clone()).problem(400, code);
        tenant.post(EVALUATIONS, body).problem(400, code);
    }
    for endpoint in [EVALUATION, EVALUATIONS, SUBJECTS, RESOURCES, ACTIONS] {
        for (content_type, body, code) in [
            ("application/json", "{", "malformed_json"),
            ("application/json", "", "malformed_json"),
            ("application/json; charset=utf-8", "7", "invalid_value"),
            ("text/plain", "{}", "invalid_content_type"),
            ("application/x-www-form-urlencoded", "{}", "invalid_content_type"),
        ] {
            let request = server
                .request("POST", endpoint)
                .bearer(&tenant.token("inferadb.read"));
            let request = request
                .header("Content-Type", content_type)
                .bytes(body.as_bytes());
            request.send().problem(400, code);
        }
        assert_eq!(tenant.get(endpoint).status, 405, "{endpoint}");
    }
}

#[test]
fn its_calls_want_the_tokens_of_the_others() {
    let server = Server::shared();
    let tenant = records(&server);
    let asked = question("user:alice read record:record-1");
    let ask = |endpoint: &str, scopes: &str| {
        let request = server.request("POST", endpoint).bearer(&tenant.token(scopes));
        request
            .header("X-Request-ID", "the-id-of-a-pep")
            .json(&asked)
            .send()
    };
    for endpoint in [EVALUATION, EVALUATIONS, SUBJECTS, RESOURCES, ACTIONS] {
        let answer = server.request("POST", endpoint).json(&asked).send();
        answer.problem(401, "missing_token");
        assert!(answer.header("www-authenticate").is_some());
        let decides = [EVALUATION, EVALUATIONS].contains(&endpoint);
        for (scopes, allowed) in [
            ("inferadb.check", decides),
            ("inferadb.read", true),
            ("inferadb.write", false),
            ("inferadb.admin", false),
        ] {
            let answer = ask(endpoint, scopes);
            assert_eq!(
                answer.status,
                if allowed { 200 } else { 403 },
                "{endpoint} {scopes}: {answer:?}"
            );
            assert_eq!(answer.header("x-request-id"), Some("the-id-of-a-pep"));
        }
    }
    // Another vault knows nothing of it.
    let other = records(&server);
    other.untouch(&["record:record-1#reader@user:alice"]);
    assert_eq!(
        other.post(EVALUATION, asked.clone()).expect(200),
        json!({"decision": false})
    );
    assert_eq!(
        tenant.post(EVALUATION, asked).expect(200),
        json!({"decision": true})
    );
}

/// What a search finds, all pages of it, and that it says how much each has.
fn found<S: Deref<Target = Server>>(tenant: &Tenant<S>, endpoint: &str, mut body: Value) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let answer = tenant.post(endpoint, body.clone()).expect(200);
        let results = answer["results"].as_array().unwrap();
        assert_eq!(answer["page"]["count"], results.len(), "{answer}");
        all.extend(results.iter().cloned());
        match answer["page"]["next_token"].as_str().unwrap() {
            "" => return all,
            token => body["page"]["token"] = json!(token),
        }
    }
}

fn ids<S: Deref<Target = Server>>(tenant: &Tenant<S>, endpoint: &str, body: Value) -> Vec<String> {
    let found = found(tenant, endpoint, body);
    let id = |one: &Value| one["id"].as_str().or(one["name"].as_str()).unwrap().to_owned();
    found.iter().map(id).collect()
}

#[test]
fn a_search_finds_what_an_evaluation_permits() {
    let server = Server::shared();
    let tenant = records(&server);
    let archived = json!({"status": "archived"});
    for (endpoint, body, expected) in [
        (
            SUBJECTS,
            json!({"subject": {"type": "user"}, "action": {"name": "read"}, "resource": entity("record:record-1")}),
            json!([entity("user:alice"), entity("user:bob")]),
        ),
        (
            // Whoever is named there is not looked at.
            SUBJECTS,
            json!({"subject": {"type": "user", "id": 7}, "action": {"name": "read"},
                "resource": entity("record:record-1"), "context": {"ip": "192.168.1.1"}}),
            json!([entity("user:alice"), entity("user:bob")]),
        ),
        (
            SUBJECTS,
            json!({"subject": {"type": "user"}, "action": {"name": "write"},
                "resource": {"type": "record", "id": "record-2", "properties": archived}}),
            json!([entity("user:bob")]),
        ),
        (
            // Everybody but one.
            SUBJECTS,
            json!({"subject": {"type": "user"}, "action": {"name": "read"}, "resource": entity("record:record-3")}),
            json!([{"type": "user", "id": "*", "properties": {"excluded": ["mallory"]}}]),
        ),
        (
            RESOURCES,
            json!({"subject": entity("user:alice"), "action": {"name": "read"}, "resource": {"type": "record", "id": "x"}}),
            json!([
                entity("record:record-1"),
                entity("record:record-2"),
                entity("record:record-3")
            ]),
        ),
        (
            RESOURCES,
            json!({"subject": {"type": "user", "id": "bob", "properties": {"role": "admin"}},
                "action": {"name": "write"}, "resource": {"type": "record"}}),
            json!([entity("record:record-2")]),
        ),
        (
            RESOURCES,
            json!({"subject": entity("user:alice"), "action": {"name": "write"},
                "resource": {"type": "record", "properties": archived}}),
            json!([]),
        ),
        (
            ACTIONS,
            json!({"subject": entity("user:alice"), "resource": entity("record:record-1"), "page": {"limit": 1}}),
            json!([{"name": "read"}, {"name": "write"}]),
        ),
        (
            ACTIONS,
            json!({"subject": entity("user:bob"), "resource": {"type": "record", "id": "record-2", "properties": archived}}),
            json!([{"name": "write"}]),
        ),
        // Who or what is not known finds nothing.
        (
            ACTIONS,
            json!({"subject": entity("user:nobody"), "resource": entity("record:record-1")}),
            json!([]),
        ),
        (
            ACTIONS,
            json!({"subject": entity("user:alice"), "resource": entity("spaceship:1")}),
            json!([]),
        ),
        (
            ACTIONS,
            json!({"subject": entity("alien:1"), "resource": entity("record:record-1")}),
            json!([]),
        ),
        (
            SUBJECTS,
            json!({"subject": {"type": "spaceship"}, "action": {"name": "read"}, "resource": entity("record:record-1")}),
            json!([]),
        ),
        (
            SUBJECTS,
            json!({"subject": {"type": "a type"}, "action": {"name": "read"}, "resource": entity("record:record-1")}),
            json!([]),
        ),
        (
            SUBJECTS,
            json!({"subject": {"type": "user"}, "action": {"name": "fly"}, "resource": entity("record:record-1")}),
            json!([]),
        ),
        (
            RESOURCES,
            json!({"subject": entity("user:a b"), "action": {"name": "read"}, "resource": {"type": "record"}}),
            json!([]),
        ),
        (
            RESOURCES,
            json!({"subject": entity("user:alice"), "action": {"name": "read"}, "resource": {"type": "spaceship"}}),
            json!([]),
        ),
    ] {
        assert_eq!(
            json!(found(&tenant, endpoint, body.clone())),
            expected,
            "{endpoint} {body}"
        );
    }
}

#[test]
fn a_search_goes_on_where_its_token_says() {
    let server = Server::shared();
    let tenant = records(&server);
    let names: Vec<String> = (0..25)
        .map(|n| format!("record:many#reader@user:u{n:02}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    tenant.touch(&names);
    let search = |page: Value| json!({"subject": {"type": "user"}, "action": {"name": "read"}, "resource": entity("record:many"), "page": page});
    let all = ids(&tenant, SUBJECTS, search(json!({})));
    assert_eq!(all.len(), 25);
    for limit in [1, 10, 25, 1_000_000] {
        assert_eq!(
            ids(&tenant, SUBJECTS, search(json!({ "limit": limit }))),
            all,
            "{limit}"
        );
    }
    let first = tenant
        .post(SUBJECTS, search(json!({"limit": 10, "properties": {"sort": 1}})))
        .expect(200);
    assert_eq!(first["page"]["count"], 10);
    let token = first["page"]["next_token"].clone();
    // The limit may be left out after the first page.
    let rest = tenant
        .post(SUBJECTS, search(json!({ "token": token })))
        .expect(200);
    assert_eq!(rest["page"], json!({"next_token": "", "count": 15}));
    // A token is that of its search.
    let mut other = search(json!({ "token": token }));
    other["action"]["name"] = json!("write");
    tenant.post(SUBJECTS, other).problem(400, "invalid_cursor");
    for page in [
        json!({"limit": 0}),
        json!({"limit": -1}),
        json!({"token": 7}),
        json!([]),
    ] {
        tenant.post(SUBJECTS, search(page)).problem(400, "invalid_value");
    }
    for (endpoint, body) in [
        (
            SUBJECTS,
            json!({"subject": {"type": "user"}, "resource": entity("record:record-1")}),
        ),
        (
            SUBJECTS,
            json!({"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record"}}),
        ),
        (
            RESOURCES,
            json!({"action": {"name": "read"}, "resource": {"type": "record"}}),
        ),
        (
            RESOURCES,
            json!({"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record"}}),
        ),
        (ACTIONS, json!({"subject": entity("user:alice")})),
        (
            ACTIONS,
            json!({"subject": {"type": "user"}, "resource": entity("record:record-1")}),
        ),
    ] {
        tenant.post(endpoint, body).problem(400, "missing_field");
    }
}

#[test]
fn its_metadata_say_where_all_that_is() {
    let metadata = "/.well-known/authzen-configuration";
    let expected = |base: &str| {
        json!({
            "policy_decision_point": base,
            "access_evaluation_endpoint": format!("{base}{EVALUATION}"),
            "access_evaluations_endpoint": format!("{base}{EVALUATIONS}"),
            "search_subject_endpoint": format!("{base}{SUBJECTS}"),
            "search_resource_endpoint": format!("{base}{RESOURCES}"),
            "search_action_endpoint": format!("{base}{ACTIONS}"),
        })
    };
    let server = Server::shared();
    let answer = server.request("GET", metadata).send();
    assert_eq!(answer.expect(200), expected("http://127.0.0.1"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let proxied = server
        .request("GET", metadata)
        .header("X-Forwarded-Proto", "https");
    let proxied = proxied.header("X-Forwarded-Host", "authz.example.com").send();
    assert_eq!(proxied.expect(200), expected("https://authz.example.com"));
    for (host, status) in [("a/b", 400), ("user@a", 400), ("a?b", 400), ("a.example", 200)] {
        let request = server.request("GET", metadata).header("X-Forwarded-Host", host);
        let answer = request.header("X-Forwarded-Proto", "https").send();
        match status {
            400 => drop(answer.problem(400, "invalid_host")),
            _ => assert_eq!(answer.expect(status), expected("https://a.example")),
        }
    }
    let foreign = server
        .request("GET", metadata)
        .header("X-Forwarded-Proto", "javascript");
    foreign.send().problem(400, "invalid_host");
    let named = Server::with(
        json!({"server": {"public_url": "https://PDP.example.com:443/"}, "storage": {"backend": "memory"}}),
    );
    let answer = named.request("GET", metadata).send().expect(200);
    assert_eq!(answer, expected("https://pdp.example.com"));
}

/// A context that takes as much memory as one of its length can.
fn heavy() -> Value {
    json!({"x": vec![json!({"": 0}); 580]})
}

#[test]
fn what_evaluations_share_is_read_once_and_what_each_brings_is_bounded() {
    let server = Server::shared();
    let tenant = records(&server);
    let mut asked = with(
        question("user:alice write record:record-1"),
        json!({"subject": heavy(), "action": heavy(), "resource": heavy()}),
    );
    asked["context"] = heavy();
    asked["evaluations"] = json!(vec![json!({}); 1_000]);
    let answer = tenant.post(EVALUATIONS, asked.clone()).expect(200);
    let evaluations = answer["evaluations"].as_array().unwrap();
    assert_eq!(evaluations.len(), 1_000);
    assert!(evaluations.iter().all(|one| one == &json!({"decision": true})));
    // Each with one of its own they come to some 400 MB.
    asked["evaluations"] = json!(vec![json!({"context": heavy()}); 1_000]);
    let answer = tenant.post(EVALUATIONS, asked).expect(200);
    let evaluations = answer["evaluations"].as_array().unwrap();
    let refused = |one: &&Value| one["context"]["error"]["code"] == "context_too_large";
    let count = evaluations.iter().filter(refused).count();
    assert!((500..1_000).contains(&count), "{count}");
    assert_eq!(evaluations[0], json!({"decision": true}));
    // So it is with checks in our own words.
    let check = json!({"subject": "user:alice", "resource": "record:record-1", "permission": "read", "context": heavy()});
    let checks = vec![check; 1_000];
    let answer = tenant
        .post("/v1/check/batch", json!({"checks": checks}))
        .expect(200);
    let results = answer["results"].as_array().unwrap();
    let refused = |one: &&Value| one["error"]["code"] == "context_too_large";
    let count = results.iter().filter(refused).count();
    assert!((500..1_000).contains(&count), "{count}");
    assert_eq!(results[0]["decision"], "allow");
}

#[test]
fn what_is_wrong_with_what_they_share_is_the_requests() {
    let server = Server::shared();
    let tenant = records(&server);
    let sound = question("user:alice read record:record-1");
    for (member, value, field) in [
        ("context", json!(7), "context"),
        ("context", json!({"x": "y".repeat(5_000)}), "context"),
        (
            "subject",
            json!({"type": "user", "id": "alice", "properties": [1]}),
            "subject.properties",
        ),
        ("subject", json!("alice"), "subject"),
    ] {
        let mut asked = sound.clone();
        asked["evaluations"] = json!([{}, sound]);
        asked[member] = value;
        let answer = tenant.post(EVALUATIONS, asked);
        assert_eq!(
            (answer.status, &answer.json()["field"]),
            (400, &json!(field)),
            "{answer:?}"
        );
    }
    // Whoever a subject is searched for as can be asked about.
    let everybody = question("user:* read record:record-3");
    assert_eq!(
        tenant.post(EVALUATION, everybody).expect(200),
        json!({"decision": true})
    );
    assert_eq!(
        tenant
            .post(EVALUATION, question("user:* read record:record-1"))
            .expect(200),
        json!({"decision": false})
    );
    for (asked, field) in [
        (question("user:alice fly record:record-1"), "action.name"),
        (question("user:alice read spaceship:1"), "resource.type"),
        (question("alien:1 read record:record-1"), "subject.type"),
    ] {
        let answer = tenant.post(EVALUATION, asked).expect(400);
        assert_eq!(answer["field"], field, "{answer}");
    }
    let nobody = json!({"subject": {"type": "user", "id": ""}, "action": {"name": "read"}, "resource": {"type": "record"}});
    let problem = tenant.post(RESOURCES, nobody).problem(400, "invalid_value");
    assert_eq!(problem["field"], "subject.id");
    let mut asked = sound;
    asked["options"] = json!({"evaluations_semantic": {"permit_on_first_permit": null}});
    tenant.post(EVALUATIONS, asked).problem(400, "invalid_value");
}

#[test]
fn what_cannot_be_decided_is_no_decision() {
    let server = Server::shared();
    let tenant = Tenant::new(&*server, "paradox");
    tenant.put_schema("definition user {}\ndefinition d {\n relation v: user | d#p\n permission p = v - q\n permission q = v & p\n}");
    tenant.touch(&["d:1#v@user:a", "d:1#v@d:1#p"]);
    let asked = question("user:a p d:1");
    let native = json!({"subject": "user:a", "resource": "d:1", "permission": "p"});
    let problem = tenant.post("/v1/check", native);
    let status = problem.status;
    assert_eq!(tenant.post(EVALUATION, asked).status, status, "{problem:?}");
    assert_eq!(status, 422, "{problem:?}");
    let search = json!({"subject": entity("user:a"), "action": {"name": "p"}, "resource": {"type": "d"}});
    assert_eq!(tenant.post(RESOURCES, search).status, 422);
}
