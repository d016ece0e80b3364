//! Tokens over HTTP: those that must pass, and hostile ones that must not, whatever they try.

use aws_lc_rs::hmac;
use inferadb_actors::auth::development::SigningKey;
use serde_json::{Value, json};

use crate::harness::{ALL_SCOPES, Answer, Keys, Server, Tenant, claims, encode, question_body, seconds_now};

struct Forge<'a> {
    server: &'a Server,
    tenant: &'a Tenant<&'a Server>,
    keys: &'static Keys,
}

impl Forge<'_> {
    fn ask(&self, token: &str) -> Answer {
        let body = question_body("user:alice view document:d");
        self.server
            .request("POST", "/v1/check")
            .bearer(token)
            .json(&body)
            .send()
    }

    /// Good claims for the vault, with changes.
    fn claims(&self, changes: Value) -> Value {
        let mut all =
            json!({"account": self.tenant.account, "vault": self.tenant.vault, "scope": ALL_SCOPES});
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        claims(all)
    }

    fn claiming(&self, changes: Value) -> String {
        self.keys.ed.sign(&self.claims(changes))
    }

    /// Signed by `key` under this header over good claims.
    fn headed_by(&self, key: &SigningKey, header: Value) -> String {
        key.sign_text(&header.to_string(), &self.claims(json!({})).to_string())
    }

    fn headed(&self, header: Value) -> String {
        self.headed_by(&self.keys.ed, header)
    }

    fn hmac(&self, algorithm: &str, secret: &[u8], kid: &str) -> String {
        let header = json!({"alg": algorithm, "kid": kid}).to_string();
        let signed = format!(
            "{}.{}",
            encode(header),
            encode(self.claims(json!({})).to_string())
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", encode(tag.as_ref()))
    }

    fn rsa(&self, signed_by: &str, said: &str, kid: &str) -> String {
        self.keys.sign_rsa(
            signed_by,
            &json!({"alg": said, "kid": kid}),
            &self.claims(json!({})),
        )
    }
}

#[test]
fn tokens_of_every_form_of_the_contract_pass() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "tokens");
    let forge = Forge {
        server: &server,
        tenant: &tenant,
        keys: Keys::shared(),
    };
    let vault = tenant.vault.clone();
    let only = |claim: &str, value: Value| forge.claiming(json!({"scope": null, claim: value}));
    let good = [
        ("EdDSA", forge.claiming(json!({}))),
        ("RS256", forge.rsa("RS256", "RS256", "rsa")),
        ("RS384", forge.rsa("RS384", "RS384", "rsa")),
        ("RS512", forge.rsa("RS512", "RS512", "rsa")),
        ("aud as text", forge.claiming(json!({"aud": "inferadb"}))),
        (
            "aud among others",
            forge.claiming(json!({"aud": ["other", "inferadb"]})),
        ),
        ("no sub", forge.claiming(json!({"sub": null}))),
        ("no iat", forge.claiming(json!({"iat": null}))),
        (
            "exp with a fraction",
            forge.claiming(json!({"exp": seconds_now() as f64 + 60.5})),
        ),
        (
            "a little skew",
            forge.claiming(json!({"iat": seconds_now() + 20, "nbf": seconds_now() + 20})),
        ),
        ("scope", only("scope", json!("openid inferadb.check profile"))),
        ("scopes", only("scopes", json!(["inferadb.check"]))),
        ("scp", only("scp", json!(["inferadb.check"]))),
        ("scp as text", only("scp", json!("inferadb.check"))),
        ("permissions", only("permissions", json!(["inferadb.check"]))),
        (
            "Auth0",
            forge.claiming(json!({"vault": null, "https://inferadb.app/vault": vault})),
        ),
        (
            "both, agreeing",
            forge.claiming(json!({"https://inferadb.app/vault": vault})),
        ),
        (
            "upper case",
            forge.claiming(json!({"vault": vault.to_uppercase()})),
        ),
        (
            "an unknown header",
            forge.headed(json!({"alg": "EdDSA", "kid": forge.keys.ed.key_id(), "zip": "DEF", "x": 1})),
        ),
        ("unknown claims", forge.claiming(json!({"x": {"y": [1, null]}}))),
    ];
    for (name, token) in good {
        // Verified, and remembered.
        for _ in 0..2 {
            let answer = forge.ask(&token);
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
            assert_eq!(answer.json()["decision"], "deny");
        }
    }
}

