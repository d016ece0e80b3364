//! A vault's life in memory and a server's life: eviction, restarts, stops, and starts that must not happen.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{ALL_SCOPES, DOCUMENTS, PATIENCE, Server, Tenant, question_body, relationship, until};

#[test]
fn an_evicted_vault_answers_as_one_that_never_was() {
    let server = Server::with(json!({"vaults": {"idle_timeout_seconds": 1}}));
    let tenant = Tenant::with_documents(&server, "idle");
    tenant.touch(&[
        "document:d#viewer@user:alice",
        "document:d#banned@user:bob",
        "document:d#viewer@user:bob",
    ]);
    let stats = || {
        server
            .admin("GET", &format!("/v1/vaults/{}/stats", tenant.vault), None)
            .expect(200)
    };
    let series = format!("vault=\"{}\"", tenant.vault);
    let mut revisions = Vec::new();
    for _ in 0..2 {
        let answer = tenant
            .post("/v1/check", question_body("user:alice view document:d"))
            .expect(200);
        assert_eq!(answer["decision"], "allow");
        assert_eq!(tenant.check("user:bob view document:d"), "deny");
        revisions.push(answer["revision"].clone());
        assert!(server.metrics().contains(&series));
        // Looking at its statistics does not keep it awake.
        until("the vault is evicted", || {
            (stats()["active"] == false).then_some(())
        });
        until("its series go", || {
            (!server.metrics().contains(&series)).then_some(())
        });
        assert_eq!(stats()["relationships"], 3);
    }
    assert_eq!(revisions[0], revisions[1]);
    // Its revisions are as good as before.
    let mut body = question_body("user:alice view document:d");
    body["consistency"] = json!({"at_least_as_fresh": revisions[0]});
    assert_eq!(tenant.post("/v1/check", body).expect(200)["decision"], "allow");
    let evictions = server
        .metrics()
        .lines()
        .filter(|line| line.starts_with("inferadb_vault_evictions_total{") && line.contains("idle"))
        .count();
    assert_eq!(evictions, 1);
}

#[test]
fn vaults_are_activated_looked_at_and_deactivated_by_hand() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "by hand");
    tenant.touch(&["document:d#viewer@user:alice"]);
    let path = format!("/v1/vaults/{}", tenant.vault);
    let stats = || server.admin("GET", &format!("{path}/stats"), None).expect(200);
    let post = |action: &str| server.admin("POST", &format!("{path}/{action}"), None);
    post("deactivate").expect(200);
    assert_eq!(stats()["active"], false);
    assert_eq!(stats()["relationships"], 1);
    post("deactivate").expect(200);
    post("activate").expect(200);
    let warm = stats();
    assert_eq!(
        (&warm["active"], &warm["relationships"]),
        (&json!(true), &json!(1)),
        "{warm}"
    );
    assert!(
        warm["active_since"].is_string() && warm["mailbox_depth"].is_number(),
        "{warm}"
    );
    assert!(
        warm["activation_ms"].as_f64().unwrap() > 0.0 && warm["idle_timeout_seconds"].is_u64(),
        "{warm}"
    );
    for _ in 0..3 {
        tenant.check("user:alice view document:d");
    }
    let used = stats();
    let memory = |of: &Value, name: &str| of["memory"][name].as_u64().unwrap();
    assert!(memory(&warm, "schema_bytes") > 0, "{warm}");
    assert!(
        memory(&used, "bytes") > memory(&warm, "bytes"),
        "{warm} then {used}"
    );
    assert!(memory(&used, "bytes") < memory(&used, "budget_bytes"), "{used}");
    let cache = &used["cache"];
    assert_eq!(
        (&cache["hits"], &cache["misses"]),
        (&json!(2), &json!(1)),
        "{used}"
    );
    assert!(
        cache["hit_rate"].as_f64().unwrap() > 0.6 && cache["entries"].as_u64().unwrap() >= 1,
        "{used}"
    );
    assert!(cache["bytes"].as_u64().unwrap() > 0, "{used}");
    // What the statistics call the revision is one that checks take.
    let mut body = question_body("user:alice view document:d");
    body["consistency"] = json!({"at_least_as_fresh": used["revision"]});
    assert_eq!(
        tenant.post("/v1/check", body).expect(200)["revision"],
        used["revision"]
    );
    // Deactivated under way, nobody notices.
    std::thread::scope(|scope| {
        let checks = scope.spawn(|| (0..100).all(|_| tenant.check("user:alice view document:d") == "allow"));
        for _ in 0..10 {
            post("deactivate").expect(200);
        }
        assert!(checks.join().unwrap());
    });
    // An archived vault cannot be activated.
    server
        .admin("PATCH", &path, Some(json!({"archived": true})))
        .expect(200);
    post("activate").problem(409, "vault_archived");
    assert_eq!(stats()["active"], false);
}

