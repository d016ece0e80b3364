//! The identity provider of these tests: one Ed25519 and one RSA key, which sign anything.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaKeyPair,
};
use data_encoding::BASE64URL_NOPAD;
use inferadb_actors::auth::development::SigningKey;
use serde_json::{Value, json};

/// Every scope inside a vault.
pub const ALL_SCOPES: &str = "inferadb.check inferadb.read inferadb.write inferadb.schema inferadb.watch";
pub const ISSUER: &str = "https://issuer.example/";

pub struct Keys {
    pub ed: SigningKey,
    rsa: RsaKeyPair,
}

impl Keys {
    /// The keys of this test run: making an RSA key takes a while.
    pub fn shared() -> &'static Self {
        static KEYS: OnceLock<Keys> = OnceLock::new();
        KEYS.get_or_init(|| Self {
            ed: SigningKey::generate().unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        })
    }

    /// Both public keys as JWK set; the RSA key's name is `rsa`.
    pub fn key_set(&self) -> String {
        let mut set: Value = serde_json::from_str(&self.ed.key_set()).unwrap();
        // RSAPublicKey (RFC 8017, A.1.1): nine bytes stand before the modulus of 256.
        let modulus = encode(&self.rsa_public()[9..265]);
        let rsa = json!({"kty": "RSA", "kid": "rsa", "use": "sig", "n": modulus, "e": "AQAB"});
        set["keys"].as_array_mut().unwrap().push(rsa);
        set.to_string()
    }

    pub fn rsa_public(&self) -> Vec<u8> {
        self.rsa.public_key().as_ref().to_vec()
    }

    /// Signs by the RSA key, by the algorithm named, under a header that may say something else.
    pub fn sign_rsa(&self, algorithm: &str, header: &Value, claims: &Value) -> String {
        let padding = match algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            other => panic!("no such algorithm: {other}"),
        };
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        let random = SystemRandom::new();
        self.rsa
            .sign(padding, &random, signed.as_bytes(), &mut signature)
            .unwrap();
        format!("{signed}.{}", encode(signature))
    }
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

pub fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that are good for ten minutes, with these on top; a `null` takes one away.
pub fn claims(more: Value) -> Value {
    let now = seconds_now();
    let mut claims =
        json!({"iss": ISSUER, "sub": "tester", "aud": ["inferadb"], "iat": now, "exp": now + 600});
    let members = claims.as_object_mut().unwrap();
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => members.remove(name),
            value => members.insert(name.clone(), value.clone()),
        };
    }
    claims
}
