//! Limits of a vault: each one's refusal names it and says when to come back, is counted, and is no other vault's; and what one
//! vault does at length does not keep another waiting.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::harness::*;

const GROUPS: usize = 6_000;

/// A vault in which one check has to look at thousands of groups.
fn crowded<'s>(server: &'s Server, name: &str) -> Tenant<&'s Server> {
    let tenant = Tenant::with_documents(server, name);
    for first in (0..GROUPS).step_by(1_000) {
        let crowd: Vec<Value> = (first..first + 1_000)
            .map(|group| relationship(&format!("folder:crowded#viewer@group:g{group}#member")))
            .collect();
        tenant.change(json!({ "touch": crowd }));
    }
    tenant.touch(&[
        "document:crowded#parent@folder:crowded",
        "document:d#viewer@user:ann",
    ]);
    tenant
}

/// A batch that takes long: everything is looked at anew for each of its checks.
fn long_batch() -> Value {
    let checks: Vec<Value> = (0..30)
        .map(|at| question_body(&format!("user:stranger{at} view document:crowded")))
        .collect();
    json!({ "checks": checks })
}

/// A request that is sent, and whose answer is not waited for.
fn begin(tenant: &Tenant<&Server>, path: &str, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", tenant.server.port)).unwrap();
    let (token, body) = (tenant.token(ALL_SCOPES), body.to_string());
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream
}

/// Whether the answer has begun to arrive.
fn is_answered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let answered = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    answered
}

fn status_of(mut stream: TcpStream) -> u16 {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

fn stats(tenant: &Tenant<&Server>) -> Value {
    let path = format!("/v1/vaults/{}/stats", tenant.vault);
    tenant.server.admin("GET", &path, None).expect(200)
}

fn limit(tenant: &Tenant<&Server>, limits: Value) {
    let path = format!("/v1/vaults/{}", tenant.vault);
    let body = json!({ "limits": limits });
    tenant.server.admin("PATCH", &path, Some(body)).expect(200);
}

#[track_caller]
fn assert_refused(answer: &Answer, limit: &str) {
    let problem = answer.problem(429, "rate_limited");
    assert_eq!(problem["limit"], limit, "{answer:?}");
    assert!(problem["detail"].as_str().unwrap().contains(limit), "{answer:?}");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1, "{answer:?}");
}

fn refused(server: &Server, limit: &str) -> f64 {
    let series = format!("inferadb_requests_refused_total{{limit=\"{limit}\"}}");
    server.metric(&series).unwrap_or(0.0)
}

