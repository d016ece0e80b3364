//! Relationships: written atomically, deleted, and read by filters and pages.

use serde_json::{Value, json};

use crate::harness::{Server, Tenant, relationship, written};

const STORED: [&str; 7] = [
    "document:a/1#owner@user:alice",
    "document:a/1#viewer@group:g#member",
    "document:a/1#viewer@user:*",
    "document:a/2#viewer@user:alice",
    "document:b#viewer@user:bob",
    "folder:a/1#viewer@user:alice",
    "group:g#member@user:mail@example.com:x",
];

#[test]
fn filters_find_exactly_what_matches() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "filters");
    tenant.touch(&STORED);
    for (filter, expected) in [
        (json!({}), &[0, 1, 2, 3, 4, 5, 6][..]),
        (json!({"resource_type": "document"}), &[0, 1, 2, 3, 4]),
        (
            json!({"resource_type": "document", "resource_id": "a/1"}),
            &[0, 1, 2],
        ),
        (
            json!({"resource_type": "document", "resource_id_prefix": "a/"}),
            &[0, 1, 2, 3],
        ),
        (
            json!({"resource_type": "document", "resource_id_prefix": ""}),
            &[0, 1, 2, 3, 4],
        ),
        (
            json!({"resource_type": "document", "resource_id_prefix": "c"}),
            &[],
        ),
        (json!({"resource_id": "a/1"}), &[0, 1, 2, 5]),
        (json!({"relation": "viewer"}), &[1, 2, 3, 4, 5]),
        (json!({"subject_type": "user"}), &[0, 2, 3, 4, 5, 6]),
        (json!({"subject_type": "user", "subject_id": "alice"}), &[0, 3, 5]),
        (json!({"subject_type": "user", "subject_id": "*"}), &[2]),
        (json!({"subject_id": "mail@example.com:x"}), &[6]),
        (json!({"subject_relation": "member"}), &[1]),
        (
            json!({"subject_type": "group", "subject_relation": "member"}),
            &[1],
        ),
        (json!({"subject_type": "group", "subject_relation": ""}), &[]),
        (
            json!({"resource_type": "document", "relation": "viewer", "subject_type": "user", "subject_id": "alice"}),
            &[3],
        ),
        (json!({"resource_type": "nothing"}), &[]),
    ] {
        let expected: Vec<&str> = expected.iter().map(|at| STORED[*at]).collect();
        let mut found = tenant.read(filter.clone());
        found.sort();
        assert_eq!(found, expected, "{filter}");
        // One at a time, the same come.
        let mut paged = Vec::new();
        let mut body = json!({"filter": filter, "limit": 1});
        loop {
            let page = tenant.post("/v1/relationships/read", body.clone()).expect(200);
            let items = page["relationships"].as_array().unwrap();
            assert!(items.len() <= 1);
            paged.extend(items.iter().map(written));
            match page.get("cursor") {
                Some(cursor) => body["cursor"] = cursor.clone(),
                None => break,
            }
        }
        paged.sort();
        assert_eq!(paged, expected, "{filter}, page by page");
    }
    // Without any filter everything is read as well.
    let page = tenant.post("/v1/relationships/read", json!({})).expect(200);
    assert_eq!(page["relationships"].as_array().unwrap().len(), 7);
}

