//! Which keys of a set are used, and which one a token means.

use serde_json::{Value, json};

use super::*;
use crate::auth::development::SigningKey;

/// A JWK with an odd modulus of so many bits. Nobody can sign with it; here it only has to be read.
fn rsa(kid: &str, bits: usize, more: Value) -> Value {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] = 0xff >> (modulus.len() * 8 - bits);
    let mut key = json!({"kty": "RSA", "kid": kid, "n": BASE64URL_NOPAD.encode(&modulus), "e": "AQAB"});
    merge(&mut key, more);
    key
}

fn ed25519(kid: &str, more: Value) -> Value {
    let set: Value = serde_json::from_str(&SigningKey::generate().unwrap().key_set()).unwrap();
    let mut key = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": set["keys"][0]["x"]});
    merge(&mut key, more);
    key
}

fn merge(key: &mut Value, more: Value) {
    for (name, value) in more.as_object().unwrap() {
        key[name] = value.clone();
    }
}

fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn is_used(key: Value) -> bool {
    match set(&[key]) {
        Ok(set) => set.len() == 1,
        Err(error) => {
            assert_eq!(error, KeySetError::Empty { unusable: 1 });
            false
        }
    }
}

#[test]
fn keys_that_may_verify_are_used() {
    assert!(is_used(rsa("k", 2_048, json!({}))));
    assert!(is_used(rsa(
        "k",
        8_192,
        json!({"alg": "RS512", "use": "sig", "key_ops": ["sign", "verify"]})
    )));
    assert!(is_used(rsa(
        "k",
        2_048,
        json!({"e": "Aw", "x5c": ["anything"], "x5u": "http://192.0.2.1/"})
    )));
    assert!(is_used(ed25519("k", json!({}))));
    assert!(is_used(ed25519(
        "k",
        json!({"alg": "EdDSA", "key_ops": ["verify"]})
    )));
    let mut padded = vec![0_u8];
    padded.extend([0xff; 256]);
    assert!(
        is_used(rsa("k", 2_048, json!({"n": BASE64URL_NOPAD.encode(&padded)}))),
        "a leading zero is harmless"
    );
}

#[test]
fn keys_that_may_not_verify_are_left_out() {
    let even = BASE64URL_NOPAD.encode(&[0xfe; 256]);
    let cases = [
        rsa("k", 1_024, json!({})),
        rsa("k", 2_047, json!({})),
        rsa("k", 8_193, json!({})),
        rsa("k", 2_048, json!({"use": "enc"})),
        rsa("k", 2_048, json!({"use": ["sig"]})),
        rsa("k", 2_048, json!({"key_ops": ["encrypt"]})),
        rsa("k", 2_048, json!({"key_ops": []})),
        rsa("k", 2_048, json!({"key_ops": "verify"})),
        rsa("k", 2_048, json!({"alg": "EdDSA"})),
        rsa("k", 2_048, json!({"alg": "HS256"})),
        rsa("k", 2_048, json!({"alg": "PS256"})),
        rsa("k", 2_048, json!({"alg": "RSA-OAEP"})),
        rsa("k", 2_048, json!({"alg": "none"})),
        rsa("k", 2_048, json!({"alg": null})),
        rsa("k", 2_048, json!({"e": "AQ"})),
        rsa("k", 2_048, json!({"e": "Ag"})),
        rsa("k", 2_048, json!({"e": ""})),
        rsa("k", 2_048, json!({"e": "AQAAAAAB"})),
        rsa("k", 2_048, json!({"n": even})),
        rsa("k", 2_048, json!({"n": 5})),
        rsa("k", 2_048, json!({"n": "!"})),
        rsa("k", 2_048, json!({"d": "AQAB"})),
        rsa("k", 2_048, json!({"kid": 1})),
        rsa(&"k".repeat(257), 2_048, json!({})),
        rsa("k", 2_048, json!({"kty": "oct", "k": "c2VjcmV0"})),
        rsa("k", 2_048, json!({"kty": "EC", "crv": "P-256"})),
        rsa("k", 2_048, json!({"kty": "rsa"})),
        ed25519("k", json!({"alg": "RS256"})),
        ed25519("k", json!({"crv": "X25519"})),
        ed25519("k", json!({"crv": "Ed448"})),
        ed25519("k", json!({"x": "AAAA"})),
        ed25519("k", json!({"use": "enc"})),
        json!("key"),
    ];
    for case in cases {
        assert!(!is_used(case.clone()), "{case}");
    }
}

