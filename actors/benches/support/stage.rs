//! A vault in memory, filled, for benchmarks of its questions.

use std::sync::Arc;
use std::time::Duration;

use inferadb_actors::{Backend, Pass, Platform, SchemaWrite, Settings, Vault, WriteRequest};
use inferadb_engine::noun::Relationship;
use inferadb_engine::schema::Format;

/// The names of runs, and the memory budgets of their vaults in bytes: all rows at hand, and none.
pub const BUDGETS: [(&str, usize); 2] = [("resident", 1 << 30), ("from_storage", 0)];

/// A vault on a platform of its own.
pub struct Stage {
    platform: Platform,
    pub vault: Arc<Vault>,
    pass: Pass,
}

impl Stage {
    /// Makes a vault that may hold so many bytes of rows, with a schema and relationships.
    pub async fn new(
        memory_budget_bytes: usize,
        schema: &str,
        stored: impl Iterator<Item = Relationship>,
    ) -> Self {
        let settings = Settings {
            memory_budget_bytes,
            ..Settings::default()
        };
        let metrics = prometheus::Registry::new();
        let platform = Platform::start(Backend::Memory, settings, &metrics)
            .await
            .unwrap();
        let account = platform.create_account("bench").await.unwrap().id;
        let id = platform.create_vault(account, "bench").await.unwrap().id;
        let (vault, pass) = platform.enter(id, account).await.unwrap();
        let schema = SchemaWrite {
            text: schema.into(),
            format: Format::Native,
            force: false,
        };
        vault.put_schema(schema).await.unwrap();
        let mut stored = stored.peekable();
        while stored.peek().is_some() {
            let request = WriteRequest {
                touch: stored.by_ref().take(1_000).collect(),
                ..WriteRequest::default()
            };
            vault.write(request).await.unwrap();
        }
        Self {
            platform,
            vault,
            pass,
        }
    }

    /// Stops it.
    pub async fn stop(self) {
        drop((self.vault, self.pass));
        self.platform.stop(Duration::from_secs(60)).await;
    }
}
