//! Relationships read as a stream of lines: all of them, one state, and an end that says so.

use serde_json::{Value, json};

use super::watch::{parts, watching};
use crate::harness::{
    ALL_SCOPES, Keys, Server, Stream, Tenant, claims, relationship, seconds_now, until, written,
};

fn read(tenant: &Tenant<&Server>, body: &Value) -> Stream {
    let token = tenant.token(ALL_SCOPES);
    let headers = [("Accept", "application/x-ndjson")];
    Stream::open(
        tenant.server,
        &token,
        "POST",
        "/v1/relationships/read",
        &headers,
        &body.to_string(),
    )
}

/// All lines but the last, and the last.
fn lines(mut stream: Stream) -> (Vec<String>, Value) {
    assert_eq!(stream.status, 200, "{}", stream.headers);
    assert!(stream.headers.contains("content-type: application/x-ndjson\r\n"));
    let mut found = Vec::new();
    loop {
        let line = stream.json().unwrap();
        if line.get("resource").is_none() {
            assert_eq!(stream.json(), None);
            return (found, line);
        }
        found.push(written(&line));
    }
}

fn fill(tenant: &Tenant<&Server>, blocks: usize) -> String {
    let mut revision = String::new();
    for block in 0..blocks {
        let touched: Vec<Value> = (0..1000)
            .map(|at| relationship(&format!("document:b{block:02}-{at:03}#viewer@user:u{}", at % 7)))
            .collect();
        revision = tenant.change(json!({ "touch": touched }));
    }
    revision
}

#[test]
fn everything_is_streamed_in_the_order_of_the_pages() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let tenant = Tenant::with_documents(&server, "all");
    let revision = fill(&tenant, 12);
    let (found, last) = lines(read(&tenant, &json!({})));
    assert_eq!(last, json!({ "revision": revision }));
    assert_eq!(found.len(), 12_000);
    assert_eq!(found, tenant.read(json!({})));
    // A filter of which a scan finds nothing for long.
    let filter = json!({"relation": "viewer", "subject_relation": "member"});
    tenant.touch(&["document:z#viewer@group:g#member"]);
    let (found, _) = lines(read(&tenant, &json!({ "filter": filter })));
    assert_eq!(found, ["document:z#viewer@group:g#member"]);
    let (found, last) = lines(read(&tenant, &json!({"filter": {"resource_type": "folder"}})));
    assert!(found.is_empty() && last.get("cursor").is_none() && last.get("error").is_none());
}

/// The turns that `work` takes of a vault.
#[track_caller]
fn takes_turns(server: &Server, what: &str, least: f64, work: impl FnOnce()) {
    let turns = || server.metric("inferadb_turns_total").unwrap_or(0.0);
    let before = turns();
    work();
    let taken = turns() - before;
    assert!(taken >= least, "{what}: {taken} turns");
}

#[test]
fn what_is_read_and_sent_goes_in_turns() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "vaults": { "turn_micros": 10 },
    }));
    let tenant = Tenant::with_documents(&server, "turns");
    fill(&tenant, 2);
    takes_turns(&server, "a page", 8.0, || {
        tenant
            .post("/v1/relationships/read", json!({ "limit": 1_000 }))
            .expect(200);
    });
    takes_turns(&server, "a stream", 40.0, || {
        assert_eq!(lines(read(&tenant, &json!({}))).0.len(), 2_000);
    });
    let (mut stream, _) = watching(&tenant, "", &[]);
    takes_turns(&server, "a small change that is watched", 1.0, || {
        tenant.touch(&["document:small#viewer@user:a"]);
        assert_eq!(parts(&stream.news().unwrap()).len(), 1);
    });
}

#[test]
fn a_limit_cuts_with_a_cursor_that_goes_on() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "cut");
    fill(&tenant, 3);
    let filter = json!({"subject_type": "user", "subject_id": "u3"});
    let whole = tenant.read(filter.clone());
    let (mut found, mut body) = (Vec::new(), json!({"filter": filter, "limit": 100}));
    loop {
        let (some, last) = lines(read(&tenant, &body));
        assert!(some.len() <= 100);
        found.extend(some);
        match last.get("cursor") {
            Some(cursor) => body["cursor"] = cursor.clone(),
            None => break,
        }
    }
    assert_eq!(found, whole);
    // The cursor is that of the pages too.
    let (_, last) = lines(read(&tenant, &json!({"filter": body["filter"], "limit": 100})));
    let page = json!({"filter": body["filter"], "limit": 1, "cursor": last["cursor"]});
    let page = tenant.post("/v1/relationships/read", page).expect(200);
    assert_eq!(written(&page["relationships"][0]), whole[100]);
}