#[test]
fn a_restart_keeps_everything() {
    let server = Server::with(json!({}));
    let tenant = Tenant::with_documents(&server, "kept");
    tenant.touch(&["document:d#viewer@user:alice"]);
    let mut expiring = relationship("document:d#viewer@user:late");
    expiring["expires_at"] = json!("2099-01-01T00:00:00Z");
    let revision =
        tenant.change(json!({"touch": [expiring], "delete": [relationship("document:x#viewer@user:y")]}));
    let (account, vault) = (tenant.account.clone(), tenant.vault.clone());
    let path = format!("/v1/vaults/{vault}");
    server
        .admin(
            "PATCH",
            &path,
            Some(json!({"name": "renamed", "limits": {"max_depth": 9}})),
        )
        .expect(200);
    let other = Tenant::new(&server, "archived");
    let archived = format!("/v1/vaults/{}", other.vault);
    server
        .admin(
            "PATCH",
            &archived,
            Some(json!({"archived": true, "archived_at": "2025-11-02T10:00:00Z"})),
        )
        .expect(200);
    let everything = |server: &Server| -> Vec<Value> {
        let tenant = Tenant::of(server, account.clone(), vault.clone());
        vec![
            server.admin("GET", "/v1/accounts", None).expect(200),
            server
                .admin("GET", &format!("/v1/accounts/{account}/vaults"), None)
                .expect(200),
            server.admin("GET", &path, None).expect(200),
            server.admin("GET", &archived, None).expect(200),
            tenant.get("/v1/schema").expect(200),
            tenant.post("/v1/relationships/read", json!({})).expect(200),
            tenant
                .post("/v1/check", question_body("user:alice view document:d"))
                .expect(200),
        ]
    };
    let before = everything(&server);
    let server = server.restarted(json!({}));
    assert_eq!(everything(&server), before);
    let tenant = Tenant::of(&server, account.clone(), vault.clone());
    let later = tenant.untouch(&["document:d#viewer@user:alice"]);
    assert_ne!(later, revision);
    assert_eq!(tenant.check("user:alice view document:d"), "deny");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let directory = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let mut expected: Vec<String> = Vec::new();
    let mut owner: Option<(String, String)> = None;
    for round in 0..3 {
        let server = Server::over(std::sync::Arc::clone(&directory), json!({}));
        let tenant = match owner.clone() {
            Some((account, vault)) => Tenant::of(&server, account, vault),
            None => Tenant::with_documents(&server, "killed"),
        };
        owner = Some((tenant.account.clone(), tenant.vault.clone()));
        assert_eq!(tenant.read(json!({})), expected, "after {round} kills");
        for at in 0..20 {
            let text = format!("document:r{round}-{at:02}#viewer@user:alice");
            tenant.touch(&[&text]);
            expected.push(text);
        }
        // Dropped: killed without a word.
    }
}

