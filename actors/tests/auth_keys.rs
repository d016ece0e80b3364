//! The key set over time: rotation, outages, floods, panics. The clock is tokio's, paused and moved by hand.

#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a broken test has to fail loudly")]

mod auth_support;

use std::sync::Arc;
use std::time::Duration;

use auth_support::{Answer, NOW, Provider, claims, settings, union, until};
use inferadb_actors::auth::development::SigningKey;
use inferadb_actors::auth::{AuthError, AuthSettings, Authenticator, Refusal, StartError};
use prometheus::Registry;
use tokio::time::{advance, pause};

const UNKNOWN: Result<(), AuthError> = Err(AuthError::Invalid {
    reason: Refusal::UnknownKey,
});

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn keys(key: &SigningKey) -> Answer {
    Answer::Text(key.key_set())
}

/// An authenticator whose first fetch has ended, on a clock that stands still.
async fn started(provider: &Arc<Provider>, settings: AuthSettings) -> Authenticator {
    pause();
    launched(provider, settings).await
}

async fn launched(provider: &Arc<Provider>, settings: AuthSettings) -> Authenticator {
    let auth = Authenticator::start_with(settings, Arc::clone(provider) as _, None).unwrap();
    until(|| auth.status().fetches + auth.status().fetch_failures > 0).await;
    auth
}

async fn outcome(auth: &Authenticator, token: &str) -> Result<(), AuthError> {
    auth.authenticate(token, NOW).await.map(drop)
}