#[test]
fn every_refusal_names_its_limit() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "server": { "request_timeout_ms": 60_000 },
    }));
    let (noisy, quiet) = (crowded(&server, "noisy"), crowded(&server, "quiet"));
    let check = question_body("user:ann view document:d");

    limit(&noisy, json!({ "checks_per_second": 1 }));
    let checks = json!({ "checks": vec![check.clone(); 100] });
    noisy.post("/v1/check/batch", checks).expect(200);
    let answer = noisy.post("/v1/check", check.clone());
    assert_refused(&answer, "checks_per_second");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(
        (90..=100).contains(&seconds),
        "100 checks at one a second: {answer:?}"
    );
    limit(
        &noisy,
        json!({ "checks_per_second": null, "writes_per_second": 1 }),
    );
    let many: Vec<Value> = (0..50)
        .map(|at| relationship(&format!("document:w{at}#viewer@user:ben")))
        .collect();
    noisy.change(json!({ "touch": many }));
    let one = json!({ "touch": [relationship("document:w#viewer@user:ben")] });
    let answer = noisy.write(one.clone());
    assert_refused(&answer, "writes_per_second");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(
        (40..=50).contains(&seconds),
        "50 changes at one a second: {answer:?}"
    );
    limit(&noisy, json!({ "writes_per_second": null, "max_watches": 0 }));
    assert_refused(&noisy.get("/v1/watch"), "max_watches");

    limit(
        &noisy,
        json!({ "max_watches": null, "max_concurrent_requests": 1 }),
    );
    // A change of limits has the vault read anew.
    until("all of it is in memory again", || {
        (stats(&noisy)["rows"]["complete"] == true).then_some(())
    });
    let inside = begin(&noisy, "/v1/check/batch", &long_batch());
    until("the long request is inside", || {
        (stats(&noisy)["in_flight"].as_u64() >= Some(1)).then_some(())
    });
    assert_refused(&noisy.post("/v1/check", check.clone()), "max_concurrent_requests");
    assert!(
        !is_answered(&inside),
        "the long request is too short for this test"
    );
    quiet.post("/v1/check", check.clone()).expect(200);
    assert_eq!(status_of(inside), 200);

    limit(
        &noisy,
        json!({ "max_concurrent_requests": null, "mailbox_capacity": 1 }),
    );
    let seen = AtomicBool::new(false);
    let deadline = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !seen.load(Ordering::Relaxed) && Instant::now() < deadline {
                    let answer = noisy.write(one.clone());
                    if answer.status != 200 {
                        assert_refused(&answer, "mailbox_capacity");
                        seen.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(
        seen.load(Ordering::Relaxed),
        "eight writers at once, of which one may wait"
    );
    for limit in [
        "checks_per_second",
        "writes_per_second",
        "max_watches",
        "max_concurrent_requests",
        "mailbox_capacity",
    ] {
        assert!(refused(&server, limit) >= 1.0, "{limit}");
    }
    assert_eq!(refused(&server, "fair_share"), 0.0);
}

#[test]
fn a_vaults_own_limits_override_the_configured_ones() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "vaults": { "max_concurrent_requests": 7, "mailbox_capacity": 9 },
        "limits": { "max_watches": 3 },
    }));
    let tenant = Tenant::with_documents(&server, "own");
    let shown = |names: &[&str]| {
        let limits = &stats(&tenant)["limits"];
        names.iter().map(|name| limits[name].clone()).collect::<Vec<_>>()
    };
    let names = ["max_concurrent_requests", "mailbox_capacity", "max_watches"];
    assert_eq!(shown(&names), [7, 9, 3]);
    limit(
        &tenant,
        json!({ "max_concurrent_requests": 70, "mailbox_capacity": 90 }),
    );
    assert_eq!(shown(&names), [70, 90, 3]);
    limit(&tenant, json!({ "max_concurrent_requests": null }));
    assert_eq!(shown(&names), [7, 90, 3]);
    let path = format!("/v1/vaults/{}", tenant.vault);
    for (name, value) in [
        ("max_concurrent_requests", json!(0)),
        ("mailbox_capacity", json!(0)),
        ("mailbox_capacity", json!("many")),
        ("max_concurrent_requests", json!(1_000_001)),
    ] {
        let body = json!({ "limits": { name: value } });
        let problem = server
            .admin("PATCH", &path, Some(body))
            .problem(400, "invalid_value");
        assert_eq!(problem["field"], format!("limits.{name}"));
    }
}

#[test]
fn what_takes_long_in_one_vault_does_not_keep_another_waiting() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "server": { "worker_threads": 1, "request_timeout_ms": 60_000 },
        "vaults": { "actor_threads": 1 },
    }));
    let (noisy, quiet) = (crowded(&server, "noisy"), crowded(&server, "quiet"));
    let long: Vec<TcpStream> = (0..8)
        .map(|_| begin(&noisy, "/v1/check/batch", &long_batch()))
        .collect();
    until("they are inside", || {
        (stats(&noisy)["in_flight"].as_u64() >= Some(8)).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(quiet.check("user:ann view document:d"), "allow");
    }
    let answered = long.iter().filter(|stream| is_answered(stream)).count();
    assert_eq!(
        answered, 0,
        "twenty checks of another vault come before the end of any of these"
    );
    // One as long as theirs comes to its end before theirs do.
    let turns = server.metric("inferadb_turns_total").unwrap();
    let body = json!({ "checks": [question_body("user:stranger view document:crowded")] });
    quiet.post("/v1/check/batch", body).expect(200);
    assert!(server.metric("inferadb_turns_total").unwrap() > turns);
    assert_eq!(status_of(long.into_iter().next().unwrap()), 200);
}

