//! Tokens from hostile hands: what was not written by us is refused, and one token has one spelling.

use inferadb_storage::token::{Cursor, TokenError};
use inferadb_storage::{Revision, VaultId};
use proptest::prelude::*;
use uuid::Uuid;

const VAULT: VaultId = VaultId(Uuid::from_u128(1));
const OTHER: VaultId = VaultId(Uuid::from_u128(2));

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_refused_or_one_of_ours(text in "[0-9a-vA-V]{0,80}|\\PC{0,80}", query: u64) {
        if let Ok(revision) = Revision::decode(VAULT, &text) {
            prop_assert_eq!(revision.encode(VAULT), text.clone());
        }
        if let Ok(position) = Cursor::decode(VAULT.0, query, &text) {
            prop_assert_eq!(Cursor { position, query }.encode(VAULT.0), text);
        }
    }

    #[test]
    fn a_cursor_is_read_back_and_its_slips_are_found(
        position in prop::collection::vec(any::<u8>(), 0..200),
        query: u64,
        at: prop::sample::Index,
        wrong in "[0-9a-vA-Z]",
    ) {
        let cursor = Cursor { position, query };
        let token = cursor.encode(VAULT.0);
        prop_assert_eq!(Cursor::decode(VAULT.0, query, &token), Ok(cursor.position));
        prop_assert_eq!(Cursor::decode(VAULT.0, query ^ 1, &token), Err(TokenError::OtherQuery));
        prop_assert_eq!(Cursor::decode(OTHER.0, query, &token), Err(TokenError::OtherVault));
        prop_assert!(Revision::decode(VAULT, &token).is_err());
        let at = at.index(token.len());
        let mut slip = token.clone();
        slip.replace_range(at..=at, &wrong);
        if slip != token {
            prop_assert!(Cursor::decode(VAULT.0, query, &slip).is_err(), "{} {}", token, slip);
        }
        // Cut short, or longer.
        prop_assert!(Cursor::decode(VAULT.0, query, &token[..at]).is_err());
        let longer = token + &wrong;
        prop_assert!(Cursor::decode(VAULT.0, query, &longer).is_err());
    }
}
