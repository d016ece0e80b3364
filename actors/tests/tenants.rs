//! A random life of many vaults, created, written, asked, listed, archived, evicted, killed, cloned, exported, imported, deleted and
//! met again after restarts, against a model of a few lines: not one difference, and nothing of one vault in another's answers,
//! metrics or errors.
//!
//! `TENANTS_SEED=n` and `TENANTS_STEPS=n` choose another life. The long one is ignored by default.
#![allow(missing_docs)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

#[path = "tenants/life.rs"]
mod life;
#[path = "tenants/model.rs"]
mod model;
mod support;
#[allow(dead_code, reason = "the engine's own test uses the rest")]
#[path = "../../engine/tests/evaluate_random/world.rs"]
mod world;

use life::Life;

const STEPS: usize = 12_000;
/// Those of the long run.
const SOAKED: usize = 200_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn live(steps: usize) {
    let seed = number("TENANTS_SEED").unwrap_or(1);
    let steps = number("TENANTS_STEPS").map_or(steps, |steps| usize::try_from(steps).unwrap());
    actix::System::new().block_on(async {
        let mut life = Life::begin(seed).await;
        for step in 0..steps {
            life.step(step).await;
        }
        life.end().await;
    });
}

#[test]
fn many_vaults_live_as_their_model_does() {
    live(STEPS);
}

#[test]
#[ignore = "a soak: cargo test --release -p inferadb-actors --test tenants -- --ignored --nocapture"]
fn many_vaults_live_long() {
    live(SOAKED);
}
