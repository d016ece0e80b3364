//! How watches end: each with a reason, none with a loss that nobody is told of, and none by eating memory.

use std::time::Duration;

use inferadb_actors::{Revision, VaultId};
use serde_json::{Value, json};

use crate::harness::{
    ALL_SCOPES, Event, Keys, Server, Stream, Tenant, claims, relationship, seconds_now, until,
};
use crate::watch::{parts, watch, watching};

/// The last event of a stream, which must be an error of this status and code.
#[track_caller]
fn ended(mut stream: Stream, status: u16, code: &str) -> Value {
    let error = stream.news().unwrap();
    assert_eq!((error.kind.as_str(), &error.id), ("error", &None), "{error:?}");
    assert_eq!(
        (&error.data["status"], &error.data["code"]),
        (&json!(status), &json!(code)),
        "{error:?}"
    );
    assert!(!error.data["request_id"].as_str().unwrap().is_empty());
    assert_eq!(stream.event(), None::<Event>);
    error.data
}

#[test]
fn a_deleted_and_an_archived_vault_end_their_watches() {
    let server = Server::shared();
    for (method, body) in [("DELETE", None), ("PATCH", Some(json!({"archived": true})))] {
        let tenant = Tenant::with_documents(&*server, "doomed");
        let bystander = Tenant::with_documents(&*server, "bystander");
        let (mut stream, start) = watching(&tenant, "", &[]);
        let (mut untouched, _) = watching(&bystander, "", &[]);
        tenant.touch(&["document:d#viewer@user:x"]);
        stream.news().unwrap();
        let answer = server.admin(method, &format!("/v1/vaults/{}", tenant.vault), body);
        assert!([200, 204].contains(&answer.status), "{answer:?}");
        ended(stream, 403, "vault_access_denied");
        let again = watch(&tenant, &format!("?since={start}"), &[]);
        assert_eq!(again.status, 403);
        bystander.touch(&["document:d#viewer@user:x"]);
        assert_eq!(untouched.news().unwrap().kind, "change");
    }
}

#[test]
fn an_eviction_by_hand_does_not_end_a_watch() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "evicted");
    let (mut stream, _) = watching(&tenant, "", &[]);
    for round in 0..5 {
        let text = format!("document:d#viewer@user:u{round}");
        tenant.touch(&[&text]);
        let path = format!("/v1/vaults/{}/deactivate", tenant.vault);
        server.admin("POST", &path, None).expect(200);
        assert_eq!(parts(&stream.news().unwrap()), [format!("create {text}")]);
    }
}