#[test]
fn a_stop_finishes_what_is_under_way() {
    let mut server = Server::with(json!({}));
    let tenant = Tenant::with_documents(&server, "stopping");
    let (token, port) = (tenant.token(ALL_SCOPES), server.port);
    // Half of a request is there when the server is told to stop, the other half comes afterwards.
    let body = json!({"touch": [relationship("document:last#viewer@user:alice")]}).to_string();
    let head = format!(
        "POST /v1/relationships/write HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (first, second) = body.split_at(10);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    // The worker has seen the head once a later request on the same port was answered by each worker.
    for _ in 0..4 {
        assert_eq!(server.request("GET", "/livez").send().status, 200);
    }
    let directory = std::sync::Arc::clone(&server.directory);
    let (account, vault) = (tenant.account.clone(), tenant.vault.clone());
    drop(tenant);
    server.terminate();
    until("no connection is accepted any more", || {
        TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
    });
    stream.write_all(second.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.ended().code(), Some(0));
    assert!(server.log().iter().any(|line| line["message"] == "stopped"));
    let server = Server::over(directory, json!({}));
    assert_eq!(
        Tenant::of(&server, account, vault).check("user:alice view document:last"),
        "allow"
    );
}

#[test]
fn a_wrong_configuration_ends_the_start_with_one_line() {
    for (settings, expected) in [
        (json!({"server": {"prot": 1}}), "server.prot"),
        (json!({"server": {"port": 70000}}), "server.port"),
        (json!({"storage": {"backend": "postgres"}}), "storage.backend"),
        (
            json!({"storage": {"backend": "embedded", "path": "/dev/null/store"}}),
            "/dev/null/store",
        ),
        (json!({"cache": {"ttl_seconds": "long"}}), "cache.ttl_seconds"),
        (
            json!({"auth": {"jwks_url": "ftp://example.com/"}}),
            "auth.jwks_url",
        ),
        (
            json!({"server": {"host": "203.0.113.7"}, "observability": {"metrics": {"host": "127.0.0.1"}}}),
            "server.host",
        ),
        (
            json!({"auth": {"enabled": false}, "server": {"host": "0.0.0.0"}}),
            "auth.allow_unauthenticated_network",
        ),
        (
            json!({"auth": {"enabled": false}, "server": {"host": "::"}}),
            "auth.allow_unauthenticated_network",
        ),
    ] {
        let (code, text) = Server::launched_with(settings.clone()).ended();
        assert_eq!(code, Some(1), "{settings}: {text}");
        assert_eq!(text.lines().count(), 1, "{settings}: {text}");
        assert!(
            text.starts_with("error: ") && text.contains(expected),
            "{settings}: {text}"
        );
    }
    // A store that another server has open.
    let directory = tempfile::tempdir().unwrap();
    let settings = json!({"storage": {"backend": "embedded", "path": directory.path()}});
    let server = Server::with(settings.clone());
    let (code, text) = Server::launched_with(settings).ended();
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    // A port that another server has.
    let (code, text) = Server::launched_with(json!({"server": {"port": server.port}})).ended();
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains(&server.port.to_string()), "{text}");
}

