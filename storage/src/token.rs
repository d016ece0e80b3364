//! Revisions and list cursors as text: opaque, URL-safe, bound to one vault, and refused where they do not belong.
//!
//! A token is base32hex (lower-case, without padding, which keeps the order of equally long tokens) of: a format byte,
//! the 16 bytes of the vault's id, the payload, and 4 bytes of checksum. The checksum finds slips, not forgery: nothing
//! in a token is trusted to name anything outside the vault that the caller has already been admitted to.

use data_encoding::BASE32_DNSSEC;
use uuid::Uuid;

use crate::id::{Revision, VaultId};
use crate::kv::Versionstamp;

const REVISION_FORMAT: u8 = 1;
const CURSOR_FORMAT: u8 = 2;
/// The longest token that is looked at, in characters.
const MAX_TOKEN_CHARS: usize = 8_192;

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not such a token.
    #[error("the token is malformed")]
    Malformed,
    /// It belongs to another vault or account.
    #[error("the token belongs to another vault")]
    OtherVault,
    /// It is a cursor of another query.
    #[error("the cursor belongs to another query")]
    OtherQuery,
}

impl Revision {
    /// The revision as a token of `vault`. Tokens of one vault sort as their revisions do.
    pub fn encode(self, vault: VaultId) -> String {
        seal(REVISION_FORMAT, vault.0, &self.0.0)
    }

    /// Reads a token of `vault`.
    pub fn decode(vault: VaultId, text: &str) -> Result<Self, TokenError> {
        let payload = open(REVISION_FORMAT, vault.0, text)?;
        match Versionstamp::split_from(&payload) {
            Some((stamp, [])) => Ok(Self(stamp)),
            _ => Err(TokenError::Malformed),
        }
    }
}

/// Where a list goes on, and which question it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// A position as a list call answered it.
    pub position: Vec<u8>,
    /// The [fingerprint] of all that was asked. A cursor is refused where it differs.
    pub query: u64,
}

impl Cursor {
    /// The cursor as a token of `scope`, the id of the vault (or account) whose list it is; nil for the list of accounts.
    pub fn encode(&self, scope: Uuid) -> String {
        let mut payload = self.query.to_be_bytes().to_vec();
        payload.extend_from_slice(&self.position);
        seal(CURSOR_FORMAT, scope, &payload)
    }

    /// Reads a token of `scope` and of the query with this fingerprint; answers the position.
    pub fn decode(scope: Uuid, query: u64, text: &str) -> Result<Vec<u8>, TokenError> {
        let payload = open(CURSOR_FORMAT, scope, text)?;
        match payload.split_first_chunk::<8>() {
            Some((held, position)) if u64::from_be_bytes(*held) == query => Ok(position.to_vec()),
            Some(_) => Err(TokenError::OtherQuery),
            None => Err(TokenError::Malformed),
        }
    }
}

/// A 64-bit fingerprint of a query's parts, the same in every process and version. Not secret, not collision-proof.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = Fnv::default();
    for part in parts {
        hash.add(&(part.len() as u64).to_be_bytes());
        hash.add(part);
    }
    hash.0
}

fn seal(format: u8, scope: Uuid, payload: &[u8]) -> String {
    let mut bytes = vec![format];
    bytes.extend_from_slice(scope.as_bytes());
    bytes.extend_from_slice(payload);
    let checksum = checksum(&bytes);
    bytes.extend_from_slice(&checksum);
    BASE32_DNSSEC.encode(&bytes)
}

fn open(format: u8, scope: Uuid, text: &str) -> Result<Vec<u8>, TokenError> {
    if text.len() > MAX_TOKEN_CHARS {
        return Err(TokenError::Malformed);
    }
    let bytes = BASE32_DNSSEC
        .decode(text.as_bytes())
        .map_err(|_| TokenError::Malformed)?;
    let (body, held) = bytes.split_last_chunk::<4>().ok_or(TokenError::Malformed)?;
    // One token has one spelling.
    if checksum(body) != *held || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(TokenError::Malformed);
    }
    match body.split_first_chunk::<17>() {
        Some(([held, id @ ..], payload)) if *held == format => {
            if id == scope.as_bytes() {
                Ok(payload.to_vec())
            } else {
                Err(TokenError::OtherVault)
            }
        }
        _ => Err(TokenError::Malformed),
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut hash = Fnv::default();
    hash.add(bytes);
    ((hash.0 >> 32) as u32 ^ hash.0 as u32).to_be_bytes()
}

/// The FNV-1a hash.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(version: u64) -> Revision {
        Revision(Versionstamp::new(version, 3))
    }

    #[test]
    fn revisions_survive_and_keep_their_order() {
        let vault = VaultId::generate();
        let mut tokens = Vec::new();
        for version in [0, 1, 31, 32, 255, 256, 1 << 20, (1 << 63) + 7, u64::MAX] {
            let token = revision(version).encode(vault);
            assert_eq!(Revision::decode(vault, &token), Ok(revision(version)));
            assert!(
                token
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
                "{token}"
            );
            tokens.push(token);
        }
        assert!(tokens.is_sorted());
    }

    #[test]
    fn what_is_not_a_token_of_the_vault_is_refused() {
        let vault = VaultId::generate();
        let token = revision(77).encode(vault);
        assert_eq!(
            Revision::decode(VaultId::generate(), &token),
            Err(TokenError::OtherVault)
        );
        for at in 0..token.len() {
            let mut bad = token.clone().into_bytes();
            bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
            let bad = String::from_utf8(bad).unwrap();
            assert_eq!(Revision::decode(vault, &bad), Err(TokenError::Malformed), "{bad}");
        }
        for bad in [
            "",
            "0",
            "zzzz",
            "ä",
            &token.to_uppercase(),
            &token[1..],
            &"0".repeat(100_000),
        ] {
            assert_eq!(Revision::decode(vault, bad), Err(TokenError::Malformed), "{bad}");
        }
        let cursor = Cursor {
            position: vec![0; 2],
            query: 1,
        }
        .encode(vault.0);
        assert_eq!(Revision::decode(vault, &cursor), Err(TokenError::Malformed));
    }

    #[test]
    fn a_cursor_belongs_to_its_query_and_vault() {
        let (vault, query) = (VaultId::generate().0, fingerprint([b"ab".as_slice(), b"c"]));
        assert_ne!(query, fingerprint([b"a".as_slice(), b"bc"]));
        let token = Cursor {
            position: vec![9, 8, 7],
            query,
        }
        .encode(vault);
        assert_eq!(Cursor::decode(vault, query, &token), Ok(vec![9, 8, 7]));
        assert_eq!(
            Cursor::decode(vault, query + 1, &token),
            Err(TokenError::OtherQuery)
        );
        assert_eq!(
            Cursor::decode(Uuid::now_v7(), query, &token),
            Err(TokenError::OtherVault)
        );
    }
}