#[test]
fn a_watch_keeps_its_vault_active() {
    let server = Server::with(json!({
        "storage": {"backend": "memory"},
        "vaults": {"idle_timeout_seconds": 1},
        "watch": {"heartbeat_seconds": 1},
    }));
    let (watched, idle) = (
        Tenant::with_documents(&server, "watched"),
        Tenant::with_documents(&server, "idle"),
    );
    let (mut stream, _) = watching(&watched, "", &[]);
    let stats = |tenant: &Tenant<&Server>| {
        let path = format!("/v1/vaults/{}/stats", tenant.vault);
        server.admin("GET", &path, None).expect(200)
    };
    until("the idle vault is evicted", || {
        (stats(&idle)["active"] == false).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(stream.event().unwrap().kind, "heartbeat");
    }
    let watched_stats = stats(&watched);
    assert_eq!(
        (&watched_stats["active"], &watched_stats["watches"]),
        (&json!(true), &json!(1))
    );
    stream.close();
    until("without its watch the vault is evicted", || {
        (stats(&watched)["active"] == false).then_some(())
    });
}

#[test]
fn a_stop_ends_watches_at_once_and_a_restart_goes_on_where_they_were() {
    let mut server = Server::with(json!({"server": {"shutdown_timeout_seconds": 20}}));
    let (start, missed, account, vault) = {
        let tenant = Tenant::with_documents(&server, "stopped");
        let (stream, start) = watching(&tenant, "", &[]);
        let mut lines = watch(&tenant, "", &[("Accept", "application/x-ndjson")]);
        lines.json().unwrap();
        let revision = tenant.touch(&["document:d#viewer@user:x"]);
        let mut stream = stream;
        assert_eq!(stream.news().unwrap().id.as_ref(), Some(&revision));
        assert_eq!(lines.json().unwrap()["event"], "change");
        server.terminate();
        ended(stream, 503, "stopping");
        let error = lines.json().unwrap();
        assert_eq!(
            (&error["event"], &error["error"]["code"]),
            (&json!("error"), &json!("stopping"))
        );
        assert_eq!(lines.json(), None);
        (start, revision, tenant.account.clone(), tenant.vault.clone())
    };
    let begun = std::time::Instant::now();
    assert_eq!(server.ended().code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "no watch holds up the stop"
    );
    let server = Server::over(server.directory.clone(), json!({}));
    let tenant = Tenant::of(&server, account, vault);
    let (mut stream, _) = watching(&tenant, &format!("?since={start}"), &[]);
    let next = tenant.touch(&["document:d#viewer@user:y"]);
    assert_eq!(stream.news().unwrap().id, Some(missed));
    assert_eq!(stream.news().unwrap().id, Some(next));
}

#[test]
fn a_watch_does_not_outlive_its_token() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "expiring");
    let with_expiry = |exp: u64| {
        let more = json!({"account": tenant.account, "vault": tenant.vault, "scope": ALL_SCOPES, "exp": exp});
        Keys::shared().ed.sign(&claims(more))
    };
    let exp = seconds_now() + 3;
    let mut stream = Stream::open(&server, &with_expiry(exp), "GET", "/v1/watch", &[], "");
    assert_eq!(stream.event().unwrap().kind, "ready");
    ended(stream, 401, "invalid_token");
    assert!((exp..exp + 3).contains(&seconds_now()));
    // Other calls forgive the clocks' difference; a stream that would end at once is not begun.
    let late = with_expiry(seconds_now() - 1);
    let mut check = crate::harness::question_body("user:x view document:d");
    check["consistency"] = json!("minimize_latency");
    server
        .request("POST", "/v1/check")
        .bearer(&late)
        .json(&check)
        .send()
        .expect(200);
    let answer = server.request("GET", "/v1/watch").bearer(&late).send();
    answer.problem(401, "invalid_token");
}

#[test]
fn without_authentication_a_watch_has_no_time_to_end_at() {
    let server = Server::with(json!({
        "storage": {"backend": "memory"},
        "auth": {"enabled": false},
        "watch": {"heartbeat_seconds": 1},
    }));
    let mut stream = Stream::open(&server, "", "GET", "/v1/watch", &[], "");
    for kind in ["ready", "heartbeat", "heartbeat"] {
        assert_eq!(stream.event().unwrap().kind, kind);
    }
}

#[test]
fn a_watch_ends_when_its_token_s_key_is_withdrawn() {
    let server = Server::with(json!({
        "storage": {"backend": "memory"},
        "watch": {"heartbeat_seconds": 1},
        "auth": {"jwks_refresh_interval": 1, "jwks_min_refetch_seconds": 0},
    }));
    let tenant = Tenant::with_documents(&server, "withdrawn");
    let (stream, _) = watching(&tenant, "", &[]);
    let mut set: Value = serde_json::from_str(&Keys::shared().key_set()).unwrap();
    set["keys"]
        .as_array_mut()
        .unwrap()
        .retain(|key| key["kid"] == "rsa");
    std::fs::write(server.directory.path().join("jwks.json"), set.to_string()).unwrap();
    ended(stream, 401, "invalid_token");
}

