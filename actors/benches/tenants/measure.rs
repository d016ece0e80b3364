//! Activating, checking, and waiting until it is all gone again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferadb_actors::{AccountId, CheckRequest, Consistency, Platform, Settings, VaultId, now};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, SubjectRef};
use inferadb_storage::{Backend, StorageConfig, Store};

use super::Options;
use super::fill::VAULTS;
use super::process::{in_use_bytes, mib, percentiles, resident_bytes};

struct Run {
    platform: Platform,
    registry: prometheus::Registry,
    store: Store,
    account: AccountId,
    vaults: Vec<VaultId>,
}

/// Measures what was filled before.
pub fn measure(options: &Options) {
    let system = actix::System::new();
    system.block_on(async {
        let run = open(options).await;
        if options.scenario == "one" {
            one(&run, options).await;
        } else {
            many(&run, options).await;
        }
        run.platform.stop(Duration::from_secs(60)).await;
    });
}

async fn open(options: &Options) -> Run {
    let text = std::fs::read_to_string(options.directory.join(VAULTS)).unwrap();
    let mut lines = text.lines();
    let account = lines.next().unwrap().parse().unwrap();
    // Spread over the whole, as those who are awake at a time would be.
    let stored: Vec<VaultId> = lines.map(|line| line.parse().unwrap()).collect();
    let step = (stored.len() / options.active.max(1)).max(1);
    let vaults = stored.into_iter().step_by(step).take(options.active).collect();
    let backend = Backend::Embedded {
        path: options.directory.clone(),
    };
    let store = Store::open(StorageConfig { backend }).await.unwrap();
    let settings = Settings {
        idle_timeout: Some(Duration::from_secs(options.idle_seconds)),
        max_active: options.active.max(1) + 1,
        memory_budget_bytes: 1 << 30,
        total_memory_bytes: 4 << 30,
        per_vault_metrics: options.per_vault_metrics,
        ..Settings::default()
    };
    let registry = prometheus::Registry::new();
    let platform = Platform::over(store.clone(), settings, &registry).unwrap();
    Run {
        platform,
        registry,
        store,
        account,
        vaults,
    }
}

async fn many(run: &Run, options: &Options) {
    // The store's own cache of pages fills on the way: it must not count as the vaults'.
    for id in &run.vaults {
        read_all(run, *id).await;
    }
    let (start, start_in_use) = (resident_bytes(), in_use_bytes());
    let (mut activations, mut firsts) = (Vec::new(), Vec::new());
    for id in &run.vaults {
        let began = Instant::now();
        let (vault, pass) = run.platform.enter(*id, run.account).await.unwrap();
        activations.push(micros(began));
        for number in 0..options.checks {
            check(&vault, number).await;
            if number == 0 {
                firsts.push(micros(began));
            }
        }
        drop(pass);
    }
    let (active, active_in_use) = (resident_bytes(), in_use_bytes());
    let count = run.vaults.len();
    assert_eq!(
        run.platform.active_count(),
        count,
        "evicted too early: `--idle-seconds`"
    );
    println!(
        "active vaults             {count}, {} checks each",
        options.checks
    );
    println!("activation                {}", percentiles(activations));
    println!("until the first answer    {}", percentiles(firsts));
    println!(
        "resident at the start     {:.1} MiB ({:.1} in use)",
        mib(start),
        mib(start_in_use)
    );
    report(run, [start, start_in_use], [active, active_in_use], count);
    gone(run, start, active).await;
    let id = run.vaults[0];
    let (vault, _pass) = run.platform.enter(id, run.account).await.unwrap();
    for number in 0..options.checks {
        check(&vault, number).await;
    }
    println!("the next checks           answered the same");
}

