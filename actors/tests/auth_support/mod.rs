//! A provider for tests: keys that sign anything, a key set that changes on demand, and a way to watch both.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a broken test has to fail loudly"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaKeyPair,
};
use data_encoding::BASE64URL_NOPAD;
use inferadb_actors::auth::{AuthSettings, FetchError, Fetched, KeySource};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// The moment at which all tests happen, in Unix seconds.
pub const NOW: i64 = 1_800_000_000;
pub const ISSUER: &str = "https://issuer.example/";
pub const VAULT: &str = "0190a5c2-7f6e-7c31-9f5e-3b2a1d4c5e6f";
pub const OTHER_VAULT: &str = "0190a5c2-7f6e-7c31-9f5e-3b2a1d4c5e70";

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

/// Claims that pass, ten minutes from [`NOW`].
pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "inferadb", "exp": NOW + 600, "iat": NOW, "sub": "alice",
        "vault": VAULT, "scope": "inferadb.check",
    })
}

pub fn settings() -> AuthSettings {
    AuthSettings {
        issuer: Some(ISSUER.to_owned()),
        audiences: vec!["inferadb".to_owned()],
        ..AuthSettings::default()
    }
}

/// An RSA key that signs whatever it is given.
pub struct RsaSigner {
    pair: RsaKeyPair,
    modulus: String,
}

impl RsaSigner {
    /// The one key of this test binary: making one takes a while.
    pub fn shared() -> &'static Self {
        static KEY: OnceLock<RsaSigner> = OnceLock::new();
        KEY.get_or_init(|| {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            // RSAPublicKey of RFC 8017, A.1.1: nine bytes stand before the modulus, five before and in the exponent
            // 65537.
            let public = pair.public_key().as_ref().to_vec();
            assert_eq!((public.len(), &public[265..]), (270, &[2, 3, 1, 0, 1][..]));
            Self {
                pair,
                modulus: encode(&public[9..265]),
            }
        })
    }

    pub fn jwk(&self, kid: &str) -> Value {
        json!({"kty": "RSA", "kid": kid, "use": "sig", "n": self.modulus, "e": "AQAB"})
    }

    /// The public key as bytes that an attacker might take for a shared secret.
    pub fn public_bytes(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// Signs by what the name says, under a header that may say something else.
    pub fn sign(&self, algorithm: &str, header: &str, payload: &str) -> String {
        let padding = match algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            other => panic!("no such algorithm: {other}"),
        };
        let signed = format!("{}.{}", encode(header), encode(payload));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(padding, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .unwrap();
        format!("{signed}.{}", encode(signature))
    }
}

/// What the provider does the next time it is asked.
#[derive(Clone)]
pub enum Answer {
    Text(String),
    Aged(String, Duration),
    Away,
    Hangs,
    Panics,
}

/// A provider that answers as it is told, and counts how often it was asked.
pub struct Provider {
    answer: Mutex<Answer>,
    asked: AtomicUsize,
    gate: Semaphore,
}

impl Provider {
    pub fn new(answer: Answer) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(answer),
            asked: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Lets no answer out until [`Provider::open`].
    pub fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets so many answers out.
    pub fn open(&self, answers: usize) {
        self.gate.add_permits(answers);
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl KeySource for Provider {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        let answer = self.answer.lock().unwrap().clone();
        let fetched = |text: String, max_age| {
            Ok(Fetched {
                body: text.into_bytes(),
                max_age,
            })
        };
        match answer {
            Answer::Text(text) => fetched(text, None),
            Answer::Aged(text, max_age) => fetched(text, Some(max_age)),
            Answer::Away => Err(FetchError::Status(503)),
            Answer::Hangs => std::future::pending().await,
            Answer::Panics => panic!("injected"),
        }
    }

    fn describe(&self) -> String {
        "a test".to_owned()
    }
}

/// One key set out of several.
pub fn union(sets: &[&str]) -> String {
    let keys: Vec<Value> = sets
        .iter()
        .flat_map(|set| {
            let set: Value = serde_json::from_str(set).unwrap();
            set["keys"].as_array().unwrap().clone()
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

/// Lets other tasks run until `condition` holds, without the clock moving.
pub async fn until(condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came true");
}
