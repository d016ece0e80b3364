//! Trials: run apart, one of a vault at a time, in slices between which others come to their turn, and charged as they go.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use inferadb_actors::{Limits, Pass, Settings, Vault, VaultError};
use tokio::task::yield_now;

use support::Stage;

/// Long enough for whatever should happen at all; nothing waits so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

async fn entered(stage: &Stage) -> (Arc<Vault>, Pass) {
    let id = stage.vault().await;
    stage.platform.enter(id, stage.account).await.unwrap()
}

/// A stage whose vaults may ask for ten checks a second.
async fn ten_a_second() -> Stage {
    Stage::new(Settings {
        limits: Limits {
            checks_per_second: 10,
            ..Limits::default()
        },
        ..Settings::default()
    })
    .await
}

/// What a trial does until it is told to end.
async fn until(end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        yield_now().await;
    }
}

#[actix::test]
async fn trials_give_way_to_what_others_want_done_apart() {
    let stage = Stage::new(Settings::default()).await;
    let (begun, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    // As many as there are places for at least.
    let count = std::thread::available_parallelism().unwrap().get();
    let (mut trials, mut vaults) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (vault, pass) = entered(&stage).await;
        vaults.push(Arc::clone(&vault));
        let (begun, end) = (Arc::clone(&begun), Arc::clone(&end));
        trials.push(actix::spawn(async move {
            let _pass = pass;
            let trial = vault.run_trial(|_, _| async move {
                begun.fetch_add(1, Ordering::Relaxed);
                until(&end).await;
            });
            trial.await.unwrap();
            assert!(vault.end_window() > 0, "it is charged");
        }));
    }
    let other = async {
        while begun.load(Ordering::Relaxed) < count {
            yield_now().await;
        }
        // Nor does the vault's own trial hold up its schemas.
        vaults[0].apart(|| ()).await.unwrap();
        let (vault, _pass) = entered(&stage).await;
        let ending = Arc::clone(&end);
        let ended = vault.apart(move || ending.store(true, Ordering::Relaxed)).await;
        ended.unwrap();
        join_all(trials).await
    };
    let ended = tokio::time::timeout(PATIENCE, other).await;
    end.store(true, Ordering::Relaxed);
    assert!(ended.unwrap().into_iter().all(|trial| trial.is_ok()));
}

#[actix::test]
async fn what_one_trial_has_asked_is_owed_before_the_next_begins() {
    let stage = ten_a_second().await;
    let (vault, _pass) = entered(&stage).await;
    let ten = (0..10).map(|_| {
        vault.run_trial(|_, checks| async move {
            // The rate of the others is asked for at their beginning, whatever this one is at.
            for _ in 0..1_000 {
                checks.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        })
    });
    let outcomes = join_all(ten).await;
    let run = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(run, 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(
        outcome,
        Ok(())
            | Err(VaultError::RateLimited {
                limit: "checks_per_second",
                ..
            })
    )));
}

#[actix::test]
async fn a_trial_that_is_given_up_ends_and_has_to_be_paid() {
    let stage = ten_a_second().await;
    let (vault, _pass) = entered(&stage).await;
    let held = Arc::new(AtomicBool::new(false));
    let (begun, working) = (Arc::clone(&held), Arc::clone(&held));
    let mut given_up = Box::pin(vault.run_trial(move |_, checks| async move {
        let _working = working;
        checks.fetch_add(1_000, Ordering::Relaxed);
        begun.store(true, Ordering::Relaxed);
        until(&AtomicBool::new(false)).await;
    }));
    while !held.load(Ordering::Relaxed) {
        assert!(futures_util::poll!(given_up.as_mut()).is_pending());
        yield_now().await;
    }
    drop(given_up);
    // It would begin at once if the other were still at work, or had not been charged.
    let next = tokio::time::timeout(PATIENCE, vault.run_trial(|_, _| async {})).await;
    let next = next.expect("the one before has ended");
    assert!(matches!(next, Err(VaultError::RateLimited { .. })), "{next:?}");
    assert_eq!(Arc::strong_count(&held), 1, "nothing of it is left");
}
