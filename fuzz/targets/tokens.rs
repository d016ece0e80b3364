//! Revision tokens and cursors: what is read back is what was written, one token has one spelling, and nothing else is
//! taken.
#![no_main]

use inferadb_storage::token::{Cursor, TokenError};
use inferadb_storage::{Revision, VaultId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, u64, &[u8], u16, u8)| {
    let (text, query, position, at, flip) = input;
    let vault = VaultId("018f0000-0000-7000-8000-000000000001".parse().unwrap());
    let other = VaultId("018f0000-0000-7000-8000-000000000002".parse().unwrap());
    if let Ok(revision) = Revision::decode(vault, text) {
        assert_eq!(revision.encode(vault), text);
        assert_eq!(Revision::decode(other, text), Err(TokenError::OtherVault));
    }
    if let Ok(position) = Cursor::decode(vault.0, query, text) {
        assert_eq!(Cursor { position, query }.encode(vault.0), text);
    }
    let cursor = Cursor {
        position: position.iter().copied().take(4_000).collect(),
        query,
    };
    let token = cursor.encode(vault.0);
    assert_eq!(Cursor::decode(vault.0, query, &token), Ok(cursor.position));
    assert_eq!(
        Cursor::decode(other.0, query, &token),
        Err(TokenError::OtherVault)
    );
    assert!(Revision::decode(vault, &token).is_err());
    // A slip of one character is found.
    let mut bytes = token.clone().into_bytes();
    let at = usize::from(at) % bytes.len();
    bytes[at] = b'0' + flip % 10;
    if let Ok(slip) = String::from_utf8(bytes)
        && slip != token
    {
        assert!(Cursor::decode(vault.0, query, &slip).is_err(), "{token} {slip}");
    }
});