#[test]
fn pages_survive_writes_and_cursors_stay_where_they_belong() {
    let server = Server::shared();
    let (tenant, other) = (
        Tenant::with_documents(&*server, "pages"),
        Tenant::with_documents(&*server, "other pages"),
    );
    let names: Vec<String> = (0..30)
        .map(|at| format!("document:d{at:02}#viewer@user:u"))
        .collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    tenant.touch(&all);
    other.touch(&all);
    let body = json!({"filter": {"resource_type": "document"}, "limit": 10});
    let page = |cursor: &Value| {
        let mut body = body.clone();
        body["cursor"] = cursor.clone();
        tenant.post("/v1/relationships/read", body).expect(200)
    };
    let first = tenant.post("/v1/relationships/read", body.clone()).expect(200);
    // Before the next page something goes from the first, comes into the last, and the very place of the cursor goes.
    tenant.untouch(&[
        "document:d00#viewer@user:u",
        "document:d09#viewer@user:u",
        "document:d10#viewer@user:u",
    ]);
    tenant.touch(&["document:d99#viewer@user:u", "document:a#viewer@user:u"]);
    let second = page(&first["cursor"]);
    let third = page(&second["cursor"]);
    let found: Vec<String> = [&first, &second, &third]
        .iter()
        .flat_map(|page| page["relationships"].as_array().unwrap().iter().map(written))
        .collect();
    let expected: Vec<String> = (0..30)
        .filter(|at| *at != 10)
        .chain([99])
        .map(|at| format!("document:d{at:02}#viewer@user:u"))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(third.get("cursor"), None, "{third}");
    // Neither another vault's nor another filter's cursor is taken.
    let foreign = json!({"filter": {"resource_type": "document"}, "cursor": first["cursor"]});
    other
        .post("/v1/relationships/read", foreign)
        .problem(400, "invalid_cursor");
    let elsewhere = json!({"filter": {"resource_type": "folder"}, "cursor": first["cursor"]});
    tenant
        .post("/v1/relationships/read", elsewhere)
        .problem(400, "invalid_cursor");
    // Nor one that was tampered with.
    let cursor = first["cursor"].as_str().unwrap();
    for at in 0..cursor.len() {
        let mut tampered = cursor.to_owned().into_bytes();
        tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
        let text = String::from_utf8(tampered).unwrap();
        let answer = tenant.post(
            "/v1/relationships/read",
            json!({"filter": {"resource_type": "document"}, "cursor": text}),
        );
        assert!([200, 400].contains(&answer.status), "{answer:?}");
        if answer.status == 200 {
            let page = answer.json();
            assert!(
                page["relationships"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|item| written(item).starts_with("document:"))
            );
        }
    }
}

#[test]
fn a_refused_write_leaves_nothing_behind() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "atomic");
    tenant.touch(&["document:d#viewer@user:alice"]);
    let before = tenant.read(json!({}));
    let (good, exists) = (
        relationship("document:new#viewer@user:x"),
        relationship("document:d#viewer@user:alice"),
    );
    let gone = relationship("document:d#viewer@user:alice");
    for (body, status, code, field) in [
        (
            json!({"touch": [good], "create": [exists]}),
            409,
            "already_exists",
            None,
        ),
        (
            json!({"touch": [good], "delete": [gone], "preconditions": [{"must_exist": {"resource_type": "document"}}, {"must_exist": {"resource_id": "missing"}}]}),
            409,
            "precondition_failed",
            Some("preconditions[1]"),
        ),
        (
            json!({"touch": [good], "preconditions": [{"must_not_exist": {"subject_id": "alice"}}]}),
            409,
            "precondition_failed",
            Some("preconditions[0]"),
        ),
        (
            json!({"touch": [good, relationship("document:d#viewer@folder:f")]}),
            422,
            "relationship_does_not_fit_schema",
            Some("touch[1].subject"),
        ),
        (
            json!({"touch": [good], "create": [relationship("document:d#reader@user:a")]}),
            422,
            "relationship_does_not_fit_schema",
            Some("create[0].relation"),
        ),
        (
            json!({"touch": [good, relationship("paper:d#viewer@user:a")]}),
            422,
            "relationship_does_not_fit_schema",
            Some("touch[1].resource"),
        ),
        (
            json!({"touch": [good, relationship("document:d#view@user:a")]}),
            422,
            "relationship_does_not_fit_schema",
            Some("touch[1].relation"),
        ),
        (
            json!({"touch": [good, relationship("document:d#owner@user:*")]}),
            422,
            "relationship_does_not_fit_schema",
            Some("touch[1].subject"),
        ),
        (
            json!({"touch": [good, relationship("document:d#viewer@group:g")]}),
            422,
            "relationship_does_not_fit_schema",
            Some("touch[1].subject"),
        ),
        (
            json!({"touch": [good, relationship("document:d#viewer@person:p")]}),
            422,
            "relationship_does_not_fit_schema",
            Some("touch[1].subject"),
        ),
        (
            json!({"touch": [good, {"resource": "document:d", "relation": "viewer", "subject": "user:a", "caveat": {"name": "c"}}]}),
            422,
            "relationship_does_not_fit_schema",
            Some("touch[1].caveat"),
        ),
        (
            json!({"touch": [good, {"resource": "document:d", "relation": "owner", "subject": "user:a", "expires_at": "2099-01-01T00:00:00Z"}]}),
            422,
            "relationship_does_not_fit_schema",
            Some("touch[1].expires_at"),
        ),
        (
            json!({"touch": [good, good]}),
            400,
            "duplicate_relationship",
            Some("touch[1]"),
        ),
        (
            json!({"touch": [good], "create": [good]}),
            400,
            "duplicate_relationship",
            Some("create[0]"),
        ),
        (
            json!({"touch": [good], "delete": [good]}),
            400,
            "duplicate_relationship",
            Some("delete[0]"),
        ),
    ] {
        let answer = tenant.write(body.clone());
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        let problem = answer.problem(status, code);
        if let Some(field) = field {
            assert_eq!(problem["field"], field, "{body}: {answer:?}");
        }
        assert_eq!(tenant.read(json!({})), before, "{body}");
        assert_eq!(tenant.check("user:x view document:new"), "deny");
    }
}

