//! Why a token was refused, in words that are safe to log: none of them holds a byte of the token.

use thiserror::Error;

/// What became of a request whose token was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthError {
    /// There was no token at all. The edge says this; nothing in here does.
    #[error("no bearer token")]
    Missing,
    /// What came is not a signed token in the compact form of RFC 7515.
    #[error("malformed token: {reason}")]
    Malformed {
        /// What is wrong with its form.
        reason: Refusal,
    },
    /// A well-formed token that is not valid here and now.
    #[error("invalid token: {reason}")]
    Invalid {
        /// Which rule it breaks.
        reason: Refusal,
    },
    /// No key set was ever loaded, or the last one is older than the hard cap and the provider is away.
    /// This says nothing about the token: the caller may try again.
    #[error("the key set is unavailable")]
    KeysUnavailable,
}

impl AuthError {
    /// The rule that was broken; `None` where no rule was.
    pub fn reason(self) -> Option<Refusal> {
        match self {
            Self::Malformed { reason } | Self::Invalid { reason } => Some(reason),
            Self::Missing | Self::KeysUnavailable => None,
        }
    }

    /// The stable word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Malformed { reason } | Self::Invalid { reason } => reason.word(),
        }
    }
}

impl From<Refusal> for AuthError {
    fn from(reason: Refusal) -> Self {
        if reason.is_form() {
            Self::Malformed { reason }
        } else {
            Self::Invalid { reason }
        }
    }
}

/// Declares the refusals once, so that the list, the words and the metrics' series cannot drift apart.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// The one rule that a refused token broke. The first rule that fails is the one reported.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            /// Every refusal there is, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable word for logs and metrics.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

refusals! {
    /// Longer than 8 KiB; refused unread.
    TooLong = "too_long",
    /// Not exactly three parts between dots (five would be an encrypted token).
    NotThreeParts = "not_three_parts",
    /// A part is not unpadded base64url in its one canonical spelling.
    BadBase64 = "bad_base64",
    /// The header is no JSON object, repeats a member, nests too deep or is not UTF-8.
    BadHeader = "bad_header",
    /// The payload is no JSON object, repeats a member, nests too deep or is not UTF-8.
    BadPayload = "bad_payload",
    /// `alg` is missing, no string, or not one of RS256, RS384, RS512 and EdDSA, in exactly that spelling.
    AlgorithmRefused = "algorithm_refused",
    /// The header has `crit`: it asks for extensions, and none is understood here.
    CriticalHeader = "critical_header",
    /// The header has `b64` (RFC 7797), which tokens must not use.
    UnencodedPayload = "unencoded_payload",
    /// `kid` is no string or longer than 256 bytes.
    BadKeyId = "bad_key_id",
    /// No key of the set has this `kid`; or there is no `kid` and no key fits the algorithm.
    UnknownKey = "unknown_key",
    /// More than one key fits, so which one was meant is anybody's guess.
    AmbiguousKey = "ambiguous_key",
    /// The key with this `kid` is for another algorithm.
    KeyAlgorithmMismatch = "key_algorithm_mismatch",
    /// The signature does not verify.
    BadSignature = "bad_signature",
    /// There is no `exp`.
    MissingExpiry = "missing_expiry",
    /// `exp` is no number, or no time between 1970 and the year 9999.
    BadExpiry = "bad_expiry",
    /// `exp` has passed, and so has the allowed clock skew.
    Expired = "expired",
    /// `nbf` is no number, or no time between 1970 and the year 9999.
    BadNotBefore = "bad_not_before",
    /// `nbf` lies in the future beyond the allowed clock skew.
    NotYetValid = "not_yet_valid",
    /// `iat` is no number, or no time between 1970 and the year 9999.
    BadIssuedAt = "bad_issued_at",
    /// `iat` lies in the future beyond the allowed clock skew.
    IssuedInFuture = "issued_in_future",
    /// `iss` is no string, or is not the configured issuer.
    WrongIssuer = "wrong_issuer",
    /// `aud` is missing, of the wrong type, or names none of our audiences.
    WrongAudience = "wrong_audience",
    /// `sub` is no string.
    BadSubject = "bad_subject",
    /// `jti` is no string.
    BadTokenId = "bad_token_id",
    /// A scope claim is neither a string nor an array of strings.
    BadScope = "bad_scope",
    /// Two scope claims name different sets of our scopes.
    ConflictingScopes = "conflicting_scopes",
    /// A vault claim is no hyphenated UUID, or is the nil UUID.
    BadVault = "bad_vault",
    /// The plain and the namespaced vault claim differ.
    ConflictingVaults = "conflicting_vaults",
    /// An account claim is no hyphenated UUID, or is the nil UUID.
    BadAccount = "bad_account",
    /// The plain and the namespaced account claim differ.
    ConflictingAccounts = "conflicting_accounts",
}

impl Refusal {
    /// Whether the fault is in the token's form, rather than in what it says.
    fn is_form(self) -> bool {
        matches!(
            self,
            Self::TooLong | Self::NotThreeParts | Self::BadBase64 | Self::BadHeader | Self::BadPayload
        )
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.word())
    }
}

/// Why authentication could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings name no key set, and none was passed in.
    #[error("no key set is configured: `jwks_url` is missing")]
    NoKeySource,
    /// The settings name no audience, so every token would be refused.
    #[error("no audience is configured")]
    NoAudience,
    /// A duration of zero where time has to pass.
    #[error("the {0} must be longer than zero")]
    ZeroDuration(&'static str),
    /// The key set's address cannot be used. The address itself is not repeated: it may hold a password.
    #[error("the key set's address cannot be used: {0}")]
    BadAddress(&'static str),
    /// The HTTP client could not be made, which means that the system's certificates could not be read.
    #[error("the HTTP client for the key set could not be made: {0}")]
    Client(String),
    /// A metric of ours is already registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// There is no actix system on this thread to run the actor.
    #[error("authentication has to be started from within a running actix system")]
    NoRuntime,
}
