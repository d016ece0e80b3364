//! An ordered transactional key-value trait with its engines, and the layer that keeps vaults on it.

pub mod background;
mod codec;
pub mod engine;
mod id;
mod keys;
pub mod kv;
pub mod store;
pub mod token;

pub use codec::MAX_CONTEXT_DEPTH;
pub use id::{AccountId, Revision, VaultId};
pub use store::*;
