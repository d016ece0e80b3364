//! One tenant never meets another: not by data, names, ids that were used before, or load.

use serde_json::json;

use crate::harness::{DOCUMENTS, Server, Tenant, question_body};

#[test]
fn the_same_ids_in_two_vaults_are_not_the_same() {
    let server = Server::shared();
    let one = Tenant::with_documents(&*server, "one");
    let sibling = Tenant::in_account(&*server, one.account.clone(), "sibling");
    let foreign = Tenant::new(&*server, "foreign");
    sibling.put_schema(DOCUMENTS);
    foreign.put_schema("definition user {}\ndefinition document {\n  relation viewer: user\n  permission view = nil\n  permission shred = viewer\n}\n");
    one.touch(&[
        "document:readme#viewer@user:alice",
        "document:one#viewer@user:alice",
    ]);
    sibling.touch(&[
        "document:readme#banned@user:alice",
        "document:readme#viewer@user:alice",
    ]);
    foreign.touch(&["document:readme#viewer@user:alice"]);
    let question = "user:alice view document:readme";
    for _ in 0..3 {
        assert_eq!(one.check(question), "allow");
        assert_eq!(sibling.check(question), "deny");
        assert_eq!(foreign.check(question), "deny");
        assert_eq!(foreign.check("user:alice shred document:readme"), "allow");
        assert_eq!(sibling.check("user:alice view document:one"), "deny");
    }
    one.post("/v1/check", question_body("user:alice shred document:readme"))
        .problem(400, "unknown_permission");
    // Deleting everything in one leaves the others whole.
    let answer = one
        .post(
            "/v1/relationships/delete",
            json!({"filter": {"subject_type": "user"}}),
        )
        .expect(200);
    assert_eq!(answer["deleted"], 2);
    assert_eq!(sibling.read(json!({})).len(), 2);
    assert_eq!(foreign.read(json!({})).len(), 1);
    assert_eq!(one.check(question), "deny");
    assert_eq!(foreign.check("user:alice shred document:readme"), "allow");
    // The vault is the token's: whatever a request says besides is refused or of no effect.
    let mut body = question_body(question);
    body["vault"] = json!(sibling.vault);
    one.post("/v1/check", body).problem(400, "unknown_field");
    let answer = server
        .request("POST", &format!("/v1/check?vault={}", sibling.vault))
        .bearer(&one.token("inferadb.check"))
        .header("X-Vault-Id", &sibling.vault)
        .json(&question_body("user:alice shred document:readme"))
        .send();
    answer.problem(400, "unknown_permission");
}

#[test]
fn a_deleted_vault_never_comes_back() {
    let server = Server::with(json!({}));
    let tenant = Tenant::with_documents(&server, "to be deleted");
    let sibling = Tenant::in_account(&server, tenant.account.clone(), "sibling");
    sibling.put_schema(DOCUMENTS);
    tenant.touch(&["document:d#viewer@user:alice"]);
    sibling.touch(&["document:d#viewer@user:alice"]);
    assert_eq!(tenant.check("user:alice view document:d"), "allow");
    let (account, vault, sibling_vault) = (
        tenant.account.clone(),
        tenant.vault.clone(),
        sibling.vault.clone(),
    );
    let path = format!("/v1/vaults/{vault}");
    assert_eq!(server.admin("DELETE", &path, None).status, 204);
    let series = format!("vault=\"{vault}\"");
    let gone = |server: &Server| {
        let tenant = Tenant::of(server, account.clone(), vault.clone());
        for answer in [
            tenant.post("/v1/check", question_body("user:alice view document:d")),
            tenant.post("/v1/relationships/read", json!({})),
            tenant.get("/v1/schema"),
            tenant.put_schema_as("/v1/schema", "text/plain", DOCUMENTS),
            tenant.write(json!({"touch": [crate::harness::relationship("document:d#viewer@user:alice")]})),
        ] {
            answer.problem(403, "vault_access_denied");
        }
        for (method, suffix, body) in [
            ("GET", "", None),
            ("PATCH", "", Some(json!({"archived": false}))),
            ("DELETE", "", None),
            ("GET", "/stats", None),
            ("POST", "/activate", None),
            ("POST", "/deactivate", None),
        ] {
            server
                .admin(method, &format!("{path}{suffix}"), body)
                .problem(404, "not_found");
        }
        assert!(!server.metrics().contains(&series), "its series are still there");
        let sibling = Tenant::of(server, account.clone(), sibling_vault.clone());
        assert_eq!(sibling.check("user:alice view document:d"), "allow");
    };
    gone(&server);
    let server = server.restarted(json!({}));
    gone(&server);
    // Nor does its id come back through the configuration.
    let server =
        server.restarted(json!({"multi_tenancy": {"default_organization": account, "default_vault": vault}}));
    gone(&server);
}

#[test]
fn tenants_under_load_keep_their_own_answers() {
    let server = Server::shared();
    let tenants: Vec<Tenant<&Server>> = (0..8)
        .map(|at| Tenant::with_documents(&*server, &format!("load {at}")))
        .collect();
    for (at, tenant) in tenants.iter().enumerate() {
        tenant.touch(&[&format!("document:shared#viewer@user:u{at}")]);
    }
    std::thread::scope(|scope| {
        for (at, tenant) in tenants.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..40 {
                    let who = (at + round) % 8;
                    let expected = if who == at { "allow" } else { "deny" };
                    assert_eq!(
                        tenant.check(&format!("user:u{who} view document:shared")),
                        expected,
                        "{at}, {who}"
                    );
                }
            });
        }
    });
}
