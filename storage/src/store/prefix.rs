//! What the keys of one store start with, where several stores share a FoundationDB cluster.

use std::fmt;
use std::str::FromStr;

/// The longest prefix, in bytes: every key of the store is longer by it.
const MAX_BYTES: usize = 64;

/// A prefix of keys. Stores with different prefixes never meet, whichever they are: each prefix ends with a zero byte, which
/// none holds elsewhere, and begins with a letter or digit, as no key of a store without a prefix does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPrefix(String);

/// Why a text is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key prefix is empty, or at most {MAX_BYTES} letters, digits, `-`, `_`, `.` and `/` of ASCII, the first a letter or digit"
)]
pub struct BadKeyPrefix;

impl KeyPrefix {
    /// What the keys start with.
    pub fn bytes(&self) -> Vec<u8> {
        match self.0.as_str() {
            "" => Vec::new(),
            text => [text.as_bytes(), &[0]].concat(),
        }
    }
}

impl FromStr for KeyPrefix {
    type Err = BadKeyPrefix;

    fn from_str(text: &str) -> Result<Self, BadKeyPrefix> {
        let fits = text.len() <= MAX_BYTES
            && !text.starts_with(['-', '_', '.', '/'])
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        fits.then(|| Self(text.to_owned())).ok_or(BadKeyPrefix)
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_is_the_beginning_of_another_nor_of_a_key_without_one() {
        let texts = ["a", "ab", "a/b", "production/eu-1", "0"];
        let prefixes: Vec<Vec<u8>> = texts
            .iter()
            .map(|text| text.parse::<KeyPrefix>().unwrap().bytes())
            .collect();
        for (at, one) in prefixes.iter().enumerate() {
            assert!(one.first().is_some_and(|first| *first > 0x20));
            let others = prefixes.iter().enumerate().filter(|(other, _)| *other != at);
            assert!(others.into_iter().all(|(_, other)| !other.starts_with(one)));
        }
        assert_eq!("".parse::<KeyPrefix>().unwrap().bytes(), b"");
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        let long = "x".repeat(65);
        for text in ["/a", "-", "a b", "a\0", "é", "\u{1}", long.as_str()] {
            assert_eq!(text.parse::<KeyPrefix>(), Err(BadKeyPrefix), "{text:?}");
        }
        assert!("x".repeat(64).parse::<KeyPrefix>().is_ok());
    }
}