#[test]
fn texts_that_are_no_key_set_are_refused() {
    let key = rsa("k", 2_048, json!({})).to_string();
    let crowded: Vec<Value> = (0..=MAX_KEYS).map(|_| json!({})).collect();
    for (text, expected) in [
        (
            "<!doctype html><title>Sign in</title>".to_owned(),
            KeySetError::NotJson,
        ),
        (String::new(), KeySetError::NotJson),
        (format!("[{key}]"), KeySetError::NotJson),
        (format!("{{\"keys\":[{key}],\"keys\":[]}}"), KeySetError::NotJson),
        (
            format!("{{\"keys\":[{}]}}", key.replacen('{', "{\"kid\":\"x\",", 1)),
            KeySetError::NotJson,
        ),
        ("{}".to_owned(), KeySetError::NoKeys),
        (format!("{{\"keys\":{key}}}"), KeySetError::NoKeys),
        ("{\"keys\":[]}".to_owned(), KeySetError::Empty { unusable: 0 }),
        (json!({ "keys": crowded }).to_string(), KeySetError::TooManyKeys),
    ] {
        assert_eq!(
            KeySet::parse(text.as_bytes()).unwrap_err(),
            expected,
            "{}",
            &text[..text.len().min(60)]
        );
    }
}

#[test]
fn the_order_and_the_repetition_of_keys_change_nothing() {
    let (a, b) = (rsa("a", 2_048, json!({})), ed25519("b", json!({})));
    let one_way = set(&[a.clone(), b.clone()]).unwrap();
    let other_way = set(&[b.clone(), a.clone(), b.clone()]).unwrap();
    assert!(one_way == other_way);
    assert!(one_way != set(&[a]).unwrap());
    assert!(
        one_way != set(&[rsa("a", 2_048, json!({"alg": "RS256"})), b]).unwrap(),
        "what a key may do counts"
    );
}

#[test]
fn a_token_means_exactly_one_key() {
    use Algorithm::{EdDsa, Rs256, Rs384};
    let keys = set(&[
        rsa("a", 2_048, json!({"alg": "RS256"})),
        ed25519("b", json!({})),
        ed25519("c", json!({})),
        rsa("c", 2_048, json!({})),
        rsa("twice", 2_048, json!({})),
        rsa("twice", 3_072, json!({})),
        ed25519("twice", json!({})),
    ])
    .unwrap();
    let select =
        |kid: Option<&str>, algorithm| keys.select(kid, algorithm).map(|key| key.id.clone().unwrap());
    assert_eq!(select(Some("a"), Rs256).as_deref(), Ok("a"));
    assert_eq!(
        select(Some("a"), Rs384),
        Err(Refusal::KeyAlgorithmMismatch),
        "the header does not choose"
    );
    assert_eq!(select(Some("a"), EdDsa), Err(Refusal::KeyAlgorithmMismatch));
    assert_eq!(select(Some("b"), EdDsa).as_deref(), Ok("b"));
    assert_eq!(select(Some("b"), Rs256), Err(Refusal::KeyAlgorithmMismatch));
    assert_eq!(
        select(Some("c"), EdDsa).as_deref(),
        Ok("c"),
        "one kid for two key types is allowed"
    );
    assert_eq!(select(Some("c"), Rs256).as_deref(), Ok("c"));
    assert_eq!(select(Some("twice"), Rs256), Err(Refusal::AmbiguousKey));
    assert_eq!(select(Some("twice"), EdDsa).as_deref(), Ok("twice"));
    assert_eq!(select(Some("A"), Rs256), Err(Refusal::UnknownKey));
    assert_eq!(select(Some(""), Rs256), Err(Refusal::UnknownKey));
    assert_eq!(select(None, Rs256), Err(Refusal::AmbiguousKey));
    let small = set(&[rsa("a", 2_048, json!({"alg": "RS256"})), ed25519("b", json!({}))]).unwrap();
    assert_eq!(small.select(None, Rs256).unwrap().id.as_deref(), Some("a"));
    assert_eq!(small.select(None, EdDsa).unwrap().id.as_deref(), Some("b"));
    assert_eq!(small.select(None, Rs384).unwrap_err(), Refusal::UnknownKey);
    let mut nameless = ed25519("x", json!({}));
    nameless.as_object_mut().unwrap().remove("kid");
    let nameless = set(&[nameless]).unwrap();
    assert!(nameless.select(None, EdDsa).is_ok());
    assert_eq!(
        nameless.select(Some("x"), EdDsa).unwrap_err(),
        Refusal::UnknownKey
    );
}
