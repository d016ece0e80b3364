//! Addresses of servers: scheme, host and port, and nothing else.

use url::Url;

/// The address in the one way to write it, if it is no more than that.
pub fn origin_of(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    is_plain.then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_server_is_written_in_one_way() {
        for (address, origin) in [
            ("https://pdp.example.com", Some("https://pdp.example.com")),
            ("HTTPS://PDP.example.com:443/", Some("https://pdp.example.com")),
            ("http://[::1]:8080", Some("http://[::1]:8080")),
            (
                "https://b\u{fc}cher.example",
                Some("https://xn--bcher-kva.example"),
            ),
            ("https://example.com/authz", None),
            ("https://example.com?a=b", None),
            ("https://example.com#a", None),
            ("https://user:word@example.com", None),
            ("javascript://a", None),
            ("://a", None),
            ("https://a b", None),
        ] {
            assert_eq!(origin_of(address).as_deref(), origin, "{address}");
        }
    }
}