#[test]
fn one_state_is_streamed_while_others_write() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "torn lines");
    let revision = fill(&tenant, 8);
    let mut stream = read(&tenant, &json!({}));
    let first = stream.json().unwrap();
    // Whatever was not sent yet is another state's by now.
    tenant
        .post(
            "/v1/relationships/delete",
            json!({"filter": {"resource_type": "document"}}),
        )
        .expect(200);
    tenant.touch(&["folder:f#viewer@user:x"]);
    let (found, last) = lines(stream);
    assert_eq!(found.len(), 7_999);
    assert!(!found.contains(&written(&first)));
    assert_eq!(last, json!({ "revision": revision }));
}

#[test]
fn what_is_wrong_is_said_before_the_first_line() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "wrong lines");
    for (body, code) in [
        (json!({"limit": 0}), "invalid_value"),
        (json!({"cursor": "x"}), "invalid_cursor"),
        (
            json!({"consistency": {"at_least_as_fresh": "x"}}),
            "invalid_revision",
        ),
        (json!({"filter": {"kind": "x"}}), "unknown_field"),
    ] {
        let token = tenant.token(ALL_SCOPES);
        let answer = server.request("POST", "/v1/relationships/read").bearer(&token);
        let answer = answer.header("Accept", "application/x-ndjson").json(&body).send();
        answer.problem(400, code);
    }
}

#[test]
fn a_vault_that_goes_ends_the_stream_with_an_error() {
    let server = Server::with(json!({"storage": {"backend": "memory"}, "watch": {"slow_reader_seconds": 1}}));
    let tenant = Tenant::with_documents(&server, "slow lines");
    fill(&tenant, 100);
    let token = tenant.token(ALL_SCOPES);
    let headers = [("Accept", "application/x-ndjson")];
    let stream = Stream::open_narrow(&server, &token, "POST", "/v1/relationships/read", &headers, "{}");
    let series = "inferadb_stream_ends_total{reason=\"slow_reader\",stream=\"relationships\"}";
    crate::harness::until("the reader is cut off", || {
        server.metric(series).filter(|count| *count > 0.0)
    });
    // It neither holds its vault nor the stop.
    server
        .admin("DELETE", &format!("/v1/vaults/{}", tenant.vault), None)
        .expect(204);
    let (text, _) = stream.rest();
    let last = text.lines().last().unwrap();
    assert!(last.contains("slow_reader"), "{last}");
}

/// The last line of a stream that its reader leaves alone until `meanwhile` is done.
fn ended_meanwhile(server: &Server, token: &str, meanwhile: impl FnOnce()) -> String {
    let headers = [("Accept", "application/x-ndjson")];
    let stream = Stream::open_narrow(server, token, "POST", "/v1/relationships/read", &headers, "{}");
    meanwhile();
    let (text, _) = stream.rest();
    text.lines().last().unwrap().to_owned()
}

#[test]
fn a_stream_ends_with_its_token_and_with_its_vault() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let tenant = Tenant::with_documents(&server, "ending lines");
    fill(&tenant, 100);
    let exp = seconds_now() + 2;
    let claimed = json!({"account": tenant.account, "vault": tenant.vault, "scope": ALL_SCOPES, "exp": exp});
    let short = Keys::shared().ed.sign(&claims(claimed));
    let series = "inferadb_stream_ends_total{reason=\"invalid_token\",stream=\"relationships\"}";
    let last = ended_meanwhile(&server, &short, || {
        until("the token's time is over", || {
            server.metric(series).filter(|count| *count > 0.0)
        });
    });
    assert!(last.contains("invalid_token"), "{last}");
    let last = ended_meanwhile(&server, &tenant.token(ALL_SCOPES), || {
        let path = format!("/v1/vaults/{}", tenant.vault);
        server
            .admin("PATCH", &path, Some(json!({"archived": true})))
            .expect(200);
    });
    assert!(last.contains("vault_access_denied"), "{last}");
}
