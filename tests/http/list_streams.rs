//! Streams of lists as their readers behave: slow ones, ones that are still reading when the server stops, impatient ones.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{ALL_SCOPES, Server, Stream, Tenant, relationship, until};

const NDJSON: [(&str, &str); 1] = [("Accept", "application/x-ndjson")];
/// As many resources as sockets between them cannot hold the lines of.
const RESOURCES: usize = 16_000;

/// A resource with an id of some length, so that few of them are many bytes.
fn resource(at: usize) -> String {
    format!("document:{}{at:05}", "x".repeat(600))
}

/// A vault in which `user:reader` views many documents.
fn tenant(server: &Server) -> Tenant<&Server> {
    let tenant = Tenant::with_documents(server, "streams");
    for from in (0..RESOURCES).step_by(500) {
        let touched =
            (from..from + 500).map(|at| relationship(&format!("{}#viewer@user:reader", resource(at))));
        tenant.change(json!({ "touch": touched.collect::<Vec<Value>>() }));
    }
    tenant
}

/// A list of all of them, over a connection that holds next to nothing.
fn listing(tenant: &Tenant<&Server>) -> Stream {
    let body = json!({"subject": "user:reader", "permission": "viewer", "resource_type": "document"});
    let stream = Stream::open_narrow(
        tenant.server,
        &tenant.token(ALL_SCOPES),
        "POST",
        "/v1/resources/list",
        &[NDJSON[0], ("X-Request-Timeout-Ms", "60000")],
        &body.to_string(),
    );
    assert_eq!(stream.status, 200, "{}", stream.headers);
    stream
}

fn ends(server: &Server, reason: &str) -> f64 {
    let series = format!("inferadb_stream_ends_total{{reason=\"{reason}\",stream=\"list\"}}");
    server.metric(&series).unwrap_or_default()
}

#[test]
fn a_slow_reader_is_cut_off_and_told_so_and_the_cursor_goes_on() {
    let server = Server::with(json!({"storage": {"backend": "memory"}, "watch": {"slow_reader_seconds": 1}}));
    let tenant = tenant(&server);
    assert_eq!(ends(&server, "slow_reader"), 0.0);
    let stream = listing(&tenant);
    until("the reader is cut off", || {
        (ends(&server, "slow_reader") == 1.0).then_some(())
    });
    // It neither holds its vault nor the stop.
    let path = format!("/v1/vaults/{}/deactivate", tenant.vault);
    server.admin("POST", &path, None).expect(200);
    let (text, outcome) = stream.rest();
    assert!(outcome.is_ok(), "{outcome:?}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, read) = lines.split_last().unwrap();
    assert_eq!(
        (&last["error"]["code"], &last["error"]["status"]),
        (&json!("slow_reader"), &json!(408))
    );
    assert!(!last["error"]["request_id"].as_str().unwrap().is_empty());
    assert!(read.len() < RESOURCES, "{}", read.len());
    for (at, line) in read.iter().enumerate() {
        assert_eq!(line["resource"], resource(at));
    }
    // What it names is where the whole pages that were sent end; what came after them may come again, nothing is left out.
    let cursor = &last["cursor"];
    let rest = tenant
        .post(
            "/v1/resources/list",
            json!({"subject": "user:reader", "permission": "viewer", "resource_type": "document", "cursor": cursor, "limit": 1}),
        )
        .expect(200);
    let next = rest["resources"][0]["resource"].as_str().unwrap();
    let at = (0..RESOURCES).find(|at| resource(*at) == next).unwrap();
    assert!(at <= read.len(), "{at} of {}", read.len());
    assert_eq!(
        (ends(&server, "slow_reader"), ends(&server, "complete")),
        (1.0, 0.0)
    );
}

#[test]
fn a_stop_waits_for_a_list_that_is_being_read() {
    let mut server = Server::with(json!({"server": {"shutdown_timeout_seconds": 30}}));
    {
        let tenant = tenant(&server);
        let mut stream = listing(&tenant);
        let first = stream.json().unwrap();
        assert_eq!(first["resource"], resource(0));
        server.terminate();
        let (mut count, mut last) = (1, first);
        while let Some(line) = stream.json() {
            count += usize::from(line.get("resource").is_some());
            last = line;
        }
        assert_eq!(count, RESOURCES);
        assert_eq!((last.get("error"), last.get("cursor")), (None, None), "{last}");
        assert!(last["revision"].is_string());
    }
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn a_stop_waits_no_longer_than_it_may_for_a_reader_that_does_not_read() {
    let mut server = Server::with(json!({
        "server": {"shutdown_timeout_seconds": 3},
        "watch": {"slow_reader_seconds": 1},
    }));
    let stream = {
        let tenant = tenant(&server);
        let stream = listing(&tenant);
        server.terminate();
        stream
    };
    let begun = Instant::now();
    assert_eq!(server.ended().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(stream);
}

#[test]
fn a_deadline_before_the_first_page_is_504() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "impatient");
    // Not one of them is on the page: each is viewed, and banned.
    for block in 0..6 {
        let touched = (0..500).flat_map(|at| {
            ["viewer", "banned"]
                .map(|relation| relationship(&format!("document:d{block}-{at}#{relation}@user:reader")))
        });
        tenant.change(json!({ "touch": touched.collect::<Vec<Value>>() }));
    }
    let body = json!({"subject": "user:reader", "permission": "view", "resource_type": "document"});
    let ask = |timeout: &str| {
        let request = server
            .request("POST", "/v1/resources/list")
            .bearer(&tenant.token("inferadb.read"));
        let request = request.header(NDJSON[0].0, NDJSON[0].1);
        request.header("X-Request-Timeout-Ms", timeout).json(&body).send()
    };
    let answer = ask("60000");
    assert_eq!(
        (answer.status, answer.text().lines().count()),
        (200, 1),
        "{answer:?}"
    );
    for round in 0..30 {
        let answer = ask(&format!("{}", 1 + round % 6));
        answer.problem(504, "deadline_exceeded");
    }
}

#[test]
fn a_list_of_a_vault_that_is_archived_or_deleted_ends_with_an_error() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let tenant = tenant(&server);
    let path = format!("/v1/vaults/{}", tenant.vault);
    let archive = |archived: bool| {
        let change = json!({ "archived": archived });
        server.admin("PATCH", &path, Some(change)).expect(200);
    };
    let last_of = |stream: Stream| -> Value {
        let (text, _) = stream.rest();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    };
    let stream = listing(&tenant);
    archive(true);
    let last = last_of(stream);
    assert_eq!(last["error"]["code"], "vault_access_denied", "{last}");
    archive(false);
    let stream = listing(&tenant);
    server.admin("DELETE", &path, None).expect(204);
    let last = last_of(stream);
    assert_eq!(last["error"]["code"], "vault_access_denied", "{last}");
    assert_eq!(ends(&server, "vault_access_denied"), 2.0);
}
