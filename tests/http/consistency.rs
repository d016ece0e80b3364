//! Revisions and freshness: what was answered is seen, and tokens stay in their vault.

use inferadb_actors::{Revision, VaultId};
use serde_json::{Value, json};

use crate::harness::{Server, Tenant, question_body, relationship};

#[test]
fn what_was_written_is_seen_by_every_kind_of_read() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "read your writes");
    let mut last = String::new();
    for round in 0..60 {
        let adds = round % 2 == 0;
        let revision = if adds {
            tenant.touch(&["document:d#viewer@user:alice"])
        } else {
            tenant.untouch(&["document:d#viewer@user:alice"])
        };
        assert_ne!(revision, last, "each change has a revision of its own");
        for consistency in [
            json!("minimize_latency"),
            json!("fully_consistent"),
            json!({ "at_least_as_fresh": revision }),
        ] {
            let mut body = question_body("user:alice view document:d");
            body["consistency"] = consistency.clone();
            let answer = tenant.post("/v1/check", body).expect(200);
            assert_eq!(
                answer["decision"],
                if adds { "allow" } else { "deny" },
                "{round}, {consistency}"
            );
            assert_eq!(answer["revision"], revision.as_str());
            let read = tenant
                .post("/v1/relationships/read", json!({ "consistency": consistency }))
                .expect(200);
            assert_eq!(
                read["relationships"].as_array().unwrap().len(),
                usize::from(adds),
                "{round}, {consistency}"
            );
            let batch =
                json!({"checks": [question_body("user:alice view document:d")], "consistency": consistency});
            assert_eq!(
                tenant.post("/v1/check/batch", batch).expect(200)["revision"],
                revision.as_str()
            );
        }
        last = revision;
    }
}

#[test]
fn writers_and_readers_at_once_see_their_own_writes() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "storm");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let tenant = &tenant;
            scope.spawn(move || {
                for round in 0..25 {
                    let (own, question) = (
                        format!("document:w{writer}#viewer@user:u{round}"),
                        format!("user:u{round} view document:w{writer}"),
                    );
                    assert_eq!(tenant.check(&question), "deny");
                    tenant.touch(&[&own]);
                    assert_eq!(tenant.check(&question), "allow");
                    if round % 2 == 0 {
                        tenant.untouch(&[&own]);
                        assert_eq!(tenant.check(&question), "deny");
                    }
                }
            });
        }
    });
    assert_eq!(tenant.read(json!({})).len(), 4 * 12);
}

#[test]
fn a_batch_never_sees_half_a_write() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "torn");
    let documents: Vec<String> = (0..50)
        .map(|at| format!("document:d{at}#viewer@user:alice"))
        .collect();
    let all: Vec<Value> = documents.iter().map(|text| relationship(text)).collect();
    let checks: Vec<Value> = (0..50)
        .map(|at| question_body(&format!("user:alice view document:d{at}")))
        .collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..40 {
                let verb = if round % 2 == 0 { "touch" } else { "delete" };
                tenant.change(json!({ verb: all }));
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            let answer = tenant
                .post("/v1/check/batch", json!({ "checks": checks }))
                .expect(200);
            let results = answer["results"].as_array().unwrap();
            assert!(results.iter().all(|result| result == &results[0]), "{answer}");
        }
    });
}

#[test]
fn every_reading_call_takes_every_consistency_and_refuses_what_it_cannot_keep() {
    let server = Server::shared();
    let (mine, other) = (
        Tenant::with_documents(&*server, "consistent"),
        Tenant::with_documents(&*server, "other consistent"),
    );
    let earlier = mine.touch(&["document:d#viewer@user:alice"]);
    let foreign = other.touch(&["document:d#viewer@user:alice"]);
    let vault: VaultId = mine.vault.parse().unwrap();
    let mut future = Revision::decode(vault, &earlier).unwrap();
    future.0.0[1] += 1;
    let future = future.encode(vault);
    let latest = mine.touch(&["document:d#viewer@user:bob"]);
    let question = question_body("user:bob view document:d");
    let calls = [
        ("/v1/check", question.clone()),
        ("/v1/check/batch", json!({ "checks": [question] })),
        (
            "/v1/relationships/read",
            json!({ "filter": {"subject_id": "bob"} }),
        ),
    ];
    for (path, body) in calls {
        let ask = |consistency: &Value| {
            let mut body = body.clone();
            body["consistency"] = consistency.clone();
            mine.post(path, body)
        };
        for good in [
            json!("minimize_latency"),
            json!("fully_consistent"),
            json!({ "at_least_as_fresh": earlier }),
            json!({ "at_least_as_fresh": latest }),
        ] {
            let answer = ask(&good).expect(200);
            assert_eq!(answer["revision"], latest.as_str(), "{path} {good}");
            let found = answer.to_string();
            assert!(found.contains("allow") || found.contains("user:bob"), "{found}");
        }
        let field = "consistency.at_least_as_fresh";
        for (bad, code) in [
            (foreign.as_str(), "invalid_revision"),
            ("nonsense", "invalid_revision"),
            ("", "invalid_revision"),
            (future.as_str(), "revision_ahead"),
        ] {
            let problem = ask(&json!({ "at_least_as_fresh": bad })).problem(400, code);
            assert_eq!(problem["field"], field, "{path} {bad}");
        }
        for bad in [
            json!("soon"),
            json!({}),
            json!({"at_least_as_fresh": 7}),
            json!({"at": "x"}),
        ] {
            assert_eq!(ask(&bad).status, 400, "{path} {bad}");
        }
    }
}

#[test]
fn revisions_of_another_vault_and_of_the_future_are_refused() {
    let server = Server::shared();
    let (mine, other) = (
        Tenant::with_documents(&*server, "revisions"),
        Tenant::with_documents(&*server, "other revisions"),
    );
    let foreign = other.touch(&["document:d#viewer@user:alice"]);
    let own = mine.touch(&["document:d#viewer@user:alice"]);
    assert!(
        own.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)),
        "{own} is not URL-safe"
    );
    let ask = |token: &str| {
        let mut body = question_body("user:alice view document:d");
        body["consistency"] = json!({ "at_least_as_fresh": token });
        mine.post("/v1/check", body)
    };
    ask(&own).expect(200);
    let problem = ask(&foreign).problem(400, "invalid_revision");
    assert_eq!(problem["field"], "consistency.at_least_as_fresh");
    for path in ["/v1/relationships/read", "/v1/check/batch"] {
        let mut body = json!({"consistency": {"at_least_as_fresh": foreign}});
        if path.ends_with("batch") {
            body["checks"] = json!([]);
        }
        mine.post(path, body).problem(400, "invalid_revision");
    }
    for at in 0..own.len() {
        let mut tampered = own.clone().into_bytes();
        tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
        let answer = ask(&String::from_utf8(tampered).unwrap());
        assert!([200, 400].contains(&answer.status), "{answer:?}");
    }
    for bad in ["", "0", "==", &own[..own.len() - 1], &format!("{own}{own}")] {
        let answer = ask(bad);
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    // Revisions are ordered as the writes were, as long as the token's text is opaque: by what they make visible.
    let later = mine.untouch(&["document:d#viewer@user:alice"]);
    assert_eq!(ask(&own).expect(200)["revision"], later.as_str());
}