/// Moves the clock and lets what was due happen; two milliseconds more, since tokio's timers round up to the next one.
async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds) + Duration::from_millis(2)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A token that names a key nobody has; each one another.
fn unknown(number: usize) -> String {
    let header = format!(r#"{{"alg":"EdDSA","kid":"nobody-{number}"}}"#);
    key().sign_text(&header, &claims().to_string())
}

#[actix::test]
async fn an_overlapping_rotation_fails_nobody() {
    let (old, new) = (key(), key());
    let (by_old, by_new) = (old.sign(&claims()), new.sign(&claims()));
    let provider = Provider::new(keys(&old));
    let auth = started(&provider, settings()).await;
    assert_eq!(outcome(&auth, &by_old).await, Ok(()));
    provider.set(Answer::Text(union(&[&old.key_set(), &new.key_set()])));
    assert_eq!(
        outcome(&auth, &by_new).await,
        Ok(()),
        "an unknown key is fetched at once"
    );
    assert_eq!(provider.asked(), 2);
    assert_eq!(outcome(&auth, &by_old).await, Ok(()));
    provider.set(keys(&new));
    pass(300).await;
    assert_eq!(provider.asked(), 3);
    assert_eq!(
        auth.cached(by_old.as_bytes(), NOW),
        None,
        "a cached verification leaves with its key"
    );
    assert_eq!(outcome(&auth, &by_old).await, UNKNOWN);
    assert_eq!(outcome(&auth, &by_new).await, Ok(()));
}

#[actix::test]
async fn a_removed_key_is_refused_within_the_time_to_live() {
    let (old, new) = (key(), key());
    let provider = Provider::new(keys(&old));
    let settings = AuthSettings {
        cache_ttl: Duration::from_secs(60),
        refresh_interval: Duration::from_secs(36_000),
        ..settings()
    };
    let auth = started(&provider, settings).await;
    let token = old.sign(&claims());
    assert_eq!(outcome(&auth, &token).await, Ok(()));
    provider.set(keys(&new));
    pass(59).await;
    assert_eq!(outcome(&auth, &token).await, Ok(()));
    pass(1).await;
    assert_eq!(outcome(&auth, &token).await, UNKNOWN);
}

#[actix::test]
async fn while_the_provider_is_away_keys_go_stale_up_to_the_cap() {
    let key = key();
    let provider = Provider::new(keys(&key));
    let settings = AuthSettings {
        max_stale: Duration::from_secs(7_200),
        ..settings()
    };
    let auth = started(&provider, settings).await;
    let (early, late) = (
        key.sign(&claims()),
        key.sign(&serde_json::json!({"aud": "inferadb"})),
    );
    assert_eq!(outcome(&auth, &early).await, Ok(()));
    provider.set(Answer::Away);
    for _ in 0..119 {
        pass(60).await;
    }
    let status = auth.status();
    assert!(status.ready && status.stale, "{status:?}");
    assert_eq!(
        status.last_error.as_deref(),
        Some("the key set's provider answered with status 503")
    );
    assert_eq!(outcome(&auth, &early).await, Ok(()), "stale is served");
    pass(60).await;
    assert!(!auth.status().ready);
    assert_eq!(auth.cached(early.as_bytes(), NOW), None);
    for token in [&early, &late] {
        assert_eq!(
            outcome(&auth, token).await,
            Err(AuthError::KeysUnavailable),
            "past the cap it is closed"
        );
    }
    provider.set(keys(&key));
    pass(60).await;
    let status = auth.status();
    assert!(
        status.ready && !status.stale && status.last_error.is_none(),
        "{status:?}"
    );
    assert_eq!(outcome(&auth, &early).await, Ok(()));
    assert!(
        provider.asked() < 200,
        "an absent provider is not hammered: {}",
        provider.asked()
    );
}

#[actix::test]
async fn a_provider_that_comes_late_is_found_soon() {
    let key = key();
    let token = key.sign(&claims());
    let provider = Provider::new(Answer::Away);
    let auth = started(&provider, settings()).await;
    assert_eq!(outcome(&auth, &token).await, Err(AuthError::KeysUnavailable));
    assert_eq!(
        provider.asked(),
        1,
        "a token does not hurry a provider that is away"
    );
    provider.set(keys(&key));
    pass(1).await;
    assert_eq!(outcome(&auth, &token).await, Ok(()));
}

#[actix::test]
async fn a_request_that_comes_before_the_first_key_set_waits_for_it() {
    pause();
    let key = key();
    let token = key.sign(&claims());
    let provider = Provider::new(keys(&key));
    let auth = Authenticator::start_with(settings(), Arc::clone(&provider) as _, None).unwrap();
    assert!(!auth.status().ready);
    assert_eq!(outcome(&auth, &token).await, Ok(()));
    assert_eq!(provider.asked(), 1);
}

#[actix::test]
async fn a_thousand_unknown_keys_share_one_fetch() {
    let key = key();
    let provider = Provider::new(keys(&key));
    let auth = started(&provider, settings()).await;
    provider.close();
    let flood: Vec<_> = (0..1_000)
        .map(|number| {
            let (auth, token) = (auth.clone(), unknown(number));
            actix::spawn(async move { outcome(&auth, &token).await })
        })
        .collect();
    until(|| provider.asked() == 2).await;
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
    provider.open(1_000);
    for each in flood {
        assert_eq!(each.await.unwrap(), UNKNOWN);
    }
    assert_eq!(provider.asked(), 2);
    for number in 0..100 {
        assert_eq!(outcome(&auth, &unknown(number)).await, UNKNOWN);
    }
    assert_eq!(provider.asked(), 2, "below the floor nothing is fetched");
    pass(30).await;
    assert_eq!(outcome(&auth, &unknown(0)).await, UNKNOWN);
    assert_eq!(provider.asked(), 3);
}

#[actix::test]
async fn a_thousand_tokens_of_a_new_key_share_one_fetch_and_pass() {
    let (old, new) = (key(), key());
    let provider = Provider::new(keys(&old));
    let auth = started(&provider, settings()).await;
    provider.set(keys(&new));
    let crowd: Vec<_> = (0..1_000)
        .map(|number| {
            let mut claims = claims();
            claims
                .as_object_mut()
                .unwrap()
                .insert("jti".to_owned(), number.to_string().into());
            let (auth, token) = (auth.clone(), new.sign(&claims));
            actix::spawn(async move { outcome(&auth, &token).await })
        })
        .collect();
    for each in crowd {
        assert_eq!(each.await.unwrap(), Ok(()));
    }
    assert_eq!(provider.asked(), 2);
}

#[actix::test]
async fn a_flood_cannot_keep_a_new_key_out() {
    let (old, new) = (key(), key());
    let (by_old, by_new) = (old.sign(&claims()), new.sign(&claims()));
    let provider = Provider::new(keys(&old));
    let auth = started(&provider, settings()).await;
    assert_eq!(outcome(&auth, &unknown(0)).await, UNKNOWN);
    provider.set(Answer::Text(union(&[&old.key_set(), &new.key_set()])));
    for second in 1..30 {
        pass(1).await;
        for number in 0..20 {
            assert_eq!(outcome(&auth, &unknown(second * 100 + number)).await, UNKNOWN);
        }
        assert_eq!(outcome(&auth, &by_new).await, UNKNOWN);
        assert_eq!(outcome(&auth, &by_old).await, Ok(()));
    }
    assert_eq!(provider.asked(), 2);
    pass(1).await;
    assert_eq!(
        outcome(&auth, &by_new).await,
        Ok(()),
        "the floor is not pushed along by those it turns away"
    );
    assert_eq!(provider.asked(), 3);
}

#[actix::test]
async fn a_miss_during_a_refresh_that_began_too_early_gets_its_own_fetch() {
    let (old, new) = (key(), key());
    let provider = Provider::new(keys(&old));
    let auth = started(&provider, settings()).await;
    provider.close();
    pass(300).await;
    assert_eq!(provider.asked(), 2, "the periodic refresh is under way");
    let waiting = {
        let (auth, token) = (auth.clone(), new.sign(&claims()));
        actix::spawn(async move { outcome(&auth, &token).await })
    };
    pass(0).await;
    provider.open(1);
    until(|| provider.asked() == 3).await;
    provider.set(keys(&new));
    provider.open(1);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert_eq!(provider.asked(), 3);
}

#[actix::test]
async fn tokens_that_no_key_could_save_cause_no_fetch() {
    let provider = Provider::new(keys(&key()));
    let auth = started(&provider, settings()).await;
    let mut late = claims();
    late.as_object_mut()
        .unwrap()
        .insert("exp".to_owned(), (NOW - 600).into());
    let expired = Err(AuthError::Invalid {
        reason: Refusal::Expired,
    });
    assert_eq!(outcome(&auth, &key().sign(&late)).await, expired);
    assert_eq!(provider.asked(), 1);
}

#[actix::test]
async fn a_bad_answer_keeps_the_old_keys_and_says_so() {
    let key = key();
    let provider = Provider::new(keys(&key));
    let auth = started(&provider, settings()).await;
    let token = key.sign(&claims());
    for (number, answer) in [
        "{\"keys\":[]}",
        "<html>Sign in</html>",
        "{\"keys\":[{\"kty\":\"oct\"}]}",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        provider.set(Answer::Text(answer.to_owned()));
        pass(300).await;
        let status = auth.status();
        assert_eq!((status.keys, status.fetches), (1, 1 + number as u64), "{answer}");
        assert!(
            status.fetch_failures > 0 && status.last_error.is_some(),
            "{answer}: {status:?}"
        );
        assert_eq!(outcome(&auth, &token).await, Ok(()), "{answer}");
        provider.set(keys(&key));
        pass(1).await;
        assert_eq!(auth.status().last_error, None);
    }
}

#[actix::test]
async fn a_refresh_that_brings_the_same_keys_costs_no_verification() {
    let (one, two) = (key(), key());
    let (forth, back) = (
        union(&[&one.key_set(), &two.key_set()]),
        union(&[&two.key_set(), &one.key_set()]),
    );
    let provider = Provider::new(Answer::Text(forth));
    let auth = started(&provider, settings()).await;
    let token = one.sign(&claims());
    assert_eq!(outcome(&auth, &token).await, Ok(()));
    provider.set(Answer::Text(back));
    pass(300).await;
    assert_eq!(provider.asked(), 2);
    assert_eq!(outcome(&auth, &token).await, Ok(()));
    let status = auth.status();
    assert_eq!((status.tokens_verified, status.tokens_cached), (1, 1));
}

#[actix::test]
async fn a_cached_verification_dies_at_exp() {
    let key = key();
    let provider = Provider::new(keys(&key));
    let auth = started(&provider, settings()).await;
    let token = key.sign(&claims());
    let fresh = auth.authenticate(&token, NOW).await.unwrap();
    let cached = auth.cached(token.as_bytes(), NOW + 599).unwrap();
    assert!(Arc::ptr_eq(&fresh, &cached));
    assert_eq!(auth.cached(token.as_bytes(), NOW + 600), None);
    assert!(
        auth.authenticate(&token, NOW + 659).await.is_ok(),
        "within the clock skew it is verified anew"
    );
    assert_eq!(auth.cached(token.as_bytes(), NOW + 599), None, "and not kept");
    let expired = AuthError::Invalid {
        reason: Refusal::Expired,
    };
    assert_eq!(auth.authenticate(&token, NOW + 660).await, Err(expired));
}

#[actix::test]
async fn the_provider_may_shorten_the_interval_within_bounds() {
    pause();
    let set = key().key_set();
    for (max_age, expected) in [(0, 30), (100, 100), (86_400, 300)] {
        let provider = Provider::new(Answer::Aged(set.clone(), Duration::from_secs(max_age)));
        let auth = launched(&provider, settings()).await;
        pass(expected - 1).await;
        assert_eq!(provider.asked(), 1, "max-age {max_age}");
        pass(1).await;
        assert_eq!(provider.asked(), 2, "max-age {max_age}");
        auth.stop();
    }
}

#[actix::test]
async fn an_actor_that_panics_is_replaced() {
    let (old, new) = (key(), key());
    let (by_old, by_new) = (old.sign(&claims()), new.sign(&claims()));
    let provider = Provider::new(keys(&old));
    let auth = started(&provider, settings()).await;
    provider.set(Answer::Panics);
    pass(300).await;
    assert_eq!(provider.asked(), 2);
    assert_eq!(
        outcome(&auth, &by_old).await,
        Ok(()),
        "the published keys do not need the actor"
    );
    assert_eq!(
        outcome(&auth, &by_new).await,
        UNKNOWN,
        "and nobody waits for one that is gone"
    );
    provider.set(keys(&new));
    pass(1).await;
    assert_eq!(
        outcome(&auth, &by_new).await,
        Ok(()),
        "its successor fetches as it starts"
    );
    assert_eq!(provider.asked(), 3);
    pass(300).await;
    assert_eq!(provider.asked(), 4, "and goes on with the timer");
}

#[actix::test]
async fn a_panic_under_a_waiting_request_frees_it() {
    let provider = Provider::new(keys(&key()));
    let auth = started(&provider, settings()).await;
    provider.set(Answer::Panics);
    let began_at = tokio::time::Instant::now();
    assert_eq!(outcome(&auth, &unknown(0)).await, UNKNOWN);
    assert!(began_at.elapsed() < Duration::from_secs(1));
}

#[actix::test]
async fn a_source_that_hangs_is_given_up() {
    let key = key();
    let provider = Provider::new(keys(&key));
    let auth = started(&provider, settings()).await;
    provider.set(Answer::Hangs);
    let began_at = tokio::time::Instant::now();
    assert_eq!(outcome(&auth, &unknown(0)).await, UNKNOWN);
    assert!(
        began_at.elapsed() <= Duration::from_secs(7),
        "nobody waits for ever"
    );
    provider.set(keys(&key));
    pass(10).await;
    assert_eq!(auth.status().fetch_failures, 1);
    pass(1).await;
    assert_eq!(auth.status().fetches, 2);
}

#[actix::test]
async fn stopping_ends_the_fetches() {
    let provider = Provider::new(keys(&key()));
    let auth = started(&provider, settings()).await;
    let clone = auth.clone();
    drop(auth);
    pass(300).await;
    assert_eq!(provider.asked(), 2, "one clone keeps the actor");
    drop(clone);
    pass(3_000).await;
    assert_eq!(provider.asked(), 2);
    assert_eq!(Arc::strong_count(&provider), 1, "nothing is left behind");
}

#[actix::test]
async fn the_metrics_are_there() {
    pause();
    let key = key();
    let provider = Provider::new(Answer::Away);
    let registry = Registry::new();
    let auth = Authenticator::start_with(settings(), Arc::clone(&provider) as _, Some(&registry)).unwrap();
    until(|| auth.status().fetch_failures == 1).await;
    let page = || {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    };
    assert!(
        !page().contains("inferadb_jwks_age_seconds "),
        "no age before there is a key set"
    );
    provider.set(keys(&key));
    pass(1).await;
    let token = key.sign(&claims());
    assert_eq!(outcome(&auth, &token).await, Ok(()));
    assert_eq!(outcome(&auth, &token).await, Ok(()));
    assert!(outcome(&auth, "x").await.is_err());
    pass(7).await;
    for line in [
        "inferadb_auth_tokens_total{result=\"verified\"} 1",
        "inferadb_auth_tokens_total{result=\"cached\"} 1",
        "inferadb_auth_tokens_total{result=\"not_three_parts\"} 1",
        "inferadb_auth_tokens_total{result=\"keys_unavailable\"} 0",
        "inferadb_jwks_fetches_total{result=\"ok\"} 1",
        "inferadb_jwks_fetches_total{result=\"status\"} 1",
        "inferadb_jwks_keys 1",
        "inferadb_jwks_age_seconds 7",
    ] {
        assert!(page().contains(line), "{line} is not in\n{}", page());
    }
    assert_eq!(auth.status().tokens_refused, [("not_three_parts", 1)]);
}

#[actix::test]
async fn a_file_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (old, new) = (key(), key());
    std::fs::write(&path, old.key_set()).unwrap();
    for address in [path.display().to_string(), format!("file://{}", path.display())] {
        std::fs::write(&path, old.key_set()).unwrap();
        let settings = AuthSettings {
            jwks_url: Some(address),
            refresh_interval: Duration::from_millis(5),
            ..settings()
        };
        let auth = Authenticator::start(settings, None).unwrap();
        assert_eq!(outcome(&auth, &old.sign(&claims())).await, Ok(()));
        std::fs::write(&path, new.key_set()).unwrap();
        let token = new.sign(&claims());
        let accepted = async {
            while outcome(&auth, &token).await != Ok(()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), accepted)
            .await
            .unwrap();
    }
}

#[actix::test]
async fn settings_that_cannot_work_stop_the_start() {
    let start = |settings: AuthSettings| Authenticator::start(settings, None).map(drop).unwrap_err();
    assert!(matches!(start(settings()), StartError::NoKeySource));
    let address = Some("https://issuer.example/keys".to_owned());
    let deaf = AuthSettings {
        jwks_url: address.clone(),
        audiences: Vec::new(),
        ..settings()
    };
    assert!(matches!(start(deaf), StartError::NoAudience));
    let restless = AuthSettings {
        jwks_url: address,
        refresh_interval: Duration::ZERO,
        ..settings()
    };
    assert!(matches!(
        start(restless),
        StartError::ZeroDuration("refresh interval")
    ));
}

#[test]
fn without_a_runtime_there_is_no_start() {
    let provider = Provider::new(Answer::Away);
    assert!(matches!(
        Authenticator::start_with(settings(), provider, None),
        Err(StartError::NoRuntime)
    ));
}

#[test]
fn it_can_be_shared_between_threads() {
    fn shared<T: Clone + Send + Sync>() {}
    fn sent<T: Send>(_: impl FnOnce(&'static Authenticator) -> T) {}
    shared::<Authenticator>();
    sent(|auth| auth.authenticate("", 0));
}
