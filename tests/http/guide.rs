//! The published deployment guide, call by call, as an administrator with curl walks through it.

use serde_json::{Value, json};

use crate::harness::{ALL_SCOPES, Answer, Keys, Server, Tenant, claims, token_for};

/// What `curl -d` sends, with its content type.
fn curl(server: &Server, method: &str, path: &str, token: &str, data: Option<&str>) -> Answer {
    let request = server
        .request(method, path)
        .bearer(token)
        .header("User-Agent", "curl/8.5.0")
        .header("Accept", "*/*");
    match data {
        Some(data) => request
            .header("Content-Type", "application/x-www-form-urlencoded")
            .bytes(data.as_bytes())
            .send(),
        None => request.send(),
    }
}

fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.ends_with('Z')
        && time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
}

fn is_id(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok())
}

#[test]
fn the_walk() {
    let server = Server::with(json!({}));
    let admin = Keys::shared()
        .ed
        .sign(&claims(json!({"scope": "inferadb.admin"})));
    let call = |method: &str, path: &str, data: Option<&str>| curl(&server, method, path, &admin, data);

    // Step 3: verify initialization.
    let account_line = server.logged("the account's line", |line| {
        line["message"] == "Default account created"
    });
    let vault_line = server.logged("the vault's line", |line| {
        line["message"] == "Default vault created"
    });
    let accounts = call("GET", "/v1/accounts", None).expect(200);
    assert_eq!(accounts.as_array().unwrap().len(), 1, "{accounts}");
    assert_eq!(accounts[0]["name"], "Default Account");
    assert_eq!(accounts[0]["id"], account_line["account"]);
    assert!(
        is_id(&accounts[0]["id"])
            && is_time(&accounts[0]["created_at"])
            && is_time(&accounts[0]["updated_at"])
    );
    let default = accounts[0]["id"].as_str().unwrap();
    let vaults = call("GET", &format!("/v1/accounts/{default}/vaults"), None).expect(200);
    assert_eq!(vaults.as_array().unwrap().len(), 1, "{vaults}");
    assert_eq!(vaults[0]["id"], vault_line["vault"]);

    // Creating accounts and vaults.
    let answer = call("POST", "/v1/accounts", Some(r#"{"name": "Acme Corporation"}"#));
    let acme = answer.expect(201);
    assert_eq!(acme["name"], "Acme Corporation");
    assert!(is_id(&acme["id"]) && is_time(&acme["created_at"]), "{acme}");
    assert_eq!(acme["created_at"], acme["updated_at"]);
    let account = acme["id"].as_str().unwrap();
    let vaults_path = format!("/v1/accounts/{account}/vaults");
    let mut ids = Vec::new();
    for name in ["Production", "Staging", "Development"] {
        let vault = call("POST", &vaults_path, Some(&json!({ "name": name }).to_string())).expect(201);
        assert_eq!(
            (&vault["name"], &vault["account_id"]),
            (&json!(name), &acme["id"])
        );
        assert!(is_id(&vault["id"]) && is_time(&vault["created_at"]) && is_time(&vault["updated_at"]));
        ids.push(vault["id"].as_str().unwrap().to_owned());
    }

    // Listing: in the order of creation, a plain array.
    let listed = call("GET", &vaults_path, None).expect(200);
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|vault| vault["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Production", "Staging", "Development"]);

    // Update, without a content type of JSON.
    let path = format!("/v1/vaults/{}", ids[0]);
    let renamed = call("PATCH", &path, Some(r#"{"name": "Production (Updated)"}"#)).expect(200);
    assert_eq!(
        (&renamed["name"], &renamed["id"]),
        (&json!("Production (Updated)"), &json!(ids[0]))
    );
    assert_eq!(call("GET", &path, None).expect(200), renamed);
    let renamed = call(
        "PATCH",
        &format!("/v1/accounts/{account}"),
        Some(r#"{"name": "Acme"}"#),
    )
    .expect(200);
    assert_eq!(renamed["name"], "Acme");
    assert_eq!(
        call("GET", &format!("/v1/accounts/{account}"), None).expect(200),
        renamed
    );

    // The vault is the token's: the claims of a custom provider, of Keycloak (vault alone is not enough) and of Auth0.
    let custom = json!({"sub": "user:alice", "vault": ids[0], "account": account, "scopes": ["inferadb.read", "inferadb.write", "inferadb.schema"]});
    let auth0 = json!({"https://inferadb.app/vault": ids[0], "https://inferadb.app/account": account, "permissions": ["inferadb.check"]});
    let keys = Keys::shared();
    let custom = keys.sign_rsa(
        "RS256",
        &json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"}),
        &claims(custom),
    );
    let auth0 = keys.sign_rsa(
        "RS512",
        &json!({"alg": "RS512", "typ": "JWT", "kid": "rsa"}),
        &claims(auth0),
    );
    let schema = "definition user {}\ndefinition document {\n    relation viewer: user\n    permission view = viewer\n}\n";
    let put = server
        .request("PUT", "/v1/schema")
        .bearer(&custom)
        .header("Content-Type", "text/plain")
        .bytes(schema.as_bytes())
        .send();
    assert_eq!(put.expect(200)["warnings"], json!([]));
    let write =
        r#"{"touch": [{"resource": "document:readme", "relation": "viewer", "subject": "user:alice"}]}"#;
    curl(&server, "POST", "/v1/relationships/write", &custom, Some(write)).expect(200);
    for (subject, decision) in [("user:alice", "allow"), ("user:bob", "deny")] {
        let check =
            json!({"subject": subject, "resource": "document:readme", "permission": "view"}).to_string();
        let answer = curl(&server, "POST", "/v1/check", &auth0, Some(&check)).expect(200);
        assert_eq!(answer["decision"], decision);
    }

    // Soft delete: the vault can no longer be entered, is not listed, and keeps its data.
    let archive = r#"{"archived": true, "archived_at": "2025-11-02T10:00:00Z"}"#;
    let archived = call("PATCH", &path, Some(archive)).expect(200);
    assert_eq!(
        (&archived["archived"], &archived["archived_at"]),
        (&json!(true), &json!("2025-11-02T10:00:00Z"))
    );
    let check = r#"{"subject":"user:alice","resource":"document:readme","permission":"view"}"#;
    let denied = curl(&server, "POST", "/v1/check", &auth0, Some(check)).problem(403, "vault_access_denied");
    assert!(denied["detail"].as_str().unwrap().contains("Vault access denied"));
    let ids_of = |path: &str| -> Vec<String> {
        let listed = call("GET", path, None).expect(200);
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|vault| vault["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids_of(&vaults_path), ids[1..]);
    assert_eq!(ids_of(&format!("{vaults_path}?archived=true")), ids);
    assert_eq!(call("GET", &path, None).expect(200)["archived"], true);
    let back = call("PATCH", &path, Some(r#"{"archived": false}"#)).expect(200);
    assert_eq!(
        (&back["archived"], back.get("archived_at")),
        (&json!(false), None)
    );
    assert_eq!(
        curl(&server, "POST", "/v1/check", &auth0, Some(check)).expect(200)["decision"],
        "allow"
    );

    // Delete.
    let gone = call("DELETE", &path, None);
    assert_eq!((gone.status, gone.body.len()), (204, 0), "{gone:?}");
    call("GET", &path, None).problem(404, "not_found");
    curl(&server, "POST", "/v1/check", &auth0, Some(check)).problem(403, "vault_access_denied");
    assert_eq!(ids_of(&vaults_path), ids[1..]);
}

#[test]
fn the_queries_of_the_guide_find_what_they_ask_for() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "queries");
    tenant.touch(&["document:readme#viewer@user:alice"]);
    for subject in ["user:alice", "user:alice", "user:eve"] {
        tenant.check(&format!("{subject} view document:readme"));
    }
    let vault = &tenant.vault;
    // vault_id:"…" AND decision:"deny"
    let line = server.logged("the denied check", |line| {
        line["vault_id"] == json!(vault) && line["decision"] == "deny"
    });
    let expected = json!({
        "level": "INFO", "message": "Permission check", "vault": vault, "account": tenant.account,
        "subject": "user:eve", "resource": "document:readme", "permission": "view",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name}: {line}");
    }
    assert!(
        is_time(&line["timestamp"]) && line["latency_ms"].is_number() && line["request_id"].is_string(),
        "{line}"
    );

    for (series, least) in [
        ("inferadb_vault_requests_total", 5.0),
        ("inferadb_vault_cache_hits", 1.0),
        ("inferadb_vault_cache_misses", 2.0),
        ("inferadb_vault_cache_requests", 3.0),
        ("inferadb_vault_relationships_total", 1.0),
        ("inferadb_vault_errors_total", 0.0),
        ("inferadb_vault_latency_seconds_count", 5.0),
        ("inferadb_cache_memory_bytes", 1.0),
    ] {
        let value = server.metric(&format!("{series}{{vault=\"{vault}\"}}"));
        assert!(value.is_some_and(|value| value >= least), "{series}: {value:?}");
    }
    assert_eq!(
        server.metric(&format!(
            "inferadb_vault_relationships_total{{vault=\"{vault}\"}}"
        )),
        Some(1.0)
    );
    assert!(server.metric("inferadb_active_vaults").unwrap() >= 1.0);
    let page = server.metrics();
    assert!(
        page.contains(&format!(
            "inferadb_vault_latency_seconds_bucket{{vault=\"{vault}\",le="
        )),
        "{page}"
    );
}

#[test]
fn default_ids_of_the_configuration_are_used() {
    let (account, vault) = (
        "1a2b3c4d-5e6f-4a8b-9c0d-1e2f3a4b5c6d",
        "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d",
    );
    let settings = json!({"multi_tenancy": {"default_organization": account, "default_vault": vault}});
    let server = Server::with(settings.clone());
    let token = token_for(account, vault, ALL_SCOPES);
    let schema = |server: &Server| server.request("GET", "/v1/schema").bearer(&token).send();
    schema(&server).problem(404, "no_schema");
    // They are made once, not on every start.
    let server = server.restarted(settings);
    schema(&server).problem(404, "no_schema");
    let made = server
        .log()
        .into_iter()
        .filter(|line| line["message"].as_str().unwrap().starts_with("Default"));
    assert_eq!(made.count(), 0);
    assert_eq!(
        server
            .admin("GET", "/v1/accounts", None)
            .expect(200)
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
