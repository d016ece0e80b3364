//! Vaults as they are stored: written through the store, many at a time, so that the engine's group commits carry many.

use futures_util::future::join_all;
use inferadb_actors::{Revision, VaultId, now};
use inferadb_engine::noun::Relationship;
use inferadb_storage::{AccountId, Backend, PutSchema, StorageConfig, Store, Write};

use super::Options;

/// The file with the account's id and, below it, those of the vaults.
pub const VAULTS: &str = "vaults.txt";
/// How many vaults are made side by side.
const ABREAST: usize = 256;

const SCHEMA: &str = "
definition user {}

definition group {
    relation member: user | group#member
}

/// A folder, perhaps within another.
definition folder {
    relation parent: folder
    relation owner: user
    relation viewer: user | user:* | group#member
    relation banned: user
    permission view = (viewer + owner + parent->view) - banned
    permission edit = owner + parent->edit
}

/// A document in a folder.
definition document {
    relation parent: folder
    relation owner: user
    relation viewer: user | user:* | group#member
    relation banned: user
    permission edit = owner + parent->edit
    permission view = (viewer + edit + parent->view) - banned
    permission delete = owner
}
";

/// Makes what is to be measured.
pub async fn fill(options: &Options) {
    let backend = Backend::Embedded {
        path: options.directory.clone(),
    };
    let store = Store::open(StorageConfig { backend }).await.unwrap();
    let account = store.create_account("bench", now()).await.unwrap().id;
    let mut ids = vec![account.to_string()];
    let started = std::time::Instant::now();
    if options.scenario == "one" {
        let vault = make(&store, account, 0, options, &[]).await;
        let mut all = large(options).peekable();
        let schema = store.snapshot(vault).await.unwrap().schema().await.unwrap();
        let revision = schema.map(|schema| schema.revision);
        while all.peek().is_some() {
            let chunks: Vec<Vec<Relationship>> = (0..8).map(|_| all.by_ref().take(1_000).collect()).collect();
            let writes = chunks.into_iter().filter(|chunk| !chunk.is_empty());
            join_all(writes.map(|chunk| write(&store, vault, chunk, revision))).await;
        }
        ids.push(vault.to_string());
    } else {
        for start in (0..options.stored).step_by(ABREAST) {
            let numbers = start..(start + ABREAST).min(options.stored);
            let made = numbers.map(|number| {
                let store = store.clone();
                async move {
                    make(&store, account, number, options, &small(options))
                        .await
                        .to_string()
                }
            });
            ids.extend(join_all(made).await);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    std::fs::write(options.directory.join(VAULTS), ids.join("\n")).unwrap();
    println!("{} vaults stored in {seconds:.0} s", ids.len() - 1);
    store.close().await;
}

async fn make(
    store: &Store,
    account: AccountId,
    number: usize,
    options: &Options,
    relationships: &[Relationship],
) -> VaultId {
    let vault = store
        .create_vault(account, &format!("tenant-{number}"), now())
        .await
        .unwrap()
        .id;
    let text = match options.own_schemas {
        true => format!("{SCHEMA}\ndefinition tenant_{number} {{}}\n"),
        false => SCHEMA.to_owned(),
    };
    let schema = PutSchema {
        text: &text,
        format: 0,
        force: false,
        now: now(),
    };
    let fits = |_: &[_]| Ok(());
    let revision = store.put_schema(vault, &schema, &fits).await.unwrap().revision;
    if !relationships.is_empty() {
        write(store, vault, relationships.to_vec(), Some(revision)).await;
    }
    vault
}

async fn write(store: &Store, vault: VaultId, touch: Vec<Relationship>, schema_revision: Option<Revision>) {
    let write = Write {
        touch,
        create: Vec::new(),
        delete: Vec::new(),
        preconditions: Vec::new(),
        schema_revision,
        now: now(),
    };
    store.write(vault, &write).await.unwrap();
}

fn relationship(resource: &str, relation: &str, subject: &str) -> Relationship {
    super::relationships::relationship(&format!("{resource}#{relation}@{subject}"))
}

/// Ten relationships of a small tenant.
fn small(options: &Options) -> Vec<Relationship> {
    let wide = options.id_bytes;
    let one = |resource: &str, relation: &str, subject: &str| {
        relationship(&padded(resource, wide), relation, &padded(subject, wide))
    };
    vec![
        one("folder:root", "owner", "user:alice"),
        relationship("folder:root", "viewer", "group:staff#member"),
        relationship("group:staff", "member", "user:bob"),
        relationship("group:staff", "member", "user:carol"),
        one("folder:plans", "parent", "folder:root"),
        relationship("document:plan-1", "parent", "folder:plans"),
        one("document:plan-2", "parent", "folder:plans"),
        one("document:plan-1", "owner", "user:dave"),
        one("document:plan-2", "viewer", "user:erin"),
        relationship("document:plan-1", "banned", "user:carol"),
    ]
}

fn padded(text: &str, id_bytes: usize) -> String {
    let id = text.split_once(':').unwrap().1;
    format!("{text}{}", "x".repeat(id_bytes.saturating_sub(id.len())))
}

/// Relationships of a large tenant.
fn large(options: &Options) -> Box<dyn Iterator<Item = Relationship> + '_> {
    let (count, wide) = (options.relationships, options.id_bytes);
    let viewer = move |document: usize, user: usize| {
        relationship(
            &padded(&format!("document:report-{document:07}"), wide),
            "viewer",
            &padded(&format!("user:person-{user:06}"), wide),
        )
    };
    if options.shape == "single" {
        return Box::new((0..count).map(move |at| viewer(at, at % 50_000)));
    }
    // Of a hundred relationships: documents with one, two, three and ten viewers, a parent each, and members of a few groups of
    // many.
    Box::new((0..count).map(move |at| {
        let (block, within) = (at / 100, at % 100);
        let document = |nth: usize| block * 20 + nth;
        match within {
            0..15 => relationship(
                &padded(&format!("document:report-{:07}", document(within)), wide),
                "parent",
                &padded(&format!("folder:f-{:05}", block % 5_000), wide),
            ),
            15..25 => viewer(document(within - 15), at % 50_000),
            25..45 => viewer(document((within - 25) / 2 + 1), (at * 7) % 50_000),
            45..60 => viewer(document((within - 45) / 3 + 5), (at * 11) % 50_000),
            60..90 => viewer(document((within - 60) / 10 + 12), (at * 13) % 50_000),
            _ => relationship(
                &format!("group:g{}", within % 5),
                "member",
                &padded(&format!("user:person-{:06}", block * 10 + within - 90), wide),
            ),
        }
    }))
}