async fn one(run: &Run, options: &Options) {
    let id = run.vaults[0];
    let seen = read_all(run, id).await;
    let (start, start_in_use) = (resident_bytes(), in_use_bytes());
    let began = Instant::now();
    let (vault, pass) = run.platform.enter(id, run.account).await.unwrap();
    let entered = micros(began);
    let group = |number: usize| question("group:g1", "member", &format!("user:person-{number:06}"));
    let document = |number: usize| question(&format!("document:report-{number:07}"), "view", "user:nobody");
    ask(&vault, &document(17)).await;
    let first = micros(began);
    ask(&vault, &group(17)).await;
    let second = micros(began);
    while !vault.stats().resident {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "never wholly resident"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let whole = began.elapsed();
    let (active, active_in_use) = (resident_bytes(), in_use_bytes());
    let stats = vault.stats();
    println!(
        "relationships             {seen} ({}), in {} rows",
        options.shape, stats.rows
    );
    println!("activation                {:.2} ms", entered as f64 / 1e3);
    println!(
        "first answer              {:.2} ms, a second {:.2} ms",
        first as f64 / 1e3,
        second as f64 / 1e3
    );
    println!("wholly resident after     {:.2} s", whole.as_secs_f64());
    println!(
        "resident at the start     {:.1} MiB ({:.1} in use)",
        mib(start),
        mib(start_in_use)
    );
    report(run, [start, start_in_use], [active, active_in_use], seen);
    // The calmest of some rounds, each of checks that no round asked before: rows in memory, decisions not.
    let questions: Vec<CheckRequest> = (0..200_000).map(document).collect();
    let mut calmest = u128::MAX;
    for round in questions.chunks(20_000) {
        let began = Instant::now();
        for question in round {
            ask(&vault, question).await;
        }
        calmest = calmest.min(began.elapsed().as_nanos() / round.len() as u128);
    }
    println!("a check                   {calmest} ns on average in the calmest of ten rounds");
    drop(questions);
    drop((vault, pass));
    gone(run, start, active).await;
}

/// Prints growth beside what the metrics say of it.
fn report(run: &Run, [start, start_in_use]: [usize; 2], [active, active_in_use]: [usize; 2], count: usize) {
    let used = active_in_use.saturating_sub(start_in_use);
    let grown = active.saturating_sub(start);
    let said = said_by_metrics(&run.registry);
    println!("resident now              {:.1} MiB", mib(active));
    println!(
        "grown by                  {:.1} MiB, {} bytes each",
        mib(grown),
        grown / count
    );
    println!(
        "of it in use              {:.1} MiB, {} bytes each",
        mib(used),
        used / count
    );
    println!(
        "the metrics say           {:.1} MiB, {} bytes each: {:+.0} % of what is in use, {:+.0} % of the growth",
        mib(said),
        said / count,
        (said as f64 / used as f64 - 1.0) * 100.0,
        (said as f64 / grown as f64 - 1.0) * 100.0
    );
}

/// Waits until no vault is active, and prints how much memory has come back.
async fn gone(run: &Run, start: usize, active: usize) {
    let began = Instant::now();
    while run.platform.active_count() > 0 {
        assert!(began.elapsed() < Duration::from_secs(120), "never evicted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("evicted after             {:.1} s", began.elapsed().as_secs_f64());
    for seconds in [0, 1, 4, 10, 15] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let left = resident_bytes();
        println!(
            "resident {:>2} s later       {:.1} MiB ({:.1} in use): {:+.1} % of the start, {:.0} % of the growth is back",
            seconds,
            mib(left),
            mib(in_use_bytes()),
            (left as f64 / start as f64 - 1.0) * 100.0,
            active.saturating_sub(left) as f64 / active.saturating_sub(start).max(1) as f64 * 100.0
        );
    }
}

fn said_by_metrics(registry: &prometheus::Registry) -> usize {
    let families = registry.gather();
    let family = families
        .iter()
        .find(|family| family.name() == "inferadb_cache_memory_bytes");
    let series = family.map(|family| family.get_metric()).unwrap_or_default();
    series.iter().map(|one| one.get_gauge().get_value()).sum::<f64>() as usize
}

/// Reads what a vault's actor will read: its record, schema and relationships, and the change log, which it trims.
async fn read_all(run: &Run, id: VaultId) -> usize {
    run.store
        .trim_changes(
            id,
            inferadb_storage::LogSize {
                records: 100_000,
                bytes: u64::MAX,
            },
        )
        .await
        .unwrap();
    let snapshot = run.store.snapshot(id).await.unwrap();
    snapshot.schema().await.unwrap();
    snapshot.shapes().await.unwrap();
    let (mut position, mut seen) = (None, 0);
    loop {
        let page = snapshot.scan_all(position.as_deref(), 1_000).await.unwrap();
        seen += page.items.len();
        position = page.next;
        if position.is_none() {
            return seen;
        }
    }
}

/// Asks one of some questions whose answers are known.
async fn check(vault: &inferadb_actors::Vault, number: usize) {
    let questions = [
        ("document:plan-1", "view", "user:bob", true),
        ("document:plan-1", "view", "user:carol", false),
        ("document:plan-1", "edit", "user:dave", true),
        ("folder:plans", "view", "user:bob", true),
        ("document:plan-2", "delete", "user:bob", false),
    ];
    let (resource, permission, subject, allowed) = questions[number % questions.len()];
    let decision = ask(vault, &question(resource, permission, subject)).await;
    assert_eq!(
        decision == Decision::Allow,
        allowed,
        "{resource} {permission} {subject}"
    );
}

fn question(resource: &str, permission: &str, subject: &str) -> CheckRequest {
    CheckRequest {
        subject: SubjectRef::parse(subject).unwrap(),
        resource: ObjectRef::parse(resource).unwrap(),
        permission: Name::parse(permission).unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    }
}

async fn ask(vault: &inferadb_actors::Vault, request: &CheckRequest) -> Decision {
    let answer = vault.check(request, Consistency::MinimizeLatency, now()).await;
    answer.unwrap().decision
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap()
}