#[test]
fn hostile_tokens_are_refused_and_hurt_nobody() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "hostile");
    let other = Tenant::with_documents(&*server, "their prey");
    let forge = Forge {
        server: &server,
        tenant: &tenant,
        keys: Keys::shared(),
    };
    let keys = forge.keys;
    let known = keys.ed.key_id().to_owned();
    let attacker = SigningKey::generate().unwrap();
    let attacker_set: Value = serde_json::from_str(&attacker.key_set()).unwrap();
    // Whoever follows an address in a token would knock here.
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let address = format!("http://{}/jwks.json", trap.local_addr().unwrap());
    let good = forge.claiming(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = |algorithm: &str| {
        let header = json!({ "alg": algorithm }).to_string();
        format!(
            "{}.{}.",
            encode(header),
            encode(forge.claims(json!({})).to_string())
        )
    };
    let heads = |more: Value| {
        let mut header = json!({"alg": "EdDSA", "kid": known});
        for (name, value) in more.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    };
    let payload = forge.claims(json!({})).to_string();
    let twice = format!(
        "{},\"vault\":\"{}\"}}",
        &payload[..payload.len() - 1],
        other.vault
    );
    let timeless = forge
        .claims(json!({"exp": 4_102_444_800_u64}))
        .to_string()
        .replace("4102444800", "null");
    assert!(timeless.contains("\"exp\":null"));
    let now = seconds_now();
    let hostile: Vec<(&str, String)> = vec![
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("no algorithm", unsigned("")),
        (
            "HS256 with the RSA key",
            forge.hmac("HS256", &keys.rsa_public(), "rsa"),
        ),
        (
            "HS256 said to be RS256",
            forge.hmac("RS256", &keys.rsa_public(), "rsa"),
        ),
        (
            "HS256 with the set itself",
            forge.hmac("HS256", keys.key_set().as_bytes(), &known),
        ),
        ("PS256", forge.rsa("PS256", "PS256", "rsa")),
        ("PS256 said to be RS256", forge.rsa("PS256", "RS256", "rsa")),
        ("RS256 said to be RS512", forge.rsa("RS256", "RS512", "rsa")),
        (
            "RS256 under the Ed25519 key's name",
            forge.rsa("RS256", "RS256", &known),
        ),
        (
            "EdDSA under the RSA key's name",
            forge.headed(json!({"alg": "EdDSA", "kid": "rsa"})),
        ),
        ("ES256", forge.headed(json!({"alg": "ES256", "kid": known}))),
        (
            "the algorithm in another case",
            forge.headed(json!({"alg": "EDDSA", "kid": known})),
        ),
        (
            "the algorithm as list",
            forge.headed(json!({"alg": ["EdDSA"], "kid": known})),
        ),
        (
            "another's key under our name",
            forge.headed_by(&attacker, heads(json!({}))),
        ),
        (
            "another's key",
            forge.headed_by(&attacker, json!({"alg": "EdDSA", "kid": attacker.key_id()})),
        ),
        (
            "an embedded key",
            forge.headed_by(&attacker, heads(json!({"jwk": attacker_set["keys"][0]}))),
        ),
        (
            "an embedded key of its own name",
            forge.headed_by(
                &attacker,
                heads(json!({"kid": attacker.key_id(), "jwk": attacker_set["keys"][0]})),
            ),
        ),
        ("jku", forge.headed_by(&attacker, heads(json!({"jku": address})))),
        (
            "jku of its own name",
            forge.headed_by(
                &attacker,
                heads(json!({"kid": attacker.key_id(), "jku": address})),
            ),
        ),
        ("x5u", forge.headed_by(&attacker, heads(json!({"x5u": address})))),
        (
            "kid as address",
            forge.headed_by(&attacker, heads(json!({"kid": address}))),
        ),
        (
            "kid as path",
            forge.headed_by(&attacker, heads(json!({"kid": "../../../../dev/null"}))),
        ),
        (
            "kid as SQL",
            forge.headed_by(&attacker, heads(json!({"kid": "' OR 1=1 --"}))),
        ),
        ("kid as number", forge.headed(heads(json!({"kid": 1})))),
        (
            "an unknown crit",
            forge.headed(heads(json!({"crit": ["exp"], "exp": 1}))),
        ),
        ("an empty crit", forge.headed(heads(json!({"crit": []})))),
        (
            "b64 false",
            forge.headed(heads(json!({"crit": ["b64"], "b64": false}))),
        ),
        (
            "expired",
            forge.claiming(json!({"exp": now - 3600, "iat": now - 7200})),
        ),
        ("no exp", forge.claiming(json!({"exp": null}))),
        (
            "exp as text",
            forge.claiming(json!({"exp": (now + 600).to_string()})),
        ),
        (
            "exp as null",
            keys.ed.sign_text(&heads(json!({})).to_string(), &timeless),
        ),
        ("exp as list", forge.claiming(json!({"exp": [now + 600]}))),
        ("exp beyond all times", forge.claiming(json!({"exp": 1e300}))),
        ("exp below zero", forge.claiming(json!({"exp": -1}))),
        ("nbf in the future", forge.claiming(json!({"nbf": now + 3600}))),
        ("iat in the future", forge.claiming(json!({"iat": now + 3600}))),
        ("another audience", forge.claiming(json!({"aud": ["other"]}))),
        ("no audience", forge.claiming(json!({"aud": null}))),
        (
            "an audience that begins like ours",
            forge.claiming(json!({"aud": "inferadb.example"})),
        ),
        (
            "the audience as number",
            forge.claiming(json!({"aud": ["inferadb", 1]})),
        ),
        (
            "another issuer",
            forge.claiming(json!({"iss": "https://issuer.example"})),
        ),
        ("no issuer", forge.claiming(json!({"iss": null}))),
        (
            "issuers as list",
            forge.claiming(json!({"iss": ["https://issuer.example/"]})),
        ),
        (
            "two vaults",
            forge.claiming(json!({"https://inferadb.app/vault": other.vault})),
        ),
        (
            "two accounts",
            forge.claiming(json!({"https://inferadb.app/account": other.account})),
        ),
        (
            "a vault twice",
            keys.ed.sign_text(&heads(json!({})).to_string(), &twice),
        ),
        (
            "vaults as list",
            forge.claiming(json!({"vault": [tenant.vault, other.vault]})),
        ),
        (
            "a vault that is no UUID",
            forge.claiming(json!({"vault": "default-vault-id"})),
        ),
        (
            "a vault with braces",
            forge.claiming(json!({"vault": format!("{{{}}}", tenant.vault)})),
        ),
        (
            "the nil vault",
            forge.claiming(json!({"vault": "00000000-0000-0000-0000-000000000000"})),
        ),
        (
            "scopes that disagree",
            forge.claiming(json!({"scp": ["inferadb.admin"]})),
        ),
        (
            "scopes as object",
            forge.claiming(json!({"scope": {"inferadb.check": true}})),
        ),
        (
            "a payload that is no object",
            keys.ed.sign_text(&heads(json!({})).to_string(), "[]"),
        ),
        (
            "a payload that is no JSON",
            keys.ed.sign_text(&heads(json!({})).to_string(), "{"),
        ),
        (
            "a deep payload",
            keys.ed.sign_text(
                &heads(json!({})).to_string(),
                &format!("{{\"x\":{}{}}}", "[".repeat(2500), "]".repeat(2500)),
            ),
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        (
            "another payload",
            format!(
                "{}.{}.{}",
                parts[0],
                encode(forge.claims(json!({"sub": "root"})).to_string()),
                parts[2]
            ),
        ),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.{}", parts[2])),
        ("five parts", "e30.AAAA.AAAA.AAAA.AAAA".to_owned()),
        ("padding", format!("{good}==")),
        ("dots", ".".repeat(5000)),
        ("nothing", String::new()),
        ("too long", forge.claiming(json!({"x": "x".repeat(20_000)}))),
        ("bytes beyond ASCII", format!("{good}\u{e9}")),
    ];
    assert!(hostile.len() > 50);
    for (name, token) in &hostile {
        for _ in 0..2 {
            let answer = forge.ask(token);
            assert_eq!(answer.status, 401, "{name}: {answer:?}");
            assert!(
                answer.header("www-authenticate").unwrap().starts_with("Bearer"),
                "{name}: {answer:?}"
            );
            answer.problem(401, answer.json()["code"].as_str().unwrap());
            assert!(
                token.is_empty() || !answer.text().contains(token.as_str()),
                "{name}: {answer:?}"
            );
        }
        // Not for administration either.
        let answer = server.request("GET", "/v1/accounts").bearer(token).send();
        assert_eq!(answer.status, 401, "{name}: {answer:?}");
    }
    // Known callers where they may not be.
    for (name, changes, code) in [
        (
            "another's vault",
            json!({"vault": other.vault}),
            "vault_access_denied",
        ),
        (
            "another's account",
            json!({"account": other.account}),
            "vault_access_denied",
        ),
        ("no scope", json!({"scope": null}), "insufficient_scope"),
        (
            "scopes of others",
            json!({"scope": "admin check inferadb.checks"}),
            "insufficient_scope",
        ),
    ] {
        let answer = forge.ask(&forge.claiming(changes));
        assert_eq!(answer.status, 403, "{name}: {answer:?}");
        answer.problem(403, code);
    }
    assert!(trap.accept().is_err(), "somebody followed an address of a token");
    forge.ask(&good).expect(200);
    let page = server.metrics();
    assert!(!page.contains("inferadb_vault_requests_total{vault=\"00000000"));
}

#[test]
fn an_expired_token_is_not_remembered_beyond_its_time() {
    // The skew that is allowed is taken away, so that a token of two seconds is one.
    let server = Server::with(json!({"auth": {"clock_skew_seconds": 0}, "storage": {"backend": "memory"}}));
    let tenant = Tenant::with_documents(&server, "short");
    let forge = Forge {
        server: &server,
        tenant: &tenant,
        keys: Keys::shared(),
    };
    let expires_at = seconds_now() + 2;
    let token = forge.claiming(json!({ "exp": expires_at }));
    let mut passed = 0;
    crate::harness::until("it expires", || {
        let before = seconds_now();
        let answer = forge.ask(&token);
        if answer.status == 200 {
            assert!(before <= expires_at, "accepted after its time: {answer:?}");
            passed += 1;
            return None;
        }
        answer.problem(401, "invalid_token");
        assert!(seconds_now() >= expires_at, "refused before its time");
        Some(())
    });
    assert!(passed > 0);
}

#[test]
fn keys_that_are_rotated_in_are_found_and_those_rotated_out_go() {
    let server = Server::with(json!({
        "auth": {"jwks_cache_ttl": 1, "jwks_refresh_interval": 1, "jwks_min_refetch_seconds": 0},
        "storage": {"backend": "memory"},
    }));
    let tenant = Tenant::with_documents(&server, "rotation");
    let forge = Forge {
        server: &server,
        tenant: &tenant,
        keys: Keys::shared(),
    };
    let next = SigningKey::generate().unwrap();
    let new = next.sign(&forge.claims(json!({})));
    let old = forge.claiming(json!({}));
    forge.ask(&new).problem(401, "invalid_token");
    forge.ask(&old).expect(200);
    std::fs::write(server.directory.path().join("jwks.json"), next.key_set()).unwrap();
    crate::harness::until("the new key is taken in", || {
        (forge.ask(&new).status == 200).then_some(())
    });
    crate::harness::until("the old key goes, remembered tokens too", || {
        (forge.ask(&old).status == 401).then_some(())
    });
    // A provider that publishes nonsense takes nothing away.
    std::fs::write(server.directory.path().join("jwks.json"), "<html>503</html>").unwrap();
    let before = server
        .metric("inferadb_jwks_fetches_total{result=\"ok\"}")
        .or_else(|| server.metric("inferadb_jwks_fetches_total{result=\"success\"}"));
    let failures = || {
        server
            .metrics()
            .lines()
            .filter(|line| {
                line.starts_with("inferadb_jwks_fetches_total{")
                    && !line.contains("\"ok\"")
                    && !line.contains("\"success\"")
            })
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum::<f64>()
    };
    let failed = failures();
    crate::harness::until("a fetch fails", || (failures() > failed).then_some(()));
    forge.ask(&new).expect(200);
    assert!(before.is_some(), "{}", server.metrics());
}
