//! What must not be logged: credentials, recognised by their field's name or by their own look.

use std::borrow::Cow;

/// What stands in a credential's place.
pub(super) const REDACTED: &str = "[redacted]";

/// Whether a field of this name holds a credential.
pub(super) fn is_secret_name(name: &str) -> bool {
    const ENDINGS: [&str; 10] = [
        "authorization",
        "token",
        "jwt",
        "bearer",
        "password",
        "secret",
        "cookie",
        "api_key",
        "private_key",
        "credentials",
    ];
    let ends_with = |ending: &str| {
        let from = name.len().checked_sub(ending.len());
        from.and_then(|from| name.get(from..))
            .is_some_and(|end| end.eq_ignore_ascii_case(ending))
    };
    ENDINGS.into_iter().any(ends_with)
}

/// `text` without the bearer tokens in it, wherever it came from: an error of another library, a header's dump.
///
/// A compact JWS begins with the base64 of `{"`, which is `eyJ`; it ends with the last of its letters.
pub(super) fn scrub(text: &str) -> Cow<'_, str> {
    const START: &str = "eyJ";
    const SHORTEST: usize = 20; // `eyJ` in a word is no token
    let mut scrubbed = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        let (before, from) = rest.split_at(at);
        let is_of_token =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '+' | '/');
        let end = from.find(|c| !is_of_token(c)).unwrap_or(from.len());
        let (token, after) = from.split_at(end);
        scrubbed.push_str(before);
        scrubbed.push_str(if token.len() >= SHORTEST { REDACTED } else { token });
        rest = after;
    }
    if scrubbed.is_empty() && rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    scrubbed.push_str(rest);
    Cow::Owned(scrubbed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in [
            "authorization",
            "Authorization",
            "token",
            "access_token",
            "jwt",
            "http.cookie",
            "client_secret",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["tokens_total", "token_cache_entries", "subject", "", "é", "tok"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn tokens_go_wherever_they_stand() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl_-";
        assert_eq!(scrub(token), "[redacted]");
        assert_eq!(
            scrub(&format!("\"Bearer {token}\", {token}")),
            "\"Bearer [redacted]\", [redacted]"
        );
        assert_eq!(scrub("eyJ is short, hEyJe"), "eyJ is short, hEyJe");
        assert!(matches!(
            scrub("document:readme"),
            Cow::Borrowed("document:readme")
        ));
        assert_eq!(scrub(""), "");
    }
}
