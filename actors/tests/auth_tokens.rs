//! Hostile tokens, one a line: each refused for its own reason, none of them making this server call anybody.

#![allow(missing_docs)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken test has to fail loudly"
)]

mod auth_support;

use std::net::TcpListener;
use std::sync::Arc;

use auth_support::{Answer, ISSUER, NOW, OTHER_VAULT, Provider, RsaSigner, VAULT, claims, encode, settings};
use aws_lc_rs::hmac;
use inferadb_actors::auth::development::SigningKey;
use inferadb_actors::auth::{AuthError, Authenticator, Refusal, Scopes};
use serde_json::{Value, json};

/// The provider of these tests: an RSA key `rsa` for any RS algorithm, the same under `rsa384` for RS384 alone, an
/// Ed25519 key under its own name, and a few keys that must never be used.
struct Keys {
    rsa: &'static RsaSigner,
    ed: SigningKey,
    set: String,
}

impl Keys {
    fn new() -> Self {
        let (rsa, ed) = (RsaSigner::shared(), SigningKey::generate().unwrap());
        let mut set: Value = serde_json::from_str(&ed.key_set()).unwrap();
        let ed_jwk = set["keys"][0].clone();
        let with = |mut key: Value, name: &str, value: Value| {
            key[name] = value;
            key
        };
        set["keys"].as_array_mut().unwrap().extend([
            rsa.jwk("rsa"),
            with(rsa.jwk("rsa384"), "alg", json!("RS384")),
            with(rsa.jwk("encryption"), "use", json!("enc")),
            with(rsa.jwk("signing-only"), "key_ops", json!(["sign"])),
            with(rsa.jwk("mismatch"), "alg", json!("EdDSA")),
            with(ed_jwk.clone(), "kid", json!("../../../../etc/passwd")),
            with(with(ed_jwk.clone(), "kid", json!("ed-enc")), "use", json!("enc")),
            with(with(ed_jwk, "kid", json!("twice")), "x", json!(encode([9; 32]))),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "twice", "x": encode([7; 32])}),
            json!({"kty": "oct", "kid": "secret", "alg": "HS256", "k": encode("secret")}),
        ]);
        Self {
            rsa,
            ed,
            set: set.to_string(),
        }
    }

    fn ed_header(&self, more: Value) -> String {
        header(json!({"alg": "EdDSA", "kid": self.ed.key_id()}), more)
    }

    /// A token with a good signature and `changes` made to good claims; `null` takes a claim away.
    fn claiming(&self, changes: Value) -> String {
        self.ed.sign(&changed(claims(), changes))
    }

    fn heading(&self, more: Value) -> String {
        self.ed.sign_text(&self.ed_header(more), &claims().to_string())
    }

    fn rsa_heading(&self, signed_by: &str, algorithm: &str, kid: &str) -> String {
        let header = json!({"alg": algorithm, "kid": kid}).to_string();
        self.rsa.sign(signed_by, &header, &claims().to_string())
    }

    /// A token whose payload is this text.
    fn paying(&self, payload: &str) -> String {
        self.ed.sign_text(&self.ed_header(json!({})), payload)
    }
}

fn header(base: Value, more: Value) -> String {
    changed(base, more).to_string()
}

fn changed(mut object: Value, changes: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => members.remove(name),
            value => members.insert(name.clone(), value.clone()),
        };
    }
    object
}

fn hmac_token(algorithm: &str, digest: hmac::Algorithm, secret: &[u8], kid: &str) -> String {
    let header = json!({"alg": algorithm, "kid": kid}).to_string();
    let signed = format!("{}.{}", encode(header), encode(claims().to_string()));
    let tag = hmac::sign(&hmac::Key::new(digest, secret), signed.as_bytes());
    format!("{signed}.{}", encode(tag.as_ref()))
}

fn unsigned(algorithm: &str) -> String {
    let header = json!({"alg": algorithm}).to_string();
    format!("{}.{}.", encode(header), encode(claims().to_string()))
}

/// `token` with one bit of its part changed, in the middle of it, where every bit counts.
fn flipped(token: &str, part: usize) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut bytes = data_encoding::BASE64URL_NOPAD
        .decode(parts[part].as_bytes())
        .unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    parts[part] = encode(bytes);
    parts.join(".")
}

