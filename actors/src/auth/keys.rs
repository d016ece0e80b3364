//! The provider's key set (RFC 7517): which keys in it may verify, and which one a token means.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{DecodingKey, crypto};
use thiserror::Error;

use super::compact::MAX_KEY_ID_BYTES;
use super::error::Refusal;
use super::json::{self, Json, Object};

/// How many keys a set may hold, usable or not.
const MAX_KEYS: usize = 256;
/// The sizes of RSA moduli that are accepted, in bits: below is weak (RFC 7518, 3.3), above costs too much to check.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// The widest RSA exponent, in bytes. Every exponent in use has three.
const MAX_EXPONENT_BYTES: usize = 4;

/// The signature algorithms that tokens may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    EdDsa,
}

impl Algorithm {
    const RSA: [Self; 3] = [Self::Rs256, Self::Rs384, Self::Rs512];

    const fn for_verification(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }

    /// The algorithm with exactly this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "RS384" => Some(Self::Rs384),
            "RS512" => Some(Self::Rs512),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// The usable keys of one key set, in an order that does not depend on the provider's.
#[derive(Debug, PartialEq)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a JWK set, and leaves out the keys that may not verify, each with a line in the log.
    ///
    /// # Errors
    ///
    /// If the text is no JWK set, holds more than 256 keys, or none that is usable.
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let members = json::object(text).map_err(|_| KeySetError::NotJson)?;
        let Some(Json::Array(items)) = members.get("keys") else {
            return Err(KeySetError::NoKeys);
        };
        if items.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
        let mut keys = Vec::with_capacity(items.len());
        for (position, item) in items.iter().enumerate() {
            match Key::read(item) {
                Ok(key) => keys.push(key),
                Err(reason) => tracing::debug!(position, reason, "a key of the key set is not used"),
            }
        }
        keys.sort_by(|left, right| left.identity().cmp(&right.identity()));
        keys.dedup();
        if keys.is_empty() {
            Err(KeySetError::Empty {
                unusable: items.len(),
            })
        } else {
            Ok(Self { keys })
        }
    }

    /// How many usable keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never true: a set without a usable key is refused when it is read.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key that a token means: of those with its `kid` (of all, if it has none), the only one that fits its
    /// algorithm. Where two fit, neither is taken: the rule must not depend on the order of the provider's list.
    pub(super) fn select(&self, key_id: Option<&str>, algorithm: Algorithm) -> Result<&Key, Refusal> {
        let mut named = self
            .keys
            .iter()
            .filter(|key| key_id.is_none() || key.id.as_deref() == key_id)
            .peekable();
        let missing = match named.peek() {
            Some(_) if key_id.is_some() => Refusal::KeyAlgorithmMismatch,
            _ => Refusal::UnknownKey,
        };
        let mut fitting = named.filter(|key| key.algorithms.contains(&algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Refusal::AmbiguousKey),
            (None, _) => Err(missing),
        }
    }
}

/// Why a text cannot serve as key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// Not JSON, no object, a repeated member, or nested too deep.
    #[error("the key set is not a JSON object")]
    NotJson,
    /// There is no `keys` array.
    #[error("the key set has no `keys` array")]
    NoKeys,
    /// More than 256 keys.
    #[error("the key set holds more than 256 keys")]
    TooManyKeys,
    /// Nothing in it can verify a token.
    #[error("the key set holds no usable key ({unusable} unusable)")]
    Empty {
        /// How many keys there were, none of them usable.
        unusable: usize,
    },
}

