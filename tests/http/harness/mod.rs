//! What the tests stand on: a server of their own, a client, signing keys, and tenants.

mod client;
pub mod description;
mod keys;
mod server;
mod stream;
mod tenant;
mod transfer;

use std::time::{Duration, Instant};

pub use self::client::{Answer, Request, exchange};
pub use self::keys::{ALL_SCOPES, Keys, claims, encode, seconds_now};
pub use self::server::Server;
pub use self::stream::{Event, Stream};
pub use self::tenant::{DOCUMENTS, Tenant, question_body, relationship, token_for, written};
pub use self::transfer::{JSON, NDJSON, admin_token, export_as, exported, import, state};

/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
