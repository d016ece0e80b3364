//! Every claim, accepted and refused.

use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;
const VAULT: &str = "0190a5c2-7f6e-7c31-9f5e-3b2a1d4c5e6f";
const OTHER: &str = "0190a5c2-7f6e-7c31-9f5e-3b2a1d4c5e70";

fn settings() -> AuthSettings {
    AuthSettings {
        issuer: Some("https://issuer.example/".to_owned()),
        audiences: vec!["inferadb".to_owned(), "https://api.inferadb.example".to_owned()],
        ..AuthSettings::default()
    }
}

/// A good payload with `changes` made to it; a `null` in them takes the claim away.
fn payload(changes: Value) -> Value {
    let mut claims = json!({
        "iss": "https://issuer.example/", "aud": "inferadb", "exp": NOW + 600, "sub": "alice",
        "vault": VAULT, "scope": "inferadb.check",
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn read(changes: Value) -> Result<Principal, Refusal> {
    let text = payload(changes).to_string();
    Claims::read(text.as_bytes(), &settings(), NOW).map(|claims| claims.principal)
}

/// As [`read`], with the claim `name` written into the text as it stands.
fn read_raw(name: &str, value: &str) -> Result<Principal, Refusal> {
    let mut text = payload(json!({name: null})).to_string();
    text.truncate(text.len() - 1);
    let text = format!("{text},\"{name}\":{value}}}");
    Claims::read(text.as_bytes(), &settings(), NOW).map(|claims| claims.principal)
}

#[test]
fn a_good_payload_becomes_a_principal() {
    let principal = read(json!({"account": OTHER, "jti": "t-1", "exp": (NOW + 600) as f64 + 0.9})).unwrap();
    let expected = Principal {
        subject: Some("alice".to_owned()),
        vault: Some(VAULT.parse().unwrap()),
        account: Some(OTHER.parse().unwrap()),
        scopes: Scopes::CHECK,
        expires_at: NOW + 600,
        token_id: Some("t-1".to_owned()),
    };
    assert_eq!(principal, expected);
    let bare = read(json!({"vault": null, "sub": null, "scope": null})).unwrap();
    assert_eq!(
        (bare.vault, bare.account, bare.subject, bare.scopes),
        (None, None, None, Scopes::NONE)
    );
}

#[test]
fn times_have_to_be_numbers_that_people_could_mean() {
    assert_eq!(read(json!({"exp": null})), Err(Refusal::MissingExpiry));
    let senseless = [
        "\"1900000000\"",
        "null",
        "-1",
        "-0.5",
        "9223372036854775808",
        "9223372036854775807",
        "18446744073709551616",
        "1800000600000",
        "1e300",
        "[1900000000]",
        "{}",
        "true",
    ];
    for value in senseless {
        assert_eq!(read_raw("exp", value), Err(Refusal::BadExpiry), "{value}");
        assert_eq!(read_raw("nbf", value), Err(Refusal::BadNotBefore), "{value}");
        assert_eq!(read_raw("iat", value), Err(Refusal::BadIssuedAt), "{value}");
    }
    for value in ["NaN", "Infinity", "1e999", "01", "0x10", ""] {
        assert_eq!(read_raw("exp", value), Err(Refusal::BadPayload), "{value}");
    }
    assert!(read_raw("exp", "1800000600.25").is_ok());
    assert!(read_raw("exp", "1.8000006e9").is_ok());
}

#[test]
fn times_are_judged_with_the_clock_skew() {
    assert_eq!(read(json!({"exp": 0})), Err(Refusal::Expired));
    assert_eq!(read(json!({"exp": NOW - 60})), Err(Refusal::Expired));
    assert!(read(json!({"exp": NOW - 59})).is_ok());
    assert!(read(json!({"nbf": NOW + 60, "iat": NOW + 60})).is_ok());
    assert_eq!(read(json!({"nbf": NOW + 61})), Err(Refusal::NotYetValid));
    assert_eq!(read(json!({"nbf": NOW as f64 + 60.5})), Err(Refusal::NotYetValid));
    assert_eq!(read(json!({"iat": NOW + 61})), Err(Refusal::IssuedInFuture));
    let text = payload(json!({"nbf": NOW - 10, "iat": NOW - 20})).to_string();
    assert_eq!(
        Claims::read(text.as_bytes(), &settings(), NOW)
            .unwrap()
            .valid_from,
        NOW - 70
    );
}

#[test]
fn the_issuer_matches_exactly() {
    for issuer in [
        json!("https://issuer.example"),
        json!("https://issuer.example//"),
        json!("https://Issuer.example/"),
        json!("https://issuer.example/x"),
        json!("http://issuer.example/"),
        json!(["https://issuer.example/"]),
        json!(1),
        json!(""),
        Value::Null,
    ] {
        assert_eq!(
            read(json!({ "iss": issuer })),
            Err(Refusal::WrongIssuer),
            "{issuer}"
        );
    }
    assert_eq!(read_raw("iss", "null"), Err(Refusal::WrongIssuer));
    let anyone = AuthSettings {
        issuer: None,
        ..settings()
    };
    let judge = |issuer: Value| {
        Claims::read(
            payload(json!({ "iss": issuer })).to_string().as_bytes(),
            &anyone,
            NOW,
        )
    };
    assert!(judge(json!("https://elsewhere.example")).is_ok());
    assert!(judge(Value::Null).is_ok());
    assert_eq!(judge(json!(["x"])).unwrap_err(), Refusal::WrongIssuer);
}

#[test]
fn the_audience_names_us() {
    for audience in [
        json!("inferadb"),
        json!(["other", "inferadb"]),
        json!("https://api.inferadb.example"),
    ] {
        assert!(read(json!({ "aud": audience })).is_ok(), "{audience}");
    }
    for audience in [
        Value::Null,
        json!(""),
        json!([]),
        json!("infera"),
        json!("inferadb2"),
        json!("InferaDB"),
        json!("inferadb "),
        json!("other inferadb"),
        json!("https://api.inferadb.example/"),
        json!(["other"]),
        json!(["inferadb", 1]),
        json!([["inferadb"]]),
        json!({"inferadb": true}),
        json!(1),
    ] {
        assert_eq!(
            read(json!({ "aud": audience })),
            Err(Refusal::WrongAudience),
            "{audience}"
        );
    }
    let nobody = AuthSettings {
        audiences: vec![String::new()],
        ..settings()
    };
    let text = payload(json!({"aud": ""})).to_string();
    assert_eq!(
        Claims::read(text.as_bytes(), &nobody, NOW).unwrap_err(),
        Refusal::WrongAudience
    );
}

#[test]
fn scopes_come_from_any_of_four_claims() {
    let both = Scopes::READ | Scopes::WRITE;
    for claim in SCOPE_CLAIMS {
        for value in [
            json!("inferadb.read inferadb.write"),
            json!("openid inferadb.write  inferadb.read inferadb.read"),
            json!(["inferadb.write", "email", "inferadb.read"]),
        ] {
            assert_eq!(
                read(json!({"scope": null, claim: value})).unwrap().scopes,
                both,
                "{claim} {value}"
            );
        }
        for value in [
            json!(1),
            json!({"inferadb.read": true}),
            json!(["inferadb.read", 1]),
            json!([["inferadb.read"]]),
        ] {
            assert_eq!(
                read(json!({"scope": null, claim: value})),
                Err(Refusal::BadScope),
                "{claim} {value}"
            );
        }
        assert_eq!(read_raw(claim, "null"), Err(Refusal::BadScope));
    }
}

#[test]
fn nothing_like_a_scope_is_a_scope() {
    for value in [
        json!("inferadb.adm"),
        json!("inferadb.administrator"),
        json!("INFERADB.ADMIN"),
        json!("inferadb.admin\tx"),
        json!("xinferadb.admin"),
        json!("inferadb.*"),
        json!("inferadb.admin,inferadb.read"),
        json!(["inferadb.admin inferadb.read"]),
        json!([" inferadb.admin"]),
        json!(""),
        json!([]),
    ] {
        assert_eq!(
            read(json!({ "scope": value })).unwrap().scopes,
            Scopes::NONE,
            "{value}"
        );
    }
}

#[test]
fn scope_claims_that_disagree_are_refused_and_never_united() {
    for changes in [
        json!({"scope": "inferadb.read", "permissions": ["inferadb.admin"]}),
        json!({"scope": "inferadb.read", "permissions": ["inferadb.read", "inferadb.write"]}),
        json!({"scopes": ["inferadb.read"], "scp": "inferadb.write"}),
        json!({"scope": "openid", "scp": ["inferadb.read"], "permissions": ["inferadb.write"]}),
    ] {
        assert_eq!(
            read(changes.clone()),
            Err(Refusal::ConflictingScopes),
            "{changes}"
        );
    }
    let agreeing = json!({
        "scope": "openid inferadb.read inferadb.check", "permissions": ["inferadb.check", "inferadb.read"],
        "scp": [], "scopes": "",
    });
    assert_eq!(read(agreeing).unwrap().scopes, Scopes::CHECK | Scopes::READ);
    let auth0 = json!({"scope": "openid profile", "permissions": ["inferadb.read"]});
    assert_eq!(read(auth0).unwrap().scopes, Scopes::READ);
}

#[test]
fn ids_are_uuids_and_say_one_thing() {
    for (name, malformed, conflicting) in [
        ("vault", Refusal::BadVault, Refusal::ConflictingVaults),
        ("account", Refusal::BadAccount, Refusal::ConflictingAccounts),
    ] {
        let namespaced = format!("https://inferadb.app/{name}");
        for value in [
            json!(""),
            json!("*"),
            json!(1),
            json!(true),
            json!([VAULT]),
            json!({"id": VAULT}),
            json!("00000000-0000-0000-0000-000000000000"),
            json!(VAULT.replace('-', "")),
            json!(format!("{{{VAULT}}}")),
            json!(format!("urn:uuid:{VAULT}")),
            json!(format!(" {VAULT}")),
            json!(format!("{VAULT}\0")),
            json!(VAULT.replace('0', "О")),
            json!(VAULT.replace('0', "o")),
            json!(VAULT.replace('-', "‐")),
            json!(VAULT.replacen('-', "_", 1)),
        ] {
            assert_eq!(read(json!({ name: value })), Err(malformed), "{name} {value}");
            assert_eq!(
                read(json!({name: null, &namespaced: value})),
                Err(malformed),
                "{namespaced} {value}"
            );
            assert_eq!(
                read(json!({name: VAULT, &namespaced: value})),
                Err(malformed),
                "both {value}"
            );
        }
        assert_eq!(read_raw(name, "null"), Err(malformed));
        assert_eq!(read(json!({name: VAULT, &namespaced: OTHER})), Err(conflicting));
        let agreeing = read(json!({name: VAULT.to_uppercase(), &namespaced: VAULT})).unwrap();
        let alone = read(json!({name: null, &namespaced: VAULT})).unwrap();
        for principal in [agreeing, alone] {
            let id = if name == "vault" {
                principal.vault
            } else {
                principal.account
            };
            assert_eq!(id, Some(VAULT.parse().unwrap()));
        }
        for elsewhere in [
            format!("http://inferadb.app/{name}"),
            format!("https://inferadb.app.example/{name}"),
        ] {
            let principal = read(json!({"vault": null, elsewhere: VAULT})).unwrap();
            assert_eq!(
                (principal.vault, principal.account),
                (None, None),
                "other namespaces mean nothing"
            );
        }
    }
}

#[test]
fn names_are_strings() {
    for value in [json!(1), json!(["alice"]), json!({"name": "alice"})] {
        assert_eq!(read(json!({ "sub": value })), Err(Refusal::BadSubject));
        assert_eq!(read(json!({ "jti": value })), Err(Refusal::BadTokenId));
    }
}

#[test]
fn a_payload_is_one_strict_object() {
    for text in ["", "[]", "\"inferadb\"", "42", "null", "{", "{} x"] {
        assert_eq!(
            Claims::read(text.as_bytes(), &settings(), NOW).unwrap_err(),
            Refusal::BadPayload,
            "{text}"
        );
    }
    assert_eq!(
        read_raw(
            "sub",
            "\"alice\",\"vault\":\"0190a5c2-7f6e-7c31-9f5e-3b2a1d4c5e70\""
        ),
        Err(Refusal::BadPayload)
    );
    assert_eq!(
        read_raw("x", &format!("{}{}", "[".repeat(2_000), "]".repeat(2_000))),
        Err(Refusal::BadPayload)
    );
    assert_eq!(read_raw("x", "\"\\ud800\""), Err(Refusal::BadPayload));
}