/// One usable public key.
pub(super) struct Key {
    id: Option<String>,
    /// The raw public key, for telling keys apart: an RSA exponent and modulus, or an Ed25519 point.
    material: Vec<u8>,
    /// What it may verify.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Key {
    /// Whether `signature` is this key's, by `algorithm`, over `signed`.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let signature = BASE64URL_NOPAD.encode(signature);
        // An error says that the key is no point or modulus after all: then it verifies nothing.
        self.algorithms.contains(&algorithm)
            && crypto::verify(&signature, signed, &self.key, algorithm.for_verification()).unwrap_or(false)
    }

    /// What makes two keys the same key.
    fn identity(&self) -> (&Option<String>, &[u8], &[Algorithm]) {
        (&self.id, &self.material, &self.algorithms)
    }

    /// Reads one JWK; the error says in a few words why it may not verify.
    fn read(item: &Json) -> Result<Self, &'static str> {
        let Json::Object(jwk) = item else {
            return Err("not an object");
        };
        if jwk.contains_key("d") {
            return Err("it publishes its private half");
        }
        verify_purpose(jwk)?;
        let id = match jwk.get("kid") {
            None => None,
            Some(Json::String(id)) if id.len() <= MAX_KEY_ID_BYTES => Some(id.clone()),
            Some(_) => return Err("`kid` is no string of at most 256 bytes"),
        };
        let algorithm = match jwk.get("alg") {
            None => None,
            Some(Json::String(name)) => Some(Algorithm::named(name).ok_or("`alg` is not accepted here")?),
            Some(_) => return Err("`alg` is no string"),
        };
        let (material, algorithms, key) = match jwk.get("kty").and_then(Json::as_str) {
            Some("RSA") => read_rsa(jwk, algorithm)?,
            Some("OKP") => read_ed25519(jwk, algorithm)?,
            Some("oct") => return Err("symmetric keys are never used"),
            _ => return Err("`kty` is not accepted here"),
        };
        Ok(Self {
            id,
            material,
            algorithms,
            key,
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

/// A key's material, what it may verify, and the key itself.
type Parsed = (Vec<u8>, Vec<Algorithm>, DecodingKey);

/// `use` and `key_ops`, where they are given, must allow verifying (RFC 7517, 4.2 and 4.3).
fn verify_purpose(jwk: &Object) -> Result<(), &'static str> {
    match jwk.get("use") {
        None => {}
        Some(Json::String(usage)) if usage == "sig" => {}
        Some(_) => return Err("`use` is not `sig`"),
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Json::Array(operations)) if operations.iter().any(|each| each.as_str() == Some("verify")) => {
            Ok(())
        }
        Some(_) => Err("`key_ops` does not list `verify`"),
    }
}

/// An RSA key verifies by the algorithm that it names, or by all three if it names none.
fn read_rsa(jwk: &Object, algorithm: Option<Algorithm>) -> Result<Parsed, &'static str> {
    let algorithms = match algorithm {
        Some(Algorithm::EdDsa) => return Err("`alg` does not match `kty`"),
        Some(algorithm) => vec![algorithm],
        None => Algorithm::RSA.to_vec(),
    };
    let modulus = integer(jwk, "n").ok_or("`n` is no base64url integer")?;
    let exponent = integer(jwk, "e").ok_or("`e` is no base64url integer")?;
    if !RSA_BITS.contains(&bits(&modulus)) {
        return Err("the modulus has fewer than 2048 or more than 8192 bits");
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !odd(&modulus) || !odd(&exponent) || exponent == [1] || exponent.len() > MAX_EXPONENT_BYTES {
        return Err("not an RSA public key");
    }
    let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
    // The exponent first, at its full width, so that two different pairs cannot run together into the same bytes.
    let mut material = vec![0; MAX_EXPONENT_BYTES - exponent.len()];
    material.extend_from_slice(&exponent);
    material.extend_from_slice(&modulus);
    Ok((material, algorithms, key))
}

/// An Ed25519 key (RFC 8037) verifies EdDSA and nothing else.
fn read_ed25519(jwk: &Object, algorithm: Option<Algorithm>) -> Result<Parsed, &'static str> {
    if jwk.get("crv").and_then(Json::as_str) != Some("Ed25519") {
        return Err("`crv` is not `Ed25519`");
    }
    if algorithm.is_some_and(|algorithm| algorithm != Algorithm::EdDsa) {
        return Err("`alg` does not match `kty`");
    }
    let point = bytes(jwk, "x")
        .filter(|point| point.len() == 32)
        .ok_or("`x` is not 32 bytes of base64url")?;
    let key = DecodingKey::from_ed_der(&point);
    Ok((point, vec![Algorithm::EdDsa], key))
}

fn bytes(jwk: &Object, name: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(jwk.get(name)?.as_str()?.as_bytes()).ok()
}

/// A positive big-endian integer, without the leading zeros that some providers write.
fn integer(jwk: &Object, name: &str) -> Option<Vec<u8>> {
    let bytes = bytes(jwk, name)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes
        .get(zeros..)
        .filter(|rest| !rest.is_empty())
        .map(<[u8]>::to_vec)
}

fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros() as usize);
    (number.len() * 8).saturating_sub(unused)
}

#[cfg(test)]
mod tests;