type Case = (&'static str, String, Refusal);

fn algorithms(keys: &Keys, _: &str) -> Vec<Case> {
    let public = keys.rsa.public_bytes();
    let refused = Refusal::AlgorithmRefused;
    let mut cases: Vec<Case> = [
        "none", "None", "NONE", "nOnE", "", "rs256", "EDDSA", "Ed25519", "ES256", "RS256 ",
    ]
    .into_iter()
    .map(|algorithm| ("an algorithm off the list", unsigned(algorithm), refused))
    .collect();
    cases.extend([
        (
            "HS256 with the public key",
            hmac_token("HS256", hmac::HMAC_SHA256, &public, "rsa"),
            refused,
        ),
        (
            "HS384 with the public key",
            hmac_token("HS384", hmac::HMAC_SHA384, &public, "rsa"),
            refused,
        ),
        (
            "HS512 with an oct key of the set",
            hmac_token("HS512", hmac::HMAC_SHA512, b"secret", "secret"),
            refused,
        ),
        (
            "HS256 under RS256",
            hmac_token("RS256", hmac::HMAC_SHA256, &public, "rsa"),
            Refusal::BadSignature,
        ),
        (
            "RS256 for an oct key",
            hmac_token("RS256", hmac::HMAC_SHA256, b"secret", "secret"),
            Refusal::UnknownKey,
        ),
        ("PS256", keys.rsa_heading("PS256", "PS256", "rsa"), refused),
        (
            "PS256 under RS256",
            keys.rsa_heading("PS256", "RS256", "rsa"),
            Refusal::BadSignature,
        ),
        (
            "RS256 under RS512",
            keys.rsa_heading("RS256", "RS512", "rsa"),
            Refusal::BadSignature,
        ),
        (
            "RS256 with a key for RS384",
            keys.rsa_heading("RS256", "RS256", "rsa384"),
            Refusal::KeyAlgorithmMismatch,
        ),
        (
            "RS256 with an Ed25519 key",
            keys.rsa_heading("RS256", "RS256", keys.ed.key_id()),
            Refusal::KeyAlgorithmMismatch,
        ),
        (
            "EdDSA with an RSA key",
            keys.heading(json!({"kid": "rsa"})),
            Refusal::KeyAlgorithmMismatch,
        ),
        ("alg as number", keys.heading(json!({"alg": 1})), refused),
        ("alg as array", keys.heading(json!({"alg": ["EdDSA"]})), refused),
        ("no alg", keys.ed.sign_text("{}", "{}"), refused),
    ]);
    cases
}

fn key_ids(keys: &Keys, foreign: &str) -> Vec<Case> {
    let attacker = SigningKey::generate().unwrap();
    let attacker_set: Value = serde_json::from_str(&attacker.key_set()).unwrap();
    let jwk = attacker_set["keys"][0].clone();
    let under =
        |more: Value| attacker.sign_text(&header(json!({"alg": "EdDSA"}), more), &claims().to_string());
    let known = keys.ed.key_id();
    let url = format!("http://{foreign}/keys");
    let unknown = Refusal::UnknownKey;
    vec![
        (
            "an attacker's key, known kid",
            under(json!({"kid": known})),
            Refusal::BadSignature,
        ),
        (
            "embedded jwk, known kid",
            under(json!({"kid": known, "jwk": jwk})),
            Refusal::BadSignature,
        ),
        (
            "embedded jwk, its own kid",
            under(json!({"kid": attacker.key_id(), "jwk": jwk})),
            unknown,
        ),
        (
            "jku, known kid",
            under(json!({"kid": known, "jku": url})),
            Refusal::BadSignature,
        ),
        (
            "jku, its own kid",
            under(json!({"kid": attacker.key_id(), "jku": url})),
            unknown,
        ),
        (
            "x5u",
            under(json!({"kid": known, "x5u": url})),
            Refusal::BadSignature,
        ),
        (
            "x5c",
            under(json!({"kid": known, "x5c": ["AAAA"]})),
            Refusal::BadSignature,
        ),
        ("kid as address", under(json!({"kid": url})), unknown),
        ("kid as path", under(json!({"kid": "../../../dev/null"})), unknown),
        (
            "kid as path that a key has",
            under(json!({"kid": "../../../../etc/passwd"})),
            Refusal::BadSignature,
        ),
        (
            "kid as SQL",
            under(json!({"kid": "x' UNION SELECT 'secret';--"})),
            unknown,
        ),
        (
            "kid with NUL",
            under(json!({"kid": format!("{known}\0")})),
            unknown,
        ),
        (
            "kid in another case",
            under(json!({"kid": known.to_ascii_uppercase()})),
            unknown,
        ),
        ("kid as number", under(json!({"kid": 7})), Refusal::BadKeyId),
        (
            "kid as object",
            under(json!({"kid": {"kid": known}})),
            Refusal::BadKeyId,
        ),
        (
            "kid of 300 bytes",
            under(json!({"kid": "k".repeat(300)})),
            Refusal::BadKeyId,
        ),
        (
            "kid of 10 KB",
            under(json!({"kid": "k".repeat(10_240)})),
            Refusal::TooLong,
        ),
        (
            "no kid, several keys fit",
            keys.heading(json!({"kid": null})),
            Refusal::AmbiguousKey,
        ),
        (
            "a kid that two keys have",
            keys.heading(json!({"kid": "twice"})),
            Refusal::AmbiguousKey,
        ),
        (
            "a key for encryption",
            keys.rsa_heading("RS256", "RS256", "encryption"),
            unknown,
        ),
        (
            "an Ed25519 key for encryption",
            keys.heading(json!({"kid": "ed-enc"})),
            unknown,
        ),
        (
            "a key without verify",
            keys.rsa_heading("RS256", "RS256", "signing-only"),
            unknown,
        ),
        (
            "a key whose alg and kty disagree",
            keys.rsa_heading("RS256", "RS256", "mismatch"),
            unknown,
        ),
    ]
}

fn forms(keys: &Keys, _: &str) -> Vec<Case> {
    let good = keys.claiming(json!({}));
    let [head, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        unreachable!()
    };
    let (known, text) = (keys.ed.key_id(), claims().to_string());
    let json_form = json!({"payload": payload, "protected": head, "signature": signature}).to_string();
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(1_500), "]".repeat(1_500));
    let twice = |name: &str, value: &str| format!("{},\"{name}\":{value}}}", &text[..text.len() - 1]);
    let head_twice = format!(r#"{{"alg":"none","kid":"{known}","alg":"EdDSA"}}"#);
    let raw = |payload: &[u8]| {
        let header = encode(keys.ed_header(json!({})));
        format!("{header}.{}.{signature}", encode(payload))
    };
    vec![
        ("nothing", String::new(), Refusal::NotThreeParts),
        ("one part", head.to_owned(), Refusal::NotThreeParts),
        ("two parts", format!("{head}.{payload}"), Refusal::NotThreeParts),
        (
            "four parts",
            format!("{good}.{signature}"),
            Refusal::NotThreeParts,
        ),
        (
            "an encrypted token",
            "e30.AAAA.AAAA.AAAA.AAAA".to_owned(),
            Refusal::NotThreeParts,
        ),
        ("JSON serialisation", json_form, Refusal::NotThreeParts),
        ("8,000 dots", ".".repeat(8_000), Refusal::NotThreeParts),
        ("100,000 dots", ".".repeat(100_000), Refusal::TooLong),
        ("10 MB", "A".repeat(10_000_000), Refusal::TooLong),
        (
            "a good token of 9 KB",
            keys.claiming(json!({"x": "x".repeat(7_000)})),
            Refusal::TooLong,
        ),
        ("empty parts", "..".to_owned(), Refusal::BadHeader),
        (
            "padding",
            format!("{head}.{payload}.{signature}=="),
            Refusal::BadBase64,
        ),
        (
            "bits left over",
            format!("{}.{payload}.{}", head, noncanonical(signature)),
            Refusal::BadBase64,
        ),
        (
            "white space",
            format!("{head}.{payload}.{signature} "),
            Refusal::BadBase64,
        ),
        (
            "a line break within",
            format!("{head}.{payload}\n.{signature}"),
            Refusal::BadBase64,
        ),
        (
            "the other base64",
            format!("{head}.{payload}.+/{}", &signature[2..]),
            Refusal::BadBase64,
        ),
        (
            "beyond ASCII",
            format!("{head}.{payload}.é{signature}"),
            Refusal::BadBase64,
        ),
        (
            "no signature",
            format!("{head}.{payload}."),
            Refusal::BadSignature,
        ),
        (
            "half a signature",
            format!("{head}.{payload}.{}", &signature[..40]),
            Refusal::BadSignature,
        ),
        (
            "another token's signature",
            format!("{head}.{}.{signature}", encode("{}")),
            Refusal::BadSignature,
        ),
        (
            "a flipped bit in the header",
            flipped(
                &keys.heading(json!({"a": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
            xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"})),
                0,
            ),
            Refusal::BadSignature,
        ),
        (
            "a flipped bit in the payload",
            flipped(&good, 1),
            Refusal::BadSignature,
        ),
        (
            "a flipped bit in the signature",
            flipped(&good, 2),
            Refusal::BadSignature,
        ),
        (
            "a header that is no object",
            keys.ed.sign_text("[]", &text),
            Refusal::BadHeader,
        ),
        (
            "alg twice in the header",
            keys.ed.sign_text(&head_twice, &text),
            Refusal::BadHeader,
        ),
        (
            "a deep header",
            keys.ed.sign_text(&deep, &text),
            Refusal::BadHeader,
        ),
        (
            "crit, unknown",
            keys.heading(json!({"crit": ["x"], "x": 1})),
            Refusal::CriticalHeader,
        ),
        (
            "crit, empty",
            keys.heading(json!({"crit": []})),
            Refusal::CriticalHeader,
        ),
        (
            "crit and b64",
            keys.heading(json!({"crit": ["b64"], "b64": false})),
            Refusal::CriticalHeader,
        ),
        (
            "b64 false",
            keys.heading(json!({"b64": false})),
            Refusal::UnencodedPayload,
        ),
        (
            "a payload that is an array",
            keys.paying("[]"),
            Refusal::BadPayload,
        ),
        (
            "a payload that is text",
            keys.paying("\"x\""),
            Refusal::BadPayload,
        ),
        (
            "a token within the token",
            keys.paying(&good),
            Refusal::BadPayload,
        ),
        (
            "exp twice",
            keys.paying(&twice("exp", "9999999999")),
            Refusal::BadPayload,
        ),
        (
            "vault twice, once escaped",
            keys.paying(&twice("\\u0076ault", "\"x\"")),
            Refusal::BadPayload,
        ),
        ("a deep payload", keys.paying(&deep), Refusal::BadPayload),
        ("NaN", keys.paying(&twice("nbf", "NaN")), Refusal::BadPayload),
        (
            "invalid UTF-8, unsigned",
            raw(b"{\"sub\":\"\xff\"}"),
            Refusal::BadSignature,
        ),
    ]
}

/// The same bytes under another spelling: the last character's unused bits are set.
fn noncanonical(part: &str) -> String {
    let (rest, last) = part.split_at(part.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).unwrap();
    format!("{rest}{}", &alphabet[index + 1..index + 2])
}

fn meanings(keys: &Keys, _: &str) -> Vec<Case> {
    let with = |changes: Value| keys.claiming(changes);
    vec![
        ("expired", with(json!({"exp": NOW - 60})), Refusal::Expired),
        ("no exp", with(json!({"exp": null})), Refusal::MissingExpiry),
        (
            "exp as string",
            with(json!({"exp": "9999999999"})),
            Refusal::BadExpiry,
        ),
        ("exp below zero", with(json!({"exp": -1})), Refusal::BadExpiry),
        (
            "exp of 2^63",
            with(json!({"exp": 9_223_372_036_854_775_808_u64})),
            Refusal::BadExpiry,
        ),
        (
            "exp in milliseconds",
            with(json!({"exp": NOW * 1000})),
            Refusal::BadExpiry,
        ),
        ("nbf ahead", with(json!({"nbf": NOW + 61})), Refusal::NotYetValid),
        ("nbf as string", with(json!({"nbf": "0"})), Refusal::BadNotBefore),
        (
            "iat ahead",
            with(json!({"iat": NOW + 3_600})),
            Refusal::IssuedInFuture,
        ),
        ("iat as string", with(json!({"iat": "now"})), Refusal::BadIssuedAt),
        (
            "iss without slash",
            with(json!({"iss": ISSUER.trim_end_matches('/')})),
            Refusal::WrongIssuer,
        ),
        (
            "iss in another case",
            with(json!({"iss": ISSUER.to_uppercase()})),
            Refusal::WrongIssuer,
        ),
        (
            "iss with ours in front",
            with(json!({"iss": format!("{ISSUER}.attacker.example/")})),
            Refusal::WrongIssuer,
        ),
        (
            "iss as array",
            with(json!({"iss": [ISSUER]})),
            Refusal::WrongIssuer,
        ),
        ("no iss", with(json!({"iss": null})), Refusal::WrongIssuer),
        ("no aud", with(json!({"aud": null})), Refusal::WrongAudience),
        ("aud empty", with(json!({"aud": []})), Refusal::WrongAudience),
        (
            "aud a part of ours",
            with(json!({"aud": "infera"})),
            Refusal::WrongAudience,
        ),
        (
            "aud for somebody else",
            with(json!({"aud": ["billing"]})),
            Refusal::WrongAudience,
        ),
        (
            "scopes that conflict",
            with(json!({"permissions": ["inferadb.admin"]})),
            Refusal::ConflictingScopes,
        ),
        (
            "scope as object",
            with(json!({"scope": {"inferadb.admin": true}})),
            Refusal::BadScope,
        ),
        (
            "vault as array",
            with(json!({"vault": [VAULT]})),
            Refusal::BadVault,
        ),
        ("vault as number", with(json!({"vault": 1})), Refusal::BadVault),
        ("vault empty", with(json!({"vault": ""})), Refusal::BadVault),
        (
            "vault nil",
            with(json!({"vault": "00000000-0000-0000-0000-000000000000"})),
            Refusal::BadVault,
        ),
        (
            "vault with look-alikes",
            with(json!({"vault": VAULT.replace('a', "а")})),
            Refusal::BadVault,
        ),
        (
            "vaults that conflict",
            with(json!({"https://inferadb.app/vault": OTHER_VAULT})),
            Refusal::ConflictingVaults,
        ),
        (
            "accounts that conflict",
            with(json!({"account": VAULT, "https://inferadb.app/account": OTHER_VAULT})),
            Refusal::ConflictingAccounts,
        ),
        ("sub as number", with(json!({"sub": 1})), Refusal::BadSubject),
    ]
}

async fn start(keys: &Keys) -> (Authenticator, Arc<Provider>) {
    let provider = Provider::new(Answer::Text(keys.set.clone()));
    let auth = Authenticator::start_with(settings(), Arc::clone(&provider) as _, None).unwrap();
    (auth, provider)
}

#[actix::test]
async fn every_hostile_token_is_refused_for_its_reason() {
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    foreign.set_nonblocking(true).unwrap();
    let address = foreign.local_addr().unwrap().to_string();
    let keys = Keys::new();
    let (auth, provider) = start(&keys).await;
    let tables = [algorithms, key_ids, forms, meanings];
    let cases: Vec<Case> = tables.iter().flat_map(|table| table(&keys, &address)).collect();
    assert!(cases.len() > 100, "{}", cases.len());
    for (name, token, expected) in &cases {
        let refused = auth.authenticate(token, NOW).await.unwrap_err();
        assert_eq!(refused.reason(), Some(*expected), "{name}");
        assert_eq!(auth.cached(token.as_bytes(), NOW), None, "{name}");
        let said = format!("{refused} {refused:?}");
        let secrets = token.split('.').filter(|part| part.len() > 16);
        assert!(
            secrets.into_iter().all(|part| !said.contains(part)),
            "{name}: {said}"
        );
    }
    assert_eq!(
        foreign.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "somebody else was called"
    );
    assert_eq!(
        provider.asked(),
        2,
        "one fetch at the start, one for all unknown keys"
    );
    assert_eq!(
        auth.status()
            .tokens_refused
            .iter()
            .map(|(_, count)| count)
            .sum::<u64>(),
        cases.len() as u64
    );
    assert_eq!(auth.status().tokens_verified, 0);
    let missing: Vec<&Refusal> = Refusal::ALL
        .iter()
        .filter(|refusal| !cases.iter().any(|(_, _, expected)| expected == *refusal))
        .collect();
    assert_eq!(
        missing,
        [&Refusal::BadTokenId, &Refusal::BadAccount],
        "these two are left to the claims' own tests"
    );
}

#[actix::test]
async fn every_good_token_passes() {
    let keys = Keys::new();
    let (auth, _) = start(&keys).await;
    let cases = [
        keys.claiming(json!({})),
        keys.claiming(json!({"aud": ["other", "inferadb"], "nbf": NOW, "exp": NOW as f64 + 0.5})),
        keys.claiming(json!({"exp": NOW - 59})),
        keys.claiming(
            json!({"https://inferadb.app/vault": VAULT, "permissions": ["inferadb.check"], "typ": 7}),
        ),
        keys.heading(json!({"typ": "at+jwt", "cty": "x", "jku": "http://192.0.2.1/", "x5t": 5})),
        keys.rsa_heading("RS256", "RS256", "rsa"),
        keys.rsa_heading("RS384", "RS384", "rsa"),
        keys.rsa_heading("RS512", "RS512", "rsa"),
        keys.rsa_heading("RS384", "RS384", "rsa384"),
        keys.rsa
            .sign("RS512", r#"{"alg":"RS512"}"#, &claims().to_string()),
        keys.heading(json!({"kid": "../../../../etc/passwd"})),
    ];
    for token in cases {
        let principal = auth.authenticate(&token, NOW).await;
        let principal = principal.unwrap_or_else(|error| panic!("{error}: {token}"));
        assert_eq!(
            (principal.scopes, principal.subject.as_deref()),
            (Scopes::CHECK, Some("alice"))
        );
        assert_eq!(principal.vault, Some(VAULT.parse().unwrap()));
    }
}

/// Tokens from an implementation that is not ours, so that both ends cannot be wrong in the same way.
#[actix::test]
async fn tokens_that_another_implementation_signed_pass() {
    use aws_lc_rs::encoding::AsDer;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let pkcs8 = rsa.as_der().unwrap();
    // PKCS#8 wraps the RSAPrivateKey that is wanted here, behind a header of 26 bytes for keys of this size.
    let rsa = EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]);
    let ed = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let ed = EncodingKey::from_ed_der(ed.to_pkcs8v1().unwrap().as_ref());
    let mut keys = Vec::new();
    let mut tokens = Vec::new();
    for (key, algorithm) in [
        (&rsa, Algorithm::RS256),
        (&rsa, Algorithm::RS384),
        (&rsa, Algorithm::RS512),
        (&ed, Algorithm::EdDSA),
    ] {
        let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(key, algorithm).unwrap();
        jwk.common.key_id = Some(format!("{algorithm:?}"));
        keys.push(serde_json::to_value(jwk).unwrap());
        let header = Header {
            kid: Some(format!("{algorithm:?}")),
            ..Header::new(algorithm)
        };
        tokens.push((algorithm, encode(&header, &claims(), key).unwrap()));
    }
    let provider = Provider::new(Answer::Text(json!({ "keys": keys }).to_string()));
    let auth = Authenticator::start_with(settings(), provider, None).unwrap();
    for (algorithm, token) in tokens {
        assert!(auth.authenticate(&token, NOW).await.is_ok(), "{algorithm:?}");
    }
}

#[actix::test]
async fn without_keys_nothing_is_said_about_a_token() {
    let provider = Provider::new(Answer::Away);
    let auth = Authenticator::start_with(settings(), provider, None).unwrap();
    let keys = Keys::new();
    assert_eq!(
        auth.authenticate(&keys.claiming(json!({})), NOW).await,
        Err(AuthError::KeysUnavailable)
    );
    let forged = keys.claiming(json!({"exp": 0}));
    assert_eq!(
        auth.authenticate(&forged, NOW).await,
        Err(AuthError::KeysUnavailable)
    );
    assert_eq!(
        auth.authenticate("x", NOW).await,
        Err(AuthError::Malformed {
            reason: Refusal::NotThreeParts
        })
    );
    assert_eq!(auth.status().tokens_unavailable, 2);
}