#[test]
fn an_overloaded_server_refuses_the_vault_that_causes_it() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "server": { "worker_threads": 1 },
        "vaults": { "overload_lag_ms": 1, "actor_threads": 1 },
    }));
    let furnished = |name| {
        let tenant = Tenant::with_documents(&server, name);
        tenant.touch(&["document:d#viewer@user:ann"]);
        tenant
    };
    let noisy = furnished("noisy");
    // As many as make an equal share small, however little the machine has for the server.
    let quiet: Vec<_> = (0..24).map(|_| furnished("quiet")).collect();
    // Heavy enough to use more than a share, short enough to come again within the same window.
    let checks = json!({ "checks": vec![question_body("user:ann view document:d"); 200] });
    let seen = AtomicBool::new(false);
    let deadline = Instant::now() + 3 * PATIENCE;
    std::thread::scope(|scope| {
        // Others have the machine for a third of the time: so all threads are late.
        scope.spawn(|| {
            while !seen.load(Ordering::Relaxed) && Instant::now() < deadline {
                server.signal("-STOP");
                std::thread::sleep(std::time::Duration::from_millis(20));
                server.signal("-CONT");
                std::thread::sleep(std::time::Duration::from_millis(40));
            }
        });
        for _ in 0..12 {
            scope.spawn(|| {
                while !seen.load(Ordering::Relaxed) && Instant::now() < deadline {
                    let answer = noisy.post("/v1/check/batch", checks.clone());
                    if answer.status != 200 {
                        assert_refused(&answer, "fair_share");
                        seen.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        while !seen.load(Ordering::Relaxed) && Instant::now() < deadline {
            for quiet in &quiet {
                assert_eq!(quiet.check("user:ann view document:d"), "allow");
            }
        }
    });
    assert!(seen.load(Ordering::Relaxed), "the noisy vault was never refused");
    assert_eq!(quiet[0].check("user:ann view document:d"), "allow");
    server.logged("the overload is told", |line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("overloaded"))
    });
    assert!(server.metric("inferadb_worker_lag_seconds_count").unwrap() > 0.0);
    // Once it is calm, it is let in again.
    until("the noisy vault is let in", || {
        let answer = noisy.post("/v1/check", question_body("user:ann view document:d"));
        (answer.status == 200).then_some(())
    });
}

#[test]
fn a_request_whose_client_has_left_is_given_up() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "server": { "request_timeout_ms": 60_000 },
        "cache": { "enabled": false },
    }));
    let tenant = crowded(&server, "leaving");
    let failed = || {
        let series = format!("inferadb_vault_errors_total{{vault=\"{}\"}}", tenant.vault);
        server.metric(&series).unwrap_or(0.0)
    };
    assert_eq!(failed(), 0.0);
    let inside = || stats(&tenant)["in_flight"].as_u64().unwrap();
    let stream = begin(&tenant, "/v1/check/batch", &long_batch());
    until("the batch is at work", || (inside() == 1).then_some(()));
    assert!(!is_answered(&stream));
    drop(stream);
    until("nobody is inside", || (inside() == 0).then_some(()));
    // A request that was answered, though nobody read it, has not failed.
    assert_eq!(failed(), 1.0);
}

#[test]
fn the_watches_of_one_account_and_of_the_server_are_bounded() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "server": { "max_watches": 3, "max_account_watches": 2 },
    }));
    let first = Tenant::with_documents(&server, "watching");
    // However many vaults it has.
    let second = Tenant::in_account(&server, first.account.clone(), "watching too");
    second.put_schema(DOCUMENTS);
    let other = Tenant::with_documents(&server, "another");
    let watch = |tenant: &Tenant<&Server>| {
        let stream = Stream::open(&server, &tenant.token(ALL_SCOPES), "GET", "/v1/watch", &[], "");
        assert_eq!(stream.status, 200, "{}", stream.headers);
        stream
    };
    let open = [watch(&first), watch(&second)];
    assert_refused(&first.get("/v1/watch"), "max_account_watches");
    let third = watch(&other);
    assert_eq!(server.metric("inferadb_watches"), Some(3.0));
    let refused = other.get("/v1/watch");
    let problem = refused.problem(503, "overloaded");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("server.max_watches"), "{detail}");
    assert!(refused.header("retry-after").is_some());
    drop((open, third));
    until("the places are given back", || {
        for tenant in [&first, &second, &other] {
            tenant.touch(&["document:d#viewer@user:u"]);
            tenant.untouch(&["document:d#viewer@user:u"]);
        }
        (server.metric("inferadb_watches") == Some(0.0)).then_some(())
    });
}

#[test]
fn the_transfers_of_one_account_are_bounded() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "server": { "max_account_transfers": 1 },
    }));
    let tenant = Tenant::with_documents(&server, "moving");
    let path = format!("/v1/vaults/{}/import", tenant.vault);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let token = admin_token();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: 20\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    until("the import is under way", || {
        (server.metric("inferadb_transfers") == Some(1.0)).then_some(())
    });
    let clone = json!({ "name": "copy" });
    let answer = server.admin(
        "POST",
        &format!("/v1/vaults/{}/clone", tenant.vault),
        Some(clone.clone()),
    );
    assert_refused(&answer, "max_account_transfers");
    stream.write_all(br#""relationships":[]}"#).unwrap();
    assert_eq!(status_of(stream), 200);
    server
        .admin("POST", &format!("/v1/vaults/{}/clone", tenant.vault), Some(clone))
        .expect(201);
}