#[test]
fn without_authentication_everybody_is_in_the_default_vault() {
    let server = Server::with(json!({"auth": {"enabled": false}}));
    let put = server
        .request("PUT", "/v1/schema")
        .header("Content-Type", "text/plain")
        .bytes(DOCUMENTS.as_bytes())
        .send();
    put.expect(200);
    let write = json!({"touch": [relationship("document:d#viewer@user:alice")]});
    server
        .request("POST", "/v1/relationships/write")
        .json(&write)
        .send()
        .expect(200);
    let check = question_body("user:alice view document:d");
    assert_eq!(
        server
            .request("POST", "/v1/check")
            .json(&check)
            .send()
            .expect(200)["decision"],
        "allow"
    );
    assert_eq!(
        server
            .request("GET", "/v1/accounts")
            .send()
            .expect(200)
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(
        server.log().iter().any(|line| line["level"] == "WARN"),
        "the log warns of it"
    );
}

#[test]
fn a_single_tenant_server_needs_no_vault_in_the_token_and_makes_none() {
    let server = Server::with(json!({"multi_tenancy": {"enabled": false}, "storage": {"backend": "memory"}}));
    let keys = crate::harness::Keys::shared();
    let token = keys
        .ed
        .sign(&crate::harness::claims(json!({"scope": ALL_SCOPES})));
    let put = server
        .request("PUT", "/v1/schema")
        .bearer(&token)
        .bytes(DOCUMENTS.as_bytes())
        .send();
    put.expect(200);
    let check = question_body("user:alice view document:d");
    assert_eq!(
        server
            .request("POST", "/v1/check")
            .bearer(&token)
            .json(&check)
            .send()
            .expect(200)["decision"],
        "deny"
    );
    let refused = server.admin("POST", "/v1/accounts", Some(json!({"name": "x"})));
    refused.problem(409, "single_tenant");
    // A token that does name another vault does not get into this one.
    let unknown = "0190a5c2-7f6e-7c31-9f5e-3b2a1d4c5e6f";
    let foreign = crate::harness::token_for(unknown, unknown, ALL_SCOPES);
    server
        .request("POST", "/v1/check")
        .bearer(&foreign)
        .json(&check)
        .send()
        .problem(403, "vault_access_denied");
}

#[test]
fn more_vaults_than_may_be_active_take_turns() {
    let server = Server::with(json!({"vaults": {"max_active": 2}, "storage": {"backend": "memory"}}));
    let tenants: Vec<Tenant<&Server>> = (0..5)
        .map(|at| Tenant::with_documents(&server, &format!("turn {at}")))
        .collect();
    for (at, tenant) in tenants.iter().enumerate() {
        tenant.touch(&[&format!("document:d#viewer@user:u{at}")]);
    }
    for _ in 0..3 {
        for (at, tenant) in tenants.iter().enumerate() {
            for who in 0..5 {
                let expected = if who == at { "allow" } else { "deny" };
                assert_eq!(tenant.check(&format!("user:u{who} view document:d")), expected);
            }
        }
    }
    until("no more than two are active", || {
        (server.metric("inferadb_active_vaults").unwrap() <= 2.0).then_some(())
    });
}

#[test]
fn a_vault_larger_than_its_memory_answers_the_same() {
    let settings = json!({"vaults": {"memory_budget_bytes": 1 << 20}, "cache": {"enabled": false}, "storage": {"backend": "memory"}});
    let server = Server::with(settings);
    let tenant = Tenant::with_documents(&server, "large");
    let padding = "x".repeat(300);
    for part in 0..6 {
        let touched: Vec<Value> = (0..1000)
            .map(|at| {
                relationship(&format!(
                    "document:{padding}-{part}-{at}#viewer@user:{padding}-{}",
                    at % 50
                ))
            })
            .collect();
        tenant.change(json!({ "touch": touched }));
    }
    let path = format!("/v1/vaults/{}", tenant.vault);
    let stats = || server.admin("GET", &format!("{path}/stats"), None).expect(200);
    assert_eq!(stats()["relationships"], 6000);
    let ask = |tenant: &Tenant<&Server>| {
        for at in (0..1000).step_by(37) {
            let document = format!("document:{padding}-{}-{at}", at % 6);
            let (right, wrong) = (at % 50, (at + 1) % 50);
            assert_eq!(
                tenant.check(&format!("user:{padding}-{right} view {document}")),
                "allow"
            );
            assert_eq!(
                tenant.check(&format!("user:{padding}-{wrong} view {document}")),
                "deny"
            );
        }
    };
    ask(&tenant);
    // Started anew it cannot be wholly in memory.
    server
        .admin("POST", &format!("{path}/deactivate"), None)
        .expect(200);
    ask(&tenant);
    let held = stats();
    assert_eq!(held["rows"]["complete"], false, "{held}");
    assert!(held["rows"]["bytes"].as_u64().unwrap() <= 1 << 20, "{held}");
    // What is written is seen though its row is not held, and what was held is not stale.
    tenant.untouch(&[&format!("document:{padding}-0-0#viewer@user:{padding}-0")]);
    assert_eq!(
        tenant.check(&format!("user:{padding}-0 view document:{padding}-0-0")),
        "deny"
    );
    tenant.touch(&[&format!("document:{padding}-0-0#viewer@user:new")]);
    assert_eq!(
        tenant.check(&format!("user:new view document:{padding}-0-0")),
        "allow"
    );
}
