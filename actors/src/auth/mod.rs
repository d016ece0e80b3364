//! Bearer tokens: who is calling, for which vault, with which scopes; and the provider's key set behind that answer.
//!
//! [`Authenticator`] is what a request meets. It looks the token up among those already verified, and otherwise
//! verifies it against the key set that [`AuthActor`] last published; neither takes a mailbox hop. The actor
//! fetches the key set at the start, on a timer, and when a token names a key that nobody has seen.
//! What is accepted and what is refused is written down in `docs/authentication.md`.

mod actor;
mod authenticator;
mod cache;
mod claims;
mod compact;
pub mod development;
mod error;
mod json;
mod keys;
mod principal;
mod settings;
mod shared;
mod source;
mod status;

pub use actor::{AuthActor, Refetch};
pub use authenticator::Authenticator;
pub use error::{AuthError, Refusal, StartError};
pub use keys::{KeySet, KeySetError};
pub use principal::{Principal, Scopes};
pub use settings::AuthSettings;
pub use source::{FetchError, Fetched, FileKeys, FixedKeys, HttpKeys, KeySource};
pub use status::Status;
