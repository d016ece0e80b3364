//! The size of the change log: what is counted, and what goes when it is too large.
#![allow(missing_docs)]

#[path = "support/short_lived.rs"]
mod short_lived;
mod support;

use std::sync::Arc;

use inferadb_storage::{LogSize, Store};
use short_lived::ShortLived;
use support::*;

#[tokio::test]
async fn the_log_is_bounded_in_bytes_too_and_what_is_kept_is_not_read_to_trim_it() {
    let engine = Arc::new(ShortLived::new(engine().await, usize::MAX));
    let store = Store::with_engine(engine.clone()).await.unwrap();
    let (_, vault) = vault_of(&store).await;
    let long = "x".repeat(900);
    let mut sizes = vec![store.log_size(vault).await.unwrap()];
    // A transaction of a cluster takes no more: the keys count several times there.
    let is_on_cluster = std::env::var_os("INFERADB_TEST_FDB_CLUSTER_FILE").is_some();
    let large = if is_on_cluster { 300 } else { 700 };
    for n in 0..40 {
        // Some records have several pieces, and some of these are more than one transaction removes.
        let count = if n % 8 == 0 { large } else { 3 };
        let texts: Vec<String> = (0..count)
            .map(|m| format!("doc:{long}{n}-{m}#viewer@user:{long}"))
            .collect();
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        store.write(vault, &create(&refs)).await.unwrap();
        sizes.push(store.log_size(vault).await.unwrap());
    }
    assert_eq!(sizes.last().unwrap().records, 41);
    assert!(sizes.windows(2).all(|pair| pair[0].bytes < pair[1].bytes));
    let head = revision(&store, vault).await;
    let whole = *sizes.last().unwrap();
    let before_reading = engine.read_bytes();
    assert_eq!(store.trim_changes(vault, whole).await.unwrap().removed, 0);
    let read = engine.read_bytes() - before_reading;
    assert!(read < 100_000, "{read} bytes: no more than the first piece");
    // Each bound by itself, and both.
    let by_bytes = LogSize {
        bytes: whole.bytes / 2,
        ..whole
    };
    let by_records = LogSize { records: 9, ..whole };
    for keep in [
        by_bytes,
        by_records,
        LogSize {
            records: 4,
            bytes: 40_000,
        },
    ] {
        let before = store.log_size(vault).await.unwrap();
        let before_reading = engine.read_bytes();
        let removed = store.trim_changes(vault, keep).await.unwrap().removed as u64;
        let after = store.log_size(vault).await.unwrap();
        assert_eq!(before.records - removed, after.records);
        assert!(
            after.records <= keep.records && after.bytes <= keep.bytes,
            "{after:?} of {keep:?}"
        );
        let oldest = sizes[sizes.len() - 1 - after.records as usize];
        assert_eq!(
            after.bytes,
            whole.bytes - oldest.bytes,
            "whole records, the oldest"
        );
        let one_more = sizes[sizes.len() - 2 - after.records as usize];
        let larger = LogSize {
            records: after.records + 1,
            bytes: whole.bytes - one_more.bytes,
        };
        assert!(
            larger.records > keep.records || larger.bytes > keep.bytes,
            "no more than it must"
        );
        let read = (engine.read_bytes() - before_reading) as u64;
        assert!(
            read < (before.bytes - after.bytes) + 4_000_000,
            "{read} bytes read"
        );
        let kept = store.state(vault, Some(head)).await.unwrap();
        assert_eq!(kept.revision(), head);
    }
}
