//! A token's outer form: three parts, a header that is safe to act on, a signature; nothing is believed yet.

use data_encoding::BASE64URL_NOPAD;

use super::error::Refusal;
use super::json;
use super::keys::Algorithm;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The longest `kid`, in a token or in a key set, in bytes.
pub(super) const MAX_KEY_ID_BYTES: usize = 256;

/// A token in the compact form of RFC 7515, section 3.1, with its header read.
#[derive(Debug)]
pub(super) struct Compact<'token> {
    /// The algorithm that the header names; it counts only together with a key that is meant for it.
    pub(super) algorithm: Algorithm,
    /// The key that the header names.
    pub(super) key_id: Option<String>,
    /// What was signed: header and payload as they came, with the dot between them.
    pub(super) signed: &'token [u8],
    /// The decoded payload, unread.
    pub(super) payload: Vec<u8>,
    /// The decoded signature.
    pub(super) signature: Vec<u8>,
}

impl<'token> Compact<'token> {
    /// Takes a token apart, and refuses it at the first thing that does not belong.
    ///
    /// Of the header only `alg`, `crit`, `b64` and `kid` are read. Keys and addresses of keys in it (`jwk`, `jku`,
    /// `x5u`, `x5c`) are never looked at: who may sign is the operator's decision, not the token's.
    pub(super) fn parse(token: &'token str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::NotThreeParts);
        };
        let (algorithm, key_id) = read_header(&decode(header)?)?;
        let signed_bytes = header.len() + 1 + payload.len();
        Ok(Self {
            algorithm,
            key_id,
            signed: token
                .as_bytes()
                .get(..signed_bytes)
                .ok_or(Refusal::NotThreeParts)?,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}

fn read_header(text: &[u8]) -> Result<(Algorithm, Option<String>), Refusal> {
    let header = json::object(text).map_err(|_| Refusal::BadHeader)?;
    let algorithm = header
        .get("alg")
        .and_then(json::Json::as_str)
        .and_then(Algorithm::named)
        .ok_or(Refusal::AlgorithmRefused)?;
    if header.contains_key("crit") {
        return Err(Refusal::CriticalHeader);
    }
    if header.contains_key("b64") {
        return Err(Refusal::UnencodedPayload);
    }
    let key_id = match header.get("kid") {
        None => None,
        Some(json::Json::String(key_id)) if key_id.len() <= MAX_KEY_ID_BYTES => Some(key_id.clone()),
        Some(_) => return Err(Refusal::BadKeyId),
    };
    Ok((algorithm, key_id))
}

/// Unpadded base64url in its one spelling: no padding, no white space, no bits left over.
fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    BASE64URL_NOPAD
        .decode(part.as_bytes())
        .map_err(|_| Refusal::BadBase64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        format!("{}.e30.AAAA", BASE64URL_NOPAD.encode(header.as_bytes()))
    }

    #[test]
    fn takes_a_token_apart() {
        let token = token(r#"{"alg":"RS384","kid":"k","typ":"at+jwt","jku":"http://x/"}"#);
        let compact = Compact::parse(&token).unwrap();
        assert_eq!(compact.algorithm, Algorithm::Rs384);
        assert_eq!(compact.key_id.as_deref(), Some("k"));
        assert_eq!(compact.payload, b"{}");
        assert_eq!(compact.signature, [0, 0, 0]);
        assert_eq!(compact.signed, &token.as_bytes()[..token.len() - 5]);
    }

    #[test]
    fn length_is_judged_before_anything_else() {
        let header = BASE64URL_NOPAD.encode(br#"{"alg":"EdDSA"}"#);
        let token = |bytes: usize| {
            let rest = bytes - header.len() - 2;
            format!("{header}.{}.", "A".repeat(rest))
        };
        let longest = token(MAX_TOKEN_BYTES - (MAX_TOKEN_BYTES - header.len() - 2) % 4);
        assert!(Compact::parse(&longest).is_ok());
        assert_eq!(
            Compact::parse(&token(MAX_TOKEN_BYTES + 1)).unwrap_err(),
            Refusal::TooLong
        );
        assert_eq!(
            Compact::parse(&".".repeat(100_000)).unwrap_err(),
            Refusal::TooLong
        );
        assert_eq!(
            Compact::parse(&".".repeat(8_000)).unwrap_err(),
            Refusal::NotThreeParts
        );
    }

    #[test]
    fn base64_has_one_spelling() {
        let header = BASE64URL_NOPAD.encode(br#"{"alg":"EdDSA"}"#);
        for payload in ["e30=", "e3 0", "e31", "e3", "e30\n", "e+0", "e/0", "e30é", "e"] {
            let token = format!("{header}.{payload}.AAAA");
            assert_eq!(
                Compact::parse(&token).unwrap_err(),
                Refusal::BadBase64,
                "{payload:?}"
            );
        }
    }

    #[test]
    fn key_ids_are_short_strings() {
        let longest = "k".repeat(MAX_KEY_ID_BYTES);
        assert!(Compact::parse(&token(&format!(r#"{{"alg":"EdDSA","kid":"{longest}"}}"#))).is_ok());
        for key_id in [
            format!("\"{longest}k\""),
            "1".into(),
            "null".into(),
            "[\"k\"]".into(),
            "{}".into(),
        ] {
            let token = token(&format!(r#"{{"alg":"EdDSA","kid":{key_id}}}"#));
            assert_eq!(Compact::parse(&token).unwrap_err(), Refusal::BadKeyId, "{key_id}");
        }
    }
}