#[test]
fn a_write_has_up_to_a_thousand_changes() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "thousand");
    let many = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|at| relationship(&format!("document:d{at}#viewer@user:u")))
            .collect()
    };
    let all = many(1001);
    let body = json!({"touch": all[..400], "create": all[400..700], "delete": all[700..]});
    tenant.write(body).problem(400, "too_many");
    assert!(tenant.read(json!({})).is_empty());
    tenant.change(json!({ "create": many(1000) }));
    let page = tenant
        .post("/v1/relationships/read", json!({"limit": 1000}))
        .expect(200);
    assert_eq!(page["relationships"].as_array().unwrap().len(), 1000);
    tenant.change(json!({ "delete": many(1000) }));
    assert!(tenant.read(json!({})).is_empty());
}

#[test]
fn touch_replaces_create_does_not_and_delete_does_not_mind() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "verbs");
    let until = |time: Option<&str>| {
        let mut body = relationship("document:d#viewer@user:alice");
        if let Some(time) = time {
            body["expires_at"] = json!(time);
        }
        body
    };
    let stored = || tenant.post("/v1/relationships/read", json!({})).expect(200)["relationships"].clone();
    tenant.change(json!({"create": [until(Some("2099-01-01T00:00:00Z"))]}));
    assert_eq!(stored(), json!([until(Some("2099-01-01T00:00:00Z"))]));
    // The expiry is no part of what it is.
    tenant
        .write(json!({"create": [until(None)]}))
        .problem(409, "already_exists");
    tenant.change(json!({"touch": [until(Some("2098-06-01T02:00:00+02:00"))]}));
    assert_eq!(stored(), json!([until(Some("2098-06-01T00:00:00Z"))]));
    tenant.change(json!({"touch": [until(None)]}));
    assert_eq!(stored(), json!([until(None)]));
    tenant.untouch(&["document:d#viewer@user:alice", "document:never#viewer@user:was"]);
    assert_eq!(stored(), json!([]));
    tenant.change(json!({"create": [until(None)]}));
    // A precondition that holds, and a name that two writers both want: one gets it.
    let claim = |who: &str| {
        tenant.write(json!({
            "create": [relationship(&format!("document:claim#owner@user:{who}"))],
            "preconditions": [{"must_not_exist": {"resource_type": "document", "resource_id": "claim", "relation": "owner"}}],
        }))
    };
    let statuses = std::thread::scope(|scope| {
        let claim = &claim;
        let threads: Vec<_> = (0..8)
            .map(|at| scope.spawn(move || claim(&format!("u{at}")).status))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 409).count(),
        7,
        "{statuses:?}"
    );
}

