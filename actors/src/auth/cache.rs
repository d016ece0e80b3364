//! The tokens that were verified lately, so that a caller's next request does not pay for its signature again.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use ahash::RandomState;
use aws_lc_rs::digest::{SHA256, digest};
use lru::LruCache;

use super::principal::Principal;

/// How many locks the entries are spread over, at most.
const MAX_SHARDS: usize = 16;
/// Below this many entries a shard would lose entries to chance long before the cache is full.
const MIN_SHARD_ENTRIES: usize = 64;

/// SHA-256 of a whole token: nobody can make two tokens share it, and no token outlives its request in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(super) fn of(token: &[u8]) -> Self {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(digest(&SHA256, token).as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }
}

/// A verification that was done, and the conditions under which it still holds.
#[derive(Debug, Clone)]
pub(super) struct Verification {
    pub(super) principal: Arc<Principal>,
    /// The Unix second before which a fresh verification would refuse the token.
    pub(super) valid_from: i64,
    /// The generation of the key set that verified it. Any change in the set ends it: the key may have been removed,
    /// or the token may have become ambiguous.
    pub(super) generation: u64,
}

impl Verification {
    fn holds(&self, generation: u64, now: i64) -> bool {
        self.generation == generation && self.valid_from <= now && now < self.principal.expires_at
    }
}

type Shard = Mutex<LruCache<TokenDigest, Verification, RandomState>>;

/// A bounded map from tokens to verifications that forgets the least recently used.
pub(super) struct TokenCache {
    shards: Vec<Shard>,
    shard_of: RandomState,
}

impl TokenCache {
    /// A cache of at most `entries` tokens.
    pub(super) fn new(entries: usize) -> Self {
        let shards = (entries / MIN_SHARD_ENTRIES).clamp(1, MAX_SHARDS);
        let shards = match NonZeroUsize::new(entries / shards) {
            None => Vec::new(),
            Some(capacity) => (0..shards)
                .map(|_| Mutex::new(LruCache::with_hasher(capacity, RandomState::new())))
                .collect(),
        };
        Self {
            shards,
            shard_of: RandomState::new(),
        }
    }

    /// The caller of a token that was verified before, if a fresh verification at `now` would say the same.
    pub(super) fn get(&self, token: &TokenDigest, generation: u64, now: i64) -> Option<Arc<Principal>> {
        let mut shard = self.shard(token)?.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shard.get(token)?;
        if found.holds(generation, now) {
            return Some(Arc::clone(&found.principal));
        }
        shard.pop(token);
        None
    }

    /// Remembers a verification done at `now`. One that has reached `exp`, and passes only by clock skew, is not kept.
    pub(super) fn put(&self, token: TokenDigest, verification: Verification, now: i64) {
        if now < verification.principal.expires_at
            && let Some(shard) = self.shard(&token)
        {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .put(token, verification);
        }
    }

    fn shard(&self, token: &TokenDigest) -> Option<&Shard> {
        let count = u64::try_from(self.shards.len()).ok().filter(|count| *count > 0)?;
        let index = self.shard_of.hash_one(token) % count;
        self.shards.get(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scopes;

    fn verification(expires_at: i64) -> Verification {
        let principal = Principal {
            subject: None,
            vault: None,
            account: None,
            scopes: Scopes::CHECK,
            expires_at,
            token_id: None,
        };
        Verification {
            principal: Arc::new(principal),
            valid_from: 100,
            generation: 1,
        }
    }

    #[test]
    fn an_entry_dies_at_exp() {
        let (cache, token) = (TokenCache::new(10), TokenDigest::of(b"a"));
        cache.put(token, verification(1_000), 500);
        assert!(cache.get(&token, 1, 999).is_some());
        assert!(cache.get(&token, 1, 1_000).is_none());
        assert!(
            cache.get(&token, 1, 999).is_none(),
            "a dead entry is gone for good"
        );
        cache.put(token, verification(1_000), 1_000);
        assert!(
            cache.get(&token, 1, 999).is_none(),
            "what has expired is not kept"
        );
    }

    #[test]
    fn an_entry_dies_with_its_generation_and_before_its_time() {
        let (cache, token) = (TokenCache::new(10), TokenDigest::of(b"a"));
        cache.put(token, verification(1_000), 500);
        assert!(cache.get(&token, 2, 500).is_none());
        cache.put(token, verification(1_000), 500);
        assert!(cache.get(&token, 1, 99).is_none());
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let cache = TokenCache::new(40);
        let favourite = TokenDigest::of(b"favourite");
        cache.put(favourite, verification(1_000), 500);
        for number in 0..1_000 {
            cache.put(
                TokenDigest::of(number.to_string().as_bytes()),
                verification(1_000),
                500,
            );
            assert!(cache.get(&favourite, 1, 500).is_some());
        }
        let kept: usize = cache.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(kept, 40);
        let large = TokenCache::new(10_000);
        (0..20_000).for_each(|number| {
            large.put(
                TokenDigest::of(number.to_string().as_bytes()),
                verification(1_000),
                500,
            );
        });
        let kept: usize = large.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!((9_000..=10_000).contains(&kept), "{kept}");
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let (cache, token) = (TokenCache::new(0), TokenDigest::of(b"a"));
        cache.put(token, verification(1_000), 500);
        assert!(cache.get(&token, 1, 500).is_none());
    }
}
