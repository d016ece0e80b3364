//! What the server tells of itself: health, metrics with and without vaults in them, and a log without secrets.

use serde_json::json;

use crate::harness::{DOCUMENTS, Keys, Server, Tenant, claims, question_body};

#[test]
fn health_needs_no_token_and_names_what_it_depends_on() {
    let server = Server::shared();
    assert_eq!(
        server.request("GET", "/livez").send().expect(200),
        json!({"status": "ok"})
    );
    assert_eq!(
        server.request("GET", "/readyz").send().expect(200),
        json!({"status": "ready"})
    );
    let health = server.request("GET", "/healthz").send().expect(200);
    assert_eq!(health["status"], "ok");
    for name in ["storage", "key_set"] {
        assert_eq!(health["checks"][name]["status"], "ok", "{health}");
    }
    assert_eq!(health["checks"]["key_set"]["keys"], 2, "{health}");
    for path in ["/livez", "/readyz", "/healthz"] {
        let answer = server.request("HEAD", path).send();
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
    }
}

#[test]
fn a_server_whose_keys_are_away_is_not_ready_and_decides_nothing() {
    let server = Server::launched_with(json!({"auth": {"jwks_url": "http://127.0.0.1:9/jwks.json"}}));
    let port = crate::harness::until("the server listens", || {
        let text = std::fs::read_to_string(server.directory.path().join("logs/inferadb.log")).ok()?;
        let line = text
            .lines()
            .find(|line| line.contains("\"message\":\"listening\""))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["address"].as_str()?.rsplit(':').next()?.parse::<u16>().ok()
    });
    let get = |path: &str, headers: &str| {
        let raw = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
        crate::harness::exchange(port, raw.as_bytes())
    };
    assert_eq!(get("/livez", "").status, 200);
    for path in ["/readyz", "/healthz"] {
        let answer = get(path, "");
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    let token = Keys::shared()
        .ed
        .sign(&claims(json!({"scope": "inferadb.admin"})));
    let answer = get("/v1/accounts", &format!("Authorization: Bearer {token}\r\n"));
    answer.problem(503, "keys_unavailable");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

#[test]
fn a_vault_s_series_count_what_it_did_and_nobody_else_s() {
    let server = Server::shared();
    let (mine, other) = (
        Tenant::with_documents(&*server, "counted"),
        Tenant::with_documents(&*server, "not counted"),
    );
    mine.touch(&["document:d#viewer@user:alice", "document:d#viewer@user:bob"]);
    other.touch(&["document:d#viewer@user:alice"]);
    let value = |name: &str, vault: &str, more: &str| {
        server
            .metric(&format!("{name}{{{more}vault=\"{vault}\"}}"))
            .unwrap_or(0.0)
    };
    let before = value("inferadb_vault_requests_total", &mine.vault, "");
    let other_before = value("inferadb_vault_requests_total", &other.vault, "");
    mine.check("user:alice view document:d");
    mine.check("user:alice view document:d");
    mine.check("user:eve view document:d");
    mine.post("/v1/check", json!({})).problem(400, "missing_field");
    assert_eq!(
        value("inferadb_vault_requests_total", &mine.vault, "") - before,
        4.0
    );
    assert_eq!(
        value("inferadb_vault_requests_total", &other.vault, ""),
        other_before
    );
    assert_eq!(value("inferadb_vault_errors_total", &mine.vault, ""), 1.0);
    assert_eq!(value("inferadb_vault_cache_hits", &mine.vault, ""), 1.0);
    assert_eq!(value("inferadb_vault_cache_misses", &mine.vault, ""), 2.0);
    assert_eq!(value("inferadb_vault_cache_requests", &mine.vault, ""), 3.0);
    assert_eq!(value("inferadb_vault_relationships_total", &mine.vault, ""), 2.0);
    assert_eq!(
        value(
            "inferadb_vault_decisions_total",
            &mine.vault,
            "decision=\"allow\","
        ),
        2.0
    );
    assert_eq!(
        value(
            "inferadb_vault_decisions_total",
            &mine.vault,
            "decision=\"deny\","
        ),
        1.0
    );
    mine.untouch(&["document:d#viewer@user:bob"]);
    assert_eq!(value("inferadb_vault_relationships_total", &mine.vault, ""), 1.0);
    // Routes are patterns, never ids.
    server
        .admin("GET", &format!("/v1/vaults/{}", mine.vault), None)
        .expect(200);
    server.request("GET", "/v1/some/secret/path").send();
    let page = server.metrics();
    assert!(page.contains("route=\"/v1/vaults/{vault}\""), "{page}");
    assert!(!page.contains("secret") && !page.contains(&format!("route=\"/v1/vaults/{}", mine.vault)));
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn without_per_vault_metrics_no_series_names_a_vault() {
    let server = Server::with(
        json!({"observability": {"metrics": {"per_vault_metrics": false}}, "storage": {"backend": "memory"}}),
    );
    let (one, two) = (
        Tenant::with_documents(&server, "one"),
        Tenant::with_documents(&server, "two"),
    );
    for tenant in [&one, &two] {
        tenant.touch(&["document:d#viewer@user:alice"]);
        tenant.check("user:alice view document:d");
        tenant.check("user:alice view document:d");
    }
    let page = server.metrics();
    assert!(!page.contains("vault=\""), "{page}");
    assert!(!page.contains(&one.vault), "{page}");
    assert_eq!(server.metric("inferadb_vault_cache_hits"), Some(2.0));
    assert_eq!(server.metric("inferadb_vault_relationships_total"), Some(2.0));
    assert_eq!(server.metric("inferadb_active_vaults"), Some(2.0));
    server
        .admin("POST", &format!("/v1/vaults/{}/deactivate", one.vault), None)
        .expect(200);
    assert_eq!(server.metric("inferadb_vault_relationships_total"), Some(1.0));
    assert_eq!(server.metric("inferadb_active_vaults"), Some(1.0));
}

#[test]
fn metrics_are_on_their_own_port_and_can_be_off() {
    let server = Server::with(
        json!({"observability": {"metrics": {"enabled": false}}, "storage": {"backend": "memory"}}),
    );
    assert_eq!(server.metrics_port, 0);
    server.request("GET", "/metrics").send().problem(404, "not_found");
}

#[test]
fn the_log_holds_no_token_and_no_forged_line() {
    let server = Server::with(
        json!({"observability": {"logging": {"level": "debug"}}, "storage": {"backend": "memory"}}),
    );
    let tenant = Tenant::with_documents(&server, "log");
    let token = tenant.token("inferadb.check");
    let ask = |token: &str| {
        server
            .request("POST", "/v1/check")
            .bearer(token)
            .json(&question_body("user:alice view document:d"))
            .send()
    };
    ask(&token).expect(200);
    let forged = format!("{}x", token);
    ask(&forged).problem(401, "invalid_token");
    let mut odd = question_body("user:alice view document:d");
    odd["subject"] = json!("user:\"},{\"decision\":\"allow");
    tenant.post("/v1/check", odd).expect(200);
    ask(&token).expect(200);
    server.logged("the odd subject", |line| {
        line["subject"] == "user:\"},{\"decision\":\"allow" && line["decision"] == "deny"
    });
    // `log` has each line parsed as one JSON object.
    let lines = server.log();
    let checks = lines
        .iter()
        .filter(|line| line["message"] == "Permission check")
        .count();
    assert_eq!(checks, 3);
    let text = std::fs::read_to_string(server.directory.path().join("logs/inferadb.log")).unwrap();
    let signature = token.rsplit('.').next().unwrap();
    for secret in [token.as_str(), signature, "Bearer ey"] {
        assert!(!text.contains(secret), "a token was logged");
    }
}

#[test]
fn check_lines_can_be_switched_off() {
    let settings =
        json!({"observability": {"logging": {"permission_checks": false}}, "storage": {"backend": "memory"}});
    let server = Server::with(settings);
    let tenant = Tenant::new(&server, "silent");
    tenant.put_schema(DOCUMENTS);
    tenant.check("user:alice view document:d");
    server.terminate();
    let mut server = server;
    assert_eq!(server.ended().code(), Some(0));
    assert!(
        server
            .log()
            .iter()
            .all(|line| line["message"] != "Permission check")
    );
}