#[test]
fn deletes_by_filter_say_how_many_and_whether_all() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "deletes");
    let all: Vec<Value> = (0..25)
        .map(|at| relationship(&format!("document:d{at:02}#viewer@user:u")))
        .collect();
    tenant.change(json!({ "touch": all }));
    tenant.touch(&["folder:f#viewer@user:u"]);
    let delete = |body: Value| tenant.post("/v1/relationships/delete", body);
    let filter = json!({"resource_type": "document"});
    delete(json!({"filter": filter, "preconditions": [{"must_exist": {"resource_id": "missing"}}]}))
        .problem(409, "precondition_failed");
    assert_eq!(tenant.read(filter.clone()).len(), 25);
    let answer = delete(json!({"filter": filter, "limit": 10})).expect(200);
    assert_eq!(
        (&answer["deleted"], &answer["complete"]),
        (&json!(10), &json!(false))
    );
    let answer = delete(json!({"filter": filter, "limit": 15})).expect(200);
    assert_eq!(answer["deleted"], 15, "{answer}");
    let answer = delete(json!({"filter": filter})).expect(200);
    assert_eq!(
        (&answer["deleted"], &answer["complete"]),
        (&json!(0), &json!(true))
    );
    assert_eq!(tenant.read(json!({})), ["folder:f#viewer@user:u"]);
}

#[test]
fn what_is_expired_never_counts() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "expiry");
    let with = |text: &str, at: &str| {
        let mut body = relationship(text);
        body["expires_at"] = json!(at);
        body
    };
    tenant.change(json!({"touch": [
        with("document:past#viewer@user:alice", "2020-01-01T00:00:00Z"),
        with("document:future#viewer@user:alice", "2099-01-01T00:00:00Z"),
        relationship("document:lifted#viewer@user:alice"),
        with("document:lifted#banned@user:alice", "2020-01-01T00:00:00Z"),
    ]}));
    assert_eq!(tenant.check("user:alice view document:past"), "deny");
    assert_eq!(tenant.check("user:alice view document:future"), "allow");
    assert_eq!(
        tenant.check("user:alice view document:lifted"),
        "allow",
        "an expired ban bans nobody"
    );
    assert_eq!(tenant.read(json!({"relation": "viewer"})).len(), 2);
    // It is not there for preconditions nor for `create` either.
    let past = json!({"resource_type": "document", "resource_id": "past"});
    tenant
        .write(json!({"delete": [relationship("document:x#viewer@user:y")], "preconditions": [{ "must_exist": past }]}))
        .problem(409, "precondition_failed");
    tenant.change(json!({"create": [relationship("document:past#viewer@user:alice")], "preconditions": [{ "must_not_exist": past }]}));
    assert_eq!(tenant.check("user:alice view document:past"), "allow");

    // One that expires while its decision is remembered.
    let moment = time::OffsetDateTime::now_utc() + std::time::Duration::from_millis(1500);
    let text = moment
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    tenant.change(json!({"touch": [with("document:soon#viewer@user:alice", &text)]}));
    let mut decisions = Vec::new();
    crate::harness::until("it expires", || {
        let before = time::OffsetDateTime::now_utc();
        let decision = tenant.check("user:alice view document:soon");
        let after = time::OffsetDateTime::now_utc();
        assert!(decision == "allow" || after >= moment, "expired too soon");
        assert!(decision == "deny" || before < moment, "expired too late");
        decisions.push(decision.clone());
        (decision == "deny").then_some(())
    });
    assert_eq!(decisions[0], "allow", "it did count once");
    assert!(tenant.read(json!({"resource_id": "soon"})).is_empty());
}

#[test]
fn ids_hold_whatever_an_id_may_hold() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "ids");
    let long = "x".repeat(1024);
    for id in [
        "mail@example.com",
        "https://example.com/a?b=c&d=%20",
        "a:b:c",
        "Ünïcödé-日本-🦀",
        "*x",
        "**",
        "-",
        "0",
        "a|b,c;d'e\"f\\g",
        long.as_str(),
    ] {
        let document = format!("document:{id}");
        let body = json!({"resource": document, "relation": "viewer", "subject": format!("user:{id}")});
        tenant.change(json!({ "touch": [body] }));
        let check = json!({"resource": document, "permission": "view", "subject": format!("user:{id}")});
        assert_eq!(
            tenant.post("/v1/check", check).expect(200)["decision"],
            "allow",
            "{id}"
        );
        let found = tenant
            .post("/v1/relationships/read", json!({"filter": {"resource_id": id}}))
            .expect(200);
        assert_eq!(found["relationships"], json!([body]), "{id}");
    }
}