#[test]
fn history_that_is_gone_is_said_to_be_gone() {
    let server = Server::with(json!({
        "storage": {"backend": "memory"},
        "retention": {"changes": 5},
        "vaults": {"idle_timeout_seconds": 2},
    }));
    let tenant = Tenant::with_documents(&server, "trimmed");
    let start = tenant.touch(&["document:d#viewer@user:start"]);
    let (mut reader, _) = watching(&tenant, "", &[]);
    let revisions: Vec<String> = (0..40)
        .map(|at| tenant.touch(&[&format!("document:d#viewer@user:u{at}")]))
        .collect();
    // Trimming goes on a timer.
    let problem = until("the log is trimmed", || {
        let mut stream = watch(&tenant, &format!("?since={start}"), &[]);
        if stream.status == 200 {
            assert_eq!(stream.event().unwrap().kind, "ready");
            return None;
        }
        Some(stream)
    });
    assert_eq!(problem.status, 410);
    let answer = tenant.get(&format!("/v1/watch?since={start}"));
    assert_eq!(answer.problem(410, "history_gone")["field"], "since");
    // What is kept can be gone on from, and who was there all the while has lost nothing.
    let (mut stream, _) = watching(&tenant, &format!("?since={}", revisions[37]), &[]);
    assert_eq!(stream.news().unwrap().id.as_ref(), Some(&revisions[38]));
    assert_eq!(stream.news().unwrap().id.as_ref(), Some(&revisions[39]));
    for revision in &revisions {
        assert_eq!(reader.news().unwrap().id.as_ref(), Some(revision));
    }
}

#[test]
fn a_revision_of_the_future_is_refused() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "future");
    let own = tenant.touch(&["document:d#viewer@user:x"]);
    let vault: VaultId = tenant.vault.parse().unwrap();
    let mut later = Revision::decode(vault, &own).unwrap();
    later.0.0[2] += 1;
    let later = later.encode(vault);
    assert!(later > own);
    let answer = tenant.get(&format!("/v1/watch?since={later}"));
    assert_eq!(answer.problem(400, "revision_ahead")["field"], "since");
}

#[test]
fn a_reader_that_takes_nothing_is_cut_off_and_can_go_on_elsewhere() {
    let server = Server::with(json!({
        "storage": {"backend": "memory"},
        "watch": {"slow_reader_seconds": 1, "heartbeat_seconds": 1},
        "retention": {"changes": 100_000},
    }));
    let tenant = Tenant::with_documents(&server, "slow");
    let token = tenant.token(ALL_SCOPES);
    let mut stream = Stream::open_narrow(&server, &token, "GET", "/v1/watch", &[], "");
    let start = stream.event().unwrap().id.unwrap();
    let long = "x".repeat(900);
    let memory = || server.metric("process_resident_memory_bytes").unwrap_or(0.0);
    let before = memory();
    let mut revisions = Vec::new();
    // More than the sockets' buffers hold.
    let ended = |reason: &str| {
        let series = format!("inferadb_stream_ends_total{{reason=\"{reason}\",stream=\"watch\"}}");
        server.metric(&series).unwrap_or(0.0)
    };
    while ended("slow_reader") < 1.0 {
        let round = revisions.len();
        assert!(round < 400, "the reader is not cut off");
        let touched: Vec<Value> = (0..200)
            .map(|at| relationship(&format!("document:{long}-{round}-{at}#viewer@user:x")))
            .collect();
        revisions.push(tenant.change(json!({ "touch": touched })));
    }
    assert!(memory() - before < 600e6, "from {before} to {}", memory());
    server.logged("the cut-off is logged", |line| {
        line["message"] == "watch ended"
            && line["reason"] == "slow_reader"
            && line["vault"] == tenant.vault.as_str()
    });
    // What the sockets hold can still be read: whole events, and at the end the reason, or an end within an event.
    let (text, outcome) = stream.rest();
    let mut last = start;
    let mut whole = text.split("\n\n").collect::<Vec<_>>();
    let tail = whole.pop().unwrap();
    for event in &whole {
        if let Some(id) = event.strip_prefix("id: ") {
            let id = id.split('\n').next().unwrap().to_owned();
            assert!(id >= last);
            last = id;
        }
    }
    let is_told = whole
        .last()
        .is_some_and(|event| event.contains("\"code\":\"slow_reader\""));
    assert!(
        outcome.is_err() || (is_told && tail.is_empty()),
        "{outcome:?} {tail}"
    );
    let (mut stream, _) = watching(&tenant, &format!("?since={last}"), &[]);
    for revision in revisions.iter().filter(|revision| **revision > last) {
        assert_eq!(stream.news().unwrap().id.as_ref(), Some(revision));
    }
}
